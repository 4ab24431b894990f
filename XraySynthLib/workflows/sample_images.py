"""How `sample` makes images: from a sampler, a person and a view, one part of a set at a time."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data import ImageLandmarkSet, LandmarkSet, Provenance, Quantity, Sample, Xray
from XraySynthLib.data.sets import DERIVED_FROM, Part, layout_module
from XraySynthLib.data.sets.parts import write_part_record
from XraySynthLib.drr import Acquisition, AcquisitionRanges, draw_acquisition, expose_line_integral
from XraySynthLib.geometry import Intrinsics
from XraySynthLib.workflows.export_images import (
    SetPlan,
    as_quantity,
    inputs_digest,
    recorded,
    seen_in_field,
)
from XraySynthLib.workflows.generate import PRESETS

if TYPE_CHECKING:
    from XraySynthLib.diffusion.model import Sampler
    from XraySynthLib.diffusion.plausibility import Fit

TRIES = 6
"""How often an image is made, at most, whose landmarks are nobody's; then the last is taken."""
FOUND = 0.5
"""Confidence from which a landmark counts as made."""
SAMPLER = "sampler"
"""Key of a sample's provenance: what made it, and what was refused before it."""


@dataclass(frozen=True)
class SampleRecipe:
    """How an image is made: everything but whom it shows.

    Attributes:
        ranges: Where poses and exposures are drawn from.
        intrinsics: The detector.
        quantity: What the image is.
        detail: Fine detail added to a display image.
        seed: The run's.
        aim_offset_mm: (3,) the point aimed at, from the landmarks' middle, RAS.
        condition: The model's.
        model: Its name.
        sha256: Of its weights.
        steps: Evaluations of the flow.
        guidance: Weight of what it is told.
        lead: How far its landmarks are ahead of the image while both are made.
        tries: How often an image is made, at most, whose landmarks are nobody's.
    """

    ranges: AcquisitionRanges
    intrinsics: Intrinsics
    quantity: Quantity
    detail: float
    seed: int
    aim_offset_mm: tuple[float, float, float]
    condition: str
    model: str
    sha256: str
    steps: int
    guidance: float
    lead: float
    tries: int = TRIES

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON types."""
        detector = {
            "source_to_detector_mm": self.intrinsics.source_to_detector_mm,
            "shape_px": list(self.intrinsics.shape_px),
            "pixel_spacing_mm": self.intrinsics.pixel_spacing_mm.tolist(),
        }
        fields = {**vars(self), "quantity": self.quantity.value, "ranges": asdict(self.ranges)}
        del fields["intrinsics"]
        return {**fields, "detector": detector, "aim_offset_mm": list(self.aim_offset_mm)}


@dataclass(frozen=True)
class Imagined:
    """Somebody whom a sampler makes; in `data.sets` a subject.

    Attributes:
        name: The subject's.
        number: In the run; with the run's seed it decides the bones, where there are any.
        derived_from: The people behind the model and the bones.
        sha256: Of the model's weights.
    """

    name: str
    number: int
    derived_from: tuple[str, ...]
    sha256: str

    def digest(self) -> str:
        """SHA-256 of everything that images are made from."""
        return hashlib.sha256(f"{self.sha256} {self.number}".encode()).hexdigest()

    def changed_ns(self) -> int:
        """Never: it is in no file."""
        return 0


SamplePlan = SetPlan[Imagined, SampleRecipe]


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Bones to make images of: `LabelProjector`'s input and the landmarks on them, RAS."""

    labels: NDArray
    ras_from_ijk: NDArray
    landmarks: LandmarkSet


def sampled_anatomy(seed: tuple[int, int]) -> Anatomy:
    """The bones of subject `seed[1]` of a run; the same that `generate` draws by this seed."""
    from XraySynthLib.anatomy.render import bone_labels
    from XraySynthLib.anatomy.subject import sample_subject

    subject = sample_subject(seed)
    return Anatomy(*bone_labels(subject, *PRESETS["wide"]), subject.landmarks)


