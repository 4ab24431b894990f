"""Is the packed data inside an NRRD or MetaImage file whole? ITK does not look at the checksum."""

import re
import zlib
from pathlib import Path

from XraySynthLib.data.formats.problems import reading, unreadable

HEADER_BYTES = 1 << 16
CHUNK_BYTES = 1 << 20
GZIP_OR_ZLIB = 47
"""zlib's window bits that accept either wrapping and verify its checksum."""
META_HEADER = re.compile(rb"ElementDataFile\s*=\s*LOCAL\s*\n", re.IGNORECASE)
META_PACKED = re.compile(rb"^CompressedData\s*=\s*(True|1)", re.IGNORECASE | re.MULTILINE)
NRRD_HEADER = re.compile(rb"\r?\n\r?\n")
NRRD_PACKED = re.compile(rb"^encoding:\s*(gzip|gz)\s*$", re.IGNORECASE | re.MULTILINE)
NRRD_SKIP = re.compile(rb"^(line|byte) ?skip:|^data ?file:", re.IGNORECASE | re.MULTILINE)


def check_packed_whole(path: Path) -> None:
    """Unpack the data of a .nrrd or .mha to its checksum, where it is in the file and packed.

    Raises:
        UnreadableFileError: If it is truncated or a byte has changed.
    """
    with reading(path, "a volume file"), path.open("rb") as file:
        start = _packed_start(file.read(HEADER_BYTES))
        if start is None:
            return
        file.seek(start)
        stream = zlib.decompressobj(GZIP_OR_ZLIB)
        while not stream.eof and (chunk := file.read(CHUNK_BYTES)):
            while chunk and not stream.eof:
                stream.decompress(chunk, CHUNK_BYTES)
                chunk = stream.unconsumed_tail
    if not stream.eof:
        raise unreadable(path, "it is truncated: its packed data has no end.")


def _packed_start(head: bytes) -> int | None:
    """Where packed data starts, or None if it is not packed or not in this file."""
    header_end, packed = META_HEADER.search(head), META_PACKED
    if head.startswith(b"NRRD"):
        header_end, packed = NRRD_HEADER.search(head), NRRD_PACKED
    if header_end is None:
        return None
    header = head[: header_end.start()].replace(b"\r", b"")
    return header_end.end() if packed.search(header) and not NRRD_SKIP.search(header) else None
