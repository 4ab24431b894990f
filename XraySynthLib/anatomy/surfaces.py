"""Triangle surfaces as arrays: normals, areas, nearest points, volume."""

import numpy as np
from numpy.typing import NDArray


def area_normals(vertices_mm: NDArray, triangles: NDArray) -> NDArray:
    """(V, 3) outward normals, their length a third of the area around each vertex, mm^2."""
    corners = vertices_mm[triangles]
    face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 6
    normals = np.empty_like(vertices_mm)
    for axis in range(3):
        normals[:, axis] = np.bincount(
            triangles.ravel(), weights=np.repeat(face[:, axis], 3), minlength=len(vertices_mm)
        )
    return normals


def unit_normals(vertices_mm: NDArray, triangles: NDArray) -> NDArray:
    """(V, 3) outward normals of length 1; 0 where a vertex has no area around it."""
    normals = area_normals(vertices_mm, triangles)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)


def enclosed_volume_mm3(vertices_mm: NDArray, triangles: NDArray) -> float:
    """Volume inside a closed surface (divergence theorem); negative if it is inside out."""
    a, b, c = (vertices_mm[triangles[:, corner]] for corner in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def nearest_on_triangles(point_mm: NDArray, corners_mm: NDArray) -> tuple[int, NDArray]:
    """Find the nearest point of some triangles.

    Args:
        point_mm: (3,) the point.
        corners_mm: (T, 3, 3) corners of the triangles, none of them degenerate.

    Returns:
        Index of the triangle and (3,) barycentric weights of the nearest point on it.
    """
    a, b, c = corners_mm[:, 0], corners_mm[:, 1], corners_mm[:, 2]
    inside = _barycentric(point_mm, a, b, c)
    candidates = [np.where((inside >= 0).all(axis=1)[:, None], inside, np.nan)]
    for first, second in ((0, 1), (1, 2), (2, 0)):
        edge = corners_mm[:, second] - corners_mm[:, first]
        along = np.einsum("ij,ij->i", point_mm - corners_mm[:, first], edge)
        along = np.clip(along / np.einsum("ij,ij->i", edge, edge), 0, 1)
        weights = np.zeros((len(corners_mm), 3))
        weights[:, first], weights[:, second] = 1 - along, along
        candidates.append(weights)
    stacked = np.stack(candidates)  # (4, T, 3)
    points = np.einsum("ktc,tcx->ktx", stacked, corners_mm)
    distances = np.linalg.norm(points - point_mm, axis=2)
    kind, triangle = np.unravel_index(np.nanargmin(distances), distances.shape)
    return int(triangle), stacked[kind, triangle]


def _barycentric(point: NDArray, a: NDArray, b: NDArray, c: NDArray) -> NDArray:
    first, second, offset = b - a, c - a, point - a
    d11 = np.einsum("ij,ij->i", first, first)
    d12 = np.einsum("ij,ij->i", first, second)
    d22 = np.einsum("ij,ij->i", second, second)
    d31 = np.einsum("ij,ij->i", offset, first)
    d32 = np.einsum("ij,ij->i", offset, second)
    scale = d11 * d22 - d12 * d12
    v, w = (d22 * d31 - d12 * d32) / scale, (d11 * d32 - d12 * d31) / scale
    return np.stack([1 - v - w, v, w], axis=1)
