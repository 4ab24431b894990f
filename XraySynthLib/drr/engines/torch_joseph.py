"""Joseph's projector in torch: the readable reference, differentiable in the pose and the volume.

Every ray is walked along its main axis and the volume is sampled bilinearly in each slice, ray by
ray, with no shortcut; `numba_joseph` is tested against it.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from XraySynthLib.drr.materials import Materials
from XraySynthLib.errors import EngineError
from XraySynthLib.geometry import Intrinsics, View

SAMPLES_AT_ONCE = 2**22


class TorchJoseph:
    """Materials as tensors on a device.

    Raises:
        EngineError: If there is no such device.
    """

    def __init__(self, materials: Materials, device: str = "auto") -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        cropped = materials.cropped()
        try:
            self.device = torch.device(device)
            self.ras_from_ijk = torch.tensor(cropped.ras_from_ijk, device=self.device)
            self.density = torch.tensor(cropped.density_g_per_cm3, device=self.device)
        except (AssertionError, NotImplementedError, RuntimeError, TypeError) as error:
            raise EngineError(f"The torch engine cannot use the device {device!r} here.") from error

    def project(self, view: View) -> NDArray:
        """(M, rows, columns) float32 area density, g/cm2."""
        ras_from_camera = torch.tensor(view.ras_from_camera, device=self.device)
        with torch.no_grad():
            area_density = project_tensors(
                self.density, self.ras_from_ijk, ras_from_camera, view.intrinsics
            )
        return area_density.cpu().numpy()


def project_tensors(
    density: torch.Tensor,
    ras_from_ijk: torch.Tensor,
    ras_from_camera: torch.Tensor,
    intrinsics: Intrinsics,
) -> torch.Tensor:
    """Integrate densities along a view's rays, with gradients to densities and pose.

    Args:
        density: (M, K, J, I) float32, g/cm3.
        ras_from_ijk: (4, 4) float64, the grid's place.
        ras_from_camera: (4, 4) float64, the view's pose; may require gradients.
        intrinsics: The detector.

    Returns:
        (M, rows, columns) area density, g/cm2.
    """
    rows, columns = intrinsics.shape_px
    ijk_from_camera = torch.linalg.solve(ras_from_ijk, ras_from_camera)
    source = ijk_from_camera[:3, 3]
    directions = _pixel_rays(intrinsics, density.device) @ ijk_from_camera[:3, :3].T  # (R, 3)
    main_axis = directions.detach().abs().argmax(dim=1)
    result = density.new_zeros(len(density), rows * columns)
    for axis in range(3):
        (rays,) = torch.nonzero(main_axis == axis, as_tuple=True)
        n_slices = density.shape[3 - axis]
        for part in rays.split(max(1, SAMPLES_AT_ONCE // n_slices)):
            sums = _walk(density, ras_from_ijk, source, directions[part], axis)
            result = result.index_copy(1, part, sums.to(result.dtype))
    return result.reshape(len(density), rows, columns)


def _pixel_rays(intrinsics: Intrinsics, device: torch.device) -> torch.Tensor:
    """(rows * columns, 3) vectors from the source to the pixels, camera frame, z = 1."""
    rows, columns = intrinsics.shape_px
    column, row = np.meshgrid(np.arange(columns), np.arange(rows))
    homogeneous = np.stack([column, row, np.ones_like(row)], axis=-1).reshape(-1, 3)
    return torch.tensor(homogeneous @ np.linalg.inv(intrinsics.px_from_camera).T, device=device)


def _walk(
    density: torch.Tensor,
    ras_from_ijk: torch.Tensor,
    source: torch.Tensor,
    directions: torch.Tensor,
    axis: int,
) -> torch.Tensor:
    """(M, R) g/cm2 along rays from `source` (3,) in `directions` (R, 3), ijk, main axis `axis`."""
    shape_ijk = torch.tensor(density.shape[:0:-1], device=density.device)
    slices = torch.arange(int(shape_ijk[axis]), device=density.device, dtype=source.dtype)
    along = slices - source[axis]  # (N,)
    per_slice = directions / directions[:, axis : axis + 1]  # (R, 3)
    points = source + along[None, :, None] * per_slice[:, None]  # (R, N, 3) ijk
    ahead = (along[None] * directions[:, axis : axis + 1] > 0).to(density.dtype)  # (R, N)
    normalised = 2 * points / (shape_ijk - 1).clamp(min=1) - 1
    samples = functional.grid_sample(
        density[None],  # (1, M, K, J, I)
        normalised[None, None].to(density.dtype),  # (1, 1, R, N, 3)
        mode="bilinear",
        padding_mode="zeros",
        align_corners=True,
    )[0, :, 0]  # (M, R, N)
    step_cm = torch.linalg.norm(per_slice @ ras_from_ijk[:3, :3].T, dim=1) / 10  # (R,)
    return (samples * ahead).sum(dim=2) * step_cm.to(density.dtype)
