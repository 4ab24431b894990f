"""The shape model fitted to landmarks alone, of people who shaped nothing."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from XraySynthLib.anatomy import landmarks_of
from XraySynthLib.anatomy.fit import NotAPelvisError
from XraySynthLib.anatomy.fit_landmarks import fit_landmarks
from XraySynthLib.data import LandmarkSet
from XraySynthLib.data.pelvis import LANDMARK_NAMES, partners_of

TURN = Rotation.from_euler("xyz", [15, -20, 70], degrees=True).as_matrix()
PLACED = ("ASIS-l", "ASIS-r", "FH-l", "FH-r", "IPS-l", "IPS-r", "GSN-l", "MOF-r")


@pytest.fixture(scope="module")
def people(model):
    """(6, 14, 3) landmarks of the people held out, turned and moved."""
    points = [landmarks_of(model.person(index)).points_ras_mm for index in model.held_out]
    return np.array(points) @ TURN.T + [40, -200, 900]


def only(points, names):
    keep = np.isin(LANDMARK_NAMES, names)
    return LandmarkSet(LANDMARK_NAMES, np.where(keep[:, None], points, np.nan))


def test_what_is_not_placed_is_predicted(people):
    errors = []
    for points in people:
        fit = fit_landmarks(only(points, PLACED))
        np.testing.assert_array_equal(fit.given, np.isin(LANDMARK_NAMES, PLACED))
        np.testing.assert_array_equal(fit.landmarks.points_ras_mm[fit.given], points[fit.given])
        assert not fit.poor and fit.residual_mm < 2
        errors.append(np.linalg.norm(fit.landmarks.points_ras_mm - points, axis=1)[~fit.given])
    assert np.median(errors) < 5 and np.max(errors) < 16


def test_names_decide_not_their_order(people):
    shuffled = np.random.default_rng(0).permutation(14)
    names = tuple(LANDMARK_NAMES[index] for index in shuffled)
    extra = LandmarkSet((*names, "screw"), np.vstack([people[0][shuffled], [0, 0, 0]]))
    fit = fit_landmarks(extra)
    np.testing.assert_array_equal(fit.landmarks.points_ras_mm, people[0])


def test_sides_that_are_exchanged(people):
    for points in people:
        everything = fit_landmarks(LandmarkSet(LANDMARK_NAMES, points[partners_of(LANDMARK_NAMES)]))
        assert everything.poor and everything.swapped == LANDMARK_NAMES
        pair = points.copy()
        pair[[2, 3]] = pair[[3, 2]]
        one = fit_landmarks(LandmarkSet(LANDMARK_NAMES, pair))
        assert one.poor and one.swapped == ("GSN-l", "GSN-r")


def test_a_point_that_is_wrong(people):
    for points in people:
        moved = points.copy()
        moved[8] += [0, 0, 40]
        fit = fit_landmarks(LandmarkSet(LANDMARK_NAMES, moved))
        assert fit.poor and fit.worst.startswith("SPS")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("ASIS-l", "ASIS-r", "FH-l"), "at least 4 .* 3 are placed"),
        (("SPS-l", "SPS-r", "IPS-l", "IPS-r"), "along one line"),
    ],
)
def test_too_little_to_go_by(people, names, message):
    with pytest.raises(NotAPelvisError, match=message):
        fit_landmarks(only(people[0], names))
