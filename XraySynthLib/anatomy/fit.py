"""Fit the shape model to given bones: landmarks and whole surfaces for a CT that has labels.

Coarse to fine: rigid motion and size of the pelvis from several starts, then shape, then each
femur turned in its hip from several starts, then all together, then smooth local deformation. Half
a pelvis whose sacrum is cut at the midline is fitted together with its mirror image.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from XraySynthLib.anatomy.fit_problem import (
    BODIES,
    MIN_FACING,
    PELVIC_BONES,
    FitState,
    StepSettings,
    features,
    search_trees,
    shape_normals,
    step,
)
from XraySynthLib.anatomy.hips import HipPose
from XraySynthLib.anatomy.landmarks import load_marks
from XraySynthLib.anatomy.midline import midline_cut, with_mirror_image, without_face
from XraySynthLib.anatomy.parts import HEMIPELVES, Bone
from XraySynthLib.anatomy.shape_model import PelvisShape, load_shape_model
from XraySynthLib.anatomy.targets import BoneTarget, targets_from_labels
from XraySynthLib.data import LandmarkSet
from XraySynthLib.data.pelvis import LANDMARK_NAMES
from XraySynthLib.errors import XraySynthError

COARSE_POINTS, FINE_POINTS = 200, 1100  # of each bone
NEAR_MM = 6.0  # a vertex this near to the target, facing alike, has been seen
# A landmark has been seen if most of the surface about it has, and no cut of its bone is near.
AROUND_MM, MIN_SEEN_AROUND = 16.0, 0.75
CUT_MARGIN_MM = 8.0
CUT_FACE_MM = 3.0  # how deep the points of a cut's own face lie
MAX_MEDIAN_MM, MAX_TAIL_MM, TAIL_PERCENT = 2.5, 8.0, 90.0
SIZE_RANGE = (0.75, 1.35)
MAX_SCORE = 6.0
SPLINTER_SHARE = 0.05  # of the other hemipelvis' surface: less is what a cut left over
# A half with its mirror image: 1.4 to 2.15 where the cut is at the midline of one of six people,
# over 2.6 where it is 20 mm aside. Less than that, or a turn of under 10 degrees, is not noticed.
MAX_MIRROR_STRAIN = 2.25
MIN_COVERAGE = 0.2  # of a hemipelvis
_BEYOND_MM = 40.0  # of a cut bone's middle, how far it may lie from that of what is left
_TILTS_DEG = (0.0, -30.0, 30.0, 60.0)
_HIP_STARTS = tuple(product((0.0, 40.0, 80.0), (0.0, 20.0)))


class NotAPelvisError(XraySynthError):
    """The given bones are not a pelvis that the shape model could be."""


@dataclass(frozen=True, eq=False)
class PelvisFit:
    """The shape model laid over given bones.

    Attributes:
        vertices_ras_mm: (V, 3) all five bones in the patient, RAS, mm; missing ones are predicted.
        ras_from_model: (4, 4) rigid, from the shape model's frame.
        scale: Size beyond what the scores say.
        scores: (19,) standard deviations of the modes.
        hip_poses: Left and right, from the neutral pose; neutral where a femur is missing.
        landmarks: The 14 landmarks, RAS, mm.
        landmark_seen: (14,) bool, whether given bone was there all around it and not cut near it;
            otherwise a prediction.
        residual_mm: Median distance of each given bone's points from the surface.
        coverage: Share of each bone's surface that was given, 0..1.
    """

    vertices_ras_mm: NDArray
    ras_from_model: NDArray
    scale: float
    scores: NDArray
    hip_poses: tuple[HipPose, HipPose]
    landmarks: LandmarkSet
    landmark_seen: NDArray
    residual_mm: Mapping[Bone, float]
    coverage: Mapping[Bone, float]

    @property
    def shape(self) -> PelvisShape:
        """The fitted bones in the shape model's frame."""
        rotation, shift = self.ras_from_model[:3, :3], self.ras_from_model[:3, 3]
        turns = [
            pose.rotation(left) for pose, left in zip(self.hip_poses, (True, False), strict=True)
        ]
        return PelvisShape((self.vertices_ras_mm - shift) @ rotation, np.stack(turns))


