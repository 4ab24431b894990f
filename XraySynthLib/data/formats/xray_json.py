"""What an image file says of itself in JSON: its quantity, pixel spacing and View."""

import json
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from XraySynthLib.data.formats.problems import meaning, unreadable
from XraySynthLib.data.xray import Quantity, Xray
from XraySynthLib.geometry import View

FORMAT_VERSION = 1
MARK = "xraysynth"


def xray_fields(xray: Xray) -> dict[str, Any]:
    """Everything of an X-ray but its pixels, as JSON types."""
    spacing = xray.pixel_spacing_mm
    return {
        MARK: FORMAT_VERSION,
        "quantity": xray.quantity.value,
        "pixel_spacing_mm": None if spacing is None else spacing.tolist(),
        "view": None if xray.view is None else xray.view.to_dict(),
    }


def xray_text(xray: Xray) -> str:
    """`xray_fields` as one line of ASCII JSON."""
    return json.dumps(xray_fields(xray), allow_nan=False)


def our_fields(text: object, path: Path) -> dict[str, Any] | None:
    """Return the fields in `text` if XraySynth wrote it, else None.

    Raises:
        UnreadableFileError: If a newer XraySynth wrote it.
    """
    try:
        fields = json.loads(text) if isinstance(text, str | bytes) else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or MARK not in fields:
        return None
    if fields[MARK] != FORMAT_VERSION:
        raise unreadable(path, f"its XraySynth format {fields[MARK]!r} is not known here; update.")
    return fields


def xray_from_fields(fields: dict[str, Any], values: NDArray, path: Path) -> Xray:
    """Join pixels (rows, columns) and what `xray_fields` returned.

    Raises:
        UnreadableFileError: If they do not fit; the image was cropped or the fields were edited.
    """
    missing = sorted({"quantity", "pixel_spacing_mm", "view"} - set(fields))
    if missing:
        raise unreadable(path, f"its XraySynth description lacks {', '.join(missing)}.")
    with meaning(path):
        view = None if fields["view"] is None else View.from_dict(fields["view"])
        return Xray(values, Quantity(fields["quantity"]), fields["pixel_spacing_mm"], view)
