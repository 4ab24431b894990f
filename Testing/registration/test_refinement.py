"""Film and DRR compared, and a view refined by them; a body of a few bones."""

from dataclasses import replace

import numpy as np
import pytest

from XraySynthLib.data import ImageLandmarkSet, LandmarkSet, Quantity, Volume, Xray
from XraySynthLib.drr import Preview, materials_from_hu
from XraySynthLib.geometry import CArmPose, Intrinsics, View, view_from_carm
from XraySynthLib.registration import (
    RegistrationError,
    moved,
    pose_error,
    refine,
    view_from_landmarks,
)
from XraySynthLib.registration.refinement import _Matcher
from XraySynthLib.registration.similarity import Film

POINTS_RAS_MM = np.array(
    [[-60, 0, 10], [55, -20, 5], [0, 40, -50], [10, -45, 55], [-30, 30, 40], [40, 35, -20.0]]
)


@pytest.fixture(scope="module")
def preview() -> Preview:
    """An ellipsoid of soft tissue with twelve of bone, on an oblique grid of 4 mm."""
    rng = np.random.default_rng(5)
    k, j, i = np.indices((48, 40, 52), dtype=np.float32)
    ijk_mm = 4 * np.stack([i - 25.5, j - 19.5, k - 23.5], axis=-1)
    values_hu = np.full(k.shape, -1000.0, np.float32)
    values_hu[(ijk_mm**2 / np.square([98, 74, 90])).sum(axis=-1) < 1] = 40
    for _ in range(12):
        center_mm, radii_mm = rng.uniform(-45, 45, 3), rng.uniform(8, 25, 3)
        values_hu[(((ijk_mm - center_mm) / radii_mm) ** 2).sum(axis=-1) < 1] = 700
    turn = CArmPose(20, 10, -15).ras_from_carm
    ras_from_ijk = turn @ np.diag([4.0, 4.0, 4.0, 1.0])
    ras_from_ijk[:3, 3] = -ras_from_ijk[:3, :3] @ [25.5, 19.5, 23.5]
    return Preview(materials_from_hu(Volume(values_hu, ras_from_ijk)))


@pytest.fixture(scope="module")
def view() -> View:
    intrinsics = Intrinsics(1000, np.array([1.6, 1.6]), (180, 200))
    return view_from_carm(CArmPose(20, -10, 5, source_to_isocenter_mm=650), intrinsics)


@pytest.fixture(scope="module")
def line_integral(preview, view) -> Xray:
    return preview.line_integral(view)


@pytest.fixture
def fit(view):
    """The landmarks' view, from exact points."""
    names = tuple("abcdef")
    found = ImageLandmarkSet.placed(names, view.project(POINTS_RAS_MM), (180, 200))
    return view_from_landmarks(LandmarkSet(names, POINTS_RAS_MM), found, view.intrinsics)


def displayed(line_integral: Xray, low: float, high: float, power: float = 1.0) -> Xray:
    values = np.clip((line_integral.values - low) / (high - low), 0, 1) ** power
    return replace(line_integral, values=values, quantity=Quantity.DISPLAY)


def shuttered(xray: Xray) -> Xray:
    rows, columns = np.indices(xray.values.shape)
    behind = np.abs(rows - 90) + np.abs(columns - 100) > 110
    return replace(xray, values=np.where(behind, 0, xray.values))


FILMS = {
    "line integral": lambda xray: xray,
    "transmission": lambda xray: replace(
        xray, values=np.exp(-xray.values), quantity=Quantity.TRANSMISSION
    ),
    "another window": lambda xray: displayed(xray, 1.0, 6.0, 0.7),
    "inverted": lambda xray: displayed(xray, 6.0, 0.0),
    "shutters": lambda xray: shuttered(displayed(xray, 0.5, 6.0)),
}


