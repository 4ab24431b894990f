"""`xraysynth train ct`: CTs with labels -> a CT generator.

Three networks, one after the other: the autoencoder, then, on what it makes of every CT, the flow
of latents and the refiner. The same command again goes on from the last checkpoint.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from XraySynthLib.ct import PARTS
from XraySynthLib.errors import UnreadableFileError, UsageError
from XraySynthLib.workflows.config import DeviceConfig, config_to_dict
from XraySynthLib.workflows.packages import need_torch_packages
from XraySynthLib.workflows.progress import tracked
from XraySynthLib.workflows.subjects import find_subjects
from XraySynthLib.workflows.workers import usable_cpus

if TYPE_CHECKING:
    from XraySynthLib.ct.store import TrainingVolume

STAGES = PARTS
NOT_OF_THE_RUN = ("dry_run", "progress", "device", "workers", "threads", "output", "stage")
VALIDATION_SHARE = 0.08
DATA_NAME = "data.json"


@dataclass(frozen=True, kw_only=True)
class TrainCtConfig(DeviceConfig):
    """Train a CT generator on CTs with label maps.

    The same command again goes on where it ended. OUTPUT/model is the generator.

    Attributes:
        data: Folders of subjects: from generate, or folders with ct.nii.gz, labels.nii.gz (ids of
            XraySynth) and a .mrk.json.
        output: Folder of the run.
        preset: compact: networks that a laptop's processor can use. full: for a GPU.
        stage: Train this network alone; "latents" and "refiner" may run at the same time, once
            the autoencoder is done.
        autoencoder_crops: How many cubes of CT the autoencoder is shown.
        latents_crops: How many the flow of latents is shown.
        refiner_crops: How many the refiner is shown.
        autoencoder_side: Side of its cubes, voxels; a multiple of 16.
        latents_side: Side of the flow of latents' cubes, voxels.
        refiner_side: Side of the refiner's.
        batch_crops: Cubes of a step.
        learning_rate: The greatest.
        warmup_crops: How long the learning rate rises.
        average_crops: Half-life of the weights' average.
        check_crops: After so many cubes: validation, pictures, a checkpoint.
        precision: auto is bf16 where the device is fast at it.
        workers: Threads that cut cubes.
        threads: Of torch; 0 for one a processor.
        name: Of the model.
    """

    data: tuple[Path, ...]
    output: Path
    preset: Literal["compact", "full"] = "compact"
    stage: Literal["all", "autoencoder", "latents", "refiner"] = "all"
    autoencoder_crops: int = 6_000
    latents_crops: int = 16_000
    refiner_crops: int = 6_000
    autoencoder_side: int = 48
    latents_side: int = 64
    refiner_side: int = 48
    batch_crops: int = 4
    learning_rate: float = 1e-3
    warmup_crops: int = 200
    average_crops: int = 400
    check_crops: int = 500
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    workers: int = 1
    threads: int = 0
    name: str = "pelvis-ct"


def check_inputs(config: TrainCtConfig) -> None:
    """Refuse what cannot be trained, before anything is read.

    Raises:
        XraySynthError: Saying what to change.
    """
    if not config.data:
        raise UsageError("--data needs a folder of subjects.")
    for name in ("batch_crops", "check_crops", *(f"{stage}_crops" for stage in STAGES)):
        if getattr(config, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be 1 or more.")
    for stage in STAGES:
        side = getattr(config, f"{stage}_side")
        if side < 16 or side % 16:
            raise UsageError(f"--{stage}-side must be a multiple of 16, got {side}.")
        if not config.warmup_crops + config.batch_crops <= getattr(config, f"{stage}_crops"):
            raise UsageError(f"--warmup-crops and a batch must fit into --{stage}-crops.")
    if config.warmup_crops < 0 or not 0 < config.learning_rate < math.inf:
        raise UsageError("--warmup-crops must be 0 or more, --learning-rate above 0 and finite.")
    if not config.name.strip():
        raise UsageError("--name is empty; give the model a name.")
    if min(config.workers, config.threads, config.seed, config.average_crops) < 0:
        raise UsageError("--workers, --threads, --seed and --average-crops must be 0 or more.")
    if config.output.exists() and not config.output.is_dir():
        raise UsageError(f"--output {config.output} is a file; name a folder.")
    for folder in config.data:
        if config.output.resolve() == folder.resolve():
            raise UsageError(f"--output {config.output} is --data too; name another folder.")
        without = [one.name for one in find_subjects(folder) if one.labels is None]
        if without:
            raise UnreadableFileError(f"{folder}: {without[0]} has no label map.")
    need_torch_packages("Training", "einops", "accelerate", "tensorboard")
    from XraySynthLib.training.run_folder import check_run_folder

    for stage in STAGES:
        check_run_folder(config.output / stage, _options(config))


def run(config: TrainCtConfig) -> Path | str:
    """Train; returns the model's folder, or which stages are left.

    Raises:
        XraySynthError: If options, CTs or a checkpoint cannot be used.
    """
    check_inputs(config)
    import torch

    from XraySynthLib.workflows.ct_training import CtTraining

    torch.set_num_threads(config.threads or usable_cpus())
    volumes, watched, people = read_volumes(config)
    _check_data(config, [*volumes, *watched])
    training = CtTraining(config, _options(config), volumes, watched, people)
    stages = STAGES if config.stage == "all" else (config.stage,)
    if "autoencoder" in stages:
        training.train_autoencoder()
    if "latents" in stages:
        training.train_latents()
    if "refiner" in stages:
        training.train_refiner()
    return training.write_model()


def read_volumes(
    config: TrainCtConfig,
) -> "tuple[list[TrainingVolume], list[TrainingVolume], list[str]]":
    """CTs to learn from, those to watch (of other people), and everybody behind them.

    Raises:
        UnreadableFileError: If one cannot be learned from.
    """
    from XraySynthLib.ct.store import TrainingVolume, training_volume
    from XraySynthLib.data.sets import persons_of

    subjects = [(folder, one) for folder in config.data for one in find_subjects(folder)]
    volumes: list[TrainingVolume] = []
    derived_from: dict[str, set[str]] = {}
    largest = max(getattr(config, f"{stage}_side") for stage in STAGES)
    for folder, subject in tracked(subjects, "read", len(subjects), config.progress):
        volume, _ = subject.read()
        try:
            volumes.append(training_volume(subject.name, volume, subject.known))
        except ValueError as error:
            reason = str(error).rstrip(".")
            raise UnreadableFileError(
                f"{subject.name} in {folder} cannot be learned from: {reason}."
            ) from error
        small = min(volumes[-1].kinds.shape)
        if small < largest:
            raise UnreadableFileError(
                f"{subject.name} in {folder} is cut to {small} voxels along an axis; no --...-side "
                f"may be more, but one is {largest}."
            )
        derived_from.setdefault(subject.name, set()).update(subject.derived_from)
    person_of = persons_of(derived_from)
    persons = list(dict.fromkeys(person_of.values()))
    if len(persons) < 2:
        raise UnreadableFileError(
            f"Training needs subjects of two people or more, one to be watched; {len(volumes)} of "
            f"{len(persons)} is here."
        )
    n_watched = max(round(VALIDATION_SHARE * len(persons)), 1)
    order = np.random.default_rng(config.seed).permutation(len(persons))[:n_watched]
    chosen = {persons[number] for number in order}
    watched = [volume for volume in volumes if person_of[volume.subject] in chosen]
    learned = [volume for volume in volumes if person_of[volume.subject] not in chosen]
    return learned, watched, sorted(set(derived_from).union(*derived_from.values()))


def _check_data(config: TrainCtConfig, volumes: "list[TrainingVolume]") -> None:
    """Refuse to go on with other CTs than the run began with: its codes are of those.

    Raises:
        UsageError: If they are others.
    """
    from XraySynthLib.data.formats import atomic_path

    path = config.output / DATA_NAME
    digests = [[volume.subject, volume.digest()] for volume in volumes]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(digests, indent=2) + "\n", "utf-8")
    elif json.loads(path.read_text("utf-8")) != digests:
        raise UsageError(
            f"{config.output} holds a run on other CTs than --data holds now; name another "
            "--output."
        )


def _options(config: TrainCtConfig) -> dict[str, Any]:
    return {
        name: value for name, value in config_to_dict(config).items() if name not in NOT_OF_THE_RUN
    }
