"""Attenuation, spectra and the exposure chain, against published and analytic numbers."""

import numpy as np
import pytest

from XraySynthLib.data import Quantity, Volume, Xray
from XraySynthLib.drr import (
    FULL,
    PLAIN,
    Collimation,
    Exposure,
    expose,
    materials_from_hu,
    materials_from_labels,
    to_display,
    to_line_integral,
)
from XraySynthLib.drr.attenuation import COMPOSITIONS, mass_attenuation
from XraySynthLib.drr.scatter import scattered
from XraySynthLib.drr.spectral import exact_line_integral, polychromatic_line_integral
from XraySynthLib.drr.spectrum import SHIPPED_KVP, load_spectrum
from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm

SHAPE = (60, 80)


@pytest.fixture
def a_view():
    return view_from_carm(CArmPose(), Intrinsics(shape_px=SHAPE, pixel_spacing_mm=(2.0, 2.0)))


@pytest.mark.parametrize(
    ("kvp", "water_per_cm", "bone_per_cm"),
    [(60, 0.2621, 1.1888), (90, 0.2198, 0.7613), (120, 0.2023, 0.6123)],
)
def test_effective_attenuation(kvp, water_per_cm, bone_per_cm):
    """SpekPy with xraydb, energy-integrating: 20 cm of water, 2 cm of bone at 1.92 g/cm3."""
    spectrum = load_spectrum(kvp)
    water = exact_line_integral(np.array([[20.0]]), ("water",), spectrum)[0] / 20
    bone = exact_line_integral(np.array([[2 * 1.92]]), ("bone",), spectrum)[0] / 2
    assert water == pytest.approx(water_per_cm, rel=5e-3)
    assert bone == pytest.approx(bone_per_cm, rel=5e-3)


@pytest.mark.parametrize(
    ("material", "energy_kev", "cm2_per_g"),
    # NIST Standard Reference Database 126, total with coherent scattering.
    [
        ("water", 60, 0.2059),
        ("water", 100, 0.1707),
        ("bone", 60, 0.3148),
        ("bone", 100, 0.1855),
        ("soft tissue", 60, 0.2048),
        ("air", 60, 0.1875),
        ("titanium", 60, 0.7661),
    ],
)
def test_mass_attenuation_is_that_of_nist(material, energy_kev, cm2_per_g):
    assert mass_attenuation(material, np.array([energy_kev]))[0] == pytest.approx(
        cm2_per_g, rel=0.01
    )


def test_mass_fractions_sum_to_one():
    for name, composition in COMPOSITIONS.items():
        assert sum(composition.values()) == pytest.approx(1, abs=0.0021), name


@pytest.mark.parametrize("kvp", SHIPPED_KVP)
def test_spectra_are_whole(kvp):
    spectrum = load_spectrum(kvp)
    assert spectrum.fluence.sum() == pytest.approx(1)
    assert kvp - 1 < spectrum.energies_kev.max() < kvp
    assert np.allclose(np.diff(spectrum.energies_kev), 0.5)


def test_half_value_layers_grow_with_the_voltage():
    through = [
        exact_line_integral(np.array([[20.0]]), ("water",), load_spectrum(k))[0]
        for k in SHIPPED_KVP
    ]
    assert np.all(np.diff(through) < 0)


def test_the_table_is_the_exact_sum():
    rng = np.random.default_rng(0)
    area_density = rng.random((2, 100, 100), dtype=np.float32) * np.array([[[50]], [[25]]], "f4")
    names = ("soft tissue", "bone")
    for kvp in (60, 120):
        spectrum = load_spectrum(kvp)
        exact = exact_line_integral(area_density, names, spectrum)
        table = polychromatic_line_integral(area_density, names, spectrum)
        assert np.abs(table - exact).max() < 4e-4
        assert np.abs(table / exact - 1).mean() < 1e-4


def test_beyond_the_table_and_with_metal_the_sum_is_exact():
    area_density = np.zeros((3, 1, 3), np.float32)
    area_density[0] = [90.0, 20.0, 20.0]
    area_density[2] = [0.0, 3.0, 0.0]
    names = ("soft tissue", "bone", "titanium")
    spectrum = load_spectrum(90)
    exact = exact_line_integral(area_density, names, spectrum)
    np.testing.assert_allclose(
        polychromatic_line_integral(area_density, names, spectrum), exact, rtol=1e-4
    )
    assert exact[0, 1] > exact[0, 2] + 1


