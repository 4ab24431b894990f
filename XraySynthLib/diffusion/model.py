"""A sampler: a network that makes X-rays, as a folder and at work.

config.json             what it is: condition, sizes, window, trained views, whom it was trained on
landmarks.safetensors   the landmarks of its training's people as a Gaussian
unet/                   diffusers' UNet2DConditionModel, 16 bits a number; what is added to its
                        output for heatmaps is in `ConditionedVelocity`
scheduler/              diffusers' FlowMatchEulerDiscreteScheduler: velocity is `noise - data`
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

import XraySynthLib
from XraySynthLib.data import Quantity
from XraySynthLib.data.formats import atomic_path
from XraySynthLib.data.sets.parts import sha256_of
from XraySynthLib.diffusion.heatmaps import decode
from XraySynthLib.diffusion.network import ConditionedVelocity, NetworkConfig, by_part, from_cells
from XraySynthLib.diffusion.plausibility import LandmarkPrior
from XraySynthLib.diffusion.store import from_network
from XraySynthLib.errors import UnreadableFileError
from XraySynthLib.geometry import Intrinsics, View, carm_from_view
from XraySynthLib.geometry.transforms import inverse_rigid
from XraySynthLib.training.flow import step_times
from XraySynthLib.training.model_folder import (
    CONFIG_NAME,
    built,
    check_levels,
    check_names,
    check_numbers,
    check_text,
    read_model_document,
    reading_config,
    write_model_config,
)
from XraySynthLib.training.tensor_files import fill, halved, save_tensors

FORMAT, FORMAT_VERSION = "xraysynth-xray-sampler", 1
UNET_FOLDER, SCHEDULER_FOLDER, LANDMARKS_NAME = "unet", "scheduler", "landmarks.safetensors"
WEIGHTS_NAME = f"{UNET_FOLDER}/diffusion_pytorch_model.safetensors"
STEPS = 8
GUIDANCE = {"anatomy": 1.5, "view": 2.5}
"""By condition: `view` alone must be obeyed more, lest landmarks be missing."""
LEAD = 0.2
"""How far the landmarks are ahead of the image: they are made when a sixth of its way is left."""
DIRECTION_DEG = 5.0
"""Directions of the training's views are noted to this."""
FAR_DEG = 1.5 * DIRECTION_DEG
"""A view farther than this from all of them is none that the network knows."""
FAR_MM = 20.0
"""A pelvis may be so far beyond the places of the training's."""
FIELD_TOLERANCE = 0.05
"""A field of view may be so much smaller or larger, as a share, than those of the training."""


