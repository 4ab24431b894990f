"""X-rays in TIFF, PNG and, of other people's sets, JPEG and the like; by Pillow.

PNG is written by OpenCV, in a quarter of the time.
"""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence, TiffImagePlugin

from XraySynthLib.data.formats.atomic import atomic_path
from XraySynthLib.data.formats.problems import check_file, meaning, reading, unreadable
from XraySynthLib.data.formats.xray_json import (
    MARK,
    our_fields,
    xray_from_fields,
    xray_text,
)
from XraySynthLib.data.xray import Quantity, Xray
from XraySynthLib.quiet import quiet_stderr

IMAGE_DESCRIPTION, PHOTOMETRIC, SAMPLE_FORMAT, BITS_PER_SAMPLE = 270, 262, 339, 258
WHITE_IS_ZERO, SIGNED = 0, 2
READ_FORMATS = ("TIFF", "PNG", "JPEG", "JPEG2000", "BMP", "WEBP")
HEADER_END = 33
"""A PNG's signature has 8 bytes, its header 25."""


def read_raster(path: Path) -> list[Xray]:
    """Read every page of a TIFF, PNG, JPEG, JPEG 2000, BMP or WebP.

    A file of ours comes back as it was, quantity and View with it. Any other is taken as DISPLAY
    with dense bright: see `display_values`. Resolution in dots per inch is no pixel spacing.

    Raises:
        UnreadableFileError: If it is missing, damaged, coloured, transparent or holds NaN.
    """
    check_file(path)
    with reading(path, "an image"), quiet_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path, formats=READ_FORMATS) as image:
            pages = [_page(page, path) for page in ImageSequence.Iterator(image)]
    return [_xray(values, text, path) for values, text in pages]


