"""What an image's file decides must not decide where landmarks are found."""

import numpy as np
import pytest

from XraySynthLib.data import Quantity, Xray
from XraySynthLib.detection.inputs import N_CHANNELS, network_input, ranks

SIDE = 64


def of(values, quantity=Quantity.DISPLAY):
    return network_input(Xray(values.astype(np.float32), quantity), SIDE)[0]


@pytest.mark.parametrize(
    "curve",
    [
        lambda v: 0.2 + 0.5 * v,
        lambda v: v**2.2,
        lambda v: np.log1p(5 * v),
        lambda v: 1 - np.exp(-2 * v),
        lambda v: np.round(v * 255) / 255,
        lambda v: np.round(v * 65535) / 65535,
    ],
    ids=["window", "gamma", "log", "linear", "8 bits", "16 bits"],
)
def test_a_rising_curve_changes_next_to_nothing(image, curve):
    assert np.abs(of(curve(image)) - of(image)).mean() < 0.02


def test_inversion_changes_the_sign(image):
    assert np.abs(of(1 - image) + of(image)).mean() < 0.02


def test_transmission_and_line_integral_are_one(image):
    as_transmission = of(np.exp(-3 * image), Quantity.TRANSMISSION)
    assert np.allclose(as_transmission, of(3 * image, Quantity.LINE_INTEGRAL), atol=0.02)


@pytest.mark.parametrize("border", [0.0, 1.0])
def test_shutters_leave_the_open_field_as_it_is(image, border):
    shut = np.full_like(image, border)
    shut[10:54, 8:56] = 0.02 + 0.96 * image[10:54, 8:56]
    inside = (slice(None), slice(16, 48), slice(14, 50))
    alone = ranks(shut[10:54, 8:56])[6:38, 6:42]
    assert np.abs(of(shut)[inside][0] - alone).mean() < 0.05


@pytest.mark.parametrize("shape", [(64, 64), (37, 64), (200, 90), (1, 50), (3, 3), (1536, 1536)])
def test_any_shape(shape):
    values = np.random.default_rng(1).random(shape).astype(np.float32)
    result, placement = network_input(Xray(values, Quantity.DISPLAY), SIDE)
    assert result.shape == (N_CHANNELS, SIDE, SIDE) and np.isfinite(result).all()
    corners = np.array([[0.0, 0.0], [shape[1] - 1.0, shape[0] - 1.0]])
    on_grid = placement.to_grid(corners)
    assert (on_grid > -1).all() and (on_grid < SIDE).all()
    assert np.allclose(placement.to_image(on_grid), corners)


def test_a_point_stays_on_its_pixel():
    """The peak of an image of 200 x 120 px lies on the grid where its placement says."""
    y, x = np.indices((200, 120))
    values = np.exp(-((x - 80) ** 2 + (y - 50) ** 2) / 200).astype(np.float32)
    result, placement = network_input(Xray(values, Quantity.DISPLAY), SIDE)
    row, column = np.unravel_index(result[0].argmax(), result[0].shape)
    assert np.abs(placement.to_grid(np.array([80, 50])) - [column, row]).max() < 1


def test_a_blank_image_is_nothing():
    assert (of(np.full((40, 50), 0.3)) == 0).all()
