"""The detector: its size, its pixels and its distance from the source."""

from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.geometry.transforms import checked_vector, read_only

MAX_PIXELS = 8192 * 8192
"""Four times the largest panels: more is a mistake, and would fill the memory."""
MIN_SPACING_MM, MAX_SPACING_MM = 1e-3, 1e3

DETECTOR_MIDDLE = cast(NDArray, None)
"""What `principal_point_px` may be on the way in; on the way out it is always two numbers."""


@dataclass(frozen=True, eq=False)
class Intrinsics:
    """A flat detector perpendicular to the camera's z axis.

    The defaults are those of a Siemens Cios (DeepDRR's MobileCArm).

    Attributes:
        source_to_detector_mm: Distance from the source to the detector's plane.
        pixel_spacing_mm: (2,) column, row (DICOM has row, column).
        shape_px: (2,) rows, columns.
        principal_point_px: (2,) column, row of the foot of the perpendicular from the source;
            None means the detector's middle.
        mirrored: True (the radiological display) where the camera's +x runs against the columns.

    Raises:
        ValueError: If a size is not positive or a number is not finite.
    """

    source_to_detector_mm: float = 1020.0
    pixel_spacing_mm: NDArray = field(default_factory=lambda: np.array([0.194, 0.194]))
    shape_px: tuple[int, int] = (1536, 1536)
    principal_point_px: NDArray = DETECTOR_MIDDLE
    mirrored: bool = True

    def __post_init__(self) -> None:
        distance = float(self.source_to_detector_mm)
        if not 0 < distance <= 1e5:
            raise ValueError(f"source_to_detector_mm must be positive, got {distance}.")
        spacing = checked_vector(self.pixel_spacing_mm, "pixel_spacing_mm", 2)
        if (spacing < MIN_SPACING_MM).any() or (spacing > MAX_SPACING_MM).any():
            raise ValueError(
                f"pixel_spacing_mm must be positive, {MIN_SPACING_MM:g} to {MAX_SPACING_MM:g} mm, "
                f"got {spacing.tolist()}."
            )
        shape = checked_vector(self.shape_px, "shape_px", 2)
        if (shape < 1).any() or (shape % 1 != 0).any() or shape.prod() > MAX_PIXELS:
            raise ValueError(
                "shape_px must be positive whole numbers of rows and columns, at most 8192 x 8192 "
                f"pixels, got {self.shape_px}."
            )
        rows, columns = int(shape[0]), int(shape[1])
        middle = np.array([(columns - 1) / 2, (rows - 1) / 2])
        point = middle if self.principal_point_px is None else self.principal_point_px
        object.__setattr__(self, "source_to_detector_mm", distance)
        object.__setattr__(self, "pixel_spacing_mm", spacing)
        object.__setattr__(self, "shape_px", (rows, columns))
        object.__setattr__(
            self, "principal_point_px", checked_vector(point, "principal_point_px", 2)
        )
        object.__setattr__(self, "mirrored", bool(self.mirrored))

    @property
    def px_from_camera(self) -> NDArray:
        """(3, 3) K: (column, row, 1) ~ K (x, y, z); the column scale is negative if mirrored."""
        sign = -1.0 if self.mirrored else 1.0
        focal_column, focal_row = self.source_to_detector_mm / self.pixel_spacing_mm
        column, row = self.principal_point_px
        return read_only([[sign * focal_column, 0, column], [0, focal_row, row], [0, 0, 1]])

    @property
    def size_mm(self) -> NDArray:
        """(2,) width and height of the detector."""
        return self.pixel_spacing_mm * np.array(self.shape_px[::-1])

    def resized(self, rows: int, columns: int) -> "Intrinsics":
        """The same detector, edge for edge, with other pixels."""
        scale = np.array([columns, rows]) / np.array(self.shape_px[::-1])
        return Intrinsics(
            source_to_detector_mm=self.source_to_detector_mm,
            pixel_spacing_mm=self.pixel_spacing_mm / scale,
            shape_px=(rows, columns),
            principal_point_px=(self.principal_point_px + 0.5) * scale - 0.5,
            mirrored=self.mirrored,
        )
