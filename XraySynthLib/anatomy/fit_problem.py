"""The least-squares problem of a fit: parameters, bodies, one damped Gauss-Newton step.

Three bodies move rigidly, pelvis and each femur; all share the size and the mode scores; each has
its own local field. No starts, no schedule, no verdict here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.shape_model import load_shape_model
from XraySynthLib.anatomy.surfaces import unit_normals
from XraySynthLib.anatomy.targets import BoneTarget

PELVIC_BONES = (Bone.LEFT_HEMIPELVIS, Bone.RIGHT_HEMIPELVIS, Bone.SACRUM)
BODIES = (PELVIC_BONES, (Bone.LEFT_FEMUR,), (Bone.RIGHT_FEMUR,))
SCALE_SD, SCORE_SD = 0.06, 1.5
# Times `LOCAL_SCALES_MM`. People held out lie 2.5 to 5 mm off the span of the modes.
LOCAL_SD = 2.5
TANGENTIAL = 0.7  # weight of distance along the surface, of that square to it: holds rims in place
MIN_FACING = 0.5  # cosine between the normals of a pair
EDGE_MM = 4.0  # a vertex whose point is this near to a cut may have its own beyond it
MAX_TURN_RAD = 0.3
NORMAL_MM = 8.0  # a right angle between normals weighs as much as 11 mm between places


@dataclass(frozen=True, eq=False)
class FitState:
    """Parameters of a fit.

    Attributes:
        log_scale: Logarithm of the size, beyond what the modes say.
        scores: (19,) standard deviations.
        local: (C, 3) coefficients of the model's local basis.
        turns: (3, 3, 3) rotation of each body, target from model.
        shifts: (3, 3) shift of each body, RAS, mm.
    """

    log_scale: float = 0.0
    scores: NDArray = field(default_factory=lambda: np.zeros(load_shape_model().n_modes))
    local: NDArray = field(
        default_factory=lambda: np.zeros((load_shape_model().local_basis.shape[1], 3))
    )
    turns: NDArray = field(default_factory=lambda: np.stack([np.eye(3)] * 3))
    shifts: NDArray = field(default_factory=lambda: np.zeros((3, 3)))

    def model_vertices(self) -> NDArray:
        """(V, 3) the shape, mm: pelvis in the model's frame, femurs about their heads."""
        vertices = neutral_mean() + np.tensordot(self.scores, vertex_modes(), axes=1)
        return np.exp(self.log_scale) * (vertices + load_shape_model().local_basis @ self.local)

    @property
    def pelvic_strain(self) -> float:
        """Root mean square of the pelvis' local coefficients: how far it is from the modes."""
        return float(np.sqrt(np.mean(self.local[_local_rows()[1][0]] ** 2)))

    def placed(self, vertices_mm: NDArray) -> NDArray:
        """(V, 3) every body turned and shifted to the target, RAS, mm."""
        placed = np.empty_like(vertices_mm)
        for index, part in enumerate(body_slices()):
            placed[part] = vertices_mm[part] @ self.turns[index].T + self.shifts[index]
        return placed


@dataclass(frozen=True)
class StepSettings:
    """What one step may change and how far it looks.

    Attributes:
        sigma_mm: Distance that a pair may have; farther pairs fade (Geman-McClure).
        noise_mm: Standard deviation of an independent point, against the priors.
        modes: Whether the scores move.
        local: Whether the local fields move.
    """

    sigma_mm: float
    noise_mm: float = 1.5
    modes: bool = True
    local: bool = False


@lru_cache(maxsize=1)
def vertex_modes() -> NDArray:
    """(19, V, 3) displacement of the vertices for one standard deviation, mm."""
    model = load_shape_model()
    return np.stack([model.placed(mode) for mode in model.modes_mm])


@lru_cache(maxsize=1)
def neutral_mean() -> NDArray:
    """(V, 3) the mean, femurs about their heads, mm."""
    return load_shape_model().placed(load_shape_model().mean_nodes_mm)


@lru_cache(maxsize=1)
def body_slices() -> tuple[slice, ...]:
    """Where each body's vertices are."""
    parts = load_shape_model().parts
    return tuple(slice(parts[bones[0]].start, parts[bones[-1]].stop) for bones in BODIES)


@lru_cache(maxsize=1)
def _local_rows() -> tuple[NDArray, tuple[slice, ...]]:
    """Dense local basis and each body's columns in it."""
    basis = load_shape_model().local_basis
    columns = []
    for part in body_slices():
        used = np.unique(basis[part].indices)
        columns.append(slice(int(used[0]), int(used[-1]) + 1))
    return basis.toarray(), tuple(columns)


