"""COCO keypoint sets.

    images/KEY.png            8-bit grey
    annotations/train.json    also val.json, test.json: those that have images

Every image has one annotation of category "pelvis" with the keypoints, and one for each mask that
is not empty. A keypoint's v is 2 where the landmark is visible, 1 where it lies in the image but
cannot be seen (behind the collimator), 0 with x = y = 0 where it is outside the image or unknown.

Pixels: of keypoints an integer is a pixel's centre (COCO's are pixel indices), as everywhere here.
Boxes and polygons count from the image's corner, so that a pixel's centre is at 0.5.

What COCO has no field for: an image has `camera` (the View), `pixel_spacing_mm`, `quantity`,
`provenance` and `masks` (names of all, also the empty ones); its pelvis has `landmarks`, exact and
also those outside the image, which `read` takes rather than the keypoints.

Perphix: category ids are its own where it has the bone; `first_frame_id`, `frame_id`,
`seq_length`, `sequences` and `seq_categories` are there for it, every image a sequence of its own.
Its image folder is images/. It does not look at v: a landmark with v = 0 is at (0, 0) for it.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data.formats import atomic_path
from XraySynthLib.data.formats.problems import check_file, reading
from XraySynthLib.data.formats.sample_files import image_landmarks_to_dicts, sample_to_record
from XraySynthLib.data.formats.xray_raster import xray_to_png
from XraySynthLib.data.landmarks import ImageLandmarkSet
from XraySynthLib.data.pelvis import SKELETON
from XraySynthLib.data.sample import Sample
from XraySynthLib.data.sets.coco_masks import box_of_mask, rle_of_mask
from XraySynthLib.data.sets.coco_reader import ANNOTATIONS, IMAGES, inside_image, read
from XraySynthLib.data.sets.description import SetDescription
from XraySynthLib.data.sets.layouts import check_mask_count
from XraySynthLib.data.sets.parts import Part
from XraySynthLib.data.sets.splits import SPLITS
from XraySynthLib.data.xray import Quantity

__all__ = ["FRAGMENTS_STAY", "QUANTITIES", "assemble", "check", "read", "write_part"]

QUANTITIES = (Quantity.DISPLAY,)
FRAGMENTS_STAY = True
PELVIS_ID = 9
MASK_IDS = MappingProxyType(
    {
        "left hemipelvis": 3,
        "right hemipelvis": 4,
        "left femur": 5,
        "right femur": 6,
        "sacrum": 7,
        "vertebrae": 8,
    }
)
"""Perphix's category ids; its 8 is the fifth lumbar vertebra alone."""
FIRST_FREE_ID = 18
"""Of masks that Perphix does not have: 10 to 17 are its corridors."""
IDS_PER_IMAGE = 100
LICENSE = {
    "id": 1,
    "name": "Not stated: the terms of what the images were made from apply",
    "url": "",
}


def check(description: SetDescription) -> None:
    """Refuse more masks than an image has ids; see `layouts.Layout`."""
    check_mask_count(description, IDS_PER_IMAGE - 1)


def write_part(folder: Path, part: Part, samples: Iterable[Sample]) -> list[str]:
    """Write the images and a fragment with their annotations; see `layouts.Layout`."""
    (folder / IMAGES).mkdir(exist_ok=True)
    files: list[str] = []
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, sample in enumerate(samples, part.first + 1):
        name = f"{sample.key}.png"
        with atomic_path(folder / IMAGES / name) as temporary:
            temporary.write_bytes(xray_to_png(sample.xray))
        files.append(f"{IMAGES}/{name}")
        images.append(_image(sample, image_id, name))
        annotations += _annotations(sample, image_id)
    fragment = _fragment(part)
    with atomic_path(folder / fragment) as temporary:
        document = {"images": images, "annotations": annotations}
        temporary.write_text(json.dumps(document, allow_nan=False) + "\n", "utf-8")
    return [*files, fragment]


def assemble(folder: Path, description: SetDescription) -> list[str]:
    """Join the fragments, one at a time, into an annotation file a split; see `layouts.Layout`."""
    (folder / ANNOTATIONS).mkdir(exist_ok=True)
    categories = _categories(description)
    ids = {category["name"]: category["id"] for category in categories[1:]}
    head = {"info": _info(description), "licenses": [LICENSE], "categories": categories}
    written = []
    for split in SPLITS:
        parts = [part for part in description.parts if part.split == split]
        if not parts:
            continue
        name = f"{ANNOTATIONS}/{split}.json"
        with (
            atomic_path(folder / name) as temporary,
            temporary.open("w", encoding="utf-8", newline="\n") as file,
        ):
            file.write(json.dumps(head, allow_nan=False)[:-1])
            for table in ("images", "annotations"):
                file.write(f',\n"{table}": [\n')
                for number, entry in enumerate(_entries(folder, parts, table)):
                    if "category" in entry:
                        entry["category_id"] = ids[entry.pop("category")]
                    file.write(",\n" * (number > 0) + json.dumps(entry, allow_nan=False))
                file.write("\n]")
            file.write(',\n"sequences": [],\n"seq_categories": []}\n')
        written.append(name)
    return written


