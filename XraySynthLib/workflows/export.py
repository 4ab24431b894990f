"""`xraysynth export`: subjects x views -> a labelled set that other people's trainers read.

Image i of a run depends on (run_seed, i), the options and the subject's files alone. So any worker
can make any part of the set, a rerun makes only what is missing, and the bytes are the same.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data import ImageLandmarkSet, LandmarkSet, Provenance, Quantity, Sample, Xray
from XraySynthLib.data.formats.sample_files import sample_to_record
from XraySynthLib.data.pelvis import BONE_NAMES
from XraySynthLib.data.sets import (
    DERIVED_FROM,
    SET_NAME,
    SPLITS,
    Part,
    SetDescription,
    SetSubject,
    layout_module,
    refuse_split_overlap,
    split_by_subject,
)
from XraySynthLib.data.sets.description import UNFINISHED_NAME
from XraySynthLib.data.sets.parts import (
    PARTS_FOLDER,
    damaged_files,
    read_part_record,
    sha256_of,
    write_part_record,
)
from XraySynthLib.drr import (
    ACQUISITION_PRESETS,
    AcquisitionRanges,
    LabelProjector,
    Materials,
    acquire,
    draw_acquisition,
    materials_from_hu,
    to_display,
    to_line_integral,
)
from XraySynthLib.errors import UnreadableFileError, UsageError, XraySynthError
from XraySynthLib.geometry import Intrinsics
from XraySynthLib.workflows.config import VerbConfig
from XraySynthLib.workflows.label_maps import checked_label_values, known_labels
from XraySynthLib.workflows.progress import tracked
from XraySynthLib.workflows.set_report import write_set_report
from XraySynthLib.workflows.subjects import SubjectFolder, common_landmark_names, find_subjects
from XraySynthLib.workflows.workers import map_unordered, usable_cpus

Range = tuple[float, float]
RANGE_OPTIONS = (
    "primary_deg",
    "secondary_deg",
    "roll_deg",
    "isocenter_offset_mm",
    "source_to_isocenter_mm",
    "kvp",
    "collimated_share",
)
DEFAULT_SHAPE_PX, DEFAULT_SHAPES_PX = (512, 512), {"synthex": (360, 360)}
SYNTHEX_PX = 384
"""Side of its network's images, which it pads smaller ones to."""
DETECTOR_MM = 1536 * 0.194
DEFAULT_SHARES = (0.8, 0.1, 0.1)
MAX_IMAGES = 100_000_000


