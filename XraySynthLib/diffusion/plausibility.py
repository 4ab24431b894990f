"""Whether landmarks that a network made can be somebody's, seen from the view that was asked for.

The 3D landmarks of a pelvis are taken for Gaussian. The most likely pelvis for points in an image
leaves distances in the image, and lies at a distance from the mean; both must be as small as those
of the training's people, read as inaccurately as heatmaps are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.geometry import View

READING_MM = 2.0
"""Standard deviation of a point that is read from a heatmap, in the plane through the pelvis."""
SPREAD_MM = 1.0
"""Standard deviation added to each coordinate, for people who are not among the training's."""
QUANTILE = 0.99
N_STEPS = 6
LEAST_POINTS = 4
"""With fewer points nothing can be said, and nothing is refused."""
INSIDE_MM = 12.0
"""A landmark that should lie so far inside the image must be found there."""


@dataclass(frozen=True, eq=False)
class LandmarkPrior:
    """Landmarks of a pelvis, in the pelvis frame, as a Gaussian.

    Attributes:
        mean_mm: (K, 3).
        covariance_mm2: (3 K, 3 K).
        most_residual_mm: Root mean square distance of points from the fitted pelvis', at most.
        most_distance: Mahalanobis distance of the fitted pelvis over the root of what decides it,
            at most.
    """

    mean_mm: NDArray
    covariance_mm2: NDArray
    most_residual_mm: float = np.inf
    most_distance: float = np.inf


@dataclass(frozen=True, eq=False)
class Fit:
    """The most likely pelvis for points in an image.

    Attributes:
        points_px: (K, 2) where it has the landmarks, column and row, px.
        residual_mm: Root mean square distance of the points from it, in the pelvis' plane.
        distance: Mahalanobis distance over the root of the number of points.
        n_points: How many points it was fitted to.
    """

    points_px: NDArray
    residual_mm: float
    distance: float
    n_points: int


def landmark_prior(people_mm: NDArray, partners: Sequence[int]) -> LandmarkPrior:
    """The Gaussian of people and, as likely, their mirror images.

    Args:
        people_mm: (P, K, 3) in the pelvis frame; NaN where a landmark is not known.
        partners: (K,) of `data.pelvis.partners_of`.

    Raises:
        ValueError: If a landmark is known of nobody.
    """
    mirrored = people_mm[:, list(partners)] * [-1, 1, 1]
    both = np.concatenate([people_mm, mirrored])
    known = np.isfinite(both).all(axis=2)
    if not known.any(axis=0).all():
        raise ValueError("a landmark is known of nobody")
    mean = np.nanmean(both, axis=0)
    flat = np.where(known[..., None], both - mean, 0).reshape(len(both), -1)
    covariance = flat.T @ flat / len(both) + SPREAD_MM**2 * np.eye(flat.shape[1])
    return LandmarkPrior(mean, covariance)


def fit_pelvis(prior: LandmarkPrior, view: View, center_ras_mm: NDArray, points_px: NDArray) -> Fit:
    """Find the most likely pelvis, by Gauss-Newton.

    Args:
        prior: The people.
        view: The image's.
        center_ras_mm: (3,) origin of the pelvis frame, RAS, mm.
        points_px: (K, 2) column and row; NaN where nothing was found.
    """
    seen = np.isfinite(points_px).all(axis=1)
    n_points = int(seen.sum())
    mean = prior.mean_mm.ravel()
    mm = px_mm(view, center_ras_mm)
    points_mm = prior.mean_mm
    weight = np.linalg.inv(prior.covariance_mm2)
    if n_points:
        for _ in range(N_STEPS):
            found_px, slopes = _projected(view, points_mm + center_ras_mm)
            slopes = (slopes * mm[:, None])[seen]  # (P, 2, 3), mm in the image a mm of the patient
            jacobian = np.zeros((n_points, 2, *prior.mean_mm.shape))
            jacobian[np.arange(n_points), :, np.flatnonzero(seen)] = slopes
            jacobian = jacobian.reshape(2 * n_points, -1)
            wrong = ((points_px - found_px)[seen] * mm).ravel()
            x = points_mm.ravel()
            target = wrong + jacobian @ (x - mean)
            normal = jacobian.T @ jacobian / READING_MM**2 + weight
            step = np.linalg.solve(normal, jacobian.T @ target / READING_MM**2)
            points_mm = (mean + step).reshape(prior.mean_mm.shape)
    fitted_px = view.project(points_mm + center_ras_mm)
    residual = ((points_px - fitted_px)[seen] * mm).ravel()
    apart = points_mm.ravel() - mean
    return Fit(
        fitted_px,
        float(np.sqrt((residual**2).sum() / max(n_points, 1))),
        float(np.sqrt(apart @ weight @ apart / max(n_points, 1))),
        n_points,
    )


