"""DeepFluoro's HDF5 (Grupp et al., IPCAI 2020), the preprocessed layout, in one file:

    /land-names/{num-lands, land-00, land-01, ...}
    /01/projs   (N, rows, columns) float32   line integrals, dense is large
    /01/segs    (N, rows, columns) uint8     BONE_NAMES, 0 elsewhere
    /01/lands   (N, 2, L) float32            column, row

One group a subject, in the set's order: 01, 02, ... 99, 100, which is how the trainers of
DeepFluoro and SyntheX ask for them. An integer is a pixel's centre. Landmarks may lie outside the
image and are finite, the trainers insist on both; one without a place is NOWHERE_PX here, `inf` in
files of others. `segs` has one label a pixel: see `bone_labels`.

The layout has no place for View, spacing, key and provenance: `read` takes them from the records
of the parts where the file lies in its set. Two attributes of a group keep the kind and name of
its subject for a file that was taken out. A full-resolution file is read by `deepfluoro_full`.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, groupby
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data.formats.hdf5_files import (
    create_hdf5,
    find_dataset,
    find_group,
    open_hdf5,
    read_numbers,
    read_text,
)
from XraySynthLib.data.formats.problems import meaning, reading, unreadable
from XraySynthLib.data.formats.sample_files import sample_from_record
from XraySynthLib.data.landmarks import ImageLandmarkSet
from XraySynthLib.data.pelvis import BONE_NAMES
from XraySynthLib.data.sample import Provenance, Sample
from XraySynthLib.data.sets.bone_labels import bone_label_map
from XraySynthLib.data.sets.deepfluoro_full import PARAMETERS, SPECIMENS, read_full
from XraySynthLib.data.sets.description import SET_NAME, SetDescription
from XraySynthLib.data.sets.parts import Part, read_part_record
from XraySynthLib.data.sets.samples import LazySamples
from XraySynthLib.data.sets.splits import SPLITS
from XraySynthLib.data.xray import Quantity, Xray
from XraySynthLib.geometry.intrinsics import MAX_PIXELS

QUANTITIES = (Quantity.LINE_INTEGRAL,)
FRAGMENTS_STAY = False
FILE_NAME = "deepfluoro.h5"
LANDMARK_NAMES_GROUP = "land-names"
DATASETS = IMAGES, LABELS, POINTS = "projs", "segs", "lands"
ATTRIBUTES = ("kind", "subject")
NOWHERE_PX = -9999.0
OFFICIAL_NAME = re.compile(r"ipcai_2020_ds_(\d{1,3})x")
OFFICIAL_SPACING_MM = 0.194


class _Place(NamedTuple):
    """Image `number` of a group; in a set of XraySynth, number `number_in_part` of `part`."""

    file: Path
    group: str
    number: int
    landmark_names: tuple[str, ...]
    part: Part | None = None
    number_in_part: int = 0


def check(description: SetDescription) -> None:
    """Any set fits; see `layouts.Layout`."""


def write_part(folder: Path, part: Part, samples: Iterable[Sample]) -> list[str]:
    """Write a fragment: the same layout, with one group; see `layouts.Layout`.

    Raises:
        ValueError: If an image is no line integral or differs from the first in its shape or in
            the names of its landmarks.
    """
    name = _fragment(part)
    with create_hdf5(folder / name) as (file, check_disk):
        remaining = iter(samples)
        first = next(remaining)
        names, shape = first.landmarks.names, first.xray.values.shape
        _write_landmark_names(file, names)
        group = _create_group(file, "01", part.count, shape, len(names))
        for attribute in ATTRIBUTES:
            group.attrs[attribute] = np.bytes_(getattr(first.provenance, attribute).encode())
        for index, sample in enumerate(chain([first], remaining)):
            if sample.xray.quantity not in QUANTITIES:
                raise ValueError(f"DeepFluoro holds line integrals, {sample.key} is none.")
            if sample.xray.values.shape != shape or sample.landmarks.names != names:
                raise ValueError(
                    f"A DeepFluoro file has one image shape and one list of landmarks; {sample.key}"
                    f" differs from {first.key}."
                )
            group[IMAGES][index] = sample.xray.values
            group[LABELS][index] = bone_label_map(sample)
            group[POINTS][index] = np.nan_to_num(sample.landmarks.points_px, nan=NOWHERE_PX).T
            check_disk()
    return [name]


def assemble(folder: Path, description: SetDescription) -> list[str]:
    """Join the fragments into `deepfluoro.h5`, image by image; see `layouts.Layout`.

    Raises:
        ValueError: If subjects differ in image shape or landmarks.
    """
    names, shape = description.landmark_names, None
    with create_hdf5(folder / FILE_NAME) as (file, check_disk):
        _write_landmark_names(file, names)
        for group_name, number, part in _parts_by_group(description):
            path = folder / _fragment(part)
            with open_hdf5(path) as fragment:
                source = find_group(fragment, "01", path)
                attributes = {name: source.attrs[name] for name in ATTRIBUTES}
                part_names, part_shape = _landmark_names(fragment, path), source[IMAGES].shape[1:]
            shape = shape or part_shape
            if (part_names, part_shape) != (names, shape):
                raise ValueError(f"{part.subject} differs in image shape or landmarks.")
            if number == 0:
                group = _create_group(
                    file, group_name, description.images_per_subject, shape, len(names)
                )
                group.attrs.update(attributes)
            for index, chunks in enumerate(_stored_images(path), number):
                for name, (filters, chunk) in zip(DATASETS, chunks, strict=True):
                    group[name].id.write_direct_chunk((index, 0, 0), chunk, filters)
                check_disk()
    return [FILE_NAME]


def read(path: Path, split: str | None = None) -> Sequence[Sample]:
    """Open a preprocessed or full-resolution file or a set's folder; see `layouts.Layout`."""
    file_path = path / FILE_NAME if path.is_dir() else path
    description = _description(file_path)
    samples: Sequence[Sample]
    with open_hdf5(file_path) as file:
        if LANDMARK_NAMES_GROUP in file:
            names = _landmark_names(file, file_path)
            if description is not None:
                return LazySamples(_own_places(file, file_path, names, description, split), _load)
            samples = LazySamples(_foreign_places(file, file_path, names), _load)
        elif PARAMETERS in file:
            samples = read_full(file_path)
        else:
            raise unreadable(
                file_path,
                f"it has neither {LANDMARK_NAMES_GROUP} nor {PARAMETERS}: it is not DeepFluoro's.",
            )
    return samples if split in (None, SPLITS[0]) else samples[:0]


