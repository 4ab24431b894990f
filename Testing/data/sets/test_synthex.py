import h5py
import numpy as np
import pytest
from PIL import Image

from XraySynthLib.data import Quantity
from XraySynthLib.data.sets import LAYOUTS, SetDescription, SetSubject, open_set
from XraySynthLib.data.sets.synthex import FOLDERS
from XraySynthLib.errors import UnreadableFileError


@pytest.mark.parametrize("quantity", [Quantity.LINE_INTEGRAL, Quantity.DISPLAY])
def test_round_trip(write_set, quantity):
    folder, samples = write_set("synthex", quantity)
    read = open_set(folder)
    assert [sample.key for sample in read] == [sample.key for sample in samples]
    for sample, wanted in zip(read, samples, strict=True):
        assert sample.xray.quantity is quantity
        np.testing.assert_array_equal(sample.xray.values, wanted.xray.values)
        assert sample.xray.view.to_dict() == wanted.xray.view.to_dict()
        np.testing.assert_array_equal(sample.landmarks.points_px, wanted.landmarks.points_px)
        np.testing.assert_array_equal(sample.landmarks.visible, wanted.landmarks.visible)
        assert vars(sample.provenance) == vars(wanted.provenance)
        assert list(sample.masks) == list(wanted.masks)
        for name, mask in sample.masks.items():  # what is not covered by another bone
            assert mask.any() and not (mask & ~wanted.masks[name]).any()
        assert (sum(sample.masks.values()) == np.any([*wanted.masks.values()], axis=0)).all()


def test_the_files_are_those_that_synthex_reads(write_set):
    """Written from its loader: paths, types, axes; landmarks finite, out of view where outside."""
    folder, samples = write_set("synthex")
    for root, subject in (("train_data", "subject-a"), ("test_data", "subject-b")):
        assert sorted(path.name for path in (folder / root).iterdir()) == ["lands", "proj", "seg"]
        wanted = [s for s in samples if s.provenance.subject == subject]
        assert len(list((folder / root / "proj").iterdir())) == len(wanted)
        for number, sample in enumerate(wanted):
            name = str(number).zfill(5)
            image = np.asarray(Image.open(f"{folder}/{root}/proj/{name}.tiff"))
            assert image.dtype == np.float32 and image.shape == (48, 64)
            labels = np.asarray(Image.open(f"{folder}/{root}/seg/{name}.png"))
            assert labels.dtype == np.uint8 and labels.shape == image.shape
            assert set(np.unique(labels)) == {0, 1, 2, 3, 4, 5, 6}
            with h5py.File(f"{folder}/{root}/lands/{name}.h5", "r") as file:
                columns, rows = file["dim1"][:], file["dim2"][:]
            assert columns.shape == rows.shape == (14,) and np.isfinite([columns, rows]).all()
            np.testing.assert_array_equal(columns[0], sample.landmarks.points_px[0, 0])
            np.testing.assert_array_equal(rows[0], sample.landmarks.points_px[0, 1])
            assert columns[3] == rows[3] == -1  # not defined
            assert not 0 <= columns[5] <= 63  # outside


def test_a_femur_covers_a_hemipelvis(write_set):
    folder, samples = write_set("synthex")
    labels = np.asarray(Image.open(folder / "train_data/seg/00000.png"))
    masks = samples[0].masks
    both = masks["right hemipelvis"] & masks["vertebrae"]
    assert both.any() and set(labels[both]) <= {1, 2}
    assert (labels[masks["left femur"]] == 5).all()


def test_numbers_run_on_within_a_split():
    subjects = [SetSubject(name, "train" if name != "b" else "val") for name in "abc"]
    description = SetDescription("synthex", tuple(subjects), 5, 2, (), ())
    first = [(part.subject, part.first_in_split) for part in description.parts]
    assert first[:6] == [("a", 0), ("a", 2), ("a", 4), ("b", 0), ("b", 2), ("b", 4)]
    assert first[6:] == [("c", 5), ("c", 7), ("c", 9)]


def test_splits(write_set):
    folder, _ = write_set("synthex")
    assert {s.provenance.subject for s in open_set(folder, "test")} == {"subject-b"}
    assert len(open_set(folder, "val")) == 0
    assert "synthex" in LAYOUTS and set(FOLDERS) == {"train", "val", "test"}


def test_same_bytes_again(write_set, tmp_path):
    one, _ = write_set("synthex", folder=tmp_path / "one")
    two, _ = write_set("synthex", folder=tmp_path / "two")
    files = [path for path in one.glob("*_data/*/*") if path.is_file()]
    assert len(files) == 18
    for path in files:
        assert path.read_bytes() == (two / path.relative_to(one)).read_bytes()


def foreign_set(folder, n_landmarks=14):
    """A triple as another program writes it."""
    root = folder / "nmd" / "train_data"
    for kind in ("proj", "seg", "lands"):
        (root / kind).mkdir(parents=True)
    values = np.linspace(0, 7, 20, dtype=np.float32).reshape(4, 5)
    Image.fromarray(values).save(root / "proj/00000.tiff")
    Image.fromarray((values > 6).astype(np.uint8) * 5).save(root / "seg/00000.png")
    with h5py.File(root / "lands/00000.h5", "w") as file:
        file["dim1"] = np.linspace(-2, 4, n_landmarks, dtype=np.float32)
        file["dim2"] = np.linspace(0, 3, n_landmarks, dtype=np.float32)
    return root


def test_a_set_of_somebody_else(tmp_path):
    root = foreign_set(tmp_path)
    for path in (root, root.parent):
        (sample,) = open_set(path)
        assert sample.key == "train_data-00000"
        assert sample.provenance.kind == "simulated"
        assert sample.provenance.subject == "nmd-train_data"
        assert sample.landmarks.names[:2] == ("FH-l", "FH-r")
        np.testing.assert_array_equal(sample.landmarks.points_px[0], [-2, 0])
        np.testing.assert_array_equal(sample.landmarks.points_px[13], [4, 3])
        assert sample.landmarks.visible.tolist() == [False] * 5 + [True] * 9
        assert sample.xray.view is None and sample.xray.quantity is Quantity.DISPLAY
        assert sample.masks["left femur"].sum() == 3 and not sample.masks["sacrum"].any()


def test_other_landmarks_have_numbers(tmp_path):
    (sample,) = open_set(foreign_set(tmp_path, 3))
    assert sample.landmarks.names == ("landmark-0", "landmark-1", "landmark-2")


@pytest.mark.parametrize("name", ["lands/00000.h5", "seg/00000.png", "proj/00000.tiff"])
def test_damaged_files(write_set, name):
    folder, _ = write_set("synthex")
    path = folder / "train_data" / name
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UnreadableFileError, match="00000"):
        [*open_set(folder)]


def test_missing_files(write_set, tmp_path):
    folder, _ = write_set("synthex")
    (folder / "train_data/lands/00001.h5").unlink()
    with pytest.raises(UnreadableFileError, match=r"no lands/00001\.h5"):
        open_set(folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/a.tiff").write_bytes(b"")
    with pytest.raises(UnreadableFileError, match="train_data"):
        open_set(tmp_path / "other")
