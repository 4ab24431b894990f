"""The three trainings behind `train ct`: autoencoder, flow of latents, refiner."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import default_collate

from XraySynthLib.ct import PARTS
from XraySynthLib.ct.examples import Coded, Crops
from XraySynthLib.ct.intensity import UNIT_HU
from XraySynthLib.ct.learning import (
    autoencoder_loss,
    coded,
    latent_loss,
    latent_scale,
    new_state,
    raw_latents,
    refiner_loss,
    residual_scale,
)
from XraySynthLib.ct.model import Generator, GeneratorConfig, save_generator
from XraySynthLib.ct.networks import (
    Autoencoder,
    NetworkConfig,
    from_blocks,
    latent_flow,
    refiner_flow,
    to_blocks,
)
from XraySynthLib.ct.quality import least_agreement, tissue_hu
from XraySynthLib.ct.quantiles import QuantileMap, quantile_maps
from XraySynthLib.ct.store import TrainingVolume
from XraySynthLib.ct.tissues import KIND_NAMES, KINDS, SCALARS
from XraySynthLib.data.formats import atomic_path
from XraySynthLib.errors import UsageError
from XraySynthLib.training.batches import batches
from XraySynthLib.training.flow import sampled
from XraySynthLib.training.loop import TrainingState, train
from XraySynthLib.training.precision import device_of, mixed_precision
from XraySynthLib.training.run_folder import RunFolder
from XraySynthLib.training.schedule import Schedule
from XraySynthLib.workflows.progress import tracked
from XraySynthLib.workflows.training_figures import write_crop_picture
from XraySynthLib.workflows.training_watch import Watch

if TYPE_CHECKING:
    from XraySynthLib.workflows.train_ct import TrainCtConfig

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
VALIDATION_SEED = 0x7A11D
N_VALIDATION_CROPS = 24
N_MAPPED = 12
"""So many CTs or a few more, until every kind of tissue is in one, are behind the quantile maps."""
CODES_FOLDER, MODEL_FOLDER = "codes", "model"


class CtTraining:
    """The data, the networks' sizes, and the three stages.

    Args:
        config: What was asked for.
        options: Of it, those that a run that goes on must share.
        volumes: To learn from.
        watched: To validate on.
        people: Everybody behind all of them.
    """

    def __init__(
        self,
        config: "TrainCtConfig",
        options: dict[str, Any],
        volumes: list[TrainingVolume],
        watched: list[TrainingVolume],
        people: list[str],
    ) -> None:
        self.config, self.options = config, options
        self.volumes, self.watched, self.people = volumes, watched, people
        self.sizes = NetworkConfig(len(KINDS), len(SCALARS), **PRESETS[config.preset])  # type: ignore[arg-type]
        self.codes: tuple[list[Coded], list[Coded]] | None = None

    def train_autoencoder(self) -> None:
        """Stage one."""
        side = self.config.autoencoder_side
        crops = Crops(self.volumes, side, self.config.seed)
        watched = Crops(self.watched, side, VALIDATION_SEED)
        self._train("autoencoder", Autoencoder(self.sizes), crops, watched, autoencoder_loss)

    def train_latents(self) -> None:
        """Stage two, on the autoencoder's codes."""
        crops, watched = self._coded_crops(self.config.latents_side)
        self._train("latents", latent_flow(self.sizes), crops, watched, latent_loss)

    def train_refiner(self) -> None:
        """Stage three, on what the autoencoder leaves out."""
        crops, watched = self._coded_crops(self.config.refiner_side)
        scale = self._scales()["residual_scale"]
        self._train("refiner", refiner_flow(self.sizes), crops, watched, refiner_loss(scale))

    def _train(
        self,
        stage: str,
        network: nn.Module,
        crops: Crops,
        watched: Crops,
        loss_of: Callable[..., Any],
    ) -> None:

        config = self.config
        device = device_of(config.device)
        state = new_state(network, config.average_crops)
        folder = RunFolder(config.output / stage, self.options)
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

    def _show(self, stage: str, state: TrainingState, batch: dict, path: Path) -> None:
        """Draw validation crops beside what the network makes of them."""

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
        return self._trained("autoencoder", Autoencoder(self.sizes))

    def _trained(self, stage: str, network: nn.Module) -> Any:
        """The averaged weights of a stage's last checkpoint."""
        state = new_state(network, self.config.average_crops)
        folder = RunFolder(self.config.output / stage, self.options)
        folder.restore(state)
        if stage == "autoencoder" and state.images < self.config.autoencoder_crops:
            raise UsageError(
                "The autoencoder is not trained to its end; run without --stage, or with --stage "
                "autoencoder, first."
            )
        return state.average.model.eval()

    def _coded_crops(self, side: int) -> tuple[Crops, Crops]:
        learned, watched = self._codes()
        return (
            Crops(self.volumes, side, self.config.seed, learned),
            Crops(self.watched, side, VALIDATION_SEED, watched),
        )

    def _codes(self) -> tuple[list[Coded], list[Coded]]:
        """What the autoencoder makes of every volume; kept in files."""
        if self.codes is None:
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

    def write_model(self) -> Path | str:
        """Write the generator, once all three networks have been trained for a while.

        Returns:
            Its folder, or what is missing for it.
        """
        run = self.config.output
        missing = [part for part in PARTS if not (run / part / "checkpoint").exists()]
        if missing:
            return f"No generator in {run} yet: train ct --stage {', then '.join(missing)} is left."
        folder = run / MODEL_FOLDER
        scales = self._scales()
        middle, spread = SCALARS["spacing_mm"]
        spacings = [float(v.scalars[0]) * spread + middle for v in self.volumes]
        config = GeneratorConfig(
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
                **self.options,
                "data": [path.name for path in self.config.data],
                "volumes": len(self.volumes),
            },
        )
        networks = {
            "autoencoder": self._autoencoder(),
            "latents": self._trained("latents", latent_flow(self.sizes)),
            "refiner": self._trained("refiner", refiner_flow(self.sizes)),
        }
        maps = self._hu_maps(Generator(config, **networks))
        save_generator(replace(config, hu_maps=maps), networks, folder)
        return folder

    def _hu_maps(self, generator: Generator) -> dict[str, QuantileMap]:
        """Quantile maps, of CTs generated from labels that the generator has not learned from.

        A kind of tissue that none of these holds, as metal, is measured where it was learned from.
        """
        chosen = self.watched[:N_MAPPED]
        seen = {kind for volume in chosen for kind in np.unique(volume.kinds).tolist()}
        for volume in [*self.watched[N_MAPPED:], *self.volumes]:
            there = set(np.unique(volume.kinds).tolist())
            if not there <= seen:
                chosen.append(volume)
                seen |= there
        steps = tracked(chosen, "map HU", len(chosen), self.config.progress)
        return quantile_maps(
            (
                generator.generate(volume.kinds, volume.scalars, number),
                volume.values_hu,
                volume.kinds,
            )
            for number, volume in enumerate(steps)
        )
