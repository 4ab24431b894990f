"""The 14 landmarks of DeepFluoro, carried from the mean to any shape by correspondence.

Names and order are in `data.pelvis`. Marks: `assets/pelvis/landmarks.json`, rules in words beside
each; `landmark_rules` evaluates them.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.shape_model import PelvisShape, load_shape_model
from XraySynthLib.anatomy.spheres import fit_sphere
from XraySynthLib.data import LandmarkSet
from XraySynthLib.data.pelvis import LANDMARK_NAMES


@dataclass(frozen=True, eq=False)
class LandmarkMark:
    """Where a landmark is on the surface of every shape.

    Attributes:
        name: DeepFluoro's name.
        bone: The bone that carries it.
        rule: The rule in words.
        vertices: (3,) corners of its triangle; for a femoral head the vertices of its sphere.
        weights: (3,) barycentric; None for a femoral head, whose centre is the sphere's.
        anchor_ras_mm: (3,) where on the mean the rule looks; None for a femoral head.
        direction_ras: (3,) which way the surface faces there, on the mean; None for a head.
    """

    name: str
    bone: Bone
    rule: str
    vertices: NDArray
    weights: NDArray | None
    anchor_ras_mm: NDArray | None = None
    direction_ras: NDArray | None = None

    def on(self, vertices_ras_mm: NDArray) -> NDArray:
        """(3,) the landmark, RAS, mm, on (V, 3) vertices of the whole model."""
        points = vertices_ras_mm[self.vertices]
        return fit_sphere(points)[0] if self.weights is None else self.weights @ points


@lru_cache(maxsize=1)
def load_marks() -> tuple[LandmarkMark, ...]:
    """The marks in DeepFluoro's order."""
    text = files("XraySynthLib.assets").joinpath("pelvis", "landmarks.json").read_text("utf-8")
    marks = {}
    for entry in json.loads(text)["landmarks"]:
        bone = Bone(entry["bone"])
        on_head = "vertices" not in entry
        marks[entry["name"]] = LandmarkMark(
            name=entry["name"],
            bone=bone,
            rule=entry["rule"],
            vertices=load_shape_model().head_vertices(bone)
            if on_head
            else np.array(entry["vertices"]),
            weights=None if on_head else np.array(entry["weights"]),
            anchor_ras_mm=None if on_head else np.array(entry["anchor_ras_mm"]),
            direction_ras=None if on_head else np.array(entry["direction_ras"]),
        )
    return tuple(marks[name] for name in LANDMARK_NAMES)


def landmarks_of(shape: PelvisShape) -> LandmarkSet:
    """Carry the 14 landmarks to a shape."""
    return LandmarkSet(
        LANDMARK_NAMES, np.stack([mark.on(shape.vertices_ras_mm) for mark in load_marks()])
    )
