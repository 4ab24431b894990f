"""Letters: lead markers in the beam and annotation on the screen.

What is written is drawn without a look at the patient, so that an "L" stands on either side equally
often and says nothing of it: real markers are missing, wrong, or of a turned image.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data.randomisation.operations import Operation, Point
from XraySynthLib.data.randomisation.stamps import add_stamp, placement

MIN_HEIGHT_PX = 4
"""Smaller letters are not drawn: nobody could tell them from noise."""


@dataclass(frozen=True)
class LeadMarker(Operation):
    """A letter of lead, with or without a ring, added to line integrals.

    Attributes:
        text: One or two letters or digits.
        center_px: Column, row.
        height_px: Font size.
        angle_deg: Turn, from columns toward rows.
        line_integral: What the lead adds.
        ringed: Whether a ring is around it.
    """

    text: str
    center_px: Point
    height_px: float
    angle_deg: float
    line_integral: float
    ringed: bool = False

    def __call__(self, values: NDArray, rng: np.random.Generator) -> NDArray:
        """Add it to line integrals."""
        result = values.copy()
        letters = _letters(self.text, self.height_px, True, self.ringed)
        _add_centered(result, letters * np.float32(self.line_integral), self)
        return result


@dataclass(frozen=True)
class Annotation(Operation):
    """Text of a console, over the image.

    Attributes:
        text: Lines, parted by line feeds.
        center_px: Column, row.
        height_px: Font size.
        grey: Of the letters.
        opacity: Above 0, at most 1.
        angle_deg: Turn, from columns toward rows.
    """

    text: str
    center_px: Point
    height_px: float
    grey: float
    opacity: float = 1.0
    angle_deg: float = 0.0

    def __call__(self, values: NDArray, rng: np.random.Generator) -> NDArray:
        """Write over grey values."""
        cover = np.zeros(values.shape, np.float32)
        letters = _letters(self.text, self.height_px, False, False) * np.float32(self.opacity)
        _add_centered(cover, letters, self)
        return values + (np.float32(self.grey) - values) * cover


def _add_centered(image: NDArray, stamp: NDArray, marker: LeadMarker | Annotation) -> None:
    rows, columns = stamp.shape
    if rows <= MIN_HEIGHT_PX:
        return
    middle = ((columns - 1) / 2, (rows - 1) / 2)
    add_stamp(image, stamp, placement(marker.angle_deg, middle, marker.center_px))


@lru_cache(maxsize=128)
def _letters(text: str, height_px: float, bold: bool, ringed: bool) -> NDArray:
    """(rows, columns) float32 0..1, read-only, in Pillow's own font; empty where too small."""
    from PIL import Image, ImageDraw, ImageFont

    size = round(height_px)
    if size < MIN_HEIGHT_PX or not text.strip():
        return np.zeros((1, 1), np.float32)
    font = ImageFont.load_default(size)
    stroke = -(-size // 24) if bold else 0
    lines = text.split("\n")
    room = (size * (max(map(len, lines)) + 2), 2 * size * (len(lines) + 1))
    picture = Image.new("L", room)
    draw = ImageDraw.Draw(picture)
    draw.multiline_text((size / 2, size / 2), text, 255, font, stroke_width=stroke)
    ink = picture.crop(picture.getbbox())
    side = round(1.45 * max(ink.size))
    width, height = (side, side) if ringed else ink.size
    picture = Image.new("L", (width + 4, height + 4))
    picture.paste(ink, ((picture.width - ink.width) // 2, (picture.height - ink.height) // 2))
    if ringed:
        box = (2, 2, picture.width - 3, picture.height - 3)
        ImageDraw.Draw(picture).ellipse(box, outline=255, width=max(size // 10, 1))
    letters: NDArray = np.asarray(picture, np.float32) / np.float32(255)
    letters.setflags(write=False)
    return letters
