"""A record is all that an image needs, and every number in it comes from its range."""

import json
from dataclasses import asdict, fields, replace
from itertools import pairwise

import numpy as np
import pytest

from XraySynthLib.data import Quantity
from XraySynthLib.drr import (
    ACQUISITION_PRESETS,
    Acquisition,
    AcquisitionRanges,
    Collimation,
    Exposure,
    Materials,
    acquire,
    draw_acquisition,
    expose,
    to_display,
    to_line_integral,
)
from XraySynthLib.geometry import CArmPose, Intrinsics

AIM_RAS_MM = (10.0, -20.0, 30.0)
DETECTOR = Intrinsics(1020.0, (6.0, 5.0), (40, 48))
N_DRAWS = 500


@pytest.fixture(scope="module")
def a_box():
    density = np.zeros((2, 20, 22, 24), np.float32)
    density[0, 2:18, 2:20, 2:22] = 1.0
    density[1, 6:10, 6:12, 6:9] = 0.8
    ras_from_ijk = np.diag([6.0, 6.0, 6.0, 1.0])
    ras_from_ijk[:3, 3] = np.array(AIM_RAS_MM) - 3.0 * np.array([23, 21, 19])
    return Materials(("soft tissue", "bone"), density, ras_from_ijk)


def drawn(seed, ranges=None, intrinsics=DETECTOR):
    rng = np.random.default_rng(seed)
    return draw_acquisition(ranges or AcquisitionRanges(), intrinsics, AIM_RAS_MM, rng)


def text_of(acquisition):
    return json.dumps(acquisition.to_dict(), allow_nan=False)


class TestDraws:
    def test_the_same_seed_gives_the_same_record(self):
        assert text_of(drawn((7, 3))) == text_of(drawn((7, 3)))
        assert text_of(drawn((7, 3))) != text_of(drawn((7, 4)))
        assert text_of(drawn((7, 3))) != text_of(drawn((8, 3)))

    def test_every_range_is_kept_and_used(self):
        ranges = AcquisitionRanges()
        records = [drawn((1, item)) for item in range(N_DRAWS)]
        values = {
            "primary_deg": [r.pose.primary_deg for r in records],
            "secondary_deg": [r.pose.secondary_deg for r in records],
            "roll_deg": [r.pose.roll_deg for r in records],
            "source_to_isocenter_mm": [r.pose.source_to_isocenter_mm for r in records],
            **{
                name: [getattr(r.exposure, name) for r in records]
                for name in ("scatter", "photons_per_mm2", "electronic_noise_photons", "blur_mm")
            },
            "field_share": [
                side_mm / whole_mm
                for r in records
                if (field := r.exposure.collimation)
                for side_mm, whole_mm in zip(
                    (field.width_mm, field.height_mm), (288, 200), strict=True
                )
            ],
        }
        offsets = [r.pose.isocenter_ras_mm - AIM_RAS_MM for r in records]
        values |= {f"isocenter_offset_mm {axis}": [o[axis] for o in offsets] for axis in range(3)}
        for name, found in values.items():
            low, high = getattr(ranges, name.partition(" ")[0])
            assert low <= min(found) and max(found) <= high, name
            if name == "photons_per_mm2":
                low, high, found = np.log(low), np.log(high), np.log(found)
            assert min(found) < low + 0.05 * (high - low), name
            assert max(found) > high - 0.05 * (high - low), name
            assert abs(np.mean(found) - (low + high) / 2) < 0.06 * (high - low), name
        assert {r.exposure.kvp for r in records} == set(ranges.kvp)
        collimated = [r.exposure.collimation for r in records if r.exposure.collimation]
        assert len(collimated) / N_DRAWS == pytest.approx(0.3, abs=0.06)
        assert {field.shape for field in collimated} == {"rectangle", "circle", "octagon"}
        assert len({r.noise_seed for r in records}) == N_DRAWS
        assert {f.name for f in fields(ranges)} == {
            *(name.partition(" ")[0] for name in values),
            "directions_deg", "kvp", "collimated_share",
        }  # fmt: skip

    def test_angles_are_drawn_about_each_direction(self):
        ranges = ACQUISITION_PRESETS["standard-views"]
        found = set()
        for item in range(N_DRAWS):
            pose = drawn((4, item), ranges).pose
            offsets = np.abs(
                np.subtract(ranges.directions_deg, (pose.primary_deg, pose.secondary_deg))
            )
            near = np.nonzero((offsets <= 8).all(axis=1))[0]
            assert len(near) == 1
            found.add(int(near[0]))
        assert found == set(range(6))

    def test_parameters_are_independent(self):
        records = [drawn((2, item)) for item in range(N_DRAWS)]
        table = [
            (*r.pose.isocenter_ras_mm, r.pose.primary_deg, r.pose.secondary_deg, r.pose.roll_deg,
             r.exposure.scatter, r.exposure.blur_mm, r.exposure.kvp)
            for r in records
        ]  # fmt: skip
        correlation = np.corrcoef(np.array(table).T) - np.eye(9)
        assert np.abs(correlation).max() < 0.2

    def test_a_range_that_changes_leaves_the_others_draws_alone(self):
        one, other = drawn(5), drawn(5, AcquisitionRanges(collimated_share=1.0, kvp=(80,)))
        assert other.exposure.collimation is not None and other.exposure.kvp == 80
        assert one.pose.primary_deg == other.pose.primary_deg
        assert one.noise_seed == other.noise_seed
        assert one.exposure.blur_mm == other.exposure.blur_mm

    def test_a_range_may_be_one_value(self):
        record = drawn(5, AcquisitionRanges(primary_deg=(12.0, 12.0), collimated_share=0.0))
        assert record.pose.primary_deg == 12 and record.exposure.collimation is None


