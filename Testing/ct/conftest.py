"""Networks of a few channels, and a made-up patient for them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from XraySynthLib.anatomy.tissues import Label
from XraySynthLib.ct.model import Generator, GeneratorConfig
from XraySynthLib.ct.networks import Autoencoder, NetworkConfig, latent_flow, refiner_flow
from XraySynthLib.ct.store import TrainingVolume, training_volume
from XraySynthLib.ct.tissues import KIND_NAMES, KINDS, SCALARS
from XraySynthLib.data import Volume

TINY = NetworkConfig(
    len(KINDS),
    len(SCALARS),
    kind_channels=2,
    latent_channels=4,
    autoencoder_channels=(8, 8),
    head_channels=8,
    diffusion_channels=(8, 8, 8),
    refiner_channels=(8, 8),
)
TISSUES = (
    (np.s_[:, 4:28, 4:28], Label.MUSCLE, 50),
    (np.s_[8:40, 12:20, 6:12], Label.RIGHT_FEMUR, 600),
    (np.s_[8:40, 12:20, 20:26], Label.LEFT_FEMUR, 600),
    (np.s_[8:40, 20:26, 13:19], Label.SACRUM, 400),
)
"""Boxes (k, j, i) of 48 x 32 x 32 voxels, in air: what they are of, HU."""


@pytest.fixture(autouse=True)
def one_thread():
    """Networks so small only wait for threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def sizes() -> NetworkConfig:
    return TINY


@pytest.fixture
def networks() -> dict[str, torch.nn.Module]:
    """The three, with weights drawn; none is nought, as MONAI leaves some, or nothing is tested."""
    torch.manual_seed(0)
    made = {
        "autoencoder": Autoencoder(TINY),
        "latents": latent_flow(TINY),
        "refiner": refiner_flow(TINY),
    }
    for network in made.values():
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
        network.eval()
    return made


@pytest.fixture
def generator_config() -> GeneratorConfig:
    return GeneratorConfig(
        name="tiny",
        networks=TINY,
        kinds=KIND_NAMES,
        scalars=tuple(SCALARS),
        latent_mean=(0.1, 0.2, 0.3, 0.4),
        latent_deviation=(1.0, 2.0, 3.0, 4.0),
        residual_scale=0.05,
        spacing_mm=(2.5, 3.4),
        tissue_hu={"muscle": (30.0, 50.0, 70.0, 0.0)},
        least_agreement=0.9,
        people=("anna", "ben"),
        training={"autoencoder_crops": 5},
    )


@pytest.fixture
def make_patient() -> Callable[..., Volume]:
    """`make_patient(noise_hu=10)`: a trunk with femora and sacrum, 48 x 32 x 32 of 2.5 mm."""

    def make(seed: int = 0, noise_hu: float = 10.0) -> Volume:
        values = np.full((48, 32, 32), -1000.0)
        labels = np.zeros(values.shape, np.uint8)
        for box, label, hu in TISSUES:
            values[box], labels[box] = hu, label
        values += np.random.default_rng(seed).normal(0, noise_hu, values.shape)
        return Volume(values, np.diag([-2.5, -2.5, 2.5, 1.0]), labels)

    return make


@pytest.fixture
def ready(make_patient) -> TrainingVolume:
    return training_volume("anna", make_patient(), {"fat_mm": 37.0})


@pytest.fixture
def generator(generator_config, networks) -> Generator:
    return Generator(generator_config, **networks)
