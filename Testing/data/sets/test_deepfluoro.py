import pickle
import shutil
import time

import h5py
import numpy as np
import pytest

from XraySynthLib.data import Quantity
from XraySynthLib.data.pelvis import BONE_NAMES, LANDMARK_NAMES
from XraySynthLib.data.sets import (
    SetDescription,
    SetSubject,
    deepfluoro,
    layout_module,
    open_set,
)
from XraySynthLib.data.sets.parts import read_part_record
from XraySynthLib.errors import UnreadableFileError

FEMUR, HEMIPELVIS = "left femur", "left hemipelvis"


def everything_in(path) -> dict[str, tuple]:
    """Name -> dtype and shape of every data set, as h5py shows them."""
    shown = {}
    with h5py.File(path, "r") as file:
        file.visititems(
            lambda name, item: (
                shown.update({name: (item.dtype.str, item.shape)})
                if hasattr(item, "dtype")
                else None
            )
        )
    return shown


@pytest.fixture
def foreign(tmp_path):
    """A file as others write it: contiguous, lengths of text, `inf`; returns its path."""
    path = tmp_path / "ipcai_2020_ds_8x.h5"
    with h5py.File(path, "w") as file:
        file["land-names/num-lands"] = np.uint64(2)
        file["land-names/land-00"] = np.bytes_("FH-l")
        file["land-names/land-01"] = "FH-r"  # of any length
        for group, n_images in (("02", 2), ("01", 1), ("100", 1)):
            file[f"{group}/projs"] = np.full((n_images, 30, 40), 1.5, np.float32)
            labels = np.zeros((n_images, 30, 40), np.uint8)
            labels[:, 5, 6], labels[:, 7, 8], labels[:, 9, 9] = 5, 3, 7
            file[f"{group}/segs"] = labels
            # column, row of two landmarks: within the image, and nowhere
            file[f"{group}/lands"] = np.array([[[12.25, np.inf], [29.0, np.inf]]] * n_images, "f4")
    return path


def test_names_dtypes_and_shapes(write_set):
    folder, _ = write_set("deepfluoro")
    expected = {
        f"land-names/land-{n:02d}": (f"|S{len(name)}", ()) for n, name in enumerate(LANDMARK_NAMES)
    }
    expected["land-names/num-lands"] = ("<u8", ())
    for group in ("01", "02"):
        expected[f"{group}/projs"] = ("<f4", (3, 48, 64))
        expected[f"{group}/segs"] = ("|u1", (3, 48, 64))
        expected[f"{group}/lands"] = ("<f4", (3, 2, 14))
    assert everything_in(folder / "deepfluoro.h5") == expected
    with h5py.File(folder / "deepfluoro.h5") as file:
        assert [file[f"land-names/land-{n:02d}"][()].decode() for n in range(14)] == [
            *("FH-l", "FH-r", "GSN-l", "GSN-r", "IOF-l", "IOF-r", "MOF-l", "MOF-r"),
            *("SPS-l", "SPS-r", "IPS-l", "IPS-r", "ASIS-l", "ASIS-r"),
        ]


def test_the_oldest_hdf5_opens_it(write_set):
    folder, _ = write_set("deepfluoro")
    assert (folder / "deepfluoro.h5").read_bytes()[:9] == b"\x89HDF\r\n\x1a\n\x00"


def test_columns_come_before_rows(write_set):
    folder, samples = write_set("deepfluoro")
    with h5py.File(folder / "deepfluoro.h5") as file:
        for index, sample in enumerate(samples[:3]):
            column, row = file["01/lands"][index, :, 0]
            np.testing.assert_allclose([column, row], sample.landmarks.points_px[0], atol=0.01)


def test_what_the_trainers_insist_on(write_set):
    folder, samples = write_set("deepfluoro")
    with h5py.File(folder / "deepfluoro.h5") as file:
        for patient in (1, 2):
            group = file[f"{patient:02d}"]
            points = group["lands"][:]
            assert np.isfinite(points).all()
            rows, columns = group["projs"].shape[1:]
            outside = (points < 0).any(1) | (points[:, 0] > columns - 1) | (points[:, 1] > rows - 1)
            for index, sample in enumerate(samples[3 * (patient - 1) : 3 * patient]):
                px = sample.landmarks.points_px
                inside = ((px >= 0) & (px <= [columns - 1, rows - 1])).all(axis=1)
                np.testing.assert_array_equal(outside[index], ~inside)
            assert outside[:, 3].all() and outside[:, 5].all() and not outside.all()


def test_femurs_cover_hemipelves_cover_vertebrae_cover_sacrum(write_set):
    folder, samples = write_set("deepfluoro")
    with h5py.File(folder / "deepfluoro.h5") as file:
        labels = file["01/segs"][0]
    ids = {name: label for label, name in BONE_NAMES.items()}
    masks = samples[0].masks
    covered = np.zeros_like(labels, bool)
    for name in (
        *("left femur", "right femur", "left hemipelvis", "right hemipelvis"),
        *("vertebrae", "sacrum"),
    ):
        np.testing.assert_array_equal(labels == ids[name], masks[name] & ~covered)
        covered |= masks[name]


