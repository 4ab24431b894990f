"""Domain randomisation: what a detector sees in training, so that real images are nothing new.

`draw_randomisation` draws a record of every parameter, `randomise` applies it; landmarks and masks
move with the image. Left and right are never mirrored: that would swap the patient's sides.
"""

from XraySynthLib.data.randomisation.apply import randomise, randomise_image
from XraySynthLib.data.randomisation.draw import draw_randomisation
from XraySynthLib.data.randomisation.ranges import (
    MILD,
    NONE,
    PRESETS,
    STRONG,
    GreyRanges,
    OverlayRanges,
    PlaneRanges,
    RandomisationRanges,
)
from XraySynthLib.data.randomisation.record import Randomisation

__all__ = [
    "MILD",
    "NONE",
    "PRESETS",
    "STRONG",
    "GreyRanges",
    "OverlayRanges",
    "PlaneRanges",
    "Randomisation",
    "RandomisationRanges",
    "draw_randomisation",
    "randomise",
    "randomise_image",
]
