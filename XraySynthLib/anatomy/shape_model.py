"""The pelvis shape model: scores in, bone surfaces out.

Made by `assets/pelvis/make_shape_model.py` from 20 of 26 people; six are held out for good.
Frame of every surface here: RAS, mm, origin midway between the hip centres of the mean, the mean's
anterior pelvic plane vertical. No tissue, no Hounsfield units, no landmarks here.
"""

import json
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from importlib.resources import files
from io import BytesIO
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from XraySynthLib.anatomy.hips import HipPose, clear_socket, mirrored, seat_center
from XraySynthLib.anatomy.local_fields import smooth_basis
from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.spheres import fit_sphere

# Length and standard deviation of the local variation, mm: a wing or ramus; a rim, notch or
# apophysis. People held out lie 2.5 to 5 mm (rms) off the span of the modes.
LOCAL_SCALES_MM = ((60.0, 1.5), (22.0, 0.8))
SYMPHYSIS_MM = 2.5  # the least between the pubic bodies; radiographs of adults show 2 to 6


@dataclass(frozen=True, eq=False)
class PelvisShape:
    """Closed surfaces of both hemipelves, sacrum and femurs, femurs seated.

    Attributes:
        vertices_ras_mm: (V, 3) read-only, RAS, mm; vertex i is the same place in everyone.
        femur_turns: (2, 3, 3) rotation of left and right femur from neutral about its head.
    """

    vertices_ras_mm: NDArray
    femur_turns: NDArray

    def __post_init__(self) -> None:
        for name in ("vertices_ras_mm", "femur_turns"):
            array = np.array(getattr(self, name), dtype=float)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if self.vertices_ras_mm.shape != (load_shape_model().n_vertices, 3):
            raise ValueError(
                f"A pelvis has {load_shape_model().n_vertices} vertices, "
                f"got an array of shape {self.vertices_ras_mm.shape}."
            )

    def surface(self, bone: Bone) -> tuple[NDArray, NDArray]:
        """One bone alone.

        Returns:
            (N, 3) vertices, RAS, mm, and (T, 3) triangles, counter-clockwise from outside.
        """
        part = load_shape_model().parts[bone]
        triangles = load_shape_model().triangles
        inside = (triangles[:, 0] >= part.start) & (triangles[:, 0] < part.stop)
        return self.vertices_ras_mm[part], triangles[inside] - part.start

    def head(self, bone: Bone) -> tuple[NDArray, float]:
        """Centre (3,), RAS, mm, and radius, mm, of a femur's head."""
        return fit_sphere(self.vertices_ras_mm[load_shape_model().head_vertices(bone)])

    def with_hips(self, left: HipPose, right: HipPose) -> "PelvisShape":
        """Turn the femurs about their heads' centres into these poses."""
        vertices = self.vertices_ras_mm.copy()
        turns = np.stack([left.rotation(left=True), right.rotation(left=False)])
        for index, bone in enumerate((Bone.LEFT_FEMUR, Bone.RIGHT_FEMUR)):
            part, center = load_shape_model().parts[bone], self.head(bone)[0]
            turn = turns[index] @ self.femur_turns[index].T
            vertices[part] = center + (vertices[part] - center) @ turn.T
        return replace(self, vertices_ras_mm=vertices, femur_turns=turns)


