"""The joints of the pelvic ring, where sampled surfaces touch, cross or gape: room and filling."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.primitives import ramp
from XraySynthLib.anatomy.shape_model import SYMPHYSIS_MM, PelvisShape, load_shape_model
from XraySynthLib.anatomy.surface_distance import refined
from XraySynthLib.anatomy.surfaces import unit_normals

SACROILIAC_MM = 2.2
"""Least distance from bone to bone; 2-3 mm in healthy adults on CT (Faflia et al. 1998)."""
REACH_MM, BESIDE_MM, SPREAD_MM, SPARE_MM, ROUNDS = 14.0, 2.0, 6.0, 0.2, 8
WIDE_MM = 7.5
"""Between the pubic faces on average over a height, which is 2 to 3 mm more than where they are
nearest; healthy adults' symphyses are 3-6 mm wide (textbook value)."""
HIPS = (Bone.LEFT_HEMIPELVIS, Bone.RIGHT_HEMIPELVIS)


def opened(vertices_mm: NDArray) -> NDArray:
    """Bring gaping pubic bodies together, then press the sacrum in where it is near the ilia.

    Args:
        vertices_mm: (V, 3) of the whole model, pelvis not tilted.

    Returns:
        (V, 3) vertices; of the hemipelves only the pubic bones move.
    """
    model, vertices = load_shape_model(), _symphysis_closed(vertices_mm)
    part = model.parts[Bone.SACRUM]
    for hip in HIPS:
        ilium = vertices[model.parts[hip]]
        vertices[part] = _pressed_in(vertices[part], ilium, model.mean.surface(hip)[1])
    return vertices


def sacroiliac_gap(shape: PelvisShape, widest_mm: float = 6.0) -> tuple[NDArray, NDArray]:
    """Find the room between sacrum and ilia, which cartilage and ligaments fill.

    Args:
        shape: The bones.
        widest_mm: Where they are farther apart, it is no longer the joint.

    Returns:
        (N, 3) points midway between the bones, RAS, mm, and (N,) half the width there, mm.
    """
    sacrum, own = shape.surface(Bone.SACRUM)
    middles, halves = [], []
    for hip in HIPS:
        ilium = _dense(*shape.surface(hip), sacrum, 2)[0]
        points = _dense(sacrum, own, ilium, 1)[0]
        far, nearest = cKDTree(ilium).query(points, distance_upper_bound=widest_mm)
        near = np.isfinite(far)
        middles.append((points[near] + ilium[nearest[near]]) / 2)
        halves.append(far[near] / 2)
    return np.concatenate(middles), np.concatenate(halves)


def _symphysis_closed(vertices_mm: NDArray) -> NDArray:
    """Move the pubic bodies towards each other by what the symphysis is too wide at each height."""
    model = load_shape_model()
    x, y, z = model.mean.vertices_ras_mm.T
    left = np.flatnonzero((model.vertex_labels == HIPS[0]) & (y > 0) & (z < 10))
    face = left[np.abs(x[left]) < 5]
    pairs = model.mirrored_vertices[face]
    heights = (vertices_mm[face, 2] + vertices_mm[pairs, 2]) / 2
    widths = vertices_mm[pairs, 0] - vertices_mm[face, 0]
    slope, width = np.polyfit(heights - heights.mean(), widths, 1)
    near = (1 - ramp(np.abs(x), 8, 60)) * (1 - ramp(z, 0, 25)) * ramp(y, -40, -10)
    near *= np.isin(model.vertex_labels, HIPS)
    at = np.clip(vertices_mm[:, 2], heights.min(), heights.max()) - heights.mean()
    moved = vertices_mm.copy()
    moved[:, 0] -= np.sign(x) * near * np.maximum(width + slope * at - WIDE_MM, 0) / 2
    middle_mm, half_mm = (moved[face, 0] + moved[pairs, 0]).mean() / 2, SYMPHYSIS_MM / 2
    right = model.mirrored_vertices[left]
    moved[left, 0] = np.minimum(moved[left, 0], middle_mm - half_mm)
    moved[right, 0] = np.maximum(moved[right, 0], middle_mm + half_mm)
    return moved


def _pressed_in(sacrum: NDArray, ilium: NDArray, triangles: NDArray) -> NDArray:
    """Press the sacrum's surface in until no point of it is too near the ilium.

    Points between the vertices count as well: facets of 5 mm would cross between them. Depth is
    taken along the ilium's normals (the sacrum's surface may be folded in the joint), but all move
    towards the midline: in a hollow of the ilium its normals point at each other.
    """
    own = load_shape_model().mean.surface(Bone.SACRUM)[1]
    ilium, facing = _dense(ilium, triangles, sacrum, 2)
    tree, vertices, inward = cKDTree(ilium), sacrum.copy(), -np.sign(ilium[:, 0].mean())
    medial = inward * facing[:, 0]
    for _ in range(ROUNDS):
        points = _dense(vertices, own, ilium, 1)[0]
        far, nearest = tree.query(points, distance_upper_bound=REACH_MM)
        near = np.flatnonzero(np.isfinite(far))
        nearest = nearest[near]
        depth = np.einsum("ij,ij->i", points[near] - ilium[nearest], facing[nearest])
        # Past an edge of the ilium the depth says nothing: only what lies straight before counts.
        short = SACROILIAC_MM + SPARE_MM - depth
        straight = (far[near] ** 2 - depth**2 < BESIDE_MM**2) & (medial[nearest] > 0.1)
        pushed = straight & (short > SPARE_MM)
        if not pushed.any():
            break
        push = inward * short[pushed] / np.maximum(medial[nearest[pushed]], 0.4)
        far, nearest = cKDTree(points[near[pushed]]).query(vertices)
        vertices[:, 0] += push[nearest] * np.exp(-((far / SPREAD_MM) ** 2))
    return vertices


def _dense(
    vertices: NDArray, triangles: NDArray, others: NDArray, rounds: int
) -> tuple[NDArray, NDArray]:
    """Points and unit normals of the part of a surface near other points, facets split."""
    near = cKDTree(others).query(vertices, distance_upper_bound=1.6 * REACH_MM)[0]
    triangles = triangles[np.isfinite(near)[triangles].all(axis=1)]
    used, corners = np.unique(triangles, return_inverse=True)
    points, triangles = vertices[used], corners.reshape(-1, 3)
    for _ in range(rounds):
        points, triangles, _ = refined(points, triangles, np.empty((len(points), 0)))
    return points, unit_normals(points, triangles)
