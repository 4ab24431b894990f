"""A view from landmarks: literal numbers, noise, outliers, and what is refused."""

import numpy as np
import pytest

from XraySynthLib.data import ImageLandmarkSet, LandmarkSet
from XraySynthLib.geometry import CArmPose, Intrinsics, View, view_from_carm
from XraySynthLib.registration import (
    RegistrationError,
    moved,
    pose_error,
    view_from_landmarks,
)
from XraySynthLib.registration.motion import motion_to

POINTS_RAS_MM = np.array(
    [
        [-90, 0, 0], [90, 5, 2], [-60, -60, 30], [62, -58, 28], [-40, 20, -40], [42, 22, -38],
        [-10, 50, -20], [11, 52, -19], [-130, 45, 80], [128, 40, 84],
    ], dtype=float,
)  # fmt: skip
NAMES = tuple("abcdefghij")
LANDMARKS = LandmarkSet(NAMES, POINTS_RAS_MM)


def a_view(mirrored: bool = True) -> View:
    """Oblique, rolled, about a point that is no landmark, the principal point off the middle."""
    pose = CArmPose(25, -15, 8, np.array([5.0, -10.0, 20.0]), 650)
    intrinsics = Intrinsics(
        1100, np.array([0.4, 0.5]), (800, 1000), np.array([510.0, 380.0]), mirrored
    )
    return view_from_carm(pose, intrinsics)


def found_at(points_px, confidence=1.0) -> ImageLandmarkSet:
    """All of them found, wherever they lie."""
    count = len(points_px)
    return ImageLandmarkSet(
        NAMES[:count], points_px, np.ones(count, bool), np.broadcast_to(confidence, count)
    )


def test_the_literal_numbers_of_the_conventions():
    """The golden of `view_from_carm` at primary 30, secondary 20, with three points more."""
    points_ras_mm = np.array(
        [[-50, 0, 40], [0, 0, 0], [60, 10, -30], [20, -40, 50], [-30, 60, 10.0]]
    )
    view = view_from_carm(CArmPose(30, 20), Intrinsics())
    points_px = view.project(points_ras_mm)
    points_px[0] = [1168.91, 498.32]
    found = view_from_landmarks(
        LandmarkSet(NAMES[:5], points_ras_mm), found_at(points_px), Intrinsics()
    )
    np.testing.assert_allclose(found.view.ras_from_camera, view.ras_from_camera, atol=0.02)


@pytest.mark.parametrize("mirrored", [True, False])
@pytest.mark.parametrize("n_points", [4, 5, 6, 10])
def test_exact_projections_give_the_view(mirrored, n_points):
    view = a_view(mirrored)
    found = found_at(view.project(POINTS_RAS_MM[-n_points:]))
    landmarks = LandmarkSet(NAMES[:n_points], POINTS_RAS_MM[-n_points:])
    fit = view_from_landmarks(landmarks, found, view.intrinsics)
    np.testing.assert_allclose(fit.view.ras_from_camera, view.ras_from_camera, atol=1e-6)
    assert fit.inliers.all()


def test_points_in_a_plane_are_not_flipped():
    flat = POINTS_RAS_MM * [1, 0, 1]
    view = a_view()
    points_px = view.project(flat) + np.random.default_rng(3).normal(0, 0.3, (10, 2))
    fit = view_from_landmarks(LandmarkSet(NAMES, flat), found_at(points_px), view.intrinsics)
    assert pose_error(fit.view, view, flat).rotation_deg < 1


def test_noise_is_within_what_the_covariance_says():
    """Squared Mahalanobis distances of 6 numbers have the mean 6 where noise is as foreseen."""
    view, rng, squares, depths = a_view(), np.random.default_rng(0), [], []
    for _ in range(12):
        points_px = view.project(POINTS_RAS_MM) + rng.normal(0, 3.0, (10, 2)) / [0.4, 0.5]
        fit = view_from_landmarks(LANDMARKS, found_at(points_px), view.intrinsics)
        motion = motion_to(fit.view, view, fit.pivot_ras_mm)
        squares.append(motion @ np.linalg.solve(fit.covariance, motion))
        depths.append(np.abs(motion[3:]))
    assert 2 < np.mean(squares) < 12
    across_mm, _, depth_mm = np.mean(depths, axis=0)
    assert depth_mm > 3 * across_mm


