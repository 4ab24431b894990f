"""The geometric rule of each landmark, evaluated on a surface.

Used once to mark the mean (`assets/pelvis/mark_landmarks.py`) and by tests, which compare the rule
on a sample's own surface with the mark carried there. Applications use `landmarks`.

Femoral heads: the centre of the sphere through the head. All others: the place where the surface
faces a stated direction, which is the farthest point of a spine and the deepest point of a notch
or of a foramen's rim alike (a critical point of height). A single vertex would jump along a flat
rim from person to person, as an observer would; the rule is the mean of the places near the mark,
weighted by how well they face the direction, and the direction turns with the bone around it.
"""

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.shape_model import PelvisShape, load_shape_model
from XraySynthLib.anatomy.spheres import fit_sphere
from XraySynthLib.anatomy.surfaces import area_normals, nearest_on_triangles

SHARPNESS = 10.0  # weight exp(sharpness (cos - 1)): half at 21 degrees off the direction
REACH_MM = 6.0  # weights fall to nothing at this distance from the anchor, on the mean
NEIGHBOURHOOD_MM = 40.0  # of the anchor, on the mean: turns the direction
# Nearly the single extreme point, for comparison and for a start.
STRICT = MappingProxyType({"reach_mm": 12.0, "sharpness": 30.0})
_SEARCH_MM = 25.0  # of a projection onto the surface
_MIRROR = np.array([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class FacingRule:
    """Where a hemipelvis faces a direction.

    Attributes:
        text: The rule in words.
        near_ras_mm: Roughly where, on the left of the mean, RAS.
        direction_ras: Which way the surface faces there, on the left, RAS.
    """

    text: str
    near_ras_mm: tuple[float, float, float]
    direction_ras: tuple[float, float, float]


# Axes: x to the right, so medial on the left is +x; y anterior; z superior. The notch's direction
# is square to the chord from ischial spine to posterior inferior iliac spine.
FACING_RULES = MappingProxyType(
    {
        "GSN": FacingRule(
            "deepest point of the greater sciatic notch, from the chord between ischial spine and "
            "posterior inferior iliac spine",
            (-66.0, -38.0, 42.0),
            (0.0, -0.93, -0.37),
        ),
        "IOF": FacingRule(
            "lowest point of the obturator foramen's rim", (-39.0, -13.0, -43.0), (0.0, 0.0, 1.0)
        ),
        "MOF": FacingRule(
            "most medial point of the obturator foramen's rim",
            (-25.0, 12.0, -32.0),
            (-1.0, 0.0, 0.0),
        ),
        "SPS": FacingRule(
            "upper medial corner of the pubic body, top of the symphysis",
            (-6.0, 42.0, -12.0),
            (1.0, 0.0, 1.0),
        ),
        "IPS": FacingRule(
            "lower medial corner of the pubic body, bottom of the symphysis",
            (-6.0, 20.0, -43.0),
            (1.0, 0.0, -1.0),
        ),
        "ASIS": FacingRule(
            "most anterior point of the anterior superior iliac spine",
            (-115.0, 51.0, 72.0),
            (0.0, 1.0, 0.0),
        ),
    }
)
HEAD_RULE_TEXT = "centre of the sphere through the femoral head"


def facing_point(
    shape: PelvisShape,
    bone: Bone,
    anchor_mm: NDArray,
    direction: ArrayLike,
    reach_mm: float = REACH_MM,
    sharpness: float = SHARPNESS,
) -> tuple[NDArray, NDArray, NDArray]:
    """Evaluate a facing rule on a shape's own surface.

    Args:
        shape: Any shape.
        bone: The bone.
        anchor_mm: (3,) the extreme point on the mean, RAS, mm.
        direction: (3,) which way the surface faces on the mean, RAS.
        reach_mm: How far from the anchor the rule looks.
        sharpness: How strictly the surface must face the direction.

    Returns:
        (3,) the point on the surface, RAS, mm; its triangle's (3,) vertices of the whole model and
        (3,) barycentric weights.
    """
    model = load_shape_model()
    mean = model.mean.surface(bone)[0]
    vertices, triangles = shape.surface(bone)
    distances = np.linalg.norm(mean - anchor_mm, axis=1)
    around = distances < NEIGHBOURHOOD_MM
    unit = np.asarray(direction) / np.linalg.norm(direction)
    turned = _turned(unit, mean[around], vertices[around])
    normals = area_normals(vertices, triangles)
    areas = np.linalg.norm(normals, axis=1)
    reach = np.clip(1 - distances / reach_mm, 0, None)
    window = reach**2 * (3 - 2 * reach)
    weights = areas * window * np.exp(sharpness * ((normals @ turned) / areas - 1))
    middle = weights @ vertices / weights.sum()
    near = np.linalg.norm(vertices[triangles[:, 0]] - middle, axis=1) < _SEARCH_MM
    index, barycentric = nearest_on_triangles(middle, vertices[triangles[near]])
    corners = triangles[near][index]
    return barycentric @ vertices[corners], corners + model.parts[bone].start, barycentric


def anchor_on_mean(rule: FacingRule) -> tuple[NDArray, NDArray]:
    """Find the extreme point of the left of the mean: the strict rule followed to where it rests.

    Returns:
        (3,) vertices of its triangle and (3,) barycentric weights.
    """
    mark = np.array(rule.near_ras_mm)
    for _ in range(20):
        mark, corners, weights = facing_point(
            load_shape_model().mean,
            Bone.LEFT_HEMIPELVIS,
            mark,
            np.array(rule.direction_ras),
            **STRICT,
        )
    return corners, weights


def head_center(shape: PelvisShape, femur: Bone) -> NDArray:
    """(3,) centre of the head, RAS, mm, from whatever vertices lie on its sphere to 1 mm."""
    vertices = shape.surface(femur)[0]
    center, radius_mm = shape.head(femur)
    for _ in range(10):
        distances = np.linalg.norm(vertices - center, axis=1)
        center, radius_mm = fit_sphere(vertices[np.abs(distances - radius_mm) < 1.0])
    return center


def mirrored_direction(direction: ArrayLike) -> NDArray:
    """The same direction for the right side."""
    return np.asarray(direction) * _MIRROR


def _turned(direction: NDArray, source: NDArray, target: NDArray) -> NDArray:
    """Turn a direction as the points around it are turned from source to target (Kabsch)."""
    u, _, vt = np.linalg.svd((source - source.mean(0)).T @ (target - target.mean(0)))
    return direction @ u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
