"""SyntheX's triples of a TIFF, a PNG and an HDF5 file (github.com/arcadelab/SyntheX).

What `hip_imaging/src/scaledup_dataset.py` reads, counted from 0 in each folder:

    train_data/proj/00000.tiff   float32, dense bright
    train_data/seg/00000.png     8-bit label map: 0 background, 1 to 6 as in `BONE_NAMES`
    train_data/lands/00000.h5    "dim1" columns and "dim2" rows, px, an integer is a pixel's centre
    valid_data/...               and test_data/, which SyntheX itself takes from elsewhere

Its loader takes a landmark outside the image as out of view, and only finite numbers: a landmark
without a place is written as (-1, -1). It scales every image by itself. It wants square images,
smaller than its network's (384 pixels).

A label map has one bone a pixel, an X-ray looks through several: see `bone_labels`. What the loader
does not ask for lies where it does not look: quantity and View in the TIFF's description, the rest
in the HDF5 file's "xraysynth", so that every triple can be read on its own.
"""

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from XraySynthLib.data.formats import atomic_path
from XraySynthLib.data.formats.hdf5_files import create_hdf5, open_hdf5
from XraySynthLib.data.formats.problems import check_file, meaning, reading, unreadable
from XraySynthLib.data.formats.sample_files import sample_from_record, sample_to_record
from XraySynthLib.data.formats.xray_raster import read_raster, write_tiff
from XraySynthLib.data.landmarks import ImageLandmarkSet
from XraySynthLib.data.pelvis import BONE_NAMES, LANDMARK_NAMES
from XraySynthLib.data.sample import Provenance, Sample
from XraySynthLib.data.sets.bone_labels import bone_label_map
from XraySynthLib.data.sets.description import SET_NAME, SetDescription
from XraySynthLib.data.sets.parts import Part
from XraySynthLib.data.sets.samples import LazySamples
from XraySynthLib.data.xray import Quantity

QUANTITIES = (Quantity.LINE_INTEGRAL, Quantity.DISPLAY)
FRAGMENTS_STAY = False
FOLDERS = {"train": "train_data", "val": "valid_data", "test": "test_data"}
IMAGES, LABELS, LANDMARKS = "proj", "seg", "lands"
COLUMNS, ROWS, RECORD = "dim1", "dim2", "xraysynth"
NOWHERE = -1.0


def check(description: SetDescription) -> None:
    """Any set fits; see `layouts.Layout`."""


def write_part(folder: Path, part: Part, samples: Iterable[Sample]) -> list[str]:
    """Write three files an image; see `layouts.Layout`."""
    root = FOLDERS[part.split]
    for kind in (IMAGES, LABELS, LANDMARKS):
        (folder / root / kind).mkdir(parents=True, exist_ok=True)
    names = []
    for number, sample in enumerate(samples, part.first_in_split):
        image, labels, landmarks = files = _files(root, f"{number:05d}")
        write_tiff(sample.xray, folder / image)
        label_map = io.BytesIO()
        Image.fromarray(bone_label_map(sample)).save(label_map, "PNG")
        with atomic_path(folder / labels) as temporary:
            temporary.write_bytes(label_map.getvalue())
        _write_landmarks(sample, folder / landmarks)
        names += files
    return names


def assemble(folder: Path, description: SetDescription) -> list[str]:
    """Triples are whole as they are; see `layouts.Layout`."""
    return []


def read(path: Path, split: str | None = None) -> Sequence[Sample]:
    """Open a folder with `train_data` and the like, or one of these; see `layouts.Layout`.

    What another program wrote has no View and, unless there are 14, no landmark names; each of its
    folders counts as one subject.
    """
    path = path.resolve()
    splits = {name: part for part, name in FOLDERS.items()}
    inside = [path / name for name in splits if (path / name / IMAGES).is_dir()]
    roots = inside or ([path] if (path / IMAGES).is_dir() else [])
    if not roots:
        raise unreadable(path, f"there is no {FOLDERS['train']}/{IMAGES} in it.")
    places = []
    for root in roots:
        if split not in (None, splits.get(root.name, "train")):
            continue
        stems = [file.stem for file in (root / IMAGES).glob("*.tiff") if file.stem.isdecimal()]
        for stem in sorted(stems, key=int):
            if not (root / LANDMARKS / f"{stem}.h5").is_file():
                raise unreadable(root, f"there is no {LANDMARKS}/{stem}.h5 for {stem}.tiff.")
            places.append((root, stem))
    if (path / SET_NAME).is_file():
        numbers = {
            (FOLDERS[part.split], part.first_in_split + number): part.first + number
            for part in SetDescription.read(path / SET_NAME).parts
            for number in range(part.count)
        }
        places.sort(key=lambda place: numbers.get((place[0].name, int(place[1])), len(numbers)))
    return LazySamples(places, _load)


def _files(root: str, stem: str) -> list[str]:
    """Image, labels and landmarks of a sample."""
    kinds = ((IMAGES, "tiff"), (LABELS, "png"), (LANDMARKS, "h5"))
    return [f"{root}/{kind}/{stem}.{suffix}" for kind, suffix in kinds]


def _write_landmarks(sample: Sample, path: Path) -> None:
    points_px = np.nan_to_num(sample.landmarks.points_px, nan=NOWHERE)
    record = json.dumps(sample_to_record(sample), allow_nan=False)
    with create_hdf5(path) as (file, _):
        file[COLUMNS], file[ROWS] = points_px.T
        file[RECORD] = record


def _load(place: tuple[Path, str]) -> Sample:
    root, stem = place
    image, labels, landmarks = (root.parent / name for name in _files(root.name, stem))
    xray = read_raster(image)[0]
    points_px, record = _read_landmarks(landmarks)
    if record is not None:
        kept = None
        with reading(landmarks, "a file of XraySynth"):
            if record["masks"] is not None:
                masks = _read_masks(labels, xray.values.shape)
                kept = {name: mask for name, mask in masks.items() if name in record["masks"]}
        return sample_from_record(record, xray.values, kept, landmarks)
    rows, columns = xray.values.shape
    inside = np.asarray(((points_px >= 0) & (points_px <= [columns - 1, rows - 1])).all(axis=1))
    points_px[(points_px == NOWHERE).all(axis=1)] = np.nan
    names = LANDMARK_NAMES
    if len(points_px) != len(names):
        names = tuple(f"landmark-{number}" for number in range(len(points_px)))
    with meaning(landmarks):
        return Sample(
            key=f"{root.name}-{stem}",
            xray=xray,
            landmarks=ImageLandmarkSet(names, points_px, inside, np.ones(len(names))),
            masks=_read_masks(labels, xray.values.shape) if labels.exists() else None,
            provenance=Provenance("simulated", f"{root.parent.name}-{root.name}"),
        )


def _read_landmarks(path: Path) -> tuple[NDArray, dict[str, Any] | None]:
    """Points (N, 2) px, and the record where the file is ours."""
    with open_hdf5(path) as file:
        points_px = np.column_stack([file[COLUMNS][:], file[ROWS][:]]).astype(np.float64)
        record = json.loads(file[RECORD][()]) if RECORD in file else None
    return points_px, record


def _read_masks(path: Path, shape: tuple[int, ...]) -> dict[str, NDArray]:
    check_file(path)
    with reading(path, "a label map"), Image.open(path, formats=("PNG",)) as image:
        labels = np.array(image)
    if labels.shape != shape or labels.dtype.kind != "u":
        raise unreadable(path, f"it is no label map of {shape[0]} rows and {shape[1]} columns.")
    return {name: labels == label for label, name in BONE_NAMES.items()}
