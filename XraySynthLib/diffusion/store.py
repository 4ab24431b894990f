"""Training images in memory, square and on the network's scale, and the pelves that they show."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data import Quantity, Sample
from XraySynthLib.data.sets import people_behind
from XraySynthLib.diffusion.emphasis import emphasised, plain
from XraySynthLib.diffusion.views import squared
from XraySynthLib.drr import to_line_integral
from XraySynthLib.geometry import View
from XraySynthLib.geometry.triangulation import triangulate

WINDOWS: Mapping[Quantity, tuple[float, float]] = {
    Quantity.LINE_INTEGRAL: (2.0, 8.0),
    Quantity.DISPLAY: (0.0, 1.0),
}
"""Values that become -1 and 1 before detail is raised; the same for all images, none clipped."""
HIP_CENTERS = ("FH-l", "FH-r")


@dataclass(eq=False)
class XrayStore:
    """Images of known views.

    Attributes:
        names: The landmarks'.
        quantity: LINE_INTEGRAL or DISPLAY, of all images.
        images: (N, side, side) float16, see `to_network`.
        views: Of each image.
        points_px: (N, K, 2) column and row; NaN where there is none.
        visible: (N, K) bool.
        kvp: Of each image; None where it is not known.
        subjects: Name of each image's subject.
        people: Everybody behind the images.
    """

    names: tuple[str, ...]
    quantity: Quantity
    images: NDArray = field(repr=False)
    views: list[View] = field(repr=False)
    points_px: NDArray = field(repr=False)
    visible: NDArray = field(repr=False)
    kvp: list[float | None] = field(repr=False)
    subjects: list[str] = field(repr=False)
    people: frozenset[str] = field(repr=False)

    def __len__(self) -> int:
        return len(self.images)


def store_images(samples: Iterable[Sample], names: Sequence[str] | None, side_px: int) -> XrayStore:
    """Read samples, cut them square, shrink and keep them.

    Args:
        samples: The samples, read one by one.
        names: Of the landmarks wanted; None for those of the first sample.
        side_px: Rows and columns of the kept images.

    Raises:
        ValueError: If there are no samples, one has no view or lacks a landmark, or images are of
            two quantities.
    """
    images, views, points, visible, kvp, subjects = [], [], [], [], [], []
    quantities: set[Quantity] = set()
    people: set[str] = set()
    wanted = tuple(names) if names is not None else None
    for sample in samples:
        wanted = wanted if wanted is not None else sample.landmarks.names
        if missing := sorted(set(wanted) - set(sample.landmarks.names)):
            raise ValueError(f"a sample lacks the landmark {missing[0]!r}")
        xray = sample.xray
        if xray.quantity is Quantity.TRANSMISSION:
            xray = to_line_integral(xray)
        quantities.add(xray.quantity)
        if len(quantities) > 1:
            raise ValueError("its images are of two quantities, line integrals and display values")
        small, marks, view = squared(xray, sample.landmarks, side_px)
        images.append(to_network(small.values, WINDOWS[xray.quantity]).astype(np.float16))
        views.append(view)
        order = [marks.names.index(name) for name in wanted]
        points.append(marks.points_px[order])
        visible.append(marks.visible[order])
        kvp.append(_kvp(sample))
        subjects.append(sample.provenance.subject)
        people |= people_behind(sample.provenance)
    if not wanted or not images:
        raise ValueError("there are no images with landmarks to learn from")
    return XrayStore(
        wanted,
        quantities.pop(),
        np.stack(images),
        views,
        np.stack(points),
        np.stack(visible),
        kvp,
        subjects,
        frozenset(people),
    )


def _kvp(sample: Sample) -> float | None:
    try:
        return float(sample.provenance.config["acquisition"]["exposure"]["kvp"])
    except (KeyError, TypeError):
        return None


def to_network(values: NDArray, window: tuple[float, float]) -> NDArray:
    """Images (..., rows, columns) as networks see them: on their scale, detail raised."""
    low, high = window
    return emphasised((values - np.float32(low)) * np.float32(2 / (high - low)) - np.float32(1))


def from_network(values: NDArray, window: tuple[float, float]) -> NDArray:
    """The inverse of `to_network`."""
    low, high = window
    return (plain(values) + np.float32(1)) * np.float32((high - low) / 2) + np.float32(low)


@dataclass(frozen=True, eq=False)
class Pelvis:
    """Where somebody's pelvis is.

    Attributes:
        center_ras_mm: (3,) middle between the hip centres: the pelvis frame's origin.
        points_mm: (K, 3) landmarks in the pelvis frame; NaN where no two images show them.
    """

    center_ras_mm: NDArray
    points_mm: NDArray


def pelves_of(stores: Sequence[XrayStore]) -> dict[str, Pelvis]:
    """Find everybody's landmarks from their images: a set of images holds no 3D points.

    Raises:
        ValueError: If the hip centres are not among the landmarks, or somebody's cannot be found.
    """
    names = stores[0].names
    if not set(HIP_CENTERS) <= set(names):
        raise ValueError(f"there are no landmarks {' and '.join(HIP_CENTERS)}")
    hips = [names.index(name) for name in HIP_CENTERS]
    places: dict[str, list[tuple[XrayStore, int]]] = {}
    for store in stores:
        for index, subject in enumerate(store.subjects):
            places.setdefault(subject, []).append((store, index))
    pelves = {}
    for subject, images in places.items():
        points = np.full((len(names), 3), np.nan)
        if len(images) > 1:
            views = [store.views[index] for store, index in images]
            seen = np.stack([store.points_px[index] for store, index in images])
            points = triangulate(views, seen)
        center = points[hips].mean(axis=0)
        if np.isnan(center).any():
            raise ValueError(
                f"{subject}'s hip centres are not in two of its images, whose views differ"
            )
        pelves[subject] = Pelvis(center, points - center)
    return pelves
