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
    if progress == "json":
        start, done, written = monotonic(), 0, 0
        _write(what, done, total, None)
        for item in items:
            yield item
            done += size(item)
            if done >= total or done - written >= total / MAX_LINES:
                written = done
                _write(what, done, total, (monotonic() - start) / done * (total - done))
    elif progress == "none":
        yield from items
    else:
        from tqdm import tqdm

        # None: shown on a terminal only
        with tqdm(desc=what, total=total, disable=None) as bar:
            for item in items:
                yield item
                bar.update(size(item))


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


def _write(stage: str, done: int, total: int, eta_s: float | None) -> None:
    eta_s = None if eta_s is None else round(eta_s, 1)
    _write_line({"stage": stage, "done": done, "total": total, "eta_s": eta_s})


def _write_line(values: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()
