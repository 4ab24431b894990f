"""What the figures show, as tables: a header and rows of numbers each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.evaluation.bootstrap import N_RESAMPLES, bootstrap_over_subjects
from XraySynthLib.evaluation.calibration import N_BINS, reliability
from XraySynthLib.evaluation.comparison import Comparison, Plane
from XraySynthLib.evaluation.measures import (
    PCK_SHARES,
    RADII_MM,
    calibration_events,
    curve,
    detected_errors,
    errors_kept,
    relative_errors,
    success_rates,
    visible_errors,
)

SHARES = np.arange(1, 21) / 20
RADII = np.linspace(0, RADII_MM[-1], 41)
RELATIVE_RADII = np.linspace(0, PCK_SHARES[-1], 41)
N_HISTOGRAM = 40
BOX_PERCENTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True)
class Table:
    """Rows under a header; `column` gives numbers."""

    header: tuple[str, ...]
    rows: list[tuple[Any, ...]]

    def column(self, name: str) -> NDArray:
        """A column as an array."""
        return np.array([row[self.header.index(name)] for row in self.rows])

    def where(self, name: str, value: object) -> "Table":
        """The rows that have a value in a column."""
        at = self.header.index(name)
        return Table(self.header, [row for row in self.rows if row[at] == value])


def error_histogram(comparison: Comparison, plane: Plane) -> Table:
    """Counts of the detected landmarks' errors up to the 99th percentile; a last row for more."""
    errors = detected_errors(comparison, plane)
    top = float(np.percentile(errors, 99)) if errors.size else 0.0
    edges = np.linspace(0, max(top, 1e-3), N_HISTOGRAM + 1)
    counts = np.histogram(errors, [*edges, np.inf])[0]
    rows = zip(edges.tolist(), [*edges[1:].tolist(), np.inf], counts.tolist(), strict=True)
    return Table(("from", "to", "landmarks"), list(rows))


def kept_curve(
    comparison: Comparison, plane: Plane, seed: int = 0, n_resamples: int = N_RESAMPLES
) -> Table:
    """Error versus detected, with its interval at each share."""
    measurable = comparison.measurable(plane)
    _, thresholds = errors_kept(
        comparison.errors(plane)[measurable], comparison.confidence[measurable], SHARES
    )
    band = _band(comparison, lambda some: curve(some, plane, SHARES), seed, n_resamples)
    header = ("kept_share", "mean_error", "low", "high", "least_confidence")
    return Table(header, list(zip(SHARES, *band, thresholds, strict=True)))


def success_curve(
    comparison: Comparison, plane: Plane, seed: int = 0, n_resamples: int = N_RESAMPLES
) -> Table:
    """Share of the landmarks in the image within a radius, with its interval.

    In px the radius is a share of the image's longer side (PCK).
    """
    if plane is Plane.PIXELS:
        radii, errors_of = RELATIVE_RADII, relative_errors
    else:
        radii, errors_of = RADII, lambda some: visible_errors(some, plane)
    band = _band(comparison, lambda c: success_rates(errors_of(c), radii), seed, n_resamples)
    return Table(("radius", "success", "low", "high"), list(zip(radii, *band, strict=True)))


def landmark_boxes(comparison: Comparison, plane: Plane) -> Table:
    """Percentiles of each landmark's error where it is in the image and detected."""
    rows: list[tuple[Any, ...]] = []
    for name in comparison.landmark_names:
        errors = detected_errors(comparison.only([name]), plane)
        if errors.size:
            rows.append((name, errors.size, errors.mean(), *np.percentile(errors, BOX_PERCENTILES)))
    return Table(("landmark", "n", "mean", *(f"p{p}" for p in BOX_PERCENTILES)), rows)


def calibration_table(comparison: Comparison) -> Table:
    """The reliability diagram of each event that a confidence may be the probability of."""
    known, rows = comparison.known, []
    for event, happened in calibration_events(comparison).items():
        found = reliability(comparison.confidence[known], happened[known])
        edges = np.arange(N_BINS) / N_BINS
        rows += [(event, *row) for row in zip(edges, *found, strict=True)]
    return Table(("event", "from", "landmarks", "mean_confidence", "frequency"), rows)


def worst_images(comparison: Comparison, plane: Plane, count: int) -> list[tuple[int, int, float]]:
    """Row, landmark and error of the images whose worst detected landmark is the farthest off."""
    errors = np.where(comparison.detected, comparison.errors(plane), np.nan)
    worst = np.nan_to_num(errors, nan=-1.0).max(axis=1)
    order: Sequence[int] = np.argsort(-worst, kind="stable")[:count].tolist()
    return [
        (row, int(np.nanargmax(errors[row])), float(worst[row])) for row in order if worst[row] >= 0
    ]


def _band(
    comparison: Comparison,
    statistic: Callable[[Comparison], NDArray],
    seed: int,
    n_resamples: int,
) -> tuple[NDArray, NDArray, NDArray]:
    return bootstrap_over_subjects(
        lambda rows: statistic(comparison.take(rows)), comparison.subjects, seed, n_resamples
    )
