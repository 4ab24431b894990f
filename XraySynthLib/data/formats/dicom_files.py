"""Opening DICOM files with pydicom: quietly, and with one sentence when that fails."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom

from XraySynthLib.data.formats.problems import check_file, reading, unreadable


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


def read_dataset(path: Path, tags: list[str] | None = None) -> pydicom.Dataset:
    """Read a DICOM file, or with `tags` only these attributes.

    Every value is converted here, so that a damaged one is found inside `reading`.

    Raises:
        UnreadableFileError: If the file is missing, damaged or not DICOM.
    """
    check_file(path)
    if not is_dicom(path):
        raise unreadable(path, "it is not a DICOM file.")
    with reading(path, "a DICOM file"), quiet_pydicom():
        dataset = pydicom.dcmread(path, stop_before_pixels=tags is not None, specific_tags=tags)
        for element in dataset:
            _ = element.value
    return dataset


def numbers(dataset: pydicom.Dataset, keyword: str) -> list[float] | None:
    """Return an attribute's numbers, or None where it is missing, empty or no number."""
    value: Any = dataset.get(keyword)
    if value is None or value == "":
        return None
    try:
        many = [value] if isinstance(value, str | int | float) else list(value)
        return [float(number) for number in many] or None
    except (TypeError, ValueError):
        return None


def number(dataset: pydicom.Dataset, keyword: str) -> float | None:
    """Return an attribute's first number, or None where there is none."""
    found = numbers(dataset, keyword)
    return found[0] if found else None
