"""How `export` makes images: from a subject's files and a recipe, one part of a set at a time.

What decides that a part is to be made is not here, but in `export` and `export_folder`.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from XraySynthLib import __version__
from XraySynthLib.data import ImageLandmarkSet, LandmarkSet, Provenance, Quantity, Sample, Xray
from XraySynthLib.data.formats.sample_files import sample_to_record
from XraySynthLib.data.pelvis import BONE_NAMES
from XraySynthLib.data.sets import DERIVED_FROM, Part, SetDescription, layout_module
from XraySynthLib.data.sets.description import UNFINISHED_NAME
from XraySynthLib.data.sets.parts import write_part_record
from XraySynthLib.drr import (
    AcquisitionRanges,
    LabelProjector,
    Materials,
    acquire,
    draw_acquisition,
    materials_from_hu,
    to_display,
    to_line_integral,
)
from XraySynthLib.errors import UnreadableFileError, XraySynthError
from XraySynthLib.geometry import Intrinsics
from XraySynthLib.workflows.mask_labels import known_labels
from XraySynthLib.workflows.subjects import SubjectFolder
from XraySynthLib.workflows.workers import step

MAX_OFFSET_MM = 1000
"""A C-arm that aims farther from the landmarks than this sees none of them."""


@dataclass(frozen=True)
class Recipe:
    """How an image is made: everything but the subject's files.

    Attributes:
        ranges: Where poses and exposures are drawn from.
        intrinsics: The detector.
        quantity: What the image is.
        detail: Fine detail added to a display image.
        label_values: Labels that become masks; empty for none.
        seed: The run's.
        aim_offset_mm: (3,) the point aimed at, from the landmarks' middle, RAS.

    Raises:
        ValueError: If a number is not finite or makes no image; it names the option.
    """

    ranges: AcquisitionRanges
    intrinsics: Intrinsics
    quantity: Quantity
    detail: float
    label_values: tuple[int, ...]
    seed: int
    aim_offset_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if not 0 <= self.detail < np.inf:
            raise ValueError(f"--detail must be 0 or more, got {self.detail:g}.")
        for option, offsets_mm in (
            ("--aim-offset-mm", self.aim_offset_mm),
            ("--isocenter-offset-mm", self.ranges.isocenter_offset_mm),
        ):
            if not (np.abs(offsets_mm) <= MAX_OFFSET_MM).all():
                raise ValueError(
                    f"{option} must be at most {MAX_OFFSET_MM} mm to any side, got "
                    f"{' '.join(f'{offset_mm:g}' for offset_mm in offsets_mm)}."
                )
        farthest_mm = self.ranges.source_to_isocenter_mm[1]
        if farthest_mm >= self.intrinsics.source_to_detector_mm:
            raise ValueError(
                f"--source-to-isocenter-mm goes to {farthest_mm:g}, which must be less than "
                f"--source-to-detector-mm, {self.intrinsics.source_to_detector_mm:g}."
            )

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON types."""
        detector = {
            "source_to_detector_mm": self.intrinsics.source_to_detector_mm,
            "shape_px": list(self.intrinsics.shape_px),
            "pixel_spacing_mm": self.intrinsics.pixel_spacing_mm.tolist(),
        }
        return {
            "ranges": asdict(self.ranges),
            "detector": detector,
            "quantity": self.quantity.value,
            "detail": self.detail,
            "label_values": list(self.label_values),
            "seed": self.seed,
            "aim_offset_mm": list(self.aim_offset_mm),
        }


class Source(Protocol):
    """Whom images show: a `SubjectFolder`, or somebody whom a sampler makes.

    Attributes:
        name: The subject's.
        derived_from: The people behind the subject.
    """

    name: str
    derived_from: tuple[str, ...]

    def digest(self) -> str:
        """SHA-256 of everything that images are made from."""
        ...

    def changed_ns(self) -> int:
        """When that was last changed, ns since 1970."""
        ...