def _info(description: SetDescription) -> dict[str, str]:
    return {
        "description": "X-rays with landmarks; each image's provenance says whether it is "
        "simulated. For research and teaching, not for clinical use.",
        "version": description.code_version,
        "contributor": "XraySynth",
    }


def _categories(description: SetDescription) -> list[dict[str, Any]]:
    names = description.landmark_names
    number = {name: position for position, name in enumerate(names, 1)}
    pelvis = {
        "id": PELVIS_ID,
        "name": "pelvis",
        "supercategory": "anatomy",
        "keypoints": list(names),
        "skeleton": [
            [number[one], number[other]]
            for one, other in SKELETON
            if one in number and other in number
        ],
    }
    masks = [
        {"id": MASK_IDS.get(name, FIRST_FREE_ID + position), "name": name}
        for position, name in enumerate(description.mask_names)
    ]
    return [pelvis, *(mask | {"supercategory": "anatomy"} for mask in masks)]


def _fragment(part: Part) -> str:
    return f"{part.stem}.coco.json"


def _entries(folder: Path, parts: Iterable[Part], table: str) -> Iterator[dict[str, Any]]:
    for part in parts:
        path = folder / _fragment(part)
        check_file(path)
        with reading(path, "a fragment of a COCO set"):
            entries = json.loads(path.read_text("utf-8"))[table]
        yield from entries


def _image(sample: Sample, image_id: int, name: str) -> dict[str, Any]:
    record = sample_to_record(sample)
    rows, columns = sample.xray.values.shape
    return {
        "id": image_id,
        "file_name": name,
        "width": columns,
        "height": rows,
        "license": LICENSE["id"],
        "first_frame_id": image_id,
        "frame_id": 0,
        "seq_length": 1,
        "camera": record["xray"]["view"],
        "pixel_spacing_mm": record["xray"]["pixel_spacing_mm"],
        "quantity": record["xray"]["quantity"],
        "provenance": record["provenance"],
        "masks": record["masks"],
    }


def _annotations(sample: Sample, image_id: int) -> Iterator[dict[str, Any]]:
    """The pelvis, then the masks; `assemble` makes a mask's `category` its `category_id`."""
    masks = sample.masks or {}
    shape = sample.xray.values.shape
    keypoints = _keypoints(sample.landmarks, shape)
    union = np.zeros(shape, dtype=bool)
    for mask in masks.values():
        union |= mask
    box = _box_of_points(keypoints, box_of_mask(union), shape)
    common = {"image_id": image_id, "iscrowd": 0}
    yield {
        "id": image_id * IDS_PER_IMAGE,
        "category_id": PELVIS_ID,
        **common,
        "bbox": box,
        "area": float(np.count_nonzero(union)) or box[2] * box[3],
        "segmentation": rle_of_mask(union) if union.any() else [_corners(box)],
        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
        "keypoints": [number for x, y, v in keypoints.tolist() for number in (x, y, int(v))],
        "landmarks": image_landmarks_to_dicts(sample.landmarks),
    }
    for number, (name, mask) in enumerate(masks.items(), 1):
        around = box_of_mask(mask)
        if around is not None:
            yield {
                "id": image_id * IDS_PER_IMAGE + number,
                "category": name,
                **common,
                "bbox": around,
                "area": float(np.count_nonzero(mask)),
                "segmentation": rle_of_mask(mask),
                "num_keypoints": 0,  # pycocotools asks every annotation for it
            }


def _keypoints(landmarks: ImageLandmarkSet, shape: tuple[int, ...]) -> NDArray:
    """(N, 3) x, y, v."""
    points = landmarks.points_px
    inside = inside_image(points, shape)
    v = np.where(inside, np.where(landmarks.visible, 2, 1), 0)
    xy = np.where(inside[:, None], points, 0)
    return np.column_stack([xy, v])


def _box_of_points(
    keypoints: NDArray, box: list[float] | None, shape: tuple[int, ...]
) -> list[float]:
    """The box [left, top, width, height] around `box` and the pixels of the labelled keypoints.

    Where there is neither it is the image.
    """
    pixels = np.floor(keypoints[keypoints[:, 2] > 0, :2] + 0.5)
    corners = [*pixels, *(pixels + 1)]
    if box is not None:
        corners += [np.array(box[:2]), np.array(box[:2]) + box[2:]]
    if not corners:
        return [0.0, 0.0, float(shape[1]), float(shape[0])]
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    return [*low.tolist(), *(high - low).tolist()]


def _corners(box: Sequence[float]) -> list[float]:
    left, top, width, height = box
    right, bottom = left + width, top + height
    return [left, top, right, top, right, bottom, left, bottom]
