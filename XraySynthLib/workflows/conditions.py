"""What a CT is generated from: a label map, its landmarks, and what is known of the person."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from XraySynthLib.anatomy.hips import HipPose
from XraySynthLib.anatomy.parameters import checked_knob, sample_parameters
from XraySynthLib.anatomy.render import render_ct
from XraySynthLib.anatomy.shape_model import load_shape_model
from XraySynthLib.anatomy.subject import sample_subject
from XraySynthLib.data import LandmarkSet, Volume
from XraySynthLib.errors import UsageError

MODEL_NAME = "musculoskeletal-models"
"""The people of the shape model are called by it and their number."""


@dataclass(frozen=True, eq=False)
class Condition:
    """What a CT is generated from.

    Attributes:
        rendered: The label map (`anatomy.tissues.Label`), on the CT of the shape model's own
            rendering.
        landmarks: The 14 landmarks, RAS, mm.
        known: What is known of the person, for people to read and for the generator's numbers.
        person: Whose bones they are: somebody of the shape model, or None for nobody.
        people: Everybody whom it derives from.
    """

    rendered: Volume
    landmarks: LandmarkSet
    known: Mapping[str, Any]
    person: str | None
    people: tuple[str, ...]


def sampled_condition(
    seed: tuple[int, int],
    held_out: bool,
    grid: tuple[tuple[int, int, int], float],
    knobs: Mapping[str, Any] = MappingProxyType({}),
) -> Condition:
    """Subject `seed[1]` of a run, drawn.

    Args:
        seed: (run seed, index).
        held_out: Whether it has the bones of held-out person `index`.
        grid: Shape (K, J, I) and spacing, mm.
        knobs: What is set instead of drawn, see `read_knobs`.
    """
    model = load_shape_model()
    person = model.held_out[seed[1]] if held_out else None
    subject = sample_subject(seed, person, **knobs)
    volume = render_ct(subject, *grid)
    return Condition(
        volume,
        subject.landmarks,
        asdict(subject.parameters),
        None if person is None else person_name(person),
        () if held_out else tuple(person_name(one) for one in model.training),
    )


def read_knobs(path: Path) -> dict[str, Any]:
    """Read what is set instead of drawn: a JSON object of fields of `SubjectParameters`.

    A hip is an object of its angles: {"flexion_deg": 10}.

    Raises:
        UsageError: If the file is not there or no such object, or a value is not possible, alone or
            with the others.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
        if not isinstance(found, dict):
            raise TypeError("it must hold a JSON object of knobs")
        knobs = {
            name: checked_knob(name, HipPose(**value) if isinstance(value, dict) else value)
            for name, value in found.items()
        }
        sample_parameters(np.random.default_rng(0), knobs=knobs)
    except OSError as error:
        raise UsageError(f"--parameters {path} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError, RecursionError) as error:
        reason = str(error).removeprefix("HipPose.__init__() ").rstrip(".")
        raise UsageError(f"--parameters {path}: {reason}.") from error
    return knobs


def person_name(person: int) -> str:
    """What one of the shape model's people is called."""
    return f"{MODEL_NAME}-{person}"
