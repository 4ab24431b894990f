"""Grey values: what each operation does to them, and that it moves nothing."""

from dataclasses import replace

import numpy as np
import pytest

from XraySynthLib.data import Quantity, Xray
from XraySynthLib.data.randomisation import NONE, Randomisation, draw_randomisation, randomise
from XraySynthLib.data.randomisation.curves import (
    Gamma,
    HistogramShift,
    Invert,
    LinearContrast,
    LogContrast,
    Multiply,
    Quantise,
    Shading,
    SigmoidContrast,
    Window,
)
from XraySynthLib.data.randomisation.markers import Annotation, LeadMarker
from XraySynthLib.data.randomisation.textures import (
    AverageBlur,
    Dropout,
    Emboss,
    GaussianBlur,
    GaussianNoise,
    Pool,
    SaltAndPepper,
    Sharpen,
    Speckle,
)
from XraySynthLib.data.randomisation.tools import TOOL_KINDS, Beads, Cable, Tool

GREY = (
    LinearContrast(1.5),
    Gamma(0.7),
    LogContrast(1.2),
    SigmoidContrast(6.0, 0.5),
    HistogramShift((0.0, 0.4, 0.5, 1.0)),
    Multiply(0.6),
    Invert(),
    Quantise(16),
    GaussianBlur(1.5),
    AverageBlur(4),
    Sharpen(0.3, 1.1),
    Emboss(0.5, 1.0),
    *(Pool(kind, 3) for kind in ("mean", "max", "min", "median")),
    GaussianNoise(0.02),
    GaussianNoise(0.05, 3),
    Speckle(0.5, 1.5),
    SaltAndPepper(0.05),
    SaltAndPepper(0.05, 6),
    Dropout(0.1),
    Dropout(0.1, 5),
    Annotation("kV 73\nR", (30.0, 20.0), 12.0, 1.0, 0.8),
)
BEAM = (
    Shading((0.5, -0.3), 0.4),
    *(Tool(kind, (20.0, 30.0), 25.0, 60.0, 5.0, 2.0) for kind in TOOL_KINDS),
    Cable(((0.0, 10.0), (50.0, 90.0), (100.0, 20.0)), 2.0, 1.0),
    Beads(((20.5, 30.25), (60.0, 60.0)), 3.0, 2.0),
    LeadMarker("L", (70.0, 50.0), 20.0, 30.0, 2.0, True),
)
GREYS = np.array([[0.0, 0.25, 0.5, 0.75, 1.0]], np.float32)
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("quantity", Quantity)
@pytest.mark.parametrize("operation", [*GREY, *BEAM], ids=repr)
def test_an_operation_changes_the_image_alone(a_radiograph, of_quantity, operation, quantity):
    sample = of_quantity(a_radiograph, quantity)
    stage = "grey" if operation in GREY else "beam"
    plain = randomise(sample, Randomisation((90, 110)))
    result = randomise(sample, Randomisation((90, 110), seed=3, **{stage: (operation,)}))
    values = result.xray.values
    assert result.xray.quantity is Quantity.DISPLAY
    assert values.shape == (90, 110) and values.dtype == np.float32
    assert np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1
    assert np.abs(values - plain.xray.values).max() > 0.01
    assert np.ptp(values) > 0.1
    np.testing.assert_array_equal(result.landmarks.points_px, sample.landmarks.points_px)
    np.testing.assert_array_equal(result.landmarks.visible, sample.landmarks.visible)
    np.testing.assert_array_equal(result.masks["dense"], sample.masks["dense"])


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (LinearContrast(2.0), [-0.5, 0, 0.5, 1, 1.5]),
        (Gamma(2.0), [0, 0.0625, 0.25, 0.5625, 1]),
        (LogContrast(1.0), [0, 0.32193, 0.58496, 0.80735, 1]),
        (SigmoidContrast(4.0, 0.5), [0.11920, 0.26894, 0.5, 0.73106, 0.88080]),
        (HistogramShift((0.0, 0.8, 1.0)), [0, 0.4, 0.8, 0.9, 1]),
        (Multiply(1.5), [0, 0.375, 0.75, 1.125, 1.5]),
        (Invert(), [1, 0.75, 0.5, 0.25, 0]),
        (Quantise(2), [0, 0, 0, 1, 1]),
    ],
    ids=repr,
)
def test_curves_on_paper(operation, expected):
    np.testing.assert_allclose(operation(GREYS, RNG)[0], expected, atol=3e-4)


def test_pools_on_paper():
    values = np.array([[0.0, 0.2, 0.9], [0.4, 0.6, 0.1]], np.float32)
    for kind, block, rest in (("mean", 0.3, 0.5), ("max", 0.6, 0.9), ("min", 0.0, 0.1)):
        pooled = Pool(kind, 2)(values, RNG)
        np.testing.assert_allclose(pooled, [[block, block, rest]] * 2, rtol=1e-6)
    np.testing.assert_allclose(Pool("median", 3)(values[:, :1], RNG), [[0.4], [0.4]])


def test_sharpening_and_relief_leave_flat_grey_as_it_is():
    flat = np.full((9, 9), 0.5, np.float32)
    for operation in (Sharpen(0.4, 1.0), Emboss(0.4, 1.0), GaussianBlur(2.0), AverageBlur(3)):
        np.testing.assert_allclose(operation(flat, RNG), 0.5, atol=1e-6)


