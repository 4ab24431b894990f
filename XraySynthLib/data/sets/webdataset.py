"""WebDataset shards: tar files that training streams, without a file an image.

Every shard holds images of one subject and one split: `train-000007.tar`. A sample is

    KEY.json           everything but the pixels, as in `sample.json`
    KEY.npy.gz         float16 line integrals or transmission, to 1/2000 of each value
    KEY.png            instead of it, for display: 8-bit grey; its text holds the View
    KEY.masks.npy.gz   where there are masks: uint16, bit n is the n-th name of "masks"

so that the package webdataset decodes each as it is, whatever image decoder is asked for:

    for image, record in WebDataset(shards).decode("l").to_tuple("npy.gz;png", "json"): ...

A 16-bit PNG, which shards held before, comes out of its decoders all white; `read` takes it still.
"""

import gzip
import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data.formats import atomic_path
from XraySynthLib.data.formats.problems import check_file, reading, unreadable
from XraySynthLib.data.formats.sample_files import (
    MAX_MASKS,
    masks_from_bits,
    masks_from_png,
    masks_to_bits,
    sample_from_record,
    sample_to_record,
)
from XraySynthLib.data.formats.xray_raster import xray_from_png, xray_to_png
from XraySynthLib.data.sample import Sample
from XraySynthLib.data.sets.description import SET_NAME, SetDescription
from XraySynthLib.data.sets.layouts import check_mask_count
from XraySynthLib.data.sets.parts import Part
from XraySynthLib.data.sets.samples import LazySamples
from XraySynthLib.data.sets.splits import SPLITS
from XraySynthLib.data.xray import Quantity

QUANTITIES = (Quantity.LINE_INTEGRAL, Quantity.TRANSMISSION, Quantity.DISPLAY)
FRAGMENTS_STAY = False
RECORD, MASKS, MASKS_BEFORE = "json", "masks.npy.gz", "masks.png"
VALUES, PICTURE = "npy.gz", "png"

Member = tuple[int, int]
"""Where a file's bytes are in a tar: offset and length."""


def check(description: SetDescription) -> None:
    """Refuse more masks than a mask image has bits; see `layouts.Layout`."""
    check_mask_count(description, MAX_MASKS)


def write_part(folder: Path, part: Part, samples: Iterable[Sample]) -> list[str]:
    """Write one shard; see `layouts.Layout`."""
    name = _shard(part)
    with atomic_path(folder / name) as temporary, tarfile.open(temporary, "w") as tar:
        for sample in samples:
            record = json.dumps(sample_to_record(sample), allow_nan=False).encode()
            _add(tar, f"{sample.key}.{RECORD}", record)
            if sample.xray.quantity is Quantity.DISPLAY:
                _add(tar, f"{sample.key}.{PICTURE}", xray_to_png(sample.xray))
            else:
                _add(tar, f"{sample.key}.{VALUES}", _npy_gz(sample.xray.values.astype(np.float16)))
            if sample.masks:
                masks = masks_to_bits(list(sample.masks.values()))
                _add(tar, f"{sample.key}.{MASKS}", _npy_gz(masks))
    return [name]


def assemble(folder: Path, description: SetDescription) -> list[str]:
    """Shards are whole as they are; see `layouts.Layout`."""
    return []


def read(path: Path, split: str | None = None) -> Sequence[Sample]:
    """Open a folder of shards or one shard; see `layouts.Layout`."""
    shards = [path] if path.is_file() else sorted(path.glob("[!.]*.tar"))
    if (path / SET_NAME).is_file():
        parts = SetDescription.read(path / SET_NAME).parts
        numbers = {_shard(part): part.index for part in parts}
        shards.sort(key=lambda shard: numbers.get(shard.name, len(parts)))
    if split is not None:
        shards = [shard for shard in shards if _split_of(shard) == split]
    places = [(shard, members) for shard in shards for members in _members(shard).values()]
    return LazySamples(places, _load)


def _shard(part: Part) -> str:
    return f"{part.split}-{part.index_in_split:06d}.tar"


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file without date or owner: who wrote it, and when, must not change a byte."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _split_of(shard: Path) -> str:
    name = shard.name.partition("-")[0]
    return name if name in SPLITS else SPLITS[0]


def _members(shard: Path) -> dict[str, dict[str, Member]]:
    """Key -> suffix -> where; the key ends at the first dot, as WebDataset has it."""
    check_file(shard)
    samples: dict[str, dict[str, Member]] = {}
    with reading(shard, "a tar file"), tarfile.open(shard, "r:") as tar:
        for member in tar:
            key, _, suffix = member.name.partition(".")
            samples.setdefault(key, {})[suffix] = member.offset_data, member.size
    for key, members in samples.items():
        if RECORD not in members or not {VALUES, PICTURE} & set(members):
            raise unreadable(
                shard, f"sample {key!r} has no .{RECORD}, or no .{VALUES} and no .{PICTURE}."
            )
    return samples


def _load(place: tuple[Path, dict[str, Member]]) -> Sample:
    shard, members = place
    files: dict[str, bytes] = {}
    with reading(shard, "a tar file"), shard.open("rb") as data:
        for suffix, (offset, size) in members.items():
            data.seek(offset)
            files[suffix] = data.read(size)
    with reading(shard, "a shard of XraySynth"):
        record: dict[str, Any] = json.loads(files[RECORD])
        names = record["masks"]
        if VALUES in files:
            values = _array(files[VALUES]).astype(np.float32)
        else:
            values = xray_from_png(files[PICTURE], shard).values
        masks: dict[str, NDArray] | None = None if names is None else {}
        if names and MASKS in files:
            masks = masks_from_bits(_array(files[MASKS]), names)
        elif names:
            masks = masks_from_png(files[MASKS_BEFORE], names, shard)
    return sample_from_record(record, values, masks, shard)


def _npy_gz(array: NDArray) -> bytes:
    data = io.BytesIO()
    np.save(data, array, allow_pickle=False)
    return gzip.compress(data.getvalue(), compresslevel=1, mtime=0)


def _array(npy_gz: bytes) -> NDArray:
    return np.asarray(np.load(io.BytesIO(gzip.decompress(npy_gz)), allow_pickle=False))
