"""X-rays written as DICOM: one XA object each, which viewers open with its spacing and angles."""

import datetime
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, XRayAngiographicImageStorage, generate_uid
from pydicom.valuerep import DSfloat

import XraySynthLib
from XraySynthLib.data.formats.atomic import atomic_path
from XraySynthLib.data.formats.dicom_files import quiet_pydicom
from XraySynthLib.data.formats.xray_dicom_private import add_private_fields
from XraySynthLib.data.xray import Quantity, Xray
from XraySynthLib.geometry import CArmPose, View
from XraySynthLib.geometry.view import CARM_AXES_FROM_CAMERA_AXES

DISCLAIMER = "Synthetic image made by XraySynth. Not for clinical use."
VIEW_NOTE = (
    "Positioner angles give the direction of the beam only; the exact view is in the private "
    "element (2199,xx01) of creator XraySynth, as JSON."
)
LARGEST = 65535
RELATIONSHIP = {
    Quantity.TRANSMISSION: ("LIN", 1),
    Quantity.LINE_INTEGRAL: ("LOG", -1),
    Quantity.DISPLAY: ("DISP", -1),
}
"""PixelIntensityRelationship and its sign: 1 where more stored is more beam."""


def write_xray_dicom(
    xray: Xray,
    path: str | Path,
    *,
    subject: str,
    uid_seed: str | None = None,
    instance_number: int = 1,
    date: datetime.date | None = None,
    source_to_isocenter_mm: float | None = None,
    kvp: float | None = None,
) -> None:
    """Write an X-ray as a derived X-Ray Angiographic image, 16 bits, MONOCHROME2.

    Standard attributes carry the beam's direction (positioner angles), the source-detector
    distance and ImagerPixelSpacing. They cannot carry a roll, a principal point off the middle or
    an unmirrored image, nor the isocentre: quantity and View as they are go into private elements,
    from which `read_xray` restores them (values to 1/65535 of their range).

    Args:
        xray: The image.
        path: The file.
        subject: Name of the synthetic subject, patient ID and family name in the file.
        uid_seed: The same seed, subject and instance number give the same UIDs, and the same seed
            and subject one study and series; None: random.
        instance_number: Number of the image in its series.
        date: Date of the study; None leaves it empty, so that files can be remade byte for byte.
        source_to_isocenter_mm: DistanceSourceToPatient, which a View does not know.
        kvp: KVP, the tube voltage.

    Raises:
        ValueError: If the subject has no name or the distance is not between source and detector.
        OSError: If the file cannot be written.
    """
    if not subject or "\\" in subject or len(subject) > 48:
        raise ValueError(f"subject must be a name of 1 to 48 characters, got {subject!r}.")
    dataset = _identified(subject, uid_seed, instance_number, date)
    _describe(dataset, xray.quantity)
    dataset.KVP = None if kvp is None else _ds(kvp)
    if xray.pixel_spacing_mm is not None:
        column_mm, row_mm = xray.pixel_spacing_mm
        dataset.ImagerPixelSpacing = [_ds(row_mm), _ds(column_mm)]  # DICOM: row, column
    _add_positioner(dataset, xray.view, source_to_isocenter_mm)
    slope, intercept = _add_pixels(dataset, xray.values)
    add_private_fields(dataset, xray, slope, intercept)
    dicom = io.BytesIO()
    with quiet_pydicom():
        dataset.save_as(dicom, enforce_file_format=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(dicom.getvalue())


def _ds(value: float) -> DSfloat:
    """A decimal string of at most 16 characters."""
    return DSfloat(float(value), auto_format=True)


def _identified(
    subject: str, uid_seed: str | None, instance_number: int, date: datetime.date | None
) -> FileDataset:
    """A data set with who, when and which."""

    def uid(*parts: str) -> UID:
        seeds = None if uid_seed is None else ["XraySynth", uid_seed, subject, *parts]
        return generate_uid(entropy_srcs=seeds)

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = XRayAngiographicImageStorage
    meta.MediaStorageSOPInstanceUID = uid("instance", str(instance_number))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    day = "" if date is None else date.strftime("%Y%m%d")
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid("study"), uid("series")
    dataset.StudyDate = dataset.ContentDate = day
    dataset.StudyTime = dataset.ContentTime = "" if date is None else "000000"
    dataset.AccessionNumber = dataset.ReferringPhysicianName = dataset.StudyID = ""
    dataset.PatientName, dataset.PatientID = f"{subject}^Synthetic", subject
    dataset.PatientBirthDate = dataset.PatientSex = dataset.PatientOrientation = ""
    dataset.Modality, dataset.Manufacturer = "XA", "XraySynth"
    dataset.SoftwareVersions = XraySynthLib.__version__
    dataset.SeriesNumber, dataset.InstanceNumber = 1, instance_number
    return dataset


def _describe(dataset: FileDataset, quantity: Quantity) -> None:
    dataset.ImageType = ["DERIVED", "SECONDARY", "SINGLE PLANE"]
    dataset.DerivationDescription = DISCLAIMER
    dataset.ImageComments = f"{DISCLAIMER} {VIEW_NOTE}"
    dataset.SeriesDescription = f"XraySynth {quantity.value}"
    dataset.BurnedInAnnotation = "NO"
    dataset.SyntheticData = "YES"
    dataset.LossyImageCompression = "00"
    dataset.Exposure = dataset.ExposureTime = dataset.XRayTubeCurrent = None
    dataset.RadiationSetting = "GR"
    relationship, sign = RELATIONSHIP[quantity]
    dataset.PixelIntensityRelationship = relationship
    dataset.PixelIntensityRelationshipSign = sign


def _add_positioner(
    dataset: FileDataset, view: View | None, source_to_isocenter_mm: float | None
) -> None:
    dataset.PositionerPrimaryAngle = dataset.PositionerSecondaryAngle = None
    if view is None:
        return
    detector_mm = view.intrinsics.source_to_detector_mm
    dataset.DistanceSourceToDetector = _ds(detector_mm)
    if source_to_isocenter_mm is not None:
        if not 0 < source_to_isocenter_mm < detector_mm:
            raise ValueError(
                f"source_to_isocenter_mm must lie in 0..{detector_mm:g}, "
                f"got {source_to_isocenter_mm}."
            )
        dataset.DistanceSourceToPatient = _ds(source_to_isocenter_mm)
    ras_from_carm = np.eye(4)
    ras_from_carm[:3, :3] = view.ras_from_camera[:3, :3] @ CARM_AXES_FROM_CAMERA_AXES.T
    pose = CArmPose.from_matrix(ras_from_carm)
    dataset.PositionerPrimaryAngle = _ds(round(pose.primary_deg, 6))
    dataset.PositionerSecondaryAngle = _ds(round(pose.secondary_deg, 6))


def _add_pixels(dataset: FileDataset, values: NDArray) -> tuple[float, float]:
    """Store values as 16 bits over 0..1 or, where they go beyond, their range.

    Returns:
        Slope and intercept that give the values back.
    """
    exact = values.astype(np.float64)
    low, high = min(0.0, float(exact.min())), max(1.0, float(exact.max()))
    slope = (high - low) / LARGEST
    stored = np.round((exact - low) / slope).astype("<u2")
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    least, greatest = int(stored.min()), int(stored.max())
    dataset.WindowWidth = _ds(max(greatest - least + 1, 2))
    dataset.WindowCenter = _ds((least + greatest + 1) / 2)
    dataset.PixelData = stored.tobytes()
    return slope, low
