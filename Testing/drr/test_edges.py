"""What changing the sources one line at a time found untested."""

import numpy as np
import pytest

from XraySynthLib.drr import Materials, project
from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm


@pytest.mark.parametrize("engine", ["numba", "torch"])
@pytest.mark.parametrize("primary_deg", [0, 90, 180, -90])
def test_what_lies_behind_the_source_is_not_seen(engine, primary_deg):
    # The source stands at -530 on the beam's axis, in air, between two blocks.
    density = np.zeros((1, 21, 61, 21), np.float32)
    density[0, 8:13, 33:38, 8:13] = 1.0
    before = density.copy()
    density[0, 6:15, 0:4, 5:14] = 1.0
    carm_from_ijk = np.diag([20.0, 20.0, 20.0, 1.0])
    carm_from_ijk[:3, 3] = [-200, -700, -200]
    pose = CArmPose(primary_deg)
    ras_from_ijk = pose.ras_from_carm @ carm_from_ijk
    view = view_from_carm(pose, Intrinsics(1020.0, (10.0, 10.0), (60, 64)))
    images = [
        project(Materials(("water",), d, ras_from_ijk), view, engine) for d in (density, before)
    ]
    np.testing.assert_allclose(images[0], images[1], atol=1e-5)
    assert images[1].max() > 9


@pytest.mark.parametrize("angles", [(0, 0), (180, 0), (90, 0), (-90, 0), (0, 90), (0, -90)])
def test_ragged_rows_are_those_of_the_reference(angles):
    # Every row of voxels starts and ends elsewhere. The detector is parallel to the slices, so the
    # fast kernel interpolates nothing and must agree to rounding.
    rng = np.random.default_rng(0)
    shape = (18, 20, 22)
    density = np.zeros((2, *shape), np.float32)
    for axis, index in enumerate(np.indices(shape)):
        ragged = [n for other, n in enumerate(shape) if other != axis]
        start = np.expand_dims(rng.integers(0, 9, ragged), axis)
        stop = np.expand_dims(rng.integers(9, 18, ragged), axis)
        density += (index >= start) & (index < stop) & (rng.random(density.shape) < 0.5)
    ras_from_ijk = np.diag([4.0, 4.0, 4.0, 1.0])
    ras_from_ijk[:3, 3] = [-42, -38, -34]
    materials = Materials(("water", "bone"), density, ras_from_ijk)
    view = view_from_carm(CArmPose(*angles), Intrinsics(1020.0, (3.0, 3.5), (58, 66)))
    fast, reference = project(materials, view), project(materials, view, "torch")
    np.testing.assert_allclose(fast, reference, atol=2e-5 * reference.max())
