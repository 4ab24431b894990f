"""DICOM X-rays: an XA file an image, a folder and a study a subject.

What DICOM has no simple place for lies beside the image, as in a shard:

    SUBJECT/KEY.dcm          16 bits; spacing and angles as DICOM has them, View in private elements
    SUBJECT/KEY.sample.json  everything but the pixels: landmarks, masks' names, provenance
    SUBJECT/KEY.masks.png    where there are masks: 16 bits a pixel, bit n is the n-th of "masks"

Standard overlays could hold the masks, but viewers paint them over the image. Images are numbered
as in the run. UIDs follow from the plan of the set, so that a part that is made again has the
same ones, and another set has others.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from XraySynthLib.data.formats import atomic_path, read_xrays, write_xray_dicom
from XraySynthLib.data.formats.dicom_files import is_dicom, number, quiet_pydicom, read_dataset
from XraySynthLib.data.formats.problems import check_file, meaning, reading, unreadable
from XraySynthLib.data.formats.sample_files import (
    MAX_MASKS,
    masks_from_png,
    masks_to_png,
    sample_from_record,
    sample_to_record,
)
from XraySynthLib.data.formats.xray_json import xray_fields
from XraySynthLib.data.landmarks import ImageLandmarkSet
from XraySynthLib.data.sample import Provenance, Sample
from XraySynthLib.data.sets.description import SET_NAME, UNFINISHED_NAME, SetDescription
from XraySynthLib.data.sets.layouts import check_mask_count
from XraySynthLib.data.sets.parts import PARTS_FOLDER, Part
from XraySynthLib.data.sets.samples import LazySamples
from XraySynthLib.data.sets.splits import SPLITS
from XraySynthLib.data.xray import Quantity
from XraySynthLib.errors import UsageError

QUANTITIES = (Quantity.DISPLAY, Quantity.LINE_INTEGRAL, Quantity.TRANSMISSION)
FRAGMENTS_STAY = False
IMAGE, RECORD, MASKS = ".dcm", ".sample.json", ".masks.png"
Place = tuple[Path, str, Provenance | None, int]
"""A file, the sample's key, where it comes from (None: its record says so) and the frame."""
MAX_NAME = 48
"""So that patient ID and name, to which "^Synthetic" is added, are within DICOM's 64 characters."""
ODD_CHARACTERS = re.compile(r'[\x00-\x1f\x7f^=/\\:*?"<>|]')
"""Which mean something in DICOM's names, or to a file system."""
HEADER = ["PatientID", "Rows", "NumberOfFrames", "SyntheticData"]


def check(description: SetDescription) -> None:
    """Refuse names that cannot be a patient's, and too many masks; see `layouts.Layout`."""
    check_mask_count(description, MAX_MASKS)
    for subject in description.subjects:
        _folder_name(subject.name)


def write_part(folder: Path, part: Part, samples: Iterable[Sample]) -> list[str]:
    """Write two or three files an image; see `layouts.Layout`.

    The folder must hold the set's plan, finished or not.

    Raises:
        UsageError: If the subject's name is no patient's or no folder's.
    """
    (folder / _folder_name(part.subject)).mkdir(exist_ok=True)
    uid_seed = _uid_seed(folder)
    names = []
    for item, sample in zip(part.items, samples, strict=True):
        stem = f"{part.subject}/{sample.key}"
        record = json.dumps(sample_to_record(sample), allow_nan=False) + "\n"
        beside = {RECORD: record.encode()}
        if sample.masks:
            beside[MASKS] = masks_to_png(list(sample.masks.values()))
        for suffix, data in beside.items():
            with atomic_path(folder / f"{stem}{suffix}") as temporary:
                temporary.write_bytes(data)
        acquisition = sample.provenance.config.get("acquisition", {})
        write_xray_dicom(
            sample.xray,
            folder / f"{stem}{IMAGE}",
            subject=part.subject,
            uid_seed=uid_seed,
            instance_number=item,
            source_to_isocenter_mm=acquisition.get("pose", {}).get("source_to_isocenter_mm"),
            kvp=acquisition.get("exposure", {}).get("kvp"),
        )
        names += [stem + suffix for suffix in (IMAGE, *beside)]
    return names


def assemble(folder: Path, description: SetDescription) -> list[str]:
    """Files are whole as they are; see `layouts.Layout`."""
    return []


