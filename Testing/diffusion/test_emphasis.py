"""Detail is raised, and comes back as it was."""

import numpy as np
import pytest

from XraySynthLib.diffusion.emphasis import emphasised, plain


def test_waves_by_hand():
    """Two cycles down and one and a half across: (1 + 4 + 2.25)^0.75 / 4 times as high."""
    row, column = np.mgrid[:32, :64]
    wave = np.cos(2 * np.pi * 2 * (row + 0.5) / 32) * np.cos(2 * np.pi * 1.5 * (column + 0.5) / 64)
    raised = emphasised(5 + wave)
    assert raised == pytest.approx((5 + 7.25**0.75 * wave) / 4, abs=1e-4)


def test_back_again():
    images = np.random.default_rng(0).normal(size=(2, 3, 16, 24)).astype(np.float32)
    assert plain(emphasised(images)) == pytest.approx(images, abs=1e-5)


def test_a_mirrored_image_stays_mirrored():
    image = np.random.default_rng(1).normal(size=(16, 16))
    assert emphasised(image[:, ::-1]) == pytest.approx(emphasised(image)[:, ::-1], abs=1e-5)
