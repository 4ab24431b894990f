"""Our private DICOM elements: the exact quantity, View and values behind the stored integers.

Group 0x2199, creator "XraySynth": element 01 the JSON of `xray_json`, 02 slope and 03 intercept
with value = stored * slope + intercept.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from XraySynthLib.data.formats.problems import reading, unreadable
from XraySynthLib.data.formats.xray_json import our_fields, xray_text
from XraySynthLib.data.xray import Xray

GROUP, CREATOR = 0x2199, "XraySynth"
JSON_ELEMENT, SLOPE_ELEMENT, INTERCEPT_ELEMENT = 0x01, 0x02, 0x03


def add_private_fields(
    dataset: pydicom.Dataset, xray: Xray, slope: float, intercept: float
) -> None:
    """Write the elements into `dataset`."""
    block = dataset.private_block(GROUP, CREATOR, create=True)
    block.add_new(JSON_ELEMENT, "UT", xray_text(xray))
    block.add_new(SLOPE_ELEMENT, "FD", slope)
    block.add_new(INTERCEPT_ELEMENT, "FD", intercept)


def private_fields(
    dataset: pydicom.Dataset, path: Path
) -> tuple[dict[str, Any], np.float64, np.float64] | None:
    """Return the JSON's fields, slope and intercept, or None where the file is not ours.

    Raises:
        UnreadableFileError: If they are damaged or from a newer version.
    """
    try:
        block = dataset.private_block(GROUP, CREATOR)
    except KeyError:
        return None
    with reading(path, "a whole XraySynth image"):
        text = block[JSON_ELEMENT].value
        slope = np.float64(block[SLOPE_ELEMENT].value)
        intercept = np.float64(block[INTERCEPT_ELEMENT].value)
        text = text.decode("ascii") if isinstance(text, bytes) else str(text)
    fields = our_fields(text, path)
    if fields is None or not np.isfinite([slope, intercept]).all():
        raise unreadable(path, "its private XraySynth elements are damaged.")
    return fields, slope, intercept
