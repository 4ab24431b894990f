import pytest
from landmark_rules import sampled_shape

from XraySynthLib.anatomy.shape_model import ShapeModel, load_shape_model


@pytest.fixture(scope="session")
def model() -> ShapeModel:
    return load_shape_model()


@pytest.fixture
def a_sample():
    return sampled_shape((7, 0))
