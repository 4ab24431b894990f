"""Every measure: by hand, by law, and against libraries that have it."""

from dataclasses import replace

import numpy as np
import pytest

from XraySynthLib.evaluation import Plane, all_measures
from XraySynthLib.evaluation.calibration import (
    brier_score,
    expected_calibration_error,
    reliability,
)
from XraySynthLib.evaluation.measures import (
    Measure,
    errors_kept,
    success_area,
    success_rates,
    summary,
)

NAN = float("nan")
PLANES = (Plane.PIXELS, Plane.DETECTOR, Plane.ISOCENTER)


class TestByHand:
    def test_errors(self, by_hand):
        px, detector = by_hand.errors(Plane.PIXELS), by_hand.errors(Plane.DETECTOR)
        np.testing.assert_allclose(px, [[5, 0], [10, NAN], [10, NAN]])
        # b is off along the rows, where a pixel is 1 mm
        np.testing.assert_allclose(detector, [[2.5, 0], [10, NAN], [5, NAN]])
        np.testing.assert_allclose(by_hand.errors(Plane.ISOCENTER), detector / 2)

    @pytest.mark.parametrize(
        ("name", "plane", "value"),
        [
            # detected and in the image: 5, 0, 10 px; 2.5, 0, 5 mm
            ("mean_error", "px", 5),
            ("median_error", "px", 5),
            ("sd_error", "px", 5),
            ("p95_error", "px", 9.5),
            ("mean_error", "detector", 2.5),
            ("sd_error", "detector", 2.5),
            ("p95_error", "detector", 4.75),
            ("mean_error", "isocenter", 1.25),
            # by confidence .9 .8 .7 .2: 5, 0, 10, 10 px
            ("mean_error_100%_kept", "px", 6.25),
            ("mean_error_95%_kept", "px", 6.25),
            ("mean_error_70%_kept", "px", 5),
            ("mean_error_50%_kept", "px", 2.5),
            ("mean_error_50%_kept", "detector", 1.25),
            # of four in the image 2.5, 0, missed, 5 mm
            ("success_2mm", "detector", 0.25),
            ("success_2.5mm", "detector", 0.5),
            ("success_4mm", "detector", 0.5),
            ("success_5mm", "detector", 0.75),
            ("success_10mm", "detector", 0.75),
            ("success_2mm", "isocenter", 0.5),
            ("success_2.5mm", "isocenter", 0.75),
            ("success_area_10mm", "detector", (0.75 + 1 + 0 + 0.5) / 4),
            ("detection_rate", "", 0.75),
            ("false_positive_rate", "", 1),
            # of the longer side, 100 px
            ("pck_0.01", "", 0.25),
            ("pck_0.05", "", 0.5),
            ("pck_0.1", "", 0.75),
            ("pck_area_0.1", "", (0.5 + 1 + 0 + 0) / 4),
            # .9 .8 .2 .6 .7; in the image all but the .6; found only the .8
            ("brier_in_image", "", (0.01 + 0.04 + 0.64 + 0.36 + 0.09) / 5),
            ("brier_found", "", (0.81 + 0.04 + 0.04 + 0.36 + 0.49) / 5),
            ("ece_in_image", "", (0.1 + 0.2 + 0.8 + 0.6 + 0.3) / 5),
            ("ece_found", "", (0.9 + 0.2 + 0.2 + 0.6 + 0.7) / 5),
        ],
    )
    def test_value(self, by_hand, name, plane, value):
        assert all_measures(by_hand, PLANES)[Measure(name, plane)] == pytest.approx(value)

    def test_what_is_not_known_counts_nowhere(self, by_hand):
        absent = replace(by_hand, known=np.ones((3, 2), bool))
        unknown = replace(by_hand, detected=np.array([[1, 1], [0, 1], [1, 0]], bool))
        rate = Measure("false_positive_rate")
        assert all_measures(unknown, PLANES)[rate] == 1  # L2 of c: the same without it
        both = replace(absent, detected=np.array([[1, 1], [0, 1], [1, 0]], bool))
        assert all_measures(both, PLANES)[rate] == 0.5

    def test_unknown_spacing_leaves_mm_out(self, by_hand):
        spacing_mm = by_hand.spacing_mm.copy()
        spacing_mm[2] = NAN
        partly = replace(by_hand, spacing_mm=spacing_mm)
        measures = all_measures(partly, PLANES)
        assert measures[Measure("mean_error", "px")] == 5
        assert measures[Measure("mean_error", "detector")] == 1.25  # of 2.5 and 0
        assert measures[Measure("success_5mm", "detector")] == pytest.approx(2 / 3)
        nothing = replace(by_hand, spacing_mm=np.full((3, 2), NAN))
        assert nothing.planes == (Plane.PIXELS,)

    def test_ties_in_confidence_are_shared(self):
        # 0, then three of .5 with 3, 6, 9: each as likely; the last was not predicted
        errors = np.array([3.0, 6.0, 0.0, 9.0, NAN])
        confidence = np.array([0.5, 0.5, 0.9, 0.5, 0.5])
        means, least = errors_kept(errors, confidence, [0.2, 0.4, 0.6, 0.8, 1.0])
        np.testing.assert_allclose(means, [0, 3, 4, 4.5, NAN])
        np.testing.assert_allclose(least, [0.9, 0.5, 0.5, 0.5, NAN])

    def test_reliability(self):
        confidence = np.array([0.05, 0.15, 0.12, 1.0, 0.95])
        found = reliability(confidence, np.array([0, 1, 0, 1, 1], bool))
        assert found.count.tolist() == [1, 2, 0, 0, 0, 0, 0, 0, 0, 2]
        np.testing.assert_allclose(found.confidence[[0, 1, 9]], [0.05, 0.135, 0.975])
        np.testing.assert_allclose(found.frequency[[0, 1, 9]], [0, 0.5, 1])

    def test_nothing_at_all(self):
        assert np.isnan(summary(np.empty(0))).all()
        assert np.isnan(success_rates(np.empty(0), [1, 2])).all()
        assert np.isnan(errors_kept(np.empty(0), np.empty(0), [1, 0.5])[0]).all()
        assert np.isnan(success_area(np.empty(0), 10)) and np.isnan(summary(np.ones(1))[2])


