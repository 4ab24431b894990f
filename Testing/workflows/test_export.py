"""A set is whole, the same for any workers, and survives what happens to long runs."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from XraySynthLib.data import Provenance
from XraySynthLib.data.sets import (
    SetDescription,
    SplitOverlapError,
    open_set,
    refuse_overlap,
    split_by_subject,
)
from XraySynthLib.data.sets.parts import parts_of
from XraySynthLib.errors import UnreadableFileError

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


def export(xraysynth, subjects, folder, *words):
    return xraysynth("export", "--subjects", subjects, "--output", folder, *OPTIONS, *words)


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
        import shutil

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

    @pytest.mark.parametrize("name", ["train-000001.tar", "parts/000003.json", "test-000000.tar"])
    @pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
    def test_verify_finds_damage_and_mends_it(
        self, name, damage, whole, xraysynth, subjects, tmp_path
    ):
        import shutil

        shutil.copytree(whole, tmp_path / "set")
        path = tmp_path / "set" / name
        data = bytearray(path.read_bytes())
        if damage == "flip":
            data[len(data) // 2] ^= 4
        path.write_bytes(data[: len(data) // 2] if damage == "truncate" else data)
        if damage == "remove":
            path.unlink()
        assert export(xraysynth, subjects, tmp_path / "set", "--verify", "--workers", 1).code == 0
        assert contents(tmp_path / "set") == contents(whole)

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
            (("--format", "coco", "--quantity", "transmission"), "coco"),
        ],
    )
    def test_options(self, words, says, xraysynth, subjects, tmp_path, failed):
        failed(export(xraysynth, subjects, tmp_path / "set", *words), 2, says)
        assert not (tmp_path / "set").exists()

    def test_dry_run_writes_nothing(self, xraysynth, subjects, tmp_path):
        outcome = export(xraysynth, subjects, tmp_path / "set", "--dry-run")
        assert outcome.code == 0 and json.loads(outcome.out)["views"] == 4
        assert not (tmp_path / "set").exists()

    def test_other_options(self, whole, xraysynth, subjects, failed):
        failed(export(xraysynth, subjects, whole, "--seed", 4), 2, "other options")
        failed(export(xraysynth, subjects, whole, "--views", 5), 2, "images per subject")
        failed(export(xraysynth, subjects / "anna", whole), 2, "subjects")

    def test_a_folder_of_something_else(self, xraysynth, subjects, tmp_path, failed):
        (tmp_path / "thesis.txt").write_text("precious")
        failed(export(xraysynth, subjects, tmp_path), 2, "not empty")

    def test_no_subjects(self, xraysynth, tmp_path, failed):
        failed(export(xraysynth, tmp_path / "nowhere", tmp_path / "set"), 1, "no folder")
        (tmp_path / "empty").mkdir()
        failed(export(xraysynth, tmp_path / "empty", tmp_path / "set"), 1, "No subject")

    def test_subjects_with_other_landmarks(self, xraysynth, subjects, tmp_path, failed):
        import shutil

        shutil.copytree(subjects, tmp_path / "subjects")
        path = tmp_path / "subjects/ben/points.mrk.json"
        path.write_text(path.read_text().replace("far", "near"))
        failed(export(xraysynth, tmp_path / "subjects", tmp_path / "set"), 2, "far, near")

    def test_two_subjects_of_one_name(self, xraysynth, subjects, tmp_path, failed):
        import shutil

        shutil.copytree(subjects, tmp_path / "subjects")
        for name in ("anna", "ben"):
            text = json.dumps({"subject": "somebody", "config": {}})
            (tmp_path / "subjects" / name / "provenance.json").write_text(text)
        failed(export(xraysynth, tmp_path / "subjects", tmp_path / "set"), 1, "somebody")

    def test_a_full_disk(self, xraysynth, subjects, tmp_path, failed, monkeypatch):
        from XraySynthLib.workflows import export as workflow

        def full(*words):
            raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "set/a.tar"))

        monkeypatch.setattr(workflow, "write_part_record", full)
        outcome = export(xraysynth, subjects, tmp_path / "set", "--workers", 1)
        failed(outcome, 1, "No space left on device")
        assert not (tmp_path / "set/set.json").exists()
        monkeypatch.undo()
        assert export(xraysynth, subjects, tmp_path / "set", "--workers", 1).code == 0

    def test_no_scheduler(self, xraysynth, subjects, tmp_path, failed, monkeypatch):
        pytest.importorskip("distributed")
        from XraySynthLib.workflows import workers

        monkeypatch.setattr(workers, "CONNECT_S", 1)
        outcome = export(xraysynth, subjects, tmp_path / "set", "--scheduler", "tcp://127.0.0.1:9")
        failed(outcome, 1, "scheduler")

    def test_somebody_behind_another_split(self, xraysynth, subjects, tmp_path, failed):
        import shutil

        shutil.copytree(subjects, tmp_path / "subjects")
        text = json.dumps({"subject": "anna", "config": {"derived_from": ["ben", "carl"]}})
        (tmp_path / "subjects/anna/provenance.json").write_text(text)
        failed(export(xraysynth, tmp_path / "subjects", tmp_path / "set"), 1, "behind")


class TestProgress:
    def test_json_lines_count_images(self, xraysynth, subjects, tmp_path):
        outcome = export(
            xraysynth, subjects, tmp_path / "set", "--progress", "json", "--workers", 1
        )
        lines = [json.loads(line) for line in outcome.out.splitlines()]
        made = [line["done"] for line in lines if line.get("stage") == "export"]
        assert made == [0, 2, 4, 6, 8, 10, 12]
        assert lines[-1] == {"result": str(tmp_path / "set")}


class TestSplits:
    def test_literal(self):
        names = [f"s{n}" for n in range(10)]
        split = split_by_subject(names, (0.8, 0.1, 0.1), 0)
        assert [*split] == [*split_by_subject(names, (8, 1, 1), 0)]
        counts = {name: [*split.values()].count(name) for name in ("train", "val", "test")}
        assert counts == {"train": 8, "val": 1, "test": 1}
        assert split_by_subject(names, (0.8, 0.1, 0.1), 1) != split

    @pytest.mark.parametrize("n_subjects", range(3, 40))
    def test_every_share_gets_somebody(self, n_subjects):
        names = [f"s{n}" for n in range(n_subjects)]
        split = split_by_subject(names, (0.98, 0.01, 0.01), 2)
        assert set(split) == set(names) and set(split.values()) == {"train", "val", "test"}

    def test_parts_literal(self):
        parts = parts_of([("a", "train"), ("b", "test"), ("c", "train")], 5, 3)
        assert [(p.subject, p.index_in_split, p.first, p.count) for p in parts] == [
            ("a", 0, 0, 3), ("a", 1, 3, 2), ("b", 0, 5, 3), ("b", 1, 8, 2), ("c", 2, 10, 3),
            ("c", 3, 13, 2),
        ]  # fmt: skip

    def test_overlap_names_the_people(self):
        trained = Provenance("generated", "made-1", config={"derived_from": ["p1", "p2"]})
        refuse_overlap([trained], [Provenance("real", "p3")])
        with pytest.raises(SplitOverlapError, match=re.escape("p2")):
            refuse_overlap([trained], [Provenance("real", "p2"), Provenance("real", "p3")])

    def test_description_round_trip(self, whole):
        description = SetDescription.read(whole / "set.json")
        description.write(whole.parent / "again.json")
        assert (whole.parent / "again.json").read_bytes() == (whole / "set.json").read_bytes()
