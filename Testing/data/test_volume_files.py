"""CT volumes and label maps: where a voxel lies, and what is refused."""

import gzip
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from XraySynthLib.data import Volume
from XraySynthLib.data.formats import (
    atomic_path,
    read_labels,
    read_volume,
    write_labels,
    write_volume,
)

SUFFIXES = [".nii.gz", ".nii", ".nrrd", ".mha"]


def hu(shape=(3, 4, 5)):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape) * 20 - 1000


def write_image(path, values=None, **how):
    image = sitk.GetImageFromArray(hu() if values is None else values, **how)
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_left_handed_files_known_voxel(tmp_path, suffix):
    """Written with ITK in LPS; RAS by hand: i runs to the right, j to the front, k down."""
    image = sitk.GetImageFromArray(hu())
    image.SetSpacing([2, 3, 4])
    image.SetDirection([-1, 0, 0, 0, -1, 0, 0, 0, -1])
    image.SetOrigin([100, 50, -7])
    sitk.WriteImage(image, str(tmp_path / f"ct{suffix}"))
    volume = read_volume(tmp_path / f"ct{suffix}")
    assert np.linalg.det(volume.ras_from_ijk) < 0
    assert volume.ras_from_ijk @ [1, 1, 1, 1] == pytest.approx([-98, -47, -11, 1])
    assert volume.values_hu[1, 2, 3] == -1000 + 20 * (3 + 5 * (2 + 4 * 1))


def test_an_nrrd_header_in_ras_written_by_hand(tmp_path):
    header = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: right-anterior-superior\nsizes: 2 3 4\n"
        "space directions: (0,2,0) (3,0,0) (0,0,5)\nendian: little\nencoding: raw\n"
        "space origin: (-10,20,30)\n\n"
    )
    values = (np.arange(24) * 10 - 200).astype("<i2")
    (tmp_path / "ct.nrrd").write_bytes(header.encode() + values.tobytes())
    volume = read_volume(tmp_path / "ct.nrrd")
    assert volume.ras_from_ijk @ [1, 2, 3, 1] == pytest.approx([-4, 22, 45, 1])
    assert volume.values_hu[3, 2, 1] == values[23]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_oblique_left_handed_volume_comes_back(tmp_path, oblique_volume, suffix):
    path = tmp_path / f"ct{suffix}"
    write_volume(oblique_volume, path)
    back = read_volume(path)
    assert np.array_equal(back.values_hu, oblique_volume.values_hu)
    assert back.ras_from_ijk == pytest.approx(oblique_volume.ras_from_ijk, abs=1e-4)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 2**32 - 1),
    spacing=st.tuples(*[st.floats(0.2, 6)] * 3),
    origin=st.tuples(*[st.floats(-900, 900)] * 3),
    hand=st.sampled_from([1, -1]),
    suffix=st.sampled_from(SUFFIXES),
)
def test_every_corner_comes_back_within_a_tenth_of_a_micrometre(
    tmp_path, seed, spacing, origin, hand, suffix
):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.random(random_state=seed).as_matrix() @ np.diag(spacing)
    matrix[:3, 2] *= hand
    matrix[:3, 3] = origin
    write_volume(Volume(hu(), matrix), tmp_path / f"ct{suffix}")
    corner = [4, 3, 2, 1]
    back = read_volume(tmp_path / f"ct{suffix}").ras_from_ijk
    assert back @ corner == pytest.approx(matrix @ corner, abs=1e-4)


def test_whole_numbers_are_written_as_int16_others_as_float32(tmp_path):
    write_volume(Volume(hu(), np.eye(4)), tmp_path / "a.nrrd")
    write_volume(Volume(hu() + 0.5, np.eye(4)), tmp_path / "b.nrrd")
    assert b"type: short" in (tmp_path / "a.nrrd").read_bytes()
    assert b"type: float" in (tmp_path / "b.nrrd").read_bytes()


