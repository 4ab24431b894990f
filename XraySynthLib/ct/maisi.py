"""MAISI-v2 (NVIDIA's NV-Generate-CT) at work: label maps in its ids, latents, decoding.

After NV-Generate-CTMR's scripts (Apache-2.0), but for the fields said below; `maisi_files` reads
its networks.
"""

from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from monai.apps.generation.maisi.networks.controlnet_maisi import ControlNetMaisi
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi
from monai.inferers import SlidingWindowInferer
from monai.networks.schedulers import RFlowScheduler
from numpy.typing import NDArray
from scipy import ndimage

from XraySynthLib.anatomy.tissues import Label

SIZES_XY, SIZES_Z = (256, 384, 512), (128, 256, 384, 512, 640, 768)
SPACING_XY_MM, SPACING_Z_MM, LEAST_FIELD_MM = (0.5, 3.0), (0.5, 5.0), 384.0
STEPS, CT, SPACING_UNIT = 30, 1, 100.0
WINDOW, OVERLAP = 48, 0.4
"""Of decoding in pieces, latent places."""
BODY_ID, L5_ID, LAST_VERTEBRA_ID = 200, 33, 49
MAISI_IDS = MappingProxyType(
    {
        Label.LEFT_HEMIPELVIS: 95,
        Label.RIGHT_HEMIPELVIS: 96,
        Label.SACRUM: 97,
        Label.COCCYX: 97,
        Label.LEFT_FEMUR: 93,
        Label.RIGHT_FEMUR: 94,
        Label.BLADDER: 15,
        Label.BOWEL: 62,
        Label.GAS: 62,
        Label.AIR: 0,
        Label.TABLE: 0,
    }
)
"""Of what is not here, vertebrae go by their level and all else is body."""


def check_maisi_grid(shape: tuple[int, int, int], spacing_mm: float) -> None:
    """Refuse volumes that MAISI was not made for.

    Args:
        shape: (K, J, I).
        spacing_mm: Edge of a voxel.

    Raises:
        ValueError: Saying what it takes.
    """
    z, y, x = shape
    if x != y or x not in SIZES_XY or z not in SIZES_Z:
        raise ValueError(
            f"MAISI makes {', '.join(map(str, SIZES_XY))} voxels along x and y alike and "
            f"{', '.join(map(str, SIZES_Z))} along z, not {x} x {y} x {z}"
        )
    (low, high), (low_z, high_z) = SPACING_XY_MM, SPACING_Z_MM
    if not max(low, low_z) <= spacing_mm <= min(high, high_z):
        raise ValueError(f"MAISI makes voxels of {low:g} to {high:g} mm, not {spacing_mm:g} mm")
    if x * spacing_mm < LEAST_FIELD_MM:
        raise ValueError(
            f"MAISI needs a field of view of {LEAST_FIELD_MM:g} mm or more along x and y, not "
            f"{x * spacing_mm:g} mm"
        )


def maisi_ids(labels: NDArray) -> NDArray:
    """A label map in MAISI's ids, body where it has no name for a tissue.

    Args:
        labels: (K, J, I) `Label`.

    Returns:
        (K, J, I) uint8. Vertebrae are counted upwards, the lowest is L5.

    Raises:
        ValueError: If it holds metal, which MAISI does not know.
    """
    if (labels == Label.IMPLANT).any():
        raise ValueError("MAISI makes no implants; take them out of the labels")
    table = np.full(max(Label) + 1, BODY_ID, np.uint8)
    for label, maisi_id in MAISI_IDS.items():
        table[label] = maisi_id
    ids = table[labels]
    spine = labels == Label.VERTEBRAE
    # Facets touch: bodies are told apart where a voxel is taken off all round.
    seeds, count = ndimage.label(ndimage.binary_erosion(spine, border_value=1))
    if not count:
        ids[spine] = L5_ID
        return ids
    sizes = np.bincount(seeds.ravel())[1:]
    numbers = 1 + np.flatnonzero(sizes > 0.2 * sizes.max())
    heights = [k for k, _, _ in ndimage.center_of_mass(seeds > 0, seeds, numbers)]
    levels = np.zeros(count + 1, np.uint8)
    levels[numbers[np.argsort(heights)]] = np.minimum(
        L5_ID + np.arange(len(numbers)), LAST_VERTEBRA_ID
    )
    nearest = ndimage.distance_transform_edt(
        levels[seeds] == 0, return_distances=False, return_indices=True
    )
    ids[spine] = levels[seeds][tuple(nearest)][spine]
    return ids


