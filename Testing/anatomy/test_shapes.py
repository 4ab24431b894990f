"""Samples and people: seated, turned the right way, the same each time, unlike each other."""

import numpy as np
import pytest
from fit_held_out import bone_labels
from landmark_rules import sampled_shape

from XraySynthLib.anatomy.hips import JOINT_SPACE_MM, HipPose
from XraySynthLib.anatomy.parts import (
    LABEL_IDS,
    Bone,
    recognise_label_ids,
)
from XraySynthLib.anatomy.voxels import inside_surface

HIPS = {Bone.LEFT_FEMUR: Bone.LEFT_HEMIPELVIS, Bone.RIGHT_FEMUR: Bone.RIGHT_HEMIPELVIS}


def test_local_variation_leaves_the_span_of_the_modes(model):
    flat = sampled_shape((3, 1), local_variation=0.0).vertices_ras_mm
    free = sampled_shape((3, 1), local_variation=1.0).vertices_ras_mm
    pelvis = slice(0, model.parts[Bone.LEFT_FEMUR].start)
    distance = np.linalg.norm((free - flat)[pelvis], axis=1)
    assert 1.0 < distance.mean() < 4.0


@pytest.mark.parametrize("femur", HIPS)
def test_heads_are_seated_with_room(model, a_sample, femur):
    for shape in (model.mean, a_sample, model.person(model.held_out[0])):
        center, radius_mm = shape.head(femur)
        socket = shape.surface(HIPS[femur])[0]
        distances = np.linalg.norm(socket - center, axis=1)
        assert distances.min() >= radius_mm + JOINT_SPACE_MM - 1e-6
        points = shape.vertices_ras_mm[model.socket_vertices(HIPS[femur])]
        assert np.median(np.linalg.norm(points - center, axis=1)) < radius_mm + 6


def test_pubic_bodies_do_not_cross():
    for index in range(30):
        sample = sampled_shape((0, index))
        left = sample.surface(Bone.LEFT_HEMIPELVIS)[0][:, 0].max()
        right = sample.surface(Bone.RIGHT_HEMIPELVIS)[0][:, 0].min()
        assert right - left >= 2.4


def test_hips_turn_the_knee_the_right_way(model):
    """Golden signs: flexion forward, abduction outward, internal rotation turns toes inward."""
    knee = model.parts[Bone.LEFT_FEMUR]
    lowest = model.mean.vertices_ras_mm[knee][:, 2].argmin()

    def moved(pose: HipPose, bone: Bone) -> np.ndarray:
        shape = model.mean.with_hips(pose, pose)
        return shape.surface(bone)[0][lowest] - model.mean.surface(bone)[0][lowest]

    for bone, outward in ((Bone.LEFT_FEMUR, -1), (Bone.RIGHT_FEMUR, 1)):
        assert moved(HipPose(flexion_deg=20), bone)[1] > 100
        assert moved(HipPose(abduction_deg=20), bone)[0] * outward > 100
    toes = np.array([0.0, 1.0, 0.0])
    assert (HipPose(internal_rotation_deg=20).rotation(left=True) @ toes)[0] > 0.3
    assert (HipPose(internal_rotation_deg=20).rotation(left=False) @ toes)[0] < -0.3


@pytest.mark.parametrize("left", [True, False])
def test_hip_angles_round_trip(left):
    pose = HipPose(25, -10, 15)
    again = HipPose.from_rotation(pose.rotation(left), left)
    np.testing.assert_allclose(
        [again.flexion_deg, again.abduction_deg, again.internal_rotation_deg], [25, -10, 15]
    )


def test_turning_hips_twice_is_turning_them_last(model):
    first = model.mean.with_hips(HipPose(30, 10, 5), HipPose(10))
    back = first.with_hips(HipPose(), HipPose())
    np.testing.assert_allclose(back.vertices_ras_mm, model.mean.vertices_ras_mm, atol=1e-9)


@pytest.mark.parametrize("scores", [np.zeros(20), [np.nan], [[0.0]]])
def test_bad_scores_are_refused(model, scores):
    with pytest.raises(ValueError, match="scores"):
        model.shape(scores)


def test_voxels_have_the_surface_volume_and_place(model):
    ras_from_ijk = np.diag([2.0, 2.0, 2.0, 1.0])
    ras_from_ijk[:3, 3] = [-80, -130, -10]
    vertices, triangles = model.mean.surface(Bone.SACRUM)
    grid = (100, 70, 80)
    inside = inside_surface(vertices, triangles, np.linalg.inv(ras_from_ijk), grid)
    corners = vertices[triangles]
    share = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    assert inside.sum() * 8 == pytest.approx(share.sum(), rel=0.01)
    middle = (corners.sum(axis=1) * share[:, None]).sum(axis=0) / 4 / share.sum()
    found = np.argwhere(inside)[:, ::-1].mean(axis=0) * 2 + ras_from_ijk[:3, 3]
    np.testing.assert_allclose(found, middle, atol=0.15)


def test_label_ids_are_recognised(model):
    ras_from_ijk = np.diag([5.0, 5.0, 5.0, 1.0])
    ras_from_ijk[:3, 3] = [-160, -120, -150]
    for maker, ids in LABEL_IDS.items():
        labels = bone_labels(model.mean, ras_from_ijk, (65, 50, 65), ids)
        assert set(np.unique(labels)) == {0, *ids.values()}
        assert recognise_label_ids(labels) == maker
        middle = np.argwhere(labels == ids[Bone.LEFT_HEMIPELVIS])[:, 2].mean()
        assert middle * 5 - 160 < -40
        if maker != "deepfluoro":  # organs under small ids, ribs under the others' hips
            labels[:4, :4, :40] = 5
            for other in ("totalsegmentator", "maisi"):
                if other != maker:
                    labels[0, :10, :2] = LABEL_IDS[other][Bone.LEFT_HEMIPELVIS]
                    labels[0, :10, 2:4] = LABEL_IDS[other][Bone.RIGHT_HEMIPELVIS]
            assert recognise_label_ids(labels) == maker
    labels = bone_labels(model.mean, ras_from_ijk, (65, 50, 65), LABEL_IDS["deepfluoro"])
    labels[labels == 0] = 10  # fat, in this project's own maps
    labels[0] = 21
    assert recognise_label_ids(labels) == "deepfluoro"
    for stranger in (22, 50, 99, 118, 200, 255):
        labels[0, 0, :2] = stranger, 30
        listed = ", ".join(map(str, sorted((stranger, 30))))
        with pytest.raises(
            ValueError, match=f"XraySynth and DeepFluoro, which have no id {listed}"
        ):
            recognise_label_ids(labels)
    with pytest.raises(ValueError, match="no hip bone under an id of XraySynth"):
        recognise_label_ids(np.zeros((3, 3, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="no hip bone"):
        recognise_label_ids(np.arange(2))  # a mask of anything
