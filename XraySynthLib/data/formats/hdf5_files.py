"""HDF5: opening a file and finding what has to be in it; a sentence for whatever is not there.

Writing too: whole or not at all, also on a full disk.
"""

import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data.formats.atomic import atomic_path
from XraySynthLib.data.formats.problems import check_file, reading, unreadable


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open a file to read from; whatever HDF5 raises in the block becomes the sentence.

    Raises:
        UnreadableFileError: If it is missing, truncated, damaged or not HDF5.
    """
    check_file(path)
    # Many processes read one file, also where the file system knows no locks.
    with reading(path, "an HDF5 file"), h5py.File(path, "r", locking="best-effort") as file:
        yield file


@contextmanager
def create_hdf5(path: Path) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """Lend a new file to write to, which appears whole or not at all.

    It is of the oldest format, which old programs read, and holds no dates.

    Yields:
        The file, and a function that raises if the disk has refused anything so far: whoever writes
        much calls it now and then. It is called at the end.

    Raises:
        OSError: If it cannot be written, as on a full disk; it names `path`.
    """
    with atomic_path(path) as temporary, _PatientDisk(temporary, "w+b") as disk:
        try:
            with h5py.File(disk, "w", libver="earliest") as file:
                yield file, disk.check
        finally:
            disk.check()


class _PatientDisk(io.FileIO):
    """A file on disk that takes every write, and says afterwards what it could not keep.

    HDF5 ends the process where a write fails while it closes something.
    """

    refusal: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of `data`, unless something before it was refused."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while len(rest) and self.refusal is None:
                rest = rest[super().write(rest) or 0 :]
        except OSError as error:
            self.refusal = error
        return size

    def check(self) -> None:
        """Raise the first refusal."""
        if self.refusal is not None:
            raise self.refusal


def find_group(parent: h5py.Group, name: str, path: Path) -> h5py.Group:
    """A group by its name.

    Raises:
        UnreadableFileError: If there is none.
    """
    found = parent.get(name)
    if not isinstance(found, h5py.Group):
        raise unreadable(path, f"it has no group {_full_name(parent, name)}.")
    return found


def find_dataset(
    parent: h5py.Group, name: str, path: Path, shape: tuple[int | None, ...]
) -> h5py.Dataset:
    """A data set of numbers by its name; nothing of it is read.

    Args:
        parent: Where it is.
        name: Its name; with slashes if it is deeper.
        path: The file, which errors name.
        shape: What its shape must be; None for any length of an axis.

    Raises:
        UnreadableFileError: If it is not there or has another shape.
    """
    found = _dataset(parent, name, path)
    right = len(found.shape) == len(shape) and all(
        wanted in (None, length) for wanted, length in zip(shape, found.shape, strict=True)
    )
    if not right or found.dtype.kind not in "iuf":
        wanted_shape = "x".join("N" if length is None else str(length) for length in shape)
        raise unreadable(
            path,
            f"{_full_name(parent, name)} must be {wanted_shape} numbers, "
            f"it is {'x'.join(map(str, found.shape)) or 'one'} of {found.dtype}.",
        )
    return found


def read_numbers(parent: h5py.Group, name: str, path: Path, shape: tuple[int, ...]) -> NDArray:
    """A few numbers as float64 of `shape`; a column (3, 1) is taken for (3,).

    Raises:
        UnreadableFileError: If they are not there or not as many.
    """
    found = _dataset(parent, name, path)
    if found.size != math.prod(shape) or found.dtype.kind not in "iuf":
        raise unreadable(path, f"{_full_name(parent, name)} must be {math.prod(shape)} numbers.")
    return np.asarray(found[()], dtype=np.float64).reshape(shape)


def read_text(parent: h5py.Group, name: str, path: Path) -> str:
    """A text, however it is stored.

    Raises:
        UnreadableFileError: If it is not there or no text.
    """
    found = _dataset(parent, name, path)
    text = np.asarray(found[()]).item() if found.size == 1 else None
    if not isinstance(text, bytes | str):
        raise unreadable(path, f"{_full_name(parent, name)} must be a text.")
    return text.decode("utf-8") if isinstance(text, bytes) else text


def _dataset(parent: h5py.Group, name: str, path: Path) -> h5py.Dataset:
    found = parent.get(name)
    if not isinstance(found, h5py.Dataset) or found.shape is None:
        raise unreadable(path, f"it has no data set {_full_name(parent, name)}.")
    return found


def _full_name(parent: h5py.Group, name: str) -> str:
    return f"{parent.name.rstrip('/')}/{name}"
