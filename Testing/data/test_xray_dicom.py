"""DICOM X-rays: dense is bright, spacing and View are right, the rest is refused."""

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import SecondaryCaptureImageStorage

from XraySynthLib.data import Quantity
from XraySynthLib.data.formats import read_xray, read_xrays
from XraySynthLib.data.formats import xray_dicom as xray_dicom_module
from XraySynthLib.data.formats.dicom_files import read_dataset

STORED = np.array([[0, 51, 255], [102, 153, 204]], np.uint8)
C_ARM = {
    "PositionerPrimaryAngle": "90",
    "PositionerSecondaryAngle": "0",
    "DistanceSourceToDetector": "1000",
    "DistanceSourceToPatient": "500",
    "ImagerPixelSpacing": [0.4, 0.2],
}


@pytest.mark.parametrize(
    ("modality", "attributes", "dense_is_low"),
    [
        ("CR", {}, False),
        ("DX", {}, False),
        ("CR", {"PhotometricInterpretation": "MONOCHROME1"}, True),
        ("DX", {"PixelIntensityRelationshipSign": 1}, True),
        ("DX", {"PixelIntensityRelationshipSign": -1}, False),
        (
            "DX",
            {"PhotometricInterpretation": "MONOCHROME1", "PixelIntensityRelationshipSign": 1},
            True,
        ),
        (
            "DX",
            {"PixelIntensityRelationshipSign": 1, "RescaleSlope": -1, "RescaleIntercept": 255},
            True,
        ),
        ("CR", {"PixelIntensityRelationship": "LIN"}, True),
        ("XA", {}, True),
        ("RF", {"PixelIntensityRelationship": "LOG"}, True),
        ("XA", {"PixelIntensityRelationship": "DISP"}, True),
        ("XA", {"PhotometricInterpretation": "MONOCHROME1"}, True),
        ("XA", {"PixelIntensityRelationshipSign": -1}, False),
    ],
)
def test_dense_is_bright(xray_dicom, modality, attributes, dense_is_low):
    xray = read_xray(xray_dicom(STORED, modality, **attributes))
    assert xray.quantity is Quantity.DISPLAY
    grey = STORED / 255
    assert xray.values == pytest.approx(1 - grey if dense_is_low else grey, abs=1e-6)


def test_a_window_is_applied_and_a_senseless_one_is_not(xray_dicom):
    """PS3.3 C.11.2.1.2.1: center 2048, width 4096 maps 0 to 0, 2048 to 0.5001 and 4095 to 1."""
    stored = np.array([[0, 2048, 4095, 9000]], np.uint16)
    windowed = read_xray(xray_dicom(stored, WindowCenter=2048, WindowWidth=4096))
    assert windowed.values[0] == pytest.approx([0, 2048 / 4095, 1, 1], abs=1e-6)
    exact = {"WindowCenter": 4500, "WindowWidth": 9000, "VOILUTFunction": "LINEAR_EXACT"}
    assert read_xray(xray_dicom(stored, **exact)).values[0, 1] == pytest.approx(2048 / 9000)
    sigmoid = {"WindowCenter": 2048, "WindowWidth": 4096, "VOILUTFunction": "SIGMOID"}
    assert read_xray(xray_dicom(stored, **sigmoid)).values[0, 1] == pytest.approx(0.5)
    absurd = read_xray(xray_dicom(stored, WindowCenter=-9999, WindowWidth=10))
    assert absurd.values[0] == pytest.approx(stored[0] / 9000)


def test_padding_is_dark_and_does_not_stretch(xray_dicom):
    stored = np.array([[65535, 100, 300, 200]], np.uint16)
    for modality, expected in (("CR", [0, 0, 1, 0.5]), ("XA", [0, 1, 0, 0.5])):
        xray = read_xray(xray_dicom(stored, modality, PixelPaddingValue=65535))
        assert xray.values[0] == pytest.approx(expected)


def test_imager_pixel_spacing_is_row_then_column_and_comes_first(xray_dicom):
    both = {"ImagerPixelSpacing": [0.4, 0.2], "PixelSpacing": [0.3, 0.1]}
    assert read_xray(xray_dicom(STORED, **both)).pixel_spacing_mm.tolist() == [0.2, 0.4]
    only = {"PixelSpacing": [0.3, 0.1]}
    assert read_xray(xray_dicom(STORED, **only)).pixel_spacing_mm.tolist() == [0.1, 0.3]
    zero = {"PixelSpacing": [0, 0]}
    assert read_xray(xray_dicom(STORED, **zero)).pixel_spacing_mm is None


def test_a_view_from_positioner_angles_by_hand(xray_dicom):
    """LAO 90: the detector is at the patient's left, -R; source 500 mm to the right of RAS 0.

    A point 10 mm up from the isocentre is 20 mm up on the detector: 50 rows of 0.4 mm; one 10 mm
    to the back (A = -10) is 20 mm aside: 100 columns of 0.2 mm, to the image's right.
    """
    view = read_xray(xray_dicom(np.zeros((300, 400), np.uint8), "XA", **C_ARM)).view
    assert view.source_ras_mm == pytest.approx([500, 0, 0])
    points = view.project(np.array([[0, 0, 0], [0, 0, 10], [0, -10, 0.0]]))
    assert points == pytest.approx(np.array([[199.5, 149.5], [199.5, 99.5], [299.5, 149.5]]))


@pytest.mark.parametrize("missing", sorted(C_ARM))
def test_without_one_of_its_numbers_there_is_no_view(xray_dicom, missing):
    attributes = {keyword: value for keyword, value in C_ARM.items() if keyword != missing}
    assert read_xray(xray_dicom(STORED, "XA", **attributes)).view is None
    wrong = {**C_ARM, "DistanceSourceToPatient": "1200"}
    assert read_xray(xray_dicom(STORED, "XA", **wrong)).view is None


