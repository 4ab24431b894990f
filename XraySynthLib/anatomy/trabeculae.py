"""Hounsfield units inside the cortex: how dense where, and the grain along the load's lines.

Regional values: vertebrae after Jang et al. 2019 (Radiology 291: 226 HU before 30 years, 89 from
90 on); the femoral head's 250-350 HU, neck and Ward's triangle far less, trochanter near fat are
textbook values; sacral body about 130, ala 0-60 and ilium 100-200 HU are set by eye. Singh's groups
give the femur's lines. Sources: `Testing/benchmark/published_ranges.csv`.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.primitives import ramp
from XraySynthLib.anatomy.sacrum import FORAMINA_DEG, SEGMENT_DEG, sacral_turn
from XraySynthLib.anatomy.shape_model import load_shape_model

NOISE_SIZE = 64


def noise_table(rng: np.random.Generator) -> NDArray:
    """(64, 64, 64) periodic smooth noise, standard deviation 1, correlated over a cell or so."""
    table = rng.standard_normal((NOISE_SIZE,) * 3, dtype=np.float32)
    table = ndimage.gaussian_filter(table, 0.7, mode="wrap")
    return table / table.std()


def grain(table: NDArray, coordinates: tuple[NDArray, ...]) -> NDArray:
    """Noise at (N,) coordinates, in cells of the table."""
    return ndimage.map_coordinates(table, np.stack(coordinates), order=1, mode="grid-wrap")


def _bell(values: NDArray, middle: float, width: float) -> NDArray:
    return np.exp(-(((values - middle) / width) ** 2))


def _streaks(table: NDArray, across: NDArray, along: NDArray, depth: NDArray) -> NDArray:
    """Plates seen edge on in AP views: fine across the load's lines, long along, deep; mm."""
    return grain(table, (across / 2.1, along / 16, depth / 14))


def femur_hu(mean_points: NDArray, bone: Bone, table: NDArray) -> NDArray:
    """(N,) HU inside a proximal femur.

    Args:
        mean_points: (N, 3) places on the mean, mm.
        bone: Left or right femur.
        table: From `noise_table`.
    """
    left = bone is Bone.LEFT_FEMUR
    x, y, z = (mean_points - load_shape_model().mean.head(bone)[0]).T
    out = -x if left else x
    # Principal compressive group: fans up from the calcar, at (26, -75), into the head.
    angle = np.arctan2(out - 26, z + 75)
    climb = np.hypot(out - 26, z + 75)
    compressive = _bell(angle, -0.30, 0.26) * ramp(climb, 18, 45)
    # Principal tensile group: arcs from the lateral cortex over the neck into the lower head.
    arc = np.hypot(out - 12, z + 62)
    turn = np.arctan2(z + 62, out - 12)
    tensile = _bell(arc, 54, 8) * ramp(z, -65, -35)
    # Secondary compressive group: from the lesser trochanter up to the greater.
    rise = 0.8 * (out - 30) - 0.6 * (z + 40)
    secondary = _bell(rise, 2, 9) * ramp(out, 18, 34) * ramp(z, -70, -50) * (out < 64)
    base = -35 + 300 * compressive + 200 * tensile + 60 * secondary
    base += 60 * (1 - ramp(np.sqrt(out**2 + y**2 + z**2), 15, 27))
    base += 50 * _bell(out, 62, 12) * ramp(z, -40, -15)  # trochanter
    base -= 70 * _bell(out, 33, 9) * _bell(z, -28, 10)  # Ward's triangle
    shaft = 1 - ramp(z, -105, -70)
    base = base * (1 - shaft) - 40 * shaft
    fan = _streaks(table, 68 * angle, climb, y)
    arcs = _streaks(table, arc, 50 * turn, y + 90)
    crossing = _streaks(table, rise, 0.6 * out + 0.8 * z, y + 180)
    lines = 150 * compressive * fan + 110 * tensile * arcs + 45 * secondary * crossing
    return base + lines * (1 - shaft) + 42 * grain(table, (out / 1.6, y / 1.6, z / 2.2))


def hemipelvis_hu(mean_points: NDArray, bone: Bone, table: NDArray) -> NDArray:
    """(N,) HU inside a hemipelvis: densest over the roof, where the load's lines gather.

    The lines fan from the roof up to crest and sacroiliac joint and down to the ischium.
    """
    center = load_shape_model().mean.head(
        Bone.LEFT_FEMUR if bone is Bone.LEFT_HEMIPELVIS else Bone.RIGHT_FEMUR
    )[0]
    x, y, z = (mean_points - center).T
    out = x if bone is Bone.RIGHT_HEMIPELVIS else -x
    far = np.hypot(out, z)
    roof = _bell(np.sqrt(x * x + y * y + z * z), 28, 13) * ramp(z, 2, 22)
    joint = np.exp(-(((mean_points - [0, -55, 70]) * [0, 1, 1]) ** 2).sum(1) / 2 / 24**2)
    above, below = ramp(z, 5, 25), 1 - ramp(z, -35, -15)
    line = _streaks(table, 46 * np.arctan2(out + 0.25 * y, z), 0.6 * far, y)
    base = 45 + 290 * roof + 120 * joint
    return (
        base
        + (75 * above + 45 * below + 45 * roof) * line
        + 48 * grain(table, tuple(mean_points.T / 1.7))
    )


def sacrum_hu(mean_points: NDArray, table: NDArray) -> NDArray:
    """(N,) HU inside the sacrum: bodies denser than the wings, dense where they have fused."""
    x, y, z = mean_points.T
    body = _bell(x, 0, 26) * ramp(z, 20, 70)
    level_deg = np.rad2deg(sacral_turn(y, z)) - FORAMINA_DEG[0]
    seam_deg = np.mod(level_deg + SEGMENT_DEG / 2, SEGMENT_DEG) - SEGMENT_DEG / 2
    seams = 260 * _bell(seam_deg, 0, 1.5) * _bell(x, 0, 17) * (level_deg < SEGMENT_DEG / 2)
    upright = grain(table, (x / 1.9, y / 1.9, z / 4))
    wings = _streaks(table, 0.6 * np.abs(x) + 0.8 * z, 0.8 * np.abs(x) - 0.6 * z, y)
    return 20 + 140 * body + seams + 45 * upright + 75 * (1 - body) * wings


def vertebra_hu(local: NDArray, table: NDArray, offset: float) -> NDArray:
    """(N,) HU inside a vertebra, its grain upright; `local` (N, 3) right, forward, up, mm."""
    x, y, z = local.T
    upright = grain(table, (x / 1.9 + offset, y / 1.9, z / 9 + offset))
    return 150 + 48 * upright + 25 * ramp(np.abs(z), 6, 13)
