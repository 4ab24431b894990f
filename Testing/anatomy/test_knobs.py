"""Knobs: what is refused and in which words, what follows from them, what lies at their limits."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from XraySynthLib.anatomy.hips import HipPose, eased, strain_deg
from XraySynthLib.anatomy.parameters import (
    IMPLANTS,
    LIMITS,
    MAX_SCORE_NORM,
    SubjectParameters,
    sample_parameters,
    typical_bone_quality,
)
from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.subject import Subject, make_subject, sample_subject
from XraySynthLib.anatomy.voxels import inside_surface

VOXEL_CM3 = 0.25**3


def drawn(seed, **knobs) -> SubjectParameters:
    return sample_parameters(np.random.default_rng(seed), knobs=knobs)


def changed(one: SubjectParameters, other: SubjectParameters) -> set[str]:
    return {name for name in vars(one) if getattr(one, name) != getattr(other, name)}


class TestRefused:
    @pytest.mark.parametrize(
        ("knob", "error", "words"),
        [
            ({"fat_mm": 500}, ValueError, "fat_mm must lie in 4..90, got 500"),
            ({"bone_quality": np.nan}, ValueError, "bone_quality must lie in"),
            ({"age_years": "x"}, TypeError, "age_years must be a number in 18..110, got 'x'"),
            ({"age_years": None}, TypeError, "age_years must be a number in 18..110, got None"),
            ({"age_years": True}, TypeError, "age_years must be a number"),
            ({"sex": "x"}, ValueError, "sex must be 'female' or 'male', got 'x'"),
            ({"sex": ["female"]}, ValueError, "sex must be 'female' or 'male'"),
            ({"implants": ("hat",)}, ValueError, "Unknown implants ['hat']"),
            ({"implants": "stem-left"}, TypeError, "implants must be a tuple of names"),
            ({"implants": None}, TypeError, "implants must be a tuple of names"),
            ({"implants": ("si-screws",) * 2}, ValueError, "implants must differ"),
            ({"implants": ("stem-left", "nail-left")}, ValueError, "a stem or a nail"),
            ({"shape_scores": 1.0}, TypeError, "shape_scores must be a tuple of numbers, got 1.0"),
            ({"shape_scores": "12"}, TypeError, "shape_scores must be a tuple of numbers"),
            ({"shape_scores": ("1",)}, TypeError, "Each of shape_scores must be a number"),
            ({"shape_scores": (8.0,)}, ValueError, "Each of shape_scores must lie in -4..4"),
            ({"shape_scores": (0.0,) * 20}, ValueError, "19 numbers at most, got 20"),
            ({"shape_scores": (4.0,) * 19}, ValueError, "too far from the mean"),
            ({"table": "yes"}, TypeError, "table must be True or False, got 'yes'"),
            ({"texture_seed": -1}, ValueError, "texture_seed must be 0 or more"),
            ({"texture_seed": 0.5}, TypeError, "texture_seed must be a whole number"),
            ({"left_hip": (1, 2, 3)}, TypeError, "left_hip must be a HipPose, got (1, 2, 3)"),
            ({"left_hip": HipPose(60.0)}, ValueError, "left_hip.flexion_deg must lie in -10..45"),
            ({"left_hip": HipPose(-10.0, -20.0, -40.0)}, ValueError, "femur into the pelvis"),
            ({"left_hip": HipPose(0.0, -20.0)}, ValueError, "knees into each other"),
            (
                {"left_hip": HipPose(-10.0), "anterior_tilt_deg": -30},
                ValueError,
                "left_hip.flexion_deg and anterior_tilt_deg together must lie in -30..75, got -40",
            ),
            ({"lordosis_deg": 0, "anterior_tilt_deg": 30}, ValueError, "lean out of the body"),
        ],
    )
    def test_with_one_sentence(self, knob, error, words):
        with pytest.raises(error) as caught:
            SubjectParameters(**knob)
        assert words in str(caught.value)
        assert str(caught.value).endswith(".") and len(str(caught.value)) < 250

    @pytest.mark.parametrize("angle", ["x", None, True, np.nan])
    def test_hip_poses_of_anything_but_numbers(self, angle):
        with pytest.raises((TypeError, ValueError), match="abduction_deg of a hip must be"):
            HipPose(abduction_deg=angle)

    @pytest.mark.parametrize(
        ("seed", "error"),
        [(-1, ValueError), ((3, -1), ValueError), ((), ValueError), (1.5, TypeError)]
        + [(bad, TypeError) for bad in ("a", None, True, (3, "a"), np.float64(1))],
    )
    def test_seeds_that_are_none(self, seed, error):
        with pytest.raises(error, match="A seed must"):
            sample_subject(seed)

    def test_what_is_no_knob_and_no_parameters(self):
        with pytest.raises(TypeError, match="There is no knob 'size'; there are age_years"):
            sample_subject(1, size=3)
        with pytest.raises(TypeError, match="made of SubjectParameters, got None"):
            make_subject(None)


class TestTaken:
    def test_lists_arrays_and_numpys_numbers_become_plain(self):
        one = SubjectParameters(
            shape_scores=np.array([1, 2]),
            implants=["si-screws"],
            age_years=np.int64(40),
            table=np.bool_(True),
            left_hip=HipPose(np.float32(3)),
        )
        other = SubjectParameters(
            shape_scores=(1.0, 2.0),
            implants=("si-screws",),
            age_years=40.0,
            table=True,
            left_hip=HipPose(3.0),
        )
        assert one == other and hash(one) == hash(other)
        assert type(one.table) is bool and type(one.age_years) is float

    def test_numpys_seeds(self):
        plain = sample_subject((3, 1))
        for seed in ((np.int64(3), np.uint8(1)), [3, 1]):
            subject = sample_subject(seed)
            assert subject.parameters == plain.parameters and subject.seed == (3, 1)
        assert sample_subject(np.int64(3)).seed == (3,)

    def test_every_single_knob_at_its_limits(self):
        for name, limits in LIMITS.items():
            for value in limits:
                SubjectParameters(**{name: value})


class TestCauses:
    """A knob is set before the draw: what follows from it follows, all else stays."""

    def test_bone_and_arteries_follow_the_age(self):
        for index in range(20):
            free = drawn((5, index))
            old, young = (drawn((5, index), age_years=age, sex="female") for age in (88, 28))
            assert (old.age_years, young.age_years) == (88.0, 28.0)
            typical = [typical_bone_quality(age, "female") for age in (28, 88)]
            assert young.bone_quality - old.bone_quality == pytest.approx(typical[0] - typical[1])
            assert old.calcification > 0 == young.calcification
            assert changed(young, old) == {"age_years", "bone_quality", "calcification"}
            assert drawn((5, index), age_years=free.age_years) == free

    def test_shape_bone_and_habitus_follow_the_sex(self):
        for index in range(20):
            free = drawn((5, index))
            woman, man = (drawn((5, index), sex=sex) for sex in ("female", "male"))
            assert free in (woman, man)
            assert changed(woman, man) <= {
                *("sex", "shape_scores", "bone_quality", "fat_mm", "belly_mm", "muscle")
            }
            assert changed(woman, man) >= {"sex", "shape_scores"}
            assert woman.fat_mm > man.fat_mm and woman.muscle < man.muscle

    def test_belly_and_fat_follow_each_other(self):
        for index in range(20):
            free = drawn((5, index))
            thin, fat = (drawn((5, index), fat_mm=mm) for mm in (8, 50))
            assert thin.belly_mm < fat.belly_mm
            assert changed(thin, fat) == {"fat_mm", "belly_mm"}
            big = drawn((5, index), belly_mm=80)
            assert big.fat_mm > 25 and changed(big, free) == {"fat_mm", "belly_mm"}
            both = drawn((5, index), belly_mm=80, fat_mm=10)
            assert (both.belly_mm, both.fat_mm) == (80, 10)
            assert drawn((5, index), fat_mm=free.fat_mm).belly_mm == pytest.approx(free.belly_mm)

    def test_posture_is_possible_whatever_is_set(self):
        for index in range(20):
            free = drawn((5, index))
            for tilt_deg in LIMITS["anterior_tilt_deg"]:
                other = drawn((5, index), anterior_tilt_deg=tilt_deg)
                assert changed(free, other) <= {
                    *("anterior_tilt_deg", "lordosis_deg", "left_hip", "right_hip")
                }
                assert (other.lordosis_deg > free.lordosis_deg) == (tilt_deg > 0)
            for lordosis_deg in LIMITS["lordosis_deg"]:
                drawn((5, index), lordosis_deg=lordosis_deg)
            crossed = drawn((5, index), left_hip=HipPose(20.0, -15.0))
            assert crossed.right_hip.abduction_deg >= 5.0
            assert changed(free, crossed) <= {"left_hip", "right_hip"}

    @pytest.mark.parametrize(
        "knob",
        [
            {"bladder_ml": 333.0},
            {"implants": (IMPLANTS[0],)},
            {"table": True},
            {"shape_scores": ()},
            {"texture_seed": 3},
            {"bone_quality": 0.77},
            {"muscle": 1.234},
        ],
    )
    def test_any_other_knob_sets_its_own_field_alone(self, knob):
        for index in range(5):
            assert drawn((5, index), **knob) == replace(drawn((5, index)), **knob)


def inside(subject: Subject) -> tuple[dict[Bone, np.ndarray], np.ndarray]:
    """Voxels of 2.5 mm of each bone, and the skin's distance, mm, on them."""
    grid = subject.grid()
    ijk_from_ras = np.linalg.inv(grid.ras_from_ijk)
    voxels = {
        bone: inside_surface(*subject.bones.surface(bone), ijk_from_ras, grid.shape)
        for bone in Bone
    }
    places = np.stack(np.broadcast_arrays(*grid.axes_mm()))[:, np.any(list(voxels.values()), 0)]
    return voxels, subject.envelope.distances(tuple(places))[1]


