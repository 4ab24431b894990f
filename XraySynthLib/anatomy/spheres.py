"""Spheres fitted to points: femoral heads and the sockets they sit in."""

import numpy as np
from numpy.typing import NDArray

_MAX_STEPS, _STEP_MM = 50, 1e-6


def fit_sphere(points_mm: NDArray) -> tuple[NDArray, float]:
    """Fit a sphere by least squares on |p|^2 = 2 c.p + (r^2 - |c|^2), which is linear.

    Args:
        points_mm: (N, 3) points, mm, N of 4 or more.

    Returns:
        (3,) centre and radius, mm.
    """
    middle = points_mm.mean(axis=0)
    centered = points_mm - middle
    matrix = np.column_stack([2 * centered, np.ones(len(centered))])
    solution = np.linalg.lstsq(matrix, (centered**2).sum(axis=1), rcond=None)[0]
    center = solution[:3]
    return center + middle, float(np.sqrt(solution[3] + center @ center))


def fit_sphere_of_radius(points_mm: NDArray, radius_mm: float, start_mm: NDArray) -> NDArray:
    """Find the centre of a sphere whose radius is known, by Gauss-Newton.

    A shallow cap leaves centre and radius of a free sphere badly apart; with the radius given the
    centre is firm.

    Args:
        points_mm: (N, 3) points, mm.
        radius_mm: The sphere's radius.
        start_mm: (3,) first guess of the centre, mm.

    Returns:
        (3,) centre, mm.
    """
    center = np.array(start_mm, dtype=float)
    for _ in range(_MAX_STEPS):
        offsets = center - points_mm
        distances = np.linalg.norm(offsets, axis=1)
        jacobian = offsets / distances[:, None]
        step = np.linalg.lstsq(jacobian, radius_mm - distances, rcond=None)[0]
        center += step
        if np.abs(step).max() < _STEP_MM:
            break
    return center
