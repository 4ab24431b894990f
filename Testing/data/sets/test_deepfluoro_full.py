"""The full-resolution file, on a small one with the real names."""

import h5py
import numpy as np
import pytest

from XraySynthLib.data import Quantity
from XraySynthLib.data.pelvis import BONE_NAMES, LANDMARK_NAMES
from XraySynthLib.data.sets import open_set
from XraySynthLib.data.sets.deepfluoro_full import read_full, read_specimen, specimen_names
from XraySynthLib.geometry.converters.deepfluoro import deepfluoro_from_view

ROWS, COLUMNS = 100, 160
OPEN_BEAM = 40000.0
INTRINSIC = [[-2000, 0, 70], [0, -4000, 50], [0, 0, 1]]
SPACING_MM = {"col": 0.5, "row": 0.25}
# The camera's world is the projective frame moved by (1, 2, 3) and turned by 90 degrees.
EXTRINSIC = [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]
# With EXTRINSIC before it: columns run to the patient's left, rows to the feet, and the source is
# at LPS (-10, 510, 30), behind the back.
CAM_TO_PELVIS_VOL = [[0, -1, 0, -9], [0, 0, 1, 513], [-1, 0, 0, 28], [0, 0, 0, 1]]
# By hand, LPS (10, -90, 40) is (20, -10, -600) from the source, along columns, rows, and to it:
# column 70 + 2000 * 20 / 600, row 50 - 4000 * 10 / 600.
POINT_LPS_MM = (10.0, -90.0, 40.0)
POINT_PX = (70 + 200 / 3, 50 - 200 / 3)  # above the image
POINT_2_LPS_MM = (10.0, -90.0, 29.0)
POINT_2_PX = (70 + 200 / 3, 50 + 20 / 3)


def column(*values) -> np.ndarray:
    """A vector as the data's author stores it."""
    return np.array(values, np.float32)[:, None]


def write_image(group, pixels, spacing, origin, direction) -> None:
    group["pixels"] = pixels
    group["spacing"] = column(*spacing)
    group["origin"] = column(*origin)
    group["dir-mat"] = np.array(direction, np.float32)


def write_full(path) -> None:
    """Two specimens; of 18-1109 two projections, the second one turned."""
    with h5py.File(path, "w") as file:
        parameters = file.create_group("proj-params")
        parameters["intrinsic"] = np.array(INTRINSIC, np.float32)
        parameters["extrinsic"] = np.array(EXTRINSIC, np.float32)
        parameters["num-rows"], parameters["num-cols"] = np.uint64(ROWS), np.uint64(COLUMNS)
        for axis, spacing_mm in SPACING_MM.items():
            parameters[f"pixel-{axis}-spacing"] = np.float32(spacing_mm)
        for specimen, n_projections in (("18-1109", 2), ("17-1882", 1)):
            group = file.create_group(specimen)
            voxels = np.full((4, 5, 6), -1000, np.int16)
            voxels[3, 2, 1] = 700
            grid = (2, 3, 4), (-100, -200, 50), np.eye(3)
            write_image(group.create_group("vol"), voxels, *grid)
            labels = np.zeros((4, 5, 6), np.uint8)
            labels[3, 2, 1] = 5
            write_image(group.create_group("vol-seg/image"), labels, *grid)
            group["vol-seg/labels-def/5"] = np.bytes_("left-femur")
            for name in LANDMARK_NAMES:
                group[f"vol-landmarks/{name}"] = column(*POINT_2_LPS_MM)
            del group["vol-landmarks/ASIS-r"]
            group["vol-landmarks/ASIS-r"] = column(*POINT_LPS_MM)
            for number in range(n_projections):
                write_projection(group.create_group(f"projections/{number:03d}"), number == 1)