@pytest.mark.parametrize("operation", [GaussianBlur(2.0), AverageBlur(4), Sharpen(0.3, 1.0)])
def test_what_looks_at_neighbours_shifts_nothing(operation):
    dot = np.zeros((31, 31), np.float32)
    dot[15, 15] = 1
    result = operation(dot, RNG)
    np.testing.assert_allclose(result, result[::-1, ::-1], atol=1e-6)
    np.testing.assert_allclose(result, result.T, atol=1e-6)


def test_shares_and_noise_are_as_large_as_they_say():
    grey = np.full((200, 300), 0.5, np.float32)
    rng = np.random.default_rng(1)
    assert 0.08 < (Dropout(0.1)(grey, rng) == 0).mean() < 0.1  # drawn with replacement
    assert 0.07 < (Dropout(0.1, 10)(grey, rng) == 0).mean() <= 0.1
    salted = SaltAndPepper(0.1)(grey, rng)
    assert 0.035 < (salted == 0).mean() < 0.055 and 0.035 < (salted == 1).mean() < 0.055
    noise = GaussianNoise(0.03)(grey, rng) - grey
    assert abs(noise.std() - 0.03) < 0.001 and abs(noise.mean()) < 0.001
    speckle = Speckle(0.5, 1.5)(grey, rng)
    assert 0.25 <= speckle.min() < 0.26 and 0.74 < speckle.max() <= 0.75


def test_shading_on_paper():
    shaded = Shading((1.0, 0.5), 0.8)(np.zeros((3, 3), np.float32), RNG)
    # A corner is half the tilts away from the middle, and there the bowl is 0.8.
    np.testing.assert_allclose(shaded[1, 1], 0)
    np.testing.assert_allclose(shaded[2, 2], 0.5 + 0.25 + 0.8, rtol=1e-6)
    np.testing.assert_allclose(shaded[0, 2], 0.5 - 0.25 + 0.8, rtol=1e-6)


def test_the_window_on_paper():
    values = np.linspace(0, 4, 101, dtype=np.float32)[None]
    window = Window(0.0, 100.0, low_margin=0.25, high_margin=0.0)
    assert window.ends(values) == pytest.approx((-1, 4))
    np.testing.assert_allclose(
        window.show(values, (1.0, 3.0))[0, [0, 25, 50, 75, 100]], [0, 0, 0.5, 1, 1]
    )


def test_a_linear_window_shows_transmission():
    values = np.linspace(0, 4, 101, dtype=np.float32)[None]
    window = Window(0.0, 100.0, linear_span=2.0)
    ends = window.ends(values)
    assert ends == pytest.approx((2, 4))
    transmission = np.exp(-values)
    expected = (np.exp(-2) - transmission) / (np.exp(-2) - np.exp(-4))
    np.testing.assert_allclose(window.show(values, ends), expected.clip(0, 1), atol=1e-5)


def test_a_window_sees_past_closed_shutters_and_flat_images():
    values = np.full((40, 40), 16.0, np.float32)
    values[10:30, 10:30] = np.linspace(1, 2, 20, dtype=np.float32)
    low, high = Window().ends(values)
    assert 1 <= low < 1.1 and 1.9 < high <= 2
    low, high = Window().ends(np.full((5, 5), 2.0, np.float32))
    assert low < high


def test_none_is_the_identity_on_display(a_sample):
    record = draw_randomisation(NONE, (120, 160), np.random.default_rng(0))
    result = randomise(a_sample, record)
    np.testing.assert_array_equal(result.xray.values, a_sample.xray.values)
    assert result.xray.view is a_sample.xray.view
    np.testing.assert_array_equal(result.landmarks.points_px, a_sample.landmarks.points_px)
    np.testing.assert_array_equal(result.landmarks.visible, a_sample.landmarks.visible)
    np.testing.assert_array_equal(result.landmarks.confidence, a_sample.landmarks.confidence)
    for name, mask in a_sample.masks.items():
        np.testing.assert_array_equal(result.masks[name], mask)
    assert (result.key, result.provenance.subject) == ("a", "somebody")


@pytest.mark.parametrize("quantity", [Quantity.LINE_INTEGRAL, Quantity.TRANSMISSION])
def test_none_windows_what_is_physical(a_radiograph, of_quantity, quantity):
    sample = of_quantity(a_radiograph, quantity)
    result = randomise(sample, Randomisation((90, 110)))
    integrals = a_radiograph.xray.values
    low, high = np.percentile(integrals, [0.5, 99.5])
    expected = ((integrals - low) / (high - low)).clip(0, 1)
    np.testing.assert_allclose(result.xray.values, expected, atol=2e-5)


def test_metal_is_dense_whatever_the_quantity(a_radiograph, of_quantity):
    for quantity in Quantity:
        sample = of_quantity(a_radiograph, quantity)
        wire = Tool("wire", (20.0, 45.0), 0.0, 60.0, 4.0, 1.5)
        plain = randomise(sample, Randomisation((90, 110)))
        result = randomise(sample, Randomisation((90, 110), beam=(wire,)))
        gained = result.xray.values - plain.xray.values
        assert gained.min() >= -1e-6
        assert gained[45, 40:70].mean() > 0.15
        np.testing.assert_array_equal(gained[:40], 0)


def test_display_stays_in_range_when_it_did_not_begin_so(a_radiograph):
    xray = Xray(a_radiograph.xray.values, Quantity.DISPLAY)
    result = randomise(replace(a_radiograph, xray=xray), Randomisation((90, 110)))
    assert result.xray.values.max() <= 1
