"""A View: everything that decides where a patient's point falls in a displayed image."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.geometry.carm import CArmPose
from XraySynthLib.geometry.intrinsics import Intrinsics
from XraySynthLib.geometry.transforms import (
    checked_points,
    checked_rigid,
    inverse_rigid,
    read_only,
    rotation,
    transform_points,
)

CARM_AXES_FROM_CAMERA_AXES = read_only([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
"""Columns: the camera's x = +R, y = -S (feet), z = +A in the carm frame."""


@dataclass(frozen=True, eq=False)
class View:
    """A pinhole camera at the X-ray source.

    Attributes:
        ras_from_camera: (4, 4) rigid; origin at the source, +z to the detector, +y along rows,
            +x along columns or, where the intrinsics are mirrored, against them.
        intrinsics: The detector.

    Raises:
        ValueError: If the matrix is not rigid.
    """

    ras_from_camera: NDArray
    intrinsics: Intrinsics

    def __post_init__(self) -> None:
        if not isinstance(self.intrinsics, Intrinsics):
            raise TypeError(f"intrinsics must be Intrinsics, got {type(self.intrinsics).__name__}.")
        matrix = checked_rigid(self.ras_from_camera, "ras_from_camera")
        object.__setattr__(self, "ras_from_camera", matrix)

    @property
    def camera_from_ras(self) -> NDArray:
        """(4, 4) the inverse of `ras_from_camera`."""
        return inverse_rigid(self.ras_from_camera)

    @property
    def source_ras_mm(self) -> NDArray:
        """(3,) the X-ray source, RAS, mm."""
        return self.ras_from_camera[:3, 3]

    def project(self, points_ras_mm: NDArray) -> NDArray:
        """Project patient points onto the detector.

        Args:
            points_ras_mm: (N, 3) points, RAS, mm.

        Returns:
            (N, 2) column and row, px; NaN where a point is not between source and detector.

        Raises:
            ValueError: If `points_ras_mm` is not (N, 3).
        """
        points = checked_points(points_ras_mm, "points_ras_mm", 3)
        points_camera = transform_points(self.camera_from_ras, points)
        depth = points_camera[:, 2]
        farthest = self.intrinsics.source_to_detector_mm * (1 + 1e-9)  # a detector point counts
        between = (depth > 0) & (depth <= farthest)
        depth = np.where(between, depth, np.nan)
        homogeneous = points_camera @ self.intrinsics.px_from_camera.T
        return homogeneous[:, :2] / depth[:, None]

    def detector_points_ras_mm(self, points_px: NDArray) -> NDArray:
        """Place image points on the detector's plane.

        Args:
            points_px: (N, 2) column and row, px.

        Returns:
            (N, 3) points, RAS, mm.

        Raises:
            ValueError: If `points_px` is not (N, 2).
        """
        points = checked_points(points_px, "points_px", 2)
        homogeneous = np.column_stack([points, np.ones(len(points))])
        camera_from_px = np.linalg.inv(self.intrinsics.px_from_camera)
        points_camera = homogeneous @ camera_from_px.T * self.intrinsics.source_to_detector_mm
        return transform_points(self.ras_from_camera, points_camera)

    def ray(self, points_px: NDArray) -> NDArray:
        """Directions from the source to image points.

        Args:
            points_px: (N, 2) column and row, px.

        Returns:
            (N, 3) unit vectors, RAS; every ray starts at `source_ras_mm`.

        Raises:
            ValueError: If `points_px` is not (N, 2).
        """
        vectors = self.detector_points_ras_mm(points_px) - self.source_ras_mm
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def resized(self, rows: int, columns: int) -> "View":
        """The same view with other pixels on the same detector."""
        return View(self.ras_from_camera, self.intrinsics.resized(rows, columns))

    def cropped(self, rows: slice, columns: slice) -> "View":
        """The view of `image[rows, columns]`: crop both or neither.

        Raises:
            ValueError: If a slice has a step, or nothing is left.
        """
        old = self.intrinsics
        bounds = [part.indices(n) for part, n in zip((rows, columns), old.shape_px, strict=True)]
        if any(step != 1 or stop <= start for start, stop, step in bounds):
            raise ValueError(f"A crop must leave rows and columns, got {rows} and {columns}.")
        (top, bottom, _), (left, right, _) = bounds
        new = replace(
            old,
            shape_px=(bottom - top, right - left),
            principal_point_px=old.principal_point_px - [left, top],
        )
        return View(self.ras_from_camera, new)

    def columns_reversed(self) -> "View":
        """The view of the image whose columns run the other way: flip both or neither."""
        old = self.intrinsics
        column, row = old.principal_point_px
        point = np.array([old.shape_px[1] - 1 - column, row])
        new = replace(old, principal_point_px=point, mirrored=not old.mirrored)
        return View(self.ras_from_camera, new)

    def rotated_180(self) -> "View":
        """The view of the image turned by half a turn, `image[::-1, ::-1]`: both or neither."""
        old = self.intrinsics
        rows, columns = old.shape_px
        new = replace(old, principal_point_px=[columns - 1, rows - 1] - old.principal_point_px)
        return View(self.ras_from_camera @ rotation("z", 180), new)

    def image_similarity(self, moved_px_from_px: NDArray) -> "View":
        """The view of the image turned, scaled and shifted in its plane: both or neither.

        A turn is a roll of the camera, a scale another pixel spacing, a shift another principal
        point: the view stays exact and the image keeps its shape.

        Args:
            moved_px_from_px: (3, 3) last row 0 0 1; to (column, row, 1) from (column, row, 1).

        Raises:
            ValueError: If it shears or mirrors on the detector, or scales its axes differently.
        """
        old = self.intrinsics
        matrix = np.asarray(moved_px_from_px, dtype=np.float64)
        if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
            raise ValueError(f"moved_px_from_px must be (3, 3) and finite, got {matrix.tolist()}.")
        mm_from_px = np.diag(old.pixel_spacing_mm)  # where pixels are oblong, a turn shears them
        on_detector = mm_from_px @ matrix[:2, :2] @ np.linalg.inv(mm_from_px)
        (cosine, minus_sine), (sine, other_cosine) = on_detector
        scale = float(np.hypot(cosine, sine))
        error = max(abs(cosine - other_cosine), abs(sine + minus_sine))
        if not (scale > 0 and error <= 1e-6 * scale and np.allclose(matrix[2], [0, 0, 1])):
            raise ValueError(
                "moved_px_from_px must turn, scale and shift the detector's plane, "
                f"got {matrix.tolist()}."
            )
        angle_deg = np.rad2deg(np.arctan2(sine, cosine))  # from columns toward rows
        roll_deg = -angle_deg if old.mirrored else angle_deg
        new = replace(
            old,
            pixel_spacing_mm=old.pixel_spacing_mm / scale,
            principal_point_px=matrix[:2, :2] @ old.principal_point_px + matrix[:2, 2],
        )
        return View(self.ras_from_camera @ rotation("z", -roll_deg), new)

    def to_dict(self) -> dict[str, Any]:
        """The view as JSON types, with the field names of the documentation."""
        return {
            "ras_from_camera": self.ras_from_camera.tolist(),
            "source_to_detector_mm": self.intrinsics.source_to_detector_mm,
            "pixel_spacing_mm": self.intrinsics.pixel_spacing_mm.tolist(),
            "shape_px": list(self.intrinsics.shape_px),
            "principal_point_px": self.intrinsics.principal_point_px.tolist(),
            "mirrored": self.intrinsics.mirrored,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "View":
        """Make a view from what `to_dict` returned.

        Raises:
            ValueError: If a field is missing, unknown or wrong.
        """
        if not isinstance(fields, Mapping):
            raise ValueError(f"A view must be a JSON object, got {type(fields).__name__}.")
        names = {
            "ras_from_camera",
            "source_to_detector_mm",
            "pixel_spacing_mm",
            "shape_px",
            "principal_point_px",
            "mirrored",
        }
        if set(fields) != names:
            wrong = [f"no {name}" for name in sorted(names - set(fields))]
            wrong += [f"the unknown {name!r}" for name in sorted(set(fields) - names)]
            raise ValueError(f"A view's fields are wrong: there is {', '.join(wrong)}.")
        if not isinstance(fields["mirrored"], bool):
            raise ValueError(f"mirrored must be true or false, got {fields['mirrored']!r}.")
        values = dict(fields)
        matrix = values.pop("ras_from_camera")
        try:
            return cls(matrix, Intrinsics(**values))
        except (OverflowError, TypeError) as error:
            raise ValueError(f"A view's fields must be numbers: {error}.") from error

    def to_json(self) -> str:
        """The view as JSON text."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "View":
        """Make a view from JSON text.

        Raises:
            ValueError: If the text is not JSON or not a view.
        """
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"A view must be JSON text: {error}.") from error
        return cls.from_dict(fields)


def view_from_carm(pose: CArmPose, intrinsics: Intrinsics) -> View:
    """Join the two levels: where a C-arm stands, and the camera that it is.

    In the carm frame the source is at (0, -source_to_isocenter, 0), behind a supine patient.

    Raises:
        ValueError: If the detector would not lie beyond the isocentre.
    """
    if intrinsics.source_to_detector_mm <= pose.source_to_isocenter_mm:
        raise ValueError(
            f"source_to_detector_mm ({intrinsics.source_to_detector_mm:g}) must be greater than "
            f"source_to_isocenter_mm ({pose.source_to_isocenter_mm:g})."
        )
    carm_from_camera = _carm_from_camera(pose.source_to_isocenter_mm)
    return View(pose.ras_from_carm @ carm_from_camera, intrinsics)


def carm_from_view(view: View, source_to_isocenter_mm: float) -> CArmPose:
    """Read off a view how the C-arm stands; `view_from_carm` makes the view again.

    Args:
        view: The view.
        source_to_isocenter_mm: A machine's constant, which no view holds.

    Raises:
        ValueError: If the detector would not lie beyond the isocentre.
    """
    camera_from_carm = inverse_rigid(_carm_from_camera(source_to_isocenter_mm))
    ras_from_carm = view.ras_from_camera @ camera_from_carm
    pose = CArmPose.from_matrix(ras_from_carm, source_to_isocenter_mm)
    view_from_carm(pose, view.intrinsics)
    return pose


def _carm_from_camera(source_to_isocenter_mm: float) -> NDArray:
    carm_from_camera = np.eye(4)
    carm_from_camera[:3, :3] = CARM_AXES_FROM_CAMERA_AXES
    carm_from_camera[:3, 3] = [0, -source_to_isocenter_mm, 0]
    return carm_from_camera
