"""4x4 matrices between frames: checks, inverses and points. Lives here: no frame of its own."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
LPS_FROM_RAS.setflags(write=False)
RAS_FROM_LPS = LPS_FROM_RAS

RIGID_TOLERANCE = 1e-4
"""Largest error of an entry of R^T R against the identity; float32 files stay well under it."""


def read_only(values: ArrayLike, dtype: type = np.float64) -> NDArray:
    """Copy `values` into an array of `dtype` that cannot be written to."""
    array: NDArray = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array


def checked_vector(values: ArrayLike, name: str, size: int) -> NDArray:
    """Return `values` as a read-only float64 vector.

    Raises:
        ValueError: If it does not hold `size` finite numbers.
    """
    try:
        vector = read_only(values)
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{name} must be {size} numbers, got {values!r}.") from error
    if vector.shape != (size,) or not np.isfinite(vector).all():
        raise ValueError(f"{name} must be {size} finite numbers, got {values!r}.")
    return vector


def checked_points(points: ArrayLike, name: str, size: int) -> NDArray:
    """Return `points` as a float64 array (N, size); a point not finite is undefined: NaN.

    Raises:
        ValueError: If the shape is another.
    """
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != size:
        raise ValueError(f"{name} must have shape (N, {size}), got {array.shape}.")
    return np.where(np.isfinite(array), array, np.nan)


def checked_affine(matrix: ArrayLike, name: str) -> NDArray:
    """Return an invertible 4x4 `matrix` as read-only float64.

    Raises:
        ValueError: If it is not 4x4, not finite, singular, or its last row is not 0 0 0 1.
    """
    try:
        affine = read_only(matrix)
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a 4x4 matrix of numbers.") from error
    if affine.shape != (4, 4):
        raise ValueError(f"{name} must be a 4x4 matrix, got shape {affine.shape}.")
    if not np.isfinite(affine).all():
        raise ValueError(f"{name} holds numbers that are not finite.")
    if not np.allclose(affine[3], [0, 0, 0, 1], atol=1e-9):
        raise ValueError(f"The last row of {name} must be 0 0 0 1, got {affine[3].tolist()}.")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if (lengths == 0).any() or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-6:
        raise ValueError(f"{name} is singular: its columns do not span space.")
    return affine


def checked_rigid(matrix: ArrayLike, name: str) -> NDArray:
    """Return a rigid 4x4 `matrix` as read-only float64, its rotation made exactly orthonormal.

    Raises:
        ValueError: If it is not a rotation and a translation: scaled, sheared or mirrored.
    """
    affine = checked_affine(matrix, name)
    rotation = affine[:3, :3]
    scales = np.linalg.norm(rotation, axis=0)
    error = np.abs(rotation.T @ rotation - np.eye(3)).max()
    if error > RIGID_TOLERANCE:
        raise ValueError(
            f"{name} must be a rotation and a translation, but it scales or shears "
            f"(column lengths {np.round(scales, 4).tolist()})."
        )
    if np.linalg.det(rotation) < 0:
        raise ValueError(f"{name} must be right-handed, but it mirrors (determinant -1).")
    if error < 1e-12:  # left as it is, so that a view read back from JSON is the same to the bit
        return affine
    u, _, vt = np.linalg.svd(rotation)
    rigid = np.array(affine)
    rigid[:3, :3] = u @ vt
    return read_only(rigid)


def inverse_rigid(matrix: NDArray) -> NDArray:
    """Invert a rigid 4x4 matrix: `source_from_target` of a `target_from_source`."""
    inverse = np.eye(4)
    inverse[:3, :3] = matrix[:3, :3].T
    inverse[:3, 3] = -matrix[:3, :3].T @ matrix[:3, 3]
    return inverse


def translation(vector_mm: ArrayLike) -> NDArray:
    """4x4 matrix of a translation by `vector_mm` (3,)."""
    matrix = np.eye(4)
    matrix[:3, 3] = vector_mm
    return matrix


def rotation(axis: str, angle_deg: float) -> NDArray:
    """4x4 matrix of a right-handed rotation about the axis "x", "y" or "z" by `angle_deg`."""
    cosine, sine = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(4)
    matrix[first, first] = matrix[second, second] = cosine
    matrix[first, second], matrix[second, first] = -sine, sine
    return matrix


def transform_points(target_from_source: NDArray, points: NDArray) -> NDArray:
    """Apply a 4x4 matrix to points (N, 3)."""
    return points @ target_from_source[:3, :3].T + target_from_source[:3, 3]
