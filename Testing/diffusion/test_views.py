"""Frames: what a network is told of a view, by hand; a mirrored patient, by projection."""

import numpy as np
import pytest

from XraySynthLib.data import ImageLandmarkSet, Quantity, Xray
from XraySynthLib.data.pelvis import partners_of
from XraySynthLib.diffusion.anatomy_maps import BONES, MIRRORED_ORDER, UNIT_MM, bone_maps
from XraySynthLib.diffusion.views import (
    N_FEATURES,
    N_OCTAVES,
    fourier,
    mirrored_view,
    squared,
    view_features,
)
from XraySynthLib.geometry import CArmPose, Intrinsics, View, view_from_carm

CENTER = np.array([12.0, -30.0, 400.0])
STRIDE = 1 + 2 * N_OCTAVES


def carm_view(primary_deg=0.0, secondary_deg=0.0, offset_mm=(0, 0, 0), **intrinsics) -> View:
    pose = CArmPose(primary_deg, secondary_deg, 0, CENTER + offset_mm, 700)
    detector = {"pixel_spacing_mm": (4, 4), "shape_px": (64, 64), **intrinsics}
    return view_from_carm(pose, Intrinsics(1000, **detector))


def scalars(view: View, kvp: float | None = 90) -> list[float]:
    return (
        view_features(view, CENTER, kvp)[:-2]
        .reshape(-1, STRIDE)[:, 0]
        .astype(float)
        .round(5)
        .tolist()
    )


class TestFeatures:
    def test_ap(self):
        """From the front: camera x to the patient's right, y to the feet; 700 mm away."""
        assert scalars(carm_view())[:9] == [1, 0, 0, 0, 0, -1, 0, 0, 0]

    def test_from_the_patients_left(self):
        """LAO 90: the detector at -R; camera x runs to the front."""
        assert scalars(carm_view(primary_deg=90))[:6] == [0, 1, 0, 0, 0, -1]

    def test_the_pelvis_place_is_the_cameras(self):
        """The isocentre 50 mm to the patient's right and 20 mm up: the pelvis lies left and low."""
        view = carm_view(offset_mm=(50, 0, 20))
        assert scalars(view)[6:9] == [-0.5, 0.2, 0]

    def test_the_detector(self):
        view = carm_view(pixel_spacing_mm=(5, 6.25), principal_point_px=(47.5, 31.5))
        # half a width of 160 mm of 1000 mm is 0.16, a height 0.2; half a side to the right
        assert scalars(view)[9:13] == [-0.2, 0, 0.5, 0]

    def test_the_voltage(self):
        assert scalars(carm_view(), 105)[13] == 0.5
        unknown = view_features(carm_view(), CENTER, None)
        assert unknown[-2:].tolist() == [1, 0] and not unknown[13 * STRIDE : 14 * STRIDE].any()

    def test_size_and_waves(self):
        assert view_features(carm_view(), CENTER, 90).shape == (N_FEATURES,)
        assert fourier(np.array([0.5]))[0, [0, 1, 5]] == pytest.approx([0.5, 0.5**0.5, 0.5**0.5])


class TestSquared:
    @pytest.fixture
    def marked(self):
        """A bright pixel where the landmark is, off the middle, of an oblong image."""
        values = np.zeros((80, 120), np.float32)
        values[30:34, 70:74] = 1
        view = carm_view(20, 10, (5, 0, 8), shape_px=(80, 120), pixel_spacing_mm=(3, 3))
        landmarks = ImageLandmarkSet(("FH-l",), [[71.5, 31.5]], [True], [1])
        return Xray(values, Quantity.LINE_INTEGRAL, view=view), landmarks

    @pytest.mark.parametrize("mirrored", [True, False])
    def test_image_landmarks_and_view_stay_exact(self, marked, mirrored):
        xray, landmarks = marked
        view = xray.view
        point = view.detector_points_ras_mm(landmarks.points_px)
        if not mirrored:
            xray = Xray(xray.values[:, ::-1], xray.quantity, view=view.columns_reversed())
            flipped = landmarks.points_px * [-1, 1] + [119, 0]
            landmarks = ImageLandmarkSet(landmarks.names, flipped, [True], [1])
        small, found, small_view = squared(xray, landmarks, 40)
        assert small.values.shape == (40, 40) and small_view.intrinsics.mirrored
        assert small_view.project(point) == pytest.approx(found.points_px, abs=1e-9)
        row, column = np.unravel_index(small.values.argmax(), (40, 40))
        assert np.abs(found.points_px[0] - [column, row]).max() <= 0.5

    def test_what_the_cut_leaves_out_is_not_visible(self, marked):
        xray, _ = marked
        landmarks = ImageLandmarkSet(("FH-l",), [[2.0, 40.0]], [True], [1])
        assert not squared(xray, landmarks, 40)[1].visible.any()

    def test_without_a_view(self, marked):
        bare = Xray(marked[0].values, Quantity.DISPLAY)
        with pytest.raises(ValueError, match="no view"):
            squared(bare, marked[1], 40)


