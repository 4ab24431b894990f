"""Fit: a person who was held out is found again; what is no pelvis is refused."""

import numpy as np
import pytest
from fit_held_out import GRID, SPACING_MM, bone_labels, cut, cut_at, posed_person, rightward_mm

from XraySynthLib.anatomy.fit import NotAPelvisError, fit_bones, fit_labels
from XraySynthLib.anatomy.fit_problem import PELVIC_BONES
from XraySynthLib.anatomy.landmarks import landmarks_of
from XraySynthLib.anatomy.midline import Plane, midline_cut, with_mirror_image, without_face
from XraySynthLib.anatomy.parts import LABEL_IDS, Bone
from XraySynthLib.anatomy.targets import BoneTarget, target_from_surface, targets_from_labels
from XraySynthLib.geometry.transforms import transform_points

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


@pytest.mark.parametrize("case", ["cut below ASIS", "cut below GSN, in the map"])
def test_what_lies_beyond_a_cut_is_not_seen(a_person, case):
    person, labels, ras_from_ijk = a_person
    truth = landmarks_of(person)
    heights_mm = truth.points_ras_mm[:, 2] - ras_from_ijk[2, 3]
    heights = dict(zip(truth.names, heights_mm, strict=True))
    left = cut_at(labels, case, heights, COARSE_MM)
    fit = fit_labels(left, ras_from_ijk)
    errors = np.linalg.norm(fit.landmarks.points_ras_mm - truth.points_ras_mm, axis=1)
    end_mm = (np.flatnonzero(left.any(axis=(1, 2)))[-1] + 0.5) * COARSE_MM
    assert (heights_mm > end_mm).sum() >= 2
    assert not fit.landmark_seen[heights_mm > end_mm].any()
    assert fit.landmark_seen[heights_mm < end_mm - 15].all()
    assert errors[fit.landmark_seen].max() < 6
    assert np.median(errors[~fit.landmark_seen]) < 20


def test_flat_ends_and_the_border_are_cuts():
    k, j, i = np.indices((20, 30, 40))
    ball = (k - 10) ** 2 + (j - 15) ** 2 + (i - 20) ** 2 < 9**2
    matrix = np.array([[-3.0, 0, 0, 100], [0, 2, 0, 0], [0, 0, 2, -7], [0, 0, 0, 1]])
    whole = targets_from_labels(np.where(ball, 1, 0), matrix, "deepfluoro")[Bone.LEFT_HEMIPELVIS]
    assert whole.cuts_ras.shape == (0, 4)
    assert np.isinf(whole.depths_mm(np.zeros((1, 3)))).all()
    flat = np.where(ball & (k < 14), 1, 0)  # slice 13 is the last
    above = targets_from_labels(flat, matrix, "deepfluoro")[Bone.LEFT_HEMIPELVIS]
    np.testing.assert_allclose(above.cuts_ras, [[0, 0, 1, 20]])  # 2 mm * 13.5 - 7 mm
    np.testing.assert_allclose(above.depths_mm(np.array([[5.0, 5, 12]])), [8])
    assert above.points_ras_mm[:, 2].max() > 18
    assert above.without_cut_faces(3.0).points_ras_mm[:, 2].max() <= 20
    assert (above.without_cut_faces(3.0).normals_ras[:, 2] > 0.9).mean() < 0.02
    right = np.where(ball, 1, 0)[:, :, 15:]  # column 0 is now the ball's: towards +x
    border = targets_from_labels(right, matrix, "deepfluoro")[Bone.LEFT_HEMIPELVIS]
    np.testing.assert_allclose(border.cuts_ras, [[1, 0, 0, 101.5]])


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


@pytest.fixture(scope="module")
def half_a_person(a_person):
    """Left of the midsagittal plane, and the voxels' distance from it."""
    person, labels, ras_from_ijk = a_person
    rightward = rightward_mm(person, ras_from_ijk, labels.shape)
    return cut(labels, "left half", rightward)[0], rightward


def test_the_cut_face_of_half_a_pelvis_is_its_midsagittal_plane(a_person, half_a_person):
    labels, rightward = half_a_person
    ras_from_ijk = a_person[2]
    plane = midline_cut(targets_from_labels(labels, ras_from_ijk))
    voxels = np.argwhere(labels == LABEL_IDS["totalsegmentator"][Bone.SACRUM])
    heights = plane.heights_mm(transform_points(ras_from_ijk, voxels[:, ::-1].astype(float)))
    np.testing.assert_allclose(heights, rightward[tuple(voxels.T)], atol=1.5)


