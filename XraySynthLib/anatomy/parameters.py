"""Every knob of a subject, and how they are drawn. Nothing is applied here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.anatomy.hips import HipPose, check_hips, eased
from XraySynthLib.anatomy.sexes import scores_for_sex
from XraySynthLib.anatomy.shape_model import load_shape_model

Sex = Literal["female", "male"]
SEXES = ("female", "male")
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
    "local_variation": (0, 2),
    "noise_hu": (0, 60),
}
MAX_SCORE, MAX_DRAWN_SCORE = 4.0, 2.5
MAX_SCORE_NORM = 6.0
"""Root of the sum of the squared scores; 1 person in 100 lies beyond it.

At 6 up to 1.2% of the vertices lie inside their own bone, nearly all the sacrum's (0.4% of typical
people's); at 8 there are 3%, at 12 there are 10%.
"""
MEAN_ENDPLATE_DEG = 38.0
"""How far the sacrum's endplate leans forward at no tilt."""
MAX_LEAN_DEG = 45.0
"""How far the spine may lean forward or back above L1."""


@dataclass(frozen=True)
class SubjectParameters:
    """A subject in numbers; two equal ones make the same CT, byte for byte.

    Attributes:
        shape_scores: Up to 19 standard deviations of the shape model's modes, within limits.
        local_variation: Factor on the local displacement of the surfaces; 0 for none.
        sex: Sets what `sample_parameters` draws, the waist and the pelvic organs.
        age_years: Sets what `sample_parameters` draws; above 45 there may be phleboliths.
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
        for name in (one.name for one in fields(self)):
            object.__setattr__(self, name, checked_knob(name, getattr(self, name)))
        check_hips(self.left_hip, self.right_hip, self.anterior_tilt_deg)
        lean_deg = MEAN_ENDPLATE_DEG + self.anterior_tilt_deg - self.lordosis_deg
        if abs(lean_deg) > MAX_LEAN_DEG:
            raise ValueError(
                f"The spine would lean out of the body: {MEAN_ENDPLATE_DEG:g} + anterior_tilt_deg "
                f"- lordosis_deg must lie in +-{MAX_LEAN_DEG:g}, got {lean_deg:g}."
            )
        for side in ("left", "right"):
            if {f"stem-{side}", f"nail-{side}"} <= set(self.implants):
                raise ValueError(f"A {side} femur holds a stem or a nail, not both.")


def checked_knob(name: str, value: object) -> Any:
    """See that a knob is there and takes a value, by itself.

    Returns:
        The value as `SubjectParameters` holds it: plain numbers, tuples.

    Raises:
        TypeError: If there is no such knob, or it takes another type.
        ValueError: If the value is out of its limits.
    """
    if name in LIMITS:
        return _number(name, value, *LIMITS[name])
    if name not in _CHECKS:
        raise TypeError(f"There is no knob {name!r}; there are {', '.join((*LIMITS, *_CHECKS))}.")
    return _CHECKS[name](name, value)


def _number(name: str, value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number in {low:g}..{high:g}, got {value!r}.")
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in {low:g}..{high:g}, got {value}.")
    return float(value)


def _sex(name: str, value: object) -> str:
    if not isinstance(value, str) or value not in SEXES:
        raise ValueError(f"{name} must be 'female' or 'male', got {value!r}.")
    return value


def _scores(name: str, value: object) -> tuple[float, ...]:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        raise TypeError(f"{name} must be a tuple of numbers, got {value!r}.")
    n_modes = load_shape_model().n_modes
    if len(value) > n_modes:
        raise ValueError(f"{name} must hold {n_modes} numbers at most, got {len(value)}.")
    scores = tuple(_number(f"Each of {name}", one, -MAX_SCORE, MAX_SCORE) for one in value)
    norm = float(np.linalg.norm(scores))
    if norm > MAX_SCORE_NORM:
        raise ValueError(
            f"{name} lie too far from the mean: the root of the sum of their squares must be "
            f"{MAX_SCORE_NORM:g} at most, got {norm:.2f}."
        )
    return scores


def _implants(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise TypeError(f"{name} must be a tuple of names, as ('stem-left',), got {value!r}.")
    unknown = sorted(set(value) - set(IMPLANTS))
    if unknown:
        raise ValueError(f"Unknown {name} {unknown}; there are {IMPLANTS}.")
    if len(set(value)) < len(value):
        raise ValueError(f"{name} must differ from each other, got {value!r}.")
    return tuple(value)


def _hip(name: str, value: object) -> HipPose:
    if not isinstance(value, HipPose):
        raise TypeError(f"{name} must be a HipPose, got {value!r}.")
    return value


def _table(name: str, value: object) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}.")
    return bool(value)


def _seed(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number, 0 or more, got {value!r}.")
    if value < 0:
        raise ValueError(f"{name} must be 0 or more, got {value}.")
    return int(value)


_CHECKS: Mapping[str, Callable[[str, object], Any]] = MappingProxyType(
    {
        "shape_scores": _scores,
        "sex": _sex,
        "left_hip": _hip,
        "right_hip": _hip,
        "implants": _implants,
        "table": _table,
        "texture_seed": _seed,
    }
)


def checked_seed(seed: object) -> tuple[int, ...]:
    """A seed as a tuple of integers.

    Raises:
        TypeError: If it is neither a whole number nor a sequence of them.
        ValueError: If it is empty or holds a negative number.
    """
    numbers = seed if isinstance(seed, list | tuple) else (seed,)
    if not numbers:
        raise ValueError("A seed must hold at least one whole number, got ().")
    return tuple(_seed("A seed", number) for number in numbers)


def typical_bone_quality(age_years: float, sex: Sex) -> float:
    """Bone quality of most people of that age.

    It keeps the lumbar vertebrae's marrow within a standard deviation of the published means of
    L1: 226 +- 44 HU before 30, 89 +- 38 HU from 90 on (Jang et al. 2019, Radiology 291). From 20 to
    90 years trabecular bone loses 55% in women and 46% in men (Riggs et al. 2004, JBMR).
    """
    loss = 0.0080 if sex == "female" else 0.0068
    return 1.20 - loss * max(age_years - 25, 0)


def sample_parameters(
    generator: np.random.Generator,
    implants: float = 0.06,
    table: float = 0.3,
    knobs: Mapping[str, object] = MappingProxyType({}),
) -> SubjectParameters:
    """Draw a subject's parameters.

    Ranges: tilt of the anterior pelvic plane lying down 4 +- 6 degrees; feet in slight external
    rotation, as people lie; fat and belly span the body mass indices 18 to 38 (textbook values).
    Shapes follow `sexes`, bone `typical_bone_quality`.

    Args:
        generator: Random numbers; the same state draws the same subject, whatever the knobs: as
            many numbers are drawn, only what follows from a knob becomes another.
        implants: Probability of one implant.
        table: Probability that the table is in the picture.
        knobs: Fields to set instead of drawing them; what follows them is told in
            `subject.sample_subject`.

    Raises:
        TypeError: If a knob does not exist or takes another type.
        ValueError: If a value is out of its limits.
    """
    rng, n_modes = generator, load_shape_model().n_modes
    given = {name: checked_knob(name, value) for name, value in knobs.items()}
    chance, scores, years = rng.random(), rng.standard_normal(n_modes), rng.uniform(25, 90)
    sex: Sex = given.get("sex", "female" if chance < 0.5 else "male")
    age_years = given.get("age_years", float(years))
    female = sex == "female"
    quality = typical_bone_quality(age_years, sex) + 0.10 * rng.standard_normal()
    habitus, fat_share = rng.beta(2.0, 2.8), rng.uniform(0.8, 1.2)  # 0 slim .. 1 obese
    local_variation = rng.uniform(0.4, 1.0)
    left_hip, right_hip = _lying_hip(rng), _lying_hip(rng)
    tilt_deg, lordosis_deg = _drawn_posture(rng, given)
    left_hip = eased(left_hip, tilt_deg, given.get("right_hip"))
    right_hip = eased(right_hip, tilt_deg, given.get("left_hip"))
    fat_mm, belly_mm = _build(habitus, fat_share, rng.uniform(0.6, 1.2), female, given)
    drawn = SubjectParameters(
        shape_scores=_within_norm(scores_for_sex(scores, sex)),
        local_variation=float(local_variation),
        sex=sex,
        age_years=age_years,
        bone_quality=float(np.clip(quality, 0.5, 1.4)),
        left_hip=left_hip,
        right_hip=right_hip,
        anterior_tilt_deg=tilt_deg,
        lordosis_deg=lordosis_deg,
        fat_mm=fat_mm,
        belly_mm=belly_mm,
        muscle=float(np.clip((0.97 if female else 1.06) + 0.08 * rng.standard_normal(), 0.75, 1.3)),
        bowel_gas=float(rng.beta(1.6, 2.2)),
        bladder_ml=float(min(rng.gamma(2.0, 80.0), 500.0)),
        calcification=float(np.clip((age_years - 55) / 40, 0, 1) * rng.random()),
        implants=_drawn_implants(rng, implants),
        table=bool(rng.random() < table),
        noise_hu=float(rng.uniform(6, 16)),
        texture_seed=int(rng.integers(2**31)),
    )
    return replace(drawn, **given)


def _within_norm(scores: NDArray) -> tuple[float, ...]:
    clipped = np.clip(scores, -MAX_DRAWN_SCORE, MAX_DRAWN_SCORE)
    # A little less, for the sums of floating point.
    share = min(1.0, (1 - 1e-9) * MAX_SCORE_NORM / max(np.linalg.norm(clipped), 1e-9))
    return tuple(float(score) for score in share * clipped)


def _drawn_posture(rng: np.random.Generator, given: Mapping[str, Any]) -> tuple[float, float]:
    """Tilt and lordosis, degrees: the spine above stays where it is when one of them is given."""
    drawn_tilt_deg = tilt_deg = np.clip(4 + 6 * rng.standard_normal(), -12, 18)
    lordosis_deg = np.clip(42 + 8 * rng.standard_normal(), 20, 65)
    if "anterior_tilt_deg" in given:
        tilt_deg = given["anterior_tilt_deg"]
        lordosis_deg = np.clip(lordosis_deg + tilt_deg - drawn_tilt_deg, *LIMITS["lordosis_deg"])
    elif "lordosis_deg" in given:
        straight_deg = given["lordosis_deg"] - MEAN_ENDPLATE_DEG
        tilt_deg = np.clip(tilt_deg, straight_deg - MAX_LEAN_DEG, straight_deg + MAX_LEAN_DEG)
    return float(tilt_deg), float(lordosis_deg)


def _build(
    habitus: float, fat_share: float, belly_share: float, female: bool, given: Mapping[str, Any]
) -> tuple[float, float]:
    """Fat and belly, mm, of a habitus; where one of them is given, the other follows it."""
    lean_fat_mm, more_fat_mm = (8, 44) if female else (6, 36)
    lean_belly_mm, more_belly_mm = (5 if female else 10), 70
    if "fat_mm" in given:
        habitus = max((given["fat_mm"] - lean_fat_mm) / (more_fat_mm * fat_share), 0)
    elif "belly_mm" in given:
        habitus = max((given["belly_mm"] - lean_belly_mm) / (more_belly_mm * belly_share), 0)
    fat_mm = lean_fat_mm + more_fat_mm * habitus * fat_share
    belly_mm = lean_belly_mm + more_belly_mm * habitus * belly_share
    return (
        float(np.clip(fat_mm, *LIMITS["fat_mm"])),
        float(np.clip(belly_mm, *LIMITS["belly_mm"])),
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
