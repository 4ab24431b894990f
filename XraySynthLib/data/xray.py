"""An X-ray image, what its values mean, and the view it was seen from."""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.geometry import View
from XraySynthLib.geometry.transforms import checked_vector


class Quantity(Enum):
    """What an image's values are. They are never mixed: every function says which it takes."""

    LINE_INTEGRAL = "line-integral"
    """-ln(I / I0), no unit: dense is large."""
    TRANSMISSION = "transmission"
    """I / I0, in 0..1 but for noise and scatter: dense is small."""
    DISPLAY = "display"
    """Grey as on a screen, 0..1, no physical unit, dense is bright."""


@dataclass(frozen=True, eq=False)
class Xray:
    """One X-ray image. A pixel is always a displayed pixel: row 0 on top, column 0 on the left.

    Attributes:
        values: (rows, columns) float32, read-only.
        quantity: What the values mean.
        pixel_spacing_mm: (2,) column, row, on the detector; None where not known.
        view: Where it was seen from, or None where not known. Its shape must be the image's.

    Raises:
        ValueError: If the shape, a value, the spacing or the view does not fit.
    """

    values: NDArray
    quantity: Quantity
    pixel_spacing_mm: NDArray | None = None
    view: View | None = None

    def __post_init__(self) -> None:
        values = np.ascontiguousarray(self.values, dtype=np.float32)
        if values.ndim != 2 or values.size == 0:
            raise ValueError(f"An X-ray must be (rows, columns), got shape {values.shape}.")
        if not np.isfinite(values).all():
            raise ValueError("The X-ray holds values that are NaN or infinite.")
        if not isinstance(self.quantity, Quantity):
            raise TypeError(f"quantity must be a Quantity, got {self.quantity!r}.")
        values = values.view()
        values.setflags(write=False)
        object.__setattr__(self, "values", values)
        if self.view is not None:
            self._check_view(self.view)
            if self.pixel_spacing_mm is None:
                spacing = self.view.intrinsics.pixel_spacing_mm
                object.__setattr__(self, "pixel_spacing_mm", spacing)
        if self.pixel_spacing_mm is not None:
            spacing = checked_vector(self.pixel_spacing_mm, "pixel_spacing_mm", 2)
            if (spacing <= 0).any():
                raise ValueError(f"pixel_spacing_mm must be positive, got {spacing.tolist()}.")
            object.__setattr__(self, "pixel_spacing_mm", spacing)

    def _check_view(self, view: View) -> None:
        if view.intrinsics.shape_px != self.values.shape:
            raise ValueError(
                f"The view is for {view.intrinsics.shape_px} rows and columns, the image has "
                f"{self.values.shape}."
            )
        if self.pixel_spacing_mm is not None and not np.allclose(
            view.intrinsics.pixel_spacing_mm, self.pixel_spacing_mm, rtol=1e-3
        ):
            raise ValueError(
                f"The view's pixels are {view.intrinsics.pixel_spacing_mm.tolist()} mm, "
                f"the image's {np.asarray(self.pixel_spacing_mm).tolist()} mm."
            )
