"""`xraysynth train xray`: exported sets -> a sampler of X-rays.

The same command again goes on from the last checkpoint.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.errors import UnreadableFileError, UsageError
from XraySynthLib.workflows.config import DeviceConfig, config_to_dict
from XraySynthLib.workflows.packages import need_torch_packages
from XraySynthLib.workflows.progress import tracked
from XraySynthLib.workflows.subjects import SubjectFolder, find_subjects
from XraySynthLib.workflows.workers import usable_cpus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from XraySynthLib.data import Sample
    from XraySynthLib.diffusion.examples import Examples
    from XraySynthLib.diffusion.model import Sampler, SamplerConfig
    from XraySynthLib.diffusion.network import NetworkConfig
    from XraySynthLib.diffusion.plausibility import LandmarkPrior
    from XraySynthLib.diffusion.store import Pelvis, XrayStore
    from XraySynthLib.geometry import View
    from XraySynthLib.training.loop import TrainingState
    from XraySynthLib.training.run_folder import RunFolder

NOT_OF_THE_RUN = ("dry_run", "progress", "device", "workers", "threads", "output")
"""Options that may differ when a run goes on."""
PRESETS: Mapping[str, dict[str, Any]] = {
    "compact": {"side_px": 128, "cell_px": 2, "channels": (32, 64, 96, 128), "layers": 1},
    "full": {"side_px": 512, "cell_px": 4, "channels": (192, 384, 576, 768), "layers": 2},
}
MODEL_FOLDER, MAPS_FOLDER = "model", "maps"
SAMPLES_PICTURE = "samples.png"
VALIDATION_SEED = 0x7A11D
N_PICTURES = 6
N_JUDGED = 400
"""Training images from which the limits of what is plausible are taken."""


@dataclass(frozen=True, kw_only=True)
class TrainXrayConfig(DeviceConfig):
    """Train a sampler of X-rays on exported sets.

    The same command again goes on where it ended. OUTPUT/model is the sampler.

    Attributes:
        data: Sets that `export` made, or others in a known layout with views; their "train" split
            is learned from, "val" is watched. All line integrals, best without noise, scatter and
            collimation, which `sample` adds; or all display images.
        output: Folder of the run.
        condition: view: images with their own landmarks, told the view alone. anatomy: images of
            bones and landmarks that are known beforehand.
        subjects: Folders of the subjects that the sets show, with label maps; for anatomy.
        weights: How often each set is drawn from, in the order of --data; by default alike.
        start: Folder of a sampler to begin with, of the same sizes; its condition may differ.
        images: How many images are shown in all.
        preset: compact: 128 px, a network that a laptop's processor can use. full: 512 px, for a
            GPU.
        side_px: Rows and columns of the images, instead of the preset's.
        channels: Features at each level of the network, instead of the preset's.
        batch_images: Images of a step.
        learning_rate: The greatest.
        weight_decay: Of AdamW.
        warmup_images: How long the learning rate rises.
        average_images: Half-life of the weights' average.
        check_images: After so many images: validation, pictures, a checkpoint.
        validation_images: Images to validate on, at most.
        precision: auto is bf16 where the device is fast at it.
        workers: Threads that make images ready.
        threads: Of torch; 0 for one a processor.
        name: Of the model.
    """

    data: tuple[Path, ...]
    output: Path
    condition: Literal["view", "anatomy"]
    subjects: tuple[Path, ...] = ()
    weights: tuple[float, ...] = ()
    start: Path | None = None
    images: int = 28_000
    preset: Literal["compact", "full"] = "compact"
    side_px: int | None = None
    channels: tuple[int, ...] | None = None
    batch_images: int = 8
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    warmup_images: int = 2_000
    average_images: int = 1_500
    check_images: int = 2_000
    validation_images: int = 128
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    workers: int = 1
    threads: int = 0
    name: str = "pelvis-xray"


def check_inputs(config: TrainXrayConfig) -> None:
    """Refuse what cannot be trained, before anything is read.

    Raises:
        XraySynthError: Saying what to change.
    """
    if not config.data:
        raise UsageError("--data needs a set.")
    if config.weights and (
        len(config.weights) != len(config.data)
        or min(config.weights) < 0
        or not 0 < sum(config.weights) < np.inf
    ):
        raise UsageError(
            f"--weights needs a number of 0 or more for each of the {len(config.data)} sets."
        )
    for name in ("images", "batch_images", "check_images", "validation_images"):
        if getattr(config, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be 1 or more.")
    if not 0 <= config.warmup_images < config.images or not 0 < config.learning_rate < np.inf:
        raise UsageError("--warmup-images must be below --images, --learning-rate above 0.")
    if not 0 <= config.weight_decay < np.inf:
        raise UsageError("--weight-decay must be 0 or more.")
    if config.batch_images > config.images:
        raise UsageError("--batch-images is more than --images.")
    if min(config.workers, config.threads, config.seed, config.average_images) < 0:
        raise UsageError("--workers, --threads, --seed and --average-images must be 0 or more.")
    if (config.condition == "anatomy") != bool(config.subjects):
        raise UsageError(
            "--condition anatomy needs --subjects, the folders of the subjects in the sets."
            if config.condition == "anatomy"
            else "--subjects is for --condition anatomy; leave it out."
        )
    for path in config.data:
        if not path.exists():
            raise UnreadableFileError(f"--data {path} does not exist.")
    for path in config.subjects:
        find_subjects(path)
    if config.start is not None and not (config.start / "config.json").is_file():
        raise UnreadableFileError(f"--start {config.start} holds no X-ray sampler.")
    need_torch_packages("Training", "diffusers", "accelerate", "tensorboard")
    from XraySynthLib.training.run_folder import check_run_folder

    network_config(config, 1)
    check_run_folder(config.output, _options(config))


def network_config(config: TrainXrayConfig, n_landmarks: int) -> "NetworkConfig":
    """The network that the options ask for.

    Raises:
        UsageError: If its sizes do not fit each other.
    """
    from XraySynthLib.diffusion.network import NetworkConfig

    sizes = dict(PRESETS[config.preset])
    if config.side_px is not None:
        sizes["side_px"] = config.side_px
    if config.channels is not None:
        sizes["channels"] = config.channels
    try:
        return NetworkConfig(config.condition, n_landmarks, **sizes)
    except ValueError as error:
        raise UsageError(f"--side-px or --channels: {error}") from error


def run(config: TrainXrayConfig) -> Path:
    """Train; returns the model's folder.

    Raises:
        XraySynthError: If options, sets or the checkpoint cannot be used.
    """
    check_inputs(config)
    import cv2
    import torch
    from accelerate import Accelerator
    from accelerate.utils import set_seed

    from XraySynthLib.diffusion.learning import learn, new_state
    from XraySynthLib.diffusion.network import begin_with
    from XraySynthLib.training.precision import device_of, mixed_precision
    from XraySynthLib.training.run_folder import RunFolder
    from XraySynthLib.training.schedule import Schedule
    from XraySynthLib.workflows.training_watch import Watch

    device = device_of(config.device)
    torch.set_num_threads(config.threads or usable_cpus())
    cv2.setNumThreads(1)  # its threads would only get in the way of ours
    set_seed(config.seed)
    stores, watched = read_sets(config)
    everybody, prior = people_of(config, stores, watched)
    network = network_config(config, len(watched.names))
    start = None if config.start is None else _load_start(config.start, watched)
    state = new_state(network, config.seed, config.average_images, config.weight_decay)
    if start is not None:
        try:
            for model in (state.model, state.average.model):
                begin_with(model, start.network)
        except ValueError as error:
            raise UsageError(
                f"--start {config.start} is of another size than the options say."
            ) from error
    folder = RunFolder(config.output, _options(config))
    bones = bones_of(config, [*stores, watched], everybody)
    examples, validation = (
        _examples(config, sources, everybody, prior, network, bones[part])
        for sources, part in ((stores, slice(0, -1)), ([watched], slice(-1, None)))
    )
    folder.restore(state)
    arithmetic = {"auto": mixed_precision(device), "bf16": "bf16", "fp32": "no"}[config.precision]
    accelerator = Accelerator(mixed_precision=arithmetic, cpu=device.type == "cpu")
    state.average.model.to(accelerator.device)
    state.model, state.optimizer = accelerator.prepare(state.model, state.optimizer)
    document = _document(config, network, stores, watched, everybody)
    if start is not None:
        people = {*document.people, *start.config.people}
        document = replace(document, people=tuple(sorted(people)))

    def look() -> dict[str, float]:
        return _look(config, folder, state, validation, document, prior)

    watch = Watch(folder, state, accelerator, config.check_images, look)
    schedule = Schedule(config.learning_rate, config.images, config.warmup_images)
    steps = learn(state, examples, schedule, config.batch_images, accelerator, config.workers)
    left = config.images - state.images
    for step in tracked(steps, "train", left, config.progress, lambda _: config.batch_images):
        watch.note(step)
    watch.close()
    if not (config.output / MODEL_FOLDER / "config.json").is_file():
        look()  # it was removed, or written half
    return config.output / MODEL_FOLDER


def read_sets(config: TrainXrayConfig) -> "tuple[list[XrayStore], XrayStore]":
    """The images to learn from, a store a set, and those to validate on.

    Raises:
        UnreadableFileError: If a set has no images to learn from, or none can be validated on.
        SplitOverlapError: If somebody validated on is learned from.
    """
    from XraySynthLib.data.sets import SplitOverlapError, open_set
    from XraySynthLib.diffusion.store import store_images

    side_px = network_config(config, 1).side_px
    names: tuple[str, ...] | None = None
    stores: list[XrayStore] = []
    watched: list[Sample] = []
    for path in config.data:
        samples: Sequence[Sample] = open_set(path, "train")
        if not len(samples):
            raise UnreadableFileError(f"{path} has no images in its train split.")
        read = tracked(samples, f"read {path.name}", len(samples), config.progress)
        try:
            stores.append(store_images(read, names, side_px))
        except ValueError as error:
            reason = str(error).rstrip(".")
            raise UnreadableFileError(f"{path} cannot be learned from: {reason}.") from error
        names = stores[0].names
        watched += open_set(path, "val")
    if not watched:
        raise UnreadableFileError("No set has images in its val split; export with --split.")
    try:
        validation = store_images(watched, names, side_px)
    except ValueError as error:
        raise UnreadableFileError(f"The val images cannot be used: {error}.") from error
    if len({store.quantity for store in (*stores, validation)}) > 1:
        raise UnreadableFileError(
            "Some sets are of line integrals, others of display images; name sets of one quantity."
        )
    subjects = {subject for store in stores for subject in store.subjects}
    both = sorted(subjects & set(validation.subjects))
    if both:
        raise SplitOverlapError(f"{both[0]} is in the train split of one set and val of another.")
    return stores, validation


def _load_start(path: Path, watched: "XrayStore") -> "Sampler":
    """The sampler to begin with.

    Raises:
        UnreadableFileError: If it cannot be read.
        UsageError: If its images are of another quantity than the sets', or its landmarks.
    """
    from XraySynthLib.diffusion.model import load_sampler

    start = load_sampler(path)
    if start.config.quantity != watched.quantity.value:
        raise UsageError(f"--start {path} makes {start.config.quantity}, the sets are of others.")
    if start.config.landmark_names != watched.names:
        raise UsageError(f"--start {path} has other landmarks than the sets.")
    return start


def people_of(
    config: TrainXrayConfig, stores: "Sequence[XrayStore]", watched: "XrayStore"
) -> "tuple[dict[str, Pelvis], LandmarkPrior]":
    """Everybody's pelvis, and what the landmarks of those learned from are like.

    Raises:
        UnreadableFileError: If somebody's pelvis cannot be found from the images.
    """
    from XraySynthLib.data.pelvis import partners_of
    from XraySynthLib.diffusion.plausibility import (
        fit_pelvis,
        landmark_prior,
        misread,
        with_limits,
    )
    from XraySynthLib.diffusion.store import pelves_of

    try:
        learned = pelves_of(stores)
        everybody = pelves_of([watched]) | learned
        points_mm = np.stack([pelvis.points_mm for pelvis in learned.values()])
        prior = landmark_prior(points_mm, partners_of(watched.names))
    except ValueError as error:
        raise UnreadableFileError(f"--data cannot be learned from: {error}.") from error
    places = [(store, index) for store in stores for index in range(len(store))]
    rng = np.random.default_rng((config.seed, VALIDATION_SEED))
    fits = []
    for number in rng.permutation(len(places))[:N_JUDGED].tolist():
        store, index = places[number]
        view, center = store.views[index], everybody[store.subjects[index]].center_ras_mm
        read = misread(store.points_px[index], store.visible[index], view, center, rng)
        fits.append(fit_pelvis(prior, view, center, read))
    return everybody, with_limits(prior, fits)


def bones_of(
    config: TrainXrayConfig, stores: "Sequence[XrayStore]", everybody: "Mapping[str, Pelvis]"
) -> "list[list[NDArray]]":
    """The bones that each image of each store goes with; kept in files of the run.

    They are those that the image shows, or with "view" the mean pelvis' at the same place.

    Raises:
        UnreadableFileError: If somebody in the sets is not in --subjects, or has no label map.
    """
    folders = {one.name: one for path in config.subjects for one in find_subjects(path)}
    found: list[list[NDArray]] = []
    kept = config.output / MAPS_FOLDER
    kept.mkdir(exist_ok=True)
    groups = [(store, name) for store in stores for name in dict.fromkeys(store.subjects)]
    maps: dict[tuple[int, str], Iterator[NDArray]] = {}
    for store, name in tracked(groups, "project bones", len(groups), config.progress):
        views = [view for view, own in zip(store.views, store.subjects, strict=True) if own == name]
        if config.condition == "view":
            maps[id(store), name] = iter(_mean_bones(kept, everybody[name].center_ras_mm, views))
            continue
        if name not in folders or folders[name].labels is None:
            raise UnreadableFileError(
                f"{name} is in a set, but in no folder of --subjects with a label map."
            )
        maps[id(store), name] = iter(_bones_of_subject(kept, folders[name], views))
    for store in stores:
        found.append([next(maps[id(store), name]) for name in store.subjects])
    return found


def _bones_of_subject(folder: Path, subject: SubjectFolder, views: "Sequence[View]") -> NDArray:
    """(V, bones, rows, columns) of a subject at views, from a file where it is there."""
    from XraySynthLib.data.formats import read_labels
    from XraySynthLib.diffusion.anatomy_maps import bone_maps

    path = subject.labels
    assert path is not None

    def make() -> NDArray:
        try:
            return bone_maps(*read_labels(path), views)
        except ValueError as error:
            raise UnreadableFileError(f"{path} cannot be projected: {error}") from error

    return _kept(folder, path.read_bytes(), views, make)


def _mean_bones(folder: Path, center_ras_mm: NDArray, views: "Sequence[View]") -> NDArray:
    """(V, bones, rows, columns) of the mean pelvis at views, from a file where it is there."""
    from XraySynthLib.diffusion.anatomy_maps import mean_bone_maps

    return _kept(
        folder, center_ras_mm.tobytes(), views, lambda: mean_bone_maps(center_ras_mm, views)
    )


def _kept(
    folder: Path, of: bytes, views: "Sequence[View]", make: "Callable[[], NDArray]"
) -> NDArray:
    """What `make` makes of bones at views, from a file where it is there; it stays on the disk."""
    from XraySynthLib.data.formats import atomic_path

    inputs = hashlib.sha256(of)
    inputs.update(json.dumps([view.to_dict() for view in views]).encode())
    path = folder / f"{inputs.hexdigest()[:32]}.npy"
    if not path.is_file():
        made = make()
        with atomic_path(path) as temporary:
            np.save(temporary, made, allow_pickle=False)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _examples(
    config: TrainXrayConfig,
    stores: "Sequence[XrayStore]",
    everybody: "Mapping[str, Pelvis]",
    prior: "LandmarkPrior",
    network: "NetworkConfig",
    bones: "Sequence[Sequence[NDArray]]",
) -> "Examples":
    from XraySynthLib.diffusion.examples import Examples

    weights = config.weights if len(stores) == len(config.weights) else [1.0] * len(stores)
    return Examples(stores, weights, everybody, prior.mean_mm, network, config.seed, bones)


def _document(
    config: TrainXrayConfig,
    network: "NetworkConfig",
    stores: "Sequence[XrayStore]",
    watched: "XrayStore",
    everybody: "Mapping[str, Pelvis]",
) -> "SamplerConfig":
    """What the model is, but for what it has learned so far."""
    from XraySynthLib.diffusion.model import (
        SamplerConfig,
        directions_of,
        field_deg,
        place_mm,
        roll_deg,
    )
    from XraySynthLib.diffusion.store import WINDOWS

    views = [view for store in stores for view in store.views]
    fields = [field_deg(view.intrinsics) for view in views]
    rolls = [roll_deg(view) for view in views]
    centers = [everybody[name].center_ras_mm for store in stores for name in store.subjects]
    places = np.stack([place_mm(*one) for one in zip(views, centers, strict=True)])
    limits = np.stack([np.floor(places.min(axis=0)), np.ceil(places.max(axis=0))], axis=1)
    return SamplerConfig(
        name=config.name,
        landmark_names=watched.names,
        network=network,
        quantity=watched.quantity.value,
        window=WINDOWS[watched.quantity],
        directions_deg=directions_of(views),
        rolls_deg=(float(np.floor(min(rolls))), float(np.ceil(max(rolls)))),
        places_mm=tuple(tuple(one) for one in limits.tolist()),
        fields_deg=(min(fields), max(fields)),
        kvp=tuple(sorted({int(kvp) for store in stores for kvp in store.kvp if kvp is not None})),
        people=tuple(sorted(set(watched.people).union(*(store.people for store in stores)))),
        training={
            **_options(config),
            "data": [path.name for path in config.data],
            "start": config.start and config.start.name,
            "subjects": [path.name for path in config.subjects],
            "set_images": sum(map(len, stores)),
        },
    )


def _look(
    config: TrainXrayConfig,
    folder: "RunFolder",
    state: "TrainingState",
    validation: "Examples",
    document: "SamplerConfig",
    prior: "LandmarkPrior",
) -> dict[str, float]:
    """Validate, write a picture and the model so far; returns the losses."""
    import torch
    from torch.utils.data import default_collate

    from XraySynthLib.diffusion.learning import loss_for
    from XraySynthLib.diffusion.model import save_sampler

    network = state.average.model
    device = next(network.parameters()).device
    loss_of = loss_for(document.network.n_image)
    n_held = min(config.validation_images, len(validation.stores[0]))
    losses: list[dict[str, float]] = []
    with torch.inference_mode():
        for first in range(0, n_held, config.batch_images):
            numbers = range(first, min(first + config.batch_images, n_held))
            entries = [validation[number] for number in numbers]
            batch = {name: one.to(device) for name, one in default_collate(entries).items()}
            loss, parts = loss_of(network, batch)
            losses.append({"loss": float(loss), **{k: float(v) for k, v in parts.items()}})
    scores = {name: round(float(np.mean([one[name] for one in losses])), 6) for name in losses[0]}
    training = {**document.training, "images_seen": state.images, **scores}
    document = replace(document, training=training)
    save_sampler(document, network, prior, folder.path / MODEL_FOLDER)
    _draw(document, network, prior, validation, folder.path / SAMPLES_PICTURE)
    return scores


def _draw(
    document: "SamplerConfig",
    network: Any,
    prior: "LandmarkPrior",
    validation: "Examples",
    path: Path,
) -> None:
    """Draw images of others above what the network makes at their views."""
    import torch

    from XraySynthLib.diffusion.model import Sampler
    from XraySynthLib.diffusion.store import from_network
    from XraySynthLib.workflows.training_figures import write_sample_picture

    store = validation.stores[0]
    chosen = np.unique(np.linspace(0, len(store) - 1, N_PICTURES).astype(int)).tolist()
    told = [validation.told(0, index) for index in chosen]
    device = next(network.parameters()).device
    made = Sampler(document, network, prior, device=device).make(
        torch.stack([one["maps"] for one in told]),
        torch.stack([one["features"] for one in told]),
        [(VALIDATION_SEED, index) for index in chosen],
    )
    true_px = np.where(store.visible[chosen, :, None], store.points_px[chosen], np.nan)
    made_px = true_px
    if made.points_px is not None and made.confidence is not None:
        made_px = np.where(made.confidence[..., None] >= 0.5, made.points_px, np.nan)
    real = from_network(store.images[chosen].astype(np.float32), document.window)
    write_sample_picture(store.names, (real, true_px), (made.images, made_px), path)


def _options(config: TrainXrayConfig) -> dict[str, Any]:
    return {
        name: value for name, value in config_to_dict(config).items() if name not in NOT_OF_THE_RUN
    }
