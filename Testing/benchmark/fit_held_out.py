"""Fit the six held-out people from label maps at 2.5 mm; landmark errors to a CSV.

    python Testing/benchmark/fit_held_out.py [OUTPUT.csv]

Truth: the landmarks on the person's own surface. Each person is turned up to 12 degrees about
each axis, shifted, and stands with other hips (flexion -5..35, abduction -5..20, rotation +-25
degrees). Cases: whole bones (femurs end with the grid); the iliac wings cut off from above; the
volume's border through the left hemipelvis; one hemipelvis missing; femurs missing; half a pelvis,
cut at the person's midsagittal plane (the sacrum's cut face is then a surface) or by the volume's
border through the midline; one hemipelvis alone; nothing above a plane 5 mm below or above the left
greater sciatic notch (GSN) or anterior superior spine (ASIS), where the volume ends or, "in the
map", the labels do. When cut, only landmarks whose bone was seen count
as `seen`; the others are predictions. A row `refused` is a fit that gave up.
"""

import csv
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from XraySynthLib.anatomy.fit import NotAPelvisError, fit_labels
from XraySynthLib.anatomy.hips import HipPose
from XraySynthLib.anatomy.landmarks import landmarks_of
from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.shape_model import PelvisShape, load_shape_model
from XraySynthLib.anatomy.voxels import inside_surface

SPACING_MM = 2.5
GRID = (150, 120, 160)
CORNER_MM = np.array([-200.0, -150.0, -150.0])


def posed_person(index: int) -> tuple[PelvisShape, NDArray]:
    """A held-out person lying somewhere, and the shift of the body, RAS, mm."""
    generator = np.random.default_rng(index)
    poses = [
        HipPose(generator.uniform(-5, 35), generator.uniform(-5, 20), generator.uniform(-25, 25))
        for _ in range(2)
    ]
    person = load_shape_model().person(index).with_hips(*poses)
    turn = Rotation.from_euler("xyz", generator.uniform(-12, 12, 3), degrees=True).as_matrix()
    shift = generator.uniform(-30, 30, 3)
    return PelvisShape(person.vertices_ras_mm @ turn.T + shift, person.femur_turns), shift


def bone_labels(
    shape: PelvisShape,
    ras_from_ijk: NDArray,
    grid_shape: tuple[int, int, int],
    ids: Mapping[Bone, int] | None = None,
) -> NDArray:
    """Draw the bones into a label map.

    Args:
        shape: The bones.
        ras_from_ijk: (4, 4) of the grid.
        grid_shape: (K, J, I) of the grid.
        ids: Label of each bone; DeepFluoro's by default.

    Returns:
        (K, J, I) uint8; where surfaces touch, the hemipelvis wins over the sacrum.
    """
    labels = np.zeros(grid_shape, dtype=np.uint8)
    ijk_from_ras = np.linalg.inv(ras_from_ijk)
    order = (
        Bone.SACRUM,
        Bone.LEFT_FEMUR,
        Bone.RIGHT_FEMUR,
        Bone.LEFT_HEMIPELVIS,
        Bone.RIGHT_HEMIPELVIS,
    )
    for bone in order:
        inside = inside_surface(*shape.surface(bone), ijk_from_ras, grid_shape)
        labels[inside] = int(bone) if ids is None else ids[bone]
    return labels


def rightward_mm(
    person: PelvisShape, ras_from_ijk: NDArray, grid_shape: tuple[int, ...]
) -> NDArray:
    """(K, J, I) signed distance of the voxels from the person's midsagittal plane."""
    model, vertices = load_shape_model(), person.vertices_ras_mm
    left = np.arange(model.n_vertices)[model.parts[Bone.LEFT_HEMIPELVIS]]
    right = model.mirrored_vertices[left]
    normal = (vertices[right] - vertices[left]).sum(axis=0)
    normal /= np.linalg.norm(normal)
    middle = (vertices[right] + vertices[left]).mean(axis=0) / 2
    k, j, i = np.ogrid[tuple(slice(n) for n in grid_shape)]
    slope = normal @ ras_from_ijk[:3, :3]
    return slope[0] * i + slope[1] * j + slope[2] * k + normal @ (ras_from_ijk[:3, 3] - middle)


