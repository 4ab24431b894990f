"""The hip joint: where a femoral head sits, how a femur is turned about it, room for it to turn."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from XraySynthLib.anatomy.spheres import fit_sphere, fit_sphere_of_radius

JOINT_SPACE_MM = 2.5  # bone to bone; the least that radiographs of healthy hips show
_MIRROR = np.array([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class HipPose:
    """How a femur is turned from its neutral pose, about the centre of its head.

    Neutral: mechanical axis along the pelvis' -z, knee forward. The order is rotation about the
    femur's own axis first, then abduction, then flexion.

    Attributes:
        flexion_deg: Knee forward (anterior).
        abduction_deg: Knee away from the midline.
        internal_rotation_deg: Toes towards the midline.
    """

    flexion_deg: float = 0.0
    abduction_deg: float = 0.0
    internal_rotation_deg: float = 0.0

    def rotation(self, left: bool) -> NDArray:
        """(3, 3) matrix that turns column vectors in RAS, for the left or the right leg."""
        side = 1.0 if left else -1.0
        return Rotation.from_euler(
            "zyx",
            [
                -side * self.internal_rotation_deg,
                side * self.abduction_deg,
                self.flexion_deg,
            ],
            degrees=True,
        ).as_matrix()

    @classmethod
    def from_rotation(cls, matrix: NDArray, left: bool) -> "HipPose":
        """Find the angles of a rotation; the inverse of `rotation`."""
        side = 1.0 if left else -1.0
        turn, abduction, flexion = Rotation.from_matrix(matrix).as_euler("zyx", degrees=True)
        return cls(float(flexion), float(side * abduction), float(-side * turn))


def seat_center(socket_points_mm: NDArray, head_radius_mm: float) -> NDArray:
    """Find where the head's centre sits: the sphere of head and joint space that fits the socket.

    Args:
        socket_points_mm: (N, 3) points of the socket's surface, mm.
        head_radius_mm: Radius of the femoral head.

    Returns:
        (3,) centre, mm, in the frame of the points.
    """
    start = fit_sphere(socket_points_mm)[0]
    return fit_sphere_of_radius(socket_points_mm, head_radius_mm + JOINT_SPACE_MM, start)


def clear_socket(points_mm: NDArray, center_mm: NDArray, head_radius_mm: float) -> NDArray:
    """Push what is inside the sphere of head and joint space out onto it, radially.

    Args:
        points_mm: (N, 3) vertices of the hemipelvis, mm.
        center_mm: (3,) the head's centre.
        head_radius_mm: Radius of the femoral head.

    Returns:
        (N, 3) vertices, none nearer to the centre than head and joint space.
    """
    offsets = points_mm - center_mm
    distances = np.linalg.norm(offsets, axis=1, keepdims=True)
    room_mm = head_radius_mm + JOINT_SPACE_MM
    return center_mm + offsets * np.maximum(1.0, room_mm / np.maximum(distances, 1e-6))


def mirrored(points_mm: NDArray) -> NDArray:
    """Mirror points at the plane x = 0."""
    return points_mm * _MIRROR
