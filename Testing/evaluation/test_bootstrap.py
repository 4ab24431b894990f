"""Intervals over subjects: by enumeration, by law, and against scipy."""

from dataclasses import replace

import numpy as np
import pytest

from XraySynthLib.evaluation import (
    Plane,
    bootstrap_over_subjects,
    mean_error,
    paired_difference,
)
from XraySynthLib.evaluation.bootstrap import resampled


def mean_px(comparison):
    return lambda rows: np.array([mean_error(comparison.take(rows), Plane.PIXELS)])


def error_px(comparison):
    return mean_error(comparison, Plane.PIXELS)


class TestBruteForce:
    def test_two_subjects(self, by_hand):
        """Anna's detected errors are 5 and 0 px, Ben's is 10: the four draws give 2.5, 5, 5, 10."""
        values = resampled(mean_px(by_hand), by_hand.subjects, seed=0, n_resamples=4000)[:, 0]
        found, counts = np.unique(values, return_counts=True)
        np.testing.assert_allclose(found, [2.5, 5, 10])
        np.testing.assert_allclose(counts / 4000, [0.25, 0.5, 0.25], atol=0.02)
        value, low, high = bootstrap_over_subjects(mean_px(by_hand), by_hand.subjects)
        assert (value[0], low[0], high[0]) == pytest.approx((5, 2.5, 10))

    def test_three_subjects_and_all_27_draws(self):
        """Subjects of 1, 2 and 3 images; the distribution of the mean over images by hand."""
        numbers = np.array([0.0, 3, 5, 6, 7, 11])
        subjects = np.array(["a", "b", "b", "c", "c", "c"])
        sums, sizes = np.array([0, 8, 24]), np.array([1, 2, 3])
        draws = np.stack(np.meshgrid(*[range(3)] * 3), -1).reshape(-1, 3)
        exact = sums[draws].sum(axis=1) / sizes[draws].sum(axis=1)
        values = resampled(
            lambda rows: np.array([numbers[rows].mean()]), subjects, seed=1, n_resamples=20000
        )[:, 0]
        assert set(np.round(values, 9)) == set(np.round(exact, 9))
        for place in (0.05, 0.5, 0.95):
            assert (values <= np.quantile(exact, place)).mean() == pytest.approx(
                (exact <= np.quantile(exact, place)).mean(), abs=0.015
            )


class TestLaws:
    def test_more_images_of_the_same_people_say_no_more(self, random_comparison):
        comparison = random_comparison(n_subjects=8)
        many = comparison.take(np.repeat(np.arange(len(comparison.keys)), 10))
        one, other = (bootstrap_over_subjects(mean_px(c), c.subjects) for c in (comparison, many))
        np.testing.assert_allclose(one, other, rtol=1e-9)

    def test_more_people_do(self, random_comparison):
        widths = []
        for n_subjects in (10, 40, 160):
            comparison = random_comparison(n_subjects, 2)
            _, low, high = bootstrap_over_subjects(
                mean_px(comparison), comparison.subjects, n_resamples=500
            )
            widths.append(float(high[0] - low[0]))
        np.testing.assert_allclose(widths[0] / np.array(widths), [1, 2, 4], rtol=0.35)

    def test_seeded(self, random_comparison):
        comparison = random_comparison()
        one, same, other = (
            bootstrap_over_subjects(mean_px(comparison), comparison.subjects, seed, 100)
            for seed in (3, 3, 4)
        )
        assert one == same and one.low != other.low

    def test_one_subject_has_no_interval(self, by_hand):
        anna = by_hand.take(np.array([0, 1]))
        value, low, high = bootstrap_over_subjects(mean_px(anna), anna.subjects)
        assert value[0] == 2.5 and np.isnan([low[0], high[0]]).all()

    def test_resamples_that_say_nothing_are_left_out(self, by_hand):
        """L2's error is known of Anna alone."""
        second = by_hand.only(["L2"])
        value, low, high = bootstrap_over_subjects(mean_px(second), second.subjects)
        assert (value[0], low[0], high[0]) == (0, 0, 0)


class TestScipy:
    def test_one_image_a_subject(self):
        scipy_stats = pytest.importorskip("scipy.stats")
        numbers = np.random.default_rng(2).gamma(2, 3, 40)
        ours = bootstrap_over_subjects(
            lambda rows: np.array([numbers[rows].mean()]),
            np.array([f"{n:03d}" for n in range(40)]),
            n_resamples=9999,
        )
        theirs = scipy_stats.bootstrap(
            (numbers,), np.mean, n_resamples=9999, method="percentile",
            rng=np.random.default_rng(5),
        ).confidence_interval  # fmt: skip
        assert (ours.low[0], ours.high[0]) == pytest.approx(tuple(theirs), rel=0.02)


class TestPaired:
    def test_by_hand(self, by_hand):
        """L1 is off by 5, 10 and 10 px; then b's, of Anna, is found 1 px nearer."""
        first = by_hand.only(["L1"])
        first = replace(first, detected=np.ones((3, 1), bool))
        nearer = first.predicted_px.copy()
        nearer[1, 0] = 10, 19
        second = replace(first, predicted_px=nearer)
        found = paired_difference(first, second, error_px, n_resamples=999)
        # Anna twice: a half; Anna and Ben: a third; Ben twice: nothing
        assert (found.value, found.low, found.high) == pytest.approx((1 / 3, 0, 0.5))
        assert found.p_value == pytest.approx(0.5, abs=0.1)  # 2 x a quarter of the draws

    def test_what_both_find_difficult_cancels(self, random_comparison):
        first = random_comparison(20, subject_sd_px=3)
        toward = first.truth_px + 0.9 * (first.predicted_px - first.truth_px)
        difference = paired_difference(first, replace(first, predicted_px=toward), error_px)
        _, low, high = bootstrap_over_subjects(mean_px(first), first.subjects)
        assert 0 < difference.low < difference.value < difference.high
        assert difference.high - difference.low < 0.2 * (high[0] - low[0])
        assert difference.p_value == pytest.approx(2 / 2001)

    def test_against_itself(self, random_comparison):
        comparison = random_comparison()
        assert paired_difference(comparison, comparison, error_px, n_resamples=50) == (0, 0, 0, 1)

    def test_swapped(self, random_comparison):
        first, second = random_comparison(), random_comparison(seed=0)
        second = replace(second, predicted_px=second.predicted_px + 1)
        one, other = (
            paired_difference(first, second, error_px),
            paired_difference(second, first, error_px),
        )
        assert (one.value, one.low, one.high) == pytest.approx(
            (-other.value, -other.high, -other.low)
        )
        assert one.p_value == pytest.approx(other.p_value)

    def test_other_images_are_refused(self, by_hand):
        with pytest.raises(ValueError, match="same images"):
            paired_difference(by_hand, by_hand.take(np.array([0, 1])), error_px)
        with pytest.raises(ValueError, match="same images"):
            paired_difference(by_hand, replace(by_hand, landmark_names=("L1", "L3")), error_px)