@dataclass(frozen=True, eq=False)
class ShapeModel:
    """Mean, modes and triangles; use `load_shape_model`.

    Attributes:
        mean_nodes_mm: (N, 3) pelvis nodes, then left femur nodes from the centre of its head, RAS.
        modes_mm: (19, N, 3) displacement of the nodes for one standard deviation.
        vertex_from_node: (V', N) sparse matrix; nodes carry the source's polynomial elements.
        triangles: (T, 3) of all five bones, normals outward.
        vertex_labels: (V,) `Bone` of each vertex; bones are in that order.
        mirrored_vertices: (V,) each vertex's partner on the other side: exact on hemipelves and
            femurs, the nearest on the sacrum.
        parts: Where each bone's vertices are.
        people_nodes_mm: (26, N, 3) the people.
        training_scores: (20, 19) scores of the training people.
        held_out: Indices of the six people that no model may be trained on.
        metadata: Provenance and licence.
    """

    mean_nodes_mm: NDArray
    modes_mm: NDArray
    vertex_from_node: sparse.csr_matrix
    triangles: NDArray
    vertex_labels: NDArray
    mirrored_vertices: NDArray
    parts: MappingProxyType[Bone, slice]
    people_nodes_mm: NDArray
    training_scores: NDArray
    held_out: tuple[int, ...]
    metadata: MappingProxyType[str, Any]
    left_socket_vertices: NDArray
    left_head_vertices: NDArray

    @property
    def n_modes(self) -> int:
        """Modes, one fewer than training people."""
        return len(self.modes_mm)

    @property
    def n_vertices(self) -> int:
        """Vertices of all five bones."""
        return len(self.vertex_labels)

    @property
    def training(self) -> tuple[int, ...]:
        """Indices of the twenty people that made mean and modes."""
        return tuple(sorted(set(range(len(self.people_nodes_mm))) - set(self.held_out)))

    def head_vertices(self, femur: Bone) -> NDArray:
        """Vertices on the sphere of a femur's head."""
        if femur is Bone.LEFT_FEMUR:
            return self.left_head_vertices
        return self.mirrored_vertices[self.left_head_vertices]

    def socket_vertices(self, hemipelvis: Bone) -> NDArray:
        """Vertices of a hemipelvis' socket."""
        if hemipelvis is Bone.LEFT_HEMIPELVIS:
            return self.left_socket_vertices
        return self.mirrored_vertices[self.left_socket_vertices]

    def shape(self, scores: ArrayLike, local_coefficients: NDArray | None = None) -> PelvisShape:
        """Make a person.

        Args:
            scores: (up to 19,) standard deviations of the modes, the rest 0.
            local_coefficients: (C, 3) of `local_basis`, or None.

        Returns:
            The shape in neutral pose, femurs seated, sockets clear.

        Raises:
            ValueError: If there are more scores than modes or one is not finite.
        """
        values = np.atleast_1d(np.asarray(scores, dtype=float))
        if values.ndim != 1 or len(values) > self.n_modes or not np.isfinite(values).all():
            raise ValueError(f"scores must be up to {self.n_modes} finite numbers, got {scores!r}.")
        nodes = self.mean_nodes_mm + np.tensordot(values, self.modes_mm[: len(values)], axes=1)
        return self._assembled(nodes, local_coefficients)

    def reconstruct(self, scores: ArrayLike) -> NDArray:
        """(V, 3) vertices, RAS, mm, of `shape(scores)`."""
        return self.shape(scores).vertices_ras_mm

    def person(self, index: int) -> PelvisShape:
        """Rebuild one of the 26 people; `training` and `held_out` say which is which."""
        return self._assembled(self.people_nodes_mm[index], None)

    @cached_property
    def mean(self) -> PelvisShape:
        """The mean of the training people."""
        return self.shape(np.zeros(1))

    @cached_property
    def local_basis(self) -> sparse.csr_matrix:
        """(V, C) basis of the local variation, mm for coefficients of standard deviation 1.

        The pelvis is one domain, so that facing surfaces of its joints move together; each femur
        is another.
        """
        vertices = self.placed(self.mean_nodes_mm)
        left, right = self.parts[Bone.LEFT_FEMUR], self.parts[Bone.RIGHT_FEMUR]
        return sparse.block_diag(
            [
                np.hstack(
                    [sd * smooth_basis(vertices[part], length) for length, sd in LOCAL_SCALES_MM]
                )
                for part in (slice(0, left.start), left, right)
            ]
        ).tocsr()

    def placed(self, nodes_mm: NDArray) -> NDArray:
        """(V, 3) vertices, each femur still about the centre of its head."""
        vertices = self.vertex_from_node @ nodes_mm
        return np.concatenate([vertices, mirrored(vertices[self.parts[Bone.LEFT_FEMUR]])])

    def _assembled(self, nodes_mm: NDArray, coefficients: NDArray | None) -> PelvisShape:
        vertices = self.placed(nodes_mm)
        if coefficients is not None:
            vertices += self.local_basis @ coefficients
        vertices = self._symphysis_cleared(self.seated(vertices))
        return PelvisShape(vertices, np.stack([np.eye(3)] * 2))

    def _symphysis_cleared(self, vertices_mm: NDArray) -> NDArray:
        """Part the pubic bodies where they cross: flat faces, a disc's least width between them."""
        mean = self.placed(self.mean_nodes_mm)
        pubis = (np.abs(mean[:, 0]) < 30) & (mean[:, 1] > 0) & (mean[:, 2] < 10)
        sides = []
        for bone in (Bone.LEFT_HEMIPELVIS, Bone.RIGHT_HEMIPELVIS):
            sides.append(np.flatnonzero(pubis & (self.vertex_labels == bone)))
        left, right = sides
        pairs = self.mirrored_vertices[left]
        middle_mm = (vertices_mm[left, 0] + vertices_mm[pairs, 0]).mean() / 2
        cleared, half_mm = vertices_mm.copy(), SYMPHYSIS_MM / 2
        cleared[left, 0] = np.minimum(cleared[left, 0], middle_mm - half_mm)
        cleared[right, 0] = np.maximum(cleared[right, 0], middle_mm + half_mm)
        return cleared

    def seated(self, vertices_mm: NDArray) -> NDArray:
        """Shift each femur into its socket and clear the socket around its head.

        Args:
            vertices_mm: (V, 3) all bones, femurs anywhere.

        Returns:
            (V, 3) vertices.
        """
        vertices = vertices_mm.copy()
        for hip, femur in (
            (Bone.LEFT_HEMIPELVIS, Bone.LEFT_FEMUR),
            (Bone.RIGHT_HEMIPELVIS, Bone.RIGHT_FEMUR),
        ):
            center, radius_mm = fit_sphere(vertices[self.head_vertices(femur)])
            seat = seat_center(vertices[self.socket_vertices(hip)], radius_mm)
            vertices[self.parts[femur]] += seat - center
            vertices[self.parts[hip]] = clear_socket(vertices[self.parts[hip]], seat, radius_mm)
        return vertices


