"""Make `shape_model.npz` from the Musculoskeletal Atlas Project's pelvis and leg model (MPL-2.0).

    python make_shape_model.py FOLDER

FOLDER is the unpacked wheel of `musculoskeletal-models` 0.2.4; `gias3.fieldwork` 3.0.1 must be
installed (`fieldwork.py` says why). Steps: rebuild the 26 people, choose the six held out, align
bones rigidly, set axes from the training people's mean, PCA of the other twenty, triangles, write.

Frames: pelvis nodes are RAS with the origin midway between the femoral heads' seats, +x to the
right, the anterior pelvic plane (both ASIS, front of the symphysis) vertical. Femur nodes are those
of the left femur, from its head's centre, in the neutral pose: mechanical axis vertical, posterior
condyles parallel to x. The right femur is the left one mirrored: in the source, too, it is that.
"""

import argparse
import json
from pathlib import Path

import fieldwork
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from XraySynthLib.anatomy.spheres import fit_sphere, fit_sphere_of_radius

FINENESS = {"pelvis": 9, "femur": 11}
# Ranks along the first mode's weight (size): spread over the range, without its two ends.
HELD_OUT_RANKS = (2, 6, 11, 15, 19, 23)
LEFT_HEMIPELVIS, RIGHT_HEMIPELVIS, SACRUM, LEFT_FEMUR = 1, 2, 4, 5
NODE_STEP_MM, MODE_STEP_MM = 1 / 250, 1 / 1000
# The shaft's end counts less: its length would rule the modes, and pelvic films do not show it.
DISTAL_MM, DISTAL_WEIGHT = -150.0, 0.25
JOINT_SPACE_MM = 2.5
MIRROR = np.array([-1.0, 1.0, 1.0])


def rigid(source: NDArray, target: NDArray, center: bool = True) -> tuple[NDArray, NDArray]:
    """Least-squares rotation and shift, `source @ rotation + shift` (Kabsch 1976)."""
    middles = (source.mean(0), target.mean(0)) if center else (np.zeros(3), np.zeros(3))
    u, _, vt = np.linalg.svd((source - middles[0]).T @ (target - middles[1]))
    rotation = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
    return rotation, middles[1] - middles[0] @ rotation


def align(shapes: NDArray, reference: NDArray, center: bool) -> NDArray:
    """Turn (and shift, if `center`) every shape onto the reference."""
    turned = [(shape, *rigid(shape, reference, center)) for shape in shapes]
    return np.stack([shape @ rotation + shift for shape, rotation, shift in turned])


def align_to_own_mean(shapes: NDArray, training: NDArray, center: bool = True) -> NDArray:
    """Rigid Procrustes alignment to the mean of the training people, iterated."""
    for _ in range(10):
        shapes = align(shapes, shapes[training].mean(0), center)
    return shapes


def split_parts(matrix: sparse.csr_matrix, triangles: NDArray, nodes: NDArray) -> NDArray:
    """Label each pelvis vertex by the closed surface that it lies on."""
    n_vertices = matrix.shape[0]
    edges = sparse.coo_matrix(
        (np.ones(triangles.size), (triangles.ravel(), np.roll(triangles, 1, axis=1).ravel())),
        shape=(n_vertices, n_vertices),
    )
    count, component = connected_components(edges, directed=False)
    if count != 3:
        raise SystemExit(f"The pelvis has {count} surfaces, not 3.")
    vertices = matrix @ nodes
    across_mm = [vertices[component == index, 0].mean() for index in range(3)]
    order = np.argsort(across_mm)  # RAS: the patient's left comes first
    labels = np.empty(3, dtype=np.uint8)
    labels[order] = LEFT_HEMIPELVIS, SACRUM, RIGHT_HEMIPELVIS
    return labels[component]