def test_a_record_is_read_once_for_its_part_and_again_when_it_changes(write_set, monkeypatch):
    folder, samples = write_set("deepfluoro")
    read = []

    def noting(folder, part):
        read.append(part.index)
        return read_part_record(folder, part)

    monkeypatch.setattr(deepfluoro, "read_part_record", noting)
    assert len([*open_set(folder), *open_set(folder)]) == 2 * len(samples)
    assert read == [0, 1, 2, 3]
    record = folder / "parts/000001.json"
    record.write_text(record.read_text().replace("subject-a", "subject-c"))
    with pytest.raises(UnreadableFileError, match=r"000001\.json: it is damaged"):
        open_set(folder)[2]


def test_round_trip(write_set):
    folder, samples = write_set("deepfluoro")
    for read in (open_set(folder), open_set(folder / "deepfluoro.h5")):
        assert [sample.key for sample in read] == [sample.key for sample in samples]
        for sample, wanted in zip(pickle.loads(pickle.dumps(read)), samples, strict=True):
            assert sample.xray.quantity is Quantity.LINE_INTEGRAL
            np.testing.assert_array_equal(sample.xray.values, wanted.xray.values)
            assert sample.xray.view.to_dict() == wanted.xray.view.to_dict()
            np.testing.assert_array_equal(sample.landmarks.points_px, wanted.landmarks.points_px)
            np.testing.assert_array_equal(sample.landmarks.visible, wanted.landmarks.visible)
            assert list(sample.masks) == list(wanted.masks)
            np.testing.assert_array_equal(sample.masks[FEMUR], wanted.masks[FEMUR])
            assert vars(sample.provenance) == vars(wanted.provenance)


def test_splits(write_set):
    folder, _ = write_set("deepfluoro")
    assert {s.provenance.subject for s in open_set(folder, "test")} == {"subject-b"}
    assert {s.provenance.subject for s in open_set(folder, "train")} == {"subject-a"}
    assert len(open_set(folder, "val")) == 0


def test_same_bytes_whatever_the_order_and_the_hour(
    write_set, make_description, make_sample, tmp_path
):
    one, _ = write_set("deepfluoro", folder=tmp_path / "one")
    time.sleep(1.1)  # HDF5's dates are whole seconds
    two = tmp_path / "two"
    (two / "parts").mkdir(parents=True)
    module, description = layout_module("deepfluoro"), make_description("deepfluoro")
    for part in reversed(description.parts):
        samples = [make_sample(item, part.subject) for item in part.items]
        (name,) = module.write_part(two, part, iter(samples))
        assert (two / name).read_bytes() == (one / name).read_bytes()
    assert module.assemble(two, description) == ["deepfluoro.h5"]
    assert (two / "deepfluoro.h5").read_bytes() == (one / "deepfluoro.h5").read_bytes()


def test_the_hundredth_subject(make_sample, tmp_path):
    subjects = tuple(SetSubject(f"s{number:03d}", "train") for number in range(1, 102))
    description = SetDescription("deepfluoro", subjects, 1, 1, LANDMARK_NAMES, ())
    (tmp_path / "parts").mkdir()
    module = layout_module("deepfluoro")
    for part in description.parts:
        module.write_part(tmp_path, part, iter([make_sample(0, part.subject)]))
    module.assemble(tmp_path, description)
    with h5py.File(tmp_path / "deepfluoro.h5") as file:
        assert set(file) == {"land-names", *(f"{number:02d}" for number in range(1, 102))}
        assert file["100"].attrs["subject"] == b"s100"
    assert open_set(tmp_path / "deepfluoro.h5")[99].provenance.subject == "s100"


def test_a_file_without_its_set_keeps_the_subjects(write_set, tmp_path):
    folder, samples = write_set("deepfluoro")
    shutil.copy(folder / "deepfluoro.h5", tmp_path / "alone.h5")
    read = open_set(tmp_path / "alone.h5")
    assert [sample.provenance.subject for sample in read] == 3 * ["subject-a"] + 3 * ["subject-b"]
    assert {sample.provenance.kind for sample in read} == {"simulated"}
    for sample, wanted in zip(read, samples, strict=True):
        assert sample.xray.view is None and sample.xray.pixel_spacing_mm is None
        np.testing.assert_allclose(
            sample.landmarks.points_px, wanted.landmarks.points_px, rtol=1e-6, atol=0.01
        )
        np.testing.assert_array_equal(sample.landmarks.visible, wanted.landmarks.visible)


def test_what_the_layout_cannot_hold_is_refused(make_description, make_sample, tmp_path):
    (tmp_path / "parts").mkdir()
    module, part = layout_module("deepfluoro"), make_description("deepfluoro").parts[0]
    with pytest.raises(ValueError, match="holds line integrals"):
        module.write_part(tmp_path, part, iter([make_sample(0, quantity=Quantity.DISPLAY)]))
    other = make_sample(1)
    landmarks = type(other.landmarks).placed(("FH-l",), [[1, 2]], (48, 64))
    other = type(other)(other.key, other.xray, landmarks, None, other.provenance)
    with pytest.raises(ValueError, match="differs from subject-a-000000"):
        module.write_part(tmp_path, part, iter([make_sample(0), other]))
    assert not [*(tmp_path / "parts").iterdir()]


