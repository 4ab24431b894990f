"""Landmarks stay on what they mark, masks on what they cover, views true."""

from dataclasses import replace

import numpy as np
import pytest

from XraySynthLib.data import ImageLandmarkSet, Quantity, Sample, Xray
from XraySynthLib.data.randomisation import Randomisation, randomise, randomise_image
from XraySynthLib.data.randomisation.plane import PlaneMotion, Warp
from XraySynthLib.geometry import Intrinsics, View

SIMILARITIES = {
    "turn": PlaneMotion(angle_deg=12.0),
    "scale": PlaneMotion(scale=0.85),
    "shift": PlaneMotion(shift_px=(7.3, -4.6)),
    "crop": PlaneMotion(scale=1.3, shift_px=(3.0, 2.0)),
    "half turn": PlaneMotion(turned_180=True),
    "all": PlaneMotion(1.1, -8.0, (-4.4, 3.3), True, border="thin"),
}
ELASTIC = {
    "elastic": PlaneMotion(elastic_px=3.0, elastic_cells=3, elastic_seed=5),
    "all and elastic": replace(SIMILARITIES["all"], elastic_px=2.5, elastic_cells=4),
}


def moved(sample: Sample, motion: PlaneMotion) -> Sample:
    return randomise(sample, Randomisation(sample.xray.values.shape, motion))


def blob_center_px(values: np.ndarray, near_px: np.ndarray) -> np.ndarray:
    """Brightest pixel's neighbourhood within 8 px of a point: its centre of mass."""
    rows, columns = np.mgrid[: values.shape[0], : values.shape[1]]
    near = np.hypot(columns - near_px[0], rows - near_px[1]) < 8
    row, column = np.unravel_index(np.where(near, values, -1).argmax(), values.shape)
    around = np.hypot(columns - column, rows - row) < 5
    weights = np.where(around, values - values[around].min(), 0)
    return np.array([(columns * weights).sum(), (rows * weights).sum()]) / weights.sum()


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("name", [*SIMILARITIES, *ELASTIC])
def test_landmarks_stay_on_their_dots(a_sample, name):
    result = moved(a_sample, {**SIMILARITIES, **ELASTIC}[name])
    assert result.landmarks.visible.all()
    assert np.abs(result.landmarks.points_px - a_sample.landmarks.points_px).max() > 1
    for point_px in result.landmarks.points_px:
        center_px = blob_center_px(result.xray.values, point_px)
        assert np.linalg.norm(center_px - point_px) < 0.3


@pytest.mark.parametrize("name", [*SIMILARITIES, *ELASTIC])
def test_masks_stay_about_their_landmarks(a_sample, name):
    motion = {**SIMILARITIES, **ELASTIC}[name]
    result = moved(a_sample, motion)
    rows, columns = np.mgrid[:120, :160]
    for index, mask in enumerate(result.masks.values()):
        column, row = result.landmarks.points_px[index]
        disc = np.hypot(columns - column, rows - row) < 14 * motion.scale
        assert mask.dtype == bool
        assert overlap(mask, disc) > (0.7 if motion.elastic else 0.95)


def test_masks_move_elastically_as_the_image_does(a_sample):
    mask = a_sample.masks["a"]
    image = Xray(mask.astype(np.float32), Quantity.DISPLAY)
    result = moved(replace(a_sample, xray=image), ELASTIC["all and elastic"])
    assert overlap(result.masks["a"], result.xray.values >= 0.5) > 0.99


@pytest.mark.parametrize("name", SIMILARITIES)
def test_the_view_sees_the_points_where_the_landmarks_are(a_sample, points_ras_mm, name):
    result = moved(a_sample, SIMILARITIES[name])
    seen_px = result.xray.view.project(points_ras_mm)
    np.testing.assert_allclose(seen_px, result.landmarks.points_px, atol=1e-8)


def test_the_view_stays_true_where_pixels_are_oblong(a_sample, a_view, points_ras_mm, dots):
    old = a_view.intrinsics
    oblong = View(
        a_view.ras_from_camera,
        Intrinsics(1020, (1.2, 1.8), old.shape_px, old.principal_point_px, mirrored=False),
    )
    points_px = oblong.project(points_ras_mm)
    landmarks = replace(a_sample.landmarks, points_px=points_px)
    xray = Xray(dots(points_px, old.shape_px), Quantity.DISPLAY, view=oblong)
    result = moved(replace(a_sample, xray=xray, landmarks=landmarks), PlaneMotion(0.9, 15.0))
    seen_px = result.xray.view.project(points_ras_mm)
    np.testing.assert_allclose(seen_px, result.landmarks.points_px, atol=1e-8)
    for point_px in seen_px[result.landmarks.visible]:
        assert np.linalg.norm(blob_center_px(result.xray.values, point_px) - point_px) < 0.3


