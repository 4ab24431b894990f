"""Tools lie where they should, letters are letters, fields hide what is outside them."""

import numpy as np
import pytest

from XraySynthLib.data.randomisation import Randomisation, randomise
from XraySynthLib.data.randomisation.fields import Field
from XraySynthLib.data.randomisation.markers import Annotation, LeadMarker
from XraySynthLib.data.randomisation.tools import TOOL_KINDS, Beads, Cable, Tool

RNG = np.random.default_rng(0)
BLANK = np.zeros((120, 160), np.float32)


def test_a_wire_is_a_cylinder_with_a_point():
    result = Tool("wire", (20.0, 60.0), 0.0, 100.0, 6.0, 1.5)(BLANK, RNG)
    # Chords of a circle 6 wide, in units of 6 for 1.5: sqrt(1 - (2 / 6)^2) two pixels off the axis.
    np.testing.assert_allclose(result[60, 60], 1.5, rtol=0.02)
    np.testing.assert_allclose(result[[58, 62], 60], 1.5 * np.sqrt(1 - (2 / 3) ** 2), rtol=0.03)
    np.testing.assert_allclose(result[:, 60].sum(), 1.5 * np.pi / 4 * 6, rtol=0.02)
    assert result[:, 22].sum() < 0.2 * result[:, 60].sum()  # the point
    assert result[60, 119] > 1 and result[60, 122] == 0 and result[60, 18] == 0
    assert result[:56].max() == 0 and result[65:].max() == 0


@pytest.mark.parametrize("kind", TOOL_KINDS)
@pytest.mark.parametrize(("angle_deg", "step"), [(0, (1, 0)), (90, (0, 1)), (225, (-1, -1))])
def test_a_tool_lies_from_its_tip_in_its_direction(kind, angle_deg, step):
    tip = np.array([80.0, 60.0])
    result = Tool(kind, tuple(tip), float(angle_deg), 45.0, 4.0, 2.0)(BLANK, RNG)
    rows, columns = np.nonzero(result > 0.2)
    direction = np.array(step) / np.linalg.norm(step)
    along = (np.stack([columns, rows], axis=1) - tip) @ direction
    across = (np.stack([columns, rows], axis=1) - tip) @ [-direction[1], direction[0]]
    assert -3 < along.min() < 6 and 40 < along.max() < 48
    assert np.abs(across).max() < 17


@pytest.mark.parametrize("kind", TOOL_KINDS)
def test_a_tool_beside_the_image_is_not_in_it(kind):
    result = Tool(kind, (-300.0, -300.0), 180.0, 50.0, 4.0, 2.0)(BLANK, RNG)
    np.testing.assert_array_equal(result, 0)


def test_a_tube_is_denser_at_its_walls_and_a_screw_has_a_thread():
    tube = Tool("tube", (20.0, 60.0), 0.0, 100.0, 20.0, 2.0)(BLANK, RNG)
    assert tube[52, 70] > 2 * tube[60, 70] > 0
    screw = Tool("screw", (20.0, 60.0), 0.0, 100.0, 14.0, 2.0)(BLANK, RNG)
    metal = screw > 0.3
    upper, widths = metal.argmax(axis=0), metal.sum(axis=0)
    assert np.ptp(upper[40:90]) >= 1 and np.ptp(screw[54, 40:90]) > 0.3  # teeth
    assert widths[110:118].max() > widths[40:90].max() + 3  # the head


def test_beads_and_cables_lie_on_their_points():
    points_px = ((30.0, 20.0), (100.0, 90.0))
    beads = Beads(points_px, 5.0, 2.0)(BLANK, RNG)
    np.testing.assert_allclose([beads[20, 30], beads[90, 100]], 2.0, rtol=0.05)
    np.testing.assert_allclose(beads.sum(), 2 * 2 * (2 / 3) * np.pi * 2.5**2, rtol=0.02)
    cable = Cable(((10.0, 20.0), (60.0, 20.0), (110.0, 20.0)), 3.0, 1.0)(BLANK, RNG)
    np.testing.assert_allclose(cable[20, 10:111], 1.0)
    assert cable[25:].max() == 0


