"""The abdominal and pelvic cavity: bladder, rectum, colon, small bowel, their gas, vessels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import PchipInterpolator
from scipy.spatial import cKDTree

from XraySynthLib.anatomy.grids import Grid
from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.primitives import Axes, ball, capsule, ellipsoid, smooth_max
from XraySynthLib.anatomy.spine import Vertebra, lumbar_spine
from XraySynthLib.anatomy.subject import Subject
from XraySynthLib.anatomy.surfaces import unit_normals
from XraySynthLib.data.pelvis import LANDMARK_NAMES

FAR = np.float32(60)
WALL_MM = 2.5
STOOL_HU = 200.0  # what bubbles take from stool; they are finer than the grid


def _beside(point: NDArray, right: float, forward: float, up: float) -> NDArray:
    return point + np.array([right, forward, up])


def middle_of(subject: Subject, name: str) -> NDArray:
    """(3,) midway between a landmark's two sides, RAS, mm."""
    sides = [LANDMARK_NAMES.index(f"{name}-{side}") for side in "lr"]
    return subject.landmarks.points_ras_mm[sides].mean(axis=0)


@dataclass(frozen=True, eq=False)
class Pouch:
    """A piece of bowel: an ellipsoid with contents, gas above a level.

    Attributes:
        center_ras_mm: (3,).
        radii_mm: (3,).
        gas_above_mm: Height (RAS y, lying on the back) above which it holds gas.
        hu: Of its contents.
        stool: How mottled with small bubbles they are, 0..1.
    """

    center_ras_mm: NDArray
    radii_mm: NDArray
    gas_above_mm: float
    hu: float
    stool: float = 0.0


@dataclass(frozen=True, eq=False)
class Viscera:
    """Distances on a coarse grid, mm, and HU of the bowel's contents."""

    cavity: NDArray
    bladder: NDArray
    bowel: NDArray
    gas: NDArray
    contents_hu: NDArray
    soft: NDArray
    vessels: NDArray


def viscera_of(subject: Subject, fascia_mm: NDArray, grid: Grid) -> Viscera:
    """Fill the cavity.

    Args:
        subject: The subject.
        fascia_mm: (K, J, I) distance to the fascia on `grid`.
        grid: A coarse grid.
    """
    rng = np.random.default_rng((subject.parameters.texture_seed, 2))
    axes = grid.axes_mm()
    cavity = _cavity(subject, axes, fascia_mm)
    bowel, gas = (np.full(grid.shape, FAR) for _ in range(2))
    contents = np.full(grid.shape, np.float32(32))
    stool = np.zeros(grid.shape, np.float32)
    for pouch in _pouches(subject, rng):
        _add_pouch(pouch, grid, bowel, gas, contents, stool)
    bubbles = ndimage.gaussian_filter(rng.standard_normal(grid.shape, dtype=np.float32), 0.7)
    contents -= np.float32(STOOL_HU) * stool * np.clip(bubbles / bubbles.std(), 0, 2) ** 2
    bladder = _bladder(subject, axes)
    vessels = np.full(grid.shape, FAR)
    for piece in vessel_pieces(subject):
        box = grid.box([piece.start, piece.end], max(piece.radii) + 6)
        if box is not None:
            tube = capsule(grid.axes_mm(box), piece.start, piece.end, piece.radii)
            vessels[box] = np.minimum(vessels[box], tube)
    bowel = np.maximum(bowel, np.maximum(-bladder, -vessels))
    gas = np.maximum(np.maximum(gas, bowel + WALL_MM), cavity + WALL_MM)
    bowel = np.maximum(bowel, cavity)
    return Viscera(cavity, bladder, bowel, gas, contents, _soft(subject, axes), vessels)


def _cavity(subject: Subject, axes: Axes, fascia_mm: NDArray) -> NDArray:
    """Abdomen above the brim, lesser pelvis below it."""
    x, y, z = axes
    frames = subject.frames
    brim = frames.place(Bone.SACRUM, (0.0, -8.0, 84.0))
    floor = frames.place(Bone.SACRUM, (0.0, -70.0, -5.0))
    middle = (floor[1] + 38) / 2
    pelvis = ellipsoid(axes, (0, middle + 4, 38), (55, (38 - floor[1]) / 2 + 4, 66))
    wall = fascia_mm + np.float32(13)
    spine = np.float32(brim[1] + 4) - y + np.clip((np.abs(x) - 45) * 0.9, 0, 42)
    wide = np.abs(x) - np.float32(104) + np.clip((100 - z) * np.float32(0.55), 0, 60)
    above = np.float32(22) - z
    abdomen = smooth_max(smooth_max(wall, spine, 20.0), smooth_max(wide, above, 20.0), 20.0)
    return np.minimum(pelvis, abdomen)


