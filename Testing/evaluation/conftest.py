"""Comparisons: one small enough to work out by hand, and random ones."""

from collections.abc import Callable

import numpy as np
import pytest

from XraySynthLib.evaluation import Comparison

NOWHERE = (np.nan, np.nan)


@pytest.fixture
def by_hand() -> Comparison:
    """Three images of two subjects, two landmarks.

    Image a of anna: L1 5 px off, L2 exact. Image b of anna: L1 10 px off and not detected, L2 is
    not in the image and detected. Image c of ben: L1 10 px off, of L2 the truth knows nothing.
    Pixels are 0.5 mm, those of b 2 mm x 1 mm; the isocentre is half-way.
    """
    return Comparison(
        keys=np.array(["a", "b", "c"]),
        subjects=np.array(["anna", "anna", "ben"]),
        landmark_names=("L1", "L2"),
        truth_px=np.array([[(10, 10), (20, 20)], [(10, 10), (-5, -5)], [(30, 30), NOWHERE]]),
        visible=np.array([[True, True], [True, False], [True, False]]),
        known=np.array([[True, True], [True, True], [True, False]]),
        predicted_px=np.array(
            [[(13, 14), (20, 20)], [(10, 20), (3, 3)], [(36, 38), (1, 1)]], dtype=float
        ),
        detected=np.array([[True, True], [False, True], [True, True]]),
        confidence=np.array([[0.9, 0.8], [0.2, 0.6], [0.7, 0.9]]),
        shape_px=np.array([[100, 50]] * 3),
        spacing_mm=np.array([(0.5, 0.5), (2.0, 1.0), (0.5, 0.5)]),
        isocenter_ratio=np.full(3, 0.5),
        directions_ras=np.array([(0.0, 1.0, 0.0)] * 3),
    )


@pytest.fixture
def random_comparison() -> Callable[..., Comparison]:
    return make_random


def make_random(
    n_subjects: int = 6,
    images_each: int = 5,
    n_landmarks: int = 4,
    subject_sd_px: float = 2.0,
    seed: int = 0,
) -> Comparison:
    """Images whose errors have a part that is the subject's and a part of their own."""
    rng = np.random.default_rng(seed)
    n, k = n_subjects * images_each, n_landmarks
    subjects = np.repeat([f"s{number:02d}" for number in range(n_subjects)], images_each)
    truth_px = rng.uniform(0, 200, (n, k, 2))
    size_px = 6 + np.repeat(rng.normal(0, subject_sd_px, n_subjects), images_each)[:, None]
    angle = rng.uniform(0, 2 * np.pi, (n, k))
    offsets = np.abs(size_px + rng.normal(0, 1, (n, k)))[..., None] * np.stack(
        [np.cos(angle), np.sin(angle)], axis=-1
    )
    directions = rng.normal(size=(n, 3))
    return Comparison(
        keys=np.array([f"{name}-{number:04d}" for number, name in enumerate(subjects)]),
        subjects=subjects,
        landmark_names=tuple(f"L{number}" for number in range(k)),
        truth_px=truth_px,
        visible=rng.random((n, k)) < 0.8,
        known=np.ones((n, k), bool),
        predicted_px=truth_px + offsets,
        detected=rng.random((n, k)) < 0.9,
        confidence=np.round(rng.random((n, k)), 2),  # with ties
        shape_px=np.array([[200, 240]] * n),
        spacing_mm=np.full((n, 2), 0.4),
        isocenter_ratio=np.full(n, 0.7),
        directions_ras=directions / np.linalg.norm(directions, axis=1, keepdims=True),
    )
