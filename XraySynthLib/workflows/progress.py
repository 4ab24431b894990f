"""How far a verb has got: a bar for people, one JSON object a line for programs."""

import json
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from XraySynthLib.workflows.config import Progress

Item = TypeVar("Item")


def tracked(items: Iterable[Item], what: str, total: int, progress: Progress) -> Iterator[Item]:
    """Yield `items`, reporting after each.

    JSON lines have `stage`, `done` and `total`; they go to standard output, the bar to standard
    error.
    """
    if progress == "json":
        _write(what, 0, total)
        for done, item in enumerate(items, 1):
            yield item
            _write(what, done, total)
    elif progress == "none":
        yield from items
    else:
        from tqdm import tqdm

        hidden = None if progress == "auto" else False  # None: shown on a terminal only
        yield from tqdm(items, desc=what, total=total, disable=hidden)


def _write(stage: str, done: int, total: int) -> None:
    line = json.dumps({"stage": stage, "done": done, "total": total})
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
