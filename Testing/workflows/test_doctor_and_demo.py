"""`xraysynth doctor` and `xraysynth demo`, and the command line around the verbs."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import XraySynthLib
from XraySynthLib import __version__
from XraySynthLib.cli import VERBS, workflow_of
from XraySynthLib.data import Volume
from XraySynthLib.data.formats import read_landmarks, read_sample, write_labels, write_volume
from XraySynthLib.errors import MissingDependencyError
from XraySynthLib.geometry import Intrinsics
from XraySynthLib.workflows import demo
from XraySynthLib.workflows.config import VerbConfig
from XraySynthLib.workflows.demo import vertebra_centers


class TestCommandLine:
    def test_without_a_verb_it_says_what_there_is(self, xraysynth):
        assert xraysynth().code == 2
        outcome = xraysynth("--help")
        assert outcome.code == 0 and outcome.err == ""
        assert all(verb in outcome.out for verb in VERBS)

    def test_version(self, xraysynth):
        assert xraysynth("--version").out == f"{__version__}\n"

    def test_an_unknown_verb(self, xraysynth, failed):
        failed(xraysynth("projekt"), 2, "no verb 'projekt'")

    @pytest.mark.parametrize("verb", VERBS)
    def test_help_of_every_verb_names_every_option(self, xraysynth, verb):
        outcome = xraysynth(*verb.split(), "--help")
        assert outcome.code == 0 and outcome.err == ""
        config_class = getattr(import_module(workflow_of(verb)), VERBS[verb][0])
        assert issubclass(config_class, VerbConfig)
        for option in fields(config_class):
            assert f"--{option.name.replace('_', '-')}" in outcome.out
        assert "Attributes:" not in outcome.out

    def test_as_a_process(self, tmp_path):
        words = ("project", "--ct", "nowhere", "--output", "out")
        done = subprocess.run(
            [sys.executable, "-m", "XraySynthLib", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(XraySynthLib.__file__).parents[1])},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "xraysynth: nowhere does not exist.\n"


class TestDoctor:
    def test_it_reports_packages_engines_and_data(self, xraysynth):
        outcome = xraysynth("doctor")
        assert outcome.code == 0 and outcome.err == ""
        found = dict(line.split(maxsplit=1) for line in outcome.out.splitlines())
        assert found["xraysynth"] == __version__ and "numpy" in found
        assert "engine numba     works\n" in outcome.out
        assert "engine torch" in outcome.out and "engine deepdrr" in outcome.out
        assert "demo data" in outcome.out and "wrong" not in outcome.out

    def test_deepdrr_needs_a_yes_to_its_licence(self, xraysynth, failed):
        failed(xraysynth("doctor", "--install-deepdrr"), 2, "--accept-licence GPL-3.0")
        words = ("doctor", "--install-deepdrr", "--accept-licence", "MIT", "--dry-run")
        failed(xraysynth(*words), 2, "--accept-licence GPL-3.0")

    def test_a_dry_run_prints_its_options(self, xraysynth):
        outcome = xraysynth("doctor", "--dry-run")
        assert json.loads(outcome.out)["verb"] == "doctor"


@pytest.fixture
def a_chest(tmp_path, monkeypatch):
    """Two whole vertebrae and one cut by the scan's end, where the demo looks for its chest CT."""
    folder = tmp_path / "data"
    folder.mkdir()
    values = np.full((24, 22, 20), -1000, np.float32)
    values[:, 4:18, 3:17] = 40
    labels = np.zeros(values.shape, np.uint8)
    for label, rows in ((5, slice(0, 4)), (6, slice(6, 11)), (7, slice(14, 19))):
        values[rows, 6:10, 8:12], labels[rows, 6:10, 8:12] = 600, label
    labels[6:10, 14:16, 3:6] = 9
    ras_from_ijk = np.diag([-8.0, 8.0, 8.0, 1.0])
    write_volume(Volume(values, ras_from_ijk), folder / "cxr.nii.gz")
    write_labels(labels, ras_from_ijk, folder / "mask.nii.gz")
    with (folder / "structures.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "structure"])
        table.writerows(
            [[5, "vertebrae_L1"], [6, "vertebrae_T12"], [7, "vertebrae_T11"], [9, "rib"]]
        )
    monkeypatch.setattr(demo, "chest_ct_folder", lambda: folder)
    small = Intrinsics(demo.INTRINSICS.source_to_detector_mm, (8.0, 8.0), (50, 50))
    monkeypatch.setattr(demo, "INTRINSICS", small)
    monkeypatch.setattr(demo, "SUBJECT_GRID", ((40, 26, 42), 9.0))
    # Testing/slicer/test_demo_scene.py has the networks.
    monkeypatch.setattr(demo, "_sampled", lambda config: [])
    monkeypatch.setattr(demo, "_detected", lambda samples, path: {})
    return folder


class TestDemo:
    def test_vertebrae_are_those_named_so_and_whole(self):
        labels = np.zeros((9, 4, 4), np.uint8)
        labels[0:2], labels[3:6, 1:3, 0:2], labels[7] = 1, 2, 3
        volume = Volume(labels * 10.0, np.diag([2.0, 3.0, 4.0, 1.0]), labels)
        found = vertebra_centers(volume, {1: "vertebrae_L1", 2: "vertebrae_T12", 3: "rib_left_1"})
        assert found.names == ("T12",)
        np.testing.assert_allclose(found.points_ras_mm, [[1.0, 4.5, 16.0]])

    def test_everything_is_written(self, xraysynth, a_chest, tmp_path):
        output = tmp_path / "demo"
        outcome = xraysynth("demo", "--output", output, "--progress", "json", "--seed", 4)
        assert (outcome.code, outcome.err) == (0, "")
        lines = [json.loads(line) for line in outcome.out.splitlines()]
        assert (
            lines[-2] == {"stage": "demo", "done": 18, "total": 18, "eta_s": 0} and len(lines) == 20
        )
        assert (output / "contact-sheet.png").stat().st_size > 10_000
        report = (output / "report.html").read_text("utf-8")
        assert "2 of 2" in report and "contact-sheet.png" in report and "not for clinical" in report
        assert read_landmarks(output / "vertebrae.mrk.json").names == ("T12", "T11")
        folders = sorted(path.parent.name for path in output.glob("*/sample.json"))
        assert folders == sorted(
            [f"{name}-{p}" for name, *_ in demo.VIEWS for p in ("full", "plain")]
            + [f"subject-000{n}-{name}" for n in (0, 1) for name in demo.SUBJECT_VIEWS]
        )
        for folder in folders:
            sample = read_sample(output / folder)
            assert sample.xray.values.std() > 0.1 and sample.landmarks.visible.mean() > 0.5
            assert sample.provenance.seed[0] == 4
            assert (output / folder / "carm.h5").exists() and (
                output / folder / "xray.png"
            ).exists()

    def test_without_the_networks_packages_it_says_what_it_leaves_out(
        self, xraysynth, a_chest, tmp_path, monkeypatch
    ):
        def missing(config):
            raise MissingDependencyError("Sampling needs the package 'torch'.")

        monkeypatch.setattr(demo, "_sampled", missing)
        outcome = xraysynth("demo", "--output", tmp_path / "demo", "--progress", "auto")
        assert outcome.code == 0 and (tmp_path / "demo" / "report.html").is_file()
        assert "Left out: the networks' images and landmarks. Sampling needs" in outcome.err
        assert "networks.png" not in (tmp_path / "demo" / "report.html").read_text()

    def test_the_transform_beside_a_sample_makes_its_image_again(
        self, xraysynth, a_chest, tmp_path
    ):
        assert xraysynth("demo", "--output", tmp_path / "demo").code == 0
        for name in ("lao-30-plain", "rao-30-caudal-20-plain"):
            view = ("--source-to-isocenter-mm", 785, "--source-to-detector-mm", 1200)
            detector = ("--shape-px", 50, 50, "--pixel-spacing-mm", 8, 8)
            words = (
                "--ct",
                a_chest / "cxr.nii.gz",
                "--transform",
                tmp_path / "demo" / name / "carm.h5",
            )
            outcome = xraysynth("project", *words, *view, *detector, "--output", tmp_path / "again")
            assert outcome.code == 0, outcome.err
            again, first = (
                read_sample(p).xray.values for p in (tmp_path / "again", tmp_path / "demo" / name)
            )
            np.testing.assert_allclose(again, first, atol=1e-4)

    def test_without_the_data_it_says_how_to_get_them(
        self, xraysynth, failed, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(demo, "DATA_PACKAGE", "a-package-that-nobody-has")
        failed(xraysynth("demo", "--output", tmp_path / "demo"), 1, "pip install")
        assert not (tmp_path / "demo").exists()

    def test_a_failure_leaves_no_report(self, xraysynth, failed, a_chest, tmp_path, monkeypatch):
        assert xraysynth("demo", "--output", tmp_path / "demo").code == 0
        (a_chest / "mask.nii.gz").write_bytes(b"damaged")
        failed(xraysynth("demo", "--output", tmp_path / "demo"), 1, "mask.nii.gz")
        assert not (tmp_path / "demo" / "report.html").exists()

    def test_an_output_that_is_a_file(self, xraysynth, failed, a_chest):
        failed(xraysynth("demo", "--output", a_chest / "cxr.nii.gz"), 2, "name a folder")

    @pytest.mark.slow
    def test_the_real_chest(self, xraysynth, tmp_path):
        try:
            demo.chest_ct_folder()
        except MissingDependencyError as error:
            pytest.skip(str(error))
        outcome = xraysynth("demo", "--output", tmp_path / "demo")
        assert outcome.code == 0, outcome.err
        ap = read_sample(tmp_path / "demo" / "ap-plain")
        assert ap.landmarks.names[0].startswith(("T", "L")) and ap.landmarks.visible.sum() > 3
        t_rows = ap.landmarks.points_px[:, 1]
        assert np.all(np.diff(t_rows) > 0) or np.all(np.diff(t_rows) < 0)
