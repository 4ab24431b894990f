"""The loop: batches in, steps out."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import nn

from XraySynthLib.errors import XraySynthError
from XraySynthLib.training.average import WeightAverage
from XraySynthLib.training.schedule import Schedule

Batch = TypeVar("Batch")
MAX_GRADIENT_NORM = 1.0


@dataclass
class TrainingState:
    """All that a run must remember.

    Attributes:
        model: What is trained.
        optimizer: Its optimizer.
        average: The average of its weights.
        images: How many have been seen.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage
    images: int = 0


def new_training_state(
    network: nn.Module, half_life_images: float, weight_decay: float
) -> TrainingState:
    """A network with AdamW, which does not decay norms and biases, and its average."""
    decayed = [p for p in network.parameters() if p.ndim > 1]
    free = [p for p in network.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
    )
    return TrainingState(network, optimizer, WeightAverage(network, half_life_images))


@dataclass(frozen=True)
class Step:
    """One step of the loop.

    Attributes:
        images: Seen so far.
        loss: Of this step's batch.
        learning_rate: That it was made with.
        details: Parts of the loss.
    """

    images: int
    loss: float
    learning_rate: float
    details: dict[str, float]


def train(
    state: TrainingState,
    batches: Iterable[Batch],
    loss_of: Callable[[nn.Module, Batch], tuple[torch.Tensor, dict[str, torch.Tensor]]],
    schedule: Schedule,
    batch_images: int,
    accelerator: Accelerator,
) -> Iterator[Step]:
    """Train until the batches end.

    Args:
        state: Where to begin; changed by every step.
        batches: Batches, on the model's device.
        loss_of: Loss of a model on a batch, and its parts for the log.
        schedule: Learning rates.
        batch_images: Images of a batch, over all processes.
        accelerator: Made ready with the model and the optimizer.

    Yields:
        A step each time the weights have changed.

    Raises:
        XraySynthError: If the loss is no number any more.
    """
    bare = accelerator.unwrap_model(state.model)
    for batch in batches:
        learning_rate = schedule.at(state.images + batch_images)
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate
        state.model.train()
        state.optimizer.zero_grad(set_to_none=True)
        loss, details = loss_of(state.model, batch)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(state.model.parameters(), MAX_GRADIENT_NORM)
        state.optimizer.step()
        state.images += batch_images
        state.average.update(bare, state.images, batch_images)
        value = float(loss.detach())
        if not value < float("inf"):
            raise XraySynthError(
                f"The loss is {value} after {state.images} images: the training has broken down; "
                "begin again, in another --output, with a smaller --learning-rate."
            )
        numbers: dict[str, Any] = {name: float(part.detach()) for name, part in details.items()}
        yield Step(state.images, value, learning_rate, numbers)
