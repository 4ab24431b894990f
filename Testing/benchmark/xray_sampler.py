"""The X-ray samplers on the six people held out: all that their model cards say, part by part.

    python Testing/benchmark/xray_sampler.py FOLDER --held-out PEOPLE --detector MODEL \
        [--anatomy MODEL] [--view MODEL] [--training SET ...] [--parts PART ...]

Samples of `anatomy` show the held-out people's bones, those of `view` nobody's, both at the views
and with the exposures of the people's DRRs. Intervals (low, high) are of draws of people; a sample
of `view` goes with the person at whose views it is. A part whose CSV is there is left as it is, so
the same command goes on; remove the file to measure again.

    faithfulness.csv  error of the detector on samples and on DRRs, and their ratio
    pose.csv          camera recovered from landmarks against the view that was asked for
    realism.csv       distances of features, precision and recall, nearest training image;
                      spectrum.png, spectrum.csv and nearest.png go with it; needs --training
    settings.csv      faithfulness and likeness by steps, guidance and lead; steps are enough where
                      times_50_steps is at most 1.05
    speed.csv         images a second, DRRs beside them
    sheet.png         DRRs and samples at the same views; marked.png with their landmarks

Detectors trained on samples alone, beside others trained on DRRs alone, are `xraysynth study`'s.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from pathlib import Path

import numba
import numpy as np
import torch
import xray_realism as realism
from xray_held_out import (
    SHIPPED,
    HeldOut,
    Row,
    interval,
    read_by,
    refuse_known,
    refused_share,
)

from XraySynthLib.data import ImageLandmarkSet, LandmarkSet, Sample
from XraySynthLib.detection.model import Detector, load_detector
from XraySynthLib.diffusion.model import GUIDANCE, beam
from XraySynthLib.diffusion.store import HIP_CENTERS
from XraySynthLib.drr import Acquisition, acquire, materials_from_hu
from XraySynthLib.evaluation import (
    Comparison,
    Plane,
    mean_error,
)
from XraySynthLib.evaluation.arms import KEPT_ERROR, kept_error
from XraySynthLib.evaluation.figures import write_csv
from XraySynthLib.evaluation.measures import detection_rate
from XraySynthLib.evaluation.views import beam_angles_deg
from XraySynthLib.registration import RegistrationError, pose_error, view_from_landmarks
from XraySynthLib.workflows.figures import Panel, write_sheet
from XraySynthLib.workflows.sample_images import sampled_anatomy
from XraySynthLib.workflows.set_report import as_display

STEPS = (4, 8, 16, 50)
GUIDANCES, LEADS = (1.0, 2.0, 3.0), (0.0, 1.0)
N_TIMED, REPETITIONS = 16, 3
SHOWN_DEG = ((0, 0), (0, 25), (0, -25), (25, 0), (-25, 0), (40, 20))
"""Primary and secondary angle of the sheet's columns; of the DRRs the nearest are shown."""
BINS_DEG = (-90.0, -30.0, -10.0, 10.0, 30.0, 90.0)
ERRORS: dict[str, Callable[[Comparison], float]] = {
    "mean_error": lambda found: mean_error(found, Plane.DETECTOR),
    KEPT_ERROR: lambda found: kept_error(found, Plane.DETECTOR),
}
"""mm on the detector."""


@dataclass(frozen=True, eq=False)
class Bench:
    """What is measured, and with what.

    Attributes:
        people: Those held out.
        detector: What reads images.
        training: Sets that samplers were trained on.
        scan_views: Images of each person by which settings are compared.
    """

    people: HeldOut
    detector: Detector
    training: Sequence[Path]
    scan_views: int


def measured(measure: Callable[[Comparison], float], found: Comparison) -> tuple[float, ...]:
    """A measure and its interval."""
    return interval(lambda rows: measure(found.take(rows)), found.subjects)