def pairs(
    state_vertices: NDArray,
    normals: NDArray,
    targets: dict[Bone, BoneTarget],
    trees: dict[Bone, cKDTree],
    reach_mm: float,
    stride: int = 5,
) -> tuple[NDArray, NDArray, NDArray]:
    """Pair target points with vertices of the same bone, both ways.

    Nearest in place and normal together. Vertices beyond a cut, and those whose nearest points are
    the last before it, look for none: they would squeeze the shape into what is left (Turk and
    Levoy 1994 drop pairs at the rims of meshes for this reason).

    Args:
        state_vertices: (V, 3) the shape now, RAS, mm.
        normals: (V, 3) its unit normals.
        targets: The given bones.
        trees: Search trees of the targets' points.
        reach_mm: Farther pairs are dropped: a part that is missing pulls at nothing.
        stride: Every which vertex looks for a target; every target point looks for a vertex.

    Returns:
        (P,) vertices, (P, 3) points and (P, 3) the points' normals.
    """
    vertices, points, point_normals = [], [], []
    parts = load_shape_model().parts
    shape_features = features(state_vertices, normals)
    for bone, target in targets.items():
        part = parts[bone]
        looking = np.arange(part.start, part.stop, stride)
        nearest = cKDTree(shape_features[part]).query(
            features(target.points_ras_mm, target.normals_ras)
        )[1]
        nearest_target = trees[bone].query(shape_features[looking])[1]
        if len(target.cuts_ras):
            free = target.depths_mm(state_vertices[looking]) > 0
            free &= target.depths_mm(target.points_ras_mm[nearest_target]) > EDGE_MM
            looking, nearest_target = looking[free], nearest_target[free]
        vertices += [nearest + part.start, looking]
        points += [target.points_ras_mm, target.points_ras_mm[nearest_target]]
        point_normals += [target.normals_ras, target.normals_ras[nearest_target]]
    vertex, point, normal = (np.concatenate(parts) for parts in (vertices, points, point_normals))
    kept = np.einsum("ij,ij->i", normals[vertex], normal) > MIN_FACING
    kept &= np.linalg.norm(state_vertices[vertex] - point, axis=1) < reach_mm
    return vertex[kept], point[kept], normal[kept]


def search_trees(targets: Mapping[Bone, BoneTarget]) -> dict[Bone, cKDTree]:
    """Search trees of the targets' places and normals, for `step`."""
    return {
        bone: cKDTree(features(target.points_ras_mm, target.normals_ras))
        for bone, target in targets.items()
    }


def features(points_mm: NDArray, normals: NDArray) -> NDArray:
    """(N, 6) place and normal: near in both is what corresponds, on rims above all."""
    return np.concatenate([points_mm, NORMAL_MM * normals], axis=1)


def shape_normals(vertices_mm: NDArray) -> NDArray:
    """(V, 3) unit normals of all bones."""
    return unit_normals(vertices_mm, load_shape_model().triangles)


def step(
    state: FitState,
    targets: dict[Bone, BoneTarget],
    trees: dict[Bone, cKDTree],
    settings: StepSettings,
) -> tuple[FitState, float]:
    """One Gauss-Newton step towards the nearest points.

    Returns:
        The new state and the mean robust cost before it, 0..1 (1: nothing near).
    """
    model_vertices = state.model_vertices()
    placed = state.placed(model_vertices)
    normals = shape_normals(placed)
    vertex, point, normal = pairs(placed, normals, targets, trees, 4 * settings.sigma_mm)
    n_points = sum(len(target.points_ras_mm) for target in targets.values())
    if len(vertex) < 30:
        return state, 1.0
    gap = point - placed[vertex]
    direction = normals[vertex] + normal
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    across = np.einsum("ij,ij->i", gap, direction)
    squared = across**2 + TANGENTIAL**2 * (np.einsum("ij,ij->i", gap, gap) - across**2)
    fade = settings.sigma_mm**2 / (settings.sigma_mm**2 + squared)
    weights = fade / settings.noise_mm
    cost = 1 - float((fade**2).sum()) / max(len(fade), n_points)
    metric = TANGENTIAL * np.eye(3) + (1 - TANGENTIAL) * np.einsum(
        "ij,ik->ijk", direction, direction
    )
    metric *= weights[:, None, None]
    hessian, gradient, columns = _normal_equations(
        state, model_vertices, placed, vertex, gap, metric, settings
    )
    solution = cho_solve(cho_factor(hessian), gradient)
    return _moved(state, placed, solution, columns, settings), cost