class TestRecord:
    def test_from_json_text_the_image_is_the_same_to_the_byte(self, a_box):
        for item in range(12):
            record = drawn((3, item))
            again = Acquisition.from_dict(json.loads(text_of(record)))
            assert text_of(again) == text_of(record)
            image = acquire(a_box, record)
            assert image.quantity is Quantity.TRANSMISSION
            assert acquire(a_box, again).values.tobytes() == image.values.tobytes()

    def test_an_item_made_alone_is_the_item_made_in_a_row(self, a_box):
        row = [acquire(a_box, drawn((9, item))).values for item in range(6)]
        for item in (4, 1, 5):
            np.testing.assert_array_equal(acquire(a_box, drawn((9, item))).values, row[item])
        assert all((one != other).any() for one, other in pairwise(row))

    def test_everything_of_the_detector_comes_back(self):
        detector = Intrinsics(1000.0, (0.3, 0.2), (50, 70), (20.0, 30.0), mirrored=False)
        record = Acquisition(CArmPose(1, 2, 3, (4, 5, 6), 600), detector, Exposure(kvp=70), 17)
        again = Acquisition.from_dict(json.loads(text_of(record)))
        np.testing.assert_array_equal(again.view.ras_from_camera, record.view.ras_from_camera)
        assert again.view.to_dict() == record.view.to_dict()
        assert again.exposure == record.exposure and again.noise_seed == 17

    def test_collimation_comes_back(self):
        field = Collimation("octagon", 120.0, 90.0, 12.0, 0.5)
        record = Acquisition(CArmPose(), DETECTOR, Exposure(collimation=field))
        assert Acquisition.from_dict(json.loads(text_of(record))).exposure.collimation == field

    def test_the_noise_seed_changes_the_noise_alone(self, a_box):
        record = drawn(4, AcquisitionRanges(photons_per_mm2=(100.0, 100.0)))
        fields = record.to_dict()
        other = Acquisition.from_dict({**fields, "noise_seed": record.noise_seed + 1})
        one, two = acquire(a_box, record).values, acquire(a_box, other).values
        assert (one != two).any() and abs(one.mean() - two.mean()) < 0.01


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"primary_deg": (5, -5)}, "primary_deg must be a range"),
        ({"roll_deg": (0, np.inf)}, "roll_deg must be a range"),
        ({"scatter": (np.nan, 1)}, "scatter must be a range"),
        ({"photons_per_mm2": (0, 100)}, "must be positive"),
        ({"kvp": ()}, "at least one tube voltage"),
        ({"kvp": (65,)}, "65"),
        ({"collimated_share": 1.5}, "collimated_share"),
        ({"collimated_share": np.nan}, "collimated_share"),
        ({"blur_mm": (-1, 1)}, "blur_mm"),
        ({"scatter": (-1, 1)}, "scatter"),
        ({"field_share": (0, 1)}, "field_share"),
        ({"source_to_isocenter_mm": (-5, 5)}, "source_to_isocenter_mm"),
        ({"primary_deg": (0, 400)}, "primary_deg"),
    ],
)
def test_impossible_ranges_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        AcquisitionRanges(**changes)


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.pop("pose"),
        lambda record: record.pop("noise_seed"),
        lambda record: record["pose"].update(colour=1),
        lambda record: record["pose"].update(primary_deg="x"),
        lambda record: record["pose"].update(primary_deg=10**400),
        lambda record: record["exposure"].pop("collimation"),
        lambda record: record["exposure"].update(kvp=65),
        lambda record: record["exposure"].update(kvp=None),
        lambda record: record["exposure"].update(blur_mm="wide"),
        lambda record: record["exposure"].update(collimation={"shape": "star"}),
        lambda record: record["exposure"].update(collimation=5),
        lambda record: record["intrinsics"].update(shape_px=[0, 5]),
        lambda record: record.update(noise_seed="x"),
        lambda record: record.update(noise_seed=-1),
        lambda record: record.update(pose=None),
    ],
)
def test_damaged_records_are_refused(change):
    record = json.loads(text_of(drawn(1)))
    change(record)
    with pytest.raises(ValueError, match=r"\S"):
        Acquisition.from_dict(record)


