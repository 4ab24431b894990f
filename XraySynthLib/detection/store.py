"""Training images in memory, shrunk to the network's size once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data import ImageLandmarkSet, Quantity, Sample, Xray
from XraySynthLib.data.sets import people_behind
from XraySynthLib.detection.inputs import rising, shrunk


@dataclass(frozen=True, eq=False)
class ImageStore:
    """Images and their landmarks.

    Attributes:
        names: The landmarks'.
        images: (rows, columns) float16 each, longer side alike, dense is large.
        quantities: LINE_INTEGRAL or DISPLAY, of each image.
        points_px: (N, K, 2) column and row in the shrunk images; NaN where there is none.
        visible: (N, K) bool.
        spacing_mm: (N,) of the shrunk images, in the isocentre's plane where that is known (see
            `isocenter_spacing_mm`), else NaN.
        subjects: Name of each image's subject.
        people: Everybody behind the images.
    """

    names: tuple[str, ...]
    images: list[NDArray] = field(repr=False)
    quantities: list[Quantity]
    points_px: NDArray
    visible: NDArray
    spacing_mm: NDArray
    subjects: list[str]
    people: frozenset[str]

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> tuple[Xray, ImageLandmarkSet]:
        """One image and its landmarks."""
        xray = Xray(self.images[index].astype(np.float32), self.quantities[index])
        visible = self.visible[index]
        landmarks = ImageLandmarkSet(
            self.names, self.points_px[index], visible, visible.astype(float)
        )
        return xray, landmarks


def store_images(
    samples: Iterable[Sample], names: Sequence[str] | None, side_px: int
) -> ImageStore:
    """Read samples, shrink and keep them.

    Args:
        samples: The samples, read one by one.
        names: Of the landmarks wanted; None for those of the first sample.
        side_px: Longer side of the kept images.

    Raises:
        ValueError: If there are no samples, or one lacks a landmark.
    """
    kept = ImageStore(
        tuple(names or ()), [], [], np.empty(0), np.empty(0), np.empty(0), [], frozenset()
    )
    points, visible, spacings = [], [], []
    wanted = tuple(names) if names is not None else None
    people: set[str] = set()
    for sample in samples:
        wanted = wanted if wanted is not None else sample.landmarks.names
        order = _order(sample.landmarks.names, wanted)
        values = rising(sample.xray)
        small = shrunk(values, side_px)
        scale = np.array(small.shape[::-1]) / np.array(values.shape[::-1])
        shows_integrals = sample.xray.quantity is not Quantity.DISPLAY
        kept.images.append(small.astype(np.float16))
        kept.quantities.append(Quantity.LINE_INTEGRAL if shows_integrals else Quantity.DISPLAY)
        points.append((sample.landmarks.points_px[order] + 0.5) * scale - 0.5)
        visible.append(sample.landmarks.visible[order])
        spacings.append(isocenter_spacing_mm(sample) / scale[0])
        kept.subjects.append(sample.provenance.subject)
        people |= people_behind(sample.provenance)
    if not wanted or not points:
        raise ValueError("There are no images with landmarks to learn from.")
    return ImageStore(
        wanted,
        kept.images,
        kept.quantities,
        np.stack(points),
        np.stack(visible),
        np.array(spacings),
        kept.subjects,
        frozenset(people),
    )


def isocenter_spacing_mm(sample: Sample) -> float:
    """Pixel size in the plane through the isocentre, mm; NaN where the pose is not recorded."""
    if sample.xray.view is None:
        return float("nan")
    return float(sample.xray.view.intrinsics.pixel_spacing_mm[0]) * sample.isocenter_ratio


def _order(names: tuple[str, ...], wanted: tuple[str, ...]) -> list[int]:
    missing = [name for name in wanted if name not in names]
    if missing:
        raise ValueError(f"A sample lacks the landmark {missing[0]!r}; it has {', '.join(names)}.")
    return [names.index(name) for name in wanted]
