"""Child processes: progress, errors as one sentence, and an end with all they have started."""

import os
import time

import numpy as np
import psutil
import pytest
from XraySynthSlicer.jobs import Job, State

from XraySynthLib.data import Volume
from XraySynthLib.data.formats import write_volume


def finished(job, timeout_s=120.0):
    """Poll until the job has ended; the fractions that it told."""
    started, fractions = time.monotonic(), []
    while job.poll() is State.RUNNING:
        fractions.append(job.progress.fraction)
        assert time.monotonic() - started < timeout_s
        time.sleep(0.02)
    return [*fractions, job.progress.fraction]


def test_progress_and_results_of_two_commands(tmp_path):
    values_hu = np.full((8, 8, 8), -1000.0)
    values_hu[2:6, 2:6, 2:6] = 0
    write_volume(Volume(values_hu, np.diag([9.0, 9.0, 9.0, 1.0])), tmp_path / "ct.nrrd")
    ct, size = ["--ct", str(tmp_path / "ct.nrrd")], ["--shape-px", "16", "16"]
    job = Job([["project", *ct, *size, "--output", str(tmp_path / name)] for name in "ab"])
    fractions = finished(job)
    job._hear({"stage": "project", "done": 1, "total": 2, "eta_s": 3.0})
    assert job.progress.remaining_s is None  # it would be one command's
    assert (job.state, job.error) == (State.DONE, "")
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert (tmp_path / "a" / "sample.json").is_file()
    assert (tmp_path / "b" / "sample.json").is_file()


def test_an_error_is_one_sentence(tmp_path):
    job = Job([["project", "--ct", str(tmp_path / "no.nii.gz"), "--output", str(tmp_path)]])
    finished(job)
    assert job.state is State.FAILED
    assert job.error == f"{tmp_path / 'no.nii.gz'} does not exist."


def test_an_interpreter_that_breaks_says_what_it_said(tmp_path):
    job = Job([["no-such-verb"]])
    finished(job)
    assert job.error.startswith("There is no verb 'no-such-verb'")


def test_an_error_is_told_in_the_panels_words(tmp_path):
    path = tmp_path / "image.nrrd"
    job = Job([["project", "--ct", str(path), "--output", "o"]], {str(path): "Film"})
    finished(job)
    assert job.error == "Film does not exist."
    raw = "a refused; check them, or use --no-refine. Else give --pixel-spacing-mm of b."
    assert job._in_our_words(raw) == (
        "a refused; check them, or untick Refine by DRRs. Else give Pixel size of b."
    )


@pytest.mark.skipif(os.name == "nt", reason="process groups of POSIX")
def test_cancel_ends_the_child_and_its_children(tmp_path):
    options = ["--count", "40", "--workers", "2", "--preset", "coarse"]
    job = Job([["generate", "--output", str(tmp_path), *options]])
    child = psutil.Process(job.pid)
    while len(family := [child, *child.children(recursive=True)]) < 3:
        assert job.poll() is State.RUNNING, job.error
        time.sleep(0.02)
    job.cancel()
    assert job.state is State.CANCELLED
    _, alive = psutil.wait_procs(family, timeout=2)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
    assert job.poll() is State.CANCELLED
