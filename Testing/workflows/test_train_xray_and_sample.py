"""From an exported set to a sampler, and from it to a set, by the command line."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from XraySynthLib.data import LandmarkSet, Quantity
from XraySynthLib.data.formats import read_landmarks, read_volume, write_labels, write_landmarks
from XraySynthLib.data.sets import open_set

NAMES = ("FH-l", "FH-r", "SPS-l", "SPS-r")
PLACES_MM = [[-25, 0, 0], [25, 0, 0], [-8, 12, -15], [8, 12, -15]]
PEOPLE = ("anna", "ben", "carl")
TRAINING = (
    "--images", 24, "--warmup-images", 8, "--check-images", 16, "--batch-images", 8,
    "--side-px", 32, "--channels", 8, 16, "--validation-images", 4, "--threads", 1,
)  # fmt: skip
SHAPE = ("--pixel-spacing-mm", 5, 5, "--source-to-isocenter-mm", 600, 700)


@pytest.fixture(scope="module")
def subjects(tmp_path_factory, in_process) -> Path:
    """Three people of two hips, a box each, and four landmarks."""
    folder = tmp_path_factory.mktemp("people")
    for number, name in enumerate(PEOPLE):
        place = folder / name
        place.mkdir()
        in_process[1](place)
        volume = read_volume(place / "ct.nii.gz")
        labels = np.zeros(volume.values_hu.shape, np.uint8)
        labels[6:14, 8:14, 4:10], labels[6:14, 8:14, 14:20] = 2, 1
        if volume.ras_from_ijk[0, 0] < 0:
            labels = np.array([0, 2, 1], np.uint8)[labels]
        write_labels(labels, volume.ras_from_ijk, place / "labels.nii.gz")
        points = np.array([10, -20, 30]) + np.array(PLACES_MM) * (1 + 0.05 * number)
        (place / "points.mrk.json").unlink()
        write_landmarks(LandmarkSet(NAMES, points), place / "points.mrk.json")
    return folder


@pytest.fixture(scope="module")
def exported(subjects, in_process) -> Path:
    """Twelve noise-free images."""
    output = subjects.parent / "exported-set"
    outcome = in_process[0](
        "export", "--subjects", subjects, "--views", 4, "--format", "webdataset", "--output",
        output, "--shape-px", 32, 32, *SHAPE, "--no-masks", "--split", 2, 1, 0, "--workers", 1,
        "--quantity", "line-integral", "--kvp", 80, 90, "--isocenter-offset-mm", 0, 0,
        "--scatter", 0, 0, "--photons-per-mm2", 1e9, 1e9, "--collimated-share", 0,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    return output


def train(xraysynth, exported, subjects, condition, output, *words):
    people = ("--subjects", subjects) if condition == "anatomy" else ()
    return xraysynth(
        "train", "xray", "--data", exported, "--condition", condition, *people,
        "--output", output, *TRAINING, "--progress", "none", *words,
    )  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory, in_process, exported, subjects) -> dict[str, Path]:
    """A run of each condition that has ended."""
    folder = tmp_path_factory.mktemp("runs")
    for condition in ("view", "anatomy"):
        outcome = train(in_process[0], exported, subjects, condition, folder / condition)
        assert outcome.code == 0, outcome.err
    return {condition: folder / condition for condition in ("view", "anatomy")}


class TestTrain:
    @pytest.mark.parametrize("condition", ["view", "anatomy"])
    def test_what_a_run_holds(self, runs, condition):
        run = runs[condition]
        names = {path.name for path in run.iterdir()}
        assert names == {
            "config.json", "versions.json", "log.jsonl", "checkpoint", "tensorboard", "model",
            "loss.png", "samples.png", "maps",
        }  # fmt: skip
        log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        assert [line["images"] for line in log] == [16, 24]
        assert {"loss", "image", "val_loss", "val_image"} <= set(log[0])
        assert ("heatmaps" in log[0]) == (condition == "view")
        model = json.loads((run / "model" / "config.json").read_text())
        assert set(model["people"]) == set(PEOPLE) and model["kvp"] == [80, 90]
        (left, right), _, (near, far) = model["places_mm"]
        assert -40 < left < right < 40 and 590 < near < far < 720
        assert -15 <= model["rolls_deg"][0] < model["rolls_deg"][1] <= 15
        assert model["landmark_names"] == list(NAMES) and model["training"]["images_seen"] == 24

    def test_a_run_goes_on_with_the_maps_it_has(
        self, runs, exported, subjects, xraysynth, tmp_path
    ):
        run = tmp_path / "run"
        shutil.copytree(runs["anatomy"], run)
        shutil.rmtree(run / "checkpoint")
        maps = {path: path.stat().st_mtime_ns for path in (run / "maps").iterdir()}
        weights = "model/unet/diffusion_pytorch_model.safetensors"
        before = (run / weights).read_bytes()
        assert train(xraysynth, exported, subjects, "anatomy", run).code == 0
        assert {path: path.stat().st_mtime_ns for path in (run / "maps").iterdir()} == maps
        assert (run / weights).read_bytes() == before  # the same run, to the bit

    @pytest.mark.parametrize("other", ["view", "anatomy"])
    def test_it_begins_with_another(self, runs, exported, subjects, xraysynth, tmp_path, other):
        words = ("--learning-rate", 1e-12, "--start", runs[other] / "model")
        run = tmp_path / "run"
        assert train(xraysynth, exported, subjects, "view", run, *words).code == 0
        weights = "model/unet/diffusion_pytorch_model.safetensors"
        began, ended = load_file(runs[other] / weights), load_file(run / weights)
        for name, tensor in began.items():
            if other == "anatomy" and name.startswith(("conv_in", "conv_out")):
                # Those of the image, which are first, and of the maps, which are last.
                if name == "conv_in.weight":
                    assert torch.allclose(ended[name][:, -28:], tensor[:, -28:], atol=1e-3)
                along = (slice(None), slice(4)) if name == "conv_in.weight" else slice(4)
                tensor, ended[name] = tensor[along], ended[name][along]
            assert torch.allclose(ended[name].float(), tensor.float(), atol=1e-3), name

    def test_what_it_cannot_begin_with(self, runs, exported, subjects, xraysynth, tmp_path, failed):
        def refused(code, words, *options):
            run = tmp_path / "run"
            failed(train(xraysynth, exported, subjects, "view", run, *options), code, words)
            assert not run.exists()

        begun = runs["view"] / "model"
        refused(1, "holds no X-ray sampler", "--start", tmp_path)
        refused(2, "another size", "--start", begun, "--channels", 16, 16)

    def test_wrong_options(self, xraysynth, exported, subjects, tmp_path, failed):
        run = tmp_path / "run"

        def refused(code, words, *options, condition="view"):
            failed(train(xraysynth, exported, subjects, condition, run, *options), code, words)

        refused(2, "multiple of 4", "--side-px", 33)
        refused(2, "multiples of 8", "--channels", 12, 16)
        refused(2, "--learning-rate above 0", "--learning-rate", "nan")
        refused(2, "--weight-decay must be 0 or more", "--weight-decay", "nan")
        refused(2, "--weights needs a number", "--weights", "inf")
        refused(2, "--warmup-images", "--warmup-images", 24)
        refused(2, "leave it out", "--subjects", subjects)
        refused(1, "does not exist", "--data", tmp_path / "none")
        words = ("train", "xray", "--data", exported, "--output", run, "--condition", "anatomy")
        failed(xraysynth(*words), 2, "needs --subjects")
        assert not run.exists()

    def test_somebody_who_is_not_among_the_subjects(
        self, xraysynth, exported, subjects, tmp_path, failed
    ):
        shutil.copytree(subjects / "anna", tmp_path / "people" / "anna")
        outcome = train(xraysynth, exported, tmp_path / "people", "anatomy", tmp_path / "run")
        failed(outcome, 1, "in no folder of --subjects")


def sample(xraysynth, run, condition, output, *words):
    return xraysynth(
        "sample", "--model", run / "model", "--condition", condition, "--output", output,
        "--count", 4, "--views", 2, "--part-size", 2, "--steps", 2, "--quantity",
        "line-integral", "--progress", "none", *SHAPE, *words,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def small_bones(monkeypatch, subjects):
    """Whom `sample` draws, instead of the shape model's people, who take seconds."""
    from XraySynthLib.workflows import sample_images

    def anatomy(seed):
        volume = read_volume(subjects / "anna" / "ct.nii.gz", subjects / "anna" / "labels.nii.gz")
        landmarks = read_landmarks(subjects / "anna" / "points.mrk.json")
        moved = LandmarkSet(landmarks.names, landmarks.points_ras_mm * (1 + 0.01 * seed[1]))
        return sample_images.Anatomy(volume.labels, volume.ras_from_ijk, moved)

    monkeypatch.setattr(sample_images, "sampled_anatomy", anatomy)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tar"))}


