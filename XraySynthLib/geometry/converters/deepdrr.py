"""DeepDRR 1.2.2 and its geometry package killeengeo 0.0.5.

`CameraProjection(index_from_camera2d, camera3d_from_world)`: camera3d has its origin at the source,
z to the detector, x along columns and y along rows. An index of n + 0.5 is the centre of pixel n
(`project_kernel.cu` samples at `udx + 0.5`; `from_sizes` puts the optical centre at W/2). World is
the anatomical frame of the volume unless `world_from_anatomical` says otherwise, and that is RAS
for a NIfTI file (`Volume.from_nifti`) and LPS for DICOM: pass RAS volumes. A mirrored view has a
negative K[0, 0]: rays are R^T K^-1 (u, v, 1), for which any sign will do.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from XraySynthLib.geometry.converters.opencv import (
    checked_camera_matrix,
    opencv_from_view,
    view_from_opencv,
)
from XraySynthLib.geometry.transforms import checked_rigid
from XraySynthLib.geometry.view import View

INDEX_FROM_PX = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
INDEX_FROM_PX.setflags(write=False)


class DeepDRRCamera(NamedTuple):
    """What `killeengeo.CameraProjection` takes; give its intrinsic the sensor's size as well.

    Attributes:
        index_from_camera2d: (3, 3) K, index = px + 0.5.
        camera3d_from_world: (4, 4) rigid, world = RAS, mm.
    """

    index_from_camera2d: NDArray
    camera3d_from_world: NDArray


def deepdrr_from_view(view: View) -> DeepDRRCamera:
    """Describe a view as DeepDRR's camera projection."""
    return DeepDRRCamera(
        INDEX_FROM_PX @ opencv_from_view(view).camera_matrix, np.array(view.camera_from_ras)
    )


def view_from_deepdrr(
    camera: tuple[ArrayLike, ArrayLike], source_to_detector_mm: float, shape_px: tuple[int, int]
) -> View:
    """Make a view of DeepDRR's camera projection.

    Args:
        camera: (3, 3) index_from_camera2d and (4, 4) camera3d_from_world, as in `DeepDRRCamera`.
        source_to_detector_mm: The device's `source_to_detector_distance`.
        shape_px: Rows, columns: sensor height, sensor width.

    Raises:
        ValueError: If K has a skew or the transform is not rigid.
    """
    px_from_camera = np.linalg.inv(INDEX_FROM_PX) @ checked_camera_matrix(camera[0])
    camera_from_ras = checked_rigid(camera[1], "camera3d_from_world")
    return view_from_opencv(
        (px_from_camera, camera_from_ras[:3, :3], camera_from_ras[:3, 3]),
        source_to_detector_mm,
        shape_px,
    )