def test_a_metre_of_steel_is_finite():
    exact = exact_line_integral(np.array([[795.0]]), ("steel",), load_spectrum(60))
    assert np.isfinite(exact).all() and exact[0] > 100


class TestMaterials:
    def a_volume(self, *hu):
        values = np.full((2, 2, len(hu)), -1000.0)
        values[:] = hu
        return Volume(values, np.eye(4))

    def test_literal_densities(self):
        materials = materials_from_hu(self.a_volume(-850, -100, 0, 50, 200, 2000))
        soft, bone = materials.density_g_per_cm3[:, 0, 0]
        # max(0, min(.001029 HU + 1.03, .0005886 HU + 1.03))
        np.testing.assert_allclose(
            soft + bone, [0.15535, 0.9271, 1.03, 1.05943, 1.14772, 2.2072], atol=1e-5
        )
        np.testing.assert_allclose(bone[:4], 0, atol=1e-5)
        assert bone[4] / (soft + bone)[4] == pytest.approx(0.153, abs=0.005)
        assert soft[5] == 0

    def test_at_the_scanners_energy_the_mixture_has_its_hu(self):
        hu = np.linspace(60, 1400, 100)
        materials = materials_from_hu(self.a_volume(*hu))
        attenuation, water = (
            [mass_attenuation(name, np.array([70.0]))[0] for name in names]
            for names in (materials.names, ["water"])
        )
        linear = attenuation @ materials.density_g_per_cm3[:, 0, 0]
        np.testing.assert_allclose(1000 * (linear / water[0] - 1), hu, atol=0.5)

    def test_air_is_cropped_away(self):
        materials = materials_from_hu(self.a_volume(-1000, -1000, 0, 40, -1000))
        assert materials.density_g_per_cm3.shape == (2, 2, 2, 2)
        np.testing.assert_allclose(materials.ras_from_ijk[:3, 3], [2, 0, 0])

    def test_metal_is_its_own_material(self):
        materials = materials_from_hu(self.a_volume(0, 3071))
        assert materials.names == ("soft tissue", "bone", "titanium")
        np.testing.assert_allclose(materials.density_g_per_cm3[:, 0, 0, 1], [0, 0, 4.506])

    def test_labels_decide(self):
        volume = self.a_volume(-1000, 40, 300, 3071)
        labels = np.zeros(volume.values_hu.shape, np.uint8)
        labels[..., 2], labels[..., 3], labels[..., 0] = 5, 6, 7
        volume = Volume(volume.values_hu, volume.ras_from_ijk, labels)
        materials = materials_from_labels(
            volume, {5: "bone", 6: "steel", 7: "steel"}, {6: 7.95, 7: 7.95}
        )
        assert materials.names == ("soft tissue", "bone", "titanium", "steel")
        by_voxel = materials.density_g_per_cm3[:, 0, 0].T
        np.testing.assert_allclose(by_voxel[0], [0, 0, 0, 7.95])
        np.testing.assert_allclose(by_voxel[2], [0, 1.20658, 0, 0], atol=1e-5)  # 300 HU
        np.testing.assert_allclose(by_voxel[3], [0, 0, 0, 7.95])