class AnyRecipe(Protocol):
    """How images are made, whatever makes them."""

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON types."""
        ...


SourceType = TypeVar("SourceType", bound=Source)
RecipeType = TypeVar("RecipeType", bound=AnyRecipe)


@dataclass(frozen=True)
class SetPlan(Generic[SourceType, RecipeType]):
    """Everything that decides a set's bytes.

    Attributes:
        description: The set's.
        subjects: Name -> subject.
        recipe: How images are made.
    """

    description: SetDescription
    subjects: Mapping[str, SourceType]
    recipe: RecipeType


ExportPlan = SetPlan[SubjectFolder, Recipe]


def mask_name(label: int) -> str:
    """What the mask of a label is called."""
    return BONE_NAMES.get(label, f"label {label}")


def make_part(folder: Path, layout: str, recipe: Recipe, task: tuple[Part, SubjectFolder]) -> None:
    """Make the files of one part and, last, its record."""
    part, source = task
    if not (folder / UNFINISHED_NAME).exists():
        raise XraySynthError(f"{folder} is not the set's folder where this worker runs.")
    subject = _load_subject(source, recipe.label_values, source.changed_ns())
    records: list[dict[str, Any]] = []
    files = layout_module(layout).write_part(
        folder, part, recorded(_samples(part, subject, recipe), records)
    )
    inputs = inputs_digest(layout, recipe, source, subject.digest)
    write_part_record(folder, part, files, records, inputs)


def inputs_digest(layout: str, recipe: AnyRecipe, source: Source, files_digest: str) -> str:
    """SHA-256 of all that, with its numbers, decides the bytes of a part.

    Args:
        layout: The set's.
        recipe: How images are made.
        source: The subject.
        files_digest: Of the subject, as its `digest` says.
    """
    inputs = {
        "layout": layout,
        "recipe": recipe.to_dict(),
        "derived_from": source.derived_from,
        "subject": files_digest,
        "code_version": __version__,
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class LoadedSubject:
    """A subject made ready: what all its images share."""

    source: SubjectFolder
    digest: str
    materials: Materials
    landmarks: LandmarkSet
    aim_ras_mm: NDArray
    labels: LabelProjector | None


@lru_cache(maxsize=1)
def _load_subject(
    source: SubjectFolder, label_values: tuple[int, ...], changed_ns: int
) -> LoadedSubject:
    """Read a subject; the parts of one subject follow each other, so one is kept.

    `changed_ns` is that of `source`: when its files change they are read again.
    """
    digest = source.digest()
    volume, landmarks = source.read()
    labels = None
    if label_values and volume.labels is not None:
        known = known_labels(volume.labels, label_values, source.labels)
        labels = LabelProjector(known, volume.ras_from_ijk, values=label_values)
    try:
        materials = materials_from_hu(volume).cropped()
    except ValueError as error:
        raise UnreadableFileError(f"{source.ct} cannot be projected: {error}") from error
    aim_ras_mm = source.aim_ras_mm(volume, landmarks)
    return LoadedSubject(source, digest, materials, landmarks, aim_ras_mm, labels)


def _samples(part: Part, subject: LoadedSubject, recipe: Recipe) -> Iterator[Sample]:
    for item in part.items:
        yield make_sample(item, subject, recipe)


def make_sample(item: int, subject: LoadedSubject, recipe: Recipe) -> Sample:
    """Make image `item` of a run.

    Args:
        item: Its number in the run; with the run's seed it decides all that is drawn.
        subject: Whom it shows.
        recipe: How it is made.
    """
    rng = np.random.default_rng((recipe.seed, item))
    aim_ras_mm = subject.aim_ras_mm + np.array(recipe.aim_offset_mm)
    acquisition = draw_acquisition(recipe.ranges, recipe.intrinsics, aim_ras_mm, rng)
    open_field = acquisition.open_field
    transmission = acquire(subject.materials, acquisition)
    xray = as_quantity(transmission, recipe.quantity, recipe.detail, open_field)
    landmarks = seen_in_field(subject.landmarks.seen_from(acquisition.view), open_field)
    masks = None
    if subject.labels is not None:
        masks = {
            mask_name(label): mask if open_field is None else mask & open_field
            for label, mask in subject.labels.masks(acquisition.view).items()
        }
    config = {
        "acquisition": acquisition.to_dict(),
        "detail": recipe.detail,
        DERIVED_FROM: list(subject.source.derived_from),
    }
    return Sample(
        key=f"{subject.source.name.replace('.', '_')}-{item:08d}",
        xray=xray,
        landmarks=landmarks,
        masks=masks,
        provenance=Provenance("simulated", subject.source.name, (recipe.seed, item), config),
    )


def as_quantity(
    transmission: Xray, quantity: Quantity, detail: float, open_field: NDArray | None
) -> Xray:
    """A TRANSMISSION image as a set is to hold it.

    Args:
        transmission: The image.
        quantity: What is wanted.
        detail: Fine detail added to a display image.
        open_field: What the collimator left open, see `drr.to_display`.
    """
    if quantity is Quantity.TRANSMISSION:
        return transmission
    line_integral = to_line_integral(transmission)
    if quantity is Quantity.LINE_INTEGRAL:
        return line_integral
    return to_display(line_integral, detail=detail, open_field=open_field)


def seen_in_field(landmarks: ImageLandmarkSet, open_field: NDArray | None) -> ImageLandmarkSet:
    """Landmarks of which only those in the open field are visible."""
    if open_field is None:
        return landmarks
    visible = landmarks.visible.copy()
    columns, rows = np.round(landmarks.points_px[visible]).astype(int).T
    visible[visible] = open_field[rows, columns]
    return replace(landmarks, visible=visible)


def recorded(samples: Iterator[Sample], records: list[dict[str, Any]]) -> Iterator[Sample]:
    """Pass samples on, noting all but their pixels."""
    for sample in samples:
        records.append(sample_to_record(sample))
        yield sample
        step()
