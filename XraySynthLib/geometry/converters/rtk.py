"""RTK 2.7: the arguments of `ThreeDCircularProjectionGeometry.AddProjection`, in LPS.

The row vector points along increasing columns and the column vector along increasing rows (DICOM
and ITK use the words so). The projection image lies in their plane: index (column, row) is the
point origin + spacing * index of the image, measured from the detector position. RTK's matrices
map LPS to that point, mm. Row x column points to the source (`AddProjection` computes the distances
along it), which is our *mirrored* view: the other hand would get a negative source distance.
Source: rtkThreeDCircularProjectionGeometry.h; checked against its projection matrices.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.geometry.intrinsics import Intrinsics
from XraySynthLib.geometry.transforms import (
    LPS_FROM_RAS,
    RAS_FROM_LPS,
    checked_rigid,
    checked_vector,
)
from XraySynthLib.geometry.view import View


class RTKProjection(NamedTuple):
    """Four arguments of `AddProjection`, then the projection image's.

    Attributes:
        source_lps_mm: (3,) source.
        detector_lps_mm: (3,) where the image's physical point (0, 0) lies.
        row_vector_lps: (3,) unit, along columns.
        column_vector_lps: (3,) unit, along rows.
        image_origin_mm: (2,) column, row.
        image_spacing_mm: (2,) column, row.
        image_size_px: Columns, rows, in ITK's order.
    """

    source_lps_mm: NDArray
    detector_lps_mm: NDArray
    row_vector_lps: NDArray
    column_vector_lps: NDArray
    image_origin_mm: NDArray
    image_spacing_mm: NDArray
    image_size_px: tuple[int, int]


def rtk_from_view(view: View) -> RTKProjection:
    """Describe a view as RTK's projection; the detector position is the principal point.

    Raises:
        ValueError: If the view is not mirrored.
    """
    if not view.intrinsics.mirrored:
        raise ValueError(
            "RTK holds mirrored views alone: use view.columns_reversed() and flip the image's "
            "columns with it."
        )
    intrinsics = view.intrinsics
    x, y, z, source = (LPS_FROM_RAS @ view.ras_from_camera)[:3].T
    return RTKProjection(
        source_lps_mm=source,
        detector_lps_mm=source + intrinsics.source_to_detector_mm * z,
        row_vector_lps=-x,
        column_vector_lps=y,
        image_origin_mm=-intrinsics.principal_point_px * intrinsics.pixel_spacing_mm,
        image_spacing_mm=np.array(intrinsics.pixel_spacing_mm),
        image_size_px=intrinsics.shape_px[::-1],
    )


def view_from_rtk(projection: RTKProjection) -> View:
    """Make a view of RTK's projection and its image.

    Raises:
        ValueError: If the vectors are not unit and perpendicular, or their product does not point
            to the source.
    """
    names = ("source_lps_mm", "detector_lps_mm", "row_vector_lps", "column_vector_lps")
    source, detector, row_vector, column_vector = (
        checked_vector(getattr(projection, name), name, 3) for name in names
    )
    to_source = np.cross(row_vector, column_vector)
    distance_mm = float((source - detector) @ to_source)
    if distance_mm <= 0:
        raise ValueError(
            "The product of RTK's row and column vectors must point to the source, but the source "
            f"lies {-distance_mm:g} mm behind the detector."
        )
    lps_from_camera = np.eye(4)
    lps_from_camera[:3] = np.column_stack([-row_vector, column_vector, -to_source, source])
    lps_from_camera = checked_rigid(lps_from_camera, "The frame of RTK's vectors")
    spacing_mm = checked_vector(projection.image_spacing_mm, "image_spacing_mm", 2)
    origin_mm = checked_vector(projection.image_origin_mm, "image_origin_mm", 2)
    foot_mm = np.array([row_vector, column_vector]) @ (source - detector)
    columns, rows = projection.image_size_px
    intrinsics = Intrinsics(
        source_to_detector_mm=distance_mm,
        pixel_spacing_mm=spacing_mm,
        shape_px=(rows, columns),
        principal_point_px=(foot_mm - origin_mm) / spacing_mm,
        mirrored=True,
    )
    return View(RAS_FROM_LPS @ lps_from_camera, intrinsics)
