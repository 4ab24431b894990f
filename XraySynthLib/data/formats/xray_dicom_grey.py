"""The grey of a DICOM X-ray: from stored values to DISPLAY, 0..1 with dense bright."""

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import apply_voi

from XraySynthLib.data.formats.dicom_files import number

BEAM_MODALITIES = ("XA", "RF")


def display_frames(dataset: pydicom.Dataset, stored: NDArray, values: NDArray) -> NDArray:
    """Turn a DICOM image into DISPLAY.

    Contrast: the file's first VOI LUT or window, else 8-bit data by 255 and deeper data from the
    least to the greatest value of all frames.

    Which end is dense, in this order:

    1. PixelIntensityRelationshipSign: 1 says that less stored is less beam, so dense is low; -1
       the reverse (PS3.3 C.8.11.3.1.2).
    2. PixelIntensityRelationship LIN or LOG: stored values follow the beam, dense is low.
    3. XA and RF: detectors of C-arms store what grows with the beam, and fluoroscopy is shown with
       bone dark: dense is low, whichever MONOCHROME says how to show it.
    4. The rest (DX, CR, RG, secondary capture) as a viewer shows it, MONOCHROME1 inverted: in
       radiography bone is bright on the screen.

    Args:
        dataset: The file's attributes.
        stored: (F, rows, columns) as stored.
        values: (F, rows, columns) after the modality LUT or rescale.

    Returns:
        (F, rows, columns) float32 in 0..1, dense bright; padding is 0.
    """
    padding = _padding(dataset, stored)
    grey = _contrast(dataset, values, padding)
    dense_is_low = _dense_is_low(dataset)
    if dense_is_low is None:
        inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    else:
        inverted = dense_is_low == _rises(stored, grey)
    display = 1 - grey if inverted else grey
    if padding is not None:
        display = np.where(padding, np.float32(0), display)
    return display.astype(np.float32, copy=False)


def _dense_is_low(dataset: pydicom.Dataset) -> bool | None:
    """Whether dense is stored as low values; None where the file does not say."""
    sign = number(dataset, "PixelIntensityRelationshipSign")
    if sign in (1.0, -1.0):
        return sign == 1.0
    relationship = str(dataset.get("PixelIntensityRelationship", ""))
    if relationship in ("LIN", "LOG") or dataset.get("Modality") in BEAM_MODALITIES:
        return True
    return None


def _rises(stored: NDArray, grey: NDArray) -> bool:
    """Whether grey grows with the stored value: a slope or a LUT may turn it round."""
    return bool(grey.flat[stored.argmax()] >= grey.flat[stored.argmin()])


def _padding(dataset: pydicom.Dataset, stored: NDArray) -> NDArray | None:
    """(F, rows, columns) bool of pixels outside the image, or None."""
    value = number(dataset, "PixelPaddingValue")
    if value is None:
        return None
    limit = number(dataset, "PixelPaddingRangeLimit")
    low, high = sorted([value, value if limit is None else limit])
    padding = (stored >= low) & (stored <= high)
    return None if padding.all() or not padding.any() else padding


def _contrast(dataset: pydicom.Dataset, values: NDArray, padding: NDArray | None) -> NDArray:
    """Map values to 0..1 float32, low to low."""
    inside = values if padding is None else values[~padding]
    low, high = float(inside.min()), float(inside.max())
    for windowed in (_voi_lut(dataset, values), _window(dataset, values)):
        if windowed is not None and (low == high or np.ptp(windowed) > 0):
            return windowed
    if values.dtype == np.uint8:
        low, high = 0.0, 255.0
    if high == low:
        return np.zeros(values.shape, np.float32)
    return np.clip((values.astype(np.float32) - low) / (high - low), 0, 1)


def _voi_lut(dataset: pydicom.Dataset, values: NDArray) -> NDArray | None:
    tables = dataset.get("VOILUTSequence")
    if not tables or values.dtype.kind not in "iu":
        return None
    largest = 2.0 ** int(tables[0].LUTDescriptor[2]) - 1
    return np.clip(apply_voi(values, dataset).astype(np.float32) / largest, 0, 1)


def _window(dataset: pydicom.Dataset, values: NDArray) -> NDArray | None:
    """Apply the first window (PS3.3 C.11.2.1.2 and C.11.2.1.3), or return None without one."""
    center, width = number(dataset, "WindowCenter"), number(dataset, "WindowWidth")
    if center is None or width is None or not np.isfinite([center, width]).all() or width < 1:
        return None
    function = str(dataset.get("VOILUTFunction", "") or "LINEAR")
    offset = values.astype(np.float64) - center
    if function == "SIGMOID":
        return (1 / (1 + np.exp(np.clip(-4 * offset / width, -60, 60)))).astype(np.float32)
    if function == "LINEAR":
        offset, width = offset + 0.5, max(width - 1, 1e-3)
    return np.clip(offset / width + 0.5, 0, 1).astype(np.float32)
