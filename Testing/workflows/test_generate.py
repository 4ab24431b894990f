"""`xraysynth generate` from end to end, on a tiny preset."""

import json

import numpy as np
import pytest

from XraySynthLib.data.formats import read_landmarks, read_volume
from XraySynthLib.data.pelvis import LANDMARK_NAMES
from XraySynthLib.workflows import generate


@pytest.fixture(autouse=True)
def a_tiny_preset(monkeypatch):
    monkeypatch.setitem(generate.PRESETS, "compact", ((32, 32, 32), 10.0))


def files_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_subjects_are_written_whole_and_made_again_only_where_missing(xraysynth, tmp_path):
    output = tmp_path / "subjects"
    words = ("generate", "--output", output, "--count", 2, "--seed", 3, "--progress", "json")
    outcome = xraysynth(*words)
    assert (outcome.code, outcome.err) == (0, "")
    last = {"stage": "generate", "done": 2, "total": 2, "eta_s": 0}
    assert json.loads(outcome.out.splitlines()[-2]) == last
    folders = sorted(path.name for path in output.iterdir())
    assert folders == ["subject-0000", "subject-0001"]
    first, second = (files_of(output / name) for name in folders)
    names = ["ct.nii.gz", "labels.nii.gz", "landmarks.mrk.json", "provenance.json"]
    assert list(first) == names
    assert first["ct.nii.gz"] != second["ct.nii.gz"]
    volume = read_volume(output / folders[0] / "ct.nii.gz", output / folders[0] / "labels.nii.gz")
    assert {1, 2, 3, 4, 5, 6} <= set(np.unique(volume.labels).tolist())
    assert read_landmarks(output / folders[0] / "landmarks.mrk.json").names == LANDMARK_NAMES
    provenance = json.loads(first["provenance.json"])
    assert provenance["seed"] == [3, 0] and provenance["subject"] == "rendered-3-0000"
    assert len(provenance["config"]["parameters"]["shape_scores"]) == 19

    for path in (output / "subject-0001").iterdir():
        path.unlink()
    (output / "subject-0001").rmdir()
    kept = (output / "subject-0000" / "ct.nii.gz").stat().st_mtime_ns
    assert xraysynth(*words).code == 0
    assert (output / "subject-0000" / "ct.nii.gz").stat().st_mtime_ns == kept
    assert files_of(output / "subject-0001") == second


def test_a_dry_run_writes_nothing(xraysynth, tmp_path):
    outcome = xraysynth("generate", "--output", tmp_path / "x", "--dry-run")
    assert outcome.code == 0 and json.loads(outcome.out)["backend"] == "rendered"
    assert not (tmp_path / "x").exists()


def test_what_is_there_is_not_overwritten(xraysynth, failed, tmp_path):
    assert xraysynth("generate", "--output", tmp_path, "--seed", 1).code == 0
    failed(xraysynth("generate", "--output", tmp_path, "--seed", 2), 2, "other options")
    (tmp_path / "subject-0000" / "provenance.json").unlink()
    failed(xraysynth("generate", "--output", tmp_path, "--seed", 1), 2, "no subject")


def test_a_failure_leaves_nothing_behind(xraysynth, failed, tmp_path, monkeypatch):
    def broken(*_):
        raise OSError("The disk is full.")

    monkeypatch.setattr("XraySynthLib.data.formats.write_landmarks", broken)
    failed(xraysynth("generate", "--output", tmp_path), 1, "disk is full")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [("--count", 0), ("--seed", -1), ("--backend", "magic")])
def test_wrong_options(xraysynth, failed, tmp_path, words):
    failed(xraysynth("generate", "--output", tmp_path, *words), 2, words[0])