class TestExposure:
    def a_wedge(self):
        return np.broadcast_to(np.linspace(0, 30, SHAPE[1], dtype=np.float32), (1, *SHAPE)).copy()

    def test_plain_is_the_spectrum_alone(self, a_view):
        wedge = self.a_wedge()
        xray = expose(wedge, ("water",), a_view, PLAIN)
        assert xray.quantity is Quantity.TRANSMISSION
        expected = exact_line_integral(wedge, ("water",), load_spectrum(90))
        np.testing.assert_allclose(to_line_integral(xray).values, expected, atol=1e-4)

    def test_same_seed_same_noise_and_its_size(self, a_view):
        wedge = np.zeros((1, *SHAPE), np.float32)
        exposure = Exposure(photons_per_mm2=250, electronic_noise_photons=5)  # 2 mm pixels
        images = [
            expose(wedge, ("water",), a_view, exposure, np.random.default_rng(seed)).values
            for seed in (1, 1, 2)
        ]
        np.testing.assert_array_equal(images[0], images[1])
        assert (images[0] != images[2]).any()
        assert images[0].std() == pytest.approx(np.sqrt(1000 + 25) / 1000, rel=0.05)
        assert images[0].mean() == pytest.approx(1, abs=0.002)

    def test_noise_needs_a_generator(self, a_view):
        with pytest.raises(ValueError, match="random generator"):
            expose(self.a_wedge(), ("water",), a_view, FULL)

    def test_blur_has_the_width_asked_for(self, a_view):
        edge = np.zeros((1, *SHAPE), np.float32)
        edge[..., 40:] = 40.0
        exposure = Exposure(blur_mm=4.0)
        profile = expose(edge, ("water",), a_view, exposure).values[30]
        spread = -np.diff(profile)
        position = np.arange(len(spread))
        variance = (spread * (position - (spread * position).sum()) ** 2).sum() / spread.sum()
        assert np.sqrt(variance) * 2.0 == pytest.approx(4.0, rel=0.03)

    def test_scatter_fills_the_shadow_and_is_smooth(self):
        transmission = np.full((200, 200), 0.012, np.float32)
        spacing = np.array([2.0, 2.0])
        flat = scattered(transmission, 0.08, spacing)
        assert flat.mean() / 0.012 == pytest.approx(0.08 * 4.42, rel=0.01)
        transmission[:, 100:] = 1.0
        profile = scattered(transmission, 0.08, spacing)[100]
        assert np.all(np.diff(profile) <= 1e-7) and np.abs(np.diff(profile, 2)).max() < 3e-5
        assert profile[90] > profile[110] > 0

    def test_scatter_does_not_move(self):
        transmission = np.ones((97, 131), np.float32)
        transmission[40:45, 60:65] = 0.3
        scatter = scattered(transmission, 1.0, np.array([10.0, 10.0]))
        row, column = np.indices(scatter.shape)
        total = scatter.sum()
        assert (scatter * row).sum() / total == pytest.approx(42, abs=0.3)
        assert (scatter * column).sum() / total == pytest.approx(62, abs=0.3)

    @pytest.mark.parametrize("shape", ["rectangle", "circle", "octagon"])
    def test_collimation_opens_the_middle(self, a_view, shape):
        openness = Collimation(shape, 80.0, 60.0).openness(a_view.intrinsics)
        assert openness[30, 40] == 1 and openness[0, 0] == pytest.approx(1e-3)
        area_mm2 = openness.sum() * 4
        expected = {"rectangle": 4800, "circle": np.pi * 1600, "octagon": 8 * 1600 * 0.41421}
        assert area_mm2 == pytest.approx(expected[shape], rel=0.03)

    def test_shutters_darken_the_outside(self, a_view):
        exposure = Exposure(collimation=Collimation("rectangle", 80, 60))
        xray = expose(np.zeros((1, *SHAPE), np.float32), ("water",), a_view, exposure)
        assert xray.values[30, 40] == 1 and xray.values[0, 0] < 2e-3

    @pytest.mark.parametrize(
        "fields", [{"kvp": 65}, {"scatter": -1}, {"blur_mm": np.nan}, {"photons_per_mm2": np.inf}]
    )
    def test_impossible_exposures_are_refused(self, fields):
        with pytest.raises(ValueError, match=r"spectrum for|must be 0 or more"):
            Exposure(**fields)


class TestQuantities:
    def test_are_kept_apart(self):
        image = np.full((4, 4), 0.5, np.float32)
        with pytest.raises(ValueError, match="takes a transmission image, got a display image"):
            to_line_integral(Xray(image, Quantity.DISPLAY))
        with pytest.raises(ValueError, match="takes a line-integral image, got a transmission"):
            to_display(Xray(image, Quantity.TRANSMISSION))

    def test_nothing_transmitted_stays_finite(self):
        image = np.array([[0.0, -0.1, 1.0]], np.float32)
        values = to_line_integral(Xray(image, Quantity.TRANSMISSION)).values
        np.testing.assert_allclose(values, [[16.118, 16.118, 0]], atol=1e-3)

    def test_dense_is_bright(self):
        shown = to_display(Xray(np.array([[0.0, 2.0, 4.0]]), Quantity.LINE_INTEGRAL), (0, 4)).values
        np.testing.assert_allclose(shown, [[0, 0.5, 1]])

    def test_a_flat_image_can_be_shown(self):
        shown = to_display(Xray(np.full((3, 3), 2.0), Quantity.LINE_INTEGRAL)).values
        np.testing.assert_array_equal(shown, 0)

    def test_an_empty_window_is_refused(self):
        with pytest.raises(ValueError, match="upper end"):
            to_display(Xray(np.zeros((3, 3)), Quantity.LINE_INTEGRAL), (1, 1))
