"""Is the data inside an NRRD or MetaImage file whole? ITK does not look at the checksum."""

import re
import zlib
from pathlib import Path

from XraySynthLib.data.formats.problems import reading, unreadable

HEADER_BYTES = 1 << 16
CHUNK_BYTES = 1 << 20
GZIP_OR_ZLIB = 47
"""zlib's window bits that accept either wrapping and verify its checksum."""
META_HEADER = re.compile(rb"ElementDataFile\s*=\s*LOCAL\s*\n", re.IGNORECASE)
META_PACKED = re.compile(rb"^CompressedData\s*=\s*[T1]", re.IGNORECASE | re.MULTILINE)
META_PACKED_BYTES = re.compile(rb"^CompressedDataSize\s*=\s*(\d{1,18})\s*$", re.MULTILINE)
NRRD_HEADER = re.compile(rb"\r?\n\r?\n")
NRRD_PACKED = re.compile(rb"^encoding:\s*(gzip|gz)\s*$", re.IGNORECASE | re.MULTILINE)
NRRD_READ = re.compile(rb"^encoding:\s*(gzip|gz|raw)\s*$", re.IGNORECASE | re.MULTILINE)
NRRD_SKIP = re.compile(rb"^(line|byte) ?skip:|^data ?file:", re.IGNORECASE | re.MULTILINE)


def unpacked_bytes(path: Path) -> int | None:
    """Unpack the data of a .nrrd or .mha to its checksum, where it is in the file and packed.

    Returns:
        How many bytes it unpacks to; None where it is not packed, or in another file.

    Raises:
        UnreadableFileError: If it is truncated, a byte has changed, or ITK would read it wrongly.
    """
    count = 0
    with reading(path, "a volume file"), path.open("rb") as file:
        head = file.read(HEADER_BYTES)
        if head.startswith(b"NRRD") and not NRRD_READ.search(_header(head, NRRD_HEADER)):
            # ITK 5.4 crashes on some of the others.
            raise unreadable(path, "its encoding is none of raw and gzip; save it again in Slicer.")
        start = _packed_start(head)
        if start is None:
            return None
        file.seek(start)
        stream = zlib.decompressobj(GZIP_OR_ZLIB)
        while not stream.eof and (chunk := file.read(CHUNK_BYTES)):
            while chunk and not stream.eof:
                count += len(stream.decompress(chunk, CHUNK_BYTES))
                chunk = stream.unconsumed_tail
        n_packed = file.tell() - start - len(stream.unused_data)
    if not stream.eof:
        raise unreadable(path, "it is truncated: its packed data has no end.")
    if not head.startswith(b"NRRD"):
        stated = META_PACKED_BYTES.search(_header(head, META_HEADER))
        if stated is None or int(stated[1]) != n_packed:  # MetaIO would leave memory as it was
            raise unreadable(path, "its CompressedDataSize is not that of its data.")
    return count


def _header(head: bytes, header_end: re.Pattern[bytes]) -> bytes:
    end = header_end.search(head)
    return (head if end is None else head[: end.start() + 1]).replace(b"\r", b"")


def _packed_start(head: bytes) -> int | None:
    """Where packed data starts, or None if it is not packed or not in this file."""
    header_end, packed = META_HEADER, META_PACKED
    if head.startswith(b"NRRD"):
        header_end, packed = NRRD_HEADER, NRRD_PACKED
    end, header = header_end.search(head), _header(head, header_end)
    if end is None or not packed.search(header) or NRRD_SKIP.search(header):
        return None
    return end.end()
