"""The average of a model's weights over the images seen, which is better than the last weights."""

import copy

import torch
from torch import nn

RAMP = 0.05
"""The half-life is at most this share of the images seen, so that the first weights are forgotten
(Karras et al. 2022, arXiv 2206.00364, "EMA rampup")."""


class WeightAverage:
    """An exponential moving average of weights; buffers are copied.

    Args:
        model: The model that is trained.
        half_life_images: After so many images weights count half.
    """

    def __init__(self, model: nn.Module, half_life_images: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.half_life_images = half_life_images

    @torch.no_grad()
    def update(self, model: nn.Module, images: int, batch_images: int) -> None:
        """Take in the weights after a step.

        Args:
            model: The model.
            images: Seen so far.
            batch_images: Seen in this step.
        """
        half_life = max(min(self.half_life_images, RAMP * images), 1e-8)
        share = 1 - 0.5 ** (batch_images / half_life)
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), share)
        for averaged, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            averaged.copy_(buffer)
