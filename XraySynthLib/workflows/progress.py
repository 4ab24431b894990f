"""How far a verb has got: a bar for people, one JSON object a line for programs."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, TypeVar

from XraySynthLib.workflows.config import Progress

Item = TypeVar("Item")


MAX_LINES = 1000
"""JSON lines of a stage, about."""


def tracked(
    items: Iterable[Item],
    what: str,
    total: int,
    progress: Progress,
    size: Callable[[Item], int] = lambda item: 1,
) -> Iterator[Item]:
    """Yield `items`, reporting after each.

    JSON lines have `stage`, `done`, `total` and `eta_s` (null before anything is done); they go to
    standard output, the bar to standard error. A stage of many items has a line for some of them.

    Args:
        items: The items.
        what: Name of the stage.
        total: Sum of the sizes of all items.
        progress: How to report.
        size: How much of the total an item is.
    """
    with counted(what, total, progress) as count:
        for item in items:
            yield item
            count(size(item))


@contextmanager
def counted(what: str, total: int, progress: Progress) -> Iterator[Callable[[int], object]]:
    """Lend a function that is told how much more of a stage is done; see `tracked`."""
    if progress == "json":
        yield _JsonLines(what, total).update
    elif progress == "none":
        yield lambda more: None
    else:
        from tqdm import tqdm

        # None: shown on a terminal only
        with tqdm(desc=what, total=total, disable=None) as bar:
            yield bar.update


class _JsonLines:
    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        self._start, self._done, self._written = monotonic(), 0, 0
        self._write(None)

    def update(self, more: int) -> None:
        self._done += more
        unwritten = self._done - self._written
        if self._done >= self._total or unwritten >= self._total / MAX_LINES:
            left = self._total - self._done
            self._write((monotonic() - self._start) / self._done * left)

    def _write(self, eta_s: float | None) -> None:
        self._written = self._done
        eta_s = None if eta_s is None else round(eta_s, 1)
        line = {"stage": self._what, "done": self._done, "total": self._total, "eta_s": eta_s}
        _write_line(line)


@contextmanager
def stage(what: str, progress: Progress) -> Iterator[None]:
    """Report a stage that has no steps: when it begins and when it is done."""
    step = tracked((None,), what, 1, progress)
    next(step)
    yield
    next(step, None)


def say(sentence: str, progress: Progress) -> None:
    """Tell what a person should know while they wait."""
    if progress == "json":
        _write_line({"message": sentence})
    elif progress == "auto":
        sys.stderr.write(f"xraysynth: {sentence}\n")


def _write_line(values: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()
