"""DeepDRR's camera projection."""

import numpy as np
import pytest

from XraySynthLib.geometry.converters.deepdrr import deepdrr_from_view, view_from_deepdrr

INDEX_FROM_CAMERA2D = [[-2000, 0, 310.5], [0, 4000, 180.5], [0, 0, 1]]
CAMERA3D_FROM_WORLD = [[1, 0, 0, -10], [0, 0, -1, 30], [0, 1, 0, 510], [0, 0, 0, 1]]


def test_golden(a_view):
    camera = deepdrr_from_view(a_view)
    np.testing.assert_allclose(camera.index_from_camera2d, INDEX_FROM_CAMERA2D)
    np.testing.assert_allclose(camera.camera3d_from_world, CAMERA3D_FROM_WORLD)


def test_golden_back(a_view, assert_same_view):
    camera = (INDEX_FROM_CAMERA2D, CAMERA3D_FROM_WORLD)
    assert_same_view(view_from_deepdrr(camera, 1000, (400, 600)), a_view)


def test_round_trip(views, assert_same_view):
    for view in views:
        intrinsics = view.intrinsics
        again = view_from_deepdrr(
            deepdrr_from_view(view), intrinsics.source_to_detector_mm, intrinsics.shape_px
        )
        assert_same_view(again, view)


def test_a_transform_that_scales_is_refused():
    with pytest.raises(ValueError, match="camera3d_from_world must be a rotation"):
        view_from_deepdrr((INDEX_FROM_CAMERA2D, np.diag([2, 2, 2, 1])), 1000, (400, 600))


def test_killeengeo_projects_the_same(views, points_between):  # in float32
    killeengeo = pytest.importorskip("killeengeo")
    for view in views:
        camera = deepdrr_from_view(view)
        rows, columns = view.intrinsics.shape_px
        projection = killeengeo.CameraProjection(
            killeengeo.CameraIntrinsicTransform(camera.index_from_camera2d, rows, columns),
            killeengeo.FrameTransform(camera.camera3d_from_world),
        )
        points_ras_mm = points_between(view)
        points_index = [np.array(projection @ killeengeo.point(p)) for p in points_ras_mm]
        np.testing.assert_allclose(
            np.array(points_index) - 0.5, view.project(points_ras_mm), atol=1e-3
        )
        np.testing.assert_allclose(
            np.array(projection.get_center_in_world()), view.source_ras_mm, atol=1e-3
        )


def test_killeengeos_own_intrinsics_have_their_centre_in_the_middle():
    killeengeo = pytest.importorskip("killeengeo")
    intrinsic = killeengeo.CameraIntrinsicTransform.from_sizes((600, 400), (0.5, 0.25), 1000)
    view = view_from_deepdrr((np.array(intrinsic.data), np.eye(4)), 1000, (400, 600))
    np.testing.assert_allclose(view.intrinsics.principal_point_px, [299.5, 199.5])
    np.testing.assert_allclose(view.intrinsics.pixel_spacing_mm, [0.5, 0.25])
    assert not view.intrinsics.mirrored
