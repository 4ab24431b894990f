"""Named points, in the patient and in an image."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from XraySynthLib.geometry import View
from XraySynthLib.geometry.transforms import checked_points, read_only


def _checked_names(names: Iterable[str], count: int) -> tuple[str, ...]:
    checked = tuple(names)
    if not all(isinstance(name, str) for name in checked):
        raise ValueError("Landmark names must be text.")
    if len(checked) != count:
        raise ValueError(f"There are {len(checked)} landmark names for {count} points.")
    doubled = sorted({name for name in checked if checked.count(name) > 1})
    if doubled:
        raise ValueError(f"Landmark names must differ; there is more than one {doubled[0]!r}.")
    return checked


def _checked_table(points: ArrayLike, name: str, size: int) -> NDArray:
    """A writable (N, size) copy; an empty list is (0, size), a transposed table is refused."""
    if np.size(points) == 0:
        return np.empty((0, size))
    return checked_points(points, name, size).copy()


@dataclass(frozen=True, eq=False)
class LandmarkSet:
    """Points in the patient.

    Attributes:
        names: One for each point, all different.
        points_ras_mm: (N, 3) RAS, mm; a row of NaN is a point that is not defined.

    Raises:
        ValueError: If names and points do not fit, a name is there twice, or a point is infinite.
    """

    names: tuple[str, ...]
    points_ras_mm: NDArray

    def __post_init__(self) -> None:
        points = _checked_table(self.points_ras_mm, "points_ras_mm", 3)
        if np.isinf(points).any():
            raise ValueError("A landmark's position is infinite.")
        points[np.isnan(points).any(axis=1)] = np.nan
        object.__setattr__(self, "names", _checked_names(self.names, len(points)))
        object.__setattr__(self, "points_ras_mm", read_only(points))

    def seen_from(self, view: View) -> "ImageLandmarkSet":
        """Project the points; visible are those that fall within the image."""
        points_px = view.project(self.points_ras_mm)
        return ImageLandmarkSet.placed(self.names, points_px, view.intrinsics.shape_px)


@dataclass(frozen=True, eq=False)
class ImageLandmarkSet:
    """Points in an image.

    Attributes:
        names: One for each point, all different.
        points_px: (N, 2) column and row, px; a row of NaN is a point without a place.
        visible: (N,) bool, whether the point lies within the image.
        confidence: (N,) 0..1; 1 for points that were projected, not found.

    Raises:
        ValueError: If the lengths differ or a confidence is outside 0..1.
    """

    names: tuple[str, ...]
    points_px: NDArray
    visible: NDArray
    confidence: NDArray

    def __post_init__(self) -> None:
        points = _checked_table(self.points_px, "points_px", 2)
        points[~np.isfinite(points).all(axis=1)] = np.nan
        names = _checked_names(self.names, len(points))
        visible = read_only(self.visible, bool)
        confidence = read_only(self.confidence)
        if visible.shape != (len(names),) or confidence.shape != (len(names),):
            raise ValueError("visible and confidence need one value for each landmark.")
        if not ((confidence >= 0) & (confidence <= 1)).all():
            raise ValueError("A landmark's confidence must lie in 0..1.")
        if (visible & np.isnan(points[:, 0])).any():
            raise ValueError("A visible landmark must have a place in the image.")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "points_px", read_only(points))
        object.__setattr__(self, "visible", visible)
        object.__setattr__(self, "confidence", confidence)

    @classmethod
    def placed(
        cls, names: Iterable[str], points_px: ArrayLike, shape_px: tuple[int, int]
    ) -> "ImageLandmarkSet":
        """Points that were not searched for: visible where they lie within the image.

        Args:
            names: One for each point.
            points_px: (N, 2) column and row, px; not finite where a point has no place.
            shape_px: Rows and columns of the image.
        """
        points = np.asarray(points_px, dtype=np.float64)
        rows, columns = shape_px
        with np.errstate(invalid="ignore"):
            inside = (points >= -0.5) & (points < [columns - 0.5, rows - 0.5])
        visible = np.asarray(inside.all(axis=1))
        return cls(tuple(names), points, visible, np.ones(len(points)))
