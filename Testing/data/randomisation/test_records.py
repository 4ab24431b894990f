"""Records: drawn within their ranges, kept as JSON, and enough to make the same bytes again."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest

from XraySynthLib.data import ImageLandmarkSet, Provenance, Quantity, Sample, Xray
from XraySynthLib.data.formats import read_sample, write_sample
from XraySynthLib.data.randomisation import (
    MILD,
    NONE,
    PRESETS,
    STRONG,
    GreyRanges,
    OverlayRanges,
    PlaneRanges,
    Randomisation,
    RandomisationRanges,
    draw_randomisation,
    randomise,
)
from XraySynthLib.data.randomisation.curves import Gamma, Invert
from XraySynthLib.data.randomisation.markers import Annotation, LeadMarker
from XraySynthLib.data.randomisation.ranges import CORRUPTIONS
from XraySynthLib.data.randomisation.record import BEAM_KINDS, GREY_KINDS
from XraySynthLib.data.randomisation.textures import GaussianNoise
from XraySynthLib.data.randomisation.tools import TOOL_KINDS, Tool

SHAPE = (90, 110)


def drawn(ranges: RandomisationRanges, count: int, shape=SHAPE) -> list[Randomisation]:
    return [draw_randomisation(ranges, shape, np.random.default_rng((7, n))) for n in range(count)]


def everything() -> RandomisationRanges:
    """Ranges that leave nothing out."""

    def certain(ranges):
        shares = [f.name for f in fields(ranges) if f.name.endswith("_share")]
        return replace(ranges, **dict.fromkeys(shares, 1.0))

    grey = replace(certain(STRONG.grey), n_corruptions=(5, 5))
    return RandomisationRanges(certain(STRONG.plane), grey, certain(STRONG.overlay))


def test_strong_draws_every_kind_there_is():
    records = drawn(STRONG, 600, (360, 360))
    kinds = {type(op).__name__ for record in records for op in (*record.beam, *record.grey)}
    assert kinds == {*BEAM_KINDS, *GREY_KINDS}
    tools = [op.kind for record in records for op in record.beam if isinstance(op, Tool)]
    assert set(tools) == set(TOOL_KINDS)


def test_strong_draws_within_its_ranges():
    records = drawn(STRONG, 400, (360, 500))
    plane, grey = STRONG.plane, STRONG.grey
    for record in records:
        motion = record.plane
        assert plane.angle_deg[0] <= motion.angle_deg <= plane.angle_deg[1]
        assert 0.9 <= motion.scale <= plane.crop_scale[1]
        assert np.hypot(*motion.shift_px) <= 20 + 1e-9
        assert motion.elastic_px <= 0.012 * 360
        assert grey.display_span[0] <= record.display_span <= grey.display_span[1]
        if record.window:
            assert 0 <= record.window.low_percentile <= 5
            assert 97 <= record.window.high_percentile <= 100
        for operation in record.grey:
            if isinstance(operation, Gamma):
                assert 0.5 <= operation.gamma <= 2
            if isinstance(operation, GaussianNoise):
                assert 0.005 <= operation.sigma <= 0.04
    shares = {
        "turned": np.mean([record.plane.turned_180 for record in records]),
        "elastic": np.mean([record.plane.elastic for record in records]),
        "inverted": np.mean([Invert() in record.grey for record in records]),
        "fields": np.mean([bool(record.fields) for record in records]),
    }
    expected = {"turned": 0.25, "elastic": 0.15, "inverted": 0.5, "fields": 0.4}
    assert shares == pytest.approx(expected, abs=0.08)


def test_mild_is_gamma_and_noise():
    records = drawn(MILD, 200)
    kinds = {type(op) for record in records for op in record.grey}
    assert kinds == {Gamma, GaussianNoise}
    assert all(not record.beam and record.window is None for record in records)
    assert all(not record.plane.moves for record in records)
    gammas = [op.gamma for record in records for op in record.grey if isinstance(op, Gamma)]
    sigmas = [op.sigma for record in records for op in record.grey if isinstance(op, GaussianNoise)]
    assert 0.7 <= min(gammas) < 0.75 and 1.25 < max(gammas) <= 1.3
    assert min(sigmas) >= 0.005 and max(sigmas) <= 0.01
    assert 60 < len(gammas) < 140 and 60 < len(sigmas) < 140


def test_none_draws_nothing():
    for record in drawn(NONE, 5):
        assert record == Randomisation(SHAPE, display_span=record.display_span, seed=record.seed)


def test_a_letter_knows_nothing_of_the_side():
    """L and R are as frequent as each other, and stand on either side as often."""
    records = drawn(everything(), 1500, (256, 256))
    for kind in (LeadMarker, Annotation):
        columns = {"L": [], "R": []}
        for record in records:
            for operation in (*record.beam, *record.grey):
                if isinstance(operation, kind) and operation.text in columns:
                    columns[operation.text].append(operation.center_px[0])
        n_left, n_right = len(columns["L"]), len(columns["R"])
        assert abs(n_left - n_right) < 4 * np.sqrt(n_left + n_right)
        for letter in "LR":
            share = np.mean(np.array(columns[letter]) < 127.5)
            assert abs(share - 0.5) < 2 / np.sqrt(len(columns[letter]))


def test_drawing_takes_one_number_and_streams_are_apart():
    states = set()
    for ranges in (NONE, STRONG, everything()):
        rng = np.random.default_rng(5)
        draw_randomisation(ranges, SHAPE, rng)
        states.add(str(rng.bit_generator.state))
    assert len(states) == 1
    plain = draw_randomisation(STRONG, SHAPE, np.random.default_rng(5))
    without = replace(STRONG, overlay=OverlayRanges(), plane=PlaneRanges())
    other = draw_randomisation(without, SHAPE, np.random.default_rng(5))
    assert other.window == plain.window
    assert set(other.grey) <= set(plain.grey)


@pytest.mark.parametrize("name", PRESETS)
def test_a_record_survives_json(name):
    for record in drawn(PRESETS[name], 40):
        text = json.dumps(record.to_dict(), allow_nan=False)
        again = Randomisation.from_dict(json.loads(text))
        assert again == record
        assert json.dumps(again.to_dict()) == text


def test_everything_at_once_survives_json_and_is_finite(a_radiograph):
    for record in drawn(everything(), 20):
        assert len({type(op) for op in record.grey}) >= len(CORRUPTIONS)
        assert Randomisation.from_dict(json.loads(json.dumps(record.to_dict()))) == record
        values = randomise(a_radiograph, record).xray.values
        assert np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1


def test_the_same_record_makes_the_same_bytes(a_radiograph):
    for record in drawn(STRONG, 25):
        again = Randomisation.from_dict(json.loads(json.dumps(record.to_dict())))
        one, two = randomise(a_radiograph, record), randomise(a_radiograph, again)
        assert one.xray.values.tobytes() == two.xray.values.tobytes()
        assert one.landmarks.points_px.tobytes() == two.landmarks.points_px.tobytes()
        assert one.masks["dense"].tobytes() == two.masks["dense"].tobytes()
    other = replace(record, grey=(GaussianNoise(0.1),))
    one, two = (randomise(a_radiograph, replace(other, seed=seed)) for seed in (1, 2))
    assert one.xray.values.tobytes() != two.xray.values.tobytes()


def test_the_input_is_left_as_it_was(a_radiograph):
    before = a_radiograph.xray.values.copy()
    for record in drawn(STRONG, 20):
        randomise(a_radiograph, record)
    np.testing.assert_array_equal(a_radiograph.xray.values, before)


def test_a_sample_keeps_its_record(a_sample, tmp_path):
    record = draw_randomisation(STRONG, (120, 160), np.random.default_rng(2))
    result = randomise(a_sample, record)
    write_sample(result, tmp_path / "a")
    config = read_sample(tmp_path / "a").provenance.config
    assert Randomisation.from_dict(config["randomisation"]) == record
    assert result.provenance.seed == (1, 2)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (33, 1), (2, 3), (7, 150), (64, 48)])
@pytest.mark.parametrize("quantity", Quantity)
def test_images_of_any_shape(shape, quantity):
    values = np.linspace(0, 1, shape[0] * shape[1], dtype=np.float32).reshape(shape)
    nowhere = ImageLandmarkSet(("a",), [[np.nan, np.nan]], [False], [0.0])
    none = ImageLandmarkSet((), np.empty((0, 2)), np.empty(0, bool), np.empty(0))
    for masks, landmarks in ((None, none), ({}, nowhere), ({"a": values > 0.5}, nowhere)):
        sample = Sample("a", Xray(values, quantity), landmarks, masks, Provenance("real", "b"))
        for record in drawn(STRONG, 15, shape) + drawn(everything(), 3, shape):
            result = randomise(sample, record)
            assert result.xray.values.shape == shape
            assert np.isfinite(result.xray.values).all()
            assert result.xray.values.min() >= 0 and result.xray.values.max() <= 1
            assert not result.landmarks.visible.any()
            assert (result.masks is None) == (masks is None)


def test_a_record_for_another_shape_is_refused(a_radiograph):
    with pytest.raises(ValueError, match=r"for \(90, 100\), the image is \(90, 110\)"):
        randomise(a_radiograph, Randomisation((90, 100)))


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.pop("plane"),
        lambda d: d.update(colour=1),
        lambda d: d["plane"].update(scale="2"),
        lambda d: d["plane"].update(shear=2.0),
        lambda d: d["grey"].append({"operation": "Tool"}),
        lambda d: d["grey"].append({"operation": "Gamma"}),
        lambda d: d["grey"].append({"operation": "Gamma", "gamma": float("nan")}),
        lambda d: d["grey"].append({"operation": "Pool", "kind": "max", "size_px": 0}),
        lambda d: d["grey"].append({"operation": "Pool", "kind": "max", "size_px": 2.5}),
        lambda d: d["grey"].append(["Gamma", 2]),
        lambda d: d["beam"].append({"operation": "Gamma", "gamma": 1.0}),
        lambda d: d.update(window={"low_percentile": 99.0, "high_percentile": 1.0}),
        lambda d: d.update(seed=-1),
        lambda d: d.update(shape_px=[3]),
        lambda d: d.update(grey=None),
    ],
)
def test_a_damaged_record_is_refused(damage):
    document = json.loads(
        json.dumps(draw_randomisation(NONE, SHAPE, np.random.default_rng(0)).to_dict())
    )
    damage(document)
    with pytest.raises(ValueError):
        Randomisation.from_dict(document)


@pytest.mark.parametrize(
    "make",
    [
        lambda: PlaneRanges(similarity_share=1.2),
        lambda: PlaneRanges(angle_deg=(5.0, -5.0)),
        lambda: PlaneRanges(scale=(0.0, 1.0)),
        lambda: PlaneRanges(elastic=(0.01, 0.1)),
        lambda: GreyRanges(contrasts=("sepia",)),
        lambda: GreyRanges(blur=(0.0, np.inf)),
        lambda: OverlayRanges(tool_kinds=()),
    ],
)
def test_ranges_that_cannot_be_are_refused(make):
    with pytest.raises(ValueError):
        make()
