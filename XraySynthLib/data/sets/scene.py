"""A Slicer scene, `scene.mrb`: a few images to look at and to correct, each in its place.

An .mrb is a zip of `scene.mrml` and the files of its nodes. An image is three nodes with its key's
name; their files are called by its number in the run:

    a scalar volume     one slice on the detector: pixel (column, row) is where the View has it
    a point list        the landmarks on the detector; those without a place are undefined
    a linear transform  the C-arm's node, which `project --transform` reads with its defaults

The volume's third axis is columns x rows, to the source in a mirrored view: Slicer turns round
volumes that are left-handed. The red view shows the first image. There are no masks: they overlap,
and a label map has one bone a pixel. Everything else is in the volume node's attribute
`XraySynth.record`, so that a scene can be moved, and saved again by Slicer: points that were moved
there come back moved. Checked both ways against slicer-core 5.13.
"""

import errno
import json
import posixpath
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data.formats import atomic_path
from XraySynthLib.data.formats.itk import read_itk, write_itk
from XraySynthLib.data.formats.markups_json import confidence_text, markups_points, markups_text
from XraySynthLib.data.formats.mrml import (
    ImageNodes,
    add_nodes,
    add_patient_nodes,
    find_nodes,
    ras_from_ijk,
    segments_header,
)
from XraySynthLib.data.formats.problems import check_file, meaning, reading, unreadable
from XraySynthLib.data.formats.sample_files import (
    image_landmarks_from_dicts,
    image_landmarks_to_dicts,
    sample_from_record,
    sample_to_record,
)
from XraySynthLib.data.landmarks import ImageLandmarkSet, LandmarkSet
from XraySynthLib.data.sample import Sample
from XraySynthLib.data.sets.description import SetDescription
from XraySynthLib.data.sets.parts import Part
from XraySynthLib.data.sets.samples import LazySamples
from XraySynthLib.data.sets.splits import SPLITS
from XraySynthLib.data.volume import Volume
from XraySynthLib.data.xray import Quantity, Xray
from XraySynthLib.errors import UsageError
from XraySynthLib.geometry import View
from XraySynthLib.geometry.transforms import LPS_FROM_RAS, RAS_FROM_LPS, transform_points

QUANTITIES = (Quantity.DISPLAY, Quantity.LINE_INTEGRAL, Quantity.TRANSMISSION)
FRAGMENTS_STAY = False
MAX_IMAGES = 200
SCENE_NAME = "scene.mrb"
PERCENT_SHOWN = (0.5, 99.5)
"""Percentiles of an image that its window goes from and to."""


def check(description: SetDescription) -> None:
    """Refuse more images than Slicer shows; see `layouts.Layout`."""
    if description.n_images > MAX_IMAGES:
        raise UsageError(
            f"A scene holds at most {MAX_IMAGES} images, this set has {description.n_images}: "
            "choose fewer --views or subjects, or another --format."
        )


def write_part(folder: Path, part: Part, samples: Iterable[Sample]) -> list[str]:
    """Write a zip of the nodes' files under `parts/`; see `layouts.Layout`.

    Raises:
        ValueError: If an image has no View.
    """
    name = _fragment(part)
    with atomic_path(folder / name) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for item, sample in zip(part.items, samples, strict=True):
            for file, data in _node_files(f"{item:06d}", sample, temporary):
                _add(archive, file, data)
    return [name]


def assemble(folder: Path, description: SetDescription) -> list[str]:
    """Join the parts into `scene.mrb`; see `layouts.Layout`."""
    scene = ElementTree.Element("MRML")
    n_images = 0
    with (
        atomic_path(folder / SCENE_NAME) as temporary,
        zipfile.ZipFile(temporary, "w") as archive,
    ):
        for part in description.parts:
            for name, data in _files_of(folder / _fragment(part)):
                if name.endswith((".nrrd", ".mrk.json")):
                    _add(archive, f"scene/Data/{name}", data)
                    continue
                n_images += 1
                record, window = json.loads(data)
                add_nodes(scene, n_images, name.removesuffix(".json"), record, window, part.split)
        _add(archive, "scene/scene.mrml", _mrml(scene))
    return [SCENE_NAME]


