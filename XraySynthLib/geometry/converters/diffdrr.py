"""DiffDRR 0.6.1: the arguments of `diffdrr.drr.DRR` and the pose given to its call.

`Detector` puts the source at the origin of its camera, z to the detector, and lays rows against y
and columns along x or, with `reverse_x_axis`, against it; pixel centres are symmetric about
(x0, y0), mm. World from camera is pose @ reorient (`RigidTransform.compose` multiplies from the
left). `diffdrr.data.read` turns by 90 degrees about x for the orientation "AP", and moves the
volume's centre to the world's origin unless told `center_volume=False`. Its "PA" reorient mirrors
(determinant -1) and is refused here.
"""

from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from XraySynthLib.geometry.intrinsics import Intrinsics
from XraySynthLib.geometry.transforms import (
    checked_rigid,
    checked_vector,
    inverse_rigid,
    read_only,
    rotation,
    translation,
)
from XraySynthLib.geometry.view import View

DIFFDRR_FROM_CAMERA = read_only(np.diag([-1.0, -1.0, 1.0, 1.0]))
"""Rows run against its y: half a turn about z."""

REORIENT = MappingProxyType({"AP": read_only(rotation("x", 90)), None: read_only(np.eye(4))})


class DiffDRRCamera(NamedTuple):
    """Keyword arguments of `DRR` after the subject, preceded by the pose for its call.

    Attributes:
        pose: (1, 4, 4) for `RigidTransform(torch.tensor(pose))`.
        sdd: Source to detector, mm.
        height: Rows.
        width: Columns.
        delx: Column spacing, mm.
        dely: Row spacing, mm.
        x0: Offset of the detector's middle from the principal point along its x, mm.
        y0: The same along its y, mm.
        reverse_x_axis: Columns run against x: False for a mirrored view.
    """

    pose: NDArray
    sdd: float
    height: int
    width: int
    delx: float
    dely: float
    x0: float
    y0: float
    reverse_x_axis: bool


def diffdrr_from_view(
    view: View, orientation: str | None = "AP", center_ras_mm: ArrayLike = (0.0, 0.0, 0.0)
) -> DiffDRRCamera:
    """Describe a view as DiffDRR's detector and pose.

    Args:
        view: The view.
        orientation: As given to `diffdrr.data.read`: "AP" or None.
        center_ras_mm: (3,) the volume's centre, RAS, mm; zeros where `center_volume=False`.

    Raises:
        ValueError: If the orientation is another.
    """
    intrinsics = view.intrinsics
    rows, columns = intrinsics.shape_px
    middle_px = np.array([columns - 1, rows - 1]) / 2
    x0, y0 = (intrinsics.principal_point_px - middle_px) * intrinsics.pixel_spacing_mm
    world_from_ras = inverse_rigid(_ras_from_world(center_ras_mm))
    world_from_diffdrr = world_from_ras @ view.ras_from_camera @ inverse_rigid(DIFFDRR_FROM_CAMERA)
    return DiffDRRCamera(
        pose=(world_from_diffdrr @ inverse_rigid(_reorient(orientation)))[None],
        sdd=intrinsics.source_to_detector_mm,
        height=rows,
        width=columns,
        delx=float(intrinsics.pixel_spacing_mm[0]),
        dely=float(intrinsics.pixel_spacing_mm[1]),
        x0=float(-x0 if intrinsics.mirrored else x0),
        y0=float(y0),
        reverse_x_axis=not intrinsics.mirrored,
    )


def view_from_diffdrr(
    camera: DiffDRRCamera,
    orientation: str | None = "AP",
    center_ras_mm: ArrayLike = (0.0, 0.0, 0.0),
) -> View:
    """Make a view of DiffDRR's detector and pose.

    Args:
        camera: The detector and the pose, a batch of one.
        orientation: As given to `diffdrr.data.read`: "AP" or None.
        center_ras_mm: (3,) the volume's centre, RAS, mm; zeros where `center_volume=False`.

    Raises:
        ValueError: If the orientation is another or the pose is not one rigid matrix.
    """
    if np.size(camera.pose) != 16:
        raise ValueError(f"pose must be one matrix (1, 4, 4), got {np.shape(camera.pose)}.")
    pose = checked_rigid(np.reshape(camera.pose, (4, 4)), "pose")
    world_from_camera = pose @ _reorient(orientation) @ DIFFDRR_FROM_CAMERA
    spacing_mm = np.array([camera.delx, camera.dely])
    offset_mm = np.array([camera.x0 if camera.reverse_x_axis else -camera.x0, camera.y0])
    middle_px = np.array([camera.width - 1, camera.height - 1]) / 2
    intrinsics = Intrinsics(
        source_to_detector_mm=camera.sdd,
        pixel_spacing_mm=spacing_mm,
        shape_px=(camera.height, camera.width),
        principal_point_px=middle_px + offset_mm / spacing_mm,
        mirrored=not camera.reverse_x_axis,
    )
    return View(_ras_from_world(center_ras_mm) @ world_from_camera, intrinsics)


def _ras_from_world(center_ras_mm: ArrayLike) -> NDArray:
    return translation(checked_vector(center_ras_mm, "center_ras_mm", 3))


def _reorient(orientation: str | None) -> NDArray:
    if orientation not in REORIENT:
        raise ValueError(
            f"orientation must be 'AP' or None, got {orientation!r} (DiffDRR's 'PA' mirrors)."
        )
    return REORIENT[orientation]
