"""Known maps decode to known points; the loss is least where it should be."""

import pytest
import torch

from XraySynthLib.detection.heatmaps import decode, heatmap_loss, target_maps


@pytest.mark.parametrize("sigma_cells", [0.8, 1.2, 2.0])
def test_a_gaussian_decodes_to_a_twentieth_of_a_pixel(sigma_cells):
    generator = torch.Generator().manual_seed(3)
    points = 10 + 60 * torch.rand((40, 3, 2), generator=generator)
    maps = target_maps(points, 80, 90, sigma_cells).clamp(min=1e-30).log()
    found = decode(maps, torch.zeros(40, 3)).points_cells
    assert (found - points).abs().max() < 0.0125  # cells of four pixels


def test_a_literal_map():
    maps = torch.full((1, 1, 9, 12), -30.0)
    maps[0, 0, 5, 7] = maps[0, 0, 5, 8] = 0.0  # row 5, between columns 7 and 8
    found = decode(maps, torch.zeros(1, 1))
    assert found.points_cells[0, 0].tolist() == pytest.approx([7.5, 5.0], abs=1e-3)


def test_the_higher_of_two_peaks_wins_unmoved_by_the_other():
    points = torch.tensor([[[20.0, 20.0], [50.0, 50.0]]])
    maps = target_maps(points, 64, 64)
    both = (0.6 * maps[:, :1] + 0.4 * maps[:, 1:]).clamp(min=1e-30).log()
    found = decode(both, torch.zeros(1, 1))
    assert torch.allclose(found.points_cells[0, 0], points[0, 0], atol=0.02)
    alone = decode(maps[:, :1].clamp(min=1e-30).log(), torch.zeros(1, 1))
    assert found.peak < alone.peak


def test_a_perfect_map_costs_nothing_and_absence_counts():
    points = torch.tensor([[[12.3, 20.9]]])
    seen, unseen = torch.tensor([[True]]), torch.tensor([[False]])
    perfect = target_maps(points, 32, 32).clamp(min=1e-30).log()
    sure_in, sure_out = torch.tensor([[-60.0]]), torch.tensor([[60.0]])
    assert heatmap_loss(perfect, sure_in, points, seen)[0] == pytest.approx(0, abs=1e-3)
    assert heatmap_loss(perfect, sure_out, points, seen)[0] > 10
    nowhere = torch.full_like(points, float("nan"))
    assert heatmap_loss(perfect, sure_out, nowhere, unseen)[0] == pytest.approx(0, abs=1e-3)
    shifted = target_maps(points + 2, 32, 32).clamp(min=1e-30).log()
    assert heatmap_loss(shifted, sure_in, points, seen)[0] > 1


def test_a_part_of_a_cell_counts():
    """Half a cell aside costs some quarter of a nat of place; the offset says it in cells."""
    points = torch.tensor([[[12.0, 20.0]]])
    aside = target_maps(points + torch.tensor([0.5, 0.0]), 32, 32, 0.8).clamp(min=1e-30).log()
    _, parts = heatmap_loss(aside, torch.tensor([[-60.0]]), points, torch.tensor([[True]]))
    # Two Gaussians meet: the window of 2 cells draws the mean to 0.5 * 2^2 / (2^2 + 0.8^2).
    distance = 0.5 * 4 / 4.64
    assert parts["offset"] == pytest.approx(distance - 0.25 / 2, abs=2e-3)


def test_gradients_are_finite_where_nothing_is_visible():
    maps = torch.zeros((2, 3, 16, 16), requires_grad=True)
    absences = torch.zeros((2, 3), requires_grad=True)
    nowhere = torch.full((2, 3, 2), float("nan"))
    loss, _ = heatmap_loss(maps, absences, nowhere, torch.zeros((2, 3), dtype=torch.bool))
    loss.backward()
    assert torch.isfinite(maps.grad).all() and torch.isfinite(absences.grad).all()
