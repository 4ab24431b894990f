"""The torch engine's gradients: to the pose by differences, to the volume by adjointness."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from XraySynthLib.drr.engines.torch_joseph import project_tensors
from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm

INTRINSICS = Intrinsics(shape_px=(24, 20), pixel_spacing_mm=(8.0, 7.0))


@pytest.fixture
def a_scene():
    rng = np.random.default_rng(0)
    density = ndimage.gaussian_filter(rng.random((2, 18, 20, 22)), (0, 2, 2, 2))
    ras_from_ijk = np.diag([5.0, 6.0, 7.0, 1.0])
    ras_from_ijk[:3, 3] = [-52, -57, -60]
    view = view_from_carm(CArmPose(25, -15, 5), INTRINSICS)
    return (
        torch.tensor(density),
        torch.tensor(ras_from_ijk),
        torch.tensor(np.array(view.ras_from_camera)),
    )


def moved(pose: torch.Tensor, amount: torch.Tensor, direction: int) -> torch.Tensor:
    """The pose moved along (0-2, mm) or turned about (3-5, rad) one of the camera's axes."""
    generator = torch.zeros(4, 4, dtype=torch.float64)
    if direction < 3:
        generator[direction, 3] = 1
    else:
        a, b = (direction - 2) % 3, (direction - 1) % 3
        generator[a, b], generator[b, a] = -1, 1
    return pose @ torch.linalg.matrix_exp(amount * generator)


@pytest.mark.parametrize("direction", range(6))
def test_gradient_to_the_pose(a_scene, direction):
    density, ras_from_ijk, pose = a_scene
    weights = torch.tensor(np.random.default_rng(1).random((2, *INTRINSICS.shape_px)))

    def loss(amount: torch.Tensor) -> torch.Tensor:
        image = project_tensors(density, ras_from_ijk, moved(pose, amount, direction), INTRINSICS)
        return (weights * image).sum()

    amount = torch.zeros((), dtype=torch.float64, requires_grad=True)
    loss(amount).backward()
    step = torch.tensor(1e-3 if direction < 3 else 1e-5, dtype=torch.float64)
    numeric = ((loss(step) - loss(-step)) / (2 * step)).item()
    assert amount.grad.item() == pytest.approx(numeric, rel=2e-2, abs=1e-2 * abs(numeric) + 1e-3)


def test_gradient_to_the_volume_is_the_adjoint(a_scene):
    density, ras_from_ijk, pose = a_scene
    density.requires_grad_()
    rng = np.random.default_rng(2)
    image = project_tensors(density, ras_from_ijk, pose, INTRINSICS)
    other_image = torch.tensor(rng.random(image.shape))
    (image * other_image).sum().backward()
    other = torch.tensor(rng.random(density.shape))
    with torch.no_grad():
        left = (project_tensors(other, ras_from_ijk, pose, INTRINSICS) * other_image).sum()
    right = (density.grad * other).sum()
    assert left.item() == pytest.approx(right.item(), rel=1e-9)


def test_gradient_descent_finds_the_pose(a_scene):
    density, ras_from_ijk, pose = a_scene
    with torch.no_grad():
        target = project_tensors(density, ras_from_ijk, pose, INTRINSICS)
    amounts = torch.tensor([3.0, -2.0], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([amounts], lr=0.3)
    for _ in range(60):
        optimiser.zero_grad()
        start = moved(moved(pose, amounts[0], 0), amounts[1], 1)
        image = project_tensors(density, ras_from_ijk, start, INTRINSICS)
        loss = ((image - target) ** 2).mean()
        loss.backward()
        optimiser.step()
    assert amounts.detach().abs().max() < 0.2
