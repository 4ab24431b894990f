"""Geometry of the projectors: the image is where the labels are, and its values are integrals."""

import numpy as np
import pytest
from scipy import ndimage

from XraySynthLib.drr import LabelProjector, Materials, prepare, project
from XraySynthLib.drr.engines.numba_joseph import NumbaJoseph
from XraySynthLib.drr.projection import ENGINES, _before_detector
from XraySynthLib.errors import EngineError
from XraySynthLib.geometry import CArmPose, Intrinsics, View, view_from_carm

CPU_ENGINES = ("numba", "torch")


def a_grid(rng: np.random.Generator, shape_kji, spacing_mm, left_handed=False) -> np.ndarray:
    """ras_from_ijk of an oblique grid whose middle is the origin."""
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    if (np.linalg.det(axes) < 0) != left_handed:
        axes[:, 0] *= -1
    matrix = np.eye(4)
    matrix[:3, :3] = axes * spacing_mm
    matrix[:3, 3] = -matrix[:3, :3] @ ((np.array(shape_kji[::-1]) - 1) / 2)
    return matrix


def a_blurred_voxel(shape_kji, voxel_kji, sigma=1.0) -> np.ndarray:
    volume = np.zeros(shape_kji, np.float32)
    volume[voxel_kji] = 1.0
    return ndimage.gaussian_filter(volume, sigma, truncate=5)


def centroid_px(image: np.ndarray) -> np.ndarray:
    row, column = np.indices(image.shape)
    return np.array([(image * column).sum(), (image * row).sum()]) / image.sum()


def a_view(rng: np.random.Generator, mirrored: bool) -> View:
    pose = CArmPose(
        rng.uniform(-180, 180),
        rng.uniform(-90, 90),
        rng.uniform(-180, 180),
        rng.uniform(-10, 10, 3),
        rng.uniform(500, 700),
    )
    intrinsics = Intrinsics(
        1020.0, (2.0, 1.5), (230, 180), rng.uniform([80, 105], [100, 125]), mirrored
    )
    return view_from_carm(pose, intrinsics)


@pytest.mark.parametrize("seed", range(200))
def test_a_blurred_bright_voxel_is_imaged_where_the_view_projects_it(seed):
    rng = np.random.default_rng(seed)
    shape, spacing_mm = (24, 30, 36), rng.uniform(1.0, 3.0, 3)
    ras_from_ijk = a_grid(rng, shape, spacing_mm, left_handed=seed % 2 == 1)
    voxel = tuple(rng.integers(6, np.array(shape) - 6))
    materials = Materials(("water",), a_blurred_voxel(shape, voxel)[None], ras_from_ijk)
    view = a_view(rng, mirrored=seed % 3 > 0)
    engine = CPU_ENGINES[seed % 10 == 0]
    image = project(materials, view, engine)[0]
    expected = view.project((ras_from_ijk @ [*voxel[::-1], 1])[None, :3])[0]
    np.testing.assert_allclose(centroid_px(image), expected, atol=0.1)


def test_literal_place_and_mass_of_one_bright_voxel_at_0_0():
    # RAS (-50, 0, 40) is voxel i=10, j=30, k=50 of a 2.5 mm grid that starts at (-75, -75, -85).
    density = a_blurred_voxel((71, 61, 41), (50, 30, 10))
    ras_from_ijk = np.diag([2.5, 2.5, 2.5, 1.0])
    ras_from_ijk[:3, 3] = [-75, -75, -85]
    view = view_from_carm(CArmPose(), Intrinsics())
    image = project(Materials(("water",), density[None], ras_from_ijk), view)[0]
    np.testing.assert_allclose(centroid_px(image), [1263.51, 370.69], atol=0.1)
    # 15.625 mm3 of 1 g/cm3 weigh 15.6 mg; at magnification 1020/530 they cover an area 3.7038 times
    # as large, on pixels of 0.194 mm; the ray is longer than the beam's middle by 1.00727.
    mass_g = image.sum() * 0.0194**2 / (1020 / 530) ** 2 / 1.00727
    assert mass_g == pytest.approx(0.015625, rel=2e-3)


