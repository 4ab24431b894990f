"""Conventions as numbers written by hand: what no round trip can see."""

import numpy as np
import pytest

from XraySynthLib.geometry import (
    VIEW_PRESETS,
    CArmPose,
    Intrinsics,
    View,
    view_from_carm,
    view_preset,
)
from XraySynthLib.geometry.transforms import translation


@pytest.mark.parametrize(
    ("primary_deg", "secondary_deg", "roll_deg", "expected_px"),
    [
        (0, 0, 0, (1263.51, 370.69)),
        (30, 20, 0, (1168.91, 498.32)),
        (0, 0, 10, (1324.88, 462.85)),
    ],
)
def test_a_point_left_and_above_lands_where_the_design_says(
    primary_deg, secondary_deg, roll_deg, expected_px
):
    view = view_from_carm(CArmPose(primary_deg, secondary_deg, roll_deg), Intrinsics())
    points_px = view.project(np.array([[-50.0, 0.0, 40.0]]))
    np.testing.assert_allclose(points_px, [expected_px], atol=0.006)


@pytest.mark.parametrize(
    ("primary_deg", "secondary_deg", "detector_ras"),
    [
        (0, 0, (0, 490, 0)),  # in front of the patient
        (90, 0, (-490, 0, 0)),  # LAO: at the patient's left
        (-90, 0, (490, 0, 0)),  # RAO
        (180, 0, (0, -490, 0)),
        (0, 90, (0, 0, 490)),  # CRA: above the head
        (0, -90, (0, 0, -490)),
    ],
)
def test_the_detector_stands_where_dicom_says(primary_deg, secondary_deg, detector_ras):
    view = view_from_carm(CArmPose(primary_deg, secondary_deg), Intrinsics())
    middle_ras = view.detector_points_ras_mm(np.array([[767.5, 767.5]]))
    np.testing.assert_allclose(middle_ras, [detector_ras], atol=1e-9)
    np.testing.assert_allclose(view.source_ras_mm, np.multiply(detector_ras, -530 / 490), atol=1e-9)


def test_the_isocentre_and_the_distance_move_the_source():
    pose = CArmPose(isocenter_ras_mm=np.array([1, 2, 3]), source_to_isocenter_mm=600)
    np.testing.assert_allclose(view_from_carm(pose, Intrinsics()).source_ras_mm, [1, -598, 3])


def test_primary_is_outermost_and_roll_innermost():
    # By hand, roll then secondary then primary, 90 degrees each: R to -S to A to -R; A to S, which
    # primary leaves; S to R, which secondary leaves, to A. These are the columns.
    pose = CArmPose(90, 90, 90, np.array([1, 2, 3]))
    expected = [[-1, 0, 0, 1], [0, 0, 1, 2], [0, 1, 0, 3], [0, 0, 0, 1]]
    np.testing.assert_allclose(pose.ras_from_carm, expected, atol=1e-12)


def test_a_translation_moves_by_its_vector():
    np.testing.assert_array_equal(translation([1, 2, 3]) @ [0, 0, 0, 1], [1, 2, 3, 1])


def test_the_view_on_paper(a_view, a_point_ras_mm, its_point_px):
    np.testing.assert_allclose(a_view.project(a_point_ras_mm), its_point_px)
    np.testing.assert_allclose(
        a_view.ras_from_camera, [[1, 0, 0, 10], [0, 0, 1, -510], [0, -1, 0, 30], [0, 0, 0, 1]]
    )
    np.testing.assert_allclose(
        a_view.camera_from_ras, [[1, 0, 0, -10], [0, 0, -1, 30], [0, 1, 0, 510], [0, 0, 0, 1]]
    )
    np.testing.assert_allclose(
        a_view.intrinsics.px_from_camera, [[-2000, 0, 310], [0, 4000, 180], [0, 0, 1]]
    )
    np.testing.assert_allclose(a_view.intrinsics.size_mm, [300, 100])


def test_columns_reversed_mirrors_the_point(a_view, a_point_ras_mm, its_point_px):
    expected_px = [[599 - its_point_px[0, 0], its_point_px[0, 1]]]
    np.testing.assert_allclose(a_view.columns_reversed().project(a_point_ras_mm), expected_px)


def test_rotated_180_turns_the_point_as_rot90_turns_the_image(a_view):
    image = np.zeros(a_view.intrinsics.shape_px)
    column, row = 123, 45
    image[row, column] = 1
    turned_row, turned_column = np.argwhere(np.rot90(image, 2))[0]
    point_ras_mm = a_view.detector_points_ras_mm(np.array([[column, row]]))
    turned = a_view.rotated_180()
    np.testing.assert_allclose(turned.project(point_ras_mm), [[turned_column, turned_row]])
    assert (turned_column, turned_row) == (599 - 123, 399 - 45)
    assert turned.intrinsics.mirrored


def test_cropped_moves_points_by_the_first_pixel(a_view, a_point_ras_mm, its_point_px):
    crop = a_view.cropped(slice(30, 330), slice(50, None))
    assert crop.intrinsics.shape_px == (300, 550)
    expected_px = [[its_point_px[0, 0] - 50, its_point_px[0, 1] - 30]]
    np.testing.assert_allclose(crop.project(a_point_ras_mm), expected_px)
    for rows in (slice(30, 30), slice(0, 100, 2), slice(500, 600)):
        with pytest.raises(ValueError, match="A crop"):
            a_view.cropped(rows, slice(None))


