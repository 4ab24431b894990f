"""What the field calls the landmarks and bones of the pelvis: DeepFluoro's names, in its order.

Grupp et al. 2020 (IJCARS 15, 759-769). "l" and "r" are the patient's left (-x in RAS) and right.
"""

from collections.abc import Sequence
from types import MappingProxyType

LANDMARK_NAMES = tuple(
    f"{place}-{side}"
    for place in ("FH", "GSN", "IOF", "MOF", "SPS", "IPS", "ASIS")
    for side in ("l", "r")
)
BONE_NAMES = MappingProxyType(
    {
        1: "left hemipelvis",
        2: "right hemipelvis",
        3: "vertebrae",
        4: "sacrum",
        5: "left femur",
        6: "right femur",
    }
)
"""DeepFluoro's label ids; its 4 is the upper sacrum."""
SKELETON = tuple(
    (f"{one}-{side}", f"{other}-{side}")
    for side in ("l", "r")
    for one, other in (
        ("ASIS", "GSN"),
        ("GSN", "FH"),
        ("FH", "IOF"),
        ("IOF", "MOF"),
        ("MOF", "IPS"),
        ("IPS", "SPS"),
        ("SPS", "FH"),
        ("FH", "ASIS"),
    )
)
"""Lines between landmarks that pictures draw; they follow the bone."""


def other_side(name: str) -> str:
    """Name of the same landmark on the other side of the patient; names without a side stay."""
    for one, other in (("-l", "-r"), ("-r", "-l")):
        if name.endswith(one):
            return name.removesuffix(one) + other
    return name


def partners_of(names: Sequence[str]) -> list[int]:
    """Number of each landmark's partner on the other side; its own where there is none."""
    swapped = [other_side(name) for name in names]
    return [names.index(name) if name in names else k for k, name in enumerate(swapped)]
