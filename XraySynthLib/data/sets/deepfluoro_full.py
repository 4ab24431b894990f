"""DeepFluoro's full-resolution file, `ipcai_2020_full_res_data.h5`: read only.

    /proj-params/{intrinsic, extrinsic, num-rows, num-cols, pixel-row-spacing, pixel-col-spacing}
    /<specimen>/{vol, vol-seg/image}/{pixels, spacing, origin, dir-mat}, vol-landmarks/<name>
    /<specimen>/projections/<NNN>/{image, gt-seg}/pixels, gt-landmarks/<name>, gt-poses/..., and
        rot-180-for-up

Points in space are LPS, mm. Every projection becomes a Sample with the patient's head up: where
`rot-180-for-up` is set, image, masks, landmarks and View are turned together. The pixels are the
detector's intensities, bone dark. The data's own preprocessing takes for the open beam the
brightest pixel of the image, cropped and smoothed (xReg's `ImageIntensLogTransFilter`); so does
the TRANSMISSION here, whose -ln is what the preprocessed files hold. The image is not cropped: its
outermost 50 pixels or so lie behind the collimator.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from XraySynthLib.data.formats.hdf5_files import find_dataset, find_group, open_hdf5, read_numbers
from XraySynthLib.data.formats.problems import meaning, unreadable
from XraySynthLib.data.landmarks import ImageLandmarkSet, LandmarkSet
from XraySynthLib.data.pelvis import BONE_NAMES, LANDMARK_NAMES
from XraySynthLib.data.sample import Provenance, Sample
from XraySynthLib.data.sets.samples import LazySamples
from XraySynthLib.data.volume import MAX_VOXELS, Volume
from XraySynthLib.data.xray import Quantity, Xray
from XraySynthLib.geometry import View
from XraySynthLib.geometry.converters.deepfluoro import view_from_deepfluoro
from XraySynthLib.geometry.intrinsics import MAX_PIXELS
from XraySynthLib.geometry.transforms import RAS_FROM_LPS, transform_points

PARAMETERS = "proj-params"
SPECIMENS = ("17-1882", "18-1109", "18-0725", "18-2799", "18-2800", "17-1905")
"""The paper's specimens 1 to 6: groups 01 to 06 of the preprocessed files."""
COLLIMATED_PX = 50
OPEN_BEAM_SIGMA_PX = np.sqrt(2)


@dataclass(frozen=True, eq=False)
class Specimen:
    """A specimen's CT.

    Attributes:
        name: "17-1882".
        volume: The CT with its label map: BONE_NAMES, above them the lower sacrum.
        landmarks: The 14 landmarks, RAS, mm.
    """

    name: str
    volume: Volume
    landmarks: LandmarkSet


class _Place(NamedTuple):
    file: Path
    specimen: str
    projection: str


def read_full(path: str | Path) -> Sequence[Sample]:
    """Open the projections of all specimens.

    Raises:
        UnreadableFileError: If the file is damaged or not such a file.
    """
    path = Path(path)
    with open_hdf5(path) as file:
        find_group(file, PARAMETERS, path)
        places = [
            _Place(path, specimen, projection)
            for specimen in _specimen_names(file)
            for projection in sorted(find_group(file, f"{specimen}/projections", path))
        ]
    if not places:
        raise unreadable(path, "it has no specimen with projections.")
    return LazySamples(places, _load)


def specimen_names(path: str | Path) -> list[str]:
    """Names of the specimens in a file, the paper's order first."""
    with open_hdf5(Path(path)) as file:
        return _specimen_names(file)


def read_specimen(path: str | Path, name: str) -> Specimen:
    """Read a specimen's CT, label map and 3D landmarks.

    Raises:
        UnreadableFileError: If it is not there, damaged, or CT and label map do not fit.
    """
    path = Path(path)
    with open_hdf5(path) as file:
        specimen = find_group(file, name, path)
        values, ras_from_ijk = _read_grid(find_group(specimen, "vol", path), path)
        labels, ras_from_label = _read_grid(find_group(specimen, "vol-seg/image", path), path)
        points_lps_mm = _read_points(find_group(specimen, "vol-landmarks", path), path, 3)
    if not np.allclose(ras_from_label, ras_from_ijk, atol=1e-3):
        raise unreadable(path, f"/{name}/vol-seg lies elsewhere than /{name}/vol.")
    with meaning(path):
        landmarks = LandmarkSet(LANDMARK_NAMES, transform_points(RAS_FROM_LPS, points_lps_mm))
        return Specimen(name, Volume(values, ras_from_ijk, labels), landmarks)


