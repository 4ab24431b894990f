"""What a fit aims at: points on the surfaces of given bones, their normals, where they were cut."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkImageData
from vtkmodules.vtkFiltersCore import vtkSurfaceNets3D

from XraySynthLib.anatomy.parts import LABEL_IDS, Bone, recognise_label_ids
from XraySynthLib.anatomy.surfaces import unit_normals
from XraySynthLib.geometry.transforms import checked_affine, transform_points

MIN_BONE_POINTS = 60
# Of the surface nets: evens out the steps of voxels; more would shrink the bone.
SMOOTHING_STEPS = 3
MIN_FACING = 0.8  # cosine between a cut face's point's normal and the face's
# A flat end within the map is a cut. Area of a bone's last slice against that 5 mm further in:
# cuts have 0.85 to 1.1, natural ends of six people up to 0.56 (2.5 mm) and 0.67 (5 mm slices).
MIN_END_SHARE = 0.75
MIN_END_MM2 = 150.0
_END_DEPTH_MM = 5.0
_MIN_ISLAND_SHARE = 0.02  # of a bone's voxels: less is a speck of a wrong label


@dataclass(frozen=True, eq=False)
class BoneTarget:
    """Points on a bone's surface.

    Attributes:
        points_ras_mm: (N, 3) RAS, mm.
        normals_ras: (N, 3) outward unit normals.
        cuts_ras: (C, 4) planes that end the bone though it goes on: unit normal away from what is
            there, distance from the origin in mm. Most often none.
    """

    points_ras_mm: NDArray
    normals_ras: NDArray
    cuts_ras: NDArray = field(default_factory=lambda: np.zeros((0, 4)))

    def __post_init__(self) -> None:
        for name, size in (("points_ras_mm", 3), ("normals_ras", 3), ("cuts_ras", 4)):
            array = np.array(getattr(self, name), dtype=float)
            if array.ndim != 2 or array.shape[1] != size or not np.isfinite(array).all():
                raise ValueError(f"{name} must be (N, {size}) finite numbers, got {array.shape}.")
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if self.points_ras_mm.shape != self.normals_ras.shape:
            raise ValueError("Each point needs one normal.")

    def depths_mm(self, points_ras_mm: NDArray) -> NDArray:
        """(N,) distance of (N, 3) points to the nearest cut, negative beyond; inf without cuts."""
        heights = points_ras_mm @ self.cuts_ras[:, :3].T - self.cuts_ras[:, 3]
        return -heights.max(axis=1, initial=-np.inf)

    def kept(self, points: NDArray) -> "BoneTarget":
        """Keep some points, by index or truth."""
        return replace(
            self, points_ras_mm=self.points_ras_mm[points], normals_ras=self.normals_ras[points]
        )

    def without_cut_faces(self, depth_mm: float) -> "BoneTarget":
        """Take cut faces away: points that face a cut and lie nearer to it than `depth_mm`."""
        face = np.zeros(len(self.points_ras_mm), dtype=bool)
        for *normal, offset_mm in self.cuts_ras:
            near = self.points_ras_mm @ normal > offset_mm - depth_mm
            face |= near & (self.normals_ras @ normal > MIN_FACING)
        return self.kept(~face)

    def thinned(self, count: int) -> "BoneTarget":
        """Keep about `count` points, evenly over the surface (one a cell of a grid)."""
        if len(self.points_ras_mm) <= count:
            return self
        low_mm, high_mm = 0.1, float(np.ptp(self.points_ras_mm, axis=0).max())
        for _ in range(20):
            cell_mm = (low_mm + high_mm) / 2
            cells = np.floor(self.points_ras_mm / cell_mm).astype(np.int64)
            kept = np.unique(cells, axis=0, return_index=True)[1]
            low_mm, high_mm = (cell_mm, high_mm) if len(kept) > count else (low_mm, cell_mm)
        return self.kept(kept)


def target_from_surface(vertices_ras_mm: NDArray, triangles: NDArray) -> BoneTarget:
    """Use a bone's triangle surface, normals outward (counter-clockwise from outside)."""
    vertices_ras_mm = np.asarray(vertices_ras_mm, dtype=float)
    normals = unit_normals(vertices_ras_mm, triangles)
    return BoneTarget(vertices_ras_mm, normals).kept(normals.any(axis=1))


