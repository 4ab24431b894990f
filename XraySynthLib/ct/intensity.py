"""Hounsfield units as the networks see them: one fixed scale, never fitted to a volume."""

import numpy as np
from numpy.typing import NDArray

LOWEST_HU, HIGHEST_HU = -1024.0, 3071.0
"""What scanners store in 12 bits: cortical bone has headroom, metal saturates."""
UNIT_HU = 1000.0


def from_hu(values_hu: NDArray) -> NDArray:
    """HU to the networks' scale, float32: air -1, water 0, metal at most 3.07."""
    return np.clip(values_hu, LOWEST_HU, HIGHEST_HU).astype(np.float32) / np.float32(UNIT_HU)


def to_hu(values: NDArray) -> NDArray:
    """The networks' scale to whole HU within the scanner's range, float32."""
    return np.clip(np.round(values * np.float32(UNIT_HU)), LOWEST_HU, HIGHEST_HU).astype(np.float32)
