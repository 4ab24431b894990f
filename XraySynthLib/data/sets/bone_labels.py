"""Bones as one label map, for layouts that have one label a pixel where an X-ray looks through."""

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data.pelvis import BONE_NAMES
from XraySynthLib.data.sample import Sample

COVERING = (4, 3, 2, 1, 6, 5)
"""Labels in the order they are painted: femurs cover hemipelves, these vertebrae, and these the
sacrum, as in DeepFluoro's own files (there the nearer hemipelvis covers the other, here the left
one)."""


def bone_label_map(sample: Sample) -> NDArray:
    """Paint a sample's bones; masks that are no bones of DeepFluoro's are left out.

    Returns:
        (rows, columns) uint8, labels of `data.pelvis.BONE_NAMES`, 0 where there is none.
    """
    labels = np.zeros(sample.xray.values.shape, np.uint8)
    for label in COVERING:
        mask = (sample.masks or {}).get(BONE_NAMES[label])
        if mask is not None:
            labels[mask] = label
    return labels
