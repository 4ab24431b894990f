"""A subject's CT: every tissue by the part of each voxel that it covers, then the scanner."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from XraySynthLib.anatomy import trabeculae
from XraySynthLib.anatomy.bones import bone_layers
from XraySynthLib.anatomy.extras import add_calcium, add_implants, add_table
from XraySynthLib.anatomy.grids import Box, Grid, resampled
from XraySynthLib.anatomy.hips import JOINT_SPACE_MM
from XraySynthLib.anatomy.joints import sacroiliac_gap
from XraySynthLib.anatomy.muscles import muscle_share
from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.primitives import Axes, ball, capsule, coverage
from XraySynthLib.anatomy.spine import lumbar_spine
from XraySynthLib.anatomy.subject import COMPACT, Subject
from XraySynthLib.anatomy.tissues import HU, Label
from XraySynthLib.anatomy.viscera import middle_of, viscera_of
from XraySynthLib.data import Volume

SOFT_SPACING_MM = 3.0
"""Soft tissue is laid out this coarsely, as distances, and interpolated."""
SKIN_MM = 2.0
CAPSULE_MM = 1.5
"""Of a hip joint, beyond the joint space about the head."""
LOWEST_HU, HIGHEST_HU = -1024.0, 3600.0


def render_ct(
    subject: Subject,
    shape: tuple[int, int, int] = COMPACT[0],
    spacing_mm: float = COMPACT[1],
) -> Volume:
    """Render a subject's CT with its labels.

    Args:
        subject: The subject.
        shape: Voxels (K, J, I).
        spacing_mm: Edge of a voxel.

    Returns:
        HU and uint8 labels (`tissues.Label`), the pelvis in the middle; i runs to the patient's
        left, j to the back. Same subject, same bytes.
    """
    return render_on(subject, subject.grid(shape, spacing_mm))


def render_on(subject: Subject, grid: Grid) -> Volume:
    """As `render_ct`, on any grid: a piece of the body, say."""
    values, labels = _soft_tissue(subject, grid)
    _add_joints(subject, grid, values, labels)
    _add_bones(subject, grid, values, labels)
    add_calcium(subject, grid, values)
    add_implants(subject, grid, values, labels)
    if subject.parameters.table:
        add_table(subject, grid, values, labels)
    _scan(subject, grid, values)
    return Volume(values, grid.ras_from_ijk, labels)


def bone_labels(
    subject: Subject,
    shape: tuple[int, int, int] = COMPACT[0],
    spacing_mm: float = COMPACT[1],
) -> tuple[NDArray, NDArray]:
    """The bones of `render_ct`'s labels, without its CT.

    Returns:
        (K, J, I) uint8 labels (`tissues.Label`), 0 beside bone, and (4, 4) ras_from_ijk.
    """
    grid = subject.grid(shape, spacing_mm)
    labels = np.zeros(grid.shape, np.uint8)
    _add_bones(subject, grid, np.zeros(grid.shape, np.float32), labels)
    return labels, grid.ras_from_ijk


def _soft_tissue(subject: Subject, grid: Grid) -> tuple[NDArray, NDArray]:
    """HU and labels of everything but bone."""
    coarse = grid.coarser(SOFT_SPACING_MM)
    parameters = subject.parameters
    fascia, skin = subject.envelope.distances(coarse.axes_mm())
    plane_mm = 1.2 + 0.05 * parameters.fat_mm
    muscle = muscle_share(subject.frames, parameters.muscle, plane_mm, fascia, coarse)
    organs = viscera_of(subject, fascia, coarse)
    wall = _abdominal_wall(subject, fascia, coarse)
    muscle = np.maximum(muscle * coverage(-organs.cavity, coarse.spacing_mm), wall)

    def fine(field: NDArray) -> NDArray:
        return resampled(field, coarse, grid)

    width = grid.spacing_mm
    rng = np.random.default_rng((parameters.texture_seed, 3))
    grain = rng.standard_normal(coarse.shape, dtype=np.float32)
    grain = fine(ndimage.gaussian_filter(grain, (2.2, 0.6, 0.6)))
    grain *= np.float32(9) / grain.std()
    values = np.full(grid.shape, np.float32(HU["fat"]))
    labels = np.full(grid.shape, np.uint8(Label.FAT))

    def paint(share: NDArray, hu: NDArray | float, label: Label) -> None:
        np.add(values, share * (hu - values), out=values)
        labels[share > 0.5] = label

    belly_hu = HU["visceral"] + 60 * np.float32(1 - min(parameters.fat_mm / 45, 1))
    inside = coverage(fine(organs.cavity), width)
    np.add(values, inside * (np.float32(belly_hu) - values), out=values)
    paint(fine(muscle), np.float32(HU["muscle"]) + grain, Label.MUSCLE)
    for field, hu, label in (
        (organs.soft, HU["soft"], Label.OTHER_SOFT),
        (organs.bowel, fine(organs.contents_hu), Label.BOWEL),
        (organs.bladder, HU["urine"], Label.BLADDER),
        (organs.vessels, HU["blood"], Label.VESSEL),
        (organs.gas, HU["gas"], Label.GAS),
    ):
        paint(coverage(fine(field), width), hu, label)
    skin = fine(skin)
    values += np.float32(0.6) * grain
    paint(coverage(-skin - np.float32(SKIN_MM), width), HU["skin"], Label.SKIN)
    paint(coverage(-skin, width), HU["air"], Label.AIR)
    return values, labels


def _abdominal_wall(subject: Subject, fascia: NDArray, coarse: Grid) -> NDArray:
    """Muscle under the fascia of belly and flanks, in three layers at the side."""
    x, y, z = coarse.axes_mm()
    thick = np.float32(13 * subject.parameters.muscle)
    shell = np.maximum(fascia, -thick - fascia)
    high = np.clip((z - 30) / 40, 0, 1) * np.clip((y + 40) / 30, 0, 1)
    side = np.clip((np.abs(x) - 70) / 20, 0, 1)
    layers = 1 - np.float32(0.35) * side * (np.cos(2 * np.pi * 3 * fascia / thick) > 0.6)
    middle = 1 - np.exp(-((x / 3) ** 2))  # linea alba
    return (coverage(shell, coarse.spacing_mm) * high * layers * middle).astype(np.float32)


def _add_joints(subject: Subject, grid: Grid, values: NDArray, labels: NDArray) -> None:
    """Lay discs, cartilage and what else fills the joints, before the bones."""
    top_mm = float(grid.axes_mm()[2].max() + 40)
    fillings: list[tuple[Box | None, Callable[[Axes], NDArray], str]] = [
        (grid.box(vertebra.reach()), vertebra.disc_distance, "disc")
        for vertebra in lumbar_spine(subject.frames, subject.parameters, top_mm)
    ]
    high, low = (middle_of(subject, name) - (0, 5, 0) for name in ("SPS", "IPS"))
    fillings.append(
        (grid.box([high, low], 10), lambda axes: capsule(axes, high, low, (8, 7)), "disc")
    )
    for femur in (Bone.LEFT_FEMUR, Bone.RIGHT_FEMUR):
        center, radius = subject.bones.head(femur)
        room = radius + JOINT_SPACE_MM + CAPSULE_MM
        fillings.append(
            (grid.box([center], room + 3), partial(ball, center=center, radius_mm=room), "joint")
        )
    gap, half_mm = sacroiliac_gap(subject.bones)
    for side in (gap[:, 0] < 0, gap[:, 0] > 0):
        nearest = _NearestPoint(gap[side], half_mm[side] + 0.5)
        fillings.append((grid.box(gap[side], 5), nearest, "joint"))
    for box, distance, hu in fillings:
        if box is not None:
            share = coverage(distance(grid.axes_mm(box)), grid.spacing_mm)
            values[box] += share * (np.float32(HU[hu]) - values[box])
            labels[box][share > 0.5] = Label.OTHER_SOFT


class _NearestPoint:
    """Distance to a cloud of balls, mm, right up to a few mm from them."""

    def __init__(self, points: NDArray, radii: NDArray) -> None:
        self._tree, self._radii = cKDTree(points), np.append(radii, 0)

    def __call__(self, axes: Axes) -> NDArray:
        x, y, z = np.broadcast_arrays(*axes)
        points = np.stack([x, y, z], axis=-1)
        far, nearest = self._tree.query(points, distance_upper_bound=8.0)
        return np.minimum(far - self._radii[nearest], 8.0).astype(np.float32)


def _add_bones(subject: Subject, grid: Grid, values: NDArray, labels: NDArray) -> None:
    """Lay each bone over what is there, by coverage, so that thin cortex keeps its mass."""
    parameters = subject.parameters
    table = trabeculae.noise_table(np.random.default_rng((parameters.texture_seed, 4)))
    most = np.zeros(grid.shape, np.float32)
    for layer in bone_layers(subject.frames, parameters, table, grid):
        box, mask = layer.box, layer.mask
        # Gas stays in its bowel: what bone leaves of a voxel is the bowel's wall.
        gas = mask & (labels[box] == Label.GAS)
        gas[mask] &= layer.bone > 0
        values[box][gas], labels[box][gas] = HU["bowel"], Label.BOWEL
        before = values[box][mask]
        own = layer.cortex_hu * (layer.bone - layer.marrow) + layer.marrow_hu * layer.marrow
        values[box][mask] = before * (1 - layer.bone) + own
        wins = layer.solid & (layer.bone > most[box][mask])
        most[box][mask] = np.where(wins, layer.bone, most[box][mask])
        labels[box][mask] = np.where(wins, np.uint8(layer.label), labels[box][mask])


def _scan(subject: Subject, grid: Grid, values: NDArray) -> None:
    """Add the scanner's noise, correlated over neighbours as a soft kernel leaves it."""
    rng = np.random.default_rng((subject.parameters.texture_seed, 5))
    noise = rng.standard_normal(grid.shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, 0.55, truncate=3)
    noise *= np.float32(subject.parameters.noise_hu / noise.std())
    values += noise
    np.clip(np.rint(values, out=values), LOWEST_HU, HIGHEST_HU, out=values)  # as scanners store
