"""What the networks are shown in training: crop i of a run depends on (seed, i) alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from XraySynthLib.ct.intensity import from_hu
from XraySynthLib.ct.networks import LATENT_STRIDE
from XraySynthLib.ct.store import TrainingVolume
from XraySynthLib.ct.tissues import KINDS, mirrored_kinds

BONE_SHARE = 0.6
"""How many crops are taken about a voxel of bone."""
WITHHELD_SHARE = 0.1
"""How many crops lack their labels, for classifier-free guidance."""
UNKNOWN_SHARE = 0.15
"""How often each number is withheld."""


@dataclass(frozen=True, eq=False)
class Coded:
    """What the autoencoder makes of a volume, as it is and mirrored.

    Attributes:
        latents: (2, L, K / 4, J / 4, I / 4) float16, standardised; the second of the mirrored CT.
        guesses: (2, K, J, I) float16, decoded again.
    """

    latents: NDArray
    guesses: NDArray


class Crops:
    """Cubes of volumes for the autoencoder, by number: "values" and "kinds".

    Args:
        volumes: What they are cut from; no side is under the cubes'.
        side: Of a cube, voxels; a multiple of 16.
        seed: The run's.
        coded: Of each volume; then crops also have "latents", "guess" and "scalars", and labels
            and numbers are withheld now and then.
    """

    def __init__(
        self,
        volumes: Sequence[TrainingVolume],
        side: int,
        seed: int,
        coded: Sequence[Coded] | None = None,
    ) -> None:
        self.volumes, self.side, self.seed, self.coded = volumes, side, seed, coded
        self.weights = np.array([volume.kinds.size for volume in volumes], float) ** 0.5
        self.weights /= self.weights.sum()

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        """Make crop `number` of the run."""
        rng = np.random.default_rng((self.seed, number))
        index = int(rng.choice(len(self.volumes), p=self.weights))
        volume = self.volumes[index]
        low = self._corner(volume, rng)
        mirror = int(rng.random() < 0.5)
        box = tuple(slice(a, a + self.side) for a in low)
        values, kinds = volume.values_hu[box], volume.kinds[box]
        if mirror:
            values, kinds = values[..., ::-1], mirrored_kinds(kinds)
        example = {
            "values": torch.from_numpy(from_hu(values)[None].copy()),
            "kinds": torch.from_numpy(kinds.copy()),
        }
        if self.coded is None:
            return example
        return example | self._condition(volume, kinds, rng) | self._codes(index, box, mirror)

    def _corner(self, volume: TrainingVolume, rng: np.random.Generator) -> list[int]:
        # In places of latents, between which no crop begins.
        side = self.side // LATENT_STRIDE
        room = np.array(volume.kinds.shape) // LATENT_STRIDE - side
        if rng.random() < BONE_SHARE:
            bone = volume.bone_places[int(rng.integers(len(volume.bone_places)))]
            low = bone // LATENT_STRIDE - rng.integers(0, side, 3)
        else:
            low = rng.integers(0, room + 1)
        return (np.clip(low, 0, room) * LATENT_STRIDE).tolist()

    def _condition(
        self, volume: TrainingVolume, kinds: NDArray, rng: np.random.Generator
    ) -> dict[str, torch.Tensor]:
        scalars = volume.scalars.copy()
        scalars[rng.random(len(scalars)) < UNKNOWN_SHARE] = np.nan
        if rng.random() < WITHHELD_SHARE:
            kinds, scalars = np.full_like(kinds, len(KINDS)), np.full_like(scalars, np.nan)
        return {"kinds": torch.from_numpy(kinds.copy()), "scalars": torch.from_numpy(scalars)}

    def _codes(self, index: int, box: tuple[slice, ...], mirror: int) -> dict[str, torch.Tensor]:
        assert self.coded is not None
        coded = self.coded[index]
        if mirror:  # the codes are of the mirrored volume: the same cube lies at its other end
            size = self.volumes[index].kinds.shape[2]
            box = (*box[:2], slice(size - box[2].stop, size - box[2].start))
        coarse = tuple(slice(s.start // LATENT_STRIDE, s.stop // LATENT_STRIDE) for s in box)
        return {
            "latents": torch.from_numpy(coded.latents[(mirror, slice(None), *coarse)].astype("f4")),
            "guess": torch.from_numpy(coded.guesses[(mirror, *box)].astype("f4")[None]),
        }