def test_outliers_do_not_count():
    view = a_view()
    points_px = view.project(POINTS_RAS_MM)
    points_px[[2, 7]] += [[300, -200], [-150, 260]]
    fit = view_from_landmarks(LANDMARKS, found_at(points_px), view.intrinsics)
    assert [name for name, good in zip(fit.names, fit.inliers, strict=True) if not good] == [
        "c",
        "h",
    ]
    assert pose_error(fit.view, view, POINTS_RAS_MM).target_mm < 1


def test_confidence_counts():
    """The same error of one landmark, believed and not."""
    view, errors_mm = a_view(), []
    points_px = view.project(POINTS_RAS_MM)
    points_px[0] += [8, 0]
    for confidence in (1.0, 0.01):
        found = found_at(points_px, np.where(np.arange(10) == 0, confidence, 1.0))
        fit = view_from_landmarks(LANDMARKS, found, view.intrinsics)
        errors_mm.append(pose_error(fit.view, view, POINTS_RAS_MM).target_mm)
    assert errors_mm[1] < 0.1 * errors_mm[0]


def test_names_decide_not_order():
    view = a_view()
    points_px = view.project(POINTS_RAS_MM)[::-1]
    found = ImageLandmarkSet.placed(("other", *NAMES[::-1]), [[1, 1], *points_px], (800, 1000))
    fit = view_from_landmarks(LANDMARKS, found, view.intrinsics)
    np.testing.assert_allclose(fit.view.ras_from_camera, view.ras_from_camera, atol=1e-6)


def test_too_few_landmarks_are_refused():
    view = a_view()
    found = found_at(view.project(POINTS_RAS_MM[:3]))
    with pytest.raises(RegistrationError, match=r"needs 4 landmarks .* there are 3"):
        view_from_landmarks(LANDMARKS, found, view.intrinsics)


def test_landmarks_in_line_are_refused():
    view = a_view()
    line = np.outer(np.arange(10) - 4.5, [20, 3, 1.0])
    with pytest.raises(RegistrationError, match="on a line"):
        view_from_landmarks(LandmarkSet(NAMES, line), found_at(view.project(line)), view.intrinsics)


def test_landmarks_of_something_else_are_refused():
    found = found_at(np.random.default_rng(1).uniform(0, 800, (10, 2)))
    with pytest.raises(RegistrationError, match=r"Only \d of 10 landmarks .* no pose fits"):
        view_from_landmarks(LANDMARKS, found, a_view().intrinsics)


def test_a_motion_is_about_the_pivot_and_depth_is_last():
    view, pivot_ras_mm = a_view(), np.array([10.0, 20.0, 30.0])
    farther = moved(view, [0, 0, 0, 0, 0, 7], pivot_ras_mm)
    beam_ras = view.ras_from_camera[:3, 2]
    np.testing.assert_allclose(farther.source_ras_mm, view.source_ras_mm - 7 * beam_ras)
    turned = moved(view, [30, -20, 10, 0, 0, 0], pivot_ras_mm)
    np.testing.assert_allclose(turned.project(pivot_ras_mm[None]), view.project(pivot_ras_mm[None]))
    motion = np.array([3.0, -2.0, 1.0, 4.0, 5.0, -6.0])
    there = moved(view, motion, pivot_ras_mm)
    np.testing.assert_allclose(motion_to(view, there, pivot_ras_mm), motion, atol=1e-9)


def test_the_error_of_a_pose_by_hand():
    view = a_view()
    error = pose_error(moved(view, [0, 0, 0, 3, 0, 4], np.zeros(3)), view, POINTS_RAS_MM)
    np.testing.assert_allclose(error, [0, 5, 4, 5], atol=1e-6)
    turned = moved(view, [0, 0, 90, 0, 0, 0], np.zeros(3))
    two = np.array([100, -100])[:, None] * view.ras_from_camera[:3, 0]
    error = pose_error(turned, view, two)
    np.testing.assert_allclose(error, [90, 0, 0, 100 * np.sqrt(2)], atol=1e-6)
