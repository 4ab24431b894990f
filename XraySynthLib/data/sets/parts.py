"""Parts: the unit of work and of repair of a set.

A part is some images of one subject. It is there when its record `parts/000012.json` is there;
the record is written last and holds the SHA-256 of every file of the part, so a part is whole, or
it is made again. Who makes it, and how often, changes no byte.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from XraySynthLib.data.formats import atomic_path
from XraySynthLib.data.formats.problems import reading, unreadable

PARTS_FOLDER = "parts"


@dataclass(frozen=True)
class Part:
    """Images `first` to `first + count - 1` of a run, all of one subject.

    Attributes:
        index: Number of the part.
        subject: Name of the subject.
        split: "train", "val" or "test".
        index_in_split: Its number among the parts of its split.
        first: Number of its first image in the run.
        count: How many images it has.
        first_in_split: Number of its first image among the images of its split.
    """

    index: int
    subject: str
    split: str
    index_in_split: int
    first: int
    count: int
    first_in_split: int

    @property
    def stem(self) -> str:
        """What its files are called by, relative to the set: `parts/000012`."""
        return f"{PARTS_FOLDER}/{self.index:06d}"

    @property
    def items(self) -> range:
        """Numbers of its images in the run."""
        return range(self.first, self.first + self.count)


def parts_of(
    subjects: Iterable[tuple[str, str]], images_per_subject: int, part_size: int
) -> list[Part]:
    """Cut a run into parts, whatever the number of workers.

    Args:
        subjects: (name, split) of each subject, in the order of the run.
        images_per_subject: Images of each.
        part_size: Images of a part at most.

    Returns:
        The parts, in order.
    """
    parts: list[Part] = []
    in_split: Counter[str] = Counter()
    images_in_split: Counter[str] = Counter()
    for number, (subject, split) in enumerate(subjects):
        first = number * images_per_subject
        for start in range(0, images_per_subject, part_size):
            count = min(part_size, images_per_subject - start)
            part = Part(
                index=len(parts),
                subject=subject,
                split=split,
                index_in_split=in_split[split],
                first=first + start,
                count=count,
                first_in_split=images_in_split[split],
            )
            parts.append(part)
            in_split[split] += 1
            images_in_split[split] += count
    return parts


def write_part_record(
    folder: Path, part: Part, files: Iterable[str], records: list[dict[str, Any]], inputs: str
) -> None:
    """Say that a part is whole.

    Args:
        folder: The set's.
        part: The part.
        files: Its files, relative to `folder`.
        records: `sample_to_record` of each of its samples.
        inputs: SHA-256 of what it was made from.
    """
    document = {
        "part": asdict(part),
        "inputs": inputs,
        "files": {name: sha256_of(folder / name) for name in sorted(files)},
        "samples": records,
    }
    document["sha256"] = digest_of(document)
    path = folder / f"{part.stem}.json"
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(document, allow_nan=False) + "\n", "utf-8")


def read_part_record(folder: Path, part: Part) -> dict[str, Any] | None:
    """The record of a part, or None where the part is not there.

    Raises:
        UnreadableFileError: If the record is damaged or another part's.
    """
    path = folder / f"{part.stem}.json"
    if not path.exists():
        return None
    with reading(path, "a JSON file"):
        document = json.loads(path.read_text("utf-8"))
    if not isinstance(document, dict) or document.pop("sha256", None) != digest_of(document):
        raise unreadable(path, "it is damaged: its SHA-256 is not that of its text.")
    if document["part"] != asdict(part) or len(document["samples"]) != part.count:
        raise unreadable(path, "it is the record of another part.")
    return document


def digest_of(document: dict[str, Any]) -> str:
    """SHA-256 of a JSON object's text, hexadecimal."""
    return hashlib.sha256(json.dumps(document, allow_nan=False).encode()).hexdigest()


def damaged_files(folder: Path, files: Mapping[str, str]) -> Iterator[str]:
    """Files that are missing or whose SHA-256 is not the one noted."""
    for name, digest in files.items():
        path = folder / name
        if not path.is_file() or sha256_of(path) != digest:
            yield name


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