def fit_labels(
    labels: NDArray, ras_from_ijk: NDArray, ids: str | Mapping[Bone, int] | None = None
) -> PelvisFit:
    """Fit the shape model to a label map; `fit_bones` says how, `targets_from_labels` the ids."""
    return fit_bones(targets_from_labels(labels, ras_from_ijk, ids))


def fit_bones(targets: Mapping[Bone, BoneTarget]) -> PelvisFit:
    """Fit the shape model to bones, any of which may be cut or missing.

    Args:
        targets: Surface points of each bone that is given, RAS, mm; at least one hemipelvis. A
            flat face of the sacrum near the midline is taken for a cut at the midline.

    Returns:
        The fit.

    Raises:
        NotAPelvisError: If no hemipelvis is given or what is given does not look like a pelvis.
    """
    sizes = {bone: len(targets[bone].points_ras_mm) for bone in HEMIPELVES if bone in targets}
    if not sizes:
        raise NotAPelvisError("No hip bone was given; a fit needs at least one hemipelvis.")
    for bone, size in sizes.items():
        if size < SPLINTER_SHARE * max(sizes.values()):
            targets = {other: target for other, target in targets.items() if other is not bone}
    plane = midline_cut(targets)
    targets = {bone: target.without_cut_faces(CUT_FACE_MM) for bone, target in targets.items()}
    if plane is not None:
        targets = without_face(targets, plane)
        state = _fitted(with_mirror_image(targets, plane))
        if state.pelvic_strain < MAX_MIRROR_STRAIN:
            return _finished(state, targets)
    return _finished(_fitted(targets), targets)


def _fitted(targets: Mapping[Bone, BoneTarget]) -> FitState:
    coarse = {bone: target.thinned(COARSE_POINTS) for bone, target in targets.items()}
    fine = {bone: target.thinned(FINE_POINTS) for bone, target in targets.items()}
    state = _fit_pelvis(coarse)
    state = _fit_femurs(state, coarse)
    state = _steps(state, fine, [8, 6, 5, 4, 4, 3, 3, 3], modes=True)
    return _steps(state, fine, [4, 3.5, 3, 3, 2.5, 2.5, 2, 2, 2, 2], modes=True, local=True)


def _steps(
    state: FitState,
    targets: Mapping[Bone, BoneTarget],
    sigmas_mm: list[float],
    modes: bool,
    local: bool = False,
) -> FitState:
    return _costed_steps(state, targets, sigmas_mm, modes, local)[0]


def _costed_steps(
    state: FitState,
    targets: Mapping[Bone, BoneTarget],
    sigmas_mm: list[float],
    modes: bool,
    local: bool = False,
) -> tuple[FitState, float]:
    trees = search_trees(targets)
    cost = 1.0
    for sigma_mm in sigmas_mm:
        settings = StepSettings(sigma_mm, modes=modes, local=local)
        state, cost = step(state, dict(targets), trees, settings)
    return state, cost


