"""K-wires and screws: their chords are analytic, their images lie where the view puts them."""

import numpy as np
import pytest

from XraySynthLib.drr import CappedCylinder, k_wire, screw, with_instruments
from XraySynthLib.drr.instruments import chord_length_mm
from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm
from XraySynthLib.geometry.transforms import transform_points


def a_view(angles=(0, 0, 0), shape_px=(81, 101), pixel_mm=0.5, mirrored=True):
    intrinsics = Intrinsics(1020.0, (pixel_mm, pixel_mm), shape_px, mirrored=mirrored)
    return view_from_carm(CArmPose(*angles), intrinsics)


def sampled_chords(cylinder, view, points_px, n_samples=40_000):
    """Chords by brute force: points along each ray, up to the detector, that lie inside."""
    axis = cylinder.end_ras_mm - cylinder.start_ras_mm
    length = np.linalg.norm(axis)
    axis = axis / length
    fractions = (np.arange(n_samples) + 0.5) / n_samples
    chords = []
    for end in view.detector_points_ras_mm(points_px):
        ray = end - view.source_ras_mm
        offsets = view.source_ras_mm + fractions[:, None] * ray - cylinder.start_ras_mm
        along = offsets @ axis
        across = np.linalg.norm(offsets - along[:, None] * axis, axis=1)
        inside = (along >= 0) & (along <= length) & (across <= cylinder.radius_mm)
        chords.append(inside.mean() * np.linalg.norm(ray))
    return np.array(chords)


class TestChords:
    # A fine detector: the mean over a pixel is then its middle ray's chord.

    def test_across_the_middle_it_is_the_diameter(self):
        wire = CappedCylinder((-30, 0, 0), (30, 0, 0), 4.0)
        chord = chord_length_mm(wire, a_view(pixel_mm=0.02))
        assert chord[40, 50] == pytest.approx(8.0, rel=1e-4)

    def test_along_the_axis_it_is_the_length(self):
        wire = CappedCylinder((0, -25, 0), (0, 35, 0), 4.0)
        assert chord_length_mm(wire, a_view(pixel_mm=0.02))[40, 50] == pytest.approx(60, rel=1e-4)

    def test_beside_the_axis_it_is_the_circles_chord(self):
        # Row 40 + 2 * 1020 / 530 / 0.05: the ray passes the axis at about 2 mm of radius 4.
        chord = chord_length_mm(
            CappedCylinder((-30, 0, 0), (30, 0, 0), 4.0), a_view(pixel_mm=0.05, shape_px=(301, 5))
        )
        offset_mm = 530 * np.sin(np.arctan(60 * 0.05 / 1020))
        slant = np.hypot(1, 0)  # in the plane across the axis
        expected = 2 * np.sqrt(16 - offset_mm**2) * slant
        assert chord[150 + 60, 2] == pytest.approx(expected, rel=1e-4)

    @pytest.mark.parametrize("seed", range(12))
    def test_oblique_chords_are_those_found_by_sampling(self, seed):
        rng = np.random.default_rng(seed)
        view = a_view(rng.uniform(-60, 60, 3), pixel_mm=0.01, mirrored=seed % 2 == 0)
        direction = rng.normal(size=3)
        direction *= rng.uniform(20, 60) / np.linalg.norm(direction)
        middle = rng.uniform(-1, 1, 3)
        cylinder = CappedCylinder(middle - direction / 2, middle + direction / 2, rng.uniform(2, 9))
        places = rng.integers([0, 0], [101, 81], (5, 2))
        truth = sampled_chords(cylinder, view, places)
        found = chord_length_mm(cylinder, view)[places[:, 1], places[:, 0]]
        np.testing.assert_allclose(found, truth, atol=0.1)
        assert truth.max() > 2

    @pytest.mark.parametrize("flipped", [False, True])
    def test_either_end_may_come_first(self, flipped):
        ends = [(-20.0, 5.0, -12.0), (18.0, -9.0, 10.0)]
        wire = CappedCylinder(*(ends[::-1] if flipped else ends), 1.5)
        other = CappedCylinder(*ends, 1.5)
        view = a_view((20, 10, 5))
        np.testing.assert_allclose(
            chord_length_mm(wire, view), chord_length_mm(other, view), atol=1e-4
        )


