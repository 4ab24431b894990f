"""A set is whole, the same for any workers, and survives what happens to long runs."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from XraySynthLib.data import LandmarkSet
from XraySynthLib.data.formats import read_landmarks, write_landmarks
from XraySynthLib.data.sets import (
    SetDescription,
    open_set,
    persons_of,
    split_by_subject,
)
from XraySynthLib.data.sets.parts import parts_of
from XraySynthLib.errors import UnreadableFileError
from XraySynthLib.workflows.subjects import SubjectFolder

OPTIONS = (
    "--views", 4, "--format", "webdataset", "--part-size", 2, "--seed", 3,
    "--shape-px", 40, 48, "--pixel-spacing-mm", 5, 5, "--label-values", 3, 7,
)  # fmt: skip


@pytest.fixture(scope="module")
def subjects(tmp_path_factory, write_subject) -> Path:
    folder = tmp_path_factory.mktemp("subjects")
    for name in ("anna", "ben", "carl"):
        write_subject(folder / name)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory, in_process, subjects) -> Path:
    """A set of 12 images in 6 parts, made by one process."""
    folder = tmp_path_factory.mktemp("set") / "whole"
    outcome = export(in_process[0], subjects, folder, "--workers", 1)
    assert outcome.code == 0, outcome.err
    return folder


@pytest.fixture
def people(tmp_path, subjects):
    """`people({"anna": ["p1"], ...})`: the subjects, and the people behind each."""

    def write(derived_from):
        shutil.copytree(subjects, tmp_path / "subjects")
        for name, behind in derived_from.items():
            text = json.dumps({"subject": name, "config": {"derived_from": behind}})
            (tmp_path / "subjects" / name / "provenance.json").write_text(text)
        return tmp_path / "subjects"

    return write


@pytest.fixture
def copied(tmp_path, subjects, whole):
    """Copies of the subjects and of the whole set made from them."""
    for source, name in ((subjects, "subjects"), (whole, "set")):
        shutil.copytree(source, tmp_path / name)
    return tmp_path / "subjects", tmp_path / "set"


def export(xraysynth, subjects, folder, *words):
    return xraysynth("export", "--subjects", subjects, "--output", folder, *OPTIONS, *words)


def move_landmarks(path: Path) -> None:
    points = read_landmarks(path)
    write_landmarks(LandmarkSet(points.names, points.points_ras_mm + 1), path)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class TestSet:
    def test_what_it_holds(self, whole):
        samples = open_set(whole)
        assert len(samples) == 12
        assert {s.xray.values.shape for s in samples} == {(40, 48)}
        assert [s.provenance.seed for s in sorted(samples, key=lambda s: s.provenance.seed)] == [
            (3, item) for item in range(12)
        ]
        assert all(set(s.masks) == {"vertebrae", "label 7"} for s in samples)
        assert len({s.key for s in samples}) == 12

    def test_splits_are_by_subject(self, whole):
        who = {split: {s.provenance.subject for s in open_set(whole, split)}
               for split in ("train", "val", "test")}  # fmt: skip
        assert sorted(map(len, who.values())) == [1, 1, 1]
        assert set.union(*who.values()) == {"anna", "ben", "carl"}

    def test_a_record_makes_its_image_again(self, whole, subjects):
        from XraySynthLib.drr import Acquisition, acquire, materials_from_hu, to_line_integral
        from XraySynthLib.workflows.subjects import find_subjects

        sample = open_set(whole)[5]
        acquisition = Acquisition.from_dict(sample.provenance.config["acquisition"])
        assert acquisition.view.to_dict() == sample.xray.view.to_dict()
        folders = {subject.name: subject for subject in find_subjects(subjects)}
        volume, landmarks = folders[sample.provenance.subject].read()
        again = to_line_integral(acquire(materials_from_hu(volume).cropped(), acquisition))
        np.testing.assert_allclose(again.values, sample.xray.values, rtol=1 / 2000)
        points_px = acquisition.view.project(landmarks.points_ras_mm)
        np.testing.assert_allclose(points_px[0], sample.landmarks.points_px[0], atol=0.01)

    def test_the_landmark_is_on_the_brightest_pixel(self, xraysynth, subjects, tmp_path):
        outcome = export(
            xraysynth, subjects, tmp_path / "set", "--kvp", 120, "--collimated-share", 0,
            "--isocenter-offset-mm", -5, 5, "--shape-px", 160, 192, "--pixel-spacing-mm", 1.2, 1.2,
        )  # fmt: skip
        assert outcome.code == 0, outcome.err
        for sample in open_set(tmp_path / "set"):
            at = dict(zip(sample.landmarks.names, sample.landmarks.points_px, strict=True))
            rows, columns = np.nonzero(sample.masks["label 7"])
            centre = np.array([columns.mean(), rows.mean()])
            assert np.hypot(*(centre - at["bright"])) < 1, sample.key
            masked = np.where(sample.masks["label 7"], sample.xray.values, 0)
            row, column = np.unravel_index(masked.argmax(), masked.shape)
            assert np.hypot(*(np.array([column, row]) - at["bright"])) < 8, sample.key

    def test_what_the_collimator_hides_is_not_visible(self, xraysynth, subjects, tmp_path):
        outcome = export(
            xraysynth, subjects, tmp_path / "set", "--collimated-share", 1, "--views", 30,
            "--isocenter-offset-mm", -60, 60, "--part-size", 30,
        )  # fmt: skip
        assert outcome.code == 0, outcome.err
        hidden = seen = 0
        for sample in open_set(tmp_path / "set"):
            column, row = np.round(sample.landmarks.points_px[0]).astype(int)
            if not (0 <= column < 48 and 0 <= row < 40):
                continue
            behind = sample.xray.values[row, column] > 5.5  # leakage is a thousandth
            hidden, seen = hidden + (not sample.landmarks.visible[0]), seen + 1
            assert not (behind and sample.landmarks.visible[0]), sample.key
            assert not (sample.masks["label 7"][row, column] and not sample.landmarks.visible[0])
        assert 0 < hidden < seen

    def test_a_folder_that_is_one_subject(self, xraysynth, subjects, tmp_path):
        assert export(xraysynth, subjects / "anna", tmp_path / "set").code == 0
        assert {s.provenance.subject for s in open_set(tmp_path / "set", "train")} == {"anna"}


class TestAgain:
    def test_two_processes_make_the_same_bytes(self, whole, xraysynth, subjects, tmp_path):
        assert export(xraysynth, subjects, tmp_path / "two", "--workers", 2).code == 0
        assert contents(tmp_path / "two") == contents(whole)

    def test_a_whole_set_is_left_alone(self, whole, xraysynth, subjects):
        before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
        assert export(xraysynth, subjects, whole).code == 0
        assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before

    def test_only_what_is_missing_is_made(self, whole, xraysynth, subjects, tmp_path, monkeypatch):
        from XraySynthLib.workflows import export as workflow

        shutil.copytree(whole, tmp_path / "set")
        (tmp_path / "set/set.json").rename(tmp_path / "set/unfinished.json")
        (tmp_path / "set/parts/000004.json").unlink()
        made = []
        make_part = workflow.make_part

        def noting(*words):
            made.append(words[-1][0].index)
            make_part(*words)

        monkeypatch.setattr(workflow, "make_part", noting)
        assert export(xraysynth, subjects, tmp_path / "set", "--workers", 1).code == 0
        assert made == [4]
        assert contents(tmp_path / "set") == contents(whole)

    @pytest.mark.parametrize(
        "name", ["train-000001.tar", "parts/000003.json", "set.json", "index.html"]
    )
    @pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
    def test_verify_finds_damage_and_mends_it(
        self, name, damage, whole, xraysynth, subjects, tmp_path
    ):
        shutil.copytree(whole, tmp_path / "set")
        path = tmp_path / "set" / name
        data = bytearray(path.read_bytes())
        if damage == "flip":
            data[len(data) // 2] ^= 4
        path.write_bytes(data[: len(data) // 2] if damage == "truncate" else data)
        if damage == "remove":
            path.unlink()
        outcome = export(xraysynth, subjects, tmp_path / "set", "--verify", "--workers", 1)
        assert outcome.code == 0, outcome.err
        assert outcome.out.endswith(f" files; 1 damaged or missing, made again: {name}.\n")
        assert contents(tmp_path / "set") == contents(whole)

    @pytest.mark.parametrize("name", ["train-000001.tar", "parts/000003.json"])
    def test_a_lost_file_is_made_again(self, name, copied, whole, xraysynth):
        subjects, folder = copied
        (folder / name).unlink()
        assert export(xraysynth, subjects, folder, "--workers", 1).code == 0
        assert contents(folder) == contents(whole)

    @pytest.mark.parametrize("words", [(), ("--verify",)])
    def test_an_altered_plan_is_made_again(self, words, copied, whole, xraysynth):
        subjects, folder = copied
        path = folder / "set.json"
        altered = path.read_text().replace('"seed": 3', '"seed": 4')
        assert altered != path.read_text()
        path.write_text(altered)
        assert export(xraysynth, subjects, folder, "--workers", 1, *words).code == 0
        assert contents(folder) == contents(whole)

    def test_verify_finds_nothing(self, whole, xraysynth, subjects):
        before = contents(whole)
        outcome = export(xraysynth, subjects, whole, "--verify")
        assert outcome.out == "Checked 16 files, none is damaged.\n"
        assert contents(whole) == before

    def test_verify_of_what_is_not_there_yet(self, xraysynth, subjects, tmp_path):
        words = ("--views", 1, "--workers", 1, "--verify")
        outcome = export(xraysynth, subjects, tmp_path / "set", *words)
        assert outcome.out == "Checked 0 files, none is damaged.\n"
        assert len(open_set(tmp_path / "set")) == 3

    def test_a_lost_report_is_made_again(self, copied, whole, xraysynth):
        subjects, folder = copied
        (folder / "index.html").unlink()
        assert export(xraysynth, subjects, folder).code == 0
        assert contents(folder) == contents(whole)

    @pytest.mark.parametrize("layout", ["coco", "deepfluoro"])
    def test_a_lost_plan(self, layout, xraysynth, subjects, tmp_path):
        """Also where fragments stay beside the parts' records, or are gone."""
        words = ("--views", 1, "--format", layout, "--workers", 1, "--label-values", 3)
        folder = tmp_path / "set"
        assert export(xraysynth, subjects / "anna", folder, *words).code == 0
        before = contents(folder)
        (folder / "set.json").unlink()
        assert export(xraysynth, subjects / "anna", folder, *words).code == 0
        assert contents(folder) == before

    def test_a_lost_plan_of_another_set(self, copied, xraysynth, failed):
        subjects, folder = copied
        (folder / "set.json").unlink()
        failed(export(xraysynth, subjects, folder, "--kvp", 70), 2, "other files or options")
        failed(export(xraysynth, subjects, folder, "--views", 2), 2, "holds no set")

    @pytest.mark.parametrize("words", [(), ("--verify",)])
    def test_a_subject_that_changed(self, words, copied, xraysynth, failed):
        subjects, folder = copied
        move_landmarks(subjects / "ben/points.mrk.json")
        (folder / "train-000001.tar").unlink()
        (folder / "parts/000003.json").unlink()
        before = contents(folder)
        failed(export(xraysynth, subjects, folder, *words), 2, "images of ben that were made from")
        (folder / "set.json").rename(folder / "unfinished.json")
        failed(export(xraysynth, subjects, folder, *words), 2, "images of ben that were made from")
        (folder / "unfinished.json").rename(folder / "set.json")
        assert contents(folder) == before

    def test_verify_looks_at_old_files_of_subjects_too(
        self, copied, xraysynth, failed, monkeypatch
    ):
        subjects, folder = copied
        move_landmarks(subjects / "ben/points.mrk.json")
        monkeypatch.setattr(SubjectFolder, "changed_ns", lambda subject: 0)
        assert export(xraysynth, subjects, folder).code == 0
        failed(export(xraysynth, subjects, folder, "--verify"), 2, "images of ben")

    def test_a_whole_set_is_cheap(self, copied, xraysynth, monkeypatch):
        """Subjects are hashed by --verify only, once each, and where a file was written since."""
        subjects, folder = copied
        hashed = []
        digest = SubjectFolder.digest
        monkeypatch.setattr(
            SubjectFolder, "digest", lambda subject: hashed.append(subject.name) or digest(subject)
        )
        for path in (folder / "parts").iterdir():  # as long after the subjects' as in real sets
            os.utime(path, (time.time() + 60, time.time() + 60))
        assert export(xraysynth, subjects, folder).code == 0
        assert hashed == []
        assert export(xraysynth, subjects, folder, "--verify").code == 0
        assert hashed == ["anna", "ben", "carl"]

    def test_a_subject_that_changes_meanwhile(
        self, xraysynth, people, tmp_path, failed, monkeypatch
    ):
        from XraySynthLib.workflows import export as workflow

        subjects = people({})
        make_part = workflow.make_part

        def changing(*words):
            make_part(*words)
            if words[-1][0].index == 2:
                move_landmarks(subjects / "ben/points.mrk.json")

        monkeypatch.setattr(workflow, "make_part", changing)
        outcome = export(xraysynth, subjects, tmp_path / "set", "--workers", 1)
        failed(outcome, 1, "files of ben have changed")
        assert not (tmp_path / "set/set.json").exists()

    def test_an_interrupt_leaves_no_temporary_file(
        self, xraysynth, subjects, tmp_path, monkeypatch
    ):
        from XraySynthLib.workflows import export as workflow

        def interrupted(folder, *words):
            (folder / ".tmp-0123456789ab-train-000000.tar").write_bytes(b"half")
            (folder / "parts/.tmp-0123456789ab").mkdir()
            raise KeyboardInterrupt

        monkeypatch.setattr(workflow, "make_part", interrupted)
        assert export(xraysynth, subjects, tmp_path / "set", "--workers", 1).code == 1
        assert (tmp_path / "set/unfinished.json").exists()
        assert not [*(tmp_path / "set").rglob(".tmp-*")]

    def test_killed_and_run_again(self, whole, subjects, tmp_path):
        words = [*map(str, ("--subjects", subjects, "--output", tmp_path / "set", *OPTIONS))]
        command = [sys.executable, "-m", "XraySynthLib", "export", *words, "--workers", "2"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(command, start_new_session=True, env=environment)
        deadline = time.monotonic() + 120
        while not [*tmp_path.glob("set/parts/*.json")] and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "set/set.json").exists()
        with pytest.raises(UnreadableFileError, match="not whole"):
            [*open_set(tmp_path / "set")]
        (tmp_path / "set/.tmp-0123456789ab-train-000000.tar").write_bytes(b"half")
        assert subprocess.run(command, env=environment, capture_output=True).returncode == 0
        assert contents(tmp_path / "set") == contents(whole)

    def test_a_dask_worker_dies(self, whole, xraysynth, subjects, tmp_path):
        distributed = pytest.importorskip("distributed")
        with distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster:
            killed = threading.Thread(target=self.kill_one, args=(cluster, tmp_path / "set"))
            killed.start()
            outcome = export(
                xraysynth, subjects, tmp_path / "set", "--scheduler", cluster.scheduler_address
            )
            killed.join()
        assert outcome.code == 0, outcome.err
        assert contents(tmp_path / "set") == contents(whole)

    @staticmethod
    def kill_one(cluster, folder):
        while not [*folder.glob("parts/*.json")]:
            time.sleep(0.005)
        os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)


