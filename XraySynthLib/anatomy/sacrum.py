"""What the model's closed sacrum lacks: its canal and four pairs of foramina, as tunnels."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.anatomy.bone_frames import BoneFrames
from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.primitives import Axes, capsule, smooth_min

CANAL = (
    ((0.0, -52.0, 112.0), 7.5),
    ((0.0, -72.0, 80.0), 5.5),
    ((0.0, -84.0, 52.0), 3.5),
    ((0.0, -87.0, 42.0), 1.5),
)
"""Points along the canal on the mean, mm, and radii; it is twice as wide as deep."""
ARC_CENTER_MM = (-5.0, 10.0)
"""y, z of the middle of the arc along which the mean's sacrum bends; its front has radius 78 mm."""
SEGMENT_DEG = 15.5
FORAMINA_DEG = tuple(64.0 - n * SEGMENT_DEG for n in range(4))
"""Where along the arc the foramina are, between the bodies, S1's first."""
FORAMINA = ((24.0, 20.0, 112.0, 6.6), (22.0, 18.0, 108.0, 6.0), (19.5, 16.0, 102.0, 5.2))
FORAMINA += ((17.0, 14.0, 95.0, 4.4),)
"""x in front and behind, radius of the arc behind (right side of the mean), radius in front, mm."""
FRONT_MM, FUNNEL_MM = 73.0, 16.0


def sacral_turn(y: NDArray, z: NDArray) -> NDArray:
    """Angle along the arc, radians: 0 behind, quarter of a turn above; y, z on the mean, mm."""
    return np.arctan2(z - ARC_CENTER_MM[1], ARC_CENTER_MM[0] - y)


def tunnels_distance(frames: BoneFrames, points_ras_mm: NDArray) -> NDArray:
    """Signed distance, mm, to canal and foramina, negative in the hollow.

    Args:
        frames: The subject's bones.
        points_ras_mm: (N, 3) points.

    Returns:
        (N,) float32, measured on the mean.
    """
    x, y, z = frames.on_mean(Bone.SACRUM, points_ras_mm).astype(np.float32).T
    flat: Axes = (x * np.float32(0.55), y, z)
    distance = np.full(len(points_ras_mm), np.float32(1e3))
    for (start, first_mm), (end, second_mm) in pairwise(CANAL):
        distance = np.minimum(distance, capsule(flat, start, end, (first_mm, second_mm)))
    sides: Axes = (np.abs(x), y, z)
    for turn_deg, (front_x, back_x, back_mm, radius_mm) in zip(FORAMINA_DEG, FORAMINA, strict=True):
        turn = np.deg2rad(turn_deg)
        front, back = (
            (side, ARC_CENTER_MM[0] - far * np.cos(turn), ARC_CENTER_MM[1] + far * np.sin(turn))
            for side, far in ((front_x, FRONT_MM), (back_x, back_mm))
        )
        front, back = np.array(front), np.array(back)
        neck = front + (back - front) * FUNNEL_MM / np.linalg.norm(back - front)
        for start, end, radii in (
            (front, neck, (1.25 * radius_mm, 0.6 * radius_mm)),
            (neck, back, (0.6 * radius_mm, 0.5 * radius_mm)),
        ):
            distance = smooth_min(distance, capsule(sides, start, end, radii), 3.0)
    return distance
