"""Fit: a person who was held out is found again; what is no pelvis is refused."""

import numpy as np
import pytest
from fit_held_out import GRID, SPACING_MM, posed_person

from XraySynthLib.anatomy.fit import NotAPelvisError, fit_bones, fit_labels
from XraySynthLib.anatomy.landmarks import landmarks_of
from XraySynthLib.anatomy.parts import LABEL_IDS, Bone
from XraySynthLib.anatomy.targets import target_from_surface, targets_from_labels
from XraySynthLib.anatomy.voxels import bone_labels

COARSE_MM = 4.0


@pytest.fixture(scope="module")
def a_person(model):
    person, shift = posed_person(model.held_out[0])
    ras_from_ijk = np.diag([COARSE_MM] * 3 + [1.0])
    ras_from_ijk[:3, 3] = shift - [200, 150, 150]
    grid = tuple(int(size * SPACING_MM / COARSE_MM) for size in GRID)
    ids = LABEL_IDS["totalsegmentator"]
    return person, bone_labels(person, ras_from_ijk, grid, ids), ras_from_ijk


def test_a_held_out_person_is_found_again(a_person):
    person, labels, ras_from_ijk = a_person
    fit = fit_labels(labels, ras_from_ijk)
    errors = np.linalg.norm(
        fit.landmarks.points_ras_mm - landmarks_of(person).points_ras_mm, axis=1
    )
    assert np.median(errors) < 2.5
    assert errors.max() < 7
    assert fit.landmark_seen.all()
    assert max(fit.residual_mm.values()) < 1.2
    assert fit.coverage[Bone.LEFT_HEMIPELVIS] > 0.9
    assert 0.3 < fit.coverage[Bone.LEFT_FEMUR] < 0.8
    flexion = fit.hip_poses[0].flexion_deg - fit.hip_poses[1].flexion_deg
    assert flexion == pytest.approx(34.5, abs=6)
    again = landmarks_of(fit.shape).points_ras_mm
    matrix = fit.ras_from_model
    np.testing.assert_allclose(
        again @ matrix[:3, :3].T + matrix[:3, 3], fit.landmarks.points_ras_mm, atol=1e-6
    )


def test_targets_lie_on_the_surface_and_not_on_the_border(a_person):
    person, labels, ras_from_ijk = a_person
    targets = targets_from_labels(labels, ras_from_ijk)
    assert set(targets) == set(Bone)
    for bone, target in targets.items():
        vertices = person.surface(bone)[0]
        distances = [np.linalg.norm(vertices - p, axis=1).min() for p in target.points_ras_mm[::50]]
        assert np.median(distances) < 3
        assert max(distances) < 8
    femur = targets[Bone.LEFT_FEMUR].points_ras_mm
    assert femur[:, 2].min() > ras_from_ijk[2, 3]


def test_left_for_right_is_refused(a_person):
    person, _, _ = a_person
    swapped = {
        Bone.LEFT_HEMIPELVIS: target_from_surface(*person.surface(Bone.RIGHT_HEMIPELVIS)),
        Bone.RIGHT_HEMIPELVIS: target_from_surface(*person.surface(Bone.LEFT_HEMIPELVIS)),
        Bone.SACRUM: target_from_surface(*person.surface(Bone.SACRUM)),
    }
    with pytest.raises(NotAPelvisError, match="left and right"):
        fit_bones(swapped)


def test_balls_are_refused():
    labels = np.zeros((60, 60, 60), dtype=np.uint8)
    grid = np.indices(labels.shape)
    for label, column in ((1, 15), (2, 45)):
        center = np.array([30, 30, column]).reshape(3, 1, 1, 1)
        labels[((grid - center) ** 2).sum(axis=0) < 12**2] = label
    with pytest.raises(NotAPelvisError, match="do not look like"):
        fit_labels(labels, np.diag([4.0, 4.0, 4.0, 1.0]), "deepfluoro")


def test_no_hip_is_refused(a_person):
    person, _, _ = a_person
    with pytest.raises(NotAPelvisError, match="No hip bone"):
        fit_bones({Bone.SACRUM: target_from_surface(*person.surface(Bone.SACRUM))})
