"""Every knob of a subject, and how they are drawn. Nothing is applied here."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from XraySynthLib.anatomy.hips import HipPose
from XraySynthLib.anatomy.sexes import scores_for_sex
from XraySynthLib.anatomy.shape_model import MAX_SAMPLED_SCORE, load_shape_model

Sex = Literal["female", "male"]
IMPLANTS = ("stem-left", "stem-right", "nail-left", "nail-right", "si-screws", "pubic-plate")
LIMITS = {
    "age_years": (18, 110),
    "bone_quality": (0.3, 1.5),
    "anterior_tilt_deg": (-30, 30),
    "lordosis_deg": (0, 80),
    "fat_mm": (4, 90),
    "belly_mm": (0, 150),
    "muscle": (0.5, 1.5),
    "bowel_gas": (0, 1),
    "bladder_ml": (0, 600),
    "calcification": (0, 1),
    "local_variation": (0, 3),
    "noise_hu": (0, 60),
}
HIP_LIMITS = {
    "flexion_deg": (-15, 45),
    "abduction_deg": (-20, 35),
    "internal_rotation_deg": (-40, 40),
}
"""Beyond 45 degrees of flexion a thigh leaves the slices that its soft tissue is laid out in."""
MAX_SCORE = 4.0
"""Beyond it surfaces cross."""


@dataclass(frozen=True)
class SubjectParameters:
    """A subject in numbers; two equal ones make the same CT, byte for byte.

    Attributes:
        shape_scores: Up to 19 standard deviations of the shape model's modes.
        local_variation: Factor on the local displacement of the surfaces; 0 for none.
        sex: Sets what `sample_parameters` draws, the waist and the pelvic organs.
        age_years: Sets what `sample_parameters` draws; from 45 on there are phleboliths.
        bone_quality: Trabecular density and cortical thickness; 1 is a healthy adult of 40.
        left_hip: Pose of the left femur against the patient's axes.
        right_hip: Pose of the right femur.
        anterior_tilt_deg: Anterior pelvic plane against the coronal plane, its top forward.
        lordosis_deg: Angle that the lumbar spine turns back from L5 to L1.
        fat_mm: Mean thickness of the fat under the skin at the hip.
        belly_mm: How far the belly stands before the iliac spines, without that fat.
        muscle: Factor of the muscles' thickness.
        bowel_gas: 0 for none, 1 for much.
        bladder_ml: What the bladder holds.
        calcification: 0 for clean arteries, 1 for plaques all along.
        implants: Names from `IMPLANTS`.
        table: Whether the CT's table is in the picture.
        noise_hu: Standard deviation of the scanner's noise.
        texture_seed: Seeds noise, texture, bowel and the local variation.
    """

    shape_scores: tuple[float, ...] = ()
    local_variation: float = 1.0
    sex: Sex = "female"
    age_years: float = 50.0
    bone_quality: float = 1.0
    left_hip: HipPose = field(default_factory=HipPose)
    right_hip: HipPose = field(default_factory=HipPose)
    anterior_tilt_deg: float = 4.0
    lordosis_deg: float = 42.0
    fat_mm: float = 25.0
    belly_mm: float = 30.0
    muscle: float = 1.0
    bowel_gas: float = 0.4
    bladder_ml: float = 150.0
    calcification: float = 0.0
    implants: tuple[str, ...] = ()
    table: bool = False
    noise_hu: float = 10.0
    texture_seed: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(
                    f"{name} must lie in {low:g}..{high:g}, got {getattr(self, name)}."
                )
        if self.sex not in ("female", "male"):
            raise ValueError(f"sex must be 'female' or 'male', got {self.sex!r}.")
        unknown = sorted(set(self.implants) - set(IMPLANTS))
        if unknown:
            raise ValueError(f"Unknown implants {unknown}; there are {IMPLANTS}.")
        for side in ("left", "right"):
            self._check_hip(side)
            if {f"stem-{side}", f"nail-{side}"} <= set(self.implants):
                raise ValueError(f"A {side} femur holds a stem or a nail, not both.")
        if len(self.shape_scores) > load_shape_model().n_modes:
            raise ValueError(f"There are {load_shape_model().n_modes} shape scores at most.")
        if not all(abs(score) <= MAX_SCORE for score in self.shape_scores):
            raise ValueError(f"shape_scores must lie in +-{MAX_SCORE:g}, got {self.shape_scores}.")

    def _check_hip(self, side: str) -> None:
        hip = getattr(self, f"{side}_hip")
        if not isinstance(hip, HipPose):
            raise TypeError(f"{side}_hip must be a HipPose, got {type(hip).__name__}.")
        for name, (low, high) in HIP_LIMITS.items():
            if not low <= getattr(hip, name) <= high:
                raise ValueError(
                    f"{side}_hip.{name} must lie in {low}..{high}, got {getattr(hip, name)}."
                )


def typical_bone_quality(age_years: float, sex: Sex) -> float:
    """Bone quality of most people of that age.

    It keeps the lumbar vertebrae's marrow within a standard deviation of the published means of
    L1: 226 +- 44 HU before 30, 89 +- 38 HU from 90 on (Jang et al. 2019, Radiology 291). From 20 to
    90 years trabecular bone loses 55% in women and 46% in men (Riggs et al. 2004, JBMR).
    """
    loss = 0.0080 if sex == "female" else 0.0068
    return 1.20 - loss * max(age_years - 25, 0)


def sample_parameters(
    generator: np.random.Generator, implants: float = 0.06, table: float = 0.3
) -> SubjectParameters:
    """Draw a subject's parameters.

    Ranges: tilt of the anterior pelvic plane lying down 4 +- 6 degrees; feet in slight external
    rotation, as people lie; fat and belly span the body mass indices 18 to 38 (textbook values).
    Shapes follow `sexes`, bone `typical_bone_quality`.

    Args:
        generator: Random numbers; the same state draws the same subject.
        implants: Probability of one implant.
        table: Probability that the table is in the picture.
    """
    rng = generator
    sex: Sex = "female" if rng.random() < 0.5 else "male"
    n_modes = load_shape_model().n_modes
    scores = scores_for_sex(rng.standard_normal(n_modes), sex)
    age_years = rng.uniform(25, 90)
    quality = typical_bone_quality(age_years, sex) + 0.10 * rng.standard_normal()
    habitus = rng.beta(2.0, 2.8)  # 0 slim .. 1 obese
    female = sex == "female"
    fat_mm = (8 if female else 6) + (44 if female else 36) * habitus * rng.uniform(0.8, 1.2)
    return SubjectParameters(
        shape_scores=tuple(
            float(s) for s in np.clip(scores, -MAX_SAMPLED_SCORE, MAX_SAMPLED_SCORE)
        ),
        local_variation=float(rng.uniform(0.4, 1.0)),
        sex=sex,
        age_years=float(age_years),
        bone_quality=float(np.clip(quality, 0.5, 1.4)),
        left_hip=_lying_hip(rng),
        right_hip=_lying_hip(rng),
        anterior_tilt_deg=float(np.clip(4 + 6 * rng.standard_normal(), -12, 18)),
        lordosis_deg=float(np.clip(42 + 8 * rng.standard_normal(), 20, 65)),
        fat_mm=float(fat_mm),
        belly_mm=float((5 if female else 10) + 70 * habitus * rng.uniform(0.6, 1.2)),
        muscle=float(np.clip((0.97 if female else 1.06) + 0.08 * rng.standard_normal(), 0.75, 1.3)),
        bowel_gas=float(rng.beta(1.6, 2.2)),
        bladder_ml=float(min(rng.gamma(2.0, 80.0), 500.0)),
        calcification=float(np.clip((age_years - 55) / 40, 0, 1) * rng.random()),
        implants=_drawn_implants(rng, implants),
        table=bool(rng.random() < table),
        noise_hu=float(rng.uniform(6, 16)),
        texture_seed=int(rng.integers(2**31)),
    )


def _lying_hip(rng: np.random.Generator) -> HipPose:
    return HipPose(
        flexion_deg=float(rng.uniform(-3, 14)),
        abduction_deg=float(rng.uniform(-5, 12)),
        internal_rotation_deg=float(rng.uniform(-25, 12)),
    )


def _drawn_implants(rng: np.random.Generator, probability: float) -> tuple[str, ...]:
    wanted, which = rng.random() < probability, int(rng.integers(len(IMPLANTS)))
    return (IMPLANTS[which],) if wanted else ()
