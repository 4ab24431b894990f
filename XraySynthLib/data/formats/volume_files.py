"""CT volumes and label maps from and to files. DICOM series are read in `dicom_series`."""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from XraySynthLib.data.formats.dicom_files import is_dicom
from XraySynthLib.data.formats.dicom_series import read_dicom_grid, read_dicom_series
from XraySynthLib.data.formats.hounsfield import checked_hu
from XraySynthLib.data.formats.itk import (
    IO_BY_SUFFIX,
    itk_suffix,
    read_itk,
    read_itk_grid,
    write_itk,
)
from XraySynthLib.data.formats.problems import check_file, meaning, unreadable
from XraySynthLib.data.volume import Volume
from XraySynthLib.geometry.transforms import checked_affine, transform_points

GRID_TOLERANCE = 0.1
"""How far a label map's corner may lie from the CT's, in voxels."""
MAX_LABEL = 2**31 - 1
MAX_DISTANCE_MM = 100.0
"""How far the middle of the landmarks may lie outside the CT, which need not show all of them."""
Grid = tuple[tuple[int, ...], NDArray]
"""Where voxels lie: the shape (K, J, I), and the (4, 4) ras_from_ijk, mm."""


def read_volume(
    path: str | Path, labels_path: str | Path | None = None, series_uid: str | None = None
) -> Volume:
    """Read a CT in HU from NIfTI, NRRD, MetaImage or a DICOM series.

    Values under -1024 HU (a scanner's padding) become -1024. What numbers are taken as HU is said
    in `hounsfield.checked_hu`.

    Args:
        path: A volume file, a folder with a DICOM series, or one file of the series.
        labels_path: A label map on the same grid.
        series_uid: Which series of a folder with several: its SeriesInstanceUID or the end of it.

    Returns:
        The volume; DICOM slices in order of their position.

    Raises:
        UnreadableFileError: If a file is missing, damaged, no CT, or the grids do not fit.
    """
    file = Path(path)
    if _is_series(file):
        values, ras_from_ijk = read_dicom_series(file, series_uid)
    else:
        values, ras_from_ijk = _read_voxels(file)
    with meaning(file):
        volume = Volume(checked_hu(values, file), ras_from_ijk)
    if labels_path is None:
        return volume
    labels, labels_ras_from_ijk = read_labels(labels_path)
    grids = (volume.values_hu.shape, volume.ras_from_ijk), (labels.shape, labels_ras_from_ijk)
    _check_same_grid(*grids, Path(labels_path))
    return Volume(volume.values_hu, volume.ras_from_ijk, labels)


def check_subject_files(
    path: str | Path, labels_path: str | Path | None, points_ras_mm: NDArray
) -> None:
    """Refuse a CT, label map and landmarks that do not belong together, without reading voxels.

    Args:
        path: The CT, as `read_volume` takes it.
        labels_path: Its label map, or None.
        points_ras_mm: (N, 3) its landmarks, RAS, mm; NaN where undefined.

    Raises:
        UnreadableFileError: If a header is damaged, the grids differ, or the middle of the
            landmarks, at which a C-arm is aimed, lies more than `MAX_DISTANCE_MM` from the CT.
    """
    file = Path(path)
    shape, ras_from_ijk = grid = read_dicom_grid(file) if _is_series(file) else read_itk_grid(file)
    if labels_path is not None:
        _check_same_grid(grid, read_itk_grid(Path(labels_path)), Path(labels_path))
    placed = points_ras_mm[np.isfinite(points_ras_mm).all(axis=1)]
    if not len(placed):
        return
    middle_ras_mm = (placed.min(axis=0) + placed.max(axis=0)) / 2
    (middle_ijk,) = transform_points(np.linalg.inv(ras_from_ijk), middle_ras_mm[None])
    beyond = middle_ijk - np.clip(middle_ijk, 0, np.array(shape[::-1]) - 1.0)
    distance_mm = float(np.linalg.norm(ras_from_ijk[:3, :3] @ beyond))
    if distance_mm > MAX_DISTANCE_MM:
        raise unreadable(
            file,
            f"the middle of its landmarks lies {distance_mm:.0f} mm away from it; are they another "
            "CT's, or not in mm?",
        )


