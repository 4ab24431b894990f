"""How thick the cortex of each place of each bone is, on the mean's vertices.

All in mm at bone quality 1. Thicknesses are textbook values but for the vertebrae's: their shell is
about 0.35 mm thick and looks twice that in CT (Silva et al. 1994); `VERTEBRA_MM` is what CT shows.
`Testing/benchmark/published_ranges.csv` lists them.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.primitives import ramp
from XraySynthLib.anatomy.shape_model import load_shape_model
from XraySynthLib.anatomy.surfaces import unit_normals

VERTEBRA_MM = 0.9
MIN_MM, MAX_MM = 0.6, 8.0


def _convexity(vertices: NDArray, triangles: NDArray, rounds: int = 6) -> NDArray:
    """(V,) 1/mm, mean curvature smoothed over the neighbours; positive on ridges."""
    normals = unit_normals(vertices, triangles)
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    a, b = edges.T
    line = vertices[a] - vertices[b]
    bend = np.einsum("ij,ij->i", normals[a] - normals[b], line) / (line**2).sum(1)
    count = np.maximum(np.bincount(a, minlength=len(vertices)), 1)
    curvature = np.bincount(a, bend, len(vertices)) / count
    for _ in range(rounds):
        curvature = 0.5 * curvature + 0.5 * np.bincount(a, curvature[b], len(vertices)) / count
    return curvature


def _hemipelvis(vertices: NDArray, triangles: NDArray, center: NDArray) -> NDArray:
    offsets = vertices - center
    far = np.linalg.norm(offsets, axis=1)
    socket = 1 - ramp(far, 29, 34)
    roof = socket * ramp(offsets[:, 2] / far, 0.15, 0.7)
    ridge = ramp(_convexity(vertices, triangles), 0.015, 0.09)
    low = 1 - ramp(vertices[:, 2], -45, -20)
    thick = 1.0 + 1.5 * ridge + 0.3 * socket + 2.2 * roof + 0.4 * low
    notch = np.exp(-(((vertices - [0, -48, 32]) * [0, 1, 1]) ** 2).sum(1) / 2 / 22**2)
    return thick + 1.0 * notch * ridge


def _sacrum(vertices: NDArray, triangles: NDArray) -> NDArray:
    ridge = ramp(_convexity(vertices, triangles), 0.02, 0.12)
    return 0.85 + 0.5 * ridge


def _femur(vertices: NDArray, triangles: NDArray, center: NDArray, side: float) -> NDArray:
    """Thickness by height and side; `side` is -1 for the left, whose lateral is -x."""
    local = vertices - center
    out, up = side * local[:, 0], local[:, 2]
    normals = unit_normals(vertices, triangles)
    medial = ramp(-side * normals[:, 0], -0.1, 0.8)
    under = ramp(-normals[:, 2], -0.1, 0.7)
    shaft = 1 - ramp(up, -120, -45)
    neck = (1 - ramp(up, -24, -6)) * ramp(up, -75, -45) * ramp(out, 5, 16)
    calcar = neck * np.maximum(medial, under * (1 - ramp(out, 30, 45)))
    return 1.0 + 6.2 * shaft + 3.2 * calcar * (1 - shaft) + 0.25 * (1 - ramp(out, 10, 25))


def _sacroiliac_mm(bone: Bone) -> NDArray:
    """(V,) what the joint's plates add, more on the ilium's side."""
    mean = load_shape_model().mean
    hips = (Bone.LEFT_HEMIPELVIS, Bone.RIGHT_HEMIPELVIS)
    others = hips if bone is Bone.SACRUM else (Bone.SACRUM,)
    across = np.concatenate([mean.surface(other)[0] for other in others])
    far = cKDTree(across).query(mean.surface(bone)[0])[0]
    return (0.6 if bone is Bone.SACRUM else 1.1) * (1 - ramp(far, 4, 9))


@lru_cache(maxsize=1)
def cortex_mm() -> dict[Bone, NDArray]:
    """(V,) thickness for each bone's vertices, at bone quality 1."""
    model, result = load_shape_model(), {}
    for bone in Bone:
        vertices, triangles = model.mean.surface(bone)
        if bone is Bone.SACRUM:
            thick = _sacrum(vertices, triangles)
        else:
            left = bone in (Bone.LEFT_HEMIPELVIS, Bone.LEFT_FEMUR)
            center = model.mean.head(Bone.LEFT_FEMUR if left else Bone.RIGHT_FEMUR)[0]
            if bone in (Bone.LEFT_FEMUR, Bone.RIGHT_FEMUR):
                thick = _femur(vertices, triangles, center, -1.0 if left else 1.0)
            else:
                thick = _hemipelvis(vertices, triangles, center)
        if bone not in (Bone.LEFT_FEMUR, Bone.RIGHT_FEMUR):
            thick = thick + _sacroiliac_mm(bone)
        result[bone] = np.clip(thick, MIN_MM, MAX_MM)
    return result
