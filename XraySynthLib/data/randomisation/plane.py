"""Motions of the image in its plane: image, masks, landmarks and view move together."""

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from XraySynthLib.data.randomisation.operations import Drawn, Point

BORDERS = ("edge", "dense", "thin")
MAX_ELASTIC = 1 / 8
"""Displacement times control points across the image, as a share of it: keeps slopes under 1/2."""
INVERSION_STEPS = 30
"""Each at least halves the error, for the same reason."""


@dataclass(frozen=True)
class PlaneMotion(Drawn):
    """A similarity about the image's middle, then an elastic deformation. The shape stays.

    Attributes:
        scale: Of what is seen; above 1 the image is a crop of what it was.
        angle_deg: Turn, from columns toward rows.
        shift_px: Column, row, after scale and turn.
        turned_180: A further half turn, exact to the pixel where it is all.
        border: What fills the image from beyond its edges: "edge" repeats the outermost pixels,
            "dense" and "thin" are the greatest and the least line integral.
        elastic_px: Greatest displacement of the elastic deformation at its control points.
        elastic_cells: Control cells along each side.
        elastic_seed: Seeds the control points.

    Raises:
        ValueError: If the image would fold or vanish, or the border is unknown.
    """

    scale: float = 1.0
    angle_deg: float = 0.0
    shift_px: Point = (0.0, 0.0)
    turned_180: bool = False
    border: str = "edge"
    elastic_px: float = 0.0
    elastic_cells: int = 4
    elastic_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale <= 0 or len(self.shift_px) != 2:
            raise ValueError("A motion needs a positive scale and a shift of columns and rows.")
        if self.border not in BORDERS:
            raise ValueError(f"border must be one of {BORDERS}, got {self.border!r}.")
        if self.elastic_px < 0 or self.elastic_cells < 1 or self.elastic_seed < 0:
            raise ValueError("The elastic deformation's numbers must not be negative.")

    @property
    def elastic(self) -> bool:
        """Whether straight lines bend, so that no pinhole camera sees the result."""
        return self.elastic_px > 0

    @property
    def only_turns(self) -> bool:
        """Whether pixels stay pixels: nothing moves but for a half turn."""
        still = (self.scale, self.angle_deg, self.shift_px) == (1.0, 0.0, (0.0, 0.0))
        return still and not self.elastic

    @property
    def moves(self) -> bool:
        """Whether anything moves."""
        return self.turned_180 or not self.only_turns

    def moved_px_from_px(self, shape_px: tuple[int, int], pixel_spacing_mm: NDArray) -> NDArray:
        """The similarity as a matrix.

        Args:
            shape_px: Rows, columns.
            pixel_spacing_mm: (2,) column, row; the turn is one on the detector.

        Returns:
            (3, 3) to (column, row, 1) from (column, row, 1).
        """
        angle = np.deg2rad(self.angle_deg)
        scale = -self.scale if self.turned_180 else self.scale
        cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
        aspect = pixel_spacing_mm[1] / pixel_spacing_mm[0]
        matrix = np.eye(3)
        matrix[:2, :2] = [[cosine, -sine * aspect], [sine / aspect, cosine]]
        middle = (np.array(shape_px[::-1]) - 1) / 2
        matrix[:2, 2] = middle + self.shift_px - matrix[:2, :2] @ middle
        return matrix