def write_patient_scene(
    path: Path,
    volume: Volume,
    landmarks: LandmarkSet,
    segments: Mapping[int, tuple[str, tuple[float, float, float]]],
    samples: Sequence[Sample],
    source_to_isocenter_mm: float,
    found: Mapping[str, ImageLandmarkSet] | None = None,
) -> None:
    """Write a scene of a patient and X-rays: CT, segmentation, landmarks, C-arms and images.

    Args:
        path: The .mrb file.
        volume: The CT with its labels.
        landmarks: In the patient, RAS.
        segments: Label -> name and colour, 0..1; other labels are left out.
        samples: X-rays of the patient; the first one is shown.
        source_to_isocenter_mm: Of the C-arm that took them.
        found: Landmarks that a detector found in images, by the images' keys.

    Raises:
        ValueError: If an image has no View.
    """
    assert volume.labels is not None
    scene, found = ElementTree.Element("MRML"), found or {}
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for number, sample in enumerate(samples, 1):
            stem, marked = f"{number:06d}", found.get(sample.key)
            if marked is not None:
                text = _found_text(marked, _view_of(sample.xray, sample.key), sample.key)
                _add(archive, f"scene/Data/{stem}-found.mrk.json", text.encode())
            for file, data in _node_files(stem, sample, temporary):
                if file != f"{stem}.json":
                    _add(archive, f"scene/Data/{file}", data)
                    continue
                record, window = json.loads(data)
                add_nodes(
                    scene,
                    number,
                    stem,
                    record,
                    window,
                    SPLITS[0],
                    source_to_isocenter_mm,
                    None if marked is None else len(samples) + 1 + number,
                )
        name = samples[0].provenance.subject
        add_patient_nodes(scene, len(samples) + 1, name, "patient")
        shown = {label: one for label, one in segments.items() if (volume.labels == label).any()}
        labels = np.where(np.isin(volume.labels, list(shown)), volume.labels, 0).astype(np.uint8)
        points_lps_mm = transform_points(LPS_FROM_RAS, landmarks.points_ras_mm)
        header = segments_header(shown, labels.shape)
        text = markups_text(landmarks.names, points_lps_mm, f"{name} landmarks")
        hu = np.round(volume.values_hu).astype(np.int16)
        for file, data in (
            ("ct.nrrd", _nrrd(hu, volume.ras_from_ijk, temporary)),
            ("labels.seg.nrrd", _nrrd(labels, volume.ras_from_ijk, temporary, header)),
            ("landmarks.mrk.json", text.encode()),
        ):
            _add(archive, f"scene/Data/patient-{file}", data)
        _add(archive, "scene/scene.mrml", _mrml(scene))


def _found_text(found: ImageLandmarkSet, view: View, key: str) -> str:
    """The point list of what a detector found; the rest is undefined."""
    points_ras_mm = view.detector_points_ras_mm(found.points_px)
    points_ras_mm[~found.visible] = np.nan
    told = [
        confidence_text(share) if seen else ""
        for share, seen in zip(found.confidence.tolist(), found.visible, strict=True)
    ]
    points_lps_mm = transform_points(LPS_FROM_RAS, points_ras_mm)
    return markups_text(found.names, points_lps_mm, f"{key} detected", told)


def read(path: Path, split: str | None = None) -> Sequence[Sample]:
    """Open a scene of XraySynth, as written or as Slicer saved it; see `layouts.Layout`."""
    if path.is_dir():
        path = path / SCENE_NAME
    check_file(path)
    with reading(path, "a Slicer scene (.mrb)"), zipfile.ZipFile(path) as archive:
        (mrml,) = [name for name in archive.namelist() if name.endswith(".mrml")]
        found = find_nodes(ElementTree.fromstring(archive.read(mrml)))
    if not found:
        raise unreadable(path, "it is a scene, but no image in it is XraySynth's.")
    folder = posixpath.dirname(mrml)
    places = [(path, folder, nodes) for nodes in found]
    if split is not None:
        places = [place for place in places if (place[2].split or SPLITS[0]) == split]
    return LazySamples(places, _load)


def _fragment(part: Part) -> str:
    return f"{part.stem}.zip"


def _files_of(fragment: Path) -> Iterator[tuple[str, bytes]]:
    with reading(fragment, "a part of a scene"), zipfile.ZipFile(fragment) as archive:
        for name in archive.namelist():
            yield name, archive.read(name)


