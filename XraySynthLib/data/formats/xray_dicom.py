"""X-rays in DICOM: which objects are taken, and their frames. Grey, view and writing lie beside."""

from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.pixels import apply_modality_lut, get_decoder, pixel_array
from pydicom.uid import UID

from XraySynthLib.data.formats.dicom_files import number, quiet_pydicom, read_dataset
from XraySynthLib.data.formats.itk import MAX_COMPRESSION
from XraySynthLib.data.formats.problems import meaning, reading, unreadable
from XraySynthLib.data.formats.xray_dicom_grey import display_frames
from XraySynthLib.data.formats.xray_dicom_private import private_fields
from XraySynthLib.data.formats.xray_dicom_view import frame_geometry
from XraySynthLib.data.formats.xray_json import xray_from_fields
from XraySynthLib.data.xray import Quantity, Xray
from XraySynthLib.geometry.intrinsics import MAX_PIXELS
from XraySynthLib.quiet import quiet_stderr

NEEDED = [
    "Modality", "SOPClassUID", "PhotometricInterpretation", "PixelIntensityRelationship", "Rows",
    "Columns", "NumberOfFrames", "BitsAllocated", "BitsStored", "PixelRepresentation", "PixelData",
    "VOILUTFunction",
]  # fmt: skip
XRAY_MODALITIES = ("XA", "RF", "DX", "CR", "RG")
CAPTURE_MODALITIES = ("OT", "SC")
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
RECONSTRUCTED = "1.2.840.10008.5.1.4.1.1.13.1."
"""X-ray 3D objects (angiographic, craniofacial, tomosynthesis): slices, not projections."""
MAX_FRAMES = 10_000


def read_xray_dicom(path: Path) -> list[Xray]:
    """Read every frame of an XA, RF, DX, CR or RG object, or of a grey secondary capture.

    A secondary capture is taken where its modality is OT or SC: what was captured is then the
    user's word. One whose modality is CT, MR or US is refused.

    Raises:
        UnreadableFileError: If the file is damaged, no X-ray, coloured, or cannot be unpacked.
    """
    with quiet_pydicom():
        return _read(path)


def _read(path: Path) -> list[Xray]:
    dataset = read_dataset(path, NEEDED)
    _check_kind(dataset, path)
    ours = private_fields(dataset, path)
    stored = _stored_frames(dataset, path)
    if ours is not None:
        fields, slope, intercept = ours
        return [xray_from_fields(fields, frame * slope + intercept, path) for frame in stored]
    with reading(path, "an image with usable look-up tables"):
        grey = display_frames(dataset, stored, apply_modality_lut(stored, dataset))
    xrays = []
    for index, frame in enumerate(grey):
        with reading(path, "an image with usable geometry"):
            spacing, view = frame_geometry(dataset, index, frame.shape)
        with meaning(path):
            xrays.append(Xray(frame, Quantity.DISPLAY, spacing, view))
    return xrays


def _check_kind(dataset: pydicom.Dataset, path: Path) -> None:
    modality = str(dataset.get("Modality", ""))
    sop_class = str(dataset.get("SOPClassUID", ""))
    if sop_class.startswith(RECONSTRUCTED):
        raise unreadable(path, "it holds slices reconstructed from X-rays, not X-ray images.")
    capture = modality in CAPTURE_MODALITIES and (
        sop_class == SECONDARY_CAPTURE or sop_class.startswith(f"{SECONDARY_CAPTURE}.")
    )
    if modality not in XRAY_MODALITIES and not capture:
        raise unreadable(
            path,
            f"its DICOM modality is {modality or 'missing'}, an X-ray is "
            f"{', '.join(XRAY_MODALITIES)} or a secondary capture.",
        )
    if "PixelData" not in dataset:
        raise unreadable(path, "it holds no pixel data.")
    photometric = str(dataset.get("PhotometricInterpretation", "missing"))
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise unreadable(path, f"its pixels are {photometric}, grey (MONOCHROME) was expected.")
    rows, columns = number(dataset, "Rows") or 0, number(dataset, "Columns") or 0
    frames = number(dataset, "NumberOfFrames") or 1
    if not 1 <= rows * columns <= MAX_PIXELS or not 1 <= frames <= MAX_FRAMES:
        raise unreadable(
            path, f"{frames:g} frames of {rows:g} x {columns:g} pixels cannot be meant."
        )


def _stored_frames(dataset: pydicom.Dataset, path: Path) -> NDArray:
    """Return (F, rows, columns) values as stored.

    pydicom first; what it has no decoder for (JPEG lossless needs a package that Slicer lacks)
    is unpacked by SimpleITK.
    """
    shape = (int(dataset.Rows), int(dataset.Columns))
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise unreadable(path, "it does not say its transfer syntax.")
    promised = number(dataset, "NumberOfFrames") or 1
    if promised * shape[0] * shape[1] > MAX_COMPRESSION * len(dataset.PixelData):
        raise unreadable(path, "it is truncated: its pixel data is too short for its size.")
    if _is_compressed(syntax) and not _pydicom_decodes(syntax):
        frames = _itk_frames(dataset, path)
    else:
        with reading(path, "a DICOM image whose pixels can be unpacked"):
            frames = pixel_array(dataset)
    if frames.shape[-2:] != shape or frames.dtype.kind not in "iuf":
        raise unreadable(path, f"its pixels do not fit {shape[0]} rows and {shape[1]} columns.")
    return frames.reshape(-1, *shape)


def _is_compressed(syntax: UID) -> bool:
    return not syntax.is_private and syntax.is_transfer_syntax and syntax.is_compressed


def _pydicom_decodes(syntax: UID) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False


def _itk_frames(dataset: pydicom.Dataset, path: Path) -> NDArray:
    """Unpack by GDCM, and undo that it turns MONOCHROME1 round and applies slope and intercept."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    turned = dataset.PhotometricInterpretation == "MONOCHROME1"
    try:
        with quiet_stderr():
            frames = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        syntax = dataset.file_meta.TransferSyntaxUID
        raise unreadable(
            path,
            f"its compression ({syntax.name}) cannot be unpacked here, or it is damaged; export it "
            "uncompressed.",
        ) from error
    signed = number(dataset, "PixelRepresentation") == 1
    if turned and signed:
        raise unreadable(path, "it is compressed, signed and MONOCHROME1; export it uncompressed.")
    slope = number(dataset, "RescaleSlope") or 1.0
    stored = np.round((frames - (number(dataset, "RescaleIntercept") or 0.0)) / slope)
    if turned:
        stored = 2 ** int(dataset.BitsStored) - 1 - stored
    kind = f"{'i' if signed else 'u'}{1 if dataset.BitsAllocated == 8 else 2}"
    return stored.astype(kind)
