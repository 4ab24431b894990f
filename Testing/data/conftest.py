"""Small files that the tests of data formats make, and the real ones that packages hold."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    XRayAngiographicImageStorage,
    generate_uid,
)

from XraySynthLib.data import Quantity, Volume, Xray
from XraySynthLib.errors import UnreadableFileError
from XraySynthLib.geometry import CArmPose, Intrinsics, View, view_from_carm


@pytest.fixture
def refused() -> Callable:
    """`with refused("text")`: the block must end in one bearable sentence that holds the text."""

    @contextmanager
    def check(text: str) -> Iterator[None]:
        with pytest.raises(UnreadableFileError, match=re.escape(text)) as caught:
            yield
        message = str(caught.value)
        assert "\n" not in message
        assert len(message) < 300
        assert message.startswith("Cannot read ")

    return check


@pytest.fixture
def real_file() -> Callable[[str, str], Path]:
    """`real_file("slicerio", "CTChest4.nrrd")`: a data file of a package, which is not imported."""

    def find(package: str, name: str) -> Path:
        try:
            found = [file for file in files(package) or [] if file.name == name]
        except PackageNotFoundError:
            pytest.skip(f"{package} is not installed (extra: test)")
        return Path(found[0].locate())

    return find


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def oblique_volume(random: np.random.Generator) -> Volume:
    """Left-handed, rotated, anisotropic, far from the origin; no two values are alike."""
    axes = np.array([[0.8, 0.36, -0.48], [0.0, 0.8, 0.6], [0.6, -0.48, 0.64]])
    matrix = np.eye(4)
    matrix[:3, :3] = axes @ np.diag([0.7, 0.9, -2.5])
    matrix[:3, 3] = [-193.09599, 216.396, -1340.25]
    values = random.permutation(3 * 4 * 5).reshape(3, 4, 5) * 13.25 - 900
    return Volume(values.astype(np.float32), matrix)


@pytest.fixture
def general_view() -> View:
    """Rolled, off-centre, anisotropic, of 30 rows and 40 columns, not mirrored."""
    pose = CArmPose(-37.1234567, 21.7654321, 33.3, (12.5, -7.25, 300.125), 530)
    intrinsics = Intrinsics(1020, (0.31, 0.29), (30, 40), (3.25, 17.75), mirrored=False)
    return view_from_carm(pose, intrinsics)


@pytest.fixture
def line_integral(general_view: View, random: np.random.Generator) -> Xray:
    values = random.gamma(2.0, 1.5, (30, 40)) - 0.05
    return Xray(values, Quantity.LINE_INTEGRAL, None, general_view)


def blank_dataset(sop_class: str, modality: str, pixels: np.ndarray) -> FileDataset:
    """A DICOM image of (rows, columns) or (frames, rows, columns), uint8, uint16 or int16."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.PatientName = modality, "Test"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        dataset.NumberOfFrames = len(pixels)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = pixels.dtype.itemsize * 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    return dataset


@pytest.fixture
def ct_slices(tmp_path: Path) -> Callable[..., Path]:
    """`ct_slices(folder_name, change=f)` writes five 3 x 4 slices; `f(index, dataset)` edits one.

    Rows run to the patient's left, columns to the back, slices are 2 mm apart upwards from
    z = -100; rows are 0.7 mm apart, columns 0.5 mm; HU = stored - 1024. The files' names are in
    another order than their positions.
    """

    def write(
        name: str = "series",
        change: Callable[[int, pydicom.Dataset], None] = lambda index, dataset: None,
        count: int = 5,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for index in range(count):
            pixels = (np.arange(12).reshape(3, 4) * 100 + index).astype(np.uint16)
            dataset = blank_dataset(CTImageStorage, "CT", pixels)
            dataset.ImagePositionPatient = [-10, -20, -100 + 2 * index]
            dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            dataset.PixelSpacing = [0.7, 0.5]
            dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
            dataset.InstanceNumber = count - index
            change(index, dataset)
            stem = f"{(index * 3) % 7}-{dataset.SeriesInstanceUID}"
            dataset.save_as(folder / f"{stem}.dcm", enforce_file_format=True)
        return folder

    return write


@pytest.fixture
def xray_dicom(tmp_path: Path) -> Callable[..., Path]:
    """`xray_dicom(pixels, modality="CR", Keyword=value...)` writes an X-ray file."""

    def write(pixels: np.ndarray, modality: str = "CR", **attributes: object) -> Path:
        beam = modality in ("XA", "RF")
        sop_class = XRayAngiographicImageStorage if beam else ComputedRadiographyImageStorage
        dataset = blank_dataset(sop_class, modality, pixels)
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        path = tmp_path / f"{generate_uid()}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write