def read(path: Path, split: str | None = None) -> Sequence[Sample]:
    """Open a folder of DICOM X-rays or one file; see `layouts.Layout`.

    Images of anybody else have no landmarks; they are real unless they say that they are synthetic.
    Their subject is the patient ID or else the folder's name, and every frame is a sample. Objects
    without pixels, such as reports and directories, are passed over.
    """
    if path.is_file():
        files, splits = [path], dict[str, str]()
    else:
        names = sorted(path.rglob("*"))
        files = [file for file in names if file.is_file() and is_dicom(file)]
        plan = path / SET_NAME
        splits = SetDescription.read(plan).splits if plan.exists() else {}
        order = {subject: number for number, subject in enumerate(splits)}
        files.sort(key=lambda file: order.get(file.parent.name, len(order)))
    if not files:
        raise unreadable(path, "there is no DICOM file in it.")
    places: list[Place] = []
    for file in files:
        if split is not None and splits.get(file.parent.name, SPLITS[0]) != split:
            continue
        if _beside(file, RECORD).is_file():
            places.append((file, file.stem, None, 0))
        elif file.parent.name in splits:
            raise unreadable(_beside(file, RECORD), "there is no such file.")
        else:
            places += _foreign_places(file, path)
    return LazySamples(places, _load)


def _folder_name(subject: str) -> str:
    """A subject's name, of which DICOM makes a patient's name and ID, and this layout a folder.

    Raises:
        UsageError: If it may not be one of these, or lies outside the set.
    """
    wrong = ODD_CHARACTERS.search(subject) or subject.strip(" .") != subject
    if wrong or not 1 <= len(subject) <= MAX_NAME or subject.lower() == PARTS_FOLDER:
        raise UsageError(
            f"{subject!r} cannot be a patient of a DICOM set: call the subject by 1 to {MAX_NAME} "
            "characters, no dot or space first or last, none of "
            '^ = / \\ : * ? " < > |'
            f", and not {PARTS_FOLDER!r}."
        )
    return subject


def _uid_seed(folder: Path) -> str:
    plans = [folder / name for name in (SET_NAME, UNFINISHED_NAME) if (folder / name).exists()]
    if not plans:
        raise FileNotFoundError(f"There is no {UNFINISHED_NAME} in {folder}.")
    plan = replace(SetDescription.read(plans[0]), files={})
    return hashlib.sha256(json.dumps(asdict(plan), sort_keys=True).encode()).hexdigest()


def _beside(file: Path, suffix: str) -> Path:
    return file.with_name(file.name.removesuffix(IMAGE) + suffix)


def _foreign_places(file: Path, path: Path) -> list[Place]:
    """Every frame of a file of somebody else."""
    with quiet_pydicom():
        dataset = read_dataset(file, HEADER, pixels=False)
    if number(dataset, "Rows") is None:
        return []
    kind = "simulated" if dataset.get("SyntheticData") == "YES" else "real"
    subject = str(dataset.get("PatientID") or "").strip() or file.parent.resolve().name
    parts = file.relative_to(path).parts if path.is_dir() else (file.name,)
    key = re.sub(r"[\\:]", "_", "-".join(parts)).removesuffix(IMAGE)
    n_frames = int(number(dataset, "NumberOfFrames") or 1)
    keys = [key] if n_frames == 1 else [f"{key}-{frame:04d}" for frame in range(n_frames)]
    return [(file, key, Provenance(kind, subject), frame) for frame, key in enumerate(keys)]


def _load(place: Place) -> Sample:
    file, key, provenance, frame = place
    xrays = read_xrays(file)
    if frame >= len(xrays):
        raise unreadable(file, f"it has {len(xrays)} frames, not the number that it states.")
    xray = xrays[frame]
    if provenance is not None:
        none = ImageLandmarkSet((), np.empty((0, 2)), np.empty(0, bool), np.empty(0))
        with meaning(file):
            return Sample(key, xray, none, None, provenance)
    path = _beside(file, RECORD)
    check_file(path)
    with reading(path, "a record of XraySynth"):
        record: dict[str, Any] = json.loads(path.read_text("utf-8"))
        names = record["masks"]
        if record["xray"] != xray_fields(xray):
            raise unreadable(path, f"{file.name} is not the image that it describes.")
    if not names:
        return sample_from_record(record, xray.values, None if names is None else {}, path)
    masks_path = _beside(file, MASKS)
    check_file(masks_path)
    masks = masks_from_png(masks_path.read_bytes(), names, masks_path)
    return sample_from_record(record, xray.values, masks, path)
