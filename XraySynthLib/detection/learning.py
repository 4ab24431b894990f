"""How a detector learns: its loss, what it scores on images that it does not learn from, its run.

`learn` joins `training.loop` with this task; logging is its caller's.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn
from torch.optim.swa_utils import update_bn

from XraySynthLib.data.pelvis import partners_of
from XraySynthLib.detection.calibration import TOLERANCE, Calibration, fit_calibration
from XraySynthLib.detection.examples import (
    Examples,
    Randomise,
    either_polarity,
    example,
    nothing,
    patchwork,
)
from XraySynthLib.detection.heatmaps import cells_from_px, decode, heatmap_loss, px_from_cells
from XraySynthLib.detection.mirror import both_ways_round
from XraySynthLib.detection.network import HeatmapNetwork, NetworkConfig
from XraySynthLib.detection.store import ImageStore
from XraySynthLib.training.batches import batches
from XraySynthLib.training.loop import Step, TrainingState, new_training_state, train
from XraySynthLib.training.schedule import Schedule

Batch = dict[str, torch.Tensor]
NORM_IMAGES = 1280
"""How many images the norms of averaged weights are taken from, at most."""
OF_NOTHING = (6, 15)
"""Of every 16 images to validate on, those that show nothing: a plain and a randomised one."""


@dataclass(frozen=True)
class Scores:
    """How good a network is on images that it did not learn from.

    Attributes:
        error_px: Mean distance of landmarks in the image, pixels of the network's input.
        error_mm: The same in the isocentre's plane; NaN where the poses are not recorded.
        kept_error_px: Mean distance of those kept.
        kept_error_mm: The same in mm.
        plain_error_mm: Mean distance of all in the images that were not randomised, mm.
        plain_kept_error_mm: Of those kept.
        kept_share: Share of the landmarks in the images that is kept.
        false_share: Share of the landmarks outside the images that is detected.
        calibration_error: Mean difference between confidence and what came true, over ten bins.
    """

    error_px: float
    error_mm: float
    kept_error_px: float
    kept_error_mm: float
    plain_error_mm: float
    plain_kept_error_mm: float
    kept_share: float
    false_share: float
    calibration_error: float

    def to_dict(self) -> dict[str, float | None]:
        """The scores as JSON types."""
        return {
            name: None if np.isnan(value) else round(value, 5)
            for name, value in asdict(self).items()
        }


def loss_of(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of a batch of `Examples`."""
    images = batch["image"].contiguous(memory_format=torch.channels_last)
    places, absences = model(images)
    points_cells = cells_from_px(batch["points_px"], images.shape[-1] // places.shape[-1])
    return heatmap_loss(places, absences, points_cells, batch["visible"])


def learn(
    state: TrainingState,
    examples: Examples,
    schedule: Schedule,
    batch_images: int,
    accelerator: Accelerator,
    n_threads: int,
) -> Iterator[Step]:
    """Learn from where the state is to the schedule's end; see `training.loop.train`."""
    first, last = state.images, schedule.total_images
    if first >= last:
        return
    # Process p of n makes every n-th example: together they make what one alone would.
    numbers = range(first + accelerator.process_index, last, accelerator.num_processes)
    loader = batches(
        examples.__getitem__,
        numbers,
        batch_images // accelerator.num_processes,
        max(n_threads, 1),
        accelerator.device,
    )
    yield from train(state, loader, loss_of, schedule, batch_images, accelerator)


def renew_norms(
    network: HeatmapNetwork, examples: Examples, first: int, n_images: int, batch_images: int
) -> None:
    """Measure anew what batch normalisation takes for mean and variance: averaged weights have
    other ones than those that they are the average of (Izmailov et al. 2018, arXiv 1803.05407).

    Args:
        network: Changed; left ready to detect.
        examples: What it learns from.
        first: Number of the first example.
        n_images: How many; what does not fill a batch is left out.
        batch_images: Of a batch.
    """
    device = next(network.parameters()).device
    numbers = range(first, first + n_images)
    made = batches(examples.__getitem__, numbers, batch_images, 1, device)
    update_bn((one["image"].contiguous(memory_format=torch.channels_last) for one in made), network)
    network.eval()


def new_state(
    config: NetworkConfig, seed: int, half_life_images: float, weight_decay: float
) -> TrainingState:
    """A fresh network and its optimizer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = HeatmapNetwork(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return new_training_state(network, half_life_images, weight_decay)


@dataclass(frozen=True, eq=False)
class ValidationSet:
    """Images ready for the network, always the same.

    Attributes:
        images: (N, 2, side, side) float32.
        points_px: (N, K, 2) on the network's grid.
        visible: (N, K) bool.
        spacing_mm: (N,) of the grid, in the isocentre's plane; NaN where not known.
        plain: (N,) bool, whether an image was not randomised.
        partners: (K,) of the landmarks, see `data.pelvis.partners_of`.
    """

    images: torch.Tensor
    points_px: NDArray
    visible: NDArray
    spacing_mm: NDArray
    plain: NDArray
    partners: list[int]


def validation_set(
    store: ImageStore, side_px: int, randomise: Randomise | None, n_images: int, seed: int
) -> ValidationSet:
    """Images spread over the store, every second randomised once, an eighth of them of nothing.

    Args:
        store: Images of people that are not learned from.
        side_px: Side of the network's grid.
        randomise: The randomisation.
        n_images: At most.
        seed: Seeds what is drawn.
    """
    chosen = np.unique(np.linspace(0, len(store) - 1, min(n_images, len(store))).astype(int))
    entries, spacings = [], []
    for number, index in enumerate(chosen.tolist()):
        rng = np.random.default_rng((seed, number))
        xray, landmarks = store.image(index)
        if number % 16 in OF_NOTHING:
            xray = type(xray)(patchwork(xray.values, rng), xray.quantity)
            landmarks = nothing(landmarks)
        if number % 2 == 0:
            xray = either_polarity(xray, rng)
        elif randomise is not None:
            xray, landmarks = randomise(xray, landmarks, rng)
        entries.append(example(xray, landmarks, side_px))
        spacings.append(store.spacing_mm[index])
    return ValidationSet(
        torch.stack([entry["image"] for entry in entries]),
        np.stack([entry["points_px"].numpy() for entry in entries]).astype(float),
        np.stack([entry["visible"].numpy() for entry in entries]),
        np.array(spacings),
        np.arange(len(entries)) % 2 == 0,
        partners_of(store.names),
    )


@torch.inference_mode()
def validate(
    network: HeatmapNetwork, validation: ValidationSet, batch_images: int = 16
) -> tuple[Scores, Calibration, NDArray]:
    """Score a network and calibrate it.

    Returns:
        The scores with the calibration that was fitted to the same images, that calibration, and
        (N, K, 2) where the landmarks were found, px of the network's grid.
    """
    network.eval()
    device = next(network.parameters()).device
    parts = []
    for images in validation.images.split(batch_images):
        images = images.to(device, memory_format=torch.channels_last)
        decoded = decode(*both_ways_round(network, images, validation.partners))
        parts.append([t.cpu().double() for t in vars(decoded).values()])
    points_cells, presence, peak = (torch.cat(one).numpy() for one in zip(*parts, strict=True))
    points_px = px_from_cells(points_cells, network.config.stride)
    visible = validation.visible
    error_px = np.linalg.norm(points_px - validation.points_px, axis=2)
    error_px = np.where(visible, error_px, np.nan)
    side_px = validation.images.shape[-1]
    right = visible & (np.nan_to_num(error_px, nan=np.inf) <= TOLERANCE * side_px)
    calibration = fit_calibration(presence.ravel(), peak.ravel(), right.ravel(), visible.ravel())
    confidence = calibration.confidence(presence, peak)
    kept = confidence >= calibration.threshold
    plain = validation.plain[:, None]
    error_mm = error_px * validation.spacing_mm[:, None]
    scores = Scores(
        error_px=_mean(error_px[visible]),
        error_mm=_mean(error_mm[visible]),
        kept_error_px=_mean(error_px[visible & kept]),
        kept_error_mm=_mean(error_mm[visible & kept]),
        plain_error_mm=_mean(error_mm[visible & plain]),
        plain_kept_error_mm=_mean(error_mm[visible & kept & plain]),
        kept_share=_mean(kept[visible]),
        false_share=_mean(kept[~visible]),
        calibration_error=_calibration_error(confidence.ravel(), right.ravel()),
    )
    return scores, calibration, points_px


def _mean(values: NDArray) -> float:
    known = values[~np.isnan(values.astype(float))]
    return float(known.mean()) if known.size else float("nan")


def _calibration_error(confidence: NDArray, right: NDArray) -> float:
    bins = np.minimum((confidence * 10).astype(int), 9)
    gaps = [
        abs(confidence[bins == one].mean() - right[bins == one].mean()) * (bins == one).mean()
        for one in np.unique(bins)
    ]
    return float(np.sum(gaps))