@dataclass(frozen=True, kw_only=True)
class ExportConfig(VerbConfig):
    """Make a training set: labelled X-rays of every subject, at poses drawn at random.

    The same command again makes only what is missing.

    Attributes:
        subjects: Folder of subjects: from generate, or folders with ct.nii.gz and a .mrk.json
            (and labels.nii.gz).
        views: Images of each subject.
        format: How the files are laid out.
        output: Folder to write to.
        poses: Where poses and acquisitions are drawn from.
        primary_deg: Range of the primary angle instead, +LAO (with standard-views: from each).
        secondary_deg: Range of the secondary angle instead, +CRA.
        roll_deg: Range of the roll about the beam instead.
        isocenter_offset_mm: Range of each coordinate of the isocentre, from the point aimed at.
        aim_offset_mm: The point aimed at, from the landmarks' middle: right, anterior, superior.
        source_to_isocenter_mm: Range of the distance from the source to the isocentre instead.
        kvp: Tube voltages instead, each as likely.
        collimated_share: Share of images with a collimated field instead.
        source_to_detector_mm: Distance from the source to the detector.
        shape_px: Rows, columns; by default 512 x 512, for synthex 360 x 360.
        pixel_spacing_mm: Pixel size on the detector: column, row; by default that of a detector
            298 mm wide.
        quantity: What the images are; by default what the format is used with.
        detail: Fine detail added to display images, as a console does; 0 for none.
        masks: Whether masks of the labels go with the images.
        label_values: Labels that become masks; by default DeepFluoro's six bones, 1 to 6, which
            are also found in maps of TotalSegmentator and MAISI.
        split: Shares of train, val and test, by subject; by default 0.8 0.1 0.1, or all train
            where there are fewer than three subjects.
        part_size: Images of a part (a shard) at most: what is lost at most when a run is killed.
        workers: Processes; 0 for one a processor.
        scheduler: Address of a Dask scheduler to work on instead (tcp://host:8786).
        verify: Check every file there against its SHA-256 and make again what is damaged.
    """

    subjects: Path
    views: int
    format: Literal["coco", "deepfluoro", "synthex", "webdataset", "dicom", "scene"]
    output: Path
    poses: Literal["pelvis-deepfluoro", "standard-views", "uniform"] = "pelvis-deepfluoro"
    primary_deg: Range | None = None
    secondary_deg: Range | None = None
    roll_deg: Range | None = None
    isocenter_offset_mm: Range | None = None
    aim_offset_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    source_to_isocenter_mm: Range | None = None
    kvp: tuple[int, ...] | None = None
    collimated_share: float | None = None
    source_to_detector_mm: float = 1020.0
    shape_px: tuple[int, int] | None = None
    pixel_spacing_mm: tuple[float, float] | None = None
    quantity: Literal["line-integral", "transmission", "display"] | None = None
    detail: float = 0.5
    masks: bool = True
    label_values: tuple[int, ...] | None = None
    split: tuple[float, float, float] | None = None
    part_size: int = 100
    workers: int = 0
    scheduler: str | None = None
    verify: bool = False


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
    """

    ranges: AcquisitionRanges
    intrinsics: Intrinsics
    quantity: Quantity
    detail: float
    label_values: tuple[int, ...]
    seed: int
    aim_offset_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)

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


def check_inputs(config: ExportConfig) -> None:
    """Refuse what cannot be made, and an output folder that holds another set.

    Raises:
        XraySynthError: Saying what to change.
    """
    plan_set(config)


def run(config: ExportConfig) -> Path:
    """Make what is missing of the set; returns its folder.

    Raises:
        XraySynthError: If subjects or options cannot be used, or workers die.
    """
    description, subjects, recipe = plan_set(config)
    folder = config.output
    whole = (folder / SET_NAME).exists()
    if not whole or config.verify:
        missing = _missing_parts(config, description, whole)
        if missing is not None:
            (folder / PARTS_FOLDER).mkdir(parents=True, exist_ok=True)
            description.write(folder / UNFINISHED_NAME)
            (folder / SET_NAME).unlink(missing_ok=True)
            _make_parts(config, description, subjects, recipe, missing)
            _assemble(folder, description)
    _finish(folder, description)
    return folder


def plan_set(config: ExportConfig) -> tuple[SetDescription, dict[str, SubjectFolder], Recipe]:
    """Decide everything that decides the set's bytes, and check it."""
    if config.views < 1 or config.part_size < 1 or config.workers < 0 or config.seed < 0:
        raise UsageError(
            "--views and --part-size must be 1 or more, --workers and --seed 0 or more."
        )
    if config.output.exists() and not config.output.is_dir():
        raise UsageError(f"--output {config.output} is a file; name a folder.")
    recipe = _recipe(config)
    subjects = find_subjects(config.subjects)
    if len(subjects) * config.views > MAX_IMAGES:
        raise UsageError(f"A set holds at most {MAX_IMAGES} images.")
    names = [subject.name for subject in subjects]
    shares = config.split or (DEFAULT_SHARES if len(subjects) >= len(SPLITS) else (1.0, 0.0, 0.0))
    try:
        splits = split_by_subject(names, shares, config.seed)
    except ValueError as error:
        raise UsageError(f"--split: {error}") from error
    refuse_split_overlap(splits, {subject.name: subject.derived_from for subject in subjects})
    description = SetDescription(
        layout=config.format,
        subjects=tuple(SetSubject(s.name, splits[s.name], s.derived_from) for s in subjects),
        images_per_subject=config.views,
        part_size=config.part_size,
        landmark_names=common_landmark_names(subjects),
        mask_names=tuple(map(mask_name, recipe.label_values)),
        options=recipe.to_dict(),
    )
    _check_output(config.output, description)
    return description, {subject.name: subject for subject in subjects}, recipe