class TestRefusals:
    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (("--views", 0), "--views"),
            (("--workers", -1), "--workers"),
            (("--views", 200_000_000), "at most"),
            (("--primary-deg", 20, -20), "primary_deg"),
            (("--split", 0.5, 0.5, -1), "--split"),
            (("--split", 0, 0, 0), "--split"),
            (("--no-masks",), "--label-values"),
            (("--shape-px", 40, 0), "shape_px"),
            (("--kvp", 91), "91 kVp"),
            (("--collimated-share", 2), "collimated_share"),
            (("--detail", "nan"), "--detail must be 0 or more, got nan"),
            (("--detail", -1), "--detail must be 0 or more, got -1"),
            (("--aim-offset-mm", "nan", 0, 0), "--aim-offset-mm must be"),
            (("--isocenter-offset-mm", 1e9, 1e9), "--isocenter-offset-mm must be at most 1000 mm"),
            (("--source-to-isocenter-mm", 2000, 2100), "--source-to-isocenter-mm goes to 2100"),
            (("--source-to-detector-mm", 100), "less than --source-to-detector-mm, 100"),
            (("--format", "coco", "--quantity", "transmission"), "coco"),
        ],
    )
    def test_options(self, words, says, xraysynth, subjects, tmp_path, failed):
        failed(export(xraysynth, subjects, tmp_path / "set", *words), 2, says)
        assert not (tmp_path / "set").exists()

    def test_dry_run_writes_nothing(self, xraysynth, subjects, tmp_path):
        outcome = export(xraysynth, subjects, tmp_path / "set", "--dry-run")
        assert outcome.code == 0 and json.loads(outcome.out)["views"] == 4
        said = "12 images in 6 parts; subjects: 1 train, 1 val, 1 test."
        assert outcome.err == f"xraysynth: {said}\n"
        assert not (tmp_path / "set").exists()

    def test_an_empty_list_in_a_config_file(self, xraysynth, subjects, tmp_path):
        options = {"subjects": str(subjects), "views": 1, "format": "coco", "label_values": []}
        (tmp_path / "export.json").write_text(json.dumps(options))
        words = ("--config", tmp_path / "export.json", "--output", tmp_path / "set", "--dry-run")
        assert json.loads(xraysynth("export", *words).out)["label_values"] == []

    def test_other_options(self, whole, xraysynth, subjects, failed):
        failed(export(xraysynth, subjects, whole, "--seed", 4), 2, "it differs in subjects, seed;")
        failed(export(xraysynth, subjects, whole, "--kvp", 70), 2, "it differs in kvp;")
        failed(export(xraysynth, subjects, whole, "--views", 5), 2, "in images per subject;")
        failed(export(xraysynth, subjects / "anna", whole), 2, "subjects")

    def test_a_folder_of_something_else(self, xraysynth, subjects, tmp_path, failed):
        (tmp_path / "thesis.txt").write_text("precious")
        failed(export(xraysynth, subjects, tmp_path), 2, "not empty")

    def test_no_subjects(self, xraysynth, tmp_path, failed):
        failed(export(xraysynth, tmp_path / "nowhere", tmp_path / "set"), 1, "no folder")
        (tmp_path / "empty").mkdir()
        failed(export(xraysynth, tmp_path / "empty", tmp_path / "set"), 1, "No subject")

    def test_subjects_with_other_landmarks(self, xraysynth, subjects, tmp_path, failed):
        shutil.copytree(subjects, tmp_path / "subjects")
        path = tmp_path / "subjects/ben/points.mrk.json"
        path.write_text(path.read_text().replace("far", "near"))
        failed(export(xraysynth, tmp_path / "subjects", tmp_path / "set"), 2, "far, near")

    def test_two_subjects_of_one_name(self, xraysynth, subjects, tmp_path, failed):
        shutil.copytree(subjects, tmp_path / "subjects")
        for name in ("anna", "ben"):
            text = json.dumps({"subject": "somebody", "config": {}})
            (tmp_path / "subjects" / name / "provenance.json").write_text(text)
        failed(export(xraysynth, tmp_path / "subjects", tmp_path / "set"), 1, "somebody")

    def test_a_full_disk(self, xraysynth, subjects, tmp_path, failed, monkeypatch):
        from XraySynthLib.workflows import export_images as workflow

        def full(*words):
            raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "set/a.tar"))

        monkeypatch.setattr(workflow, "write_part_record", full)
        outcome = export(xraysynth, subjects, tmp_path / "set", "--workers", 1)
        failed(outcome, 1, "No space left on device")
        assert not (tmp_path / "set/set.json").exists()
        leftover = tmp_path / "set/parts/.tmp-0123456789ab-000000.json"
        leftover.write_bytes(b"half")
        assert export(xraysynth, subjects, tmp_path / "set", "--workers", 1).code == 1
        assert not leftover.exists()
        monkeypatch.undo()
        assert export(xraysynth, subjects, tmp_path / "set", "--workers", 1).code == 0

    def test_no_scheduler(self, xraysynth, subjects, tmp_path, failed, monkeypatch):
        pytest.importorskip("distributed")
        from XraySynthLib.workflows import workers

        monkeypatch.setattr(workers, "CONNECT_S", 1)
        outcome = export(xraysynth, subjects, tmp_path / "set", "--scheduler", "tcp://127.0.0.1:9")
        failed(outcome, 1, "scheduler")

    def test_explicit_splits(self, xraysynth, subjects, tmp_path, failed):
        splits = tmp_path / "splits.json"

        def refused(text, says):
            splits.write_text(text)
            outcome = export(xraysynth, subjects, tmp_path / "set", "--split-file", splits)
            failed(outcome, 1, says)

        refused('{"anna": "train", "ben": "exam", "carl": "test"}', "must hold")
        refused('{"anna": "train", "ben": "val"}', "does not name carl")
        everybody = {"anna": "train", "ben": "val", "carl": "test"}
        refused(json.dumps({**everybody, "dora": "test"}), "names dora")
        refused('{"anna": "train", "ben": "val", "carl": "test", "anna": "val"}', "anna twice")
        splits.write_text(json.dumps(everybody))
        words = ("--split-file", splits, "--split", 1, 1, 1)
        failed(export(xraysynth, subjects, tmp_path / "set", *words), 2, "not by both")

    def test_one_person_on_both_sides(self, xraysynth, people, tmp_path, failed):
        subjects = people({"anna": ["p1"], "ben": ["p1"], "carl": []})
        splits = tmp_path / "splits.json"
        splits.write_text(json.dumps({"anna": "train", "ben": "test", "carl": "val"}))
        outcome = export(xraysynth, subjects, tmp_path / "set", "--split-file", splits)
        failed(outcome, 1, "anna (train) and ben (test) come of one person")
        outcome = export(xraysynth, subjects, tmp_path / "set", "--split", 1, 1, 1)
        failed(outcome, 2, "3 subjects of 2 people")

    def test_a_second_export_meanwhile(self, xraysynth, subjects, tmp_path, failed):
        from XraySynthLib.workflows.export_folder import locked

        (tmp_path / "set").mkdir()
        with locked(tmp_path / "set"):
            failed(export(xraysynth, subjects, tmp_path / "set"), 1, "Another export")
        assert not [*(tmp_path / "set").iterdir()]

    def test_device(self, xraysynth, subjects, tmp_path, failed):
        failed(export(xraysynth, subjects, tmp_path / "set", "--device", "cpu"), 2, "--device")