def _create_group(
    file: h5py.File, name: str, n_images: int, shape: tuple[int, ...], n_landmarks: int
) -> h5py.Group:
    """Empty data sets, compressed image by image."""
    group = file.create_group(name)
    for dataset, axes, dtype in (
        (IMAGES, shape, np.float32),
        (LABELS, shape, np.uint8),
        (POINTS, (2, n_landmarks), np.float32),
    ):
        group.create_dataset(
            dataset,
            (n_images, *axes),
            dtype,
            chunks=(1, *axes),
            compression="gzip",
            shuffle=True,
            track_times=False,
        )
    return group


def _stored_images(path: Path) -> Iterator[list[tuple[int, bytes]]]:
    """The images of a fragment, one after the other: their chunks as they are, compressed."""
    with open_hdf5(path) as fragment:
        sources = [fragment["01"][name] for name in DATASETS]
        for index in range(len(sources[0])):
            yield [source.id.read_direct_chunk((index, 0, 0)) for source in sources]


def _write_landmark_names(file: h5py.File, names: Sequence[str]) -> None:
    group = file.create_group(LANDMARK_NAMES_GROUP)
    group.create_dataset("num-lands", data=np.uint64(len(names)), track_times=False)
    for number, name in enumerate(names):
        text = np.bytes_(name.encode())
        group.create_dataset(f"land-{number:02d}", data=text, track_times=False)


def _landmark_names(file: h5py.File, path: Path) -> tuple[str, ...]:
    group = find_group(file, LANDMARK_NAMES_GROUP, path)
    count = int(read_numbers(group, "num-lands", path, ()))
    return tuple(read_text(group, f"land-{number:02d}", path) for number in range(count))


def _fragment(part: Part) -> str:
    return f"{part.stem}.h5"


def _parts_by_group(description: SetDescription) -> Iterator[tuple[str, int, Part]]:
    """Every part: name of its subject's group, number of its first image in it, the part."""
    for number, (_, parts) in enumerate(groupby(description.parts, key=attrgetter("subject"))):
        for part in parts:
            yield f"{number + 1:02d}", part.first - number * description.images_per_subject, part


def _description(path: Path) -> SetDescription | None:
    """The set that a file belongs to, if it is one of XraySynth."""
    described = path.parent / SET_NAME
    if path.name != FILE_NAME or not described.is_file():
        return None
    description = SetDescription.read(described)
    return description if description.layout == "deepfluoro" else None


