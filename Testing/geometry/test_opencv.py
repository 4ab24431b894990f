"""OpenCV's K, R and t."""

import numpy as np
import pytest

from XraySynthLib.geometry.converters.opencv import opencv_from_view, view_from_opencv


def test_golden(a_view):
    camera = opencv_from_view(a_view)
    np.testing.assert_allclose(camera.camera_matrix, [[-2000, 0, 310], [0, 4000, 180], [0, 0, 1]])
    np.testing.assert_allclose(camera.rotation, [[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    np.testing.assert_allclose(camera.translation_mm, [-10, 30, 510])


def test_golden_back(a_view, assert_same_view):
    camera = (
        [[-2000, 0, 310], [0, 4000, 180], [0, 0, 1]],
        [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
        [-10, 30, 510],
    )
    assert_same_view(view_from_opencv(camera, 1000, (400, 600)), a_view)


def test_round_trip(views, assert_same_view):
    for view in views:
        intrinsics = view.intrinsics
        again = view_from_opencv(
            opencv_from_view(view), intrinsics.source_to_detector_mm, intrinsics.shape_px
        )
        assert_same_view(again, view)


def test_two_negative_focal_lengths_turn_the_camera_by_half(views, points_between):
    for view in views:
        intrinsics = view.intrinsics
        camera_matrix, rotation, translation_mm = opencv_from_view(view)
        camera_matrix = camera_matrix @ np.diag([-1, -1, 1])
        turned = view_from_opencv(
            (camera_matrix, rotation, translation_mm),
            intrinsics.source_to_detector_mm,
            intrinsics.shape_px,
        )
        points_ras_mm = points_between(view)
        homogeneous = (points_ras_mm @ rotation.T + translation_mm) @ camera_matrix.T
        expected_px = homogeneous[:, :2] / homogeneous[:, 2:]
        np.testing.assert_allclose(turned.project(points_ras_mm), expected_px, atol=1e-8)
        assert turned.intrinsics.mirrored == intrinsics.mirrored


def test_a_negative_row_focal_length_turns_the_camera(a_view, points_between):
    points_ras_mm = points_between(a_view)
    camera_matrix, rotation, translation_mm = opencv_from_view(a_view)
    turned = (camera_matrix * [[1, 1, 1], [1, -1, 1], [1, 1, 1]], rotation, translation_mm)
    view = view_from_opencv(turned, 1000, (400, 600))
    column, row = a_view.project(points_ras_mm).T
    np.testing.assert_allclose(view.project(points_ras_mm), np.column_stack([column, 360 - row]))
    assert not view.intrinsics.mirrored


def test_k_may_be_scaled(a_view, assert_same_view):
    camera_matrix, rotation, translation_mm = opencv_from_view(a_view)
    camera = (3 * camera_matrix, rotation, translation_mm)
    assert_same_view(view_from_opencv(camera, 1000, (400, 600)), a_view)


@pytest.mark.parametrize(
    ("camera_matrix", "words"),
    [
        ([[2000, 1, 310], [0, 2000, 180], [0, 0, 1]], "without skew"),
        ([[2000, 0, 310], [1, 2000, 180], [0, 0, 1]], "without skew"),
        ([[2000, 0, 310], [0, 2000, 180], [0, 1, 1]], "without skew"),
        ([[0, 0, 310], [0, 2000, 180], [0, 0, 1]], "without skew"),
        ([[2000, 0, 310], [0, 2000, 180], [0, 0, 0]], "K must be a 3x3 matrix"),
        (np.eye(4), "K must be a 3x3 matrix"),
        (np.full((3, 3), np.nan), "K must be a 3x3 matrix"),
    ],
)
def test_a_matrix_that_is_no_pinhole_is_refused(camera_matrix, words):
    with pytest.raises(ValueError, match=words):
        view_from_opencv((camera_matrix, np.eye(3), np.zeros(3)), 1000, (400, 600))


def test_a_mirror_in_r_is_refused():
    with pytest.raises(ValueError, match=r"\[R\|t\] must be right-handed"):
        view_from_opencv((np.eye(3), np.diag([1, 1, -1]), np.zeros(3)), 1000, (400, 600))


def test_opencv_projects_the_same(views, points_between):
    cv2 = pytest.importorskip("cv2")
    for view in views:
        camera = opencv_from_view(view)
        points_ras_mm = points_between(view)
        points_px, _ = cv2.projectPoints(
            points_ras_mm,
            cv2.Rodrigues(camera.rotation)[0],
            camera.translation_mm,
            camera.camera_matrix,
            None,
        )
        np.testing.assert_allclose(points_px[:, 0], view.project(points_ras_mm), atol=1e-6)
