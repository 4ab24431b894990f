"""What a network is shown in training: image i of a run depends on (seed, i) alone.

An image is mirrored or not (its view and landmarks with it), put on the network's grid, and given
its noise and its times. Now and then the view and all maps are withheld, for classifier-free
guidance.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from XraySynthLib.data.pelvis import partners_of
from XraySynthLib.diffusion.anatomy_maps import MIRRORED_ORDER
from XraySynthLib.diffusion.emphasis import emphasised
from XraySynthLib.diffusion.heatmaps import gaussian_maps
from XraySynthLib.diffusion.network import NetworkConfig, to_cells
from XraySynthLib.diffusion.store import Pelvis, XrayStore
from XraySynthLib.diffusion.views import mirrored_view, view_features

WITHHELD_SHARE = 0.1
SAME_TIME_SHARE = 0.5
"""How often image and heatmaps are at one time; else landmarks may be ahead of the image, or
behind."""
TOLD_CELLS = {"anatomy": 1.5, "view": 3.0}
"""Standard deviation of a landmark that is told: known, or the mean pelvis'."""

Example = dict[str, torch.Tensor]


class Examples:
    """Examples by number.

    Args:
        stores: The images, a store a source.
        weights: How often each source is drawn from.
        pelves: Of everybody in the stores.
        mean_mm: (K, 3) landmarks of the mean pelvis.
        config: The network.
        seed: The run's.
        bones: Of each store, the `anatomy_maps.bone_maps` of each image; for "view" those of the
            mean pelvis.
    """

    def __init__(
        self,
        stores: Sequence[XrayStore],
        weights: Sequence[float],
        pelves: Mapping[str, Pelvis],
        mean_mm: NDArray,
        config: NetworkConfig,
        seed: int,
        bones: Sequence[Sequence[NDArray]],
    ) -> None:
        self.stores, self.pelves, self.mean_mm = stores, pelves, mean_mm
        self.config, self.seed, self.bones = config, seed, bones
        self.weights = np.asarray(weights, float) / np.sum(weights)
        self.partners = partners_of(stores[0].names)

    def __getitem__(self, number: int) -> Example:
        """Make example `number` of the run."""
        rng = np.random.default_rng((self.seed, number))
        source = int(rng.choice(len(self.stores), p=self.weights))
        index = int(rng.integers(len(self.stores[source])))
        example = self.told(source, index, mirror=bool(rng.random() < 0.5))
        if rng.random() < WITHHELD_SHARE:
            example["maps"].zero_()
            example["features"].zero_()
        # Logit-normal (Esser et al. 2024, arXiv 2403.03206).
        times = 1 / (1 + np.exp(-rng.standard_normal(2)))
        if rng.random() < SAME_TIME_SHARE:
            times[1] = times[0]
        example["times"] = torch.from_numpy(times.astype(np.float32))
        noise = rng.standard_normal(example["data"].shape, dtype=np.float32)
        return example | {"noise": torch.from_numpy(noise)}

    def told(self, source: int, index: int, mirror: bool = False) -> Example:
        """An image of a store without noise: "data", and "maps" and "features" of its view."""
        store, config = self.stores[source], self.config
        image = store.images[index].astype(np.float32)
        view, points_px = store.views[index], store.points_px[index]
        visible = store.visible[index]
        center = self.pelves[store.subjects[index]].center_ras_mm
        bones = self.bones[source][index]
        if mirror:
            view = mirrored_view(view, center)
            image = image[:, ::-1]
            points_px = points_px[self.partners] * [-1, 1] + [config.side_px - 1, 0]
            visible = visible[self.partners]
            bones = bones[MIRRORED_ORDER, :, ::-1]
        data = to_cells(torch.from_numpy(np.ascontiguousarray(image)[None]), config.cell_px)
        if config.condition == "view":
            seen = np.where(visible[:, None], points_px, np.nan)
            data = torch.cat([data, heatmaps(seen, config)])
            points_px = view.project(self.mean_mm + center)
        maps = told_maps(bones, points_px, config)
        features = view_features(view, center, store.kvp[index])
        return {"data": data, "maps": maps, "features": torch.from_numpy(features)}


def heatmaps(points_px: NDArray, config: NetworkConfig) -> torch.Tensor:
    """(K, side, side) -1..1, -1 throughout for a point that is NaN."""
    return 2 * gaussian_maps(_cells(points_px, config), config.side) - 1


def told_maps(bones: NDArray, points_px: NDArray, config: NetworkConfig) -> torch.Tensor:
    """(maps, side, side) what a network is told beside numbers.

    Args:
        bones: (bones, rows, columns) of `anatomy_maps.bone_maps`, which "anatomy" is to show; for
            "view" the mean pelvis', which say where and how the view has a pelvis.
        points_px: (K, 2) landmarks of the same bones, column and row, in the image or not.
        config: The network.
    """
    lengths = torch.from_numpy(np.ascontiguousarray(emphasised(bones)))
    landmarks = gaussian_maps(_cells(points_px, config), config.side, TOLD_CELLS[config.condition])
    return torch.cat([to_cells(lengths, config.cell_px), landmarks])


def _cells(points_px: NDArray, config: NetworkConfig) -> torch.Tensor:
    return torch.from_numpy(((points_px + 0.5) / config.cell_px - 0.5).astype(np.float32))