def make_part(
    folder: Path, layout: str, recipe: SampleRecipe, sampler: "Sampler", batch: int, part: Part,
    person: Imagined,
) -> Iterator[int]:  # fmt: skip
    """Make the files of one part and, last, its record.

    Yields:
        1 for every image that is made.
    """
    records: list[dict[str, Any]] = []
    made: list[Sample] = []
    for sample in make_samples(part.items, recipe, sampler, batch, person):
        made.append(sample)
        yield 1
    files = layout_module(layout).write_part(folder, part, recorded(iter(made), records))
    inputs = inputs_digest(layout, recipe, person, person.digest())
    write_part_record(folder, part, files, records, inputs)


def acquisition_of(item: int, recipe: SampleRecipe, aim_ras_mm: NDArray) -> Acquisition:
    """The acquisition of image `item` of a run."""
    rng = np.random.default_rng((recipe.seed, item))
    aim = aim_ras_mm + np.array(recipe.aim_offset_mm)
    return draw_acquisition(recipe.ranges, recipe.intrinsics, aim, rng)


def middle_of(points_mm: NDArray) -> NDArray:
    """(3,) the middle of the box of points (K, 3), at which a C-arm is aimed."""
    return (points_mm.min(axis=0) + points_mm.max(axis=0)) / 2


def make_samples(
    items: range, recipe: SampleRecipe, sampler: "Sampler", batch: int, person: Imagined,
    anatomy: Anatomy | None = None,
) -> Iterator[Sample]:  # fmt: skip
    """Make images of one person; image `item` depends on the run's seed and its number alone.

    Args:
        items: Numbers of the images in the run.
        recipe: How they are made.
        sampler: What makes them.
        batch: How many at a time.
        person: Whom they show.
        anatomy: The person's bones, for "anatomy"; by default those drawn by the person's number.
    """
    maker = _Maker(recipe, sampler, person, items, anatomy)
    waiting = [(index, 0) for index in range(len(items))]
    ready: dict[int, Sample] = {}
    following = 0
    while waiting:
        chunk, waiting = waiting[:batch], waiting[batch:]
        for (index, attempt), sample in zip(chunk, maker.make(chunk), strict=True):
            if sample is None:
                waiting.insert(0, (index, attempt + 1))
            else:
                ready[index] = sample
        while following in ready:
            yield ready.pop(following)
            following += 1


