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


def _step(values: NDArray, low: float, high: float) -> NDArray:
    share = np.clip((values - low) / (high - low), 0, 1)
    return share * share * (3 - 2 * share)


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
    # Compressive group: fans up from the calcar, at (22, -55), into the head.
    angle = np.arctan2(out - 26, z + 75)
    climb = np.hypot(out - 26, z + 75)
    compressive = _bell(angle, -0.34, 0.36) * _step(climb, 18, 45)
    # Tensile group: arcs from the lateral cortex over the neck into the head's lower half.
    arc = np.hypot(out - 12, z + 62)
    tensile = _bell(arc, 55, 9) * _step(z, -65, -35)
    base = -10 + 230 * compressive + 130 * tensile
    base += 90 * (1 - _step(np.sqrt(out**2 + y**2 + z**2), 15, 27))
    base += 40 * _bell(out, 62, 14) * _step(z, -40, -15)  # trochanter
    base -= 60 * _bell(out, 32, 8) * _bell(z, -22, 9)  # Ward's triangle
    base = np.where(z < -70, base * _step(z, -105, -70) - 30 * (1 - _step(z, -105, -70)), base)
    fan = grain(table, (angle * 26, climb / 14, y / 3.0))
    arcs = grain(table, (arc / 1.7, np.arctan2(z + 62, out - 12) * 3, y / 3.0 + 20))
    lines = (compressive * fan + tensile * arcs) * 75
    return base + lines + 42 * grain(table, (out / 1.6, y / 1.6, z / 2.2))


def _pelvic_lines(mean_points: NDArray, table: NDArray) -> NDArray:
    """Grain along arcs from the sacroiliac joint to the acetabulum's roof and up the wing."""
    x, y, z = np.abs(mean_points[:, 0]), mean_points[:, 1], mean_points[:, 2]
    arc = np.hypot(y + 75, z + 10)
    return grain(table, (arc / 2.0, np.arctan2(z + 10, y + 75) * 6, x / 2.5))


def hemipelvis_hu(mean_points: NDArray, bone: Bone, table: NDArray) -> NDArray:
    """(N,) HU inside a hemipelvis: densest over the roof and along the arcuate line."""
    center = load_shape_model().mean.head(
        Bone.LEFT_FEMUR if bone is Bone.LEFT_HEMIPELVIS else Bone.RIGHT_FEMUR
    )[0]
    offsets = mean_points - center
    roof = _bell(np.linalg.norm(offsets, axis=1), 30, 12) * _step(offsets[:, 2], -5, 20)
    joint = np.exp(-(((mean_points - [0, -55, 70]) * [0, 1, 1]) ** 2).sum(1) / 2 / 24**2)
    lines = _pelvic_lines(mean_points, table)
    base = 60 + 230 * roof + 110 * joint
    return base + (55 + 45 * roof) * lines + 48 * grain(table, tuple(mean_points.T / 1.7))


def sacrum_hu(mean_points: NDArray, table: NDArray) -> NDArray:
    """(N,) HU inside the sacrum: bodies denser than the wings."""
    x, y, z = mean_points.T
    body = _bell(x, 0, 26) * _step(z, 20, 70)
    segments = 40 * _bell(np.mod(z - 0.5 * y - 14, 31), 15.5, 4) * _bell(x, 0, 22)
    base = 25 + 130 * body + segments * (z < 85)
    upright = grain(table, (x / 1.9, y / 1.9, z / 4))
    return base + 42 * upright + 28 * _pelvic_lines(mean_points, table)


def vertebra_hu(local: NDArray, table: NDArray, offset: float) -> NDArray:
    """(N,) HU inside a vertebra, its grain upright; `local` (N, 3) right, forward, up, mm."""
    x, y, z = local.T
    upright = grain(table, (x / 1.9 + offset, y / 1.9, z / 9 + offset))
    return 150 + 48 * upright + 25 * _step(np.abs(z), 6, 13)
