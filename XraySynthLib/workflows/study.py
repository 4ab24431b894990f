"""`xraysynth study`: which images train a landmark detector best? One detector, several sources.

    people, sets, target    whom images show; images of each arm; what is tested on
    runs, found, reports    a training each, what it found, its evaluation: ARM-SEED
    report.html, report.pdf, tables, figures    the study

The same command again goes on after the last part that was finished, to the same report.
"""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from XraySynthLib.data.formats import atomic_path
from XraySynthLib.data.pelvis import LANDMARK_NAMES
from XraySynthLib.data.sets import open_set
from XraySynthLib.errors import UnreadableFileError, UsageError, XraySynthError
from XraySynthLib.workflows import ct_generator, sample
from XraySynthLib.workflows.config import DeviceConfig
from XraySynthLib.workflows.packages import need_torch_packages
from XraySynthLib.workflows.progress import say, tracked
from XraySynthLib.workflows.study_parts import make_run, make_set, make_target
from XraySynthLib.workflows.study_plan import (
    ANATOMY,
    ARMS,
    GENERATED,
    MIXTURES,
    PRESETS,
    REAL,
    REFERENCE,
    VIEW,
    Preset,
    StudyPlan,
    costs_s,
)
from XraySynthLib.workflows.train_landmarks import TrainLandmarksConfig
from XraySynthLib.workflows.workers import map_unordered, usable_cpus, usable_threads

LEAST_SPECIMENS = 3
CONFIG_NAME = "config.json"
MODEL_OPTIONS = {
    GENERATED: "--generator",
    VIEW: "--view-sampler",
    ANATOMY: "--anatomy-sampler",
}
REAL_SUFFIXES = (".h5", ".hdf5")


@dataclass(frozen=True, kw_only=True)
class StudyConfig(DeviceConfig):
    """Train the same detector on each source of images, and test all on the same people.

    Arms: a, real X-rays; b, DRRs of rendered CTs; c, DRRs of generated CTs; d1, 2D diffusion told
    the view; d2, 2D diffusion told 3D anatomy; e1 and e2, half b or a and half d1. The same command
    again goes on where it ended. --dry-run says what there is to do and about how long it takes.

    Attributes:
        output: Folder of the study.
        real: DeepFluoro's HDF5 file, preprocessed or full-resolution: what is tested on, and arm a,
            one specimen left out in turn. Without it the six held-out people, with a physics that
            no training image has.
        preset: small: for two processors and 40 minutes. full: for a GPU.
        arms: Which arms; b, with which the others are compared, among them.
        seeds: Trainings of each arm.
        people: Whom each arm's images show.
        images: X-rays of each arm, a tenth of them to validate on; a multiple of --people.
        images_seen: In each training.
        sizes: Fewer training images, of which each arm is trained on, too.
        generator: Folder of the CT generator; by default the one that comes with XraySynth.
        view_sampler: Folder of the sampler told the view, likewise.
        anatomy_sampler: Folder of the sampler told 3D anatomy, likewise.
        workers: Processes; 0 for one a processor, and one in all for trainings on a GPU.
        resamples: Draws of subjects for the confidence intervals.
    """

    output: Path
    real: Path | None = None
    preset: Literal["small", "full"] = "small"
    arms: tuple[Literal["a", "b", "c", "d1", "d2", "e1", "e2"], ...] | None = None
    seeds: int | None = None
    people: int | None = None
    images: int | None = None
    images_seen: int | None = None
    sizes: tuple[int, ...] | None = None
    generator: Path | None = None
    view_sampler: Path | None = None
    anatomy_sampler: Path | None = None
    workers: int = 0
    resamples: int = 2000


def check_inputs(config: StudyConfig) -> None:
    """Refuse what cannot be done; say what is to be done.

    Raises:
        XraySynthError: Saying what to change.
    """
    plan = plan_study(config)
    if config.progress != "auto":  # no lines before JSON
        return
    total_s = 0.0
    for what, cost_s in costs_s(plan):
        left = f"about {cost_s / 60:.1f} core-minutes" if cost_s else "done"
        say(f"{what}: {left}.", config.progress)
        total_s += cost_s
    _say_what_is_left_out(plan, config)
    n_cpus = config.workers or usable_cpus()
    say(
        f"In all about {total_s / 60 / n_cpus:.0f} minutes on {n_cpus} processor"
        f"{'' if n_cpus == 1 else 's'} of a Sapphire Rapids Xeon, without a GPU.",
        config.progress,
    )


