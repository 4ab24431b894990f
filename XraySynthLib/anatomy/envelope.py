"""The body's outline: the muscles' fascia around the bones, and the skin over the fat.

Cross-sections of the trunk are superellipses whose width, front and back follow knots taken from
the bones; each thigh is a tapering tube; where they meet the outline is rounded.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from XraySynthLib.anatomy.parameters import SubjectParameters
from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.primitives import Axes, smooth_max, smooth_min
from XraySynthLib.anatomy.shape_model import PelvisShape

EXPONENT = 2.35
CROTCH_BELOW_ISCHIUM_MM = 26.0
OVER_BONE_MM = 6.0
"""Skin and fat where bone lies right under the skin."""


@dataclass(frozen=True, eq=False)
class Envelope:
    """Outline of one subject.

    Attributes:
        knots_mm: (N, 4) z, half width, front y, back y of the fascia of the trunk, RAS, mm.
        thighs_mm: (2, 4, 5) for each leg four stations: x, y, z, half width, half depth.
        crotch_mm: z where the legs part.
        fat_mm: Mean thickness of the fat.
        crest_mm: z of the iliac crests.
        back_mm: y of the back, flattened where it lies.
    """

    knots_mm: NDArray
    thighs_mm: NDArray
    crotch_mm: float
    fat_mm: float
    crest_mm: float
    back_mm: float

    def distances(self, axes: Axes) -> tuple[NDArray, NDArray]:
        """Signed distances to the fascia and to the skin, mm."""
        fascia = self._fascia(axes)
        skin = fascia - self._fat(axes)
        skin = smooth_max(skin, np.float32(self.back_mm) - axes[1], 25.0)
        skin = skin + self._cleft(axes) + self._crease(axes)
        return np.maximum(fascia, skin + np.float32(3)), skin

    def _fascia(self, axes: Axes) -> NDArray:
        x, y, z = axes
        width, front, back = (
            PchipInterpolator(self.knots_mm[:, 0], column, extrapolate=False)(
                np.clip(z, self.knots_mm[0, 0], self.knots_mm[-1, 0])
            ).astype(np.float32)
            for column in self.knots_mm[:, 1:].T
        )
        trunk = _section(x, y - (front + back) / 2, width, (front - back) / 2)
        trunk = smooth_max(trunk, np.float32(self.crotch_mm) - z, 30.0)
        legs = None
        for stations in self.thighs_mm:
            heights = stations[:, 2]
            at_z = [np.interp(z, heights, column).astype(np.float32) for column in stations.T]
            leg = _section(x - at_z[0], y - at_z[1], at_z[3], at_z[4])
            leg = smooth_max(leg, z - np.float32(self.crotch_mm + 60), 40.0)
            legs = leg if legs is None else np.minimum(legs, leg)
        return smooth_min(trunk, legs, 30.0)

    def _fat(self, axes: Axes) -> NDArray:
        x, y, z = axes
        along = [self.crotch_mm - 150, self.crotch_mm - 40, -10, 60, self.crest_mm + 20]
        side = np.interp(z, [*along, self.crest_mm + 120], [0.5, 0.8, 0.9, 1.0, 0.9, 0.6])
        rear = np.interp(z, [*along, self.crest_mm + 120], [0.45, 1.0, 1.25, 1.0, 0.7, 0.5])
        fore = np.interp(z, [*along, self.crest_mm + 120], [0.35, 0.5, 0.8, 1.1, 1.1, 0.9])
        across = x * x / (x * x + (y + 15) ** 2 + 1)
        facing = np.where(y > -15, fore, rear).astype(np.float32)
        share = across * side.astype(np.float32) + (1 - across) * facing
        return np.float32(self.fat_mm) * share + np.float32(2)

    def _cleft(self, axes: Axes) -> NDArray:
        """Depth of the gluteal cleft, which shows as a line on AP films."""
        x, y, z = axes
        low = np.clip((35 - z) / 40, 0, 1) * np.clip((-25 - y) / 40, 0, 1)
        deep = np.float32(4 + 0.1 * self.fat_mm)
        middle = np.float32(3) * np.sin(z / 23)  # buttocks press against each other unevenly
        return deep * low.astype(np.float32) * np.exp(-(((x - middle) / 7) ** 2))

    def _crease(self, axes: Axes) -> NDArray:
        """Depth of the groin's crease; under a hanging belly skin lies on skin, with little air."""
        x, y, z = axes
        across = np.abs(x)
        line = np.float32(6) + np.float32(0.42) * np.maximum(across - 20, 0)
        deep = np.float32(min(2 + 0.45 * max(self.fat_mm - 18, 0), 14))
        front = np.clip((y - 5) / 40, 0, 1) * np.clip((135 - across) / 40, 0, 1)
        return deep * front * np.exp(-(((z - line) / 16) ** 2))


def _section(x: NDArray, y: NDArray, width: NDArray, depth: NDArray) -> NDArray:
    """Distance along the radius to a superellipse, mm."""
    exponent = np.float32(EXPONENT)
    level = ((np.abs(x) / width) ** exponent + (np.abs(y) / depth) ** exponent) ** (1 / exponent)
    radius = np.sqrt(x * x + y * y)
    inner = -np.minimum(width, depth)
    return np.where(level > 0.05, radius * (1 - 1 / np.maximum(level, 0.05)), inner)


