"""A subject on fitted bones; a label map that it completes keeps every label it had."""

import numpy as np
import pytest

from XraySynthLib.anatomy.fit import NotAPelvisError, PelvisFit
from XraySynthLib.anatomy.fitted import completed, subject_on
from XraySynthLib.anatomy.label_maps import BODY, OUTSIDE
from XraySynthLib.anatomy.landmarks import landmarks_of
from XraySynthLib.anatomy.render import render_on
from XraySynthLib.anatomy.shape_model import PelvisShape
from XraySynthLib.anatomy.subject import sample_subject
from XraySynthLib.anatomy.tissues import Label
from XraySynthLib.geometry.transforms import rotation

OFFSET_RAS_MM = np.array([40.0, -300.0, 1200.0])
SPACING_MM = 8.0
BONES = tuple(Label)[1:8]


def a_fit(subject, extra=None):
    """What a perfect fit of a subject at `OFFSET_RAS_MM` is, turned by `extra` (3, 3)."""
    turn = rotation("x", -subject.parameters.anterior_tilt_deg)[:3, :3]
    extra = np.eye(3) if extra is None else extra
    ras_from_model = np.eye(4)
    ras_from_model[:3, :3], ras_from_model[:3, 3] = extra @ turn, OFFSET_RAS_MM
    vertices = subject.bones.vertices_ras_mm @ extra.T + OFFSET_RAS_MM
    tilt_deg = subject.parameters.anterior_tilt_deg
    poses = [
        p.tilted(tilt_deg) for p in (subject.parameters.left_hip, subject.parameters.right_hip)
    ]
    landmarks = landmarks_of(PelvisShape(vertices, subject.bones.femur_turns))
    seen = np.ones(14, bool)
    return PelvisFit(
        vertices, ras_from_model, 1.0, np.zeros(19), tuple(poses), landmarks, seen, {}, {}
    )


@pytest.fixture(scope="module")
def a_person():
    return sample_subject((5, 0), anterior_tilt_deg=9.0, table=False)


@pytest.fixture(scope="module")
def drawn(a_person):
    labels = render_on(a_person, a_person.grid((40, 40, 48), SPACING_MM)).labels
    assert set(BONES) < set(np.unique(labels).tolist())
    return labels


def test_a_subject_lies_on_the_fitted_bones(a_person):
    subject, origin_ras_mm = subject_on(a_fit(a_person), (1, 2), {"fat_mm": 40.0})
    fit = a_fit(a_person)
    np.testing.assert_allclose(
        subject.landmarks.points_ras_mm + origin_ras_mm, fit.landmarks.points_ras_mm, atol=1e-6
    )
    np.testing.assert_allclose(subject.bones.femur_turns, a_person.bones.femur_turns, atol=1e-9)
    parameters = subject.parameters
    assert parameters.anterior_tilt_deg == pytest.approx(9.0) and parameters.fat_mm == 40.0
    assert parameters.implants == () and subject.seed == (1, 2)
    other, _ = subject_on(fit, (1, 3))
    assert other.parameters.bladder_ml != parameters.bladder_ml


@pytest.mark.parametrize(("axis", "angle_deg"), [("z", 40.0), ("y", -30.0), ("x", 90.0)])
def test_a_pelvis_out_of_its_axes_is_refused(a_person, axis, angle_deg):
    turned = a_fit(a_person, rotation(axis, angle_deg)[:3, :3])
    with pytest.raises(NotAPelvisError, match="orientation"):
        subject_on(turned, (0, 0))


def test_a_whole_map_stays_as_it_is(drawn):
    labels, filled_ml = completed(drawn, np.full_like(drawn, Label.MUSCLE), SPACING_MM)
    np.testing.assert_array_equal(labels, drawn)
    assert filled_ml == {}


def test_bones_alone_get_the_subjects_soft_tissue(drawn):
    bones = np.where(np.isin(drawn, BONES), drawn, 0).astype(np.uint8)
    labels, filled_ml = completed(bones, drawn, SPACING_MM)
    body = drawn != Label.AIR
    np.testing.assert_array_equal(labels[body], drawn[body])
    ml = SPACING_MM**3 / 1000
    assert filled_ml["muscle"] == pytest.approx((drawn == Label.MUSCLE).sum() * ml, abs=0.1)
    assert not {label.name.lower() for label in BONES} & set(filled_ml)


def test_given_organs_are_not_drawn_twice_and_missing_ones_are_drawn(drawn):
    given = np.where(np.isin(drawn, (Label.LEFT_FEMUR, Label.BLADDER)), drawn, 0).astype(np.uint8)
    given = np.roll(given, 3, axis=2)
    labels, filled_ml = completed(given, drawn, SPACING_MM)
    np.testing.assert_array_equal(labels[given != 0], given[given != 0])
    for label in (Label.LEFT_FEMUR, Label.BLADDER):
        assert (labels == label).sum() == (given == label).sum()
        assert label.name.lower() not in filled_ml
    assert {"vertebrae", "sacrum", "right_femur", "bowel"} < set(filled_ml)


def test_beyond_the_map_the_bones_go_on(drawn):
    given = np.where(drawn == Label.LEFT_FEMUR, drawn, 0).astype(np.uint8)
    given[:12] = OUTSIDE
    labels, filled_ml = completed(given, drawn, SPACING_MM)
    femur = drawn == Label.LEFT_FEMUR
    assert femur[:12].any() and (labels[femur] == Label.LEFT_FEMUR).all()
    assert filled_ml["left_femur"] == pytest.approx(
        femur[:12].sum() * SPACING_MM**3 / 1000, abs=0.1
    )


@pytest.mark.parametrize("outline", [BODY, Label.FAT])
def test_a_map_that_tells_the_body_ends_it(drawn, outline):
    _, j, i = np.indices(drawn.shape)
    body = np.hypot((j - 20) * 1.2, i - 23) < 15
    given = np.where(body, np.uint8(outline), 0).astype(np.uint8)
    given[np.isin(drawn, BONES) & body] = Label.SACRUM
    labels, _ = completed(given, drawn, SPACING_MM)
    assert (labels[~body] == Label.AIR).all() and (labels[body] != Label.AIR).all()


def test_what_sticks_out_of_the_subject_gets_fat_and_skin(drawn):
    given = np.where(np.isin(drawn, BONES), drawn, 0).astype(np.uint8)
    given[20, 18:22, :] = Label.MUSCLE  # to the end of the grid
    labels, _ = completed(given, drawn, 3.0)
    beside = (drawn == Label.AIR)[20, 20] & (given[21, 20] == 0)
    assert beside.any()
    assert np.isin(labels[21, 20][beside], (Label.FAT, Label.SKIN)).all()
    assert np.isin(labels[22, 20][beside], (Label.FAT, Label.SKIN)).all()
    assert (labels[23, 20][beside & (drawn[23, 20] == Label.AIR)] == Label.AIR).all()
