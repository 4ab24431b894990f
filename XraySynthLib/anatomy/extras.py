"""What some subjects have besides: calcium in arteries and veins, implants, the scanner's table."""

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from XraySynthLib.anatomy.grids import Grid
from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.primitives import ball, capsule, coverage
from XraySynthLib.anatomy.subject import Subject
from XraySynthLib.anatomy.tissues import HU, Label
from XraySynthLib.anatomy.viscera import vessel_pieces

CUP_MM, LINER_HU = 4.0, -60.0  # titanium shell, polyethylene
Piece = tuple[ArrayLike, ArrayLike, tuple[float, float]]


def _paint(grid: Grid, values: NDArray, piece: Piece, hu: float) -> tuple | None:
    """Lay a capsule over the CT; returns its box and coverage."""
    start, end, radii = piece
    box = grid.box([start, end], max(radii) + 2 * grid.spacing_mm)
    if box is None:
        return None
    share = coverage(capsule(grid.axes_mm(box), start, end, radii), grid.spacing_mm)
    values[box] += share * (np.float32(hu) - values[box])
    return box, share


def add_calcium(subject: Subject, grid: Grid, values: NDArray) -> None:
    """Plaques on the walls of the iliac and femoral arteries; phleboliths in the lesser pelvis."""
    rng = np.random.default_rng((subject.parameters.texture_seed, 6))
    amount = subject.parameters.calcification
    for piece in vessel_pieces(subject):
        if not piece.artery:
            continue
        start, end, radii = piece.start, piece.end, piece.radii
        length = float(np.linalg.norm(end - start))
        for _ in range(rng.poisson(amount * length / 9)):
            place = start + rng.uniform() * (end - start)
            around = np.cross(end - start, rng.normal(size=3))
            place = place + around / np.linalg.norm(around) * (radii[0] - 0.5)
            along = (end - start) / length * rng.uniform(1, 7)
            _paint(grid, values, (place, place + along, (0.9, 0.7)), HU["plaque"])
    if subject.parameters.age_years > 45:
        for _ in range(rng.poisson(1.5)):
            place = np.array([rng.choice([-1, 1]) * rng.uniform(35, 58), -30, rng.uniform(-5, 25)])
            _paint(grid, values, (place, place, (1.7, 1.7)), HU["plaque"])


def add_table(subject: Subject, grid: Grid, values: NDArray, labels: NDArray) -> None:
    """A carbon fibre shell over foam under the back, curved up at its edges."""
    x, y, z = grid.axes_mm()
    surface = np.float32(subject.envelope.back_mm - 8) + (x / 300) ** 2 * np.float32(45)
    depth = surface - y + 0 * z
    wide = (np.abs(x) - 225) + 0 * y
    for low, high, hu in ((0, 2, -250.0), (2, 28, -960.0), (28, 30, -250.0)):
        layer = np.maximum(np.maximum(low - depth, depth - high), wide)
        share = np.where(labels == Label.AIR, coverage(layer, grid.spacing_mm), 0)
        values += share * (np.float32(hu) - values)
        labels[share > 0.5] = Label.TABLE


def add_implants(subject: Subject, grid: Grid, values: NDArray, labels: NDArray) -> None:
    """Lay the implants over bone and soft tissue."""
    for name in subject.parameters.implants:
        if name.startswith("stem"):
            _add_cup(subject, -1.0 if name.endswith("left") else 1.0, grid, values, labels)
        for piece in implant_pieces(subject, name):
            painted = _paint(grid, values, piece, HU["metal"])
            if painted is not None:
                labels[painted[0]][painted[1] > 0.5] = Label.IMPLANT


def implant_pieces(subject: Subject, name: str) -> list[Piece]:
    """Capsules that an implant is made of: start, end, RAS mm, and radii, mm."""
    if name == "si-screws":
        return _sacroiliac_screws(subject)
    if name == "pubic-plate":
        return _pubic_plate(subject)
    kind, _, side = name.partition("-")
    sign = -1.0 if side == "left" else 1.0
    femur = Bone.LEFT_FEMUR if sign < 0 else Bone.RIGHT_FEMUR
    places = {"stem": _STEM, "nail": _NAIL}[kind]
    pieces: list[Piece] = []
    for start, end, radii in places:
        start, end = subject.frames.place(femur, [(sign * s[0], *s[1:]) for s in (start, end)])
        pieces.append((start, end, radii))
    return pieces


