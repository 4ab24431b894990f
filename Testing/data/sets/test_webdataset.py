import io
import tarfile

import numpy as np
import pytest

from XraySynthLib.data import Quantity
from XraySynthLib.data.sets import open_set
from XraySynthLib.errors import UnreadableFileError


@pytest.mark.parametrize("quantity", list(Quantity))
def test_round_trip(write_set, quantity):
    folder, samples = write_set("webdataset", quantity)
    read = open_set(folder)
    assert len(read) == len(samples) == 6
    for sample in read:
        wanted = next(other for other in samples if other.key == sample.key)
        assert sample.xray.quantity is quantity
        np.testing.assert_allclose(sample.xray.values, wanted.xray.values, atol=2e-4)
        assert sample.xray.view.to_dict() == wanted.xray.view.to_dict()
        np.testing.assert_array_equal(sample.landmarks.points_px, wanted.landmarks.points_px)
        np.testing.assert_array_equal(sample.landmarks.visible, wanted.landmarks.visible)
        assert list(sample.masks) == list(wanted.masks)
        for name, mask in wanted.masks.items():
            np.testing.assert_array_equal(sample.masks[name], mask)
        assert vars(sample.provenance) == vars(wanted.provenance)


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


def test_webdataset_streams_the_shards(write_set):
    webdataset = pytest.importorskip("webdataset")
    folder, samples = write_set("webdataset")
    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    streamed = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [item["__key__"].rpartition("/")[2] for item in streamed] == sorted(
        (sample.key for sample in samples), key=lambda key: ("-b-" not in key, key)
    )
    from PIL import Image

    image = Image.open(io.BytesIO(streamed[0]["png"]))
    assert image.size == (64, 48) and image.mode.startswith("I")


def test_a_truncated_shard(write_set):
    folder, _ = write_set("webdataset")
    shard = folder / "train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:3000])
    with pytest.raises(UnreadableFileError):
        [*open_set(folder)]


def test_a_shard_of_somebody_else(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("cat.jpg"))
    with pytest.raises(UnreadableFileError, match=r"has no \.json"):
        open_set(tmp_path)