class Warp:
    """A motion for images of one shape: moves arrays and points alike.

    Args:
        motion: The motion.
        shape_px: Rows, columns.
        pixel_spacing_mm: (2,) column, row.

    Attributes:
        moved_px_from_px: (3, 3) the similarity.

    Raises:
        ValueError: If the image is too small for the elastic deformation, which would fold it.
    """

    def __init__(
        self, motion: PlaneMotion, shape_px: tuple[int, int], pixel_spacing_mm: NDArray
    ) -> None:
        self.motion = motion
        self.shape_px = shape_px
        self.moved_px_from_px = motion.moved_px_from_px(shape_px, pixel_spacing_mm)
        self._displacement_px = _displacement_px(motion, shape_px) if motion.elastic else None
        self._sources_px = self._sampled_px() if motion.elastic else None

    def image(self, values: NDArray) -> NDArray:
        """Move (rows, columns) float32; bilinear, the border filled."""
        if self.motion.only_turns:
            return values[::-1, ::-1] if self.motion.turned_180 else values
        import cv2

        fill = {"edge": 0.0, "dense": values.max(), "thin": values.min()}[self.motion.border]
        mode = cv2.BORDER_REPLICATE if self.motion.border == "edge" else cv2.BORDER_CONSTANT
        return self._resampled(values, mode, float(fill))

    def mask(self, mask: NDArray) -> NDArray:
        """Move (rows, columns) bool; nothing comes in from beyond the edges."""
        if self.motion.only_turns:
            return mask[::-1, ::-1] if self.motion.turned_180 else mask
        import cv2

        grey = mask.astype(np.uint8) * np.uint8(255)
        return self._resampled(grey, cv2.BORDER_CONSTANT, 0.0) >= 128

    def points(self, points_px: NDArray) -> NDArray:
        """Move (N, 2) points, column and row; NaN stays NaN."""
        moved = points_px @ self.moved_px_from_px[:2, :2].T + self.moved_px_from_px[:2, 2]
        if self._displacement_px is None:
            return moved
        # The image at p shows what the similarity put at p + d(p): solve p + d(p) = moved.
        undefined = np.isnan(moved).any(axis=1)
        target = np.where(undefined[:, None], 0, moved)
        solved = target
        for _ in range(INVERSION_STEPS):
            at = solved.T[::-1]
            displacement = [
                ndimage.map_coordinates(
                    self._displacement_px[..., axis], at, order=1, mode="nearest"
                )
                for axis in (0, 1)
            ]
            solved = target - np.stack(displacement, axis=1)
        solved[undefined] = np.nan
        return solved

    def _resampled(self, values: NDArray, mode: int, fill: float) -> NDArray:
        import cv2

        values = np.ascontiguousarray(values)
        if self._sources_px is None:
            rows, columns = self.shape_px
            matrix = self.moved_px_from_px[:2]
            moved = cv2.warpAffine(
                values, matrix, (columns, rows), borderMode=mode, borderValue=fill
            )
        else:
            moved = cv2.remap(
                values,
                *self._sources_px,
                interpolation=cv2.INTER_LINEAR,
                borderMode=mode,
                borderValue=fill,
            )
        return cast(NDArray, moved)

    def _sampled_px(self) -> tuple[NDArray, NDArray]:
        """Columns and rows (rows, columns) float32 of the old image that each new pixel shows."""
        rows, columns = self.shape_px
        assert self._displacement_px is not None
        column = np.arange(columns, dtype=np.float32) + self._displacement_px[..., 0]
        row = np.arange(rows, dtype=np.float32)[:, None] + self._displacement_px[..., 1]
        px_from_moved_px = np.linalg.inv(self.moved_px_from_px).astype(np.float32)
        (a, b, c), (d, e, f), _ = px_from_moved_px
        return a * column + b * row + c, d * column + e * row + f


def _displacement_px(motion: PlaneMotion, shape_px: tuple[int, int]) -> NDArray:
    """(rows, columns, 2) column and row, float32, smooth between random control points."""
    import cv2

    rows, columns = shape_px
    if motion.elastic_px * (motion.elastic_cells + 1) > MAX_ELASTIC * min(rows, columns):
        raise ValueError(
            f"A displacement of {motion.elastic_px:g} px over {motion.elastic_cells} cells would "
            f"fold an image of {shape_px}."
        )
    rng = np.random.default_rng(motion.elastic_seed)
    n_control = motion.elastic_cells + 1
    control = rng.uniform(-1, 1, (n_control, n_control, 2)).astype(np.float32)
    smooth = cv2.resize(control, (columns, rows), interpolation=cv2.INTER_CUBIC)
    return cast(NDArray, smooth * np.float32(motion.elastic_px))
