"""The types refuse what cannot be meant, and keep what they are given."""

import numpy as np
import pytest

from XraySynthLib.data import (
    ImageLandmarkSet,
    LandmarkSet,
    Provenance,
    Quantity,
    Sample,
    Volume,
    Xray,
    left_back_up,
)
from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm


def test_a_volumes_known_voxel_lies_where_written_by_hand():
    matrix = [[-2, 0, 0, 10], [0, 0, 3, 20], [0, 1, 0, 30], [0, 0, 0, 1]]
    volume = Volume(np.zeros((4, 5, 6)), matrix)
    assert volume.spacing_mm.tolist() == [2, 1, 3]
    assert volume.center_ras_mm.tolist() == [5, 24.5, 32]  # i, j, k = 2.5, 2, 1.5
    assert volume.ijk_from_ras @ [8, 23, 30, 1] == pytest.approx([1, 0, 1, 1])


@pytest.mark.parametrize(
    ("values", "matrix", "text"),
    [
        (np.zeros((3, 3)), np.eye(4), "three axes"),
        (np.zeros((1, 3, 3)), np.eye(4), "2 or more"),
        (np.full((2, 2, 2), np.nan), np.eye(4), "8 values"),
        (np.zeros((2, 2, 2), complex), np.eye(4), "real numbers"),
        (np.zeros((2, 2, 2)), np.diag([1, 1, 0, 1]), "singular"),
        (np.zeros((2, 2, 2)), np.diag([1, 1, 90, 1]), "absurd"),
        (np.zeros((2, 2, 2)), [[1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], "shear"),
    ],
)
def test_a_volume_is_refused(values, matrix, text):
    with pytest.raises(ValueError, match=text):
        Volume(values, matrix)


def test_a_volumes_arrays_cannot_be_written_and_labels_must_fit():
    volume = Volume(np.zeros((2, 3, 4)), np.eye(4), np.ones((2, 3, 4), np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        volume.values_hu[0, 0, 0] = 1
    with pytest.raises(ValueError, match="shape"):
        Volume(np.zeros((2, 3, 4)), np.eye(4), np.ones((4, 3, 2), np.uint8))
    with pytest.raises(ValueError, match="integers"):
        Volume(np.zeros((2, 3, 4)), np.eye(4), np.ones((2, 3, 4)))


def test_a_volume_is_turned_left_back_up():
    """Its k runs left, its i up, its j to the front; voxel (i, j, k) = (3, 0, 1) is known."""
    matrix = [[0, 0, -2, 10], [0, 3, 0, 20], [1, 0, 0, 30], [0, 0, 0, 1]]
    values = np.arange(2 * 5 * 4).reshape(2, 5, 4)
    labels = np.zeros(values.shape, np.uint8)
    labels[1, 0, 3] = 7
    turned = left_back_up(Volume(values, matrix, labels))
    # i' = k, j' = 4 - j, k' = i
    assert turned.values_hu.shape == (4, 5, 2)
    assert turned.values_hu[3, 4, 1] == values[1, 0, 3] and turned.labels[3, 4, 1] == 7
    assert turned.ras_from_ijk.tolist() == [
        [-2, 0, 0, 10], [0, -3, 0, 32], [0, 0, 1, 30], [0, 0, 0, 1]
    ]  # fmt: skip
    assert np.array_equal(left_back_up(turned).values_hu, turned.values_hu)
    assert left_back_up(Volume(values, matrix)).labels is None


def test_an_oblique_volume_is_turned_to_the_nearest_axes():
    turn = np.eye(4)
    c, s = np.cos(np.radians(44)), np.sin(np.radians(44))
    turn[:2, :2] = [[c, -s], [s, c]]
    turned = left_back_up(Volume(np.zeros((2, 3, 4)), turn))
    assert turned.values_hu.shape == (2, 3, 4)
    np.testing.assert_allclose(turned.ras_from_ijk[:3, :3], turn[:3, :3] * [-1, -1, 1])


def test_an_xrays_view_gives_its_spacing_and_must_fit(general_view):
    xray = Xray(np.zeros((30, 40)), Quantity.DISPLAY, None, general_view)
    assert xray.pixel_spacing_mm.tolist() == [0.31, 0.29]
    with pytest.raises(ValueError, match="rows and columns"):
        Xray(np.zeros((40, 30)), Quantity.DISPLAY, None, general_view)
    with pytest.raises(ValueError, match="mm"):
        Xray(np.zeros((30, 40)), Quantity.DISPLAY, (0.29, 0.31), general_view)


@pytest.mark.parametrize("values", [np.zeros(3), np.zeros((0, 3)), np.full((2, 2), np.inf)])
def test_an_xray_is_refused(values):
    with pytest.raises(ValueError, match="X-ray"):
        Xray(values, Quantity.DISPLAY)
    with pytest.raises(TypeError, match="Quantity"):
        Xray(np.zeros((2, 2)), "display")


def test_landmarks_keep_undefined_points_and_refuse_doubles_and_transposed_tables():
    landmarks = LandmarkSet(("a", "b"), [[1, 2, 3], [np.nan, 5, 6]])
    assert np.isnan(landmarks.points_ras_mm[1]).all()
    assert LandmarkSet((), []).points_ras_mm.shape == (0, 3)
    with pytest.raises(ValueError, match="more than one 'a'"):
        LandmarkSet(("a", "a"), np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"\(N, 3\)"):
        LandmarkSet(("a", "b", "c", "d"), np.zeros((3, 4)))


def test_landmarks_seen_from_a_c_arm():
    """AP: the patient's left (RAS -x) is on the image's right."""
    view = view_from_carm(CArmPose(), Intrinsics(1060, (1, 1), (101, 101)))
    landmarks = LandmarkSet(
        ("middle", "left", "far", "nowhere"), [[0, 0, 0], [-10, 0, 0], [-500, 0, 0], [np.nan] * 3]
    )
    seen = landmarks.seen_from(view)
    assert seen.points_px[:2] == pytest.approx(np.array([[50, 50], [70, 50]]))
    assert seen.visible.tolist() == [True, True, False, False]


def test_image_landmarks_and_samples_are_refused():
    with pytest.raises(ValueError, match=r"0\.\.1"):
        ImageLandmarkSet(("a",), [[1, 2]], [True], [1.5])
    with pytest.raises(ValueError, match="must have a place"):
        ImageLandmarkSet(("a",), [[np.nan, 2]], [True], [1.0])
    with pytest.raises(ValueError, match="kind"):
        Provenance("invented", "s1")
    xray = Xray(np.zeros((2, 3)), Quantity.DISPLAY)
    nothing = ImageLandmarkSet((), [], [], [])
    with pytest.raises(ValueError, match="Mask"):
        Sample("k", xray, nothing, {"bone": np.zeros((3, 2))}, Provenance("real", "s1"))
    with pytest.raises(ValueError, match="file name"):
        Sample("../k", xray, nothing, None, Provenance("real", "s1"))
