"""Both CPU engines against line integrals that are known exactly: ellipsoids and Gaussians."""

import numpy as np
import phantom
import pytest

from XraySynthLib.drr import Materials, project
from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm

ANGLES = [(0, 0), (2.3, -1.4), (30, 20), (44, 5), (-90, 10)]


def a_view(angles, size_px=256):
    intrinsics = Intrinsics(1020, [397.3 / size_px] * 2, (size_px, size_px))
    return view_from_carm(CArmPose(*angles, source_to_isocenter_mm=660), intrinsics)


@pytest.fixture(scope="module")
def sharp():
    body = phantom.abdomen()
    density, ras_from_ijk = phantom.voxelised(body)
    return body, Materials(("water",), density[None], ras_from_ijk)


@pytest.fixture(scope="module")
def smooth():
    body = phantom.smooth_abdomen()
    density, ras_from_ijk = phantom.voxelised(body)
    return body, Materials(("water",), density[None], ras_from_ijk)


def relative_errors(scene, angles, engine="numba", size_px=256):
    body, materials = scene
    view = a_view(angles, size_px)
    truth = phantom.line_integrals(body, view)
    return np.abs(project(materials, view, engine)[0] - truth) / truth.max()


@pytest.mark.parametrize("angles", ANGLES)
def test_ellipsoids(sharp, angles):
    errors = relative_errors(sharp, angles)
    assert errors.mean() < 9e-4
    assert np.percentile(errors, 99) < 1.2e-2


@pytest.mark.parametrize("angles", ANGLES)
def test_gaussians(smooth, angles):
    errors = relative_errors(smooth, angles)
    assert errors.mean() < 8e-5
    assert errors.max() < 3e-3


def test_the_readable_reference_is_as_near(smooth):
    errors = relative_errors(smooth, (30, 20), "torch", size_px=64)
    assert errors.mean() < 8e-5
    assert errors.max() < 3e-3


def test_many_small_pixels_are_as_near_as_few(smooth):
    # More pixels than voxels: the slope grid is then coarser than the detector.
    errors = relative_errors(smooth, (30, 20), size_px=1024)
    assert errors.mean() < 8e-5
    assert errors.max() < 3e-3
