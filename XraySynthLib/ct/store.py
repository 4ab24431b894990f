"""Training volumes in memory: HU and kinds of tissue, whole."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.ct.networks import MULTIPLE
from XraySynthLib.ct.tissues import bone_mask, kinds_of, scalars_of
from XraySynthLib.data import Volume, left_back_up

MAX_ANISOTROPY = 1.01


@dataclass(frozen=True, eq=False)
class TrainingVolume:
    """A CT to learn from.

    Attributes:
        subject: Whose.
        values_hu: (K, J, I) int16, sizes multiples of 16.
        kinds: (K, J, I) uint8, see `tissues.KINDS`.
        scalars: (S,) float32, see `tissues.SCALARS`; NaN where not known.
        bone_places: (N, 3) some of the bone's voxels, by which crops are chosen.
    """

    subject: str
    values_hu: NDArray
    kinds: NDArray
    scalars: NDArray
    bone_places: NDArray

    def digest(self) -> str:
        """SHA-256 of all that is learned from."""
        parts = (self.values_hu, self.kinds, self.scalars)
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def training_volume(subject: str, volume: Volume, known: Mapping[str, Any]) -> TrainingVolume:
    """Make a CT ready: i to the left, j to the back, k to the head, cut to multiples of 16 voxels.

    Args:
        subject: Whose it is.
        volume: A CT with labels of `anatomy.tissues.Label`.
        known: What is known of `tissues.SCALARS` but the spacing.

    Raises:
        ValueError: If there are no labels or unknown ones, the voxels are no cubes, there is no
            bone, or a side is under 32 voxels.
    """
    volume = left_back_up(volume)
    if volume.labels is None:
        raise ValueError("it has no label map")
    spacing_mm = volume.spacing_mm
    if spacing_mm.max() / spacing_mm.min() > MAX_ANISOTROPY:
        raise ValueError(f"its voxels are no cubes but {np.round(spacing_mm, 3).tolist()} mm")
    kinds = kinds_of(volume.labels)
    if min(kinds.shape) < 2 * MULTIPLE:
        raise ValueError(f"its shape {kinds.shape} has a side under {2 * MULTIPLE} voxels")
    cut = tuple(
        slice((size % MULTIPLE) // 2, (size % MULTIPLE) // 2 + size // MULTIPLE * MULTIPLE)
        for size in kinds.shape
    )
    kinds = np.ascontiguousarray(kinds[cut])
    places = np.argwhere(bone_mask(kinds))
    if not len(places):
        raise ValueError("its label map has no bone")
    known = {**known, "spacing_mm": float(spacing_mm.mean())}
    return TrainingVolume(
        subject,
        np.round(volume.values_hu[cut]).astype(np.int16),
        kinds,
        scalars_of(known),
        places[:: max(len(places) // 4000, 1)].astype(np.int16),
    )
