"""DICOM that we write: exact for us, with spacing and angles for others, and marked synthetic."""

import datetime

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from XraySynthLib.data import Quantity, Xray
from XraySynthLib.data.formats import read_xray, write_xray_dicom
from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm

POINTS_RAS_MM = np.array([[0, 0, 300], [30, -20, 280], [-25, 40, 330.0]])


@pytest.mark.parametrize("quantity", list(Quantity))
def test_quantity_view_and_values_come_back(tmp_path, line_integral, quantity):
    xray = Xray(line_integral.values, quantity, None, line_integral.view)
    write_xray_dicom(xray, tmp_path / "x.dcm", subject="s01")
    back = read_xray(tmp_path / "x.dcm")
    assert back.quantity is quantity
    expected = xray.view.project(POINTS_RAS_MM)
    assert back.view.project(POINTS_RAS_MM) == pytest.approx(expected, abs=1e-6)
    assert back.values == pytest.approx(xray.values, abs=float(np.ptp(xray.values)) / 65535)


@pytest.mark.parametrize("quantity", list(Quantity))
def test_without_our_elements_dense_is_still_bright(tmp_path, line_integral, quantity):
    grows = quantity is not Quantity.TRANSMISSION
    values = line_integral.values if grows else np.exp(-line_integral.values)
    write_xray_dicom(Xray(values, quantity, (0.2, 0.4)), tmp_path / "x.dcm", subject="s01")
    dataset = pydicom.dcmread(tmp_path / "x.dcm")
    dataset.remove_private_tags()
    dataset.save_as(tmp_path / "x.dcm")
    foreign = read_xray(tmp_path / "x.dcm")
    assert foreign.quantity is Quantity.DISPLAY
    assert np.corrcoef(foreign.values.ravel(), line_integral.values.ravel())[0, 1] > 0.6
    assert foreign.pixel_spacing_mm.tolist() == [0.2, 0.4]


def test_others_find_spacing_and_angles(tmp_path):
    """A C-arm about the origin is rebuilt from the standard attributes alone."""
    view = view_from_carm(
        CArmPose(-30.5, 20.25, 0, (0, 0, 0), 510), Intrinsics(1010, (0.2, 0.4), (30, 40))
    )
    xray = Xray(np.zeros((30, 40)), Quantity.DISPLAY, None, view)
    write_xray_dicom(xray, tmp_path / "x.dcm", subject="s01", source_to_isocenter_mm=510)
    image = sitk.ReadImage(str(tmp_path / "x.dcm"))
    assert image.GetSpacing()[:2] == pytest.approx((0.2, 0.4))
    dataset = pydicom.dcmread(tmp_path / "x.dcm")
    assert dataset.ImagerPixelSpacing == [0.4, 0.2]
    assert dataset.PositionerPrimaryAngle == -30.5
    assert dataset.PositionerSecondaryAngle == 20.25
    dataset.remove_private_tags()
    dataset.save_as(tmp_path / "x.dcm")
    points = POINTS_RAS_MM - [0, 0, 300]
    rebuilt = read_xray(tmp_path / "x.dcm").view
    assert rebuilt.project(points) == pytest.approx(view.project(points), abs=1e-4)


def test_it_says_that_it_is_synthetic(tmp_path, line_integral):
    write_xray_dicom(
        line_integral, tmp_path / "x.dcm", subject="s01", date=datetime.date(2026, 3, 4)
    )
    dataset = pydicom.dcmread(tmp_path / "x.dcm")
    assert dataset.SOPClassUID.name == "X-Ray Angiographic Image Storage"
    assert list(dataset.ImageType[:2]) == ["DERIVED", "SECONDARY"]
    assert dataset.DerivationDescription == (
        "Synthetic image made by XraySynth. Not for clinical use."
    )
    assert (dataset.BurnedInAnnotation, dataset.SyntheticData) == ("NO", "YES")
    assert (dataset.PatientName, dataset.PatientID) == ("s01^Synthetic", "s01")
    assert dataset.StudyDate == "20260304"
    assert len(dataset.DerivationDescription) <= 1024


def test_a_seed_makes_the_same_bytes_and_groups_a_subject(tmp_path, line_integral):
    def write(name, **how):
        write_xray_dicom(line_integral, tmp_path / name, **{"uid_seed": "run 7", **how})
        return pydicom.dcmread(tmp_path / name)

    first = write("a.dcm", subject="s01")
    write("b.dcm", subject="s01")
    assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()
    second = write("c.dcm", subject="s01", instance_number=2)
    assert second.SeriesInstanceUID == first.SeriesInstanceUID
    assert second.SOPInstanceUID != first.SOPInstanceUID
    assert write("d.dcm", subject="s02").StudyInstanceUID != first.StudyInstanceUID
    other = write("e.dcm", subject="s01", uid_seed=None)
    assert other.StudyInstanceUID != first.StudyInstanceUID


def test_what_cannot_be_written(tmp_path, line_integral):
    with pytest.raises(ValueError, match="subject"):
        write_xray_dicom(line_integral, tmp_path / "x.dcm", subject="")
    with pytest.raises(ValueError, match="source_to_isocenter_mm"):
        write_xray_dicom(
            line_integral, tmp_path / "x.dcm", subject="s", source_to_isocenter_mm=2000
        )
    assert not list(tmp_path.iterdir())


def test_damaged_private_elements_are_refused(tmp_path, line_integral, refused):
    write_xray_dicom(line_integral, tmp_path / "x.dcm", subject="s01")
    dataset = pydicom.dcmread(tmp_path / "x.dcm")
    dataset.private_block(0x2199, "XraySynth")[0x01].value = '{"xraysynth": 1, "view": nonsense'
    dataset.save_as(tmp_path / "x.dcm")
    with refused("private XraySynth elements are damaged"):
        read_xray(tmp_path / "x.dcm")