def overlap_cm3(voxels: dict[Bone, np.ndarray], bones: tuple[Bone, ...]) -> float:
    """How much of femurs, or of the sacrum, lies in other bones."""
    return VOXEL_CM3 * float(
        sum((voxels[one] & voxels[other]).sum() for one in bones for other in Bone if one != other)
    )


class TestBodies:
    @pytest.mark.parametrize("index", [11, 18, 52])
    def test_no_bone_of_the_lean_stands_out_of_the_skin(self, index):
        _, skin_mm = inside(sample_subject((3, index)))
        assert skin_mm.max() < -2

    def test_an_outline_that_holds_all_bones_is_left_alone(self):
        from XraySynthLib.anatomy.envelope import envelope_of

        stout = make_subject(SubjectParameters(fat_mm=50.0))
        fitted = envelope_of(stout.bones, stout.parameters)
        np.testing.assert_array_equal(stout.envelope.knots_mm, fitted.knots_mm)
        assert stout.envelope.back_mm == fitted.back_mm

    @pytest.mark.parametrize(
        "knobs",
        [
            {"fat_mm": 4.0, "muscle": 0.5, "belly_mm": 0.0},
            {"anterior_tilt_deg": 30.0, "lordosis_deg": 60.0, "hip": (45.0, 0.0, 0.0)},
            {"hip": (45.0, 35.0, 40.0), "fat_mm": 4.0},
            {"hip": (-10.0, -5.0, -33.0)},
            {"hip": (-10.0, 35.0, -40.0), "anterior_tilt_deg": -20.0, "fat_mm": 4.0},
            {"anterior_tilt_deg": -30.0, "fat_mm": 4.0, "lordosis_deg": 50.0},
            {"anterior_tilt_deg": 4.0, "lordosis_deg": 80.0, "belly_mm": 0.0},
            {"anterior_tilt_deg": 7.0, "lordosis_deg": 0.0, "belly_mm": 0.0},
            {"shape_scores": (MAX_SCORE_NORM / 19**0.5 - 1e-9,) * 19, "local_variation": 2.0},
        ],
    )
    def test_extremes_are_bodies_still(self, knobs):
        hip = HipPose(*knobs.pop("hip", (0.0, 0.0, 0.0)))
        voxels, skin_mm = inside(
            make_subject(SubjectParameters(left_hip=hip, right_hip=hip, **knobs))
        )
        assert skin_mm.max() < -2
        assert overlap_cm3(voxels, (Bone.LEFT_FEMUR, Bone.RIGHT_FEMUR)) < 1
        assert overlap_cm3(voxels, (Bone.SACRUM,)) < 0.2

    def test_eased_hips_are_possible_ones(self):
        rng = np.random.default_rng(0)
        poses = [HipPose(*rng.uniform((-60, -60, -80), (90, 60, 80))) for _ in range(200)]
        check = partial(SubjectParameters, lordosis_deg=40.0)
        for pose, other in zip(poses[::2], poses[1::2], strict=True):
            tilt_deg = float(rng.choice([-30, 0, 20]))
            right = eased(other, tilt_deg)
            left = eased(pose, tilt_deg, right)
            check(left_hip=left, right_hip=right, anterior_tilt_deg=tilt_deg)
        kept = HipPose(10.0, -5.0, -25.0)
        assert eased(kept, 0.0) == kept

    def test_strain_is_of_extension_adduction_and_external_rotation(self):
        assert strain_deg(HipPose(-10.0, -10.0, -10.0)) == pytest.approx(47)
        assert strain_deg(HipPose(40.0, 20.0, 20.0)) < 0