def test_padding_becomes_air(tmp_path):
    values = hu()
    values[0, 0, :3] = [-3024, -2048, -1025]
    volume = read_volume(write_image(tmp_path / "ct.mha", values))
    assert volume.values_hu[0, 0].tolist() == [-1024, -1024, -1024, -940, -920]


def test_a_niftis_slope_and_intercept_are_applied(tmp_path):
    stored = np.arange(60, dtype=np.int16).reshape(3, 4, 5) * 20
    data = bytearray(write_image(tmp_path / "ct.nii", stored).read_bytes())
    data[112:120] = np.array([2, -1024], "<f4").tobytes()  # scl_slope, scl_inter
    (tmp_path / "ct.nii").write_bytes(data)
    assert np.array_equal(read_volume(tmp_path / "ct.nii").values_hu, stored * 2.0 - 1024)


def test_labels_come_with_the_volume_when_the_grids_agree(tmp_path, oblique_volume, refused):
    labels = np.arange(60).reshape(3, 4, 5) % 7
    write_volume(oblique_volume, tmp_path / "ct.nii.gz")
    write_labels(labels, oblique_volume.ras_from_ijk, tmp_path / "labels.nrrd")
    volume = read_volume(tmp_path / "ct.nii.gz", tmp_path / "labels.nrrd")
    assert volume.labels.dtype == np.uint8
    assert np.array_equal(volume.labels, labels)
    moved = np.array(oblique_volume.ras_from_ijk)
    moved[2, 3] += 0.2
    write_labels(labels, moved, tmp_path / "moved.nrrd")
    with refused("0.2 mm off"):
        read_volume(tmp_path / "ct.nii.gz", tmp_path / "moved.nrrd")
    write_labels(labels[:, :3], oblique_volume.ras_from_ijk, tmp_path / "smaller.nrrd")
    with refused("is not the CT's"):
        read_volume(tmp_path / "ct.nii.gz", tmp_path / "smaller.nrrd")


@pytest.mark.parametrize(("largest", "kind"), [(1, "u1"), (300, "u2"), (70000, "u4")])
def test_labels_take_the_smallest_integers(tmp_path, largest, kind):
    write_labels(np.full((2, 3, 4), largest), np.eye(4), tmp_path / "l.nii.gz")
    labels, ras_from_ijk = read_labels(tmp_path / "l.nii.gz")
    assert (labels == largest).all()
    assert labels.dtype == kind
    assert ras_from_ijk == pytest.approx(np.eye(4))


def test_float_label_maps_of_whole_numbers_are_taken(tmp_path, refused):
    labels, _ = read_labels(write_image(tmp_path / "l.nrrd", np.round(hu() / 20 + 50)))
    assert labels.dtype == np.int32
    with refused("whole numbers"):
        read_labels(write_image(tmp_path / "x.nrrd", np.abs(hu()) + 0.5))
    with refused("is it a CT?"):
        read_labels(write_image(tmp_path / "y.nrrd", hu()))


def test_writers_say_what_they_cannot_write(tmp_path, oblique_volume):
    with pytest.raises(ValueError, match=r"\.nii\.gz"):
        write_volume(oblique_volume, tmp_path / "ct.jpg")
    with pytest.raises(ValueError, match="integers"):
        write_labels(np.zeros((2, 2, 2)), np.eye(4), tmp_path / "l.nrrd")
    with pytest.raises(ValueError, match="0 and more"):
        write_labels(np.full((2, 2, 2), -1), np.eye(4), tmp_path / "l.nrrd")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        write_volume(oblique_volume, tmp_path / "nowhere" / "ct.nrrd")


def test_an_interrupted_file_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with atomic_path(path) as temporary:
            assert temporary.name.endswith("a.txt")
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


