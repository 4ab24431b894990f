"""Work in other processes: it stops when it is told to, and says what holds it up."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from XraySynthLib.workflows import workers
from XraySynthLib.workflows.workers import map_unordered, step


def touch(folder: Path, name: str) -> None:
    (folder / name).touch()


def touch_then_sleep(folder: Path, name: str) -> None:
    """Take far longer than a test waits."""
    touch(folder, name)
    time.sleep(600)


def two_steps(folder: Path, name: str) -> None:
    step()
    step()


@pytest.mark.parametrize("n_workers", [1, 2])
def test_steps_are_counted(n_workers, tmp_path):
    counts = []
    done = map_unordered(two_steps, ["a", "b", "c"], (tmp_path,), n_workers, count=counts.append)
    assert {*done} == {"a", "b", "c"}
    assert sum(counts) == 6
    assert max(counts) == 1 or n_workers == 2


def threads_here(folder: Path, name: str) -> None:
    (folder / name).write_text(str(workers.usable_threads()))


def test_threads_of_a_process(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "usable_cpus", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("XRAYSYNTH_THREADS", raising=False)
    for said, threads in (("", 6), ("2", 2), ("3,2", 3), ("0", 6), ("many", 6)):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        assert workers.usable_threads() == threads
    assert {*map_unordered(threads_here, ["a", "b"], (tmp_path,), 2)} == {"a", "b"}
    assert [(tmp_path / name).read_text() for name in "ab"] == ["3", "3"]


INTERRUPTED = """
import signal, sys
from pathlib import Path
from Testing.workflows.test_workers import touch_then_sleep
from XraySynthLib.workflows.workers import map_unordered
if __name__ == "__main__":
    # What a shell starts in the background ignores Ctrl-C, and so would we.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        list(map_unordered(touch_then_sleep, ["a", "b", "c", "d"], (Path(sys.argv[1]),), 2))
    except KeyboardInterrupt:
        print("one line")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a shell's Ctrl-C is sent to a process group")
def test_an_interrupt_ends_all_at_once(tmp_path):
    """As Ctrl-C in a shell: every process of the group hears it."""
    program = tmp_path / "program.py"
    program.write_text(INTERRUPTED)
    begun = tmp_path / "begun"
    begun.mkdir()
    process = subprocess.Popen(
        [sys.executable, program, begun],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])},
    )
    try:
        while len([*begun.iterdir()]) < 2 and process.poll() is None:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (out, err) == ("one line\n", "")
    assert len([*begun.iterdir()]) == 2  # nothing was begun after that


DYING_SCHEDULER = """
import os, signal, socket, subprocess, sys, threading, time
from pathlib import Path
from Testing.workflows.test_workers import touch
from XraySynthLib.errors import XraySynthError
from XraySynthLib.workflows.workers import map_unordered
if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    scheduler = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1",
         "--port", str(port), "--no-dashboard"], stderr=subprocess.DEVNULL,
    )
    def kill(sentence):  # there is no worker, so nothing ends before
        scheduler.kill()
    try:
        address = f"tcp://127.0.0.1:{port}"
        list(map_unordered(touch, ["a", "b"], (Path(sys.argv[1]),), 1, address, kill))
    except XraySynthError as error:
        print(error)
    finally:
        scheduler.kill()
"""


class TestDask:
    @pytest.fixture
    def cluster(self):
        distributed = pytest.importorskip("distributed")
        with distributed.LocalCluster(
            n_workers=0, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster:
            yield cluster

    def test_without_a_worker_it_says_so(self, cluster, tmp_path):
        said = []

        def say(sentence):
            said.append(sentence)
            cluster.scale(1)

        names = ["a", "b", "c"]
        address = cluster.scheduler_address
        assert {*map_unordered(touch, names, (tmp_path,), 1, address, say)} == {*names}
        assert {path.name for path in tmp_path.iterdir()} == {*names}
        (sentence,) = said
        assert "No worker is connected" in sentence

    def test_a_scheduler_that_dies(self, tmp_path):
        """In a process of its own, whose standard error shows what Dask logs."""
        pytest.importorskip("distributed")
        (tmp_path / "program.py").write_text(DYING_SCHEDULER)
        done = subprocess.run(
            [sys.executable, tmp_path / "program.py", tmp_path],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])},
        )
        assert "the same command goes on" in done.stdout
        assert (done.stdout.count("\n"), done.stderr) == (1, "")

    def test_a_scheduler_gets_some_tasks_at_a_time(self, cluster, tmp_path, monkeypatch):
        monkeypatch.setattr(workers, "MAX_WAITING", 2)
        cluster.scale(1)
        taken = []

        class Names(list):
            def __iter__(self):
                for name in list.__iter__(self):
                    taken.append(name)
                    yield name

        names = Names("abcdef")
        done = map_unordered(touch, names, (tmp_path,), 1, cluster.scheduler_address)
        next(done)
        assert len(taken) == 2
        assert len([*done]) == 5 and taken == list("abcdef")