def read_labels(path: str | Path) -> tuple[NDArray, NDArray]:
    """Read a label map from NIfTI, NRRD (also a one-layer .seg.nrrd) or MetaImage.

    Returns:
        (K, J, I) integers of 0 and more, and the (4, 4) ras_from_ijk, mm.

    Raises:
        UnreadableFileError: If the file is missing, damaged, or no label map.
    """
    file = Path(path)
    values, ras_from_ijk = _read_voxels(file)
    if not np.isfinite(values).all() or (values != np.round(values)).any():
        raise unreadable(file, "a label map holds whole numbers, this one does not.")
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > MAX_LABEL:
        raise unreadable(
            file, f"labels are 0 and more, this file holds {low} to {high}: is it a CT?"
        )
    if values.dtype.kind == "f" or values.dtype.itemsize > 4:
        values = values.astype(np.int32)
    with meaning(file):
        return values, checked_affine(ras_from_ijk, "ras_from_ijk")


def write_volume(volume: Volume, path: str | Path) -> None:
    """Write a volume's HU as .nii.gz, .nrrd or .mha; int16 where that loses nothing, else float32.

    Raises:
        ValueError: If the suffix is another.
        OSError: If the file cannot be written.
    """
    values = volume.values_hu
    low, high = float(values.min()), float(values.max())
    if low >= -32768 and high <= 32767 and (values == np.round(values)).all():
        values = values.astype(np.int16)
    write_itk(values, volume.ras_from_ijk, Path(path))


def write_labels(labels: ArrayLike, ras_from_ijk: ArrayLike, path: str | Path) -> None:
    """Write a label map (K, J, I) as .nii.gz, .nrrd or .mha in the smallest unsigned integers.

    Raises:
        ValueError: If they are not integers of 0 and more, or the suffix is another.
        OSError: If the file cannot be written.
    """
    values = np.asarray(labels)
    if values.ndim != 3 or values.size == 0 or values.dtype.kind not in "iub":
        raise ValueError(f"A label map is (K, J, I) integers, got {values.shape} {values.dtype}.")
    if int(values.min()) < 0 or int(values.max()) > MAX_LABEL:
        raise ValueError("A label map's integers are 0 and more, up to 2^31 - 1.")
    kind = np.result_type(np.min_scalar_type(int(values.max())), np.uint8)
    write_itk(values.astype(kind), checked_affine(ras_from_ijk, "ras_from_ijk"), Path(path))


def _read_voxels(path: Path) -> tuple[NDArray, NDArray]:
    image = read_itk(path, (3,))
    assert image.ras_from_ijk is not None  # three dimensions have one
    if min(image.values.shape) < 2:
        raise unreadable(path, "it is a single slice, a volume was expected.")
    return image.values, image.ras_from_ijk


def _is_series(path: Path) -> bool:
    """Whether a CT is a DICOM series; else it is a volume file.

    Raises:
        UnreadableFileError: If it is neither.
    """
    if path.is_dir() or (itk_suffix(path) is None and is_dicom(path)):
        return True
    check_file(path)
    if itk_suffix(path) is None:
        raise unreadable(path, f"a CT is a DICOM series or {', '.join(IO_BY_SUFFIX)}.")
    return False


def _check_same_grid(ct: Grid, labels: Grid, labels_path: Path) -> None:
    (shape, ras_from_ijk), (labels_shape, labels_ras_from_ijk) = ct, labels
    if labels_shape != shape:
        raise unreadable(
            labels_path, f"its shape {labels_shape} is not the CT's {shape}; resample it."
        )
    ends = np.array(shape[::-1]) - 1.0
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * ends
    offsets = transform_points(labels_ras_from_ijk, corners) - transform_points(
        ras_from_ijk, corners
    )
    farthest_mm = float(np.linalg.norm(offsets, axis=1).max())
    if farthest_mm > GRID_TOLERANCE * np.linalg.norm(ras_from_ijk[:3, :3], axis=0).min():
        raise unreadable(
            labels_path,
            f"its grid is not the CT's, a corner lies {farthest_mm:.3g} mm off; resample it "
            "onto the CT.",
        )
