"""Muscles as chains of tapering tubes between places on the bones, with fat between them.

Places are those of the right side on the mean (mm) and are carried to the subject's bones. Courses
and radii are chosen by eye: where the muscles attach and what girth hips and thighs have.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.anatomy.bone_frames import BoneFrames
from XraySynthLib.anatomy.grids import Grid
from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.primitives import capsule, coverage

GROWTH_MM = 8.0  # muscles fill the space between their tubes up to their neighbours
P, F, S = "pelvis", "femur", "sacrum"
_BONES = {
    P: (Bone.LEFT_HEMIPELVIS, Bone.RIGHT_HEMIPELVIS),
    F: (Bone.LEFT_FEMUR, Bone.RIGHT_FEMUR),
    S: (Bone.SACRUM, Bone.SACRUM),
}
Station = tuple[str, float, float, float, float]  # bone, x, y, z on the mean, radius
COURSES: dict[str, tuple[Station, ...]] = {
    "gluteus maximus, upper": ((P, 45, -95, 75, 21), (F, 108, -62, -15, 22)),
    "gluteus maximus, middle": ((S, 28, -104, 45, 19), (F, 112, -52, -50, 23)),
    "gluteus maximus, lower": ((S, 22, -96, 18, 18), (F, 116, -38, -90, 18)),
    "gluteus medius, back": ((P, 82, -66, 105, 19), (F, 134, -18, 14, 11)),
    "gluteus medius": ((P, 112, -22, 118, 20), (F, 138, -8, 14, 12)),
    "gluteus medius, front": ((P, 118, 18, 98, 17), (F, 140, 4, 8, 11)),
    "tensor fasciae latae": ((P, 130, 40, 76, 11), (F, 150, 18, -50, 12), (F, 147, 8, -150, 6)),
    "sartorius": ((P, 118, 46, 70, 9), (F, 92, 50, -40, 10), (F, 58, 38, -150, 10)),
    "rectus femoris": ((P, 98, 38, 28, 9), (F, 108, 44, -80, 18), (F, 108, 42, -220, 23)),
    "vastus lateralis": ((F, 138, 4, -35, 14), (F, 142, 6, -110, 25), (F, 136, 6, -260, 28)),
    "vastus intermedius": ((F, 112, 18, -62, 16), (F, 106, 22, -240, 26)),
    "psoas": (
        (S, 34, -12, 215, 17),
        (S, 44, -2, 135, 21),
        (P, 72, 26, 45, 17),
        (P, 86, 30, 8, 14),
        (F, 92, -16, -46, 8),
    ),
    "iliacus": ((P, 100, -10, 112, 16), (P, 92, 8, 70, 17), (P, 84, 30, 22, 12)),
    "pectineus": ((P, 48, 38, -6, 11), (F, 98, -2, -58, 9)),
    "adductor longus": ((P, 18, 30, -36, 10), (F, 72, 12, -110, 22), (F, 88, 0, -230, 20)),
    "adductor magnus": ((P, 46, -18, -60, 18), (F, 80, -12, -130, 27), (F, 82, -10, -240, 27)),
    "gracilis": ((P, 12, 10, -46, 9), (F, 42, -4, -220, 11)),
    "hamstrings": ((P, 62, -55, -52, 15), (F, 94, -42, -130, 26), (F, 92, -40, -250, 29)),
    "obturator internus": ((P, 46, 12, 2, 9), (P, 52, -52, -6, 10), (F, 128, -16, 10, 4)),
    "obturator internus, upper": ((P, 60, -8, 34, 8), (P, 54, -52, 8, 9)),
    "obturator externus": ((P, 34, 20, -26, 11), (F, 118, -18, -4, 5)),
    "piriformis": ((S, 26, -72, 52, 12), (S, 72, -64, 32, 12), (F, 130, -16, 14, 5)),
    "quadratus femoris": ((P, 72, -44, -30, 9), (F, 124, -26, -36, 9)),
    "erector spinae": ((S, 24, -92, 95, 16), (S, 34, -92, 200, 27), (S, 38, -95, 340, 27)),
    "multifidus": ((S, 15, -100, 50, 9), (S, 16, -80, 160, 14), (S, 16, -85, 340, 14)),
    "quadratus lumborum": ((P, 78, -48, 140, 16), (S, 62, -45, 260, 17)),
}


def muscle_share(
    frames: BoneFrames, factor: float, plane_mm: float, fascia_mm: NDArray, grid: Grid
) -> NDArray:
    """Part of each voxel that is muscle.

    Args:
        frames: The subject's bones.
        factor: Of all radii.
        plane_mm: Thickness of the fat between neighbours.
        fascia_mm: (K, J, I) distance to the fascia; no muscle reaches outside.
        grid: A coarse grid, 2 to 4 mm.

    Returns:
        (K, J, I) float32, 0..1.
    """
    nearest = np.full(grid.shape, np.float32(50))
    second = nearest.copy()
    for course in COURSES.values():
        for left in (True, False):
            _add_muscle(_stations(frames, course, left), factor, grid, nearest, second)
    inside = coverage(np.maximum(nearest - GROWTH_MM, fascia_mm + 2), grid.spacing_mm)
    plane = coverage(second - nearest, 2 * grid.spacing_mm) * (nearest > -2.5 * plane_mm)
    return inside * (1 - np.minimum(plane * np.float32(plane_mm / grid.spacing_mm), 0.8))


def _stations(
    frames: BoneFrames, course: tuple[Station, ...], left: bool
) -> list[tuple[NDArray, float]]:
    side = -1.0 if left else 1.0
    return [
        (frames.place(_BONES[bone][0 if left else 1], (side * x, y, z)), radius)
        for bone, x, y, z, radius in course
    ]


def _add_muscle(
    stations: list[tuple[NDArray, float]],
    factor: float,
    grid: Grid,
    nearest: NDArray,
    second: NDArray,
) -> None:
    points = np.array([point for point, _ in stations])
    box = grid.box(points, factor * max(radius for _, radius in stations) + 14)
    if box is None:
        return
    axes = grid.axes_mm(box)
    distance = None
    for (start, first), (end, last) in pairwise(stations):
        piece = capsule(axes, start, end, (factor * first, factor * last))
        distance = piece if distance is None else np.minimum(distance, piece)
    second[box] = np.minimum(second[box], np.maximum(nearest[box], distance))
    nearest[box] = np.minimum(nearest[box], distance)
