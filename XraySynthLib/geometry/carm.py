"""The C-arm as its user sees it: positioner angles about an isocentre."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from XraySynthLib.geometry.transforms import checked_rigid, checked_vector, rotation, translation

MAX_ANGLE_DEG = 360.0
MAX_COORDINATE_MM = 1e5
"""A patient or a C-arm is not 100 m away: larger numbers are a mistake in units."""


@dataclass(frozen=True, eq=False)
class CArmPose:
    """Where a C-arm stands and how it is turned.

    Angles have DICOM names and signs (C.8.7.5.1.2): at 0/0 the detector is in front of the
    patient, `primary_deg` +90 brings it to the patient's left (LAO), `secondary_deg` +90 above
    the head (CRA); `roll_deg` turns the whole C-arm about its own beam.

    Attributes:
        primary_deg: Positioner primary angle, +LAO.
        secondary_deg: Positioner secondary angle, +CRA.
        roll_deg: Right-handed rotation about the carm frame's A axis, before the other two.
        isocenter_ras_mm: (3,) the isocentre, RAS, mm.
        source_to_isocenter_mm: Distance from the source to the isocentre.

    Raises:
        ValueError: If a number is not finite, an angle is beyond +-360 degrees, or the distance is
            not positive.
    """

    primary_deg: float = 0.0
    secondary_deg: float = 0.0
    roll_deg: float = 0.0
    isocenter_ras_mm: NDArray = field(default_factory=lambda: np.zeros(3))
    source_to_isocenter_mm: float = 530.0

    def __post_init__(self) -> None:
        for name in ("primary_deg", "secondary_deg", "roll_deg"):
            angle_deg = float(getattr(self, name))
            if not abs(angle_deg) <= MAX_ANGLE_DEG:
                raise ValueError(f"{name} must be a finite angle up to 360, got {angle_deg}.")
            object.__setattr__(self, name, angle_deg)
        isocenter = checked_vector(self.isocenter_ras_mm, "isocenter_ras_mm", 3)
        if np.abs(isocenter).max() > MAX_COORDINATE_MM:
            raise ValueError(f"isocenter_ras_mm {isocenter.tolist()} is over 100 m away.")
        object.__setattr__(self, "isocenter_ras_mm", isocenter)
        distance = float(self.source_to_isocenter_mm)
        if not 0 < distance <= MAX_COORDINATE_MM:
            raise ValueError(f"source_to_isocenter_mm must be positive, got {distance}.")
        object.__setattr__(self, "source_to_isocenter_mm", distance)

    @property
    def ras_from_carm(self) -> NDArray:
        """(4, 4) translate(isocentre) Rz(primary) Rx(secondary) Ry(roll).

        As a transform to world this matrix is the C-arm's node in Slicer.
        """
        return (
            translation(self.isocenter_ras_mm)
            @ rotation("z", self.primary_deg)
            @ rotation("x", self.secondary_deg)
            @ rotation("y", self.roll_deg)
        )

    @classmethod
    def from_matrix(
        cls, ras_from_carm: ArrayLike, source_to_isocenter_mm: float = 530.0
    ) -> "CArmPose":
        """Read the angles and the isocentre off a 4x4 matrix.

        At secondary = +-90 degrees primary and roll turn about one axis: roll is then 0.

        Raises:
            ValueError: If the matrix is not rigid (a scale, a shear or a mirror).
        """
        matrix = checked_rigid(ras_from_carm, "ras_from_carm")
        secondary = np.arcsin(np.clip(matrix[2, 1], -1.0, 1.0))
        if np.cos(secondary) > 1e-6:
            primary = np.arctan2(-matrix[0, 1], matrix[1, 1])
            roll = np.arctan2(-matrix[2, 0], matrix[2, 2])
        else:
            primary, roll = np.arctan2(matrix[1, 0], matrix[0, 0]), 0.0
        primary_deg, secondary_deg, roll_deg = np.rad2deg([primary, secondary, roll])
        return cls(primary_deg, secondary_deg, roll_deg, matrix[:3, 3], source_to_isocenter_mm)
