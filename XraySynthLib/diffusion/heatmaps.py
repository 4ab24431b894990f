"""Landmarks as maps that are denoised with the image, and back."""

import torch

SIGMA_CELLS = 2.5
"""Standard deviation of a landmark's Gaussian: of narrower ones, few come into being."""
REACH_CELLS = 6
"""How far around its greatest cell a map is fitted."""
N_FITS = 8


def gaussian_maps(
    points_cells: torch.Tensor, side: int, sigma_cells: float = SIGMA_CELLS
) -> torch.Tensor:
    """(..., K, side, side) Gaussians of height 1.

    Args:
        points_cells: (..., K, 2) column and row, an integer is a cell's centre; NaN gives 0.
        side: Rows and columns.
        sigma_cells: Standard deviation.
    """
    across, down = _waves(points_cells, side, sigma_cells)
    return torch.nan_to_num(down[..., :, None] * across[..., None, :])


def _waves(
    points_cells: torch.Tensor, side: int, sigma_cells: float
) -> tuple[torch.Tensor, torch.Tensor]:
    cells = torch.arange(side, dtype=points_cells.dtype, device=points_cells.device)
    waves = torch.exp(-((cells - points_cells[..., None]) ** 2) / (2 * sigma_cells**2))
    return waves[..., 0, :], waves[..., 1, :]  # (..., K, columns), (..., K, rows)


def decode(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit the known Gaussian to each map about its greatest cell, by Gauss-Newton.

    The fit is exact for a Gaussian, also where the image's edge cuts it.

    Args:
        maps: (B, K, side, side) about 0..1.

    Returns:
        (B, K, 2) column and row, and (B, K) confidence 0..1: how the map about the point agrees
        with the Gaussian, 2 <m, g> / (<m, m> + <g, g>), 0 for an empty map.
    """
    side = maps.shape[-1]
    best = maps.flatten(2).argmax(dim=2)
    start = torch.stack([best % side, best // side], dim=2).to(maps.dtype)
    near = gaussian_maps(start, side, REACH_CELLS / 2) > 0.135  # e^-2: a disc of REACH_CELLS
    local = maps * near
    points = start
    cells = torch.arange(side, dtype=maps.dtype, device=maps.device)
    for _ in range(N_FITS):
        template = gaussian_maps(points, side) * near
        wrong = local - template
        # Of a Gaussian, d/dp = template (cell - p) / sigma^2.
        along_column = template * (cells - points[..., 0, None])[..., None, :] / SIGMA_CELLS**2
        along_row = template * (cells - points[..., 1, None])[..., :, None] / SIGMA_CELLS**2
        slopes = torch.stack([along_column, along_row], dim=2).flatten(3)  # (B, K, 2, cells)
        normal = slopes @ slopes.transpose(2, 3) + 1e-3 * torch.eye(2, device=maps.device)
        right = slopes @ wrong.flatten(2)[..., None]
        points = points + torch.linalg.solve(normal, right)[..., 0].clamp(-1, 1)
        points = torch.minimum(torch.maximum(points, start - 2), start + 2)
    template = gaussian_maps(points, side) * near
    agreement = 2 * (local * template).sum(dim=(2, 3))
    energy = (local**2 + template**2).sum(dim=(2, 3))
    return points, (agreement / energy.clamp(min=1e-6)).clamp(0, 1)