def _foreign_places(file: h5py.File, path: Path, names: tuple[str, ...]) -> list[_Place]:
    groups = sorted(set(file) - {LANDMARK_NAMES_GROUP, PARAMETERS}, key=lambda it: (len(it), it))
    if not groups:
        raise unreadable(path, "it has no subject.")
    return [
        _Place(path, group, number, names)
        for group in groups
        for number in range(_count_images(file, group, path, len(names)))
    ]


def _own_places(
    file: h5py.File,
    path: Path,
    names: tuple[str, ...],
    description: SetDescription,
    split: str | None,
) -> list[_Place]:
    places = []
    for group, first, part in _parts_by_group(description):
        n_images = description.images_per_subject
        if first == 0 and _count_images(file, group, path, len(names)) != n_images:
            raise unreadable(path, f"/{group} has not the {n_images} images that its set says.")
        if split in (None, part.split):
            places += [
                _Place(path, group, first + number, names, part, number)
                for number in range(part.count)
            ]
    return places


def _count_images(file: h5py.File, name: str, path: Path, n_landmarks: int) -> int:
    """Images of a group whose data sets fit each other."""
    group = find_group(file, name, path)
    shape = find_dataset(group, IMAGES, path, (None, None, None)).shape
    find_dataset(group, LABELS, path, shape)
    find_dataset(group, POINTS, path, (shape[0], 2, n_landmarks))
    if shape[1] * shape[2] > MAX_PIXELS:
        raise unreadable(path, f"/{name}/{IMAGES} has {shape[1]} rows and {shape[2]} columns.")
    return int(shape[0])


def _load(place: _Place) -> Sample:
    with open_hdf5(place.file) as file:
        group = file[place.group]
        values, labels = group[IMAGES][place.number], group[LABELS][place.number]
        points_px = group[POINTS][place.number].T.astype(np.float64)
        kind, subject = (group.attrs.get(name, b"").decode() for name in ("kind", "subject"))
    points_px[~np.isfinite(points_px).all(axis=1) | (points_px == NOWHERE_PX).all(axis=1)] = np.nan
    masks = {name: labels == label for label, name in BONE_NAMES.items()}
    if place.part is not None:
        return _load_ours(place, place.part, values, masks, points_px)
    official = OFFICIAL_NAME.match(place.file.name)
    spacing_mm = None
    if official:
        spacing_mm = np.full(2, OFFICIAL_SPACING_MM * int(official[1]))
        numbered = dict(zip(("01", "02", "03", "04", "05", "06"), SPECIMENS, strict=True))
        subject = numbered.get(place.group, "")
    subject = subject or f"deepfluoro-{place.group}"
    with meaning(place.file):
        return Sample(
            key=f"{subject}-{place.number:03d}",
            xray=Xray(values, Quantity.LINE_INTEGRAL, spacing_mm),
            landmarks=ImageLandmarkSet.placed(place.landmark_names, points_px, values.shape),
            masks=masks,
            provenance=Provenance(kind or "real", subject),
        )


def _load_ours(
    place: _Place, part: Part, values: NDArray, masks: dict[str, NDArray], points_px: NDArray
) -> Sample:
    """A sample with all that its record holds; the file must say the same where it says it."""
    path = place.file
    record_path = path.parent / f"{part.stem}.json"
    if not record_path.exists():
        raise unreadable(path, f"{part.stem}.json, which belongs to it, is missing.")
    records = _records(path.parent, part, record_path.stat().st_mtime_ns)
    with reading(path, "a file of its set"):
        record = json.loads(records[place.number_in_part])
        named = record["masks"]
        known = None if named is None else {name: masks[name] for name in named if name in masks}
    sample = sample_from_record(record, values, known, path)
    if sample.landmarks.names != place.landmark_names or not np.allclose(
        sample.landmarks.points_px, points_px, rtol=1e-6, atol=0.01, equal_nan=True
    ):
        raise unreadable(path, f"its landmarks of {sample.key} are not those of its set.")
    return sample


@lru_cache(maxsize=500)
def _records(folder: Path, part: Part, changed_ns: int) -> tuple[str, ...]:
    """JSON of a part's samples, which is checked once for all of them, until it is changed."""
    document = read_part_record(folder, part)
    assert document is not None  # it has just been there
    return tuple(map(json.dumps, document["samples"]))
