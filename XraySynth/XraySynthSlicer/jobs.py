"""Verbs of the command line as child processes: progress by JSON lines, errors as one sentence.

No threads and no pipes: the child writes to files, which `poll` reads, called by a timer of the
application or a loop of a test. A child is the leader of its own group, so that `cancel` ends it
with everything it has started.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory

import XraySynthLib

LIBRARY_FOLDER = Path(XraySynthLib.__file__).resolve().parents[1]
WORDS = {
    "register with --no-refine": "untick Refine by DRRs",
    "use --no-refine": "untick Refine by DRRs",
    "use --preset maisi": "choose the Size of MAISI",
    "name another --output, or repeat the command that made it": "choose another folder for the "
    "set, or set the panel as it was then",
    "name another --output": "choose another folder for the set",
    "for --condition view, not anatomy": "told the view alone: choose that under Condition",
    "for --condition anatomy, not view": "told bones and the view: choose that under Condition",
    "--backend maisi": "MAISI",
    "--parameters": "Anatomy",
    "--preset": "Size",
    "--pixel-spacing-mm": "Pixel size",
    "--source-to-detector-mm": "Source to detector",
    "--source-to-isocenter-mm": "Source to isocentre",
}
"""What the command line calls it -> what the panels do."""


class State(Enum):
    """How a job stands."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Progress:
    """How far a job has got.

    Attributes:
        stage: What is being done.
        fraction: 0..1 of the whole job.
        remaining_s: Seconds left, None where not known.
    """

    stage: str = ""
    fraction: float = 0.0
    remaining_s: float | None = None


class Job:
    """One or more commands of `python -m XraySynthLib`, one after the other.

    Args:
        commands: Words behind `xraysynth`, for each command.
        words: More words to be put otherwise, as a file's for its node's name; see `WORDS`.
        python: The interpreter; by default Slicer's, or this one outside Slicer.

    Attributes:
        state: How it stands.
        progress: How far it has got.
        messages: What the commands said to be read by people, in order.
        error: Why it failed, one sentence.
    """

    def __init__(
        self,
        commands: Sequence[Sequence[str]],
        words: Mapping[str, str] | None = None,
        python: str | None = None,
    ) -> None:
        self._commands = [list(command) for command in commands]
        self._words = dict(words or {}) | WORDS
        self._python = python or shutil.which("PythonSlicer") or sys.executable
        self._folder = TemporaryDirectory(prefix="XraySynth-job-")
        self._finished = 0
        self.state = State.RUNNING
        self.progress = Progress()
        self.messages: list[str] = []
        self.error = ""
        self._start()

    @property
    def pid(self) -> int:
        """Id of the child that runs, or ran last."""
        return self._process.pid

    def poll(self) -> State:
        """Read what the child has written, and start the next command where one has ended."""
        if self.state is not State.RUNNING:
            return self.state
        code = self._process.poll()
        self._read_lines()
        if code is None:
            return self.state
        self._close_files()
        if code != 0:
            self.error = self._said() or f"The computation ended unexpectedly (status {code})."
            self._end(State.FAILED)
        else:
            self._finished += 1
            if self._finished == len(self._commands):
                self._end(State.DONE)
            else:
                self._start()
        return self.state

    def cancel(self) -> None:
        """End the child and its children, at once."""
        if self.state is not State.RUNNING:
            return
        _kill_tree(self._process)
        self._close_files()
        self._end(State.CANCELLED)

    def _start(self) -> None:
        words = self._commands[self._finished]
        out, err = (Path(self._folder.name) / name for name in ("out", "err"))
        self._files = [path.open("wb") for path in (out, err)]
        self._reader, self._partial = out.open("rb"), b""
        environment = dict(os.environ)
        paths = [str(LIBRARY_FOLDER), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        group = {"start_new_session": True}
        if os.name == "nt":
            flags = ("CREATE_NEW_PROCESS_GROUP", "CREATE_NO_WINDOW")
            group = {"creationflags": sum(getattr(subprocess, flag) for flag in flags)}
        self._process = subprocess.Popen(
            [self._python, "-m", "XraySynthLib", *words, "--progress", "json"],
            stdin=subprocess.DEVNULL,
            stdout=self._files[0],
            stderr=self._files[1],
            env=environment,
            **group,
        )

    def _read_lines(self) -> None:
        *lines, self._partial = (self._partial + self._reader.read()).split(b"\n")
        for line in lines:
            try:
                values = json.loads(line)
            except ValueError:
                continue
            if isinstance(values, dict):
                self._hear(values)

    def _hear(self, values: dict) -> None:
        if "message" in values:
            self.messages.append(self._in_our_words(str(values["message"])))
        if "stage" in values:
            part = values["done"] / max(values["total"], 1)
            fraction = (self._finished + min(part, 1.0)) / len(self._commands)
            left_s = values.get("eta_s") if len(self._commands) == 1 else None
            self.progress = Progress(str(values["stage"]), fraction, left_s)

    def _said(self) -> str:
        """The sentence on the child's standard error."""
        text = (Path(self._folder.name) / "err").read_text("utf-8", errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        sentences = [line for line in lines if line.startswith("xraysynth: ")]
        last = sentences[-1] if sentences else (lines[-1] if lines else "")
        return self._in_our_words(last.removeprefix("xraysynth: "))

    def _in_our_words(self, text: str) -> str:
        for word, ours in self._words.items():
            text = text.replace(word, ours)
        return text

    def _close_files(self) -> None:
        for file in (*self._files, self._reader):
            file.close()

    def _end(self, state: State) -> None:
        self.state = state
        self._folder.cleanup()


def empty_folder(folder: Path) -> Path:
    """Make a folder for a job's files, without those of the job before."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    return folder


def _kill_tree(process: subprocess.Popen) -> None:
    if os.name == "nt":
        taskkill = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
        subprocess.run(taskkill, capture_output=True, check=False)
    else:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
