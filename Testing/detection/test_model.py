"""A model folder round trip, and what an image's form must not change."""

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from XraySynthLib.data import ImageLandmarkSet, Quantity, Xray
from XraySynthLib.data.pelvis import other_side
from XraySynthLib.detection.model import load_detector, read_detector_config
from XraySynthLib.detection.network import HeatmapNetwork, NetworkConfig
from XraySynthLib.errors import UnreadableFileError

SHIPPED = Path(str(files("XraySynthLib.assets"))) / "landmark_detector"


def test_a_folder_round_trip(model_folder, image):
    config = read_detector_config(model_folder)
    assert config.landmark_names == ("A-l", "A-r") and config.people == ("person-0", "person-1")
    one, other = load_detector(model_folder), load_detector(model_folder)
    assert len(one.sha256) == 64 and one.sha256 == other.sha256
    xray = Xray(image, Quantity.DISPLAY)
    found = [detector.detect(xray) for detector in (one, other)]
    assert np.array_equal(found[0].points_px, found[1].points_px)
    dtypes = {tensor.dtype for tensor in one.network.state_dict().values()}
    assert dtypes <= {torch.float32, torch.int64}


def test_many_are_found_as_one_alone(detector, samples):
    xrays = [sample.xray for sample in samples[:3]]
    alone = [detector.detect(xray) for xray in xrays]
    together = list(detector.detect_all(xrays, batch_size=2))
    for one, other in zip(together, alone, strict=True):
        assert np.allclose(one.points_px, other.points_px, atol=1e-3)
        assert np.allclose(one.confidence, other.confidence, atol=1e-4)
    gaps = [np.abs(alone[n].points_px - alone[n - 1].points_px).max() for n in range(3)]
    assert min(gaps) > 0.1


