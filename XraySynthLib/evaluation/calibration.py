"""Whether a confidence is the probability that it is taken for."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

N_BINS = 10


class Reliability(NamedTuple):
    """What a reliability diagram shows, a value a bin of confidence.

    Attributes:
        count: (B,) how many predictions fall in the bin.
        confidence: (B,) their mean confidence; NaN where there are none.
        frequency: (B,) how often the event happened; NaN where there are none.
    """

    count: NDArray
    confidence: NDArray
    frequency: NDArray


def brier_score(confidence: NDArray, happened: NDArray) -> float:
    """Mean squared difference of confidence and event (Brier 1950); 0 is best.

    Args:
        confidence: (n,) 0..1.
        happened: (n,) bool.
    """
    return float(np.mean((confidence - happened) ** 2)) if len(confidence) else float("nan")


def reliability(confidence: NDArray, happened: NDArray, n_bins: int = N_BINS) -> Reliability:
    """Sort predictions into bins of equal width, [0, 0.1) ... [0.9, 1]."""
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    count = np.bincount(bins, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        return Reliability(
            count,
            np.bincount(bins, confidence, n_bins) / count,
            np.bincount(bins, happened, n_bins) / count,
        )


def expected_calibration_error(
    confidence: NDArray, happened: NDArray, n_bins: int = N_BINS
) -> float:
    """Mean difference of confidence and frequency over bins (Naeini et al. 2015, eq. 3)."""
    if not len(confidence):
        return float("nan")
    found = reliability(confidence, happened, n_bins)
    gaps = np.abs(found.confidence - found.frequency)
    return float(np.nansum(gaps * found.count) / len(confidence))