def mirrored_partners(source: NDArray, target: NDArray, one_to_one: bool) -> NDArray:
    """Pair points with their mirror images, after rigid alignment.

    Args:
        source: (N, 3) points of one side, mm.
        target: (M, 3) points of the other, mm, M of N or more.
        one_to_one: Whether all partners must differ (least sum of squares) or are the nearest.

    Returns:
        (N,) indices into `target`.
    """
    moved = source * MIRROR
    moved += target.mean(0) - moved.mean(0)
    tree = cKDTree(target)
    for _ in range(60):
        nearest = tree.query(moved)[1]
        rotation, shift = rigid(moved, target[nearest])
        moved = moved @ rotation + shift
    if not one_to_one:
        return tree.query(moved)[1]
    return linear_sum_assignment(cdist(moved, target, "sqeuclidean"))[1]


def mirrored_vertices(matrix: sparse.csr_matrix, labels: NDArray, nodes: NDArray) -> NDArray:
    """Find each pelvis vertex's partner on the other side.

    The hemipelves' meshes are each other's mirror images, element by element: their partners are
    exact. The sacrum's is not quite symmetric: its partners are the nearest vertices.

    Returns:
        (V,) indices.
    """
    partner = np.empty(matrix.shape[0], dtype=np.int64)
    left, right, middle = (
        np.flatnonzero(labels == label) for label in (LEFT_HEMIPELVIS, RIGHT_HEMIPELVIS, SACRUM)
    )
    left_nodes, right_nodes = (np.unique(matrix[side].indices) for side in (left, right))
    node_partner = np.full(len(nodes), -1)
    pairs = mirrored_partners(nodes[left_nodes], nodes[right_nodes], one_to_one=True)
    node_partner[left_nodes] = right_nodes[pairs]

    def row(vertex: int, names: NDArray) -> tuple:
        line = matrix[[vertex]]
        return tuple(sorted(zip(names[line.indices], np.round(line.data, 5), strict=True)))

    right_of_row = {row(vertex, np.arange(len(nodes))): vertex for vertex in right}
    found = np.array([right_of_row.get(row(vertex, node_partner), -1) for vertex in left])
    if (found < 0).any():
        raise SystemExit(f"{(found < 0).sum()} vertices of the hemipelves have no partner.")
    partner[left], partner[found] = found, left
    vertices = matrix @ nodes
    partner[middle] = middle[mirrored_partners(vertices[middle], vertices[middle], False)]
    return partner


def anatomical_axes(pelvis: NDArray, labels: NDArray, partner: NDArray) -> NDArray:
    """Find the axes of the mean pelvis: +x right across mirrored pairs, the APP vertical.

    The anterior pelvic plane is the one that both ASIS and the pubis lie against in front: it is
    tilted until the front of the ilia and the front of the pubis are equally far forward.

    Returns:
        (3, 3) `axes`, so that `points @ axes.T` are in the new frame.
    """
    left = np.flatnonzero(labels == LEFT_HEMIPELVIS)
    right_axis = (pelvis[partner[left]] - pelvis[left]).mean(0)
    right_axis /= np.linalg.norm(right_axis)
    forward = np.array([0.0, 1.0, 0.0])
    for _ in range(100):
        forward -= right_axis * (forward @ right_axis)
        forward /= np.linalg.norm(forward)
        axes = np.stack([right_axis, forward, np.cross(right_axis, forward)])
        points = pelvis @ axes.T
        hips = points[labels != SACRUM]
        middle_z = (hips[:, 2].min() + hips[:, 2].max()) / 2
        top, bottom = hips[hips[:, 2] > middle_z], hips[hips[:, 2] <= middle_z]
        upper, lower = top[top[:, 1].argmax()], bottom[bottom[:, 1].argmax()]
        slope = (upper[1] - lower[1]) / (upper[2] - lower[2])
        forward = axes[1] - 0.5 * slope * axes[2]
    return axes


def neutral_femur_axes(vertices: NDArray) -> NDArray:
    """Find the neutral pose of a left femur about its head's centre.

    Mechanical axis (head's to knee's centre) along -z, posterior condyles parallel to x.

    Returns:
        (3, 3) `axes`, so that `points @ axes.T` are in the neutral pose.
    """
    distal = vertices[vertices[:, 2] < vertices[:, 2].min() + 35]
    up = -(distal.min(0) + distal.max(0)) / 2
    up /= np.linalg.norm(up)
    inner = distal[:, 0] > np.median(distal[:, 0])  # towards +x, the midline of a left leg
    condyles = [part[part[:, 1].argmin()] for part in (distal[inner], distal[~inner])]
    right_axis = condyles[0] - condyles[1]
    right_axis -= up * (right_axis @ up)
    right_axis /= np.linalg.norm(right_axis)
    return np.stack([right_axis, np.cross(up, right_axis), up])


