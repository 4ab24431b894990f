"""Is a NIfTI file whole? ITK fills what is missing with zeros and says nothing, so we count."""

import gzip
import struct
from math import prod
from pathlib import Path

from XraySynthLib.data.formats.problems import reading, unreadable

HEADER_BYTES = 540
CHUNK_BYTES = 1 << 20
UNITS_MM, UNITS_UNKNOWN = 2, 0


def check_nifti_whole(path: Path) -> None:
    """Compare the header's promise with the bytes there are; a .gz is unpacked to its checksum.

    Raises:
        UnreadableFileError: If the file is truncated, no single-file NIfTI, or not in millimetres.
    """
    with reading(path, "a NIfTI file"):
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as stream:
            header = stream.read(HEADER_BYTES)
            count = len(header)
            if packed:
                while chunk := stream.read(CHUNK_BYTES):
                    count += len(chunk)
            else:
                count = path.stat().st_size
        promised, units = _promise(header)
    if count < promised:
        raise unreadable(path, f"it is truncated: {count} bytes of {promised} are there.")
    if units not in (UNITS_MM, UNITS_UNKNOWN):
        raise unreadable(path, "its header gives lengths in metres or micrometres, not in mm.")


def _promise(header: bytes) -> tuple[int, int]:
    """Bytes that a whole file has, and its unit of length (NIfTI-1 and -2 headers).

    Raises:
        ValueError: If this is no header of a single-file NIfTI.
    """
    for order in "<>":
        (size,) = struct.unpack_from(f"{order}i", header)
        if size == 348 and header[344:347] == b"n+1":
            dim = struct.unpack_from(f"{order}8h", header, 40)
            (bits,) = struct.unpack_from(f"{order}h", header, 72)
            (offset,) = struct.unpack_from(f"{order}f", header, 108)
            units = header[123] & 7
        elif size == 540 and header[4:7] == b"n+2":
            (bits,) = struct.unpack_from(f"{order}h", header, 14)
            dim = struct.unpack_from(f"{order}8q", header, 16)
            (offset,) = struct.unpack_from(f"{order}q", header, 168)
            units = struct.unpack_from(f"{order}i", header, 500)[0] & 7
        else:
            continue
        if not 1 <= dim[0] <= 7 or min(dim[1 : dim[0] + 1]) < 1:
            raise ValueError("A NIfTI header's dimensions are wrong.")
        return int(offset) + prod(dim[1 : dim[0] + 1]) * bits // 8, units
    raise ValueError("This is no NIfTI header.")
