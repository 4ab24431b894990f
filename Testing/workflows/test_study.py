"""`xraysynth study`, with tiny people and networks that have learned nothing."""

import csv
import json
import re
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from XraySynthLib.anatomy.subject import sample_subject
from XraySynthLib.data.pelvis import LANDMARK_NAMES
from XraySynthLib.data.sets import open_set
from XraySynthLib.workflows import generate, study, study_parts
from XraySynthLib.workflows.study_plan import PRESETS, Preset, costs_s

TINY = Preset(
    arms=("b", "c", "d1", "d2"),
    people=3,
    images=6,
    seeds=1,
    images_seen=32,
    sizes=(2,),
    side_px=32,
    channels=(8, 8, 8),
    target_views=2,
    target_px=40,
)
SMALL = PRESETS["small"]
TABLES = (
    "arms", "differences", "landmarks", "trainings", "error-versus-detected", "success",
    "training-images",
)  # fmt: skip


@cache
def _drawn(seed, person):
    return sample_subject(seed, person)


def drawn_once(seed, person=None):
    return _drawn(tuple(seed), person)


@pytest.fixture(scope="module", autouse=True)
def tiny_people():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "small", TINY)
        patch.setitem(generate.PRESETS, "wide", ((32, 32, 32), 10.0))
        patch.setattr(generate, "N_HELD_OUT", 3)
        for module in ("anatomy.subject", "workflows.conditions"):  # the same people, drawn once
            patch.setattr(f"XraySynthLib.{module}.sample_subject", drawn_once)
        patch.setattr("XraySynthLib.ct.quality.MAX_STRAY_ML", np.inf)
        # Landmarks of a network that has learned nothing are taken as they are.
        patch.setattr("XraySynthLib.workflows.sample_images.FOUND", 0.0)
        patch.setattr("XraySynthLib.diffusion.plausibility.complaint", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def samplers(tmp_path_factory) -> dict[str, Path]:
    """Folders of networks that have learned nothing."""
    import torch

    from XraySynthLib.diffusion.model import SamplerConfig, save_sampler
    from XraySynthLib.diffusion.network import ConditionedVelocity, NetworkConfig
    from XraySynthLib.diffusion.plausibility import LandmarkPrior

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("samplers")
    mean_mm = np.random.default_rng(0).uniform(-60, 60, (14, 3))
    prior = LandmarkPrior(mean_mm, 25 * np.eye(42))
    for condition in ("view", "anatomy"):
        network = NetworkConfig(condition, 14, 32, 2, (8, 8))
        config = SamplerConfig(
            condition,
            LANDMARK_NAMES,
            network,
            "line-integral",
            (0.0, 8.0),
            people=("somebody", "else"),
        )
        save_sampler(config, ConditionedVelocity(network), prior, folder / condition)
    return {condition: folder / condition for condition in ("view", "anatomy")}


@pytest.fixture(scope="module")
def models(samplers, a_generator) -> tuple[object, ...]:
    return (
        "--generator", a_generator, "--view-sampler", samplers["view"],
        "--anatomy-sampler", samplers["anatomy"],
    )  # fmt: skip


def run_study(xraysynth, output, *words):
    return xraysynth(
        "study", "--output", output, "--workers", 1, "--resamples", 20, "--progress", "none",
        *words,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory, in_process, models) -> Path:
    """A study of all arms but the real ones."""
    output = tmp_path_factory.mktemp("study") / "study"
    outcome = run_study(in_process[0], output, *models)
    assert outcome.code == 0, outcome.err
    return output


def rows_of(study_folder, name):
    with (study_folder / "tables" / f"{name}.csv").open() as file:
        return [*csv.DictReader(file)]


class TestStudy:
    def test_the_report(self, whole):
        page = (whole / "report.html").read_text("utf-8")
        assert "Simulation to simulation" in re.findall("<p>(.*?)</p>", page)[0]
        assert "3 people an arm (1 of them watched" in page
        for source in re.findall(r'src="([^"]+)"', page):
            assert (whole / source).is_file()
        assert (whole / "report.pdf").read_bytes().startswith(b"%PDF")
        assert {path.stem for path in (whole / "tables").iterdir()} == set(TABLES)
        assert {row["name"] for row in rows_of(whole, "arms")} == {"b", "c", "d1", "d2"}
        assert {row["arm"] for row in rows_of(whole, "differences")} == {"c", "d1", "d2"}
        sizes = {(row["arm"], row["images"]) for row in rows_of(whole, "training-images")}
        assert sizes == {(arm, n) for arm in ("b", "c", "d1", "d2") for n in ("2", "4")}

    def test_arms_show_the_same_people_at_the_same_poses(self, whole):
        sets = {arm: open_set(whole / "sets" / arm) for arm in ("b", "c", "d2")}
        for b, c, d2 in zip(*sets.values(), strict=True):
            assert np.allclose(b.landmarks.points_px, c.landmarks.points_px)
            assert np.allclose(b.landmarks.points_px, d2.landmarks.points_px, atol=0.01)
            assert b.xray.values.shape == d2.xray.values.shape
        counts = {arm: len(open_set(whole / "sets" / arm, "train")) for arm in ("b", "c", "d1")}
        assert set(counts.values()) == {4}

    def test_nobody_tested_on_is_behind_a_training(self, whole):
        tested = {one.provenance.subject for one in open_set(whole / "target" / "set")}
        config = json.loads((whole / "runs/c-0/model/config.json").read_text("utf-8"))
        assert "somebody" in config["people"] and not tested & set(config["people"])
        assert len(tested) == 3

    def test_somebody_who_is_on_both_sides(self, whole, xraysynth, models, tmp_path, failed):
        shutil.copytree(whole, tmp_path / "study")
        options = tmp_path / "study" / "runs/b-0/config.json"  # which knows where its set is
        text = options.read_text("utf-8").replace(str(whole), str(tmp_path / "study"))
        options.write_text(text, "utf-8")
        path = tmp_path / "study" / "runs/b-0/model/config.json"
        (tested,) = {open_set(whole / "target" / "set")[0].provenance.subject}
        path.write_text(path.read_text("utf-8").replace('"people": [', f'"people": ["{tested}",'))
        shutil.rmtree(tmp_path / "study" / "reports" / "b-0")
        failed(run_study(xraysynth, tmp_path / "study", *models), 1, tested)

    def test_an_interrupted_study_ends_with_the_same_report(
        self, whole, xraysynth, models, monkeypatch
    ):
        names = ["report.html", "report.pdf", *(f"tables/{name}.csv" for name in TABLES)]
        before = {name: (whole / name).read_bytes() for name in names}
        untouched = (whole / "sets/b/set.json").stat().st_mtime_ns
        shutil.rmtree(whole / "sets" / "d2")
        for run in ("b-0", "d2-0"):
            for folder in ("runs", "found", "reports"):
                shutil.rmtree(whole / folder / run)
        made = []

        def interrupted(plan, device, threads, run):
            assert threads == 1
            if made:
                raise KeyboardInterrupt
            made.append(run)
            study_parts.make_run(plan, device, threads, run)

        monkeypatch.setattr(study, "make_run", interrupted)
        monkeypatch.setattr(study, "usable_cpus", lambda: 4)
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        monkeypatch.delenv("XRAYSYNTH_THREADS", raising=False)
        (whole / "report.html").unlink()
        stopped = run_study(xraysynth, whole, *models)
        assert stopped.code == 1 and "goes on after what was finished" in stopped.err
        assert not (whole / "report.html").exists()
        monkeypatch.setattr(study, "make_run", study_parts.make_run)
        assert run_study(xraysynth, whole, *models).code == 0
        for name in names:
            assert (whole / name).read_bytes() == before[name], name
        assert (whole / "sets/b/set.json").stat().st_mtime_ns == untouched

    def test_an_arm_without_weights_is_left_out(
        self, xraysynth, models, tmp_path, monkeypatch, whole
    ):
        shutil.copytree(whole, tmp_path / "study")
        (tmp_path / "study/tables/of-other-sizes.csv").touch()
        monkeypatch.setattr("XraySynthLib.workflows.ct_generator.SHIPPED", tmp_path)
        outcome = run_study(xraysynth, tmp_path / "study", *models[2:])
        assert outcome.code == 0, outcome.err
        page = (tmp_path / "study" / "report.html").read_text("utf-8")
        assert "Arm c is left out: This version of XraySynth comes without a CT generator" in page
        assert not (tmp_path / "study/tables/of-other-sizes.csv").exists()
        assert "--generator" in page and "--model" not in page
        assert {row["name"] for row in rows_of(tmp_path / "study", "arms")} == {"b", "d1", "d2"}

    def test_a_dry_run_says_what_it_costs(self, xraysynth, models, tmp_path):
        words = ("study", "--output", tmp_path / "study", "--dry-run", "--sizes", 2, 2, *models)
        outcome = xraysynth(*words)
        assert outcome.code == 0 and json.loads(outcome.out)["verb"] == "study"
        assert "sets/c: 6 images of 3 people" in outcome.err and "8 trainings" in outcome.err
        assert "In all about" in outcome.err
        assert not (tmp_path / "study").exists()

    def test_a_dry_run_leaves_out_what_is_done(self, xraysynth, models, whole):
        words = ("study", "--output", whole, "--dry-run", "--workers", 1, *models)
        outcome = xraysynth(*words)
        assert outcome.err.count(": done.") == 6
        assert "In all about 0 minutes on 1 processor of" in outcome.err
        outcome = xraysynth(*words, "--seeds", 2)
        assert "12 trainings of 32 images, 8 of them done: about" in outcome.err

    def test_wrong_options(self, xraysynth, models, tmp_path, failed, whole):
        output = tmp_path / "study"

        def refused(code, words, *options):
            failed(run_study(xraysynth, output, *models, *options), code, words)

        refused(2, "--arms", "--arms", "b", "z")
        refused(2, "--arms needs b", "--arms", "c")
        refused(2, "--arms a learns from real", "--arms", "a", "b")
        refused(2, "--arms e1 needs d1", "--arms", "b", "e1")
        refused(2, "multiple of --people", "--images", 7)
        refused(2, "--people must be 2", "--people", 1)
        refused(2, "--people must be 2", "--people", 0)
        refused(2, "--sizes must be less than 4", "--sizes", 4)
        refused(2, "--images-seen must be 16", "--images-seen", 15)
        refused(2, "--seeds", "--seeds", 0)
        refused(1, "holds no X-ray sampler", "--view-sampler", tmp_path)
        refused(2, "HDF5", "--real", tmp_path / "films.png")
        assert not output.exists()
        other = run_study(xraysynth, whole, *models, "--images-seen", 48)
        failed(other, 2, "images seen is 32")


@pytest.fixture
def deepfluoro(tmp_path) -> Path:
    """Three specimens, two images each, 16 times smaller."""
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "ipcai_2020_ds_16x.h5"
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file["land-names/num-lands"] = np.uint64(14)
        for number, name in enumerate(LANDMARK_NAMES):
            file[f"land-names/land-{number:02d}"] = np.bytes_(name)
        for group in ("01", "02", "03"):
            file[f"{group}/projs"] = rng.random((2, 90, 90), np.float32)
            file[f"{group}/segs"] = np.zeros((2, 90, 90), np.uint8)
            file[f"{group}/lands"] = rng.uniform(5, 85, (2, 2, 14)).astype(np.float32)
    return path


class TestReal:
    def test_one_specimen_is_left_out_in_turn(self, xraysynth, deepfluoro, models, tmp_path):
        output = tmp_path / "study"
        words = ("--arms", "a", "b", "d1", "e2", "--sizes", 2, "--real", deepfluoro)
        outcome = run_study(xraysynth, output, *models, *words)
        assert outcome.code == 0, outcome.err
        specimens = {"17-1882", "18-1109", "18-0725"}
        for arm in ("a", "e2"):
            folds = {path.name: path for path in (output / "runs" / f"{arm}-0").iterdir()}
            assert set(folds) == specimens
            for left_out, fold in folds.items():
                config = json.loads((fold / "model" / "config.json").read_text("utf-8"))
                assert set(config["people"]) & specimens == specimens - {left_out}
                assert ("somebody" in config["people"]) == (arm == "e2")
        page = (output / "report.html").read_text("utf-8")
        assert "Tested on 6 real X-rays of 3 specimens" in page and "Simulation to" not in page
        assert {row["name"] for row in rows_of(output, "arms")} == {"a", "b", "d1", "e2"}

    def test_not_deepfluoro(self, xraysynth, deepfluoro, tmp_path, models, failed):
        import h5py

        with h5py.File(deepfluoro, "a") as file:
            del file["03"]
        words = (*models, "--real", deepfluoro)
        failed(run_study(xraysynth, tmp_path / "study", *words), 2, "2 specimens; 3 are needed")
        with h5py.File(tmp_path / "other.h5", "w") as file:
            file["numbers"] = np.zeros(3)
        words = (*models, "--real", tmp_path / "other.h5")
        failed(run_study(xraysynth, tmp_path / "study", *words), 1, "not DeepFluoro's")


def test_the_small_preset_takes_forty_minutes_at_most(tmp_path):
    plan = study.StudyPlan(
        output=tmp_path, preset=SMALL, seed=0, arms=SMALL.arms, left_out={}, models={}, real=None
    )
    assert sum(cost for _, cost in costs_s(plan)) < 2 * 40 * 60
