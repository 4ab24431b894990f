"""An image and its mirror image, looked at together, differ in left and right alone."""

import pytest
import torch

from XraySynthLib.data.pelvis import partners_of
from XraySynthLib.detection.heatmaps import decode, presence_of, px_from_cells
from XraySynthLib.detection.mirror import both_ways_round
from XraySynthLib.detection.network import HeatmapNetwork, NetworkConfig

NAMES = ("FH-l", "FH-r", "L5", "ASIS-r", "ASIS-l")


def test_partners():
    assert partners_of(NAMES) == [1, 0, 2, 4, 3]
    assert partners_of(("FH-l", "L5")) == [0, 1]


@pytest.fixture
def network():
    torch.manual_seed(1)
    return HeatmapNetwork(NetworkConfig(5, channels=(8, 16, 16), stride=4)).eval()


@torch.inference_mode()
def test_mirroring_exchanges_the_sides_and_nothing_else(network):
    images = torch.randn(2, 2, 64, 96)
    partners = partners_of(NAMES)
    found = decode(*both_ways_round(network, images, partners))
    other = decode(*both_ways_round(network, images.flip(3), partners))
    columns = px_from_cells(found.points_cells, 4)[..., 0]
    turned = 95 - px_from_cells(other.points_cells, 4)[:, partners, 0]
    assert torch.allclose(columns, turned, atol=1e-3)
    assert torch.allclose(found.presence, other.presence[:, partners], atol=1e-4)


class Fixed(torch.nn.Module):
    """Says the same of any image and its mirror image: places and nowhere, (1, 1, 1, 2), (1, 1)."""

    def __init__(self, *said):
        super().__init__()
        self.said = list(said)

    def forward(self, images):
        return self.said.pop(0)


def test_the_mean_of_logarithms():
    """By hand: shares of the cells .6 .2, nowhere .2; and, its columns turned back, .2 .6 .2."""

    def says(first, second, nowhere):
        # Nowhere's logit is taken against the mean of the cells, see `presence_of`.
        places = torch.tensor([[[[first, second]]]]).log()
        return places, torch.tensor([[nowhere / 2]]).log()

    network = Fixed(says(0.6, 0.2, 0.2), says(0.6, 0.2, 0.2))
    places, absences = both_ways_round(network, torch.zeros(1, 2, 4, 8), [0])
    shares = torch.tensor([0.12**0.5, 0.12**0.5])
    assert torch.allclose(places[0, 0, 0].exp(), shares, atol=1e-6)
    assert presence_of(places, absences).exp().item() == pytest.approx(2 * 0.12**0.5 / 0.2)
