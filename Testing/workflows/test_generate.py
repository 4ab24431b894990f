"""`xraysynth generate` from end to end, on a tiny preset."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from XraySynthLib.anatomy.hips import HipPose
from XraySynthLib.anatomy.subject import sample_subject
from XraySynthLib.data.formats import read_landmarks, read_volume
from XraySynthLib.data.pelvis import LANDMARK_NAMES
from XraySynthLib.errors import UsageError
from XraySynthLib.workflows import generate
from XraySynthLib.workflows.conditions import sampled_condition

TINY = ((32, 32, 32), 10.0)


@pytest.fixture(autouse=True)
def a_tiny_preset(monkeypatch):
    monkeypatch.setitem(generate.PRESETS, "compact", TINY)


@pytest.fixture(scope="module")
def two_subjects(in_process, tmp_path_factory):
    folder = tmp_path_factory.mktemp("generated") / "subjects"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(generate.PRESETS, "compact", TINY)
        assert in_process[0]("generate", "--output", folder, "--count", 2, "--workers", 1).code == 0
    return folder


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
    assert list(first) == [
        "ct.nii.gz", "labels.nii.gz", "landmarks.mrk.json", "picture.png", "provenance.json",
    ]  # fmt: skip
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


@pytest.fixture
def subjects(xraysynth, two_subjects, tmp_path):
    """Two subjects, and a function that runs the command that made them again."""
    output = tmp_path / "subjects"
    shutil.copytree(two_subjects, output)

    def again():
        return xraysynth("generate", "--output", output, "--count", 2, "--workers", 1)

    return output, again


def truncate(path):
    os.truncate(path, 100)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("ct.nii.gz", truncate),
        ("ct.nii.gz", flip_a_bit),
        ("labels.nii.gz", os.remove),
        ("landmarks.mrk.json", flip_a_bit),
        ("picture.png", truncate),
    ],
)
def test_what_is_damaged_is_made_again(subjects, name, damage):
    output, again = subjects
    whole = files_of(output / "subject-0001")
    kept = (output / "subject-0000" / "ct.nii.gz").stat().st_mtime_ns
    (output / "subject-0001" / "notes.txt").write_text("mine")
    damage(output / "subject-0001" / name)
    assert again().code == 0
    assert files_of(output / "subject-0001") == {**whole, "notes.txt": b"mine"}
    assert (output / "subject-0000" / "ct.nii.gz").stat().st_mtime_ns == kept
    assert sorted(path.name for path in output.iterdir()) == ["subject-0000", "subject-0001"]


def test_subjects_of_another_version_are_not_mixed_in(subjects, failed):
    output, again = subjects
    path = output / "subject-0000" / "provenance.json"
    provenance = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**provenance, "code_version": "0.0.9"}), "utf-8")
    failed(again(), 2, "made by version 0.0.9")
    del provenance["sha256"]
    path.write_text(json.dumps(provenance), "utf-8")
    failed(again(), 2, "no whole subject")


def test_what_another_run_makes_meanwhile_is_taken(subjects, failed, monkeypatch):
    from XraySynthLib.data import formats

    output, again = subjects
    whole = files_of(output / "subject-0001")
    other = output.with_name("other")
    (output / "subject-0001").rename(other)
    written = formats.write_landmarks

    def meanwhile(landmarks, path):
        shutil.copytree(other, output / "subject-0001")
        written(landmarks, path)

    monkeypatch.setattr(formats, "write_landmarks", meanwhile)
    assert again().code == 0
    assert files_of(output / "subject-0001") == whole
    shutil.rmtree(output / "subject-0001")
    provenance = json.loads((other / "provenance.json").read_text("utf-8"))
    (other / "provenance.json").write_text(json.dumps({**provenance, "seed": [9, 1]}), "utf-8")
    failed(again(), 2, "other options")
    assert sorted(path.name for path in output.iterdir()) == ["subject-0000", "subject-0001"]


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be locked there")
def test_what_killed_runs_left_is_removed(subjects):
    output, again = subjects
    dead, alive, others = (
        output / f".tmp-{name}"
        for name in ("00-subject-0000", "01-subject-0001", "02-subject-0007")
    )
    code = (
        "import pathlib, time\n"
        "from XraySynthLib.workflows.whole_folders import whole_folder\n"
        f"with whole_folder(pathlib.Path({str(output / 'subject-0001')!r})) as folder:\n"
        f"    print(folder.rename({str(alive)!r}), flush=True)\n"
        "    time.sleep(600)\n"
    )
    for folder in (dead, others):
        folder.mkdir()
        (folder / "ct.nii.gz").write_bytes(b"half")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as run:
        assert run.stdout.readline()
        assert again().code == 0
        assert (dead.exists(), alive.exists(), others.exists()) == (False, True, True)
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert again().code == 0
    assert not alive.exists()


def test_a_folder_that_cannot_be_locked_is_a_leftover_when_old(subjects, monkeypatch):
    from XraySynthLib.workflows import whole_folders

    output, again = subjects
    monkeypatch.setattr(whole_folders, "fcntl", None)
    leftover = output / ".tmp-00-subject-0000"
    leftover.mkdir()
    assert again().code == 0 and leftover.exists()
    old = time.time() - 2 * whole_folders.LONG_S
    os.utime(leftover, (old, old))
    assert again().code == 0 and not leftover.exists()


def test_workers_change_no_byte(subjects, xraysynth, tmp_path):
    output, _ = subjects
    words = ("--count", 2, "--workers", 2, "--progress", "json")
    outcome = xraysynth("generate", "--output", tmp_path / "two", *words)
    assert outcome.code == 0, outcome.err
    assert [json.loads(line)["done"] for line in outcome.out.splitlines()[:-1]] == [0, 1, 2]
    for name in ("subject-0000", "subject-0001"):
        assert files_of(tmp_path / "two" / name) == files_of(output / name)


def test_what_is_there_is_not_overwritten(xraysynth, failed, tmp_path):
    assert xraysynth("generate", "--output", tmp_path, "--seed", 1).code == 0
    failed(xraysynth("generate", "--output", tmp_path, "--seed", 2), 2, "other options")
    (tmp_path / "subject-0000" / "provenance.json").unlink()
    failed(xraysynth("generate", "--output", tmp_path, "--seed", 1), 2, "no whole subject")


def test_a_failure_leaves_nothing_behind(xraysynth, failed, tmp_path, monkeypatch):
    def broken(*_):
        raise OSError("The disk is full.")

    monkeypatch.setattr("XraySynthLib.data.formats.write_landmarks", broken)
    failed(xraysynth("generate", "--output", tmp_path), 1, "disk is full")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_with_the_folder(xraysynth, failed, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("XraySynthLib.data.formats.write_labels", full)
    failed(xraysynth("generate", "--output", tmp_path), 1, "subject-0000 cannot be written: the d")


@pytest.mark.parametrize("value", [True, {"a": 1}, [[1]]])
def test_a_config_file_with_a_value_of_another_type(xraysynth, failed, tmp_path, value):
    path = tmp_path / "options.json"
    path.write_text(json.dumps({"output": str(tmp_path / "x"), "count": value}))
    failed(xraysynth("generate", "--config", path), 2, "count")


@pytest.mark.parametrize(
    "words", [("--count", 0), ("--seed", -1), ("--backend", "magic"), ("--workers", -1)]
)
def test_wrong_options(xraysynth, failed, tmp_path, words):
    failed(xraysynth("generate", "--output", tmp_path, *words), 2, words[0])


def a_knob_file(folder, text):
    path = folder / "knobs.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text), "utf-8")
    return path


def test_given_parameters_are_taken_and_belong_to_the_subject(xraysynth, failed, tmp_path):
    output, hip = tmp_path / "subjects", {"flexion_deg": 20, "abduction_deg": 5}
    path = a_knob_file(tmp_path, {"age_years": 75, "left_hip": hip, "implants": ["si-screws"]})
    words = ("generate", "--output", output, "--parameters", path)
    assert xraysynth(*words).code == 0
    found = json.loads((output / "subject-0000" / "provenance.json").read_text("utf-8"))
    parameters = found["config"]["parameters"]
    assert parameters["age_years"] == 75 and parameters["implants"] == ["si-screws"]
    assert parameters["left_hip"] == {**hip, "internal_rotation_deg": 0}
    kept = files_of(output / "subject-0000")
    assert xraysynth(*words).code == 0 and files_of(output / "subject-0000") == kept
    path.write_text('{"age_years": 30}', "utf-8")
    failed(xraysynth(*words), 2, "other options")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ({"age": 75}, "no knob 'age'"),
        ({"age_years": "old"}, "age_years must be a number"),
        ({"fat_mm": float("nan")}, "fat_mm must lie in"),
        ({"left_hip": {"flexion": 3}}, "left_hip has no 'flexion' but flexion_deg, abduction_deg"),
        ({"right_hip": {"flexion_deg": "x"}}, "right_hip: flexion_deg of a hip must be a number"),
        ({"left_hip": {"flexion_deg": 90}}, "left_hip.flexion_deg must lie in"),
        ({"anterior_tilt_deg": 30, "lordosis_deg": 0}, "lean out of the body"),
        ([1], "JSON object"),
        ("{", "knobs.json"),
    ],
)
def test_parameters_that_cannot_be(xraysynth, failed, tmp_path, text, words):
    path = a_knob_file(tmp_path, text)
    failed(xraysynth("generate", "--output", tmp_path / "x", "--parameters", path), 2, words)
    assert not (tmp_path / "x").exists()


def test_parameters_that_are_not_there_or_not_free(xraysynth, failed, tmp_path):
    words = ("generate", "--output", tmp_path / "x", "--parameters")
    failed(xraysynth(*words, tmp_path / "none.json"), 2, "none.json cannot be read: No such file")
    path = a_knob_file(tmp_path, {"shape_scores": [1.0]})
    failed(xraysynth(*words, path, "--people", "held-out"), 2, "leave out shape_scores")


def test_parameters_that_do_not_suit_one_subject():
    """How far a femur may turn depends on the tilt, which is drawn: -4.9 degrees are too few."""
    left = HipPose(flexion_deg=-3, abduction_deg=-15, internal_rotation_deg=-18)
    hips = {"left_hip": left, "right_hip": HipPose(abduction_deg=10)}
    assert sample_subject((0, 0), **hips).parameters.left_hip == left
    with pytest.raises(UsageError, match="do not suit subject 10: left_hip puts the femur"):
        sampled_condition((0, 10), False, TINY, hips)