def test_half_a_pelvis_is_completed_by_its_mirror_image(a_person, half_a_person):
    person, labels, ras_from_ijk = a_person
    half, rightward = half_a_person
    right_hip = LABEL_IDS["totalsegmentator"][Bone.RIGHT_HEMIPELVIS]
    medial = np.where(labels == right_hip, rightward, np.inf)
    splinter = medial < np.partition(medial.ravel(), 40)[40]  # a cut leaves such, and it is no hip
    given = targets_from_labels(np.where(splinter, right_hip, half), ras_from_ijk)
    assert Bone.RIGHT_HEMIPELVIS in given
    fit = fit_bones(given)
    truth = landmarks_of(person).points_ras_mm
    errors = np.linalg.norm(fit.landmarks.points_ras_mm - truth, axis=1)
    left = np.array([name.endswith("-l") for name in fit.landmarks.names])
    np.testing.assert_array_equal(fit.landmark_seen, left)
    assert np.median(errors[left]) < 3
    assert np.median(errors[~left]) < 5
    assert errors.max() < 10
    assert set(fit.residual_mm) == {Bone.LEFT_HEMIPELVIS, Bone.SACRUM, Bone.LEFT_FEMUR}
    assert fit.coverage[Bone.RIGHT_HEMIPELVIS] == 0
    assert 0.35 < fit.coverage[Bone.SACRUM] < 0.65


@pytest.mark.parametrize("missing", [(), (Bone.RIGHT_HEMIPELVIS,), (Bone.LEFT_HEMIPELVIS,)])
def test_a_whole_sacrum_has_no_cut_face(a_person, missing):
    _, labels, ras_from_ijk = a_person
    targets = targets_from_labels(labels, ras_from_ijk)
    assert midline_cut({b: t for b, t in targets.items() if b not in missing}) is None


def test_a_cut_far_from_the_midline_is_no_mirror(a_person):
    person, labels, ras_from_ijk = a_person
    rightward = rightward_mm(person, ras_from_ijk, labels.shape)
    aside = np.where(rightward < 25, labels, 0)
    aside[aside == LABEL_IDS["totalsegmentator"][Bone.RIGHT_HEMIPELVIS]] = 0
    assert midline_cut(targets_from_labels(aside, ras_from_ijk)) is None


def test_a_cut_aside_of_the_midline_is_not_mirrored(a_person):
    person, labels, ras_from_ijk = a_person
    rightward = rightward_mm(person, ras_from_ijk, labels.shape)
    ids = LABEL_IDS["totalsegmentator"]
    no_femurs = np.isin(labels, [ids[bone] for bone in PELVIC_BONES])
    targets = targets_from_labels(np.where(no_femurs & (rightward < -20), labels, 0), ras_from_ijk)
    assert midline_cut(targets) is not None
    fit = fit_bones(targets)
    truth = landmarks_of(person).points_ras_mm
    errors = np.linalg.norm(fit.landmarks.points_ras_mm - truth, axis=1)
    assert np.median(errors[~fit.landmark_seen]) < 15


def test_a_mirror_image_turns_points_and_normals():
    normals = np.eye(3)
    half = {
        Bone.LEFT_HEMIPELVIS: BoneTarget(np.array([[-4.0, 5, 6]] * 3), normals),
        Bone.SACRUM: BoneTarget(
            [[-3.0, 0, 0], [2.0, 0, 0], [2.0, 0, 0]], normals[[1, 0, 1]], [[0, 0, 1, 7]]
        ),
    }
    plane = Plane(np.array([1.0, 0, 0]), 2.0)
    half = without_face(half, plane)
    np.testing.assert_array_equal(half[Bone.SACRUM].points_ras_mm, [[-3, 0, 0], [2, 0, 0]])
    whole = with_mirror_image(half, plane)
    np.testing.assert_array_equal(whole[Bone.SACRUM].cuts_ras, [[0, 0, 1, 7]] * 2)
    oblique = BoneTarget(np.zeros((1, 3)), normals[:1], [[0.6, 0.8, 0, 1.0]])
    # (1, 0.5, 0) is on it, its image is (3, 0.5, 0)
    np.testing.assert_allclose(plane.reflected(oblique).cuts_ras, [[-0.6, 0.8, 0, -1.4]])
    right = whole[Bone.RIGHT_HEMIPELVIS]
    np.testing.assert_array_equal(right.points_ras_mm, [[8, 5, 6]] * 3)
    np.testing.assert_array_equal(right.normals_ras, np.diag([-1, 1, 1]))
    assert len(whole[Bone.SACRUM].points_ras_mm) == 4


