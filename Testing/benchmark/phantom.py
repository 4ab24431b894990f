"""An abdomen and pelvis made of ellipsoids, whose line integrals are known exactly.

Lives here: the bodies, their voxels and their analytic projections. Used by the benchmark and by
the tests of the projectors. A phantom is a tuple of `Body`; densities of overlapping bodies add
up, so a bone is written as what it adds to the soft tissue around it, and gas as what it takes
away. Frames: RAS, mm. Units: density g/cm3, area density (its line integral) g/cm2.

`abdomen()` has sharp edges, as a patient has; `smooth_abdomen()` has a Gaussian in the place of
each ellipsoid, so that what remains of a projector's error is not the voxels' staircase.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from XraySynthLib.geometry import View
from XraySynthLib.geometry.transforms import rotation, transform_points, translation

MM_PER_CM = 10.0
SHAPE = (256, 256, 256)
SPACING_MM = 1.5
SUPERSAMPLING = 4
"""Samples along each axis of a voxel that a surface may cut."""


@dataclass(frozen=True, eq=False)
class Body:
    """An ellipsoid, or a Gaussian whose standard deviations are its semi-axes.

    Attributes:
        center_ras_mm: (3,) RAS, mm.
        semi_axes_mm: (3,) along R, A, S before the rotation.
        density_g_per_cm3: What it adds to the density inside it; for a Gaussian, at its centre.
        roll_deg: Right-handed rotation about the A axis.
        gaussian: True for a Gaussian.
    """

    center_ras_mm: tuple[float, float, float]
    semi_axes_mm: tuple[float, float, float]
    density_g_per_cm3: float = 1.0
    roll_deg: float = 0.0
    gaussian: bool = False

    @property
    def unit_from_ras(self) -> NDArray:
        """(4, 4) to the frame in which the ellipsoid is the unit ball."""
        ras_from_unit = translation(self.center_ras_mm) @ rotation("y", self.roll_deg)
        return np.linalg.inv(ras_from_unit @ np.diag([*self.semi_axes_mm, 1.0]))


def _soft(x: float, y: float, z: float, a: float, b: float, c: float, added: float) -> Body:
    return Body((x, y, z), (a, b, c), added)


def abdomen() -> tuple[Body, ...]:
    """Return the sharp phantom; it fits into `SHAPE` voxels of `SPACING_MM` with air around it."""
    return (
        _soft(0, 0, 0, 165, 105, 180, 1.00),  # body
        _soft(0, 20, 20, 120, 70, 120, -0.07),  # visceral fat
        _soft(75, 25, 95, 62, 50, 48, 0.07),  # liver
        _soft(0, 35, -90, 40, 30, 28, 0.03),  # bladder
        _soft(-35, 45, 40, 30, 22, 20, -0.92),  # bowel gas
        _soft(0, -15, -95, 14, 14, 20, -0.92),  # rectal gas
        _soft(0, -55, 70, 24, 20, 95, 0.45),  # lumbar spine
        _soft(0, -60, -60, 45, 22, 45, 0.40),  # sacrum
        Body((75, -25, -55), (50, 14, 60), 0.55, roll_deg=25),  # right iliac wing
        Body((-75, -25, -55), (50, 14, 60), 0.55, roll_deg=-25),  # left iliac wing
        _soft(95, 0, -115, 24, 24, 24, 0.60),  # right femoral head
        _soft(-95, 0, -115, 24, 24, 24, 0.60),  # left femoral head
    )


def smooth_abdomen() -> tuple[Body, ...]:
    """Return the phantom of Gaussians, each four voxels wide or more and zero at the border.

    Only what adds to the density: a Gaussian of gas would reach out of the body, below zero.
    """
    return tuple(
        Body(
            body.center_ras_mm,
            tuple(max(axis / 5, 4 * SPACING_MM) for axis in body.semi_axes_mm),
            body.density_g_per_cm3,
            body.roll_deg,
            gaussian=True,
        )
        for body in abdomen()
        if body.density_g_per_cm3 > 0
    )


def centred_grid(shape: Sequence[int] = SHAPE, spacing_mm: ArrayLike = SPACING_MM) -> NDArray:
    """Return (4, 4) `ras_from_ijk` of a grid (K, J, I) about the RAS origin.

    As in most CT files, i runs to the patient's left and j to the back; spacing along i, j, k.
    """
    middle = (np.array(shape[::-1]) - 1) / 2
    scale = np.broadcast_to(np.asarray(spacing_mm, dtype=float), 3) * [-1, -1, 1]
    return np.diag([*scale, 1.0]) @ translation(-middle)


def voxelised(
    bodies: Sequence[Body],
    shape: Sequence[int] = SHAPE,
    spacing_mm: ArrayLike = SPACING_MM,
    ras_from_ijk: NDArray | None = None,
) -> tuple[NDArray, NDArray]:
    """Sample the bodies: an ellipsoid by the part of each voxel in it, a Gaussian at the centres.

    Args:
        bodies: The phantom.
        shape: Sizes (K, J, I).
        spacing_mm: Of the centred grid, along i, j, k; not used where `ras_from_ijk` is given.
        ras_from_ijk: (4, 4) another grid.

    Returns:
        (K, J, I) float32 density, g/cm3, and (4, 4) `ras_from_ijk`.
    """
    if ras_from_ijk is None:
        ras_from_ijk = centred_grid(shape, spacing_mm)
    density = np.zeros(shape)
    for body in bodies:
        unit_from_ijk = body.unit_from_ras @ ras_from_ijk
        ks, js, is_ = _bounds(body, unit_from_ijk, shape)
        for k in ks:
            part = _in_slice(body, unit_from_ijk, k, js[:, None], is_[None])  # (J', I')
            density[k, js[0] : js[-1] + 1, is_[0] : is_[-1] + 1] += body.density_g_per_cm3 * part
    return density.astype(np.float32), ras_from_ijk


def _bounds(body: Body, unit_from_ijk: NDArray, shape: Sequence[int]) -> list[NDArray]:
    """Voxel indices along k, j, i outside which the body is nothing; at least one each."""
    ijk_from_unit = np.linalg.inv(unit_from_ijk)
    radius = 8 if body.gaussian else 1
    half = radius * np.linalg.norm(ijk_from_unit[:3, :3], axis=1) + 1
    low = np.floor(ijk_from_unit[:3, 3] - half)[::-1]
    high = np.ceil(ijk_from_unit[:3, 3] + half)[::-1]
    last = np.array(shape) - 1
    low, high = np.clip(low, 0, last), np.clip(high, 0, last)
    return [np.arange(int(a), int(b) + 1) for a, b in zip(low, high, strict=True)]


def _in_slice(body: Body, unit_from_ijk: NDArray, k: int, j: NDArray, i: NDArray) -> NDArray:
    """Coverage by an ellipsoid, or value of a Gaussian, at voxels `j` (J, 1), `i` (1, I)."""
    axes, offset = unit_from_ijk[:3, :3], unit_from_ijk[:3, 3] + unit_from_ijk[:3, 2] * k
    squared = sum((axes[a, 0] * i + axes[a, 1] * j + offset[a]) ** 2 for a in range(3))
    if body.gaussian:
        return np.exp(-squared / 2)
    radius = np.sqrt(squared)
    coverage = (radius < 1).astype(float)
    reach = np.linalg.norm(axes, axis=0).sum() / 2  # how far a voxel can reach in this frame
    rows, columns = np.nonzero(np.abs(radius - 1) <= reach)
    ij = np.column_stack([i[0, columns], j[rows, 0]])
    centers = ij @ axes[:, :2].T + offset  # (N, 3)
    steps = (np.arange(SUPERSAMPLING) + 0.5) / SUPERSAMPLING - 0.5
    inside = np.zeros(len(centers))
    for step in np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3):
        x, y, z = (centers + axes @ step).T
        inside += x * x + y * y + z * z < 1
    coverage[rows, columns] = inside / SUPERSAMPLING**3
    return coverage


def line_integrals(bodies: Sequence[Body], view: View) -> NDArray:
    """Integrate the density exactly along the ray of every pixel's centre.

    The whole phantom must lie between the source and the detector.

    Returns:
        (rows, columns) float64 area density, g/cm2.
    """
    directions = _rays(view)
    total = np.zeros(len(directions))
    for body in bodies:
        missed_squared, speed = _closest_approach(body, view, directions)
        if body.gaussian:
            length_mm = np.sqrt(2 * np.pi) * np.exp(-missed_squared / 2) / speed
        else:
            length_mm = 2 * np.sqrt(np.maximum(1 - missed_squared, 0)) / speed
        total += body.density_g_per_cm3 * length_mm / MM_PER_CM
    return total.reshape(view.intrinsics.shape_px)


def rim_free(bodies: Sequence[Body], view: View, margin_mm: float = 3.0) -> NDArray:
    """(rows, columns) bool: pixels whose ray grazes no ellipsoid within `margin_mm` or more."""
    directions = _rays(view)
    free = np.ones(len(directions), dtype=bool)
    for body in bodies:
        missed_squared, _ = _closest_approach(body, view, directions)
        free &= np.abs(np.sqrt(missed_squared) - 1) > margin_mm / min(body.semi_axes_mm)
    return free.reshape(view.intrinsics.shape_px)


def _rays(view: View) -> NDArray:
    """(rows * columns, 3) unit vectors, RAS."""
    rows, columns = view.intrinsics.shape_px
    row, column = np.mgrid[:rows, :columns].reshape(2, -1)
    return view.ray(np.column_stack([column, row]))


def _closest_approach(body: Body, view: View, directions: NDArray) -> tuple[NDArray, NDArray]:
    """Squared distance of each ray from the centre in the unit frame, and its units per mm."""
    source = transform_points(body.unit_from_ras, view.source_ras_mm[None])[0]
    velocity = directions @ body.unit_from_ras[:3, :3].T  # (N, 3)
    speed = np.linalg.norm(velocity, axis=1)
    along = (velocity @ source) / speed
    return np.maximum(source @ source - along**2, 0), speed
