"""The kinds of tissue that a condition tells apart, and the numbers beside them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.anatomy.tissues import Label

KINDS = tuple(Label)
"""Kind k of the networks is `KINDS[k]`; air is kind 0."""
KIND_NAMES = tuple(kind.name.lower() for kind in KINDS)
BONES = (
    Label.LEFT_HEMIPELVIS,
    Label.RIGHT_HEMIPELVIS,
    Label.VERTEBRAE,
    Label.SACRUM,
    Label.LEFT_FEMUR,
    Label.RIGHT_FEMUR,
    Label.COCCYX,
)
MIRRORED = {
    Label.LEFT_HEMIPELVIS: Label.RIGHT_HEMIPELVIS,
    Label.LEFT_FEMUR: Label.RIGHT_FEMUR,
}
SCALARS = {
    # name: (middle, spread) of people as drawn; networks see (value - middle) / spread
    "spacing_mm": (2.5, 0.5),
    "fat_mm": (25.0, 12.0),
    "belly_mm": (30.0, 20.0),
    "bone_quality": (1.0, 0.25),
    "noise_hu": (12.0, 8.0),
}
"""Numbers about the grid, the person's habitus and the scan that a CT is conditioned on."""
QUALITY = tuple(SCALARS).index("bone_quality")
MIN_VOXELS = 500
"""A kind with fewer is all rim: its HU are neither judged nor mapped."""


def kinds_of(labels: NDArray) -> NDArray:
    """Label ids (`anatomy.tissues.Label`) to kinds, uint8.

    Raises:
        ValueError: If there are other ids; it names them.
    """
    table = np.full(int(max(KINDS)) + 1, 255, np.uint8)
    table[[int(label) for label in KINDS]] = np.arange(len(KINDS), dtype=np.uint8)
    clipped = np.clip(labels, 0, len(table) - 1)
    kinds = table[clipped]
    unknown = np.unique(labels[(kinds == 255) | (labels != clipped)])
    if unknown.size:
        raise ValueError(f"The label map holds ids that no tissue has: {unknown[:8].tolist()}.")
    return kinds


def bone_mask(kinds: NDArray) -> NDArray:
    """Which voxels are bone, of a map of kinds."""
    return np.isin(kinds, [KINDS.index(bone) for bone in BONES])


def mirrored_kinds(kinds: NDArray) -> NDArray:
    """A map of kinds (K, J, I) of the mirrored patient: i turned round, left for right."""
    table = np.arange(len(KINDS), dtype=np.uint8)
    for left, right in MIRRORED.items():
        a, b = KINDS.index(left), KINDS.index(right)
        table[[a, b]] = b, a
    return table[kinds[..., ::-1]]


def scalars_of(known: Mapping[str, Any]) -> NDArray:
    """(S,) float32 of `SCALARS`, about 0; NaN for those that are not known."""
    return np.array(
        [
            (float(known[name]) - middle) / spread if known.get(name) is not None else np.nan
            for name, (middle, spread) in SCALARS.items()
        ],
        np.float32,
    )