@dataclass(frozen=True)
class SamplerConfig:
    """Everything of a sampler but its weights and its people's landmarks.

    Attributes:
        name: The model's.
        landmark_names: In the order of the maps.
        network: The network.
        quantity: Of its images, "line-integral" (without noise) or "display".
        window: Values that are -1 and 1 for the network, before detail is raised (`emphasis`).
        directions_deg: (primary, secondary) of the training's views, rounded.
        rolls_deg: Least and greatest roll of the training's views; None where it is not known.
        places_mm: Least and greatest x, y and z of the middle between the hip centres in the
            cameras' frames; empty where they are not known.
        fields_deg: Least and greatest field of view of the training; None where it is not known.
        kvp: Tube voltages of the training; empty where they are not known.
        people: Everybody behind the training images; whoever is tested on must not be among them.
        training: How it was trained, for people to read.
        code_version: Version of XraySynth that made it.

    Raises:
        ValueError: If landmarks and network do not fit, there is no such quantity, or a value
            cannot be meant.
    """

    name: str
    landmark_names: tuple[str, ...]
    network: NetworkConfig
    quantity: str
    window: tuple[float, float]
    directions_deg: tuple[tuple[float, float], ...] = ()
    rolls_deg: tuple[float, float] | None = None
    places_mm: tuple[tuple[float, float], ...] = ()
    fields_deg: tuple[float, float] | None = None
    kvp: tuple[int, ...] = ()
    people: tuple[str, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)
    code_version: str = XraySynthLib.__version__

    def __post_init__(self) -> None:
        check_text(name=self.name, code_version=self.code_version)
        check_names(landmark_names=self.landmark_names, people=self.people)
        if len(self.landmark_names) != self.network.n_landmarks:
            raise ValueError(
                f"There are {len(self.landmark_names)} names for {self.network.n_landmarks} maps."
            )
        if self.quantity not in [one.value for one in Quantity]:
            raise ValueError(f"There is no quantity {self.quantity!r}.")
        check_numbers("window", self.window, 2, rising=True)
        if self.window[0] == self.window[1]:
            raise ValueError(f"window must rise, got {self.window}.")
        if not isinstance(self.directions_deg, tuple):
            raise ValueError("directions_deg must be a list of pairs.")
        for direction in self.directions_deg:
            check_numbers("directions_deg", direction, 2)
        if self.rolls_deg is not None:
            check_numbers("rolls_deg", self.rolls_deg, 2, rising=True)
        if not isinstance(self.places_mm, tuple) or len(self.places_mm) not in (0, 3):
            raise ValueError("places_mm must be a list of three pairs.")
        for place in self.places_mm:
            check_numbers("places_mm", place, 2, rising=True)
        if self.fields_deg is not None:
            check_numbers("fields_deg", self.fields_deg, 2, above=0, rising=True)
        if self.kvp != ():
            check_levels(kvp=self.kvp)

    def knows(self, view: View, center_ras_mm: NDArray) -> bool:
        """Whether views like this one were trained on, as far as that is known.

        Args:
            view: The view.
            center_ras_mm: (3,) the middle between the hip centres.
        """
        trained = np.array(self.directions_deg).reshape(-1, 2)
        cosines = beam(*trained.T).T @ view.ras_from_camera[:3, 2]
        known = [(cosines >= np.cos(np.deg2rad(FAR_DEG))).any()]
        if self.rolls_deg is not None:
            known.append(_within(roll_deg(view), self.rolls_deg, DIRECTION_DEG))
        for place, limits in zip(place_mm(view, center_ras_mm), self.places_mm, strict=False):
            known.append(_within(place, limits, FAR_MM))
        return bool(all(known))

    def knows_field(self, intrinsics: Intrinsics) -> bool:
        """Whether fields of view like this one were trained on, as far as that is known."""
        if self.fields_deg is None:
            return True
        least, greatest = self.fields_deg
        share = FIELD_TOLERANCE
        return least * (1 - share) <= field_deg(intrinsics) <= greatest * (1 + share)


def _within(value: float, limits: tuple[float, float], tolerance: float) -> bool:
    return limits[0] - tolerance <= value <= limits[1] + tolerance


def roll_deg(view: View) -> float:
    """How the C-arm is turned about its beam."""
    return carm_from_view(view, view.intrinsics.source_to_detector_mm / 2).roll_deg


def place_mm(view: View, center_ras_mm: NDArray) -> NDArray:
    """(3,) a point in the camera's frame."""
    return (inverse_rigid(view.ras_from_camera) @ [*center_ras_mm, 1])[:3]


def field_deg(intrinsics: Intrinsics) -> float:
    """The field of view: the angle of the beam between the detector's sides, the wider."""
    half_mm = intrinsics.size_mm.max() / 2
    return float(2 * np.rad2deg(np.arctan(half_mm / intrinsics.source_to_detector_mm)))


def beam(primary_deg: NDArray, secondary_deg: NDArray) -> NDArray:
    """(3, N) directions from source to detector, RAS."""
    primary, secondary = np.deg2rad(primary_deg), np.deg2rad(secondary_deg)
    level = np.cos(secondary)
    return np.stack([-np.sin(primary) * level, np.cos(primary) * level, np.sin(secondary)])