class _Maker:
    """The views of some images of a person, and what the sampler is told of each."""

    def __init__(
        self, recipe: SampleRecipe, sampler: "Sampler", person: Imagined, items: range,
        anatomy: Anatomy | None,
    ) -> None:  # fmt: skip
        import torch

        from XraySynthLib.diffusion.anatomy_maps import bone_maps, mean_bone_maps
        from XraySynthLib.diffusion.examples import told_maps
        from XraySynthLib.diffusion.store import HIP_CENTERS
        from XraySynthLib.diffusion.views import view_features

        self.recipe, self.sampler, self.person, self.items = recipe, sampler, person, items
        network, mean_mm = sampler.config.network, sampler.prior.mean_mm
        self.anatomy: Anatomy | None = None
        self.center, aim = np.zeros(3), middle_of(mean_mm)
        if network.condition == "anatomy":
            self.anatomy = anatomy or sampled_anatomy((recipe.seed, person.number))
            landmarks = self.anatomy.landmarks
            hips = [landmarks.names.index(name) for name in HIP_CENTERS]
            self.center = landmarks.points_ras_mm[hips].mean(axis=0)
            aim = middle_of(landmarks.points_ras_mm)
        self.acquisitions = [acquisition_of(item, recipe, aim) for item in items]
        views = [acquisition.view for acquisition in self.acquisitions]
        self.views = views
        if self.anatomy is None:
            points = mean_mm + self.center
            bones = mean_bone_maps(self.center, views)
        else:
            order = [
                self.anatomy.landmarks.names.index(name) for name in sampler.config.landmark_names
            ]
            points = self.anatomy.landmarks.points_ras_mm[order]
            bones = bone_maps(self.anatomy.labels, self.anatomy.ras_from_ijk, views)
        self.maps: list[torch.Tensor] = [
            told_maps(one, view.project(points), network)
            for one, view in zip(bones, views, strict=True)
        ]
        self.features = [
            torch.from_numpy(view_features(view, self.center, self._kvp(acquisition)))
            for view, acquisition in zip(views, self.acquisitions, strict=True)
        ]

    def _kvp(self, acquisition: Acquisition) -> float | None:
        return acquisition.exposure.kvp if self.sampler.config.kvp else None

    def make(self, chunk: Sequence[tuple[int, int]]) -> Iterator[Sample | None]:
        """Make images by (index, attempt); None for one that is refused."""
        import torch

        made = self.sampler.make(
            torch.stack([self.maps[index] for index, _ in chunk]),
            torch.stack([self.features[index] for index, _ in chunk]),
            # Not (seed, item, 0): NumPy takes that for (seed, item), which drew the acquisition.
            [(self.recipe.seed, self.items[index], attempt + 1) for index, attempt in chunk],
            steps=self.recipe.steps,
            guidance=self.recipe.guidance,
            lead=self.recipe.lead,
        )
        for number, (index, attempt) in enumerate(chunk):
            landmarks, complaint = self._projected(index), None
            if made.points_px is not None and made.confidence is not None:
                points, confidence = made.points_px[number], made.confidence[number]
                landmarks, complaint = self._judged(index, points, confidence)
            if complaint is not None and attempt + 1 < self.recipe.tries:
                yield None
            else:
                yield self._sample(index, attempt, made.images[number], landmarks, complaint)

    def _projected(self, index: int) -> ImageLandmarkSet | None:
        return None if self.anatomy is None else self.anatomy.landmarks.seen_from(self.views[index])

    def _judged(
        self, index: int, points_px: NDArray, confidence: NDArray
    ) -> tuple[ImageLandmarkSet, str | None]:
        """Landmarks that were made, where not found those of the most likely pelvis; a complaint.

        What is not in the image has a place beside it, as a DRR's landmarks have.
        """
        from XraySynthLib.diffusion.plausibility import complaint, fit_pelvis

        view, prior = self.views[index], self.sampler.prior
        found = confidence >= FOUND
        read = np.where(found[:, None], points_px, np.nan)
        fit: Fit = fit_pelvis(prior, view, self.center, read)
        places = np.where(found[:, None], points_px, fit.points_px)
        landmarks = ImageLandmarkSet.placed(
            self.sampler.config.landmark_names, places, view.intrinsics.shape_px
        )
        landmarks = replace(landmarks, visible=landmarks.visible & found, confidence=confidence)
        return landmarks, complaint(prior, fit, view, self.center, found)

    def _sample(
        self,
        index: int,
        attempt: int,
        values: NDArray,
        landmarks: ImageLandmarkSet | None,
        complaint: str | None,
    ) -> Sample:
        assert landmarks is not None
        recipe, acquisition, item = self.recipe, self.acquisitions[index], self.items[index]
        made_as = Quantity(self.sampler.config.quantity)
        taken = acquisition.to_dict()
        if made_as is Quantity.DISPLAY:
            xray = Xray(np.clip(values, 0, 1), made_as, view=acquisition.view)
            taken = {name: taken[name] for name in ("pose", "intrinsics")}  # it was not exposed
        else:
            transmission = expose_line_integral(
                np.maximum(values, 0),
                acquisition.view,
                acquisition.exposure,
                np.random.default_rng(acquisition.noise_seed),
            )
            xray = as_quantity(transmission, recipe.quantity, recipe.detail, acquisition.open_field)
        config = {
            "acquisition": taken,
            "detail": recipe.detail,
            DERIVED_FROM: list(self.person.derived_from),
            SAMPLER: {
                "model": recipe.model,
                "sha256": recipe.sha256,
                "condition": recipe.condition,
                "steps": recipe.steps,
                "guidance": recipe.guidance,
                "lead": recipe.lead,
                "refused": attempt,
                "complaint": complaint,
            },
        }
        return Sample(
            key=f"{self.person.name}-{item:08d}",
            xray=xray,
            landmarks=seen_in_field(landmarks, acquisition.open_field),
            masks=None,
            provenance=Provenance("generated", self.person.name, (recipe.seed, item), config),
        )