WITH_NAN = hu()
WITH_NAN[1, 2, 3] = np.nan


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (WITH_NAN, "1 values that are NaN"),
        (hu() / 4000 + 0.5, "span only"),
        (np.zeros((3, 4, 5), np.int16), "span only 0 to 0"),
        (np.arange(60, dtype=np.uint8).reshape(3, 4, 5) * 2, "label map"),
        (hu() + 1024, "rescale intercept"),
        (hu() * 1000, "not HU"),
        (hu().astype(float) * 1e300, "NaN or infinite"),
        (hu((2, 3, 4, 5)), "4 dimensions (5 x 4 x 3 x 2)"),
        (hu((4, 5)), "2 dimensions"),
        (hu((1, 4, 5)), "single slice"),
        (hu().astype(np.complex64), "2 numbers a voxel (colour, vector, complex)"),
    ],
)
def test_what_is_no_ct_is_refused(tmp_path, refused, values, text):
    path = write_image(tmp_path / "ct.nrrd", values, isVector=False)
    with refused(text):
        read_volume(path)


def test_vectors_sheared_axes_and_absurd_spacing_are_refused(tmp_path, refused):
    with refused("3 numbers a voxel"):
        read_volume(write_image(tmp_path / "v.nrrd", hu((3, 4, 5, 3)), isVector=True))
    image = sitk.GetImageFromArray(hu())
    image.SetSpacing([1, 1, 500])
    sitk.WriteImage(image, str(tmp_path / "s.mha"))
    with refused("absurd"):
        read_volume(tmp_path / "s.mha")
    image.SetSpacing([1, 1, 1])
    image.SetDirection([1, 0.2, 0, 0, 1, 0, 0, 0, 1])
    sitk.WriteImage(image, str(tmp_path / "d.nrrd"))
    with refused("shear"):
        read_volume(tmp_path / "d.nrrd")


def test_a_nifti_sheared_by_its_sform_and_one_in_metres_are_refused(tmp_path, refused):
    data = bytearray(write_image(tmp_path / "ct.nii").read_bytes())
    metres = data.copy()
    metres[123] = 1
    (tmp_path / "m.nii").write_bytes(metres)
    with refused("metres"):
        read_volume(tmp_path / "m.nii")
    data[252:254] = b"\0\0"  # no qform
    data[284:288] = np.float32(0.4).tobytes()  # the sform's first row: x also grows with j
    (tmp_path / "s.nii").write_bytes(data)
    with refused("shear"):
        read_volume(tmp_path / "s.nii")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, 0.999])
def test_truncated_files_are_refused(tmp_path, refused, capfd, suffix, kept):
    whole = write_image(tmp_path / f"whole{suffix}", hu((8, 9, 10)))
    data = whole.read_bytes()
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(data[: int(len(data) * kept)])
    with refused(f"cut{suffix}"):
        read_volume(cut)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_changed_byte_in_packed_data_is_noticed(tmp_path, refused, random, suffix):
    """ITK reads a .mha whose packed bytes have changed without a word."""
    path = tmp_path / f"ct{suffix}"
    write_volume(Volume(np.round(random.normal(0, 300, (8, 9, 10))), np.eye(4)), path)
    data = bytearray(path.read_bytes())
    data[-200] ^= 4
    path.write_bytes(data)
    with refused(path.name):
        read_volume(path)


def test_stderr_is_given_back_also_by_threads(tmp_path, refused, capfd):
    path = write_image(tmp_path / "ct.mha", hu((20, 30, 40)))
    path.write_bytes(path.read_bytes()[:-50])

    def read(_):
        with refused("ct.mha"):
            read_volume(path)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read, range(20)))
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


def test_missing_and_foreign_files_are_refused(tmp_path, refused):
    with refused("no such file"):
        read_volume(tmp_path / "nothing.nii.gz")
    (tmp_path / "ct.txt").write_text("hello")
    with refused("a CT is a DICOM series or"):
        read_volume(tmp_path / "ct.txt")
    (tmp_path / "ct.nii.gz").write_bytes(gzip.compress(b"hello" * 200))
    with refused("not a NIfTI file"):
        read_volume(tmp_path / "ct.nii.gz")
    with refused("holds no DICOM files"):
        read_volume(tmp_path)
    with refused("..."):
        read_volume(tmp_path / ("long" * 60 + ".nrrd"))
