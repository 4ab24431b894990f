"""Whether a generated CT is what its condition says: measures, limits, a record."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from XraySynthLib.anatomy.tissues import Label
from XraySynthLib.ct.intensity import HIGHEST_HU, LOWEST_HU
from XraySynthLib.ct.store import TrainingVolume
from XraySynthLib.ct.tissues import (
    BONES,
    KIND_NAMES,
    KINDS,
    MIN_VOXELS,
    MIRRORED,
    QUALITY,
    bone_mask,
)

BONE_HU = 150.0
"""Above it a voxel reads as bone; trabeculae of the old lie below it."""
STRAY_HU, STRAY_MM = 300.0, 6.0
"""Bright voxels so far from every bone are strays (plaques, implants and the table aside)."""
DENSE = (Label.IMPLANT, Label.TABLE)
MAX_STRAY_ML, MAX_CLIPPED_SHARE = 10.0, 0.01
AGREEMENT_SLACK = 0.9
"""How far below the training's 5th percentile a CT's agreement with its bones may fall."""
HU_SLACK, HU_SLACK_SHARE = 25.0, 0.15
"""How far beyond the training's medians one may lie: HU, and a share of what is usual besides."""
QUALITY_RANGE = -2.0, 2.0
"""Where the networks' number of the bone quality may lie if it is not known."""
MIN_FITTED = 8
"""So many CTs tell how a bone's median goes with the bone quality."""
MAX_SIDE_RATIO, MIN_SIDE_SHARE = 1.35, 0.8
"""Left and right bones' medians differ by a few percent in people; judged where one side has at
least this share of the other's voxels."""


def tissue_hu(volumes: Sequence[TrainingVolume]) -> dict[str, tuple[float, float, float, float]]:
    """What training says of each kind's median HU, by its name.

    Returns:
        Least, middle and greatest of the medians, a volume each, less what the bone quality makes
        of them; and that, HU for each unit of the networks' number of it, 0 for what is no bone.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for volume in volumes:
        quality = float(volume.scalars[QUALITY])
        sizes = kind_sizes(volume.kinds)
        values_hu = np.clip(volume.values_hu, LOWEST_HU, HIGHEST_HU)
        for name, median in median_hu(values_hu, volume.kinds).items():
            if sizes[name] >= MIN_VOXELS:
                found.setdefault(name, []).append((quality, median))
    result = {}
    for name, pairs in found.items():
        qualities, medians = np.array(pairs).T
        known = np.isfinite(qualities)
        slope = 0.0
        if KINDS[KIND_NAMES.index(name)] in BONES and known.sum() >= MIN_FITTED:
            slope = float(np.polyfit(qualities[known], medians[known], 1)[0])
        rest = medians - slope * np.nan_to_num(qualities)
        numbers = float(rest.min()), float(np.median(rest)), float(rest.max()), slope
        result[name] = tuple(round(number, 1) for number in numbers)
    return result


def kind_sizes(kinds: NDArray) -> dict[str, int]:
    """Voxels of each kind, by its name."""
    return {
        name: int(n)
        for name, n in zip(
            KIND_NAMES, np.bincount(kinds.ravel(), minlength=len(KINDS)), strict=True
        )
    }


def dice(one: NDArray, other: NDArray) -> float:
    """Twice the overlap over the sum of two masks; NaN where both are empty."""
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else float("nan")


def median_hu(values_hu: NDArray, kinds: NDArray) -> dict[str, float]:
    """Median HU of each kind of tissue that is there, by its name."""
    return {
        KIND_NAMES[kind]: float(np.median(values_hu[kinds == kind]))
        for kind in np.unique(kinds).tolist()
    }


def least_agreement(volumes: Sequence[TrainingVolume]) -> float:
    """5th percentile over volumes of `bone_agreement`."""
    found = [bone_agreement(volume.values_hu, volume.kinds) for volume in volumes]
    return round(float(np.percentile(found, 5)), 4)


@dataclass(frozen=True)
class Quality:
    """What is measured of a generated CT.

    Attributes:
        bone_dice: Agreement of the voxels above `BONE_HU`, strays and what is no tissue of bone's
            density aside, with the condition's bones.
        median_hu: Of each kind of tissue.
        stray_ml: Volume of bright voxels far from every bone.
        strays: How many pieces they are.
        clipped_share: Share of the body's voxels at an end of the HU range.
        complaints: What is beyond its limit, a sentence each; empty for a CT that passes.
    """

    bone_dice: float
    median_hu: Mapping[str, float]
    stray_ml: float
    strays: int
    clipped_share: float
    complaints: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON types."""
        return {**asdict(self), "complaints": list(self.complaints)}