def head_vertices(vertices: NDArray) -> NDArray:
    """Find the femoral head's vertices: those within 1 mm of the sphere, above the neck's side."""
    inward_up = np.array([0.5, 0.2, 0.8])
    top = vertices[np.argsort(vertices @ inward_up)[-80:]]
    center, radius_mm = top.mean(0) - 20 * inward_up, 22.0
    for _ in range(60):
        offsets = vertices - center
        near = np.abs(np.linalg.norm(offsets, axis=1) - radius_mm) < 1.0
        chosen = np.flatnonzero(near & (offsets @ inward_up > -5))
        center, radius_mm = fit_sphere(vertices[chosen])
    return chosen


def socket_vertices(vertices: NDArray, triangles: NDArray, side: NDArray) -> NDArray:
    """Find the left socket's vertices: on a sphere, their normals towards its centre."""
    corners = vertices[triangles]
    face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], face)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    hip = vertices[side]
    # A first guess from proportions: the socket is low, far lateral, in the middle front to back.
    low, high = hip.min(0), hip.max(0)
    center, radius_mm = low + (high - low) * [0.43, 0.62, 0.32], 25.0
    for _ in range(80):
        offsets = vertices - center
        distances = np.linalg.norm(offsets, axis=1)
        facing = -np.einsum("ij,ij->i", normals, offsets) / distances
        chosen = np.flatnonzero(side & (np.abs(distances - radius_mm) < 3) & (facing > 0.85))
        center, radius_mm = fit_sphere(vertices[chosen])
    return chosen


def weighted_modes(shapes: NDArray, weights: NDArray) -> tuple[NDArray, NDArray]:
    """Principal modes of shapes.

    Args:
        shapes: (N, nodes, 3) shapes, mm.
        weights: (nodes,) weight of each node's squared distance.

    Returns:
        (N-1, nodes, 3) displacement of one standard deviation, mm, and (N, N-1) scores.
    """
    n_people = len(shapes)
    deviations = shapes - shapes.mean(0)
    weighted = (deviations * np.sqrt(weights)[:, None]).reshape(n_people, -1)
    u, _, _ = np.linalg.svd(weighted, full_matrices=False)
    u = u[:, :-1] * np.where(u[np.abs(u).argmax(0), range(n_people)] < 0, -1, 1)[:-1]
    scores = u * np.sqrt(n_people - 1)
    # Least squares of the deviations on the scores gives every node, whatever its weight.
    modes = np.tensordot(scores.T, deviations, axes=1) / (n_people - 1)
    return modes, scores


def quantised(array_mm: NDArray, step_mm: float) -> NDArray:
    """Round to whole steps that fit in 16 bits, which compress well and are the same everywhere."""
    steps = np.round(array_mm / step_mm)
    if np.abs(steps).max() > np.iinfo(np.int16).max:
        raise SystemExit("A displacement is too large for 16 bits.")
    return steps.astype(np.int16)


