"""What CTs must be to be learned from, and the crops that are cut from them."""

import numpy as np
import pytest

from XraySynthLib.anatomy.tissues import Label
from XraySynthLib.ct.examples import BONE_SHARE, Coded, Crops
from XraySynthLib.ct.store import TrainingVolume, training_volume
from XraySynthLib.ct.tissues import KINDS, bone_mask, mirrored_kinds
from XraySynthLib.data import Volume

SIDE = 16
SHAPE = (48, 32, 64)


class TestTrainingVolume:
    def test_it_is_cut_about_its_middle(self, make_patient):
        patient = make_patient()
        padded = np.pad(patient.values_hu, ((0, 3), (2, 3), (1, 0)), constant_values=-1000)
        labels = np.pad(patient.labels, ((0, 3), (2, 3), (1, 0)))
        ready = training_volume("anna", Volume(padded, patient.ras_from_ijk, labels), {})
        assert ready.values_hu.shape == ready.kinds.shape == (48, 32, 32)
        assert ready.values_hu.dtype == np.int16 and ready.kinds.dtype == np.uint8
        # (51, 37, 33): 3 // 2, 5 // 2 and 1 // 2 voxels are left out before it.
        assert np.array_equal(ready.values_hu, np.round(padded[1:49, 2:34, 0:32]))

    def test_what_is_known_and_the_spacing(self, ready):
        np.testing.assert_allclose(ready.scalars, [0, 1, np.nan, np.nan, np.nan])

    def test_places_of_bone(self, ready):
        assert bone_mask(ready.kinds)[tuple(ready.bone_places.T)].all()
        assert len(ready.bone_places) > 1000

    def test_any_order_of_axes_is_turned_to_one(self, make_patient, ready):
        """Voxels counted from the left, the front and the head, k and i swapped."""
        patient = make_patient()
        values, labels = (
            a[::-1, :, ::-1].transpose(2, 1, 0) for a in (patient.values_hu, patient.labels)
        )
        matrix = [[0, 0, 2.5, 0], [0, -2.5, 0, 0], [-2.5, 0, 0, 0], [0, 0, 0, 1]]
        other = training_volume("anna", Volume(values, matrix, labels), {})
        assert np.array_equal(other.kinds, ready.kinds)
        assert np.array_equal(other.values_hu, ready.values_hu)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda v, m, x: (v, m, None), "no label map"),
            (lambda v, m, x: (v, m @ np.diag([1, 1, 2, 1]), x), "no cubes but"),
            (lambda v, m, x: (v[:, :31], m, x[:, :31]), "side under 32"),
            (lambda v, m, x: (v, m, np.where(x == Label.SACRUM, 99, x)), r"tissue has: \[99\]"),
            (lambda v, m, x: (v, m, np.full_like(x, Label.FAT)), "no bone"),
        ],
    )
    def test_what_cannot_be_learned_from(self, make_patient, change, words):
        patient = make_patient()
        changed = change(patient.values_hu, patient.ras_from_ijk, patient.labels)
        with pytest.raises(ValueError, match=words):
            training_volume("anna", Volume(*changed), {})


@pytest.fixture
def places() -> TrainingVolume:
    """A volume whose HU say in which k and i a voxel lies."""
    k, _, i = np.indices(SHAPE)
    kinds = np.random.default_rng(0).integers(0, len(KINDS), SHAPE, np.uint8)
    values = (64 * k + i - 1024).astype(np.int16)
    scalars = np.arange(5, dtype=np.float32)
    return TrainingVolume("anna", values, kinds, scalars, np.argwhere(bone_mask(kinds)))


@pytest.fixture
def codes(places) -> Coded:
    """Codes that are the HU themselves, on their grids: of the CT, and of its mirror image."""
    both = np.stack([places.values_hu, places.values_hu[..., ::-1]])
    latents = both.reshape(2, 1, 12, 4, 8, 4, 16, 4).mean(axis=(3, 5, 7))
    return Coded(latents.astype(np.float32), both.astype(np.float32))


