"""Label maps of others: which tissues and bones their ids are, and the same map on
another grid.

`assets/labels` lists every id of TotalSegmentator (v2, task "total") and of MAISI with its name and
its tissue; "none" for what this project has no tissue for, "body" for MAISI's envelope.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from XraySynthLib.anatomy.bones import PLATE_SHARE
from XraySynthLib.anatomy.grids import Grid
from XraySynthLib.anatomy.parts import HEMIPELVES, recognise_label_ids
from XraySynthLib.anatomy.tissues import Label
from XraySynthLib.data.pelvis import BONE_NAMES

STRANGERS, BODY, OUTSIDE = 100, 254, 255
"""In `TissueMap.labels` beside `Label`: from 100 on structures without a tissue, in the order of
their names; in the body and no more said; beyond the map."""
MAX_SAMPLES = 4
_SLAB = 8


@dataclass(frozen=True, eq=False)
class TissueMap:
    """A label map in this project's tissues.

    Attributes:
        labels: (K, J, I) uint8, `Label` (0 also for what is not labelled), or as said above.
        ras_from_ijk: (4, 4) from voxel index to RAS, mm.
        maker: Whose ids it had: "totalsegmentator", "maisi", "xraysynth" where it has soft tissue
            of this project's, else "xraysynth or deepfluoro", whose bones have the same ids.
        strangers: Names of the structures without a tissue.
    """

    labels: NDArray
    ras_from_ijk: NDArray
    maker: str
    strangers: tuple[str, ...]

    def on_grid(self, grid: Grid) -> "TissueMap":
        """The map on another grid: in each voxel the tissue that fills most of it.

        Thin plates of hip bone stay closed: as in `tissues`, a third of a voxel may do there.
        """
        labels, hip_shares = _resampled(self.labels, self.ras_from_ijk, grid)
        ball = ndimage.generate_binary_structure(3, 2)
        for bone, share in hip_shares.items():
            closed = ndimage.binary_closing(np.pad(labels == bone, 2), ball, 2)[2:-2, 2:-2, 2:-2]
            labels[(share >= PLATE_SHARE) & closed] = bone
        return TissueMap(labels, grid.ras_from_ijk, self.maker, self.strangers)

    def strangers_there(self) -> list[str]:
        """Names of the structures without a tissue that the map holds."""
        there = set(np.unique(self.labels).tolist())
        return [name for code, name in enumerate(self.strangers, STRANGERS) if code in there]


def tissue_map(labels: NDArray, ras_from_ijk: NDArray) -> TissueMap:
    """Translate a label map of this project, DeepFluoro, TotalSegmentator or MAISI.

    Args:
        labels: (K, J, I) integers, none negative.
        ras_from_ijk: (4, 4) of its grid.

    Raises:
        ValueError: If it is empty, has no hip bone, or has ids that its maker does not have.
    """
    if not labels.any():
        raise ValueError("The label map is empty.")
    maker = recognise_label_ids(labels)
    table = tissue_table(maker)
    ids = np.unique(labels).tolist()
    unknown = [label for label in ids if label not in table]
    if unknown:
        raise ValueError(
            f"The label map has the ids of {_whose(maker, ids)}, but also "
            f"{_listed(map(str, unknown))}, which are none of them."
        )
    strangers = [label for label in ids if table[label][1] is None]
    codes = np.zeros(max(ids) + 1, np.uint8)
    for label in ids:
        tissue = table[label][1]
        codes[label] = STRANGERS + strangers.index(label) if tissue is None else tissue
    names = tuple(table[label][0] for label in strangers)
    return TissueMap(codes[labels], np.asarray(ras_from_ijk, float), _whose(maker, ids), names)


def _whose(maker: str, ids: Iterable[int]) -> str:
    """Whose ids a map has, where its bones are numbered as `maker` does."""
    if maker != "deepfluoro":
        return maker
    return "xraysynth" if max(ids) >= Label.FAT else "xraysynth or deepfluoro"


def with_deepfluoro_ids(labels: NDArray) -> NDArray:
    """Number the bones of a label map as DeepFluoro does, whoever made it.

    Args:
        labels: Any shape, integers, none negative.

    Returns:
        Of the same shape: bones 1 to 6 (vertebrae are 3, S1 is of the sacrum); what else had these
        ids is 0, other ids stay.

    Raises:
        ValueError: If nobody's ids are recognised.
    """
    maker = recognise_label_ids(labels)
    if maker == "deepfluoro":
        return labels
    result = np.where(np.isin(labels, list(BONE_NAMES)), 0, labels).astype(labels.dtype)
    for label, (_, tissue) in tissue_table(maker).items():
        if tissue in BONE_NAMES:
            result[labels == label] = tissue
    return result


@lru_cache
def tissue_table(maker: str) -> Mapping[int, tuple[str, int | None]]:
    """Every id of a maker (a key of `parts.LABEL_IDS`): its name and tissue; None for no tissue."""
    if maker == "deepfluoro":  # this project's own ids are DeepFluoro's and more
        return {int(label): (label.name.lower(), int(label)) for label in Label}
    tissues = {label.name.lower(): int(label) for label in Label} | {"body": BODY}
    text = files("XraySynthLib.assets").joinpath("labels", f"{maker}.csv").read_text("utf-8")
    rows = csv.DictReader(text.splitlines())
    return {0: ("background", 0)} | {
        int(row["id"]): (row["name"], None if row["tissue"] == "none" else tissues[row["tissue"]])
        for row in rows
    }


def _listed(names: "map[str] | list[str]", most: int = 8) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if names[most:] else "")


def _resampled(
    labels: NDArray, ras_from_ijk: NDArray, grid: Grid
) -> tuple[NDArray, dict[int, NDArray]]:
    """(K, J, I) the label of most samples in each voxel, and the share of each hip bone."""
    source_mm = np.linalg.norm(ras_from_ijk[:3, :3], axis=0).min()
    n = int(np.clip(np.ceil(grid.spacing_mm / source_mm), 2, MAX_SAMPLES))
    source_from_grid = np.linalg.inv(ras_from_ijk) @ grid.ras_from_ijk  # of (i, j, k)
    matrix, shift = source_from_grid[2::-1, 2::-1], source_from_grid[2::-1, 3]  # of (k, j, i)
    shape = grid.shape
    result, most = np.full(shape, OUTSIDE, np.uint8), np.zeros(shape, np.uint8)
    hips = {int(bone): np.zeros(shape, np.float32) for bone in HEMIPELVES if bone in labels}
    for start in range(0, shape[0], _SLAB):
        slab = slice(start, min(start + _SLAB, shape[0]))
        size = slab.stop - slab.start, *shape[1:]
        first = np.array([start, 0, 0]) + (1 / n - 1) / 2  # the first sample's place, voxels
        samples = ndimage.affine_transform(
            labels,
            matrix / n,
            shift + matrix @ first,
            tuple(n * np.array(size)),
            order=0,
            mode="grid-constant",
            cval=OUTSIDE,
        ).reshape(size[0], n, size[1], n, size[2], n)
        # Of as many samples the first wins: bone before soft tissue, and what is labelled at all.
        for code in sorted(np.unique(samples).tolist(), key=lambda code: code or BODY):
            count = (samples == code).sum(axis=(1, 3, 5), dtype=np.uint8)
            wins = count > most[slab]
            result[slab][wins], most[slab][wins] = code, count[wins]
            if code in hips:
                hips[code][slab] = count / np.float32(n**3)
    return result, hips