class TestLaws:
    def test_a_shift_of_known_px_gives_known_mm(self, random_comparison):
        comparison = random_comparison()
        shifted = replace(comparison, predicted_px=comparison.truth_px + np.array([3, -4]))
        measures = all_measures(shifted, PLANES)
        assert measures[Measure("mean_error", "px")] == pytest.approx(5)
        assert measures[Measure("mean_error", "detector")] == pytest.approx(5 * 0.4)
        assert measures[Measure("p95_error", "isocenter")] == pytest.approx(5 * 0.4 * 0.7)
        assert measures[Measure("sd_error", "px")] == pytest.approx(0, abs=1e-9)

    def test_columns_and_rows_have_their_own_spacing(self, by_hand):
        moved = replace(
            by_hand, predicted_px=by_hand.truth_px + np.array([7, 0]), detected=by_hand.visible
        )
        np.testing.assert_allclose(moved.errors(Plane.DETECTOR)[1, 0], 14)
        moved = replace(moved, predicted_px=by_hand.truth_px + np.array([0, 7]))
        np.testing.assert_allclose(moved.errors(Plane.DETECTOR)[1, 0], 7)

    def test_the_order_of_images_changes_nothing(self, random_comparison):
        comparison = random_comparison()
        order = np.random.default_rng(1).permutation(len(comparison.keys))
        one, other = (all_measures(c, PLANES) for c in (comparison, comparison.take(order)))
        assert [*one] == [*other]
        np.testing.assert_allclose([*one.values()], [*other.values()], rtol=1e-12)

    def test_perfect(self, random_comparison):
        comparison = random_comparison()
        perfect = replace(
            comparison,
            predicted_px=comparison.truth_px,
            detected=comparison.visible,
            confidence=comparison.visible.astype(float),
        )
        for measure, value in all_measures(perfect, PLANES).items():
            best = measure.name.startswith(("success", "pck", "detection"))
            assert value == (1 if best else 0), measure

    def test_nothing_detected(self, random_comparison):
        comparison = random_comparison()
        blind = replace(
            comparison,
            predicted_px=np.full_like(comparison.truth_px, NAN),
            detected=np.zeros_like(comparison.visible),
            confidence=np.zeros_like(comparison.confidence),
        )
        for (name, _), value in all_measures(blind, PLANES).items():
            if "error" in name:
                assert np.isnan(value), name
            elif name.startswith(("success", "pck", "detection", "false", "brier_found")):
                assert value == 0, name

    def test_keeping_less_of_a_good_ranking_lowers_the_error(self, random_comparison):
        comparison = random_comparison()
        errors = comparison.errors(Plane.PIXELS)[comparison.visible]
        means, _ = errors_kept(errors, -errors, np.arange(1, 21) / 20)
        assert (np.diff(means) > 0).all() and means[-1] == pytest.approx(errors.mean())

    def test_the_area_is_that_under_the_curve(self, random_comparison):
        errors = random_comparison().errors(Plane.PIXELS).ravel()
        radii = np.linspace(0, 10, 20001)
        assert success_area(errors, 10) == pytest.approx(
            np.trapezoid(success_rates(errors, radii), radii) / 10, abs=1e-3
        )

    @pytest.mark.parametrize("name", ["truth_px", "known", "spacing_mm", "directions_ras"])
    def test_shapes_must_fit(self, by_hand, name):
        with pytest.raises(ValueError, match=name):
            replace(by_hand, **{name: getattr(by_hand, name)[:2]})

    def test_the_visible_and_the_detected_have_a_place(self, by_hand):
        with pytest.raises(ValueError, match="visible"):
            replace(by_hand, visible=np.ones((3, 2), bool))
        with pytest.raises(ValueError, match="detected"):
            replace(by_hand, predicted_px=np.full((3, 2, 2), NAN))