def bone_agreement(values_hu: NDArray, kinds: NDArray) -> float:
    """Dice of the voxels above `BONE_HU` with the map's bones, where neither metal nor table is.

    Contrast-like brightness of soft tissue counts against it.
    """
    dense = np.isin(kinds, [KINDS.index(kind) for kind in DENSE])
    return dice((values_hu > BONE_HU) & ~dense, bone_mask(kinds))


def quality_of(
    values_hu: NDArray,
    kinds: NDArray,
    spacing_mm: float,
    tissue_hu: Mapping[str, Sequence[float]],
    least_agreement: float,
    bone_quality: float = float("nan"),
) -> Quality:
    """Measure a generated CT against its condition and its model's training.

    Args:
        values_hu: (K, J, I).
        kinds: (K, J, I) kinds of tissue of the condition.
        spacing_mm: Edge of a voxel.
        tissue_hu: The training's, see `tissue_hu`.
        least_agreement: The training's, see `least_agreement`.
        bone_quality: The networks' number of it; NaN where it is not known.
    """
    medians = median_hu(values_hu, kinds)
    bone = bone_mask(kinds)
    far = ndimage.distance_transform_edt(~bone) * spacing_mm > STRAY_MM
    dense = np.isin(kinds, [KINDS.index(kind) for kind in DENSE])
    near_metal = ndimage.binary_dilation(dense, iterations=2) if dense.any() else dense
    stray = (values_hu > STRAY_HU) & far & ~near_metal
    _, strays = ndimage.label(stray)
    stray_ml = float(stray.sum()) * spacing_mm**3 / 1000
    inside = (kinds != KINDS.index(Label.AIR)) & ~near_metal & (kinds != KINDS.index(Label.GAS))
    ends = (values_hu <= LOWEST_HU) | (values_hu >= HIGHEST_HU)
    clipped = float(ends[inside].mean()) if inside.any() else 0.0
    agreement = bone_agreement(values_hu, kinds)
    complaints = []
    if not agreement >= AGREEMENT_SLACK * least_agreement:
        complaints.append(
            f"the bones agree with the label map by {agreement:.2f}, in training by "
            f"{least_agreement:.2f} or more"
        )
    sizes = kind_sizes(kinds)
    judged = {name: hu for name, hu in medians.items() if sizes[name] >= MIN_VOXELS}
    complaints += [
        *_unlike_training(judged, tissue_hu, bone_quality),
        *_unlike_other_side(judged, sizes),
    ]
    if stray_ml > MAX_STRAY_ML:
        complaints.append(f"{stray_ml:.1f} ml of bright voxels lie far from every bone")
    if clipped > MAX_CLIPPED_SHARE:
        complaints.append(f"{clipped:.1%} of the body is at an end of the HU range")
    return Quality(agreement, medians, stray_ml, int(strays), clipped, tuple(complaints))


def _unlike_training(
    medians: Mapping[str, float], tissue_hu: Mapping[str, Sequence[float]], bone_quality: float
) -> Iterator[str]:
    """Complaints of medians beyond the training's."""
    known = np.isfinite(bone_quality)
    for name, median in medians.items():
        if name in tissue_hu:
            low, middle, high, slope = tissue_hu[name]
            reach = slope * np.array([bone_quality] * 2 if known else QUALITY_RANGE)
            slack = HU_SLACK + HU_SLACK_SHARE * abs(middle + reach.mean())
            low, high = low + reach.min() - slack, high + reach.max() + slack
            if not low <= median <= high:
                yield (
                    f"the median of {name.replace('_', ' ')} is {median:.0f} HU; after the "
                    f"training CTs it should be {low:.0f} to {high:.0f}"
                )


def _unlike_other_side(medians: Mapping[str, float], sizes: Mapping[str, int]) -> Iterator[str]:
    """Complaints of bones unlike those of the other side."""
    for pair in MIRRORED.items():
        names = [KIND_NAMES[KINDS.index(kind)] for kind in pair]
        if not set(names) <= set(medians):
            continue
        fewer, more_voxels = sorted(sizes[name] for name in names)
        less, more = sorted(medians[name] for name in names)
        if (
            fewer >= MIN_SIDE_SHARE * more_voxels
            and more > MAX_SIDE_RATIO * max(less, 0) + HU_SLACK
        ):
            told = " and of ".join(
                f"{name.replace('_', ' ')} {medians[name]:.0f}" for name in names
            )
            yield f"the medians of {told} HU differ by more than those of one person"
