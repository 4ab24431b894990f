"""Rectified flow: exact where it must be, signs as others have them, and it learns."""

import pytest
import torch
from monai.networks.schedulers import RFlowScheduler

from XraySynthLib.training.flow import draw_times, noised, sampled, step_times


def test_times_of_sampling():
    assert step_times(1) == [1, 0]
    assert step_times(4) == [1, 0.75, 0.5, 0.25, 0]
    with pytest.raises(ValueError, match="a step or more"):
        step_times(0)


def test_times_of_training_are_logit_normal():
    times = draw_times(20_000, torch.Generator().manual_seed(0))
    assert times.min() > 0 and times.max() < 1
    assert torch.logit(times).mean() == pytest.approx(0, abs=0.03)
    assert torch.logit(times).std() == pytest.approx(1, abs=0.03)


def test_between_data_and_noise():
    data, noise = torch.full((3, 1, 2, 2, 2), 10.0), torch.full((3, 1, 2, 2, 2), -2.0)
    states = noised(data, noise, torch.tensor([0.0, 0.25, 1.0]))
    assert states[:, 0, 0, 0, 0].tolist() == [10, 7, -2]


@pytest.mark.parametrize("n_steps", [1, 2, 8])
def test_a_straight_flow_ends_at_the_data(n_steps):
    data, noise = torch.randn(2, 2, 1, 3, 3, 3)
    asked = []

    def velocity(state, times):
        asked.append(times.tolist())
        torch.testing.assert_close(state, noised(data, noise, times))
        return noise - data

    torch.testing.assert_close(sampled(velocity, noise, n_steps), data)
    assert asked == [[time, time] for time in step_times(n_steps)[:-1]]


def test_a_curved_flow_is_followed_by_euler():
    """dx/dt = x from t = 1: a step of a half multiplies by 1 - 1/2."""
    assert sampled(lambda state, _: state, torch.ones(1, 1), 2).item() == 0.25


def test_monai_has_the_same_line_and_the_opposite_velocity():
    theirs = RFlowScheduler(num_train_timesteps=1000, use_discrete_timesteps=False)
    theirs.set_timesteps(4)
    data, noise = torch.randn(2, 1, 1, 4, 4, 4)
    for time in (0.25, 0.6):
        expected = theirs.add_noise(data, noise, torch.tensor([1000 * time]))
        torch.testing.assert_close(noised(data, noise, torch.tensor([time])), expected)

    def velocity(state, times):
        return torch.sin(3 * state) + times.view(-1, 1, 1, 1, 1)

    state = noise
    ends = [*theirs.timesteps[1:].tolist(), 0]
    for now, then in zip(theirs.timesteps.tolist(), ends, strict=True):
        opposite = -velocity(state, torch.tensor([now / 1000]))
        state, _ = theirs.step(opposite, now, state, then)
    torch.testing.assert_close(sampled(velocity, noise, 4), state)


def test_diffusers_step():
    """FlowMatchEulerDiscreteScheduler: sample + (sigma_next - sigma) * prediction, by hand."""
    made = sampled(lambda state, times: 2 * times.view(-1, 1), torch.tensor([[3.0]]), 2)
    assert made.item() == 3 + (0.5 - 1) * 2 * 1 + (0 - 0.5) * 2 * 0.5


def test_a_tiny_flow_learns_two_values():
    """A point of a line has data -1 or 1; a trained flow draws both, and little between."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Linear(2, 64), torch.nn.SiLU(), torch.nn.Linear(64, 64), torch.nn.SiLU(),
        torch.nn.Linear(64, 1),
    )  # fmt: skip

    def velocity(state, times):
        return network(torch.cat([state, times[:, None]], dim=1))

    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(250):
        data = torch.randint(0, 2, (256, 1)) * 2.0 - 1
        noise, times = torch.randn_like(data), draw_times(256)
        loss = (velocity(noised(data, noise, times), times) - (noise - data)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    drawn = sampled(velocity, torch.randn(2000, 1), 16)
    assert drawn.gt(0).float().mean() == pytest.approx(0.5, abs=0.1)
    assert (drawn.abs() - 1).abs().median() < 0.2