def write_projection(group, turned: bool) -> None:
    pixels = np.full((ROWS, COLUMNS), OPEN_BEAM / 4, np.float32)
    pixels[40:60, 60:100] = OPEN_BEAM
    pixels[10, 20] = OPEN_BEAM / 10
    image = (0.194, 0.194), (0, 0), np.eye(2)
    write_image(group.create_group("image"), pixels, *image)
    labels = np.zeros((ROWS, COLUMNS), np.uint8)
    labels[10, 20] = 6
    write_image(group.create_group("gt-seg"), labels, *image)
    for name in LANDMARK_NAMES:
        group[f"gt-landmarks/{name}"] = column(*POINT_2_PX)
    for name, px in (("ASIS-r", POINT_PX), ("FH-l", (np.inf, np.inf))):
        del group[f"gt-landmarks/{name}"]
        group[f"gt-landmarks/{name}"] = column(*px)
    for name in ("pelvis", "left-femur", "right-femur"):
        group[f"gt-poses/cam-to-{name}-vol"] = np.array(CAM_TO_PELVIS_VOL, np.float32)
    for side in ("left", "right"):
        group[f"gt-poses/{side}-femur-good-fov"] = np.uint8(1)
    group["rot-180-for-up"] = np.uint8(turned)


@pytest.fixture
def full(tmp_path):
    path = tmp_path / "ipcai_2020_full_res_data.h5"
    write_full(path)
    return path


def test_specimens_are_in_the_papers_order(full):
    assert specimen_names(full) == ["17-1882", "18-1109"]
    read = open_set(full)
    assert [sample.key for sample in read] == ["17-1882-000", "18-1109-000", "18-1109-001"]
    assert {(s.provenance.kind, s.provenance.subject) for s in read[1:]} == {("real", "18-1109")}
    assert len(open_set(full, "train")) == 3 and len(open_set(full, "val")) == 0


def test_golden_of_the_volume(full):
    specimen = read_specimen(full, "18-1109")
    volume = specimen.volume
    assert volume.values_hu[3, 2, 1] == 700 and volume.labels[3, 2, 1] == 5
    # LPS (-100 + 2, -200 + 2 * 3, 50 + 3 * 4)
    np.testing.assert_allclose(volume.ras_from_ijk @ [1, 2, 3, 1], [98, 194, 62, 1])
    assert specimen.landmarks.names == LANDMARK_NAMES
    np.testing.assert_allclose(specimen.landmarks.points_ras_mm[13], [-10, 90, 40])


def test_golden_of_an_image_as_stored(full):
    sample = open_set(full)[1]
    assert sample.xray.values.shape == (ROWS, COLUMNS)
    np.testing.assert_allclose(sample.xray.pixel_spacing_mm, [0.5, 0.25])
    np.testing.assert_allclose(sample.landmarks.points_px[13], [136.6667, -16.6667], atol=1e-3)
    np.testing.assert_allclose(sample.landmarks.points_px[12], [136.6667, 56.6667], atol=1e-3)
    assert np.isnan(sample.landmarks.points_px[0]).all()
    assert sample.landmarks.visible.tolist() == [False, *12 * [True], False]
    assert np.argwhere(sample.masks["right femur"]).tolist() == [[10, 20]]
    assert list(sample.masks) == list(BONE_NAMES.values())
    assert np.argwhere(sample.xray.values < 0.2).tolist() == [[10, 20]]


def test_golden_of_an_image_turned_for_up(full):
    sample = open_set(full)[2]
    # columns - 1 - column, rows - 1 - row
    np.testing.assert_allclose(sample.landmarks.points_px[13], [22.3333, 115.6667], atol=1e-3)
    np.testing.assert_allclose(sample.landmarks.points_px[12], [22.3333, 42.3333], atol=1e-3)
    assert np.argwhere(sample.masks["right femur"]).tolist() == [[89, 139]]
    assert np.argwhere(sample.xray.values < 0.2).tolist() == [[89, 139]]
    assert sample.provenance.config["rotated_180"] is True


