"""`xraysynth sample`: a sampler -> a labelled set, laid out as `export` lays it out.

Image i of a run depends on (seed, i), the options and the model alone, so that a rerun makes only
what is missing.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from XraySynthLib.data import Quantity
from XraySynthLib.data.sets import (
    Part,
    SetDescription,
    SetSubject,
    layout_module,
    split_by_subject,
)
from XraySynthLib.data.sets.parts import sha256_of
from XraySynthLib.errors import UnreadableFileError, UsageError
from XraySynthLib.workflows.acquisition_options import AcquisitionOptions, quantity_of
from XraySynthLib.workflows.config import DeviceConfig
from XraySynthLib.workflows.export_folder import make_set, refuse_another_set
from XraySynthLib.workflows.packages import need_torch_packages
from XraySynthLib.workflows.progress import counted, say
from XraySynthLib.workflows.sample_images import (
    Imagined,
    SamplePlan,
    SampleRecipe,
    acquisition_of,
    make_part,
    middle_of,
)
from XraySynthLib.workflows.set_report import refusals
from XraySynthLib.workflows.workers import usable_threads

if TYPE_CHECKING:
    from XraySynthLib.diffusion.model import SamplerConfig

SHIPPED = Path(__file__).parent.parent / "assets" / "xray_sampler"
MAX_IMAGES = 1_000_000
N_VIEWS_LOOKED_AT = 2_000


@dataclass(frozen=True, kw_only=True)
class SampleConfig(AcquisitionOptions, DeviceConfig):
    """Make X-rays with their landmarks directly, by 2D diffusion, at poses drawn at random.

    The same command again makes only what is missing.

    Attributes:
        output: Folder to write to.
        count: How many images.
        condition: anatomy: images of people drawn from the shape model, whose bones and landmarks
            are projected first. view: image and landmarks are made together, of nobody.
        model: Folder of the sampler, by default the one that comes with XraySynth.
        format: How the files are laid out.
        views: Images of a person; --count is a multiple of it. By default up to 10. With view
            they only go into one split.
        quantity: What the images are; by default what the format is used with.
        detail: Fine detail added to display images, as a console does; 0 for none.
        steps: Evaluations of the network for an image.
        guidance: Weight of the condition; 1 for none more, larger obeys more and varies less. By
            default 1.5 with anatomy, 2.5 with view.
        batch: Images that are made at a time. By default 16 on a GPU and 1 on a processor, which is
            faster at it.
        split: Shares of train, val and test, by person; by default all train.
        part_size: Images of a part (a shard) at most: what is lost at most when a run is killed.
        verify: Check every file there against its SHA-256, make again what is damaged, and say so.
    """

    output: Path
    count: int
    condition: Literal["anatomy", "view"] = "anatomy"
    model: Path | None = None
    format: Literal["coco", "deepfluoro", "synthex", "webdataset", "dicom", "scene"] = "webdataset"
    views: int | None = None
    quantity: Literal["line-integral", "transmission", "display"] | None = None
    detail: float = 0.5
    steps: int = 8
    guidance: float | None = None
    batch: int | None = None
    split: tuple[float, float, float] = (1.0, 0.0, 0.0)
    part_size: int = 100
    verify: bool = False


DEFAULT_VIEWS = 10
EXPOSURE_OPTIONS = ("scatter", "photons_per_mm2", "blur_mm", "collimated_share")


def check_inputs(config: SampleConfig) -> None:
    """Refuse what cannot be made, and an output folder that holds another set.

    Raises:
        XraySynthError: Saying what to change.
    """
    plan, model = plan_set(config)
    refuse_another_set(config.output, plan, verify=False)
    if config.progress == "auto":
        _warn_of_views(config, plan, model)


def run(config: SampleConfig) -> Path | str:
    """Make what is missing of the set; returns its folder, or what --verify found.

    Raises:
        XraySynthError: If model or options cannot be used, or another export works there.
    """
    plan, model = plan_set(config)
    _warn_of_views(config, plan, model)
    make = partial(_make_parts, config, plan)
    findings = make_set(
        config.output, plan, make, lambda missing: None, config.verify, config.progress
    )
    if config.condition == "view" and findings.missing:
        say(refusals(config.output, plan.description), config.progress)
    return str(findings) if config.verify else config.output


def _make_parts(config: SampleConfig, plan: SamplePlan, missing: list[Part]) -> None:
    import torch

    from XraySynthLib.diffusion.model import load_sampler
    from XraySynthLib.training.precision import device_of

    torch.set_num_threads(usable_threads())
    device = device_of(config.device)
    sampler = load_sampler(model_folder(config), device)
    batch = config.batch or (1 if device.type == "cpu" else 16)
    with counted("sample", sum(part.count for part in missing), config.progress) as count:
        for part in missing:
            person = plan.subjects[part.subject]
            for made in make_part(
                config.output, config.format, plan.recipe, sampler, batch, part, person
            ):
                count(made)


def model_folder(config: SampleConfig) -> Path:
    """The folder of the sampler that is asked for, or of the one that comes with XraySynth.

    Raises:
        UnreadableFileError: If none comes with it.
    """
    shipped = SHIPPED / config.condition
    if config.model is None and not (shipped / "config.json").is_file():
        raise UnreadableFileError(
            f"This version of XraySynth comes without an X-ray sampler for --condition "
            f"{config.condition}: train one with xraysynth train xray, and name its folder with "
            "--model."
        )
    return config.model or shipped


def plan_set(config: SampleConfig) -> "tuple[SamplePlan, SamplerConfig]":
    """Decide everything that decides the set, and check it; also what the model is."""
    views = config.views
    if views is None:  # as many as divide --count
        views = next(n for n in range(DEFAULT_VIEWS, 0, -1) if config.count % n == 0)
    batch = 1 if config.batch is None else config.batch
    if min(config.count, views, batch, config.part_size, config.steps) < 1:
        raise UsageError("--count, --views, --batch, --part-size and --steps must be 1 or more.")
    if config.count > MAX_IMAGES or config.seed < 0:
        raise UsageError(f"--count is at most {MAX_IMAGES}, --seed 0 or more.")
    if not 0 <= (config.guidance or 0) <= 20:
        raise UsageError(f"--guidance must be 0 to 20, got {config.guidance:g}.")
    if config.count % views:
        raise UsageError(
            f"--count {config.count} must be a multiple of --views, the images of a person: "
            f"{views}."
        )
    if config.output.exists() and not config.output.is_dir():
        raise UsageError(f"--output {config.output} is a file; name a folder.")
    folder = model_folder(config)
    need_torch_packages("Sampling", "diffusers")
    from XraySynthLib.diffusion.model import WEIGHTS_NAME, read_prior, read_sampler_config
    from XraySynthLib.training.precision import device_of

    device_of(config.device)  # refused before anything is written
    model = read_sampler_config(folder)
    if model.network.condition != config.condition:
        raise UsageError(
            f"The model in {folder} is for --condition {model.network.condition}, not "
            f"{config.condition}."
        )
    if not (folder / WEIGHTS_NAME).is_file():
        raise UnreadableFileError(f"{folder / WEIGHTS_NAME} is missing; get the whole model.")
    read_prior(folder, model.network.n_landmarks)  # refused here, if damaged
    recipe = _recipe(config, model, sha256_of(folder / WEIGHTS_NAME))
    people = tuple(sorted({*model.people, *_behind_bones(config)}))
    names = [
        f"sampled-{config.condition}-{config.seed}-{number:05d}"
        for number in range(config.count // views)
    ]
    try:
        splits = split_by_subject(dict.fromkeys(names, people), config.split, config.seed)
    except ValueError as error:
        raise UsageError(f"--split: {error}") from error
    description = SetDescription(
        layout=config.format,
        subjects=tuple(SetSubject(name, splits[name], people) for name in names),
        images_per_subject=views,
        part_size=config.part_size,
        landmark_names=model.landmark_names,
        mask_names=(),
        options=recipe.to_dict(),
    )
    layout_module(config.format).check(description)
    imagined = {
        name: Imagined(name, number, people, recipe.sha256) for number, name in enumerate(names)
    }
    return SamplePlan(description, imagined, recipe), model


def _behind_bones(config: SampleConfig) -> list[str]:
    """Those whose bones shaped the shape model, where bones are drawn from it."""
    if config.condition == "view":
        return []
    from XraySynthLib.anatomy.shape_model import load_shape_model
    from XraySynthLib.workflows.conditions import person_name

    return [person_name(one) for one in load_shape_model().training]


def _recipe(config: SampleConfig, model: "SamplerConfig", sha256: str) -> SampleRecipe:
    from XraySynthLib.diffusion.model import GUIDANCE, LEAD

    quantity = quantity_of(config.format, config.quantity)
    if model.quantity == Quantity.DISPLAY.value and quantity is not Quantity.DISPLAY:
        raise UsageError("This sampler makes display images; use --quantity display.")
    given = [name for name in EXPOSURE_OPTIONS if getattr(config, name) is not None]
    if model.quantity == Quantity.DISPLAY.value and given:
        raise UsageError(
            "This sampler makes display images, exposed as those that it was trained on; leave out "
            f"{', '.join('--' + name.replace('_', '-') for name in given)}."
        )
    if not 0 <= config.detail < float("inf"):
        raise UsageError(f"--detail must be 0 or more, got {config.detail:g}.")
    side = model.network.side_px
    try:
        ranges = config.ranges()
        intrinsics = config.intrinsics((side, side))
    except ValueError as error:
        raise UsageError(str(error)) from error
    if model.kvp and config.kvp is None:
        ranges = replace(ranges, kvp=model.kvp)
    if model.quantity == Quantity.DISPLAY.value:  # collimated as its training was
        ranges = replace(ranges, collimated_share=0.0)
    farthest_mm = ranges.source_to_isocenter_mm[1]
    if farthest_mm >= config.source_to_detector_mm:
        raise UsageError(
            f"--source-to-isocenter-mm goes to {farthest_mm:g}, which must be less than "
            f"--source-to-detector-mm, {config.source_to_detector_mm:g}."
        )
    return SampleRecipe(
        ranges=ranges,
        intrinsics=intrinsics,
        quantity=quantity,
        detail=config.detail,
        seed=config.seed,
        aim_offset_mm=config.aim_offset_mm,
        condition=config.condition,
        model=model.name,
        sha256=sha256,
        steps=config.steps,
        guidance=GUIDANCE[config.condition] if config.guidance is None else config.guidance,
        lead=LEAD,
    )


def _warn_of_views(config: SampleConfig, plan: SamplePlan, model: "SamplerConfig") -> None:
    """Say how many of the first views, and whether the field, are none the model was trained on."""
    from XraySynthLib.diffusion.model import field_deg, read_prior

    intrinsics = plan.recipe.intrinsics
    if model.fields_deg is not None and not model.knows_field(intrinsics):
        least, greatest = model.fields_deg
        say(
            f"The field of view is {field_deg(intrinsics):.1f} degrees wide, but the sampler was "
            f"trained on {least:.1f} to {greatest:.1f}; do not trust its images, or change "
            "--pixel-spacing-mm or --source-to-detector-mm.",
            config.progress,
        )
    n_looked_at = min(config.count, N_VIEWS_LOOKED_AT)
    aim = middle_of(read_prior(model_folder(config), model.network.n_landmarks).mean_mm)
    views = (acquisition_of(item, plan.recipe, aim).view for item in range(n_looked_at))
    n_far = sum(not model.knows(view, np.zeros(3)) for view in views)
    if n_far:
        say(
            f"{n_far} of {n_looked_at} views look from where the sampler was never trained: by "
            "their angles, or by where the pelvis is to the C-arm; do not trust their images.",
            config.progress,
        )
    kvp = plan.recipe.ranges.kvp
    if model.kvp and not min(model.kvp) <= min(kvp) <= max(kvp) <= max(model.kvp):
        say(
            f"The sampler was trained at {min(model.kvp)} to {max(model.kvp)} kVp; --kvp asks for "
            f"{', '.join(map(str, kvp))}.",
            config.progress,
        )
