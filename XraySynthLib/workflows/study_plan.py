"""What a study consists of: its arms, presets, folders and runs, and about what each part costs.

Nothing is made here: `study_parts` makes the parts, `study_report` the report.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from XraySynthLib.data.sets import SET_NAME, split_by_subject
from XraySynthLib.workflows.evaluate import PAGE_NAME
from XraySynthLib.workflows.generate import N_HELD_OUT

REAL, RENDERED, GENERATED, VIEW, ANATOMY = "a", "b", "c", "d1", "d2"
ARMS = {
    REAL: "real X-rays",
    RENDERED: "DRR of rendered CT",
    GENERATED: "DRR of generated CT",
    VIEW: "2D diffusion, told the view",
    ANATOMY: "2D diffusion, told 3D anatomy",
    "e1": "half b, half d1",
    "e2": "half a, half d1",
}
MIXTURES = {"e1": (RENDERED, VIEW), "e2": (REAL, VIEW)}
"""Arms that learn from the halves of two others' images."""
REFERENCE = RENDERED
"""The arm that the others are compared with."""
PEOPLE_SEED, TARGET_SEED = 10_000, 20_000
"""Of the people drawn, plus the study's: other people than the shipped models were trained on."""
SPLIT = (0.9, 0.1, 0.0)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """How large a study is.

    Attributes:
        arms: Which arms; "a" and mixtures with it need real images.
        people: Whom each arm's images show.
        images: X-rays of each arm, a tenth of them to validate on.
        seeds: Trainings of each arm.
        images_seen: In each training.
        sizes: Fewer training images, of which each arm is trained on, too.
        side_px: Of the training images and of the detector's input.
        channels: Of the detector.
        grid: Of the CTs, in `generate.PRESETS`.
        target_grid: Of the CTs of the people tested on.
        target_views: Images of each of them.
        target_px: Side of these images.
    """

    arms: tuple[str, ...]
    people: int
    images: int
    seeds: int
    images_seen: int
    sizes: tuple[int, ...]
    side_px: int
    channels: tuple[int, ...] = (32, 64, 96, 128, 160)
    grid: str = "wide"
    target_grid: str = "wide"
    target_views: int = 24
    target_px: int = 384

    @property
    def n_watched(self) -> int:
        """People of each arm whose images are validated on, not learned from."""
        everybody = {str(person): () for person in range(self.people)}
        return [*split_by_subject(everybody, SPLIT, 0).values()].count("val")


PRESETS = {
    "small": Preset(
        arms=(RENDERED, GENERATED, VIEW, ANATOMY),
        people=20,
        images=600,
        seeds=3,
        images_seen=8_000,
        sizes=(60, 180),
        side_px=128,
    ),
    "full": Preset(
        arms=tuple(ARMS),
        people=200,
        images=20_000,
        seeds=5,
        images_seen=400_000,
        sizes=(200, 600, 2_000, 6_000),
        side_px=256,
        target_grid="wide-full",
        target_views=60,
        target_px=768,
    ),
}


@dataclass(frozen=True)
class Run:
    """A training of an arm's detector, or one for each specimen that is left out.

    Attributes:
        arm: The arm.
        seed: Of the training.
        size: Images to learn from, where fewer than all.
    """

    arm: str
    seed: int
    size: int | None = None

    @property
    def name(self) -> str:
        """Of its folders."""
        return f"{self.arm}-{self.seed}" + ("" if self.size is None else f"-{self.size}-images")


