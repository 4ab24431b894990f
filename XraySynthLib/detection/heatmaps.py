"""Landmarks to maps and back: targets, the loss, sub-pixel decoding.

The cells of a landmark's map and one more, "nowhere", share one softmax. So the loss is the
cross-entropy of where it is, and the log-odds of its being in the image are those of all cells
against nowhere.
"""

from dataclasses import dataclass
from typing import TypeVar

import torch
from numpy.typing import NDArray
from torch.nn import functional as F

SIGMA_CELLS = 0.8
"""Standard deviation of a target."""
WINDOW_CELLS = 2.0
"""Standard deviation of the window in which a mode is refined."""
N_SHIFTS = 12
SMALL_CELLS = 0.25
"""Distances below it count by their square."""


@dataclass(frozen=True)
class Decoded:
    """What maps say.

    Attributes:
        points_cells: (B, K, 2) column and row, cells; an integer is a cell's centre.
        presence: (B, K) log-odds of being in the image.
        peak: (B, K) log of the share of the map that lies within a window's width of the point.
    """

    points_cells: torch.Tensor
    presence: torch.Tensor
    peak: torch.Tensor


Points = TypeVar("Points", torch.Tensor, NDArray)


def cells_from_px(points_px: Points, stride: int) -> Points:
    """Pixels of the network's input to cells of its maps; an integer is a centre in both."""
    return (points_px + 0.5) / stride - 0.5


def px_from_cells(points_cells: Points, stride: int) -> Points:
    """Cells of the maps to pixels of the network's input."""
    return (points_cells + 0.5) * stride - 0.5


def target_maps(
    points_cells: torch.Tensor, rows: int, columns: int, sigma_cells: float = SIGMA_CELLS
) -> torch.Tensor:
    """(B, K, rows, columns) Gaussians that sum to 1.

    Args:
        points_cells: (B, K, 2) column and row; NaN gives an even map.
        rows: Of the maps.
        columns: Of the maps.
        sigma_cells: Standard deviation.
    """
    points = torch.nan_to_num(points_cells, nan=0.0, posinf=0.0, neginf=0.0)
    across = _square_distance(points[..., 0], columns)  # (B, K, columns)
    down = _square_distance(points[..., 1], rows)  # (B, K, rows)
    exponent = -(down[..., :, None] + across[..., None, :]) / (2 * sigma_cells**2)
    return exponent.flatten(2).softmax(dim=2).view_as(exponent)


def _square_distance(positions: torch.Tensor, size: int) -> torch.Tensor:
    cells = torch.arange(size, dtype=positions.dtype, device=positions.device)
    return (cells - positions[..., None]) ** 2


def heatmap_loss(
    places: torch.Tensor, absences: torch.Tensor, points_cells: torch.Tensor, visible: torch.Tensor
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Cross-entropy over the cells and nowhere, in nats a landmark.

    Args:
        places: (B, K, rows, columns) logits.
        absences: (B, K) logits of nowhere.
        points_cells: (B, K, 2) column and row.
        visible: (B, K) bool.

    Returns:
        The loss, and its parts: of presence, and where visible of place and, in cells, of the
        point that `decode` would find beside the true one. The targets' own entropy is taken off,
        so that a perfect map costs nothing.
    """
    target = target_maps(points_cells, *places.shape[2:]).flatten(2)
    log_places = places.flatten(2).log_softmax(dim=2)
    entropy = -(target * (target + 1e-12).log()).sum(dim=2)
    place = (-(target * log_places).sum(dim=2) - entropy) * visible
    presence = F.binary_cross_entropy_with_logits(
        presence_of(places, absences), visible.float(), reduction="none"
    )
    # Where the place is sure but for its last half cell, its cross-entropy hardly says so.
    true_cells = torch.nan_to_num(points_cells)
    found_cells, _ = _windowed_mean(log_places.exp().view_as(places), true_cells)
    offset = F.smooth_l1_loss(found_cells, true_cells, reduction="none", beta=SMALL_CELLS).sum(2)
    n_visible = visible.sum().clamp(min=1)
    parts = {
        "place": place.sum() / n_visible,
        "offset": (offset * visible).sum() / n_visible,
        "presence": presence.mean(),
    }
    return parts["place"] + parts["offset"] + parts["presence"], parts


def presence_of(places: torch.Tensor, absences: torch.Tensor) -> torch.Tensor:
    """(B, K) log-odds of being in the image; each cell starts out as 1 / cells."""
    n_cells = places.shape[2] * places.shape[3]
    return places.flatten(2).logsumexp(dim=2) - torch.log(torch.tensor(float(n_cells))) - absences


def decode(places: torch.Tensor, absences: torch.Tensor) -> Decoded:
    """Find each map's mode to a fraction of a cell.

    From the greatest cell a mean shift under a Gaussian window climbs to the mode: exact for a
    Gaussian of any width, and steadier than a parabola through three cells.

    Args:
        places: (B, K, rows, columns) logits.
        absences: (B, K) logits of nowhere.
    """
    columns = places.shape[3]
    shares = places.flatten(2).softmax(dim=2).view_as(places)
    best = places.flatten(2).argmax(dim=2)
    points = torch.stack([best % columns, best // columns], dim=2).to(places.dtype)
    total = torch.ones_like(points[..., 0])
    for _ in range(N_SHIFTS):
        points, total = _windowed_mean(shares, points)
    return Decoded(points, presence_of(places, absences), total.clamp(min=1e-12).log())


def _windowed_mean(
    shares: torch.Tensor, points_cells: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Means of maps under Gaussian windows.

    Args:
        shares: (B, K, rows, columns) maps that sum to 1.
        points_cells: (B, K, 2) column and row of the windows' middles.

    Returns:
        (B, K, 2) column and row, and (B, K) the share that lies within the window.
    """
    sizes = shares.shape[3], shares.shape[2]
    windows = [
        torch.exp(-_square_distance(points_cells[..., axis], size) / (2 * WINDOW_CELLS**2))
        for axis, size in enumerate(sizes)
    ]
    cells = [torch.arange(n, dtype=shares.dtype, device=shares.device) for n in sizes]
    across = torch.einsum("bkrc,bkr->bkc", shares, windows[1]) * windows[0]  # (B, K, columns)
    down = torch.einsum("bkrc,bkc->bkr", shares, windows[0]) * windows[1]  # (B, K, rows)
    total = across.sum(dim=2)
    sums = torch.stack([across @ cells[0], down @ cells[1]], dim=2)
    return sums / total.clamp(min=1e-12)[..., None], total