def same(one, other):
    return all(np.array_equal(one[name], other[name], equal_nan=True) for name in one)


class TestCrops:
    def test_a_crop_depends_on_seed_and_number_alone(self, places, codes):
        one, other = (Crops([places], SIDE, 7, [codes]) for _ in range(2))
        backwards = {number: other[number] for number in (5, 4, 3)}
        assert all(same(one[number], backwards[number]) for number in (3, 4, 5))
        assert not same(one[3], one[4])
        assert not same(one[3], Crops([places], SIDE, 8, [codes])[3])

    def test_values_and_kinds_are_of_one_box_or_its_mirror_image(self, places):
        mirrored = 0
        for number in range(20):
            crop = Crops([places], SIDE, 0)[number]
            hu = np.round(crop["values"][0].numpy() * 1000 + 1024).astype(int)
            k, i = hu[0, 0, 0] // 64, hu[0, 0].min() % 64
            turned = hu[0, 0, 0] > hu[0, 0, 1]
            mirrored += turned
            assert k % 4 == 0 and i % 4 == 0
            assert set(crop) == {"values", "kinds"}
            boxes = [places.kinds[k : k + 16, j : j + 16, i : i + 16] for j in range(0, 17, 4)]
            boxes = [mirrored_kinds(box) for box in boxes] if turned else boxes
            assert any(np.array_equal(crop["kinds"], box) for box in boxes)
        assert 5 < mirrored < 15

    def test_codes_are_of_the_same_box(self, places, codes):
        """Also where it is mirrored: they are cut from the other end of the mirrored volume."""
        for number in range(12):
            crop = Crops([places], SIDE, 1, [codes])[number]
            hu = 1000 * crop["values"][0]
            np.testing.assert_allclose(crop["guess"][0], hu, atol=0.01)
            coarse = hu.reshape(4, 4, 4, 4, 4, 4).mean(dim=(1, 3, 5))
            np.testing.assert_allclose(crop["latents"][0], coarse, atol=0.01)
            assert crop["latents"].shape == (1, 4, 4, 4)

    def test_labels_and_numbers_are_withheld_now_and_then(self, places, codes):
        crops = [Crops([places], SIDE, 2, [codes])[number] for number in range(300)]
        withheld = [bool((crop["kinds"] == len(KINDS)).all()) for crop in crops]
        assert 0.05 < np.mean(withheld) < 0.15
        for crop, without in zip(crops, withheld, strict=True):
            assert without == bool((crop["kinds"] == len(KINDS)).any())
            assert not without or crop["scalars"].isnan().all()
        told = [crop for crop, without in zip(crops, withheld, strict=True) if not without]
        unknown = [crop["scalars"].isnan().numpy() for crop in told]
        assert 0.10 < np.mean(unknown) < 0.20
        assert places.scalars.tolist() == [0, 1, 2, 3, 4]

    def test_crops_about_bone_hold_it(self, ready):
        empty = np.zeros((160, 160, 160), np.uint8)
        empty[100, 100, 100] = KINDS.index(Label.SACRUM)
        volume = TrainingVolume("a", empty, empty, ready.scalars, np.array([[100, 100, 100]]))
        crops = Crops([volume], SIDE, 3)
        share = np.mean([bone_mask(crops[n]["kinds"].numpy()).any() for n in range(200)])
        assert share == pytest.approx(BONE_SHARE, abs=0.1)  # by chance, one in a thousand would

    def test_larger_volumes_are_seen_more_often(self, places):
        small = TrainingVolume(
            "b", np.full((32, 16, 24), 3000, np.int16), np.zeros((32, 16, 24), np.uint8),
            places.scalars, np.array([[1, 1, 1]]),
        )  # fmt: skip
        crops = Crops([places, small], SIDE, 4)
        of_small = np.mean([float(crops[n]["values"].min()) == 3 for n in range(200)])
        assert 0.1 < of_small < 0.3  # 1 to 8 voxels, so 1 to 2.8
