"""Joseph's projector for CPUs, factored so that almost every voxel is read once and in order.

Joseph (1982) walks each ray along the axis in which it advances fastest, its main axis, and
interpolates bilinearly in every slice it crosses. A ray from the source is known by its two slopes
against the main axis, and on a regular grid of slopes every slice is only magnified and shifted:
rows and columns separate, rows are contiguous, and the sum over slices needs no scattered reads
(the factorisation of Lacroute and Levoy 1994 for perspective, here with Joseph's weights). So

1. the detector is cut where the rays' main axis changes (usually nowhere: one piece);
2. for each piece, `sum_slices` makes Joseph's sums on a slope grid as fine as the detector's
   pixels, but never finer than `VOXEL_FRACTION` of a voxel: beyond that the sums are smooth;
3. `look_up` interpolates the grid at the pixels by cubic convolution. Where the detector is
   parallel to the slices the two grids coincide and nothing is interpolated.

Air is never read: the volume is cropped to what is not air, and every row knows its span.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.drr.engines.joseph_kernels import find_spans, look_up, sum_slices
from XraySynthLib.drr.materials import Materials
from XraySynthLib.geometry import View

VOXEL_FRACTION = 0.25
BAND_ROWS = 64
BANDS_TOGETHER = 4
"""Their number is a multiple of it, so that two or four threads end together."""
MARGIN = 3
"""Grid rows and columns beyond the outermost pixel, for the cubic kernel."""
Map = Callable[..., Iterable[None]]
"""`map`, here or in threads."""
LAYOUTS = {0: (0, 2, 1), 1: (1, 2, 0), 2: (2, 1, 0)}
"""Main axis -> (main, A, B), each 0 for i, 1 for j, 2 for k; B is contiguous in memory."""


class NumbaJoseph:
    """Materials made ready for projection by the compiled kernels.

    Holds arrays of its own and not the materials, so that these, and this with them, are freed.
    """

    def __init__(self, materials: Materials, n_threads: int | None = None) -> None:
        self._ras_from_ijk = materials.ras_from_ijk
        self.n_threads = n_threads or _usable_cpus()
        density = materials.density_g_per_cm3
        box = _span_box(_row_spans(density))
        inner = [slice(None), *(slice(start, stop) for start, stop in box)]
        shape = [len(density), *(stop - start + 2 for start, stop in box)]
        self._voxels = np.zeros(shape, np.float32)  # what is not air, in a border of zeros
        self._voxels[:, 1:-1, 1:-1, 1:-1] = density[*inner]
        self._spans = _row_spans(self._voxels)
        self._first_ijk = np.array([start - 1 for start, _ in reversed(box)], dtype=float)

    @cached_property
    def _turned(self) -> tuple[NDArray, NDArray]:
        """A copy with j contiguous, for rays that run along i."""
        n, k, j, i = self._voxels.shape
        turned = np.empty((n, i, k, j), np.float32)
        for slab in range(k):  # one at a time: a slab's transpose stays in the processor's cache
            turned[:, :, slab] = self._voxels[:, slab].transpose(0, 2, 1)
        return turned, _row_spans(turned)

    def project(self, view: View) -> NDArray:
        """Integrate each material along the rays of a view.

        Args:
            view: The view.

        Returns:
            (M, rows, columns) float32 area density, g/cm2.
        """
        image = np.zeros((len(self._voxels), *view.intrinsics.shape_px), np.float32)
        source_ijk, directions = rays_in_voxels(self._ras_from_ijk, view)
        source_ijk -= self._first_ijk
        with ThreadPoolExecutor(self.n_threads) as pool:
            run = pool.map if self.n_threads > 1 else map
            for axis in range(3):
                for sign in (1, -1):
                    piece = _piece_of_detector(directions, axis, sign, image.shape[1:])
                    if len(piece) > 2:
                        self._project_piece(axis, sign, piece, source_ijk, directions, image, run)
        return image

    def _project_piece(
        self,
        axis: int,
        sign: int,
        piece: NDArray,
        source_ijk: NDArray,
        directions: NDArray,
        image: NDArray,
        run: Map,
    ) -> None:
        order = list(LAYOUTS[axis])
        voxels, spans = self._turned if axis == 0 else (self._voxels, self._spans)
        source = source_ijk[order]
        n_voxels = np.array(self._voxels.shape[:0:-1])[order]
        grid, n_u, n_v = slope_grid(piece, directions[:, order], sign, source, n_voxels)
        if n_u == 0 or n_v == 0:
            return
        sums = np.zeros((len(image), n_u, n_v), np.float32)

        lengths_cm = np.linalg.norm(self._ras_from_ijk[:3, :3], axis=0)[order] / 10

        def sum_band(band: tuple[int, int]) -> None:
            sum_slices(voxels, spans, axis != 1, source, sign, grid, band, sums)

        def look_up_band(band: tuple[int, int]) -> None:
            look_up(sums, directions[:, order], lengths_cm, sign, grid, band, image)

        _in_bands(sum_band, n_u, run)
        _in_bands(look_up_band, image.shape[1], run)


def _usable_cpus() -> int:
    """Processors that this process may use; Windows and macOS only know how many there are.

    XRAYSYNTH_THREADS says it otherwise: where several processes share a machine.
    """
    said = os.environ.get("XRAYSYNTH_THREADS", "")
    if said.isdecimal() and int(said) > 0:
        return int(said)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def rays_in_voxels(ras_from_ijk: NDArray, view: View) -> tuple[NDArray, NDArray]:
    """The source and the rays in voxel indices.

    Returns:
        (3,) the source, ijk; and (3, 3) rows: the vector from the source to pixel (0, 0), its
        change from column to column and from row to row, ijk.
    """
    ijk_from_ras = np.linalg.inv(ras_from_ijk)
    source_ijk = ijk_from_ras[:3, :3] @ view.source_ras_mm + ijk_from_ras[:3, 3]
    corners_px = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    points = view.detector_points_ras_mm(corners_px) - view.source_ras_mm
    vectors = points @ ijk_from_ras[:3, :3].T
    return source_ijk, np.stack([vectors[0], vectors[1] - vectors[0], vectors[2] - vectors[0]])


def _piece_of_detector(
    directions: NDArray, axis: int, sign: int, shape_px: Sequence[int]
) -> NDArray:
    """Corners (column, row) of the part of the detector whose rays have this main axis and sign.

    The detector's rectangle is clipped by the four planes in which a neighbouring axis is as
    steep (Sutherland and Hodgman 1974).
    """
    rows, columns = shape_px
    right, bottom = columns - 1.0, rows - 1.0
    corners = np.array([[0.0, 0.0], [right, 0.0], [right, bottom], [0.0, bottom]])
    hair = 1e-9 * np.abs(directions).max()
    for other in {0, 1, 2} - {axis}:
        for side in (1, -1):
            plane = sign * directions[:, axis] - side * directions[:, other]
            heights = corners @ plane[1:] + plane[0]
            # A hair outside is in: pixels on the border belong to both and are looked up once.
            inside = heights >= -hair
            if inside.all():
                continue
            clipped = []
            for i, corner in enumerate(corners):
                if inside[i] != inside[i - 1]:
                    share = heights[i - 1] / (heights[i - 1] - heights[i])
                    clipped.append(corners[i - 1] + (corner - corners[i - 1]) * share)
                if inside[i]:
                    clipped.append(corner)
            corners = np.array(clipped).reshape(-1, 2)
    return corners


def slope_grid(
    piece: NDArray, directions: NDArray, sign: int, source: NDArray, n_voxels: NDArray
) -> tuple[NDArray, int, int]:
    """Lay a regular grid of slopes over a piece of the detector, cut to what the volume covers.

    Args:
        piece: (P, 2) corners of the piece, column and row.
        directions: (3, 3) as in `rays_in_voxels`, columns in the order main, A, B.
        sign: +1 where the rays run up the main axis, else -1.
        source: (3,) the source, main, A, B, voxels.
        n_voxels: (3,) voxels along main, A, B.

    Returns:
        (4,) first slope and step along A, then along B; the numbers of steps along each.
    """
    homogeneous = np.column_stack([np.ones(len(piece)), piece])
    vectors = homogeneous @ directions  # (P, 3)
    depth = sign * vectors[:, 0]
    slopes = vectors[:, 1:] / depth[:, None]  # (P, 2)
    changes = (directions[1:, None, 1:] - sign * slopes[None] * directions[1:, None, :1]) / depth[
        None, :, None
    ]  # (column or row, P, A or B)
    steps = np.abs(changes).max(axis=0).min(axis=0)  # (2,)
    distances = sign * (np.array([0, n_voxels[0] - 1]) - source[0])
    farthest, nearest = distances.max(), max(distances.min(), 1e-3)
    if farthest <= 0:
        return np.zeros(4), 0, 0
    steps = np.maximum(steps, VOXEL_FRACTION / farthest)
    low, high = slopes.min(axis=0), slopes.max(axis=0)
    # Slopes under which the volume's box is seen from the source.
    edges = np.stack([-source[1:], n_voxels[1:] - 1 - source[1:]])  # (2, 2)
    seen = np.concatenate([edges / farthest, edges / nearest])
    start = np.maximum(0, np.floor((seen.min(axis=0) - low) / steps))
    stop = np.minimum(
        np.ceil((high - low) / steps - 1e-6), np.ceil((seen.max(axis=0) - low) / steps)
    )
    if (stop < start).any():
        return np.zeros(4), 0, 0
    first = low + (start - MARGIN) * steps
    n_u, n_v = (stop - start + 1 + 2 * MARGIN).astype(int)
    return np.array([first[0], steps[0], first[1], steps[1]]), int(n_u), int(n_v)


def _row_spans(voxels: NDArray) -> NDArray:
    """(M, ., ., 2) int32: first and one past the last non-zero voxel of every row; 0, 0 if none."""
    spans = np.empty((*voxels.shape[:3], 2), np.int32)
    find_spans(voxels.reshape(-1, voxels.shape[3]), spans.reshape(-1, 2))
    return spans


def _span_box(spans: NDArray) -> list[tuple[int, int]]:
    """Start and stop along K, J and I of all that is not air; one voxel where everything is."""
    first, stop = spans[..., 0], spans[..., 1]
    filled = stop > first  # (M, K, J)
    if not filled.any():
        return [(0, 1)] * 3
    (k,), (j,) = np.nonzero(filled.any(axis=(0, 2))), np.nonzero(filled.any(axis=(0, 1)))
    return [
        (int(k[0]), int(k[-1]) + 1),
        (int(j[0]), int(j[-1]) + 1),
        (int(first[filled].min()), int(stop[filled].max())),
    ]


def _in_bands(work: Callable[[tuple[int, int]], None], n_rows: int, run: Map) -> None:
    """Call `work((first, stop))` for bands of rows.

    Sums are rounded by band, so bands do not depend on the number of threads.
    """
    n_bands = max(1, round(n_rows / BAND_ROWS))
    if n_bands > 1:
        n_bands = -(-n_bands // BANDS_TOGETHER) * BANDS_TOGETHER
    edges = np.linspace(0, n_rows, n_bands + 1).astype(int)
    for _ in run(work, [(int(a), int(b)) for a, b in pairwise(edges) if b > a]):
        pass