class TestProgress:
    def test_json_lines_count_images(self, xraysynth, subjects, tmp_path):
        outcome = export(
            xraysynth, subjects, tmp_path / "set", "--progress", "json", "--workers", 1
        )
        lines = [json.loads(line) for line in outcome.out.splitlines()]
        made = [line["done"] for line in lines if line.get("stage") == "export"]
        assert made == [*range(13)]
        assert {"assemble", "report"} <= {line.get("stage") for line in lines}
        assert lines[-1] == {"result": str(tmp_path / "set")}


class TestSplits:
    def test_literal(self):
        names = [f"s{n}" for n in range(10)]
        split = split_by_subject(dict.fromkeys(names, ()), (0.8, 0.1, 0.1), 0)
        assert [*split] == [*split_by_subject(dict.fromkeys(names, ()), (8, 1, 1), 0)]
        counts = {name: [*split.values()].count(name) for name in ("train", "val", "test")}
        assert counts == {"train": 8, "val": 1, "test": 1}
        assert split_by_subject(dict.fromkeys(names, ()), (0.8, 0.1, 0.1), 1) != split

    @pytest.mark.parametrize("n_subjects", range(3, 40))
    def test_every_share_gets_somebody(self, n_subjects):
        names = [f"s{n}" for n in range(n_subjects)]
        split = split_by_subject(dict.fromkeys(names, ()), (0.98, 0.01, 0.01), 2)
        assert set(split) == set(names) and set(split.values()) == {"train", "val", "test"}

    def test_parts_literal(self):
        parts = parts_of([("a", "train"), ("b", "test"), ("c", "train")], 5, 3)
        assert [(p.subject, p.index_in_split, p.first, p.count) for p in parts] == [
            ("a", 0, 0, 3), ("a", 1, 3, 2), ("b", 0, 5, 3), ("b", 1, 8, 2), ("c", 2, 10, 3),
            ("c", 3, 13, 2),
        ]  # fmt: skip

    def test_one_person_is_in_one_split(self):
        people = {f"s{n}": [f"p{n // 2}"] for n in range(20)}  # p0 behind s0 and s1, ...
        people["mother"], people["s20"] = [], ["mother", "p99"]
        for seed in range(5):
            split = split_by_subject(people, (0.5, 0.25, 0.25), seed)
            assert set(split.values()) == {"train", "val", "test"}
            assert all(split[f"s{n}"] == split[f"s{n + 1}"] for n in range(0, 20, 2))
            assert split["s20"] == split["mother"]

    def test_those_of_one_model_are_many_people(self):
        people = {f"s{n}": ["p1", "p2", "p3"] for n in range(3)}
        assert persons_of(people) == {"s0": "s0", "s1": "s1", "s2": "s2"}
        assert persons_of({**people, "p2": []}) == dict.fromkeys(("s0", "s1", "s2", "p2"), "s0")

    def test_a_split_file(self, xraysynth, subjects, tmp_path):
        wanted = {"anna": "test", "ben": "train", "carl": "train"}
        (tmp_path / "splits.json").write_text(json.dumps(wanted))
        words = ("--split-file", tmp_path / "splits.json", "--views", 1)
        assert export(xraysynth, subjects, tmp_path / "set", *words).code == 0
        assert SetDescription.read(tmp_path / "set/set.json").splits == wanted

    def test_description_round_trip(self, whole):
        description = SetDescription.read(whole / "set.json")
        description.write(whole.parent / "again.json")
        assert (whole.parent / "again.json").read_bytes() == (whole / "set.json").read_bytes()
