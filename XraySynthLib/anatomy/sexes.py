"""Sex-typical shapes from a model that does not know its people's sex.

The asset names no sex. So a subject's scores are shifted, as little as will do, until subpubic
angle and femoral head differ from the model's mean as the sexes' published means differ from the
mean of both: angle +-9 degrees, head diameter -+2.2 mm (Igbigbi & Nanono-Igbigbi 2003; Asala 2001).
Only part of the shift (`APPLIED`) is made: the scores' spread already holds both sexes.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.shape_model import PelvisShape, load_shape_model

ANGLE_DEG, HEAD_RADIUS_MM = 9.0, -1.1
APPLIED = 0.6
STEP = 0.5  # of a score, for the differences


def subpubic_angle_deg(shape: PelvisShape) -> float:
    """Angle under the symphysis, towards the inner edges of both ischial tuberosities."""
    apex, left, right = (shape.vertices_ras_mm[i].mean(0) for i in _arch_vertices())
    first, second = left - apex, right - apex
    cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    return float(np.degrees(np.arccos(cosine)))


@lru_cache(maxsize=1)
def _arch_vertices() -> tuple[NDArray, NDArray, NDArray]:
    """Vertices at the lower end of the symphysis and on the left and right ischiopubic ramus."""
    model = load_shape_model()
    points = model.mean.vertices_ras_mm
    hips = np.arange(model.parts[Bone.RIGHT_HEMIPELVIS].stop)
    low = hips[(np.abs(points[hips, 0]) < 8) & (points[hips, 1] > 0)]
    apex = low[np.argsort(points[low, 2])[:6]]
    rami = []
    for side in (-1, 1):
        across = points[hips, 0] * side
        ramus = hips[(across > 24) & (across < 30) & (points[hips, 2] < -38)]
        rami.append(ramus[np.argsort(points[ramus, 0] * side)[:6]])
    return apex, rami[0], rami[1]


@lru_cache(maxsize=1)
def _female_shift() -> NDArray:
    """Smallest change of the scores that makes angle and head a typical woman's."""
    model = load_shape_model()

    def measures(scores: NDArray) -> NDArray:
        shape = model.shape(scores)
        return np.array([subpubic_angle_deg(shape), shape.head(Bone.LEFT_FEMUR)[1]])

    rows = [
        (measures(STEP * unit) - measures(-STEP * unit)) / (2 * STEP)
        for unit in np.eye(model.n_modes)
    ]
    return np.linalg.lstsq(np.array(rows).T, np.array([ANGLE_DEG, HEAD_RADIUS_MM]), rcond=None)[0]


def scores_for_sex(scores: NDArray, sex: str) -> NDArray:
    """Shift scores drawn about the mean towards a sex's mean."""
    shift = np.clip(APPLIED * _female_shift(), -1.5, 1.5)
    return scores + (shift if sex == "female" else -shift)
