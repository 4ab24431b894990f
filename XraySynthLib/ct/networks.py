"""The generator's three networks: an autoencoder that knows the labels, and two flows.

All work on blocks of 2 x 2 x 2 voxels as channels, so that labels and HU keep their full resolution
at an eighth of the cost. All normalise each place by itself and nothing across places, so a volume
may be worked on in tiles, trained on crops, and have any size.
"""

from dataclasses import dataclass

import torch
from monai.networks.nets import AutoencoderKL, DiffusionModelUNet
from torch import nn
from torch.nn import functional as F

from XraySynthLib.training.model_folder import check_levels, check_sizes

LATENT_STRIDE = 4
"""Voxels along a latent's place."""
MULTIPLE = 16
"""Sizes are made multiples of it: a latent's place twice halved."""


@dataclass(frozen=True)
class NetworkConfig:
    """What the networks are made of.

    Attributes:
        n_kinds: Kinds of tissue that a label map may hold.
        n_scalars: Numbers about the person and the grid; each goes with one that says it is known.
        kind_channels: Numbers that a kind of tissue becomes.
        latent_channels: Numbers at a latent's place.
        autoencoder_channels: Of its two levels.
        head_channels: Of the decoder's end, which sees the labels.
        diffusion_channels: Of the flow of latents, a level each.
        refiner_channels: Of the flow at full resolution, a level each.

    Raises:
        ValueError: If a number is no size.
    """

    n_kinds: int
    n_scalars: int
    kind_channels: int = 6
    latent_channels: int = 8
    autoencoder_channels: tuple[int, ...] = (24, 48)
    head_channels: int = 24
    diffusion_channels: tuple[int, ...] = (32, 64, 96)
    refiner_channels: tuple[int, ...] = (24, 48)

    def __post_init__(self) -> None:
        for name in ("n_kinds", "n_scalars", "kind_channels", "latent_channels"):
            check_sizes(**{name: getattr(self, name)})
        check_sizes(8, head_channels=self.head_channels)
        for name in ("autoencoder_channels", "diffusion_channels", "refiner_channels"):
            check_levels(8, **{name: getattr(self, name)})
        if len(self.autoencoder_channels) != 2:
            raise ValueError("The autoencoder has two levels: its latents lie 4 voxels apart.")


