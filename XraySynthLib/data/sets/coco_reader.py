"""Reads COCO keypoint files, those of `coco` and those of others."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data.formats.problems import check_file, meaning, reading, unreadable
from XraySynthLib.data.formats.sample_files import (
    image_landmarks_from_dicts,
    image_landmarks_to_dicts,
    sample_from_record,
)
from XraySynthLib.data.formats.xray_json import xray_fields
from XraySynthLib.data.formats.xray_raster import read_raster
from XraySynthLib.data.landmarks import ImageLandmarkSet
from XraySynthLib.data.sample import Sample
from XraySynthLib.data.sets.coco_masks import mask_of_segmentation
from XraySynthLib.data.sets.description import SET_NAME
from XraySynthLib.data.sets.samples import LazySamples
from XraySynthLib.data.sets.splits import SPLITS

IMAGES, ANNOTATIONS = "images", "annotations"
EXTRAS = ("camera", "pixel_spacing_mm", "quantity", "provenance", "masks")
"""What an image of XraySynth has beside what COCO asks for."""
TOLERANCE_PX = 0.01


def read(path: Path, split: str | None = None) -> Sequence[Sample]:
    """Open a folder with annotations/*.json, or one such file; see `layouts.Layout`.

    A file of somebody else must have one category with keypoints, at most one such annotation an
    image, and its images beside it, in images/ or in a folder called like it (COCO's train2017).
    Its images are taken for real ones. It says no subject: Perphix's `case_name` is taken, or the
    whole file is one subject, so that no split can part a patient's images.
    """
    files = [path] if path.is_file() else sorted((path / ANNOTATIONS).glob("*.json"))
    if not files:
        raise unreadable(path, f"it has no {ANNOTATIONS}/*.json.")
    entries: list[_Entry] = []
    for file in files:
        if split in (None, _split_of(file)):
            entries += _read_entries(file)
    names = Counter(entry.image_path for entry in entries)
    if len(names) < len(entries):
        image, _ = names.most_common(1)[0]
        raise unreadable(path, f"{image.name} is there more than once; open one annotation file.")
    if (path / SET_NAME).is_file():
        entries.sort(key=lambda entry: int(entry.image["id"]))
    return LazySamples(entries, _load)


def inside_image(points_px: NDArray, shape: tuple[int, ...]) -> NDArray:
    """Which points (N, 2) lie in an image of (rows, columns); NaN do not."""
    rows, columns = shape
    with np.errstate(invalid="ignore"):
        inside = (points_px >= -0.5) & (points_px < [columns - 0.5, rows - 0.5])
    return np.asarray(inside.all(axis=1))


@dataclass(frozen=True)
class _Entry:
    """What a COCO file says about one image.

    Attributes:
        file: The COCO file.
        image_path: The image.
        image: Its entry among "images".
        ours: Whether XraySynth wrote it.
        names: The keypoints'.
        keypoints: The annotation with keypoints, or None.
        segmentations: Name of a mask -> what it is joined of.
    """

    file: Path
    image_path: Path
    image: Mapping[str, Any]
    ours: bool
    names: tuple[str, ...]
    keypoints: Mapping[str, Any] | None
    segmentations: Mapping[str, Sequence[Any]]


def _split_of(file: Path) -> str:
    """`train` of train.json, person_keypoints_train2017.json and training.json."""
    words = re.findall("[a-z]+", file.stem.lower())
    found = (split for split in SPLITS for word in words if word.startswith(split))
    return next(found, SPLITS[0])


def _read_entries(file: Path) -> list[_Entry]:
    check_file(file)
    with reading(file, "a COCO file"):
        document = json.loads(file.read_text("utf-8"))
        categories = {category["id"]: category for category in document["categories"]}
        with_keypoints = [entry for entry in categories.values() if "keypoints" in entry]
        if not with_keypoints:
            raise unreadable(file, "it is no COCO keypoint file: no category has keypoints.")
        # Perphix's hips have keypoints too; its pelvis has those of both.
        chosen = max(with_keypoints, key=lambda category: len(category["keypoints"]))
        by_image = defaultdict(list)
        for annotation in document["annotations"]:
            by_image[annotation["image_id"]].append(annotation)
        images = document["images"]
        folder = _image_folder(file, images[0]["file_name"]) if images else file.parent
        return [
            _entry(file, folder, image, by_image[image["id"]], categories, chosen)
            for image in images
        ]


def _entry(
    file: Path,
    folder: Path,
    image: Mapping[str, Any],
    annotations: Sequence[Mapping[str, Any]],
    categories: Mapping[Any, Mapping[str, Any]],
    chosen: Mapping[str, Any],
) -> _Entry:
    names, image_name = tuple(chosen["keypoints"]), image["file_name"]
    found = [a for a in annotations if a["category_id"] == chosen["id"] and "keypoints" in a]
    if len(found) > 1:
        raise unreadable(
            file, f"{image_name} has keypoints of {len(found)} patients; an X-ray shows one."
        )
    keypoints = found[0] if found else None
    if keypoints and len(keypoints["keypoints"]) != 3 * len(names):
        count = len(keypoints["keypoints"]) / 3
        raise unreadable(
            file, f"{image_name} has {count:g} keypoints, its category has {len(names)}."
        )
    ours = set(EXTRAS) <= set(image)
    segmentations = defaultdict(list)
    for annotation in annotations:
        union_of_all = ours and annotation is keypoints
        if annotation.get("segmentation") and not union_of_all:
            name = categories[annotation["category_id"]]["name"]
            segmentations[name].append(annotation["segmentation"])
    return _Entry(file, folder / image_name, image, ours, names, keypoints, dict(segmentations))


def _image_folder(file: Path, image_name: str) -> Path:
    """Where a file's images are: the first likely folder that has the first of them."""
    below = (IMAGES, ".", file.stem, file.stem.rpartition("_")[2])
    folders = [base / name for base in (file.parent.parent, file.parent) for name in below]
    folders += [file.parent.parent / IMAGES / name for name in below[2:]]
    return next((folder for folder in folders if (folder / image_name).is_file()), folders[0])


def _load(entry: _Entry) -> Sample:
    xray = read_raster(entry.image_path)[0]
    rows, columns = shape = xray.values.shape
    image = entry.image
    if [image.get("height"), image.get("width")] != [rows, columns]:
        raise unreadable(entry.image_path, f"it is not of the size that {entry.file.name} says.")
    with reading(entry.file, "a COCO file"), meaning(entry.file):
        landmarks = _landmarks(entry, shape)
        names = image["masks"] if entry.ours else (list(entry.segmentations) or None)
        masks = None if names is None else {name: _mask(entry, name, shape) for name in names}
        fields = xray_fields(xray)
        provenance = {
            "kind": "real",
            "subject": str(image.get("case_name") or entry.file.stem),
            "seed": [],
            "config": {},
            "code_version": "",
        }
        if entry.ours:
            fields |= {key: image[key] for key in ("quantity", "pixel_spacing_mm")}
            fields["view"] = image["camera"]
            provenance = image["provenance"]
        record = {
            "key": "-".join(PurePosixPath(image["file_name"]).with_suffix("").parts).strip("-/"),
            "xray": fields,
            "landmarks": image_landmarks_to_dicts(landmarks),
            "provenance": provenance,
        }
    return sample_from_record(record, xray.values, masks, entry.file)


def _landmarks(entry: _Entry, shape: tuple[int, ...]) -> ImageLandmarkSet:
    """The exact landmarks where they are there, else the keypoints, NaN where v is 0.

    Raises:
        ValueError: If both are there and differ: somebody moved the keypoints.
    """
    count = len(entry.names)
    keypoints = np.zeros((count, 3))
    if entry.keypoints is not None:
        keypoints = np.array(entry.keypoints["keypoints"], dtype=np.float64).reshape(count, 3)
    points, v = keypoints[:, :2].copy(), keypoints[:, 2]
    points[v == 0] = np.nan
    if entry.ours and entry.keypoints is not None and "landmarks" in entry.keypoints:
        exact = image_landmarks_from_dicts(entry.keypoints["landmarks"])
        shown = v > 0
        if exact.names != entry.names or not np.allclose(
            exact.points_px[shown], points[shown], rtol=0, atol=TOLERANCE_PX
        ):
            raise ValueError(
                f"The landmarks of {entry.image_path.name} are not its keypoints; "
                "delete `landmarks` where the keypoints are right."
            )
        return exact
    visible = (v == 2) & inside_image(points, shape)
    return ImageLandmarkSet(entry.names, points, visible, np.ones(count))


def _mask(entry: _Entry, name: str, shape: tuple[int, ...]) -> NDArray:
    rows, columns = shape
    mask = np.zeros((rows, columns), dtype=bool)
    for segmentation in entry.segmentations.get(name, ()):
        mask |= mask_of_segmentation(segmentation, (rows, columns))
    return mask
