"""The field that the collimator leaves open."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.geometry import Intrinsics

LEAKAGE = 1e-3
"""Share of the beam that passes the shutters."""


@dataclass(frozen=True)
class Collimation:
    """An open field on the detector, centred on it, turned about its middle.

    Attributes:
        shape: "rectangle", "circle" or "octagon".
        width_mm: Width (diameter) of the open field on the detector.
        height_mm: Height; for a circle and an octagon the width counts alone.
        angle_deg: Turn of a rectangle or an octagon, from columns toward rows.
        penumbra_mm: Width of the soft edge, from the focal spot's size.

    Raises:
        ValueError: If a size is not positive or the shape is unknown.
    """

    shape: Literal["rectangle", "circle", "octagon"] = "rectangle"
    width_mm: float = 200.0
    height_mm: float = 200.0
    angle_deg: float = 0.0
    penumbra_mm: float = 1.0

    def __post_init__(self) -> None:
        if self.shape not in ("rectangle", "circle", "octagon"):
            raise ValueError(
                f"A collimated field is a rectangle, a circle or an octagon, not {self.shape!r}."
            )
        if not (self.width_mm > 0 and self.height_mm > 0 and self.penumbra_mm >= 0):
            raise ValueError("A collimated field's sizes must be positive.")

    def openness(self, intrinsics: Intrinsics) -> NDArray:
        """How much of the beam reaches each pixel.

        Returns:
            (rows, columns) float32, from the shutters' leakage to 1.
        """
        rows, columns = intrinsics.shape_px
        x_mm = (np.arange(columns) - (columns - 1) / 2) * intrinsics.pixel_spacing_mm[0]
        y_mm = (np.arange(rows) - (rows - 1) / 2)[:, None] * intrinsics.pixel_spacing_mm[1]
        if self.shape == "circle":
            beyond_mm = np.hypot(x_mm, y_mm) - self.width_mm / 2
        else:
            angle = np.deg2rad(self.angle_deg)
            u_mm = np.abs(x_mm * np.cos(angle) + y_mm * np.sin(angle))
            v_mm = np.abs(y_mm * np.cos(angle) - x_mm * np.sin(angle))
            half_height = (self.width_mm if self.shape == "octagon" else self.height_mm) / 2
            beyond_mm = np.maximum(u_mm - self.width_mm / 2, v_mm - half_height)
            if self.shape == "octagon":
                corner = (u_mm + v_mm) / np.sqrt(2) - self.width_mm / 2
                beyond_mm = np.maximum(beyond_mm, corner)
        edge_mm = max(self.penumbra_mm, float(intrinsics.pixel_spacing_mm.min()))
        openness = np.clip(0.5 - beyond_mm / edge_mm, 0, 1)
        return (LEAKAGE + (1 - LEAKAGE) * openness).astype(np.float32)
