"""Is a NIfTI file whole? ITK turns what is missing, and what is NaN, into zeros and says nothing.

So we count the bytes, and look at the numbers.
"""

import gzip
import struct
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from XraySynthLib.data.formats.problems import reading, unreadable

HEADER_BYTES = 540
CHUNK_BYTES = 1 << 20
UNITS_MM, UNITS_UNKNOWN = 2, 0
FLOAT_TYPES = {16: "f4", 64: "f8"}
"""Datatype codes of the header whose numbers may be NaN."""


class _Promise(NamedTuple):
    """What a header says of the data: where they start and stop, bytes; unit of length; type."""

    start: int
    stop: int
    units: int
    float_type: str | None


def check_nifti_whole(path: Path) -> None:
    """Compare the header's promise with the bytes there are; a .gz is unpacked to its checksum.

    Raises:
        UnreadableFileError: If the file is truncated, no single-file NIfTI, not in millimetres, or
            a number is NaN or infinite.
    """
    with reading(path, "a NIfTI file"):
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as stream:
            promise = _promise(stream.read(HEADER_BYTES))
            count = stream.seek(promise.start)
            n_wrong = 0
            while chunk := stream.read(CHUNK_BYTES):
                if promise.float_type:
                    data = chunk[: max(0, promise.stop - count)]
                    whole = len(data) - len(data) % np.dtype(promise.float_type).itemsize
                    numbers = np.frombuffer(data[:whole], promise.float_type)
                    n_wrong += int(numbers.size - np.isfinite(numbers).sum())
                count += len(chunk)
    if count < promise.stop:
        raise unreadable(path, f"it is truncated: {count} bytes of {promise.stop} are there.")
    if n_wrong:
        raise unreadable(path, f"it holds {n_wrong} values that are NaN or infinite.")
    if promise.units not in (UNITS_MM, UNITS_UNKNOWN):
        raise unreadable(path, "its header gives lengths in metres or micrometres, not in mm.")


def _promise(header: bytes) -> _Promise:
    """Read a NIfTI-1 or NIfTI-2 header.

    Raises:
        ValueError: If this is no header of a single-file NIfTI.
    """
    for order in "<>":
        (size,) = struct.unpack_from(f"{order}i", header)
        if size == 348 and header[344:347] == b"n+1":
            dim = struct.unpack_from(f"{order}8h", header, 40)
            code, bits = struct.unpack_from(f"{order}2h", header, 70)
            (offset,) = struct.unpack_from(f"{order}f", header, 108)
            units = header[123] & 7
        elif size == 540 and header[4:7] == b"n+2":
            code, bits = struct.unpack_from(f"{order}2h", header, 12)
            dim = struct.unpack_from(f"{order}8q", header, 16)
            (offset,) = struct.unpack_from(f"{order}q", header, 168)
            units = struct.unpack_from(f"{order}i", header, 500)[0] & 7
        else:
            continue
        if not 1 <= dim[0] <= 7 or min(dim[1 : dim[0] + 1]) < 1:
            raise ValueError("A NIfTI header's dimensions are wrong.")
        start = int(offset)
        stop = start + prod(dim[1 : dim[0] + 1]) * bits // 8
        return _Promise(
            start, stop, units, order + FLOAT_TYPES[code] if code in FLOAT_TYPES else None
        )
    raise ValueError("This is no NIfTI header.")