def _view_of(xray: Xray, key: str) -> View:
    if xray.view is None:
        raise ValueError(f"Image {key} has no View, so it has no place in a scene.")
    return xray.view


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Add a file without its date: when it was written must not change a byte."""
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system, info.external_attr = 3, 0o644 << 16  # Unix, rw-r--r--
    archive.writestr(info, data)


def _node_files(stem: str, sample: Sample, archive: Path) -> Iterator[tuple[str, bytes]]:
    """The files of an image's nodes, by name: its record and window first."""
    view = _view_of(sample.xray, sample.key)
    low, high = np.percentile(sample.xray.values, PERCENT_SHOWN).tolist()
    window = max(high - low, 1e-6), (high + low) / 2
    node = {**sample_to_record(sample), "masks": None}, window
    yield f"{stem}.json", json.dumps(node, allow_nan=False).encode()
    yield f"{stem}.nrrd", _nrrd(sample.xray.values[None], ras_from_ijk(view), archive)
    points_ras_mm = view.detector_points_ras_mm(sample.landmarks.points_px)
    points_lps_mm = transform_points(LPS_FROM_RAS, points_ras_mm)
    text = markups_text(sample.landmarks.names, points_lps_mm, sample.key)
    yield f"{stem}.mrk.json", text.encode()


def _mrml(scene: ElementTree.Element) -> bytes:
    ElementTree.indent(scene, " ")
    return ElementTree.tostring(scene, "utf-8", xml_declaration=True)


def _nrrd(
    values: NDArray, matrix: NDArray, archive: Path, header: Mapping[str, str] | None = None
) -> bytes:
    """A volume (K, J, I) as NRRD, by way of a file on the archive's disk, of which errors speak."""
    try:
        with TemporaryDirectory(dir=archive.parent, prefix=".tmp-") as folder:
            path = Path(folder) / "volume.nrrd"
            write_itk(np.array(values), matrix, path, header)
            return path.read_bytes()
    except OSError as error:
        reason = error.strerror or "it cannot be written, perhaps because the disk is full"
        raise OSError(error.errno or errno.EIO, reason, str(archive)) from error


def _values(nrrd: bytes) -> NDArray:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "xray.nrrd"
        path.write_bytes(nrrd)
        return read_itk(path).values


def _load(place: tuple[Path, str, ImageNodes]) -> Sample:
    path, folder, nodes = place
    with reading(path, "a scene of XraySynth"), zipfile.ZipFile(path) as archive:
        record = json.loads(nodes.record)
        view = View.from_dict(record["xray"]["view"])
        values = _values(archive.read(posixpath.join(folder, str(nodes.volume))))
        markups = None
        if nodes.points is not None:
            markups = archive.read(posixpath.join(folder, nodes.points)).decode()
    if values.shape != (1, *view.intrinsics.shape_px):
        raise unreadable(path, f"the volume of {record['key']} is no longer the X-ray's image.")
    if markups is not None:
        with meaning(path):
            marked = _landmarks(markups, view, record["landmarks"], path)
        record["landmarks"] = image_landmarks_to_dicts(marked)
    return sample_from_record(record, values[0], None, path)


def _landmarks(
    markups: str, view: View, written: list[dict[str, Any]], path: Path
) -> ImageLandmarkSet:
    """Project the points of a scene.

    Confidence stays as it was written; so does that a landmark is hidden though in the image, as
    behind the collimator, wherever in the image it was moved to.
    """
    points, system = markups_points(markups, path)
    names = tuple(name for name, _ in points)
    positions_mm = np.array([position for _, position in points]).reshape(-1, 3)
    points_ras_mm = transform_points(RAS_FROM_LPS if system == "LPS" else np.eye(4), positions_mm)
    # The same ray, but surely this side of the detector.
    nearer_ras_mm = view.source_ras_mm + 0.999 * (points_ras_mm - view.source_ras_mm)
    seen = LandmarkSet(names, nearer_ras_mm).seen_from(view)
    before = image_landmarks_from_dicts(written)
    shape_px = view.intrinsics.shape_px
    in_image = ImageLandmarkSet.placed(before.names, before.points_px, shape_px).visible
    hidden = dict(zip(before.names, in_image & ~before.visible, strict=True))
    confidence = dict(zip(before.names, before.confidence, strict=True))
    return replace(
        seen,
        visible=seen.visible & [not hidden.get(name, False) for name in names],
        confidence=np.array([confidence.get(name, 1.0) for name in names]),
    )
