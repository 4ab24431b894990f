"""A run's folder: what was asked for, how it went, and from where it goes on.

    config.json        the run's options
    versions.json      of the packages that decide numbers
    log.jsonl          a JSON object a line, each with "images"
    checkpoint/        weights, their average, the optimizer's state; replaced as a whole
    tensorboard/       the log's numbers

Files appear whole or not at all, so a run that is killed goes on from its last checkpoint.
"""

import json
import platform
import secrets
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file

import XraySynthLib
from XraySynthLib.data.formats import atomic_path
from XraySynthLib.errors import UnreadableFileError, UsageError, XraySynthError
from XraySynthLib.training.loop import TrainingState
from XraySynthLib.training.tensor_files import save_tensors

CONFIG_NAME, VERSIONS_NAME, LOG_NAME = "config.json", "versions.json", "log.jsonl"
CHECKPOINT_NAME, TENSORBOARD_NAME = "checkpoint", "tensorboard"
PACKAGES = ("torch", "monai", "accelerate", "safetensors", "numpy")


class RunFolder:
    """A run's folder, new or to be gone on with.

    Args:
        path: The folder; made where it is missing.
        config: The run's options, as JSON types.

    Raises:
        UsageError: If the folder holds a run of other options, or something else.
    """

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        check_run_folder(path, config)
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        for leftover in path.glob(".tmp-*"):  # of a run that was killed
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        if not (path / CONFIG_NAME).exists():
            self._write_json(VERSIONS_NAME, _versions())
            self._write_json(CONFIG_NAME, config)

    def _write_json(self, name: str, document: Mapping[str, Any]) -> None:
        with atomic_path(self.path / name) as temporary:
            temporary.write_text(json.dumps(document, indent=2) + "\n", "utf-8")

    @property
    def log(self) -> list[dict[str, Any]]:
        """The log's lines; a line that was cut off is left out."""
        file = self.path / LOG_NAME
        lines = []
        for line in file.read_text("utf-8").splitlines() if file.exists() else []:
            try:
                lines.append(json.loads(line))
            except ValueError:
                break
        return lines

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add a line to the log."""
        with (self.path / LOG_NAME).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def save(self, accelerator: Accelerator, state: TrainingState) -> None:
        """Replace the checkpoint.

        Raises:
            XraySynthError: If it cannot be written; the last one stays.
        """
        tensors = {
            **_named("model", accelerator.unwrap_model(state.model).state_dict()),
            **_named("average", state.average.model.state_dict()),
            **_named("optimizer", _optimizer_tensors(state.optimizer)),
        }
        temporary = self.path / f".tmp-{secrets.token_hex(6)}"
        try:
            temporary.mkdir()
            images = {"images": str(state.images)}
            save_tensors(tensors, temporary / "state.safetensors", images)
            (temporary / "images.json").write_text(json.dumps({"images": state.images}), "utf-8")
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise XraySynthError(
                f"The checkpoint in {self.path} cannot be written: {error.strerror}; the same "
                "command goes on from the last one."
            ) from error
        final, old = self.path / CHECKPOINT_NAME, self.path / f".tmp-{secrets.token_hex(6)}"
        # A folder cannot replace another in one step; between the two, `restore` takes the new one
        # under its other name.
        ready = self.path / f"{CHECKPOINT_NAME}-new"
        temporary.rename(ready)
        if final.exists():
            final.rename(old)
        ready.rename(final)
        shutil.rmtree(old, ignore_errors=True)

    def restore(self, state: TrainingState) -> bool:
        """Go on from the checkpoint, and forget what was logged after it.

        Returns:
            Whether there was one.

        Raises:
            UnreadableFileError: If it is damaged or of another network.
        """
        ready, final = self.path / f"{CHECKPOINT_NAME}-new", self.path / CHECKPOINT_NAME
        if ready.exists():  # killed between the two renamings
            shutil.rmtree(final, ignore_errors=True)
            ready.rename(final)
        if not final.exists():
            (self.path / LOG_NAME).unlink(missing_ok=True)
            return False
        try:
            tensors = load_file(final / "state.safetensors")
            images = int(json.loads((final / "images.json").read_text("utf-8"))["images"])
            state.model.load_state_dict(_part("model", tensors))
            state.average.model.load_state_dict(_part("average", tensors))
            _load_optimizer(state.optimizer, _part("optimizer", tensors))
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise UnreadableFileError(
                f"The checkpoint in {self.path} cannot be used: {str(error).splitlines()[0]}"
            ) from error
        state.images = images
        with atomic_path(self.path / LOG_NAME) as temporary:
            kept = [entry for entry in self.log if entry["images"] <= images]
            temporary.write_text("".join(json.dumps(entry) + "\n" for entry in kept), "utf-8")
        return True


def check_run_folder(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse a folder that holds something else than this run.

    Raises:
        UsageError: If it does.
    """
    if path.exists() and not path.is_dir():
        raise UsageError(f"--output {path} is a file; name a folder.")
    if (path / CONFIG_NAME).exists():
        try:
            there = json.loads((path / CONFIG_NAME).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{path / CONFIG_NAME} cannot be read: {error}.") from error
        wanted = json.loads(json.dumps(config))
        for name in sorted({*there, *wanted}):
            if there.get(name) != wanted.get(name):
                raise UsageError(
                    f"{path} holds a run whose {name.replace('_', ' ')} is {there.get(name)!r}, "
                    f"not {wanted.get(name)!r}; name another --output."
                )
    elif path.is_dir() and any(not entry.name.startswith(".") for entry in path.iterdir()):
        raise UsageError(f"{path} is not empty and holds no run; name another --output.")


def _versions() -> dict[str, str]:
    versions = {"xraysynth": XraySynthLib.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _named(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def _part(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    start = f"{prefix}/"
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    state = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": value
        for number, values in state.items()
        for name, value in values.items()
    }


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, field = name.partition(".")
        state.setdefault(int(number), {})[field] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
