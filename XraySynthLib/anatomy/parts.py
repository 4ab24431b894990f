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


HEMIPELVES = (Bone.LEFT_HEMIPELVIS, Bone.RIGHT_HEMIPELVIS)

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

MAX_DEEPFLUORO_ID = 21
"""DeepFluoro's bones end at 6; this project's maps (`tissues.Label`) add soft tissue up to 21."""


def recognise_label_ids(labels: NDArray) -> str:
    """Say whose ids a label map uses.

    One maker's hips are another's ribs: among makers whose hips are there, the one whose five
    bones fill most voxels is believed. DeepFluoro's small ids are organs elsewhere, so it is
    believed only where no id is above 21, the last of this project's own maps, and where a second
    bone is there: 1 alone is what any mask has.

    Args:
        labels: Any shape, integers, none negative.

    Returns:
        A key of `LABEL_IDS`; "deepfluoro" also for this project's own maps.

    Raises:
        ValueError: If no maker is believed.
    """
    counts = dict(
        zip(*(part.tolist() for part in np.unique(labels, return_counts=True)), strict=True)
    )
    sizes = {}
    for maker, ids in LABEL_IDS.items():
        there = {bone for bone, label in ids.items() if label in counts}
        certain = maker != "deepfluoro" or (len(there) > 1 and max(counts) <= MAX_DEEPFLUORO_ID)
        if there & set(HEMIPELVES) and certain:
            sizes[maker] = sum(counts.get(label, 0) for label in ids.values())
    if not sizes:
        others = sorted(label for label in counts if label > MAX_DEEPFLUORO_ID)
        if others and counts.keys() & {int(bone) for bone in HEMIPELVES}:
            listed = ", ".join(map(str, others[:8])) + (" ..." if others[8:] else "")
            raise ValueError(
                "The label map has no hip bone under an id of TotalSegmentator or MAISI; 1 and 2 "
                f"are those of XraySynth and DeepFluoro, which have no id {listed}: take that out, "
                "or renumber the map."
            )
        raise ValueError(
            "The label map has no hip bone under an id of XraySynth, DeepFluoro, TotalSegmentator "
            "or MAISI; renumber its bones as one of them does."
        )
    return max(sizes, key=sizes.__getitem__)
