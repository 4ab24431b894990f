"""How a bad file becomes one sentence. Lives here: the wording and what counts as a bad file."""

import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom.errors import BytesLengthException, InvalidDicomError

from XraySynthLib.errors import UnreadableFileError

MAX_SENTENCE = 290

DECODER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What SimpleITK, pydicom, Pillow, gzip and json raise on damaged bytes; Pillow reports a bad PNG
as SyntaxError. Under `reading` stand library calls and arithmetic on a file's own tables."""


def unreadable(path: Path, found: str) -> UnreadableFileError:
    """Make the error for `path`: its name and what was found, in one line of bearable length."""
    shown = str(path)
    if len(shown) > 90:
        shown = "..." + shown[-87:]
    sentence = " ".join(f"Cannot read {shown}: {found}".split())
    if len(sentence) > MAX_SENTENCE:
        sentence = sentence[: MAX_SENTENCE - 3].rstrip() + "..."
    return UnreadableFileError(sentence)


def check_file(path: Path) -> None:
    """Raise the sentence for a path that is missing, a folder or an empty file."""
    try:
        if not path.exists():
            raise unreadable(path, "there is no such file.")
        if path.is_dir():
            raise unreadable(path, "it is a folder, a file was expected.")
        if path.stat().st_size == 0:
            raise unreadable(path, "the file is empty.")
    except (OSError, ValueError) as error:
        raise unreadable(path, "the file system does not let it be opened.") from error


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turn what a library raises on a bad file into the sentence; our own errors pass.

    Args:
        path: The file.
        kind: What it was read as, with its article: "a DICOM file".
    """
    try:
        yield
    except DECODER_ERRORS as error:
        raise unreadable(path, f"it is truncated, damaged or not {kind}.") from error


@contextmanager
def meaning(path: Path) -> Iterator[None]:
    """Turn the `ValueError` of one of our types into the sentence about the file it came from."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise unreadable(path, f"{error}") from error
