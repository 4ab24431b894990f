"""A Sample as a folder: `sample.json`, `xray.tiff` and `labels.png`.

`sample.json` is written last and removed first, so a folder without it is not whole; it holds the
SHA-256 of the other files, so that files of two samples are never taken for one. Masks may
overlap (an X-ray looks through), so `labels.png` is no label map: it has 16 bits a pixel, and bit
n belongs to the n-th name under `masks.bits`.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from XraySynthLib.data.formats.atomic import atomic_path
from XraySynthLib.data.formats.problems import check_file, meaning, reading, unreadable
from XraySynthLib.data.formats.xray_json import xray_fields, xray_from_fields
from XraySynthLib.data.formats.xray_raster import grey_png, read_raster, write_tiff
from XraySynthLib.data.landmarks import ImageLandmarkSet
from XraySynthLib.data.sample import Provenance, Sample

FORMAT, FORMAT_VERSION = "xraysynth-sample", 1
SAMPLE_NAME, IMAGE_NAME, MASKS_NAME = "sample.json", "xray.tiff", "labels.png"
MAX_MASKS = 16
PROVENANCE_FIELDS = ("kind", "subject", "seed", "config", "code_version")


def write_sample(sample: Sample, folder: str | Path) -> None:
    """Write a sample into `folder`, which is made where it is missing.

    Raises:
        ValueError: If there are more than 16 masks or the provenance is not JSON.
        OSError: If a file cannot be written.
    """
    target = Path(folder)
    document = _document(sample)
    json.dumps(document, allow_nan=False)  # refused before anything is touched
    target.mkdir(parents=True, exist_ok=True)
    (target / SAMPLE_NAME).unlink(missing_ok=True)
    write_tiff(sample.xray, target / IMAGE_NAME)
    if sample.masks:
        with atomic_path(target / MASKS_NAME) as temporary:
            temporary.write_bytes(masks_to_png(list(sample.masks.values())))
    else:
        (target / MASKS_NAME).unlink(missing_ok=True)
    names = [IMAGE_NAME, MASKS_NAME] if sample.masks else [IMAGE_NAME]
    document["sha256"] = {name: _sha256(target / name) for name in names}
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    with atomic_path(target / SAMPLE_NAME) as temporary:
        temporary.write_text(text, "utf-8")


def read_sample(path: str | Path) -> Sample:
    """Read a sample from its folder or its `sample.json`.

    Raises:
        UnreadableFileError: If it is not whole, damaged or of a newer version.
    """
    file = Path(path)
    if file.is_dir():
        file = file / SAMPLE_NAME
        if not file.exists():
            raise unreadable(file.parent, f"the folder has no {SAMPLE_NAME}, so it is not whole.")
    document = _read_document(file)
    _check_files(document["sha256"], file)
    image_path = file.parent / IMAGE_NAME
    xray = read_raster(image_path)[0]
    with meaning(file):
        described = xray_from_fields(document["xray"], xray.values, file)
        if xray_fields(described) != xray_fields(xray):
            raise ValueError(f"{IMAGE_NAME} is not the image that it describes.")
    masks = _read_masks(document["masks"], file, xray.values.shape)
    return sample_from_record(document, xray.values, masks, file)


def sample_to_record(sample: Sample) -> dict[str, Any]:
    """Everything of a sample but its pixels, as JSON types."""
    provenance = {field: getattr(sample.provenance, field) for field in PROVENANCE_FIELDS}
    provenance["config"] = dict(sample.provenance.config)
    return {
        "key": sample.key,
        "xray": xray_fields(sample.xray),
        "landmarks": image_landmarks_to_dicts(sample.landmarks),
        "masks": None if sample.masks is None else list(sample.masks),
        "provenance": provenance,
    }


def sample_from_record(
    record: Mapping[str, Any], values: NDArray, masks: Mapping[str, NDArray] | None, path: Path
) -> Sample:
    """Join what `sample_to_record` returned (its "masks" aside) and pixels.

    Args:
        record: The record.
        values: (rows, columns) the image.
        masks: Name -> (rows, columns) bool, or None.
        path: The file it was read from, which errors name.

    Raises:
        UnreadableFileError: If they do not fit, or a field is missing or wrong.
    """
    with meaning(path):
        if not isinstance(record, Mapping) or {"key", "xray", "landmarks"} - set(record):
            raise ValueError("it lacks key, xray or landmarks.")
        provenance = record.get("provenance")
        if not isinstance(provenance, dict) or set(provenance) != set(PROVENANCE_FIELDS):
            raise ValueError(f"its provenance must have {', '.join(PROVENANCE_FIELDS)}.")
        return Sample(
            key=record["key"],
            xray=xray_from_fields(record["xray"], values, path),
            landmarks=image_landmarks_from_dicts(record["landmarks"]),
            masks=masks,
            provenance=Provenance(**provenance),
        )


def image_landmarks_to_dicts(landmarks: ImageLandmarkSet) -> list[dict[str, Any]]:
    """Landmarks as JSON types: name, px [column, row] or null, visible, confidence."""
    points = zip(
        landmarks.names,
        landmarks.points_px.tolist(),
        landmarks.visible.tolist(),
        landmarks.confidence.tolist(),
        strict=True,
    )
    return [
        {
            "name": name,
            "px": None if any(map(np.isnan, px)) else px,
            "visible": visible,
            "confidence": confidence,
        }
        for name, px, visible, confidence in points
    ]


def image_landmarks_from_dicts(points: Sequence[Mapping[str, Any]]) -> ImageLandmarkSet:
    """Make landmarks from what `image_landmarks_to_dicts` returned.

    Raises:
        ValueError: If a field is missing, unknown or wrong.
    """
    names = {"name", "px", "visible", "confidence"}
    if not isinstance(points, Sequence) or not all(
        isinstance(point, Mapping) and set(point) == names for point in points
    ):
        raise ValueError("Landmarks must be a list of objects with name, px, visible, confidence.")
    for point in points:
        px = point["px"]
        right = px is None or (isinstance(px, Sequence) and len(px) == 2 and all(map(_real, px)))
        if not right or not isinstance(point["visible"], bool) or not _real(point["confidence"]):
            raise ValueError(f"Landmark {point['name']!r} has a wrong px, visible or confidence.")
    nowhere = [np.nan, np.nan]
    return ImageLandmarkSet(
        tuple(point["name"] for point in points),
        np.array([nowhere if p["px"] is None else p["px"] for p in points]).reshape(-1, 2),
        np.array([point["visible"] for point in points], dtype=bool),
        np.array([point["confidence"] for point in points], dtype=np.float64),
    )


def _real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _document(sample: Sample) -> dict[str, Any]:
    names = None if sample.masks is None else list(sample.masks)
    if names is not None and len(names) > MAX_MASKS:
        raise ValueError(f"A sample's file holds up to {MAX_MASKS} masks, got {len(names)}.")
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "image": IMAGE_NAME,
        **sample_to_record(sample),
        "masks": None if names is None else {"file": MASKS_NAME if names else None, "bits": names},
    }


def _read_document(path: Path) -> dict[str, Any]:
    check_file(path)
    with reading(path, "a JSON file"):
        document = json.loads(path.read_text("utf-8"), parse_constant=_refuse_constant)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise unreadable(path, f"it is JSON but no sample: its format is not {FORMAT!r}.")
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        raise unreadable(
            path,
            f"its format_version is {version!r}, this XraySynth reads {FORMAT_VERSION}; update.",
        )
    if not isinstance(document.get("xray"), dict):
        raise unreadable(path, "it does not describe its X-ray.")
    needed = {"key", "xray", "landmarks", "masks", "provenance", "sha256"}
    missing = sorted(needed - set(document))
    if missing:
        raise unreadable(path, f"it lacks {', '.join(missing)}.")
    if not isinstance(document["key"], str):
        raise unreadable(path, "its key is not text.")
    return document


def _sha256(path: Path) -> str:
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _check_files(described: object, path: Path) -> None:
    """Refuse files that are not those that the sample was written with."""
    if not isinstance(described, dict) or IMAGE_NAME not in described:
        raise unreadable(path, "its sha256 must name its files.")
    for name, digest in described.items():
        if name not in (IMAGE_NAME, MASKS_NAME):
            raise unreadable(path, f"its sha256 names {name!r}, which is no file of a sample.")
        other = path.parent / name
        check_file(other)
        if _sha256(other) != digest:
            raise unreadable(path, f"{name} is damaged, or belongs to another sample.")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON.")


def masks_to_bits(masks: Sequence[NDArray]) -> NDArray:
    """Masks (rows, columns) as one image (rows, columns) of uint16: bit n is the n-th mask.

    Raises:
        ValueError: If there are none or more than 16.
    """
    if not 1 <= len(masks) <= MAX_MASKS:
        raise ValueError(f"A file holds 1 to {MAX_MASKS} masks, got {len(masks)}.")
    bits = np.zeros(masks[0].shape, np.uint16)
    for position, mask in enumerate(masks):
        bits |= mask.astype(np.uint16) << np.uint16(position)
    return bits


def masks_from_bits(bits: NDArray, names: Sequence[str]) -> dict[str, NDArray]:
    """Undo `masks_to_bits`; `names` are the masks' in their order."""
    return {str(name): (bits >> position & 1).astype(bool) for position, name in enumerate(names)}