@pytest.mark.parametrize(("steps", "degrees"), [("2", [90, 92, 94]), ([0, 5, -5], [90, 95, 85])])
def test_each_frame_has_its_own_angle(xray_dicom, steps, degrees):
    frames = np.stack([STORED, STORED // 2, STORED // 3])
    path = xray_dicom(frames, "XA", **C_ARM, PositionerPrimaryAngleIncrement=steps)
    for xray, angle in zip(read_xrays(path), degrees, strict=True):
        turned = np.deg2rad(angle)
        source = 500 * np.array([np.sin(turned), -np.cos(turned), 0])
        assert xray.view.source_ras_mm == pytest.approx(source)


def item(**attributes):
    dataset = pydicom.Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def test_an_enhanced_object_keeps_its_geometry_in_functional_groups(xray_dicom):
    geometry = item(DistanceSourceToIsocenter=500.0, DistanceSourceToDetector=1000.0)
    angles = [item(PositionerPrimaryAngle=a, PositionerSecondaryAngle=0.0) for a in (0.0, 90.0)]
    path = xray_dicom(
        np.stack([STORED, STORED]),
        "XA",
        SOPClassUID="1.2.840.10008.5.1.4.1.1.12.1.1",
        ImagerPixelSpacing=[0.4, 0.2],
        SharedFunctionalGroupsSequence=[item(XRayGeometrySequence=[geometry])],
        PerFrameFunctionalGroupsSequence=[item(PositionerPositionSequence=[a]) for a in angles],
    )
    first, second = read_xrays(path)
    assert first.view.source_ras_mm == pytest.approx([0, -500, 0])
    assert second.view.source_ras_mm == pytest.approx([500, 0, 0])


def test_nonsense_in_an_attribute_that_is_not_needed_does_not_matter(xray_dicom):
    path = xray_dicom(STORED, KVP="71.25", PatientWeight="62.50")
    path.write_bytes(path.read_bytes().replace(b"71.25", b"a,b;c").replace(b"62.50", b"6\\2,5"))
    assert read_xray(path).values.shape == (2, 3)


def test_a_secondary_capture_is_taken_as_shown(xray_dicom, refused):
    capture = {"SOPClassUID": SecondaryCaptureImageStorage}
    assert read_xray(xray_dicom(STORED, "OT", **capture)).values == pytest.approx(STORED / 255)
    with refused("modality is MR"):
        read_xray(xray_dicom(STORED, "MR", **capture))
    with refused("modality is OT"):
        read_xray(xray_dicom(STORED, "OT"))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("intercept", ["0", "100"])
def test_jpeg_lossless_is_unpacked_by_simpleitk(tmp_path, xray_dicom, photometric, intercept):
    """pydicom alone cannot; GDCM turns MONOCHROME1 round and rescales, which must not show."""
    stored = (np.arange(64 * 48).reshape(64, 48) * 5 % 4093).astype(np.uint16)
    rescale = {"RescaleSlope": "1", "RescaleIntercept": intercept, "BitsStored": 12, "HighBit": 11}
    plain = xray_dicom(stored, PhotometricInterpretation=photometric, **rescale)
    assert np.array_equal(xray_dicom_module._itk_frames(read_dataset(plain, []), plain)[0], stored)
    image = sitk.GetImageFromArray(stored)
    image.SetMetaData("0008|0060", "CR")
    image.SetMetaData("0008|0016", "1.2.840.10008.5.1.4.1.1.1")
    packed = str(tmp_path / "packed.dcm")
    sitk.WriteImage(image, packed, useCompression=True, compressor="JPEG")
    syntax = read_dataset(tmp_path / "packed.dcm", []).file_meta.TransferSyntaxUID
    assert syntax == "1.2.840.10008.1.2.4.70"
    assert read_xray(packed).values == pytest.approx(stored / stored.max(), abs=1e-6)


@pytest.mark.parametrize(
    ("modality", "attributes", "text"),
    [
        ("CT", {}, "its DICOM modality is CT, an X-ray is XA, RF"),
        ("US", {}, "modality is US"),
        ("XA", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.13.1.1"}, "reconstructed"),
        ("CR", {"PhotometricInterpretation": "PALETTE COLOR"}, "pixels are PALETTE COLOR"),
        ("CR", {"Rows": 0}, "cannot be meant"),
        ("CR", {"Rows": 60000, "Columns": 60000}, "cannot be meant"),
        ("CR", {"PixelData": b"1234"}, "pixels can be unpacked"),
        ("CR", {"NumberOfFrames": 3}, "pixels can be unpacked"),
        ("CR", {"BitsAllocated": 12}, "pixels can be unpacked"),
    ],
)
def test_what_is_no_xray_is_refused(xray_dicom, refused, modality, attributes, text):
    with refused(text):
        read_xray(xray_dicom(STORED, modality, **attributes))


def test_truncated_files_and_files_without_pixels_are_refused(tmp_path, xray_dicom, refused, capfd):
    path = xray_dicom(np.zeros((50, 60), np.uint16), "XA", **C_ARM)
    data = path.read_bytes()
    for kept in (140, 200, 400, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:kept])
        with refused(path.name):
            read_xray(path)
    (tmp_path / "x.dcm").write_bytes(data[data.index(b"DICM") + 4 :])
    with refused("not a DICOM file"):
        read_xray(tmp_path / "x.dcm")
    assert capfd.readouterr().err == ""
