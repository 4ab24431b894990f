"""The report of a study: a page and a PDF with the table and figures, and all numbers as CSV."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from XraySynthLib.data.sets import SET_NAME, SetDescription, open_set
from XraySynthLib.evaluation import Comparison, Plane, compare, read_predictions
from XraySynthLib.evaluation import arms as data
from XraySynthLib.evaluation.bootstrap import FEW_SUBJECTS
from XraySynthLib.evaluation.curves import Table
from XraySynthLib.evaluation.figures import write_csv
from XraySynthLib.evaluation.groups import MEASURES_HEADER, Group, measure_rows, measured
from XraySynthLib.evaluation.measures import Measure, mean_error
from XraySynthLib.workflows.config import Progress
from XraySynthLib.workflows.evaluation_report import UNKNOWN, number, percent
from XraySynthLib.workflows.progress import tracked
from XraySynthLib.workflows.report import heading, paragraph, picture, table, write_page
from XraySynthLib.workflows.report_pdf import Cells, write_pdf
from XraySynthLib.workflows.study_parts import MODEL_FOLDER
from XraySynthLib.workflows.study_plan import ARMS, MIXTURES, REAL, REFERENCE, Run, StudyPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Which images train a landmark detector?"
PAGE_NAME, PDF_NAME = "report.html", "report.pdf"
ARM = "arm"
Drawn = list[tuple[str, "Figure"]]


def write_study(plan: StudyPlan, n_resamples: int, progress: Progress) -> Path:
    """Write tables, figures, report.pdf and, last, report.html; returns the page."""
    page = plan.output / PAGE_NAME
    page.unlink(missing_ok=True)
    for name in ("tables", "figures"):
        if (plan.output / name).exists():  # of other arms and sizes, perhaps
            shutil.rmtree(plan.output / name)
        (plan.output / name).mkdir()
    truth = open_set(plan.truth)
    runs = {
        run: compare(truth, read_predictions(plan.found(run)))
        for run in tracked(plan.runs, "compare", len(plan.runs), progress)
    }
    whole = {
        arm: [found for run, found in runs.items() if run.arm == arm and run.size is None]
        for arm in plan.arms
    }
    arms = {arm: data.pooled(trainings) for arm, trainings in whole.items()}
    planes = arms[REFERENCE].planes
    plane = Plane.DETECTOR if Plane.DETECTOR in planes else Plane.PIXELS
    groups = [
        measured(found, planes, ARM, arm, plan.seed, n_resamples)
        for arm, found in tracked(arms.items(), "measure", len(arms), progress)
    ]
    differences = data.differences(arms, REFERENCE, plane, plan.seed, n_resamples)
    spread = {arm: _spread(trainings, plane) for arm, trainings in whole.items()}
    landmarks = [
        measured(found.only([name]), (plane,), arm, name, n_resamples=0)
        for arm, found in arms.items()
        for name in found.landmark_names
    ]
    _write_tables(plan, groups, differences, landmarks, runs, plane)
    figures = _write_figures(plan, arms, runs, plane, n_resamples)
    main = _main_table(plan, groups, spread, plane)
    beside = _differences_table(differences, plane)
    said = _what_it_is(plan, arms[REFERENCE], n_resamples)
    content = [
        *map(paragraph, said),
        heading("Arms"),
        table(*main),
        paragraph(
            "Errors are of landmarks that are in the image and detected; 'kept' are the most "
            "confident. Each arm's trainings are pooled: every image counts once a training. In "
            "brackets: 95% intervals over the subjects tested on."
        ),
        heading(f"Less arm {REFERENCE}"),
        table(*beside),
        paragraph("Subjects are drawn for both arms together; p is two-sided."),
        *(picture(f"figures/{name}.png", name.replace("-", " ")) for name, _ in figures),
        heading("Landmarks"),
        table(*_landmark_table(plan, landmarks, plane)),
        heading("Who was trained on"),
        table(*_people_table(plan, arms[REFERENCE])),
        paragraph(
            "People behind a training are its subjects and everybody behind them: those whose "
            "bones shaped them, and those whom a generator was trained on. Nobody tested on is "
            "among them: each run's evaluation refuses otherwise."
        ),
        paragraph("Numbers: tables/*.csv. Each training: reports/ARM-SEED/report.html."),
    ]
    drawn = [figure for _, figure in figures]
    write_pdf(plan.output / PDF_NAME, TITLE, said, (main, beside), drawn)
    write_page(TITLE, content, page)
    return page


def _spread(trainings: Sequence[Comparison], plane: Plane) -> float:
    """SD of the mean error over trainings; NaN of one."""
    errors = [mean_error(found, plane) for found in trainings]
    return float(np.std(errors, ddof=1)) if len(errors) > 1 else float("nan")


def _what_it_is(plan: StudyPlan, found: Comparison, n_resamples: int) -> list[str]:
    """What was tested on what, in sentences; the first says whether it is real."""
    subjects = np.unique(found.subjects)
    n_images = len(found.keys) // plan.preset.seeds
    if plan.real is None:
        first = (
            "Simulation to simulation: no real X-ray is in this study. Detectors are tested on "
            f"{n_images} DRRs of {len(subjects)} held-out people, taken by a C-arm, spectra, "
            "scatter, dose and blur that no training image has. What rank the arms would have on "
            "real films it does not say."
        )
    else:
        first = (
            f"Tested on {n_images} real X-rays of {len(subjects)} specimens ({plan.real.name}). "
            "Arms that learn from real X-rays leave out one specimen in turn, the others learn "
            "from none."
        )
    preset = plan.preset
    texts = [
        first,
        f"Every detector is the same network, trained on {preset.images_seen} randomised images of "
        f"{preset.side_px} px, drawn from {preset.images} X-rays of {preset.people} people an arm "
        f"({preset.n_watched} of them watched, not learned from; arm {REAL} has the real images "
        f"there are). Trainings of each arm: {preset.seeds}.",
    ]
    texts += [f"Arm {arm} is left out: {why}" for arm, why in plan.left_out.items()]
    if "d2" in plan.arms:
        texts.append("Arm d2 uses 3D anatomy; it is no rival of d1, which uses none.")
    refused = len([*(plan.output / "people" / "generated").glob("refused-*.json")])
    if refused:
        texts.append(
            f"{refused} of the {preset.people} generated CTs failed the quality check; arm c has "
            "no images of them."
        )
    if n_resamples and len(subjects) < FEW_SUBJECTS:
        texts.append(
            f"Intervals are of {n_resamples} draws of {len(subjects)} subjects; of so few, "
            "percentile intervals are too narrow."
        )
    return texts


def _main_table(
    plan: StudyPlan, groups: Sequence[Group], spread: Mapping[str, float], plane: Plane
) -> Cells:
    header = (
        "arm", "images from", "detected", f"mean error, {plane.unit}", "SD of trainings",
        "median", "95th percentile", "95% kept", "within 5 mm",
    )  # fmt: skip
    rows = []
    for group in groups:
        one = [
            number(group, Measure(name, plane.value))
            for name in ("mean_error", "median_error", "p95_error", "mean_error_95%_kept")
        ]
        sd = spread[group.name]
        rows.append([
            group.name, ARMS[group.name], percent(group, Measure("detection_rate")), one[0],
            UNKNOWN if np.isnan(sd) else f"{sd:.2f}", *one[1:],
            percent(group, Measure("success_5mm", plane.value)),
        ])  # fmt: skip
    return header, rows


def _differences_table(differences: Table, plane: Plane) -> Cells:
    rows = []
    for arm, _, what, _, value, low, high, p_value in differences.rows:
        factor, unit = (100, ", %") if what == "detection_rate" else (1, f", {plane.unit}")
        text = UNKNOWN if np.isnan(value) else f"{factor * value:+.2f}"
        if np.isfinite([value, low]).all():
            text += f" [{factor * low:+.2f}, {factor * high:+.2f}]"
        p = UNKNOWN if np.isnan([value, p_value]).any() else f"{p_value:.3f}"
        rows.append([arm, f"{what.replace('_', ' ')}{unit}", text, p])
    return (ARM, "measure", f"less {REFERENCE}", "p"), rows


def _landmark_table(plan: StudyPlan, landmarks: Sequence[Group], plane: Plane) -> Cells:
    errors = {
        (one.kind, one.name): number(one, Measure("mean_error", plane.value)) for one in landmarks
    }
    names = dict.fromkeys(one.name for one in landmarks)
    rows = [[name, *(errors[arm, name] for arm in plan.arms)] for name in names]
    return (f"mean error, {plane.unit}", *plan.arms), rows


def _people_table(plan: StudyPlan, found: Comparison) -> Cells:
    """Whom each arm's detectors know, by their own record, held against whom they are tested on."""
    tested = set(found.subjects.tolist())
    rows = []
    for arm in plan.arms:
        run = Run(arm, 0)
        shown = ", ".join(map(_size_of, (plan.set_of(one) for one in MIXTURES.get(arm, (arm,)))))
        behind: set[str] = set()
        tested_on = 0
        for specimen in plan.left_out_in(run):
            config = plan.run_folder(run, specimen) / MODEL_FOLDER / "config.json"
            people = set(json.loads(config.read_text("utf-8"))["people"])
            behind |= people
            tested_on += len(people & ({specimen} if specimen else tested))
        rows.append([arm, shown, str(len(behind)), str(len(tested)), str(tested_on)])
    return (ARM, "images", "people behind the training", "people tested on", "both"), rows


