"""The loop learns, the average follows, schedules rise and fall, batches come in order."""

import math

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from XraySynthLib.errors import XraySynthError
from XraySynthLib.training.average import WeightAverage
from XraySynthLib.training.batches import batches
from XraySynthLib.training.loop import TrainingState, train
from XraySynthLib.training.schedule import Schedule


def test_schedule_literally():
    schedule = Schedule(0.1, total_images=1100, warmup_images=100)
    assert schedule.at(50) == pytest.approx(0.05)
    assert schedule.at(100) == pytest.approx(0.1)
    assert schedule.at(600) == pytest.approx(0.05)
    assert schedule.at(1100) == pytest.approx(0.0) == pytest.approx(schedule.at(2000))


@pytest.mark.parametrize("wrong", [(0, 100, 0), (1e-3, 100, 100), (1e-3, 100, -1)])
def test_an_impossible_schedule_is_refused(wrong):
    with pytest.raises(ValueError, match="warm-up"):
        Schedule(*wrong)


def test_average_halves_in_its_half_life():
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    average = WeightAverage(model, half_life_images=100)
    torch.nn.init.ones_(model.weight)
    for images in range(100_010, 100_110, 10):
        average.update(model, images, 10)
    assert average.model.weight.item() == pytest.approx(0.5, abs=1e-6)


def test_average_forgets_its_start_and_copies_buffers():
    model = torch.nn.BatchNorm1d(2)
    average = WeightAverage(model, half_life_images=1e6)
    torch.nn.init.constant_(model.weight, 3.0)
    model.running_mean.fill_(7)
    for images in range(10, 10_000, 10):
        average.update(model, images, 10)
    assert torch.allclose(average.model.weight, torch.tensor(3.0), atol=1e-3)
    assert (average.model.running_mean == 7).all()


def test_batches_are_in_order_whole_and_the_same_for_any_threads():
    def example(number):
        return {"number": torch.tensor(number)}

    for n_threads in (1, 3):
        found = [
            batch["number"].tolist()
            for batch in batches(example, range(5, 18), 4, n_threads, torch.device("cpu"))
        ]
        assert found == [[5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]]


def test_an_error_in_a_thread_comes_out():
    def example(number):
        raise KeyError(number)

    with pytest.raises(KeyError):
        next(batches(example, range(4), 2, 2, torch.device("cpu")))


def fit_a_line(n_batches, noise=0.0):
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    state = TrainingState(model, optimizer, WeightAverage(model, 50))
    x = torch.linspace(-1, 1, 8)[:, None]

    def loss_of(model, batch):
        loss = ((model(x) - 2 * x) ** 2).mean() + noise
        return loss, {"twice": 2 * loss}

    steps = train(state, range(n_batches), loss_of, Schedule(0.1, 8 * n_batches, 8), 8, accelerator)
    return state, list(steps)


def test_it_learns_and_counts_images():
    state, steps = fit_a_line(80)
    assert [step.images for step in steps[:3]] == [8, 16, 24] and state.images == 640
    assert steps[-1].loss < 1e-3 < steps[0].loss
    assert steps[-1].details["twice"] == pytest.approx(2 * steps[-1].loss)
    assert state.average.model.weight.item() == pytest.approx(2, abs=0.1)


def test_a_loss_that_is_no_number_ends_it():
    with pytest.raises(XraySynthError, match=r"nan .* smaller --learning-rate"):
        fit_a_line(2, noise=math.nan)


def test_what_is_left_of_a_batch_is_not_made():
    made = []

    def example(number):
        made.append(number)
        return {"number": torch.tensor(np.float32(number))}

    list(batches(example, range(7), 3, 1, torch.device("cpu")))
    assert made == [0, 1, 2, 3, 4, 5]
