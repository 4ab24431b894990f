"""A CT generator: three networks and their numbers, as a folder and at work.

config.json              what it is: networks, scales, HU of its training, whom it was trained on
autoencoder.safetensors  weights, 16 bits a number; likewise latents.safetensors (the flow of
                         latents) and refiner.safetensors
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import XraySynthLib
from XraySynthLib.ct import PARTS
from XraySynthLib.ct.intensity import UNIT_HU, to_hu
from XraySynthLib.ct.networks import (
    LATENT_STRIDE,
    MULTIPLE,
    Autoencoder,
    ConditionedFlow,
    NetworkConfig,
    from_blocks,
    latent_flow,
    refiner_flow,
    to_blocks,
)
from XraySynthLib.ct.quantiles import QuantileMap, mapped
from XraySynthLib.ct.slabs import DECODER_HALO, REFINER_HALO, in_slabs
from XraySynthLib.ct.tissues import KIND_NAMES, QUALITY, SCALARS, bone_mask
from XraySynthLib.data.formats import atomic_path
from XraySynthLib.training.flow import sampled
from XraySynthLib.training.model_folder import (
    CONFIG_NAME,
    built,
    check_names,
    check_numbers,
    check_text,
    read_model_document,
    reading_config,
    shown,
    write_model_config,
)
from XraySynthLib.training.tensor_files import fill, halved, save_tensors

FORMAT, FORMAT_VERSION = "xraysynth-ct-generator", 1
LATENT_STEPS, REFINER_STEPS = 10, 8
GUIDANCE, QUALITY_GUIDANCE = 1.5, 1.5
BONE_TEMPERATURE = 0.75
"""Standard deviation of the noise that becomes texture of bone, 1 elsewhere: from that of training,
1, the flow makes a fifth to twice more of it inside bones than there is."""


@dataclass(frozen=True)
class GeneratorConfig:
    """Everything of a generator but its weights.

    Attributes:
        name: The model's.
        networks: Sizes.
        kinds: Names of the kinds of tissue, in the order of the networks.
        scalars: Names of the numbers, in the order of the networks.
        latent_mean: (L,) of the latents' channels.
        latent_deviation: (L,) of the latents' channels.
        residual_scale: Of what the decoder leaves out.
        spacing_mm: Least and greatest voxel size of its training.
        tissue_hu: Of each kind's name: its medians of the training, see `quality.tissue_hu`.
        least_agreement: 5th percentile of `quality.bone_agreement` of its training.
        hu_maps: Of each kind's name: what the networks' HU become, see `quantiles`.
        people: Everybody behind the training CTs.
        training: How it was trained, for people to read.
        code_version: Version of XraySynth that made it.

    Raises:
        ValueError: If a value cannot be meant, or does not fit the networks.
    """

    name: str
    networks: NetworkConfig
    kinds: tuple[str, ...]
    scalars: tuple[str, ...]
    latent_mean: tuple[float, ...]
    latent_deviation: tuple[float, ...]
    residual_scale: float
    spacing_mm: tuple[float, float]
    tissue_hu: Mapping[str, tuple[float, float, float, float]] = field(default_factory=dict)
    least_agreement: float = 0.0
    hu_maps: Mapping[str, QuantileMap] = field(default_factory=dict)
    people: tuple[str, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)
    code_version: str = XraySynthLib.__version__

    def __post_init__(self) -> None:
        names = {name: getattr(self, name) for name in ("kinds", "scalars", "people")}
        check_text(name=self.name, code_version=self.code_version)
        check_names(**names)
        channels = self.networks.latent_channels
        check_numbers("latent_mean", self.latent_mean, channels)
        check_numbers("latent_deviation", self.latent_deviation, channels, above=0)
        check_numbers("residual_scale", (self.residual_scale,), 1, above=0)
        check_numbers("spacing_mm", self.spacing_mm, 2, above=0, rising=True)
        check_numbers("least_agreement", (self.least_agreement,), 1)
        if (len(self.kinds), len(self.scalars)) != (self.networks.n_kinds, self.networks.n_scalars):
            raise ValueError("The names of kinds or scalars do not fit the networks.")
        for field_name in ("tissue_hu", "hu_maps"):
            tissues = getattr(self, field_name)
            if not isinstance(tissues, Mapping) or not set(tissues) <= set(self.kinds):
                raise ValueError(
                    f"{field_name} must be an object of tissues, got {shown(tissues)}."
                )
        for tissue, hu in self.tissue_hu.items():
            check_numbers(f"tissue_hu of {tissue}", hu, 4)
            check_numbers(f"tissue_hu of {tissue}", hu[:3], rising=True)
        for tissue, sides in self.hu_maps.items():
            if not isinstance(sides, tuple) or len(sides) != 2:
                raise ValueError(f"hu_maps of {tissue} must be two lists, got {shown(sides)}.")
            before, after = sides
            check_numbers(f"hu_maps of {tissue}", before, rising=True)
            check_numbers(f"hu_maps of {tissue}", after, len(before))


class Generator:
    """Makes CTs from label maps.

    Args:
        config: What it is.
        autoencoder: Decodes latents.
        latents: The flow of latents.
        refiner: The flow at full resolution.
    """

    def __init__(
        self,
        config: GeneratorConfig,
        autoencoder: Autoencoder,
        latents: ConditionedFlow,
        refiner: ConditionedFlow,
    ) -> None:
        self.config = config
        self.autoencoder, self.latents, self.refiner = (
            part.eval() for part in (autoencoder, latents, refiner)
        )

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.autoencoder.parameters()).device

    @torch.inference_mode()
    def generate(
        self,
        kinds: NDArray,
        scalars: NDArray,
        seed: int,
        *,
        latent_steps: int = LATENT_STEPS,
        refiner_steps: int = REFINER_STEPS,
        guidance: float = GUIDANCE,
        quality_guidance: float = QUALITY_GUIDANCE,
        bone_temperature: float = BONE_TEMPERATURE,
    ) -> NDArray:
        """Make a CT.

        Args:
            kinds: (K, J, I) kinds of tissue, see `tissues.kinds_of`.
            scalars: (S,) see `tissues.scalars_of`.
            seed: Of the noise.
            latent_steps: Evaluations of the flow of latents (a network more for each guidance).
            refiner_steps: Evaluations of the flow at full resolution; 0 for none.
            guidance: Weight of labels and numbers against knowing nothing (Ho & Salimans 2022,
                arXiv 2207.12598); 1 for none.
            quality_guidance: Weight of the bone quality, where it is known, against all but it.
            bone_temperature: Of the noise at full resolution in bones.

        Returns:
            (K, J, I) float32, whole HU.
        """
        padded, inside = _padded(kinds)
        condition = torch.from_numpy(padded[None]).to(self.device)
        numbers = torch.from_numpy(scalars[None].astype(np.float32)).to(self.device)
        random = torch.Generator().manual_seed(seed)
        weights = guidance, quality_guidance
        latents = self._latents(condition, numbers, random, latent_steps, weights)
        guess = in_slabs(self.autoencoder.decode, DECODER_HALO, condition, latents)
        if refiner_steps:
            guess = guess + self._residual(
                guess, condition, numbers, random, refiner_steps, bone_temperature
            )
        values_hu = to_hu(guess[0, 0].cpu().numpy()[inside])
        return to_hu(mapped(values_hu, kinds, self.config.hu_maps) / UNIT_HU)

    def _latents(
        self,
        kinds: torch.Tensor,
        scalars: torch.Tensor,
        random: torch.Generator,
        n_steps: int,
        weights: tuple[float, float],
    ) -> torch.Tensor:
        """Latents as the decoder takes them, (1, L, K / 4, J / 4, I / 4)."""
        networks = self.config.networks
        shape = tuple(size // LATENT_STRIDE for size in kinds.shape[1:])
        noise = torch.randn((1, networks.latent_channels, *shape), generator=random)
        told_code = self.latents.code(kinds)
        no_code = self.latents.code(torch.full_like(kinds, networks.n_kinds))
        any_quality = scalars.clone()
        any_quality[:, QUALITY] = float("nan")
        guided = [(no_code, torch.full_like(scalars, float("nan")), weights[0])]
        if not scalars[:, QUALITY].isnan().any():
            guided.append((told_code, any_quality, weights[1]))

        def velocity(state: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
            told = self.latents.velocity(state, times, told_code, scalars)
            result = told
            for code, numbers, weight in guided:
                if weight != 1:
                    untold = self.latents.velocity(state, times, code, numbers)
                    result = result + (weight - 1) * (told - untold)
            return result

        standard = sampled(velocity, noise.to(self.device), n_steps)
        mean, deviation = (
            torch.tensor(part, device=self.device)[None, :, None, None, None]
            for part in (self.config.latent_mean, self.config.latent_deviation)
        )
        return standard * deviation + mean

    def _residual(
        self,
        guess: torch.Tensor,
        kinds: torch.Tensor,
        scalars: torch.Tensor,
        random: torch.Generator,
        n_steps: int,
        bone_temperature: float,
    ) -> torch.Tensor:
        """What the decoder leaves out, (1, 1, K, J, I)."""
        blocks = to_blocks(guess)
        bone = torch.from_numpy(bone_mask(kinds.cpu().numpy())).to(self.device)
        temperature = torch.where(bone[:, None], bone_temperature, 1.0)
        noise = torch.randn(blocks.shape, generator=random).to(self.device) * to_blocks(temperature)

        def velocity(state: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
            return in_slabs(
                lambda state, blocks, kinds: self.refiner(state, times, kinds, scalars, blocks),
                REFINER_HALO,
                kinds,
                state,
                blocks,
            )

        return from_blocks(sampled(velocity, noise, n_steps)) * self.config.residual_scale


def _padded(kinds: NDArray) -> tuple[NDArray, tuple[slice, ...]]:
    """A map with air about it, sizes multiples of 16, and where the map lies in it."""
    extra = [-size % MULTIPLE for size in kinds.shape]
    before = [(one // 2, one - one // 2) for one in extra]
    inside = tuple(slice(a, a + size) for (a, _), size in zip(before, kinds.shape, strict=True))
    return np.pad(kinds, before), inside


def save_generator(
    config: GeneratorConfig, networks: Mapping[str, nn.Module], folder: Path
) -> None:
    """Write a model folder; the configuration, which makes it whole, last.

    Args:
        config: What it is.
        networks: The networks of `PARTS`.
        folder: Where to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_NAME).unlink(missing_ok=True)
    for part in PARTS:
        weights = {name: halved(tensor) for name, tensor in networks[part].state_dict().items()}
        with atomic_path(folder / f"{part}.safetensors") as temporary:
            save_tensors(weights, temporary)
    write_model_config(config, FORMAT, FORMAT_VERSION, folder)


