"""From any X-ray to what the network sees, and its points back.

Nothing is asked of the image: no size, bit depth, spacing, polarity or contrast. Grey values become
ranks, so any rising curve (a window, a gamma, linear or logarithmic display) changes nothing but
what it clips; polarity is left to the network, which is trained on both.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data import Quantity, Xray

N_CHANNELS = 2
"""Ranks in the whole image, and each pixel against its surroundings."""
RANK_STEPS = 1024
FLAT_SHARE = 0.05
"""A grey that so many pixels have is a shutter, a background or clipped: it is no anatomy, and
takes no part in the ranks."""
NEIGHBOURHOOD = 1 / 12
"""Standard deviation of a pixel's surroundings, a share of the network's side."""
MIN_TRANSMISSION = 1e-7


@dataclass(frozen=True)
class Placement:
    """How an image lies on the network's square grid.

    Attributes:
        scale: Grid pixels of an image pixel, along columns and rows; alike but for rounding.
        offset_px: Column and row of the image's first pixel on the grid.
    """

    scale: tuple[float, float]
    offset_px: tuple[float, float]

    def to_grid(self, points_px: NDArray) -> NDArray:
        """Image pixels to grid pixels; an integer is a centre in both."""
        return (points_px + 0.5) * np.asarray(self.scale) - 0.5 + np.asarray(self.offset_px)

    def to_image(self, points_px: NDArray) -> NDArray:
        """Grid pixels to image pixels."""
        return (points_px - np.asarray(self.offset_px) + 0.5) / np.asarray(self.scale) - 0.5


def network_input(xray: Xray, side_px: int) -> tuple[NDArray, Placement]:
    """Make an image ready.

    Args:
        xray: An image of any quantity.
        side_px: Side of the network's grid.

    Returns:
        (2, side, side) float32 about 0, nothing where there is no image; and where it lies.
    """
    grey = shrunk(rising(xray), side_px)
    rows, columns = grey.shape
    scale = columns / xray.values.shape[1], rows / xray.values.shape[0]
    top, left = (side_px - rows) // 2, (side_px - columns) // 2
    result = np.zeros((N_CHANNELS, side_px, side_px), np.float32)
    inside = (slice(top, top + rows), slice(left, left + columns))
    result[(0, *inside)] = ranks(grey)
    result[(1, *inside)] = against_surroundings(result[(0, *inside)], side_px * NEIGHBOURHOOD)
    return result, Placement(scale, (float(left), float(top)))


def rising(xray: Xray) -> NDArray:
    """(rows, columns) float32, dense is large, whatever the quantity (as the file says)."""
    if xray.quantity is Quantity.TRANSMISSION:
        return -np.log(np.maximum(xray.values, np.float32(MIN_TRANSMISSION)))
    return xray.values


def shrunk(values: NDArray, side_px: int) -> NDArray:
    """An image with its longer side at `side_px`: areas averaged, or interpolated to a larger."""
    import cv2

    rows, columns = values.shape
    scale = side_px / max(rows, columns)
    if scale == 1:
        return values
    size = (max(round(columns * scale), 1), max(round(rows * scale), 1))
    mode = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(values), size, interpolation=mode))


def ranks(values: NDArray) -> NDArray:
    """(rows, columns) float32 -1..1: what share of the anatomy's pixels is darker.

    A single grey value gives 0 throughout.
    """
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.zeros(values.shape, np.float32)
    # Sorted values, not a histogram: how finely a part of the range is ranked must not depend on
    # how wide the rest is.
    flat = values.ravel()
    order = np.sort(flat)
    anatomy = order[_is_anatomy(order)]
    if anatomy.size < 2 or anatomy[0] == anatomy[-1]:
        anatomy = order
    knots = anatomy[np.linspace(0, anatomy.size - 1, min(RANK_STEPS, anatomy.size)).astype(int)]
    knots, first, counts = np.unique(knots, return_index=True, return_counts=True)
    share = (first + (counts - 1) / 2) / max(len(first) and first[-1] + counts[-1] - 1, 1)
    ranked = np.interp(flat, knots, 2 * share - 1)
    return ranked.reshape(values.shape).astype(np.float32)


def _is_anatomy(order: NDArray) -> NDArray:
    """(N,) of sorted values, whether a value is shared by few."""
    starts = np.flatnonzero(np.concatenate([[True], np.diff(order) > 0]))
    counts = np.diff(np.append(starts, order.size))
    return np.repeat(counts < FLAT_SHARE * order.size, counts)


def against_surroundings(values: NDArray, sigma_px: float) -> NDArray:
    """(rows, columns) float32 about -2..2: contrast with what lies around, by its own spread."""
    import cv2

    def smooth(image: NDArray) -> NDArray:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT))

    contrast = values - smooth(values)
    spread = np.sqrt(np.maximum(smooth(contrast**2), 0))
    return np.clip(contrast / (spread + np.float32(0.05)), -3, 3) / np.float32(1.5)
