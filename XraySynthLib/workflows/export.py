"""`xraysynth export`: subjects x views -> a labelled set that other people's trainers read.

Image i of a run depends on (run_seed, i), the options and the subject's files alone. So any worker
can make any part of the set, a rerun makes only what is missing, and the bytes are the same.
"""

from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from XraySynthLib.data.formats.problems import unreadable
from XraySynthLib.data.sets import (
    SPLITS,
    Part,
    SetDescription,
    SetSubject,
    layout_module,
    persons_of,
    refuse_split_overlap,
    split_by_subject,
)
from XraySynthLib.errors import UsageError
from XraySynthLib.workflows.acquisition_options import AcquisitionOptions, quantity_of
from XraySynthLib.workflows.config import Progress, VerbConfig
from XraySynthLib.workflows.export_folder import is_whole, make_set, refuse_another_set
from XraySynthLib.workflows.export_images import ExportPlan, Recipe, make_part, mask_name
from XraySynthLib.workflows.mask_labels import check_label_maps, checked_label_values
from XraySynthLib.workflows.progress import counted, say
from XraySynthLib.workflows.split_file import read_split_file
from XraySynthLib.workflows.subjects import common_landmark_names, find_subjects, unused_volumes
from XraySynthLib.workflows.workers import map_unordered, usable_cpus

DEFAULT_SHAPE_PX = (512, 512)
SHAPE_PX_OF_FORMAT = {"synthex": (360, 360)}
SYNTHEX_PX = 384
"""Side of its network's images, which it pads smaller ones to."""
DEFAULT_SHARES = (0.8, 0.1, 0.1)
MAX_IMAGES = 100_000_000


@dataclass(frozen=True, kw_only=True)
class ExportConfig(AcquisitionOptions, VerbConfig):
    """Make a training set: labelled X-rays of every subject, at poses drawn at random.

    The same command again makes only what is missing.

    Attributes:
        subjects: Folder of subjects: from generate, or folders with ct.nii.gz and a .mrk.json
            (and labels.nii.gz).
        views: Images of each subject.
        format: How the files are laid out.
        output: Folder to write to.
        shape_px: Rows, columns; by default 512 x 512, for synthex 360 x 360.
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
    shape_px: tuple[int, int] | None = None
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
    check = partial(_check_label_maps, config, plan)
    make = partial(_make_parts, config, plan)
    findings = make_set(config.output, plan, make, check, config.verify, config.progress)
    return str(findings) if config.verify else config.output


def _check_label_maps(config: ExportConfig, plan: ExportPlan, missing: list[Part]) -> None:
    shown = {part.subject: plan.subjects[part.subject] for part in missing}
    check_label_maps(shown.values(), plan.recipe.label_values, config.progress)


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


def _read_split_file(path: Path, subjects: set[str]) -> dict[str, str]:
    splits = read_split_file(path)
    if absent := sorted(subjects - set(splits)):
        raise unreadable(path, f"it does not name {', '.join(absent[:4])}.")
    if odd := sorted(set(splits) - subjects):
        raise unreadable(path, f"it names {', '.join(odd[:4])}, who is none of the subjects.")
    return splits


def _recipe(config: ExportConfig) -> Recipe:
    quantity = quantity_of(config.format, config.quantity)
    if not config.masks and config.label_values:
        raise UsageError("--label-values needs --masks.")
    values = checked_label_values(config.label_values, config.format)
    shape_px = config.shape_px or SHAPE_PX_OF_FORMAT.get(config.format, DEFAULT_SHAPE_PX)
    if config.format == "synthex" and not shape_px[0] == shape_px[1] < SYNTHEX_PX:
        raise UsageError(f"SyntheX takes square images of less than {SYNTHEX_PX} pixels a side.")
    try:
        return Recipe(
            ranges=config.ranges(),
            intrinsics=config.intrinsics(shape_px),
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
