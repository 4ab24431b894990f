"""Images with a known place, and a tiny model folder."""

from pathlib import Path

import numpy as np
import pytest
import torch

from XraySynthLib.data import ImageLandmarkSet, Provenance, Quantity, Sample, Xray
from XraySynthLib.detection.model import Detector, DetectorConfig, load_detector, save_detector
from XraySynthLib.detection.network import HeatmapNetwork, NetworkConfig

NAMES = ("A-l", "A-r")
TINY = NetworkConfig(2, channels=(8, 16, 16), stride=2)


def blobs(seed: int, shape: tuple[int, int] = (64, 64)) -> tuple[np.ndarray, np.ndarray]:
    """An image of a wide and a narrow blob on a slope, and their middles (column, row)."""
    rng = np.random.default_rng((11, seed))
    rows, columns = shape
    points = rng.uniform(0.2, 0.8, (2, 2)) * [columns, rows]
    y, x = np.indices(shape)
    values = 0.3 * x / columns + rng.normal(0, 0.01, shape)
    for (column, row), width in zip(points, (3.0, 6.0), strict=True):
        values += np.exp(-((x - column) ** 2 + (y - row) ** 2) / (2 * width**2))
    return values.astype(np.float32), points


@pytest.fixture
def image() -> np.ndarray:
    """(64, 64) float32 from 0 to 1."""
    values = blobs(5)[0]
    return (values - values.min()) / np.ptp(values)


@pytest.fixture
def samples() -> list[Sample]:
    """Eight images of two blobs, of two people."""
    found = []
    for seed in range(8):
        values, points = blobs(seed)
        found.append(
            Sample(
                key=f"s{seed}",
                xray=Xray(values, Quantity.LINE_INTEGRAL),
                landmarks=ImageLandmarkSet(NAMES, points, [True, True], [1, 1]),
                masks=None,
                provenance=Provenance("simulated", f"person-{seed % 2}"),
            )
        )
    return found


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    """A detector that has learned nothing."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    config = DetectorConfig("tiny", NAMES, 64, TINY, people=("person-0", "person-1"))
    save_detector(config, HeatmapNetwork(TINY).eval(), folder)
    return folder


@pytest.fixture
def detector(model_folder) -> Detector:
    return load_detector(model_folder)
