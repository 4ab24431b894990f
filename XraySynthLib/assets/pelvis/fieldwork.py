"""Read the pelvis and leg shape model of the Musculoskeletal Atlas Project. Build time only.

Needs `gias3.fieldwork` 3.0.1 installed (it evaluates the elements' Lagrange polynomials) and the
unpacked wheel of `musculoskeletal-models` 0.2.4. Nothing here is imported by the library.
"""

import pickle
from pathlib import Path

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy import sparse

N_PELVIS_NODES, N_FEMUR_NODES = 1946, 634
_ALLOWED_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}
# Names that gias3 takes from scipy's root, where new versions of SciPy no longer have them.
_SCIPY_SHIMS = (
    "arange array cross divide dot hstack linspace mean ones sqrt unique vstack where zeros"
)


class _ArrayUnpickler(pickle.Unpickler):
    """Admits numpy arrays and nothing else: a pickle may call anything it names."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _ALLOWED_GLOBALS:
            raise pickle.UnpicklingError(f"{module}.{name} is not a numpy array.")
        return super().find_class(module, name)


def read_people(models: Path) -> tuple[NDArray, NDArray]:
    """Rebuild the people whom the model was made from.

    Args:
        models: Folder `musculoskeletal/models` of the unpacked wheel.

    Returns:
        (26, 2580, 3) nodes of pelvis, then left femur, RAS, mm, and (26, 26) their scores, mm, one
        row a person. The model's axes are LPS.
    """
    with (models / "shape_models" / "LLP26_rigid.pc").open("rb") as file:
        model = _ArrayUnpickler(file, encoding="latin1").load()
    scores = model["projectedWeights"]  # (modes, people)
    flat = model["mean"][:, None] + model["modes"] @ scores
    nodes_lps_mm = flat.T.reshape(scores.shape[1], 3, -1).transpose(0, 2, 1)
    nodes_lps_mm = nodes_lps_mm[:, : N_PELVIS_NODES + N_FEMUR_NODES]
    return nodes_lps_mm * [-1.0, -1.0, 1.0], scores.T


def read_mesh(models: Path, name: str, fineness: int) -> tuple[sparse.csr_matrix, NDArray]:
    """Turn the elements of a bone into triangles.

    Args:
        models: Folder `musculoskeletal/models` of the unpacked wheel.
        name: "pelvis" or "femur".
        fineness: Points along the side of an element.

    Returns:
        (V, nodes) sparse matrix that makes vertices from nodes, and (T, 3) triangles, their
        normals outward in LPS and in RAS (two axes are turned, so it is no mirror).
    """
    for shim in _SCIPY_SHIMS.split():
        if not hasattr(scipy, shim):
            setattr(scipy, shim, getattr(np, shim))
    from gias3.fieldwork.field import geometric_field

    stem, mean = {
        "pelvis": ("pelvis_combined_cubic_flat", "pelvis_combined_cubic_mean_rigid_LLP26"),
        "femur": ("femur_left_quartic_flat", "femur_left_mean_rigid_LLP26"),
    }[name]
    folder = models / "atlas_meshes"
    field = geometric_field.load_geometric_field(
        *(str(folder / file) for file in (f"{mean}.geof", f"{stem}.ens", f"{stem}.mesh"))
    )
    density = [fineness, fineness]
    _, triangles, unique, _ = field.triangulate(density, merge=True, ret_vert_map=True)
    field.flatten_ensemble_field_function()
    # Vertices are linear in the nodes: three unit nodes at a time show three columns of the matrix.
    n_nodes = field.get_field_parameters().shape[1]
    columns = []
    for start in range(0, n_nodes, 3):
        count = min(3, n_nodes - start)
        parameters = np.zeros((3, n_nodes, 1))
        parameters[np.arange(count), start + np.arange(count)] = 1
        field.field_parameters = parameters
        values = np.asarray(field.evaluate_geometric_field(density)).T[unique, :count]
        columns.append(sparse.csc_matrix(np.where(np.abs(values) < 1e-9, 0, values)))
    return sparse.hstack(columns).tocsr(), np.asarray(triangles, dtype=np.int64)
