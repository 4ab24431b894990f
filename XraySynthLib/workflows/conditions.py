"""What a CT is generated from: a label map, its landmarks, and what is known of the person."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from XraySynthLib.anatomy.fit import PelvisFit, fit_labels
from XraySynthLib.anatomy.fitted import BONE_KNOBS, completed, subject_on
from XraySynthLib.anatomy.hips import HIP_LIMITS, HipPose
from XraySynthLib.anatomy.label_maps import TissueMap, tissue_map
from XraySynthLib.anatomy.parameters import checked_knob, sample_parameters
from XraySynthLib.anatomy.render import render_ct, render_on
from XraySynthLib.anatomy.shape_model import load_shape_model
from XraySynthLib.anatomy.subject import sample_subject
from XraySynthLib.data import LandmarkSet, Volume
from XraySynthLib.data.formats import read_labels
from XraySynthLib.data.formats.problems import meaning, unreadable
from XraySynthLib.data.sets.parts import sha256_of
from XraySynthLib.data.volume import check_grid
from XraySynthLib.errors import UsageError

MODEL_NAME = "musculoskeletal-models"
"""The people of the shape model are called by it and their number."""
HIPS = ("left_hip", "right_hip")


@dataclass(frozen=True, eq=False)
class Condition:
    """What a CT is generated from.

    Attributes:
        rendered: The label map (`anatomy.tissues.Label`), on the CT of the shape model's own
            rendering, which knows nothing of a map that was given.
        landmarks: The 14 landmarks, RAS, mm.
        known: What is known of the person, for people to read and for the generator's numbers.
        person: Whose bones they are: somebody of the shape model, or None for nobody.
        people: Everybody whom it derives from.
        origin: Where a given label map is from, how it was fitted and what was filled in, as JSON
            types; empty for who was drawn.
    """

    rendered: Volume
    landmarks: LandmarkSet
    known: Mapping[str, Any]
    person: str | None
    people: tuple[str, ...]
    origin: Mapping[str, Any] = field(default_factory=dict)


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

    Raises:
        UsageError: If the knobs do not go with what this subject draws.
    """
    model = load_shape_model()
    person = model.held_out[seed[1]] if held_out else None
    try:
        subject = sample_subject(seed, person, **knobs)
    except ValueError as error:  # with what this one draws, the knobs may be impossible
        raise UsageError(f"--parameters do not suit subject {seed[1]}: {error}") from error
    volume = render_ct(subject, *grid)
    return Condition(
        volume,
        subject.landmarks,
        asdict(subject.parameters),
        None if person is None else person_name(person),
        () if held_out else tuple(person_name(one) for one in model.training),
    )


def labelled_condition(
    path: Path,
    seed: tuple[int, int],
    grid: tuple[tuple[int, int, int], float],
    knobs: Mapping[str, Any] = MappingProxyType({}),
) -> Condition:
    """A user's label map about its pelvis, completed by a subject drawn on its bones.

    Args:
        path: The label map; nothing else of its CT is used.
        seed: (run seed, index). Number 0 is called by the map's name, the others derive from it, so
            that all are one person.
        grid: Shape (K, J, I) and spacing, mm.
        knobs: What is set instead of drawn, none of `fitted.BONE_KNOBS`.

    Raises:
        UnreadableFileError: If the file is no label map, or holds structures, where they matter,
            that no tissue is known for.
        NotAPelvisError: If its bones do not look like a pelvis.
    """
    sha256 = sha256_of(path)
    given, fit = _fitted_map(path, sha256)
    with meaning(path):
        subject, origin_ras_mm = subject_on(fit, seed, knobs)
    drawn_grid = subject.grid(*grid)
    there = given.on_grid(
        replace(drawn_grid, center_ras_mm=drawn_grid.center_ras_mm + origin_ras_mm)
    )
    if strangers := there.strangers_there():
        raise unreadable(
            path,
            f"near the pelvis are {', '.join(strangers[:6])}{' ...' if strangers[6:] else ''}, for "
            "which no tissue is known; take them out, or choose a smaller --preset.",
        )
    drawn = render_on(subject, drawn_grid)
    assert drawn.labels is not None
    labels, filled_ml = completed(there.labels, drawn.labels, drawn_grid.spacing_mm)
    name = f"labels-{sha256[:16]}"
    return Condition(
        Volume(drawn.values_hu, there.ras_from_ijk, labels),
        fit.landmarks,
        {k: v for k, v in asdict(subject.parameters).items() if k not in BONE_KNOBS},
        name if seed[1] == 0 else None,
        (name,) if seed[1] else (),
        {
            "file": path.name,
            "sha256": sha256,
            "ids": given.maker,
            "residual_mm": {bone.name.lower(): round(r, 2) for bone, r in fit.residual_mm.items()},
            "landmarks_seen": [
                name
                for name, seen in zip(fit.landmarks.names, fit.landmark_seen, strict=True)
                if seen
            ],
            "filled_in_ml": filled_ml,
        },
    )


@lru_cache(1)
def _fitted_map(path: Path, sha256: str) -> tuple[TissueMap, PelvisFit]:
    """A label map and its fit, made once in a run."""
    labels, ras_from_ijk = read_labels(path)
    with meaning(path):
        check_grid(ras_from_ijk)
        given = tissue_map(labels, ras_from_ijk)
        return given, fit_labels(given.labels, ras_from_ijk, "deepfluoro")


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
        knobs = {name: checked_knob(name, _pose(name, value)) for name, value in found.items()}
        sample_parameters(np.random.default_rng(0), knobs=knobs)
    except OSError as error:
        raise UsageError(f"--parameters {path} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"--parameters {path}: {str(error).rstrip('.')}.") from error
    return knobs


def _pose(name: str, value: Any) -> Any:
    """A hip of its angles; anything else as it is."""
    if name not in HIPS or not isinstance(value, dict):
        return value
    if unknown := sorted(set(value) - set(HIP_LIMITS)):
        raise ValueError(f"{name} has no {unknown[0]!r} but {', '.join(HIP_LIMITS)}.")
    try:
        return HipPose(**value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error


def person_name(person: int) -> str:
    """What one of the shape model's people is called."""
    return f"{MODEL_NAME}-{person}"
