"""From CTs with labels to CTs of people who never were, by the command line."""

import json
import shutil

import numpy as np
import pytest

from XraySynthLib.data import LandmarkSet, Volume
from XraySynthLib.data.formats import read_volume, write_labels, write_landmarks, write_volume
from XraySynthLib.workflows import conditions, ct_training, generate, train_ct, workers
from XraySynthLib.workflows.subjects import find_subjects
from XraySynthLib.workflows.training_watch import Watch

OPTIONS = (
    "--autoencoder-crops", 16, "--latents-crops", 16, "--refiner-crops", 16,
    "--autoencoder-side", 16, "--latents-side", 32, "--refiner-side", 16,
    "--batch-crops", 4, "--warmup-crops", 4, "--check-crops", 8, "--average-crops", 8,
    "--threads", 1, "--name", "tiny",
)  # fmt: skip
SIZES = {
    "kind_channels": 2,
    "latent_channels": 2,
    "autoencoder_channels": (8, 8),
    "head_channels": 8,
    "diffusion_channels": (8, 8),
    "refiner_channels": (8, 8),
}
SPACING_MM = 10.0
GRID = ((32, 32, 32), SPACING_MM)


@pytest.fixture(autouse=True)
def small_things(patched):
    """Networks, volumes and validation of a size for tests, in every test of this file."""


@pytest.fixture(scope="module")
def patched():
    rendered = {}
    sampled_condition = conditions.sampled_condition

    def once(*request):
        key = repr(request)  # it has a dictionary of knobs
        if key not in rendered:
            rendered[key] = sampled_condition(*request)
        return rendered[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ct_training, "PRESETS", {"compact": SIZES})
        patch.setattr(ct_training, "N_VALIDATION_CROPS", 4)
        patch.setattr(workers, "usable_cpus", lambda: 1)  # so small a network waits for threads
        patch.setitem(generate.PRESETS, "compact", GRID)
        patch.setattr(conditions, "sampled_condition", once)
        yield patch