def _recipe(config: ExportConfig) -> Recipe:
    changes = {
        name: getattr(config, name) for name in RANGE_OPTIONS if getattr(config, name) is not None
    }
    quantities = layout_module(config.format).QUANTITIES
    quantity = quantities[0] if config.quantity is None else Quantity(config.quantity)
    if quantity not in quantities:
        allowed = ", ".join(one.value for one in quantities)
        raise UsageError(f"--format {config.format} holds {allowed}, not {quantity.value}.")
    if not config.masks and config.label_values:
        raise UsageError("--label-values needs --masks.")
    values = checked_label_values(config.label_values, config.format)
    shape_px = config.shape_px or DEFAULT_SHAPES_PX.get(config.format, DEFAULT_SHAPE_PX)
    if config.format == "synthex" and not shape_px[0] == shape_px[1] < SYNTHEX_PX:
        raise UsageError(f"SyntheX takes square images of less than {SYNTHEX_PX} pixels a side.")
    spacing_mm = config.pixel_spacing_mm or (DETECTOR_MM / max(shape_px[1], 1),) * 2
    try:
        return Recipe(
            ranges=replace(ACQUISITION_PRESETS[config.poses], **changes),
            intrinsics=Intrinsics(
                source_to_detector_mm=config.source_to_detector_mm,
                pixel_spacing_mm=np.array(spacing_mm),
                shape_px=shape_px,
            ),
            quantity=quantity,
            detail=config.detail,
            label_values=values if config.masks else (),
            seed=config.seed,
            aim_offset_mm=config.aim_offset_mm,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def mask_name(label: int) -> str:
    """What the mask of a label is called."""
    return BONE_NAMES.get(label, f"label {label}")


def _check_output(folder: Path, description: SetDescription) -> None:
    """Refuse to mix two sets.

    Raises:
        UsageError: If the folder holds a set, or a part of one, of other options or subjects.
    """
    for name in (SET_NAME, UNFINISHED_NAME):
        if not (folder / name).exists():
            continue
        there = replace(SetDescription.read(folder / name), files={})
        for field in fields(SetDescription):
            one, other = getattr(there, field.name), getattr(description, field.name)
            if _plain(one) != _plain(other):
                raise UsageError(
                    f"{folder} holds a set of other options: its {field.name.replace('_', ' ')} "
                    "differ; name another --output, or repeat the command that made it."
                )
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty and holds no set; name another --output.")


def _plain(value: Any) -> Any:
    """A field as it is after a round trip through JSON."""
    return json.loads(json.dumps(value, default=lambda thing: asdict(thing)))


def _missing_parts(
    config: ExportConfig, description: SetDescription, whole: bool
) -> list[Part] | None:
    """Parts to make before the set is assembled; None where a whole set needs nothing.

    With --verify a file is there if its bytes are right, without if it is there at all.
    """
    folder, parts = config.output, description.parts
    fragments_stay = not whole or layout_module(description.layout).FRAGMENTS_STAY
    missing, had_fragments = [], False
    stage = "verify" if config.verify else "look"
    for part in tracked(parts, stage, len(parts), config.progress):
        try:
            record = read_part_record(folder, part)
        except UnreadableFileError:
            record = None
        files = {} if record is None else record["files"]
        fragments = {name for name in files if name.startswith(f"{PARTS_FOLDER}/")}
        had_fragments |= bool(fragments)
        if not fragments_stay:
            files = {name: digest for name, digest in files.items() if name not in fragments}
        if config.verify:
            damaged = any(damaged_files(folder, files))
        else:
            damaged = not all((folder / name).is_file() for name in files)
        if record is None or damaged:
            missing.append(part)
    if not whole:
        return missing
    assembled = SetDescription.read(folder / SET_NAME).files
    if not missing and not any(damaged_files(folder, assembled)):
        return None
    # What it is assembled from may be gone with the fragments.
    return missing if fragments_stay or not had_fragments else parts


def _make_parts(
    config: ExportConfig,
    description: SetDescription,
    subjects: dict[str, SubjectFolder],
    recipe: Recipe,
    missing: list[Part],
) -> None:
    """Make parts, wherever; say how far it has got in images."""
    for part in missing:
        (config.output / f"{part.stem}.json").unlink(missing_ok=True)
    tasks = [(part, subjects[part.subject]) for part in missing]
    shared = (config.output.resolve(), description.layout, recipe)
    n_workers = config.workers or usable_cpus()
    done = map_unordered(make_part, tasks, shared, n_workers, config.scheduler)
    n_images = sum(part.count for part in missing)
    for _ in tracked(done, "export", n_images, config.progress, lambda task: task[0].count):
        pass
    absent = [part for part in missing if not (config.output / f"{part.stem}.json").exists()]
    if absent:
        raise XraySynthError(
            f"The workers' files are not in {config.output}; they need the same folder under the "
            "same name."
        )


def make_part(folder: Path, layout: str, recipe: Recipe, task: tuple[Part, SubjectFolder]) -> None:
    """Make the files of one part and, last, its record."""
    part, source = task
    if not (folder / UNFINISHED_NAME).exists():
        raise XraySynthError(f"{folder} is not the set's folder where this worker runs.")
    subject = _load_subject(source, recipe.label_values)
    records: list[dict[str, Any]] = []
    files = layout_module(layout).write_part(
        folder, part, _recorded(_samples(part, subject, recipe), records)
    )
    write_part_record(folder, part, files, records, subject.digest)


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
def _load_subject(source: SubjectFolder, label_values: tuple[int, ...]) -> LoadedSubject:
    """Read a subject; the parts of one subject follow each other, so one is kept."""
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
    return LoadedSubject(source, source.digest(), materials, landmarks, aim_ras_mm, labels)


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
    xray = _as_quantity(acquire(subject.materials, acquisition), recipe, open_field)
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


def _as_quantity(transmission: Xray, recipe: Recipe, open_field: NDArray | None) -> Xray:
    if recipe.quantity is Quantity.TRANSMISSION:
        return transmission
    line_integral = to_line_integral(transmission)
    if recipe.quantity is Quantity.LINE_INTEGRAL:
        return line_integral
    return to_display(line_integral, detail=recipe.detail, open_field=open_field)


def seen_in_field(landmarks: ImageLandmarkSet, open_field: NDArray | None) -> ImageLandmarkSet:
    """Landmarks of which only those in the open field are visible."""
    if open_field is None:
        return landmarks
    visible = landmarks.visible.copy()
    columns, rows = np.round(landmarks.points_px[visible]).astype(int).T
    visible[visible] = open_field[rows, columns]
    return replace(landmarks, visible=visible)


def _recorded(samples: Iterator[Sample], records: list[dict[str, Any]]) -> Iterator[Sample]:
    """Pass samples on, noting all but their pixels."""
    for sample in samples:
        records.append(sample_to_record(sample))
        yield sample


def _assemble(folder: Path, description: SetDescription) -> None:
    """Make the files that need all parts; `set.json` last: with it the set is whole."""
    names = layout_module(description.layout).assemble(folder, description)
    files = {name: sha256_of(folder / name) for name in sorted(names)}
    replace(description, files=files).write(folder / SET_NAME)


def _finish(folder: Path, description: SetDescription) -> None:
    """Describe a whole set and remove what only an unfinished one needs, the plan last."""
    if not (folder / UNFINISHED_NAME).exists():
        return
    for leftover in folder.rglob(".tmp-*"):  # of runs that were killed
        leftover.unlink(missing_ok=True)
    write_set_report(folder, description)
    if not layout_module(description.layout).FRAGMENTS_STAY:
        for part in description.parts:
            for fragment in folder.glob(f"{part.stem}.*"):
                if fragment.suffix != ".json":
                    fragment.unlink()
    (folder / UNFINISHED_NAME).unlink()
