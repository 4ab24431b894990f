"""What a fit aims at: points on the surfaces of given bones, with their normals."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkImageData
from vtkmodules.vtkFiltersCore import vtkSurfaceNets3D

from XraySynthLib.anatomy.parts import LABEL_IDS, Bone, recognise_label_ids
from XraySynthLib.anatomy.surfaces import area_normals
from XraySynthLib.geometry.transforms import transform_points

MIN_BONE_POINTS = 60
# Of the surface nets: evens out the steps of voxels; more would shrink the bone.
SMOOTHING_STEPS = 3
_MIN_ISLAND_SHARE = 0.02  # of a bone's voxels: less is a speck of a wrong label


@dataclass(frozen=True, eq=False)
class BoneTarget:
    """Points on a bone's surface.

    Attributes:
        points_ras_mm: (N, 3) RAS, mm.
        normals_ras: (N, 3) outward unit normals.
    """

    points_ras_mm: NDArray
    normals_ras: NDArray

    def __post_init__(self) -> None:
        for name in ("points_ras_mm", "normals_ras"):
            array = np.array(getattr(self, name), dtype=float)
            if array.ndim != 2 or array.shape[1] != 3 or not np.isfinite(array).all():
                raise ValueError(f"{name} must be (N, 3) finite numbers, got {array.shape}.")
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if self.points_ras_mm.shape != self.normals_ras.shape:
            raise ValueError("Each point needs one normal.")

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
        return BoneTarget(self.points_ras_mm[kept], self.normals_ras[kept])


def target_from_surface(vertices_ras_mm: NDArray, triangles: NDArray) -> BoneTarget:
    """Use a bone's triangle surface, normals outward (counter-clockwise from outside)."""
    normals = area_normals(np.asarray(vertices_ras_mm, dtype=float), triangles)
    lengths = np.linalg.norm(normals, axis=1)
    good = lengths > 0
    return BoneTarget(np.asarray(vertices_ras_mm)[good], normals[good] / lengths[good, None])


def targets_from_labels(
    labels: NDArray, ras_from_ijk: NDArray, ids: str | Mapping[Bone, int] | None = None
) -> dict[Bone, BoneTarget]:
    """Find the surfaces of the bones in a label map.

    Faces on the border of the volume are left out: there the picture ends, not the bone.

    Args:
        labels: (K, J, I) integers.
        ras_from_ijk: (4, 4) of the grid.
        ids: A key of `LABEL_IDS`, the label of each bone, or None to recognise them.

    Returns:
        The bones that are there with a surface of some size.
    """
    if ids is None:
        ids = recognise_label_ids(labels)
    bone_ids = LABEL_IDS[ids] if isinstance(ids, str) else ids
    targets = {}
    for bone, label in bone_ids.items():
        mask = labels == label
        if mask.any():
            target = _mask_surface(mask, np.asarray(ras_from_ijk, dtype=float))
            if target is not None:
                targets[bone] = target
    return targets


def _mask_surface(mask: NDArray, ras_from_ijk: NDArray) -> BoneTarget | None:
    """Surface nets (Gibson 1998) of a mask: half a voxel's steps are relaxed, thin plates stay."""
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
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
    return BoneTarget(points_ras, turned) if inside.sum() >= MIN_BONE_POINTS else None