def _size_of(folder: Path) -> str:
    if not (folder / SET_NAME).is_file():
        return folder.name
    description = SetDescription.read(folder / SET_NAME)
    return f"{description.n_images} of {len(description.subjects)} people"


def _write_tables(
    plan: StudyPlan,
    groups: Sequence[Group],
    differences: Table,
    landmarks: Sequence[Group],
    runs: Mapping[Run, Comparison],
    plane: Plane,
) -> None:
    folder = plan.output / "tables"
    write_csv(MEASURES_HEADER, measure_rows(groups), folder / "arms.csv")
    write_csv(MEASURES_HEADER, measure_rows(landmarks), folder / "landmarks.csv")
    write_csv(differences.header, differences.rows, folder / "differences.csv")
    each = [
        (run.arm, run.seed, run.size or "", plane.value, mean_error(found, plane))
        for run, found in runs.items()
    ]
    write_csv(("arm", "seed", "size", "plane", "mean_error"), each, folder / "trainings.csv")


def _write_figures(
    plan: StudyPlan,
    arms: Mapping[str, Comparison],
    runs: Mapping[Run, Comparison],
    plane: Plane,
    n_resamples: int,
) -> Drawn:
    """Draw each figure and write its data; returns names and figures."""
    bands = (plan.seed, n_resamples)
    drawn = [
        ("error-versus-detected", data.kept_curves(arms, plane, *bands), data.draw_kept_curves),
        ("success", data.success_curves(arms, plane, *bands), data.draw_success_curves),
    ]
    if plan.preset.sizes:
        learned = {arm: _n_learned(plan.set_of(arm)) for arm in plan.set_arms}
        sized = [
            (run.arm, run.size or learned[run.arm], found)
            for run, found in runs.items()
            if run.arm in learned and run.seed == 0
        ]
        curves = data.size_curves(sized, plane, *bands)
        drawn.append(("training-images", curves, data.draw_size_curves))
    figures: Drawn = []
    for name, numbers, draw in drawn:
        write_csv(numbers.header, numbers.rows, plan.output / "tables" / f"{name}.csv")
        figures.append((name, draw(numbers, plane, plan.output / "figures" / f"{name}.png")))
    return figures


def _n_learned(folder: Path) -> int:
    return SetDescription.read(folder / SET_NAME).n_images_of("train")