@pytest.mark.parametrize("name", ELASTIC)
def test_no_view_sees_an_elastic_deformation(a_sample, name):
    result = moved(a_sample, ELASTIC[name])
    assert result.xray.view is None
    np.testing.assert_allclose(result.xray.pixel_spacing_mm, 1.5 / ELASTIC[name].scale)


def test_a_quarter_turn_on_paper():
    """From columns toward rows about (2, 1): one to the right of it comes to stand below it."""
    matrix = PlaneMotion(angle_deg=90.0).moved_px_from_px((3, 5), np.ones(2))
    np.testing.assert_allclose(matrix, [[0, -1, 3], [1, 0, -1], [0, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(matrix @ [3, 1, 1], [2, 2, 1], atol=1e-12)


def test_scale_and_shift_on_paper():
    matrix = PlaneMotion(scale=2.0, shift_px=(0.5, -1.0)).moved_px_from_px((3, 5), np.ones(2))
    np.testing.assert_allclose(matrix, [[2, 0, -1.5], [0, 2, -2], [0, 0, 1]])


def test_a_half_turn_is_exact(a_sample):
    result = moved(a_sample, PlaneMotion(turned_180=True))
    np.testing.assert_array_equal(result.xray.values, a_sample.xray.values[::-1, ::-1])
    np.testing.assert_array_equal(result.masks["a"], a_sample.masks["a"][::-1, ::-1])
    expected_px = [159, 119] - a_sample.landmarks.points_px
    np.testing.assert_allclose(result.landmarks.points_px, expected_px, atol=1e-12)
    expected = a_sample.xray.view.rotated_180()
    np.testing.assert_allclose(result.xray.view.ras_from_camera, expected.ras_from_camera)
    twice = moved(result, PlaneMotion(turned_180=True))
    np.testing.assert_array_equal(twice.xray.values, a_sample.xray.values)


@pytest.mark.parametrize("border", ["edge", "dense", "thin"])
@pytest.mark.parametrize("quantity", [Quantity.LINE_INTEGRAL, Quantity.TRANSMISSION])
def test_what_comes_in_from_beyond_is_what_the_border_says(border, quantity):
    values = np.tile(np.linspace(1, 3, 20, dtype=np.float32), (10, 1))
    if quantity is Quantity.TRANSMISSION:
        values = np.exp(-values)
    nothing = ImageLandmarkSet((), np.empty((0, 2)), np.empty(0, bool), np.empty(0))
    record = Randomisation((10, 20), PlaneMotion(shift_px=(6.0, 0.0), border=border))
    result, _, _ = randomise_image(Xray(values, quantity), nothing, None, record)
    expected = {"edge": 0.0, "dense": 1.0, "thin": 0.0}[border]
    np.testing.assert_allclose(result.values[:, :5], expected, atol=0.02)


def test_what_moves_out_is_no_longer_visible_and_what_moves_in_was_never_there(a_sample):
    away = moved(a_sample, PlaneMotion(shift_px=(60.0, 0.0)))
    assert away.landmarks.visible.tolist() == [True, False, True, True, False]
    assert not np.isnan(away.landmarks.points_px).any()
    back = moved(away, PlaneMotion(shift_px=(-60.0, 0.0)))
    assert back.landmarks.visible.tolist() == [True, False, True, True, False]


def test_elastic_points_are_where_the_map_says():
    """The image at a landmark shows the old image at the old landmark: the map is inverted."""
    motion = PlaneMotion(1.05, 4.0, (2.0, 1.0), elastic_px=3.0, elastic_cells=5, elastic_seed=9)
    warp = Warp(motion, (150, 200), np.ones(2))
    column, row = np.meshgrid(np.arange(200), np.arange(150))
    ramps = [warp.image(ramp.astype(np.float32)) for ramp in (column, row)]
    rng = np.random.default_rng(3)
    old_px = rng.uniform([40, 40], [160, 110], (50, 2))
    new_px = warp.points(old_px)
    whole = np.floor(new_px).astype(int)
    for ramp, old in zip(ramps, old_px.T, strict=True):
        part = new_px - whole
        value = sum(
            ramp[whole[:, 1] + dy, whole[:, 0] + dx]
            * np.abs(1 - dx - part[:, 0])
            * np.abs(1 - dy - part[:, 1])
            for dx in (0, 1)
            for dy in (0, 1)
        )
        np.testing.assert_allclose(value, old, atol=0.05)


def test_an_elastic_deformation_that_folds_is_refused():
    with pytest.raises(ValueError, match="would fold an image"):
        Warp(PlaneMotion(elastic_px=20.0, elastic_cells=6), (100, 300), np.ones(2))


@pytest.mark.parametrize(
    "fields",
    [{"scale": 0.0}, {"shift_px": (1.0,)}, {"border": "mirror"}, {"elastic_cells": 0}],
)
def test_a_motion_that_cannot_be_is_refused(fields):
    with pytest.raises(ValueError):
        PlaneMotion(**fields)
