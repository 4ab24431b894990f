"""The networks: an image in, for every landmark a map of where it is and the odds of nowhere."""

from dataclasses import dataclass
from typing import Literal

import torch
from monai.networks.nets import SegResNet, UNet
from torch import nn

from XraySynthLib.training.model_folder import check_levels, check_sizes

ARCHITECTURES = ("unet", "segresnet")
MAX_SIDE_PX = 4096


@dataclass(frozen=True)
class NetworkConfig:
    """What a network is made of.

    Attributes:
        n_landmarks: Maps.
        architecture: MONAI's residual U-Net, or its SegResNet (Myronenko 2018, arXiv 1810.11654).
        channels: Features at each level; a segresnet doubles its first.
        stride: Pixels of the input along a cell of the maps: a power of two.
        n_inputs: Channels of the input.

    Raises:
        ValueError: If the architecture is unknown, there are fewer than two levels, or fewer
            features at the first than the stem needs.
    """

    n_landmarks: int
    architecture: Literal["unet", "segresnet"] = "unet"
    channels: tuple[int, ...] = (32, 64, 96, 128, 160)
    stride: int = 4
    n_inputs: int = 2

    def __post_init__(self) -> None:
        check_levels(channels=self.channels)
        check_sizes(n_landmarks=self.n_landmarks, stride=self.stride, n_inputs=self.n_inputs)
        if self.architecture not in ARCHITECTURES:
            raise ValueError(f"The networks are {ARCHITECTURES}, not {self.architecture!r}.")
        if len(self.channels) < 2:
            raise ValueError("A network needs two levels or more.")
        if self.stride < 2 or self.stride & (self.stride - 1):
            raise ValueError(f"The stride must be 2, 4, 8, ..., got {self.stride}.")
        if self.channels[0] < self.stride // 2:
            raise ValueError(
                f"A stride of {self.stride} needs {self.stride // 2} features or more at the first "
                f"level, got {self.channels[0]}."
            )

    def check_side(self, side_px: int) -> None:
        """Refuse a side of the input that does not halve down to the lowest level.

        Raises:
            ValueError: If it does not, or is above `MAX_SIDE_PX`.
        """
        multiple = self.stride * 2 ** (len(self.channels) - 1)
        if not isinstance(side_px, int) or side_px % multiple or not 0 < side_px <= MAX_SIDE_PX:
            raise ValueError(
                f"The side of this network's input must be a multiple of {multiple} px, at most "
                f"{MAX_SIDE_PX}, got {side_px}."
            )


class HeatmapNetwork(nn.Module):
    """A stem that shrinks the image, a U-shaped body, a map and an absence map a landmark."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        n_halvings = config.stride.bit_length() - 1
        widths = [config.channels[0] >> (n_halvings - 1 - k) for k in range(n_halvings)]
        self.stem = nn.Sequential(
            *(
                _halving(n_in, n_out, 5 if k == 0 else 3)
                for k, (n_in, n_out) in enumerate(
                    zip([config.n_inputs, *widths], widths, strict=False)
                )
            )
        )
        self.body = _body(config)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Find landmarks.

        Args:
            images: (B, inputs, rows, columns) of `inputs.network_input`.

        Returns:
            (B, K, rows / stride, columns / stride) logits of each landmark's place, and (B, K)
            logits of its being nowhere in the image; together they are one softmax.
        """
        maps = self.body(self.stem(images))  # (B, 2K, rows / stride, ...)
        places, absences = maps.chunk(2, dim=1)
        return places.float(), absences.float().mean(dim=(2, 3))


def _halving(n_in: int, n_out: int, kernel: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, kernel, stride=2, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(n_out),
        nn.ReLU(inplace=True),
    )


def _body(config: NetworkConfig) -> nn.Module:
    n_maps = 2 * config.n_landmarks
    if config.architecture == "unet":
        return UNet(
            spatial_dims=2,
            in_channels=config.channels[0],
            out_channels=n_maps,
            channels=config.channels,
            strides=(2,) * (len(config.channels) - 1),
            num_res_units=2,
            norm="BATCH",
            act="RELU",
        )
    # SegResNet doubles its features at every level.
    return SegResNet(
        spatial_dims=2,
        in_channels=config.channels[0],
        out_channels=n_maps,
        init_filters=config.channels[0],
        blocks_down=(1,) * (len(config.channels) - 1) + (2,),
        blocks_up=(1,) * (len(config.channels) - 1),
        norm="BATCH",
        upsample_mode="nontrainable",
    )


def n_parameters(network: nn.Module) -> int:
    """How many numbers it has learned."""
    return sum(parameter.numel() for parameter in network.parameters())
