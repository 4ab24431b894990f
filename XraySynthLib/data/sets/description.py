"""What a set is: the plan of a run, kept as `set.json` once every image is there.

While a run goes on the plan is `unfinished.json`; a folder without `set.json` is no set.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import XraySynthLib
from XraySynthLib.data.formats import atomic_path
from XraySynthLib.data.formats.problems import check_file, meaning, reading, unreadable
from XraySynthLib.data.sets.parts import Part, digest_of, parts_of

SET_NAME, UNFINISHED_NAME = "set.json", "unfinished.json"
FORMAT, FORMAT_VERSION = "xraysynth-set", 1


@dataclass(frozen=True)
class SetSubject:
    """Somebody in a set.

    Attributes:
        name: The subject's.
        split: "train", "val" or "test".
        derived_from: The people behind the subject; see `splits`.
    """

    name: str
    split: str
    derived_from: tuple[str, ...] = ()


@dataclass(frozen=True)
class SetDescription:
    """The plan of a set: with the subjects' files it decides every byte.

    Attributes:
        layout: One of `data.sets.LAYOUTS`.
        subjects: In the order of the run.
        images_per_subject: Images of each.
        part_size: Images of a part at most.
        landmark_names: Names of the landmarks, the same for every image.
        mask_names: Names of the masks that an image can have; in DeepFluoro's order.
        options: How images are made, as JSON types.
        code_version: Version of XraySynth.
        files: Files made of all parts, the report too, and their SHA-256; empty until the set is
            whole.
    """

    layout: str
    subjects: tuple[SetSubject, ...]
    images_per_subject: int
    part_size: int
    landmark_names: tuple[str, ...]
    mask_names: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    code_version: str = XraySynthLib.__version__
    files: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def parts(self) -> list[Part]:
        """The parts, in order."""
        subjects = [(subject.name, subject.split) for subject in self.subjects]
        return parts_of(subjects, self.images_per_subject, self.part_size)

    @property
    def n_images(self) -> int:
        """Images of the whole set."""
        return len(self.subjects) * self.images_per_subject

    def n_images_of(self, split: str | None) -> int:
        """Images of a split; None for all."""
        return sum(part.count for part in self.parts if split in (None, part.split))

    @property
    def splits(self) -> dict[str, str]:
        """Subject -> split."""
        return {subject.name: subject.split for subject in self.subjects}

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        document = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}
        document["sha256"] = digest_of(document)
        text = json.dumps(document, indent=2, allow_nan=False) + "\n"
        with atomic_path(path) as temporary:
            temporary.write_text(text, "utf-8")

    @classmethod
    def read(cls, path: Path) -> "SetDescription":
        """Read what `write` wrote.

        Raises:
            UnreadableFileError: If it is damaged or of a newer version.
        """
        check_file(path)
        with reading(path, "a JSON file"):
            document = json.loads(path.read_text("utf-8"))
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise unreadable(path, f"its format is not {FORMAT!r}.")
        version = document.get("format_version")
        if version != FORMAT_VERSION:
            raise unreadable(path, f"its format_version is {version!r}; update XraySynth.")
        digest = document.pop("sha256", None)  # which older files do not have
        if digest is not None and digest != digest_of(document):
            raise unreadable(path, "it is damaged: its SHA-256 is not that of its text.")
        del document["format"], document["format_version"]
        with meaning(path):
            subjects = [
                SetSubject(entry["name"], entry["split"], tuple(entry["derived_from"]))
                for entry in document.pop("subjects")
            ]
            document |= {
                "subjects": tuple(subjects),
                "landmark_names": tuple(document["landmark_names"]),
                "mask_names": tuple(document["mask_names"]),
            }
            return cls(**document)
