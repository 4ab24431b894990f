"""One annotated image with its origin: what every stage from `project` on reads and writes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

import XraySynthLib
from XraySynthLib.data.landmarks import ImageLandmarkSet
from XraySynthLib.data.xray import Xray

PROVENANCE_KINDS = ("real", "simulated", "generated", "predicted")


@dataclass(frozen=True, eq=False)
class Provenance:
    """Where a sample comes from, enough to make it again.

    Attributes:
        kind: "real", "simulated", "generated" or "predicted".
        subject: Name of the person or sampled subject; splits are made by it.
        seed: Integers that seeded this item, for a run (run_seed, i); empty where nothing is drawn.
        config: Every parameter, as JSON types.
        code_version: Version of XraySynth.

    Raises:
        ValueError: If the kind is unknown or the subject has no name.
    """

    kind: str
    subject: str
    seed: tuple[int, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    code_version: str = XraySynthLib.__version__

    def __post_init__(self) -> None:
        if self.kind not in PROVENANCE_KINDS:
            raise ValueError(f"kind must be one of {PROVENANCE_KINDS}, got {self.kind!r}.")
        if not isinstance(self.subject, str) or not self.subject:
            raise ValueError("subject must be a name: splits are made by it.")
        object.__setattr__(self, "seed", tuple(int(number) for number in self.seed))
        object.__setattr__(self, "config", MappingProxyType(dict(self.config)))


@dataclass(frozen=True, eq=False)
class Sample:
    """An X-ray, its landmarks, its masks and where all this comes from.

    Attributes:
        key: Name of the sample in its set; also its files' stem.
        xray: The image.
        landmarks: Points in it.
        masks: Name -> (rows, columns) bool, None where not known; they may overlap, an X-ray looks
            through.
        provenance: Where it comes from.

    Raises:
        ValueError: If a mask's shape is not the image's or the key cannot be a file name.
    """

    key: str
    xray: Xray
    landmarks: ImageLandmarkSet
    masks: Mapping[str, NDArray] | None
    provenance: Provenance

    def __post_init__(self) -> None:
        if not self.key or any(character in self.key for character in "/\\:\0"):
            raise ValueError(f"A sample's key must be usable as a file name, got {self.key!r}.")
        if self.masks is None:
            return
        masks = {}
        for name, mask in self.masks.items():
            if np.shape(mask) != self.xray.values.shape:
                raise ValueError(
                    f"Mask {name!r} has shape {np.shape(mask)}, the image {self.xray.values.shape}."
                )
            checked = np.array(mask, dtype=bool)
            checked.setflags(write=False)
            masks[name] = checked
        object.__setattr__(self, "masks", MappingProxyType(masks))

    @property
    def isocenter_ratio(self) -> float:
        """Source to isocentre / source to detector; NaN where the pose is not recorded."""
        try:
            pose = self.provenance.config["acquisition"]["pose"]
            source_to_isocenter_mm = float(pose["source_to_isocenter_mm"])
        except (KeyError, TypeError):
            return float("nan")
        if self.xray.view is None:
            return float("nan")
        return source_to_isocenter_mm / self.xray.view.intrinsics.source_to_detector_mm