def envelope_of(shape: PelvisShape, parameters: SubjectParameters) -> Envelope:
    """Fit the outline around a subject's bones."""
    hips = np.concatenate(
        [shape.surface(b)[0] for b in (Bone.LEFT_HEMIPELVIS, Bone.RIGHT_HEMIPELVIS)]
    )
    sacrum = shape.surface(Bone.SACRUM)[0]
    femurs = {b: shape.surface(b)[0] for b in (Bone.LEFT_FEMUR, Bone.RIGHT_FEMUR)}
    trochanter = max(np.abs(v[v[:, 2] > -60, 0]).max() for v in femurs.values()) + 6
    crest, ischium = hips[:, 2].max(), hips[:, 2].min()
    wing = np.abs(hips[:, 0]).max() + 9
    front, pubis = hips[:, 1].max(), hips[hips[:, 2] < 25, 1].max()
    back = sacrum[:, 1].min() - 7 * parameters.muscle
    belly, crotch = parameters.belly_mm, ischium - CROTCH_BELOW_ISCHIUM_MM
    waist = wing * (0.90 if parameters.sex == "female" else 0.97) + 0.2 * belly
    knots = np.array(
        [
            [crotch - 60, 0.93 * trochanter, pubis - 4, back + 22],
            [crotch, 0.98 * trochanter, pubis + 2, back + 12],
            [-10, trochanter, pubis + 9, back + 3],
            [45, 0.5 * (trochanter + wing), max(front - 2, pubis + 8) + 0.35 * belly, back],
            [crest - 40, wing, front + 4 + 0.75 * belly, back],
            [crest + 15, 0.98 * wing + 0.1 * belly, front + 6 + 0.95 * belly, back + 4],
            [crest + 70, waist, front + 4 + belly, back + 8],
            [crest + 180, 1.03 * waist, front + 6 + 0.9 * belly, back + 2],
            [crest + 330, 1.08 * waist, front + 10 + 0.7 * belly, back - 4],
        ]
    )
    fat = parameters.fat_mm
    envelope = Envelope(
        knots_mm=knots,
        thighs_mm=np.stack(
            [_thigh(v, crotch, 0.97 * trochanter, knots[1, 2:], fat) for v in femurs.values()]
        ),
        crotch_mm=float(crotch),
        fat_mm=fat,
        crest_mm=float(crest),
        back_mm=float(back - 0.62 * fat - 4),
    )
    return _around(envelope, np.concatenate([hips, sacrum]))


def _around(envelope: Envelope, points: NDArray) -> Envelope:
    """Widen the trunk where points would be less than `OVER_BONE_MM` under the skin.

    Each knot grows about its middle by what the points near its height lack, so the outline stays
    smooth.
    """
    axes = tuple(points.T.astype(np.float32))
    for _ in range(8):
        lack_mm = envelope.distances(axes)[1] + OVER_BONE_MM
        out = lack_mm > 0
        if not out.any():
            break
        knots = envelope.knots_mm.copy()
        x, y, z = points[out].T
        for knot in knots:
            near = np.maximum(1 - np.abs(z - knot[0]) / 70, 0)
            middle, half = (knot[2] + knot[3]) / 2, (knot[2] - knot[3]) / 2
            wanted = lack_mm[out] * near / np.maximum(np.hypot(x, y - middle), 30)
            grown = 1 + 1.1 * float(wanted.max(initial=0))
            knot[1:] = knot[1] * grown, middle + half * grown, middle - half * grown
        envelope = replace(
            envelope, knots_mm=knots, back_mm=min(envelope.back_mm, points[:, 1].min() - 7)
        )
    return envelope


def _thigh(femur: NDArray, crotch: float, outer: float, depth: NDArray, fat: float) -> NDArray:
    """Stations of one thigh, low to high, from what lies beside the trunk at its top.

    Args:
        femur: (N, 3) vertices of the femur, RAS, mm.
        crotch: z where the legs part.
        outer: Half width of the trunk at the trochanters.
        depth: (2,) front and back y of the trunk there.
        fat: Thickness of the fat, which keeps the legs apart.
    """
    side = np.sign(femur[:, 0].mean())
    high = femur[np.abs(femur[:, 2] - crotch) < 25].mean(0)
    low = femur[np.abs(femur[:, 2] - (crotch - 160)) < 25].mean(0)
    drift = (low - high) / (low[2] - high[2])
    stations = []
    for below, share in ((320.0, 0.76), (140.0, 0.93), (20.0, 0.98), (-100.0, 0.94)):
        inner = 3 + 0.3 * fat
        half_x = share * (outer - inner) / 2
        half_y = share * 0.97 * (depth[0] - depth[1]) / 2
        x = abs((outer + inner) / 2 + side * drift[0] * -max(below, 0))
        x = max(x, half_x + inner * 0.9)
        y = depth.mean() - drift[1] * max(below, 0)
        stations.append([side * x, y, crotch - below, half_x, half_y])
    return np.array(stations)
