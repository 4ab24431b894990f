"""The lists in XraySynthLib/CMakeLists.txt name every module and asset, and nothing else."""

import re
from pathlib import Path

import pytest

import XraySynthLib

LIBRARY = Path(XraySynthLib.__file__).parent
LISTS = LIBRARY / "CMakeLists.txt"
NOT_INSTALLED = ("__pycache__", "CMakeLists.txt")


def listed() -> list[str]:
    """Words of the file that have a suffix or a folder and hold no variable."""
    text = re.sub(r"#.*", "", LISTS.read_text("utf-8"))
    words = [word.strip('"') for word in re.findall(r'"[^"]+"|[^\s()]+', text)]
    return [word.removeprefix("./") for word in words if re.search(r"\.[a-z0-9]+$", word)]


@pytest.mark.skipif(not LISTS.exists(), reason="there is no XraySynthLib/CMakeLists.txt")
def test_lists_equal_the_disk():
    on_disk = {
        path.relative_to(LIBRARY).as_posix()
        for path in LIBRARY.rglob("*")
        if path.is_file() and not any(part in NOT_INSTALLED for part in path.parts)
    }
    named = [word for word in listed() if "$" not in word]
    prefix = "XraySynthLib/"
    named = [word.removeprefix(prefix) for word in named]
    assert sorted(on_disk - set(named)) == [], "on disk, not in the lists"
    assert sorted(set(named) - on_disk) == [], "in the lists, not on disk"
    assert len(named) == len(set(named))