def px_mm(view: View, center_ras_mm: NDArray) -> NDArray:
    """(2,) a pixel's width and height in the plane through the pelvis."""
    depth_mm = (view.camera_from_ras @ [*center_ras_mm, 1])[2]
    return view.intrinsics.pixel_spacing_mm * depth_mm / view.intrinsics.source_to_detector_mm


def _projected(view: View, points_ras_mm: NDArray) -> tuple[NDArray, NDArray]:
    """(K, 2) points in the image, and (K, 2, 3) how they move with the patient's, px/mm."""
    camera_from_ras = view.camera_from_ras
    px_from_ras = view.intrinsics.px_from_camera @ camera_from_ras[:3]
    homogeneous = points_ras_mm @ px_from_ras[:, :3].T + px_from_ras[:, 3]
    points_px = homogeneous[:, :2] / homogeneous[:, 2:]
    slopes = px_from_ras[None, :2, :3] - points_px[:, :, None] * px_from_ras[None, 2:, :3]
    return points_px, slopes / homogeneous[:, 2, None, None]


def complaint(
    prior: LandmarkPrior, fit: Fit, view: View, center_ras_mm: NDArray, found: NDArray
) -> str | None:
    """Why points cannot be somebody's: "residual", "shape" or "missing"; None where they can.

    Args:
        prior: The people.
        fit: To the points.
        view: The image's.
        center_ras_mm: (3,) origin of the pelvis frame, RAS, mm.
        found: (K,) bool, which landmarks have a point.
    """
    if fit.n_points >= LEAST_POINTS:
        if fit.residual_mm > prior.most_residual_mm:
            return "residual"
        if fit.distance > prior.most_distance:
            return "shape"
    rows, columns = view.intrinsics.shape_px
    margin = INSIDE_MM / px_mm(view, center_ras_mm)
    with np.errstate(invalid="ignore"):
        inside = (fit.points_px > margin) & (fit.points_px < [columns, rows] - margin - 1)
    return "missing" if (inside.all(axis=1) & ~found).any() else None


def with_limits(prior: LandmarkPrior, fits: Sequence[Fit]) -> LandmarkPrior:
    """The prior with the limits that nearly all of the fits keep to."""
    judged = [fit for fit in fits if fit.n_points >= LEAST_POINTS]
    if not judged:
        return prior
    return replace(
        prior,
        most_residual_mm=float(np.quantile([fit.residual_mm for fit in judged], QUANTILE)),
        most_distance=float(np.quantile([fit.distance for fit in judged], QUANTILE)),
    )


def misread(
    points_px: NDArray,
    visible: NDArray,
    view: View,
    center_ras_mm: NDArray,
    rng: np.random.Generator,
) -> NDArray:
    """(K, 2) true points as they are read from heatmaps; NaN where they are not visible."""
    error_px = rng.normal(0, READING_MM, points_px.shape) / px_mm(view, center_ras_mm)
    return np.where(visible[:, None], points_px + error_px, np.nan)
