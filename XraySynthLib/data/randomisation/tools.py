"""Wires, screws, drills and what else lies in the beam: metal added to line integrals.

Each is drawn in the image's plane from its chords along the beam, not from a place in the room;
`drr.instruments` has those that stand in the room.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data.randomisation.operations import Operation, Point
from XraySynthLib.data.randomisation.stamps import add_stamp, placement

SUPERSAMPLING = 3
SUBPIXEL_BITS = 4
TURNED_KINDS = ("wire", "screw", "drill", "tube", "impactor")
"""Bodies of revolution."""
FLAT_KINDS = ("forceps", "retractor")
TOOL_KINDS = TURNED_KINDS + FLAT_KINDS


@dataclass(frozen=True)
class Tool(Operation):
    """An instrument from its tip along a straight axis.

    Attributes:
        kind: One of `TOOL_KINDS`.
        tip_px: Column, row.
        angle_deg: Direction from the tip, from columns toward rows.
        length_px: From the tip to the end.
        width_px: Diameter of its shaft.
        line_integral: What the middle of the shaft adds.

    Raises:
        ValueError: If the kind is unknown or a size is not positive.
    """

    kind: str
    tip_px: Point
    angle_deg: float
    length_px: float
    width_px: float
    line_integral: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in TOOL_KINDS:
            raise ValueError(f"A tool is one of {TOOL_KINDS}, not {self.kind!r}.")
        if min(self.length_px, self.width_px) <= 0:
            raise ValueError("A tool's sizes must be positive.")

    def __call__(self, values: NDArray, rng: np.random.Generator) -> NDArray:
        """Add it to line integrals."""
        chords = self._flat() if self.kind in FLAT_KINDS else self._turned()
        middle = (chords.shape[0] - 1) / 2
        image_from_stamp = placement(self.angle_deg, (0.0, middle), self.tip_px)
        result = values.copy()
        add_stamp(result, chords * np.float32(self.line_integral), image_from_stamp)
        return result

    def _turned(self) -> NDArray:
        """(rows, columns) chords in shaft diameters; the axis is the middle row, the tip left."""
        import cv2

        length, width = self.length_px, self.width_px
        columns = int(np.ceil(length)) + 2
        fine = SUPERSAMPLING
        u = ((np.arange(columns * fine) + 0.5) / fine - 0.5) / width  # in diameters from here on
        upper, lower, hollow = _radii(self.kind, u, length / width)
        widest = max(float(upper.max()), float(lower.max()))
        half_rows = int(np.ceil(widest * width)) + 1
        rows = 2 * half_rows + 1
        v = (((np.arange(rows * fine) + 0.5) / fine - 0.5) - half_rows)[:, None] / width
        radius = np.where(v < 0, upper, lower).astype(np.float32)
        v = v.astype(np.float32)
        chords = 2 * np.sqrt(np.maximum(radius**2 - v**2, 0))
        if hollow > 0:
            chords -= 2 * np.sqrt(np.maximum((hollow * radius) ** 2 - v**2, 0))
        if self.kind == "drill":
            chords *= _flutes(u, v)
        return cast(NDArray, cv2.resize(chords, (columns, rows), interpolation=cv2.INTER_AREA))

    def _flat(self) -> NDArray:
        """(rows, columns) 0..1 silhouette; the axis is the middle row, the tip left."""
        import cv2

        length, width = self.length_px, self.width_px
        half_rows = int(np.ceil(0.16 * length + 2 * width)) + 2
        canvas = np.zeros((2 * half_rows + 1, int(np.ceil(length)) + 2), np.uint8)
        pen = max(round(width), 1)

        def stroke(points: list[Point], thickness: int, closed: bool = False) -> None:
            px = np.array(points) * length + [0, half_rows]
            px = np.rint(px * (1 << SUBPIXEL_BITS)).astype(np.int32)
            cv2.polylines(canvas, [px], closed, 255, thickness, cv2.LINE_AA, SUBPIXEL_BITS)

        if self.kind == "forceps":  # two limbs that cross, each with a ring for a finger
            turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            for side in (-1.0, 1.0):
                limb = [(0.0, 0.012), (0.22, 0.03), (0.4, 0.0), (0.62, -0.05), (0.84, -0.085)]
                stroke([(x, side * y) for x, y in limb], pen)
                ring = [(0.91 + 0.07 * np.cos(a), side * (0.05 * np.sin(a) - 0.1)) for a in turn]
                stroke(ring, max(pen * 2 // 3, 1), closed=True)
        else:  # a blade, bent at the tip, on a handle
            stroke([(0.03, 0.1), (0.05, 0.03), (0.12, 0.0), (0.55, 0.0)], 2 * pen)
            stroke([(0.5, 0.0), (0.97, 0.0)], pen)
        return canvas.astype(np.float32) / np.float32(255)


@dataclass(frozen=True)
class Cable(Operation):
    """A lead, a catheter or a drain: a smooth curve.

    Attributes:
        points_px: Columns and rows of the ends and the bends of a Bezier curve.
        width_px: Its diameter.
        line_integral: What its middle adds.
    """

    points_px: tuple[Point, ...]
    width_px: float
    line_integral: float

    def __call__(self, values: NDArray, rng: np.random.Generator) -> NDArray:
        """Add it to line integrals."""
        import cv2

        t = np.linspace(0, 1, 48)[:, None, None]
        curve = np.broadcast_to(np.array(self.points_px), (48, len(self.points_px), 2))
        while curve.shape[1] > 1:  # de Casteljau
            curve = (1 - t) * curve[:, :-1] + t * curve[:, 1:]
        px = np.rint(curve[:, 0] * (1 << SUBPIXEL_BITS)).astype(np.int32)
        canvas = np.zeros(values.shape, np.uint8)
        pen = max(round(self.width_px), 1)
        cv2.polylines(canvas, [px], False, 255, pen, cv2.LINE_AA, SUBPIXEL_BITS)
        share = np.float32(self.line_integral * min(self.width_px, 1.0) / 255)
        return values + share * canvas


@dataclass(frozen=True)
class Beads(Operation):
    """Steel balls, as on the phantoms that calibrate C-arms.

    Attributes:
        points_px: Columns and rows.
        width_px: Their diameter.
        line_integral: What the middle of one adds.
    """

    points_px: tuple[Point, ...]
    width_px: float
    line_integral: float

    def __call__(self, values: NDArray, rng: np.random.Generator) -> NDArray:
        """Add them to line integrals."""
        radius = max(self.width_px, 1.0) / 2
        half = int(np.ceil(radius)) + 1
        fine = (np.arange((2 * half + 1) * SUPERSAMPLING) + 0.5) / SUPERSAMPLING - 0.5 - half
        chords = np.sqrt(np.maximum(radius**2 - fine**2 - fine[:, None] ** 2, 0)) / radius
        size = 2 * half + 1
        ball = chords.reshape(size, SUPERSAMPLING, size, SUPERSAMPLING).mean(axis=(1, 3))
        ball = (ball * self.line_integral).astype(np.float32)
        result = values.copy()
        for point_px in self.points_px:
            add_stamp(result, ball, placement(0.0, (half, half), point_px))
        return result


def _radii(kind: str, u: NDArray, length: float) -> tuple[NDArray, NDArray, float]:
    """Radii on the two sides of the axis and the hollow share of them; unit: shaft diameters.

    Args:
        kind: One of `TURNED_KINDS`.
        u: (N,) distances from the tip.
        length: From the tip to the end.
    """
    on = (u >= 0) & (u <= length)
    shaft = np.full(u.shape, 0.5)
    hollow = 0.0
    upper = lower = shaft
    if kind == "wire":
        upper = lower = np.minimum(shaft, u / 4)
    elif kind == "screw":
        threaded = u < min(0.9 * length, 12)
        core = np.minimum(0.36, u / 3 + 0.05)
        pitch = 0.42
        tooth = [1 - np.abs(2 * ((u / pitch + phase) % 1) - 1) for phase in (0.0, 0.5)]  # a helix
        upper, lower = (np.where(threaded, np.minimum(core + 0.16 * t, 0.5), 0.4) for t in tooth)
        head = np.clip((u - (length - 0.8)) / 0.8, 0, 1)
        round_head = 0.78 * np.sqrt(np.maximum(1 - (head - 0.3).clip(0) ** 2, 0))
        upper, lower = (np.where(head > 0, round_head, side) for side in (upper, lower))
    elif kind == "drill":
        chuck = length - min(0.35 * length, 12)
        sleeve = np.where(u > chuck + 3, 2.6, 1.7)
        upper = lower = np.where(u > chuck, sleeve, np.minimum(shaft, u / 1.6))
    elif kind == "tube":
        hollow = 0.78
    elif kind == "impactor":
        ball = np.sqrt(np.maximum(1.4**2 - (u - 1.4) ** 2, 0))
        upper = lower = np.where(u < 1.4, ball, np.maximum(shaft, ball))
    return np.where(on, upper, 0), np.where(on, lower, 0), hollow


def _flutes(u: NDArray, v: NDArray) -> NDArray:
    """Share of a drill's chords that two spiral flutes leave."""
    turn = np.sin(2 * np.pi * (u / 3.2)[None] + 2.2 * v)
    return np.where(np.abs(v) < 0.5, 0.75 + 0.25 * turn, 1).astype(np.float32)
