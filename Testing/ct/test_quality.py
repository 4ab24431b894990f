"""Each complaint about a generated CT, and none where there is no reason."""

import re
from dataclasses import replace

import numpy as np
import pytest

from XraySynthLib.anatomy.tissues import Label
from XraySynthLib.ct.quality import (
    bone_agreement,
    dice,
    least_agreement,
    median_hu,
    quality_of,
    tissue_hu,
)
from XraySynthLib.ct.tissues import KINDS, QUALITY

LIMITS = {"muscle": (45.0, 50.0, 55.0, 0.0), "sacrum": (350.0, 400.0, 450.0, 0.0)}


@pytest.fixture
def check(ready):
    """`check(change)`: quality of the patient after `change(values_hu, kinds)`."""

    def check(change=lambda values, kinds: None, limits=LIMITS, bone_quality=0.0):
        values, kinds = ready.values_hu.astype(np.float32), ready.kinds.copy()
        change(values, kinds)
        return quality_of(values, kinds, 2.5, limits, 0.9, bone_quality)

    return check


def test_the_patient_passes(check):
    quality = check()
    assert quality.complaints == () and quality.bone_dice == 1
    assert quality.median_hu["sacrum"] == pytest.approx(400, abs=2)
    assert quality.to_dict()["complaints"] == []


def complaint_of(quality):
    (one,) = quality.complaints
    return one


def test_bone_where_there_should_be_none(check):
    def shifted(values, kinds):
        values[:] = np.roll(values, 2, axis=2)

    sentence = complaint_of(check(shifted, {}))
    assert sentence == "the bones agree with the label map by 0.67, in training by 0.90 or more"


def test_no_bone_at_all(check):
    def soft(values, kinds):
        values[:] = np.minimum(values, 60)

    assert "agree with the label map by 0.00, in training by 0.90" in complaint_of(check(soft, {}))


def test_a_wrong_median(check):
    def darker(values, kinds):
        values[kinds == KINDS.index(Label.MUSCLE)] -= 40

    sentence = complaint_of(check(darker))
    assert re.fullmatch(
        r"the median of muscle is (9|10|11) HU; after the training CTs it should be 12 to 88",
        sentence,
    )


def test_how_far_beyond_training_a_median_may_lie(check):
    def sacrum_at(hu):
        def change(values, kinds):
            values[kinds == KINDS.index(Label.SACRUM)] = hu

        return change

    # 25 HU and 15% of 400 beyond 350 and 450.
    for hu, passes in ((266, True), (264, False), (534, True), (536, False)):
        assert (check(sacrum_at(hu)).complaints == ()) == passes


def test_bone_goes_with_the_bone_quality(check):
    limits = {"sacrum": (350.0, 400.0, 450.0, 100.0)}
    for quality, median in ((0.0, 400), (2.0, 600), (-2.0, 200)):

        def dense(values, kinds, median=median):
            values[kinds == KINDS.index(Label.SACRUM)] = median

        assert check(dense, limits, quality).complaints == ()
        assert check(dense, limits, np.nan).complaints == ()
        assert "of sacrum" in complaint_of(check(dense, limits, -quality or 2.0))


def test_one_femur_denser_than_the_other(check):
    def femora(left_hu, right_hu):
        def change(values, kinds):
            values[kinds == KINDS.index(Label.LEFT_FEMUR)] = left_hu
            values[kinds == KINDS.index(Label.RIGHT_FEMUR)] = right_hu

        return change

    assert check(femora(400, 560), {}).complaints == ()
    assert complaint_of(check(femora(400, 580), {})) == (
        "the medians of left femur 400 and of right femur 580 HU differ by more than those of one "
        "person"
    )


def test_sides_of_which_one_is_cut_are_not_compared(check):
    def cut(values, kinds):
        right = kinds == KINDS.index(Label.RIGHT_FEMUR)
        values[right] = 900
        kinds[right & (np.arange(kinds.shape[0]) % 3 == 0)[:, None, None]] = 0

    assert check(cut, {}).complaints == ()


def test_a_kind_of_few_voxels_is_not_judged(check):
    def speck(values, kinds):
        kinds[0, 5, 5:9] = KINDS.index(Label.VESSEL)

    assert check(speck, {"vessel": (400.0, 500.0, 600.0, 0.0)}).complaints == ()


def test_strays(check):
    def bright(values, kinds):
        values[42:48, 10:20, 8:24] = 900
        values[1, 6, 6] = 900

    quality = check(bright, {})
    assert quality.strays == 2
    assert quality.stray_ml == pytest.approx((6 * 10 * 16 + 1) * 2.5**3 / 1000)
    assert complaint_of(quality) == "15.0 ml of bright voxels lie far from every bone"


def test_metal_and_what_is_about_it_is_no_stray(check):
    def implant(values, kinds):
        values[42:48, 10:20, 8:24] = 3071
        kinds[43:47, 10:20, 8:24] = KINDS.index(Label.IMPLANT)

    quality = check(implant, {})
    assert (quality.strays, quality.clipped_share) == (0, 0)


def test_clipped(check):
    def clipped(values, kinds):
        values[0:4, 4:28, 4:28] = -1024

    assert "of the body is at an end of the HU range" in complaint_of(check(clipped, {}))


def test_gas_and_air_may_be_at_the_end(check):
    def gas(values, kinds):
        kinds[0:4, 4:28, 4:28] = KINDS.index(Label.GAS)
        values[(kinds == 0) | (kinds == KINDS.index(Label.GAS))] = -1024

    assert check(gas, {}).clipped_share == 0


def test_dice():
    one, other = np.array([1, 1, 0, 0], bool), np.array([0, 1, 1, 1], bool)
    assert dice(one, other) == 2 / 5
    assert np.isnan(dice(one & False, one & False))


def test_what_training_says(ready):
    assert bone_agreement(ready.values_hu, ready.kinds) == 1 == least_agreement([ready])
    darker = replace(ready, values_hu=ready.values_hu - 10)
    assert tissue_hu([ready, darker, ready])["muscle"] == pytest.approx((40, 50, 50, 0), abs=1.5)
    assert set(tissue_hu([ready])) == set(median_hu(ready.values_hu, ready.kinds)) == {
        "air", "muscle", "left_femur", "right_femur", "sacrum",
    }  # fmt: skip


def test_training_tells_how_bone_goes_with_its_quality(ready):
    def person(quality):
        values_hu = ready.values_hu.astype(float)
        values_hu[ready.kinds == KINDS.index(Label.SACRUM)] = 300 + 80 * quality
        scalars = ready.scalars.copy()
        scalars[QUALITY] = quality
        return replace(ready, values_hu=values_hu, scalars=scalars)

    said = tissue_hu([person(quality) for quality in np.linspace(-1, 1, 9)])
    assert said["sacrum"] == pytest.approx((300, 300, 300, 80), abs=1)
    assert said["muscle"][3] == 0