def write_person(folder, seed, shape=(32, 32, 32), spacing_mm=SPACING_MM, labels=None):
    """A trunk with a bone, as a subject whose provenance says who and how fat."""
    folder.mkdir(parents=True)
    values, map_ = np.full(shape, -1000.0), np.zeros(shape, np.uint8)
    values[:, 4:28, 4:28], map_[:, 4:28, 4:28] = 50, 11
    values[8:24, 12:20, 10:20], map_[8:24, 12:20, 10:20] = 500, 4
    values += np.random.default_rng(seed).normal(0, 10, shape)
    ras_from_ijk = np.diag([*np.broadcast_to(spacing_mm, 3), 1.0])
    write_volume(Volume(values, ras_from_ijk), folder / "ct.nii.gz")
    write_labels(map_ if labels is None else labels(map_), ras_from_ijk, folder / "labels.nii.gz")
    middle = ras_from_ijk[:3, :3] @ [15, 15, 15]
    write_landmarks(LandmarkSet(("middle",), [middle]), folder / "points.mrk.json")
    config = {"derived_from": ["yann", "zoe"], "parameters": {"fat_mm": 20.0 + seed}}
    document = {"kind": "generated", "subject": folder.name, "config": config}
    (folder / "provenance.json").write_text(json.dumps(document))


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Three of them."""
    folder = tmp_path_factory.mktemp("people")
    for seed, name in enumerate(("anna", "ben", "carl")):
        write_person(folder / name, seed)
    return folder


def train(xraysynth, data, output, *words):
    return xraysynth("train", "ct", "--data", data, "--output", output, *OPTIONS, *words)


@pytest.fixture(scope="module")
def trained(patched, in_process, people, tmp_path_factory):
    """A run that has ended."""
    run = tmp_path_factory.mktemp("run") / "run"
    outcome = train(in_process[0], people, run, "--progress", "json")
    assert (outcome.code, outcome.err) == (0, "")
    lines = [json.loads(line) for line in outcome.out.splitlines()]
    stages = list(dict.fromkeys(line["stage"] for line in lines[:-1]))
    assert stages == ["read", "autoencoder", "encode", "latents", "refiner", "map HU"]
    assert lines[-1] == {"result": str(run / "model")}
    return run


def log_of(run, stage):
    return [json.loads(line) for line in (run / stage / "log.jsonl").read_text().splitlines()]


class TestTrain:
    def test_what_a_run_holds(self, trained):
        assert {path.name for path in trained.iterdir()} == {
            "autoencoder", "latents", "refiner", "codes", "model", "data.json",
        }  # fmt: skip
        for stage in train_ct.STAGES:
            assert {path.name for path in (trained / stage).iterdir()} == {
                "config.json", "versions.json", "log.jsonl", "checkpoint", "tensorboard",
                "samples.png", "loss.png",
            }  # fmt: skip
            log = log_of(trained, stage)
            assert [line["images"] for line in log] == [8, 16]
            assert {"loss", "val_loss", "learning_rate", "images_per_s"} <= set(log[0])
        assert log_of(trained, "autoencoder")[0]["val_bone_hu"] > 0

    def test_what_a_model_says_of_itself(self, trained):
        model = json.loads((trained / "model" / "config.json").read_text())
        assert model["name"] == "tiny" and model["spacing_mm"] == [10, 10]
        assert model["people"] == ["anna", "ben", "carl", "yann", "zoe"]
        assert model["training"]["volumes"] == 2  # the third is watched
        low, middle, high, _ = model["tissue_hu"]["sacrum"]
        assert 480 < low <= middle <= high < 520 and model["least_agreement"] == 1
        assert {"air", "muscle", "sacrum"} <= set(model["hu_maps"])
        assert 490 < np.median(model["hu_maps"]["sacrum"][1]) < 510

    def test_the_drawn_parameters_are_learned_from(self, people):
        config = train_ct.TrainCtConfig(
            data=(people,), output=people / "none", autoencoder_side=16, latents_side=16,
            refiner_side=16, progress="none",
        )  # fmt: skip
        learned, watched, _ = train_ct.read_volumes(config)
        fat = {v.subject: float(v.scalars[1]) * 12 + 25 for v in [*learned, *watched]}
        assert fat == pytest.approx({"anna": 20, "ben": 21, "carl": 22})

    def test_one_person_is_never_learned_and_watched(self, people, tmp_path):
        shutil.copytree(people, tmp_path / "again")
        sides = {
            "autoencoder_side": 16, "latents_side": 16, "refiner_side": 16,
            "output": tmp_path / "none", "progress": "none",
        }  # fmt: skip
        for seed in range(4):
            config = train_ct.TrainCtConfig(data=(people, tmp_path / "again"), seed=seed, **sides)
            learned, watched, _ = train_ct.read_volumes(config)
            assert len(learned) == 4 and len(watched) == 2
            assert not {v.subject for v in learned} & {v.subject for v in watched}

    def test_the_same_command_again_does_nothing_more(self, xraysynth, people, trained):
        weights = (trained / "model" / "refiner.safetensors").read_bytes()
        logs = [log_of(trained, stage) for stage in train_ct.STAGES]
        assert train(xraysynth, people, trained).code == 0
        assert (trained / "model" / "refiner.safetensors").read_bytes() == weights
        assert [log_of(trained, stage) for stage in train_ct.STAGES] == logs

    def test_an_interrupted_run_goes_on(self, xraysynth, people, trained, tmp_path, monkeypatch):
        """Interrupted in each stage between its two checkpoints."""
        note = Watch.note

        def interrupted(watch, step):
            note(watch, step)
            if step.images == 12 and watch.first == 0:
                raise KeyboardInterrupt

        monkeypatch.setattr(Watch, "note", interrupted)
        run = tmp_path / "run"
        for stage in train_ct.STAGES:
            outcome = train(xraysynth, people, run)
            assert outcome.code == 1 and "Interrupted" in outcome.err
            assert [line["images"] for line in log_of(run, stage)] == [8]
        assert not (run / "model").exists()
        assert train(xraysynth, people, run).code == 0
        for stage in train_ct.STAGES:
            assert [line["images"] for line in log_of(run, stage)] == [8, 16]
            again, whole = log_of(run, stage)[0], log_of(trained, stage)[0]
            assert again["val_loss"] == pytest.approx(whole["val_loss"], rel=0.3)
        assert (run / "model" / "config.json").exists()

    def test_a_stage_alone(self, xraysynth, people, trained, tmp_path, failed):
        outcome = train(xraysynth, people, tmp_path / "early", "--stage", "latents")
        failed(outcome, 2, "autoencoder is not trained")
        run = tmp_path / "run"
        shutil.copytree(trained / "autoencoder", run / "autoencoder")
        shutil.copytree(trained / "codes", run / "codes")
        outcome = train(xraysynth, people, run, "--stage", "refiner")
        assert outcome.code == 0, outcome.err
        assert (run / "refiner" / "checkpoint").exists()
        assert not (run / "latents" / "checkpoint").exists() and not (run / "model").exists()
        assert f"No generator in {run} yet: train ct --stage latents is left." in outcome.out


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"labels": lambda map_: np.where(map_ == 4, 99, map_)}, "tissue has: [99]."),
            ({"labels": lambda map_: np.where(map_ == 4, 11, map_)}, "has no bone"),
            ({"spacing_mm": (10, 10, 20)}, "voxels are no cubes but [10.0, 10.0, 20.0] mm"),
            ({"shape": (31, 32, 32)}, "under 32 voxels"),
        ],
    )
    def test_a_ct_that_cannot_be_learned_from(
        self, xraysynth, people, tmp_path, failed, options, words
    ):
        write_person(tmp_path / "data" / "dora", 4, **options)
        outcome = train(xraysynth, tmp_path / "data", tmp_path / "run")
        failed(outcome, 1, words)
        assert f"dora in {tmp_path / 'data'} cannot be learned from" in outcome.err
        assert ".." not in outcome.err

    def test_cubes_larger_than_a_ct(self, xraysynth, people, tmp_path, failed):
        outcome = train(xraysynth, people, tmp_path / "run", "--latents-side", 48)
        failed(outcome, 1, "cut to 32 voxels along an axis")

    def test_no_labels(self, xraysynth, tmp_path, failed):
        write_person(tmp_path / "data" / "dora", 4)
        (tmp_path / "data" / "dora" / "labels.nii.gz").unlink()
        failed(train(xraysynth, tmp_path / "data", tmp_path / "run"), 1, "dora has no label map")

    def test_one_alone(self, xraysynth, tmp_path, failed):
        write_person(tmp_path / "data" / "dora", 4)
        failed(train(xraysynth, tmp_path / "data", tmp_path / "run"), 1, "two people or more")

    def test_the_same_person_twice(self, xraysynth, tmp_path, failed):
        for number, folder in enumerate("ab"):
            write_person(tmp_path / folder / "dora", number)
        both = ("--data", tmp_path / "a", tmp_path / "b")
        outcome = train(xraysynth, tmp_path / "a", tmp_path / "run", *both)
        failed(outcome, 1, "two people or more, one to be watched; 2 of 1 is here")

    def test_wrong_options(self, xraysynth, people, tmp_path, failed):
        def refused(code, words, *options):
            failed(train(xraysynth, people, tmp_path / "run", *options), code, words)

        refused(2, "--latents-side must be a multiple of 16", "--latents-side", 40)
        refused(2, "--batch-crops must be 1", "--batch-crops", 0)
        refused(2, "must fit into --autoencoder-crops", "--warmup-crops", 16)
        for rate in (0, "nan", "inf"):
            refused(2, "--learning-rate above 0 and finite", "--learning-rate", rate)
        refused(2, "--name is empty", "--name", "")
        failed(train(xraysynth, people, people / ".." / people.name), 2, "is --data too")
        refused(2, "--workers, --threads", "--workers", -1)
        failed(train(xraysynth, tmp_path / "none", tmp_path / "run"), 1, "There is no folder")
        (tmp_path / "file").write_text("")
        failed(train(xraysynth, people, tmp_path / "file"), 2, "is a file")
        assert not (tmp_path / "run").exists()

    def test_a_folder_with_a_run_of_other_options_or_cts(
        self, xraysynth, people, trained, tmp_path, failed
    ):
        failed(train(xraysynth, people, trained, "--refiner-side", 32), 2, "refiner side is 16")
        shutil.copytree(people, tmp_path / "people")
        shutil.copytree(trained, tmp_path / "run")
        for stage in train_ct.STAGES:  # as if they had been given there in the first place
            path = tmp_path / "run" / stage / "config.json"
            path.write_text(path.read_text().replace(str(people), str(tmp_path / "people")))
        assert train(xraysynth, tmp_path / "people", tmp_path / "run").code == 0
        write_person(tmp_path / "people" / "dora", 4)
        outcome = train(xraysynth, tmp_path / "people", tmp_path / "run")
        failed(outcome, 2, "holds a run on other CTs")

    def test_a_full_disk_at_a_checkpoint(self, xraysynth, people, tmp_path, failed, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("XraySynthLib.training.run_folder.save_tensors", full)
        outcome = train(xraysynth, people, tmp_path / "run")
        failed(outcome, 1, "autoencoder cannot be written: No space left on device; the same")


@pytest.fixture
def make(xraysynth, tmp_path):
    """Generate two subjects with a model into `tmp_path / "made"`."""

    def make(model, *words):
        return xraysynth(
            "generate", "--backend", "diffusion", "--model", model, "--count", 2, "--output",
            tmp_path / "made", *words,
        )  # fmt: skip

    return make


@pytest.fixture
def lenient(monkeypatch, trained, tmp_path):
    """The model, where anything passes the quality check."""
    monkeypatch.setattr("XraySynthLib.ct.quality.MAX_STRAY_ML", 1e9)
    monkeypatch.setattr("XraySynthLib.ct.quality.MAX_CLIPPED_SHARE", 1.0)
    folder = tmp_path / "lenient"
    shutil.copytree(trained / "model", folder)
    document = json.loads((folder / "config.json").read_text())
    document |= {"tissue_hu": {}, "least_agreement": 0}
    (folder / "config.json").write_text(json.dumps(document))
    return folder


class TestGenerate:
    def test_subjects_with_labels_landmarks_and_a_picture(self, make, lenient, tmp_path):
        outcome = make(lenient)
        assert (outcome.code, outcome.err) == (0, "")
        made = tmp_path / "made"
        assert sorted(path.name for path in made.iterdir()) == ["subject-0000", "subject-0001"]
        folder = made / "subject-0001"
        assert {path.name for path in folder.iterdir()} == {
            *generate.FILE_NAMES, "provenance.json"
        }  # fmt: skip
        volume = read_volume(folder / "ct.nii.gz", folder / "labels.nii.gz")
        condition = conditions.sampled_condition((0, 1), False, GRID)
        assert np.array_equal(volume.labels, condition.rendered.labels)
        assert np.abs(volume.values_hu - condition.rendered.values_hu).mean() > 5
        provenance = json.loads((folder / "provenance.json").read_text())
        assert provenance["subject"] == "diffusion-0-0001"
        config = provenance["config"]
        assert set(config["derived_from"]) == {
            "anna", "ben", "carl", "yann", "zoe", *condition.people, "rendered-0-0001",
        }  # fmt: skip
        assert (config["attempt"], config["refused"]) == (0, [])
        assert config["quality"]["complaints"] == [] and "bone_dice" in config["quality"]

        # Only what is missing is made again, and it is the same.
        content = (folder / "ct.nii.gz").read_bytes()
        kept = (made / "subject-0000" / "ct.nii.gz").stat().st_mtime_ns
        (folder / "ct.nii.gz").unlink()
        assert make(lenient).code == 0
        assert (folder / "ct.nii.gz").read_bytes() == content
        assert (made / "subject-0000" / "ct.nii.gz").stat().st_mtime_ns == kept

    def test_whom_the_generator_learned_from_is_not_tested_on(self, make, lenient, tmp_path):
        from XraySynthLib.data.sets.splits import split_by_subject

        assert make(lenient, "--count", 1).code == 0
        (subject,) = find_subjects(tmp_path / "made")
        assert {"anna", "ben", "carl", "zoe"} <= set(subject.derived_from)
        behind = {subject.name: subject.derived_from, "anna": (), "eve": (), "finn": ()}
        for seed in range(6):
            splits = split_by_subject(behind, (1, 1, 1), seed)
            assert splits[subject.name] == splits["anna"]

    def test_ct_of_the_same_bones_are_one_person(self, make, lenient, tmp_path):
        from XraySynthLib.data.sets.splits import persons_of

        assert make(lenient).code == 0
        of_two = {one.name: one.derived_from for one in find_subjects(tmp_path / "made")}
        names = ("rendered-0-0000", "rendered-0-0001")
        persons = persons_of({**of_two, **dict.fromkeys(names, ("p", "q"))})
        assert persons["diffusion-0-0000"] == persons[names[0]]
        assert persons["diffusion-0-0001"] == persons[names[1]] != persons[names[0]]

    def test_what_fails_its_check_is_drawn_again_and_then_refused(
        self, make, trained, lenient, tmp_path, failed
    ):
        outcome = make(trained / "model")
        failed(outcome, 1, "2 of 2 CTs failed their quality check 3 times")
        refusals = sorted(path.name for path in (tmp_path / "made").iterdir())
        assert refusals == ["refused-subject-0000.json", "refused-subject-0001.json"]
        record = json.loads((tmp_path / "made" / refusals[0]).read_text())
        assert [one["attempt"] for one in record["refused"]] == [0, 1, 2]
        first, second = (one["quality"] for one in record["refused"][:2])
        assert first["complaints"] and first["median_hu"] != second["median_hu"]

        generate._generator.cache_clear()
        assert make(lenient).code == 0  # the refusals go as the subjects come
        assert len(list((tmp_path / "made").iterdir())) == 2

    def test_a_model_that_cannot_be_used(self, make, trained, tmp_path, failed, monkeypatch):
        failed(make(tmp_path / "none"), 1, "holds no CT generator")
        model = tmp_path / "model"
        shutil.copytree(trained / "model", model)
        (model / "latents.safetensors").write_bytes(b"nothing")
        failed(make(model), 1, "latents.safetensors is damaged")
        (model / "latents.safetensors").unlink()
        failed(make(model), 1, "latents.safetensors is missing")
        failed(make(model, "--dry-run"), 1, "latents.safetensors is missing")
        shutil.copyfile(model / "refiner.safetensors", model / "latents.safetensors")
        failed(make(model), 1, "another network than config.json says")
        assert list((tmp_path / "made").iterdir()) == []

    def test_weights_and_device_before_anything_is_rendered(
        self, make, trained, tmp_path, failed, monkeypatch
    ):
        import torch

        def never(*_):
            raise AssertionError("rendered")

        monkeypatch.setattr(conditions, "sampled_condition", never)
        model = tmp_path / "model"
        shutil.copytree(trained / "model", model)
        (model / "refiner.safetensors").write_bytes(b"nothing")
        failed(make(model), 1, "refiner.safetensors is damaged")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        failed(make(trained / "model", "--device", "cuda", "--dry-run"), 2, "no device 'cuda'")

    def test_voxels_of_another_size_than_it_was_trained_on(self, make, trained, failed):
        outcome = make(trained / "model", "--preset", "coarse")
        failed(outcome, 2, "trained on voxels of 10 to 10 mm; --preset coarse has 3.33 mm")

    def test_a_model_for_what_is_rendered(self, xraysynth, trained, tmp_path, failed):
        words = ("--model", trained / "model", "--output", tmp_path / "made")
        failed(xraysynth("generate", *words), 2, "--model needs --backend diffusion")

    def test_no_model_comes_with_the_program(self, xraysynth, tmp_path, failed, monkeypatch):
        monkeypatch.setattr("XraySynthLib.workflows.ct_generator.SHIPPED", tmp_path / "none")
        words = ("--backend", "diffusion", "--output", tmp_path / "made")
        failed(xraysynth("generate", *words), 1, "without a CT generator: train one")