def ratio(
    measure: Callable[[Comparison], float], some: Comparison, others: Comparison
) -> tuple[float, ...]:
    """A measure of one over that of the other, people drawn for both together."""
    assert np.array_equal(some.keys, others.keys), "not the same views"
    return interval(
        lambda rows: measure(some.take(rows)) / measure(others.take(rows)), some.subjects
    )


def faithfulness(bench: Bench) -> None:
    """Does the detector find a sample's landmarks where the sample says that they are?"""
    drr = read_by(bench.detector, bench.people.drrs())
    rows: list[Row] = [("drr", name, *measured(of, drr)) for name, of in ERRORS.items()]
    rows.append(("drr", "detection_rate", *measured(detection_rate, drr)))
    for condition, kept in product(bench.people.models, (True, False)):
        if condition == "anatomy" and not kept:
            continue  # nothing is ever refused
        what = condition if kept else f"{condition}, unrefused"
        settings = SHIPPED if kept else replace(SHIPPED, tries=1)
        samples = bench.people.samples(condition, settings)
        found = read_by(bench.detector, samples)
        for name, of in ERRORS.items():
            rows.append((what, name, *measured(of, found)))
            rows.append((what, f"{name}_ratio", *ratio(of, found, drr)))
        rows.append((what, "detection_rate", *measured(detection_rate, found)))
        if condition == "view":
            rows.append((what, "refused_share", refused_share(samples), np.nan, np.nan))
    header = ("images", "measure", "value", "low", "high")
    write_csv(header, rows, bench.people.folder / "faithfulness.csv")


def pose(bench: Bench) -> None:
    """Is a sample seen from where it was asked to be?

    `carried` landmarks are the image's own, `detected` those read in it. Their places in 3D are
    the person's `own`, or, since a sample of `view` is of nobody, those of the `mean` pelvis.
    """
    drrs = bench.people.drrs()
    rows: list[Row] = [*pose_rows(bench, "drr", drrs, "detected", "own")]
    if "anatomy" in bench.people.models:
        samples = bench.people.samples("anatomy")
        rows += pose_rows(bench, "anatomy", samples, "detected", "own")
    if "view" in bench.people.models:
        samples = bench.people.samples("view")
        for (what, images), marks in product((("drr", drrs), ("view", samples)), MARKS):
            rows += pose_rows(bench, what, images, marks, "mean")
    header = (
        "images", "landmarks", "pelvis", "angle", "from_deg", "to_deg", "count", "without_pose",
        *(f"{name}{end}" for name in POSE_ERRORS for end in ("", "_low", "_high")),
    )  # fmt: skip
    write_csv(header, rows, bench.people.folder / "pose.csv")


MARKS = ("carried", "detected")
POSE_ERRORS = ("rotation_deg", "translation_mm", "depth_mm")


def pose_rows(
    bench: Bench, what: str, samples: Sequence[Sample], marks: str, pelvis: str
) -> Iterator[Row]:
    """Median errors of the recovered cameras, of all and by angle of the view asked for."""
    found = [one.landmarks for one in samples]
    if marks == "detected":
        found = [*bench.detector.detect_all(one.xray for one in samples)]
    errors = np.array(
        [
            camera_error(one, landmarks, pelvis_of(bench, one, pelvis))
            for one, landmarks in zip(samples, found, strict=True)
        ]
    )
    solved = np.isfinite(errors).all(axis=1)
    subjects = np.array([one.provenance.subject for one in samples])
    beams = np.stack([one.xray.view.ras_from_camera[:3, 2] for one in samples])
    groups = [("all", np.nan, np.nan, np.ones(len(samples), bool))]
    for angle, values in zip(("primary", "secondary"), beam_angles_deg(beams).T, strict=True):
        for low, high in pairwise(BINS_DEG):
            groups.append((angle, low, high, (values >= low) & (values < high)))
    for *about, chosen in groups:
        some = chosen & solved
        cells = [np.full(3 * len(POSE_ERRORS), np.nan)]
        if some.any():
            cells = [
                interval(lambda rows, column=column: float(np.median(column[rows])), subjects[some])
                for column in errors[some].T
            ]
        counts = (int(chosen.sum()), int((chosen & ~solved).sum()))
        yield (what, marks, pelvis, *about, *counts, *np.concatenate(cells))


