"""What was predicted beside what is true, as arrays: images x landmarks."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray


class Plane(Enum):
    """Where a distance in an image is measured."""

    PIXELS = "px"
    DETECTOR = "detector"
    """mm on the detector: px x pixel spacing. What DeepFluoro's and SyntheX's figures count."""
    ISOCENTER = "isocenter"
    """mm in the plane through the isocentre, parallel to the detector: detector mm x the source's
    distance to the isocentre / its distance to the detector."""

    @property
    def unit(self) -> str:
        """What a table's header says."""
        return {
            "px": "px",
            "detector": "mm, detector plane",
            "isocenter": "mm, isocentre plane",
        }[self.value]


@dataclass(frozen=True, eq=False)
class Comparison:
    """N images with K landmarks each.

    Attributes:
        keys: (N,) the images' names.
        subjects: (N,) whom they show.
        landmark_names: The K names.
        truth_px: (N, K, 2) column and row, px; NaN where a landmark has no place.
        visible: (N, K) bool, whether the landmark is in the image.
        known: (N, K) bool, whether the truth says if it is; what is not known counts nowhere.
        predicted_px: (N, K, 2) column and row, px; NaN where nothing was predicted.
        detected: (N, K) bool, whether the detector takes it to be in the image.
        confidence: (N, K) 0..1.
        shape_px: (N, 2) rows, columns.
        spacing_mm: (N, 2) column, row, on the detector; NaN where not known.
        isocenter_ratio: (N,) source to isocentre / source to detector; NaN where not known.
        directions_ras: (N, 3) unit vectors from the source to the detector, RAS; NaN where not
            known.

    Raises:
        ValueError: If shapes do not fit, or something visible or detected has no place.
    """

    keys: NDArray
    subjects: NDArray
    landmark_names: tuple[str, ...]
    truth_px: NDArray
    visible: NDArray
    known: NDArray
    predicted_px: NDArray
    detected: NDArray
    confidence: NDArray
    shape_px: NDArray
    spacing_mm: NDArray
    isocenter_ratio: NDArray
    directions_ras: NDArray

    def __post_init__(self) -> None:
        n, k = len(self.keys), len(self.landmark_names)
        shapes = {
            "subjects": (n,),
            "truth_px": (n, k, 2),
            "visible": (n, k),
            "known": (n, k),
            "predicted_px": (n, k, 2),
            "detected": (n, k),
            "confidence": (n, k),
            "shape_px": (n, 2),
            "spacing_mm": (n, 2),
            "isocenter_ratio": (n,),
            "directions_ras": (n, 3),
        }
        for name, shape in shapes.items():
            if np.shape(getattr(self, name)) != shape:
                found = np.shape(getattr(self, name))
                raise ValueError(f"{name} must have shape {shape}, got {found}.")
        if np.isnan(self.truth_px[self.visible]).any() or (self.visible & ~self.known).any():
            raise ValueError("A visible landmark must be known and have a place.")
        if np.isnan(self.predicted_px[self.detected]).any():
            raise ValueError("A detected landmark must have a place.")

    def take(self, rows: NDArray) -> "Comparison":
        """Some of the images, in any order and number."""
        taken = {
            field.name: getattr(self, field.name)[rows]
            for field in fields(self)
            if field.name != "landmark_names"
        }
        # Rows of what was checked need no second look; the bootstrap takes thousands of times.
        new = object.__new__(Comparison)
        new.__dict__.update(taken, landmark_names=self.landmark_names)
        return new

    def only(self, landmark_names: Sequence[str]) -> "Comparison":
        """Some of the landmarks."""
        columns = [self.landmark_names.index(name) for name in landmark_names]
        tables = ("truth_px", "visible", "known", "predicted_px", "detected", "confidence")
        taken = {name: getattr(self, name)[:, columns] for name in tables}
        return replace(self, landmark_names=tuple(landmark_names), **taken)

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The planes in which something can be measured."""
        return tuple(plane for plane in Plane if np.isfinite(self.scale(plane)).any())

    def scale(self, plane: Plane) -> NDArray:
        """(N, 2) what a pixel's column and row measure in a plane; NaN where not known."""
        if plane is Plane.PIXELS:
            return np.ones((len(self.keys), 2))
        if plane is Plane.DETECTOR:
            return self.spacing_mm
        return self.spacing_mm * self.isocenter_ratio[:, None]

    def errors(self, plane: Plane) -> NDArray:
        """(N, K) distance of prediction and truth where the landmark is in the image, else NaN.

        Also of landmarks that the detector does not take to be in the image; NaN where it
        predicted no place or the plane is not known.
        """
        offsets = (self.predicted_px - self.truth_px) * self.scale(plane)[:, None]
        return np.where(self.visible, np.hypot(offsets[..., 0], offsets[..., 1]), np.nan)

    def measurable(self, plane: Plane) -> NDArray:
        """(N, K) bool, landmarks in the image whose error in a plane could be known."""
        return self.visible & np.isfinite(self.scale(plane)).all(axis=1)[:, None]
