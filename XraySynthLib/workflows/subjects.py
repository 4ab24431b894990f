"""Folders with a CT and its landmarks: what `generate` writes, or a user's own annotated CTs."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from XraySynthLib.data import LandmarkSet, Volume
from XraySynthLib.data.sets import DERIVED_FROM
from XraySynthLib.errors import UnreadableFileError, UsageError

VOLUME_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
LANDMARK_SUFFIXES = (".mrk.json", ".fcsv")
PROVENANCE_NAME = "provenance.json"
CT_NAMES, LABEL_NAMES = ("ct", "image", "volume"), ("labels", "label", "seg", "segmentation")
NAME_PATTERN = r"\w([\w .+-]{0,62}[\w+-])?"
DEVICE_PATTERN = r"(con|prn|aux|nul|(com|lpt)[\d\u00b9\u00b2\u00b3]) *(\..*)?"
"""What Windows takes for a device, whatever follows the dot."""
MAX_NAME_BYTES = 150
"""In UTF-8, of the 255 of a file's name."""


@dataclass(frozen=True)
class SubjectFolder:
    """A CT, its landmarks and perhaps its labels.

    Attributes:
        name: The subject's name, by which sets are split.
        ct: The CT: a volume file, or a folder with a DICOM series.
        landmarks: Its points.
        labels: Its label map, or None.
        derived_from: The people behind the subject; see `data.sets.splits`.
        known: What is known of the person and the scan; `generate` says what it drew.
    """

    name: str
    ct: Path
    landmarks: Path
    labels: Path | None
    derived_from: tuple[str, ...] = ()
    known: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.landmarks.parent

    def read(self) -> tuple[Volume, LandmarkSet]:
        """Read the CT with its labels, and the landmarks."""
        from XraySynthLib.data.formats import read_landmarks, read_volume

        return read_volume(self.ct, self.labels), read_landmarks(self.landmarks)

    def check_files(self) -> None:
        """Refuse a CT, labels and landmarks that do not belong together, by their headers.

        Raises:
            UnreadableFileError: Saying which file does not fit.
        """
        from XraySynthLib.data.formats import check_subject_files, read_landmarks

        check_subject_files(self.ct, self.labels, read_landmarks(self.landmarks).points_ras_mm)

    def aim_ras_mm(self, volume: Volume, landmarks: LandmarkSet) -> np.ndarray:
        """(3,) where a C-arm is aimed, RAS, mm: the middle of the landmarks' box, else the CT's."""
        points = landmarks.points_ras_mm[np.isfinite(landmarks.points_ras_mm).all(axis=1)]
        if not len(points):
            return volume.center_ras_mm
        return (points.min(axis=0) + points.max(axis=0)) / 2

    def files(self) -> Iterator[Path]:
        """Every file that images are made from."""
        for path in (self.ct, self.landmarks, self.labels):
            if path is not None and path.is_dir():
                yield from sorted(file for file in path.rglob("*") if file.is_file())
            elif path is not None and path.suffix.lower() == ".mhd":  # its voxels lie beside it
                yield from sorted(path.parent.glob(f"{path.stem}.*"))
            elif path is not None:
                yield path

    def digest(self) -> str:
        """SHA-256 of everything that images are made from."""
        total = hashlib.sha256()
        for file in self.files():
            with file.open("rb") as data:
                total.update(hashlib.file_digest(data, "sha256").digest())
        return total.hexdigest()

    def changed_ns(self) -> int:
        """When one of its files was last written, or put where it is, ns since 1970."""
        times = [file.stat() for file in self.files()]
        return max(max(time.st_mtime_ns, time.st_ctime_ns) for time in times)


def find_subjects(folder: Path) -> list[SubjectFolder]:
    """Find the subjects in a folder, by name.

    A subject is a folder with one landmark file and a CT: a volume called ct, image or volume, or
    the only volume beside a label map, or a folder of DICOM files. `folder` may be one itself.

    Returns:
        The subjects; their paths are absolute, for workers elsewhere.

    Raises:
        UnreadableFileError: If there are none, a folder is unclear, a name cannot name files, or
            two have one name.
    """
    if not folder.is_dir():
        raise UnreadableFileError(f"There is no folder {folder} with subjects.")
    folder = folder.resolve()
    places = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    found = [
        _subject(place) for place in places if not place.name.startswith(".") and _points_in(place)
    ]
    if not found:
        raise UnreadableFileError(
            f"No subject is in {folder}: a subject is a folder with a CT (ct.nii.gz) and landmarks "
            "(.mrk.json)."
        )
    seen: dict[str, SubjectFolder] = {}
    for subject in found:
        other = seen.setdefault(_folded(subject.name), subject)
        if other is not subject:
            raise UnreadableFileError(
                f"The subjects in {other.folder} and {subject.folder} are called {other.name!r} "
                f"and {subject.name!r}, which is one name on macOS and Windows; rename one."
            )
    return found