def pelvis_of(bench: Bench, sample: Sample, pelvis: str) -> LandmarkSet:
    """Landmarks in 3D: of the person in the image, or of the mean pelvis in the person's place."""
    own = bench.people.anatomies[sample.provenance.subject].landmarks
    if pelvis == "own":
        return own
    hips = [own.names.index(name) for name in HIP_CENTERS]
    center = own.points_ras_mm[hips].mean(axis=0)
    if sample.provenance.kind == "generated":
        center = np.zeros(3)  # of nobody: the pelvis frame is RAS
    sampler = bench.people.samplers["view"]
    return LandmarkSet(sampler.config.landmark_names, sampler.prior.mean_mm + center)


def camera_error(
    sample: Sample, landmarks: ImageLandmarkSet, pelvis: LandmarkSet
) -> tuple[float, ...]:
    """`POSE_ERRORS` of the camera that landmarks say; NaN where they say none."""
    view = sample.xray.view
    try:
        fit = view_from_landmarks(pelvis, landmarks, view.intrinsics)
    except RegistrationError:
        return (np.nan,) * len(POSE_ERRORS)
    error = pose_error(fit.view, view, pelvis.points_ras_mm)
    return tuple(getattr(error, name) for name in POSE_ERRORS)


def likeness(bench: Bench) -> None:
    """How alike samples and training images are, beside DRRs of people not trained on."""
    realism.write_realism(bench.people, bench.training)


def settings(bench: Bench) -> None:
    """Faithfulness and likeness to DRRs by steps, guidance and lead, on fewer views."""
    people, side_px = bench.people, bench.people.side_px
    drrs = [
        one for one in people.drrs() if one.provenance.seed[1] % people.views < bench.scan_views
    ]
    read = read_by(bench.detector, drrs)
    looks = realism.features(realism.pixels(drrs, side_px))
    rows: list[Row] = []
    for condition in bench.people.models:
        usual = replace(SHIPPED, guidance=GUIDANCE[condition])
        wanted = [replace(usual, steps=steps) for steps in STEPS[::-1]]
        wanted += [replace(usual, guidance=guidance) for guidance in GUIDANCES]
        if condition == "view":
            wanted += [replace(usual, lead=lead) for lead in LEADS]
        for one in wanted:
            samples = people.samples(condition, one, views=bench.scan_views)
            found = read_by(bench.detector, samples)
            if one == wanted[0]:
                most = found  # of 50 steps
            error, times_drr, times_most = (
                measured(ERRORS[KEPT_ERROR], found),
                ratio(ERRORS[KEPT_ERROR], found, read),
                ratio(ERRORS[KEPT_ERROR], found, most),
            )
            its_looks = realism.features(realism.pixels(samples, side_px))
            rows.append((
                condition, one.steps, one.guidance, one.lead, *error, *times_drr, *times_most,
                detection_rate(found), refused_share(samples),
                realism.kernel_distance(its_looks, looks),
            ))  # fmt: skip
    names = (KEPT_ERROR, "times_drr", f"times_{STEPS[-1]}_steps")
    header = (
        "condition", "steps", "guidance", "lead",
        *(f"{name}{end}" for name in names for end in ("", "_low", "_high")),
        "detection_rate", "refused_share", "kernel_distance_to_drr",
    )  # fmt: skip
    write_csv(header, rows, bench.people.folder / "settings.csv")


