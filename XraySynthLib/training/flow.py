"""Rectified flow (Liu et al. 2022, arXiv 2209.03003): data to noise along straight lines.

Time 0 is data, 1 is noise: x_t = (1 - t) data + t noise, and the network predicts the velocity
`noise - data`, as diffusers' FlowMatchEuler does; MONAI's RFlowScheduler has the opposite sign.
"""

from collections.abc import Callable
from itertools import pairwise

import torch


def draw_times(count: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """(count,) times of training, logit-normal (Esser et al. 2024, arXiv 2403.03206)."""
    return torch.sigmoid(torch.randn(count, generator=generator))


def noised(data: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """What lies at `times` (B,) between data and noise, (B, ...)."""
    t = times.view(-1, *(1,) * (data.ndim - 1))
    return (1 - t) * data + t * noise


def step_times(n_steps: int) -> list[float]:
    """The n + 1 times of sampling, from 1 to 0, evenly spaced.

    Raises:
        ValueError: If there is no step.
    """
    if n_steps < 1:
        raise ValueError(f"Sampling takes a step or more, got {n_steps}.")
    return [1 - step / n_steps for step in range(n_steps + 1)]


@torch.inference_mode()
def sampled(
    velocity: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    noise: torch.Tensor,
    n_steps: int,
) -> torch.Tensor:
    """Follow a flow from noise to data with Euler's method.

    Args:
        velocity: Of a state (B, ...) at times (B,).
        noise: (B, ...) standard normal.
        n_steps: How many evaluations.
    """
    state = noise
    for now, then in pairwise(step_times(n_steps)):
        state = state + (then - now) * velocity(state, state.new_full((len(state),), now))
    return state