def write_tiff(xray: Xray, path: Path) -> None:
    """Write a float32 TIFF whose ImageDescription holds quantity, spacing and View."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[IMAGE_DESCRIPTION] = xray_text(xray)
    tiff = io.BytesIO()  # libtiff does not say why it cannot write to a disk
    image = Image.fromarray(np.array(xray.values))
    image.save(tiff, "TIFF", tiffinfo=tags, compression="tiff_adobe_deflate")
    with atomic_path(path) as temporary:
        temporary.write_bytes(tiff.getvalue())


def write_png(xray: Xray, path: Path) -> None:
    """Write an 8-bit grey PNG whose text holds quantity, spacing and View.

    Raises:
        ValueError: If the quantity is not DISPLAY.
    """
    png = xray_to_png(xray)
    with atomic_path(path) as temporary:
        temporary.write_bytes(png)


def xray_to_png(xray: Xray) -> bytes:
    """An X-ray as an 8-bit grey PNG whose text holds quantity, spacing and View.

    Raises:
        ValueError: If the quantity is not DISPLAY.
    """
    if xray.quantity is not Quantity.DISPLAY:
        raise ValueError(
            f"A PNG holds DISPLAY in 8 bits, got {xray.quantity.value}: window it to DISPLAY first "
            "or write a .tiff."
        )
    grey = np.round(np.clip(xray.values, 0, 1) * np.float32(255)).astype(np.uint8)
    return grey_png(grey, xray_text(xray))


def grey_png(grey: NDArray, text: str | None = None) -> bytes:
    """(rows, columns) uint8 or uint16 as a PNG, in a quarter of the time that Pillow takes.

    Args:
        grey: The image.
        text: ASCII that is stored under `MARK`, where Pillow finds it.
    """
    import cv2

    png = cv2.imencode(".png", grey)[1].tobytes()
    if text is None:
        return png
    chunk = b"tEXt" + f"{MARK}\0{text}".encode("ascii")
    framed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return png[:HEADER_END] + framed + png[HEADER_END:]


def xray_from_png(png: bytes, path: Path) -> Xray:
    """Undo `xray_to_png`; any other PNG is taken as `read_raster` takes it.

    Raises:
        UnreadableFileError: As `read_raster`; errors name `path`.
    """
    with reading(path, "a PNG image"), quiet_stderr(), Image.open(io.BytesIO(png)) as image:
        values, text = _page(image, path)
    return _xray(values, text, path)


def display_values(values: NDArray, path: Path) -> NDArray:
    """Take an unknown image's numbers as DISPLAY.

    Unsigned integers of 8 and 16 bits are divided by their type's largest value. Other numbers
    are kept where they lie in 0..1 and else stretched from their own least to their greatest.

    Raises:
        UnreadableFileError: If a value is not finite, or nothing can be stretched.
    """
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        return values.astype(np.float32) / np.float32(np.iinfo(values.dtype).max)
    with np.errstate(invalid="ignore"):  # damaged bytes may be a signalling NaN
        exact = values.astype(np.float64)
    if not np.isfinite(exact).all():
        raise unreadable(path, "it holds values that are NaN or infinite.")
    low, high = float(exact.min()), float(exact.max())
    if low >= 0 and high <= 1:
        return exact.astype(np.float32)
    if high == low:
        raise unreadable(path, f"every pixel is {low:g}; there is no image in it.")
    return ((exact - low) / (high - low)).astype(np.float32)


def _page(page: Image.Image, path: Path) -> tuple[NDArray, object]:
    text = page.info.get(MARK)
    tags = getattr(page, "tag_v2", {})
    if text is None:
        text = tags.get(IMAGE_DESCRIPTION)
    if page.mode in ("1", "L", "I;16", "I;16B", "I;16L", "I", "F"):
        values = np.array(page.convert("L") if page.mode == "1" else page)
        values = values.astype(values.dtype.newbyteorder("="))
        if page.format == "PNG" and page.mode == "I":  # 16 bits in older Pillow
            values = values.astype(np.uint16)
        return _as_stored(values, tags), text
    return _grey_of_colour(np.array(page.convert("RGBA")), path), text


def _as_stored(values: NDArray, tags: dict) -> NDArray:
    """Undo what Pillow leaves to its caller: white-is-zero of more than 8 bits, signed 8 bits."""
    white_is_zero = tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
    if white_is_zero and values.dtype == np.uint16:
        return np.iinfo(np.uint16).max - values
    if white_is_zero and values.dtype.kind in "if":
        return -values.astype(np.float64)
    if values.dtype == np.uint8 and tags.get(SAMPLE_FORMAT) == (SIGNED,):
        return values.view(np.int8)
    if values.dtype == np.int32 and tags.get(BITS_PER_SAMPLE) == (32,):
        unsigned = tags.get(SAMPLE_FORMAT, (1,)) == (1,)
        return values.view(np.uint32) if unsigned else values
    return values


def _grey_of_colour(rgba: NDArray, path: Path) -> NDArray:
    if (rgba[..., 3] != 255).any():
        raise unreadable(path, "it is partly transparent, an X-ray is not.")
    red, green, blue = (rgba[..., channel] for channel in range(3))
    if (red != green).any() or (green != blue).any():
        raise unreadable(path, "it is a colour image, an X-ray is grey.")
    return np.array(red)


def _xray(values: NDArray, text: object, path: Path) -> Xray:
    fields = our_fields(text, path)
    if fields is None:
        with meaning(path):
            return Xray(display_values(values, path), Quantity.DISPLAY)
    if values.dtype.kind == "u":
        low, high = _stored_range(fields, path)
        values = low + (high - low) * (values / np.iinfo(values.dtype).max)
    return xray_from_fields(fields, values, path)


def _stored_range(fields: dict, path: Path) -> tuple[float, float]:
    """What least and greatest grey mean; other than 0 and 1 in 16-bit PNG of older shards."""
    stored = fields.get("stored_range", (0.0, 1.0))
    with meaning(path):
        low, high = map(float, stored)
        if not -np.inf < low < high < np.inf:
            raise ValueError(f"its stored_range is {stored}.")
    return low, high