def masks_to_png(masks: Sequence[NDArray]) -> bytes:
    """`masks_to_bits` as a 16-bit grey PNG.

    Raises:
        ValueError: If there are none or more than 16.
    """
    return grey_png(masks_to_bits(masks))


def masks_from_png(png: bytes, names: Sequence[str], path: Path) -> dict[str, NDArray]:
    """Undo `masks_to_png`.

    Args:
        png: The bytes.
        names: Of the masks, in their order.
        path: The file they are from, which errors name.

    Raises:
        UnreadableFileError: If they are no 16-bit grey PNG.
    """
    with (
        reading(path, "a 16-bit grey PNG"),
        Image.open(io.BytesIO(png), formats=("PNG",)) as image,
    ):
        if not image.mode.startswith("I"):
            raise ValueError(f"Bits are stored in 16 bits a pixel, got {image.mode}.")
        bits = np.array(image).astype(np.uint16)
    return masks_from_bits(bits, names)


def _read_masks(described: object, path: Path, shape: tuple[int, ...]) -> dict[str, NDArray] | None:
    if described is None:
        return None
    names = described.get("bits") if isinstance(described, dict) else None
    if (
        not isinstance(names, list)
        or len(names) > MAX_MASKS
        or len({*map(str, names)}) < len(names)
    ):
        raise unreadable(path, f"its masks must be up to {MAX_MASKS} different names.")
    if not names:
        return {}
    image_path = path.parent / MASKS_NAME
    check_file(image_path)
    masks = masks_from_png(image_path.read_bytes(), names, image_path)
    if any(mask.shape != shape for mask in masks.values()):
        raise unreadable(image_path, f"its shape is not the image's {shape}.")
    return masks