_STEM = (
    ((114, -3, -190), (113, -6, -60), (5.0, 8.5)),
    ((113, -6, -60), (104, -5, -22), (8.5, 7.0)),
    ((104, -5, -22), (86, 0, -3), (6.5, 6.0)),
)
_NAIL = (
    ((127, -8, 22), (117, -5, -60), (8.0, 6.0)),
    ((117, -5, -60), (113, -2, -240), (6.0, 5.5)),
    ((146, -6, -52), (84, 0, 0), (5.2, 5.2)),
)


def _add_cup(subject: Subject, sign: float, grid: Grid, values: NDArray, labels: NDArray) -> None:
    """A metal shell in the socket, its liner, a metal ball, and nothing left of the bony head."""
    femur = Bone.LEFT_FEMUR if sign < 0 else Bone.RIGHT_FEMUR
    center, radius = subject.bones.head(femur)
    box = grid.box([center], radius + CUP_MM + 2 * grid.spacing_mm)
    if box is None:
        return
    axes = grid.axes_mm(box)
    opening = np.array([sign * 0.64, 0.25, -0.72], dtype=np.float32)
    beyond = sum(a * o for a, o in zip(axes, opening, strict=True)) - np.float32(center @ opening)
    from_center = ball(axes, center, 0)
    head = from_center - np.float32(radius + 1)
    shell = np.abs(from_center - np.float32(radius + CUP_MM / 2)) - np.float32(CUP_MM / 2)
    for distance, hu, label in (
        (head, HU["soft"], Label.OTHER_SOFT),
        (np.maximum(head, beyond), LINER_HU, Label.IMPLANT),
        (np.maximum(shell, beyond), HU["metal"], Label.IMPLANT),
        (from_center - np.float32(0.66 * radius), HU["metal"], Label.IMPLANT),
    ):
        share = coverage(distance, grid.spacing_mm)
        values[box] += share * (np.float32(hu) - values[box])
        labels[box][share > 0.5] = label


def _sacroiliac_screws(subject: Subject) -> list[Piece]:
    """One from each side, one above the other where they pass, with washers on the ilium."""
    frames, pieces = subject.frames, []
    for sign, hip, up in ((-1, Bone.LEFT_HEMIPELVIS, -5), (1, Bone.RIGHT_HEMIPELVIS, 5)):
        entry = frames.place(hip, (sign * 76, -62, 88 + up))
        tip = frames.place(Bone.SACRUM, (-sign * 4, -40, 88 + up))
        inward = (tip - entry) / np.linalg.norm(tip - entry)
        pieces += [(entry, tip - 14 * inward, (2.6, 2.6)), (tip - 14 * inward, tip, (3.6, 3.4))]
        pieces.append((entry - 5 * inward, entry, (4.0, 4.0)))
        for turn in np.arange(12) * np.pi / 6:  # washer
            beside = np.cross(inward, (0, 1, 0)) * np.sin(turn) + np.array((0, 1, 0)) * np.cos(turn)
            pieces.append((entry, entry + 5.5 * beside, (1.0, 1.0)))
    return pieces


_PLATE = ((-48, 42, 6), (-30, 46, 1), (-12, 46, -6), (12, 46, -6), (30, 46, 1), (48, 42, 6))


def _pubic_plate(subject: Subject) -> list[Piece]:
    frames, pieces = subject.frames, []
    places = [
        frames.place(Bone.LEFT_HEMIPELVIS if x < 0 else Bone.RIGHT_HEMIPELVIS, (x, y, z))
        for x, y, z in _PLATE
    ]
    for start, end in pairwise(places):
        pieces.append((start, end, (2.8, 2.8)))
    for place in places:
        pieces.append((place, place + np.array([0, -22, -22]), (1.8, 1.8)))
    return pieces
