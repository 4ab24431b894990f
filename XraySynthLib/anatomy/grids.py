"""Regular grids aligned with the patient: where voxels are, boxes, finer from coarser.

Axes as in most CT files: i runs to the patient's left, j to the back, k to the head.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from XraySynthLib.geometry.transforms import translation

SIGNS = np.array([-1.0, -1.0, 1.0])
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Grid:
    """A grid of cubic voxels along the patient's axes.

    Attributes:
        shape: (K, J, I).
        spacing_mm: Edge of a voxel.
        center_ras_mm: (3,) middle of the grid.
    """

    shape: tuple[int, int, int]
    spacing_mm: float
    center_ras_mm: NDArray

    def __post_init__(self) -> None:
        shape = tuple(int(size) for size in self.shape)
        if len(shape) != 3 or not 8 <= min(shape) <= max(shape) <= 1024:
            raise ValueError(f"A grid needs three sizes of 8 to 1024 voxels, got {self.shape}.")
        if not 0.2 <= float(self.spacing_mm) <= 20:
            raise ValueError(f"spacing_mm must lie in 0.2..20, got {self.spacing_mm}.")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "center_ras_mm", np.asarray(self.center_ras_mm, dtype=float))

    @property
    def ras_from_ijk(self) -> NDArray:
        """(4, 4) from voxel index to RAS, mm."""
        middle = (np.array(self.shape[::-1]) - 1) / 2
        scale = np.diag([*(SIGNS * self.spacing_mm), 1.0])
        return translation(self.center_ras_mm) @ scale @ translation(-middle)

    @property
    def whole(self) -> Box:
        """Slices of all voxels."""
        return tuple(slice(0, size) for size in self.shape)

    def axes_mm(self, box: Box | None = None) -> tuple[NDArray, NDArray, NDArray]:
        """x (1, 1, I), y (1, J, 1) and z (K, 1, 1) of a box's voxels, RAS, mm, float32."""
        k, j, i = self.whole if box is None else box
        origin = self.ras_from_ijk[:3, 3]
        x, y, z = (
            (start + sign * self.spacing_mm * np.arange(s.start, s.stop)).astype(np.float32)
            for start, sign, s in zip(origin, SIGNS, (i, j, k), strict=True)
        )
        return x[None, None, :], y[None, :, None], z[:, None, None]

    def box(self, points_ras_mm: ArrayLike, margin_mm: float = 0.0) -> Box | None:
        """Slices of the voxels around points, or None if none is in the grid."""
        points = np.atleast_2d(points_ras_mm)
        ijk = (points - self.ras_from_ijk[:3, 3]) / (SIGNS * self.spacing_mm)
        margin = margin_mm / self.spacing_mm
        low = np.maximum(np.floor(ijk.min(0) - margin).astype(int), 0)[::-1]
        high = np.minimum(np.ceil(ijk.max(0) + margin).astype(int) + 1, self.shape[::-1])[::-1]
        if (low >= high).any():
            return None
        return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))

    def coarser(self, spacing_mm: float) -> "Grid":
        """A grid of about this spacing, not finer than this one, that covers this one."""
        spacing_mm = max(spacing_mm, self.spacing_mm)
        shape = np.ceil(np.array(self.shape) * self.spacing_mm / spacing_mm).astype(int) + 1
        return Grid(tuple(np.maximum(shape, 8)), spacing_mm, self.center_ras_mm)


def resampled(field: NDArray, source: Grid, target: Grid) -> NDArray:
    """Interpolate linearly from one grid to another, axis by axis.

    Args:
        field: (K, J, I) values on `source`.
        source: Where the values are.
        target: Where they are wanted; outside of `source` the border's values go on.

    Returns:
        float32 on `target`.
    """
    if source.shape == target.shape and source.spacing_mm == target.spacing_mm:
        return field.astype(np.float32, copy=False)
    result = field.astype(np.float32, copy=False)
    start, wanted = source.ras_from_ijk[:3, 3], target.ras_from_ijk[:3, 3]
    for axis in range(3):
        which = 2 - axis
        offset = (wanted[which] - start[which]) / (SIGNS[which] * source.spacing_mm)
        places = offset + np.arange(target.shape[axis]) * target.spacing_mm / source.spacing_mm
        weights = _linear_weights(places, source.shape[axis])
        result = np.moveaxis(np.tensordot(weights, result, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(result)


def _linear_weights(places: NDArray, size: int) -> NDArray:
    """(P, size) float32 matrix of linear interpolation at fractional indices."""
    places = np.clip(places, 0, size - 1)
    low = np.minimum(places.astype(int), size - 2)
    weights = np.zeros((len(places), size), np.float32)
    rows = np.arange(len(places))
    weights[rows, low] = 1 - (places - low)
    weights[rows, low + 1] = places - low
    return weights
