"""Quantile mapping: generated HU brought to the distribution that a tissue has in real CTs.

A tissue's map is one monotone curve for all CTs of a generator, measured once after its training;
nothing is fitted to the volume at hand. (Known from climate models: Panofsky & Brier 1968, "Some
applications of statistics to meteorology".)
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.ct.tissues import KIND_NAMES, KINDS, MIN_VOXELS, MIRRORED

QuantileMap = tuple[tuple[float, ...], tuple[float, ...]]
"""HU generated, rising, and what they become."""
SHARES = np.concatenate([[0.005], np.arange(0.025, 1, 0.025), [0.995]])


def quantile_maps(
    pairs: Iterable[tuple[NDArray, NDArray, NDArray]],
) -> dict[str, QuantileMap]:
    """Measure each tissue's map; left and right share one.

    Args:
        pairs: Of each CT: HU generated from its labels, HU that it has, its kinds, each (K, J, I).

    Returns:
        Maps by the kinds' names.
    """
    sides = {KINDS.index(right): KINDS.index(left) for left, right in MIRRORED.items()}
    found: dict[int, tuple[list[NDArray], list[NDArray]]] = {}
    for made_hu, real_hu, kinds in pairs:
        for kind in np.unique(kinds).tolist():
            here = kinds == kind
            made, real = found.setdefault(sides.get(kind, kind), ([], []))
            made.append(made_hu[here])
            real.append(real_hu[here])
    maps: dict[str, QuantileMap] = {}
    for kind, (made, real) in sorted(found.items()):
        if sum(len(part) for part in made) < MIN_VOXELS:
            continue
        before, after = (np.quantile(np.concatenate(part), SHARES) for part in (made, real))
        before, tied = np.unique(before.round(1), return_inverse=True)
        after = np.bincount(tied, after) / np.bincount(tied)
        maps[KIND_NAMES[kind]] = tuple(before.tolist()), tuple(after.round(1).tolist())
    for right, left in sides.items():
        if KIND_NAMES[left] in maps:
            maps[KIND_NAMES[right]] = maps[KIND_NAMES[left]]
    return maps


def mapped(values_hu: NDArray, kinds: NDArray, maps: Mapping[str, QuantileMap]) -> NDArray:
    """HU (K, J, I) after the maps of their kinds; beyond a map's ends its end's shift goes on."""
    result = values_hu.copy()
    for name, (before, after) in maps.items():
        here = kinds == KIND_NAMES.index(name)
        values = values_hu[here]
        inside = np.clip(values, before[0], before[-1])
        result[here] = np.interp(inside, before, after) + (values - inside)
    return result