def _fit_pelvis(targets: Mapping[Bone, BoneTarget]) -> FitState:
    """Try several starts on the pelvic bones alone; keep the one that ends nearest."""
    pelvic = {bone: target for bone, target in targets.items() if bone in PELVIC_BONES}
    if len(pelvic) < 3:  # the middle of what a cut left of the sacrum misleads
        pelvic = {bone: target for bone, target in pelvic.items() if bone in HEMIPELVES}
    vertices = FitState().model_vertices()
    parts = load_shape_model().parts
    source = np.stack([vertices[parts[bone]].mean(axis=0) for bone in pelvic])
    middles = np.stack([target.points_ras_mm.mean(axis=0) for target in pelvic.values()])
    turns = [Rotation.from_euler("x", tilt, degrees=True).as_matrix() for tilt in _TILTS_DEG]
    if len(pelvic) == 3:
        u, _, vt = np.linalg.svd((source - source.mean(0)).T @ (middles - middles.mean(0)))
        turns.append((u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt).T)
    beyond = sum(target.cuts_ras[:, :3].sum(axis=0) for target in pelvic.values()) / len(pelvic)
    shares = (0.0, 1.0) if np.linalg.norm(beyond) > 0.5 else (0.0,)
    best: tuple[float, FitState] | None = None
    for turn, share in product(turns, shares):
        start = FitState()
        middle = middles.mean(axis=0) + share * _BEYOND_MM * beyond
        shift = middle - source.mean(axis=0) @ turn.T
        start = replace(start, turns=np.stack([turn] * 3), shifts=np.stack([shift] * 3))
        state, cost = _costed_steps(start, pelvic, [20, 15, 12, 10, 8, 8, 8], modes=False)
        if best is None or cost < best[0]:
            best = cost, state
    assert best is not None
    return _steps(best[1], pelvic, [8, 8, 6, 6, 5, 5], modes=True)


def _fit_femurs(state: FitState, targets: Mapping[Bone, BoneTarget]) -> FitState:
    """Turn each femur about its seat from several starts; keep what ends nearest."""
    seats = _seats(state)
    turns, shifts = state.turns.copy(), state.shifts.copy()
    for index in (1, 2):
        bone = BODIES[index][0]
        shifts[index] = seats[index - 1]
        turns[index] = state.turns[0]
        if bone not in targets:
            continue
        best = np.inf
        for flexion, abduction in _HIP_STARTS:
            pose = HipPose(flexion, abduction)
            start_turns, start_shifts = turns.copy(), shifts.copy()
            start_turns[index] = state.turns[0] @ pose.rotation(left=index == 1)
            start_shifts[index] = seats[index - 1]
            start = replace(state, turns=start_turns, shifts=start_shifts)
            moved, cost = _costed_steps(start, {bone: targets[bone]}, [15, 10, 8, 6, 6], modes=True)
            if cost < best:
                best, kept = cost, (moved.turns[index], moved.shifts[index])
        turns[index], shifts[index] = kept
    return replace(state, turns=turns, shifts=shifts)


def _seats(state: FitState) -> NDArray:
    """(2, 3) where the shape would seat left and right femoral head, RAS, mm."""
    model = load_shape_model()
    seated = PelvisShape(model.seated(state.model_vertices()), np.stack([np.eye(3)] * 2))
    centers = np.stack([seated.head(bone)[0] for bone in (Bone.LEFT_FEMUR, Bone.RIGHT_FEMUR)])
    return centers @ state.turns[0].T + state.shifts[0]


def _finished(state: FitState, targets: Mapping[Bone, BoneTarget]) -> PelvisFit:
    seats = _seats(state)
    for index in (1, 2):
        if BODIES[index][0] not in targets:
            turns, shifts = state.turns.copy(), state.shifts.copy()
            turns[index], shifts[index] = state.turns[0], seats[index - 1]
            state = replace(state, turns=turns, shifts=shifts)
    vertices = state.placed(state.model_vertices())
    residual, tail, coverage, seen = _measures(vertices, targets)
    _check(state, residual, tail, coverage)
    marks = load_marks()
    points = np.stack([mark.on(vertices) for mark in marks])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = state.turns[0], state.shifts[0]
    poses = [
        HipPose.from_rotation(state.turns[0].T @ state.turns[index], left=index == 1)
        for index in (1, 2)
    ]
    for array in (vertices, matrix):
        array.setflags(write=False)
    return PelvisFit(
        vertices_ras_mm=vertices,
        ras_from_model=matrix,
        scale=float(np.exp(state.log_scale)),
        scores=state.scores,
        hip_poses=(poses[0], poses[1]),
        landmarks=LandmarkSet(LANDMARK_NAMES, points),
        landmark_seen=_landmarks_seen(points, vertices, seen, targets),
        residual_mm=residual,
        coverage=coverage,
    )


