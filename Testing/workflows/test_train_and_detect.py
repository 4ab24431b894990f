"""From an exported set to landmarks in files, by the command line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

import XraySynthLib
from XraySynthLib.data import LandmarkSet, Quantity, Xray
from XraySynthLib.data.formats import read_landmarks, write_landmarks, write_xray, write_xray_dicom
from XraySynthLib.data.formats.prediction_files import read_prediction
from XraySynthLib.detection import learning
from XraySynthLib.detection.learning import renew_norms
from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm

OPTIONS = (
    "--images", 96, "--warmup-images", 16, "--check-images", 64, "--batch-images", 8,
    "--side-px", 32, "--channels", 8, 8, "--stride", 2, "--validation-images", 4,
    "--workers", 1, "--threads", 1, "--average-images", 100,
)  # fmt: skip


@pytest.fixture(scope="module")
def exported(tmp_path_factory, in_process) -> Path:
    """A set of three people, 12 images."""
    folder = tmp_path_factory.mktemp("exported")
    for name in ("anna", "ben", "carl"):
        (folder / "subjects" / name).mkdir(parents=True)
        place = folder / "subjects" / name
        in_process[1](place)
        points = read_landmarks(place / "points.mrk.json")
        near = points.points_ras_mm[[0, 0]] + [[0, 0, 0], [-30, 5, 20]]
        write_landmarks(LandmarkSet(points.names, near), place / "points.mrk.json")
    outcome = in_process[0](
        "export", "--subjects", folder / "subjects", "--views", 4, "--format", "webdataset",
        "--output", folder / "set", "--shape-px", 40, 48, "--pixel-spacing-mm", 5, 5,
        "--no-masks", "--split", 2, 1, 0, "--workers", 1, "--aim-offset-mm", 0, 0, 5,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    return folder / "set"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, in_process, exported) -> Path:
    """A run that has ended."""
    folder = tmp_path_factory.mktemp("run") / "run"
    outcome = train(in_process[0], exported, folder, "--progress", "json")
    assert outcome.code == 0, outcome.err
    lines = [json.loads(line) for line in outcome.out.splitlines()]
    assert {line.get("stage") for line in lines} >= {"train"}
    return folder


def train(xraysynth, data, folder, *words):
    return xraysynth("train", "landmarks", "--data", data, "--output", folder, *OPTIONS, *words)


class TestTrain:
    def test_what_a_run_holds(self, trained):
        names = {path.name for path in trained.iterdir()}
        assert names == {
            "config.json", "versions.json", "log.jsonl", "checkpoint", "tensorboard", "model",
            "loss.png", "predictions.png",
        }  # fmt: skip
        log = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
        assert [line["images"] for line in log] == [64, 96]
        assert {"loss", "val_error_px", "val_error_mm", "images_per_s"} <= set(log[0])
        model = json.loads((trained / "model" / "config.json").read_text())
        assert {"anna", "ben", "carl"} >= set(model["people"]) and len(model["people"]) == 3
        assert model["landmark_names"] == ["bright", "far"]

    def test_the_same_command_again_does_nothing_more(self, xraysynth, exported, trained):
        weights = (trained / "model" / "model.safetensors").read_bytes()
        assert train(xraysynth, exported, trained).code == 0
        assert (trained / "model" / "model.safetensors").read_bytes() == weights

    def test_a_killed_run_goes_on(self, exported, trained, tmp_path, xraysynth):
        """Killed after its first checkpoint; the same command ends it."""
        folder = tmp_path / "run"
        words = ["train", "landmarks", "--data", exported, "--output", folder, *OPTIONS]
        root = str(Path(XraySynthLib.__file__).parent.parent)
        program = [sys.executable, "-m", "XraySynthLib", *map(str, words), "--progress", "none"]
        child = subprocess.Popen(program, env={**os.environ, "PYTHONPATH": root})
        while not (folder / "checkpoint").exists() and child.poll() is None:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert train(xraysynth, exported, folder).code == 0
        log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        whole = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
        assert [line["images"] for line in log] == [64, 96]
        assert log[-1]["loss"] == pytest.approx(whole[-1]["loss"], rel=0.2)

    def test_it_begins_with_another_model(self, xraysynth, exported, trained, tmp_path, failed):
        words = ("--start", trained / "model", "--learning-rate", 1e-9, "--side-px", 64)
        folder = tmp_path / "run"
        outcome = train(xraysynth, exported, folder, *words, "--images", 24)
        assert outcome.code == 0, outcome.err
        one, other = (load_file(run / "model" / "model.safetensors") for run in (trained, folder))
        for name, tensor in one.items():
            if name.endswith("weight"):
                assert (tensor - other[name]).abs().max() < 1e-3
        other_network = ("--channels", 8, 16, "--start", trained / "model")
        failed(train(xraysynth, exported, tmp_path / "no", *other_network), 2, "another network")

    def test_a_check_shows_no_more_images_than_lie_between_checks(
        self, xraysynth, exported, tmp_path, monkeypatch
    ):
        """But a batch, of which norms can be measured."""
        shown = []

        def renew(network, examples, first, n_images, batch_images):
            shown.append(n_images)
            renew_norms(network, examples, first, n_images, batch_images)

        monkeypatch.setattr(learning, "renew_norms", renew)
        for check_images, images in ((16, 16), (4, 8)):
            words = ("--images", 32, "--check-images", check_images)
            outcome = train(xraysynth, exported, tmp_path / f"{check_images}", *words)
            assert outcome.code == 0, outcome.err
            assert set(shown) == {images}
            shown.clear()

    def test_a_split_file_says_who_is_learned_from(self, xraysynth, exported, tmp_path, failed):
        splits = tmp_path / "splits.json"
        splits.write_text('{"anna": "val", "carl": "train", "ben": "test"}', "utf-8")
        few = ("--images", 16, "--warmup-images", 0, "--split-file", splits)
        assert train(xraysynth, exported, tmp_path / "run", *few).code == 0
        model = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
        assert model["people"] == ["anna", "carl"]
        splits.write_text('{"anna": "val"}', "utf-8")
        failed(train(xraysynth, exported, tmp_path / "no", *few), 1, "no images in its train split")
        splits.write_text('{"anna": "value"}', "utf-8")
        failed(train(xraysynth, exported, tmp_path / "no", *few), 1, "it must hold")

    def test_a_subset_is_nested(self, exported):
        from XraySynthLib.workflows.train_landmarks import TrainLandmarksConfig, read_sets

        def places(subset):
            config = TrainLandmarksConfig(
                data=(exported,), output=exported, subset=subset, progress="none"
            )
            (store,), _ = read_sets(config)
            return [tuple(points.ravel()) for points in store.points_px]

        few, more, all_of_them = places(2), places(5), places(None)
        assert (len(few), len(more), len(all_of_them)) == (2, 5, 8)
        assert set(few) < set(more) < set(all_of_them)

    def test_other_options_in_the_same_folder_are_refused(
        self, xraysynth, exported, trained, failed
    ):
        failed(train(xraysynth, exported, trained, "--learning-rate", 0.5), 2, "learning rate")

    def test_wrong_options(self, xraysynth, exported, tmp_path, failed):
        run = tmp_path / "run"
        failed(train(xraysynth, exported, run, "--side-px", 33), 2, "multiple of 4 px")
        failed(train(xraysynth, exported, run, "--channels", *"11", "--stride", 8), 2, "4 features")
        odd = ("--side-px", 224, "--channels", *"88888", "--stride", 4)
        failed(train(xraysynth, exported, run, *odd), 2, "multiple of 64 px")
        failed(train(xraysynth, exported, run, "--weights", "nan"), 2, "--weights")
        failed(train(xraysynth, exported, run, "--learning-rate", "nan"), 2, "--learning-rate must")
        failed(train(xraysynth, exported, run, "--weight-decay", -1), 2, "--weight-decay must be 0")
        failed(train(xraysynth, exported, run, "--weights", 1, 2), 2, "--weights")
        failed(train(xraysynth, exported, run, "--subset", 0), 2, "--subset")
        failed(train(xraysynth, tmp_path / "none", run), 1, "does not exist")
        failed(train(xraysynth, exported, run, "--warmup-images", 96), 2, "--images (96), got 96.")
        failed(xraysynth("train", "--data", exported), 2, "train ct | xray | landmarks")
        assert not run.exists()

    def test_dry_run_prints_what_config_takes(self, xraysynth, exported, tmp_path):
        printed = train(xraysynth, exported, tmp_path / "run", "--dry-run")
        assert printed.code == 0, printed.err
        (tmp_path / "c.json").write_text(printed.out)
        again = xraysynth("train", "landmarks", "--config", tmp_path / "c.json", "--dry-run")
        assert again.out == printed.out
        assert not (tmp_path / "run").exists()


@pytest.fixture
def xray() -> Xray:
    values = np.random.default_rng(0).random((40, 48)).astype(np.float32)
    view = view_from_carm(CArmPose(10, 5), Intrinsics(pixel_spacing_mm=(5, 5), shape_px=(40, 48)))
    return Xray(values, Quantity.DISPLAY, view=view)


class TestDetect:
    def test_a_folder_of_every_kind(self, xraysynth, trained, tmp_path, xray):
        images, found = tmp_path / "images", tmp_path / "found"
        images.mkdir()
        write_xray(xray, images / "a.png")
        write_xray(xray, images / "b.tiff")
        write_xray(Xray(xray.values, Quantity.DISPLAY), images / "c.nii.gz")
        write_xray_dicom(xray, images / "d.dcm", subject="anna")
        pages = [Image.fromarray((xray.values * 65535).astype(np.uint16)) for _ in range(3)]
        pages[0].save(images / "e.tif", save_all=True, append_images=pages[1:])
        (images / "notes.txt").write_text("no image")
        outcome = xraysynth(
            "detect", "--image", images, "--output", found, "--model", trained / "model",
            "--progress", "json",
        )  # fmt: skip
        assert outcome.code == 0, outcome.err
        stems = {"a", "b", "c", "d", "e-0000", "e-0001", "e-0002"}
        assert {p.name for p in found.iterdir()} == {
            f"{stem}{suffix}" for stem in stems for suffix in (".json", ".mrk.json", ".overlay.png")
        }
        first, second, third, fourth = (read_prediction(found / f"{stem}.json") for stem in "abcd")
        assert first.view is not None and first.shape_px == (40, 48) and first.image == "a.png"
        for other in (third, fourth):  # 8 bits move points that a network barely trained finds
            assert np.abs(other.landmarks.points_px - second.landmarks.points_px).max() < 0.1
        frame = read_prediction(found / "e-0002.json")
        assert frame.frame == 2 and frame.view is None and frame.image == "e.tif"
        assert len(frame.model_sha256) == 64

    def test_points_lie_on_the_detector_or_in_the_image_plane(
        self, xraysynth, trained, tmp_path, xray
    ):
        write_xray(xray, tmp_path / "with.png")
        write_xray(Xray(xray.values, Quantity.DISPLAY), tmp_path / "without.png")
        for name, words in (("with", ()), ("without", ("--pixel-spacing-mm", 0.5, 0.5))):
            outcome = xraysynth(
                "detect", "--image", tmp_path / f"{name}.png", "--output", tmp_path / "o",
                "--model", trained / "model", "--threshold", 0, *words,
            )  # fmt: skip
            assert outcome.code == 0, outcome.err
            found = read_prediction(tmp_path / "o" / f"{name}.json").landmarks
            points = read_landmarks(tmp_path / "o" / f"{name}.mrk.json").points_ras_mm
            seen = found.visible
            assert seen.any()
            if name == "with":
                assert np.allclose(xray.view.project(points[seen]), found.points_px[seen])
            else:
                in_plane = (found.points_px - [23.5, 19.5]) * [0.5, -0.5]
                assert np.allclose(points[seen], np.column_stack([in_plane, [0, 0]])[seen])
            assert np.isnan(points[~seen]).all()

    def test_one_file_alone(self, xraysynth, trained, tmp_path, xray):
        write_xray(xray, tmp_path / "a.png")
        for name in ("p.json", "p.mrk.json"):
            outcome = xraysynth(
                "detect", "--image", tmp_path / "a.png", "--output", tmp_path / "o" / name,
                "--model", trained / "model",
            )  # fmt: skip
            assert outcome.code == 0, outcome.err
        assert {p.name for p in (tmp_path / "o").iterdir()} == {"p.json", "p.mrk.json"}

    def test_bad_images_of_a_folder_are_left_out(self, xraysynth, trained, tmp_path, failed, xray):
        images = tmp_path / "images"
        images.mkdir()
        for name in ("a.png", "c.png"):
            write_xray(xray, images / name)
        (images / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
        (images / "d.nrrd").write_text("nothing")
        outcome = xraysynth(
            "detect", "--image", images, "--output", tmp_path / "o", "--model",
            trained / "model", "--no-overlay",
        )  # fmt: skip
        failed(outcome, 1, "2 of 4 images were left out: b.png, d.nrrd. The first: Cannot read")
        assert "damaged or not an image" in outcome.err
        found = {path.name for path in (tmp_path / "o").iterdir()}
        assert found == {"a.json", "a.mrk.json", "c.json", "c.mrk.json"}

    def test_no_image_writes_over_another(self, xraysynth, trained, tmp_path, failed, xray):
        images = tmp_path / "images"
        images.mkdir()
        write_xray(xray, images / "a-0000.png")
        pages = [Image.fromarray((xray.values * 65535).astype(np.uint16)) for _ in range(2)]
        pages[0].save(images / "a.tif", save_all=True, append_images=pages[1:])
        words = (
            "detect", "--image", images, "--output", tmp_path / "o", "--model",
            trained / "model", "--no-overlay",
        )  # fmt: skip
        failed(xraysynth(*words), 1, "a.tif would write over a-0000.json")
        assert read_prediction(tmp_path / "o" / "a-0000.json").image == "a-0000.png"
        (images / "a.tif").rename(images / "a-0000.tif")
        failed(xraysynth(*words), 2, "called 'a-0000', so that their results would be, too; rename")

    def test_wrong_input(self, xraysynth, trained, tmp_path, failed, xray):
        def detect(image, *words):
            return xraysynth(
                "detect", "--image", image, "--output", tmp_path / "o", "--model",
                trained / "model", *words,
            )  # fmt: skip

        (tmp_path / "empty").mkdir()
        (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
        failed(detect(tmp_path / "none.png"), 1, "does not exist")
        failed(detect(tmp_path / "empty"), 1, "No X-ray")
        failed(detect(tmp_path / "bad.png"), 1, "bad.png")
        write_xray(xray, tmp_path / "a.png")
        failed(detect(tmp_path / "a.png", "--model", tmp_path / "empty"), 1, "--model")
        failed(detect(tmp_path / "a.png", "--threshold", 2), 2, "--threshold")
        assert not (tmp_path / "o").exists()


def test_held_out_people_become_subjects(xraysynth, tmp_path, failed, monkeypatch):
    from XraySynthLib.anatomy.shape_model import load_shape_model
    from XraySynthLib.workflows import generate

    monkeypatch.setattr(generate, "PRESETS", {"compact": ((20, 20, 20), 16.0)})
    words = ("generate", "--people", "held-out", "--output", tmp_path / "people")
    failed(xraysynth(*words, "--count", 7), 2, "6 people")
    assert xraysynth(*words, "--count", 1).code == 0
    folder = tmp_path / "people" / "held-out-0000"
    provenance = json.loads((folder / "provenance.json").read_text())
    first = load_shape_model().held_out[0]
    assert provenance["subject"] == f"musculoskeletal-models-{first}"
    assert provenance["config"]["derived_from"] == []
    assert len(read_landmarks(folder / "landmarks.mrk.json").names) == 14
