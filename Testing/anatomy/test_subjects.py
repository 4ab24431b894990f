"""Subjects and their CTs: determinism, labels, Hounsfield units, landmarks, poses."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import ConvexHull, cKDTree

from XraySynthLib.anatomy import trabeculae
from XraySynthLib.anatomy.bones import bone_layers
from XraySynthLib.anatomy.grids import Grid, resampled
from XraySynthLib.anatomy.hips import HipPose
from XraySynthLib.anatomy.joints import sacroiliac_gap
from XraySynthLib.anatomy.parameters import IMPLANTS, SubjectParameters, sample_parameters
from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.pelvimetry import pelvimetry
from XraySynthLib.anatomy.primitives import ball, capsule, coverage, ellipsoid, smooth_coverage
from XraySynthLib.anatomy.render import render_ct, render_on
from XraySynthLib.anatomy.sexes import KEPT, female_shift, scores_for_sex
from XraySynthLib.anatomy.spine import lumbar_spine
from XraySynthLib.anatomy.subject import make_subject, sample_subject
from XraySynthLib.anatomy.surface_distance import surface_band
from XraySynthLib.anatomy.tissues import Label
from XraySynthLib.anatomy.viscera import middle_of, vessel_pieces
from XraySynthLib.anatomy.voxels import inside_surface
from XraySynthLib.geometry.transforms import transform_points

SHAPE, SPACING_MM = (84, 64, 98), 4.0


@pytest.fixture(scope="module")
def person():
    return sample_subject((7, 0), **_fixed())


@pytest.fixture(scope="module")
def ct(person):
    return render_ct(person, SHAPE, SPACING_MM)


class TestParameters:
    def test_the_same_seed_draws_the_same(self):
        first, again, other = (sample_parameters(np.random.default_rng(s)) for s in (5, 5, 6))
        assert first == again and first != other

    def test_both_sexes_and_all_implants_come_up(self):
        rng = np.random.default_rng(0)
        drawn = [sample_parameters(rng, implants=1.0) for _ in range(80)]
        assert {p.sex for p in drawn} == {"female", "male"}
        assert {name for p in drawn for name in p.implants} == set(IMPLANTS)

    def test_sexes_differ_as_published(self):
        """Means within two standard errors or so of what `sexes` names."""
        found = {"female": [], "male": []}
        for index in range(40):
            subject = sample_subject((1, index))
            found[subject.parameters.sex].append(pelvimetry(subject.bones))
        women, men = (
            {name: np.mean([row[name] for row in rows]) for name in rows[0]}
            for rows in found.values()
        )
        more = {name: women[name] - men[name] for name in women}
        assert 10 < more["subpubic_angle_deg"] < 28
        assert 8 < more["interspinous_mm"] < 22
        assert 2 < more["inlet_width_mm"] < 14
        assert women["inlet_width_mm"] / women["bi_iliac_mm"] > (
            men["inlet_width_mm"] / men["bi_iliac_mm"] + 0.01
        )
        assert 0 < more["notch_width_mm"] < 7
        assert -6.5 < more["head_diameter_mm"] < -3
        assert -22 < more["hip_bone_height_mm"] < -5
        np.testing.assert_allclose(
            [women["subpubic_angle_deg"], men["subpubic_angle_deg"]], [87.4, 68.6], atol=8
        )
        np.testing.assert_allclose(
            [women["head_diameter_mm"], men["head_diameter_mm"]], [44, 49], atol=1.8
        )

    def test_a_sex_keeps_the_spread_but_along_the_shift(self):
        scores = np.random.default_rng(0).standard_normal((2000, len(female_shift())))
        women = np.stack([scores_for_sex(row, "female") for row in scores])
        np.testing.assert_allclose(women.mean(0), female_shift(), atol=0.08)
        along = female_shift() / np.linalg.norm(female_shift())
        assert (women @ along).std() == pytest.approx(KEPT, rel=0.05)
        across = np.linalg.svd(along[None])[2][1]
        assert (women @ across).std() == pytest.approx(1, rel=0.05)
        assert np.abs(female_shift()).max() < 1


class TestSubject:
    def test_one_knob_turns_one_thing(self, person):
        fatter = make_subject(replace(person.parameters, fat_mm=person.parameters.fat_mm + 10))
        np.testing.assert_array_equal(fatter.bones.vertices_ras_mm, person.bones.vertices_ras_mm)
        flexed = make_subject(
            replace(person.parameters, left_hip=HipPose(flexion_deg=40.0, abduction_deg=5.0))
        )
        same = Bone.RIGHT_FEMUR
        np.testing.assert_array_equal(flexed.bones.surface(same)[0], person.bones.surface(same)[0])
        knee = flexed.bones.surface(Bone.LEFT_FEMUR)[0]
        assert knee[knee[:, 2].argmin(), 1] > 150  # forward, in the patient's frame

    def test_the_pelvis_tilts_forward(self):
        upright, tilted = (
            make_subject(SubjectParameters(local_variation=0, anterior_tilt_deg=t)) for t in (0, 15)
        )
        for subject, sign in ((upright, 0), (tilted, 1)):
            points = dict(
                zip(subject.landmarks.names, subject.landmarks.points_ras_mm, strict=True)
            )
            ahead = points["ASIS-l"][1] - points["SPS-l"][1]
            assert (ahead > 15) == bool(sign)
        shafts = [s.bones.surface(Bone.LEFT_FEMUR)[0].mean(0) for s in (upright, tilted)]
        np.testing.assert_allclose(*shafts, atol=2.0)  # the legs lie where they lay

    @pytest.mark.parametrize("index", range(4))
    def test_bones_do_not_overlap(self, index):
        subject = sample_subject((11, index))
        grid = subject.grid((130, 70, 150), 2.0)
        ijk_from_ras = np.linalg.inv(grid.ras_from_ijk)
        count = np.zeros(grid.shape, np.uint8)
        volumes = []
        for bone in Bone:
            inside = inside_surface(*subject.bones.surface(bone), ijk_from_ras, grid.shape)
            count += inside
            volumes.append(inside.sum())
        assert (count > 1).sum() < 0.01 * min(volumes)

    @pytest.mark.parametrize("seed", [(0, 11), (1, 9), (3, 6)])
    def test_there_is_room_in_the_sacroiliac_joints(self, seed):
        """People whose sacrum crossed an ilium by many voxels."""
        bones = sample_subject(seed).bones
        grid = sample_subject(seed).grid((110, 60, 110), 1.5)
        ijk_from_ras = np.linalg.inv(grid.ras_from_ijk)
        sacrum, left, right = (
            inside_surface(*bones.surface(bone), ijk_from_ras, grid.shape)
            for bone in (Bone.SACRUM, Bone.LEFT_HEMIPELVIS, Bone.RIGHT_HEMIPELVIS)
        )
        assert not (sacrum & (left | right)).any()
        assert 2 * sacroiliac_gap(bones)[1].min() > 1.3

    @pytest.mark.parametrize("seed", [(1, 4), (0, 13)])
    def test_a_symphysis_does_not_gape(self, seed):
        """People whose pubic bodies were 9 and 13 mm apart at mid-height."""
        bones = sample_subject(seed).bones
        left, right = (
            bones.surface(bone)[0] for bone in (Bone.LEFT_HEMIPELVIS, Bone.RIGHT_HEMIPELVIS)
        )
        middle = middle_of(sample_subject(seed), "SPS")[2] / 2
        middle += middle_of(sample_subject(seed), "IPS")[2] / 2
        near = [side[np.abs(side[:, 2] - middle) < 6, 0] for side in (left, right)]
        assert 2 < near[1].min() - near[0].max() < 6

    @pytest.mark.parametrize("seed", [(2, 2), (0, 12), (3, 11)])
    def test_no_bone_reaches_the_skin(self, seed):
        """Thin people whose iliac spines came out by up to 13 mm."""
        subject = sample_subject(seed)
        for bone in (Bone.LEFT_HEMIPELVIS, Bone.RIGHT_HEMIPELVIS, Bone.SACRUM):
            axes = tuple(subject.bones.surface(bone)[0].T.astype(np.float32))
            assert subject.envelope.distances(axes)[1].max() < -4

    @pytest.mark.parametrize("seed", [(0, 0), (0, 5)])
    def test_vessels_run_beside_the_bones(self, seed):
        subject = sample_subject(seed)
        spine = list(lumbar_spine(subject.frames, subject.parameters, 400.0))
        for piece in vessel_pieces(subject):
            axes = tuple(np.atleast_1d(c).astype(np.float32) for c in piece.start)
            assert min(v.distance(axes)[0] for v in spine) > 0.8 * max(piece.radii)

    def test_landmarks_lie_on_their_bones(self, person):
        for name, point in zip(person.landmarks.names, person.landmarks.points_ras_mm, strict=True):
            left = name.endswith("-l")
            if name.startswith("FH"):
                femur = Bone.LEFT_FEMUR if left else Bone.RIGHT_FEMUR
                np.testing.assert_allclose(point, person.bones.head(femur)[0], atol=0.1)
            else:
                hip = Bone.LEFT_HEMIPELVIS if left else Bone.RIGHT_HEMIPELVIS
                assert cKDTree(person.bones.surface(hip)[0]).query(point)[0] < 4
            assert (point[0] < 0) == left


class TestRendering:
    def test_same_subject_same_bytes(self, person):
        again = sample_subject((7, 0), **_fixed())
        first, second = (render_ct(one, (44, 32, 48), 8.0) for one in (person, again))
        assert first.values_hu.tobytes() == second.values_hu.tobytes()
        assert first.labels.tobytes() == second.labels.tobytes()

    def test_label_ids(self, ct):
        found = set(np.unique(ct.labels).tolist())
        assert {1, 2, 3, 4, 5, 6} <= found <= {int(label) for label in Label}

    def test_left_is_left(self, ct):
        for label, sign in (
            (Label.LEFT_FEMUR, -1),
            (Label.RIGHT_FEMUR, 1),
            (Label.LEFT_HEMIPELVIS, -1),
            (Label.RIGHT_HEMIPELVIS, 1),
        ):
            kji = np.argwhere(ct.labels == label).mean(0)
            assert sign * transform_points(ct.ras_from_ijk, kji[None, ::-1])[0, 0] > 40

    def test_landmarks_lie_in_or_beside_their_labels(self, person, ct):
        for name, point in zip(person.landmarks.names, person.landmarks.points_ras_mm, strict=True):
            left = name.endswith("-l")
            label = (5 if left else 6) if name.startswith("FH") else (1 if left else 2)
            places = transform_points(
                ct.ras_from_ijk, np.argwhere(ct.labels == label)[:, ::-1].astype(float)
            )
            assert cKDTree(places).query(point)[0] < 1.8 * SPACING_MM

    def test_labels_agree_with_hounsfield_units(self, ct):
        gas, disc = (ct.values_hu[ct.labels == i] for i in (Label.GAS, Label.OTHER_SOFT))
        assert np.median(gas) < -600 and np.percentile(gas, 95) < -300  # at 3.5 mm, partly walls
        assert 20 < np.median(disc) < 100

    def test_bones_are_in_one_piece_and_whole(self, ct):
        for label in (1, 2, 4, 5, 6, 7):
            mask = ct.labels == label
            pieces, count = ndimage.label(mask)
            assert count == 1, (label, np.bincount(pieces.ravel()))
            assert (ndimage.binary_fill_holes(mask) == mask).all(), label

    @pytest.mark.parametrize("label", [Bone.LEFT_FEMUR, Bone.LEFT_HEMIPELVIS])
    def test_joints_hold_no_fat(self, person, label):
        """Between head and socket, and between sacrum and ilium, where both are near."""
        if label is Bone.LEFT_FEMUR:
            center, radius = person.bones.head(label)
            places = center + (radius + 1.2) * np.array([[-0.3, y, 0.95] for y in (-0.1, 0, 0.1)])
        else:
            places, half_mm = sacroiliac_gap(person.bones)
            places = places[(half_mm < 1.6) & (places[:, 0] < 0)]
        piece = render_on(person, Grid((36, 36, 36), 1.0, places.mean(axis=0)))
        ijk = transform_points(np.linalg.inv(piece.ras_from_ijk), places)
        kji = np.rint(ijk[:, ::-1]).astype(int)
        kji = kji[((kji >= 0) & (kji < 36)).all(axis=1)]
        own = tuple(kji.T)
        assert (piece.labels[own] != Label.FAT).all()
        assert np.percentile(piece.values_hu[own], 5) > 0

    def test_cortex_keeps_its_mass_on_coarse_grids(self, person):
        """Volume of cortex, of all bone of a hemipelvis at 3 mm and at 1.25 mm."""
        sums = []
        for shape, spacing_mm in (((110, 64, 60), 3.0), ((264, 154, 144), 1.25)):
            grid = Grid(shape, spacing_mm, person.bones.surface(Bone.LEFT_HEMIPELVIS)[0].mean(0))
            table = trabeculae.noise_table(np.random.default_rng(0))
            layers = bone_layers(person.frames, person.parameters, table, grid)
            layer = next(one for one in layers if one.label == Label.LEFT_HEMIPELVIS)
            volume = spacing_mm**3
            sums.append(((layer.bone - layer.marrow).sum() * volume, layer.bone.sum() * volume))
        np.testing.assert_allclose(*sums, rtol=0.03)

    def test_vertebrae_differ_and_discs_narrow_with_age(self, person):
        young, old = (
            list(lumbar_spine(person.frames, replace(person.parameters, age_years=a), 400.0))
            for a in (25.0, 90.0)
        )
        assert len({tuple(v.half_mm / v.half_mm[2]) for v in young}) == len(young)
        assert sum(v.disc_mm for v in old) < sum(v.disc_mm for v in young)

    @pytest.mark.parametrize("implant", IMPLANTS)
    def test_implants_are_metal(self, implant):
        subject = make_subject(SubjectParameters(implants=(implant,), table=True))
        volume = render_ct(subject, (64, 44, 72), 6.0)
        assert (volume.values_hu > 1800).any()
        assert (volume.labels == Label.TABLE).any()

    @pytest.mark.parametrize("covered", [coverage, smooth_coverage])
    def test_a_thin_shell_keeps_its_mass(self, covered):
        """1 mm of cortex about a ball, on 2.5 mm voxels: its mass within 3%."""
        grid = Grid((40, 40, 40), 2.5, np.zeros(3))
        distance = ball(grid.axes_mm(), (0.3, 0.2, 0.1), 30)
        shell = covered(distance, 2.5) - covered(distance + 1, 2.5)
        expected = 4 / 3 * np.pi * (30**3 - 29**3)
        assert shell.sum() * 2.5**3 == pytest.approx(expected, rel=0.03)


class TestDistances:
    def test_surface_band_against_a_sphere(self):
        grid = Grid((64, 64, 64), 1.6, np.zeros(3))
        turn = np.arange(3000) * np.pi * (3 - np.sqrt(5))
        up = 1 - 2 * (np.arange(3000) + 0.5) / 3000
        flat = np.sqrt(1 - up**2)
        points = 40 * np.stack([flat * np.cos(turn), flat * np.sin(turn), up], axis=1)
        faces = ConvexHull(points).simplices
        a, b, c = (points[faces[:, corner]] for corner in range(3))
        out = np.einsum("ij,ij->i", np.cross(b - a, c - a), a + b + c)
        faces = np.where(out[:, None] > 0, faces, faces[:, ::-1])
        band = surface_band(points, faces, np.ones((3000, 1)), grid, 4.0)
        exact = np.linalg.norm(band.points_ras_mm, axis=1) - 40
        near = np.abs(exact) < 4
        assert np.abs(band.distance_mm - exact)[near].max() < 0.1

    def test_primitives(self):
        axes = tuple(np.array([v], np.float32) for v in (3.0, 4.0, 0.0))
        assert ball(axes, (0, 0, 0), 2)[0] == pytest.approx(3)
        assert capsule(axes, (3, 0, 0), (3, 2, 0), (1, 1))[0] == pytest.approx(1)
        assert ellipsoid(axes, (0, 0, 0), (5, 5, 5))[0] == pytest.approx(0, abs=1e-5)

    def test_resampling_keeps_linear_fields(self):
        coarse = Grid((12, 10, 14), 4.0, np.array([1.0, 2.0, 3.0]))
        fine = Grid((20, 18, 24), 2.0, np.array([1.5, 2.5, 3.0]))
        fields = [sum(grid.axes_mm()) for grid in (coarse, fine)]
        np.testing.assert_allclose(resampled(fields[0], coarse, fine), fields[1], atol=1e-4)


def _fixed() -> dict:
    return {"implants": (), "table": False, "bladder_ml": 200.0, "bone_quality": 1.0}
