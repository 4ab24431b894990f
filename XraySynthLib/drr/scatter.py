"""Scattered radiation, by superposition of broad kernels on a coarse grid.

Empirical: the amplitude follows the form of Sun and Star-Lack (2010, eq. 5) with both exponents 1,
the widths are typical of a C-arm without a grid. It is no Monte Carlo simulation.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

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
    coarse = _block_means(source, factors)
    spacing_mm = pixel_spacing_mm[::-1] * factors
    spread = np.zeros_like(coarse)
    for weight, sigma_mm in KERNELS:
        sigma_px = np.minimum(sigma_mm / spacing_mm, coarse.shape)  # wider changes little
        spread += weight * ndimage.gaussian_filter(coarse, sigma_px, mode="nearest")
    return (strength * _at_pixels(spread, factors, source.shape)).astype(np.float32)


def _block_means(image: NDArray, factors: NDArray) -> NDArray:
    """Means of blocks; the last blocks are made whole by repeating the edge."""
    pad = [(0, -size % factor) for size, factor in zip(image.shape, factors, strict=True)]
    padded = np.pad(image, pad, mode="edge")
    rows, columns = np.array(padded.shape) // factors
    blocks = padded.reshape(rows, factors[0], columns, factors[1])
    return blocks.mean(axis=(1, 3), dtype=np.float64)


def _at_pixels(coarse: NDArray, factors: NDArray, shape: tuple[int, ...]) -> NDArray:
    """Interpolate block means linearly at the pixels' centres, rows and columns apart."""
    for axis, (size, factor) in enumerate(zip(shape, factors, strict=True)):
        position = (np.arange(size) + 0.5) / factor - 0.5
        position = np.clip(position, 0, coarse.shape[axis] - 1)
        low = np.minimum(position.astype(int), max(coarse.shape[axis] - 2, 0))
        high = np.minimum(low + 1, coarse.shape[axis] - 1)
        weight = np.expand_dims(position - low, 1 - axis)
        below, above = coarse.take(low, axis), coarse.take(high, axis)
        coarse = below + weight * (above - below)
    return coarse