class TestPlace:
    @pytest.mark.parametrize("seed", range(20))
    def test_a_thin_wire_lies_between_its_projected_ends(self, seed):
        rng = np.random.default_rng(seed)
        view = a_view(rng.uniform(-80, 80, 3), mirrored=seed % 3 > 0)
        ends = transform_points(
            CArmPose(*rng.uniform(-80, 80, 3)).ras_from_carm,
            np.array([[-9.0, rng.uniform(-3, 3), 0], [8.0, 2.0, rng.uniform(-4, 4)]]),
        )
        chord = chord_length_mm(CappedCylinder(*ends, 0.3), view)
        ends_px = view.project(ends)
        rows, columns = np.indices(chord.shape)
        centroid = np.array([(chord * columns).sum(), (chord * rows).sum()]) / chord.sum()
        # Nearer parts are magnified more, and weigh more.
        points = ends[0] + np.linspace(0, 1, 201)[:, None] * (ends[1] - ends[0])
        weights = transform_points(view.camera_from_ras, points)[:, 2] ** -2
        expected = weights @ view.project(points) / weights.sum()
        np.testing.assert_allclose(centroid, expected, atol=0.05)
        along = (ends_px[1] - ends_px[0]) / np.linalg.norm(ends_px[1] - ends_px[0])
        offsets = np.stack([columns, rows], axis=-1)[chord > 0] - ends_px[0]
        across = offsets @ [-along[1], along[0]]
        assert np.abs(across).max() < 0.3 * 1020 / 450 / 0.5 + 1
        reach = offsets @ along
        assert reach.min() > -2.5 and reach.max() < np.linalg.norm(ends_px[1] - ends_px[0]) + 2.5

    def test_literal_ends(self):
        """As in the goldens of the geometry: RAS (-50, 0, 40) is column 1263.51, row 370.69."""
        wire = CappedCylinder((-50, 0, 40), (-50, 0, -40), 0.5)
        chord = chord_length_mm(wire, view_from_carm(CArmPose(), Intrinsics()))
        rows, columns = np.nonzero(chord)
        assert columns.mean() == pytest.approx(1263.51, abs=0.3)
        assert rows.min() == pytest.approx(370.69, abs=1.5)
        assert rows.max() == pytest.approx(767.5 + 396.81, abs=1.5)

    def test_mass_does_not_depend_on_the_pixels(self):
        wire = CappedCylinder((-12.3, 1, -7.7), (11.1, -2, 9.2), 0.7)
        areas = []
        for pixel_mm, shape_px in ((0.1, (1200, 1400)), (0.5, (240, 280)), (1.0, (120, 140))):
            chord = chord_length_mm(wire, a_view((10, 5, 0), shape_px, pixel_mm))
            areas.append(chord.sum(dtype=float) * pixel_mm**2)
        np.testing.assert_allclose(areas[1:], areas[0], rtol=0.01)
        volume_mm3 = np.pi * 0.7**2 * np.linalg.norm([23.4, -3, 16.9])
        assert areas[0] == pytest.approx(volume_mm3 * (1020 / 530) ** 2, rel=0.02)

    def test_partly_outside_the_image_the_rest_is_as_in_a_larger_image(self):
        wire = CappedCylinder((-60, 0, -30), (20, 5, 10), 2.0)
        large = chord_length_mm(wire, a_view(shape_px=(481, 501)))
        small = chord_length_mm(wire, a_view())
        np.testing.assert_allclose(small, large[200:281, 200:301], atol=1e-4)
        assert small.max() > 0 and large.sum() > 1.5 * small.sum()

    def test_outside_the_image_there_is_nothing(self):
        wire = CappedCylinder((-300, 0, 0), (-250, 0, 10), 2.0)
        assert not chord_length_mm(wire, a_view()).any()

    def test_behind_the_source_there_is_nothing(self):
        wire = CappedCylinder((0, -700, 0), (0, -600, 0), 5.0)
        assert not chord_length_mm(wire, a_view()).any()

    def test_from_behind_the_source_only_what_lies_before_it_counts(self):
        wire = CappedCylinder((0, -700, 0), (0, -430, 0), 5.0)  # the source is at -530
        assert chord_length_mm(wire, a_view())[40, 50] == pytest.approx(100, rel=1e-3)

    def test_behind_the_detector_nothing_is_seen(self):
        behind = CappedCylinder((0, 500, 0), (0, 600, 0), 5.0)  # the detector is at 490
        assert not chord_length_mm(behind, a_view()).any()
        through = CappedCylinder((0, 450, 0), (0, 600, 0), 5.0)
        assert chord_length_mm(through, a_view())[40, 50] == pytest.approx(40, rel=1e-3)


