"""A subject on fitted bones, and a label map completed by it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from XraySynthLib.anatomy.fit import NotAPelvisError, PelvisFit
from XraySynthLib.anatomy.label_maps import BODY, OUTSIDE
from XraySynthLib.anatomy.landmarks import landmarks_of
from XraySynthLib.anatomy.parameters import LIMITS, sample_parameters
from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.render import SKIN_MM
from XraySynthLib.anatomy.shape_model import PelvisShape
from XraySynthLib.anatomy.subject import Subject
from XraySynthLib.anatomy.tissues import Label
from XraySynthLib.geometry.transforms import rotation

BONE_KNOBS = frozenset(
    ("shape_scores", "local_variation", "anterior_tilt_deg", "left_hip", "right_hip", "implants")
)
"""What the given bones decide."""
MAX_TURN_DEG = 25.0
"""How far a pelvis may lie turned or leaning to a side: soft tissue is laid out along the axes."""
CUSHION_MM = 6.0
"""Fat and skin over what is given outside of the subject's body."""
BONES = tuple(Label)[1:8]
ORGANS = (Label.BOWEL, Label.GAS, Label.BLADDER, Label.VESSEL)


def subject_on(
    fit: PelvisFit, seed: Sequence[int], knobs: Mapping[str, Any] = MappingProxyType({})
) -> tuple[Subject, NDArray]:
    """Draw a subject about fitted bones.

    Args:
        fit: The bones.
        seed: Of all else.
        knobs: What is set instead of drawn; none of `BONE_KNOBS`.

    Returns:
        The subject, and (3,) its origin in the patient, RAS, mm.

    Raises:
        NotAPelvisError: If the pelvis lies too far from upright in the patient's axes.
    """
    turn = fit.ras_from_model[:3, :3]
    # As in `subject.make_subject`, a pelvis that tilts forward turns by a negative angle about x.
    tilt_deg = -float(Rotation.from_matrix(turn).as_euler("ZYX", degrees=True)[2])
    aside = Rotation.from_matrix(turn @ rotation("x", tilt_deg)[:3, :3])
    aside_deg = np.rad2deg(aside.magnitude())
    low, high = LIMITS["anterior_tilt_deg"]
    if aside_deg > MAX_TURN_DEG or not low <= tilt_deg <= high:
        raise NotAPelvisError(
            f"The pelvis lies tilted forward by {tilt_deg:.0f} and turned aside by {aside_deg:.0f} "
            f"degrees in the patient's axes; up to {high:g} and {MAX_TURN_DEG:g} are possible. "
            "Check the volume's orientation."
        )
    given = {"table": False, **knobs, "implants": (), "anterior_tilt_deg": tilt_deg}
    parameters = sample_parameters(np.random.default_rng(seed), knobs=given)
    shape = PelvisShape(fit.vertices_ras_mm, turn @ fit.shape.femur_turns)
    heads = [shape.head(femur)[0] for femur in (Bone.LEFT_FEMUR, Bone.RIGHT_FEMUR)]
    origin_ras_mm = np.mean(heads, axis=0)
    bones = replace(shape, vertices_ras_mm=fit.vertices_ras_mm - origin_ras_mm)
    parameters = replace(parameters, shape_scores=(), local_variation=0.0)
    return Subject(parameters, bones, landmarks_of(bones), tuple(seed)), origin_ras_mm


def completed(
    given: NDArray, drawn: NDArray, spacing_mm: float
) -> tuple[NDArray, dict[str, float]]:
    """Fill what a label map leaves open with what a subject on its bones has there.

    No given label changes. Bones, bowel, bladder and vessels that the map has are as it has them:
    within the map they are not drawn again. A map with fat, skin or MAISI's body tells where the
    body ends; else it ends where the subject's does.

    Args:
        given: (K, J, I) `label_maps.TissueMap.labels` without strangers.
        drawn: (K, J, I) the subject's labels on the same grid.
        spacing_mm: Edge of a voxel.

    Returns:
        (K, J, I) uint8 `Label`, and for each tissue that was filled in its volume, ml.
    """
    within = given != OUTSIDE
    told = within & (given != Label.AIR) & (given != BODY)
    there = {label for label in (*BONES, *ORGANS) if (given == label).any()}
    if Label.BOWEL in there:
        there.add(Label.GAS)
    labels = np.where(told, given, _without(drawn, within & np.isin(drawn, list(there))))
    if np.isin(given, (BODY, Label.FAT, Label.SKIN)).any():
        inside = within & (given != Label.AIR) & (given != Label.TABLE)
        body = np.stack([ndimage.binary_fill_holes(axial) for axial in inside])
        labels[within & ~body & (labels != Label.TABLE)] = Label.AIR
    else:
        soft = told & (given != Label.TABLE)
        body = ndimage.distance_transform_edt(~soft) * spacing_mm <= CUSHION_MM
    body |= ~np.isin(labels, (Label.AIR, Label.TABLE))
    bare = body & within & np.isin(labels, (Label.AIR, Label.TABLE)) & ~told
    depth_mm = (ndimage.distance_transform_edt(np.pad(body, 1, "edge")) - 0.5) * spacing_mm
    labels[bare] = np.where(depth_mm[1:-1, 1:-1, 1:-1][bare] < SKIN_MM, Label.SKIN, Label.FAT)
    names, counts = np.unique(labels[~told & (labels != Label.AIR)], return_counts=True)
    ml = spacing_mm**3 / 1000
    filled = zip(names.tolist(), counts.tolist(), strict=True)
    return labels.astype(np.uint8), {
        Label(label).name.lower(): round(count * ml, 1) for label, count in filled
    }


def _without(labels: NDArray, places: NDArray) -> NDArray:
    """Put the nearest other label into some places."""
    if not places.any():
        return labels
    nearest = ndimage.distance_transform_edt(places, return_distances=False, return_indices=True)
    return labels[tuple(nearest)]