def directions_of(views: Sequence[View]) -> tuple[tuple[float, float], ...]:
    """Directions of views, (primary, secondary), rounded to `DIRECTION_DEG`, each once."""
    beams = np.stack([view.ras_from_camera[:3, 2] for view in views])
    primary = np.rad2deg(np.arctan2(-beams[:, 0], beams[:, 1]))
    secondary = np.rad2deg(np.arcsin(np.clip(beams[:, 2], -1, 1)))
    rounded = np.round(np.stack([primary, secondary], axis=1) / DIRECTION_DEG) * DIRECTION_DEG
    return tuple((float(a), float(b)) for a, b in np.unique(rounded + 0.0, axis=0))


@dataclass(frozen=True, eq=False)
class Made:
    """What a network made.

    Attributes:
        images: (B, side, side) float32, values of the model's quantity.
        points_px: (B, K, 2) column and row of the landmarks that it made; None for "anatomy".
        confidence: (B, K) of them, 0..1; None for "anatomy".
    """

    images: NDArray
    points_px: NDArray | None
    confidence: NDArray | None


class Sampler:
    """Makes X-rays.

    Args:
        config: What it is.
        network: Its network.
        prior: Landmarks of its people.
        sha256: Of its weights' file; empty where there is none.
        device: Where to compute.
    """

    def __init__(
        self,
        config: SamplerConfig,
        network: ConditionedVelocity,
        prior: LandmarkPrior,
        sha256: str = "",
        device: torch.device | None = None,
    ) -> None:
        self.config, self.prior, self.sha256 = config, prior, sha256
        self.device = device or torch.device("cpu")
        self.network = network.to(self.device).eval()

    @torch.inference_mode()
    def make(
        self,
        maps: torch.Tensor,
        features: torch.Tensor,
        seeds: Sequence[Sequence[int]],
        *,
        steps: int = STEPS,
        guidance: float | None = None,
        lead: float = LEAD,
    ) -> Made:
        """Make images.

        Args:
            maps: (B, maps, side, side), see `examples`.
            features: (B, N_FEATURES), see `views.view_features`.
            seeds: Of each image's noise.
            steps: Evaluations of the flow (twice the network with guidance).
            guidance: Weight of what it is told (Ho & Salimans 2022, arXiv 2207.12598); 1 for none;
                by default `GUIDANCE`.
            lead: How far the landmarks are ahead of the image; 0 for not.
        """
        config = self.config.network
        guidance = GUIDANCE[config.condition] if guidance is None else guidance
        shape = config.n_state, config.side, config.side
        noise = [np.random.default_rng(seed).standard_normal(shape, dtype="f4") for seed in seeds]
        state = torch.from_numpy(np.stack(noise)).to(self.device)
        maps, features = maps.to(self.device), features.to(self.device)
        times = torch.tensor([[time, led(time, lead)] for time in step_times(steps)])
        for now, then in pairwise(times):
            velocity = self._velocity(state, now.to(self.device), maps, features, guidance)
            step = by_part((then - now)[None], config.n_image, config.n_state)
            state = state + step.to(self.device) * velocity
        cells = state.float().cpu()
        pixels = from_cells(cells[:, : config.n_image], config.cell_px)[:, 0].numpy()
        images = from_network(pixels, self.config.window)
        if config.condition == "anatomy":
            return Made(images, None, None)
        points_cells, confidence = decode((cells[:, config.n_image :] + 1) / 2)
        points_px = (points_cells.double().numpy() + 0.5) * config.cell_px - 0.5
        return Made(images, points_px, confidence.double().numpy())

    def _velocity(
        self,
        state: torch.Tensor,
        times: torch.Tensor,
        maps: torch.Tensor,
        features: torch.Tensor,
        guidance: float,
    ) -> torch.Tensor:
        count = len(state)
        if guidance == 1:
            return self.network(state, times.expand(count, 2), maps, features)
        both = self.network(
            state.repeat(2, 1, 1, 1),
            times.expand(2 * count, 2),
            torch.cat([maps, torch.zeros_like(maps)]),
            torch.cat([features, torch.zeros_like(features)]),
        )
        told, untold = both.chunk(2)
        return untold + guidance * (told - untold)


