"""Training examples: by number alone, registered, mirrored with their view."""

import numpy as np
import pytest
import torch

from Testing.diffusion.conftest import SIDE
from XraySynthLib.data.pelvis import partners_of
from XraySynthLib.diffusion.anatomy_maps import MIRRORED_ORDER
from XraySynthLib.diffusion.examples import WITHHELD_SHARE
from XraySynthLib.diffusion.heatmaps import decode
from XraySynthLib.diffusion.network import from_cells, to_cells
from XraySynthLib.diffusion.views import N_FEATURES, mirrored_view, view_features


def test_an_example_depends_on_its_number_alone(examples):
    one, again, other = examples[5], examples[5], examples[6]
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["noise"], other["noise"])


def test_shapes(examples):
    config, example = examples.config, examples[0]
    assert example["data"].shape == example["noise"].shape == (config.n_state, 16, 16)
    assert example["maps"].shape == (config.n_maps, 16, 16)
    assert example["features"].shape == (N_FEATURES,) and example["times"].shape == (2,)
    expected = {"view": (4 + 6, 24 + 6), "anatomy": (4, 24 + 6)}[config.condition]
    assert (config.n_state, config.n_maps) == expected


def test_half_of_the_times_are_one(examples):
    times = torch.stack([examples[number]["times"] for number in range(200)])
    assert (times[:, 0] == times[:, 1]).float().mean() == pytest.approx(0.5, abs=0.1)
    assert times.min() > 0 and times.max() < 1


def test_now_and_then_all_that_is_told_is_withheld(examples):
    told = [examples[number] for number in range(300)]
    withheld = [not one["features"].any() for one in told]
    assert np.mean(withheld) == pytest.approx(WITHHELD_SHARE, abs=0.06)
    assert all(one["maps"].any() == one["features"].any() for one in told)


def test_cells_hold_every_pixel_where_it_was():
    pixels = torch.arange(64.0).view(1, 1, 8, 8)
    cells = to_cells(pixels, 2)
    assert cells[0, :, 1, 2].tolist() == [20, 21, 28, 29]
    assert torch.equal(from_cells(cells, 2), pixels)


@pytest.mark.parametrize("mirror", [False, True])
def test_heatmaps_lie_on_their_landmarks(examples, mirror):
    """The brightest blob of all is the patient's left hip; mirrored it is the right hip."""
    store, config = examples.stores[0], examples.config
    if config.condition == "anatomy":
        pytest.skip("the landmarks are not denoised")
    hip = store.names.index("FH-r" if mirror else "FH-l")
    for index in np.flatnonzero(store.visible[:, [0, 1]].all(axis=1)).tolist():
        data = examples.told(0, index, mirror)["data"]
        image = from_cells(data[None, :4], 2)[0, 0]
        points, confidence = decode((data[None, 4:] + 1) / 2)
        column, row = (points[0, hip] + 0.5) * 2 - 0.5
        brightest = divmod(int(image.argmax()), SIDE)
        assert abs(brightest[0] - row) <= 1 and abs(brightest[1] - column) <= 1
        assert confidence[0, hip] > 0.99


def test_a_landmark_outside_has_an_empty_map(examples):
    store, config = examples.stores[0], examples.config
    index, landmark = np.argwhere(~store.visible)[0].tolist()
    if config.condition == "view":
        assert (examples.told(0, index)["data"][4 + landmark] == -1).all()


def test_a_mirrored_example_is_the_mirrored_patients(examples):
    """Image, maps and features are those of the mirrored view, left and right exchanged."""
    store = examples.stores[0]
    plain, other = examples.told(0, 2), examples.told(0, 2, mirror=True)
    image, turned = (from_cells(one["data"][None, :4], 2)[0, 0] for one in (plain, other))
    assert torch.equal(turned, image.flip(1))
    center = examples.pelves[store.subjects[2]].center_ras_mm
    view = mirrored_view(store.views[2], center)
    features = view_features(view, center, store.kvp[2])
    assert torch.equal(other["features"], torch.from_numpy(features))
    partners = partners_of(store.names)
    landmarks = [one["maps"][-6:] for one in (plain, other)]
    assert torch.allclose(landmarks[1], landmarks[0][partners].flip(2), atol=1e-4)
    bones = [from_cells(one["maps"][None, :24], 2)[0] for one in (plain, other)]
    assert torch.equal(bones[1], bones[0][MIRRORED_ORDER].flip(2))
