"""Signed distances of simple bodies, negative inside, what part of a voxel they cover, ramps.

Coordinates come as broadcastable float32 arrays x, y, z, mm (`Grid.axes_mm`) or (N,) each.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Axes = tuple[NDArray, NDArray, NDArray]


def coverage(distance_mm: NDArray, width_mm: float) -> NDArray:
    """Part of a voxel inside a surface: linear over one voxel's width, so that mass is kept."""
    return np.clip(np.float32(0.5) - distance_mm * np.float32(1 / width_mm), 0, 1)


def smooth_coverage(distance_mm: NDArray, width_mm: float) -> NDArray:
    """As `coverage`, but weighed by a triangle over two voxels, as a scanner's blur does.

    What is left of a thin sheet then moves smoothly from row to row of voxels: seen edge on in
    a projection it shows fewer steps.
    """
    depth = np.clip(distance_mm * np.float32(-1 / width_mm), -1, 1)
    return np.float32(0.5) + depth * (1 - np.float32(0.5) * np.abs(depth))


def ramp(values: NDArray, low: float, high: float) -> NDArray:
    """0 below `low`, 1 above `high`, smooth between."""
    share = np.clip((values - low) / (high - low), 0, 1)
    return share * share * (3 - 2 * share)


def ball(axes: Axes, center: ArrayLike, radius_mm: float) -> NDArray:
    """Distance to a sphere."""
    x, y, z = (a - np.float32(c) for a, c in zip(axes, np.asarray(center), strict=True))
    return np.sqrt(x * x + y * y + z * z) - np.float32(radius_mm)


def ellipsoid(axes: Axes, center: ArrayLike, radii: ArrayLike) -> NDArray:
    """Distance to an ellipsoid along x, y, z, to first order; `radii` (3,) are its semi-axes."""
    offsets = [a - np.float32(c) for a, c in zip(axes, np.asarray(center), strict=True)]
    first = second = np.float32(0)
    for offset, radius in zip(offsets, np.asarray(radii, dtype=np.float32), strict=True):
        scaled = offset / radius
        first = first + scaled * scaled
        second = second + (scaled / radius) ** 2
    first = np.sqrt(first)
    return first * (first - 1) / np.maximum(np.sqrt(second), np.float32(1e-6))


def capsule(axes: Axes, start: ArrayLike, end: ArrayLike, radii: tuple[float, float]) -> NDArray:
    """Distance to a line segment less a radius that goes from `radii[0]` to `radii[1]`."""
    start, end = np.asarray(start, dtype=np.float32), np.asarray(end, dtype=np.float32)
    line = end - start
    x, y, z = (a - c for a, c in zip(axes, start, strict=True))
    along = (x * line[0] + y * line[1] + z * line[2]) / max(float(line @ line), 1e-6)
    along = np.clip(along, 0, 1)
    dx, dy, dz = x - along * line[0], y - along * line[1], z - along * line[2]
    radius = np.float32(radii[0]) + along * np.float32(radii[1] - radii[0])
    return np.sqrt(dx * dx + dy * dy + dz * dz) - radius


def smooth_min(first: NDArray, second: NDArray, width_mm: float) -> NDArray:
    """The lesser of two distances, rounded where they meet."""
    mix = np.maximum(np.float32(width_mm) - np.abs(first - second), 0)
    return np.minimum(first, second) - mix * mix * np.float32(0.25 / width_mm)


def smooth_max(first: NDArray, second: NDArray, width_mm: float) -> NDArray:
    """The greater of two distances, rounded where they meet."""
    return -smooth_min(-first, -second, width_mm)
