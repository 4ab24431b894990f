"""`kill -9` at random moments of an export, again and again, then to the end: no byte differs."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from XraySynthLib.data.sets import LAYOUTS

N_KILLS = 10
OPTIONS = (
    "--views", 8, "--part-size", 2, "--seed", 5, "--workers", 2, "--progress", "none",
    "--shape-px", 150, 160, "--pixel-spacing-mm", 1.8, 1.8, "--label-values", 3, 7,
)  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_killed_again_and_again(layout, write_subject, tmp_path):
    for name in ("anna", "ben", "carl"):
        write_subject(tmp_path / "subjects" / name)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def command(output: Path) -> list[str]:
        words = ("--subjects", tmp_path / "subjects", "--output", output, "--format", layout)
        return [sys.executable, "-m", "XraySynthLib", "export", *map(str, (*words, *OPTIONS))]

    start = time.monotonic()
    assert subprocess.run(command(tmp_path / "whole"), env=environment).returncode == 0
    duration = time.monotonic() - start
    moments = random.Random(layout)
    for _ in range(N_KILLS):
        process = subprocess.Popen(
            command(tmp_path / "killed"), start_new_session=True, env=environment
        )
        try:
            process.wait(moments.uniform(0.2 * duration, duration))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert subprocess.run(command(tmp_path / "killed"), env=environment).returncode == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