def led(time: float, lead: float) -> float:
    """The landmarks' time when the image's is `time`."""
    return max((1 + lead) * time - lead, 0.0)


def save_sampler(
    config: SamplerConfig, network: ConditionedVelocity, prior: LandmarkPrior, folder: Path
) -> None:
    """Write a model folder; the configuration, which makes it whole, last."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_NAME).unlink(missing_ok=True)
    network.unet.save_config(folder / UNET_FOLDER)
    scheduler().save_pretrained(folder / SCHEDULER_FOLDER)
    weights = {name: halved(tensor) for name, tensor in network.unet.state_dict().items()}
    with atomic_path(folder / WEIGHTS_NAME) as temporary:
        save_tensors(weights, temporary, {"format": "pt"})
    tensors = {
        "mean_mm": torch.from_numpy(prior.mean_mm),
        "covariance_mm2": torch.from_numpy(prior.covariance_mm2),
        "limits": torch.tensor([prior.most_residual_mm, prior.most_distance], dtype=torch.float64),
    }
    with atomic_path(folder / LANDMARKS_NAME) as temporary:
        save_tensors(tensors, temporary)
    write_model_config(config, FORMAT, FORMAT_VERSION, folder)


def scheduler() -> FlowMatchEulerDiscreteScheduler:
    """diffusers' scheduler for such a network; its steps are those of `Sampler.make`."""
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0)


def read_sampler_config(folder: Path) -> SamplerConfig:
    """Read what a model is.

    Raises:
        UnreadableFileError: If the folder holds none, or one of a newer version.
    """
    with reading_config(folder):
        document = read_model_document(folder, FORMAT, FORMAT_VERSION, "X-ray sampler")
        if "network" in document:
            document["network"] = built(NetworkConfig, document["network"], "network")
        return built(SamplerConfig, document, needed=("directions_deg", "people"))


def load_sampler(folder: Path, device: torch.device | None = None) -> Sampler:
    """Read a model folder.

    Raises:
        UnreadableFileError: If it is not there, damaged, or its files do not fit.
    """
    config = read_sampler_config(folder)
    network = ConditionedVelocity(config.network)
    fill(network.unet, folder / WEIGHTS_NAME)
    prior = read_prior(folder, config.network.n_landmarks)
    return Sampler(config, network, prior, sha256_of(folder / WEIGHTS_NAME), device)


def read_prior(folder: Path, n_landmarks: int) -> LandmarkPrior:
    """Read what the landmarks of a model's people are like.

    Raises:
        UnreadableFileError: If the file is not there, damaged, or of other landmarks.
    """
    path = folder / LANDMARKS_NAME
    try:
        return _prior(load_file(path), n_landmarks)
    except FileNotFoundError as error:
        raise UnreadableFileError(f"{path} is missing; get the whole model.") from error
    except (OSError, SafetensorError) as error:
        raise UnreadableFileError(f"{path} is damaged; get the model again.") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableFileError(
            f"{path} does not fit what {CONFIG_NAME} says; get the model again."
        ) from error


def _prior(tensors: dict[str, torch.Tensor], n_landmarks: int) -> LandmarkPrior:
    mean, covariance = tensors["mean_mm"].numpy(), tensors["covariance_mm2"].numpy()
    if mean.shape != (n_landmarks, 3) or covariance.shape != (mean.size, mean.size):
        raise ValueError("another number of landmarks")
    if not np.isfinite(mean).all() or not np.isfinite(covariance).all():
        raise ValueError("numbers that are not finite")
    return LandmarkPrior(mean, covariance, *tensors["limits"].tolist())
