"""X-rays in NIfTI, NRRD and MetaImage, by SimpleITK."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from XraySynthLib.data.formats.atomic import atomic_path
from XraySynthLib.data.formats.itk import itk_suffix, read_itk, write_sitk
from XraySynthLib.data.formats.problems import meaning, reading, unreadable
from XraySynthLib.data.formats.xray_json import our_fields, xray_from_fields, xray_text
from XraySynthLib.data.formats.xray_raster import display_values
from XraySynthLib.data.xray import Quantity, Xray

SIDECAR_SUFFIX = ".xraysynth.json"
HU_SEEN_BELOW = -500.0


def sidecar_path(path: Path) -> Path:
    """Where the JSON of `path` lies: beside it, `xray.nii.gz` has `xray.xraysynth.json`.

    A NIfTI header's text has 80 characters, too few for a View.
    """
    suffix = itk_suffix(path) or path.suffix
    return path.with_name(path.name[: -len(suffix)] + SIDECAR_SUFFIX)


def read_grid(path: Path) -> list[Xray]:
    """Read a two-dimensional image, or each slice of a three-dimensional one as a frame.

    Rows and columns are those of the file, row 0 on top: its directions in space are not used.
    With a sidecar of ours the quantity and View come back; else the values are taken as DISPLAY
    (`display_values`) and the in-plane spacing as the pixel's; 1 x 1 mm is what programs write
    that know none, and is taken as not known.

    Raises:
        UnreadableFileError: If it is missing, damaged, or a CT.
    """
    image = read_itk(path, (2, 3))
    frames = image.values if image.values.ndim == 3 else image.values[None]
    sidecar = sidecar_path(path)
    fields = None
    if sidecar.is_file():
        with reading(sidecar, "a JSON file"):
            text = sidecar.read_text("utf-8")
        fields = our_fields(text, sidecar)
    if fields is not None:
        return [xray_from_fields(fields, frame, path) for frame in frames]
    if len(frames) > 1 and (frames < HU_SEEN_BELOW).any():
        raise unreadable(path, "it looks like a CT volume in HU, an X-ray image was expected.")
    values = display_values(frames, path)
    spacing = None if image.spacing_mm[:2] == (1.0, 1.0) else np.array(image.spacing_mm[:2])
    with meaning(path):
        return [Xray(frame, Quantity.DISPLAY, spacing) for frame in values]


def write_grid(xray: Xray, path: Path) -> None:
    """Write float32 with the spacing, and beside it the JSON with quantity, spacing and View."""
    image = sitk.GetImageFromArray(np.array(xray.values)[None])
    if xray.pixel_spacing_mm is not None:
        image.SetSpacing([*xray.pixel_spacing_mm.tolist(), 1.0])
    sidecar = sidecar_path(path)
    path.unlink(missing_ok=True)  # an old image must never stand beside the new description
    with atomic_path(sidecar) as temporary:
        temporary.write_text(xray_text(xray), "utf-8")
    write_sitk(image, path)