def speed(bench: Bench) -> None:
    """Images a second of one person, the files not counted; medians of runs one after another."""
    people, name = bench.people, next(iter(bench.people.subjects))
    volume, _ = people.subjects[name].read()
    materials = materials_from_hu(volume).cropped()
    drrs = [one for one in people.drrs() if one.provenance.subject == name][:N_TIMED]
    acquisitions = [Acquisition.from_dict(one.provenance.config["acquisition"]) for one in drrs]
    jobs: dict[tuple[str, object, object], Callable[[], object]] = {
        ("drr", "", ""): lambda: [acquire(materials, one) for one in acquisitions]
    }
    for condition, steps, batch in product(bench.people.models, STEPS, (1, 16)):
        jobs[condition, steps, batch] = lambda c=condition, s=steps, b=batch: people.samples_of(
            name, c, replace(SHIPPED, steps=s, tries=1), views=N_TIMED, batch=b
        )
    seconds: dict[tuple[str, object, object], list[float]] = {job: [] for job in jobs}
    jobs["drr", "", ""]()  # compiled
    for _ in range(REPETITIONS):
        for job, work in jobs.items():
            seconds[job].append(timed(work))
    rows: list[Row] = [(*job, len(drrs) / np.median(each)) for job, each in seconds.items()]
    rows.append(("bones of a person", "", "", 1 / timed(lambda: sampled_anatomy((0, 0)))))
    write_csv(("what", "steps", "batch", "per_second"), rows, bench.people.folder / "speed.csv")


def timed(work: Callable[[], object]) -> float:
    """Seconds by the clock."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def sheet(bench: Bench) -> None:
    """DRRs and samples at the same views, a column a view, without and with landmarks."""
    drrs = bench.people.drrs()
    beams = np.stack([one.xray.view.ras_from_camera[:3, 2] for one in drrs])
    chosen = [int((beams @ beam(*np.array(angles))).argmax()) for angles in SHOWN_DEG]
    rows = {"drr": drrs} | {one: bench.people.samples(one) for one in bench.people.models}
    for path, marked in (("marked.png", True), ("sheet.png", False)):
        panels = []
        for (what, samples), index in product(rows.items(), chosen):
            one = samples[index]
            landmarks = one.landmarks
            if not marked:
                nothing = np.zeros(len(landmarks.names), bool)
                landmarks = replace(landmarks, visible=nothing)
            angles = beam_angles_deg(one.xray.view.ras_from_camera[None, :3, 2])[0]
            title = f"{what} {angles[0]:+.0f} {angles[1]:+.0f}"
            panels.append(Panel(as_display(one), landmarks, title, named=False))
        write_sheet(panels, len(chosen), bench.people.folder / path)


PARTS: dict[str, tuple[Callable[[Bench], None], str]] = {
    "faithfulness": (faithfulness, "faithfulness.csv"),
    "pose": (pose, "pose.csv"),
    "realism": (likeness, "realism.csv"),
    "settings": (settings, "settings.csv"),
    "speed": (speed, "speed.csv"),
    "sheet": (sheet, "sheet.png"),
}
"""What makes each part, and the file that is written last."""


def main() -> None:
    """Measure what is not there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--detector", type=Path, required=True)
    parser.add_argument("--anatomy", type=Path)
    parser.add_argument("--view", type=Path)
    parser.add_argument("--training", type=Path, nargs="*", default=[])
    parser.add_argument("--parts", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--views", type=int, default=48, help="of each person")
    parser.add_argument("--scan-views", type=int, default=16, help="of them for settings.csv")
    options = parser.parse_args()
    models = {name: getattr(options, name) for name in ("anatomy", "view")}
    models = {name: model for name, model in models.items() if model is not None}
    if not models:
        parser.error("name a sampler with --anatomy or --view")
    if "realism" in options.parts and not options.training:
        parser.error("realism needs --training; or name other --parts")
    torch.set_num_threads(options.threads)
    numba.set_num_threads(options.threads)
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    detector = load_detector(options.detector)
    people = HeldOut(folder, options.held_out, models, options.views)
    refuse_known(set(people.subjects), detector.config.people)
    bench = Bench(
        people=people,
        detector=detector,
        training=options.training,
        scan_views=options.scan_views,
    )
    for name in options.parts:
        measure, last = PARTS[name]
        if not (folder / last).exists():
            print(f"{name}: {timed(lambda work=measure: work(bench)):.0f} s", flush=True)


if __name__ == "__main__":
    main()
