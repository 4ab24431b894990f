"""CT volumes and label maps from and to files. DICOM series are read in `dicom_series`."""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from XraySynthLib.data.formats.dicom_files import is_dicom
from XraySynthLib.data.formats.dicom_series import read_dicom_series
from XraySynthLib.data.formats.hounsfield import checked_hu
from XraySynthLib.data.formats.itk import IO_BY_SUFFIX, itk_suffix, read_itk, write_itk
from XraySynthLib.data.formats.problems import check_file, meaning, unreadable
from XraySynthLib.data.volume import Volume
from XraySynthLib.geometry.transforms import checked_affine, transform_points

GRID_TOLERANCE = 0.1
"""How far a label map's corner may lie from the CT's, in voxels."""
MAX_LABEL = 2**31 - 1


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
    suffix = itk_suffix(file)
    if file.is_dir() or (suffix is None and is_dicom(file)):
        values, ras_from_ijk = read_dicom_series(file, series_uid)
    else:
        check_file(file)
        if suffix is None:
            raise unreadable(file, f"a CT is a DICOM series or {', '.join(IO_BY_SUFFIX)}.")
        values, ras_from_ijk = _read_grid(file)
    with meaning(file):
        volume = Volume(checked_hu(values, file), ras_from_ijk)
    if labels_path is None:
        return volume
    labels, labels_ras_from_ijk = read_labels(labels_path)
    _check_same_grid(volume, labels, labels_ras_from_ijk, Path(labels_path))
    return Volume(volume.values_hu, volume.ras_from_ijk, labels)


def read_labels(path: str | Path) -> tuple[NDArray, NDArray]:
    """Read a label map from NIfTI, NRRD (also a one-layer .seg.nrrd) or MetaImage.

    Returns:
        (K, J, I) integers of 0 and more, and the (4, 4) ras_from_ijk, mm.

    Raises:
        UnreadableFileError: If the file is missing, damaged, or no label map.
    """
    file = Path(path)
    values, ras_from_ijk = _read_grid(file)
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


def _read_grid(path: Path) -> tuple[NDArray, NDArray]:
    image = read_itk(path, (3,))
    assert image.ras_from_ijk is not None  # three dimensions have one
    if min(image.values.shape) < 2:
        raise unreadable(path, "it is a single slice, a volume was expected.")
    return image.values, image.ras_from_ijk


def _check_same_grid(
    volume: Volume, labels: NDArray, labels_ras_from_ijk: NDArray, path: Path
) -> None:
    shape = volume.values_hu.shape
    if labels.shape != shape:
        raise unreadable(path, f"its shape {labels.shape} is not the CT's {shape}; resample it.")
    ends = np.array(shape[::-1]) - 1.0
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * ends
    offsets = transform_points(labels_ras_from_ijk, corners) - transform_points(
        volume.ras_from_ijk, corners
    )
    farthest_mm = float(np.linalg.norm(offsets, axis=1).max())
    if farthest_mm > GRID_TOLERANCE * volume.spacing_mm.min():
        raise unreadable(
            path,
            f"its grid is not the CT's, a corner lies {farthest_mm:.3g} mm off; resample it "
            "onto the CT.",
        )
