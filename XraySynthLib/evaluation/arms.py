"""Arms of an experiment side by side: detectors of several trainings each, on the same images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from XraySynthLib.evaluation.bootstrap import N_RESAMPLES, bootstrap_over_subjects
from XraySynthLib.evaluation.comparison import Comparison, Plane
from XraySynthLib.evaluation.curves import Table, kept_curve, success_curve
from XraySynthLib.evaluation.figures import BAND_ALPHA, new_figure, save_figure
from XraySynthLib.evaluation.measures import curve, detection_rate, mean_error
from XraySynthLib.evaluation.paired import paired_difference

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Arms = Mapping[str, Comparison]
COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#777777")


KEPT = 0.95
KEPT_ERROR = f"mean_error_{100 * KEPT:g}%_kept"


def kept_error(comparison: Comparison, plane: Plane) -> float:
    """Mean error of the same share of landmarks, the most confident, whatever was detected.

    Fair between detectors that take different shares to be in the image.
    """
    return float(curve(comparison, plane, [KEPT])[0])


def pooled(trainings: Sequence[Comparison]) -> Comparison:
    """What several detectors found in the same images, as one: every image once a detector.

    Subjects stay whom they are, so that intervals over subjects hold: all detectors' images of
    a subject are drawn together.
    """
    arrays = {
        field.name: np.concatenate([getattr(one, field.name) for one in trainings])
        for field in fields(Comparison)
        if field.name != "landmark_names"
    }
    numbers = np.repeat(np.arange(len(trainings)), [len(one.keys) for one in trainings])
    arrays["keys"] = np.array(
        [f"{key}#{number}" for key, number in zip(arrays["keys"], numbers, strict=True)]
    )
    return Comparison(landmark_names=trainings[0].landmark_names, **arrays)


def arms_table(arms: Arms, curve_of: Callable[[Comparison], Table]) -> Table:
    """A curve of each arm, one below the other."""
    tables = {name: curve_of(arm) for name, arm in arms.items()}
    header = ("arm", *next(iter(tables.values())).header)
    return Table(header, [(name, *row) for name, table in tables.items() for row in table.rows])


def kept_curves(arms: Arms, plane: Plane, seed: int = 0, n_resamples: int = N_RESAMPLES) -> Table:
    """Error versus detected of each arm."""
    return arms_table(arms, lambda arm: kept_curve(arm, plane, seed, n_resamples))


def success_curves(
    arms: Arms, plane: Plane, seed: int = 0, n_resamples: int = N_RESAMPLES
) -> Table:
    """Share found within a radius, of each arm."""
    return arms_table(arms, lambda arm: success_curve(arm, plane, seed, n_resamples))


def differences(
    arms: Arms, reference: str, plane: Plane, seed: int = 0, n_resamples: int = N_RESAMPLES
) -> Table:
    """Each arm less the reference, subjects drawn for both together."""
    measures: dict[str, Callable[[Comparison], float]] = {
        "mean_error": lambda arm: mean_error(arm, plane),
        KEPT_ERROR: lambda arm: kept_error(arm, plane),
        "detection_rate": detection_rate,
    }
    header = ("arm", "less", "measure", "plane", "value", "low", "high", "p_value")
    rows = [
        (name, reference, what, "" if what == "detection_rate" else plane.value,
         *paired_difference(arm, arms[reference], measure, seed, n_resamples))
        for name, arm in arms.items()
        if name != reference
        for what, measure in measures.items()
    ]  # fmt: skip
    return Table(header, rows)


def size_curves(
    runs: Sequence[tuple[str, int, Comparison]],
    plane: Plane,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> Table:
    """Error against the number of training images.

    Args:
        runs: Arm, images that it learned from, and what its detectors found.
        plane: Where errors are measured.
        seed: Seeds the draws.
        n_resamples: How often subjects are drawn.
    """
    rows = []
    for name, images, found in sorted(runs, key=lambda run: run[:2]):

        def statistic(drawn: np.ndarray, found: Comparison = found) -> np.ndarray:
            some = found.take(drawn)
            return np.array([kept_error(some, plane), detection_rate(some)])

        value, low, high = bootstrap_over_subjects(statistic, found.subjects, seed, n_resamples)
        rows.append((name, images, value[0], low[0], high[0], value[1]))
    return Table(("arm", "images", KEPT_ERROR, "low", "high", "detection_rate"), rows)


def draw_kept_curves(table: Table, plane: Plane, path: Path) -> "Figure":
    """Error versus detected, a band an arm."""
    figure = _draw(table, "kept_share", "mean_error", (100, 1))
    axes = figure.axes[0]
    axes.set_xlabel("% of the landmarks in the image that are kept, the most confident first")
    axes.set_ylabel(f"mean error, {plane.unit}")
    axes.set_title("Error versus detected")
    save_figure(figure, path)
    return figure


def draw_success_curves(table: Table, plane: Plane, path: Path) -> "Figure":
    """Share found within a radius, a band an arm."""
    figure = _draw(table, "radius", "success", (1, 100))
    axes = figure.axes[0]
    relative = plane is Plane.PIXELS
    axes.set_xlabel("radius, share of the longer side" if relative else f"radius, {plane.unit}")
    axes.set_ylabel("% of the landmarks in the image")
    axes.set_title("PCK" if relative else "Detected within a radius")
    save_figure(figure, path)
    return figure


def draw_size_curves(table: Table, plane: Plane, path: Path) -> "Figure":
    """Error against the number of training images, a band an arm."""
    figure = _draw(table, "images", KEPT_ERROR, (1, 1), "o-")
    axes = figure.axes[0]
    images = np.unique(table.column("images"))
    axes.set_xlim(images.min() / 1.2, images.max() * 1.2)  # also where nothing was detected
    axes.set_xscale("log")
    ticks = [one for one, more in pairwise([*images, np.inf]) if more / one > 1.3]  # not too close
    axes.set_xticks(ticks, [f"{size:g}" for size in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("training images")
    axes.set_ylabel(f"mean error with {KEPT:.0%} kept, {plane.unit}")
    axes.set_title("Error against the number of training images, one training each")
    save_figure(figure, path)
    return figure


def _draw(table: Table, x: str, y: str, factors: tuple[float, float], line: str = "-") -> "Figure":
    figure, axes = new_figure()
    names = list(dict.fromkeys(row[0] for row in table.rows))
    for number, name in enumerate(names):
        part, color = table.where("arm", name), COLORS[number % len(COLORS)]
        across = factors[0] * part.column(x)
        low, middle, high = (factors[1] * part.column(column) for column in ("low", y, "high"))
        axes.plot(across, middle, line, color=color, label=name)
        axes.fill_between(across, low, high, color=color, alpha=BAND_ALPHA, lw=0)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=9, title="arm; bands: 95% over subjects")
    return figure
