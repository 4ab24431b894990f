"""Makes the parts of a study, each by the verb that makes it, in a folder of its own.

What is finished is left as it is: by its own folder, each verb knows what is missing.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from XraySynthLib.data.formats import atomic_path, write_xray
from XraySynthLib.data.sets import SET_NAME, SetDescription, open_set
from XraySynthLib.errors import XraySynthError
from XraySynthLib.workflows import detect, evaluate, export, generate, sample, train_landmarks
from XraySynthLib.workflows.config import Progress
from XraySynthLib.workflows.progress import say, tracked
from XraySynthLib.workflows.study_plan import (
    ANATOMY,
    GENERATED,
    MIXTURES,
    PEOPLE_SEED,
    REAL,
    RENDERED,
    SPLIT,
    TARGET_SEED,
    VIEW,
    Run,
    StudyPlan,
)

KVP = (70, 80, 90, 100, 110)
UNSEEN_PHYSICS = {
    "source_to_detector_mm": 1200.0,
    "source_to_isocenter_mm": (650.0, 850.0),
    "kvp": (60, 120),
    "scatter": (0.22, 0.35),
    "photons_per_mm2": (1e4, 2.9e4),
    "blur_mm": (0.42, 0.7),
}
"""Another C-arm, and spectra, scatter, dose and blur that no training image has."""
TARGET_FIELD_MM = 300.0
MODEL_FOLDER = train_landmarks.MODEL_FOLDER


def make_set(plan: StudyPlan, arm: str, device: str, workers: int, progress: Progress) -> None:
    """Make the images of an arm, and before them the CTs they show.

    All arms show people drawn by the same seed, at poses drawn by the same seed; the view alone is
    what "d1" shares with the others.
    """
    folder, seed = plan.set_of(arm), PEOPLE_SEED + plan.seed
    preset = plan.preset
    views = preset.images // preset.people
    if arm in (VIEW, ANATOMY):
        sample.run(
            sample.SampleConfig(
                output=folder,
                count=preset.images,
                views=views,
                condition="view" if arm == VIEW else "anatomy",
                model=plan.models[arm],
                kvp=KVP,
                quantity="line-integral",
                split=SPLIT,
                seed=seed,
                device=device,
                progress=progress,
            )
        )
        return
    people = plan.output / "people" / ("rendered" if arm == RENDERED else "generated")
    _make_people(plan, arm, people, device, workers, progress)
    export.run(
        export.ExportConfig(
            subjects=people,
            output=folder,
            views=views,
            format="webdataset",
            shape_px=(preset.side_px, preset.side_px),
            quantity="line-integral",
            kvp=KVP,
            masks=False,
            split=SPLIT,
            seed=seed,
            workers=workers,
            progress=progress,
        )
    )


def _make_people(
    plan: StudyPlan, arm: str, folder: Path, device: str, workers: int, progress: Progress
) -> None:
    """Make CTs; a generated one that its quality check refused is missing, and that is said."""
    by_network = arm == GENERATED
    if any(folder.glob("refused-*.json")) and (plan.set_of(arm) / SET_NAME).is_file():
        return  # they would be refused again
    config = generate.GenerateConfig(
        output=folder,
        count=plan.preset.people,
        backend="diffusion" if by_network else "rendered",
        preset=plan.preset.grid,  # type: ignore[arg-type]
        model=plan.models.get(arm) if by_network else None,
        workers=0 if by_network else workers,
        seed=PEOPLE_SEED + plan.seed,
        device=device,
        progress=progress,
    )
    try:
        generate.run(config)
    except XraySynthError:
        refused = sorted(folder.glob("refused-*.json"))
        if not refused or len(refused) > plan.preset.people // 2:
            raise
        say(f"{len(refused)} of {plan.preset.people} generated CTs were refused.", progress)


def make_target(plan: StudyPlan, workers: int, progress: Progress) -> None:
    """Make what is tested on: images of the held-out people, or files of the real ones."""
    if plan.real is not None:
        _write_real_images(plan, progress)
        return
    people, preset = plan.output / "target" / "people", plan.preset
    generate.run(
        generate.GenerateConfig(
            output=people,
            count=generate.N_HELD_OUT,
            people="held-out",
            preset=preset.target_grid,  # type: ignore[arg-type]
            seed=TARGET_SEED + plan.seed,
            workers=workers,
            progress=progress,
        )
    )
    export.run(
        export.ExportConfig(
            subjects=people,
            output=plan.truth,
            views=preset.target_views,
            format="coco",
            shape_px=(preset.target_px, preset.target_px),
            pixel_spacing_mm=(TARGET_FIELD_MM / preset.target_px,) * 2,
            masks=False,
            split=(0, 0, 1),
            seed=TARGET_SEED + plan.seed,
            workers=workers,
            progress=progress,
            **UNSEEN_PHYSICS,  # type: ignore[arg-type]
        )
    )


def _write_real_images(plan: StudyPlan, progress: Progress) -> None:
    """Real images as files, which `detect` reads."""
    paths = plan.real_files
    missing = [number for number, path in enumerate(paths) if not path.is_file()]
    samples = open_set(plan.truth)
    for number in tracked(missing, "real images", len(missing), progress):
        paths[number].parent.mkdir(parents=True, exist_ok=True)
        write_xray(samples[number].xray, paths[number])


def make_run(plan: StudyPlan, device: str, threads: int, run: Run) -> None:
    """Train, detect, evaluate: `runs`, `found` and `reports` of a run."""
    if (plan.report(run) / evaluate.PAGE_NAME).is_file():
        return
    models = []
    for specimen in plan.left_out_in(run):
        model = _train(plan, run, specimen, device, threads)
        models.append(model)
        shown = [specimen] if specimen else [*plan.image_folders]
        for folder in map(plan.image_folders.__getitem__, shown):
            detect.run(
                detect.DetectConfig(
                    image=folder,
                    output=plan.found(run),
                    model=model,
                    overlay=False,
                    device=device,
                    progress="none",
                )
            )
    evaluate.run(
        evaluate.EvaluateConfig(
            predictions=plan.found(run),
            truth=plan.truth,
            output=plan.report(run),
            model=tuple(models),  # so that nobody tested on is behind any training
            resamples=0,
            worst=4,
            progress="none",
        )
    )


def _train(plan: StudyPlan, run: Run, specimen: str, device: str, threads: int) -> Path:
    """Train a detector with a specimen left out ("" for none); returns the model."""
    preset, arms = plan.preset, MIXTURES.get(run.arm, (run.arm,))
    subset = run.size
    if run.arm in MIXTURES:
        subset = int(SPLIT[0] * preset.images) // len(arms)
    return train_landmarks.run(
        train_landmarks.TrainLandmarksConfig(
            data=tuple(map(plan.set_of, arms)),
            output=plan.run_folder(run, specimen),
            split_file=_split_file(plan, arms, specimen) if specimen else None,
            subset=subset,
            images=preset.images_seen,
            side_px=preset.side_px,
            channels=preset.channels,
            warmup_images=preset.images_seen // 10,
            average_images=preset.images_seen // 20,
            check_images=-(-preset.images_seen // 4),
            threads=threads,
            workers=1 if threads == 1 else 2,
            name=run.name,
            seed=run.seed,
            device=device,
            progress="none",
        )
    )


def _split_file(plan: StudyPlan, arms: Sequence[str], specimen: str) -> Path:
    """Who is learned from when a specimen is left out; the one after it is watched."""
    specimens = plan.specimens
    watched = specimens[(specimens.index(specimen) + 1) % len(specimens)]
    splits = dict.fromkeys(specimens, "train") | {specimen: "test", watched: "val"}
    for arm in arms:
        if arm != REAL:
            description = SetDescription.read(plan.set_of(arm) / SET_NAME)
            splits |= {subject.name: subject.split for subject in description.subjects}
    path = plan.output / "splits" / f"{'-'.join(arms)}-without-{specimen}.json"
    path.parent.mkdir(exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(splits, indent=2) + "\n", "utf-8")
    return path