@pytest.mark.parametrize("engine", CPU_ENGINES)
def test_chord_of_a_box_is_its_length(engine):
    # 21 voxels of 2 mm along A, density 1.5: 1.5 g/cm3 * 4.2 cm = 6.3 g/cm2 in the middle.
    density = np.zeros((31, 31, 31), np.float32)
    density[5:26, 5:26, 5:26] = 1.5
    ras_from_ijk = np.diag([2.0, 2.0, 2.0, 1.0])
    ras_from_ijk[:3, 3] = -30
    view = view_from_carm(CArmPose(), Intrinsics(shape_px=(33, 33), pixel_spacing_mm=(3, 3)))
    image = project(Materials(("water",), density[None], ras_from_ijk), view, engine)[0]
    assert image[16, 16] == pytest.approx(6.3, rel=1e-5)
    assert image[0, 0] == 0


@pytest.mark.parametrize(
    "angles", [(0, 0, 0), (90, 0, 0), (30, 20, 10), (-100, -60, 170), (45, 0, 0)]
)
def test_numba_agrees_with_the_readable_reference(angles):
    rng = np.random.default_rng(7)
    shape = (40, 44, 48)
    density = ndimage.gaussian_filter(rng.random((2, *shape)), (0, 2.5, 2.5, 2.5)).astype("f4")
    density[:, :5] = density[:, :, -9:] = 0
    materials = Materials(("water", "bone"), density, a_grid(rng, shape, (3.0, 2.0, 2.5)))
    view = view_from_carm(
        CArmPose(*angles), Intrinsics(1020, (1.1, 1.3), (220, 260), (120.0, 100.0))
    )
    fast, reference = project(materials, view), project(materials, view, "torch")
    assert np.abs(fast - reference).mean() < 1e-3 * reference.max()
    assert np.abs(fast - reference).max() < 1e-2 * reference.max()
    assert ((fast > 0) == (reference > 0)).mean() > 0.99


def test_moving_patient_and_view_together_changes_nothing():
    rng = np.random.default_rng(3)
    shape = (20, 24, 28)
    density = ndimage.gaussian_filter(rng.random((1, *shape)), (0, 2, 2, 2)).astype("f4")
    ras_from_ijk = a_grid(rng, shape, (3.0, 3.0, 3.0))
    view = a_view(rng, True)
    moved_from_ras = CArmPose(40, 30, 20, (50, -20, 10)).ras_from_carm
    image = project(Materials(("water",), density, ras_from_ijk), view)
    moved_view = View(moved_from_ras @ view.ras_from_camera, view.intrinsics)
    moved = project(Materials(("water",), density, moved_from_ras @ ras_from_ijk), moved_view)
    np.testing.assert_allclose(moved, image, atol=1e-5 * image.max())


def test_storing_the_volume_along_other_axes_changes_little():
    rng = np.random.default_rng(4)
    density = ndimage.gaussian_filter(rng.random((1, 30, 30, 30)), (0, 2, 2, 2)).astype("f4")
    ras_from_ijk = a_grid(rng, (30, 30, 30), (3.0, 3.0, 3.0))
    view = a_view(rng, True)
    image = project(Materials(("water",), density, ras_from_ijk), view)
    for order in [(0, 2, 1), (1, 0, 2), (2, 1, 0), (1, 2, 0)]:
        columns = [2 - axis for axis in order][::-1]
        turned = ras_from_ijk[:, [*columns, 3]]
        stored = density.transpose(0, *[axis + 1 for axis in order])
        again = project(Materials(("water",), stored, turned), view)
        assert np.abs(again - image).max() < 1e-3 * image.max()


def test_reversing_the_columns_of_view_and_image_is_the_same_image():
    rng = np.random.default_rng(5)
    density = ndimage.gaussian_filter(rng.random((1, 20, 20, 20)), (0, 2, 2, 2)).astype("f4")
    materials = Materials(("water",), density, a_grid(rng, (20, 20, 20), (3.0, 3.0, 3.0)))
    view = a_view(rng, True)
    flipped = project(materials, view.columns_reversed())[..., ::-1]
    image = project(materials, view)
    np.testing.assert_allclose(flipped, image, atol=2e-3 * image.max())


