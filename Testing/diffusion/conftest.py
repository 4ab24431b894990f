"""Tiny pelves seen by tiny detectors, and networks to match."""

import numpy as np
import pytest
import torch

from XraySynthLib.data import LandmarkSet, Provenance, Quantity, Sample, Xray
from XraySynthLib.data.pelvis import partners_of
from XraySynthLib.diffusion.examples import Examples
from XraySynthLib.diffusion.network import NetworkConfig
from XraySynthLib.diffusion.plausibility import landmark_prior
from XraySynthLib.diffusion.store import pelves_of, store_images
from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm

NAMES = ("FH-l", "FH-r", "ASIS-l", "ASIS-r", "SPS-l", "SPS-r")
POINTS_MM = np.array(
    [[-80.0, 0, 0], [80, 0, 0], [-110, 60, 80], [110, 60, 80], [-10, 40, -20], [10, 40, -20]]
)
SIDE = 32
N_PEOPLE, N_VIEWS = 6, 4


def person_points(number: int) -> np.ndarray:
    """RAS, mm: each person's pelvis is another, and lies elsewhere in its CT."""
    rng = np.random.default_rng((5, number))
    where = [10 * number, -20, 300 + 5 * number]
    return POINTS_MM * rng.uniform(0.9, 1.1) + rng.normal(0, 3, POINTS_MM.shape) + where


def sample_of(number: int, primary_deg: float, secondary_deg: float) -> Sample:
    """A slope with a blob at each landmark; the patient's left hip is the brightest."""
    points = person_points(number)
    pose = CArmPose(primary_deg, secondary_deg, 0, points.mean(axis=0), 700)
    view = view_from_carm(pose, Intrinsics(1000, (10, 10), (SIDE, SIDE)))
    landmarks = LandmarkSet(NAMES, points).seen_from(view)
    rows, columns = np.indices((SIDE, SIDE))
    values = 4 + columns / SIDE
    for weight, (column, row) in zip((3, 1, 1, 1, 1, 1), landmarks.points_px, strict=True):
        values = values + weight * np.exp(-((columns - column) ** 2 + (rows - row) ** 2) / 4)
    config = {"acquisition": {"exposure": {"kvp": 80 + 10 * (number % 2)}}, "derived_from": ["eve"]}
    xray = Xray(values, Quantity.LINE_INTEGRAL, view=view)
    provenance = Provenance("simulated", f"person-{number}", config=config)
    return Sample(f"{number}-{primary_deg:g}", xray, landmarks, None, provenance)


@pytest.fixture(scope="session")
def samples() -> list[Sample]:
    rng = np.random.default_rng(7)
    return [
        sample_of(number, *rng.uniform(-40, 40, 2).round())
        for number in range(N_PEOPLE)
        for _ in range(N_VIEWS)
    ]


@pytest.fixture(scope="session")
def store(samples):
    return store_images(samples, None, SIDE)


@pytest.fixture(scope="session")
def pelves(store):
    return pelves_of([store])


@pytest.fixture(scope="session")
def prior(pelves):
    points = np.stack([pelvis.points_mm for pelvis in pelves.values()])
    return landmark_prior(points, partners_of(NAMES))


def config_of(condition: str) -> NetworkConfig:
    return NetworkConfig(condition, len(NAMES), SIDE, 2, (8, 16))


@pytest.fixture(scope="session", params=["view", "anatomy"])
def examples(request, store, pelves, prior) -> Examples:
    bones = [np.random.default_rng(0).random((len(store), 6, SIDE, SIDE), dtype=np.float32)]
    config = config_of(request.param)
    return Examples([store], [1.0], pelves, prior.mean_mm, config, 3, bones)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
