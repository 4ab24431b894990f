"""Label ids of a subject's CT, and the Hounsfield units of soft tissue.

What they lie within: fat -106..-79 HU (mean -94, Framingham), muscle 48 +- 5.5, to two standard
deviations (psoas, Lawlor et al. 2022), blood 39-50 (aorta without anaemia, Sci Rep 2022, 12), urine
0-32 (Int Urol Nephrol 2018). `Testing/benchmark/published_ranges.csv` has the sources, and says
which values are textbook ones.

A label names what fills over half of a voxel, but for plates of hip bone thinner than a voxel:
there a third may do, so that the label has no holes. At 2.5 mm the skin, 2 mm thick, shares its
voxels with air and fat (median near -90 HU), and the rims of gas reach -460 HU.

Metal stands for what a voxel would read without the scanner's limit (titanium far more), so that
voxels it fills by 0.6 saturate; `render_ct` cuts at what scanners store.
"""

from enum import IntEnum
from types import MappingProxyType


class Label(IntEnum):
    """Ids in labels.nii.gz. 1 to 6 are DeepFluoro's."""

    AIR = 0
    LEFT_HEMIPELVIS = 1
    RIGHT_HEMIPELVIS = 2
    VERTEBRAE = 3
    SACRUM = 4
    LEFT_FEMUR = 5
    RIGHT_FEMUR = 6
    COCCYX = 7
    FAT = 10
    MUSCLE = 11
    SKIN = 12
    OTHER_SOFT = 13
    BOWEL = 14
    GAS = 15
    BLADDER = 16
    VESSEL = 17
    IMPLANT = 20
    TABLE = 21


COLOURS = MappingProxyType(
    {
        Label.LEFT_HEMIPELVIS: (0.91, 0.78, 0.58),
        Label.RIGHT_HEMIPELVIS: (0.95, 0.84, 0.57),
        Label.VERTEBRAE: (0.85, 0.76, 0.62),
        Label.SACRUM: (0.80, 0.70, 0.50),
        Label.LEFT_FEMUR: (0.87, 0.79, 0.68),
        Label.RIGHT_FEMUR: (0.93, 0.86, 0.74),
        Label.COCCYX: (0.78, 0.66, 0.50),
        Label.FAT: (0.95, 0.90, 0.55),
        Label.MUSCLE: (0.75, 0.37, 0.32),
        Label.SKIN: (0.89, 0.68, 0.55),
        Label.OTHER_SOFT: (0.82, 0.55, 0.48),
        Label.BOWEL: (0.80, 0.60, 0.45),
        Label.GAS: (0.35, 0.55, 0.75),
        Label.BLADDER: (0.87, 0.76, 0.20),
        Label.VESSEL: (0.80, 0.20, 0.20),
        Label.IMPLANT: (0.60, 0.65, 0.70),
        Label.TABLE: (0.40, 0.40, 0.42),
    }
)
"""Red, green and blue, 0..1, as viewers show the labels."""
SEGMENTS = MappingProxyType(
    {int(label): (label.name.replace("_", " ").lower(), rgb) for label, rgb in COLOURS.items()}
)
"""Label -> name and colour, as viewers show it."""

HU = {
    "air": -1000.0,
    "fat": -102.0,
    "muscle": 56.0,
    "skin": 20.0,
    "soft": 38.0,
    "visceral": -70.0,
    "bowel": 32.0,
    "gas": -960.0,
    "urine": 8.0,
    "blood": 45.0,
    "disc": 80.0,
    "joint": 55.0,
    "plaque": 650.0,
    "metal": 5000.0,
}
