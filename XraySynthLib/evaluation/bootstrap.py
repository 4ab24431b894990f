"""Confidence intervals by drawing subjects, not images.

Images of one subject resemble each other: drawn one by one they would make intervals too narrow.
So whole subjects are drawn with replacement (the cluster bootstrap: Davison and Hinkley 1997,
section 3.8; percentile intervals, section 5.3).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

N_RESAMPLES, LEVEL = 2000, 0.95
FEW_SUBJECTS = 10
"""With fewer, percentile intervals are known to be too narrow."""

Statistic = Callable[[NDArray], NDArray]
"""From (n,) numbers of images, each as often as it was drawn, to (M,) values."""


class Interval(NamedTuple):
    """Values and their intervals, (M,) each; the bounds are NaN where there is one subject."""

    value: NDArray
    low: NDArray
    high: NDArray


def rows_of_subjects(subjects: NDArray) -> list[NDArray]:
    """Numbers of each subject's images, subjects in order of their names."""
    return [np.flatnonzero(subjects == name) for name in np.unique(subjects)]


def resampled(
    statistic: Statistic, subjects: NDArray, seed: int = 0, n_resamples: int = N_RESAMPLES
) -> NDArray:
    """Values of a statistic when subjects are drawn with replacement.

    Args:
        statistic: The statistic.
        subjects: (N,) whom each image shows.
        seed: Seeds the draws, which depend on nothing but it and the number of subjects.
        n_resamples: How often to draw.

    Returns:
        (n_resamples, M).
    """
    rows = rows_of_subjects(subjects)
    drawn = np.random.default_rng((seed, 0)).integers(0, len(rows), (n_resamples, len(rows)))
    return np.array([statistic(np.concatenate([rows[s] for s in draw])) for draw in drawn])


def bootstrap_over_subjects(
    statistic: Statistic,
    subjects: NDArray,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """A statistic's values with percentile intervals.

    Args:
        statistic: See `Statistic`; resamples for which it is NaN are left out.
        subjects: (N,) whom each image shows.
        seed: Seeds the draws.
        n_resamples: How often to draw; 0 for no intervals.
        level: Share of the resamples within the interval.
    """
    value = np.asarray(statistic(np.arange(len(subjects))), dtype=np.float64)
    low, high = np.full_like(value, np.nan), np.full_like(value, np.nan)
    if len(np.unique(subjects)) > 1 and n_resamples > 0:
        values = resampled(statistic, subjects, seed, n_resamples)
        said = np.isfinite(values).any(axis=0) & np.isfinite(value)
        tails = [(1 - level) / 2, (1 + level) / 2]
        if said.any():
            low[said], high[said] = np.nanquantile(values[:, said], tails, axis=0)
    return Interval(value, low, high)
