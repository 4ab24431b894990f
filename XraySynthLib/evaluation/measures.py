"""Measures of landmarks: of arrays first, then all of them of a `Comparison`.

Errors are counted where a landmark is in the image and detected; the detection rate stands beside
them, since a detector that refuses what is difficult errs less.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.evaluation.calibration import brier_score, expected_calibration_error
from XraySynthLib.evaluation.comparison import Comparison, Plane

RADII_MM = (2.0, 2.5, 3.0, 4.0, 5.0, 10.0)
KEPT_SHARES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
PCK_SHARES = (0.01, 0.025, 0.05, 0.1)
CLOSE_SHARE = 0.025
"""Of the image's longer side: nearer than this a landmark counts as found, in calibration."""


class Measure(NamedTuple):
    """What a number is: its name, and its plane ("" where it is in none)."""

    name: str
    plane: str = ""


def share(of: NDArray, among: NDArray) -> float:
    """Share of `among` where `of` holds; NaN where there is nothing among."""
    count = int(np.count_nonzero(among))
    return float(np.count_nonzero(of & among) / count) if count else float("nan")


def summary(errors: NDArray) -> tuple[float, float, float, float]:
    """Mean, median, SD (n - 1) and 95th percentile; NaN where there are too few."""
    if not errors.size:
        return (float("nan"),) * 4
    sd = float(errors.std(ddof=1)) if errors.size > 1 else float("nan")
    median, high = np.percentile(errors, [50, 95])
    return float(errors.mean()), float(median), sd, float(high)


def success_rates(errors: NDArray, radii: Sequence[float] | NDArray) -> NDArray:
    """Share of landmarks within each radius, the success detection rate (Wang et al. 2016).

    Args:
        errors: (n,) of all landmarks in the image; NaN, never a success, where not detected.
        radii: In the errors' unit.
    """
    if not errors.size:
        return np.full(len(radii), np.nan)
    found = np.sort(errors[np.isfinite(errors)])
    return np.searchsorted(found, np.asarray(radii), side="right") / errors.size


def success_area(errors: NDArray, radius: float) -> float:
    """Area under the success curve from 0 to `radius`, as a share of what is possible.

    The curve is a step function, so the area is exactly the mean of max(0, 1 - error / radius).
    """
    if not errors.size:
        return float("nan")
    return float(np.clip(1 - np.nan_to_num(errors, nan=np.inf) / radius, 0, None).mean())


def errors_kept(
    errors: NDArray, confidence: NDArray, shares: Sequence[float] | NDArray
) -> tuple[NDArray, NDArray]:
    """The error-versus-detected curve (Gao et al. 2023, SyntheX): keep the most confident.

    Of landmarks of equal confidence each is as likely to be kept, so their order does not matter.

    Args:
        errors: (n,) of all landmarks in the image; NaN where nothing was predicted.
        confidence: (n,) of each.
        shares: Shares of all n to keep.

    Returns:
        The mean error of those kept, NaN where not so many were predicted, and the confidence of
        the least confident.
    """
    n = len(errors)
    if not n:
        return np.full(len(shares), np.nan), np.full(len(shares), np.nan)
    order = np.lexsort((-confidence, np.isnan(errors)))
    ordered, ranks = errors[order], confidence[order]
    predicted = np.isfinite(ordered)
    changes = (ranks[1:] != ranks[:-1]) | (predicted[1:] != predicted[:-1])
    starts = np.append(0, np.flatnonzero(changes) + 1)
    counts = np.diff(np.append(starts, n))
    ties = np.repeat(np.add.reduceat(ordered, starts) / counts, counts)
    kept = np.clip(np.ceil(np.asarray(shares) * n - 1e-9), 1, n).astype(int)
    means = np.cumsum(ties)[kept - 1] / kept
    return means, np.where(np.isfinite(means), ranks[kept - 1], np.nan)


def detected_errors(comparison: Comparison, plane: Plane) -> NDArray:
    """(n,) errors of the landmarks in the image that were detected."""
    errors = comparison.errors(plane)[comparison.detected]
    return errors[np.isfinite(errors)]


