"""A CT volume with its place in the patient."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from XraySynthLib.geometry.transforms import checked_affine, transform_points

MIN_SPACING_MM, MAX_SPACING_MM = 0.01, 50.0
MAX_SHEAR = 1e-3
MAX_VOXELS = 2**31


@dataclass(frozen=True, eq=False)
class Volume:
    """A CT volume; its directions may be oblique and left-handed.

    Attributes:
        values_hu: (K, J, I) float32, read-only; air -1000, water 0.
        ras_from_ijk: (4, 4) from voxel index (i, j, k; an integer is a voxel's centre) to RAS, mm.
        labels: (K, J, I) integers of a label map on the same grid, or None.

    Raises:
        ValueError: If the shape is not three sizes of 2 or more, a value is not finite, the
            spacing is absurd, the axes are sheared, or the labels do not fit.
    """

    values_hu: NDArray
    ras_from_ijk: NDArray
    labels: NDArray | None = None

    def __post_init__(self) -> None:
        values = np.asarray(self.values_hu)
        if values.ndim != 3 or min(values.shape, default=0) < 2 or values.size > MAX_VOXELS:
            raise ValueError(
                f"A volume must have three axes of 2 or more voxels each, got shape {values.shape}."
            )
        if values.dtype.kind not in "iuf":
            raise ValueError(f"A volume's values must be real numbers, got {values.dtype}.")
        values = np.ascontiguousarray(values, dtype=np.float32)
        if not np.isfinite(values).all():
            count = int(values.size - np.isfinite(values).sum())
            raise ValueError(f"The volume holds {count} values that are NaN or infinite.")
        matrix = checked_affine(self.ras_from_ijk, "ras_from_ijk")
        check_grid(matrix)
        object.__setattr__(self, "values_hu", _read_only_view(values))
        object.__setattr__(self, "ras_from_ijk", matrix)
        if self.labels is not None:
            object.__setattr__(self, "labels", _read_only_view(self._checked_labels()))

    def _checked_labels(self) -> NDArray:
        labels = np.asarray(self.labels)
        if labels.shape != self.values_hu.shape:
            raise ValueError(
                f"The label map's shape {labels.shape} is not the volume's {self.values_hu.shape}."
            )
        if labels.dtype.kind not in "iu":
            raise ValueError(f"A label map must hold integers, got {labels.dtype}.")
        return np.ascontiguousarray(labels)

    @property
    def spacing_mm(self) -> NDArray:
        """(3,) voxel size along i, j, k."""
        return np.linalg.norm(self.ras_from_ijk[:3, :3], axis=0)

    @property
    def ijk_from_ras(self) -> NDArray:
        """(4, 4) the inverse of `ras_from_ijk`."""
        return np.linalg.inv(self.ras_from_ijk)

    @property
    def center_ras_mm(self) -> NDArray:
        """(3,) the middle of the voxel grid, RAS, mm."""
        middle = (np.array(self.values_hu.shape[::-1]) - 1) / 2
        return transform_points(self.ras_from_ijk, middle[None])[0]


def left_back_up(volume: Volume) -> Volume:
    """The same volume with i to the patient's left, j to the back, k to the head.

    Axes are swapped and turned round, nothing is resampled: an oblique volume stays as oblique.
    """
    axes_ras = volume.ras_from_ijk[:3, :3] / volume.spacing_mm
    _, order = linear_sum_assignment(np.abs(axes_ras), maximize=True)  # of R, A, S: i, j or k
    sizes = volume.values_hu.shape[::-1]
    ijk_from_turned = np.zeros((4, 4))
    ijk_from_turned[3, 3] = 1
    flips = []
    for axis, (ijk, wanted) in enumerate(zip(order, (-1, -1, 1), strict=True)):
        flip = axes_ras[axis, ijk] * wanted < 0
        ijk_from_turned[ijk, axis] = -1 if flip else 1
        ijk_from_turned[ijk, 3] = sizes[ijk] - 1 if flip else 0
        flips.append(slice(None, None, -1 if flip else 1))

    def turned(array: NDArray) -> NDArray:
        return array.transpose(2 - order[::-1])[tuple(flips[::-1])]

    labels = None if volume.labels is None else turned(volume.labels)
    return Volume(turned(volume.values_hu), volume.ras_from_ijk @ ijk_from_turned, labels)


def _read_only_view(array: NDArray) -> NDArray:
    """A view that cannot be written to, without copying hundreds of megabytes."""
    view = array.view()
    view.setflags(write=False)
    return view


def check_grid(ras_from_ijk: NDArray) -> None:
    """Refuse a grid that no CT has.

    Raises:
        ValueError: If the spacing is absurd or the axes are sheared.
    """
    spacing = np.linalg.norm(ras_from_ijk[:3, :3], axis=0)
    if (spacing < MIN_SPACING_MM).any() or (spacing > MAX_SPACING_MM).any():
        raise ValueError(
            f"The voxel spacing {np.round(spacing, 5).tolist()} mm is absurd for a CT; "
            f"each must lie in {MIN_SPACING_MM}..{MAX_SPACING_MM:g} mm."
        )
    axes = ras_from_ijk[:3, :3] / spacing
    if np.abs(axes.T @ axes - np.eye(3)).max() > MAX_SHEAR:
        raise ValueError("The volume's axes are sheared; resample it onto a rectangular grid.")
