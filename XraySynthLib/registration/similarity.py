"""How alike a film and a DRR are, whatever the film's window, polarity and shutters."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from XraySynthLib.data import Quantity, Xray
from XraySynthLib.drr import to_line_integral

SURROUNDINGS = 1 / 16
"""Standard deviation of a pixel's surroundings, a share of the image's longer side."""
LEAST_CONTRAST = 0.25
"""Of the mean contrast; flatter places are not blown up to it, they hold noise."""
SHUTTER_LINE_INTEGRAL = 7.5
"""Behind a shutter, and where so little comes through that it is noise."""
CLIPPED_SHARE = 0.01
"""Of a display's range: so near to its ends, and up to the image's edge, lies no anatomy."""
MIN_SHUTTER_AREA = 0.01
"""Of the image."""
MARGIN = 0.02
"""Left out around shutters, a share of the longer side."""


class Film:
    """An image made ready to be compared with DRRs of its view, at one size.

    Each pixel is taken against its surroundings and by their contrast, so that a slow change of
    grey (scatter, gain, a window) cancels out; what shutters hide is left out.

    Args:
        xray: An image of any quantity.
        side_px: Its longer side from here on.

    Attributes:
        shape_px: Rows, columns.
        open_share: Share of the image that is compared.
    """

    def __init__(self, xray: Xray, side_px: int) -> None:
        xray = to_line_integral(xray) if xray.quantity is Quantity.TRANSMISSION else xray
        values = xray.values
        rows, columns = values.shape
        scale = side_px / max(rows, columns)
        self.shape_px = (max(round(rows * scale), 2), max(round(columns * scale), 2))
        weight = resized(open_field(values, xray.quantity).astype(np.float32), self.shape_px)
        self._weight = np.where(weight > 0.99, 1, 0).astype(np.float32)
        self.open_share = float(self._weight.mean())
        self._sigma_px = side_px * SURROUNDINGS
        self._film = self._standardised(resized(values, self.shape_px))

    def residuals(self, line_integral: NDArray, polarity: int = 1) -> NDArray:
        """(rows * columns,) whose squares sum to 2 - 2 similarity: what least squares takes.

        Args:
            line_integral: (rows, columns) the DRR.
            polarity: 1 where the film shows what is dense as the DRR does, -1 where inverted.
        """
        return (self._standardised(line_integral) - polarity * self._film).ravel()

    def similarity(self, line_integral: NDArray) -> float:
        """Correlation with a DRR, -1..1; negative where the film is inverted."""
        return float((self._standardised(line_integral) * self._film).sum())

    def _standardised(self, image: NDArray) -> NDArray:
        """Contrast with the surroundings by its own spread, of norm 1; 0 behind shutters."""
        smooth = self._smooth
        contrast = (image - smooth(image)) * self._weight
        spread = np.sqrt(np.maximum(smooth(contrast**2), 0))
        contrast /= spread + LEAST_CONTRAST * spread.mean() + np.float32(1e-12)
        return contrast / max(float(np.linalg.norm(contrast)), 1e-12)

    def _smooth(self, image: NDArray) -> NDArray:
        """Gaussian means of what shutters leave open (Knutsson, Westin 1993)."""
        share = np.maximum(self._blurred(self._weight), np.float32(1e-3))
        return self._blurred(image * self._weight) / share

    def _blurred(self, image: NDArray) -> NDArray:
        import cv2

        blurred = cv2.GaussianBlur(
            image.astype(np.float32), (0, 0), self._sigma_px, borderType=cv2.BORDER_REPLICATE
        )
        return np.asarray(blurred)


def open_field(values: NDArray, quantity: Quantity) -> NDArray:
    """(rows, columns) bool, where a LINE_INTEGRAL or DISPLAY image shows anatomy.

    Left out are large areas up to the image's edge that shutters hide: black or white in a
    display, next to no radiation else.
    """
    if quantity is Quantity.DISPLAY:
        low, high = np.percentile(values, (0.5, 99.5))
        margin = CLIPPED_SHARE * (high - low)
        parts = [values <= low + margin, values >= high - margin]
    else:
        parts = [values >= SHUTTER_LINE_INTEGRAL]
    hidden = np.zeros(values.shape, bool)
    for part in parts:
        areas, _ = ndimage.label(part)
        edge = np.concatenate([areas[0], areas[-1], areas[:, 0], areas[:, -1]])
        sizes = np.bincount(areas.ravel())
        least = MIN_SHUTTER_AREA * values.size
        large = [area for area in np.unique(edge) if area > 0 and sizes[area] > least]
        hidden |= np.isin(areas, large)
    margin_px = MARGIN * max(values.shape)
    return ndimage.distance_transform_edt(~hidden) > margin_px if hidden.any() else ~hidden


def resized(values: NDArray, shape_px: tuple[int, int]) -> NDArray:
    """An image, edge for edge, with other pixels: areas averaged, or interpolated to more."""
    import cv2

    mode = cv2.INTER_AREA if shape_px[0] < values.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(values), shape_px[::-1], interpolation=mode))
