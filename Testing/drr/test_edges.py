"""What changing the sources one line at a time found untested."""

import numpy as np
import pytest

from XraySynthLib.data import Quantity, Volume, Xray
from XraySynthLib.drr import (
    Collimation,
    Exposure,
    LabelProjector,
    Materials,
    expose,
    materials_from_hu,
    project,
    to_display,
)
from XraySynthLib.drr.scatter import scattered
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


def test_air_inside_the_patient_weighs_nothing():
    values = np.full((3, 3, 4), 40.0)
    values[1, 1] = [40, -1000, -900, -899]
    density = materials_from_hu(Volume(values, np.eye(4))).density_g_per_cm3.sum(axis=0)
    np.testing.assert_allclose(density[1, 1], [1.0535, 0, 0, 0.1049], atol=1e-3)


class TestOblongPixels:
    """Columns 1 mm, rows 3 mm: what is round on the detector stays round."""

    SPACING_MM = (1.0, 3.0)
    SHAPE_PX = (81, 243)

    def a_view(self):
        return view_from_carm(CArmPose(), Intrinsics(1020.0, self.SPACING_MM, self.SHAPE_PX))

    def sigmas_mm(self, spot):
        """Standard deviation along columns and along rows about the middle."""
        rows, columns = np.indices(spot.shape)
        x_mm, y_mm = columns - 121.0, 3.0 * (rows - 40.0)
        return np.sqrt([(spot * x_mm**2).sum() / spot.sum(), (spot * y_mm**2).sum() / spot.sum()])

    def test_blur(self):
        pinhole = np.full((1, *self.SHAPE_PX), 60.0, np.float32)
        pinhole[0, 40, 121] = 0
        exposure = Exposure(blur_mm=6.0)
        image = expose(pinhole, ("water",), self.a_view(), exposure).values
        np.testing.assert_allclose(self.sigmas_mm(image - image.min()), 6.0, rtol=0.02)

    def test_detail(self):
        spike = np.zeros(self.SHAPE_PX, np.float32)
        spike[40, 121] = 1000.0
        xray = Xray(spike, Quantity.LINE_INTEGRAL, view=self.a_view())
        shown = to_display(xray, (-5000, 5000), detail=1.0).values.astype(float) * 10000 - 5000
        coarse = 2 * spike - shown
        assert shown[40, 121] > 1900  # sharper, not smoother
        np.testing.assert_allclose(self.sigmas_mm(coarse), 10.0, rtol=0.04)

    def test_scatter(self):
        transmission = np.full(self.SHAPE_PX, 1.0, np.float32)
        transmission[38:43, 115:128] = 0.4
        scatter = scattered(transmission, 1.0, np.array(self.SPACING_MM))
        # 60 mm from the middle, along columns and along rows.
        across, along = scatter[40, [61, 181]], scatter[[20, 60], 121]
        np.testing.assert_allclose(across, along.mean(), rtol=0.15)
        np.testing.assert_allclose(along, across.mean(), rtol=0.15)
        assert 0 < across.mean() < scatter[40, 121]

    def test_collimator(self):
        openness = Collimation("rectangle", 100.0, 60.0).openness(self.a_view().intrinsics)
        open_px = openness > 0.5
        assert abs(open_px[40].sum() - 100) <= 1 and abs(open_px[:, 121].sum() - 20) <= 1
        np.testing.assert_array_equal(openness, openness[::-1, ::-1])


def test_a_collimator_turns_from_columns_toward_rows():
    view = view_from_carm(CArmPose(), Intrinsics(1020.0, (1.0, 1.0), (101, 101)))
    exposure = Exposure(collimation=Collimation("rectangle", 90.0, 20.0, 30.0))
    image = expose(np.zeros((1, 101, 101), np.float32), ("water",), view, exposure).values
    # 35 mm from the middle at 30 degrees: 30.3 columns and 17.5 rows.
    assert image[50 + 17, 50 + 30] == 1 and image[50 - 17, 50 - 30] == 1
    assert image[50 - 17, 50 + 30] < 0.01 and image[50 + 17, 50 - 30] < 0.01
    assert image[50 + 26, 50 + 45] < 0.01  # 52 mm along: beyond its end


def test_readout_noise_adds_to_the_photons():
    view = view_from_carm(CArmPose(), Intrinsics(1020.0, (2.0, 2.0), (80, 80)))
    exposure = Exposure(photons_per_mm2=250, electronic_noise_photons=60)
    open_beam = np.zeros((1, 80, 80), np.float32)
    image = expose(open_beam, ("water",), view, exposure, np.random.default_rng(0)).values
    assert image.std() == pytest.approx(np.sqrt(1000 + 3600) / 1000, rel=0.03)


def test_a_plate_one_voxel_thick_has_a_mask_and_its_edges_blur_does_not():
    labels = np.zeros((11, 11, 11), np.uint8)
    labels[2:9, 5, 2:9] = 4
    ras_from_ijk = np.diag([4.0, 4.0, 4.0, 1.0])
    ras_from_ijk[:3, 3] = -20
    view = view_from_carm(CArmPose(), Intrinsics(1020.0, (1.0, 1.0), (101, 101)))
    mask = LabelProjector(labels, ras_from_ijk).masks(view)[4]
    # Seven voxels of 4 mm at magnification 1020 / 530: the ray is half in at their very edge.
    assert mask[50].sum() == mask[:, 50].sum() == pytest.approx(28 * 1020 / 530, abs=1.5)
