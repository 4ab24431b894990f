"""Opening DICOM files with pydicom: quietly, and with one sentence when that fails."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom

from XraySynthLib.data.formats.problems import DECODER_ERRORS, check_file, reading, unreadable


def is_dicom(path: Path) -> bool:
    """Whether the file has DICOM's mark; False too where there is no file."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except (OSError, ValueError):
        return False


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom's warnings about odd attributes to itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_dataset(path: Path, needed: list[str], pixels: bool = True) -> pydicom.Dataset:
    """Read a DICOM file.

    Call it inside `quiet_pydicom`. The `needed` values are converted here, so that a damaged one
    is found; what else is odd in the file, and in files from hospitals much is, does not matter.

    Args:
        path: The file.
        needed: Keywords of attributes that will be used.
        pixels: Whether to read everything; False reads the `needed` attributes alone.

    Raises:
        UnreadableFileError: If the file is missing, damaged or not DICOM.
    """
    check_file(path)
    if not is_dicom(path):
        raise unreadable(path, "it is not a DICOM file.")
    with reading(path, "a DICOM file"):
        tags = None if pixels else needed
        dataset = pydicom.dcmread(path, stop_before_pixels=not pixels, specific_tags=tags)
        _ = dataset.file_meta.get("TransferSyntaxUID")
        for keyword in needed:
            _ = dataset.get(keyword)
    return dataset


def numbers(dataset: pydicom.Dataset, keyword: str) -> list[float] | None:
    """Return an attribute's numbers, or None where it is missing, empty or no number."""
    try:
        value: Any = dataset.get(keyword)
        if value is None or value == "":
            return None
        many = [value] if isinstance(value, str | int | float) else list(value)
        return [float(number) for number in many] or None
    except DECODER_ERRORS:
        return None


def number(dataset: pydicom.Dataset, keyword: str) -> float | None:
    """Return an attribute's first number, or None where there is none."""
    found = numbers(dataset, keyword)
    return found[0] if found else None