def _landmarks_seen(
    points_ras_mm: NDArray, vertices: NDArray, seen: NDArray, targets: Mapping[Bone, BoneTarget]
) -> NDArray:
    parts = load_shape_model().parts
    verdicts = []
    for mark, point in zip(load_marks(), points_ras_mm, strict=True):
        if mark.bone not in targets:
            verdicts.append(False)
            continue
        part = parts[mark.bone]
        around = np.linalg.norm(vertices[part] - point, axis=1) < AROUND_MM
        if mark.weights is None:  # the centre of a sphere: its surface counts
            around = np.isin(np.arange(part.start, part.stop), mark.vertices)
        margin_mm = targets[mark.bone].depths_mm(point[None])[0]
        verdicts.append(seen[part][around].mean() > MIN_SEEN_AROUND and margin_mm > CUT_MARGIN_MM)
    return np.array(verdicts)


def _measures(
    vertices: NDArray, targets: Mapping[Bone, BoneTarget]
) -> tuple[dict[Bone, float], dict[Bone, float], dict[Bone, float], NDArray]:
    """Median and tail distance of the points, share of the surface near them, vertices seen."""
    normals = shape_normals(vertices)
    parts = load_shape_model().parts
    residual, tail, coverage = {}, {}, {}
    seen = np.zeros(len(vertices), dtype=bool)
    for bone, part in parts.items():
        coverage[bone] = 0.0
        if bone not in targets:
            continue
        target = targets[bone]
        points = target.points_ras_mm
        distances, nearest = cKDTree(vertices[part]).query(points)
        across = np.einsum("ij,ij->i", points - vertices[part][nearest], normals[part][nearest])
        # Beyond the spacing of vertices, the distance to the vertex is the distance.
        distances = np.where(distances < NEAR_MM, np.abs(across), distances)
        residual[bone] = float(np.median(distances))
        tail[bone] = float(np.percentile(distances, TAIL_PERCENT))
        near = cKDTree(features(points, target.normals_ras)).query(
            features(vertices[part], normals[part])
        )[1]
        facing = np.einsum("ij,ij->i", normals[part], target.normals_ras[near])
        apart = np.linalg.norm(vertices[part] - points[near], axis=1)
        seen[part] = (apart < NEAR_MM) & (facing > MIN_FACING)
        coverage[bone] = float(seen[part].mean())
    return residual, tail, coverage, seen


def _check(
    state: FitState,
    residual: Mapping[Bone, float],
    tail: Mapping[Bone, float],
    coverage: Mapping[Bone, float],
) -> None:
    """Refuse what is no pelvis.

    Raises:
        NotAPelvisError: Saying what is wrong.
    """
    pelvic = [bone for bone in PELVIC_BONES if bone in residual]
    worst = max(residual, key=lambda bone: residual[bone])
    far = max(pelvic, key=lambda bone: tail[bone])
    reason = None
    if residual[worst] > MAX_MEDIAN_MM:
        reason = f"the {_words(worst)} lies {residual[worst]:.1f} mm off it"
    elif tail[far] > MAX_TAIL_MM:
        reason = f"a tenth of the {_words(far)} lies over {tail[far]:.0f} mm off it"
    elif not SIZE_RANGE[0] < np.exp(state.log_scale) < SIZE_RANGE[1]:
        reason = f"it would have {np.exp(state.log_scale):.2f} times an adult's size"
    elif np.abs(state.scores).max() > MAX_SCORE:
        reason = f"its shape is {np.abs(state.scores).max():.0f} standard deviations from the mean"
    elif max(coverage[bone] for bone in pelvic) < MIN_COVERAGE:
        reason = "too little of it is there"
    if reason is not None:
        raise NotAPelvisError(
            f"The given bones do not look like an adult pelvis: {reason}. Check the label ids, "
            "left and right, and the volume's orientation."
        )


def _words(bone: Bone) -> str:
    return bone.name.lower().replace("_", " ")