@lru_cache(maxsize=1)
def load_shape_model() -> ShapeModel:
    """Read the model that ships with the library; read once, then kept."""
    asset = files("XraySynthLib.assets").joinpath("pelvis", "shape_model.npz").read_bytes()
    with np.load(BytesIO(asset), allow_pickle=False) as archive:
        data = {name: archive[name] for name in archive.files}
    metadata = json.loads(str(data["metadata"]))
    matrix = sparse.csr_matrix(
        (data["matrix_data"].astype(float), data["matrix_columns"], data["matrix_starts"])
    )
    mean = data["mean_nodes_mm"].astype(float)
    labels = np.concatenate(
        [data["vertex_labels"], np.full((data["vertex_labels"] == 5).sum(), 6, dtype=np.uint8)]
    )
    bones = [Bone(label) for label in np.unique(labels)]
    parts = {bone: slice(int((labels < bone).sum()), int((labels <= bone).sum())) for bone in bones}
    left, right = parts[Bone.LEFT_FEMUR], parts[Bone.RIGHT_FEMUR]
    triangles = data["triangles"].astype(np.int64)
    femur_triangles = triangles[triangles[:, 0] >= left.start]
    partner = np.arange(len(labels))
    partner[: left.start] = data["mirrored_vertices"]
    partner[left], partner[right] = partner[right].copy(), partner[left].copy()
    model = ShapeModel(
        mean_nodes_mm=mean,
        modes_mm=data["modes"] * float(metadata["mode_step_mm"]),
        vertex_from_node=matrix,
        # A mirror turns triangles inside out; the other order of corners turns them back.
        triangles=np.concatenate(
            [triangles, femur_triangles[:, ::-1] + (right.start - left.start)]
        ),
        vertex_labels=labels,
        mirrored_vertices=partner,
        parts=MappingProxyType(parts),
        people_nodes_mm=mean + data["people"] * float(metadata["node_step_mm"]),
        training_scores=data["training_scores"].astype(float),
        held_out=tuple(int(index) for index in data["held_out"]),
        metadata=MappingProxyType(metadata),
        left_socket_vertices=data["left_socket_vertices"].astype(np.int64),
        left_head_vertices=data["left_head_vertices"].astype(np.int64),
    )
    for value in vars(model).values():
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
    return model