@pytest.mark.parametrize("shape", ["rectangle", "circle", "octagon"])
def test_no_rim_shows_at_the_collimators_edge(shape):
    """A wedge looks the same up to the border of the open field, however fine detail is shown."""
    detector = Intrinsics(1020.0, (0.5, 0.5), (160, 200))
    exposure = Exposure(blur_mm=0.4, collimation=Collimation(shape, 60.0, 50.0, 10.0))
    record = Acquisition(CArmPose(), detector, exposure)
    wedge = np.broadcast_to(np.linspace(5, 10, 200, dtype=np.float32), (1, 160, 200))
    window, field = (1.0, 2.5), record.open_field
    for detail in (0.0, 1.0):
        collimated, whole = (
            to_display(
                to_line_integral(expose(wedge, ("water",), record.view, taken)),
                window,
                detail,
                field,
            ).values[field]
            for taken in (exposure, replace(exposure, collimation=None))
        )
        assert whole.min() > 0.05 and np.ptp(whole) > 0.1
        np.testing.assert_allclose(collimated, whole, atol=0.03)
    assert 0.9 < field.sum() / (exposure.collimation.openness(detector) > 0.5).sum() < 1


def test_a_detector_before_the_isocentre_is_refused(a_box):
    record = Acquisition(CArmPose(source_to_isocenter_mm=1020), DETECTOR)
    with pytest.raises(ValueError, match="must be greater"):
        acquire(a_box, record)


def test_records_hold_no_more_than_json(a_box):
    assert json.loads(text_of(drawn(2))) == drawn(2).to_dict()
    assert asdict(drawn(2).exposure)["kvp"] == drawn(2).exposure.kvp
