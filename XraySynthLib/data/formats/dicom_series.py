"""A CT from the slices of a DICOM series: which files, in what order, on what grid."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from numpy.typing import NDArray

from XraySynthLib.data.formats.dicom_files import (
    is_dicom,
    number,
    numbers,
    quiet_pydicom,
    read_dataset,
)
from XraySynthLib.data.formats.problems import reading, unreadable
from XraySynthLib.geometry.transforms import RAS_FROM_LPS
from XraySynthLib.quiet import quiet_stderr

HEADER_TAGS = [
    "Modality", "SeriesInstanceUID", "SeriesDescription", "NumberOfFrames", "Rows", "Columns",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SamplesPerPixel",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept",
]  # fmt: skip
POSITION_TOLERANCE = 0.1
"""How far a slice may lie from an even grid, in steps: headers round, a missing slice is 1."""
MAX_TILT = 1e-3
SAME_GRID = 1e-3
SHOWN_SERIES, SHOWN_UID = 3, 16
PADDED_HU = -1024.0


@dataclass(frozen=True, eq=False)
class _Slice:
    """One file of a series: its place (LPS, mm), pixel axes (column, row direction) and header."""

    path: Path
    header: pydicom.Dataset
    position: NDArray
    axes: NDArray
    spacing: NDArray


def read_dicom_series(path: Path, series_uid: str | None = None) -> tuple[NDArray, NDArray]:
    """Read the CT series in a folder, or the one that a file belongs to.

    Args:
        path: A folder (its sub-folders are not searched) or one slice.
        series_uid: Which series: its SeriesInstanceUID or the end of it.

    Returns:
        (K, J, I) float32 values after rescaling, padding as -1024, slices from the position
        lowest along the stack's normal; and the (4, 4) ras_from_ijk, mm.

    Raises:
        UnreadableFileError: If there is no CT, more than one series, a slice missing or damaged,
            or the stack is sheared by a tilted gantry.
    """
    with quiet_pydicom():
        slices, lps_from_ijk = _stack(path, series_uid)
        return np.stack([_pixels(one) for one in slices]), RAS_FROM_LPS @ lps_from_ijk


def read_dicom_grid(path: Path) -> tuple[tuple[int, ...], NDArray]:
    """Read where the voxels of a series lie: its shape (K, J, I) and (4, 4) ras_from_ijk, mm.

    Raises:
        UnreadableFileError: As `read_dicom_series`.
    """
    with quiet_pydicom():
        slices, lps_from_ijk = _stack(path, None)
        header = slices[0].header
        return (len(slices), int(header.Rows), int(header.Columns)), RAS_FROM_LPS @ lps_from_ijk


def _stack(path: Path, series_uid: str | None) -> tuple[list[_Slice], NDArray]:
    """The slices of a series in order, without their pixels, and (4, 4) lps_from_ijk."""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if is_dicom(file))
        if not files:
            raise unreadable(
                path, "the folder holds no DICOM files (sub-folders are not searched)."
            )
    else:
        series_uid = series_uid or str(_header(path).get("SeriesInstanceUID", ""))
        files = sorted(file for file in path.parent.iterdir() if is_dicom(file))
    headers = [(file, _header(file)) for file in files]
    chosen = _choose(path, headers, series_uid)
    slices = [_slice(file, header) for file, header in chosen]
    return _grid(path, slices)


def _header(path: Path) -> pydicom.Dataset:
    header = read_dataset(path, HEADER_TAGS, pixels=False)
    if "SeriesInstanceUID" not in header and path.name.upper() != "DICOMDIR":
        raise unreadable(path, "it has no SeriesInstanceUID; is it truncated?")
    return header


def _choose(
    path: Path, headers: list[tuple[Path, pydicom.Dataset]], series_uid: str | None
) -> list[tuple[Path, pydicom.Dataset]]:
    """Pick the files of the one CT series that is meant."""
    series: dict[str, list[tuple[Path, pydicom.Dataset]]] = {}
    for file, header in headers:
        if series_uid is None or str(header.get("SeriesInstanceUID", "")).endswith(series_uid):
            series.setdefault(str(header.get("SeriesInstanceUID", "")), []).append((file, header))
    if not series:
        raise unreadable(path, f"no series here has a series_uid that ends in {series_uid!r}.")
    modalities = {str(header.get("Modality", "none")) for s in series.values() for _, header in s}
    ct = {uid: s for uid, s in series.items() if s[0][1].get("Modality") == "CT"}
    if not ct:
        raise unreadable(path, f"its DICOM modality is {', '.join(sorted(modalities))}, not CT.")
    if len(ct) > 1:
        shown = ", ".join(_series_text(uid, s) for uid, s in list(ct.items())[:SHOWN_SERIES])
        more = f" and {len(ct) - SHOWN_SERIES} more" if len(ct) > SHOWN_SERIES else ""
        raise unreadable(path, f"{len(ct)} series: {shown}{more}; choose with series_uid.")
    (found,) = ct.values()
    if number(found[0][1], "NumberOfFrames") not in (None, 1.0):
        raise unreadable(
            path, "it is a multi-frame CT; convert it to NIfTI or NRRD in Slicer first."
        )
    if len(found) < 2:
        raise unreadable(path, "its CT series has one slice, a volume needs two or more.")
    return found


def _series_text(uid: str, series: list[tuple[Path, pydicom.Dataset]]) -> str:
    description = str(series[0][1].get("SeriesDescription", ""))[:20]
    return f"{description!r} ({len(series)} slices, ...{uid[-SHOWN_UID:]})"


def _slice(path: Path, header: pydicom.Dataset) -> _Slice:
    position = numbers(header, "ImagePositionPatient") or []
    orientation = numbers(header, "ImageOrientationPatient") or []
    spacing = numbers(header, "PixelSpacing") or []
    if (len(position), len(orientation), len(spacing)) != (3, 6, 2):
        raise unreadable(path, "the slice does not say its position, orientation and spacing.")
    if not np.isfinite(position + orientation + spacing).all() or min(spacing) <= 0:
        raise unreadable(path, "the slice's position, orientation or spacing cannot be meant.")
    axes = np.reshape(orientation, (2, 3))
    if np.abs(axes @ axes.T - np.eye(2)).max() > SAME_GRID:
        raise unreadable(path, "the slice's orientation is not two perpendicular directions.")
    return _Slice(path, header, np.array(position), axes, np.array(spacing))


def _grid(path: Path, slices: list[_Slice]) -> tuple[list[_Slice], NDArray]:
    """Sort the slices along their normal and return them with (4, 4) lps_from_ijk."""
    first = slices[0]
    size = (first.header.get("Rows"), first.header.get("Columns"))
    for one in slices:
        same = (one.header.get("Rows"), one.header.get("Columns")) == size
        same = same and np.allclose(one.spacing, first.spacing, rtol=SAME_GRID)
        if not same or not np.allclose(one.axes, first.axes, atol=SAME_GRID):
            raise unreadable(
                path, f"slice {one.path.name} has another size, spacing or direction than the rest."
            )
    normal = np.cross(first.axes[0], first.axes[1])
    slices = sorted(slices, key=lambda one: float(one.position @ normal))
    positions = np.stack([one.position for one in slices])
    _check_even(path, positions @ normal)
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    tilt = float(np.linalg.norm(step - normal * (step @ normal)) / np.linalg.norm(step))
    if tilt > MAX_TILT:
        raise unreadable(
            path,
            f"the slices are sheared by {np.rad2deg(np.arcsin(min(tilt, 1.0))):.1f} degrees (a "
            "tilted gantry); resample the series to a straight grid in Slicer first.",
        )
    row_mm, column_mm = first.spacing  # DICOM: between rows, between columns
    lps_from_ijk = np.eye(4)
    lps_from_ijk[:3, :3] = np.column_stack(
        [first.axes[0] * column_mm, first.axes[1] * row_mm, normal * (step @ normal)]
    )
    lps_from_ijk[:3, 3] = positions[0]
    return slices, lps_from_ijk


def _check_even(path: Path, heights: NDArray) -> None:
    steps = np.diff(heights)
    step = float(heights[-1] - heights[0]) / len(steps)
    if steps.min() < 1e-3:
        raise unreadable(
            path, "two slices lie at one position; the series holds doubles or several phases."
        )
    even = heights[0] + step * np.arange(len(heights))
    if np.abs(heights - even).max() > POSITION_TOLERANCE * step:
        raise unreadable(
            path,
            f"slices are missing or unevenly spaced: the steps are {steps.min():.3g} to "
            f"{steps.max():.3g} mm.",
        )


def _pixels(one: _Slice) -> NDArray:
    """Read one slice's (J, I) values; GDCM unpacks them and applies slope and intercept."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetOutputPixelType(sitk.sitkFloat32)
    reader.SetFileName(str(one.path))
    with quiet_stderr(), reading(one.path, "a DICOM slice that can be decoded"):
        values = sitk.GetArrayFromImage(reader.Execute())
    shape = (one.header.get("Rows"), one.header.get("Columns"))
    if values.size != np.prod(shape, dtype=int):
        raise unreadable(one.path, "the slice's pixels do not fit its rows and columns.")
    values = values.reshape(shape)
    slope = number(one.header, "RescaleSlope") or 1.0
    intercept = number(one.header, "RescaleIntercept") or 0.0
    padding = number(one.header, "PixelPaddingValue")
    if padding is not None:
        limit = number(one.header, "PixelPaddingRangeLimit")
        low, high = sorted([padding, padding if limit is None else limit])
        stored = np.round((values - intercept) / slope)
        values[(stored >= low) & (stored <= high)] = PADDED_HU
    return values
