"""How far a verb has got: a bar for people, one JSON object a line for programs."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import TypeVar

from XraySynthLib.workflows.config import Progress

Item = TypeVar("Item")


def tracked(
    items: Iterable[Item],
    what: str,
    total: int,
    progress: Progress,
    size: Callable[[Item], int] = lambda item: 1,
) -> Iterator[Item]:
    """Yield `items`, reporting after each.

    JSON lines have `stage`, `done`, `total` and `eta_s` (null before anything is done); they go to
    standard output, the bar to standard error.

    Args:
        items: The items.
        what: Name of the stage.
        total: Sum of the sizes of all items.
        progress: How to report.
        size: How much of the total an item is.
    """
    if progress == "json":
        start, done = monotonic(), 0
        _write(what, done, total, None)
        for item in items:
            yield item
            done += size(item)
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


def _write(stage: str, done: int, total: int, eta_s: float | None) -> None:
    eta_s = None if eta_s is None else round(eta_s, 1)
    line = json.dumps({"stage": stage, "done": done, "total": total, "eta_s": eta_s})
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
