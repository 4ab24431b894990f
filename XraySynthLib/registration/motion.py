"""Small motions of a view about a point, and how far two views are apart."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from XraySynthLib.geometry import View
from XraySynthLib.geometry.transforms import inverse_rigid, transform_points, translation


def moved(view: View, motion: ArrayLike, pivot_ras_mm: NDArray) -> View:
    """The view of a patient who turned about a point and then shifted.

    Both are along the camera's axes, so that the last number is depth along the beam.

    Args:
        view: The view.
        motion: (6,) rotation vector, deg, and shift, mm.
        pivot_ras_mm: (3,) the point turned about, RAS, mm.
    """
    motion = np.asarray(motion, dtype=np.float64)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec(motion[:3], degrees=True).as_matrix()
    pivot_mm = transform_points(view.camera_from_ras, pivot_ras_mm[None])[0]
    camera_from_unmoved = translation(pivot_mm + motion[3:]) @ turn @ translation(-pivot_mm)
    return View(view.ras_from_camera @ inverse_rigid(camera_from_unmoved), view.intrinsics)


def motion_to(view: View, other: View, pivot_ras_mm: NDArray) -> NDArray:
    """(6,) the motion about a point that makes one view another: `moved` undone."""
    turn = Rotation.from_matrix(other.ras_from_camera[:3, :3].T @ view.ras_from_camera[:3, :3])
    here_mm, there_mm = (
        transform_points(each.camera_from_ras, pivot_ras_mm[None])[0] for each in (view, other)
    )
    return np.concatenate([turn.as_rotvec(degrees=True), there_mm - here_mm])


class PoseError(NamedTuple):
    """How far a view is from the true one.

    Attributes:
        rotation_deg: Angle between the two.
        translation_mm: Shift of the landmarks' centre, in the camera's frame.
        depth_mm: Its part along the true beam.
        target_mm: Mean distance of the landmarks under the two (mTRE), in the camera's frame.
    """

    rotation_deg: float
    translation_mm: float
    depth_mm: float
    target_mm: float


def pose_error(view: View, true_view: View, points_ras_mm: NDArray) -> PoseError:
    """Compare two views of the same patient.

    Args:
        view: The estimate.
        true_view: The truth.
        points_ras_mm: (N, 3) the targets, RAS, mm; rows of NaN are left out.
    """
    points = points_ras_mm[np.isfinite(points_ras_mm).all(axis=1)]
    there = transform_points(view.camera_from_ras, points)
    true = transform_points(true_view.camera_from_ras, points)
    turn = Rotation.from_matrix(view.ras_from_camera[:3, :3].T @ true_view.ras_from_camera[:3, :3])
    shift_mm = (there - true).mean(axis=0)
    return PoseError(
        rotation_deg=float(np.rad2deg(turn.magnitude())),
        translation_mm=float(np.linalg.norm(shift_mm)),
        depth_mm=float(abs(shift_mm[2])),
        target_mm=float(np.linalg.norm(there - true, axis=1).mean()),
    )