class TestMaterials:
    def test_a_wire_is_steel_in_g_per_cm2(self):
        tissue = np.full((1, 81, 101), 20.0, np.float32)
        wire = k_wire((-30, 0, 0), (30, 0, 0), 2.0)
        area_density, names = with_instruments(tissue, ("water",), wire, a_view(pixel_mm=0.05))
        assert names == ("water", "steel")
        np.testing.assert_array_equal(area_density[0], 20)
        assert area_density[1, 40, 50] == pytest.approx(0.2 * 7.95, rel=1e-3)
        assert area_density.dtype == np.float32

    def test_a_screws_parts_add_up_to_the_titanium_there_is(self):
        tissue = np.zeros((2, 81, 101), np.float32)
        tissue[1] = 1.0
        parts = screw((0, -40, 0), (0, 0, 0), 6.5, 8.0, 4.5)
        names = ("soft tissue", "titanium")
        area_density, all_names = with_instruments(tissue, names, parts, a_view(pixel_mm=0.05))
        assert all_names == names
        assert area_density[1, 40, 50] == pytest.approx(1.0 + 4.45 * 4.506, rel=1e-3)
        assert tissue[1].max() == 1.0  # the input is left alone

    def test_a_screw_has_a_head_beyond_the_point_named(self):
        shaft, head = screw((0, 0, 0), (0, 0, 40))
        np.testing.assert_allclose(head.start_ras_mm, shaft.end_ras_mm)
        np.testing.assert_allclose(head.end_ras_mm, [0, 0, 44.5])
        assert (shaft.radius_mm, head.radius_mm) == (3.25, 4.0)

    def test_no_instruments(self):
        tissue = np.ones((1, 81, 101), np.float32)
        area_density, names = with_instruments(tissue, ("water",), [], a_view())
        np.testing.assert_array_equal(area_density, tissue)
        assert names == ("water",)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (((0, 0, 0), (0, 0, 0), 1.0), "needs a length and a radius"),
        (((0, 0, 0), (0, 0, 1), 0.0), "needs a length and a radius"),
        (((0, 0, 0), (0, 0, 1), -1.0), "needs a length and a radius"),
        (((0, 0, 0), (0, 0, 1), np.nan), "needs a length and a radius"),
        (((0, 0, 0), (0, 0, 1), np.inf), "needs a length and a radius"),
        (((0, 0, 0), (0, np.nan, 1), 1.0), "end_ras_mm must be 3 finite numbers"),
        (((0, 0), (0, 0, 1), 1.0), "start_ras_mm must be 3 finite numbers"),
        (((0, 0, 0), (0, 0, 1), 1.0, "wood"), "not 'wood'"),
    ],
)
def test_impossible_cylinders_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        CappedCylinder(*arguments)


def test_a_screw_without_a_length_is_refused():
    with pytest.raises(ValueError, match="needs a length"):
        screw((1, 2, 3), (1, 2, 3))