def test_left_for_right_is_refused(a_person):
    person, _, _ = a_person
    swapped = {
        Bone.LEFT_HEMIPELVIS: target_from_surface(*person.surface(Bone.RIGHT_HEMIPELVIS)),
        Bone.RIGHT_HEMIPELVIS: target_from_surface(*person.surface(Bone.LEFT_HEMIPELVIS)),
        Bone.SACRUM: target_from_surface(*person.surface(Bone.SACRUM)),
    }
    with pytest.raises(NotAPelvisError, match="left and right"):
        fit_bones(swapped)


def test_swapped_femurs_are_refused(a_person):
    person, _, _ = a_person
    swapped = {bone: target_from_surface(*person.surface(bone)) for bone in PELVIC_BONES}
    swapped[Bone.LEFT_FEMUR] = target_from_surface(*person.surface(Bone.RIGHT_FEMUR))
    swapped[Bone.RIGHT_FEMUR] = target_from_surface(*person.surface(Bone.LEFT_FEMUR))
    with pytest.raises(NotAPelvisError, match=r"femur lies .* left and right"):
        fit_bones(swapped)


_MAP = np.ones((8, 8, 8), dtype=np.uint8)


@pytest.mark.parametrize(
    ("labels", "matrix", "ids", "message"),
    [
        (_MAP[0], np.eye(4), None, r"must be \(K, J, I\), got shape \(8, 8\)"),
        (_MAP.astype(float), np.eye(4), None, "must hold integers, got float64"),
        (_MAP.astype(bool), np.eye(4), None, "must hold integers, got bool"),
        (-_MAP.astype(np.int16), np.eye(4), None, "no negative ids, got -1"),
        (_MAP, np.zeros((4, 4)), None, "last row of ras_from_ijk"),
        (_MAP, np.diag([1.0, 0, 1, 1]), None, "ras_from_ijk is singular"),
        (_MAP, np.eye(3), None, r"ras_from_ijk must be a 4x4 matrix, got shape \(3, 3\)"),
        (_MAP, np.diag([1.0, np.nan, 1, 1]), None, "ras_from_ijk holds numbers"),
        (_MAP, np.eye(4), "foo", "must be one of deepfluoro, totalsegmentator, maisi, got 'foo'"),
        (_MAP, np.eye(4), 3, "ids must be"),
        (_MAP, np.eye(4), {"hip": 3}, "ids must be"),
        (_MAP, np.eye(4), {Bone.SACRUM: -3}, "must be positive integers"),
        (_MAP, np.eye(4), {Bone.SACRUM: 2.5}, "must be positive integers"),
        (_MAP, np.eye(4), {Bone.SACRUM: 2, Bone.LEFT_FEMUR: 2}, "integers that differ"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(labels, matrix, ids, message):
    with pytest.raises(ValueError, match=message):
        fit_labels(labels, matrix, ids)


def test_balls_are_refused():
    labels = np.zeros((60, 60, 60), dtype=np.uint8)
    grid = np.indices(labels.shape)
    for label, column in ((1, 15), (2, 45)):
        center = np.array([30, 30, column]).reshape(3, 1, 1, 1)
        labels[((grid - center) ** 2).sum(axis=0) < 12**2] = label
    with pytest.raises(NotAPelvisError, match="do not look like"):
        fit_labels(labels, np.diag([4.0, 4.0, 4.0, 1.0]), "deepfluoro")


def test_a_cut_face_alone_is_refused():
    points = np.stack([*np.meshgrid(np.arange(9.0), np.arange(9.0)), np.zeros((9, 9))], axis=-1)
    up = np.tile([0.0, 0, 1], (81, 1))
    face = BoneTarget(points.reshape(-1, 3), up, [[0, 0, 1, 1.0]])
    with pytest.raises(NotAPelvisError, match="only cut faces"):
        fit_bones({Bone.LEFT_HEMIPELVIS: face})


def test_no_hip_is_refused(a_person):
    person, _, _ = a_person
    with pytest.raises(NotAPelvisError, match="No hip bone"):
        fit_bones({Bone.SACRUM: target_from_surface(*person.surface(Bone.SACRUM))})
