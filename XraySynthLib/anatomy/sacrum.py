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
FORAMINA = (
    ((24.0, -28.0, 69.0), (15.0, -67.0, 85.0), (22.0, -88.0, 80.0), 6.6),
    ((22.0, -47.0, 55.0), (12.0, -78.0, 64.0), (19.0, -100.0, 60.0), 5.8),
    ((20.0, -63.0, 40.0), (9.0, -84.0, 46.0), (16.0, -106.0, 43.0), 4.8),
    ((18.0, -76.0, 25.0), (6.0, -90.0, 29.0), (13.0, -108.0, 27.0), 3.8),
)
"""Anterior opening, canal, posterior opening (right side of the mean), mm, and radius in front."""


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
    for front, canal, back, radius_mm in FORAMINA:
        tunnel = capsule(sides, front, canal, (radius_mm, 0.62 * radius_mm))
        rear = capsule(sides, canal, back, (0.62 * radius_mm, 0.5 * radius_mm))
        distance = smooth_min(distance, np.minimum(tunnel, rear), 2.0)
    return distance
