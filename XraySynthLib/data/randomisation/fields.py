"""The part of the image that a collimator, a shutter or a round image intensifier leaves open."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data.randomisation.operations import Operation, Point

FIELD_SHAPES = ("rectangle", "circle", "octagon")


@dataclass(frozen=True)
class Field(Operation):
    """Grey outside an opening.

    Attributes:
        shape: "rectangle", "circle" or "octagon".
        center_px: Column, row.
        size_px: Width and height before the turn; of a circle and an octagon the width counts.
        angle_deg: Turn, from columns toward rows.
        grey: What is outside.
        edge_px: Width of the soft edge.

    Raises:
        ValueError: If the shape is unknown or a size is not positive.
    """

    shape: str
    center_px: Point
    size_px: Point
    angle_deg: float = 0.0
    grey: float = 0.0
    edge_px: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shape not in FIELD_SHAPES:
            raise ValueError(f"A field is one of {FIELD_SHAPES}, not {self.shape!r}.")
        if min(self.size_px) <= 0 or self.edge_px < 0:
            raise ValueError("A field's sizes must be positive.")

    def contains(self, points_px: NDArray) -> NDArray:
        """(N,) whether points (N, 2) lie in the opening; NaN does not."""
        column, row = np.asarray(points_px, dtype=np.float64).T
        with np.errstate(invalid="ignore"):
            inside: NDArray = self._beyond_px(column, row) <= 0
        return inside

    def openness(self, shape_px: tuple[int, int]) -> NDArray:
        """(rows, columns) float32, 0 outside and 1 in the opening."""
        rows, columns = shape_px
        column = np.arange(columns, dtype=np.float32)
        row = np.arange(rows, dtype=np.float32)[:, None]
        edge_px = np.float32(max(self.edge_px, 1.0))
        return np.clip(np.float32(0.5) - self._beyond_px(column, row) / edge_px, 0, 1)

    def _beyond_px(self, column: NDArray, row: NDArray) -> NDArray:
        """How far points are from the opening's nearest side, negative within."""
        width, height = (np.float32(size / 2) for size in self.size_px)
        across, down = column - np.float32(self.center_px[0]), row - np.float32(self.center_px[1])
        if self.shape == "circle":
            return np.sqrt(across**2 + down**2) - width
        angle = np.deg2rad(self.angle_deg)
        cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        u = np.abs(across * cosine + down * sine)
        v = np.abs(down * cosine - across * sine)
        if self.shape == "rectangle":
            return np.maximum(u - width, v - height)
        return np.maximum(np.maximum(u, v), (u + v) * np.float32(0.5**0.5)) - width

    def __call__(self, values: NDArray, rng: np.random.Generator) -> NDArray:
        """Apply it."""
        grey = np.float32(self.grey)
        return grey + (values - grey) * self.openness((values.shape[0], values.shape[1]))