@pytest.mark.parametrize("kind", FILMS)
def test_a_view_is_found_again_from_any_film(preview, view, line_integral, fit, kind):
    start = replace(fit, view=moved(view, [2, -2, 1.5, 3, -2, 15], np.zeros(3)))
    start = replace(start, covariance=np.diag([4, 4, 4, 9, 9, 225.0]))
    before = pose_error(start.view, view, POINTS_RAS_MM)
    found = refine(start, FILMS[kind](line_integral), preview, np.random.default_rng(0), n_draws=0)
    error = pose_error(found.view, view, POINTS_RAS_MM)
    assert before.target_mm > 12
    assert error.target_mm < 2 and error.rotation_deg < 0.2
    assert found.inverted == (kind == "inverted")
    assert found.similarity > max(0.95, found.similarity_before)


def test_the_same_seed_refines_to_the_same_bits(preview, line_integral, fit):
    first, second = (
        refine(fit, line_integral, preview, np.random.default_rng(1), n_draws=1) for _ in range(2)
    )
    np.testing.assert_array_equal(first.view.ras_from_camera, second.view.ras_from_camera)


def test_similarity_is_one_to_itself_and_falls_with_distance(preview, view, line_integral):
    film = Film(line_integral, 100)
    assert film.shape_px == (90, 100)
    aside = [moved(view, [0, 0, 0, x_mm, 0, 0], np.zeros(3)) for x_mm in (0, 2, 5, 10)]
    similarities = [
        film.similarity(preview.line_integral(other.resized(90, 100)).values) for other in aside
    ]
    assert similarities[0] > 0.99
    assert similarities == sorted(similarities, reverse=True) and similarities[3] < 0.7


def test_squares_of_residuals_are_two_minus_two_similarities(line_integral):
    film = Film(line_integral, 100)
    other = np.random.default_rng(0).random(film.shape_px, np.float32)
    squares = float((film.residuals(other) ** 2).sum())
    assert squares == pytest.approx(2 - 2 * film.similarity(other), abs=1e-4)


def test_what_lies_behind_shutters_does_not_count(line_integral):
    film = Film(shuttered(displayed(line_integral, 0.5, 6.0)), 200)
    drr = line_integral.values.copy()
    with_junk = drr.copy()
    with_junk[:20, :20] += 5
    assert film.similarity(with_junk) == pytest.approx(film.similarity(drr), abs=1e-6)
    assert 0.5 < film.open_share < 0.7


def test_a_film_behind_shutters_is_refused(preview, line_integral, fit):
    values = np.zeros_like(line_integral.values)
    values[80:100, 90:110] = np.random.default_rng(0).random((20, 20))
    film = replace(line_integral, values=values, quantity=Quantity.DISPLAY)
    with pytest.raises(RegistrationError, match="Shutters leave"):
        refine(fit, film, preview, np.random.default_rng(0), n_draws=0)


def test_a_film_of_something_else_is_refused(preview, line_integral, fit):
    values = np.random.default_rng(0).random(line_integral.values.shape, np.float32)
    film = replace(line_integral, values=values, quantity=Quantity.DISPLAY)
    with pytest.raises(RegistrationError, match=r"do not look alike"):
        refine(fit, film, preview, np.random.default_rng(0), n_draws=0)


def test_going_beyond_the_capture_range_is_refused(preview, view, line_integral, fit):
    sure = replace(
        fit, view=moved(view, [1, 1, 0, 3, 0, 0], np.zeros(3)), covariance=1e-3 * np.eye(6)
    )
    with pytest.raises(RegistrationError, match="times what the landmarks leave open"):
        refine(sure, line_integral, preview, np.random.default_rng(0), n_draws=0)


def test_getting_worse_is_refused(preview, line_integral, fit, monkeypatch):
    def astray(self, start, pivot_ras_mm):
        return moved(start, [0, 0, 0, 4, 0, 0], pivot_ras_mm)

    monkeypatch.setattr(_Matcher, "climbed", astray)
    with pytest.raises(RegistrationError, match="less alike"):
        refine(fit, line_integral, preview, np.random.default_rng(0), n_draws=0)