def test_a_quarter_turn_at_twice_the_size_on_paper(a_view, a_point_ras_mm, its_point_px):
    # Columns are 0.5 mm and rows 0.25 mm: a row further is half a column less, a column further is
    # two rows more; then twice the size, 1000 columns and 5 rows on.
    turned = a_view.image_similarity(np.array([[0, -1, 1000], [4, 0, 5], [0, 0, 1]]))
    column, row = its_point_px[0]
    np.testing.assert_allclose(turned.project(a_point_ras_mm), [[1000 - row, 4 * column + 5]])
    np.testing.assert_allclose(turned.project(a_point_ras_mm), [[886.667, 1511.667]], atol=1e-3)
    np.testing.assert_allclose(turned.intrinsics.pixel_spacing_mm, [0.25, 0.125])
    np.testing.assert_allclose(turned.intrinsics.principal_point_px, [820, 1245])
    assert turned.intrinsics.shape_px == (400, 600)
    assert turned.intrinsics.source_to_detector_mm == 1000
    assert turned.intrinsics.mirrored
    # What ran down the image now runs against its columns, as x does; columns now run down.
    expected = [[0, -1, 0, 10], [0, 0, 1, -510], [-1, 0, 0, 30], [0, 0, 0, 1]]
    np.testing.assert_allclose(turned.ras_from_camera, expected, atol=1e-12)


def test_a_half_turn_is_a_similarity(a_view, assert_same_view):
    half_turn = np.array([[-1, 0, 599], [0, -1, 399], [0, 0, 1]])
    assert_same_view(a_view.image_similarity(half_turn), a_view.rotated_180())


@pytest.mark.parametrize(
    "matrix",
    [
        [[-1, 0, 599], [0, 1, 0], [0, 0, 1]],  # mirrors
        [[0, -1, 0], [1, 0, 0], [0, 0, 1]],  # shears the oblong pixels
        [[1, 0, 0], [0, 1.01, 0], [0, 0, 1]],
        [[0, 0, 0], [0, 0, 0], [0, 0, 1]],
        [[1, 0, 0], [0, 1, 0], [0, 0.1, 1]],
        [[1, 0, np.nan], [0, 1, 0], [0, 0, 1]],
        [[1, 0, 0], [0, 1, 0]],
    ],
)
def test_what_is_no_similarity_on_the_detector_is_refused(a_view, matrix):
    with pytest.raises(ValueError, match="moved_px_from_px must"):
        a_view.image_similarity(np.array(matrix))


def test_resized_keeps_the_detectors_edges(a_view):
    half = a_view.resized(200, 150)
    np.testing.assert_allclose(half.intrinsics.pixel_spacing_mm, [2.0, 0.5])
    np.testing.assert_allclose(half.intrinsics.principal_point_px, [310.5 / 4 - 0.5, 89.75])
    assert half.intrinsics.shape_px == (200, 150)
    corner_ras = a_view.detector_points_ras_mm(np.array([[-0.5, -0.5], [599.5, 399.5]]))
    np.testing.assert_allclose(half.project(corner_ras), [[-0.5, -0.5], [149.5, 199.5]])


def test_the_default_principal_point_is_the_middle_pixel():
    intrinsics = Intrinsics(shape_px=(5, 8))
    np.testing.assert_array_equal(intrinsics.principal_point_px, [3.5, 2.0])
    assert intrinsics.mirrored
    assert Intrinsics().shape_px == (1536, 1536)
    assert Intrinsics().source_to_detector_mm == 1020
    np.testing.assert_array_equal(Intrinsics().pixel_spacing_mm, [0.194, 0.194])


@pytest.mark.parametrize(
    ("name", "angles_deg"),
    [
        ("AP", (0, 0)),
        ("pa", (180, 0)),
        ("lateral", (90, 0)),
        ("Lateral right", (-90, 0)),
        ("inlet", (0, 40)),
        ("outlet", (0, -40)),
        ("judet_obturator_right", (-45, 0)),
        ("judet-obturator-left", (45, 0)),
    ],
)
def test_presets(name, angles_deg):
    assert view_preset(name) == angles_deg


def test_an_unknown_preset_is_told_the_known_ones():
    with pytest.raises(ValueError, match=r"no view preset 'oblique'.*ap, pa, lateral"):
        view_preset("oblique")
    assert len(VIEW_PRESETS) == 8


JSON_GOLDEN = """{
  "ras_from_camera": [
    [
      1.0,
      0.0,
      0.0,
      10.0
    ],
    [
      0.0,
      0.0,
      1.0,
      -510.0
    ],
    [
      0.0,
      -1.0,
      0.0,
      30.0
    ],
    [
      0.0,
      0.0,
      0.0,
      1.0
    ]
  ],
  "source_to_detector_mm": 1000.0,
  "pixel_spacing_mm": [
    0.5,
    0.25
  ],
  "shape_px": [
    400,
    600
  ],
  "principal_point_px": [
    310.0,
    180.0
  ],
  "mirrored": true
}"""


def test_json_is_what_the_documentation_says(a_view, assert_same_view):
    view = View.from_json(JSON_GOLDEN)
    assert_same_view(view, a_view)
    assert view.to_json().replace("-0.0", "0.0") == JSON_GOLDEN
