"""Points found again from their images."""

import numpy as np
import pytest

from XraySynthLib.geometry import CArmPose, Intrinsics, triangulate, view_from_carm


@pytest.fixture
def two_views():
    return [view_from_carm(CArmPose(a, b), Intrinsics()) for a, b in ((0, 0), (40, 15))]


@pytest.fixture
def three_views(two_views):
    return [*two_views, view_from_carm(CArmPose(-50, -10), Intrinsics(mirrored=False))]


@pytest.fixture
def points_ras_mm():
    return np.random.default_rng(3).uniform(-60, 60, (15, 3))


def test_exact_images_give_the_points(three_views, points_ras_mm):
    points_px = np.stack([view.project(points_ras_mm) for view in three_views])
    np.testing.assert_allclose(triangulate(three_views, points_px), points_ras_mm, atol=1e-8)
    np.testing.assert_allclose(
        triangulate(three_views[:2], points_px[:2]), points_ras_mm, atol=1e-8
    )


def test_two_crossing_rays_meet_halfway_where_they_miss(two_views):
    # Middle pixels 0/0 and LAO 90 cross at the isocentre; moving the second one's row by 1 px lifts
    # its ray by 0.194 * 530 / 1020 mm there; the nearest point is at half of it.
    views = [two_views[0], view_from_carm(CArmPose(90), Intrinsics())]
    points_px = np.array([[[767.5, 767.5]], [[767.5, 766.5]]])
    expected = [[0, 0, 0.194 * 530 / 1020 / 2]]
    np.testing.assert_allclose(triangulate(views, points_px), expected, atol=2e-5)


def test_noise_of_a_pixel_costs_less_than_a_millimetre(three_views, points_ras_mm):
    rng = np.random.default_rng(5)
    points_px = np.stack([view.project(points_ras_mm) for view in three_views])
    found = triangulate(three_views, points_px + rng.normal(0, 1, points_px.shape))
    errors_mm = np.linalg.norm(found - points_ras_mm, axis=1)
    assert 0.01 < errors_mm.mean() < 0.5


def test_a_point_seen_once_is_nan_and_the_others_are_not(three_views, points_ras_mm):
    points_px = np.stack([view.project(points_ras_mm) for view in three_views])
    points_px[0, 0] = np.nan  # still seen twice
    points_px[1:, 1] = np.nan
    points_px[:, 2] = np.inf  # derived DeepFluoro files write a missing landmark so
    found = triangulate(three_views, points_px)
    np.testing.assert_allclose(found[0], points_ras_mm[0], atol=1e-8)
    assert np.isnan(found[1:3]).all()
    assert np.isfinite(found[3:]).all()


@pytest.mark.parametrize(("turn_deg", "is_found"), [(0.4, False), (0.6, True)])
def test_parallel_rays_say_nothing_of_depth(two_views, turn_deg, is_found):
    views = [two_views[0], view_from_carm(CArmPose(turn_deg), Intrinsics())]
    points_px = np.stack([view.project(np.zeros((1, 3))) for view in views])
    assert np.isfinite(triangulate(views, points_px)).all() == is_found


def test_wrong_shapes_are_refused(two_views):
    with pytest.raises(ValueError, match="two or more views, got 1"):
        triangulate(two_views[:1], np.zeros((1, 3, 2)))
    with pytest.raises(ValueError, match=r"must be \(2, N, 2\), got \(2, 3\)"):
        triangulate(two_views, np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"must be \(2, N, 2\), got \(3, 4, 2\)"):
        triangulate(two_views, np.zeros((3, 4, 2)))
