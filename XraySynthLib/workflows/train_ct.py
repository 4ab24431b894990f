"""`xraysynth train ct`: CTs with labels -> a CT generator.

Three networks, one after the other: the autoencoder, then, on what it makes of every CT, the flow
of latents and the refiner. The same command again goes on from the last checkpoint.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from XraySynthLib.errors import UnreadableFileError, UsageError
from XraySynthLib.workflows.config import DeviceConfig, config_to_dict
from XraySynthLib.workflows.packages import need_torch_packages
from XraySynthLib.workflows.progress import tracked
from XraySynthLib.workflows.subjects import find_subjects
from XraySynthLib.workflows.workers import usable_cpus

if TYPE_CHECKING:
    from torch import nn

    from XraySynthLib.ct.examples import Coded, Crops
    from XraySynthLib.ct.store import TrainingVolume
    from XraySynthLib.training.loop import TrainingState

STAGES = ("autoencoder", "latents", "refiner")
NOT_OF_THE_RUN = ("dry_run", "progress", "device", "workers", "threads", "output", "stage")
PRESETS: Mapping[str, dict[str, tuple[int, ...] | int]] = {
    "compact": {},
    "full": {
        "kind_channels": 12,
        "autoencoder_channels": (64, 128),
        "head_channels": 64,
        "diffusion_channels": (128, 256, 384),
        "refiner_channels": (64, 128),
    },
}
"""Sizes of the networks beside `NetworkConfig`'s own: full is for a GPU of 16 to 24 GB."""
VALIDATION_SHARE = 0.08
VALIDATION_SEED = 0x7A11D
N_VALIDATION_CROPS = 24
CODES_FOLDER, MODEL_FOLDER, DATA_NAME = "codes", "model", "data.json"


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
    if config.warmup_crops < 0 or config.learning_rate <= 0:
        raise UsageError("--warmup-crops must be 0 or more, --learning-rate above 0.")
    if min(config.workers, config.threads, config.seed, config.average_crops) < 0:
        raise UsageError("--workers, --threads, --seed and --average-crops must be 0 or more.")
    if config.output.exists() and not config.output.is_dir():
        raise UsageError(f"--output {config.output} is a file; name a folder.")
    for folder in config.data:
        without = [one.name for one in find_subjects(folder) if one.labels is None]
        if without:
            raise UnreadableFileError(f"{folder}: {without[0]} has no label map.")
    need_torch_packages("Training", "einops", "accelerate", "tensorboard")
    from XraySynthLib.training.run_folder import check_run_folder

    for stage in STAGES:
        check_run_folder(config.output / stage, _options(config))


def run(config: TrainCtConfig) -> Path:
    """Train; returns the model's folder.

    Raises:
        XraySynthError: If options, CTs or a checkpoint cannot be used.
    """
    check_inputs(config)
    import torch

    torch.set_num_threads(config.threads or usable_cpus())
    trainer = _Trainer(config)
    stages = STAGES if config.stage == "all" else (config.stage,)
    if "autoencoder" in stages:
        trainer.train_autoencoder()
    if "latents" in stages:
        trainer.train_latents()
    if "refiner" in stages:
        trainer.train_refiner()
    return trainer.write_model()


