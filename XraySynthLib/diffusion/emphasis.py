"""Fine detail raised to the height of the noise, so that few steps make it sharp.

In line integrals of a pelvis, waves of 32 to 64 cycles an image are 3000 times smaller than those
of less than one; a cortex is lost in the last step's noise. The gain (1 + f^2)^(3/4) / 4, f in
cycles an image, leaves 14 times. It is an exact filter of the cosine transform (DCT-II: the image
goes on beyond its edges as in a mirror), so nothing is lost, and what is mirrored stays mirrored.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn, idctn

GAIN, EXPONENT = 0.25, 1.5


def emphasised(images: NDArray) -> NDArray:
    """Raise detail.

    Args:
        images: (..., rows, columns).

    Returns:
        The same shape, float32.
    """
    return _filtered(images, _gain(images.shape[-2:]))


def plain(images: NDArray) -> NDArray:
    """The inverse of `emphasised`."""
    return _filtered(images, 1 / _gain(images.shape[-2:]))


def _filtered(images: NDArray, gain: NDArray) -> NDArray:
    waves = dctn(images.astype(np.float32), axes=(-2, -1), norm="ortho")
    return idctn(waves * gain, axes=(-2, -1), norm="ortho")


def _gain(shape: tuple[int, ...]) -> NDArray:
    rows, columns = (np.arange(count, dtype=np.float32) / 2 for count in shape)
    return GAIN * (1 + rows[:, None] ** 2 + columns**2) ** (EXPONENT / 2)
