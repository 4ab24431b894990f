"""Known maps decode to known points, also where the image's edge cuts them."""

import pytest
import torch

from XraySynthLib.diffusion.heatmaps import decode, gaussian_maps


def test_a_map_by_hand():
    maps = gaussian_maps(torch.tensor([[3.0, 1.0], [float("nan")] * 2]), 8, 1.0)
    assert maps[0, 1, 3] == 1 and maps[0, 1, 4] == pytest.approx(0.60653, abs=1e-5)
    assert maps[0, 3, 3] == pytest.approx(0.13534, abs=1e-5) and not maps[1].any()


@pytest.mark.parametrize("edge", [False, True])
def test_points_come_back(edge):
    generator = torch.Generator().manual_seed(1)
    points = 8 + 48 * torch.rand((20, 3, 2), generator=generator)
    if edge:
        points[..., 0] = -0.4 + 0.8 * torch.rand((20, 3), generator=generator)
    found, confidence = decode(gaussian_maps(points, 64))
    assert (found - points).abs().max() < 0.02
    assert confidence.min() > 0.99


def test_noise_moves_little_and_lowers_confidence():
    generator = torch.Generator().manual_seed(2)
    points = 8 + 48 * torch.rand((30, 2, 2), generator=generator)
    clean = gaussian_maps(points, 64)
    found, confidence = decode(clean + 0.1 * torch.randn(clean.shape, generator=generator))
    assert (found - points).norm(dim=2).max() < 0.5
    assert confidence.max() < 0.99 and confidence.min() > 0.6


def test_an_empty_map_has_no_confidence():
    assert decode(torch.zeros(1, 2, 16, 16))[1].max() == 0
    faint = 0.2 * gaussian_maps(torch.tensor([[[5.0, 6.0]]]), 16)
    assert decode(faint)[1].item() < 0.5