def _normal_equations(
    state: FitState,
    model_vertices: NDArray,
    placed: NDArray,
    vertex: NDArray,
    gap: NDArray,
    metric: NDArray,
    settings: StepSettings,
) -> tuple[NDArray, NDArray, tuple[slice, ...]]:
    """Sum J^T J and J^T r over the pairs, body by body, and add the priors.

    Columns: size, scores, then (turn, shift) of each body, then local coefficients.
    """
    n_modes = len(state.scores)
    basis, local_columns = _local_rows()
    n_local = 3 * basis.shape[1] if settings.local else 0
    shared = slice(0, 1 + n_modes)
    local = slice(1 + n_modes + 18, 1 + n_modes + 18 + n_local)
    size = 1 + n_modes + 18 + n_local
    hessian, gradient = np.zeros((size, size)), np.zeros(size)
    scale = np.exp(state.log_scale)
    for index, part in enumerate(body_slices()):
        inside = (vertex >= part.start) & (vertex < part.stop)
        if not inside.any():
            continue
        chosen, weight = vertex[inside], metric[inside]
        turn = state.turns[index]
        blocks = [(model_vertices[chosen] @ turn.T)[:, :, None]]
        modes = scale * vertex_modes()[:, chosen] @ turn.T  # (19, P, 3)
        blocks.append(modes.transpose(1, 2, 0))
        arm = placed[chosen] - placed[part].mean(axis=0)
        blocks += [_minus_cross(arm), np.broadcast_to(np.eye(3), (len(chosen), 3, 3))]
        places = [*range(shared.stop), *range(shared.stop + 6 * index, shared.stop + 6 * index + 6)]
        if settings.local:
            used = local_columns[index]
            field_rows = scale * basis[chosen, used]  # (P, C)
            spread = np.einsum("pc,xy->pxcy", field_rows, turn)
            blocks.append(spread.reshape(len(chosen), 3, -1))
            places += range(local.start + 3 * used.start, local.start + 3 * used.stop)
        rows = (weight @ np.concatenate(blocks, axis=2)).reshape(3 * len(chosen), -1)
        residual = np.einsum("pij,pj->pi", weight, gap[inside]).ravel()
        hessian[np.ix_(places, places)] += rows.T @ rows
        gradient[places] += rows.T @ residual
    _add_priors(hessian, gradient, state, settings, local)
    return hessian, gradient, (shared, local)


def _add_priors(
    hessian: NDArray, gradient: NDArray, state: FitState, settings: StepSettings, local: slice
) -> None:
    """Normal priors on size, scores and local fields; a held parameter gets a very sharp one."""
    n_modes = len(state.scores)
    precision = np.zeros(len(gradient))
    value = np.zeros(len(gradient))
    precision[0], value[0] = SCALE_SD**-2, state.log_scale
    precision[1 : 1 + n_modes] = SCORE_SD**-2
    value[1 : 1 + n_modes] = state.scores
    if settings.local:
        precision[local], value[local] = LOCAL_SD**-2, state.local.ravel()
    if not settings.modes:
        precision[1 : 1 + n_modes], value[1 : 1 + n_modes] = 1e9, 0.0
    # A body without points stays where it is.
    precision[1 + n_modes : 1 + n_modes + 18] = 1e-3
    diagonal = np.arange(len(gradient))
    hessian[diagonal, diagonal] += precision
    gradient -= precision * value


def _moved(
    state: FitState,
    placed: NDArray,
    solution: NDArray,
    columns: tuple[slice, ...],
    settings: StepSettings,
) -> FitState:
    shared, local = columns
    turns, shifts = state.turns.copy(), state.shifts.copy()
    for index, part in enumerate(body_slices()):
        turn_rad, shift_mm = solution[shared.stop + 6 * index :][:6].reshape(2, 3)
        turn_rad = turn_rad * min(1.0, MAX_TURN_RAD / max(np.linalg.norm(turn_rad), 1e-12))
        turn = Rotation.from_rotvec(turn_rad).as_matrix()
        middle = placed[part].mean(axis=0)
        turns[index] = turn @ turns[index]
        shifts[index] = middle + turn @ (shifts[index] - middle) + shift_mm
    moved = replace(
        state,
        log_scale=float(state.log_scale + np.clip(solution[0], -0.1, 0.1)),
        scores=state.scores + solution[1 : shared.stop],
        turns=turns,
        shifts=shifts,
    )
    if settings.local:
        moved = replace(moved, local=state.local + solution[local].reshape(-1, 3))
    return moved


def _minus_cross(vectors: NDArray) -> NDArray:
    """(P, 3, 3) matrices so that matrix @ w = w x vector."""
    x, y, z = vectors.T
    zero = np.zeros_like(x)
    return np.stack([zero, z, -y, -z, zero, x, y, -x, zero], axis=1).reshape(-1, 3, 3)
