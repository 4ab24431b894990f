"""Signed distance to a triangle surface in a narrow band, smooth where the surface is smooth."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from XraySynthLib.anatomy.grids import Box, Grid
from XraySynthLib.anatomy.surfaces import unit_normals
from XraySynthLib.anatomy.voxels import inside_surface
from XraySynthLib.geometry.transforms import translation

PHONG = 0.75  # Boubekeur and Alexa 2008, "Phong tessellation": how far midpoints bulge
BESIDE_MM = 1.6  # next to a vertex its tangent plane is the surface


def refined(vertices_mm: NDArray, triangles: NDArray, values: NDArray) -> tuple[NDArray, ...]:
    """Add a vertex on every edge, moved out onto the curve that the normals tell of.

    Args:
        vertices_mm: (V, 3).
        triangles: (T, 3).
        values: (V, C) anything that the vertices carry.

    Returns:
        (V', 3) vertices, (4 T, 3) triangles, (V', C) values.
    """
    normals = unit_normals(vertices_mm, triangles)
    edges = np.sort(
        np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    )
    edges, where = np.unique(edges, axis=0, return_inverse=True)
    a, b = edges.T
    middle = (vertices_mm[a] + vertices_mm[b]) / 2
    bulge = np.zeros_like(middle)
    for end in (a, b):
        depth = np.einsum("ij,ij->i", vertices_mm[end] - middle, normals[end])
        bulge += 0.5 * depth[:, None] * normals[end]
    ab, bc, ca = where.ravel().reshape(3, -1) + len(vertices_mm)
    x, y, z = triangles.T
    split = [(x, ab, ca), (ab, y, bc), (ca, bc, z), (ab, bc, ca)]
    return (
        np.concatenate([vertices_mm, middle + PHONG * bulge]),
        np.concatenate([np.stack(corners, axis=1) for corners in split]),
        np.concatenate([values, (values[a] + values[b]) / 2]),
    )


@dataclass(frozen=True, eq=False)
class Band:
    """Voxels of a box that matter to a bone, as a list.

    Attributes:
        box: Slices of the grid.
        mask: Box-shaped bool, which of its voxels are listed.
        distance_mm: (N,) signed, negative inside.
        values: (N, C) what the nearest vertex carries.
        points_ras_mm: (N, 3) float32.
    """

    box: Box
    mask: NDArray
    distance_mm: NDArray
    values: NDArray
    points_ras_mm: NDArray


def surface_band(
    vertices_mm: NDArray, triangles: NDArray, values: NDArray, grid: Grid, outside_mm: float
) -> Band | None:
    """Measure the inside and a rim outside of a closed surface.

    Args:
        vertices_mm: (V, 3) RAS.
        triangles: (T, 3), outward.
        values: (V, C) carried by the vertices.
        grid: The voxels.
        outside_mm: Thickness of the rim.

    Returns:
        The band, or None where the grid does not hold any of it.
    """
    box = grid.box(vertices_mm, outside_mm + grid.spacing_mm)
    if box is None:
        return None
    vertices = vertices_mm
    for _ in range(2):
        vertices, triangles, values = refined(vertices, triangles, values)
    shape = tuple(s.stop - s.start for s in box)
    ras_from_box = grid.ras_from_ijk @ translation([s.start for s in reversed(box)])
    inside = inside_surface(vertices, triangles, np.linalg.inv(ras_from_box), shape)
    rim = ndimage.generate_binary_structure(3, 3)
    steps = int(np.ceil(outside_mm / grid.spacing_mm))
    mask = ndimage.binary_dilation(inside, rim, iterations=steps) | _near(
        vertices, ras_from_box, shape
    )
    points = _points(grid, box, mask)
    if len(points) == 0:
        return None
    normals = unit_normals(vertices, triangles)
    far, nearest = cKDTree(vertices).query(points, workers=1)
    along = np.einsum("ij,ij->i", points - vertices[nearest], normals[nearest])
    aside = np.sqrt(np.maximum(far**2 - along**2, 0))
    sign = np.where(inside[mask], -1.0, 1.0)
    distance = np.where(aside < BESIDE_MM, along, sign * far)
    return Band(box, mask, distance.astype(np.float32), values[nearest], points)


def _near(vertices: NDArray, ras_from_box: NDArray, shape: tuple[int, ...]) -> NDArray:
    """Voxels next to a vertex: plates thinner than a voxel have no voxel inside."""
    ijk = (vertices - ras_from_box[:3, 3]) / np.diag(ras_from_box)[:3]
    near = np.zeros(shape, bool)
    kji = np.round(ijk[:, ::-1]).astype(int)
    kept = ((kji >= 0) & (kji < shape)).all(axis=1)
    near[tuple(kji[kept].T)] = True
    return ndimage.binary_dilation(near, ndimage.generate_binary_structure(3, 1))


def _points(grid: Grid, box: Box, mask: NDArray) -> NDArray:
    x, y, z = grid.axes_mm(box)
    k, j, i = np.nonzero(mask)
    return np.stack([x[0, 0, i], y[0, j, 0], z[k, 0, 0]], axis=1)