def _bladder(subject: Subject, axes: Axes) -> NDArray:
    pubis = middle_of(subject, "SPS")
    size = (max(subject.parameters.bladder_ml, 8) / 4.19 * 1000) ** (1 / 3)
    radii = np.array([1.15, 0.95, 0.92]) * size
    center = _beside(pubis, 0, -14 - 0.85 * radii[1], 2 + 0.8 * radii[2])
    return ellipsoid(axes, center, radii)


def _soft(subject: Subject, axes: Axes) -> NDArray:
    """Uterus or prostate, the pelvic floor, the root of the genitals."""
    pubis = middle_of(subject, "SPS")
    floor = ellipsoid(axes, _beside(pubis, 0, -45, -22), (42, 42, 13))
    if subject.parameters.sex == "female":
        organ = ellipsoid(axes, _beside(pubis, 4, -62, 44), (24, 20, 34))
    else:
        organ = ball(axes, _beside(pubis, 0, -30, -2), 21)
        root = capsule(axes, _beside(pubis, 0, 2, -30), _beside(pubis, 0, 30, -62), (14, 17))
        organ = np.minimum(organ, root)
    return np.minimum(floor, organ)


@dataclass(frozen=True, eq=False)
class VesselPiece:
    """A tapering tube: (3,) start and end, RAS, mm, both radii, mm, and what flows in it."""

    start: NDArray
    end: NDArray
    radii: tuple[float, float]
    artery: bool


OFF_BONE_MM, STEP_MM = 2.0, 8.0


def vessel_pieces(subject: Subject) -> list[VesselPiece]:
    """Aorta and cava along the front of the spine, iliac and femoral vessels beside the bones."""
    spine = list(lumbar_spine(subject.frames, subject.parameters, subject.envelope.crest_mm + 330))
    off_bone = _BonesAround(subject, spine)

    def before(vertebra: Vertebra, right: float, up: float, radius: float) -> NDArray:
        ahead = vertebra.half_mm[1] + radius + OFF_BONE_MM
        return vertebra.center_ras_mm + np.array([right, ahead, up]) @ vertebra.rows

    aorta = [before(v, -9, 0, 9.0) for v in reversed(spine[1:])]
    fork = before(spine[1], -5, -11, 8.0)
    cava = [before(v, 13, 0, 10.5) for v in reversed(spine[1:])]
    joined = before(spine[0], 10, 8, 9.0)
    courses = [([*aorta, fork], (9.0, 8.5), True), ([*cava, joined], (10.5, 10.0), False)]
    for side, hip in ((-1, Bone.LEFT_HEMIPELVIS), (1, Bone.RIGHT_HEMIPELVIS)):
        down = [
            subject.frames.place(hip, (side * x, y, z))
            for x, y, z in ((42, -8, 92), (62, 22, 52), (76, 46, 12), (84, 52, -40), (76, 40, -150))
        ]
        courses.append(([fork, *down], (6.0, 3.8), True))
        beside = [point + np.array([side * -10.0, -7.0, 0.0]) for point in down]
        courses.append(([joined, *beside], (6.5, 6.0), False))
    pieces = []
    for course, radii, artery in courses:
        points = off_bone.moved(_subdivided(np.array(course)), max(radii))
        sizes = np.linspace(*radii, len(points))
        for n in range(len(points) - 1):
            ends = float(sizes[n]), float(sizes[n + 1])
            pieces.append(VesselPiece(points[n], points[n + 1], ends, artery))
    return pieces


def _subdivided(course: NDArray) -> NDArray:
    """Points along a course, its corners rounded, some `STEP_MM` apart."""
    length = np.r_[0, np.cumsum(np.linalg.norm(np.diff(course, axis=0), axis=1))]
    places = np.linspace(0, length[-1], max(int(length[-1] / STEP_MM), 2))
    return PchipInterpolator(length, course)(places)


class _BonesAround:
    """Keeps tubes off the vertebrae and the bones of the model."""

    def __init__(self, subject: Subject, spine: list[Vertebra]) -> None:
        self._spine = spine
        bones = (Bone.SACRUM, Bone.LEFT_HEMIPELVIS, Bone.RIGHT_HEMIPELVIS)
        surfaces = [subject.bones.surface(bone) for bone in bones]
        self._tree = cKDTree(np.concatenate([vertices for vertices, _ in surfaces]))
        self._normals = np.concatenate([unit_normals(*surface) for surface in surfaces])

    def moved(self, points: NDArray, radius: float) -> NDArray:
        """(N, 3) the points, pushed until a tube about them clears the bones."""
        points, room = points.copy(), radius + OFF_BONE_MM
        for _ in range(6):
            for vertebra in self._spine:
                axes = tuple(points.T.astype(np.float32))
                apart = np.minimum(vertebra.distance(axes), vertebra.disc_distance(axes))
                points += np.maximum(room - apart, 0)[:, None] * vertebra.rows[1]
            far, nearest = self._tree.query(points)
            normals = self._normals[nearest]
            depth = np.einsum("ij,ij->i", points - self._tree.data[nearest], normals)
            apart = np.where(depth < 0, -far, far)
            points += np.where(far < 25, np.maximum(room - apart, 0), 0)[:, None] * normals
        return points


