"""The bones of a subject as layers: coverage of bone, coverage of marrow, HU of both."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from XraySynthLib.anatomy import spine, trabeculae
from XraySynthLib.anatomy.bone_frames import BoneFrames
from XraySynthLib.anatomy.cortex import VERTEBRA_MM, cortex_mm
from XraySynthLib.anatomy.grids import Box, Grid
from XraySynthLib.anatomy.parameters import SubjectParameters
from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.primitives import smooth_coverage
from XraySynthLib.anatomy.sacrum import tunnels_distance
from XraySynthLib.anatomy.surface_distance import surface_band

CORTEX_HU = {"thin": 1350.0, "shaft": 1650.0}
"""True density of thin cortex and of the femoral shaft; partial volume takes its share."""
VERTEBRAE_LABEL, COCCYX_LABEL = 3, 7
PLATE_SHARE = 0.33
"""A voxel amid a plate of hip bone is labelled bone from this share on, else from half on."""


@dataclass(frozen=True, eq=False)
class BoneLayer:
    """One bone on part of a grid.

    Attributes:
        label: What it is called in the label map.
        box: Slices of the grid.
        mask: Box-shaped bool, the voxels listed.
        bone: (N,) part of each voxel that is bone or marrow.
        marrow: (N,) part that lies inside the cortex.
        cortex_hu: (N,) HU of the cortex.
        marrow_hu: (N,) HU inside it.
        solid: (N,) bool, what the label map may call this bone: in one piece and without holes.
    """

    label: int
    box: Box
    mask: NDArray
    bone: NDArray
    marrow: NDArray
    cortex_hu: NDArray
    marrow_hu: NDArray
    solid: NDArray


def bone_layers(
    frames: BoneFrames, parameters: SubjectParameters, table: NDArray, grid: Grid
) -> Iterator[BoneLayer]:
    """Yield every bone that the grid holds, vertebrae and sacrum first, hemipelves last.

    Args:
        frames: The subject's bones.
        parameters: The subject's.
        table: Noise for the texture.
        grid: The voxels.
    """
    quality = parameters.bone_quality
    top_mm = grid.center_ras_mm[2] + grid.shape[0] * grid.spacing_mm / 2 + 40
    for index, vertebra in enumerate(spine.lumbar_spine(frames, parameters, top_mm)):
        yield from _vertebra(vertebra, index, quality, table, grid)
    yield from _coccyx(frames, quality, grid)
    for bone in (Bone.SACRUM, Bone.LEFT_FEMUR, Bone.RIGHT_FEMUR, *_HEMIPELVES):
        yield from _modelled(bone, frames, quality, table, grid)


_HEMIPELVES = (Bone.LEFT_HEMIPELVIS, Bone.RIGHT_HEMIPELVIS)


def _modelled(
    bone: Bone, frames: BoneFrames, quality: float, table: NDArray, grid: Grid
) -> Iterator[BoneLayer]:
    vertices, triangles = frames.shape.surface(bone)
    cortex = cortex_mm()[bone] * quality**0.6
    band = surface_band(vertices, triangles, cortex[:, None], grid, 1.2 * grid.spacing_mm)
    if band is None:
        return
    mean_points = frames.on_mean(bone, band.points_ras_mm)
    distance, thick = band.distance_mm, band.values[:, 0].astype(np.float32)
    if bone is Bone.SACRUM:
        tunnels = tunnels_distance(frames, band.points_ras_mm)
        tunnels += np.float32(1.1) * trabeculae.grain(table, tuple(mean_points.T / 4))
        thick = np.where(-tunnels > distance, np.float32(0.6), thick)
        distance = np.maximum(distance, -tunnels)
        marrow_hu = trabeculae.sacrum_hu(mean_points, table)
    elif bone in _HEMIPELVES:
        marrow_hu = trabeculae.hemipelvis_hu(mean_points, bone, table)
    else:
        marrow_hu = trabeculae.femur_hu(mean_points, bone, table)
    share = np.clip((thick - 2) / 4, 0, 1)
    cortex_hu = CORTEX_HU["thin"] + share * (CORTEX_HU["shaft"] - CORTEX_HU["thin"])

    where = band.box, band.mask
    yield _layer(int(bone), *where, distance, thick, cortex_hu, marrow_hu, quality, grid)


def _vertebra(
    vertebra: spine.Vertebra, index: int, quality: float, table: NDArray, grid: Grid
) -> Iterator[BoneLayer]:
    box = grid.box(vertebra.reach())
    if box is None:
        return
    axes = grid.axes_mm(box)
    distance = vertebra.distance(axes)
    mask = distance < grid.spacing_mm
    if not mask.any():
        return
    local = np.stack([np.broadcast_to(a, mask.shape)[mask] for a in vertebra.local(axes)], axis=1)
    marrow_hu = trabeculae.vertebra_hu(local, table, 7.3 * index)
    end = np.abs(np.abs(local[:, 2]) - vertebra.half_mm[2]) < 2.5
    hard = 1.0 + 0.2 * vertebra.spurs_mm.max()  # endplates of worn discs
    thick = np.where(end, np.float32(hard), np.float32(VERTEBRA_MM)) * np.float32(quality**0.6)
    cortex_hu = np.full(len(local), CORTEX_HU["thin"] - 150)
    yield _layer(
        VERTEBRAE_LABEL,
        box,
        mask,
        distance[mask],
        thick,
        cortex_hu,
        marrow_hu,
        quality,
        grid,
    )


def _coccyx(frames: BoneFrames, quality: float, grid: Grid) -> Iterator[BoneLayer]:
    box = grid.box(spine.coccyx_points(frames), 16)
    if box is None:
        return
    distance = spine.coccyx_distance(frames, grid.axes_mm(box))
    mask = distance < grid.spacing_mm
    size = int(mask.sum())
    if size:
        thick = np.full(size, np.float32(0.8))
        hu = np.full(size, 1000.0), np.full(size, 120.0)
        yield _layer(COCCYX_LABEL, box, mask, distance[mask], thick, *hu, quality, grid)


def _layer(
    label: int,
    box: Box,
    mask: NDArray,
    distance: NDArray,
    thick: NDArray,
    cortex_hu: NDArray,
    marrow_hu: NDArray,
    quality: float,
    grid: Grid,
) -> BoneLayer:
    """Coverages from distances. Fat marrow (-60 HU) takes the place of lost trabeculae."""
    bone = smooth_coverage(distance, grid.spacing_mm)
    marrow = smooth_coverage(distance + thick, grid.spacing_mm)
    bone, marrow, solid = _in_one_piece(mask, bone, marrow, label in _HEMIPELVES)
    return BoneLayer(
        label,
        box,
        mask,
        bone,
        marrow,
        (cortex_hu * (0.8 + 0.2 * quality)).astype(np.float32),
        (-60 + (marrow_hu + 60) * quality).astype(np.float32),
        solid,
    )


def _in_one_piece(
    mask: NDArray, bone: NDArray, marrow: NDArray, plates: bool
) -> tuple[NDArray, NDArray, NDArray]:
    """Thin out specks beside a bone and fill holes inside it.

    Args:
        mask: Box-shaped bool.
        bone: (N,) part of each voxel of `mask` that is bone or marrow.
        marrow: (N,) part that is marrow.
        plates: Whether the bone has plates so thin that they fill less than half of any voxel.

    Returns:
        (N,) bone and marrow mended, and which voxels are the bone's.
    """
    solid, part = np.zeros(mask.shape, bool), np.zeros(mask.shape, bool)
    solid[mask] = bone >= 0.5
    if plates:
        part[mask] = bone >= PLATE_SHARE
        ball = ndimage.generate_binary_structure(3, 2)
        padded = np.pad(solid, 2)
        solid |= part & ndimage.binary_closing(padded, ball, 2)[2:-2, 2:-2, 2:-2]
    pieces, count = ndimage.label(solid)
    if count == 0:
        return bone, marrow, solid[mask]
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    largest = pieces == sizes.argmax()
    speck = (solid & ~largest)[mask]
    filled = ndimage.binary_fill_holes(largest)
    hole = (filled & ~largest)[mask]
    bone = np.where(speck, np.minimum(bone, np.float32(0.45)), np.where(hole, 1, bone))
    marrow = np.where(hole, 1, np.minimum(marrow, bone))
    return bone.astype(np.float32), marrow.astype(np.float32), filled[mask]
