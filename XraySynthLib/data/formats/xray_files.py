"""X-ray images from and to files, by their kind."""

from pathlib import Path

from XraySynthLib.data.formats.dicom_files import is_dicom
from XraySynthLib.data.formats.itk import itk_suffix
from XraySynthLib.data.formats.problems import check_file, unreadable
from XraySynthLib.data.formats.xray_dicom import read_xray_dicom
from XraySynthLib.data.formats.xray_grid import read_grid, write_grid
from XraySynthLib.data.formats.xray_raster import read_raster, write_png, write_tiff
from XraySynthLib.data.xray import Xray

RASTER_SUFFIXES = (".tif", ".tiff", ".png")


def read_xray(path: str | Path) -> Xray:
    """Read the first or only frame of an X-ray image; see `read_xrays`."""
    return read_xrays(path)[0]


def read_xrays(path: str | Path) -> list[Xray]:
    """Read every frame of an X-ray image.

    An image that XraySynth wrote comes back with its quantity and View. Any other becomes
    DISPLAY, 0..1 with dense bright; what that takes is said in `xray_dicom_grey.display_frames`
    for DICOM and in `xray_raster.display_values` for the rest.

    Args:
        path: DICOM (XA, RF, DX, CR, RG, grey secondary capture), TIFF, PNG, NIfTI, NRRD or
            MetaImage.

    Raises:
        UnreadableFileError: If the file is missing, damaged, or no X-ray.
    """
    file = Path(path)
    check_file(file)
    if is_dicom(file) or file.suffix.lower() == ".dcm":
        return read_xray_dicom(file)
    if file.name.lower().endswith(RASTER_SUFFIXES):
        return read_raster(file)
    if itk_suffix(file):
        return read_grid(file)
    raise unreadable(file, "an X-ray is a DICOM, TIFF, PNG, NIfTI, NRRD or MetaImage file.")


def write_xray(xray: Xray, path: str | Path) -> None:
    """Write an image by its suffix; DICOM has `write_xray_dicom`.

    `.tiff`: float32 of any quantity, exact. `.png`: 8-bit grey of DISPLAY. Both hold quantity,
    spacing and View in themselves; `.nii.gz`, `.nrrd` and `.mha` (float32) have them in a
    `.xraysynth.json` beside.

    Raises:
        ValueError: If the suffix is another, or a PNG is asked of another quantity.
        OSError: If the file cannot be written.
    """
    file = Path(path)
    name = file.name.lower()
    if name.endswith((".tif", ".tiff")):
        write_tiff(xray, file)
    elif name.endswith(".png"):
        write_png(xray, file)
    elif name.endswith((".nii.gz", ".nii", ".nrrd", ".mha")):
        write_grid(xray, file)
    else:
        raise ValueError(
            f"An X-ray is written as .tiff, .png, .nii.gz, .nrrd or .mha, got {file.name}; "
            "for DICOM use write_xray_dicom."
        )
