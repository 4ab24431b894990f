"""Poses that are not refused and yet may be wrong."""

from dataclasses import replace

import numpy as np
import pytest

from XraySynthLib.data import ImageLandmarkSet, LandmarkSet
from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm
from XraySynthLib.registration import Refinement, doubts_of, moved, view_from_landmarks

POINTS_RAS_MM = np.array(
    [[-60, 0, 10], [55, -20, 5], [0, 40, -50], [10, -45, 55], [-30, 30, 40], [40, 35, -20.0]]
)


@pytest.fixture
def fit():
    """The landmarks' view, found 1 mm off on the detector."""
    names, intrinsics = tuple("abcdef"), Intrinsics(1000, np.ones(2), (300, 320))
    view = view_from_carm(CArmPose(20, -10, 5, source_to_isocenter_mm=650), intrinsics)
    off_px = np.array([[1, 0], [-1, 0], [0, 1], [0, -1], [1, 0], [-1, 0]])
    points_px = view.project(POINTS_RAS_MM) + off_px
    found = ImageLandmarkSet.placed(names, points_px, intrinsics.shape_px)
    return view_from_landmarks(LandmarkSet(names, POINTS_RAS_MM), found, intrinsics)


@pytest.mark.parametrize(
    ("similarity", "shift_mm", "said"),
    [
        (0.9, 0.0, []),
        (0.61, 1.0, []),
        (0.54, 0.0, ["similarity 0.54"]),
        (0.9, 5.0, ["miss by 7"]),
        (0.54, 5.0, ["similarity 0.54", "miss by 7"]),
    ],
)
def test_doubts(fit, similarity, shift_mm, said):
    view = moved(fit.view, [0, 0, 0, shift_mm, 0, 0], fit.pivot_ras_mm)
    sentences = [*doubts_of(fit, Refinement(view, similarity, 0.4, 1, False))]
    assert len(sentences) == len(said)
    for sentence, words in zip(sentences, said, strict=True):
        assert words in sentence


def test_landmarks_that_were_poor_before_raise_no_doubt(fit):
    rough = replace(fit, points_px=fit.points_px + np.array([[6, 0], [-6, 0]] * 3))
    view = moved(fit.view, [0, 0, 0, 2, 0, 0], fit.pivot_ras_mm)
    assert not [*doubts_of(rough, Refinement(view, 0.9, 0.4, 1, False))]


def test_a_film_that_may_be_mirrored(fit):
    def sentences(similarity, maybe_mirrored):
        return [*doubts_of(fit, Refinement(fit.view, similarity, 0.4, 1, False), maybe_mirrored)]

    assert "flip it first" in sentences(0.63, True)[0]
    assert sentences(0.63, False) == sentences(0.81, True) == []
    assert "flip" not in sentences(0.5, False)[0]
