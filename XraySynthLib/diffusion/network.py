"""The network: diffusers' U-Net on a grid coarser than the pixels, told the view and maps."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from torch.nn import functional as F

from XraySynthLib.diffusion.views import N_FEATURES, N_OCTAVES
from XraySynthLib.training.model_folder import check_levels, check_sizes

Condition = Literal["view", "anatomy"]
N_TIME_FEATURES = 1 + 2 * N_OCTAVES
TIME_UNIT = 1000.0
"""diffusers' U-Nets count time 0..1 in thousandths."""
N_BONES = 6
HEATMAP_MEAN, HEATMAP_SPREAD = -1.0, 0.15
"""Mean and standard deviation of heatmaps, which are -1 nearly everywhere."""


@dataclass(frozen=True)
class NetworkConfig:
    """What a network is made of.

    Attributes:
        condition: "view": the image and its heatmaps are made together, told the view, also as
            bones and landmarks of the mean pelvis. "anatomy": the image is made, told the view,
            bones and landmarks.
        n_landmarks: Heatmaps.
        side_px: Rows and columns of the images.
        cell_px: Pixels along a cell of the network's grid (pixel-unshuffle).
        channels: Features at each level.
        layers: Residual blocks at each level.

    Raises:
        ValueError: If the sizes do not fit each other.
    """

    condition: Condition
    n_landmarks: int
    side_px: int = 128
    cell_px: int = 2
    channels: tuple[int, ...] = (32, 64, 96, 128)
    layers: int = 1

    def __post_init__(self) -> None:
        check_sizes(
            n_landmarks=self.n_landmarks,
            side_px=self.side_px,
            cell_px=self.cell_px,
            layers=self.layers,
        )
        check_levels(8, channels=self.channels)
        if self.condition not in ("view", "anatomy"):
            raise ValueError(f"The conditions are view and anatomy, not {self.condition!r}.")
        multiple = self.cell_px * 2 ** (len(self.channels) - 1)
        if self.side_px % multiple:
            raise ValueError(
                f"The side must be a multiple of {multiple} px for {len(self.channels)} levels, "
                f"got {self.side_px}."
            )

    @property
    def side(self) -> int:
        """Cells along a side of the grid."""
        return self.side_px // self.cell_px

    @property
    def n_image(self) -> int:
        """Channels of an image on the grid."""
        return self.cell_px**2

    @property
    def n_state(self) -> int:
        """Channels of what is denoised."""
        return self.n_image + (self.n_landmarks if self.condition == "view" else 0)

    @property
    def n_maps(self) -> int:
        """Channels of what is told beside the view: see `examples`."""
        return self.n_image * N_BONES + self.n_landmarks


def build_unet(config: NetworkConfig) -> UNet2DConditionModel:
    """A fresh network of diffusers, without text: it is told the view as a class."""
    n_levels = len(config.channels)
    return UNet2DConditionModel(
        sample_size=config.side,
        in_channels=config.n_state + config.n_maps,
        out_channels=config.n_state,
        down_block_types=("DownBlock2D",) * n_levels,
        up_block_types=("UpBlock2D",) * n_levels,
        mid_block_type="UNetMidBlock2D",
        block_out_channels=config.channels,
        layers_per_block=config.layers,
        norm_num_groups=8,
        attention_head_dim=8,
        cross_attention_dim=8,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=N_FEATURES + N_TIME_FEATURES,
    )


