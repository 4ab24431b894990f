"""Grey values to grey values through a pixel's neighbours or by chance: blur, noise, holes.

The kinds and their meaning are those of the SyntheX recipe; all take and return 0..1.
"""

from abc import ABC
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data.randomisation.operations import Operation

POOLS = ("mean", "max", "min", "median")


@dataclass(frozen=True)
class GaussianBlur(Operation):
    """Out of focus.

    Attributes:
        sigma_px: Standard deviation.
    """

    sigma_px: float

    def __call__(self, values: NDArray, rng: np.random.Generator) -> NDArray:
        """Apply it."""
        import cv2

        if self.sigma_px <= 0:
            return values
        sigma = self.sigma_px
        return cast(
            NDArray, cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
        )


@dataclass(frozen=True)
class AverageBlur(Operation):
    """The mean of a square around each pixel.

    Attributes:
        size_px: Side of the square, made odd so that nothing shifts.
    """

    size_px: int

    def __call__(self, values: NDArray, rng: np.random.Generator) -> NDArray:
        """Apply it."""
        import cv2

        size = self.size_px | 1
        return cast(NDArray, cv2.blur(values, (size, size), borderType=cv2.BORDER_REPLICATE))


@dataclass(frozen=True)
class Sharpen(Operation):
    """Blend with what a 3 x 3 Laplacian sharpens.

    Attributes:
        alpha: Share of the sharpened image.
        lightness: Weight of the pixel itself beyond its neighbours', about 1.
    """

    alpha: float
    lightness: float

    def __call__(self, values: NDArray, rng: np.random.Generator) -> NDArray:
        """Apply it."""
        kernel = np.full((3, 3), -1.0)
        kernel[1, 1] = 8 + self.lightness
        return _blended(values, kernel, self.alpha)


@dataclass(frozen=True)
class Emboss(Operation):
    """Blend with a relief lit from the upper left.

    Attributes:
        alpha: Share of the relief.
        strength: Its depth.
    """

    alpha: float
    strength: float

    def __call__(self, values: NDArray, rng: np.random.Generator) -> NDArray:
        """Apply it."""
        s = self.strength
        kernel = np.array([[-1 - s, -s, 0], [-s, 1, s], [0, s, 1 + s]])
        return _blended(values, kernel, self.alpha)


@dataclass(frozen=True)
class Pool(Operation):
    """Coarser pixels, of the size they were.

    Attributes:
        kind: "mean", "max", "min" or "median".
        size_px: Side of the block that becomes one value.

    Raises:
        ValueError: If the kind is unknown or there is no block.
    """

    kind: str
    size_px: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in POOLS or self.size_px < 1:
            raise ValueError(f"A pool is one of {POOLS} of 1 pixel or more.")

    def __call__(self, values: NDArray, rng: np.random.Generator) -> NDArray:
        """Apply it."""
        size = self.size_px
        rows, columns = values.shape
        padded = np.pad(values, ((0, -rows % size), (0, -columns % size)), mode="edge")
        blocks = np.stack([padded[r::size, c::size] for r in range(size) for c in range(size)])
        pooled = _reduced(blocks, self.kind)
        return pooled.repeat(size, axis=0).repeat(size, axis=1)[:rows, :columns]


@dataclass(frozen=True)
class GaussianNoise(Operation):
    """Noise of every pixel alike, or in grains.

    Attributes:
        sigma: Standard deviation.
        grain_px: Size of the grains; between their middles it is interpolated.
    """

    sigma: float
    grain_px: int = 1

    def __call__(self, values: NDArray, rng: np.random.Generator) -> NDArray:
        """Apply it."""
        shape = _coarse_shape(values, self.grain_px)
        noise = rng.standard_normal(shape, dtype=np.float32) * np.float32(self.sigma)
        return values + _finer(noise, values, smooth=True)


@dataclass(frozen=True)
class Speckle(Operation):
    """Each pixel brighter or darker by a factor of its own.

    Attributes:
        low: Least factor.
        high: Greatest.
    """

    low: float
    high: float

    def __call__(self, values: NDArray, rng: np.random.Generator) -> NDArray:
        """Apply it."""
        factors = rng.random(values.shape, dtype=np.float32)
        return values * (np.float32(self.low) + np.float32(self.high - self.low) * factors)


@dataclass(frozen=True)
class _OfCells(Operation, ABC):
    """What changes some cells of the image.

    Attributes:
        share: Of the cells, drawn with replacement.
        cell_px: Their side.
    """

    share: float
    cell_px: int = 1

    def drawn(self, values: NDArray, rng: np.random.Generator) -> NDArray:
        """(coarse rows, coarse columns) uint8, 1 in the cells that change."""
        cells = np.zeros(_coarse_shape(values, self.cell_px), np.uint8)
        cells.ravel()[rng.integers(cells.size, size=round(self.share * cells.size))] = 1
        return cells


@dataclass(frozen=True)
class SaltAndPepper(_OfCells):
    """Cells made black or white."""

    def __call__(self, values: NDArray, rng: np.random.Generator) -> NDArray:
        """Apply it."""
        cells = self.drawn(values, rng)
        cells[cells == 1] += rng.integers(0, 2, np.count_nonzero(cells), dtype=np.uint8)
        fine = _finer(cells, values, smooth=False)
        return np.where(fine == 0, values, (fine - np.uint8(1)).astype(np.float32))


@dataclass(frozen=True)
class Dropout(_OfCells):
    """Cells with nothing in them."""

    def __call__(self, values: NDArray, rng: np.random.Generator) -> NDArray:
        """Apply it."""
        return values * (_finer(self.drawn(values, rng), values, smooth=False) == 0)


def _reduced(blocks: NDArray, kind: str) -> NDArray:
    if kind == "max":
        return cast(NDArray, blocks.max(axis=0))
    if kind == "min":
        return cast(NDArray, blocks.min(axis=0))
    if kind == "median":  # the upper one of an even number, half the work
        return np.partition(blocks, len(blocks) // 2, axis=0)[len(blocks) // 2]
    return cast(NDArray, blocks.mean(axis=0, dtype=np.float32))


def _blended(values: NDArray, kernel: NDArray, alpha: float) -> NDArray:
    import cv2

    blend = alpha * kernel
    blend[1, 1] += 1 - alpha
    return cast(NDArray, cv2.filter2D(values, -1, blend, borderType=cv2.BORDER_REPLICATE))


def _coarse_shape(values: NDArray, cell_px: int) -> tuple[int, int]:
    rows, columns = values.shape
    cell_px = max(cell_px, 1)
    return -(-rows // cell_px), -(-columns // cell_px)


def _finer(coarse: NDArray, values: NDArray, smooth: bool) -> NDArray:
    """Cells as pixels of `values`."""
    if coarse.shape == values.shape:
        return coarse
    import cv2

    rows, columns = values.shape
    mode = cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST
    return cast(NDArray, cv2.resize(coarse, (columns, rows), interpolation=mode))
