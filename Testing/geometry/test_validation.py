"""What is refused, in one sentence each; what cannot be changed."""

import json
import warnings

import numpy as np
import pytest

from XraySynthLib.geometry import CArmPose, Intrinsics, View, view_from_carm
from XraySynthLib.geometry.transforms import checked_affine, checked_points, checked_vector


def assert_one_sentence(error: pytest.ExceptionInfo, words: str) -> None:
    message = str(error.value)
    assert words in message
    assert message.endswith(".") or message.endswith(").")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"primary_deg": np.nan}, "primary_deg must be a finite angle"),
        ({"secondary_deg": np.inf}, "secondary_deg must be a finite angle"),
        ({"roll_deg": np.nan}, "roll_deg must be a finite angle"),
        ({"isocenter_ras_mm": [1, 2]}, "isocenter_ras_mm must be 3 finite numbers"),
        ({"isocenter_ras_mm": [1, 2, np.nan]}, "isocenter_ras_mm must be 3 finite numbers"),
        ({"isocenter_ras_mm": "abc"}, "isocenter_ras_mm must be 3 numbers"),
        ({"isocenter_ras_mm": [0, 0, 2e5]}, "over 100 m away"),
        ({"source_to_isocenter_mm": 0}, "source_to_isocenter_mm must be positive"),
        ({"source_to_isocenter_mm": np.nan}, "source_to_isocenter_mm must be positive"),
        ({"source_to_isocenter_mm": -530}, "source_to_isocenter_mm must be positive"),
    ],
)
def test_a_wrong_pose_is_refused(fields, words):
    with pytest.raises(ValueError) as error:
        CArmPose(**fields)
    assert_one_sentence(error, words)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"source_to_detector_mm": 0}, "source_to_detector_mm must be positive"),
        ({"source_to_detector_mm": np.nan}, "source_to_detector_mm must be positive"),
        ({"pixel_spacing_mm": [0.2, 0]}, "pixel_spacing_mm must be positive"),
        ({"pixel_spacing_mm": 0.2}, "pixel_spacing_mm must be 2 finite numbers"),
        ({"shape_px": (0, 5)}, "shape_px must be positive whole numbers"),
        ({"shape_px": (5.5, 5)}, "shape_px must be positive whole numbers"),
        ({"shape_px": (100000, 100000)}, "shape_px must be positive whole numbers"),
        ({"principal_point_px": [1, np.inf]}, "principal_point_px must be 2 finite numbers"),
    ],
)
def test_wrong_intrinsics_are_refused(fields, words):
    with pytest.raises(ValueError) as error:
        Intrinsics(**fields)
    assert_one_sentence(error, words)


def edited(row: int, column: int, value: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[row, column] = value
    return matrix


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.eye(3), "must be a 4x4 matrix"),
        ("abc", "must be a 4x4 matrix of numbers"),
        (edited(0, 3, np.nan), "not finite"),
        (edited(3, 0, 1), "last row of ras_from_camera must be 0 0 0 1"),
        (edited(1, 1, 0), "singular"),
        (edited(0, 0, 0) + edited(1, 0, 1) - np.eye(4), "singular"),  # two columns are parallel
        (edited(2, 2, 1.01), "scales or shears"),
        (edited(0, 1, 0.01), "scales or shears"),
        (edited(2, 2, -1), "mirrors"),
    ],
)
def test_a_matrix_that_is_not_rigid_is_refused(matrix, words):
    with pytest.raises(ValueError) as error:
        View(matrix, Intrinsics())
    assert_one_sentence(error, words)
    with pytest.raises(ValueError, match="ras_from_carm"):
        CArmPose.from_matrix(matrix)


def test_an_affine_may_scale_and_mirror():
    np.testing.assert_array_equal(
        checked_affine(np.diag([2, -3, 4, 1]), "it"), np.diag([2, -3, 4, 1])
    )


def test_a_view_needs_intrinsics():
    with pytest.raises(TypeError, match="intrinsics must be Intrinsics, got dict"):
        View(np.eye(4), {})


@pytest.mark.parametrize("distance_mm", [530, 531])
def test_the_isocentre_lies_before_the_detector(distance_mm):
    with pytest.raises(ValueError) as error:
        view_from_carm(CArmPose(source_to_isocenter_mm=distance_mm), Intrinsics(530))
    assert_one_sentence(error, f"must be greater than source_to_isocenter_mm ({distance_mm})")
    view_from_carm(CArmPose(source_to_isocenter_mm=529), Intrinsics(530))


def test_points_not_between_source_and_detector_are_nan(a_view):
    depths_mm = np.array([-1, 0, 1e-3, 999.999, 1000, 1000.001])
    points_ras_mm = np.column_stack([np.full(6, 10), depths_mm - 510, np.full(6, 30)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        points_px = a_view.project(points_ras_mm)
        undefined_px = a_view.project(np.array([[np.nan, 0, 0], [np.inf, 0, 0]]))
        undefined_ray = a_view.ray(np.array([[np.inf, np.inf]]))
    assert np.isnan(points_px).all(axis=1).tolist() == [True, True, False, False, False, True]
    np.testing.assert_allclose(points_px[2:5], [[310, 180]] * 3)
    assert np.isnan(undefined_px).all()
    assert np.isnan(undefined_ray).all()


def test_wrong_shapes_of_points_are_refused(a_view):
    with pytest.raises(ValueError, match=r"points_ras_mm must have shape \(N, 3\), got \(3,\)"):
        a_view.project(np.zeros(3))
    with pytest.raises(ValueError, match=r"points_px must have shape \(N, 2\), got \(4, 3\)"):
        a_view.ray(np.zeros((4, 3)))
    assert a_view.project(np.zeros((0, 3))).shape == (0, 2)


def test_arrays_are_read_only_copies(a_view):
    mine = np.array([0.5, 0.5])
    intrinsics = Intrinsics(pixel_spacing_mm=mine)
    mine[:] = 9
    np.testing.assert_array_equal(intrinsics.pixel_spacing_mm, [0.5, 0.5])
    for array in (
        a_view.ras_from_camera,
        a_view.source_ras_mm,
        a_view.intrinsics.pixel_spacing_mm,
        a_view.intrinsics.principal_point_px,
        a_view.intrinsics.px_from_camera,
        CArmPose().isocenter_ras_mm,
        checked_vector([1, 2], "it", 2),
    ):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    points = np.zeros((1, 3))
    checked_points(points, "it", 3)[0] = 1
    np.testing.assert_array_equal(points, 0)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda fields: fields.pop("mirrored"), "there is no mirrored"),
        (lambda fields: fields.update(focal=1), "there is the unknown 'focal'"),
        (lambda fields: fields.update(mirrored="yes"), "mirrored must be true or false"),
        (lambda fields: fields.update(mirrored=1), "mirrored must be true or false"),
        (lambda fields: fields.update(source_to_detector_mm=None), "must be numbers"),
        (lambda fields: fields.update(shape_px="ab"), "shape_px must be 2 numbers"),
    ],
)
def test_a_wrong_json_view_is_refused(a_view, edit, words):
    fields = a_view.to_dict()
    edit(fields)
    with pytest.raises(ValueError) as error:
        View.from_json(json.dumps(fields))
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "A view must be JSON text"),
        ('{"mirrored": ', "A view must be JSON text"),
        ("[1, 2]", "A view must be a JSON object, got list"),
        ("null", "A view must be a JSON object, got NoneType"),
    ],
)
def test_text_that_is_no_view_is_refused(text, words):
    with pytest.raises(ValueError, match=words) as error:
        View.from_json(text)
    assert_one_sentence(error, words)
