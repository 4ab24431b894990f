"""A tiny network overfits a few images; examples are what they say; calibration means it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from XraySynthLib.data import ImageLandmarkSet, Quantity, Xray
from XraySynthLib.detection import examples as examples_module
from XraySynthLib.detection.calibration import LEAST_CONFIDENCE, Calibration, fit_calibration
from XraySynthLib.detection.examples import NO_CHANGES, Examples, Shares, mirrored, zoomed
from XraySynthLib.detection.heatmaps import cells_from_px, decode, px_from_cells
from XraySynthLib.detection.learning import (
    learn,
    new_state,
    renew_norms,
    validate,
    validation_set,
)
from XraySynthLib.detection.network import ARCHITECTURES, HeatmapNetwork, NetworkConfig
from XraySynthLib.detection.store import store_images
from XraySynthLib.training.schedule import Schedule

NAMES = ("A-l", "A-r")


@pytest.fixture
def store(samples):
    return store_images(samples, None, 64)


def test_a_store_keeps_what_learning_needs(store, samples):
    assert len(store) == 8 and store.names == NAMES
    assert store.people == {"person-0", "person-1"}
    xray, landmarks = store.image(3)
    assert np.abs(xray.values - samples[3].xray.values).max() < 2e-3
    assert np.allclose(landmarks.points_px, samples[3].landmarks.points_px)


def test_shrinking_moves_points_with_the_image(samples):
    small = store_images(samples, None, 32)
    xray, landmarks = small.image(0)
    assert xray.values.shape == (32, 32)
    assert np.allclose(landmarks.points_px, (samples[0].landmarks.points_px + 0.5) / 2 - 0.5)


def test_names_are_found_in_any_order_and_missed(samples):
    turned = store_images(samples, NAMES[::-1], 64)
    assert np.allclose(turned.points_px[0], samples[0].landmarks.points_px[::-1])
    with pytest.raises(ValueError, match="lacks the landmark 'FH-l'"):
        store_images(samples, ("FH-l",), 64)
    with pytest.raises(ValueError, match="no images"):
        store_images([], None, 64)


def test_norms_are_measured_anew(store):
    torch.manual_seed(0)
    network = HeatmapNetwork(NetworkConfig(2, channels=(8, 16, 16), stride=2))
    norms = [one for one in network.modules() if isinstance(one, torch.nn.BatchNorm2d)]
    norms[-1].running_var.fill_(torch.inf)
    examples = Examples([store], [1], 64, None, NO_CHANGES, 0)
    renew_norms(network, examples, 100, 16, 8)
    assert not network.training
    batches = [torch.stack([examples[100 + 8 * b + n]["image"] for n in range(8)]) for b in (0, 1)]
    seen = []
    norms[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        for batch in batches:
            network(batch)
    assert torch.allclose(norms[0].running_mean, torch.cat(seen).mean(dim=(0, 2, 3)), atol=1e-5)
    assert all(one.running_var.isfinite().all() and one.momentum == 0.1 for one in norms)


def test_a_tiny_network_overfits(store):
    torch.manual_seed(0)
    config = NetworkConfig(2, channels=(8, 16, 16), stride=2)
    state = new_state(config, 0, 200, 0.0)
    examples = Examples([store], [1], 64, None, replace(NO_CHANGES, mirrored=0.5), 0)
    schedule = Schedule(1e-2, 8 * 100, 40)
    losses = [s.loss for s in learn(state, examples, schedule, 8, Accelerator(cpu=True), 1)]
    assert losses[-1] < 0.3 * losses[0]
    scores, calibration, _ = validate(state.model, validation_set(store, 64, None, 7, 0))
    assert scores.kept_error_px < 1.5  # some are inverted, which it never saw
    assert np.isnan(scores.error_mm) and scores.to_dict()["error_mm"] is None
    assert 0 < calibration.threshold < 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("stride", [2, 4])
def test_networks_have_a_map_a_landmark(architecture, stride):
    network = HeatmapNetwork(NetworkConfig(5, architecture, (8, 16, 16), stride)).eval()
    places, absences = network(torch.zeros(2, 2, 96, 64))
    assert places.shape == (2, 5, 96 // stride, 64 // stride) and absences.shape == (2, 5)


def test_targets_lie_on_the_points(store):
    example = Examples([store], [1], 64, None, NO_CHANGES, 3)[0]
    points_px = example["points_px"].numpy()
    assert any(np.allclose(points_px, one, atol=1e-4) for one in store.points_px)
    maps = torch.zeros(1, 2, 32, 32)
    cells = cells_from_px(example["points_px"], 2)
    for k, (column, row) in enumerate(cells.round().int().tolist()):
        maps[0, k, row, column] = 20.0
    found = px_from_cells(decode(maps, torch.zeros(1, 2)).points_cells.numpy(), 2)[0]
    assert np.abs(found - points_px).max() < 1.1


def test_an_example_depends_on_its_number_alone(store):
    def randomise(xray, landmarks, rng):
        return Xray(xray.values + rng.normal(), xray.quantity), landmarks

    one, other = (Examples([store], [1], 64, randomise, Shares(), 5) for _ in range(2))
    later = [other[number] for number in (9, 4)][1]
    assert all(torch.equal(a, b) for a, b in zip(one[4].values(), later.values(), strict=True))


def test_sources_are_drawn_by_weight(samples):
    near, far = (store_images(samples[k : k + 1], None, 64) for k in (0, 1))
    examples = Examples([near, far], [3, 1], 64, None, NO_CHANGES, 0)
    first = np.stack([examples[i]["points_px"].numpy() for i in range(200)])
    share = np.isclose(first[:, 0], near.points_px[0, 0], atol=1e-3).all(axis=1).mean()
    assert 0.65 < share < 0.85


def test_a_mirrored_image_has_its_sides_swapped():
    values = np.zeros((10, 20), np.float32)
    values[3, 4] = 1
    xray = Xray(values, Quantity.DISPLAY)
    landmarks = ImageLandmarkSet(NAMES, [[4.0, 3.0], [15.0, 8.0]], [True, False], [1, 1])
    other, marked = mirrored(xray, landmarks, [1, 0])
    assert other.values[3, 15] == 1
    assert marked.points_px.tolist() == [[4.0, 8.0], [15.0, 3.0]]
    assert marked.visible.tolist() == [False, True]


def test_zooming_keeps_points_on_their_pixels():
    """A landmark every 6 px: those in the window lie on the same values, there are no others."""
    values = np.random.default_rng(0).random((60, 80)).astype(np.float32)
    places = np.stack(np.meshgrid(range(1, 80, 6), range(1, 60, 6)), axis=-1).reshape(-1, 2)
    names = tuple(map(str, range(len(places))))
    landmarks = ImageLandmarkSet(names, places, np.ones(len(names), bool), np.ones(len(names)))
    for seed in range(5):
        part, marked = zoomed(
            Xray(values, Quantity.DISPLAY), landmarks, np.random.default_rng(seed)
        )
        columns, rows = marked.points_px[marked.visible].astype(int).T
        old_columns, old_rows = places[marked.visible].T
        assert np.array_equal(part.values[rows, columns], values[old_rows, old_columns])
        shown = np.isin(values[places[:, 1], places[:, 0]], part.values)
        assert marked.visible.tolist() == shown.tolist() and 0 < shown.sum() < len(shown)


@pytest.mark.parametrize(
    ("shape", "window"), [((5, 80), (5, 37)), ((80, 5), (37, 5)), ((1, 1), (1, 1))]
)
def test_an_image_of_a_few_rows_is_zoomed(shape, window):
    landmarks = ImageLandmarkSet(("A",), [[0.0, 0.0]], [True], [1])
    xray = Xray(np.zeros(shape, np.float32), Quantity.DISPLAY)
    part, _ = zoomed(xray, landmarks, np.random.default_rng(0))
    assert part.values.shape == window


@pytest.mark.parametrize("kind", ["turned", "patchwork", "clouds"])
def test_changes_that_leave_nothing_to_find(store, kind):
    shares = Shares(
        **{"mirrored": 0, "zoomed": 0, "turned": 0, "patchwork": 0, "clouds": 0, kind: 1}
    )
    for number in range(10):
        example = Examples([store], [1], 64, None, shares, 0)[number]
        assert not example["visible"].any() and torch.isfinite(example["image"]).all()


def test_shares_are_shares():
    with pytest.raises(ValueError, match="Shares"):
        Shares(zoomed=0.9, turned=0.2)
    assert examples_module.Shares().mirrored == 0.5


def test_calibration_recovers_probabilities():
    rng = np.random.default_rng(0)
    presence, peak = rng.normal(0, 3, 20_000), rng.normal(-1, 0.5, 20_000)
    truth = Calibration(0.5, 1.0, 0.7)
    right = rng.random(20_000) < truth.confidence(presence, peak)
    visible = right | (rng.random(20_000) < 0.1)
    fitted = fit_calibration(presence, peak, right, visible)
    assert np.abs(fitted.confidence(presence, peak) - truth.confidence(presence, peak)).max() < 0.06
    kept = fitted.confidence(presence, peak)[visible] >= fitted.threshold
    assert kept.mean() == pytest.approx(0.95, abs=0.01) or fitted.threshold == LEAST_CONFIDENCE
