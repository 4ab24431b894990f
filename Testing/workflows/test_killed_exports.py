"""`kill -9` in the midst of an export, again and again, then to the end: no byte differs."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from XraySynthLib.data.sets.layouts import LAYOUTS

N_KILLS = 10
OPTIONS = (
    "--views", 16, "--part-size", 1, "--seed", 5, "--workers", 2, "--progress", "none",
    "--shape-px", 160, 160, "--pixel-spacing-mm", 1.8, 1.8, "--label-values", 3,
)  # fmt: skip
LONGEST_DELAY_S = 0.2
"""Less than two workers take for a few of the 48 parts."""


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def kill_at_work(process: subprocess.Popen, folder: Path, delay_s: float) -> None:
    """Kill an export and its workers `delay_s` after they have made another part."""

    def n_parts() -> int:
        return len([*folder.glob("parts/*.json")])

    before = n_parts()
    while n_parts() == before and process.poll() is None:
        time.sleep(0.002)
    time.sleep(delay_s)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_killed_again_and_again(layout, write_subject, tmp_path):
    for name in ("anna", "ben", "carl"):
        write_subject(tmp_path / "subjects" / name)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def command(output: Path) -> list[str]:
        words = ("--subjects", tmp_path / "subjects", "--output", output, "--format", layout)
        return [sys.executable, "-m", "XraySynthLib", "export", *map(str, (*words, *OPTIONS))]

    assert subprocess.run(command(tmp_path / "whole"), env=environment).returncode == 0
    delays = random.Random(layout)
    for _ in range(N_KILLS):
        process = subprocess.Popen(
            command(tmp_path / "killed"), start_new_session=True, env=environment
        )
        kill_at_work(process, tmp_path / "killed", delays.uniform(0, LONGEST_DELAY_S))
        assert process.returncode == -signal.SIGKILL
        assert not (tmp_path / "killed/set.json").exists()
    assert subprocess.run(command(tmp_path / "killed"), env=environment).returncode == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
