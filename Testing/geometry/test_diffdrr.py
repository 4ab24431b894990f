"""DiffDRR's detector and pose. Its own code is the oracle where it is installed."""

from types import SimpleNamespace

import numpy as np
import pytest

from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm
from XraySynthLib.geometry.converters.diffdrr import (
    DiffDRRCamera,
    diffdrr_from_view,
    view_from_diffdrr,
)

A_CAMERA = DiffDRRCamera(
    pose=np.array([[[-1, 0, 0, 10], [0, -1, 0, -510], [0, 0, 1, 30], [0, 0, 0, 1]]]),
    sdd=1000.0,
    height=400,
    width=600,
    delx=0.5,
    dely=0.25,
    x0=-5.25,
    y0=-4.875,
    reverse_x_axis=False,
)


def test_golden(a_view):
    camera = diffdrr_from_view(a_view)
    np.testing.assert_allclose(camera.pose, A_CAMERA.pose, atol=1e-12)
    assert camera[1:] == A_CAMERA[1:]
    unmirrored = diffdrr_from_view(a_view.columns_reversed())
    np.testing.assert_allclose(unmirrored.pose, A_CAMERA.pose, atol=1e-12)
    # 599 - 310 = 289 is 10.5 columns before the middle.
    assert unmirrored[1:] == A_CAMERA._replace(x0=-5.25, reverse_x_axis=True)[1:]


def test_golden_without_reorientation_and_centred(a_view):
    camera = diffdrr_from_view(a_view, orientation=None, center_ras_mm=(1, 2, 3))
    expected = [[[-1, 0, 0, 9], [0, 0, 1, -512], [0, 1, 0, 27], [0, 0, 0, 1]]]
    np.testing.assert_allclose(camera.pose, expected, atol=1e-12)


def test_golden_back(a_view, assert_same_view):
    assert_same_view(view_from_diffdrr(A_CAMERA), a_view)
    reversed_camera = A_CAMERA._replace(reverse_x_axis=True)
    assert_same_view(view_from_diffdrr(reversed_camera), a_view.columns_reversed())


@pytest.mark.parametrize("orientation", ["AP", None])
def test_round_trip(views, assert_same_view, orientation):
    for view in views:
        camera = diffdrr_from_view(view, orientation, (5, -6, 7))
        assert_same_view(view_from_diffdrr(camera, orientation, (5, -6, 7)), view)


def test_what_diffdrr_would_mirror_is_refused(a_view):
    with pytest.raises(ValueError, match="orientation must be 'AP' or None, got 'PA'"):
        diffdrr_from_view(a_view, orientation="PA")
    with pytest.raises(ValueError, match="pose must be one matrix"):
        view_from_diffdrr(A_CAMERA._replace(pose=np.zeros((2, 4, 4))))


@pytest.mark.parametrize("orientation", ["AP", None])
def test_diffdrrs_detector_and_projection_agree(views, points_between, orientation):
    torch = pytest.importorskip("torch")
    diffdrr_drr = pytest.importorskip("diffdrr.drr", exc_type=ImportError)
    diffdrr_pose = pytest.importorskip("diffdrr.pose", exc_type=ImportError)
    turns = {"AP": [[1, 0, 0], [0, 0, -1], [0, 1, 0]], None: np.eye(3).tolist()}
    reorient = torch.eye(4)
    reorient[:3, :3] = torch.tensor(turns[orientation])
    for view in views[:8]:
        view = view.resized(41, 60)
        camera = diffdrr_from_view(view, orientation)
        pose = diffdrr_pose.RigidTransform(torch.tensor(camera.pose, dtype=torch.float32))
        detector = diffdrr_drr.Detector(reorient=reorient, **_detector_arguments(camera))
        source, target = detector(pose, None)
        np.testing.assert_allclose(source[0, 0], view.source_ras_mm, atol=1e-3)
        rows, columns = np.indices(view.intrinsics.shape_px)
        points_px = np.column_stack([columns.ravel(), rows.ravel()])
        np.testing.assert_allclose(target[0], view.detector_points_ras_mm(points_px), atol=1e-2)
        points_ras_mm = points_between(view)
        found_px = diffdrr_drr.DRR.perspective_projection(
            SimpleNamespace(detector=detector),
            pose,
            torch.tensor(points_ras_mm, dtype=torch.float32)[None],
        )
        np.testing.assert_allclose(found_px[0] - 0.5, view.project(points_ras_mm), atol=2e-3)


@pytest.mark.parametrize("mirrored", [True, False])
def test_diffdrr_renders_a_bright_voxel_where_project_puts_it(mirrored):
    torch = pytest.importorskip("torch")
    diffdrr_data = pytest.importorskip("diffdrr.data", exc_type=ImportError)
    diffdrr_drr = pytest.importorskip("diffdrr.drr", exc_type=ImportError)
    diffdrr_pose = pytest.importorskip("diffdrr.pose", exc_type=ImportError)
    torchio = pytest.importorskip("torchio")
    ras_from_ijk = np.diag([3.0, 4.0, 5.0, 1.0])
    ras_from_ijk[:3, 3] = [-30, 20, 60]
    values_hu = torch.zeros(1, 12, 14, 16)
    ijk = (4, 9, 5)
    values_hu[(0, *ijk)] = 1000
    volume = torchio.ScalarImage(tensor=values_hu, affine=ras_from_ijk)
    center_ras_mm = volume.get_center()
    subject = diffdrr_data.read(volume)  # "AP", and moved to the centre
    point_ras_mm = (ras_from_ijk @ [*ijk, 1])[None, :3]
    intrinsics = Intrinsics(1000, np.array([1.0, 1.4]), (50, 71), np.array([33.0, 27.0]), mirrored)
    pose = CArmPose(25, -15, 40, point_ras_mm[0] + [4, -3, 5], 600)
    view = view_from_carm(pose, intrinsics)
    camera = diffdrr_from_view(view, "AP", center_ras_mm)
    drr = diffdrr_drr.DRR(subject, **_detector_arguments(camera))
    matrix = torch.tensor(camera.pose, dtype=torch.float32)
    image = drr(diffdrr_pose.RigidTransform(matrix))[0, 0].numpy()
    rows, columns = np.indices(image.shape)
    centroid_px = np.array([(image * columns).sum(), (image * rows).sum()]) / image.sum()
    np.testing.assert_allclose(centroid_px, view.project(point_ras_mm)[0], atol=0.05)


def _detector_arguments(camera: DiffDRRCamera) -> dict:
    arguments = camera._asdict()
    arguments.pop("pose")
    return arguments