class TestSample:
    @pytest.mark.parametrize("condition", ["view", "anatomy"])
    def test_a_set_as_export_writes_it(self, runs, xraysynth, tmp_path, condition):
        outcome = sample(xraysynth, runs[condition], condition, tmp_path / "set")
        assert outcome.code == 0, outcome.err
        samples = open_set(tmp_path / "set", "train")
        assert len(samples) == 4 and len({one.key for one in samples}) == 4
        for item, one in enumerate(samples):
            origin = one.provenance
            assert origin.kind == "generated" and origin.seed == (0, item)
            assert set(PEOPLE) <= set(origin.config["derived_from"])
            made_by = origin.config["sampler"]
            assert made_by["condition"] == condition and len(made_by["sha256"]) == 64
            assert one.xray.quantity is Quantity.LINE_INTEGRAL and one.xray.view is not None
            assert one.xray.values.shape == (32, 32) and one.landmarks.names == NAMES

    def test_landmarks_of_an_anatomy_are_where_the_view_has_them(
        self, runs, xraysynth, tmp_path, subjects
    ):
        assert sample(xraysynth, runs["anatomy"], "anatomy", tmp_path / "set").code == 0
        points = read_landmarks(subjects / "anna" / "points.mrk.json").points_ras_mm
        for item, one in enumerate(open_set(tmp_path / "set")):
            expected = one.xray.view.project(points * (1 + 0.01 * (item // 2)))
            assert one.landmarks.points_px == pytest.approx(expected)

    def test_an_image_depends_on_its_number_alone(self, runs, xraysynth, tmp_path):
        for name, words in (("a", ()), ("b", ("--batch", 1, "--part-size", 1))):
            outcome = sample(xraysynth, runs["anatomy"], "anatomy", tmp_path / name, *words)
            assert outcome.code == 0, outcome.err
        for one, other in zip(open_set(tmp_path / "a"), open_set(tmp_path / "b"), strict=True):
            assert one.key == other.key
            # Sums change with the batch, and a photon more or less with them.
            difference = np.abs(one.xray.values - other.xray.values)
            assert np.median(difference) < 0.01 * np.ptp(one.xray.values)

    def test_a_run_that_was_stopped_goes_on(self, runs, xraysynth, tmp_path, monkeypatch):
        from XraySynthLib.workflows import sample as verb

        assert sample(xraysynth, runs["view"], "view", tmp_path / "whole").code == 0
        real = verb.make_part

        def stopped(folder, layout, recipe, sampler, batch, part, person):
            if part.index == 1:
                raise KeyboardInterrupt
            return real(folder, layout, recipe, sampler, batch, part, person)

        monkeypatch.setattr(verb, "make_part", stopped)
        assert sample(xraysynth, runs["view"], "view", tmp_path / "set").code == 1
        assert not (tmp_path / "set" / "set.json").exists()
        monkeypatch.setattr(verb, "make_part", real)
        assert sample(xraysynth, runs["view"], "view", tmp_path / "set").code == 0
        assert contents(tmp_path / "set") == contents(tmp_path / "whole")

    def test_what_is_refused_is_made_again_and_counted(
        self, runs, xraysynth, tmp_path, monkeypatch
    ):
        from XraySynthLib.diffusion import plausibility
        from XraySynthLib.workflows.sample_images import TRIES

        monkeypatch.setattr(plausibility, "complaint", lambda *_: "residual")
        assert sample(xraysynth, runs["view"], "view", tmp_path / "set").code == 0
        for one in open_set(tmp_path / "set"):
            made_by = one.provenance.config["sampler"]
            assert (made_by["refused"], made_by["complaint"]) == (TRIES - 1, "residual")
        page = (tmp_path / "set" / "index.html").read_text()
        assert "The landmarks of 100.0% of what was made could not be anybody" in page
        assert "4 images have such landmarks still" in page

    def test_a_detector_can_be_trained_on_it(self, runs, xraysynth, tmp_path):
        words = ("--split", 1, 1, 0)
        assert sample(xraysynth, runs["anatomy"], "anatomy", tmp_path / "set", *words).code == 0
        outcome = xraysynth(
            "train", "landmarks", "--data", tmp_path / "set", "--output", tmp_path / "run",
            "--images", 8, "--warmup-images", 0, "--batch-images", 4, "--side-px", 32,
            "--channels", 8, 8, "--stride", 2, "--workers", 1, "--threads", 1,
        )  # fmt: skip
        assert outcome.code == 0, outcome.err
        model = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
        assert set(PEOPLE) <= set(model["people"])

    @pytest.mark.parametrize(
        ("options", "warned"),
        [
            ((), ""),
            (("--primary-deg", 170, 180), "4 of 4 views look from where"),
            (("--roll-deg", 90, 91), "4 of 4 views look from where"),
            (("--source-to-isocenter-mm", 350, 400), "4 of 4 views look from where"),
            (("--aim-offset-mm", 0, 0, 150), "4 of 4 views look from where"),
            (("--kvp", 80, 120), "trained at 80 to 90 kVp; --kvp asks for 80, 120"),
        ],
    )
    def test_what_was_never_trained(self, runs, xraysynth, tmp_path, options, warned):
        words = ("--isocenter-offset-mm", 0, 0, "--progress", "auto", "--dry-run", *options)
        outcome = sample(xraysynth, runs["view"], "view", tmp_path / "set", *words)
        assert outcome.code == 0
        assert warned in outcome.err and ("never trained" in outcome.err) == ("4 of" in warned)

    def test_views_by_default(self, tmp_path):
        from XraySynthLib.workflows.sample import SampleConfig, plan_set

        for count, views in ((15, 5), (20, 10), (7, 7), (11, 1)):
            config = SampleConfig(output=tmp_path / "set", count=count)
            assert plan_set(config)[0].description.images_per_subject == views

    @pytest.mark.parametrize(("spacing_mm", "warned"), [(5, False), (5.2, False), (8, True)])
    def test_a_field_of_view_that_was_never_trained(
        self, runs, xraysynth, tmp_path, spacing_mm, warned
    ):
        words = ("--progress", "auto", "--dry-run", "--pixel-spacing-mm", spacing_mm, spacing_mm)
        outcome = sample(xraysynth, runs["view"], "view", tmp_path / "set", *words)
        assert outcome.code == 0
        words = "14.3 degrees wide, but the sampler was trained on 9.0 to 9.0"
        assert (words in outcome.err) == warned

    def test_bones_lead_and_tries_of_a_recipe(self, runs, subjects, tmp_path, monkeypatch):
        from XraySynthLib.diffusion import plausibility
        from XraySynthLib.diffusion.model import load_sampler
        from XraySynthLib.workflows.sample import SampleConfig, plan_set
        from XraySynthLib.workflows.sample_images import Anatomy, make_samples

        monkeypatch.setattr(plausibility, "complaint", lambda *_: "residual")

        def made(condition, anatomy=None, **changes):
            model = runs[condition] / "model"
            config = SampleConfig(
                output=tmp_path / "set", count=2, condition=condition, model=model, steps=2
            )
            plan, _ = plan_set(config)
            person = next(iter(plan.subjects.values()))
            recipe = replace(plan.recipe, **changes)
            return list(make_samples(range(2), recipe, load_sampler(model), 2, person, anatomy))

        volume = read_volume(subjects / "ben" / "ct.nii.gz", subjects / "ben" / "labels.nii.gz")
        landmarks = read_landmarks(subjects / "ben" / "points.mrk.json")
        for one in made("anatomy", Anatomy(volume.labels, volume.ras_from_ijk, landmarks)):
            expected = one.xray.view.project(landmarks.points_ras_mm)
            assert one.landmarks.points_px == pytest.approx(expected)
        first, other = (made("view", tries=1, lead=lead) for lead in (0.5, 0.0))
        assert [one.provenance.config["sampler"]["refused"] for one in first] == [0, 0]
        assert other[0].provenance.config["sampler"]["lead"] == 0
        assert not np.allclose(first[0].xray.values, other[0].xray.values)

    def test_wrong_options(self, runs, xraysynth, tmp_path, failed):
        run, output = runs["view"], tmp_path / "set"

        def refused(code, words, *options, condition="view", run=run):
            failed(sample(xraysynth, run, condition, output, *options), code, words)

        refused(2, "multiple of --views", "--count", 5)
        refused(2, "is for --condition view", condition="anatomy")
        refused(2, "less than --source-to-detector-mm", "--source-to-detector-mm", 650)
        refused(2, "--steps", "--steps", 0)
        refused(2, "--views", "--views", 0)
        refused(2, "--guidance must be 0 to 20, got nan", "--guidance", "nan")
        refused(2, "no device 'cuda'", "--device", "cuda", "--dry-run")
        refused(2, "--format coco", "--format", "coco")
        refused(1, "holds no X-ray sampler", run=tmp_path)
        assert not output.exists()

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("unet/diffusion_pytorch_model.safetensors", "damaged"),
            ("landmarks.safetensors", "damaged"),
            ("config.json", "Cannot read"),
        ],
    )
    def test_damaged_and_missing_files(self, runs, xraysynth, tmp_path, failed, name, words):
        run = tmp_path / "run"
        shutil.copytree(runs["view"] / "model", run / "model")
        file = run / "model" / name
        file.write_bytes(file.read_bytes()[:100])
        failed(sample(xraysynth, run, "view", tmp_path / "set"), 1, words)
        file.unlink()
        missing = "holds no X-ray sampler" if name == "config.json" else "is missing"
        failed(sample(xraysynth, run, "view", tmp_path / "other"), 1, missing)

    @pytest.mark.parametrize(
        ("field", "value", "words"),
        [
            ("people", "anna", "people must be a list of names"),
            ("window", [1, "x"], "window must be 2 numbers"),
            ("window", [2, 2], "window must rise"),
            ("quantity", "x", "no quantity 'x'"),
            ("directions_deg", [[0]], "directions_deg must be 2 numbers"),
            ("rolls_deg", [2, 1], "rolls_deg must not fall"),
            ("places_mm", [[0, 1]], "places_mm must be a list of three pairs"),
            ("fields_deg", [0, 9], "fields_deg must be finite and above 0"),
            ("kvp", "80", "kvp must be a list of whole numbers"),
            ("network", {"condition": "view"}, "network lacks 'n_landmarks'"),
            ("network", {"condition": "view", "n_landmarks": 2.5}, "n_landmarks must be a whole"),
        ],
    )
    def test_a_configuration_that_cannot_be_meant(
        self, runs, xraysynth, tmp_path, failed, field, value, words
    ):
        run = tmp_path / "run"
        shutil.copytree(runs["view"] / "model", run / "model")
        path = run / "model" / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
        failed(sample(xraysynth, run, "view", tmp_path / "set"), 1, words)

    def test_another_networks_weights(self, runs, xraysynth, tmp_path, failed):
        run = tmp_path / "run"
        shutil.copytree(runs["view"] / "model", run / "model")
        other = runs["anatomy"] / "model" / "unet"
        shutil.copytree(other, run / "model" / "unet", dirs_exist_ok=True)
        failed(sample(xraysynth, run, "view", tmp_path / "set"), 1, "weights of another network")
