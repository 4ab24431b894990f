"""Is one detector better than another, on the same images?"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from XraySynthLib.evaluation.bootstrap import LEVEL, N_RESAMPLES, bootstrap_over_subjects, resampled
from XraySynthLib.evaluation.comparison import Comparison


class Difference(NamedTuple):
    """A measure of the first detector less that of the second.

    Attributes:
        value: The difference on all images.
        low: Lower bound of its interval.
        high: Upper bound.
        p_value: Two-sided: twice the smaller share of resamples on either side of 0.
    """

    value: float
    low: float
    high: float
    p_value: float


def paired_difference(
    first: Comparison,
    second: Comparison,
    measure: Callable[[Comparison], float],
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
    level: float = LEVEL,
) -> Difference:
    """Difference of two detectors, subjects drawn for both together.

    What both find difficult cancels, so the interval is narrower than those of the two apart.

    Args:
        first: One detector's predictions and the truth.
        second: The other's, for the same images and landmarks.
        measure: What is compared, say `lambda c: mean_error(c, Plane.DETECTOR)`.
        seed: Seeds the draws.
        n_resamples: How often to draw.
        level: Of the interval.

    Raises:
        ValueError: If the two are not about the same images, landmarks and truth.
    """
    same = (
        first.landmark_names == second.landmark_names
        and np.array_equal(first.keys, second.keys)
        and np.array_equal(first.subjects, second.subjects)
        and np.array_equal(first.visible, second.visible)
        and np.array_equal(first.truth_px, second.truth_px, equal_nan=True)
    )
    if not same:
        raise ValueError("Two detectors are compared on the same images, landmarks and truth.")

    def difference(rows: np.ndarray) -> np.ndarray:
        return np.array([measure(first.take(rows)) - measure(second.take(rows))])

    value, low, high = bootstrap_over_subjects(difference, first.subjects, seed, n_resamples, level)
    values = resampled(difference, first.subjects, seed, n_resamples)
    values = values[np.isfinite(values)]
    # The smallest p that so many draws can show, not 0 (Davison and Hinkley 1997, eq. 4.11).
    sides = [np.count_nonzero(values <= 0) + 1, np.count_nonzero(values >= 0) + 1]
    p_value = min(1.0, 2 * min(sides) / (len(values) + 1))
    if len(np.unique(first.subjects)) < 2:
        p_value = float("nan")
    return Difference(float(value[0]), float(low[0]), float(high[0]), p_value)
