"""Landmarks of people pass; a point that is misplaced, or missing, does not."""

import numpy as np
import pytest

from XraySynthLib.diffusion.plausibility import (
    complaint,
    fit_pelvis,
    misread,
    px_mm,
    with_limits,
)


@pytest.fixture
def limited(prior, store, pelves):
    rng = np.random.default_rng(0)
    fits = [
        fit_pelvis(prior, view, center, misread(points, visible, view, center, rng))
        for view, points, visible, center in places(store, pelves)
    ]
    return with_limits(prior, fits)


def places(store, pelves):
    for index, view in enumerate(store.views):
        center = pelves[store.subjects[index]].center_ras_mm
        yield view, store.points_px[index], store.visible[index], center


def judged(prior, view, center, points):
    found = np.isfinite(points).all(axis=1)
    fit = fit_pelvis(prior, view, center, points)
    return complaint(prior, fit, view, center, found)


def test_the_prior_is_symmetric(prior):
    from Testing.diffusion.conftest import NAMES
    from XraySynthLib.data.pelvis import partners_of

    mirrored = prior.mean_mm[partners_of(NAMES)] * [-1, 1, 1]
    assert mirrored == pytest.approx(prior.mean_mm)


def test_a_pixel_in_the_pelvis_plane(store, pelves):
    """10 mm on the detector, 1000 mm away; the pelvis about 700 mm away."""
    view, _, _, center = next(places(store, pelves))
    assert px_mm(view, center) == pytest.approx([7, 7], abs=0.5)


def test_the_mean_fits_exactly(prior, store, pelves):
    for view, _, _, center in places(store, pelves):
        points = view.project(prior.mean_mm + center)
        fit = fit_pelvis(prior, view, center, points)
        assert fit.points_px == pytest.approx(points) and fit.distance == pytest.approx(0, abs=1e-6)


def test_what_is_hidden_is_guessed_from_the_rest(prior, store, pelves):
    """The fit of five landmarks places the sixth nearer than the mean does, on average."""
    errors = []
    for view, points, _, center in places(store, pelves):
        known = points.copy()
        known[3] = np.nan
        guessed = fit_pelvis(prior, view, center, known).points_px[3]
        mean = view.project(prior.mean_mm + center)[3]
        errors.append([np.linalg.norm(one - points[3]) for one in (guessed, mean)])
    assert np.mean(errors, axis=0)[0] < 0.8 * np.mean(errors, axis=0)[1]


def test_people_pass(limited, store, pelves):
    complaints = [
        judged(limited, view, center, np.where(visible[:, None], points, np.nan))
        for view, points, visible, center in places(store, pelves)
    ]
    assert complaints.count(None) >= len(complaints) - 1


def test_nonsense_is_refused(limited, store, pelves):
    for view, points, visible, center in places(store, pelves):
        if not visible.all():
            continue
        swapped = points[[1, 0, 3, 2, 5, 4]]
        assert judged(limited, view, center, swapped) in ("residual", "shape")
        away = points.copy()
        away[2] += 60 / px_mm(view, center)
        assert judged(limited, view, center, away) in ("residual", "shape")
        missing = points.copy()
        missing[0] = np.nan
        assert judged(limited, view, center, missing) == "missing"


def test_too_few_points_are_not_judged(limited, store, pelves):
    view, points, _, center = next(places(store, pelves))
    few = np.full_like(points, np.nan)
    few[:2] = points[[1, 0]]
    fit = fit_pelvis(limited, view, center, few)
    assert complaint(limited, fit, view, center, np.ones(6, bool)) is None
