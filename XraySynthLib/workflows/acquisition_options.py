"""Options of the verbs that draw acquisitions: where poses, exposures and detectors are taken from.

One class, so that `export` and `sample` mean the same by them.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from XraySynthLib.data import Quantity
from XraySynthLib.data.sets import layout_module
from XraySynthLib.drr import ACQUISITION_PRESETS, AcquisitionRanges
from XraySynthLib.errors import UsageError
from XraySynthLib.geometry import Intrinsics

Range = tuple[float, float]
RANGE_OPTIONS = (
    "primary_deg",
    "secondary_deg",
    "roll_deg",
    "isocenter_offset_mm",
    "source_to_isocenter_mm",
    "kvp",
    "scatter",
    "photons_per_mm2",
    "blur_mm",
    "collimated_share",
)
DETECTOR_MM = 1536 * 0.194


@dataclass(frozen=True, kw_only=True)
class AcquisitionOptions:
    """Where acquisitions are drawn from.

    Attributes:
        poses: Where poses and acquisitions are drawn from.
        primary_deg: Range of the primary angle instead, +LAO (with standard-views: from each).
        secondary_deg: Range of the secondary angle instead, +CRA.
        roll_deg: Range of the roll about the beam instead.
        isocenter_offset_mm: Range of each coordinate of the isocentre, from the point aimed at.
        aim_offset_mm: The point aimed at, from the landmarks' middle: right, anterior, superior.
        source_to_isocenter_mm: Range of the distance from the source to the isocentre instead.
        kvp: Tube voltages instead, each as likely.
        scatter: Range of the strength of scatter instead.
        photons_per_mm2: Range of the dose instead: photons on a square millimetre of the open beam.
        blur_mm: Range of the detector's blur instead.
        collimated_share: Share of images with a collimated field instead.
        source_to_detector_mm: Distance from the source to the detector.
        pixel_spacing_mm: Pixel size on the detector: column, row; by default that of a detector
            298 mm wide.
    """

    poses: Literal["pelvis-deepfluoro", "standard-views", "uniform"] = "pelvis-deepfluoro"
    primary_deg: Range | None = None
    secondary_deg: Range | None = None
    roll_deg: Range | None = None
    isocenter_offset_mm: Range | None = None
    aim_offset_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    source_to_isocenter_mm: Range | None = None
    kvp: tuple[int, ...] | None = None
    scatter: Range | None = None
    photons_per_mm2: Range | None = None
    blur_mm: Range | None = None
    collimated_share: float | None = None
    source_to_detector_mm: float = 1020.0
    pixel_spacing_mm: tuple[float, float] | None = None

    def ranges(self) -> AcquisitionRanges:
        """The ranges of the poses' preset, with those that were given instead.

        Raises:
            ValueError: If a range runs backward or holds what no acquisition can have.
        """
        changes = {
            name: getattr(self, name) for name in RANGE_OPTIONS if getattr(self, name) is not None
        }
        return replace(ACQUISITION_PRESETS[self.poses], **changes)

    def intrinsics(self, shape_px: tuple[int, int]) -> Intrinsics:
        """A detector of so many rows and columns.

        Raises:
            ValueError: If it has no size.
        """
        spacing_mm = self.pixel_spacing_mm or (DETECTOR_MM / max(shape_px[1], 1),) * 2
        return Intrinsics(
            source_to_detector_mm=self.source_to_detector_mm,
            pixel_spacing_mm=np.array(spacing_mm),
            shape_px=shape_px,
        )


def quantity_of(layout: str, asked: str | None) -> Quantity:
    """The quantity that is asked for, or what a layout is used with.

    Raises:
        UsageError: If the layout does not hold it.
    """
    quantities = layout_module(layout).QUANTITIES
    quantity = quantities[0] if asked is None else Quantity(asked)
    if quantity not in quantities:
        allowed = ", ".join(one.value for one in quantities)
        raise UsageError(f"--format {layout} holds {allowed}, not {quantity.value}.")
    return quantity
