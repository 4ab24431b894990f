"""An image looked at together with its mirror image."""

import math
from collections.abc import Sequence

import torch

from XraySynthLib.detection.network import HeatmapNetwork


def both_ways_round(
    network: HeatmapNetwork, images: torch.Tensor, partners: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """What a network says of images and of their mirror images, together.

    The mean of both logarithms: where they disagree neither is sure. So the mirror image of an
    image gives the mirrored landmarks, sides exchanged, exactly.

    Args:
        network: The network.
        images: (B, inputs, rows, columns).
        partners: (K,) of `data.pelvis.partners_of`.

    Returns:
        Logits of places (B, K, rows / stride, columns / stride), and of nowhere (B, K).
    """
    places, absences = network(images)
    turned, turned_absences = network(images.flip(3))
    order = list(partners)
    one = _log_shares(places, absences)
    other = _log_shares(turned.flip(3)[:, order], turned_absences[:, order])
    mean = (one + other) / 2  # (B, K, cells + 1)
    n_cells = mean.shape[2] - 1
    return mean[..., :-1].view_as(places), mean[..., -1] - math.log(n_cells)


def _log_shares(places: torch.Tensor, absences: torch.Tensor) -> torch.Tensor:
    """(B, K, cells + 1) logarithms of the shares of all cells and, last, of nowhere.

    A cell of logit 0 weighs a cell's part of nowhere's, see `heatmaps.presence_of`.
    """
    n_cells = places.shape[2] * places.shape[3]
    nowhere = (absences + math.log(n_cells))[..., None]
    return torch.cat([places.flatten(2), nowhere], dim=2).log_softmax(dim=2)
