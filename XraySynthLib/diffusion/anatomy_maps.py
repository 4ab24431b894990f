"""Bones as a view sees them: lengths of rays within each, known before an image is made."""

from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.anatomy.label_maps import with_deepfluoro_ids
from XraySynthLib.anatomy.parameters import SubjectParameters
from XraySynthLib.anatomy.render import bone_labels
from XraySynthLib.anatomy.subject import make_subject
from XraySynthLib.data.pelvis import BONE_NAMES
from XraySynthLib.drr import LabelProjector
from XraySynthLib.geometry import View
from XraySynthLib.geometry.transforms import translation

BONES = tuple(BONE_NAMES)
"""DeepFluoro's label ids, in the order of the maps."""
UNIT_MM = 50.0
MEAN_GRID = ((240, 128, 176), 2.5)
"""Shape (K, J, I) and spacing, mm, of the mean pelvis' label map: trained networks go with it."""
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


def mean_bone_maps(center_ras_mm: NDArray, views: Iterable[View]) -> NDArray:
    """Project the shape model's mean pelvis, which is nobody's: the view, said bone by bone.

    Args:
        center_ras_mm: (3,) where the middle between its hip centres is put.
        views: The views, all of one shape.

    Returns:
        As `bone_maps`.
    """
    labels, pelvis_from_ijk = _mean_bones()
    return bone_maps(labels, translation(center_ras_mm) @ pelvis_from_ijk, views)


@cache
def _mean_bones() -> tuple[NDArray, NDArray]:
    return bone_labels(make_subject(SubjectParameters(local_variation=0.0)), *MEAN_GRID)
