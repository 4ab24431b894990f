"""The samplers that come with XraySynth: whole, of whom they say, and read by the detector."""

import re

import numpy as np
import pytest

from XraySynthLib.anatomy.shape_model import load_shape_model
from XraySynthLib.data.pelvis import LANDMARK_NAMES
from XraySynthLib.data.sets import open_set
from XraySynthLib.data.sets.parts import sha256_of
from XraySynthLib.workflows import sample
from XraySynthLib.workflows.detect import SHIPPED_MODEL

pytest.importorskip("torch")
pytest.importorskip("diffusers")
from XraySynthLib.detection.model import load_detector
from XraySynthLib.diffusion.model import (
    GUIDANCE,
    STEPS,
    WEIGHTS_NAME,
    read_sampler_config,
)

CONDITIONS = ("anatomy", "view")
ERROR_BAR_MM = 8.0
"""In the mean on the detector; what is read in a DRR is about 3.5."""


@pytest.mark.parametrize("condition", CONDITIONS)
class TestFolder:
    def test_its_configuration(self, condition):
        config = read_sampler_config(sample.SHIPPED / condition)
        assert config.network.condition == condition and config.network.side_px == 128
        assert config.landmark_names == LANDMARK_NAMES and config.quantity == "line-integral"

    def test_the_held_out_people_are_not_behind_it(self, condition):
        people = set(read_sampler_config(sample.SHIPPED / condition).people)
        model = load_shape_model()
        assert not {f"musculoskeletal-models-{n}" for n in model.held_out} & people
        assert {f"musculoskeletal-models-{n}" for n in model.training} <= people

    def test_its_card_is_of_these_weights(self, condition):
        card = (sample.SHIPPED / condition / "README.md").read_text("utf-8")
        (found,) = re.findall(r"SHA-256 `([0-9a-f]{12})", card)
        assert sha256_of(sample.SHIPPED / condition / WEIGHTS_NAME).startswith(found)


def test_the_command_has_the_models_settings():
    fields = sample.SampleConfig.__dataclass_fields__
    assert fields["steps"].default == STEPS
    for condition, guidance in GUIDANCE.items():
        assert f"{guidance:g} with {condition}" in " ".join(sample.SampleConfig.__doc__.split())


@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_detector_reads_its_images(condition, xraysynth, tmp_path):
    """A set of one person as a user makes it, from in front and clearly exposed."""
    outcome = xraysynth(
        "sample", "--condition", condition, "--count", 4, "--views", 4, "--output",
        tmp_path / "set", "--poses", "standard-views", "--collimated-share", 0,
        "--photons-per-mm2", 1e6, 1e6, "--quantity", "line-integral", "--seed", 991,
        "--progress", "none",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    samples = list(open_set(tmp_path / "set"))
    found = load_detector(SHIPPED_MODEL).detect_all(one.xray for one in samples)
    gaps_mm = []
    for one, marks in zip(samples, found, strict=True):
        assert one.landmarks.names == marks.names
        both = one.landmarks.visible & marks.visible
        gaps = np.linalg.norm(one.landmarks.points_px - marks.points_px, axis=1)[both]
        gaps_mm.extend(gaps * one.xray.view.intrinsics.pixel_spacing_mm[0])
    assert len(gaps_mm) >= 30 and np.mean(gaps_mm) < ERROR_BAR_MM
