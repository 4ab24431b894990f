"""nanodrr's camera. Its own renderer is the oracle where it is installed."""

import numpy as np
import pytest

from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm
from XraySynthLib.geometry.converters.nanodrr import nanodrr_from_view, view_from_nanodrr

K_INV = [[[-0.0005, 0, 0.15525], [0, 0.00025, -0.045125], [0, 0, 1]]]
RT_INV = [[[1, 0, 0, 10], [0, 0, 1, -510], [0, -1, 0, 30], [0, 0, 0, 1]]]


def test_golden(a_view):
    camera = nanodrr_from_view(a_view)
    np.testing.assert_allclose(camera.k_inv, K_INV)
    np.testing.assert_allclose(camera.rt_inv, RT_INV)
    np.testing.assert_array_equal(camera.sdd, [1000])
    assert (camera.height, camera.width) == (400, 600)


def test_golden_back(a_view, assert_same_view):
    assert_same_view(view_from_nanodrr((K_INV, RT_INV, [1000], 400, 600)), a_view)


def test_round_trip_as_float32(views, assert_same_view):
    for view in views:
        camera = nanodrr_from_view(view)
        assert_same_view(view_from_nanodrr(camera), view)
        narrow = (*(np.float32(array) for array in camera[:3]), *camera[3:])
        assert_same_view(view_from_nanodrr(narrow), view, rtol=1e-5)


def test_a_batch_of_two_is_refused(a_view):
    camera = nanodrr_from_view(a_view)
    with pytest.raises(ValueError, match="must be a batch of one"):
        view_from_nanodrr(camera._replace(rt_inv=np.repeat(camera.rt_inv, 2, axis=0)))


@pytest.mark.parametrize("mirrored", [True, False])
def test_nanodrr_renders_a_bright_voxel_where_project_puts_it(mirrored):
    torch = pytest.importorskip("torch")
    nanodrr_data = pytest.importorskip("nanodrr.data", exc_type=ImportError)
    nanodrr_drr = pytest.importorskip("nanodrr.drr", exc_type=ImportError)
    torchio = pytest.importorskip("torchio")
    ras_from_ijk = np.diag([3.0, 4.0, 5.0, 1.0])
    ras_from_ijk[:3, 3] = [-30, 20, 60]
    image = torch.zeros(1, 12, 14, 16)
    ijk = (4, 9, 5)
    image[(0, *ijk)] = 1
    subject = nanodrr_data.Subject.from_images(
        torchio.ScalarImage(tensor=image, affine=ras_from_ijk), convert_to_mu=False
    )
    point_ras_mm = (ras_from_ijk @ [*ijk, 1])[None, :3]
    intrinsics = Intrinsics(1000, np.array([1.0, 1.4]), (50, 70), np.array([33.0, 27.0]), mirrored)
    pose = CArmPose(25, -15, 40, point_ras_mm[0] + [4, -3, 5], 600)
    view = view_from_carm(pose, intrinsics)
    k_inv, rt_inv, sdd, height, width = nanodrr_from_view(view)
    arrays = (torch.tensor(array, dtype=torch.float32) for array in (k_inv, rt_inv, sdd))
    image = nanodrr_drr.render(subject, *arrays, height, width, n_samples=300)[0, 0].numpy()
    rows, columns = np.indices(image.shape)
    centroid_px = np.array([(image * columns).sum(), (image * rows).sum()]) / image.sum()
    np.testing.assert_allclose(centroid_px, view.project(point_ras_mm)[0], atol=0.05)
