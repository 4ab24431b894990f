"""The shape model's file: whole, in the right frame, with six people left out of it."""

import numpy as np
import pytest

from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.surfaces import enclosed_volume_mm3


def test_counts_are_those_of_the_asset(model):
    assert model.n_modes == 19
    assert len(model.people_nodes_mm) == 26
    assert model.held_out == (4, 7, 13, 15, 16, 18)
    assert len(model.training) == 20
    assert not set(model.training) & set(model.held_out)
    assert "MPL-2.0" in model.metadata["licence"]


def test_left_is_left(model):
    """RAS: +x is the patient's right, +y anterior, +z superior."""
    middle = {bone: model.mean.surface(bone)[0].mean(axis=0) for bone in Bone}
    assert middle[Bone.LEFT_HEMIPELVIS][0] < -60 < 60 < middle[Bone.RIGHT_HEMIPELVIS][0]
    assert middle[Bone.LEFT_FEMUR][0] < -60 < 60 < middle[Bone.RIGHT_FEMUR][0]
    assert middle[Bone.SACRUM][1] < -40
    assert middle[Bone.SACRUM][2] > 30
    assert middle[Bone.LEFT_FEMUR][2] < -100


def test_lesser_trochanters_are_behind_and_medial(model):
    """A femur from the wrong side or back to front would pass every test of symmetry."""
    vertices = model.mean.surface(Bone.LEFT_FEMUR)[0] - model.mean.head(Bone.LEFT_FEMUR)[0]
    shaft = vertices[(vertices[:, 2] < -100) & (vertices[:, 2] > -140)].mean(axis=0)
    level = vertices[(vertices[:, 2] < -60) & (vertices[:, 2] > -72)]
    trochanter = level[level[:, 0].argmax()]
    assert trochanter[0] > shaft[0] + 12
    assert trochanter[1] < shaft[1] - 12


def test_sizes_are_an_adults(model):
    pelvis = np.concatenate([model.mean.surface(bone)[0] for bone in list(Bone)[:3]])
    assert 265 < np.ptp(pelvis[:, 0]) < 295
    for bone in (Bone.LEFT_FEMUR, Bone.RIGHT_FEMUR):
        assert 44 < 2 * model.mean.head(bone)[1] < 52
    left, right = (model.mean.head(bone)[0] for bone in (Bone.LEFT_FEMUR, Bone.RIGHT_FEMUR))
    assert np.linalg.norm(left - right) == pytest.approx(163.7, abs=1.0)
    np.testing.assert_allclose((left + right) / 2, 0, atol=0.2)


@pytest.mark.parametrize("bone", Bone)
def test_surfaces_are_closed_and_face_outwards(model, bone):
    vertices, triangles = model.mean.surface(bone)
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    forward = {tuple(edge) for edge in edges.tolist()}
    assert len(forward) == len(edges)
    assert all((second, first) in forward for first, second in forward)
    assert np.isfinite(vertices).all()
    low, high = {4: (150e3, 350e3), 5: (350e3, 700e3), 6: (350e3, 700e3)}.get(bone, (200e3, 450e3))
    assert low < enclosed_volume_mm3(vertices, triangles) < high


def test_hemipelves_have_a_hole_and_other_bones_none(model):
    holes = {}
    for bone in Bone:
        vertices, triangles = model.mean.surface(bone)
        euler = len(vertices) - len(triangles) // 2  # edges are 3/2 of the triangles
        holes[bone] = (2 - euler) // 2
    assert holes == {1: 1, 2: 1, 4: 0, 5: 0, 6: 0}


def test_mirrored_vertices_are_an_involution_on_hemipelves_and_femurs(model):
    paired = np.flatnonzero(model.vertex_labels != Bone.SACRUM)
    partner = model.mirrored_vertices
    np.testing.assert_array_equal(partner[partner[paired]], paired)
    left = model.parts[Bone.LEFT_HEMIPELVIS]
    assert (model.vertex_labels[partner[left]] == Bone.RIGHT_HEMIPELVIS).all()
    mean = model.mean.vertices_ras_mm
    assert np.abs(mean[paired] * [-1, 1, 1] - mean[partner[paired]]).max() < 12


def test_training_people_are_in_the_modes_and_held_out_are_not(model):
    modes = model.modes_mm.reshape(model.n_modes, -1).T

    def distance_off_mm(index: int) -> float:
        deviation = (model.people_nodes_mm[index] - model.mean_nodes_mm).ravel()
        scores = np.linalg.lstsq(modes, deviation, rcond=None)[0]
        return np.sqrt(3 * ((deviation - modes @ scores) ** 2).mean())

    assert max(distance_off_mm(index) for index in model.training) < 0.05
    assert min(distance_off_mm(index) for index in model.held_out) > 1.5


def test_modes_know_nothing_of_the_held_out(model):
    """Mean and modes remade from the twenty alone are the asset's."""
    people = model.people_nodes_mm[list(model.training)]
    np.testing.assert_allclose(people.mean(axis=0), model.mean_nodes_mm, atol=0.01)
    rebuilt = np.tensordot(model.training_scores, model.modes_mm, axes=1)
    np.testing.assert_allclose(rebuilt, people - model.mean_nodes_mm, atol=0.05)
    np.testing.assert_allclose(model.training_scores.std(axis=0, ddof=1), 1, atol=1e-4)
    np.testing.assert_allclose(model.training_scores.mean(axis=0), 0, atol=1e-4)
