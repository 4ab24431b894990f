"""The bones of the model, by the label ids of DeepFluoro, and other makers' ids for them."""

from enum import IntEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray


class Bone(IntEnum):
    """Bones that the shape model has; the value is DeepFluoro's label id.

    DeepFluoro's 3 (vertebrae) is not in the model. Its 4 is the upper sacrum; here the sacrum.
    """

    LEFT_HEMIPELVIS = 1
    RIGHT_HEMIPELVIS = 2
    SACRUM = 4
    LEFT_FEMUR = 5
    RIGHT_FEMUR = 6


_BONES = tuple(Bone)
# Rows in the order of `Bone`. TotalSegmentator: v2, task "total" (map_to_binary.class_map).
# MAISI: NV-Generate-CT's label dictionary.
LABEL_IDS = MappingProxyType(
    {
        "deepfluoro": MappingProxyType(dict(zip(_BONES, (1, 2, 4, 5, 6), strict=True))),
        "totalsegmentator": MappingProxyType(dict(zip(_BONES, (77, 78, 25, 75, 76), strict=True))),
        "maisi": MappingProxyType(dict(zip(_BONES, (95, 96, 97, 93, 94), strict=True))),
    }
)


def recognise_label_ids(labels: NDArray) -> str:
    """Say whose ids a label map uses: those of which most bones are there, with both hips.

    Args:
        labels: Any shape, integers.

    Returns:
        A key of `LABEL_IDS`. Small ids mean other organs elsewhere, so DeepFluoro is believed only
        when no id is above its own 6 (a few vertebrae or air apart) or nothing else fits.

    Raises:
        ValueError: If neither hip bone has a known id.
    """
    present = set(np.unique(labels).tolist())
    for maker in ("totalsegmentator", "maisi", "deepfluoro"):
        ids = LABEL_IDS[maker]
        hips = {ids[Bone.LEFT_HEMIPELVIS], ids[Bone.RIGHT_HEMIPELVIS]}
        if maker == "deepfluoro" and max(present, default=0) > 7:
            continue
        # TotalSegmentator's 95..97 are a lung's and ribs' neighbours: hips decide.
        others = {ids[Bone.SACRUM], ids[Bone.LEFT_FEMUR], ids[Bone.RIGHT_FEMUR]}
        if hips & present and (hips <= present or others & present):
            return maker
    raise ValueError(
        "The label map has no hip bone under an id of DeepFluoro, TotalSegmentator or MAISI; "
        "say whose ids it uses."
    )
