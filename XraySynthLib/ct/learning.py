"""How the generator's networks learn: a loss each, and the codes between them."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from XraySynthLib.ct.examples import Coded
from XraySynthLib.ct.intensity import from_hu
from XraySynthLib.ct.networks import Autoencoder, to_blocks
from XraySynthLib.ct.store import TrainingVolume
from XraySynthLib.ct.tissues import BONES, KINDS, mirrored_kinds
from XraySynthLib.training.flow import draw_times, noised
from XraySynthLib.training.loop import TrainingState, new_training_state

Batch = dict[str, torch.Tensor]
Losses = tuple[torch.Tensor, dict[str, torch.Tensor]]
BONE_WEIGHT = 5.0
"""How much more an error counts in bone; the autoencoder is where thin bone gets lost."""
EDGE_WEIGHT = 0.5
"""Of the error of differences between neighbours."""
CODE_WEIGHT = 1e-4
"""Of the latents' divergence from a standard normal distribution: it only keeps them in bounds."""
SMALL_ERROR = 0.1
"""Errors below it, 100 HU, count by their square: noise is averaged, edges are not."""


def new_state(
    network: nn.Module, half_life_crops: float, weight_decay: float = 1e-2
) -> TrainingState:
    """A network with its optimizer and its average."""
    network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return new_training_state(network, half_life_crops, weight_decay)


def autoencoder_loss(model: nn.Module, batch: Batch) -> Losses:
    """Weighted error of HU and of their differences, of `Crops` without codes."""
    values, kinds = batch["values"], batch["kinds"]
    decoded, mean, deviation = model(values, kinds)
    bone = torch.isin(kinds, kinds.new_tensor([KINDS.index(one) for one in BONES]))[:, None]
    # A voxel beside bone counts as bone: its HU tell where the edge runs.
    weight = 1 + (BONE_WEIGHT - 1) * F.max_pool3d(bone.float(), 3, 1, 1)
    error = (F.smooth_l1_loss(decoded, values, reduction="none", beta=SMALL_ERROR) * weight).mean()
    edges = sum(
        (
            F.smooth_l1_loss(
                decoded.diff(dim=axis), values.diff(dim=axis), reduction="none", beta=SMALL_ERROR
            )
            * weight.narrow(axis, 1, weight.shape[axis] - 1)
        ).mean()
        for axis in (2, 3, 4)
    )
    divergence = (mean**2 + deviation**2 - 2 * deviation.clamp(min=1e-6).log() - 1).mean() / 2
    loss = error + EDGE_WEIGHT * edges + CODE_WEIGHT * divergence
    absolute = (decoded - values).abs() * bone
    return loss, {
        "error": error,
        "bone_hu": 1000 * absolute.sum() / bone.sum().clamp(min=1),
        "divergence": divergence,
    }


def latent_loss(model: nn.Module, batch: Batch) -> Losses:
    """Squared error of the velocity of latents."""
    return _flow_loss(model, batch["latents"], batch, None)


def refiner_loss(residual_scale: float) -> Callable[[nn.Module, Batch], Losses]:
    """Squared error of the velocity of what the decoder leaves out, divided by its scale."""

    def loss_of(model: nn.Module, batch: Batch) -> Losses:
        residual = (batch["values"] - batch["guess"]) / residual_scale
        return _flow_loss(model, to_blocks(residual), batch, to_blocks(batch["guess"]))

    return loss_of


def _flow_loss(
    model: nn.Module, data: torch.Tensor, batch: Batch, guess: torch.Tensor | None
) -> Losses:
    noise = torch.randn_like(data)
    times = draw_times(len(data)).to(data.device)
    velocity = model(noised(data, noise, times), times, batch["kinds"], batch["scalars"], guess)
    loss = F.mse_loss(velocity, noise - data)
    return loss, {}


@torch.inference_mode()
def raw_latents(autoencoder: Autoencoder, values_hu: NDArray) -> torch.Tensor:
    """(L, K / 4, J / 4, I / 4) mean latents of a CT (K, J, I)."""
    device = next(autoencoder.parameters()).device
    values = torch.from_numpy(from_hu(values_hu)[None, None].copy()).to(device)
    return autoencoder.encode(values)[0][0].cpu()


def latent_scale(latents: list[torch.Tensor]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of latents (L, ...) of several volumes."""
    flat = torch.cat([one.flatten(1) for one in latents], dim=1).double()
    return tuple(flat.mean(dim=1).tolist()), tuple(flat.std(dim=1).clamp(min=1e-6).tolist())


@torch.inference_mode()
def coded(
    autoencoder: Autoencoder,
    volume: TrainingVolume,
    scale: tuple[tuple[float, ...], tuple[float, ...]],
) -> Coded:
    """What the autoencoder makes of a volume and of its mirror image."""
    device = next(autoencoder.parameters()).device
    mean, deviation = (torch.tensor(part)[:, None, None, None] for part in scale)
    latents, guesses = [], []
    for values, kinds in (
        (volume.values_hu, volume.kinds),
        (volume.values_hu[..., ::-1], mirrored_kinds(volume.kinds)),
    ):
        raw = raw_latents(autoencoder, values)
        decoded = autoencoder.decode(
            raw[None].to(device), torch.from_numpy(kinds[None].copy()).to(device)
        )
        latents.append(((raw - mean) / deviation).numpy().astype(np.float16))
        guesses.append(decoded[0, 0].cpu().numpy().astype(np.float16))
    return Coded(np.stack(latents), np.stack(guesses))


def residual_scale(volumes: list[TrainingVolume], codes: list[Coded]) -> float:
    """Root mean square of what the decoder leaves out, on the networks' scale."""
    squares = [
        float(np.mean(np.square(from_hu(volume.values_hu) - code.guesses[0], dtype=np.float64)))
        for volume, code in zip(volumes, codes, strict=True)
    ]
    return float(np.sqrt(np.mean(squares)))