def read_generator_config(folder: Path) -> GeneratorConfig:
    """Read what a model is.

    Raises:
        UnreadableFileError: If the folder holds none, or one of a newer version.
    """
    with reading_config(folder):
        document = read_model_document(folder, FORMAT, FORMAT_VERSION, "CT generator")
        if "networks" in document:
            document["networks"] = built(NetworkConfig, document["networks"], "networks")
        for name, here in (("kinds", KIND_NAMES), ("scalars", SCALARS)):
            if document.get(name, [*here]) != [*here]:
                raise ValueError("it is for tissues or numbers of another version of XraySynth")
        return built(GeneratorConfig, document, needed=("tissue_hu", "people"))


def load_generator(folder: Path, device: torch.device | None = None) -> Generator:
    """Read a model folder.

    Raises:
        UnreadableFileError: If it is not there, damaged, or its files do not fit.
    """
    config = read_generator_config(folder)
    device = device or torch.device("cpu")
    builders = {"autoencoder": Autoencoder, "latents": latent_flow, "refiner": refiner_flow}
    networks: dict[str, Any] = {}
    for part, build in builders.items():
        network = build(config.networks)
        fill(network, folder / f"{part}.safetensors")
        networks[part] = network.to(device, memory_format=torch.channels_last_3d)
    return Generator(config, **networks)
