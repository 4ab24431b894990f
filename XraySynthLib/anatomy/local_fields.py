"""Smooth random displacement of a surface: what the modes of twenty people cannot say.

A Gaussian process with a Gaussian kernel over each bone, reduced to a few basis fields by its
values at spread-out points (Nystroem). Samples draw its coefficients; fits solve for them: the
shape prior of Luethi et al. 2018, "Gaussian Process Morphable Models", IEEE PAMI 40(8).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist


def spread_points(points_mm: NDArray, spacing_mm: float) -> NDArray:
    """Choose points farther than `spacing_mm` apart, farthest first.

    Args:
        points_mm: (N, 3) points, mm.
        spacing_mm: Stop when every point is this near a chosen one.

    Returns:
        (C,) indices.
    """
    chosen = [int(points_mm[:, 2].argmax())]
    distances = np.linalg.norm(points_mm - points_mm[chosen[0]], axis=1)
    while distances.max() > spacing_mm:
        chosen.append(int(distances.argmax()))
        distances = np.minimum(distances, np.linalg.norm(points_mm - points_mm[chosen[-1]], axis=1))
    return np.array(chosen)


def smooth_basis(points_mm: NDArray, length_mm: float) -> NDArray:
    """Make basis fields whose random sums are smooth over `length_mm`.

    Args:
        points_mm: (N, 3) points of one bone, mm.
        length_mm: Standard deviation of the kernel exp(-d^2 / (2 length^2)).

    Returns:
        (N, C) float32; with independent standard normal coefficients the sum at a point has a
        variance of 1 (a little less between the centres).
    """
    centers = points_mm[spread_points(points_mm, 1.1 * length_mm)]

    def kernel(first: NDArray) -> NDArray:
        return np.exp(-cdist(first, centers, "sqeuclidean") / (2 * length_mm**2))

    square = kernel(centers)
    lower = np.linalg.cholesky(square + 1e-4 * np.eye(len(centers)))
    return np.linalg.solve(lower, kernel(points_mm).T).T.astype(np.float32)
