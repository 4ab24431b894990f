"""What is measured of whom, and how views are called."""

import csv

import numpy as np
import pytest

from XraySynthLib.evaluation import curves
from XraySynthLib.evaluation.comparison import Plane
from XraySynthLib.evaluation.figures import write_csv
from XraySynthLib.evaluation.groups import (
    ERRORS_HEADER,
    MEASURES_HEADER,
    SUBJECT,
    error_rows,
    groups_of,
    measure_rows,
    measured,
    over_subjects,
)
from XraySynthLib.evaluation.measures import Measure
from XraySynthLib.evaluation.views import (
    beam_angles_deg,
    beam_directions_ras,
    nearest_presets,
)
from XraySynthLib.geometry import VIEW_PRESETS, CArmPose, Intrinsics, view_from_carm

MEAN = Measure("mean_error", "px")


def direction(primary_deg, secondary_deg, roll_deg=0.0):
    pose = CArmPose(primary_deg, secondary_deg, roll_deg)
    return view_from_carm(pose, Intrinsics()).ras_from_camera[:3, 2]


class TestViews:
    @pytest.mark.parametrize(
        ("angles_deg", "expected"),
        [((0, 0), (0, 1, 0)), ((90, 0), (-1, 0, 0)), ((0, 90), (0, 0, 1)), ((180, 0), (0, -1, 0))],
    )
    def test_goldens(self, angles_deg, expected):
        """LAO 90: the detector is at the patient's left, -R; CRA 90: above the head."""
        found = beam_directions_ras(np.array([angles_deg], float))[0]
        np.testing.assert_allclose(found, expected, atol=1e-12)

    @pytest.mark.parametrize("angles_deg", [(30, 20), (-75, 40), (10, -35), (170, 5)])
    def test_angles_are_the_carms(self, angles_deg):
        beams = np.array([direction(*angles_deg), direction(*angles_deg, roll_deg=25)])
        np.testing.assert_allclose(beam_angles_deg(beams), [angles_deg] * 2, atol=1e-9)

    def test_a_preset_is_nearest_to_itself(self):
        beams = np.array([direction(*angles) for angles in VIEW_PRESETS.values()])
        assert nearest_presets(beams).tolist() == [*VIEW_PRESETS]

    def test_nearest(self):
        beams = np.array([direction(5, -3), direction(-38, 6), direction(3, 31), [np.nan] * 3])
        assert nearest_presets(beams).tolist() == [
            "ap",
            "judet-obturator-right",
            "inlet",
            "unknown",
        ]


class TestGroups:
    def test_by_hand(self, by_hand):
        groups = [
            measured(some, [Plane.PIXELS], kind, name, n_resamples=20)
            for kind, name, some in groups_of(by_hand)
        ]
        groups += over_subjects([group for group in groups if group.kind == SUBJECT])
        found = {(g.kind, g.name): (g.n_images, g.n_visible, g.measures[MEAN][0]) for g in groups}
        assert found == {
            ("all", "all"): (3, 4, 5),
            ("landmark", "L1"): (3, 3, 7.5),
            ("landmark", "L2"): (3, 1, 0),
            ("view", "ap"): (3, 4, 5),
            ("subject", "anna"): (2, 3, 2.5),
            ("subject", "ben"): (1, 1, 10),
            ("mean of subjects", "mean of subjects"): (3, 4, 6.25),
            ("SD of subjects", "SD of subjects"): (3, 4, pytest.approx(7.5 / np.sqrt(2))),
        }
        rates = {g.name: g.measures[Measure("false_positive_rate")][0] for g in groups}
        assert np.isnan(rates["ben"]) and rates["mean of subjects"] == 1  # of Ben it says nothing

    def test_rows(self, by_hand, tmp_path):
        groups = [measured(by_hand, by_hand.planes, "all", "all", n_resamples=0)]
        write_csv(MEASURES_HEADER, measure_rows(groups), tmp_path / "measures.csv")
        rows = [*csv.DictReader((tmp_path / "measures.csv").open())]
        assert rows[0] == {
            "group": "all", "name": "all", "subjects": "2", "images": "3",
            "landmarks_in_image": "4", "measure": "mean_error", "plane": "px", "value": "5",
            "low": "", "high": "",
        }  # fmt: skip

    def test_error_rows(self, by_hand, tmp_path):
        write_csv(ERRORS_HEADER, error_rows(by_hand), tmp_path / "errors.csv")
        rows = [*csv.DictReader((tmp_path / "errors.csv").open())]
        assert len(rows) == 6
        assert [row["error_detector_mm"] for row in rows] == ["2.5", "0", "10", "", "5", ""]
        assert [row["known"] for row in rows] == ["1", "1", "1", "1", "1", "0"]
        assert (rows[0]["view"], rows[0]["primary_deg"], rows[3]["in_image"]) == ("ap", "0", "0")


class TestCurves:
    def test_histogram_counts_everything(self, random_comparison):
        comparison = random_comparison()
        table = curves.error_histogram(comparison, Plane.DETECTOR)
        n = np.count_nonzero(comparison.visible & comparison.detected)
        assert table.column("landmarks").sum() == n and table.rows[-1][1] == np.inf

    def test_worst_by_hand(self, by_hand):
        """b's landmark is as far off, but was not detected."""
        assert curves.worst_images(by_hand, Plane.PIXELS, 5) == [(2, 0, 10.0), (0, 0, 5.0)]
        assert curves.worst_images(by_hand, Plane.PIXELS, 1) == [(2, 0, 10.0)]

    def test_boxes_by_hand(self, by_hand):
        table = curves.landmark_boxes(by_hand, Plane.PIXELS)
        assert [row[:3] for row in table.rows] == [("L1", 2, 7.5), ("L2", 1, 0)]
        assert table.rows[0][3:] == pytest.approx((5.25, 6.25, 7.5, 8.75, 9.75))

    def test_bands_hold_the_curve(self, random_comparison):
        comparison = random_comparison()
        for table, name in (
            (curves.kept_curve(comparison, Plane.DETECTOR, 0, 50), "mean_error"),
            (curves.success_curve(comparison, Plane.DETECTOR, 0, 50), "success"),
            (curves.success_curve(comparison, Plane.PIXELS, 0, 50), "success"),
        ):
            low, value, high = (table.column(column) for column in ("low", name, "high"))
            assert (low <= value + 1e-9).all() and (value <= high + 1e-9).all()