def visible_errors(comparison: Comparison, plane: Plane) -> NDArray:
    """(n,) errors of all landmarks in the image; NaN where not detected."""
    errors = np.where(comparison.detected, comparison.errors(plane), np.nan)
    return errors[comparison.measurable(plane)]


def mean_error(comparison: Comparison, plane: Plane) -> float:
    """Mean error of the landmarks in the image that were detected."""
    return summary(detected_errors(comparison, plane))[0]


def curve(comparison: Comparison, plane: Plane, shares: Sequence[float] | NDArray) -> NDArray:
    """Mean error with the most confident shares kept; see `errors_kept`."""
    measurable = comparison.measurable(plane)
    errors = comparison.errors(plane)[measurable]
    return errors_kept(errors, comparison.confidence[measurable], shares)[0]


def relative_errors(comparison: Comparison) -> NDArray:
    """(n,) as `visible_errors`, as a share of the image's longer side: PCK's unit.

    After Yang and Ramanan (2013), whose unit is the longer side of the body's box.
    """
    return visible_errors(comparison, Plane.PIXELS) / _longer_sides(comparison)[comparison.visible]


def found_nearby(comparison: Comparison) -> NDArray:
    """(N, K) bool, landmarks in the image that were predicted within `CLOSE_SHARE`."""
    with np.errstate(invalid="ignore"):
        relative = comparison.errors(Plane.PIXELS) / _longer_sides(comparison)
        return np.asarray(relative <= CLOSE_SHARE)


def _longer_sides(comparison: Comparison) -> NDArray:
    sides = comparison.shape_px.max(axis=1, keepdims=True)
    return np.broadcast_to(sides, comparison.visible.shape)


def detection_rate(comparison: Comparison) -> float:
    """Share of the landmarks in the image that were detected."""
    return share(comparison.detected, comparison.visible)


def false_positive_rate(comparison: Comparison) -> float:
    """Share of the landmarks not in the image that were detected all the same."""
    return share(comparison.detected, comparison.known & ~comparison.visible)


def plane_measures(comparison: Comparison, plane: Plane) -> dict[Measure, float]:
    """Errors, errors with a share kept and, in mm, success."""
    names = ("mean_error", "median_error", "sd_error", "p95_error")
    values: dict[str, float] = dict(
        zip(names, summary(detected_errors(comparison, plane)), strict=True)
    )
    kept = curve(comparison, plane, KEPT_SHARES).tolist()
    values |= {f"mean_error_{100 * s:g}%_kept": e for s, e in zip(KEPT_SHARES, kept, strict=True)}
    if plane is not Plane.PIXELS:
        errors = visible_errors(comparison, plane)
        rates = success_rates(errors, RADII_MM).tolist()
        values |= {f"success_{r:g}mm": rate for r, rate in zip(RADII_MM, rates, strict=True)}
        values[f"success_area_{RADII_MM[-1]:g}mm"] = success_area(errors, RADII_MM[-1])
    return {Measure(name, plane.value): value for name, value in values.items()}


def all_measures(comparison: Comparison, planes: Sequence[Plane]) -> dict[Measure, float]:
    """Every measure by name; shares are 0..1, NaN is what cannot be said."""
    values = {}
    for plane in planes:
        values |= plane_measures(comparison, plane)
    values[Measure("detection_rate")] = detection_rate(comparison)
    values[Measure("false_positive_rate")] = false_positive_rate(comparison)
    relative = relative_errors(comparison)
    rates = success_rates(relative, PCK_SHARES).tolist()
    values |= {Measure(f"pck_{s:g}"): rate for s, rate in zip(PCK_SHARES, rates, strict=True)}
    values[Measure(f"pck_area_{PCK_SHARES[-1]:g}")] = success_area(relative, PCK_SHARES[-1])
    known = comparison.known
    confidence = comparison.confidence[known]
    for event, happened in calibration_events(comparison).items():
        values[Measure(f"brier_{event}")] = brier_score(confidence, happened[known])
        values[Measure(f"ece_{event}")] = expected_calibration_error(confidence, happened[known])
    return values


def calibration_events(comparison: Comparison) -> dict[str, NDArray]:
    """(N, K) bool by name: what a confidence may be the probability of."""
    return {"in_image": comparison.visible, "found": found_nearby(comparison)}