def _specimen_names(file: h5py.File) -> list[str]:
    known = [name for name in SPECIMENS if name in file]
    return known + sorted(set(file) - {*SPECIMENS, PARAMETERS})


def _read_grid(group: h5py.Group, path: Path) -> tuple[NDArray, NDArray]:
    """Voxels (K, J, I) and `ras_from_ijk` (4, 4)."""
    voxels = find_dataset(group, "pixels", path, (None, None, None))
    if voxels.size > MAX_VOXELS:
        raise unreadable(path, f"{voxels.name} has {voxels.size} voxels.")
    lps_from_ijk = np.eye(4)
    spacing_mm = read_numbers(group, "spacing", path, (3,))
    lps_from_ijk[:3, :3] = read_numbers(group, "dir-mat", path, (3, 3)) * spacing_mm
    lps_from_ijk[:3, 3] = read_numbers(group, "origin", path, (3,))
    return voxels[()], RAS_FROM_LPS @ lps_from_ijk


def _read_points(group: h5py.Group, path: Path, size: int) -> NDArray:
    """(14, `size`) points in the order of LANDMARK_NAMES, NaN where one is not finite."""
    points = np.array([read_numbers(group, name, path, (size,)) for name in LANDMARK_NAMES])
    return np.where(np.isfinite(points), points, np.nan)


def _load(place: _Place) -> Sample:
    path = place.file
    with open_hdf5(path) as file:
        projection = find_group(file, f"{place.specimen}/projections/{place.projection}", path)
        view = _stored_view(find_group(file, PARAMETERS, path), projection, path)
        shape = view.intrinsics.shape_px
        intensities = find_dataset(projection, "image/pixels", path, shape)[()]
        labels = find_dataset(projection, "gt-seg/pixels", path, shape)[()]
        points_px = _read_points(find_group(projection, "gt-landmarks", path), path, 2)
        turned = bool(read_numbers(projection, "rot-180-for-up", path, ()))
    if turned:
        view, points_px = view.rotated_180(), np.array(shape[::-1]) - 1 - points_px
        intensities, labels = intensities[::-1, ::-1], labels[::-1, ::-1]
    open_beam = _open_beam(intensities)
    if not 0 < open_beam < np.inf:
        raise unreadable(path, f"image {place.projection} of {place.specimen} is black.")
    origin = {"projection": place.projection, "rotated_180": turned, "open_beam": open_beam}
    with meaning(path):
        return Sample(
            key=f"{place.specimen}-{place.projection}",
            xray=Xray(intensities / np.float32(open_beam), Quantity.TRANSMISSION, view=view),
            landmarks=ImageLandmarkSet.placed(LANDMARK_NAMES, points_px, shape),
            masks={name: labels == label for label, name in BONE_NAMES.items()},
            provenance=Provenance("real", place.specimen, config=origin),
        )


def _stored_view(parameters: h5py.Group, projection: h5py.Group, path: Path) -> View:
    """The view of the image as it is stored."""
    rows, columns = (read_numbers(parameters, name, path, ()) for name in ("num-rows", "num-cols"))
    if not 1 <= rows * columns <= MAX_PIXELS:
        raise unreadable(path, f"its images have {rows:g} rows and {columns:g} columns.")
    camera = (
        read_numbers(parameters, "intrinsic", path, (3, 3)),
        read_numbers(parameters, "extrinsic", path, (4, 4)),
        read_numbers(projection, "gt-poses/cam-to-pelvis-vol", path, (4, 4)),
    )
    spacing_mm = [
        float(read_numbers(parameters, f"pixel-{axis}-spacing", path, ()))
        for axis in ("col", "row")
    ]
    with meaning(path):
        return view_from_deepfluoro(camera, spacing_mm, (int(rows), int(columns)))


def _open_beam(intensities: NDArray) -> float:
    """The brightest pixel once the noise is smoothed, within the collimator."""
    margin = min(COLLIMATED_PX, min(intensities.shape) // 4)
    inner = slice(margin, -margin or None)
    smooth = gaussian_filter(intensities[inner, inner].astype(np.float32), OPEN_BEAM_SIGMA_PX)
    return float(smooth.max())