def unused_volumes(subjects: Iterable[SubjectFolder]) -> list[Path]:
    """Volumes beside a CT that by their names are neither a CT nor labels."""
    return [
        path
        for subject in subjects
        for path in _volumes_in(subject.folder)
        if path not in (subject.ct, subject.labels)
    ]


def common_landmark_names(subjects: list[SubjectFolder]) -> tuple[str, ...]:
    """The names of the landmarks, which must be the same for all.

    Raises:
        UsageError: If they are not.
    """
    from XraySynthLib.data.formats import read_landmarks

    names = read_landmarks(subjects[0].landmarks).names
    if not names:
        raise UsageError(f"{subjects[0].landmarks} has no landmarks.")
    for subject in subjects[1:]:
        others = read_landmarks(subject.landmarks).names
        if others != names:
            odd = sorted(set(names) ^ set(others)) or ["their order"]
            raise UsageError(
                f"All subjects of a set need the same landmarks in one order; {subject.name} and "
                f"{subjects[0].name} differ in {', '.join(odd[:4])}."
            )
    return names


def _points_in(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if _ends(path, LANDMARK_SUFFIXES))


def _volumes_in(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if _ends(path, VOLUME_SUFFIXES))


def _ends(path: Path, suffixes: tuple[str, ...]) -> bool:
    return path.name.lower().endswith(suffixes)


def _subject(place: Path) -> SubjectFolder:
    points = _points_in(place)
    if len(points) > 1:
        raise UnreadableFileError(f"{place} has {len(points)} landmark files; leave one.")
    volumes = _volumes_in(place)
    labels = _only(place, "label maps", [path for path in volumes if _stem(path) in LABEL_NAMES])
    others = [path for path in volumes if path != labels]
    folders = [path for path in place.iterdir() if path.is_dir()] if not others else []
    called_ct = [path for path in others if _stem(path) in CT_NAMES]
    ct = _only(place, "CTs", called_ct)
    if ct is None and len(others + folders) == 1:
        ct = (others + folders)[0]
    if ct is None:
        raise UnreadableFileError(
            f"{place} has landmarks, but which volume is its CT is unclear; call it ct.nii.gz."
        )
    name, derived_from, known = _origin(place / PROVENANCE_NAME)
    name = name or place.resolve().name
    if not _names_files(name):
        raise UnreadableFileError(
            f"The subject in {place} is called {name[:80]!r}, which cannot name files: take at "
            f"most 64 letters, digits, spaces and . _ + - ({MAX_NAME_BYTES} bytes), a letter or "
            "digit first, and no device of Windows such as con."
        )
    return SubjectFolder(name, ct, points[0], labels, derived_from, known)


def _names_files(name: str) -> bool:
    """Whether a name names files and folders on any system."""
    return (
        re.fullmatch(NAME_PATTERN, name) is not None
        and re.fullmatch(DEVICE_PATTERN, name, re.IGNORECASE) is None
        and len(name.encode()) <= MAX_NAME_BYTES
    )


def _folded(name: str) -> str:
    """The same for names that some file system takes for one."""
    return unicodedata.normalize("NFC", name).casefold()


def _stem(path: Path) -> str:
    return path.name.lower().partition(".")[0]


def _only(place: Path, what: str, paths: list[Path]) -> Path | None:
    """The only path, or None where there is none."""
    if len(paths) > 1:
        names = " and ".join(path.name for path in paths)
        raise UnreadableFileError(f"{place} has {len(paths)} {what}, {names}; leave one.")
    return paths[0] if paths else None


def _origin(path: Path) -> tuple[str, tuple[str, ...], Mapping[str, Any]]:
    """Name, people behind it and what is known of it, by its provenance.json; empty if unsaid."""
    if not path.exists():
        return "", (), {}
    try:
        origin = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableFileError(f"{path} cannot be read: {error}.") from error
    if not isinstance(origin, dict) or not isinstance(origin.get("config", {}), dict):
        raise UnreadableFileError(f"{path} must hold a JSON object.")
    config = origin.get("config", {})
    name, people = origin.get("subject") or "", config.get(DERIVED_FROM, [])
    known = config.get("parameters", {})
    if not isinstance(name, str):
        raise UnreadableFileError(f'{path}: "subject" must be a name in quotes, not {name!r}.')
    if not isinstance(people, list) or not all(isinstance(one, str) and one for one in people):
        raise UnreadableFileError(f'{path}: "{DERIVED_FROM}" must be a list of names.')
    if not isinstance(known, dict):
        raise UnreadableFileError(f'{path}: "parameters" must be a JSON object.')
    return name, tuple(people), known