@dataclass(frozen=True)
class StudyPlan:
    """Everything that decides a study.

    Attributes:
        output: Its folder.
        preset: How large it is.
        seed: The study's.
        arms: The arms that can be made.
        left_out: Arm -> why it cannot.
        models: Arm -> folder of its generator, None for the one that comes with XraySynth.
        real: DeepFluoro's file, or None.
        real_images: Key and specimen of its images, in its order.
    """

    output: Path
    preset: Preset
    seed: int
    arms: tuple[str, ...]
    left_out: Mapping[str, str]
    models: Mapping[str, Path | None]
    real: Path | None
    real_images: tuple[tuple[str, str], ...] = ()

    @property
    def specimens(self) -> tuple[str, ...]:
        """The specimens tested on, each once; empty without real images."""
        return tuple(dict.fromkeys(specimen for _, specimen in self.real_images))

    @property
    def set_arms(self) -> tuple[str, ...]:
        """Arms with a set of their own, or whose set a mixture needs."""
        return tuple(arm for arm in self.arms if arm != REAL and arm not in MIXTURES)

    @property
    def truth(self) -> Path:
        """The set tested on."""
        return self.real or self.output / "target" / "set"

    @property
    def image_folders(self) -> dict[str, Path]:
        """Specimen -> folder of its images as files; without real ones all are in one."""
        if self.real is None:
            return {"": self.truth / "images"}
        return {name: self.output / "target" / name for name in self.specimens}

    @property
    def real_files(self) -> list[Path]:
        """A file of each real image, which `detect` reads."""
        folders = self.image_folders
        return [folders[subject] / f"{key}.tiff" for key, subject in self.real_images]

    @property
    def runs(self) -> list[Run]:
        """Every run, those that the report needs most first."""
        whole = [Run(arm, seed) for seed in range(self.preset.seeds) for arm in self.arms]
        return whole + [Run(arm, 0, size) for size in self.preset.sizes for arm in self.set_arms]

    def set_of(self, arm: str) -> Path:
        """The images of an arm that is no mixture."""
        if arm == REAL:
            assert self.real is not None
            return self.real
        return self.output / "sets" / arm

    def left_out_in(self, run: Run) -> tuple[str, ...]:
        """Specimens that are left out in turn; one "" where none is learned from."""
        learned = MIXTURES.get(run.arm, (run.arm,))
        return self.specimens if REAL in learned else ("",)

    def run_folder(self, run: Run, specimen: str) -> Path:
        """Folder of a training, of those with a specimen left out."""
        return self.output / "runs" / run.name / specimen

    def found(self, run: Run) -> Path:
        """Folder of what a run's detectors found."""
        return self.output / "found" / run.name

    def report(self, run: Run) -> Path:
        """Folder of a run's evaluation."""
        return self.output / "reports" / run.name


PERSON_S, CT_S, HELD_OUT_S = 12.0, 40.0, {"wide": 12.0, "wide-full": 90.0}
DRR_S, VIEW_S, ANATOMY_S, BONES_S = 0.05, 1.0, 0.8, 6.0
SEEN_S, DETECT_S, START_S = {128: 0.010, 256: 0.030}, 0.06, 15.0
"""Seconds of one core of a Sapphire Rapids Xeon: a person, a generated CT, a held-out person; an
image by each arm, the bones of a person for `ANATOMY_S`; an image seen in training (by its side),
one detected in; a run's other work. A GPU's are not known."""


def costs_s(plan: StudyPlan) -> Iterator[tuple[str, float]]:
    """What a study consists of, and about how many seconds of one core are left to do; 0: done."""
    preset, images = plan.preset, plan.preset.images
    each = {
        RENDERED: PERSON_S * preset.people + DRR_S * images,
        GENERATED: CT_S * preset.people + DRR_S * images,
        VIEW: VIEW_S * images,
        ANATOMY: ANATOMY_S * images + BONES_S * preset.people,
    }
    for arm in plan.set_arms:
        what = f"sets/{arm}: {images} images of {preset.people} people, {ARMS[arm]}"
        yield what, 0.0 if (plan.set_of(arm) / SET_NAME).is_file() else each[arm]
    n_tested = len(plan.real_images)
    if plan.real is None:
        n_people = N_HELD_OUT
        n_tested = n_people * preset.target_views
        cost = n_people * HELD_OUT_S.get(preset.target_grid, 0.0) + 2 * DRR_S * n_tested
        what = f"target: {n_tested} images of {n_people} held-out people"
        yield what, 0.0 if (plan.truth / SET_NAME).is_file() else cost
    else:
        n_missing = sum(not path.is_file() for path in plan.real_files)
        what = f"target: {n_tested} real images of {len(plan.specimens)} specimens"
        yield what, 0.2 * n_missing
    missing = [run for run in plan.runs if not (plan.report(run) / PAGE_NAME).is_file()]
    n_trainings, n_left = (
        sum(len(plan.left_out_in(run)) for run in runs) for runs in (plan.runs, missing)
    )
    seen_s = SEEN_S[min(SEEN_S, key=lambda side: abs(side - preset.side_px))] * preset.images_seen
    n_done = n_trainings - n_left
    done = f", {n_done} of them done" if 0 < n_done < n_trainings else ""
    yield (
        f"{n_trainings} trainings of {preset.images_seen} images{done}",
        n_left * (seen_s + START_S) + len(missing) * n_tested * DETECT_S,
    )
