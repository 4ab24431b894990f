"""OpenCV: K, R and t of `cv2.projectPoints`.

x along columns, y along rows, z to the detector; an integer is a pixel's centre. The world is RAS,
mm. A mirrored view has a negative K[0, 0], which OpenCV's linear functions accept.
Source: OpenCV, "Camera Calibration and 3D Reconstruction", s p = K [R|t] P.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from XraySynthLib.geometry.intrinsics import Intrinsics
from XraySynthLib.geometry.transforms import checked_rigid, checked_vector, inverse_rigid
from XraySynthLib.geometry.view import View


class OpenCVCamera(NamedTuple):
    """What `cv2.projectPoints` takes (its rvec is `cv2.Rodrigues(rotation)[0]`).

    Attributes:
        camera_matrix: (3, 3) K, px.
        rotation: (3, 3) camera axes from RAS axes.
        translation_mm: (3,) the RAS origin in the camera frame, mm.
    """

    camera_matrix: NDArray
    rotation: NDArray
    translation_mm: NDArray


def opencv_from_view(view: View) -> OpenCVCamera:
    """Describe a view as OpenCV's K, R and t."""
    camera_from_ras = view.camera_from_ras
    return OpenCVCamera(
        np.array(view.intrinsics.px_from_camera), camera_from_ras[:3, :3], camera_from_ras[:3, 3]
    )


def view_from_opencv(
    camera: tuple[ArrayLike, ArrayLike, ArrayLike],
    source_to_detector_mm: float,
    shape_px: tuple[int, int],
) -> View:
    """Make a view of OpenCV's K, R and t.

    Args:
        camera: (3, 3) K, (3, 3) R and (3,) t, as in `OpenCVCamera`.
        source_to_detector_mm: Not in K, which holds its ratio to the pixel spacing alone.
        shape_px: Rows, columns.

    Raises:
        ValueError: If K has a skew or is no pinhole matrix, or R is not a rotation.
    """
    camera_matrix = checked_camera_matrix(camera[0])
    camera_from_ras = np.eye(4)
    camera_from_ras[:3, :3] = np.reshape(camera[1], (3, 3))
    camera_from_ras[:3, 3] = checked_vector(np.ravel(camera[2]), "t", 3)
    camera_from_ras = checked_rigid(camera_from_ras, "[R|t]")
    if camera_matrix[1, 1] < 0:  # our y runs along rows: turn the camera about its z axis
        half_turn = np.diag([-1.0, -1.0, 1.0])
        camera_matrix = camera_matrix @ half_turn
        camera_from_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ camera_from_ras
    focal_px = np.diag(camera_matrix)[:2]
    intrinsics = Intrinsics(
        source_to_detector_mm=source_to_detector_mm,
        pixel_spacing_mm=source_to_detector_mm / np.abs(focal_px),
        shape_px=shape_px,
        principal_point_px=camera_matrix[:2, 2],
        mirrored=bool(focal_px[0] < 0),
    )
    return View(inverse_rigid(camera_from_ras), intrinsics)


def checked_camera_matrix(camera_matrix: ArrayLike) -> NDArray:
    """Return K as (3, 3) float64 with K[2, 2] = 1.

    Raises:
        ValueError: If it has a skew or is no pinhole matrix.
    """
    matrix = np.asarray(camera_matrix, dtype=np.float64)
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or matrix[2, 2] == 0:
        raise ValueError(f"K must be a 3x3 matrix of finite numbers, got {matrix.tolist()}.")
    matrix = matrix / matrix[2, 2]
    focal_px = np.abs(np.diag(matrix)[:2])
    zeros = np.abs([matrix[0, 1], matrix[1, 0], matrix[2, 0], matrix[2, 1]])
    if focal_px.min() == 0 or zeros.max() > 1e-6 * focal_px.min():
        raise ValueError(
            f"K must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] without skew, got {matrix.tolist()}."
        )
    return matrix
