"""Can these numbers be Hounsfield units? Rules that a file must pass to be taken as a CT."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data.formats.problems import unreadable

AIR_FLOOR_HU = -1024.0
"""Scanners pad with -2048, -3024 and others outside the field of view: all of it is air."""
MAX_ABS_HU = 1e5
"""Extended CT scales end near 65 000."""
MIN_RANGE_HU = 50.0


def checked_hu(values: NDArray, path: Path) -> NDArray:
    """Return `values` (K, J, I) as float32 HU with everything under -1024 raised to -1024.

    A file is refused when a value is not finite or beyond +-100 000, when all values lie within
    50 of each other (an image scaled to 0..1, a standardised or a constant one), or when none is
    below 0 (a label map, an MR, or a CT whose rescale intercept was lost): any CT of a patient
    holds air or fat.

    Raises:
        UnreadableFileError: With what was found.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # inf and NaN are refused just below
        values = values.astype(np.float32, copy=False)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        count = int(values.size - np.isfinite(values).sum())
        raise unreadable(path, f"it holds {count} values that are NaN or infinite.")
    if high > MAX_ABS_HU or low < -MAX_ABS_HU:
        raise unreadable(path, f"its values reach from {low:g} to {high:g}, which are not HU.")
    if high - low < MIN_RANGE_HU:
        raise unreadable(
            path, f"its values span only {low:g} to {high:g}, a CT in HU spans hundreds."
        )
    if low >= 0:
        raise unreadable(
            path,
            f"its values are {low:g} to {high:g} with none below 0, so they are not HU: a label "
            "map, an MR or a CT without its rescale intercept?",
        )
    return np.maximum(values, np.float32(AIR_FLOOR_HU))
