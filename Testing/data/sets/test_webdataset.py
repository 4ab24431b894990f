import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from XraySynthLib.data import Quantity
from XraySynthLib.data.formats.sample_files import masks_to_png, sample_to_record
from XraySynthLib.data.formats.xray_json import MARK, xray_text
from XraySynthLib.data.sets import open_set
from XraySynthLib.errors import UnreadableFileError


@pytest.mark.parametrize("quantity", list(Quantity))
def test_round_trip(write_set, assert_same_sample, quantity):
    folder, samples = write_set("webdataset", quantity)
    tolerance = {"atol": 0.502 / 255} if quantity is Quantity.DISPLAY else {"rtol": 1 / 2000}
    for sample, wanted in zip(open_set(folder), samples, strict=True):
        assert_same_sample(sample, wanted, **tolerance)


def test_shards_with_16_bit_png(make_sample, assert_same_sample, tmp_path):
    """The older form: greys over a stored range, masks as PNG."""
    wanted = make_sample(0)
    low, high = -0.4, 16.2
    grey = np.round((wanted.xray.values - low) / (high - low) * 65535).astype(np.uint16)
    text = PngInfo()
    fields = json.loads(xray_text(wanted.xray)) | {"stored_range": [low, high]}
    text.add_text(MARK, json.dumps(fields))
    png = io.BytesIO()
    Image.fromarray(grey).save(png, "PNG", pnginfo=text)
    members = {
        "json": json.dumps(sample_to_record(wanted)).encode(),
        "png": png.getvalue(),
        "masks.png": masks_to_png([*wanted.masks.values()]),
    }
    with tarfile.open(tmp_path / "train-000000.tar", "w") as tar:
        for suffix, data in members.items():
            info = tarfile.TarInfo(f"{wanted.key}.{suffix}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    (sample,) = open_set(tmp_path)
    assert_same_sample(sample, wanted, atol=2e-4)


def test_splits_are_shards(write_set):
    folder, _ = write_set("webdataset")
    names = sorted(path.name for path in folder.glob("*.tar"))
    assert names == ["test-000000.tar", "test-000001.tar", "train-000000.tar", "train-000001.tar"]
    assert {s.provenance.subject for s in open_set(folder, "test")} == {"subject-b"}


def test_same_bytes_again(write_set, tmp_path):
    one, _ = write_set("webdataset", folder=tmp_path / "one")
    two, _ = write_set("webdataset", folder=tmp_path / "two")
    for path in one.glob("*.tar"):
        assert path.read_bytes() == (two / path.name).read_bytes()


@pytest.mark.parametrize("decoder", ["pil", "l", "l8", "rgb8"])
@pytest.mark.parametrize("quantity", list(Quantity))
def test_webdataset_streams_and_decodes_the_shards(write_set, decoder, quantity):
    webdataset = pytest.importorskip("webdataset")
    folder, samples = write_set("webdataset", quantity)
    urls = [str(path) for path in sorted(folder.glob("*.tar"), reverse=True)]
    streamed = (
        webdataset.WebDataset(urls, shardshuffle=False)
        .decode(decoder)
        .to_tuple("__key__", "npy.gz;png", "json", "masks.npy.gz")
    )
    by_key = {sample.key: sample for sample in samples}
    for key, image, record, bits in streamed:
        wanted = by_key.pop(key.rpartition("/")[2])
        grey = np.asarray(image, np.float64)
        if quantity is Quantity.DISPLAY:
            grey /= 1 if decoder == "l" else 255
            grey = grey[..., 0] if grey.ndim == 3 else grey
        np.testing.assert_allclose(grey, wanted.xray.values, rtol=1 / 2000, atol=0.502 / 255)
        assert record["landmarks"] == sample_to_record(wanted)["landmarks"]
        for number, name in enumerate(record["masks"]):
            np.testing.assert_array_equal(bits >> number & 1, wanted.masks[name])
    assert not by_key


def test_a_truncated_shard(write_set):
    folder, _ = write_set("webdataset")
    shard = folder / "train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:3000])
    with pytest.raises(UnreadableFileError):
        [*open_set(folder)]


def test_a_damaged_image(write_set):
    folder, _ = write_set("webdataset")
    shard = folder / "train-000000.tar"
    data = bytearray(shard.read_bytes())
    with tarfile.open(shard) as tar:
        member = tar.getmember("subject-a-000000.npy.gz")
    data[member.offset_data + member.size // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(UnreadableFileError, match="damaged"):
        open_set(folder)[0]


def test_a_shard_of_somebody_else(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("cat.jpg"))
    with pytest.raises(UnreadableFileError, match=r"has no \.json"):
        open_set(tmp_path)