def cut(labels: NDArray, case: str, rightward: NDArray) -> tuple[NDArray, NDArray]:
    """Take parts away; returns labels and the first voxel (k, j, i) that is left of the grid."""
    first = np.zeros(3, dtype=int)
    side = 1 if case.startswith("right") else -1
    if case == "wings cut":
        middle = int((100 - CORNER_MM[2]) / SPACING_MM)
        labels = labels[:middle]
    elif case == "left side cut":  # the border runs through the left wing and ramus
        first[2] = int((-75 - CORNER_MM[0]) / SPACING_MM)
        labels = labels[:, :, first[2] :]
    elif case == "right hemipelvis missing":
        labels = np.where(labels == Bone.RIGHT_HEMIPELVIS, 0, labels)
    elif case == "no femurs":
        labels = np.where(labels >= Bone.LEFT_FEMUR, 0, labels)
    elif case.endswith("half"):
        labels = np.where(side * rightward > 0, labels, 0)
    elif case.endswith("half, border"):
        middle = int(np.abs(rightward).mean(axis=(0, 1)).argmin())
        first[2] = middle if side > 0 else 0
        labels = labels[:, :, middle:] if side > 0 else labels[:, :, :middle]
    elif case.endswith("hemipelvis alone"):
        bone = Bone.RIGHT_HEMIPELVIS if side > 0 else Bone.LEFT_HEMIPELVIS
        labels = np.where(labels == bone, labels, 0)
    return labels, first


def cut_at(
    labels: NDArray, case: str, heights_mm: dict[str, float], slice_mm: float = SPACING_MM
) -> NDArray:
    """Take away what lies above a plane near the left landmark that the case names.

    Args:
        labels: (K, J, I).
        case: Such as "cut above GSN, in the map".
        heights_mm: Of the landmarks above the first slice.
        slice_mm: Distance of slices.
    """
    words = case.replace(",", "").split()
    offset_mm = 5.0 if words[1] == "above" else -5.0
    level = int((heights_mm[f"{words[2]}-l"] + offset_mm) / slice_mm) + 1
    if not case.endswith("in the map"):
        return labels[:level]
    return np.where(np.arange(len(labels))[:, None, None] < level, labels, 0)


LEVEL_CASES = (
    "cut below GSN",
    "cut above GSN",
    "cut below ASIS",
    "cut above ASIS",
    "cut above GSN, in the map",
)
CASES = (
    "whole",
    "wings cut",
    "left side cut",
    "right hemipelvis missing",
    "no femurs",
    "left half",
    "right half",
    "left half, border",
    "right half, border",
    "left hemipelvis alone",
    "right hemipelvis alone",
)


def main(output: Path) -> None:
    """Fit and write."""
    errors: dict[tuple[str, bool], list[float]] = {}
    with output.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "person", "landmark", "error_mm", "seen", "fit_s"])
        for index in load_shape_model().held_out:
            person, shift = posed_person(index)
            ras_from_ijk = np.diag([SPACING_MM] * 3 + [1.0])
            ras_from_ijk[:3, 3] = CORNER_MM + shift
            whole = bone_labels(person, ras_from_ijk, GRID)
            rightward = rightward_mm(person, ras_from_ijk, GRID)
            landmarks = landmarks_of(person)
            truth = landmarks.points_ras_mm
            heights_mm = dict(zip(landmarks.names, truth[:, 2] - ras_from_ijk[2, 3], strict=True))
            for case in CASES + LEVEL_CASES:
                labels, first = cut(whole, case, rightward)
                if case in LEVEL_CASES:
                    labels = cut_at(whole, case, heights_mm)
                matrix = ras_from_ijk.copy()
                matrix[:3, 3] += SPACING_MM * first[::-1]
                start = time.perf_counter()
                try:
                    fit = fit_labels(labels, matrix, "deepfluoro")
                except NotAPelvisError as refusal:
                    print(f"{case}, person {index}: refused: {refusal}")
                    writer.writerow([case, index, "refused", "", "", ""])
                    continue
                seconds = time.perf_counter() - start
                distances = np.linalg.norm(fit.landmarks.points_ras_mm - truth, axis=1)
                for name, error, seen in zip(
                    fit.landmarks.names, distances, fit.landmark_seen, strict=True
                ):
                    writer.writerow(
                        [case, index, name, f"{error:.2f}", int(seen), f"{seconds:.1f}"]
                    )
                    errors.setdefault((case, bool(seen)), []).append(float(error))
                file.flush()
    for (case, seen), values in sorted(errors.items()):
        median, tail = np.percentile(values, [50, 95])
        kind = "seen" if seen else "predicted"
        print(
            f"{case}, {kind}: {len(values)}, median {median:.2f} mm, 95% {tail:.2f} mm, "
            f"largest {max(values):.2f} mm"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "Testing/benchmark/fit_held_out.csv"))
