"""Images on a grid coarser than their pixels, where what is smooth costs little."""

import numpy as np
from numpy.typing import NDArray


def block_means(image: NDArray, factors: NDArray) -> NDArray:
    """Means of blocks; the last blocks are made whole by repeating the edge."""
    pad = [(0, -size % factor) for size, factor in zip(image.shape, factors, strict=True)]
    padded = np.pad(image, pad, mode="edge")
    rows, columns = np.array(padded.shape) // factors
    blocks = padded.reshape(rows, factors[0], columns, factors[1])
    return blocks.mean(axis=(1, 3), dtype=np.float64)


def at_pixels(coarse: NDArray, factors: NDArray, shape: tuple[int, ...]) -> NDArray:
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