def test_the_view_puts_the_3d_landmarks_on_the_2d_ones(full):
    points_ras_mm = read_specimen(full, "18-1109").landmarks.points_ras_mm
    for sample in open_set(full)[1:]:
        view = sample.xray.view
        np.testing.assert_allclose(view.source_ras_mm, [10, -510, 30], atol=1e-4)
        assert view.intrinsics.source_to_detector_mm == pytest.approx(1000)
        np.testing.assert_allclose(
            view.project(points_ras_mm)[1:], sample.landmarks.points_px[1:], atol=0.01
        )


def test_views_written_by_the_converter_come_back(full):
    stored, turned = (sample.xray.view for sample in open_set(full)[1:])
    camera = deepfluoro_from_view(stored, EXTRINSIC)
    np.testing.assert_allclose(camera.cam_to_pelvis_vol, CAM_TO_PELVIS_VOL, atol=1e-4)
    again = turned.rotated_180()
    np.testing.assert_allclose(again.ras_from_camera, stored.ras_from_camera, atol=1e-9)


def test_transmission_is_relative_to_the_open_beam(full):
    sample = open_set(full)[1]
    assert sample.xray.quantity is Quantity.TRANSMISSION
    assert sample.provenance.config["open_beam"] == pytest.approx(OPEN_BEAM, rel=1e-3)
    np.testing.assert_allclose(sample.xray.values[50, 80], 1, rtol=1e-3)
    np.testing.assert_allclose(sample.xray.values[0, 0], 0.25, rtol=1e-3)


@pytest.mark.parametrize(
    "name",
    [
        "proj-params/extrinsic",
        "proj-params/num-cols",
        "18-1109/projections",
        "18-1109/projections/001/image",
        "18-1109/projections/001/gt-seg/pixels",
        "18-1109/projections/001/gt-landmarks/MOF-r",
        "18-1109/projections/001/gt-poses/cam-to-pelvis-vol",
        "18-1109/projections/001/rot-180-for-up",
        "18-1109/vol/origin",
        "18-1109/vol-landmarks/GSN-l",
    ],
)
def test_what_was_renamed_is_named(full, refused, name):
    with h5py.File(full, "r+") as file:
        file.move(name, f"{name}-else")
    with refused(f"/{name}"):
        [*open_set(full), read_specimen(full, "18-1109")]


def test_without_its_parameters_it_is_no_such_file(full, refused):
    with h5py.File(full, "r+") as file:
        file.move("proj-params", "parameters")
    with refused("it has neither land-names nor proj-params"):
        open_set(full)
    with refused("it has no group /proj-params"):
        read_full(full)


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("image/pixels", np.zeros((ROWS, COLUMNS + 1)), "must be 100x160 numbers"),
        ("image/pixels", np.zeros((ROWS, COLUMNS)), "image 001 of 18-1109 is black"),
        ("gt-seg/pixels", np.zeros((2, ROWS, COLUMNS)), "must be 100x160 numbers"),
        ("gt-poses/cam-to-pelvis-vol", np.eye(3), "must be 16 numbers"),
        ("gt-poses/cam-to-pelvis-vol", 2 * np.eye(4), "last row of cam_to_pelvis_vol"),
    ],
)
def test_what_does_not_fit_is_named(full, refused, name, values, sentence):
    name = f"18-1109/projections/001/{name}"
    with h5py.File(full, "r+") as file:
        del file[name]
        file[name] = values
    read = open_set(full)
    assert read[1].key == "18-1109-000"
    with refused(sentence):
        read[2]


def test_a_label_map_on_another_grid(full, refused):
    with h5py.File(full, "r+") as file:
        file["18-1109/vol-seg/image/origin"][0] += 1
    with refused("/18-1109/vol-seg lies elsewhere than /18-1109/vol"):
        read_specimen(full, "18-1109")
    with refused("it has no group /19-0000"):
        read_specimen(full, "19-0000")


def test_truncated(full, refused):
    data = full.read_bytes()
    full.write_bytes(data[: len(data) // 2])
    with refused("it is truncated, damaged or not an HDF5 file."):
        open_set(full)
