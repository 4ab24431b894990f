"""What goes into the networks: HU, kinds of tissue, numbers about the person."""

import numpy as np
import pytest

from XraySynthLib.anatomy.tissues import Label
from XraySynthLib.ct.intensity import from_hu, to_hu
from XraySynthLib.ct.tissues import KINDS, bone_mask, kinds_of, mirrored_kinds, scalars_of


class TestIntensity:
    def test_goldens(self):
        hu = np.array([-2000, -1024, -1000, 0, 40, 3071, 5000])
        scaled = from_hu(hu)
        assert scaled.dtype == np.float32
        np.testing.assert_allclose(scaled, [-1.024, -1.024, -1, 0, 0.04, 3.071, 3.071], rtol=1e-6)

    def test_back_to_whole_hu_within_the_scanners_range(self):
        made = to_hu(np.array([-9.0, -1.0, 0.0404, 0.0406, 9.0], np.float32))
        assert made.dtype == np.float32 and made.tolist() == [-1024, -1000, 40, 41, 3071]

    def test_every_hu_survives(self):
        hu = np.arange(-1024, 3072)
        assert np.array_equal(to_hu(from_hu(hu)), hu)


class TestKinds:
    def test_goldens(self):
        labels = np.array([0, 1, 6, 7, 10, 17, 20, 21])
        assert kinds_of(labels).tolist() == [0, 1, 6, 7, 8, 15, 16, 17]
        assert kinds_of(labels).dtype == np.uint8
        assert KINDS[16] is Label.IMPLANT

    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32])
    def test_unknown_ids_are_named(self, dtype):
        labels = np.array([[0, 1, 8], [99, 21, 99]], dtype)
        with pytest.raises(ValueError, match=r"no tissue has: \[8, 99\]"):
            kinds_of(labels)

    def test_negative_ids_are_named(self):
        with pytest.raises(ValueError, match=r"\[-1\]"):
            kinds_of(np.array([0, 1, -1], np.int16))

    def test_bones(self):
        bones = [kind.name for kind in KINDS if bone_mask(np.array([KINDS.index(kind)]))[0]]
        assert bones == [
            "LEFT_HEMIPELVIS", "RIGHT_HEMIPELVIS", "VERTEBRAE", "SACRUM", "LEFT_FEMUR",
            "RIGHT_FEMUR", "COCCYX",
        ]  # fmt: skip

    def test_a_mirrored_patient_has_left_bones_on_the_other_side(self):
        row = [Label.LEFT_FEMUR, Label.MUSCLE, Label.RIGHT_HEMIPELVIS, Label.AIR, Label.SACRUM]
        mirrored = mirrored_kinds(kinds_of(np.array([[row]])))
        assert [KINDS[kind].name for kind in mirrored[0, 0]] == [
            "SACRUM", "AIR", "LEFT_HEMIPELVIS", "MUSCLE", "RIGHT_FEMUR",
        ]  # fmt: skip

    def test_mirroring_turns_i_alone(self):
        kinds = np.random.default_rng(0).integers(0, len(KINDS), (2, 3, 4), np.uint8)
        assert np.array_equal(mirrored_kinds(mirrored_kinds(kinds)), kinds)
        soft = np.where(bone_mask(kinds), 0, kinds)
        assert np.array_equal(mirrored_kinds(soft), soft[:, :, ::-1])


class TestScalars:
    def test_goldens(self):
        scalars = scalars_of({"spacing_mm": 3.0, "fat_mm": 1.0, "bone_quality": 1.25, "age": 80})
        assert scalars.dtype == np.float32
        np.testing.assert_allclose(scalars, [1, -2, np.nan, 1, np.nan])

    def test_none_is_not_known(self):
        assert np.isnan(scalars_of({"fat_mm": None})).all()
