"""The geometry in a DICOM X-ray: a View from positioner angles and distances."""

from collections.abc import Iterator

import numpy as np
import pydicom
from numpy.typing import NDArray

from XraySynthLib.data.formats.dicom_files import number, numbers
from XraySynthLib.geometry import CArmPose, Intrinsics, View, view_from_carm


def frame_geometry(
    dataset: pydicom.Dataset, index: int, shape_px: tuple[int, ...]
) -> tuple[NDArray | None, View | None]:
    """Read one frame's pixel spacing and, where all of it is there, its View.

    A View needs the positioner's two angles, the distances from the source to the detector and
    to the patient, and ImagerPixelSpacing (PixelSpacing is calibrated at the patient's depth).
    DICOM does not say the rest, which is assumed: the isocentre is the RAS origin and lies at the
    distance to the patient, the principal point is the image's middle, the C-arm is not rolled
    about its beam, and the image is displayed as usual (mirrored), not flipped or rotated since.

    Args:
        dataset: The file's attributes; enhanced objects keep theirs in functional groups.
        index: The frame, from 0.
        shape_px: Rows and columns.

    Returns:
        (2,) column, row spacing, mm, from ImagerPixelSpacing, else PixelSpacing, or None; and the
        View or None.
    """
    places = list(_places(dataset, index))
    imager = _spacing(places, "ImagerPixelSpacing")
    spacing = imager if imager is not None else _spacing(places, "PixelSpacing")
    if imager is None:
        return spacing, None
    return spacing, _view(dataset, places, index, imager, shape_px)


def _view(
    dataset: pydicom.Dataset,
    places: list[pydicom.Dataset],
    index: int,
    spacing: NDArray,
    shape_px: tuple[int, ...],
) -> View | None:
    primary = _first(places, "PositionerPrimaryAngle")
    secondary = _first(places, "PositionerSecondaryAngle")
    detector = _first(places, "DistanceSourceToDetector")
    isocenter = _first(places, "DistanceSourceToIsocenter", "DistanceSourceToPatient")
    if primary is None or secondary is None or detector is None or isocenter is None:
        return None
    primary += _increment(dataset, "PositionerPrimaryAngleIncrement", index)
    secondary += _increment(dataset, "PositionerSecondaryAngleIncrement", index)
    try:
        intrinsics = Intrinsics(detector, spacing, (shape_px[0], shape_px[1]))
        pose = CArmPose(primary, secondary, 0.0, np.zeros(3), isocenter)
        return view_from_carm(pose, intrinsics)
    except ValueError:  # distances of 0 or the wrong way round are as good as missing
        return None


def _places(dataset: pydicom.Dataset, index: int) -> Iterator[pydicom.Dataset]:
    """Where a frame's attributes may be: its functional group, the shared one, the top."""
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
    groups = [frames[index]] if index < len(frames) else []
    groups += list(dataset.get("SharedFunctionalGroupsSequence") or [])[:1]
    for group in groups:
        for element in group:
            if element.VR == "SQ":
                yield from element.value
    yield dataset


def _first(places: list[pydicom.Dataset], *keywords: str) -> float | None:
    for place in places:
        for keyword in keywords:
            value = number(place, keyword)
            if value is not None and np.isfinite(value):
                return value
    return None


def _spacing(places: list[pydicom.Dataset], keyword: str) -> NDArray | None:
    for place in places:
        found = numbers(place, keyword)  # DICOM: between rows, between columns
        if found is not None and len(found) == 2:
            spacing = np.array(found[::-1])
            if np.isfinite(spacing).all() and (spacing > 0).all() and (spacing < 1e3).all():
                return spacing
    return None


def _increment(dataset: pydicom.Dataset, keyword: str, index: int) -> float:
    """Degrees since the first angle: one offset a frame, or a constant step (C.8.7.5.1.3)."""
    steps = numbers(dataset, keyword)
    if steps is None:
        return 0.0
    offset = steps[0] * index if len(steps) == 1 else steps[index] if index < len(steps) else 0.0
    return float(offset)
