"""The one projection contract, (materials, view) -> area density, whatever the engine."""

from collections.abc import Iterator
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.drr.materials import Materials, bounding_box
from XraySynthLib.errors import EngineError
from XraySynthLib.geometry import View
from XraySynthLib.geometry.transforms import transform_points

ENGINES = ("numba", "torch", "deepdrr")
MASK_MIN_VOXELS = 0.5
"""A label's mask is where its rays run through at least this much of a voxel."""


class Engine(Protocol):
    """Materials made ready for projection."""

    def project(self, view: View) -> NDArray:
        """(M, rows, columns) float32 area density, g/cm2."""
        ...


_prepared: WeakKeyDictionary[Materials, dict[tuple[str, str], Engine]] = WeakKeyDictionary()


def prepare(materials: Materials, engine: str = "numba", device: str = "auto") -> Engine:
    """Make materials ready for an engine; asked for again, the same object comes back.

    Raises:
        ValueError: If the engine is unknown.
        EngineError: If it cannot run here.
    """
    if engine not in ENGINES:
        raise ValueError(f"Unknown engine {engine!r}; the engines are {', '.join(ENGINES)}.")
    engines = _prepared.setdefault(materials, {})
    if (engine, device) not in engines:
        engines[engine, device] = _new_engine(materials, engine, device)
    return engines[engine, device]


def _new_engine(materials: Materials, engine: str, device: str) -> Engine:
    try:
        if engine == "numba":
            from XraySynthLib.drr.engines.numba_joseph import NumbaJoseph

            return NumbaJoseph(materials)
        if engine == "torch":
            from XraySynthLib.drr.engines.torch_joseph import TorchJoseph

            return TorchJoseph(materials, device)
        from XraySynthLib.drr.engines.deepdrr_process import DeepDrrProcess

        return DeepDrrProcess(materials)
    except ModuleNotFoundError as error:
        raise EngineError(
            f"The {engine} engine needs the package {error.name!r}, which is not installed."
        ) from error


def project(
    materials: Materials, view: View, engine: str = "numba", device: str = "auto"
) -> NDArray:
    """Integrate each material along the rays of a view.

    Args:
        materials: The densities; all space outside their grid is air.
        view: The view.
        engine: "numba" (CPU), "torch" (differentiable) or "deepdrr" (NVIDIA).
        device: Where the torch engine runs: "auto", "cpu", "cuda", "cuda:1", "mps".

    Returns:
        (M, rows, columns) float32 area density, g/cm2.

    Raises:
        ValueError: If the source stands inside the patient, or no ray meets the volume.
        EngineError: If the engine cannot run here.
    """
    area_density = prepare(_before_detector(materials, view), engine, device).project(view)
    if not area_density.any():
        middle = (np.array(materials.density_g_per_cm3.shape[:0:-1]) - 1) / 2
        center_ras_mm = transform_points(materials.ras_from_ijk, middle[None])
        column, row = view.project(center_ras_mm)[0]
        place = (
            "not in front of the source" if np.isnan(column) else f"at px {column:.0f}, {row:.0f}"
        )
        raise ValueError(
            f"The view does not see the volume: its middle, RAS {np.round(center_ras_mm[0])} mm, "
            f"is {place} of {view.intrinsics.shape_px} rows and columns; check the isocentre."
        )
    return area_density


def _before_detector(materials: Materials, view: View) -> Materials:
    """Check the source's place and cut off what lies behind the detector."""
    shape = np.array(materials.density_g_per_cm3.shape[:0:-1])
    source_ijk = transform_points(np.linalg.inv(materials.ras_from_ijk), view.source_ras_mm[None])[
        0
    ]
    if ((source_ijk > -0.5) & (source_ijk < shape - 0.5)).all():
        i, j, k = np.round(source_ijk).astype(int)
        if materials.density_g_per_cm3[:, k, j, i].any():
            raise ValueError(
                f"The X-ray source, RAS {np.round(view.source_ras_mm)} mm, stands inside the "
                "patient; check the isocentre and the source's distance."
            )
    depth_from_ijk = (view.camera_from_ras @ materials.ras_from_ijk)[2]
    corners = np.stack(np.meshgrid(*[(-1, n) for n in shape]), axis=-1).reshape(-1, 3)
    detector_mm = view.intrinsics.source_to_detector_mm
    if (corners @ depth_from_ijk[:3] + depth_from_ijk[3] <= detector_mm).all():
        return materials
    k, j, i = np.ogrid[: shape[2], : shape[1], : shape[0]]
    depth = depth_from_ijk[0] * i + depth_from_ijk[1] * j + depth_from_ijk[2] * k
    before = depth + depth_from_ijk[3] <= detector_mm
    return Materials(materials.names, materials.density_g_per_cm3 * before, materials.ras_from_ijk)


def _shadow(part: Materials, view: View) -> tuple[slice, slice]:
    """Rows and columns that a box can fall on; all where part of it is not before the detector."""
    n_voxels = np.array(part.density_g_per_cm3.shape[:0:-1])
    corners = np.stack(np.meshgrid(*[(-1, n) for n in n_voxels]), axis=-1).reshape(-1, 3)
    points_px = view.project(transform_points(part.ras_from_ijk, corners))
    rows, columns = view.intrinsics.shape_px
    if np.isnan(points_px).any():
        return slice(0, rows), slice(0, columns)
    low = np.maximum(np.floor(points_px.min(axis=0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(points_px.max(axis=0)).astype(int) + 2, [columns, rows])
    return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))


class LabelProjector:
    """The labels of a label map made ready for projection, view after view.

    Args:
        labels: (K, J, I) integers; 0 is background.
        ras_from_ijk: (4, 4) of the label map.
        density_g_per_cm3: (K, J, I); where given, a label's area density is projected, else the
            length of each ray within it.
        values: The labels wanted; None means all but 0. Those that are not there are left out.
    """

    def __init__(
        self,
        labels: NDArray,
        ras_from_ijk: NDArray,
        density_g_per_cm3: NDArray | None = None,
        values: tuple[int, ...] | None = None,
    ) -> None:
        self._parts: dict[int, Materials] = {}
        self._threshold_mm = MASK_MIN_VOXELS * np.linalg.norm(ras_from_ijk[:3, :3], axis=0).min()
        for value in np.unique(labels) if values is None else values:
            inside = labels == value
            if value == 0 or not inside.any():
                continue
            box, ras_from_box = bounding_box(inside, ras_from_ijk)
            weight = 10.0 if density_g_per_cm3 is None else density_g_per_cm3[box]  # cm -> mm
            density = (inside[box] * weight).astype(np.float32)[None]
            self._parts[int(value)] = Materials((f"label {value}",), density, ras_from_box)

    def project(self, view: View) -> Iterator[tuple[int, NDArray]]:
        """Project each label.

        Yields:
            A label and its (rows, columns) float32 image: path length, mm, or area density,
            g/cm2; all zero where the view does not see the label.
        """
        for value, part in self._parts.items():
            image = np.zeros(view.intrinsics.shape_px, np.float32)
            rows, columns = _shadow(part, view)
            if rows.stop > rows.start and columns.stop > columns.start:
                seen = view.cropped(rows, columns)
                image[rows, columns] = prepare(_before_detector(part, view)).project(seen)[0]
            yield value, image

    def masks(self, view: View) -> dict[int, NDArray]:
        """Masks of the labels, by path length; they overlap, an X-ray looks through.

        Returns:
            Label -> (rows, columns) bool.
        """
        return {value: length > self._threshold_mm for value, length in self.project(view)}