def test_half_a_turn_changes_the_coordinates_alone(detector, image):
    upright = detector.detect(Xray(image, Quantity.DISPLAY))
    turned = detector.detect(Xray(image[::-1, ::-1], Quantity.DISPLAY))
    assert np.allclose(upright.points_px, 63 - turned.points_px, atol=1e-2)
    assert np.allclose(upright.confidence, turned.confidence, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("config.json", "{", "config.json"),
        ("config.json", '{"format": "other"}', "no landmark detector's"),
        ("config.json", "[]", "no landmark detector's"),
        ("model.safetensors", "abc", "model.safetensors is damaged; get the model again"),
    ],
)
def test_a_damaged_folder_is_refused(model_folder, tmp_path, name, text, words):
    for file in model_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / name).write_text(text)
    with pytest.raises(UnreadableFileError, match=words):
        load_detector(tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("calibration", None, "calibration must be an object"),
        ("calibration", {"threshold": "x"}, "threshold must be a number, got 'x'"),
        ("calibration", {"presence": "1"}, "presence must be a number, got '1'"),
        ("calibration", {"peak": float("nan")}, "peak must be finite, got nan"),
        ("calibration", {"threshold": 2}, "threshold must lie in 0..1, got 2"),
        ("landmark_names", "AB", "landmark_names must be a list of names"),
        ("people", "anna", "people must be a list of names"),
        ("side_px", 256000, "at most 4096, got 256000"),
        ("side_px", "64", "must be a multiple of 8 px"),
        ("network", {"n_landmarks": "2"}, "n_landmarks must be a whole number"),
        ("network", {"n_landmarks": 2, "depth": 3}, "network has 'depth', which is unknown here"),
        ("network", {"n_landmarks": 2, "channels": "816"}, "channels must be a list of"),
    ],
)
def test_a_configuration_that_cannot_be_meant_is_refused(
    model_folder, tmp_path, field, value, words
):
    document = json.loads((model_folder / "config.json").read_text()) | {field: value}
    (tmp_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(UnreadableFileError, match=words):
        read_detector_config(tmp_path)
    del document[field]
    (tmp_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(UnreadableFileError, match=field):
        read_detector_config(tmp_path)


def test_a_network_is_one_that_can_be_built():
    for channels, stride in [((1, 1), 8), ((2, 8), 8), ((8,), 2), ((8, 0), 2), ((8, 8), 3)]:
        with pytest.raises(ValueError, match=r"stride|levels|channels must be"):
            NetworkConfig(2, channels=channels, stride=stride)
    network = NetworkConfig(2, channels=(8, 8, 8), stride=4)
    HeatmapNetwork(network)(torch.zeros(2, 2, 48, 48))
    network.check_side(48)
    for side_px in (0, -16, 40, 1 << 20):
        with pytest.raises(ValueError, match="multiple of 16 px"):
            network.check_side(side_px)


def test_weights_that_are_not_finite_are_refused(model_folder, tmp_path):
    (tmp_path / "config.json").write_bytes((model_folder / "config.json").read_bytes())
    weights = load_file(model_folder / "model.safetensors")
    weights["stem.0.0.weight"][0] = torch.nan
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(UnreadableFileError, match="not finite"):
        load_detector(tmp_path)


def test_a_folder_without_a_model_or_of_another_network_is_refused(model_folder, tmp_path):
    with pytest.raises(UnreadableFileError, match="holds no landmark detector"):
        load_detector(tmp_path)
    document = json.loads((model_folder / "config.json").read_text())
    document["network"]["channels"] = [8, 16, 24]
    (tmp_path / "config.json").write_text(json.dumps(document))
    weights = (model_folder / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights)
    with pytest.raises(UnreadableFileError, match="holds weights of another network"):
        load_detector(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UnreadableFileError, match="is missing; get the whole model"):
        load_detector(tmp_path)


@pytest.fixture(scope="module")
def shipped():
    return load_detector(SHIPPED)


@pytest.fixture(scope="module")
def person() -> tuple[Xray, ImageLandmarkSet]:
    """An AP image of a sampled person, 256 px, and where the landmarks are."""
    from XraySynthLib.anatomy.render import render_ct
    from XraySynthLib.anatomy.subject import sample_subject
    from XraySynthLib.drr import expose, materials_from_hu, project, to_line_integral
    from XraySynthLib.drr.exposure import PLAIN
    from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm

    subject = sample_subject((991, 0), implants=())
    volume = render_ct(subject)
    pose = CArmPose(isocenter_ras_mm=volume.center_ras_mm, source_to_isocenter_mm=700)
    view = view_from_carm(pose, Intrinsics(pixel_spacing_mm=(1.2, 1.2), shape_px=(256, 256)))
    materials = materials_from_hu(volume)
    xray = to_line_integral(expose(project(materials, view), materials.names, view, PLAIN))
    return Xray(xray.values, Quantity.LINE_INTEGRAL), subject.landmarks.seen_from(view)


@pytest.fixture(scope="module")
def pelvis(person) -> Xray:
    return person[0]


ERROR_BAR_PX = 3.0
"""Of 256: about 2.5 mm in the isocentre's plane."""


class TestShippedWeights:
    def test_most_are_found_where_they_are(self, shipped, person):
        pelvis, truth = person
        found = shipped.detect(pelvis)
        both = found.visible & truth.visible
        assert found.names == truth.names and both.sum() >= 12
        gaps = np.linalg.norm(found.points_px - truth.points_px, axis=1)[both]
        assert gaps.mean() < ERROR_BAR_PX and gaps.max() < 3 * ERROR_BAR_PX

    def test_mirroring_swaps_left_and_right(self, shipped, pelvis):
        found = shipped.detect(pelvis)
        other = shipped.detect(Xray(pelvis.values[:, ::-1], pelvis.quantity))
        partners = [found.names.index(other_side(name)) for name in found.names]
        expected = [255, 0] + [-1, 1] * other.points_px[partners]
        both = found.visible & other.visible[partners]
        gaps = np.linalg.norm(expected - found.points_px, axis=1)[both]
        assert both.sum() >= 10 and gaps.mean() < ERROR_BAR_PX

    def test_half_a_turn_changes_the_coordinates_alone(self, shipped, pelvis):
        found = shipped.detect(pelvis)
        turned = shipped.detect(Xray(pelvis.values[::-1, ::-1], pelvis.quantity))
        assert np.abs(found.points_px - (255 - turned.points_px)).max() < 0.1

    @pytest.mark.parametrize(
        "change",
        [lambda v: v.reshape(128, 2, 128, 2).mean((1, 3)), lambda v: v**1.5, lambda v: -v],
        ids=["half the resolution", "gamma", "inverted"],
    )
    def test_what_moves_points_by_less_than_the_error_bar(self, shipped, pelvis, change):
        found = shipped.detect(pelvis)
        values = change(pelvis.values - pelvis.values.min())
        other = shipped.detect(Xray(values, pelvis.quantity))
        scale = 256 / values.shape[0]
        points_px = (other.points_px + 0.5) * scale - 0.5
        both = found.visible & other.visible
        gaps = np.linalg.norm(points_px - found.points_px, axis=1)[both]
        assert both.sum() >= 10 and gaps.mean() < ERROR_BAR_PX

    def test_noise_shows_nothing(self, shipped):
        rng = np.random.default_rng(0)
        for shape in ((200, 150), (256, 256)):
            xray = Xray(rng.random(shape), Quantity.DISPLAY)
            assert shipped.detect(xray).visible.sum() <= 1

    def test_the_held_out_people_are_not_behind_it(self, shipped):
        from XraySynthLib.anatomy.shape_model import load_shape_model

        held_out = {f"musculoskeletal-models-{n}" for n in load_shape_model().held_out}
        assert not held_out & set(shipped.config.people)

    def test_its_input_has_128_px_or_more(self, shipped):
        assert shipped.config.side_px >= 128
