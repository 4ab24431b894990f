"""Laws that hold for every view: inverses, composition, round trips."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from XraySynthLib.geometry import CArmPose, Intrinsics, View, carm_from_view, view_from_carm
from XraySynthLib.geometry.transforms import (
    LPS_FROM_RAS,
    RAS_FROM_LPS,
    checked_rigid,
    inverse_rigid,
    rotation,
    transform_points,
    translation,
)

settings.register_profile(
    "geometry", max_examples=60, deadline=None, derandomize=True, database=None
)
settings.load_profile("geometry")

angles = st.floats(-180, 180)
coordinates = st.floats(-400, 400)
vectors = st.tuples(coordinates, coordinates, coordinates).map(np.array)
poses = st.builds(CArmPose, angles, angles, angles, vectors, st.floats(400, 700))


@st.composite
def detectors(draw) -> Intrinsics:
    rows, columns = draw(st.integers(8, 2000)), draw(st.integers(8, 2000))
    part = st.floats(-0.5, 1.5)
    return Intrinsics(
        source_to_detector_mm=draw(st.floats(800, 1400)),
        pixel_spacing_mm=np.array([draw(st.floats(0.05, 2)), draw(st.floats(0.05, 2))]),
        shape_px=(rows, columns),
        principal_point_px=np.array([draw(part) * columns, draw(part) * rows]),
        mirrored=draw(st.booleans()),
    )


views = st.builds(view_from_carm, poses, detectors())
rigids = st.builds(
    lambda a, b, c, t: translation(t) @ rotation("x", a) @ rotation("y", b) @ rotation("z", c),
    angles,
    angles,
    angles,
    vectors,
)


@given(views, st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 1))
def test_project_after_ray_is_the_identity(view, across, down, fraction):
    rows, columns = view.intrinsics.shape_px
    points_px = np.array([[across * columns, down * rows]])
    ends_ras_mm = view.detector_points_ras_mm(points_px)
    np.testing.assert_allclose(view.project(ends_ras_mm), points_px, atol=1e-6)
    length_mm = np.linalg.norm(ends_ras_mm - view.source_ras_mm)
    along_ras_mm = view.source_ras_mm + fraction * length_mm * view.ray(points_px)
    np.testing.assert_allclose(view.project(along_ras_mm), points_px, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(view.ray(points_px), axis=1), 1)


@given(views, st.integers(8, 400), st.integers(8, 400))
def test_resized_is_the_same_detector(view, rows, columns):
    old_rows, old_columns = view.intrinsics.shape_px
    points_px = np.array([[0.25 * old_columns, 0.5 * old_rows]])
    other = view.resized(rows, columns)
    scale = np.array([columns / old_columns, rows / old_rows])
    expected_px = (points_px + 0.5) * scale - 0.5
    points_ras_mm = view.detector_points_ras_mm(points_px)
    np.testing.assert_allclose(other.project(points_ras_mm), expected_px, atol=1e-5)
    np.testing.assert_allclose(other.intrinsics.size_mm, view.intrinsics.size_mm)
    assert other.intrinsics.mirrored == view.intrinsics.mirrored
    assert other.intrinsics.source_to_detector_mm == view.intrinsics.source_to_detector_mm


@given(views)
def test_reversing_and_turning_twice_change_nothing(view):
    rows, columns = view.intrinsics.shape_px
    points_px = np.array([[0.3 * columns, 0.7 * rows]])
    points_ras_mm = view.detector_points_ras_mm(points_px)
    flipped, turned = view.columns_reversed(), view.rotated_180()
    column, row = points_px[0]
    np.testing.assert_allclose(
        flipped.project(points_ras_mm), [[columns - 1 - column, row]], atol=1e-6
    )
    np.testing.assert_allclose(
        turned.project(points_ras_mm), [[columns - 1 - column, rows - 1 - row]], atol=1e-6
    )
    for twice in (flipped.columns_reversed(), turned.rotated_180()):
        np.testing.assert_allclose(twice.project(points_ras_mm), points_px, atol=1e-6)
        assert twice.intrinsics.mirrored == view.intrinsics.mirrored
    np.testing.assert_allclose(flipped.source_ras_mm, view.source_ras_mm)
    np.testing.assert_allclose(turned.source_ras_mm, view.source_ras_mm)


@given(views)
def test_json_round_trip_is_exact(view):
    again = View.from_json(view.to_json())
    np.testing.assert_allclose(again.ras_from_camera, view.ras_from_camera, atol=1e-12)
    fields, again_fields = view.to_dict(), again.to_dict()
    fields.pop("ras_from_camera"), again_fields.pop("ras_from_camera")
    assert fields == again_fields


@given(rigids, rigids, rigids)
def test_group_axioms(a, b, c):
    np.testing.assert_allclose(a @ inverse_rigid(a), np.eye(4), atol=1e-9)
    np.testing.assert_allclose(inverse_rigid(a) @ a, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(inverse_rigid(a @ b), inverse_rigid(b) @ inverse_rigid(a), atol=1e-9)
    points = np.array([[1.0, 2.0, 3.0], [-40.0, 5.0, 600.0]])
    np.testing.assert_allclose(
        transform_points(a @ b @ c, points),
        transform_points(a, transform_points(b, transform_points(c, points))),
        atol=1e-9,
    )
    np.testing.assert_allclose(np.linalg.det(a[:3, :3]), 1)


@given(rigids)
def test_a_float32_file_is_rigid_enough(matrix):
    rigid = checked_rigid(matrix.astype(np.float32), "matrix")
    np.testing.assert_allclose(rigid[:3, :3].T @ rigid[:3, :3], np.eye(3), atol=1e-14)
    np.testing.assert_allclose(rigid, matrix, atol=1e-4)


@given(
    angles,
    st.one_of(
        angles,
        st.sampled_from([90, -90]),
        st.floats(89.9999, 90.0001),
        st.floats(-90.0001, -89.9999),
    ),
    angles,
    vectors,
)
def test_from_matrix_finds_a_pose_with_the_same_matrix(primary, secondary, roll, isocenter):
    pose = CArmPose(primary, secondary, roll, isocenter, 612)
    again = CArmPose.from_matrix(pose.ras_from_carm, 612)
    np.testing.assert_allclose(again.ras_from_carm, pose.ras_from_carm, atol=2e-6)
    assert again.source_to_isocenter_mm == 612
    assert -90 <= again.secondary_deg <= 90


@given(st.floats(-179, 179), st.floats(-89, 89), st.floats(-179, 179))
def test_from_matrix_returns_the_angles(primary, secondary, roll):
    again = CArmPose.from_matrix(CArmPose(primary, secondary, roll).ras_from_carm)
    np.testing.assert_allclose(
        [again.primary_deg, again.secondary_deg, again.roll_deg],
        [primary, secondary, roll],
        atol=1e-6,
    )
    assert again.source_to_isocenter_mm == 530


@pytest.mark.parametrize("secondary_deg", [90, -90])
def test_in_gimbal_lock_roll_is_zero(secondary_deg):
    pose = CArmPose.from_matrix(CArmPose(25, secondary_deg, 10).ras_from_carm)
    assert pose.roll_deg == 0
    assert pose.primary_deg == pytest.approx(35 if secondary_deg > 0 else 15)
    assert pose.secondary_deg == pytest.approx(secondary_deg)


@given(vectors)
def test_lps_is_ras_with_two_signs(point):
    expected = [-point[0], -point[1], point[2], 1]
    np.testing.assert_array_equal(LPS_FROM_RAS @ [*point, 1], expected)
    np.testing.assert_array_equal(RAS_FROM_LPS @ LPS_FROM_RAS, np.eye(4))


@given(rigids, views)
def test_a_moved_patient_and_a_moved_c_arm_make_the_same_image(motion, view):
    rows, columns = view.intrinsics.shape_px
    points_px = np.array([[0.4 * columns, 0.6 * rows]])
    points_ras_mm = (view.detector_points_ras_mm(points_px) + view.source_ras_mm) / 2
    moved = View(motion @ view.ras_from_camera, view.intrinsics)
    np.testing.assert_allclose(
        moved.project(transform_points(motion, points_ras_mm)), points_px, atol=1e-5
    )


@given(views, angles, st.floats(0.2, 5), coordinates, coordinates, st.floats(0.1, 0.9))
def test_a_similarity_of_the_image_moves_what_is_projected(view, angle, scale, right, down, part):
    spacing_mm = view.intrinsics.pixel_spacing_mm
    mm_from_px = np.diag(spacing_mm)
    moved_px_from_px = np.eye(3)
    turn = rotation("z", angle)[:2, :2]
    moved_px_from_px[:2, :2] = scale * np.linalg.inv(mm_from_px) @ turn @ mm_from_px
    moved_px_from_px[:2, 2] = right, down
    moved = view.image_similarity(moved_px_from_px)
    points_px = np.array([[0.0, 0.0], [100.0, 30.0], [-40.0, 700.0]])
    on_detector_ras = view.detector_points_ras_mm(points_px)
    points_ras_mm = view.source_ras_mm + part * (on_detector_ras - view.source_ras_mm)
    expected_px = points_px @ moved_px_from_px[:2, :2].T + moved_px_from_px[:2, 2]
    np.testing.assert_allclose(moved.project(points_ras_mm), expected_px, atol=1e-5, rtol=1e-8)
    np.testing.assert_allclose(moved.source_ras_mm, view.source_ras_mm)


def test_a_view_says_how_the_c_arm_stands():
    """Also about another isocentre on the same beam."""
    pose = CArmPose(30, 20, -10, np.array([5.0, -8.0, 12.0]), 600)
    view = view_from_carm(pose, Intrinsics())
    found = carm_from_view(view, 600)
    assert [found.primary_deg, found.secondary_deg, found.roll_deg] == pytest.approx([30, 20, -10])
    np.testing.assert_allclose(found.isocenter_ras_mm, [5, -8, 12])
    nearer = carm_from_view(view, 500)
    np.testing.assert_allclose(np.linalg.norm(nearer.isocenter_ras_mm - [5, -8, 12]), 100)
    again = view_from_carm(nearer, view.intrinsics)
    np.testing.assert_allclose(again.ras_from_camera, view.ras_from_camera, atol=1e-9)
    with pytest.raises(ValueError, match="must be greater than"):
        carm_from_view(view, 1020)
