"""Room under the skin for what moves: an outline that follows turned thighs and a bent spine.

`envelope` fits it around pelvis and sacrum, and takes thighs and spine to be about straight.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.anatomy.bone_frames import BoneFrames
from XraySynthLib.anatomy.envelope import Envelope
from XraySynthLib.anatomy.parameters import SubjectParameters
from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.spine import lumbar_spine

UNDER_SKIN_MM = 4.0
"""From a bone to the surface of the skin at least: skin and what moves under it."""
BEHIND_MM = 12.0
"""From the rearmost bone to the plane that flattens the back, whose edge is rounded."""
ROUNDS = 40
SPINE_ABOVE_CREST_MM = 200.0
IN_TRUNK_MM = 40.0
"""Above the crotch by this a femur lies in the trunk, below it in its thigh."""
VERTEBRA_ENDS = np.array(((0.0, 1.0, 0.0), (0.0, -4.0, -0.9), (1.9, -1.8, 0.4), (-1.9, -1.8, 0.4)))
"""Front of the body, tips of the spinous and transverse processes, in halves of the body."""


def enclosing(envelope: Envelope, frames: BoneFrames, parameters: SubjectParameters) -> Envelope:
    """Widen the trunk and move the thighs until femurs and spine are under the skin.

    Args:
        envelope: An outline that holds pelvis and sacrum; where it holds all, it stays as it is.
        frames: The bones.
        parameters: The spine's.
    """
    shape = frames.shape
    femurs = [shape.surface(bone)[0] for bone in (Bone.LEFT_FEMUR, Bone.RIGHT_FEMUR)]
    top_mm = envelope.crotch_mm + IN_TRUNK_MM
    spine_top_mm = envelope.crest_mm + SPINE_ABOVE_CREST_MM
    spine = lumbar_spine(frames, parameters, spine_top_mm)
    trunk = np.concatenate(
        [femur[femur[:, 2] > top_mm] for femur in femurs]
        + [one.center_ras_mm + (VERTEBRA_ENDS * one.half_mm) @ one.rows for one in spine]
    )
    thighs = [femur[femur[:, 2] <= top_mm] for femur in femurs]
    behind_mm = min(float(points[:, 1].min()) for points in (trunk, *thighs)) - BEHIND_MM
    for number in range(ROUNDS):
        lacking = [_lacking_mm(envelope, points) for points in (trunk, *thighs)]
        if max(one.max() for one in lacking) <= 0:
            break
        legs = zip(envelope.thighs_mm, thighs, lacking[1:], strict=True)
        envelope = replace(
            envelope,
            knots_mm=_widened(envelope.knots_mm, trunk, lacking[0]),
            thighs_mm=np.stack([_moved(*leg, growing=number >= ROUNDS // 2) for leg in legs]),
            back_mm=min(envelope.back_mm, behind_mm),
        )
    return envelope


def _lacking_mm(envelope: Envelope, points_mm: NDArray) -> NDArray:
    """(N,) how much farther out the skin should be at each point, mm; below 0 where it is."""
    axes = tuple(points_mm.astype(np.float32).T)
    return envelope.distances(axes)[1] + UNDER_SKIN_MM


def _between(heights_mm: NDArray, points_mm: NDArray, lacking_mm: NDArray) -> list[int | None]:
    """For each height the point that lacks most between its neighbours, or None."""
    last = len(heights_mm) - 1
    worst: list[int | None] = []
    for number in range(len(heights_mm)):
        low = heights_mm[number - 1] if number else -np.inf
        high = heights_mm[number + 1] if number < last else np.inf
        near = np.flatnonzero((points_mm[:, 2] > low) & (points_mm[:, 2] < high))
        most = near[lacking_mm[near].argmax()] if len(near) else None
        worst.append(None if most is None or lacking_mm[most] <= 0 else int(most))
    return worst


def _widened(knots_mm: NDArray, points_mm: NDArray, lacking_mm: NDArray) -> NDArray:
    """Knots of the trunk, each wider and deeper by what the worst point beside it lacks."""
    wider = knots_mm.copy()
    for knot, number in zip(wider, _between(knots_mm[:, 0], points_mm, lacking_mm), strict=True):
        if number is None:
            continue
        x, y, _ = points_mm[number]
        middle = knot[2:].mean()
        growth = lacking_mm[number] / max(np.hypot(x, y - middle), 1.0)
        knot[2 if y > middle else 3] += growth * (y - middle)
        knot[1] *= 1 + growth * x * x / (x * x + (y - middle) ** 2)
    return wider


def _moved(stations_mm: NDArray, points_mm: NDArray, lacking_mm: NDArray, growing: bool) -> NDArray:
    """Stations of a thigh, each moved towards the worst point beside it by what that lacks.

    Where a thigh is too thin to be moved over all points, it must grow, too.
    """
    moved = stations_mm.copy()
    worst = _between(stations_mm[:, 2], points_mm, lacking_mm)
    for station, number in zip(moved, worst, strict=True):
        if number is not None:
            towards = points_mm[number, :2] - station[:2]
            distance = max(np.linalg.norm(towards), 1.0)
            station[:2] += lacking_mm[number] * towards / distance
            station[3:] += 0.25 * lacking_mm[number] * growing
    return moved