def targets_from_labels(
    labels: NDArray, ras_from_ijk: NDArray, ids: str | Mapping[Bone, int] | None = None
) -> dict[Bone, BoneTarget]:
    """Find the surfaces of the bones in a label map.

    Faces on the border of the volume are left out: there the picture ends, not the bone. A bone
    that touches the border is cut there; so is one that ends flat along an axis of the map.

    Args:
        labels: (K, J, I) integers, none negative.
        ras_from_ijk: (4, 4) of the grid.
        ids: A key of `LABEL_IDS`, the label of each bone, or None to recognise them.

    Returns:
        The bones that are there with a surface of some size.

    Raises:
        ValueError: If an argument is not that, or no hip bone can be recognised.
    """
    labels = np.asarray(labels)
    if labels.ndim != 3 or not labels.size:
        raise ValueError(f"A label map must be (K, J, I), got shape {labels.shape}.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"A label map must hold integers, got {labels.dtype}.")
    if labels.min() < 0:
        raise ValueError(f"A label map must hold no negative ids, got {labels.min()}.")
    ras_from_ijk = checked_affine(ras_from_ijk, "ras_from_ijk")
    bone_ids = _checked_ids(recognise_label_ids(labels) if ids is None else ids)
    targets = {}
    for bone, label in bone_ids.items():
        mask = labels == label
        if mask.any():
            target = _mask_surface(mask, ras_from_ijk)
            if target is not None:
                targets[bone] = target
    return targets


def _checked_ids(ids: str | Mapping[Bone, int]) -> Mapping[Bone, int]:
    if isinstance(ids, str):
        if ids not in LABEL_IDS:
            raise ValueError(f"ids must be one of {', '.join(LABEL_IDS)}, got {ids!r}.")
        return LABEL_IDS[ids]
    if not isinstance(ids, Mapping) or not all(bone in tuple(Bone) for bone in ids):
        raise ValueError(f"ids must be a maker's name or the label of each Bone, got {ids!r}.")
    good = all(isinstance(label, int | np.integer) and label > 0 for label in ids.values())
    if not good or len(set(ids.values())) < len(ids):
        raise ValueError(f"Labels of bones must be positive integers that differ, got {ids!r}.")
    return {Bone(bone): label for bone, label in ids.items()}


def _cuts(mask: NDArray, starts: NDArray, shape: tuple[int, ...], ras_from_ijk: NDArray) -> NDArray:
    """(C, 4) planes in which a mask, that starts at (k, j, i) of a grid, was cut."""
    ijk_from_ras = np.linalg.inv(ras_from_ijk)
    spacing_mm = np.linalg.norm(ras_from_ijk[:3, :3], axis=0)[::-1]
    cuts = []
    for axis, side in np.ndindex(3, 2):
        areas = mask.sum(axis=tuple({0, 1, 2} - {axis}))
        slices = np.flatnonzero(areas)
        slices, last = (slices[::-1], shape[axis] - 1) if side else (slices, 0)
        index = slices[0] + starts[axis]
        deeper = slices[min(max(round(_END_DEPTH_MM / spacing_mm[axis]), 1), len(slices) - 1)]
        area_mm2 = areas[slices[0]] * spacing_mm.prod() / spacing_mm[axis]
        flat = area_mm2 > MIN_END_MM2 and areas[slices[0]] > MIN_END_SHARE * areas[deeper]
        if index == last or flat:
            sign = 1 if side else -1
            *normal, shift = sign * ijk_from_ras[2 - axis]  # outwards: sign * index rises
            plane = np.array([*normal, sign * index + 0.5 - shift])
            cuts.append(plane / np.linalg.norm(normal))
    return np.array(cuts).reshape(-1, 4)


def _mask_surface(mask: NDArray, ras_from_ijk: NDArray) -> BoneTarget | None:
    """Surface nets (Gibson 1998) of a mask: half a voxel's steps are relaxed, thin plates stay."""
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    shape = mask.shape
    starts = np.array([max(axis.start - 2, 0) for axis in box])
    stops = np.array([min(a.stop + 2, n) for a, n in zip(box, mask.shape, strict=True)])
    mask = mask[tuple(slice(a, b) for a, b in zip(starts, stops, strict=True))]
    islands, count = ndimage.label(mask)
    if count > 1:
        sizes = np.bincount(islands.ravel())
        sizes[0] = 0
        mask = (sizes >= _MIN_ISLAND_SHARE * sizes.sum())[islands]
    image = vtkImageData()
    image.SetDimensions(*mask.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(mask.astype(np.uint8).ravel(), deep=1))
    nets = vtkSurfaceNets3D()
    nets.SetInputData(image)
    nets.SetValue(0, 1)
    nets.SetOutputMeshTypeToTriangles()
    nets.SmoothingOn()
    nets.SetNumberOfIterations(SMOOTHING_STEPS)
    nets.Update()
    surface = nets.GetOutput()
    if surface.GetNumberOfPoints() < MIN_BONE_POINTS:
        return None
    points_ijk = vtk_to_numpy(surface.GetPoints().GetData()).astype(float)
    # Outwards is where the smoothed mask falls.
    slope = np.gradient(-ndimage.gaussian_filter(mask.astype(np.float32), 0.8))
    at_points = points_ijk.T[::-1]
    normals = np.stack(
        [ndimage.map_coordinates(axis, at_points, order=1, mode="nearest") for axis in slope[::-1]],
        axis=1,
    )
    inside = ((points_ijk > 0.25) & (points_ijk < np.array(mask.shape[::-1]) - 1.25)).all(axis=1)
    inside &= np.linalg.norm(normals, axis=1) > 1e-6
    points_ras = transform_points(ras_from_ijk, points_ijk[inside] + starts[::-1])
    # Normals are covectors: they go with the inverse transpose.
    turned = normals[inside] @ np.linalg.inv(ras_from_ijk[:3, :3])
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    if inside.sum() < MIN_BONE_POINTS:
        return None
    return BoneTarget(points_ras, turned, _cuts(mask, starts, shape, ras_from_ijk))
