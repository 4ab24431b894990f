"""Random acquisitions: draw a frozen record of every parameter, then apply it.

The record is all that is needed to make an image again; drawing and applying share no generator.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from XraySynthLib.data import Xray
from XraySynthLib.drr.collimation import Collimation
from XraySynthLib.drr.exposure import Exposure, detector_blurred, expose
from XraySynthLib.drr.materials import Materials
from XraySynthLib.drr.projection import project
from XraySynthLib.drr.spectrum import SHIPPED_KVP
from XraySynthLib.geometry import VIEW_PRESETS, CArmPose, Intrinsics, View, view_from_carm

Range = tuple[float, float]
OPEN_SHARE = 0.98
"""A pixel is in the open field where the collimator leaves at least this much of its signal: with
less its penumbra shows, in an image of line integrals as a bright rim."""


@dataclass(frozen=True)
class AcquisitionRanges:
    """From where acquisitions are drawn, uniformly and independently.

    Attributes:
        directions_deg: (primary, secondary) about which the angles are drawn, each as likely.
        primary_deg: Positioner primary angle from there, +LAO.
        secondary_deg: Positioner secondary angle from there, +CRA.
        roll_deg: Roll about the beam.
        isocenter_offset_mm: Each coordinate of the isocentre, from the point aimed at, RAS.
        source_to_isocenter_mm: Distance from the source to the isocentre.
        kvp: Tube voltages, each as likely.
        scatter: Strength of scatter.
        photons_per_mm2: Photons on a square millimetre of the open beam, drawn on a log scale.
        electronic_noise_photons: Readout noise.
        blur_mm: Detector blur.
        collimated_share: Share of images with a collimated field.
        field_share: Width and height of such a field, as a share of the detector's.

    Raises:
        ValueError: If a range runs backward or holds what no acquisition can have.
    """

    directions_deg: tuple[Range, ...] = ((0.0, 0.0),)
    primary_deg: Range = (-45.0, 45.0)
    secondary_deg: Range = (-40.0, 40.0)
    roll_deg: Range = (-10.0, 10.0)
    isocenter_offset_mm: Range = (-30.0, 30.0)
    source_to_isocenter_mm: Range = (500.0, 700.0)
    kvp: tuple[int, ...] = SHIPPED_KVP
    scatter: Range = (0.02, 0.2)
    photons_per_mm2: Range = (3e4, 1.5e6)
    electronic_noise_photons: Range = (1.0, 6.0)
    blur_mm: Range = (0.1, 0.4)
    collimated_share: float = 0.3
    field_share: Range = (0.5, 0.95)

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name in ("directions_deg", "kvp", "collimated_share"):
                continue
            low, high = value
            if not (np.isfinite([low, high]).all() and low <= high):
                raise ValueError(f"{name} must be a range from low to high, got {value}.")
        if self.photons_per_mm2[0] <= 0:
            raise ValueError("photons_per_mm2 is drawn on a log scale and must be positive.")
        if not self.directions_deg or not np.isfinite(self.directions_deg).all():
            raise ValueError("directions_deg must list at least one pair of angles.")
        if not self.kvp:
            raise ValueError("kvp must list at least one tube voltage.")
        if not 0 <= self.collimated_share <= 1:
            raise ValueError(f"collimated_share must lie in 0..1, got {self.collimated_share}.")
        if self.field_share[0] <= 0:
            raise ValueError(f"field_share must be positive, got {self.field_share}.")
        for kvp in self.kvp:
            Exposure(kvp)
        for end in (0, 1):  # what the extremes allow, all between them do
            for primary_deg, secondary_deg in self.directions_deg:
                CArmPose(
                    primary_deg + self.primary_deg[end],
                    secondary_deg + self.secondary_deg[end],
                    self.roll_deg[end],
                    source_to_isocenter_mm=self.source_to_isocenter_mm[end],
                )
            names = ("scatter", "photons_per_mm2", "electronic_noise_photons", "blur_mm")
            Exposure(**{name: getattr(self, name)[end] for name in names})


ACQUISITION_PRESETS = MappingProxyType(
    {
        "pelvis-deepfluoro": AcquisitionRanges(
            primary_deg=(-45.0, 45.0),
            secondary_deg=(-35.0, 35.0),
            roll_deg=(-12.0, 12.0),
            isocenter_offset_mm=(-45.0, 45.0),
            source_to_isocenter_mm=(600.0, 800.0),
        ),
        "standard-views": AcquisitionRanges(
            directions_deg=tuple(
                VIEW_PRESETS[name]
                for name in (
                    "ap",
                    "inlet",
                    "outlet",
                    "judet-obturator-left",
                    "judet-obturator-right",
                    "lateral",
                )
            ),
            primary_deg=(-8.0, 8.0),
            secondary_deg=(-8.0, 8.0),
            roll_deg=(-5.0, 5.0),
            isocenter_offset_mm=(-25.0, 25.0),
            source_to_isocenter_mm=(600.0, 750.0),
        ),
        "uniform": AcquisitionRanges(),
    }
)
"""Ranges by name. "pelvis-deepfluoro": about AP, obliques and tilts, the pelvis often cut by the
image's edge, as in DeepFluoro's images; set by what its documents show, not fitted to its poses."""


@dataclass(frozen=True)
class Acquisition:
    """Every parameter of one image.

    Attributes:
        pose: Where the C-arm stands.
        intrinsics: Its detector.
        exposure: How the image is taken.
        noise_seed: Seeds the noise.

    Raises:
        ValueError: If the seed is negative.
    """

    pose: CArmPose
    intrinsics: Intrinsics
    exposure: Exposure = field(default_factory=Exposure)
    noise_seed: int = 0

    def __post_init__(self) -> None:
        if self.noise_seed < 0:
            raise ValueError(f"noise_seed must be 0 or more, got {self.noise_seed}.")

    @property
    def view(self) -> View:
        """The view of the pose and the detector."""
        return view_from_carm(self.pose, self.intrinsics)

    @property
    def open_field(self) -> NDArray | None:
        """(rows, columns) bool, where no penumbra shows; None where there is no collimator."""
        collimation = self.exposure.collimation
        if collimation is None:
            return None
        openness = collimation.openness(self.intrinsics)
        return detector_blurred(openness, self.exposure, self.intrinsics) >= OPEN_SHARE

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON types."""
        pose = {**vars(self.pose), "isocenter_ras_mm": self.pose.isocenter_ras_mm.tolist()}
        intrinsics = self.view.to_dict()
        del intrinsics["ras_from_camera"]
        return {
            "pose": pose,
            "intrinsics": intrinsics,
            "exposure": asdict(self.exposure),
            "noise_seed": self.noise_seed,
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Acquisition":
        """Make an acquisition from what `to_dict` returned.

        Raises:
            ValueError: If a field is missing, unknown or wrong.
        """
        try:
            exposure = dict(record["exposure"])
            if exposure["collimation"] is not None:
                exposure["collimation"] = Collimation(**exposure["collimation"])
            return cls(
                CArmPose(**record["pose"]),
                Intrinsics(**record["intrinsics"]),
                Exposure(**exposure),
                int(record["noise_seed"]),
            )
        except (KeyError, OverflowError, TypeError) as error:
            raise ValueError(f"The acquisition's record is damaged: {error}.") from error


def draw_acquisition(
    ranges: AcquisitionRanges,
    intrinsics: Intrinsics,
    aim_ras_mm: ArrayLike,
    rng: np.random.Generator,
) -> Acquisition:
    """Draw every parameter of one image.

    Args:
        ranges: From where to draw.
        intrinsics: The detector.
        aim_ras_mm: (3,) the point aimed at, RAS, mm.
        rng: The generator.

    Returns:
        The record; always the same number of draws, so records stay comparable between ranges.
    """
    primary_deg, secondary_deg, roll_deg = (
        rng.uniform(*limits)
        for limits in (ranges.primary_deg, ranges.secondary_deg, ranges.roll_deg)
    )
    offset_mm = rng.uniform(*ranges.isocenter_offset_mm, size=3)
    source_to_isocenter_mm = rng.uniform(*ranges.source_to_isocenter_mm)
    width_mm, height_mm = intrinsics.size_mm * rng.uniform(*ranges.field_share, size=2)
    shape = ("rectangle", "circle", "octagon")[rng.integers(3)]
    field_angle_deg = rng.uniform(-20, 20)
    collimated = rng.random() < ranges.collimated_share
    exposure = Exposure(
        # One draw whatever the number of voltages; `integers` takes none where there is one.
        kvp=int(ranges.kvp[int(rng.random() * len(ranges.kvp))]),
        scatter=rng.uniform(*ranges.scatter),
        photons_per_mm2=float(np.exp(rng.uniform(*np.log(ranges.photons_per_mm2)))),
        electronic_noise_photons=rng.uniform(*ranges.electronic_noise_photons),
        blur_mm=rng.uniform(*ranges.blur_mm),
        collimation=Collimation(shape, float(width_mm), float(height_mm), field_angle_deg)
        if collimated
        else None,
    )
    noise_seed = int(rng.integers(2**32))
    direction = ranges.directions_deg[int(rng.random() * len(ranges.directions_deg))]
    pose = CArmPose(
        direction[0] + primary_deg,
        direction[1] + secondary_deg,
        roll_deg,
        np.asarray(aim_ras_mm, dtype=float) + offset_mm,
        source_to_isocenter_mm,
    )
    return Acquisition(pose, intrinsics, exposure, noise_seed)


def acquire(materials: Materials, acquisition: Acquisition, engine: str = "numba") -> Xray:
    """Make the image of a record.

    Returns:
        A TRANSMISSION image.

    Raises:
        ValueError: If the source stands inside the patient, or no ray meets the volume.
    """
    view = acquisition.view
    area_density = project(materials, view, engine)
    rng = np.random.default_rng(acquisition.noise_seed)
    return expose(area_density, materials.names, view, acquisition.exposure, rng)
