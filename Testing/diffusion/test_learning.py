"""The velocity's sign and times; a tiny network overfits; sampling steps as diffusers does."""

import pytest
import torch
from accelerate import Accelerator
from torch.utils.data import default_collate

from Testing.diffusion.conftest import NAMES, config_of
from XraySynthLib.diffusion.emphasis import emphasised
from XraySynthLib.diffusion.learning import learn, loss_for, new_state
from XraySynthLib.diffusion.model import Sampler, SamplerConfig, led, scheduler
from XraySynthLib.diffusion.network import ConditionedVelocity, NetworkConfig, by_part
from XraySynthLib.diffusion.views import N_FEATURES
from XraySynthLib.training.flow import step_times
from XraySynthLib.training.schedule import Schedule


class Perfect(torch.nn.Module):
    """Knows data and noise; says `noise - data`, times `sign`."""

    def __init__(self, batch, sign=1.0):
        super().__init__()
        self.batch, self.sign, self.seen = batch, sign, []

    def forward(self, state, times, maps, features):
        self.seen.append((state, times))
        return self.sign * (self.batch["noise"] - self.batch["data"])


def test_the_velocity_is_noise_minus_data(examples):
    batch = default_collate([examples[number] for number in range(4)])
    loss_of = loss_for(examples.config.n_image)
    assert loss_of(Perfect(batch), batch)[0] == 0
    assert loss_of(Perfect(batch, -1.0), batch)[0] > 1


def test_each_part_is_at_its_own_time(examples):
    batch = default_collate([examples[number] for number in range(2)])
    batch["times"] = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    model = Perfect(batch)
    loss_for(4)(model, batch)
    state = model.seen[0][0]
    assert torch.equal(state[0, :4], batch["data"][0, :4])
    assert torch.equal(state[1, :4], batch["noise"][1, :4])
    assert torch.equal(state[0, 4:], batch["noise"][0, 4:])
    assert torch.equal(state[1, 4:], batch["data"][1, 4:])


def test_parts_by_hand():
    assert by_part(torch.tensor([[0.25, 0.75]]), 2, 3)[0, :, 0, 0].tolist() == [0.25, 0.25, 0.75]


def test_landmarks_lead():
    assert [led(time, 0.5) for time in (1, 0.5, 1 / 3, 0)] == pytest.approx([1, 0.25, 0, 0])
    assert [led(time, 0) for time in (1, 0.4, 0)] == [1, 0.4, 0]


