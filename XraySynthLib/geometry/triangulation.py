"""A patient's point from its images in several views."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from XraySynthLib.geometry.view import View

MIN_ANGLE_DEG = 0.5
"""Rays closer to parallel than this say nothing of depth."""


def triangulate(views: Sequence[View], points_px: ArrayLike) -> NDArray:
    """Find the points nearest to the rays through their images, in the least-squares sense.

    Minimises the sum of squared distances to the rays, sum |(I - d d^T)(p - s)|^2, d a ray's unit
    direction and s its source: a 3x3 linear system for each point.

    Args:
        views: Two or more views.
        points_px: (V, N, 2) column and row of each point in each view, px; NaN where not seen.

    Returns:
        (N, 3) points, RAS, mm; NaN where fewer than two views see the point or where its rays are
        parallel to within half a degree.

    Raises:
        ValueError: If there are fewer than two views or the shape is another.
    """
    points = np.asarray(points_px, dtype=np.float64)
    if len(views) < 2:
        raise ValueError(f"Triangulation needs two or more views, got {len(views)}.")
    if points.ndim != 3 or points.shape[0] != len(views) or points.shape[2] != 2:
        raise ValueError(f"points_px must be ({len(views)}, N, 2), got {points.shape}.")
    sources = np.stack([view.source_ras_mm for view in views])  # (V, 3)
    rays = np.stack([view.ray(p) for view, p in zip(views, points, strict=True)])  # (V, N, 3)
    result = np.full((points.shape[1], 3), np.nan)
    for n in range(points.shape[1]):
        seen = np.isfinite(rays[:, n]).all(axis=1)
        if _largest_angle_deg(rays[seen, n]) < MIN_ANGLE_DEG:
            continue
        across = np.eye(3) - rays[seen, n, :, None] * rays[seen, n, None, :]  # (V, 3, 3)
        right = (across @ sources[seen, :, None]).sum(axis=0)[:, 0]
        result[n] = np.linalg.solve(across.sum(axis=0), right)
    return result


def _largest_angle_deg(rays: NDArray) -> float:
    """Largest angle between any two of the lines along the unit vectors `rays` (V, 3)."""
    if len(rays) < 2:
        return 0.0
    sines = np.linalg.norm(np.cross(rays[:, None], rays[None]), axis=-1)
    return float(np.rad2deg(np.arcsin(np.clip(sines.max(), 0.0, 1.0))))
