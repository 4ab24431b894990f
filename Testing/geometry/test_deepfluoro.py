"""DeepFluoro's matrices."""

import numpy as np
import pytest

from XraySynthLib.geometry.converters.deepfluoro import deepfluoro_from_view, view_from_deepfluoro
from XraySynthLib.geometry.transforms import inverse_rigid, rotation, translation

INTRINSIC = [[-2000, 0, 310], [0, -4000, 180], [0, 0, 1]]
# Columns: the projective frame's x (image columns) is the patient's left, y (rows) the feet, z (to
# the source) the back, in LPS; then the source.
LPS_FROM_PROJECTIVE = [[1, 0, 0, -10], [0, 0, 1, 510], [0, -1, 0, 30], [0, 0, 0, 1]]


def test_golden(a_view):
    camera = deepfluoro_from_view(a_view)
    np.testing.assert_allclose(camera.intrinsic, INTRINSIC)
    np.testing.assert_array_equal(camera.extrinsic, np.eye(4))
    np.testing.assert_allclose(camera.cam_to_pelvis_vol, LPS_FROM_PROJECTIVE)


def test_golden_back(a_view, assert_same_view):
    camera = (INTRINSIC, np.eye(4), LPS_FROM_PROJECTIVE)
    assert_same_view(view_from_deepfluoro(camera, (0.5, 0.25), (400, 600)), a_view)


def test_golden_with_an_extrinsic(a_view, assert_same_view):
    # The camera's world is the projective frame moved by (1, 2, 3) and turned by 90 degrees.
    extrinsic = [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]
    cam_to_pelvis_vol = [[0, -1, 0, -9], [0, 0, 1, 513], [-1, 0, 0, 28], [0, 0, 0, 1]]
    camera = deepfluoro_from_view(a_view, extrinsic)
    np.testing.assert_allclose(camera.cam_to_pelvis_vol, cam_to_pelvis_vol, atol=1e-12)
    np.testing.assert_allclose(camera.extrinsic, extrinsic)
    camera = (INTRINSIC, extrinsic, cam_to_pelvis_vol)
    assert_same_view(view_from_deepfluoro(camera, (0.5, 0.25), (400, 600)), a_view)


def test_the_data_sets_own_numbers():
    camera = ([[-5257.732, 0, 767.5], [0, -5257.732, 767.5], [0, 0, 1]], np.eye(4), np.eye(4))
    view = view_from_deepfluoro(camera, (0.194, 0.194), (1536, 1536))
    assert view.intrinsics.mirrored
    assert view.intrinsics.source_to_detector_mm == pytest.approx(1020, abs=1e-4)
    np.testing.assert_allclose(view.intrinsics.pixel_spacing_mm, 0.194)
    # LPS (10, 20, -500) is 10 columns' side, 20 rows' side, 500 mm from the source: RAS (-10, -20).
    expected_px = [[767.5 + 5257.732 * 10 / 500, 767.5 + 5257.732 * 20 / 500]]
    np.testing.assert_allclose(view.project(np.array([[-10, -20, -500]])), expected_px)


def test_the_data_sets_own_formula_projects_the_same(mirrored_views, points_between):
    extrinsic = translation([5, -7, 11]) @ rotation("x", 33) @ rotation("z", -70)
    for view in mirrored_views:
        camera = deepfluoro_from_view(view, extrinsic)
        points_ras_mm = points_between(view)
        points_lps = np.column_stack([points_ras_mm * [-1, -1, 1], np.ones(len(points_ras_mm))])
        projective = extrinsic @ np.linalg.inv(camera.cam_to_pelvis_vol) @ points_lps.T
        assert (projective[2] < 0).all()
        homogeneous = camera.intrinsic @ projective[:3]
        points_px = (homogeneous[:2] / homogeneous[2]).T
        np.testing.assert_allclose(points_px, view.project(points_ras_mm), atol=1e-7)


def test_round_trip(mirrored_views, assert_same_view):
    extrinsic = translation([5, -7, 11]) @ rotation("x", 33) @ rotation("z", -70)
    for view in mirrored_views:
        camera = deepfluoro_from_view(view, extrinsic)
        intrinsics = view.intrinsics
        again = view_from_deepfluoro(camera, intrinsics.pixel_spacing_mm, intrinsics.shape_px)
        assert_same_view(again, view)


def test_what_the_data_set_cannot_hold_is_refused(a_view):
    with pytest.raises(ValueError, match=r"use view\.columns_reversed\(\) and flip"):
        deepfluoro_from_view(a_view.columns_reversed())
    positive = np.abs(INTRINSIC)
    with pytest.raises(ValueError, match="focal lengths must be negative"):
        view_from_deepfluoro((positive, np.eye(4), np.eye(4)), (0.5, 0.25), (400, 600))
    with pytest.raises(ValueError, match="disagree on the source's distance"):
        view_from_deepfluoro((INTRINSIC, np.eye(4), np.eye(4)), (0.25, 0.5), (400, 600))
    with pytest.raises(ValueError, match="extrinsic must be right-handed"):
        deepfluoro_from_view(a_view, np.diag([1, 1, -1, 1]))
    with pytest.raises(ValueError, match="cam_to_pelvis_vol must be right-handed"):
        mirror = np.diag([-1, 1, 1, 1])
        view_from_deepfluoro((INTRINSIC, np.eye(4), mirror), (0.5, 0.25), (400, 600))


def test_an_image_turned_for_up_keeps_its_landmarks(a_view, a_point_ras_mm, its_point_px):
    camera = deepfluoro_from_view(a_view)
    stored = view_from_deepfluoro(camera, (0.5, 0.25), (400, 600))
    np.testing.assert_allclose(stored.project(a_point_ras_mm), its_point_px)
    # As the data set's own script does it: columns - 1 - column, rows - 1 - row.
    expected_px = [[599, 399]] - its_point_px
    np.testing.assert_allclose(stored.rotated_180().project(a_point_ras_mm), expected_px)
    turned = deepfluoro_from_view(stored.rotated_180())
    np.testing.assert_allclose(
        inverse_rigid(turned.cam_to_pelvis_vol) @ camera.cam_to_pelvis_vol,
        np.diag([-1, -1, 1, 1]),
        atol=1e-9,
    )
