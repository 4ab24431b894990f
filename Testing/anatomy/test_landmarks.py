"""The 14 landmarks: named as DeepFluoro names them, in their places, close to their rules."""

import numpy as np
import pytest
from landmark_rules import rule_errors_mm, sampled_shape

from XraySynthLib.anatomy.landmarks import landmarks_of
from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.data.pelvis import LANDMARK_NAMES


def test_names_are_deepfluoros_in_its_order():
    assert " ".join(LANDMARK_NAMES) == (
        "FH-l FH-r GSN-l GSN-r IOF-l IOF-r MOF-l MOF-r SPS-l SPS-r IPS-l IPS-r ASIS-l ASIS-r"
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("FH-l", (-81.8, 0, -0.8)),
        ("GSN-l", (-69.5, -37.9, 42.7)),
        ("IOF-l", (-39.7, -14.9, -43.0)),
        ("MOF-l", (-25.2, 12.4, -32.5)),
        ("SPS-l", (-3.9, 40.3, -13.3)),
        ("IPS-l", (-5.7, 19.9, -39.9)),
        ("ASIS-l", (-116.1, 51.0, 72.0)),
    ],
)
def test_places_on_the_mean(model, name, expected):
    """Looked at in Resources/landmarks-on-mean.jpg. Left is negative x; right is its mirror."""
    landmarks = landmarks_of(model.mean)
    points = dict(zip(landmarks.names, landmarks.points_ras_mm, strict=True))
    np.testing.assert_allclose(points[name], expected, atol=1.0)
    mirrored = points[name.replace("-l", "-r")] * [-1, 1, 1]
    np.testing.assert_allclose(mirrored, expected, atol=5.0)


def test_order_from_top_to_bottom_and_side_to_side(model):
    for index in model.held_out:
        landmarks = landmarks_of(model.person(index))
        p = dict(zip(landmarks.names, landmarks.points_ras_mm, strict=True))
        for side, sign in (("l", -1), ("r", 1)):
            outward = {
                name: sign * p[f"{name}-{side}"][0]
                for name in ("ASIS", "FH", "IOF", "MOF", "SPS", "IPS")
            }
            assert outward["ASIS"] > outward["FH"] > outward["IOF"] > outward["MOF"]
            assert outward["MOF"] > outward["SPS"] > 0
            heights = [p[f"{name}-{side}"][2] for name in ("ASIS", "GSN", "FH", "SPS", "IPS")]
            assert heights == sorted(heights, reverse=True)
            assert p[f"ASIS-{side}"][1] > 0 > p[f"GSN-{side}"][1]


def test_marks_lie_on_their_bone(model, a_sample):
    landmarks = landmarks_of(a_sample)
    for name, point in zip(landmarks.names, landmarks.points_ras_mm, strict=True):
        side = Bone.LEFT_HEMIPELVIS if name.endswith("l") else Bone.RIGHT_HEMIPELVIS
        if not name.startswith("FH"):
            distances = np.linalg.norm(a_sample.surface(side)[0] - point, axis=1)
            assert distances.min() < 4


def test_rule_on_a_samples_own_surface_is_near_the_mark():
    """All 100 samples: Testing/benchmark/landmark_rules.csv."""
    samples = [sampled_shape((0, index)) for index in range(12)]
    errors = np.array([rule_errors_mm(sample) for sample in samples])
    assert errors.mean() < 0.8
    assert errors.mean(axis=0).max() < 1.5
