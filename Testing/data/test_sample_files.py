"""A Sample's folder: whole or refused."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from XraySynthLib.data import ImageLandmarkSet, Provenance, Quantity, Sample, Xray
from XraySynthLib.data.formats import (
    image_landmarks_from_dicts,
    image_landmarks_to_dicts,
    read_sample,
    write_sample,
    write_xray,
)

LANDMARKS = ImageLandmarkSet(
    ("FH-l", "FH-r", "GSN-l"),
    [[3.25, 4.5], [-20, 7], [np.nan, np.nan]],
    [True, False, False],
    [1, 0.5, 0],
)
LANDMARK_DICTS = [
    {"name": "FH-l", "px": [3.25, 4.5], "visible": True, "confidence": 1.0},
    {"name": "FH-r", "px": [-20.0, 7.0], "visible": False, "confidence": 0.5},
    {"name": "GSN-l", "px": None, "visible": False, "confidence": 0.0},
]
PROVENANCE = Provenance("simulated", "s01", (7, 3), {"kvp": 70.5, "names": ["a"]}, "0.1.0")


@pytest.fixture
def sample(line_integral, random):
    masks = {name: random.random((30, 40)) < 0.4 for name in ("bone", "femur", "skin")}
    return Sample("s01-003", line_integral, LANDMARKS, masks, PROVENANCE)


@pytest.fixture
def folder(tmp_path, sample):
    write_sample(sample, tmp_path / "s01-003")
    return tmp_path / "s01-003"


def test_a_sample_comes_back(folder, sample):
    assert sorted(file.name for file in folder.iterdir()) == [
        "labels.png",
        "sample.json",
        "xray.tiff",
    ]
    for path in (folder, folder / "sample.json"):
        back = read_sample(path)
        assert back.key == sample.key
        assert np.array_equal(back.xray.values, sample.xray.values)
        assert back.xray.quantity is Quantity.LINE_INTEGRAL
        assert back.xray.view.ras_from_camera == pytest.approx(sample.xray.view.ras_from_camera)
        assert image_landmarks_to_dicts(back.landmarks) == LANDMARK_DICTS
        assert list(back.masks) == ["bone", "femur", "skin"]
        assert all(np.array_equal(back.masks[name], mask) for name, mask in sample.masks.items())
        assert back.provenance.seed == (7, 3)
        assert dict(back.provenance.config) == {"kvp": 70.5, "names": ["a"]}
        assert (back.provenance.kind, back.provenance.subject) == ("simulated", "s01")


def test_landmarks_as_json_types():
    assert image_landmarks_to_dicts(LANDMARKS) == LANDMARK_DICTS
    back = image_landmarks_from_dicts(json.loads(json.dumps(LANDMARK_DICTS)))
    assert image_landmarks_to_dicts(back) == LANDMARK_DICTS
    assert image_landmarks_from_dicts([]).names == ()


@pytest.mark.parametrize(
    "change",
    [
        {"px": [1]},
        {"px": "12"},
        {"px": [1, True]},
        {"visible": 1},
        {"confidence": "high"},
        {"confidence": 2},
        {"colour": "red"},
    ],
)
def test_wrong_landmarks_are_refused(change):
    with pytest.raises(ValueError, match="andmark"):
        image_landmarks_from_dicts([{**LANDMARK_DICTS[0], **change}])


def test_the_documented_fields(folder, sample):
    document = json.loads((folder / "sample.json").read_text())
    assert document["format_version"] == 1
    assert document["xray"]["quantity"] == "line-integral"
    assert document["masks"] == {"file": "labels.png", "bits": ["bone", "femur", "skin"]}
    bits = np.array(Image.open(folder / "labels.png"))
    assert bits.dtype == np.uint16
    assert np.array_equal(bits & 4 > 0, sample.masks["skin"])


def test_masks_unknown_none_and_sixteen(tmp_path, sample):
    def write(masks):
        write_sample(Sample("k", sample.xray, LANDMARKS, masks, PROVENANCE), tmp_path / "k")
        return read_sample(tmp_path / "k").masks

    full = np.ones((30, 40), bool)
    back = write({str(n): full if n == 15 else ~full for n in range(16)})
    assert back["15"].all()
    assert not back["14"].any()
    assert write({}) == {}
    assert write(None) is None
    assert not (tmp_path / "k" / "labels.png").exists()
    with pytest.raises(ValueError, match="up to 16 masks"):
        write({str(n): full for n in range(17)})


def test_a_provenance_that_is_not_json_leaves_the_old_sample(folder, sample):
    bad = Provenance("real", "s01", (), {"x": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        write_sample(Sample("k", sample.xray, LANDMARKS, None, bad), folder)
    assert read_sample(folder).key == "s01-003"


def test_an_interrupted_overwrite_is_not_whole(folder, sample, refused, monkeypatch):
    from XraySynthLib.data.formats import sample_files

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sample_files, "masks_to_png", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_sample(sample, folder)
    with refused("not whole"):
        read_sample(folder)


def edit(**fields):
    def change(folder):
        document = json.loads((folder / "sample.json").read_text())
        for name, value in fields.items():
            if value is None:
                del document[name]
            else:
                document[name] = value
        (folder / "sample.json").write_text(json.dumps(document))

    return change


def replace_image(folder):
    write_xray(Xray(np.zeros((30, 40)), Quantity.DISPLAY), folder / "xray.tiff")


def smaller_labels(folder):
    Image.fromarray(np.zeros((3, 4), np.uint16)).save(folder / "labels.png")


def byte_labels(folder):
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(folder / "labels.png")


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (edit(format_version=2), "format_version is 2, this XraySynth reads 1; update"),
        (edit(format="other"), "no sample"),
        (edit(key=None), "lacks key"),
        (edit(key=5), "key is not text"),
        (edit(key="a/b"), "file name"),
        (edit(xray=None), "does not describe"),
        (edit(xray={"quantity": "display"}), "lacks pixel_spacing_mm, view"),
        (edit(landmarks=[{"name": "a"}]), "Landmarks must be"),
        (edit(landmarks="abc"), "Landmarks must be"),
        (edit(provenance={"kind": "real"}), "provenance must have"),
        (edit(masks={"file": "labels.png"}), "different names"),
        (edit(masks={"file": "labels.png", "bits": ["a", "a"]}), "different names"),
        (replace_image, "belongs to another sample"),
        (smaller_labels, "belongs to another sample"),
        (byte_labels, "belongs to another sample"),
        (lambda folder: (folder / "xray.tiff").unlink(), "no such file"),
        (lambda folder: (folder / "labels.png").unlink(), "no such file"),
        (lambda folder: (folder / "sample.json").unlink(), "not whole"),
        (lambda folder: (folder / "sample.json").write_text("{"), "not a JSON file"),
        (lambda folder: (folder / "sample.json").write_text('{"a": NaN}'), "not a JSON file"),
        (lambda folder: (folder / "xray.tiff").write_bytes(b"II*\0"), "xray.tiff is damaged"),
        (shutil.rmtree, "no such file"),
    ],
)
def test_a_damaged_sample_is_refused(folder, refused, damage, text):
    damage(folder)
    with refused(text):
        read_sample(folder)