class Straight(torch.nn.Module):
    """The velocity to one image, from whatever state: (state - data) / time."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        torch.manual_seed(0)
        self.data = torch.randn(1, config.n_state, config.side, config.side)

    def forward(self, state, times, maps, features):
        time = by_part(times, self.config.n_image, self.config.n_state)
        return torch.where(time > 0, (state - self.data) / time.clamp(min=1e-6), 0 * state)


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("condition", ["view", "anatomy"])
def test_a_straight_flow_ends_at_the_data(prior, condition, steps):
    config = config_of(condition)
    document = SamplerConfig("t", NAMES, config, "display", (-1.0, 1.0))
    network = Straight(config)
    told = torch.zeros(2, config.n_maps, 16, 16), torch.zeros(2, N_FEATURES)
    made = Sampler(document, network, prior).make(*told, [(1,), (2,)], steps=steps)
    pixels = torch.nn.functional.pixel_shuffle(network.data[:, :4], 2)[0, 0]
    assert emphasised(made.images[1]) == pytest.approx(pixels.numpy(), abs=1e-4)
    assert (made.points_px is None) == (condition == "anatomy")


def test_steps_are_those_of_diffusers():
    steps = scheduler()
    steps.set_timesteps(sigmas=[1 - step / 5 for step in range(5)])
    assert steps.sigmas.tolist() == pytest.approx(step_times(5), abs=1e-6)
    state = torch.tensor([[3.0]])
    for time, now, then in zip(steps.timesteps, step_times(5)[:-1], step_times(5)[1:], strict=True):
        velocity = torch.sin(state) + now
        theirs = steps.step(velocity, time, state, return_dict=False)[0]
        assert theirs.item() == pytest.approx((state + (then - now) * velocity).item(), abs=1e-6)
        state = theirs


def run(examples, images, folder=None):
    state = new_state(examples.config, 0, 50, 0.0)
    accelerator = Accelerator(cpu=True)
    state.model, state.optimizer = accelerator.prepare(state.model, state.optimizer)
    if folder is not None:
        folder.restore(state)
    schedule = Schedule(3e-3, images, 8)
    return state, accelerator, learn(state, examples, schedule, 4, accelerator, 1)


def test_a_resumed_run_is_the_same(examples, tmp_path):
    from XraySynthLib.training.run_folder import RunFolder

    state, accelerator, steps = run(examples, 24)
    folder = RunFolder(tmp_path / "run", {})
    for step in steps:
        if step.images == 12:
            folder.save(accelerator, state)
    resumed, _, steps = run(examples, 24, folder)
    assert [step.images for step in steps] == [16, 20, 24]
    for one, other in zip(state.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_tiny_network_learns(examples):
    state, _, steps = run(examples, 800)
    losses = [step.loss for step in steps]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    assert state.images == 800


def silent(condition):
    """A network whose own part is nothing."""
    network = ConditionedVelocity(config_of(condition)).eval()
    torch.nn.init.zeros_(network.unet.conv_out.weight)
    torch.nn.init.zeros_(network.unet.conv_out.bias)
    return network


@pytest.mark.parametrize(
    ("time", "expected"),
    # All noise: the data is -1, its mean; all data: the noise is 0; between, for a spread of 0.15.
    [(1.0, 0.5 + 1), (0.0, -0.5), (0.5, (0.5 - 0.01125) / (0.25 + 0.005625) * 1 + 1)],
)
def test_what_is_not_left_to_be_learned_of_heatmaps(time, expected):
    network = silent("view")
    state = torch.full((1, 10, 16, 16), 0.5)
    told = torch.zeros(1, 30, 16, 16), torch.zeros(1, N_FEATURES)
    made = network(state, torch.tensor([[0.3, time]]), *told)
    assert not made[:, :4].any()
    assert made[0, 4:].flatten()[0].item() == pytest.approx(expected, rel=1e-5)


def test_it_hears_what_it_is_told(examples):
    torch.manual_seed(0)
    network = ConditionedVelocity(examples.config).eval()
    batch = default_collate([examples[number] for number in range(2)])
    told = batch["noise"], batch["times"], batch["maps"], batch["features"]
    others = told[0].flip(0), 1 - told[1], told[2].flip(0), told[3].flip(0)
    plain = network(*told)
    for index, other in enumerate(others):
        changed = [*told[:index], other, *told[index + 1 :]]
        assert (network(*changed) - plain).abs().max() > 1e-5


def test_the_full_preset_can_be_built():
    from XraySynthLib.workflows.train_xray import PRESETS

    sizes = PRESETS["full"]
    with torch.device("meta"):
        network = ConditionedVelocity(NetworkConfig("view", 14, **sizes))
        side = network.config.side
        state = torch.empty(1, network.config.n_state, side, side)
        maps = torch.empty(1, network.config.n_maps, side, side)
        made = network(state, torch.empty(1, 2), maps, torch.empty(1, N_FEATURES))
    assert made.shape == state.shape
    assert 1e8 < sum(one.numel() for one in network.parameters()) < 3e8


@pytest.mark.parametrize(
    "changes", [{"side_px": 30}, {"channels": (12, 16)}, {"condition": "x"}, {"layers": 0}]
)
def test_networks_that_cannot_be(changes):
    with pytest.raises(ValueError, match=r"must be|are view"):
        NetworkConfig(**{"condition": "view", "n_landmarks": 2, "side_px": 32, **changes})
