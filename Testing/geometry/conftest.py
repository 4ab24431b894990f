"""Views to test with: one whose numbers are easy on paper, and many seeded ones."""

import numpy as np
import pytest

from XraySynthLib.geometry import CArmPose, Intrinsics, View, view_from_carm
from XraySynthLib.geometry.transforms import transform_points


@pytest.fixture
def a_view() -> View:
    """Source (10, -510, 30) RAS; 2000 px columns, 4000 px rows; 400 rows, 600 columns; mirrored.

    By hand: RAS (-10, 90, 40) is (-20, -10, 600) in the camera, so column 310 + 2000 * 20 / 600 and
    row 180 - 4000 * 10 / 600.
    """
    pose = CArmPose(isocenter_ras_mm=np.array([10, 20, 30]), source_to_isocenter_mm=530)
    intrinsics = Intrinsics(
        source_to_detector_mm=1000,
        pixel_spacing_mm=np.array([0.5, 0.25]),
        shape_px=(400, 600),
        principal_point_px=np.array([310, 180]),
        mirrored=True,
    )
    return view_from_carm(pose, intrinsics)


@pytest.fixture
def a_point_ras_mm() -> np.ndarray:
    return np.array([[-10.0, 90.0, 40.0]])


@pytest.fixture
def its_point_px() -> np.ndarray:
    return np.array([[310 + 2000 * 20 / 600, 180 - 4000 * 10 / 600]])


@pytest.fixture
def views() -> list[View]:
    """Twelve mirrored and twelve unmirrored views with oblong pixels and off-centre sources."""
    rng = np.random.default_rng(7)
    views = []
    for n in range(24):
        pose = CArmPose(
            primary_deg=rng.uniform(-180, 180),
            secondary_deg=rng.uniform(-80, 80),
            roll_deg=rng.uniform(-180, 180),
            isocenter_ras_mm=rng.uniform(-200, 200, 3),
            source_to_isocenter_mm=rng.uniform(450, 650),
        )
        rows, columns = rng.integers(200, 900, 2)
        intrinsics = Intrinsics(
            source_to_detector_mm=rng.uniform(900, 1200),
            pixel_spacing_mm=rng.uniform(0.2, 0.9, 2),
            shape_px=(int(rows), int(columns)),
            principal_point_px=rng.uniform(0.2, 0.8, 2) * [columns, rows],
            mirrored=n % 2 == 0,
        )
        views.append(view_from_carm(pose, intrinsics))
    return views


@pytest.fixture
def mirrored_views(views: list[View]) -> list[View]:
    return [view for view in views if view.intrinsics.mirrored]


@pytest.fixture
def points_between():
    """A function: twenty points between source and detector of a view, RAS, mm."""

    def points_between(view: View) -> np.ndarray:
        rng = np.random.default_rng(11)
        depth = rng.uniform(0.3, 0.95, 20) * view.intrinsics.source_to_detector_mm
        across = rng.uniform(-0.15, 0.15, (20, 2)) * depth[:, None]
        return transform_points(view.ras_from_camera, np.column_stack([across, depth]))

    return points_between


@pytest.fixture
def assert_same_view():
    """A function: two views agree in every number, to rounding."""

    def assert_same_view(view: View, other: View, rtol: float = 1e-9) -> None:
        np.testing.assert_allclose(
            view.ras_from_camera, other.ras_from_camera, rtol=rtol, atol=1000 * rtol
        )
        one, two = view.intrinsics, other.intrinsics
        assert one.shape_px == two.shape_px
        assert one.mirrored == two.mirrored
        np.testing.assert_allclose(one.source_to_detector_mm, two.source_to_detector_mm, rtol=rtol)
        np.testing.assert_allclose(one.pixel_spacing_mm, two.pixel_spacing_mm, rtol=rtol)
        np.testing.assert_allclose(
            one.principal_point_px, two.principal_point_px, rtol=rtol, atol=1000 * rtol
        )

    return assert_same_view