def to_blocks(volumes: torch.Tensor) -> torch.Tensor:
    """(B, C, K, J, I) -> (B, 8 C, K / 2, J / 2, I / 2): the voxels of a block as channels."""
    b, c, k, j, i = volumes.shape
    split = volumes.view(b, c, k // 2, 2, j // 2, 2, i // 2, 2)
    return split.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, 8 * c, k // 2, j // 2, i // 2)


def from_blocks(blocks: torch.Tensor) -> torch.Tensor:
    """The inverse of `to_blocks`."""
    b, c, k, j, i = blocks.shape
    split = blocks.view(b, c // 8, 2, 2, 2, k, j, i)
    return split.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, c // 8, 2 * k, 2 * j, 2 * i)


class PlaceNorm(nn.Module):
    """Layer normalisation over the channels of each place."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (B, C, ...)."""
        # Channels last, as they lie in memory already: torch normalises that in one pass.
        places = F.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias, self.eps)
        return places.movedim(-1, 1)


def with_place_norms(network: nn.Module) -> nn.Module:
    """Put a `PlaceNorm` for each of a network's GroupNorms, which see the whole volume."""
    for name, child in network.named_children():
        if isinstance(child, nn.GroupNorm):
            setattr(network, name, PlaceNorm(child.num_channels))
        else:
            with_place_norms(child)
    return network


class LabelCode(nn.Module):
    """A label map as features, every voxel of it, at blocks."""

    def __init__(self, config: NetworkConfig, channels: int) -> None:
        super().__init__()
        # One kind more: labels withheld, for classifier-free guidance.
        self.kinds = nn.Embedding(config.n_kinds + 1, config.kind_channels)
        self.mix = nn.Conv3d(8 * config.kind_channels, channels, 1)

    def forward(self, kinds: torch.Tensor) -> torch.Tensor:
        """(B, K, J, I) kinds -> (B, channels, K / 2, J / 2, I / 2)."""
        code = self.kinds(kinds.long()).movedim(-1, 1)  # (B, kind_channels, K, J, I)
        return F.silu(self.mix(to_blocks(code)))


class Residual(nn.Module):
    """Two convolutions beside a path that skips them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            PlaceNorm(channels),
            nn.SiLU(),
            nn.Conv3d(channels, channels, 3, padding=1),
            PlaceNorm(channels),
            nn.SiLU(),
            nn.Conv3d(channels, channels, 3, padding=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, K, J, I) -> the same shape."""
        return x + self.body(x)


class Autoencoder(nn.Module):
    """CT -> latents, and latents with the label map -> CT.

    The decoder need not keep in its latents what the labels say: where bone ends.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        head = config.head_channels
        self.body = with_place_norms(
            AutoencoderKL(
                spatial_dims=3,
                in_channels=8,
                out_channels=head,
                num_res_blocks=1,
                channels=config.autoencoder_channels,
                attention_levels=(False, False),
                latent_channels=config.latent_channels,
                norm_num_groups=8,
                with_encoder_nonlocal_attn=False,
                with_decoder_nonlocal_attn=False,
            )
        )
        self.labels = LabelCode(config, head)
        self.head = nn.Sequential(
            nn.Conv3d(2 * head, head, 1),
            Residual(head),
            Residual(head),
            nn.Conv3d(head, 8, 3, padding=1),
        )

    def forward(
        self, values: torch.Tensor, kinds: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """A CT through latents drawn about their means: decoded, means, standard deviations."""
        mean, deviation = self.encode(values)
        latents = mean + deviation * torch.randn_like(deviation)
        return self.decode(latents, kinds), mean, deviation

    def encode(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 1, K, J, I) -> mean and standard deviation of the latents, (B, L, K / 4, ...)."""
        return self.body.encode(to_blocks(values))

    def decode(self, latents: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
        """Latents (B, L, K / 4, ...) and kinds (B, K, J, I) -> (B, 1, K, J, I)."""
        features = torch.cat([self.body.decode(latents), self.labels(kinds)], dim=1)
        return from_blocks(self.head(features))


class ConditionedFlow(nn.Module):
    """The velocity of a state, given the label map, numbers, and perhaps a first guess.

    Args:
        config: Sizes.
        state_channels: Channels of the state.
        guess_channels: Channels of the first guess; 0 for none.
        channels: Of the levels.
        n_halvings: How often the label features are halved from blocks to the state's grid.
    """

    def __init__(
        self,
        config: NetworkConfig,
        state_channels: int,
        guess_channels: int,
        channels: tuple[int, ...],
        n_halvings: int,
    ) -> None:
        super().__init__()
        width = channels[0]
        self.withheld = config.n_kinds
        self.labels = LabelCode(config, width)
        self.halve = nn.Sequential(
            *(
                layer
                for _ in range(n_halvings)
                for layer in (nn.Conv3d(width, width, 3, stride=2, padding=1), nn.SiLU())
            )
        )
        self.unet = _without_attention(
            DiffusionModelUNet(
                spatial_dims=3,
                in_channels=state_channels + guess_channels + width + 2 * config.n_scalars,
                out_channels=state_channels,
                num_res_blocks=1,
                channels=channels,
                attention_levels=(False,) * len(channels),
                norm_num_groups=8,
                num_head_channels=8,
            )
        )

    def forward(
        self,
        state: torch.Tensor,
        times: torch.Tensor,
        kinds: torch.Tensor,
        scalars: torch.Tensor,
        guess: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The velocity, see `velocity`; kinds (B, K, J, I), `withheld` throughout for no labels."""
        return self.velocity(state, times, self.code(kinds), scalars, guess)

    def code(self, kinds: torch.Tensor) -> torch.Tensor:
        """A label map's features, the same at all times: (B, K, J, I) -> (B, channels, k, j, i)."""
        return self.halve(self.labels(kinds))

    def velocity(
        self,
        state: torch.Tensor,
        times: torch.Tensor,
        code: torch.Tensor,
        scalars: torch.Tensor,
        guess: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The velocity.

        Args:
            state: (B, C, k, j, i).
            times: (B,) 0 for data to 1 for noise.
            code: (B, channels, k, j, i) see `code`.
            scalars: (B, S) numbers; NaN where one is not known.
            guess: (B, G, k, j, i), or None where the flow takes none.
        """
        known = ~scalars.isnan()
        numbers = torch.cat([torch.nan_to_num(scalars), known.to(scalars.dtype)], dim=1)
        spread = numbers[:, :, None, None, None].expand(-1, -1, *state.shape[2:])
        parts = [state, code, spread]
        if guess is not None:
            parts.insert(1, guess)
        # MONAI's time embedding is made for 0..1000.
        return self.unet(torch.cat(parts, dim=1), times * 1000)


def _without_attention(unet: DiffusionModelUNet) -> nn.Module:
    """MONAI's U-Net has attention in its middle, whatever it is told; it would tie all places."""
    unet.middle_block.attention = nn.Identity()
    return with_place_norms(unet)


def latent_flow(config: NetworkConfig) -> ConditionedFlow:
    """The flow of latents."""
    return ConditionedFlow(config, config.latent_channels, 0, config.diffusion_channels, 1)


def refiner_flow(config: NetworkConfig) -> ConditionedFlow:
    """The flow of what the decoder leaves out, on blocks of voxels."""
    return ConditionedFlow(config, 8, 8, config.refiner_channels, 0)
