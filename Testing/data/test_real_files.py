"""Real files out of registry packages: a CT of Slicer, its points, radiographs of a PACS."""

import numpy as np
import pytest

from XraySynthLib.data import Quantity
from XraySynthLib.data.formats import read_landmarks, read_volume, read_xray


def test_slicers_chest_ct(real_file):
    volume = read_volume(real_file("slicerio", "CTChest4.nrrd"))
    assert volume.values_hu.shape == (34, 128, 128)
    assert volume.spacing_mm == pytest.approx([3.04688, 3.04688, 10], abs=1e-4)
    assert volume.values_hu.min() == -1024  # padding of -3024 in the file
    assert volume.ras_from_ijk[:3, 3] == pytest.approx([-193.096, -216.396, -340.25], abs=1e-3)
    assert (
        mean_anterior_mm(volume, 400) < mean_anterior_mm(volume, -200) - 20
    )  # the spine is behind


def mean_anterior_mm(volume, above_hu):
    """Mean A coordinate of all that is denser than `above_hu`."""
    k, j, i = np.nonzero(volume.values_hu > above_hu)
    return float((np.stack([i, j, k, np.ones(len(i))]).T @ volume.ras_from_ijk[1]).mean())


def test_slicers_points(real_file):
    landmarks = read_landmarks(real_file("slicerio", "F_1.fcsv"))
    assert len(landmarks.names) == 12
    assert landmarks.names[3] == "Different name"
    assert landmarks.points_ras_mm[0] == pytest.approx([6.28282, 51.06217, -10.2143], abs=1e-5)


def test_a_chest_radiograph_has_bright_bone_and_dark_lungs(real_file):
    xray = read_xray(real_file("pydicom-data", "RG1_UNCR.dcm"))
    assert xray.quantity is Quantity.DISPLAY
    assert xray.values.shape == (1955, 1841)
    assert xray.pixel_spacing_mm is None  # the file says 0.000
    assert xray.view is None
    spine = xray.values[900:1000, 880:920].mean()
    lung = xray.values[450:550, 580:640].mean()
    below = xray.values[1700:1800, 300:400].mean()
    assert lung < 0.75 < spine
    assert lung < 0.75 < below  # the belly lies at the bottom: upright


def test_an_ankle_radiograph_has_bright_bone_on_dark_air(real_file):
    xray = read_xray(real_file("pydicom-data", "RG3_UNCR.dcm"))
    tibia = xray.values[300:400, 820:900].mean()
    air = xray.values[1000:1100, 500:600].mean()
    assert air < 0.1 < 0.5 < tibia


def test_the_same_radiograph_in_jpeg_2000(real_file):
    plain = read_xray(real_file("pydicom-data", "RG3_UNCR.dcm"))
    packed = read_xray(real_file("pydicom-data", "RG3_J2KR.dcm"))
    assert np.allclose(packed.values, plain.values, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("693_UNCR.dcm", "modality is CT"),
        ("MR2_UNCR.dcm", "modality is MR"),
        ("US1_UNCR.dcm", "modality is US"),
        ("SC_rgb.dcm", "pixels are RGB"),
        ("OBXXXX1A.dcm", "modality is US"),
    ],
)
def test_real_files_that_are_no_xray(real_file, refused, name, text):
    with refused(text):
        read_xray(real_file("pydicom-data", name))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("RG1_UNCR.dcm", "modality is CR, not CT"),
        ("MR2_UNCR.dcm", "modality is MR, not CT"),
        ("eCT_Supplemental.dcm", "multi-frame CT"),
    ],
)
def test_real_files_that_are_no_ct(real_file, tmp_path, refused, name, text):
    (tmp_path / name).write_bytes(real_file("pydicom-data", name).read_bytes())
    with refused(text):
        read_volume(tmp_path / name)


def test_a_folder_of_many_series_lists_them(real_file, refused):
    with refused("choose with series_uid"):
        read_volume(real_file("pydicom-data", "RG1_UNCR.dcm").parent)


@pytest.mark.parametrize("name", ["mlut_18.dcm", "vlut_04.dcm"])
def test_grey_captures_with_look_up_tables(real_file, name):
    values = read_xray(real_file("pydicom-data", name)).values
    assert np.ptp(values) > 0.9