def test_what_lies_behind_the_detector_is_not_seen():
    density = np.ones((1, 21, 201, 21), np.float32)
    ras_from_ijk = np.diag([2.0, 5.0, 2.0, 1.0])
    ras_from_ijk[:3, 3] = [-20, -250, -20]  # along A from -250 to +750; the detector is at +490
    view = view_from_carm(CArmPose(), Intrinsics(shape_px=(9, 9), pixel_spacing_mm=(2, 2)))
    image = project(Materials(("water",), density, ras_from_ijk), view)[0]
    assert image[4, 4] == pytest.approx((490 + 250 + 5) / 10, abs=0.51)


def test_a_source_inside_the_patient_is_refused():
    materials = Materials(("water",), np.ones((1, 9, 9, 9), np.float32), np.diag([200.0] * 3 + [1]))
    with pytest.raises(ValueError, match="inside the patient"):
        project(materials, view_from_carm(CArmPose(isocenter_ras_mm=(800, 800, 800)), Intrinsics()))


def test_an_isocentre_far_away_is_no_black_image():
    materials = Materials(("water",), np.ones((1, 9, 9, 9), np.float32), np.eye(4))
    view = view_from_carm(CArmPose(isocenter_ras_mm=(3000, 0, 0)), Intrinsics())
    for engine in CPU_ENGINES:
        with pytest.raises(ValueError, match="does not see the volume"):
            project(materials, view.resized(64, 64), engine)


def test_air_alone_is_refused():
    with pytest.raises(ValueError, match="nothing but air"):
        Materials(("water",), np.zeros((1, 3, 3, 3)), np.eye(4)).cropped()


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_impossible_densities_are_refused(bad):
    density = np.ones((1, 3, 3, 3), np.float32)
    density[0, 1, 1, 1] = bad
    with pytest.raises(ValueError, match="negative, NaN or infinite"):
        Materials(("water",), density, np.eye(4))


def test_unknown_engine_is_named():
    materials = Materials(("water",), np.ones((1, 3, 3, 3)), np.eye(4))
    with pytest.raises(ValueError, match="numba, torch, deepdrr"):
        prepare(materials, "magic")
    assert ENGINES == ("numba", "torch", "deepdrr")
    with pytest.raises(EngineError):
        prepare(materials, "deepdrr")


def test_an_engine_is_prepared_once():
    materials = Materials(("water",), np.ones((1, 3, 3, 3)), np.eye(4))
    assert prepare(materials) is prepare(materials)


def test_prepared_materials_are_freed_with_their_materials():
    import gc
    import weakref

    materials = Materials(("water",), np.ones((1, 3, 3, 3)), np.eye(4))
    prepared = weakref.ref(prepare(materials))
    assert prepared() is not None
    del materials
    gc.collect()
    assert prepared() is None


def test_threads_may_project_at_the_same_time():
    from concurrent.futures import ThreadPoolExecutor

    rng = np.random.default_rng(0)
    density = rng.random((1, 40, 40, 40), dtype=np.float32)
    materials = Materials(("water",), density, a_grid(rng, (40, 40, 40), (3.0, 3.0, 3.0)))
    views = [a_view(rng, True) for _ in range(8)]
    alone = [project(materials, view) for view in views]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda view: project(materials, view), views))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


