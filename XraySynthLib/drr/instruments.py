"""K-wires and screws: capped cylinders of metal, projected by their analytic chords."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.drr.attenuation import DENSITY_G_PER_CM3
from XraySynthLib.geometry import View
from XraySynthLib.geometry.transforms import checked_vector

SUPERSAMPLING = 3
"""Rays along each side of a pixel: a K-wire is only a few pixels wide."""


@dataclass(frozen=True, eq=False)
class CappedCylinder:
    """A solid metal cylinder with flat ends.

    Attributes:
        start_ras_mm: (3,) middle of one end, RAS, mm.
        end_ras_mm: (3,) middle of the other.
        radius_mm: Its radius.
        material: "steel", "titanium" or "cobalt-chromium".

    Raises:
        ValueError: If it has no length or no radius, or the metal is unknown.
    """

    start_ras_mm: NDArray
    end_ras_mm: NDArray
    radius_mm: float
    material: str = "steel"

    def __post_init__(self) -> None:
        for name in ("start_ras_mm", "end_ras_mm"):
            object.__setattr__(self, name, checked_vector(getattr(self, name), name, 3))
        length_mm = np.linalg.norm(self.end_ras_mm - self.start_ras_mm)
        if not (0 < self.radius_mm < np.inf and length_mm > 0):
            raise ValueError("A cylinder needs a length and a radius.")
        if self.material not in DENSITY_G_PER_CM3:
            raise ValueError(
                f"A cylinder is made of {tuple(DENSITY_G_PER_CM3)}, not {self.material!r}."
            )


def k_wire(
    tip_ras_mm: NDArray, tail_ras_mm: NDArray, diameter_mm: float = 2.0
) -> list[CappedCylinder]:
    """A steel Kirschner wire."""
    return [CappedCylinder(tip_ras_mm, tail_ras_mm, diameter_mm / 2, "steel")]


def screw(
    tip_ras_mm: NDArray,
    head_ras_mm: NDArray,
    diameter_mm: float = 6.5,
    head_diameter_mm: float = 8.0,
    head_length_mm: float = 4.5,
) -> list[CappedCylinder]:
    """A titanium screw: a shaft from the tip to the head's underside, and the head beyond it."""
    tip, head = np.asarray(tip_ras_mm, float), np.asarray(head_ras_mm, float)
    shaft = CappedCylinder(tip, head, diameter_mm / 2, "titanium")
    beyond = head + head_length_mm * (head - tip) / np.linalg.norm(head - tip)
    return [shaft, CappedCylinder(head, beyond, head_diameter_mm / 2, "titanium")]


def with_instruments(
    area_density: NDArray,
    names: tuple[str, ...],
    instruments: Sequence[CappedCylinder],
    view: View,
) -> tuple[NDArray, tuple[str, ...]]:
    """Add instruments to projected materials. Tissue that they displace is left in.

    Args:
        area_density: (M, rows, columns), g/cm2.
        names: (M,) the materials.
        instruments: The cylinders.
        view: The view.

    Returns:
        Area density and names, with a material for each metal that is not there yet.
    """
    all_names = tuple(dict.fromkeys([*names, *(part.material for part in instruments)]))
    result = np.zeros((len(all_names), *area_density.shape[1:]), np.float32)
    result[: len(names)] = area_density
    for part in instruments:
        chord_cm = chord_length_mm(part, view) / 10
        density = DENSITY_G_PER_CM3[part.material]
        result[all_names.index(part.material)] += density * chord_cm
    return result, all_names


def chord_length_mm(cylinder: CappedCylinder, view: View) -> NDArray:
    """Length of each pixel's ray within a cylinder, up to the detector, averaged over the pixel.

    Returns:
        (rows, columns) float32, mm.
    """
    rows, columns = view.intrinsics.shape_px
    result = np.zeros((rows, columns), np.float32)
    box = _image_box(cylinder, view)
    if box is None:
        return result
    (first_column, stop_column), (first_row, stop_row) = box
    fine = (np.arange(SUPERSAMPLING) + 0.5) / SUPERSAMPLING - 0.5
    u = (np.arange(first_column, stop_column)[:, None] + fine).ravel()
    v = (np.arange(first_row, stop_row)[:, None] + fine).ravel()
    points_px = np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2)
    rays = view.detector_points_ras_mm(points_px) - view.source_ras_mm
    chords = _chords(cylinder, view.source_ras_mm, rays)
    blocks = chords.reshape(stop_row - first_row, SUPERSAMPLING, -1, SUPERSAMPLING)
    result[first_row:stop_row, first_column:stop_column] = blocks.mean(axis=(1, 3))
    return result


def _chords(cylinder: CappedCylinder, origin: NDArray, rays: NDArray) -> NDArray:
    """(N,) chords of rays from `origin` to origin + rays (N, 3), from the quadratic formula."""
    reach = np.linalg.norm(rays, axis=1)
    rays = rays / reach[:, None]
    axis = cylinder.end_ras_mm - cylinder.start_ras_mm
    length = np.linalg.norm(axis)
    axis = axis / length
    offset = origin - cylinder.start_ras_mm
    along_ray, along_offset = rays @ axis, offset @ axis
    across_ray = rays - along_ray[:, None] * axis
    across_offset = offset - along_offset * axis
    a = (across_ray**2).sum(axis=1)
    b = across_ray @ across_offset
    c = across_offset @ across_offset - cylinder.radius_mm**2
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(np.maximum(b**2 - a * c, 0))
        parallel = a < 1e-12
        side_in = np.where(parallel, -np.inf if c < 0 else np.inf, (-b - root) / a)
        side_out = np.where(parallel, np.inf if c < 0 else -np.inf, (-b + root) / a)
        ends = np.stack([-along_offset / along_ray, (length - along_offset) / along_ray])
    within = (along_offset >= 0) & (along_offset <= length)
    flat = np.abs(along_ray) < 1e-12
    cap_in = np.where(flat, -np.inf if within else np.inf, ends.min(axis=0))
    cap_out = np.where(flat, np.inf if within else -np.inf, ends.max(axis=0))
    enter = np.maximum(np.maximum(side_in, cap_in), 0)
    leave = np.minimum(np.minimum(side_out, cap_out), reach)
    return np.maximum(leave - enter, 0)


def _image_box(
    cylinder: CappedCylinder, view: View
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Columns and rows that may see the cylinder; None if it is not in the image."""
    axis = cylinder.end_ras_mm - cylinder.start_ras_mm
    axis = axis / np.linalg.norm(axis)
    side = np.cross(axis, np.eye(3)[np.abs(axis).argmin()])
    side /= np.linalg.norm(side)
    up = np.cross(axis, side)
    # The square prism around the cylinder contains it, and so does its image.
    corners = [
        end + cylinder.radius_mm * (s * side + u * up)
        for end in (cylinder.start_ras_mm, cylinder.end_ras_mm)
        for s in (-1, 1)
        for u in (-1, 1)
    ]
    corners_px = view.project(np.array(corners))
    rows, columns = view.intrinsics.shape_px
    if np.isnan(corners_px).any():  # it reaches behind the source or the detector
        return (0, columns), (0, rows)
    low = np.floor(corners_px.min(axis=0)).astype(int) - 1
    high = np.ceil(corners_px.max(axis=0)).astype(int) + 2
    low, high = np.maximum(low, 0), np.minimum(high, [columns, rows])
    if (low >= high).any():
        return None
    return (int(low[0]), int(high[0])), (int(low[1]), int(high[1]))
