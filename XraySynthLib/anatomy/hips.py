"""The hip joint: where a femoral head sits, how a femur is turned about it, room for it to turn."""

from dataclasses import dataclass, fields, replace
from numbers import Real

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from XraySynthLib.anatomy.spheres import fit_sphere, fit_sphere_of_radius

JOINT_SPACE_MM = 2.5  # bone to bone; the least that radiographs of healthy hips show
_MIRROR = np.array([-1.0, 1.0, 1.0])
HIP_LIMITS = {
    "flexion_deg": (-10.0, 45.0),
    "abduction_deg": (-20.0, 35.0),
    "internal_rotation_deg": (-40.0, 40.0),
}
"""Of a leg against the patient's axes. Beyond 45 degrees of flexion a thigh leaves the slices that
its soft tissue is laid out in."""
FLEXION_IN_JOINT_DEG = (-30.0, 75.0)
"""Of a femur against its pelvis: the leg's flexion and the pelvis' tilt together."""
LEAST_ABDUCTION_TOGETHER_DEG = -10.0
"""Of both legs: knees that lie side by side touch there."""
MAX_STRAIN_DEG = 60.0
"""Beyond it the femur's neck and lesser trochanter run into the ischium; see `strain_deg`."""


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

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, Real):
                raise TypeError(f"{field.name} of a hip must be a number, got {value!r}.")
            if not np.isfinite(value):
                raise ValueError(f"{field.name} of a hip must be finite, got {value}.")
            object.__setattr__(self, field.name, float(value))

    def tilted(self, anterior_tilt_deg: float) -> "HipPose":
        """The pose against a pelvis that is tilted forward, of a leg that stays where it lies."""
        return replace(self, flexion_deg=self.flexion_deg + anterior_tilt_deg)

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


def strain_deg(pose: HipPose) -> float:
    """How far a joint is turned to where femur and ischium meet, degrees.

    They meet when extension, adduction and external rotation come together. The weights fit where
    surfaces of seven shapes overlap, over a grid of 504 poses: up to `MAX_STRAIN_DEG` they do by
    0.3 cm3 at most, beyond by up to 14.

    Args:
        pose: Of the femur against its pelvis.
    """
    return -1.5 * pose.flexion_deg - 2.2 * pose.abduction_deg - pose.internal_rotation_deg


def check_hips(left: HipPose, right: HipPose, anterior_tilt_deg: float) -> None:
    """Refuse poses that a patient's legs cannot lie in.

    Args:
        left: Of the left leg against the patient's axes.
        right: Of the right leg.
        anterior_tilt_deg: Of the pelvis.

    Raises:
        ValueError: Saying what is out of which limit.
    """
    for name, pose in (("left_hip", left), ("right_hip", right)):
        for angle, (low, high) in HIP_LIMITS.items():
            if not low <= getattr(pose, angle) <= high:
                raise ValueError(
                    f"{name}.{angle} must lie in {low:g}..{high:g}, got {getattr(pose, angle):g}."
                )
        joint, (low, high) = pose.tilted(anterior_tilt_deg), FLEXION_IN_JOINT_DEG
        if not low <= joint.flexion_deg <= high:
            raise ValueError(
                f"{name}.flexion_deg and anterior_tilt_deg together must lie in {low:g}..{high:g}, "
                f"got {joint.flexion_deg:g}."
            )
        if strain_deg(joint) > MAX_STRAIN_DEG:
            raise ValueError(
                f"{name} puts the femur into the pelvis: 1.5 x extension (tilt included) + 2.2 x "
                f"adduction + external rotation must be {MAX_STRAIN_DEG:g} degrees at most, "
                f"got {strain_deg(joint):g}."
            )
    together_deg = left.abduction_deg + right.abduction_deg
    if together_deg < LEAST_ABDUCTION_TOGETHER_DEG:
        raise ValueError(
            f"left_hip and right_hip put the knees into each other: their abduction_deg together "
            f"must be {LEAST_ABDUCTION_TOGETHER_DEG:g} at least, got {together_deg:g}."
        )


def eased(pose: HipPose, anterior_tilt_deg: float, other: HipPose | None = None) -> HipPose:
    """The nearest pose that `check_hips` takes: flexed, turned in, then out to the side.

    Args:
        pose: Of a leg against the patient's axes.
        anterior_tilt_deg: Of the pelvis.
        other: The other leg's, which stays.
    """
    angles = {angle: np.clip(getattr(pose, angle), *HIP_LIMITS[angle]) for angle in HIP_LIMITS}
    low, high = (limit - anterior_tilt_deg for limit in FLEXION_IN_JOINT_DEG)
    angles["flexion_deg"] = np.clip(angles["flexion_deg"], low, high)
    if other is not None:
        least_deg = LEAST_ABDUCTION_TOGETHER_DEG - other.abduction_deg
        angles["abduction_deg"] = max(angles["abduction_deg"], least_deg)
    for angle, weight in (("internal_rotation_deg", 1.0), ("abduction_deg", 2.2)):
        beyond_deg = strain_deg(HipPose(**angles).tilted(anterior_tilt_deg)) - MAX_STRAIN_DEG
        # A little more, for the sums of floating point.
        more_deg = max(beyond_deg, 0.0) / weight * (1 + 1e-9)
        angles[angle] = min(angles[angle] + more_deg, HIP_LIMITS[angle][1])
    return HipPose(**angles)


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
