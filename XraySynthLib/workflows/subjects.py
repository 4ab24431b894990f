"""Folders with a CT and its landmarks: what `generate` writes, or a user's own annotated CTs."""

import hashlib
import json
from dataclasses import dataclass
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


@dataclass(frozen=True, eq=False)
class SubjectFolder:
    """A CT, its landmarks and perhaps its labels.

    Attributes:
        name: The subject's name, by which sets are split.
        ct: The CT: a volume file, or a folder with a DICOM series.
        landmarks: Its points.
        labels: Its label map, or None.
        origin: What the folder's provenance.json says; empty where there is none.
    """

    name: str
    ct: Path
    landmarks: Path
    labels: Path | None
    origin: dict[str, Any]

    @property
    def derived_from(self) -> tuple[str, ...]:
        """The people behind the subject; see `data.sets.splits`."""
        return tuple(self.origin.get("config", {}).get(DERIVED_FROM, ()))

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
        points = landmarks.points_ras_mm[np.isfinite(landmarks.points_ras_mm[:, 0])]
        if not len(points):
            return volume.center_ras_mm
        return (points.min(axis=0) + points.max(axis=0)) / 2

    def digest(self) -> str:
        """SHA-256 of everything that images are made from."""
        total = hashlib.sha256()
        for path in (self.ct, self.landmarks, self.labels):
            if path is None:
                continue
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file():
                    with file.open("rb") as data:
                        total.update(hashlib.file_digest(data, "sha256").digest())
        return total.hexdigest()


def find_subjects(folder: Path) -> list[SubjectFolder]:
    """Find the subjects in a folder, by name.

    A subject is a folder with one landmark file and a CT: a volume called ct, image or volume, or
    the only volume beside a label map, or a folder of DICOM files. `folder` may be one itself.

    Raises:
        UnreadableFileError: If there are none, a folder is unclear, or two have one name.
    """
    if not folder.is_dir():
        raise UnreadableFileError(f"--subjects {folder} is no folder.")
    places = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    found = [
        _subject(place) for place in places if not place.name.startswith(".") and _points_in(place)
    ]
    if not found:
        raise UnreadableFileError(
            f"No subject is in {folder}: a subject is a folder with a CT (ct.nii.gz) and landmarks "
            "(.mrk.json)."
        )
    names = [subject.name for subject in found]
    for name in names:
        if names.count(name) > 1:
            raise UnreadableFileError(f"Two subjects in {folder} are called {name!r}.")
    return found


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
    return sorted(path for path in place.iterdir() if path.name.endswith(LANDMARK_SUFFIXES))


def _subject(place: Path) -> SubjectFolder:
    points = _points_in(place)
    if len(points) > 1:
        raise UnreadableFileError(f"{place} has {len(points)} landmark files; leave one.")
    volumes = {
        path.name.lower().partition(".")[0]: path
        for path in sorted(place.iterdir())
        if path.name.lower().endswith(VOLUME_SUFFIXES)
    }
    labels = next((volumes.pop(name) for name in LABEL_NAMES if name in volumes), None)
    ct = next((volumes[name] for name in CT_NAMES if name in volumes), None)
    if ct is None and len(volumes) == 1:
        ct = next(iter(volumes.values()))
    if ct is None and not volumes:
        folders = [path for path in place.iterdir() if path.is_dir()]
        ct = folders[0] if len(folders) == 1 else None
    if ct is None:
        raise UnreadableFileError(
            f"{place} has landmarks, but which volume is its CT is unclear; call it ct.nii.gz."
        )
    origin = _origin(place / PROVENANCE_NAME)
    name = str(origin.get("subject") or place.resolve().name)
    return SubjectFolder(name, ct, points[0], labels, origin)


def _origin(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        origin = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UnreadableFileError(f"{path} cannot be read: {error}.") from error
    if not isinstance(origin, dict) or not isinstance(origin.get("config", {}), dict):
        raise UnreadableFileError(f"{path} must hold a JSON object.")
    return origin
