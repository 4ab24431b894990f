"""The preview's pyramid keeps mass and place, and its image is nearly the full one."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import ndimage

import XraySynthLib
from XraySynthLib.data import Quantity
from XraySynthLib.drr import (
    FULL,
    PLAIN,
    Materials,
    Preview,
    expose,
    project,
    to_display,
    to_line_integral,
)
from XraySynthLib.drr.preview import PIXELS_PER_VOXEL, halved
from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm


def a_grid(shape_kji, spacing_mm):
    """An oblique, left-handed grid about the origin."""
    matrix = (
        CArmPose(20, -35, 50).ras_from_carm @ np.diag([*spacing_mm, 1.0]) @ np.diag([-1, 1, 1, 1])
    )
    matrix[:3, 3] = -matrix[:3, :3] @ ((np.array(shape_kji[::-1]) - 1) / 2)
    return matrix


def a_body(shape_kji=(61, 70, 83), spacing_mm=(2.0, 2.5, 3.0)):
    rng = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(rng.random((2, *shape_kji)), (0, 4, 4, 4))
    density = np.clip(4 * (noise - 0.45), 0, None).astype(np.float32)
    density[:, 0, 0, 0] = density[:, -1, -1, -1] = 0.01  # cropping leaves it whole
    return Materials(("soft tissue", "bone"), density, a_grid(shape_kji, spacing_mm))


def a_view(rows, columns=None, source_to_isocenter_mm=530.0, size_mm=400.0):
    spacing_mm = (size_mm / (columns or rows), size_mm / rows)
    pose = CArmPose(30, 20, 10, source_to_isocenter_mm=source_to_isocenter_mm)
    return view_from_carm(pose, Intrinsics(1020.0, spacing_mm, (rows, columns or rows)))


class TestHalved:
    @pytest.mark.parametrize("shape_kji", [(18, 20, 22), (19, 21, 23), (24, 19, 20)])
    def test_mass_and_centre_of_mass_stay(self, shape_kji):
        density = np.zeros((2, *shape_kji), np.float32)
        density[0, 9, 8, 11] = density[1, 8, 11, 8] = 1.0
        density = ndimage.gaussian_filter(density, (0, 1.5, 1.5, 1.5))
        whole = Materials(("water", "bone"), density, a_grid(shape_kji, (1.0, 2.0, 3.0)))
        half = halved(whole)
        for m in range(2):
            masses, places = zip(*(mass_and_place(each, m) for each in (whole, half)), strict=True)
            assert masses[1] == pytest.approx(masses[0], rel=1e-5)
            np.testing.assert_allclose(places[1], places[0], atol=0.01)

    def test_literal_place(self):
        density = np.zeros((1, 4, 4, 4), np.float32)
        density[0, 2:, 2:, :2] = 8.0
        half = halved(Materials(("water",), density, np.diag([1.0, 2.0, 3.0, 1.0])))
        assert half.density_g_per_cm3.shape == (1, 2, 2, 2)
        assert half.density_g_per_cm3[0, 1, 1, 0] == 8 and half.density_g_per_cm3.sum() == 8
        np.testing.assert_allclose(half.ras_from_ijk @ [0, 1, 1, 1], [0.5, 5.0, 7.5, 1])


def mass_and_place(materials, m):
    density = materials.density_g_per_cm3[m].astype(float)
    k, j, i = np.indices(density.shape)
    middle = [(density * axis).sum() / density.sum() for axis in (i, j, k)]
    voxel_mm3 = abs(np.linalg.det(materials.ras_from_ijk[:3, :3]))
    return density.sum() * voxel_mm3, (materials.ras_from_ijk @ [*middle, 1])[:3]


def test_a_bright_voxel_stays_in_place_on_every_level():
    density = np.zeros((41, 50, 63), np.float32)
    density[22, 31, 17] = 1.0
    density = ndimage.gaussian_filter(density, 2.0, truncate=5)[None]
    ras_from_ijk = a_grid(density.shape[1:], (2.0, 2.0, 2.0))
    bright_ras_mm = (ras_from_ijk @ [17, 31, 22, 1])[:3]
    preview = Preview(Materials(("water",), density, ras_from_ijk))
    assert len(preview.levels) == 3
    view = a_view(150, 200)
    expected = view.project(bright_ras_mm[None])[0]
    for level in preview.levels:
        image = project(level, view)[0]
        rows, columns = np.indices(image.shape)
        found = np.array([(image * columns).sum(), (image * rows).sum()]) / image.sum()
        np.testing.assert_allclose(found, expected, atol=0.1)


class TestLevels:
    def test_coarser_pixels_take_coarser_levels(self):
        preview = Preview(a_body())
        chosen = [preview.level_for(a_view(rows)) for rows in (2000, 400, 150, 100, 60, 30, 10)]
        assert chosen == sorted(chosen)
        assert chosen[0] == 0 and chosen[-1] == 2 and 1 in chosen

    def test_the_level_is_the_coarsest_that_is_fine_enough(self):
        preview = Preview(a_body())
        for rows in (30, 60, 80, 100, 120, 160, 200, 300):
            pixel_mm = 400 / rows * 530 / 1020  # in the volume's middle, which is the isocentre
            fine = [n for n in range(3) if 3.0 * 2**n <= PIXELS_PER_VOXEL * pixel_mm]
            assert preview.level_for(a_view(rows)) == max(fine, default=0)

    def test_the_shorter_side_of_a_pixel_counts(self):
        preview = Preview(a_body())
        assert preview.level_for(a_view(20, 1000)) == 0
        assert preview.level_for(a_view(1000, 20)) == 0

    def test_magnification_counts(self):
        preview = Preview(a_body())
        near, far = (preview.level_for(a_view(85, None, mm)) for mm in (250.0, 900.0))
        assert near < far

    def test_a_small_volume_has_fewer_levels(self):
        density = np.ones((1, 8, 20, 20), np.float32)
        assert len(Preview(Materials(("water",), density, np.eye(4))).levels) == 1
        density = np.ones((1, 12, 20, 20), np.float32)
        assert len(Preview(Materials(("water",), density, np.eye(4))).levels) == 2

    def test_air_is_cropped_first(self):
        density = np.zeros((1, 40, 40, 40), np.float32)
        density[0, 10:30, 10:30, 10:30] = 1
        preview = Preview(Materials(("water",), density, np.eye(4)))
        assert preview.levels[0].density_g_per_cm3.shape == (1, 20, 20, 20)


class TestImage:
    @pytest.mark.parametrize("rows", [256, 110, 50])
    def test_it_is_nearly_the_full_image(self, rows):
        body, view = a_body(), a_view(rows)
        xray = Preview(body).render(view)
        assert xray.quantity is Quantity.DISPLAY and xray.view is view
        full = to_line_integral(expose(project(body, view), body.names, view, PLAIN))
        difference = np.abs(xray.values - to_display(full).values)
        assert difference.mean() < 0.01 and np.percentile(difference, 99) < 0.06

    def test_noise_is_left_out_and_the_rest_is_shown(self):
        body, view = a_body(), a_view(50)
        loud = Preview(body, FULL)
        np.testing.assert_array_equal(loud.render(view).values, loud.render(view).values)
        assert np.abs(loud.render(view).values - Preview(body).render(view).values).max() > 0.01

    def test_a_source_in_the_patient_is_refused(self):
        body = a_body()
        pose = CArmPose(isocenter_ras_mm=(0, 530, 0))
        view = view_from_carm(pose, Intrinsics(1020.0, (8, 8), (32, 32)))
        with pytest.raises(ValueError, match="inside the patient"):
            Preview(body).render(view)


def test_threads_get_the_images_that_one_thread_gets():
    preview = Preview(a_body())
    views = [a_view(rows) for rows in (40, 200, 60, 90, 130, 70, 50, 160)]
    alone = [preview.render(view).values for view in views]
    fresh = Preview(a_body())
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda view: fresh.render(view).values, views))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_warm_compiles_what_a_view_needs():
    program = f"""if True:
        import sys; sys.path.insert(0, {XraySynthLib.__path__[0].rpartition("XraySynthLib")[0]!r})
        import numpy as np
        from XraySynthLib.drr import Materials, Preview
        preview = Preview(Materials(("soft tissue", "bone"), np.ones((2, 40, 40, 40)), np.eye(4)))
        preview.warm()
        from XraySynthLib.drr.engines.joseph_kernels import look_up, sum_slices
        from XraySynthLib.drr.engines.table_kernel import look_up_table
        print(*(len(kernel.signatures) for kernel in (look_up, sum_slices, look_up_table)))
    """
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "1", "1"]
