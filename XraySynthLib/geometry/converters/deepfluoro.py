"""DeepFluoro (Grupp et al., IPCAI 2020): the matrices of `ipcai_2020_full_res_data.h5`.

A point of the volume, LPS mm, falls on (column, row, 1) ~ intrinsic @ extrinsic @
inverse(cam-to-pelvis-vol) @ point: so says the data set's own `full_res_3d_viz.py`, and
`hdf5_layouts/Readme.md` gives the frame: origin at the source, x along columns, y along rows, z
**toward the source**. Points to be seen have z < 0, hence the negative focal lengths (-5257.732
px); an integer is a pixel's centre (principal point 767.5 of 1536). That frame is right-handed, so
with z turned to the detector x has to turn as well: it is our *mirrored* view, and no other.

The same code turns image and landmarks by half a turn where `rot-180-for-up` is set:
`View.rotated_180`. Nothing is added to the poses here: `gt-landmarks` agree with them as stored.
The data's author subtracts 0.5 mm on each LPS axis before comparing a DRR of the volume with the
image, because of voxel indexing when the poses were made (`ReadPelvisVolProjAndGtFromH5File`).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from XraySynthLib.geometry.converters.opencv import (
    checked_camera_matrix,
    opencv_from_view,
    view_from_opencv,
)
from XraySynthLib.geometry.transforms import (
    LPS_FROM_RAS,
    checked_rigid,
    checked_vector,
    inverse_rigid,
    read_only,
)
from XraySynthLib.geometry.view import View

PROJECTIVE_FROM_CAMERA = read_only(np.diag([-1.0, 1.0, -1.0, 1.0]))
"""Half a turn about y, its own inverse: z toward the source, x along the columns."""


class DeepFluoroCamera(NamedTuple):
    """Data sets of the file, by their names.

    Attributes:
        intrinsic: (3, 3) `/proj-params/intrinsic`, px.
        extrinsic: (4, 4) `/proj-params/extrinsic`, projective frame from camera world.
        cam_to_pelvis_vol: (4, 4) `gt-poses/cam-to-pelvis-vol`, LPS from camera world.
    """

    intrinsic: NDArray
    extrinsic: NDArray
    cam_to_pelvis_vol: NDArray


def deepfluoro_from_view(view: View, extrinsic: ArrayLike | None = None) -> DeepFluoroCamera:
    """Describe a view as the data set does.

    Args:
        view: A mirrored view.
        extrinsic: (4, 4) the one that all images of the file share; None is the identity.

    Raises:
        ValueError: If the view is not mirrored or `extrinsic` is not rigid.
    """
    if not view.intrinsics.mirrored:
        raise ValueError(
            "DeepFluoro holds mirrored views alone: use view.columns_reversed() and flip the "
            "image's columns with it."
        )
    projective_from_world = checked_rigid(
        np.eye(4) if extrinsic is None else extrinsic, "extrinsic"
    )
    lps_from_projective = (
        LPS_FROM_RAS @ view.ras_from_camera @ inverse_rigid(PROJECTIVE_FROM_CAMERA)
    )
    return DeepFluoroCamera(
        opencv_from_view(view).camera_matrix @ np.diag([1.0, -1.0, 1.0]),
        np.array(projective_from_world),
        lps_from_projective @ projective_from_world,
    )


def view_from_deepfluoro(
    camera: tuple[ArrayLike, ArrayLike, ArrayLike],
    pixel_spacing_mm: ArrayLike,
    shape_px: tuple[int, int],
) -> View:
    """Make a view of the image as stored; where `rot-180-for-up`, call `rotated_180` on it.

    Args:
        camera: intrinsic, extrinsic and cam-to-pelvis-vol, as in `DeepFluoroCamera`.
        pixel_spacing_mm: (2,) column, row: `pixel-col-spacing`, `pixel-row-spacing`.
        shape_px: Rows, columns: `num-rows`, `num-cols`.

    Raises:
        ValueError: If a focal length is positive, or the two disagree on the source's distance, or
            a transform is not rigid.
    """
    intrinsic = checked_camera_matrix(camera[0])
    focal_px = np.diag(intrinsic)[:2]
    if (focal_px > 0).any():
        raise ValueError(
            "DeepFluoro's focal lengths must be negative, for its z axis points to the source, got "
            f"{focal_px.tolist()}."
        )
    distances_mm = -focal_px * checked_vector(pixel_spacing_mm, "pixel_spacing_mm", 2)
    if np.ptp(distances_mm) > 1e-3 * distances_mm.max():
        raise ValueError(
            f"Columns and rows disagree on the source's distance: {distances_mm.tolist()} mm."
        )
    projective_from_world = checked_rigid(camera[1], "extrinsic")
    lps_from_world = checked_rigid(camera[2], "cam_to_pelvis_vol")
    projective_from_lps = projective_from_world @ inverse_rigid(lps_from_world)
    camera_from_ras = inverse_rigid(PROJECTIVE_FROM_CAMERA) @ projective_from_lps @ LPS_FROM_RAS
    return view_from_opencv(
        (intrinsic @ np.diag([1.0, -1.0, 1.0]), camera_from_ras[:3, :3], camera_from_ras[:3, 3]),
        float(distances_mm.mean()),
        shape_px,
    )
