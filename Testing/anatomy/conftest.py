import numpy as np
import pytest

from XraySynthLib.anatomy.shape_model import ShapeModel, load_shape_model


@pytest.fixture(scope="session")
def model() -> ShapeModel:
    return load_shape_model()


@pytest.fixture
def a_sample(model):
    return model.sample(np.random.default_rng((7, 0)))
