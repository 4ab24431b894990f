"""Fit the shape model to landmarks alone: where the others are, and which ones cannot be right.

The landmarks of a pelvis are taken for Gaussian: the shape model's modes, and what people differ by
beyond them. From half of the landmarks the others are 4 to 5 mm off (median; 95% under 15) in the
people held out; `fit`, which fits whole bones, comes nearer.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.anatomy.fit import NotAPelvisError
from XraySynthLib.anatomy.landmarks import landmarks_of
from XraySynthLib.anatomy.shape_model import load_shape_model
from XraySynthLib.data import LandmarkSet
from XraySynthLib.data.pelvis import LANDMARK_NAMES, other_side, partners_of

BEYOND_MODES_MM = 2.0
"""Standard deviation of a coordinate that the modes do not tell, and of where a point is placed."""
LEAST_POINTS = 4
LEAST_WIDTH_MM = 25.0
"""Points must reach so far aside of the line that they lie along, or the pelvis turns about it."""
MOST_RESIDUAL_MM = 4.0
"""More, and a point is wrong; people held out, whose points are 1 mm off, leave 2.3 at most."""
SWAPPED_SHARE = 0.5
"""Sides are swapped where the swapped points leave less than this share of the distances."""
N_STEPS = 40


@dataclass(frozen=True, eq=False)
class LandmarkFit:
    """The most likely pelvis for some landmarks.

    Attributes:
        landmarks: All 14, RAS, mm: those given as they were given, the others predicted.
        given: (14,) bool, which were given.
        residual_mm: Root mean square distance of those given from the fitted pelvis'.
        swapped: Names that look as if they were exchanged with the other side's.
        worst: Name that lies farthest from the fitted pelvis'.
    """

    landmarks: LandmarkSet
    given: NDArray
    residual_mm: float
    swapped: tuple[str, ...]
    worst: str

    @property
    def poor(self) -> bool:
        """Whether the points given are hardly those of a pelvis."""
        return bool(self.swapped) or self.residual_mm > MOST_RESIDUAL_MM


def fit_landmarks(landmarks: LandmarkSet) -> LandmarkFit:
    """Fit the shape model to some of the 14 landmarks; others, and undefined ones, do not count.

    Raises:
        NotAPelvisError: If they are too few, or all lie along one line.
    """
    points = np.full((len(LANDMARK_NAMES), 3), np.nan)
    for name, point in zip(landmarks.names, landmarks.points_ras_mm, strict=True):
        if name in LANDMARK_NAMES:
            points[LANDMARK_NAMES.index(name)] = point
    given = np.isfinite(points).all(axis=1)
    if given.sum() < LEAST_POINTS:
        raise NotAPelvisError(
            f"Place at least {LEAST_POINTS} of the landmarks {', '.join(LANDMARK_NAMES)}; "
            f"{given.sum()} are placed."
        )
    around = points[given] - points[given].mean(axis=0)
    if np.linalg.svd(around, compute_uv=False)[1] < LEAST_WIDTH_MM:
        raise NotAPelvisError("The landmarks all lie along one line; place some aside of it.")
    fitted, local = _fitted(points)
    apart_mm = np.linalg.norm((points - fitted)[given], axis=1)
    return LandmarkFit(
        LandmarkSet(LANDMARK_NAMES, np.where(given[:, None], points, fitted)),
        given,
        _rms(apart_mm),
        _swapped(points, local, _rms(apart_mm)),
        LANDMARK_NAMES[np.flatnonzero(given)[apart_mm.argmax()]],
    )


def _fitted(points: NDArray) -> tuple[NDArray, NDArray]:
    """(14, 3) the pelvis' landmarks, and the points, undefined or not, in its own frame, mm."""
    mean, covariance = _people()
    given = np.isfinite(points).all(axis=1)
    seen = np.repeat(given, 3)
    among = covariance[np.ix_(seen, seen)] + BEYOND_MODES_MM**2 * np.eye(seen.sum())
    gain = np.linalg.solve(among, covariance[seen]).T  # (42, 3 given)
    shape = mean
    for _ in range(N_STEPS):
        turn, shift = _moved(shape[given], points[given])
        local = (points - shift) @ turn
        shape = mean + (gain @ (local - mean)[given].ravel()).reshape(mean.shape)
    return shape @ turn.T + shift, local


def _moved(source: NDArray, target: NDArray) -> tuple[NDArray, NDArray]:
    """(3, 3) rotation and (3,) shift that bring points nearest to others."""
    middle, goal = source.mean(axis=0), target.mean(axis=0)
    u, _, vt = np.linalg.svd((target - goal).T @ (source - middle))
    turn = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
    return turn, goal - turn @ middle


def _swapped(points: NDArray, local: NDArray, residual_mm: float) -> tuple[str, ...]:
    """Names of all that are given where the other sides fit far better, else of single pairs."""
    given = np.isfinite(points).all(axis=1)
    exchanged = points[partners_of(LANDMARK_NAMES)]
    fitted, _ = _fitted(exchanged)
    left_mm = _rms(np.linalg.norm(exchanged - fitted, axis=1)[np.isfinite(exchanged).all(axis=1)])
    if left_mm < SWAPPED_SHARE * residual_mm:
        return tuple(name for name, one in zip(LANDMARK_NAMES, given, strict=True) if one)
    wrong = [
        name
        for name, point in zip(LANDMARK_NAMES, local, strict=True)
        if name.endswith("-l") and point[0] > local[LANDMARK_NAMES.index(other_side(name))][0]
    ]
    return tuple(one for name in wrong for one in (name, other_side(name)))


def _rms(values: NDArray) -> float:
    return float(np.sqrt((values**2).mean()))


@lru_cache(1)
def _people() -> tuple[NDArray, NDArray]:
    """(14, 3) mean of the landmarks in the model's frame, mm, and (42, 42) their covariance."""
    model = load_shape_model()
    mean = landmarks_of(model.mean).points_ras_mm
    modes = [landmarks_of(model.shape(row)).points_ras_mm - mean for row in np.eye(model.n_modes)]
    flat = np.reshape(modes, (len(modes), -1))
    return mean, flat.T @ flat + BEYOND_MODES_MM**2 * np.eye(flat.shape[1])
