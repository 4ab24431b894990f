"""RTK's projection geometry. itk-rtk (1.7 GB installed) is the oracle where there is one."""

import numpy as np
import pytest

from XraySynthLib.geometry.converters.rtk import RTKProjection, rtk_from_view, view_from_rtk

A_PROJECTION = RTKProjection(
    source_lps_mm=np.array([-10.0, 510, 30]),
    detector_lps_mm=np.array([-10.0, -490, 30]),
    row_vector_lps=np.array([1.0, 0, 0]),
    column_vector_lps=np.array([0.0, 0, -1]),
    image_origin_mm=np.array([-155.0, -45]),
    image_spacing_mm=np.array([0.5, 0.25]),
    image_size_px=(600, 400),
)


def test_golden(a_view):
    projection = rtk_from_view(a_view)
    for found, expected in zip(projection[:6], A_PROJECTION[:6], strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-9)
    assert projection.image_size_px == (600, 400)


def test_golden_back(a_view, assert_same_view):
    assert_same_view(view_from_rtk(A_PROJECTION), a_view)


def test_the_detector_position_may_be_any_point_of_its_plane(a_view, assert_same_view):
    moved = A_PROJECTION._replace(
        detector_lps_mm=np.array([-10.0 + 30, -490, 30 - 8]),  # 30 mm along columns, 8 along rows
        image_origin_mm=np.array([-155.0 - 30, -45 - 8]),
    )
    assert_same_view(view_from_rtk(moved), a_view)


def test_round_trip(mirrored_views, assert_same_view):
    for view in mirrored_views:
        assert_same_view(view_from_rtk(rtk_from_view(view)), view)


def test_the_other_hand_is_refused(a_view):
    with pytest.raises(ValueError, match=r"use view\.columns_reversed\(\) and flip"):
        rtk_from_view(a_view.columns_reversed())
    with pytest.raises(ValueError, match="1000 mm behind the detector"):
        view_from_rtk(A_PROJECTION._replace(row_vector_lps=np.array([-1.0, 0, 0])))


def test_vectors_that_are_no_frame_are_refused():
    with pytest.raises(ValueError, match="RTK's vectors must be a rotation"):
        view_from_rtk(A_PROJECTION._replace(row_vector_lps=np.array([1.1, 0, 0])))
    with pytest.raises(ValueError, match="source_lps_mm must be 3 finite numbers"):
        view_from_rtk(A_PROJECTION._replace(source_lps_mm=np.zeros(2)))


def test_rtks_matrices_project_the_same(mirrored_views, points_between):
    itk = pytest.importorskip("itk")
    if not hasattr(itk, "RTK"):
        pytest.skip("itk is installed without itk-rtk")
    geometry = itk.RTK.ThreeDCircularProjectionGeometry.New()
    for n, view in enumerate(mirrored_views):
        projection = rtk_from_view(view)
        source, detector, row_vector, column_vector = (
            [float(x) for x in array] for array in projection[:4]
        )
        assert geometry.AddProjection(
            itk.Point[itk.D, 3](source),
            itk.Point[itk.D, 3](detector),
            itk.Vector[itk.D, 3](row_vector),
            itk.Vector[itk.D, 3](column_vector),
        )
        matrix = geometry.GetMatrix(n)
        mm_from_lps = np.array([[matrix(i, j) for j in range(4)] for i in range(3)])
        points_ras_mm = points_between(view)
        points_lps = np.column_stack([points_ras_mm * [-1, -1, 1], np.ones(len(points_ras_mm))])
        homogeneous = points_lps @ mm_from_lps.T
        points_mm = homogeneous[:, :2] / homogeneous[:, 2:]
        points_px = (points_mm - projection.image_origin_mm) / projection.image_spacing_mm
        np.testing.assert_allclose(points_px, view.project(points_ras_mm), atol=1e-6)
        distance_mm = view.intrinsics.source_to_detector_mm
        assert geometry.GetSourceToDetectorDistances()[n] == pytest.approx(distance_mm)
        source_lps = view.source_ras_mm * [-1, -1, 1]
        found_lps = [geometry.GetSourcePosition(n)[i] for i in range(3)]
        np.testing.assert_allclose(found_lps, source_lps, atol=1e-6)
