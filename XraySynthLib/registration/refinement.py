"""A view refined until the CT's DRR looks like the film, coarse to fine.

Least squares (Levenberg-Marquardt) on what film and DRR differ by: the squares sum to 2 - 2 times
their local correlation. Derivatives are differences of DRRs by the numba engine.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from XraySynthLib.data import Xray
from XraySynthLib.drr import Preview
from XraySynthLib.geometry import View
from XraySynthLib.registration.landmark_pose import LandmarkFit
from XraySynthLib.registration.motion import motion_to, moved
from XraySynthLib.registration.problems import RegistrationError
from XraySynthLib.registration.similarity import Film

SIDES_PX = (48, 96, 160)
"""Longer sides of the images."""
N_DRAWS, N_CLIMBED = 250, 6
"""Poses drawn from what the landmarks leave open, and the most alike of them, which are refined."""
MAX_CLIMB = 8
"""Steps at a size."""
STEPS = np.array([0.5, 0.5, 0.5, 0.5, 0.5, 2.0])
"""Unit of the six numbers of a motion, deg and mm, depth last; differences are over one."""
LEAST_OPEN_SHARE = 0.05
LEAST_SIMILARITY = 0.2
MAX_DEVIATIONS = 10.0
"""Mahalanobis distance from the landmarks' view under the covariance of their fit: the capture
range. It is wide, because robust fits of few points think too well of themselves."""


@dataclass(frozen=True, eq=False)
class Refinement:
    """A refined view and how it went.

    Attributes:
        view: The view.
        similarity: Local correlation of film and DRR at the finest size, at most 1.
        similarity_before: The same before.
        n_drrs: How many DRRs were made.
        inverted: Whether the film shows what is dense as dark.
    """

    view: View
    similarity: float
    similarity_before: float
    n_drrs: int
    inverted: bool


class _Matcher:
    """Film and CT at one size."""

    def __init__(self, xray: Xray, side_px: int, preview: Preview) -> None:
        self._film, self._preview = Film(xray, side_px), preview
        self.open_share = self._film.open_share
        self.polarity, self.n_drrs = 1, 0

    def similarity(self, view: View) -> float:
        return self.polarity * self._film.similarity(self._drr(view))

    def climbed(self, start: View, pivot_ras_mm: NDArray) -> View:
        """The view at the top of the hill that a view stands on."""

        def residuals(motion: NDArray) -> NDArray:
            view = moved(start, motion * STEPS, pivot_ras_mm)
            return self._film.residuals(self._drr(view), self.polarity)

        def derivatives(motion: NDArray) -> NDArray:
            halves = np.eye(6) / 2
            return np.stack([residuals(motion + h) - residuals(motion - h) for h in halves], axis=1)

        found = least_squares(
            residuals, np.zeros(6), derivatives, method="lm", xtol=1e-3, ftol=1e-4,
            max_nfev=MAX_CLIMB,
        )  # fmt: skip
        return moved(start, found.x * STEPS, pivot_ras_mm)

    def _drr(self, view: View) -> NDArray:
        self.n_drrs += 1
        try:
            return self._preview.line_integral(view.resized(*self._film.shape_px)).values
        except ValueError:  # the source is in the patient, or the patient off the image
            return np.zeros(self._film.shape_px, np.float32)


def refine(
    fit: LandmarkFit,
    xray: Xray,
    preview: Preview,
    rng: np.random.Generator,
    n_draws: int = N_DRAWS,
) -> Refinement:
    """Refine the view that landmarks gave.

    Landmarks fix depth along the beam ten times worse than what lies across it, and a few of them
    leave turns open, too. So poses are drawn from the covariance of their fit, the image chooses
    among them, and the best are refined; in the image depth shows as the size of everything.

    Args:
        fit: The landmarks' view.
        xray: The film, of any quantity, window and polarity; shutters are left out.
        preview: The CT.
        rng: Draws the poses.
        n_draws: How many; 0 for the landmarks' view alone.

    Raises:
        RegistrationError: If the film shows next to nothing, or film and DRR do not come to look
            alike near the landmarks' view.
    """
    pivot_ras_mm = fit.pivot_ras_mm
    matchers = [_Matcher(xray, side_px, preview) for side_px in SIDES_PX]
    coarse, fine = matchers[0], matchers[-1]
    if fine.open_share < LEAST_OPEN_SHARE:
        raise RegistrationError(
            f"Shutters leave {fine.open_share:.0%} of the image open, too little to refine a pose "
            "by; register with --no-refine."
        )
    motions = rng.multivariate_normal(np.zeros(6), fit.covariance, n_draws)
    views = [fit.view, *(moved(fit.view, motion, pivot_ras_mm) for motion in motions)]
    similarities = np.array([coarse.similarity(view) for view in views])
    inverted = bool(similarities.max() < -similarities.min())
    if inverted:
        similarities = -similarities
        for matcher in matchers:
            matcher.polarity = -1
    best = np.argsort(-similarities)[:N_CLIMBED]
    tops = [coarse.climbed(views[index], pivot_ras_mm) for index in best]
    view = max(tops, key=coarse.similarity)
    for matcher in matchers[1:]:
        view = matcher.climbed(view, pivot_ras_mm)
    n_drrs = sum(matcher.n_drrs for matcher in matchers)
    found = Refinement(view, fine.similarity(view), fine.similarity(fit.view), n_drrs, inverted)
    _check(found, fit)
    return found


def _check(found: Refinement, fit: LandmarkFit) -> None:
    """Refuse what went astray.

    Raises:
        RegistrationError: Saying how.
    """
    if found.similarity < found.similarity_before:
        raise RegistrationError(
            f"Refining made film and DRR less alike ({found.similarity_before:.2f} to "
            f"{found.similarity:.2f}); check that they show one patient, or use --no-refine."
        )
    if found.similarity < LEAST_SIMILARITY:
        raise RegistrationError(
            f"Film and DRR do not look alike where the landmarks put them (similarity "
            f"{found.similarity:.2f}, at least {LEAST_SIMILARITY:g}); check that they show one "
            "patient, or use --no-refine."
        )
    motion = motion_to(fit.view, found.view, fit.pivot_ras_mm)
    deviations = float(np.sqrt(motion @ np.linalg.solve(fit.covariance, motion)))
    if deviations > MAX_DEVIATIONS:
        raise RegistrationError(
            f"Refining moved the pose {np.linalg.norm(motion[:3]):.1f} degrees and "
            f"{np.linalg.norm(motion[3:]):.0f} mm, {deviations:.0f} times what the landmarks leave "
            f"open (at most {MAX_DEVIATIONS:g}); check the landmarks, or use --no-refine."
        )
