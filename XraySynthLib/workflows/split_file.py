"""Files that say who is in which split: `export` and `train landmarks` take them."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from XraySynthLib.data.formats.problems import check_file, reading, unreadable
from XraySynthLib.data.sets import SPLITS
from XraySynthLib.errors import UnreadableFileError


def read_split_file(path: Path) -> dict[str, str]:
    """Read who goes where, subject -> split.

    Raises:
        UnreadableFileError: If it is not there, no such file, or names somebody twice.
    """
    check_file(path)
    with reading(path, "a JSON file"):
        splits = json.loads(path.read_text("utf-8"), object_pairs_hook=_each_key_once)
    if not isinstance(splits, dict) or not all(split in SPLITS for split in splits.values()):
        raise unreadable(path, f'it must hold {{"SUBJECT": "{SPLITS[0]}", ...}}, each of {SPLITS}.')
    return splits


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, of which `json` would keep a key's last value alone."""
    twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if twice:
        raise UnreadableFileError(f"--split-file names {', '.join(twice[:4])} twice; leave one.")
    return dict(pairs)
