"""A run goes on where it was saved, whenever it was killed."""

import json

import pytest
import torch
from accelerate import Accelerator

from XraySynthLib.errors import UnreadableFileError, UsageError, XraySynthError
from XraySynthLib.training.average import WeightAverage
from XraySynthLib.training.loop import TrainingState
from XraySynthLib.training.run_folder import RunFolder

CONFIG = {"images": 100, "channels": (1, 2)}


def a_state(seed, steps=0):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    state = TrainingState(model, optimizer, WeightAverage(model, 10), 0)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(4, 2)).square().sum().backward()
        optimizer.step()
        state.images += 4
        state.average.update(model, state.images, 4)
    return state


def same(one, other):
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def saved(tmp_path):
    folder = RunFolder(tmp_path / "run", CONFIG)
    state = a_state(0, steps=5)
    folder.append({"images": 20, "loss": 1.0})
    folder.save(Accelerator(cpu=True), state)
    return folder, state


def test_everything_comes_back(saved):
    folder, state = saved
    other = a_state(1)
    assert RunFolder(folder.path, CONFIG).restore(other)
    assert other.images == 20
    assert same(state.model.state_dict(), other.model.state_dict())
    assert same(state.average.model.state_dict(), other.average.model.state_dict())
    for one, two in zip(
        state.optimizer.state_dict()["state"].values(),
        other.optimizer.state_dict()["state"].values(),
        strict=True,
    ):
        assert same(one, two)


def test_what_was_logged_after_the_checkpoint_is_forgotten(saved):
    folder, _ = saved
    folder.append({"images": 24, "loss": 0.5})
    with (folder.path / "log.jsonl").open("a") as file:
        file.write('{"images": 28, "lo')  # killed while it wrote
    assert [line["images"] for line in folder.log] == [20, 24]
    folder.restore(a_state(1))
    assert [line["images"] for line in folder.log] == [20]


def test_a_kill_at_any_moment_of_saving(saved):
    folder, state = saved
    checkpoint = folder.path / "checkpoint"
    (folder.path / ".tmp-abc").mkdir()  # while it was written
    assert RunFolder(folder.path, CONFIG).restore(a_state(1))
    assert not (folder.path / ".tmp-abc").exists()
    checkpoint.rename(folder.path / "checkpoint-new")  # between the renamings
    assert RunFolder(folder.path, CONFIG).restore(a_state(1))
    assert checkpoint.is_dir() and state.images == 20


def test_nothing_to_restore(tmp_path):
    assert not RunFolder(tmp_path / "run", CONFIG).restore(a_state(0))


def test_other_options_are_refused(saved, tmp_path):
    with pytest.raises(UsageError, match="images is 100, not 200"):
        RunFolder(saved[0].path, {**CONFIG, "images": 200})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.doc").write_text("")
    with pytest.raises(UsageError, match="not empty"):
        RunFolder(tmp_path / "other", CONFIG)


def test_a_damaged_checkpoint_is_refused(saved):
    folder, _ = saved
    file = folder.path / "checkpoint" / "state.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UnreadableFileError, match="checkpoint"):
        folder.restore(a_state(1))


def test_a_full_disk_leaves_the_last_checkpoint(saved):
    """A limit on the size of files stands for the disk."""
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    folder, state = saved
    state.images = 24
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(XraySynthError, match=r"checkpoint in .* cannot be written: File too"):
            folder.save(Accelerator(cpu=True), state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(folder.path.glob(".tmp-*"))
    folder.restore(state)
    assert state.images == 20


def test_versions_are_kept(saved):
    versions = json.loads((saved[0].path / "versions.json").read_text())
    assert versions["torch"] == torch.__version__.split("+")[0] or versions["torch"]
    assert {"xraysynth", "python"} <= set(versions)
