"""Measures of pelvis and hip as pelvimetry takes them, at the same vertices in everyone.

What the measures are compared with is in `sexes` and in `Testing/benchmark/subject_variety.py`.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.shape_model import PelvisShape, load_shape_model

# Bone, place on the right of the mean (RAS, mm) and how many vertices about it are averaged.
_PLACES = {
    "brim": (Bone.RIGHT_HEMIPELVIS, (62, -14, 40), 6),  # arcuate line, where the inlet is widest
    "symphysis": (Bone.RIGHT_HEMIPELVIS, (5, 38, -13), 6),  # its upper end
    "promontory": (Bone.SACRUM, (0, -9, 86), 6),
    "arch": (Bone.RIGHT_HEMIPELVIS, (8, 17, -41), 6),  # inner edge of the ischiopubic ramus ...
    "ramus": (Bone.RIGHT_HEMIPELVIS, (31, -6, -60), 6),  # ... there and further down
    "spine": (Bone.RIGHT_HEMIPELVIS, (49, -54, 1), 4),  # ischial
    "posterior": (Bone.RIGHT_HEMIPELVIS, (47, -73, 56), 4),  # posterior inferior iliac spine
}
_N_ENDS = 40  # vertices at either end of a hip bone, among which its length is sought


@lru_cache(maxsize=1)
def _vertices() -> dict[str, NDArray]:
    model = load_shape_model()
    mean, found = model.mean.vertices_ras_mm, {}
    for name, (bone, place, count) in _PLACES.items():
        part = model.parts[bone]
        distances = np.linalg.norm(mean[part] - place, axis=1)
        found[name] = part.start + np.argsort(distances, kind="stable")[:count]
    return found


def _pair(shape: PelvisShape, name: str) -> NDArray:
    """(2, 3) the place on the right and on the left, RAS, mm."""
    right = _vertices()[name]
    left = load_shape_model().mirrored_vertices[right]
    return np.stack([shape.vertices_ras_mm[side].mean(0) for side in (right, left)])


def _across(shape: PelvisShape, name: str) -> float:
    right, left = _pair(shape, name)
    return float(np.linalg.norm(right - left))


def subpubic_angle_deg(shape: PelvisShape) -> float:
    """Angle between the inner edges of both ischiopubic rami, in space (four landmarks)."""
    right, left = _pair(shape, "ramus") - _pair(shape, "arch")
    cosine = right @ left / np.linalg.norm(right) / np.linalg.norm(left)
    return float(np.degrees(np.arccos(cosine)))


def neck_shaft_angle_deg(shape: PelvisShape, femur: Bone) -> float:
    """Angle between the axes of neck (head's centre to the neck's middle) and shaft."""
    model = load_shape_model()
    side = -1.0 if femur is Bone.LEFT_FEMUR else 1.0
    mean, own = model.mean.surface(femur)[0], shape.surface(femur)[0]

    def middle(near: NDArray) -> NDArray:
        return (own[near].min(0) + own[near].max(0)) / 2

    along = np.array([side * 0.79, 0.0, -0.61])
    offsets = mean - model.mean.head(femur)[0]
    neck = (np.abs(offsets @ along - 26) < 2.5) & (np.linalg.norm(offsets, axis=1) < 36)
    shaft = middle(np.abs(mean[:, 2] + 140) < 3) - middle(np.abs(mean[:, 2] + 80) < 3)
    axis = shape.head(femur)[0] - middle(neck)
    cosine = axis @ shaft / np.linalg.norm(axis) / np.linalg.norm(shaft)
    return float(np.degrees(np.arccos(cosine)))


def hip_bone_height_mm(shape: PelvisShape) -> float:
    """Greatest length from iliac crest to ischial tuberosity, mean of both sides."""
    lengths = []
    for bone in (Bone.LEFT_HEMIPELVIS, Bone.RIGHT_HEMIPELVIS):
        order = np.argsort(load_shape_model().mean.surface(bone)[0][:, 2], kind="stable")
        own = shape.surface(bone)[0]
        ends = own[order[-_N_ENDS:], None] - own[None, order[:_N_ENDS]]
        lengths.append(np.linalg.norm(ends, axis=2).max())
    return float(np.mean(lengths))


def pelvimetry(shape: PelvisShape) -> dict[str, float]:
    """All measures of a shape in any pose: lengths in mm, angles in degrees.

    The inlet's width is the transverse diameter, its depth the true conjugate; the notch's width
    runs from ischial to posterior inferior iliac spine, the mean of both sides.
    """
    hips = shape.vertices_ras_mm[: load_shape_model().parts[Bone.SACRUM].start]
    conjugate = _pair(shape, "promontory").mean(0) - _pair(shape, "symphysis").mean(0)
    notches = np.linalg.norm(_pair(shape, "spine") - _pair(shape, "posterior"), axis=1)
    femurs = (Bone.LEFT_FEMUR, Bone.RIGHT_FEMUR)
    return {
        "bi_iliac_mm": float(np.ptp(hips[:, 0])),
        "hip_bone_height_mm": hip_bone_height_mm(shape),
        "inlet_width_mm": _across(shape, "brim"),
        "inlet_depth_mm": float(np.linalg.norm(conjugate)),
        "interspinous_mm": _across(shape, "spine"),
        "notch_width_mm": float(notches.mean()),
        "subpubic_angle_deg": subpubic_angle_deg(shape),
        "head_diameter_mm": float(np.mean([2 * shape.head(femur)[1] for femur in femurs])),
        "neck_shaft_angle_deg": float(np.mean([neck_shaft_angle_deg(shape, f) for f in femurs])),
    }