class _Trainer:
    """The data, the networks' sizes, and the three stages."""

    def __init__(self, config: TrainCtConfig) -> None:
        from XraySynthLib.ct.networks import NetworkConfig
        from XraySynthLib.ct.tissues import KINDS, SCALARS

        self.config = config
        self.sizes = NetworkConfig(len(KINDS), len(SCALARS), **PRESETS[config.preset])  # type: ignore[arg-type]
        self.volumes, self.watched, self.people = read_volumes(config)
        _check_data(config, [*self.volumes, *self.watched])
        self.codes: tuple[list[Coded], list[Coded]] | None = None

    def train_autoencoder(self) -> None:
        """Stage one."""
        from XraySynthLib.ct.examples import Crops
        from XraySynthLib.ct.learning import autoencoder_loss
        from XraySynthLib.ct.networks import Autoencoder

        side = self.config.autoencoder_side
        crops = Crops(self.volumes, side, self.config.seed)
        watched = Crops(self.watched, side, VALIDATION_SEED)
        self._train("autoencoder", Autoencoder(self.sizes), crops, watched, autoencoder_loss)

    def train_latents(self) -> None:
        """Stage two, on the autoencoder's codes."""
        from XraySynthLib.ct.learning import latent_loss
        from XraySynthLib.ct.networks import latent_flow

        crops, watched = self._coded_crops(self.config.latents_side)
        self._train("latents", latent_flow(self.sizes), crops, watched, latent_loss)

    def train_refiner(self) -> None:
        """Stage three, on what the autoencoder leaves out."""
        from XraySynthLib.ct.learning import refiner_loss
        from XraySynthLib.ct.networks import refiner_flow

        crops, watched = self._coded_crops(self.config.refiner_side)
        scale = self._scales()["residual_scale"]
        self._train("refiner", refiner_flow(self.sizes), crops, watched, refiner_loss(scale))

    def _train(
        self,
        stage: str,
        network: "nn.Module",
        crops: "Crops",
        watched: "Crops",
        loss_of: Callable[..., Any],
    ) -> None:
        import torch
        from accelerate import Accelerator
        from accelerate.utils import set_seed
        from torch.utils.data import default_collate

        from XraySynthLib.ct.learning import new_state
        from XraySynthLib.training.batches import batches
        from XraySynthLib.training.loop import train
        from XraySynthLib.training.precision import device_of, mixed_precision
        from XraySynthLib.training.run_folder import RunFolder
        from XraySynthLib.training.schedule import Schedule
        from XraySynthLib.workflows.training_watch import Watch

        config = self.config
        device = device_of(config.device)
        state = new_state(network, config.average_crops)
        folder = RunFolder(config.output / stage, _options(config))
        folder.restore(state)
        total = getattr(config, f"{stage}_crops")
        if state.images >= total:
            return
        set_seed(config.seed + state.images)
        arithmetic = {"auto": mixed_precision(device), "bf16": "bf16", "fp32": "no"}
        accelerator = Accelerator(
            mixed_precision=arithmetic[config.precision], cpu=device.type == "cpu"
        )
        state.average.model.to(accelerator.device)
        state.model, state.optimizer = accelerator.prepare(state.model, state.optimizer)
        held = [
            default_collate([watched[n] for n in range(first, first + config.batch_crops)])
            for first in range(0, N_VALIDATION_CROPS, config.batch_crops)
        ]

        def look() -> dict[str, float]:
            with torch.no_grad(), torch.random.fork_rng():
                torch.manual_seed(VALIDATION_SEED)
                losses = [
                    loss_of(state.average.model, {k: v.to(device) for k, v in batch.items()})
                    for batch in held
                ]
            self._show(stage, state, held[0], folder.path / "samples.png")
            parts = {name: [float(one[1][name]) for one in losses] for name in losses[0][1]}
            parts["loss"] = [float(one[0]) for one in losses]
            return {name: round(float(np.mean(values)), 6) for name, values in parts.items()}

        watch = Watch(folder, state, accelerator, config.check_crops, look)
        processes = accelerator.num_processes
        numbers = range(state.images + accelerator.process_index, total, processes)
        loader = batches(
            crops.__getitem__,
            numbers,
            config.batch_crops // processes,
            max(config.workers, 1),
            accelerator.device,
        )
        schedule = Schedule(config.learning_rate, total, config.warmup_crops)
        steps = train(state, loader, loss_of, schedule, config.batch_crops, accelerator)
        left = total - state.images
        for step in tracked(steps, stage, left, config.progress, lambda _: config.batch_crops):
            watch.note(step)
        watch.close()

    def _show(self, stage: str, state: "TrainingState", batch: dict, path: Path) -> None:
        """Draw validation crops beside what the network makes of them."""
        import torch

        from XraySynthLib.ct.intensity import UNIT_HU
        from XraySynthLib.ct.networks import from_blocks, to_blocks
        from XraySynthLib.training.flow import sampled
        from XraySynthLib.workflows.training_figures import write_crop_picture

        model = state.average.model
        device = next(model.parameters()).device
        values, kinds = batch["values"].to(device), batch["kinds"].to(device)
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(VALIDATION_SEED)
            if stage == "autoencoder":
                made = model(values, kinds)[0]
            elif stage == "latents":
                scalars, real = batch["scalars"].to(device), batch["latents"]
                latents = sampled(
                    lambda x, t: model(x, t, kinds, scalars), torch.randn_like(real).to(device), 8
                )
                scales = self._scales()
                mean, deviation = (
                    torch.tensor(scales[name], device=device)[None, :, None, None, None]
                    for name in ("latent_mean", "latent_deviation")
                )
                made = self._autoencoder().to(device).decode(latents * deviation + mean, kinds)
            else:
                scalars, guess = batch["scalars"].to(device), batch["guess"].to(device)
                blocks = to_blocks(guess)
                residual = sampled(
                    lambda x, t: model(x, t, kinds, scalars, blocks), torch.randn_like(blocks), 8
                )
                made = guess + from_blocks(residual) * self._scales()["residual_scale"]
        pairs = [UNIT_HU * one[:, 0].cpu().numpy() for one in (values, made)]
        write_crop_picture(pairs[0], pairs[1], path)

    def _autoencoder(self) -> Any:
        """The trained autoencoder.

        Raises:
            UsageError: If it is not trained to its end.
        """
        from XraySynthLib.ct.networks import Autoencoder

        return self._trained("autoencoder", Autoencoder(self.sizes))

    def _trained(self, stage: str, network: "nn.Module") -> Any:
        """The averaged weights of a stage's last checkpoint."""
        from XraySynthLib.ct.learning import new_state
        from XraySynthLib.training.run_folder import RunFolder

        state = new_state(network, self.config.average_crops)
        folder = RunFolder(self.config.output / stage, _options(self.config))
        folder.restore(state)
        if stage == "autoencoder" and state.images < self.config.autoencoder_crops:
            raise UsageError(
                "The autoencoder is not trained to its end; run without --stage, or with --stage "
                "autoencoder, first."
            )
        return state.average.model.eval()

    def _coded_crops(self, side: int) -> tuple["Crops", "Crops"]:
        from XraySynthLib.ct.examples import Crops

        learned, watched = self._codes()
        return (
            Crops(self.volumes, side, self.config.seed, learned),
            Crops(self.watched, side, VALIDATION_SEED, watched),
        )

    def _codes(self) -> tuple[list["Coded"], list["Coded"]]:
        """What the autoencoder makes of every volume; kept in files."""
        if self.codes is None:
            from XraySynthLib.ct.examples import Coded
            from XraySynthLib.ct.learning import coded
            from XraySynthLib.data.formats import atomic_path

            scales = self._scales()
            folder = self.config.output / CODES_FOLDER
            autoencoder = self._autoencoder()
            everything = [*self.volumes, *self.watched]
            codes = []
            steps = tracked(everything, "encode", len(everything), self.config.progress)
            for index, volume in enumerate(steps):
                path = folder / f"{index:05d}.npz"
                if not path.exists():
                    scale = scales["latent_mean"], scales["latent_deviation"]
                    made = coded(autoencoder, volume, scale)
                    with atomic_path(path) as temporary, temporary.open("wb") as file:
                        np.savez(file, latents=made.latents, guesses=made.guesses)
                with np.load(path) as arrays:
                    codes.append(Coded(arrays["latents"], arrays["guesses"]))
            self.codes = codes[: len(self.volumes)], codes[len(self.volumes) :]
        return self.codes

    def _scales(self) -> dict[str, Any]:
        """Scales of latents and residuals, measured once on some of the volumes."""
        from XraySynthLib.ct.learning import coded, latent_scale, raw_latents, residual_scale
        from XraySynthLib.data.formats import atomic_path

        path = self.config.output / CODES_FOLDER / "scales.json"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            autoencoder = self._autoencoder()
            chosen = self.volumes[:: max(len(self.volumes) // 12, 1)]
            mean, deviation = latent_scale([raw_latents(autoencoder, v.values_hu) for v in chosen])
            codes = [coded(autoencoder, volume, (mean, deviation)) for volume in chosen[:6]]
            document = {
                "latent_mean": mean,
                "latent_deviation": deviation,
                "residual_scale": residual_scale(chosen[:6], codes),
            }
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(document), "utf-8")
        return json.loads(path.read_text("utf-8"))

    def write_model(self) -> Path:
        """Write the generator, once all three networks have been trained for a while."""
        from XraySynthLib.ct.model import GeneratorConfig, save_generator
        from XraySynthLib.ct.networks import latent_flow, refiner_flow
        from XraySynthLib.ct.quality import least_agreement, tissue_hu
        from XraySynthLib.ct.tissues import KIND_NAMES, SCALARS

        folder = self.config.output / MODEL_FOLDER
        if not all((self.config.output / stage / "checkpoint").exists() for stage in STAGES):
            return folder
        scales = self._scales()
        middle, spread = SCALARS["spacing_mm"]
        spacings = [float(v.scalars[0]) * spread + middle for v in self.volumes]
        document = GeneratorConfig(
            name=self.config.name,
            networks=self.sizes,
            kinds=KIND_NAMES,
            scalars=tuple(SCALARS),
            latent_mean=tuple(scales["latent_mean"]),
            latent_deviation=tuple(scales["latent_deviation"]),
            residual_scale=scales["residual_scale"],
            spacing_mm=(round(min(spacings), 4), round(max(spacings), 4)),
            tissue_hu=tissue_hu(self.volumes),
            least_agreement=least_agreement(self.volumes),
            people=tuple(self.people),
            training={
                **_options(self.config),
                "data": [path.name for path in self.config.data],
                "volumes": len(self.volumes),
            },
        )
        networks = {
            "autoencoder": self._autoencoder(),
            "latents": self._trained("latents", latent_flow(self.sizes)),
            "refiner": self._trained("refiner", refiner_flow(self.sizes)),
        }
        save_generator(document, networks, folder)
        return folder


def read_volumes(
    config: TrainCtConfig,
) -> "tuple[list[TrainingVolume], list[TrainingVolume], list[str]]":
    """CTs to learn from, those to watch (other subjects), and everybody behind them.

    Raises:
        UnreadableFileError: If one cannot be learned from.
    """
    from XraySynthLib.ct.store import training_volume

    subjects = [(folder, one) for folder in config.data for one in find_subjects(folder)]
    volumes, people = [], set()
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
        people |= {subject.name, *subject.derived_from}
    if len(volumes) < 2:
        raise UnreadableFileError("Training needs two subjects or more: one is watched.")
    n_watched = max(round(VALIDATION_SHARE * len(volumes)), 1)
    order = np.random.default_rng(config.seed).permutation(len(volumes)).tolist()
    watched = [volumes[index] for index in sorted(order[:n_watched])]
    learned = [volumes[index] for index in sorted(order[n_watched:])]
    return learned, watched, sorted(people)


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