class ConditionedVelocity(nn.Module):
    """`noise - data` of an image (and its heatmaps) on the way from data to noise."""

    def __init__(self, config: NetworkConfig, unet: UNet2DConditionModel | None = None) -> None:
        super().__init__()
        self.config = config
        self.unet = unet or build_unet(config)

    def forward(
        self, state: torch.Tensor, times: torch.Tensor, maps: torch.Tensor, features: torch.Tensor
    ) -> torch.Tensor:
        """Predict the velocity.

        Args:
            state: (B, state, side, side) image channels first, then heatmaps.
            times: (B, 2) of the image and of the heatmaps, 0 data, 1 noise.
            maps: (B, maps, side, side).
            features: (B, N_FEATURES) of `views.view_features`.

        Returns:
            (B, state, side, side).
        """
        told = torch.cat([features, _time_features(times[:, 1])], dim=1)
        predicted = self.unet(
            torch.cat([state, maps], dim=1),
            times[:, 0] * TIME_UNIT,
            encoder_hidden_states=None,
            class_labels=told,
            return_dict=False,
        )[0]
        n_image = self.config.n_image
        image, maps_made = predicted[:, :n_image], predicted[:, n_image:]
        return torch.cat([image, _map_velocity(maps_made, state[:, n_image:], times[:, 1])], dim=1)


def begin_with(network: ConditionedVelocity, other: ConditionedVelocity) -> None:
    """Give a network another's weights; of another condition's, all but those of the heatmaps.

    Raises:
        ValueError: If the networks' sizes differ.
    """
    config, theirs = network.config, other.config
    if replace(theirs, condition=config.condition) != config:
        raise ValueError("the networks' sizes differ")
    weights = other.unet.state_dict()
    if theirs.condition != config.condition:
        own, n_image, n_maps = network.unet.state_dict(), config.n_image, config.n_maps
        # Channels of the image come first, in what goes in and in what comes out; maps last.
        own["conv_in.weight"][:, :n_image] = weights["conv_in.weight"][:, :n_image]
        own["conv_in.weight"][:, -n_maps:] = weights["conv_in.weight"][:, -n_maps:]
        own["conv_out.weight"][:n_image] = weights["conv_out.weight"][:n_image]
        own["conv_out.bias"][:n_image] = weights["conv_out.bias"][:n_image]
        for name in ("conv_in.weight", "conv_out.weight", "conv_out.bias"):
            weights[name] = own[name]
    network.unet.load_state_dict(weights)


def _map_velocity(
    predicted: torch.Tensor, state: torch.Tensor, times: torch.Tensor
) -> torch.Tensor:
    """Velocity of heatmaps: what a Gaussian of their mean and spread would have, and the rest.

    Nearly all of a heatmap's state is noise; that is not left to be learned (Karras et al. 2022,
    arXiv 2206.00364, section 5, for the velocity).

    Args:
        predicted: (B, K, side, side) what the network makes.
        state: (B, K, side, side) the heatmaps' state.
        times: (B,) theirs.
    """
    time = times[:, None, None, None]
    variance = time**2 + ((1 - time) * HEATMAP_SPREAD) ** 2
    slope = (time - (1 - time) * HEATMAP_SPREAD**2) / variance
    known = slope * (state - (1 - time) * HEATMAP_MEAN) - HEATMAP_MEAN
    return known + HEATMAP_SPREAD * variance.rsqrt() * predicted


def by_part(values: torch.Tensor, n_image: int, n_state: int) -> torch.Tensor:
    """(B, state, 1, 1) a number for each channel, from (B, 2) for the image and the heatmaps."""
    image = values[:, :1].expand(-1, n_image)
    return torch.cat([image, values[:, 1:].expand(-1, n_state - n_image)], dim=1)[..., None, None]


def _time_features(times: torch.Tensor) -> torch.Tensor:
    octaves = 2.0 ** torch.arange(N_OCTAVES, device=times.device)
    angles = torch.pi * times[:, None] * octaves
    return torch.cat([times[:, None], angles.sin(), angles.cos()], dim=1)


def to_cells(images: torch.Tensor, cell_px: int) -> torch.Tensor:
    """(..., C, rows, columns) -> (..., C cell^2, rows / cell, columns / cell)."""
    return F.pixel_unshuffle(images, cell_px)


def from_cells(cells: torch.Tensor, cell_px: int) -> torch.Tensor:
    """The inverse of `to_cells`."""
    return F.pixel_shuffle(cells, cell_px)