class TestMirror:
    """The mirrored patient, seen by the mirrored view, gives the mirrored image."""

    VIEW = carm_view(33, -12, (20, 5, -7), principal_point_px=(29.0, 35.0))

    def test_points(self):
        points = CENTER + np.array([[40.0, 10, 5], [-60, -20, 30], [0, 0, 0]])
        mirrored = points * [-1, 1, 1] + [2 * CENTER[0], 0, 0]
        expected = self.VIEW.project(points) * [-1, 1] + [63, 0]
        assert mirrored_view(self.VIEW, CENTER).project(mirrored) == pytest.approx(expected)

    def test_by_hand(self):
        """AP stays; LAO 33 becomes RAO 33."""
        ap = carm_view()
        assert np.allclose(mirrored_view(ap, CENTER).ras_from_camera, ap.ras_from_camera)
        lao, rao = carm_view(33), carm_view(-33)
        assert np.allclose(mirrored_view(lao, CENTER).ras_from_camera, rao.ras_from_camera)

    def test_bones_of_an_asymmetric_phantom(self):
        """Left hip large, right hip small, a femur on the left alone: maps of the mirrored map."""
        labels = np.zeros((20, 20, 21), np.uint8)
        labels[5:15, 6:14, 12:19] = 1  # i to the left
        labels[8:14, 8:12, 3:7] = 2
        labels[2:6, 9:11, 14:17] = 5
        ras_from_ijk = np.diag([-4.0, -4.0, 4.0, 1.0])
        ras_from_ijk[:3, 3] = np.add(
            CENTER, [40, 38, -38]
        )  # voxel 10 of i lies in the sagittal plane
        swap = np.array([0, 2, 1, 3, 4, 6, 5], np.uint8)
        mirrored_labels = swap[labels][:, :, ::-1]
        [maps] = bone_maps(labels, ras_from_ijk, [self.VIEW])
        [other] = bone_maps(mirrored_labels, ras_from_ijk, [mirrored_view(self.VIEW, CENTER)])
        assert maps[BONES.index(1)].sum() > 2 * maps[BONES.index(2)].sum() > 0
        assert np.allclose(maps[MIRRORED_ORDER, :, ::-1], other, atol=0.02)

    def test_partners(self):
        assert [BONES[k] for k in MIRRORED_ORDER] == [2, 1, 3, 4, 6, 5]
        assert partners_of(("FH-l", "FH-r")) == [1, 0]


def test_bone_maps_are_lengths_where_the_view_has_the_bone():
    """A bone of 40 mm depth and a blob's width, 30 mm to the patient's left of the isocentre."""
    labels = np.zeros((21, 21, 21), np.uint8)
    labels[9:12, 5:15, 16:19] = 1
    labels[0, 0, 0] = 2  # a second bone: whose ids these are must be recognised
    ras_from_ijk = np.diag([-4.0, -4.0, 4.0, 1.0])
    ras_from_ijk[:3, 3] = np.add(CENTER, [40, 40, -40])
    middle = ras_from_ijk[:3] @ [17, 9.5, 10, 1]
    view = carm_view()
    [maps] = bone_maps(labels, ras_from_ijk, [view])
    column, row = view.project(middle[None])[0].round().astype(int)
    assert column > 31  # the patient's left is on the image's right
    assert maps[BONES.index(1), row, column] * UNIT_MM == pytest.approx(40, abs=1.5)
