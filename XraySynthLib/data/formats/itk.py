"""SimpleITK with manners: what is wrong is known before reading, and nothing goes to stderr."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from XraySynthLib.data.formats.atomic import atomic_path
from XraySynthLib.data.formats.nifti import check_nifti_whole
from XraySynthLib.data.formats.packed import unpacked_bytes
from XraySynthLib.data.formats.problems import check_file, reading, unreadable
from XraySynthLib.data.volume import MAX_VOXELS
from XraySynthLib.geometry.transforms import LPS_FROM_RAS, RAS_FROM_LPS
from XraySynthLib.quiet import quiet_stderr

IO_BY_SUFFIX = {
    ".nii.gz": ("NiftiImageIO", "a NIfTI file"),
    ".nii": ("NiftiImageIO", "a NIfTI file"),
    ".nrrd": ("NrrdImageIO", "an NRRD file"),
    ".nhdr": ("NrrdImageIO", "an NRRD file"),
    ".mha": ("MetaImageIO", "a MetaImage file"),
    ".mhd": ("MetaImageIO", "a MetaImage file"),
}
WRITABLE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
MAX_COMPRESSION = 1100
"""Deflate cannot do better than 1032 to 1: a header that promises more is damaged."""


@dataclass(frozen=True, eq=False)
class ItkImage:
    """An image as a file holds it.

    Attributes:
        values: (..., K, J, I) or (J, I) array as stored, after the file's own slope and intercept.
        ras_from_ijk: (4, 4) for three dimensions, else None.
        spacing_mm: One number for each axis, i first.
    """

    values: NDArray
    ras_from_ijk: NDArray | None
    spacing_mm: tuple[float, ...]


def itk_suffix(path: Path) -> str | None:
    """Return the suffix of `path` if SimpleITK reads such volume files here, else None."""
    name = path.name.lower()
    return next((suffix for suffix in IO_BY_SUFFIX if name.endswith(suffix)), None)


def read_itk(path: Path, dimensions: tuple[int, ...] = (3,)) -> ItkImage:
    """Read a NIfTI, NRRD or MetaImage file of one of the `dimensions` with one number a voxel.

    Raises:
        UnreadableFileError: If it is missing, damaged, or another kind of image.
    """
    io_name, kind = _io_of(path)
    if io_name == "NiftiImageIO":
        check_nifti_whole(path)
    n_bytes = unpacked_bytes(path) if io_name != "NiftiImageIO" else None
    reader = _read_header(path, dimensions)
    if n_bytes is not None and n_bytes != _promised_bytes(reader):
        raise unreadable(path, "its packed data is not of the size that its header states.")
    with quiet_stderr(), reading(path, kind):
        image = reader.Execute()
    return ItkImage(sitk.GetArrayFromImage(image), _ras_from_ijk(image), image.GetSpacing())


def read_itk_grid(path: Path) -> tuple[tuple[int, ...], NDArray]:
    """Read where the voxels of a three-dimensional file lie, from its header alone.

    Returns:
        The shape (K, J, I), and the (4, 4) ras_from_ijk, mm.

    Raises:
        UnreadableFileError: If its header is missing, damaged, or another kind of image's.
    """
    reader = _read_header(path, (3,))
    ras_from_ijk = _ras_from_ijk(reader)
    assert ras_from_ijk is not None  # three dimensions have one
    return tuple(reader.GetSize()[::-1]), ras_from_ijk


def write_itk(
    values: NDArray, ras_from_ijk: NDArray, path: Path, header: Mapping[str, str] | None = None
) -> None:
    """Write (K, J, I) values with their place, compressed, whole or not at all.

    Args:
        values: The values.
        ras_from_ijk: (4, 4) their place, mm.
        path: The file.
        header: Further fields of an NRRD's header.

    Raises:
        ValueError: If the suffix is none that is written here.
        OSError: If the file cannot be written.
    """
    if not path.name.lower().endswith(WRITABLE_SUFFIXES):
        raise ValueError(f"Volumes are written as {', '.join(WRITABLE_SUFFIXES)}, got {path.name}.")
    lps_from_ijk = LPS_FROM_RAS @ ras_from_ijk
    spacing = np.linalg.norm(lps_from_ijk[:3, :3], axis=0)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps_from_ijk[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps_from_ijk[:3, 3].tolist())
    for key, value in (header or {}).items():
        image.SetMetaData(key, value)
    write_sitk(image, path)


def write_sitk(image: sitk.Image, path: Path) -> None:
    """Write a SimpleITK image, compressed, whole or not at all.

    Raises:
        OSError: If the file cannot be written.
    """
    with atomic_path(path) as temporary, quiet_stderr():
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
        except RuntimeError as error:
            raise OSError(f"Cannot write {path}: is the disk full or the folder closed?") from error


def _io_of(path: Path) -> tuple[str, str]:
    """SimpleITK's name of what reads a file, and what kind of file that is."""
    check_file(path)
    suffix = itk_suffix(path)
    if suffix is None:
        raise unreadable(path, f"only {', '.join(IO_BY_SUFFIX)} files are read here.")
    return IO_BY_SUFFIX[suffix]


def _read_header(path: Path, dimensions: tuple[int, ...]) -> sitk.ImageFileReader:
    io_name, kind = _io_of(path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(io_name)
    reader.SetFileName(str(path))
    try:
        with quiet_stderr():
            reader.ReadImageInformation()
    except RuntimeError as error:
        if "orthonormal" in str(error):
            raise unreadable(path, "its axes are sheared; resample it in Slicer.") from error
        raise unreadable(path, f"it is truncated, damaged or not {kind}.") from error
    _check_header(reader, path, dimensions, attached=itk_suffix(path) not in (".mhd", ".nhdr"))
    return reader


def _check_header(
    reader: sitk.ImageFileReader, path: Path, dimensions: tuple[int, ...], attached: bool
) -> None:
    size = tuple(reader.GetSize())
    components = reader.GetNumberOfComponents()
    if components != 1:
        raise unreadable(
            path, f"it has {components} numbers a voxel (colour, vector, complex), not one."
        )
    pixel_name = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    if "complex" in pixel_name or ("integer" not in pixel_name and "float" not in pixel_name):
        raise unreadable(path, f"its values are of the kind {pixel_name!r}, numbers were expected.")
    if len(size) not in dimensions:
        wanted = " or ".join(map(str, dimensions))
        found = " x ".join(map(str, size))
        raise unreadable(path, f"it has {len(size)} dimensions ({found}), not {wanted}.")
    count = int(np.prod(size, dtype=object))
    if not 0 < count <= MAX_VOXELS:
        raise unreadable(path, f"its size {' x '.join(map(str, size))} cannot be meant.")
    if attached and count > MAX_COMPRESSION * path.stat().st_size:
        raise unreadable(path, "it is truncated: too short for the size that it states.")


def _promised_bytes(reader: sitk.ImageFileReader) -> int:
    """Bytes of the data; a pixel type's name begins with its bits: "16-bit signed integer"."""
    bits = int(sitk.GetPixelIDValueAsString(reader.GetPixelID()).partition("-")[0])
    return int(np.prod(reader.GetSize(), dtype=object)) * bits // 8


def _ras_from_ijk(image: sitk.Image | sitk.ImageFileReader) -> NDArray | None:
    if image.GetDimension() != 3:
        return None
    lps_from_ijk = np.eye(4)
    directions = np.reshape(image.GetDirection(), (3, 3))
    lps_from_ijk[:3, :3] = directions * image.GetSpacing()
    lps_from_ijk[:3, 3] = image.GetOrigin()
    return RAS_FROM_LPS @ lps_from_ijk