class TestOracles:
    def test_landmarker(self, random_comparison):
        """The success rate and point error of the package `landmarker`, where it is installed."""
        landmarker = pytest.importorskip("landmarker.metrics")
        torch = pytest.importorskip("torch")
        comparison = random_comparison()
        tables = comparison.truth_px, comparison.predicted_px
        true, found = (torch.tensor(table[..., ::-1].copy()) for table in tables)
        spacing = torch.tensor(comparison.spacing_mm)
        theirs = landmarker.point_error(true, found, pixel_spacing=spacing, reduction="none")
        whole = replace(comparison, visible=np.ones_like(comparison.visible))
        errors = whole.errors(Plane.DETECTOR)
        np.testing.assert_allclose(errors, theirs, rtol=1e-6)
        radii = (2.0, 2.5, 3.0, 4.0)
        rates = landmarker.sdr(radii, true, found, pixel_spacing=spacing)
        ours = 100 * success_rates(errors.ravel(), radii)
        np.testing.assert_allclose(ours, [rates[radius] for radius in radii], rtol=1e-5)

    def test_torchmetrics(self):
        """Its calibration error, where it is installed."""
        torchmetrics = pytest.importorskip("torchmetrics.classification")
        torch = pytest.importorskip("torch")
        rng = np.random.default_rng(4)
        confidence = rng.random(500)
        happened = rng.random(500) < confidence**2
        theirs = torchmetrics.BinaryCalibrationError(n_bins=10, norm="l1")(
            torch.tensor(confidence), torch.tensor(happened).int()
        )
        ours = expected_calibration_error(confidence, happened, 10)
        assert ours == pytest.approx(float(theirs), abs=1e-6)
        squared = torch.nn.functional.mse_loss(
            torch.tensor(confidence), torch.tensor(happened).double()
        )
        assert brier_score(confidence, happened) == pytest.approx(float(squared))