def test_a_file_of_somebody_else(foreign):
    read = open_set(foreign)
    assert [sample.key for sample in read] == [
        *("17-1882-000", "18-1109-000", "18-1109-001", "deepfluoro-100-000")
    ]
    sample = read[0]
    assert sample.xray.quantity is Quantity.LINE_INTEGRAL and sample.xray.view is None
    np.testing.assert_allclose(sample.xray.pixel_spacing_mm, [1.552, 1.552])
    assert sample.landmarks.names == ("FH-l", "FH-r")
    np.testing.assert_array_equal(sample.landmarks.points_px, [[12.25, 29], [np.nan, np.nan]])
    assert sample.landmarks.visible.tolist() == [True, False]
    assert list(sample.masks) == list(BONE_NAMES.values())
    assert np.argwhere(sample.masks[FEMUR]).tolist() == [[5, 6]]
    assert not sample.masks[HEMIPELVIS].any()
    assert (sample.provenance.kind, sample.provenance.subject) == ("real", "17-1882")
    assert len(open_set(foreign, "train")) == 4 and len(open_set(foreign, "test")) == 0


def test_a_file_of_another_name_has_no_spacing(foreign):
    other = foreign.rename(foreign.with_name("simulated.h5"))
    sample = open_set(other)[0]
    assert sample.xray.pixel_spacing_mm is None
    assert sample.provenance.subject == "deepfluoro-01"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("01/projs", "it has no data set /01/projs."),
        ("02/segs", "it has no data set /02/segs."),
        ("100/lands", "it has no data set /100/lands."),
        ("land-names/num-lands", "it has no data set /land-names/num-lands."),
        ("land-names/land-01", "it has no data set /land-names/land-01."),
        ("land-names", "it has neither land-names nor proj-params"),
    ],
)
def test_a_renamed_data_set_is_named(foreign, refused, name, sentence):
    with h5py.File(foreign, "r+") as file:
        file.move(name, "else")
    with refused(sentence):
        open_set(foreign)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("segs", np.zeros((1, 30, 41), np.uint8)),
        ("segs", np.zeros((2, 30, 40), np.uint8)),
        ("lands", np.zeros((1, 3, 2), np.float32)),
        ("lands", np.zeros((1, 2, 3), np.float32)),
        ("projs", np.zeros((30, 40), np.float32)),
        ("projs", np.array([[["a"]]], "S1")),
    ],
)
def test_shapes_that_do_not_fit_are_named(foreign, refused, name, values):
    with h5py.File(foreign, "r+") as file:
        del file[f"01/{name}"]
        file[f"01/{name}"] = values
    with refused("/01/"):
        open_set(foreign)


def test_hdf5_of_something_else(tmp_path, refused):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = np.zeros(3)
    with refused("it has neither land-names nor proj-params"):
        open_set(tmp_path / "a.h5")
    (tmp_path / "b.h5").write_bytes(b"no HDF5 at all" * 100)
    with refused("not an HDF5 file"):
        open_set(tmp_path / "b.h5", "test")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file(write_set, refused, kept):
    folder, _ = write_set("deepfluoro")
    path = folder / "deepfluoro.h5"
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with refused("it is truncated, damaged or not an HDF5 file."):
        open_set(folder)


def test_damaged_bytes_never_crash(write_set):
    folder, _ = write_set("deepfluoro")
    path = folder / "deepfluoro.h5"
    data = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(4)
    n_refused = 0
    for _ in range(60):
        damaged = data.copy()
        at = rng.integers(0, len(data), 20)
        damaged[at] ^= rng.integers(1, 256, 20).astype(np.uint8)
        path.write_bytes(damaged.tobytes())
        try:
            for sample in open_set(folder):
                assert sample.xray.values.shape == (48, 64)
        except UnreadableFileError:
            n_refused += 1
    assert n_refused > 30


def test_a_file_that_is_not_its_sets(write_set, refused):
    folder, _ = write_set("deepfluoro")
    with h5py.File(folder / "deepfluoro.h5", "r+") as file:
        file["01/lands"][1, 0, 0] += 1
    read = open_set(folder)
    assert read[0].key == "subject-a-000000"
    with refused("its landmarks of subject-a-000001 are not those of its set"):
        read[1]
    (folder / "parts" / "000001.json").unlink()
    with refused("parts/000001.json, which belongs to it, is missing"):
        read[2]


def test_a_file_with_other_images_than_its_set(write_set, refused):
    folder, _ = write_set("deepfluoro")
    with h5py.File(folder / "deepfluoro.h5", "r+") as file:
        for name in ("projs", "segs"):
            values = file[f"01/{name}"][:, :, :60]
            del file[f"01/{name}"]
            file[f"01/{name}"] = values
    with refused("The view is for (48, 64) rows and columns, the image has (48, 60)"):
        open_set(folder)[0]