def _pouches(subject: Subject, rng: np.random.Generator) -> list[Pouch]:
    """Rectum and colon from the sigmoid to the caecum; loops of small bowel."""
    frames, gassy = subject.frames, subject.parameters.bowel_gas
    crest = subject.envelope.crest_mm
    front = float(
        np.interp(crest, subject.envelope.knots_mm[:, 0], subject.envelope.knots_mm[:, 2])
    )
    rectum = frames.place(
        Bone.SACRUM, [(0, -20, -48), (0, -55, -20), (2, -72, 8), (-6, -68, 35), (-20, -48, 55)]
    )
    sag = rng.uniform(-25, 60)
    transverse = np.array(
        [
            [98, front - 45, crest + 95],
            [60, front - 22, crest + 45 + sag / 2],
            [rng.uniform(-20, 20), front - 16, crest + sag],
            [-60, front - 22, crest + 60 + sag / 2],
            [-102, front - 50, crest + 125],
        ]
    )
    sigmoid = np.array([[-42, -15, 72], [-20, 10, 84], [-55, 18, 92], [-88, 0, crest - 30]])
    descending = np.array([[-98, -22, crest], [-104, -30, crest + 60], [-106, -30, crest + 180]])
    ascending = np.array(
        [[72, 22, crest - 75], [92, 10, crest - 30], [100, -8, crest + 30], [104, -12, crest + 180]]
    )
    pouches: list[Pouch] = []
    for course, radius, share in (
        (np.concatenate([rectum, sigmoid]), 14.0, 0.8),
        (descending, 15.0, 0.6),
        (ascending, 23.0, 1.0),
        (transverse, 19.0, 1.1),
    ):
        pouches += _colon(course, radius, gassy * share, rng)
    for _ in range(46):
        center = np.array(
            [rng.uniform(-75, 75), rng.uniform(5, front - 12), rng.uniform(45, crest + 190)]
        )
        pouches += _loop(center, gassy, rng)
    return pouches


def _colon(course: NDArray, radius: float, gassy: float, rng: np.random.Generator) -> list[Pouch]:
    """Haustra along a winding course, folds between them; gas and stool come in stretches."""
    length = np.r_[0, np.cumsum(np.linalg.norm(np.diff(course, axis=0), axis=1))]
    wave, stool = rng.uniform(0, 2 * np.pi, 3), rng.uniform(0.2, 1.3)
    pouches, place = [], 0.0
    while place < length[-1]:
        fill = 0.5 + 0.5 * np.sin(place / 38 + wave[0]) + rng.normal(0, 0.08)
        size = radius * rng.uniform(0.85, 1.15) * (0.7 + 0.55 * fill * gassy)
        center = np.array([np.interp(place, length, column) for column in course.T])
        center += 0.3 * radius * np.sin(place / (2.2 * radius) + wave) + rng.normal(0, 1.5, 3)
        level = center[1] + radius * (1.3 - 2.8 * gassy * max(fill, 0) - (0.1 if gassy else -1))
        radii, hu = size * rng.uniform(0.85, 1.15, 3), rng.uniform(10, 60)
        pouches.append(Pouch(center, radii, level, hu, float(np.clip(stool - 0.4 * fill, 0, 1))))
        place += size * rng.uniform(1.0, 1.35)
    return pouches


def _loop(center: NDArray, gassy: float, rng: np.random.Generator) -> list[Pouch]:
    """A short bent piece of small bowel."""
    direction, radius = rng.normal(size=3), rng.uniform(8, 14)
    full = rng.random() < 0.45 * gassy
    pouches = []
    for _ in range(int(rng.integers(3, 8))):
        direction = direction + 0.7 * rng.normal(size=3)
        center = center + 0.8 * radius * direction / np.linalg.norm(direction)
        level = center[1] + radius * (rng.uniform(-0.9, 0.3) if full else 3)
        pouches.append(Pouch(center, radius * rng.uniform(0.9, 1.1, 3), level, rng.uniform(15, 45)))
    return pouches


def _add_pouch(
    pouch: Pouch, grid: Grid, bowel: NDArray, gas: NDArray, contents: NDArray, stool: NDArray
) -> None:
    box = grid.box(pouch.center_ras_mm, float(pouch.radii_mm.max()) + 6)
    if box is None:
        return
    axes = grid.axes_mm(box)
    distance = ellipsoid(axes, pouch.center_ras_mm, pouch.radii_mm)
    above = np.float32(pouch.gas_above_mm) - axes[1]
    stool[box] = np.where(distance < bowel[box], np.float32(pouch.stool), stool[box])
    contents[box] = np.where(distance < bowel[box], np.float32(pouch.hu), contents[box])
    bowel[box] = np.minimum(bowel[box], distance)
    gas[box] = np.minimum(gas[box], np.maximum(distance + WALL_MM, above))