def test_an_l_is_an_l():
    """A stroke on the left, a foot below: neither mirrored nor upside down."""
    image = Annotation("L", (80.0, 60.0), 60.0, 1.0)(BLANK, RNG)
    rows, columns = np.nonzero(image > 0.5)
    top, bottom, left, right = rows.min(), rows.max(), columns.min(), columns.max()
    np.testing.assert_allclose([(left + right) / 2, (top + bottom) / 2], [80, 60], atol=1.5)
    middle_row, middle_column = (top + bottom) // 2, (left + right) // 2
    assert image[middle_row, left + 2] > 0.5 and image[middle_row, right - 2] == 0
    assert image[bottom - 2, middle_column] > 0.5 and image[top + 2, middle_column + 2] == 0


def test_a_marker_turns_from_columns_toward_rows():
    upright = LeadMarker("L", (80.0, 60.0), 50.0, 0.0, 2.0)(BLANK, RNG)
    turned = LeadMarker("L", (80.0, 60.0), 50.0, 90.0, 2.0)(BLANK, RNG)
    np.testing.assert_allclose(turned.max(), 2.0, rtol=1e-5)
    square = upright[10:111, 30:131]  # about (80, 60); a turn clockwise on the screen
    np.testing.assert_allclose(np.rot90(square, -1), turned[10:111, 30:131], atol=0.1)


def test_letters_too_small_to_read_and_empty_text_are_left_out():
    for marker in (
        LeadMarker("L", (80.0, 60.0), 2.0, 0.0, 2.0),
        Annotation(" ", (80.0, 60.0), 20.0, 1.0),
    ):
        np.testing.assert_array_equal(marker(BLANK, RNG), BLANK)


@pytest.mark.parametrize("shape", ["rectangle", "circle", "octagon"])
def test_a_field_is_open_where_it_contains_points(shape):
    opening = Field(shape, (70.0, 55.0), (90.0, 60.0), 15.0, grey=0.25)
    rows, columns = np.mgrid[:120, :160]
    points_px = np.stack([columns.ravel(), rows.ravel()], axis=1)
    inside = opening.contains(points_px).reshape(120, 160)
    openness = opening.openness((120, 160))
    assert np.mean(inside != (openness >= 0.5)) < 1e-4
    result = opening(np.ones((120, 160), np.float32), RNG)
    np.testing.assert_array_equal(result[openness == 0], 0.25)
    np.testing.assert_allclose(result[openness == 1], 1)
    assert not opening.contains(np.array([[np.nan, np.nan]])).any()


def test_fields_on_paper():
    square = Field("rectangle", (50.0, 40.0), (20.0, 10.0))
    points_px = np.array([[59.9, 44.9], [60.1, 40], [50, 45.1], [40.1, 35.1]])
    assert square.contains(points_px).tolist() == [True, False, False, True]
    octagon = Field("octagon", (0.0, 0.0), (20.0, 20.0))  # flat on top, its corners cut
    points_px = np.array([[0, 9.9], [9.9, 0], [7, 7], [7.1, 7.1]])
    assert octagon.contains(points_px).tolist() == [True, True, True, False]
    turned = Field("rectangle", (0.0, 0.0), (20.0, 2.0), angle_deg=90.0)
    assert turned.contains(np.array([[0, 9.5], [9.5, 0]])).tolist() == [True, False]


def test_landmarks_outside_a_field_are_not_visible_and_masks_end_there(a_sample):
    opening = Field("circle", (50.0, 40.0), (30.0, 30.0), edge_px=3.0)
    result = randomise(a_sample, Randomisation((120, 160), grey=(opening,)))
    assert result.landmarks.visible.tolist() == [True, False, False, False, False]
    np.testing.assert_array_equal(result.landmarks.points_px, a_sample.landmarks.points_px)
    assert result.masks["a"].sum() > 0.9 * a_sample.masks["a"].sum()
    assert not result.masks["b"].any()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Field("star", (0.0, 0.0), (1.0, 1.0)),
        lambda: Field("circle", (0.0, 0.0), (0.0, 1.0)),
        lambda: Field("circle", (0.0, np.nan), (1.0, 1.0)),
        lambda: Tool("hammer", (0.0, 0.0), 0.0, 1.0, 1.0, 1.0),
        lambda: Tool("wire", (0.0, 0.0), 0.0, 1.0, 0.0, 1.0),
        lambda: Tool("wire", (0.0, 0.0), "0", 1.0, 1.0, 1.0),
    ],
)
def test_what_cannot_be_drawn_is_refused(make):
    with pytest.raises(ValueError):
        make()
