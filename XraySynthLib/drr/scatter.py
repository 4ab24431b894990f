"""Scattered radiation, by superposition of broad kernels on a coarse grid.

Empirical: the amplitude follows the form of Sun and Star-Lack (2010, eq. 5) with both exponents 1,
the widths are typical of a C-arm without a grid. It is no Monte Carlo simulation.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from XraySynthLib.drr.coarse import at_pixels, block_means

COARSE_PIXELS = 48
KERNELS = ((0.3, 12.0), (0.7, 55.0))
"""(weight, standard deviation on the detector, mm); the weights sum to 1."""


def scattered(transmission: NDArray, strength: float, pixel_spacing_mm: NDArray) -> NDArray:
    """Scatter that reaches each pixel: strength * (P -ln P) spread by the kernels.

    Behind 20 cm of water (-ln P about 4.4) the scatter-to-primary ratio is about 4.4 times the
    strength: 0.08 stands for a C-arm with a grid, 0.3 for one without.

    Args:
        transmission: (rows, columns) primary signal P, 1 in the open beam.
        strength: The amplitude above; 0 means none.
        pixel_spacing_mm: (2,) column, row.

    Returns:
        (rows, columns) float32, in the units of `transmission`.
    """
    source = -transmission * np.log(np.maximum(transmission, 1e-12))
    factors = np.maximum(1, np.array(source.shape) // COARSE_PIXELS)
    coarse = block_means(source, factors)
    spacing_mm = pixel_spacing_mm[::-1] * factors
    spread = np.zeros_like(coarse)
    for weight, sigma_mm in KERNELS:
        sigma_px = np.minimum(sigma_mm / spacing_mm, coarse.shape)  # wider changes little
        spread += weight * ndimage.gaussian_filter(coarse, sigma_px, mode="nearest")
    return (strength * at_pixels(spread, factors, source.shape)).astype(np.float32)
