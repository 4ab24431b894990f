"""How a network learns the velocity from data to noise; `learn` joins `training.loop` with it."""

from collections.abc import Callable, Iterator

import torch
from accelerate import Accelerator
from torch import nn

from XraySynthLib.diffusion.examples import Examples
from XraySynthLib.diffusion.network import ConditionedVelocity, NetworkConfig, by_part
from XraySynthLib.training.batches import batches
from XraySynthLib.training.loop import Step, TrainingState, new_training_state, train
from XraySynthLib.training.schedule import Schedule

Batch = dict[str, torch.Tensor]
HEATMAP_WEIGHT = 4.0
"""Of the heatmaps' error beside the image's: most of their cells are empty and soon learned."""
Losses = tuple[torch.Tensor, dict[str, torch.Tensor]]


def new_state(
    config: NetworkConfig, seed: int, half_life_images: float, weight_decay: float
) -> TrainingState:
    """A fresh network, its optimizer and its average."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ConditionedVelocity(config)
    return new_training_state(network, half_life_images, weight_decay)


def loss_for(n_image: int) -> Callable[[nn.Module, Batch], Losses]:
    """The loss of a batch of `Examples`: mean squared error of the velocity.

    Args:
        n_image: Channels of the image; the rest of what is denoised are heatmaps, at a time of
            their own.
    """

    def loss_of(model: nn.Module, batch: Batch) -> Losses:
        data, noise, times = batch["data"], batch["noise"], batch["times"]
        time = by_part(times, n_image, data.shape[1])
        state = (1 - time) * data + time * noise
        predicted = model(state, times, batch["maps"], batch["features"])
        error = (predicted.float() - (noise - data)) ** 2  # (B, state, side, side)
        parts = {"image": error[:, :n_image].mean()}
        if n_image < data.shape[1]:
            parts["heatmaps"] = HEATMAP_WEIGHT * error[:, n_image:].mean()
        return torch.stack(list(parts.values())).sum(), parts

    return loss_of


def learn(
    state: TrainingState,
    examples: Examples,
    schedule: Schedule,
    batch_images: int,
    accelerator: Accelerator,
    n_threads: int,
) -> Iterator[Step]:
    """Learn from where the state is to the schedule's end; see `training.loop.train`."""
    first, last = state.images, schedule.total_images
    if first >= last:
        return
    # Process p of n makes every n-th example: together they make what one alone would.
    numbers = range(first + accelerator.process_index, last, accelerator.num_processes)
    loader = batches(
        examples.__getitem__,
        numbers,
        batch_images // accelerator.num_processes,
        max(n_threads, 1),
        accelerator.device,
    )
    loss_of = loss_for(examples.config.n_image)
    yield from train(state, loader, loss_of, schedule, batch_images, accelerator)