def main() -> None:
    """Read, align, decompose, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    models = parser.parse_args().folder / "musculoskeletal" / "models"
    people, weights_mm = fieldwork.read_people(models)
    n_pelvis = fieldwork.N_PELVIS_NODES
    by_size = np.argsort(weights_mm[:, 0])
    held_out = np.sort(by_size[list(HELD_OUT_RANKS)])
    training = np.setdiff1d(np.arange(len(people)), held_out)

    matrix, triangles = fieldwork.read_mesh(models, "pelvis", FINENESS["pelvis"])
    femur_matrix, femur_triangles = fieldwork.read_mesh(models, "femur", FINENESS["femur"])
    pelves = align_to_own_mean(people[:, :n_pelvis], training)
    labels = split_parts(matrix, triangles, pelves[training].mean(0))
    order = np.argsort(labels, kind="stable")  # left hemipelvis, right hemipelvis, sacrum
    matrix, labels = matrix[order], labels[order]
    triangles = np.argsort(order)[triangles]
    triangles = triangles[np.argsort(labels[triangles[:, 0]], kind="stable")]
    partner = mirrored_vertices(matrix, labels, pelves[training].mean(0))

    pelves = pelves @ anatomical_axes(matrix @ pelves[training].mean(0), labels, partner).T
    mean_pelvis = matrix @ pelves[training].mean(0)
    socket = socket_vertices(mean_pelvis, triangles, labels == LEFT_HEMIPELVIS)

    femurs = align_to_own_mean(people[:, n_pelvis:], training)
    head = head_vertices(femur_matrix @ femurs[training].mean(0))
    centers = np.stack([fit_sphere(femur_matrix[head] @ femur)[0] for femur in femurs])
    femurs = align_to_own_mean(femurs - centers[:, None], training, center=False)
    femurs = femurs @ neutral_femur_axes(femur_matrix @ femurs[training].mean(0)).T
    radius_mm = fit_sphere(femur_matrix[head] @ femurs[training].mean(0))[1] + JOINT_SPACE_MM
    seats = [
        fit_sphere_of_radius(points, radius_mm, fit_sphere(points)[0])
        for points in (mean_pelvis[socket], mean_pelvis[partner[socket]])
    ]
    pelves = pelves - np.mean(seats, axis=0)

    shapes = np.concatenate([pelves, femurs], axis=1)
    node_weights = np.ones(shapes.shape[1])
    node_weights[n_pelvis:][femurs[training].mean(0)[:, 2] < DISTAL_MM] = DISTAL_WEIGHT
    mean = np.round(shapes[training].mean(0) / NODE_STEP_MM) * NODE_STEP_MM
    modes, scores = weighted_modes(shapes[training], node_weights)

    all_matrix = sparse.block_diag([matrix, femur_matrix]).tocsr()
    all_matrix.sort_indices()
    metadata = {
        "title": "Shape model of the adult pelvis and hip",
        "source": "musculoskeletal-models 0.2.4, shape_models/LLP26_rigid.pc and atlas_meshes",
        "authors": "Auckland Bioengineering Institute, Musculoskeletal Atlas Project",
        "licence": "MPL-2.0; this file is a modified form, its source form is this file together "
        "with make_shape_model.py beside it; https://mozilla.org/MPL/2.0/",
        "changes": "axes, alignment, order, triangles, modes recomputed without the held-out",
        "held_out": f"ranks {HELD_OUT_RANKS} of the 26 people along the first weight",
        "frame": "RAS, mm; see make_shape_model.py",
        "fineness": FINENESS,
        "node_step_mm": NODE_STEP_MM,
        "mode_step_mm": MODE_STEP_MM,
        "joint_space_mm": JOINT_SPACE_MM,
    }
    output = Path(__file__).with_name("shape_model.npz")
    np.savez_compressed(
        output,
        mean_nodes_mm=mean.astype(np.float32),
        modes=quantised(modes, MODE_STEP_MM),
        training_scores=scores.astype(np.float32),
        people=quantised(shapes - mean, NODE_STEP_MM),
        held_out=held_out.astype(np.int16),
        source_weights_mm=weights_mm.astype(np.float32),
        matrix_data=all_matrix.data.astype(np.float32),
        matrix_columns=all_matrix.indices.astype(np.uint16),
        matrix_starts=all_matrix.indptr.astype(np.int32),
        triangles=np.concatenate([triangles, femur_triangles + len(labels)]).astype(np.uint16),
        vertex_labels=np.concatenate([labels, np.full(femur_matrix.shape[0], LEFT_FEMUR)]).astype(
            np.uint8
        ),
        mirrored_vertices=partner.astype(np.uint16),
        left_socket_vertices=socket.astype(np.uint16),
        left_head_vertices=(head + len(labels)).astype(np.uint16),
        metadata=np.array(json.dumps(metadata)),
    )
    print(f"{output}: {output.stat().st_size / 1e6:.2f} MB, held out {held_out.tolist()}")


if __name__ == "__main__":
    main()