def binary_code(ids: torch.Tensor) -> torch.Tensor:
    """(B, X, Y, Z) ids of 0 to 255 as their eight bits, the lowest first: (B, 8, X, Y, Z)."""
    return torch.stack([ids.long() >> bit & 1 for bit in range(8)], dim=1).float()


@dataclass(frozen=True, eq=False)
class Maisi:
    """The three networks and what goes with them.

    Attributes:
        autoencoder: Decodes latents.
        unet: The flow of latents.
        controlnet: Brings the label map to it.
        scheduler: Times of sampling.
        scale_factor: Of the latents.
        unused: Names of weights that the networks have no place for.
    """

    autoencoder: AutoencoderKlMaisi
    unet: DiffusionModelUNetMaisi
    controlnet: ControlNetMaisi
    scheduler: RFlowScheduler
    scale_factor: float
    unused: tuple[str, ...] = ()

    @torch.inference_mode()
    def generate(
        self, labels: NDArray, spacing_mm: float, seed: int, n_steps: int = STEPS
    ) -> NDArray:
        """Make a CT of a label map on a `Grid`: i to the left, j to the back, k to the head.

        Args:
            labels: (K, J, I) `Label`.
            spacing_mm: Edge of a voxel.
            seed: Of the noise.
            n_steps: Evaluations of the flow.

        Returns:
            (K, J, I) float32, whole HU in +-1000.
        """
        device = next(self.unet.parameters()).device
        ids = torch.from_numpy(_to_ras(maisi_ids(labels)).astype(np.int64))[None].to(device)
        noise = torch.randn(
            (1, self.unet.in_channels, *(size // 4 for size in ids.shape[1:])),
            generator=torch.Generator().manual_seed(seed),
        )
        with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
            latents = self._latents(noise.to(device), binary_code(ids), spacing_mm, n_steps)
            values = self._decoded(latents / self.scale_factor)
        hu = values.float().clamp(0, 1).cpu() * 2000 - 1000
        hu[0, 0][ids[0].cpu() == 0] = -1000
        return np.round(_from_ras(hu[0, 0].numpy()))

    def _latents(
        self, state: torch.Tensor, code: torch.Tensor, spacing_mm: float, n_steps: int
    ) -> torch.Tensor:
        """(1, 4, X / 4, Y / 4, Z / 4) from noise."""
        spacing = torch.full((1, 3), SPACING_UNIT * spacing_mm, device=state.device)
        modality = torch.full((1,), CT, device=state.device)
        self.scheduler.set_timesteps(n_steps, input_img_size_numel=state[0, 0].numel())
        for now, then in pairwise([*self.scheduler.timesteps.tolist(), 0.0]):
            times = torch.full((1,), now, device=state.device)
            # MONAI's inferer would first shrink the labels to the latents' size; the ControlNet has
            # layers of its own for that.
            down, middle = self.controlnet(
                x=state, timesteps=times, controlnet_cond=code, class_labels=modality
            )
            velocity = self.unet(
                x=state,
                timesteps=times,
                class_labels=modality,
                spacing_tensor=spacing,
                down_block_additional_residuals=down,
                mid_block_additional_residual=middle,
            )
            # As RFlowScheduler.step, which cuts `then` to a whole number. MAISI's flow predicts
            # data - noise.
            state = state + velocity * ((now - then) / self.scheduler.num_train_timesteps)
        return state

    def _decoded(self, latents: torch.Tensor) -> torch.Tensor:
        window = tuple(min(size, WINDOW) for size in latents.shape[2:])
        inferer = SlidingWindowInferer(window, overlap=OVERLAP, mode="gaussian", device="cpu")
        return inferer(latents, self.autoencoder.decode_stage_2_outputs)


def _to_ras(array: NDArray) -> NDArray:
    """(K, J, I), i to the left and j to the back -> (X, Y, Z) to the right, front and head."""
    return np.ascontiguousarray(array[:, ::-1, ::-1].transpose(2, 1, 0))


def _from_ras(array: NDArray) -> NDArray:
    return np.ascontiguousarray(array.transpose(2, 1, 0)[:, ::-1, ::-1])