def run(config: StudyConfig) -> Path:
    """Make what is missing of the study; returns the report's page.

    Raises:
        XraySynthError: If something cannot be made.
    """
    from XraySynthLib.training.precision import device_of
    from XraySynthLib.workflows.study_report import write_study

    plan = plan_study(config)
    config.output.mkdir(parents=True, exist_ok=True)
    with atomic_path(config.output / CONFIG_NAME) as temporary:
        temporary.write_text(json.dumps(_options(plan), indent=2) + "\n", "utf-8")
    _say_what_is_left_out(plan, config)
    for arm in plan.set_arms:
        make_set(plan, arm, config.device, config.workers, config.progress)
    make_target(plan, config.workers, config.progress)
    on_cpu = device_of(config.device).type == "cpu"
    n_workers = config.workers or (usable_cpus() if on_cpu else 1)
    threads = max(min(usable_threads(), usable_cpus() // n_workers), 1)
    shared = (plan, config.device, threads)
    with closing(map_unordered(make_run, plan.runs, shared, n_workers)) as made:
        for _ in tracked(made, "runs", len(plan.runs), config.progress):
            pass
    return write_study(plan, config.resamples, config.progress)


def plan_study(config: StudyConfig) -> StudyPlan:
    """Decide what a study consists of, and check it.

    Raises:
        XraySynthError: Saying what to change.
    """
    preset = _preset(config)
    models = {
        GENERATED: config.generator,
        VIEW: config.view_sampler,
        ANATOMY: config.anatomy_sampler,
    }
    need_torch_packages("A study", "accelerate", "tensorboard")
    left_out = dict(_missing(preset.arms, models))
    for arm, parts in MIXTURES.items():
        if arm in preset.arms and (lacking := [part for part in parts if part in left_out]):
            left_out[arm] = f"It needs arm {lacking[0]}."
    arms = tuple(arm for arm in ARMS if arm in preset.arms and arm not in left_out)
    plan = StudyPlan(
        output=config.output,
        preset=_with_common_side(preset, arms, models),
        seed=config.seed,
        arms=arms,
        left_out=left_out,
        models=models,
        real=config.real,
        real_images=() if config.real is None else _real_images(config.real, config),
    )
    from XraySynthLib.training.run_folder import check_run_folder

    check_run_folder(config.output, _options(plan))
    return plan


def _preset(config: StudyConfig) -> Preset:
    """The preset with what is asked for instead."""
    preset = PRESETS[config.preset]
    names = ("arms", "seeds", "people", "images", "images_seen", "sizes")
    asked = {name: getattr(config, name) for name in names if getattr(config, name) is not None}
    with_real = {REAL, *(arm for arm, parts in MIXTURES.items() if REAL in parts)}
    if config.real is None and "arms" not in asked:
        asked["arms"] = tuple(arm for arm in preset.arms if arm not in with_real)
    elif "arms" not in asked:
        asked["arms"] = tuple(dict.fromkeys((REAL, *preset.arms)))
    preset = replace(preset, **asked)
    preset = replace(preset, sizes=tuple(dict.fromkeys(preset.sizes)))
    if preset.people < 2:
        raise UsageError("--people must be 2 or more: some are learned from, some watched.")
    numbers = (preset.seeds, preset.images, preset.images_seen, *preset.sizes)
    if min(numbers) < 1 or min(config.workers, config.resamples, config.seed) < 0:
        raise UsageError(
            "--seeds, --images, --images-seen and --sizes must be 1 or more, --workers, "
            "--resamples and --seed 0 or more."
        )
    batch = TrainLandmarksConfig.batch_images
    if preset.images_seen < batch:
        raise UsageError(f"--images-seen must be {batch} or more, the images of one step.")
    if preset.images % preset.people:
        raise UsageError(
            f"--images {preset.images} must be a multiple of --people, {preset.people}."
        )
    n_learned = preset.images - preset.images // preset.people * preset.n_watched
    if config.sizes is None:  # the preset's, as far as there are so many images
        preset = replace(preset, sizes=tuple(size for size in preset.sizes if size < n_learned))
    if preset.sizes and max(preset.sizes) >= n_learned:
        raise UsageError(
            f"--sizes must be less than {n_learned}: of {preset.images} images of {preset.people} "
            f"people, so many are learned from, those of {preset.n_watched} are watched."
        )
    if REFERENCE not in preset.arms:
        raise UsageError("--arms needs b, the arm with which the others are compared.")
    if config.real is None and (real := sorted(with_real & set(preset.arms))):
        raise UsageError(f"--arms {' '.join(real)} learns from real images; name them with --real.")
    for arm in preset.arms:
        if lacking := set(MIXTURES.get(arm, ())) - set(preset.arms):
            raise UsageError(f"--arms {arm} needs {sorted(lacking)[0]}, too.")
    return preset


def _missing(arms: tuple[str, ...], models: dict[str, Path | None]) -> Iterator[tuple[str, str]]:
    """Arms whose model does not come with XraySynth, and what is said of it.

    Raises:
        XraySynthError: If a model is there or named and cannot be used.
    """
    if GENERATED in arms:
        try:
            ct_generator.generator_folder(models[GENERATED])
        except UnreadableFileError as error:
            yield GENERATED, _in_our_words(error, GENERATED)
        else:
            ct_generator.check_generator(models[GENERATED])
    for arm, condition in ((VIEW, "view"), (ANATOMY, "anatomy")):
        if arm in arms:
            config = _sample_config(condition, models[arm])
            try:
                sample.model_folder(config)
            except UnreadableFileError as error:
                yield arm, _in_our_words(error, arm)
            else:
                sample.plan_set(config)


def _in_our_words(error: XraySynthError, arm: str) -> str:
    """What another verb says, which calls an arm's model --model."""
    return str(error).replace("--model", MODEL_OPTIONS[arm])


def _sample_config(condition: str, model: Path | None) -> sample.SampleConfig:
    return sample.SampleConfig(
        output=Path("nowhere"),
        count=1,
        condition=condition,  # type: ignore[arg-type]
        model=model,
        quantity="line-integral",
    )


def _with_common_side(
    preset: Preset, arms: tuple[str, ...], models: dict[str, Path | None]
) -> Preset:
    """Training images of all arms as large as the smallest that a sampler of theirs makes."""
    from XraySynthLib.diffusion.model import read_sampler_config

    sides = [preset.side_px]
    for arm, condition in ((VIEW, "view"), (ANATOMY, "anatomy")):
        if arm in arms:
            folder = sample.model_folder(_sample_config(condition, models[arm]))
            sides.append(read_sampler_config(folder).network.side_px)
    return replace(preset, side_px=min(sides))


def _real_images(path: Path, config: StudyConfig) -> tuple[tuple[str, str], ...]:
    """Key and specimen of every real image.

    Raises:
        UsageError: If they are not DeepFluoro's, or of too few specimens.
        UnreadableFileError: If the file is damaged.
    """
    if path.suffix.lower() not in REAL_SUFFIXES:
        raise UsageError(f"--real {path} must be one of DeepFluoro's HDF5 files (.h5).")
    samples = open_set(path)
    progress = "auto" if config.progress == "auto" else "none"
    images = []
    for one in tracked(samples, "read", len(samples), progress):
        if set(one.landmarks.names) != set(LANDMARK_NAMES):
            raise UsageError(f"--real {path} has other landmarks than DeepFluoro's 14.")
        images.append((one.key, one.provenance.subject))
    specimens = {subject for _, subject in images}
    if len(specimens) < LEAST_SPECIMENS:
        raise UsageError(
            f"--real {path} has {len(specimens)} specimens; {LEAST_SPECIMENS} are needed, to "
            "learn from, to watch and to leave out."
        )
    return tuple(images)


def _say_what_is_left_out(plan: StudyPlan, config: StudyConfig) -> None:
    for arm, why in plan.left_out.items():
        say(f"Arm {arm} is left out: {why}", config.progress)


def _options(plan: StudyPlan) -> dict[str, Any]:
    """What one study's folder differs in from another's; arms and seeds may be added to it."""
    options = {
        name: value
        for name, value in asdict(plan.preset).items()
        if name not in ("arms", "seeds", "sizes")
    }
    return {**options, "seed": plan.seed, "real": plan.real and plan.real.name}
