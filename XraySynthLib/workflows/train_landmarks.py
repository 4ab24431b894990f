"""`xraysynth train landmarks`: exported sets -> a landmark detector.

The same command again goes on from the last checkpoint.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from XraySynthLib.data import ImageLandmarkSet, Xray
from XraySynthLib.errors import UnreadableFileError, UsageError
from XraySynthLib.workflows.config import DeviceConfig, config_to_dict
from XraySynthLib.workflows.packages import need_torch_packages
from XraySynthLib.workflows.progress import tracked
from XraySynthLib.workflows.split_file import read_split_file
from XraySynthLib.workflows.workers import usable_cpus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from XraySynthLib.data import Sample
    from XraySynthLib.detection.examples import Randomise
    from XraySynthLib.detection.learning import ValidationSet
    from XraySynthLib.detection.store import ImageStore
    from XraySynthLib.training.loop import TrainingState
    from XraySynthLib.training.run_folder import RunFolder

NOT_OF_THE_RUN = ("dry_run", "progress", "device", "workers", "threads", "output")
"""Options that may differ when a run goes on."""
MODEL_FOLDER = "model"
PREDICTIONS_PICTURE = "predictions.png"
VALIDATION_STREAM, SUBSET_STREAM = 0x7A11D, 0x5B5E7
ELASTIC_SHARE, ELASTIC_STEEPNESS, ELASTIC_CELLS = 0.6, (0.02, 0.1), (1, 5)
"""Of the deformation in training: share of the images; its greatest displacement as a share of the
shorter side, with one control cell more along a side than it has; control cells along a side. Few
cells change proportions, many the outline."""


@dataclass(frozen=True, kw_only=True)
class TrainLandmarksConfig(DeviceConfig):
    """Train a landmark detector on exported sets.

    The same command again goes on where it ended. OUTPUT/model is the detector.

    Attributes:
        data: Sets that `export` made, or others in a known layout; their "train" split is learned
            from, "val" is watched and calibrates the confidence.
        output: Folder of the run.
        split_file: JSON file that says who goes where, instead of the sets: {"SUBJECT": "train"};
            whom it does not name is not used.
        subset: Images of each set to learn from, drawn so that fewer are among more; by default
            all.
        weights: How often each set is drawn from, in the order of --data; by default alike.
        images: How many images are shown in all; each is another every time.
        side_px: Side of the network's input; a multiple of the stride, doubled for each level below
            the first: of 64 unless other options are told.
        architecture: unet, or segresnet.
        channels: Features at each level of the network.
        stride: Pixels of the input along a cell of the network's maps: 2, 4, 8, ...
        randomisation: How strongly images are randomised.
        batch_images: Images of a step.
        learning_rate: The greatest.
        weight_decay: Of AdamW.
        warmup_images: How long the learning rate rises.
        average_images: Half-life of the weights' average.
        check_images: After so many images: validation, pictures, a checkpoint.
        validation_images: Images to validate on, at most.
        precision: auto is bf16 where the device is fast at it.
        workers: Threads that make images ready.
        threads: Of torch; 0 for one a processor but one, which makes images ready.
        start: Folder of a detector to begin with, of the same network; its side may differ.
        name: Of the model.
    """

    data: tuple[Path, ...]
    output: Path
    split_file: Path | None = None
    subset: int | None = None
    weights: tuple[float, ...] = ()
    images: int = 120_000
    side_px: int = 192
    architecture: Literal["unet", "segresnet"] = "unet"
    channels: tuple[int, ...] = (32, 64, 96, 128, 160)
    stride: int = 4
    randomisation: Literal["none", "mild", "strong"] = "strong"
    batch_images: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    warmup_images: int = 2_000
    average_images: int = 4_000
    check_images: int = 8_000
    validation_images: int = 400
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    workers: int = 2
    threads: int = 0
    start: Path | None = None
    name: str = "landmarks"


def check_inputs(config: TrainLandmarksConfig) -> None:
    """Refuse what cannot be trained, before anything is read.

    Raises:
        XraySynthError: Saying what to change.
    """
    if not config.data:
        raise UsageError("--data needs a set.")
    if config.weights and (
        len(config.weights) != len(config.data)
        or not min(config.weights) >= 0
        or not 0 < sum(config.weights) < np.inf
    ):
        raise UsageError(
            f"--weights needs a number of 0 or more for each of the {len(config.data)} sets."
        )
    positive = ("images", "side_px", "batch_images", "check_images", "validation_images")
    for name in positive:
        if getattr(config, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be 1 or more.")
    if not 0 <= config.warmup_images < config.images:
        raise UsageError(
            f"--warmup-images must be 0 or more and below --images ({config.images}), got "
            f"{config.warmup_images}."
        )
    if not 0 < config.learning_rate < np.inf:
        raise UsageError(f"--learning-rate must be above 0, got {config.learning_rate}.")
    if not 0 <= config.weight_decay < np.inf:
        raise UsageError(f"--weight-decay must be 0 or more, got {config.weight_decay}.")
    if config.batch_images > config.images:
        raise UsageError("--batch-images is more than --images.")
    if min(config.workers, config.threads, config.seed, config.average_images) < 0:
        raise UsageError("--workers, --threads, --seed and --average-images must be 0 or more.")
    if config.subset is not None and config.subset < 1:
        raise UsageError("--subset must be 1 or more.")
    for path in config.data:
        if not path.exists():
            raise UnreadableFileError(f"--data {path} does not exist.")
    if config.split_file is not None:
        read_split_file(config.split_file)
    if config.start is not None and not (config.start / "config.json").is_file():
        raise UnreadableFileError(f"--start {config.start} holds no landmark detector.")
    need_torch_packages("Training", "accelerate", "tensorboard")
    from XraySynthLib.detection.network import NetworkConfig
    from XraySynthLib.training.run_folder import check_run_folder

    try:
        network = NetworkConfig(1, config.architecture, config.channels, config.stride)
        network.check_side(config.side_px)
    except ValueError as error:
        raise UsageError(f"--channels, --stride and --side-px: {error}") from error
    check_run_folder(config.output, _options(config))


def run(config: TrainLandmarksConfig) -> Path:
    """Train; returns the model's folder.

    Raises:
        XraySynthError: If options, sets or the checkpoint cannot be used.
    """
    check_inputs(config)
    import cv2
    import torch
    from accelerate import Accelerator
    from accelerate.utils import set_seed

    from XraySynthLib.detection.examples import NO_CHANGES, Examples, Shares
    from XraySynthLib.detection.learning import (
        NORM_IMAGES,
        learn,
        new_state,
        renew_norms,
        validation_set,
    )
    from XraySynthLib.detection.model import load_detector
    from XraySynthLib.detection.network import NetworkConfig
    from XraySynthLib.training.precision import device_of, mixed_precision
    from XraySynthLib.training.run_folder import RunFolder
    from XraySynthLib.training.schedule import Schedule
    from XraySynthLib.workflows.training_watch import Watch

    device = device_of(config.device)
    torch.set_num_threads(config.threads or max(usable_cpus() - 1, 1))
    cv2.setNumThreads(1)  # its threads would only get in the way of ours
    set_seed(config.seed)
    stores, watched = read_sets(config)
    randomise = randomisation(config.randomisation)
    network = NetworkConfig(len(watched.names), config.architecture, config.channels, config.stride)
    start = None if config.start is None else load_detector(config.start)
    if start is not None and start.config.network != network:
        raise UsageError(f"--start {config.start} is of another network than the options say.")
    state = new_state(network, config.seed, config.average_images, config.weight_decay)
    if start is not None:
        state.model.load_state_dict(start.network.state_dict())
        state.average.model.load_state_dict(start.network.state_dict())
    folder = RunFolder(config.output, _options(config))
    folder.restore(state)
    arithmetic = {"auto": mixed_precision(device), "bf16": "bf16", "fp32": "no"}[config.precision]
    accelerator = Accelerator(mixed_precision=arithmetic, cpu=device.type == "cpu")
    state.average.model.to(accelerator.device)
    state.model, state.optimizer = accelerator.prepare(state.model, state.optimizer)
    examples = Examples(
        stores,
        config.weights or [1.0] * len(stores),
        config.side_px,
        randomise,
        NO_CHANGES if config.randomisation == "none" else Shares(),
        config.seed,
    )
    schedule = Schedule(config.learning_rate, config.images, config.warmup_images)
    validation = validation_set(
        watched,
        config.side_px,
        randomise,
        config.validation_images,
        VALIDATION_STREAM,
    )
    people = set(watched.people).union(*(store.people for store in stores))
    if start is not None:
        people |= set(start.config.people)

    def look() -> dict[str, float | None]:
        batch = config.batch_images
        count = max(min(NORM_IMAGES, config.images, config.check_images), batch)
        renew_norms(state.average.model, examples, config.images, count, batch)
        return _look(config, folder, state, validation, watched.names, sorted(people))

    watch = Watch(folder, state, accelerator, config.check_images, look)
    steps = learn(state, examples, schedule, config.batch_images, accelerator, config.workers)
    left = config.images - state.images
    for step in tracked(steps, "train", left, config.progress, lambda _: config.batch_images):
        watch.note(step)
    watch.close()
    if not (config.output / MODEL_FOLDER / "config.json").is_file():
        look()  # it was removed, or written half
    return config.output / MODEL_FOLDER


def _look(
    config: TrainLandmarksConfig,
    folder: "RunFolder",
    state: "TrainingState",
    validation: "ValidationSet",
    names: tuple[str, ...],
    people: list[str],
) -> dict[str, float | None]:
    """Validate, write pictures and the model so far; returns the scores."""
    from XraySynthLib.detection.learning import validate
    from XraySynthLib.detection.model import DetectorConfig, save_detector
    from XraySynthLib.workflows.training_figures import write_prediction_picture

    network = state.average.model
    scores, calibration, points_px = validate(network, validation)
    detector = DetectorConfig(
        name=config.name,
        landmark_names=names,
        side_px=config.side_px,
        network=network.config,
        calibration=calibration,
        people=tuple(people),
        training={
            **_options(config),
            "data": [path.name for path in config.data],
            "start": config.start and config.start.name,
            "images_seen": state.images,
            **scores.to_dict(),
        },
    )
    save_detector(detector, network, folder.path / MODEL_FOLDER)
    write_prediction_picture(
        validation.images[:, 0].numpy(),
        (names, points_px, validation.points_px, validation.visible),
        folder.path / PREDICTIONS_PICTURE,
    )
    return scores.to_dict()


def randomisation(strength: str) -> "Randomise | None":
    """A preset's randomisation, but for half turns, which the detector undoes, and with more and
    stronger elastic deformation: people whom the shape model does not know differ so from those
    whom it draws.
    """
    from dataclasses import replace

    from XraySynthLib.data.randomisation import PRESETS, draw_randomisation, randomise_image

    ranges = PRESETS[strength]
    if strength == "none":
        return None
    elastic_share = ELASTIC_SHARE if ranges.plane.elastic_share else 0.0
    plane = replace(ranges.plane, turn_share=0.0, elastic_share=elastic_share)

    def randomise(
        xray: Xray, landmarks: ImageLandmarkSet, rng: np.random.Generator
    ) -> tuple[Xray, ImageLandmarkSet]:
        rows, columns = xray.values.shape
        cells = int(rng.integers(ELASTIC_CELLS[0], ELASTIC_CELLS[1] + 1))
        least, greatest = (share / (cells + 1) for share in ELASTIC_STEEPNESS)
        drawn = replace(plane, elastic=(least, greatest), elastic_cells=(cells, cells))
        record = draw_randomisation(replace(ranges, plane=drawn), (rows, columns), rng)
        moved, marked, _ = randomise_image(xray, landmarks, None, record)
        return moved, marked

    return randomise


def _options(config: TrainLandmarksConfig) -> dict[str, Any]:
    return {
        name: value for name, value in config_to_dict(config).items() if name not in NOT_OF_THE_RUN
    }


def read_sets(config: TrainLandmarksConfig) -> "tuple[list[ImageStore], ImageStore]":
    """The images to learn from, a store a set, and those to validate on.

    Raises:
        UnreadableFileError: If a set has no images to learn from, or none can be validated on.
        SplitOverlapError: If somebody validated on is behind what is learned from.
    """
    from XraySynthLib.data.sets import LazySamples, SplitOverlapError
    from XraySynthLib.detection.store import store_images

    names: tuple[str, ...] | None = None
    stores = []
    watched: list[Sample] = []
    for path in config.data:
        samples = _samples(path, "train", config.split_file)
        if not len(samples):
            raise UnreadableFileError(f"{path} has no images in its train split.")
        if config.subset is not None:
            order = np.random.default_rng((config.seed, SUBSET_STREAM)).permutation(len(samples))
            drawn = np.sort(order[: config.subset]).tolist()
            samples = LazySamples(drawn, samples.__getitem__)
        read = tracked(samples, f"read {path.name}", len(samples), config.progress)
        try:
            stores.append(store_images(read, names, config.side_px))
        except ValueError as error:
            raise UnreadableFileError(f"{path} cannot be learned from: {error}") from error
        names = stores[0].names
        held = _samples(path, "val", config.split_file)
        share = -(-config.validation_images // len(config.data))
        chosen = np.unique(np.linspace(0, len(held) - 1, min(share, len(held))).astype(int))
        watched += [held[index] for index in chosen.tolist()]
    if not watched:
        raise UnreadableFileError("No set has images in its val split; export with --split.")
    validation = store_images(watched, names, config.side_px)
    subjects = {subject for store in stores for subject in store.subjects}
    both = sorted(subjects & set(validation.subjects))
    if both:
        raise SplitOverlapError(f"{both[0]} is in the train split of one set and val of another.")
    return stores, validation


def _samples(path: Path, split: str, split_file: Path | None) -> "Sequence[Sample]":
    """The samples of a split, as the set says or a file."""
    from XraySynthLib.data.sets import LazySamples, open_set

    if split_file is None:
        return open_set(path, split)
    splits, samples = read_split_file(split_file), open_set(path)
    there = [n for n, one in enumerate(samples) if splits.get(one.provenance.subject) == split]
    return LazySamples(there, samples.__getitem__)
