"""Bones as a view sees them: lengths of rays within each, known before an image is made."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.anatomy.label_maps import with_deepfluoro_ids
from XraySynthLib.data.pelvis import BONE_NAMES
from XraySynthLib.drr import LabelProjector
from XraySynthLib.geometry import View

BONES = tuple(BONE_NAMES)
"""DeepFluoro's label ids, in the order of the maps."""
UNIT_MM = 50.0
MIRRORED_ORDER = [BONES.index({1: 2, 2: 1, 5: 6, 6: 5}.get(bone, bone)) for bone in BONES]
"""Number of each bone's partner on the patient's other side."""


def bone_maps(labels: NDArray, ras_from_ijk: NDArray, views: Iterable[View]) -> NDArray:
    """Project the bones of a label map.

    Args:
        labels: (K, J, I) integers, ids of XraySynth, DeepFluoro, TotalSegmentator or MAISI.
        ras_from_ijk: (4, 4) of the label map.
        views: The views, all of one shape.

    Returns:
        (V, bones, rows, columns) float16 path lengths in units of `UNIT_MM`; bones that are not
        there are 0.

    Raises:
        ValueError: If nobody's ids are recognised.
    """
    projector = LabelProjector(with_deepfluoro_ids(labels), ras_from_ijk, values=BONES)
    maps = []
    for view in views:
        one = np.zeros((len(BONES), *view.intrinsics.shape_px), np.float16)
        for label, length_mm in projector.project(view):
            one[BONES.index(label)] = length_mm / UNIT_MM
        maps.append(one)
    return np.stack(maps)
