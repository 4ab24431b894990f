"""Images whose landmarks are bright dots, so that a picture tells where a landmark is."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from XraySynthLib.data import ImageLandmarkSet, LandmarkSet, Provenance, Quantity, Sample, Xray
from XraySynthLib.geometry import CArmPose, Intrinsics, View, view_from_carm

DOT_SIGMA_PX = 2.0


@pytest.fixture
def a_view() -> View:
    """Off-centre, oblique, 120 rows and 160 columns."""
    intrinsics = Intrinsics(1020, (1.5, 1.5), (120, 160), (70.5, 66.25))  # type: ignore[arg-type]
    return view_from_carm(CArmPose(20, -10, 5), intrinsics)


@pytest.fixture
def points_ras_mm(a_view: View) -> np.ndarray:
    """Five points far from the image's edges and from one another, at several depths."""
    points_px = np.array([[50.2, 40.7], [112.5, 42.0], [80.0, 60.0], [55.4, 84.1], [107.6, 82.3]])
    depths = np.array([0.5, 0.55, 0.6, 0.45, 0.65])[:, None]
    far_ras_mm = a_view.detector_points_ras_mm(points_px)
    return a_view.source_ras_mm + depths * (far_ras_mm - a_view.source_ras_mm)


@pytest.fixture
def dots() -> Callable[[np.ndarray, tuple[int, int]], np.ndarray]:
    """A function: (rows, columns) with a bright dot at each point (N, 2)."""

    def draw(points_px: np.ndarray, shape_px: tuple[int, int]) -> np.ndarray:
        rows, columns = np.mgrid[: shape_px[0], : shape_px[1]]
        image = np.full(shape_px, 0.1, np.float32)
        for column, row in points_px:
            distance2 = (columns - column) ** 2 + (rows - row) ** 2
            image += 0.8 * np.exp(-distance2 / (2 * DOT_SIGMA_PX**2)).astype(np.float32)
        return image

    return draw


@pytest.fixture
def a_sample(a_view: View, points_ras_mm: np.ndarray, dots: Callable) -> Sample:
    """DISPLAY; dots at its landmarks, and a disc about each of the first two as a mask."""
    names = tuple("abcde")
    landmarks = LandmarkSet(names, points_ras_mm).seen_from(a_view)
    shape_px = a_view.intrinsics.shape_px
    xray = Xray(dots(landmarks.points_px, shape_px), Quantity.DISPLAY, view=a_view)
    rows, columns = np.mgrid[: shape_px[0], : shape_px[1]]
    masks = {
        name: np.hypot(columns - column, rows - row) < 14
        for name, (column, row) in zip("ab", landmarks.points_px, strict=False)
    }
    return Sample("a", xray, landmarks, masks, Provenance("simulated", "somebody", (1, 2)))


@pytest.fixture
def a_radiograph() -> Sample:
    """Line integrals of something smooth with noise, 90 x 110, landmarks, masks, no view."""
    rng = np.random.default_rng(4)
    rows, columns = np.mgrid[:90, :110]
    smooth = 3 + 2 * np.sin(columns / 15) * np.cos(rows / 11)
    values = smooth + rng.normal(0, 0.03, smooth.shape)
    landmarks = ImageLandmarkSet(
        ("in", "corner", "outside", "nowhere"),
        np.array([[50.0, 40.0], [0.0, 89.0], [300.0, -20.0], [np.nan, np.nan]]),
        np.array([True, True, False, False]),
        np.array([1.0, 0.5, 1.0, 0.0]),
    )
    xray = Xray(values, Quantity.LINE_INTEGRAL)
    provenance = Provenance("simulated", "somebody")
    return Sample("a", xray, landmarks, {"dense": smooth > 3}, provenance)


@pytest.fixture
def of_quantity() -> Callable[[Sample, Quantity], Sample]:
    """A function: the sample with its line integrals as another quantity."""

    def convert(sample: Sample, quantity: Quantity) -> Sample:
        values = sample.xray.values
        if quantity is Quantity.TRANSMISSION:
            values = np.exp(-values)
        elif quantity is Quantity.DISPLAY:
            values = (values - values.min()) / np.ptp(values)
        return replace(sample, xray=Xray(values, quantity))

    return convert
