"""A tissue's map brings its HU to the distribution that the tissue has."""

import numpy as np
import pytest

from XraySynthLib.anatomy.tissues import Label
from XraySynthLib.ct.quantiles import mapped, quantile_maps
from XraySynthLib.ct.tissues import KINDS

MUSCLE, LEFT, RIGHT = (
    KINDS.index(kind) for kind in (Label.MUSCLE, Label.LEFT_FEMUR, Label.RIGHT_FEMUR)
)


@pytest.fixture
def case():
    """HU made, HU wanted, kinds: muscle, and femora whose bone is too smooth and too dense."""
    rng = np.random.default_rng(0)
    kinds = np.full((40, 30, 20), MUSCLE)
    kinds[:10], kinds[30:] = LEFT, RIGHT
    bone = kinds != MUSCLE
    real = np.where(bone, rng.exponential(300, kinds.shape), rng.normal(50, 12, kinds.shape))
    made = np.where(bone, rng.normal(400, 50, kinds.shape), rng.normal(60, 5, kinds.shape))
    return made, real, kinds


def test_distributions_become_those_of_real_cts(case):
    made, real, kinds = case
    result = mapped(made, kinds, quantile_maps([case]))
    for here in (kinds == MUSCLE, kinds != MUSCLE):
        wanted = np.percentile(real[here], [5, 25, 50, 75, 95])
        assert np.allclose(np.percentile(result[here], [5, 25, 50, 75, 95]), wanted, atol=6)
    order = np.argsort(made[kinds == LEFT])
    assert (np.diff(result[kinds == LEFT][order]) >= 0).all()


def test_left_and_right_share_a_map(case):
    maps = quantile_maps([case])
    assert maps["left_femur"] == maps["right_femur"]
    assert set(maps) == {"muscle", "left_femur", "right_femur"}


def test_beyond_its_ends_the_shift_goes_on():
    kinds = np.full((1, 1, 4), MUSCLE)
    values = np.array([[[-100.0, 0.0, 5.0, 90.0]]])
    result = mapped(values, kinds, {"muscle": ((0.0, 10.0), (20.0, 50.0))})
    assert result.tolist() == [[[-80.0, 20.0, 35.0, 130.0]]]


def test_a_tissue_of_few_voxels_has_no_map(case):
    assert quantile_maps([tuple(part[15:16, :16] for part in case)]) == {}
    assert np.array_equal(mapped(*case[::2], {}), case[0])


def test_equal_values_become_the_mean_of_what_they_may_be():
    """A third of the gas lies at the scanner's lowest HU, which real gas spreads from."""
    kinds = np.full((10, 10, 30), MUSCLE)
    made = np.where(np.arange(30) < 10, -1024.0, np.arange(30) - 1000.0) + np.zeros(kinds.shape)
    real = np.arange(30) * 10.0 - 1000 + np.zeros(kinds.shape)
    before, after = quantile_maps([(made, real, kinds)])["muscle"]
    assert before[0] == -1024 and np.all(np.diff(before) > 0)
    assert after[0] == pytest.approx(-955, abs=8)  # the middle of -1000 to -910
