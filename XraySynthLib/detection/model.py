"""A detector: a network with its calibration, as a folder and at work.

config.json         what it is: landmarks, network, thresholds, whom it was trained on
model.safetensors   its weights, 16 bits a number
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import XraySynthLib
from XraySynthLib.data import ImageLandmarkSet, Xray
from XraySynthLib.data.formats import atomic_path
from XraySynthLib.data.pelvis import partners_of
from XraySynthLib.data.sets.parts import sha256_of
from XraySynthLib.detection.calibration import Calibration
from XraySynthLib.detection.heatmaps import Decoded, decode, px_from_cells
from XraySynthLib.detection.inputs import Placement, network_input
from XraySynthLib.detection.mirror import both_ways_round
from XraySynthLib.detection.network import HeatmapNetwork, NetworkConfig
from XraySynthLib.training.model_folder import (
    CONFIG_NAME,
    built,
    check_names,
    check_text,
    read_model_document,
    reading_config,
    write_model_config,
)
from XraySynthLib.training.tensor_files import fill, halved, save_tensors

WEIGHTS_NAME = "model.safetensors"
FORMAT, FORMAT_VERSION = "xraysynth-landmark-detector", 1


@dataclass(frozen=True)
class DetectorConfig:
    """Everything of a detector but its weights.

    Attributes:
        name: The model's.
        landmark_names: In the order of the maps.
        side_px: Side of the network's square input.
        network: The network.
        calibration: From maps to confidence.
        people: Everybody behind the training images, subjects and those they derive from; whoever
            is tested on must not be among them.
        training: How it was trained, for people to read.
        code_version: Version of XraySynth that made it.

    Raises:
        ValueError: If landmarks and network do not fit, the side does not, or names are none.
    """

    name: str
    landmark_names: tuple[str, ...]
    side_px: int
    network: NetworkConfig
    calibration: Calibration = field(default_factory=Calibration)
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
        self.network.check_side(self.side_px)


class Detector:
    """Finds landmarks in X-rays.

    Args:
        config: What it is.
        network: Its network.
        sha256: Of its weights' file; empty where there is none.
        device: Where to compute.
    """

    def __init__(
        self,
        config: DetectorConfig,
        network: HeatmapNetwork,
        sha256: str = "",
        device: torch.device | None = None,
    ) -> None:
        self.config, self.sha256 = config, sha256
        self.device = device or torch.device("cpu")
        self.network = network.to(self.device, memory_format=torch.channels_last).eval()

    def detect(self, xray: Xray) -> ImageLandmarkSet:
        """Find the landmarks of an image, either way up.

        Returns:
            Points in the image's pixels, `visible` those detected; undetected ones carry the best
            guess.
        """
        return next(self.detect_all([xray]))

    def detect_all(self, xrays: Iterable[Xray], batch_size: int = 8) -> Iterator[ImageLandmarkSet]:
        """Find the landmarks of many images."""
        waiting = iter(xrays)
        while batch := list(islice(waiting, batch_size)):
            upright = [network_input(xray, self.config.side_px) for xray in batch]
            # Turned after it was made ready: both ways see the same numbers.
            turned = [np.ascontiguousarray(image[:, ::-1, ::-1]) for image, _ in upright]
            found = self.raw([*(image for image, _ in upright), *turned])
            for index, (xray, (_, placement)) in enumerate(zip(batch, upright, strict=True)):
                yield self._surer(xray, placement, found, (index, len(batch) + index))

    @torch.inference_mode()
    def raw(self, images: list[NDArray]) -> Decoded:
        """What the network says of images that were made ready, (2, side, side) each."""
        tensor = torch.from_numpy(np.stack(images)).to(
            self.device, memory_format=torch.channels_last
        )
        partners = partners_of(self.config.landmark_names)
        places, absences = both_ways_round(self.network, tensor, partners)
        return decode(places.cpu(), absences.cpu())

    def _surer(
        self, xray: Xray, placement: Placement, found: Decoded, ways: tuple[int, int]
    ) -> ImageLandmarkSet:
        """The way up of the greater summed confidence, in the image's own pixels."""
        confidences = [
            self.config.calibration.confidence(
                found.presence[way].double().numpy(), found.peak[way].double().numpy()
            )
            for way in ways
        ]
        turned = int(confidences[1].sum() > confidences[0].sum())
        confidence = confidences[turned]
        points_px = px_from_cells(
            found.points_cells[ways[turned]].double().numpy(), self.config.network.stride
        )
        if turned:
            points_px = self.config.side_px - 1 - points_px
        points_px = placement.to_image(points_px)
        rows, columns = xray.values.shape
        inside = ((points_px >= -0.5) & (points_px < [columns - 0.5, rows - 0.5])).all(axis=1)
        detected = inside & (confidence >= self.config.calibration.threshold)
        return ImageLandmarkSet(self.config.landmark_names, points_px, detected, confidence)


def save_detector(config: DetectorConfig, network: HeatmapNetwork, folder: Path) -> None:
    """Write a model folder; the configuration, which makes it whole, last."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_NAME).unlink(missing_ok=True)
    weights = {name: halved(tensor) for name, tensor in network.state_dict().items()}
    with atomic_path(folder / WEIGHTS_NAME) as temporary:
        save_tensors(weights, temporary)
    write_model_config(config, FORMAT, FORMAT_VERSION, folder)


def read_detector_config(folder: Path) -> DetectorConfig:
    """Read what a model is.

    Raises:
        UnreadableFileError: If the folder holds none, or one of a newer version.
    """
    with reading_config(folder):
        document = read_model_document(folder, FORMAT, FORMAT_VERSION, "landmark detector")
        for name, part in (("network", NetworkConfig), ("calibration", Calibration)):
            if name in document:
                document[name] = built(part, document[name], name)
        return built(DetectorConfig, document, needed=("calibration", "people"))


def load_detector(folder: Path, device: torch.device | None = None) -> Detector:
    """Read a model folder.

    Raises:
        UnreadableFileError: If it is not there, damaged, or its files do not fit.
    """
    config = read_detector_config(folder)
    path = folder / WEIGHTS_NAME
    network = HeatmapNetwork(config.network)
    fill(network, path)
    return Detector(config, network, sha256_of(path), device)
