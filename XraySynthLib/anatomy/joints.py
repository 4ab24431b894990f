"""Room in the sacroiliac joints: sampled surfaces may touch or cross there."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.shape_model import load_shape_model
from XraySynthLib.anatomy.surfaces import area_normals

SACROILIAC_MM = 2.2
"""Least distance from bone to bone; 2-3 mm in healthy adults on CT (Faflia et al. 1998)."""
REACH_MM, ROUNDS = 14.0, 3


def opened(vertices_mm: NDArray) -> NDArray:
    """Push the sacrum out of both ilia.

    Args:
        vertices_mm: (V, 3) of the whole model, pelvis not tilted.

    Returns:
        (V, 3) vertices; the ilia do not move.
    """
    model, vertices = load_shape_model(), vertices_mm.copy()
    hips = (Bone.LEFT_HEMIPELVIS, Bone.RIGHT_HEMIPELVIS)
    part = model.parts[Bone.SACRUM]
    for _ in range(ROUNDS):
        for hip in hips:
            ilium = vertices[model.parts[hip]]
            inside = (model.triangles[:, 0] >= model.parts[hip].start) & (
                model.triangles[:, 0] < model.parts[hip].stop
            )
            triangles = model.triangles[inside] - model.parts[hip].start
            vertices[part] = _pushed(vertices[part], ilium, triangles)
    return vertices


def _pushed(points: NDArray, ilium: NDArray, triangles: NDArray) -> NDArray:
    normals = area_normals(ilium, triangles)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    far, nearest = cKDTree(ilium).query(points, distance_upper_bound=REACH_MM)
    near = np.isfinite(far)
    moved, normal = points.copy(), normals[nearest[near]]
    depth = np.einsum("ij,ij->i", points[near] - ilium[nearest[near]], normal)
    moved[near] += np.maximum(SACROILIAC_MM - depth, 0)[:, None] * normal
    return moved