class TestLabels:
    def a_label_map(self):
        labels = np.zeros((40, 40, 40), np.uint8)
        labels[5:15, 10:30, 10:30] = 3
        labels[20:30, 10:30, 10:30] = 7
        labels[20:30, 15:20, 15:20] = 9
        ras_from_ijk = np.diag([2.0, 2.0, 2.0, 1.0])
        ras_from_ijk[:3, 3] = -39
        return labels, ras_from_ijk

    def a_front_view(self):
        return view_from_carm(CArmPose(), Intrinsics(shape_px=(101, 101), pixel_spacing_mm=(2, 2)))

    def test_path_lengths(self):
        labels, ras_from_ijk = self.a_label_map()
        lengths = dict(LabelProjector(labels, ras_from_ijk).project(self.a_front_view()))
        assert set(lengths) == {3, 7, 9}
        assert lengths[3].max() == pytest.approx(40, rel=0.01)
        assert lengths[9].max() == pytest.approx(10, rel=0.01)

    def test_area_density_adds_up_to_the_whole(self):
        labels, ras_from_ijk = self.a_label_map()
        rng = np.random.default_rng(0)
        density = ndimage.gaussian_filter(rng.random((40, 40, 40)), 2).astype(np.float32)
        view = self.a_front_view()
        parts = LabelProjector(labels, ras_from_ijk, density).project(view)
        whole = Materials(("water",), (density * (labels > 0))[None], ras_from_ijk)
        expected = project(whole, view)[0]
        total = sum(image for _, image in parts)
        np.testing.assert_allclose(total, expected, atol=0.01 * expected.max())

    def test_masks_are_where_the_label_is_and_head_is_up(self):
        labels, ras_from_ijk = self.a_label_map()
        view = self.a_front_view()
        masks = LabelProjector(labels, ras_from_ijk, values=(3, 7)).masks(view)
        assert set(masks) == {3, 7}
        rows_low, rows_high = (np.nonzero(masks[label].any(axis=1))[0] for label in (3, 7))
        assert rows_low.min() > rows_high.max()  # 3 has smaller S than 7: it lies lower
        corner = view.project(np.array([[-19.0, 0.0, 1.0]]))[0]
        # RAS -19 is the label's end at the patient's left, which is at larger columns.
        assert masks[7][round(corner[1]) - 2, round(corner[0]) - 2]
        assert not masks[7][round(corner[1]) - 2, round(corner[0]) + 4]


def test_the_number_of_threads_changes_no_bit():
    rng = np.random.default_rng(3)
    density = np.zeros((2, 40, 44, 48), np.float32)
    density[:, 4:36, 5:40, 6:42] = rng.uniform(0, 1, (2, 32, 35, 36))
    density[:, 4:12, 5:20, 6:30] = 0  # rows of different spans
    ras_from_ijk = np.diag([3.1, 3.3, 2.9, 1.0])
    ras_from_ijk[:3, 3] = -60
    materials = Materials(("soft tissue", "bone"), density, ras_from_ijk)
    view = view_from_carm(CArmPose(20, 10, 5), Intrinsics(1020.0, (1.0, 1.0), (300, 310)))
    one, *others = (NumbaJoseph(materials, n).project(view) for n in (1, 2, 3, 5))
    for other in others:
        np.testing.assert_array_equal(one, other)


def test_a_crop_is_a_part_of_the_image():
    density = np.zeros((1, 20, 20, 20), np.float32)
    density[0, 4:16, 5:15, 6:18] = np.random.default_rng(1).uniform(0.5, 1, (12, 10, 12))
    density = ndimage.gaussian_filter(density, (0, 1.5, 1.5, 1.5))
    ras_from_ijk = np.diag([4.0, 4.0, 4.0, 1.0])
    ras_from_ijk[:3, 3] = -40
    materials = Materials(("bone",), density, ras_from_ijk)
    view = view_from_carm(CArmPose(30, -20, 8), Intrinsics(1020.0, (2.0, 2.5), (100, 90)))
    rows, columns = slice(31, 77), slice(20, 63)
    whole, part = project(materials, view)[0], project(materials, view.cropped(rows, columns))[0]
    np.testing.assert_allclose(part, whole[rows, columns], atol=3e-3 * whole.max())


@pytest.mark.parametrize("isocenter", [(0, 0, 0), (60, 10, -70), (300, 0, 0), (0, 480, 0)])
def test_labels_at_the_edge_behind_and_beyond_the_image(isocenter):
    """What a label's own shadow is cropped to loses nothing."""
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[3:9, 4:15, 2:16], labels[12:18, 10:19, 9:14] = 1, 2
    ras_from_ijk = np.diag([5.0, 5.0, 5.0, 1.0])
    ras_from_ijk[:3, 3] = -50
    pose = CArmPose(25, 10, 5, isocenter, 700.0)
    view = view_from_carm(pose, Intrinsics(1020.0, (2.0, 2.0), (90, 110)))
    projector = LabelProjector(labels, ras_from_ijk)
    for label, length_mm in projector.project(view):
        inside = Materials(("x",), (labels == label)[None] * np.float32(10), ras_from_ijk)
        whole = prepare(_before_detector(inside, view)).project(view)[0]
        np.testing.assert_allclose(length_mm, whole, atol=0.5)  # of voxels of 5 mm, at edges
        assert np.abs(length_mm - whole).mean() < 0.02
