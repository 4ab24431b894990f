"""`xraysynth export`: subjects x views -> a labelled set that other people's trainers read.

Image i of a run depends on (run_seed, i), the options and the subject's files alone. So any worker
can make any part of the set, a rerun makes only what is missing, and the bytes are the same.
"""

import json
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from XraySynthLib.data import Quantity
from XraySynthLib.data.formats.problems import check_file, reading, unreadable
from XraySynthLib.data.sets import (
    SET_NAME,
    SPLITS,
    Part,
    SetDescription,
    SetSubject,
    layout_module,
    persons_of,
    refuse_split_overlap,
    split_by_subject,
)
from XraySynthLib.data.sets.description import UNFINISHED_NAME
from XraySynthLib.data.sets.parts import PARTS_FOLDER, sha256_of
from XraySynthLib.drr import ACQUISITION_PRESETS
from XraySynthLib.errors import UnreadableFileError, UsageError
from XraySynthLib.geometry import Intrinsics
from XraySynthLib.workflows.config import Progress, VerbConfig
from XraySynthLib.workflows.export_folder import (
    REPORT_NAMES,
    Findings,
    is_whole,
    locked,
    look,
    refuse_another_set,
    refuse_mixed_subjects,
    remove_leftovers,
)
from XraySynthLib.workflows.export_images import ExportPlan, Recipe, make_part, mask_name
from XraySynthLib.workflows.mask_labels import check_label_maps, checked_label_values
from XraySynthLib.workflows.progress import counted, say, stage
from XraySynthLib.workflows.set_report import write_set_report
from XraySynthLib.workflows.subjects import common_landmark_names, find_subjects, unused_volumes
from XraySynthLib.workflows.workers import map_unordered, usable_cpus

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
DEFAULT_SHAPE_PX = (512, 512)
SHAPE_PX_OF_FORMAT = {"synthex": (360, 360)}
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
        scatter: Range of the strength of scatter instead.
        photons_per_mm2: Range of the dose instead: photons on a square millimetre of the open beam.
        blur_mm: Range of the detector's blur instead.
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
        split: Shares of train, val and test, by person behind the subjects; by default 0.8 0.1 0.1,
            or all train where there are fewer than three people.
        split_file: JSON file that says instead who goes where: {"SUBJECT": "train", ...}.
        part_size: Images of a part (a shard) at most: what is lost at most when a run is killed.
        workers: Processes; 0 for one a processor.
        scheduler: Address of a Dask scheduler to work on instead (tcp://host:8786).
        verify: Check every file there against its SHA-256, make again what is damaged, and say so.
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
    scatter: Range | None = None
    photons_per_mm2: Range | None = None
    blur_mm: Range | None = None
    collimated_share: float | None = None
    source_to_detector_mm: float = 1020.0
    shape_px: tuple[int, int] | None = None
    pixel_spacing_mm: tuple[float, float] | None = None
    quantity: Literal["line-integral", "transmission", "display"] | None = None
    detail: float = 0.5
    masks: bool = True
    label_values: tuple[int, ...] | None = None
    split: tuple[float, float, float] | None = None
    split_file: Path | None = None
    part_size: int = 100
    workers: int = 0
    scheduler: str | None = None
    verify: bool = False


def check_inputs(config: ExportConfig) -> None:
    """Refuse what cannot be made, and an output folder that holds another set.

    Raises:
        XraySynthError: Saying what to change.
    """
    plan = plan_set(config)
    refuse_another_set(config.output, plan, verify=False)
    progress: Progress = "auto" if config.progress == "auto" else "none"  # no lines before JSON
    if not is_whole(config.output, plan.description, progress):
        check_label_maps(plan.subjects.values(), plan.recipe.label_values, progress)
    _say_what_is_unused(plan, progress)
    say(_summary(plan.description), progress)


def run(config: ExportConfig) -> Path | str:
    """Make what is missing of the set; returns its folder, or what --verify found.

    Raises:
        XraySynthError: If subjects or options cannot be used, another export works there, or
            workers die.
    """
    plan = plan_set(config)
    _say_what_is_unused(plan, config.progress)
    folder = config.output
    refuse_another_set(folder, plan, config.verify, config.progress)
    if not config.verify and is_whole(folder, plan.description, config.progress):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        refuse_another_set(folder, plan, verify=False)  # another run may have begun one meanwhile
        remove_leftovers(folder)
        findings = look(folder, plan.description, config.verify, config.progress)
        try:
            _complete(config, plan, findings)
        finally:
            remove_leftovers(folder)  # of workers that died, or were ended
    return str(findings) if config.verify else folder


def _complete(config: ExportConfig, plan: ExportPlan, findings: Findings) -> None:
    """Make the parts that are missing, then what is made of all parts."""
    folder, description, files = config.output, plan.description, findings.assembled
    shown = {part.subject: plan.subjects[part.subject] for part in findings.missing}
    check_label_maps(shown.values(), plan.recipe.label_values, config.progress)
    if files is None:
        description.write(folder / UNFINISHED_NAME)
        (folder / PARTS_FOLDER).mkdir(exist_ok=True)
        (folder / SET_NAME).unlink(missing_ok=True)
        _make_parts(config, plan, findings.missing)
        refuse_mixed_subjects(folder, description, config.progress)
        with stage("assemble", config.progress):
            names = layout_module(description.layout).assemble(folder, description)
            files = {name: sha256_of(folder / name) for name in sorted(names)}
            replace(description, files=files).write(folder / SET_NAME)
    if not findings.has_report:
        with stage("report", config.progress):
            write_set_report(folder, description)
            files |= {name: sha256_of(folder / name) for name in REPORT_NAMES}
            replace(description, files=files).write(folder / SET_NAME)
    _clear(folder, description)


def _say_what_is_unused(plan: ExportPlan, progress: Progress) -> None:
    """Say which volumes are taken neither for a CT nor for labels, lest labels be missed."""
    if unused := unused_volumes(plan.subjects.values()):
        more = f" and {len(unused) - 1} more volumes" if len(unused) > 1 else ""
        say(f"{unused[0]}{more}: not used, being called neither ct nor labels.", progress)


def _summary(description: SetDescription) -> str:
    """How large a set is."""
    of_split = Counter(subject.split for subject in description.subjects)
    return (
        f"{description.n_images} images in {len(description.parts)} parts; subjects: "
        f"{', '.join(f'{of_split[split]} {split}' for split in SPLITS)}."
    )


def plan_set(config: ExportConfig) -> ExportPlan:
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
    splits = _splits(config, {subject.name: subject.derived_from for subject in subjects})
    description = SetDescription(
        layout=config.format,
        subjects=tuple(SetSubject(s.name, splits[s.name], s.derived_from) for s in subjects),
        images_per_subject=config.views,
        part_size=config.part_size,
        landmark_names=common_landmark_names(subjects),
        mask_names=tuple(map(mask_name, recipe.label_values)),
        options=recipe.to_dict(),
    )
    layout_module(config.format).check(description)
    for subject in subjects:
        subject.check_files()
    return ExportPlan(description, {subject.name: subject for subject in subjects}, recipe)


def _splits(config: ExportConfig, derived_from: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """Subject -> split: as --split-file says, or drawn by shares."""
    if config.split_file is not None:
        if config.split is not None:
            raise UsageError("Give the split by --split or by --split-file, not by both.")
        splits = _read_split_file(config.split_file, set(derived_from))
        refuse_split_overlap(splits, derived_from)
        return splits
    n_persons = len(set(persons_of(derived_from).values()))
    shares = config.split or (DEFAULT_SHARES if n_persons >= len(SPLITS) else (1.0, 0.0, 0.0))
    try:
        return split_by_subject(derived_from, shares, config.seed)
    except ValueError as error:
        raise UsageError(f"--split: {error}") from error


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, of which `json` would keep a key's last value alone."""
    twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if twice:
        raise UnreadableFileError(f"--split-file names {', '.join(twice[:4])} twice; leave one.")
    return dict(pairs)


def _read_split_file(path: Path, subjects: set[str]) -> dict[str, str]:
    check_file(path)
    with reading(path, "a JSON file"):
        splits = json.loads(path.read_text("utf-8"), object_pairs_hook=_each_key_once)
    if not isinstance(splits, dict) or not all(split in SPLITS for split in splits.values()):
        raise unreadable(path, f'it must hold {{"SUBJECT": "{SPLITS[0]}", ...}}, each of {SPLITS}.')
    if absent := sorted(subjects - set(splits)):
        raise unreadable(path, f"it does not name {', '.join(absent[:4])}.")
    if odd := sorted(set(splits) - subjects):
        raise unreadable(path, f"it names {', '.join(odd[:4])}, who is none of the subjects.")
    return splits


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
    shape_px = config.shape_px or SHAPE_PX_OF_FORMAT.get(config.format, DEFAULT_SHAPE_PX)
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


def _make_parts(config: ExportConfig, plan: ExportPlan, missing: list[Part]) -> None:
    """Make parts, wherever; say how far it has got in images."""
    for part in missing:
        (config.output / f"{part.stem}.json").unlink(missing_ok=True)
    tasks = [(part, plan.subjects[part.subject]) for part in missing]
    shared = (config.output.resolve(), config.format, plan.recipe)
    n_workers = config.workers or usable_cpus()
    n_images = sum(part.count for part in missing)
    tell = partial(say, progress=config.progress)
    with (
        counted("export", n_images, config.progress) as count,
        closing(
            map_unordered(make_part, tasks, shared, n_workers, config.scheduler, tell, count)
        ) as made,  # closed: no worker outlives this
    ):
        for part, _ in made:
            if config.scheduler is not None:
                count(part.count)


def _clear(folder: Path, description: SetDescription) -> None:
    """Remove what only an unfinished set needs, the plan last."""
    if not layout_module(description.layout).FRAGMENTS_STAY:
        for path in (folder / PARTS_FOLDER).iterdir():
            if path.suffix != ".json":
                path.unlink()
    (folder / UNFINISHED_NAME).unlink(missing_ok=True)
