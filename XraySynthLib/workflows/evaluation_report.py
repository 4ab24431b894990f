"""The files of an evaluation: tables, figures, the worst images, and a page with all."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from XraySynthLib.data import Sample
from XraySynthLib.data.formats.prediction_files import Prediction
from XraySynthLib.data.pelvis import LANDMARK_NAMES
from XraySynthLib.evaluation import Comparison, Plane
from XraySynthLib.evaluation import curves as data
from XraySynthLib.evaluation import figures as draw
from XraySynthLib.evaluation.bootstrap import FEW_SUBJECTS
from XraySynthLib.evaluation.groups import (
    ERRORS_HEADER,
    ESTIMATE,
    HIGH,
    LANDMARK,
    LOW,
    MEAN_OF_SUBJECTS,
    MEASURES_HEADER,
    SD_OF_SUBJECTS,
    SUBJECT,
    VIEW,
    Group,
    error_rows,
    groups_of,
    measure_rows,
    measured,
    over_subjects,
)
from XraySynthLib.evaluation.measures import (
    CLOSE_SHARE,
    KEPT_SHARES,
    PCK_SHARES,
    RADII_MM,
    Measure,
    detection_rate,
    mean_error,
)
from XraySynthLib.workflows.evaluate import PAGE_NAME, EvaluateConfig
from XraySynthLib.workflows.figures import Panel, write_sheet
from XraySynthLib.workflows.progress import tracked
from XraySynthLib.workflows.report import heading, paragraph, picture, table, write_page
from XraySynthLib.workflows.set_report import as_display

WORST_NAME, WORST_COLUMNS = "worst.png", 4
UNKNOWN = "-"


def write_evaluation(
    config: EvaluateConfig,
    plane: Plane,
    comparison: Comparison,
    samples: Sequence[Sample],
    predictions: Mapping[str, Prediction],
) -> None:
    """Write everything, report.html last.

    Args:
        config: Where to, and how.
        plane: Where figures and the tables of groups measure.
        comparison: What is measured.
        samples: The truth, for the pictures of the worst images.
        predictions: Key -> prediction.
    """
    folder, seed, n_resamples = config.output, config.seed, config.resamples
    parts = groups_of(comparison)
    groups = [
        measured(some, comparison.planes, kind, name, seed, n_resamples)
        for kind, name, some in tracked(parts, "measure", len(parts), config.progress)
    ]
    groups += over_subjects([group for group in groups if group.kind == SUBJECT])
    draw.write_csv(MEASURES_HEADER, measure_rows(groups), folder / "measures.csv")
    draw.write_csv(ERRORS_HEADER, error_rows(comparison), folder / "errors.csv")
    pictures = _write_figures(folder, comparison, plane, seed, n_resamples)
    worst = _write_worst(folder, comparison, samples, predictions, plane, config.worst)
    content = [
        *_what_was_compared(comparison, predictions, n_resamples, bool(config.model)),
        heading("All images"),
        _planes_table(groups[0], comparison.planes),
        _rates_table(groups[0]),
        paragraph(
            "Errors are of landmarks that are in the image and detected; 'kept' are the most "
            "confident, detected or not, as a share of those in the image. Success and PCK count "
            f"what was not detected as a failure; areas run from 0 to {RADII_MM[-1]:g} mm and to "
            f"{PCK_SHARES[-1]:g} of the image's longer side. The isocentre plane is parallel to "
            "the detector: errors there are those on the detector, times the source's distance to "
            "the isocentre over that to the detector. In brackets: 95% intervals over subjects."
        ),
        *(picture(f"{name}.png", what) for name, what in pictures),
        heading("Subjects"),
        _groups_table(groups, (SUBJECT, MEAN_OF_SUBJECTS, SD_OF_SUBJECTS), plane),
        heading("Landmarks"),
        _groups_table(groups, (LANDMARK,), plane),
        heading("Views"),
        _groups_table(groups, (VIEW,), plane),
        paragraph("A view is named after the nearest preset; the angles are in errors.csv."),
    ]
    if worst:
        content += [
            heading("Where it went worst"),
            paragraph("Rings: where the landmarks are. Crosses: where they were detected."),
            picture(WORST_NAME, "The worst images"),
        ]
    content.append(paragraph("Numbers: measures.csv, errors.csv, and a CSV beside each figure."))
    write_page("Landmark detection", content, folder / PAGE_NAME)


def _write_figures(
    folder: Path, comparison: Comparison, plane: Plane, seed: int, n_resamples: int
) -> list[tuple[str, str]]:
    """Draw each figure and write its data; returns names and what they show."""
    as_detected = (detection_rate(comparison), mean_error(comparison, plane))
    bands = (seed, n_resamples)
    drawn: list[tuple[str, data.Table, Callable[..., None]]] = [
        (
            "error-versus-detected",
            data.kept_curve(comparison, plane, *bands),
            partial(draw.draw_kept, plane=plane, detected=as_detected),
        ),
        (
            "histogram",
            data.error_histogram(comparison, plane),
            partial(draw.draw_histogram, plane=plane),
        ),
        (
            "success",
            data.success_curve(comparison, plane, *bands),
            partial(draw.draw_success, plane=plane),
        ),
        (
            "pck",
            data.success_curve(comparison, Plane.PIXELS, *bands),
            partial(draw.draw_success, plane=Plane.PIXELS),
        ),
        (
            "landmarks",
            data.landmark_boxes(comparison, plane),
            partial(draw.draw_boxes, plane=plane),
        ),
        ("calibration", data.calibration_table(comparison), draw.draw_calibration),
    ]
    if plane is Plane.PIXELS:
        del drawn[2]  # PCK says it
    for name, numbers, drawing in drawn:
        draw.write_csv(numbers.header, numbers.rows, folder / f"{name}.csv")
        drawing(numbers, path=folder / f"{name}.png")
    return [(name, name.replace("-", " ")) for name, _, _ in drawn]


def _write_worst(
    folder: Path,
    comparison: Comparison,
    samples: Sequence[Sample],
    predictions: Mapping[str, Prediction],
    plane: Plane,
    count: int,
) -> bool:
    (folder / WORST_NAME).unlink(missing_ok=True)
    worst = data.worst_images(comparison, plane, count)
    if not worst:
        return False
    wanted = {str(comparison.keys[row]) for row, _, _ in worst}
    panels: dict[str, Sample] = {}
    for sample in samples:
        if sample.key in wanted:
            panels[sample.key] = sample
        if len(panels) == len(wanted):
            break
    unit = "px" if plane is Plane.PIXELS else "mm"
    sheet = []
    for row, landmark, error in worst:
        key = str(comparison.keys[row])
        title = f"{key}: {comparison.landmark_names[landmark]} {error:.1f} {unit}"
        sample, found = panels[key], predictions[key].landmarks
        sheet.append(Panel(as_display(sample), sample.landmarks, title, found))
    write_sheet(sheet, min(WORST_COLUMNS, len(sheet)), folder / WORST_NAME, dpi=110)
    return True


def _what_was_compared(
    comparison: Comparison,
    predictions: Mapping[str, Prediction],
    n_resamples: int,
    models_checked: bool,
) -> list[str]:
    n_images, n_subjects = len(comparison.keys), len(np.unique(comparison.subjects))
    models = Counter(
        (predictions[key].model_name, predictions[key].model_sha256) for key in comparison.keys
    )
    named = "; ".join(
        f"{name or 'unnamed'} (SHA-256 {digest[:12] or 'unknown'}, {count} images)"
        for (name, digest), count in sorted(models.items())
    )
    checked = (
        "Nobody tested on is behind the models' training."
        if models_checked
        else "Not checked: whether anybody tested on is behind the model's training (--model)."
    )
    in_image, known = comparison.visible, comparison.known
    parts = [
        paragraph(
            f"{n_images} images of {n_subjects} subjects. Landmarks: {int(in_image.sum())} in the "
            f"images, {int((known & ~in_image).sum())} not, {int((~known).sum())} not known and "
            f"counted nowhere. Model: {named}. {checked}"
        )
    ]
    parts += [paragraph(text) for text in _left_out(comparison)]
    if n_resamples and n_subjects == 1:
        parts.append(paragraph("One subject: there are no intervals."))
    elif n_resamples and n_subjects < FEW_SUBJECTS:
        parts.append(
            paragraph(
                f"Intervals are of {n_resamples} draws of {n_subjects} subjects; of so few, "
                "percentile intervals are too narrow."
            )
        )
    if set(comparison.landmark_names) == set(LANDMARK_NAMES):
        parts.append(
            paragraph(
                "Published for DeepFluoro's real images, one specimen left out in turn, mm in the "
                "detector plane: mean error 5.0 (Grupp et al. 2020); 6.44, SD 7.05, trained on "
                "simulated images only (SyntheX, Gao et al. 2023)."
            )
        )
    return parts


def _left_out(comparison: Comparison) -> list[str]:
    n_images = len(comparison.keys)
    texts = []
    for plane, what in (
        (Plane.DETECTOR, "pixel spacing"),
        (Plane.ISOCENTER, "distance of the isocentre"),
    ):
        without = n_images - int(np.isfinite(comparison.scale(plane)).all(axis=1).sum())
        if without:
            texts.append(
                f"{without} of {n_images} images have no known {what}; they are not in the "
                f"measures in {plane.unit}."
            )
    return texts


def _planes_table(group: Group, planes: Sequence[Plane]) -> str:
    """Errors and success: a row a measure, a column a plane."""
    rows = [
        ("mean error", "mean_error"),
        ("median error", "median_error"),
        ("SD", "sd_error"),
        ("95th percentile", "p95_error"),
        *(
            (f"mean error, {100 * share:g}% kept", f"mean_error_{100 * share:g}%_kept")
            for share in KEPT_SHARES
        ),
    ]
    cells = [[name, *(number(group, Measure(m, p.value)) for p in planes)] for name, m in rows]
    for radius in RADII_MM:
        measures = [Measure(f"success_{radius:g}mm", p.value) for p in planes]
        cells.append([f"success within {radius:g} mm", *(percent(group, m) for m in measures)])
    measures = [Measure(f"success_area_{RADII_MM[-1]:g}mm", p.value) for p in planes]
    cells.append(["area under success", *(percent(group, m) for m in measures)])
    return table(("", *(plane.unit for plane in planes)), cells)


def _rates_table(group: Group) -> str:
    """What is in no plane."""
    pcks = [(f"PCK at {share:g} of the longer side", f"pck_{share:g}") for share in PCK_SHARES]
    rates = [
        ("detected, of those in the image", "detection_rate"),
        ("false positives, of those not in it", "false_positive_rate"),
        *pcks,
        ("area under PCK", f"pck_area_{PCK_SHARES[-1]:g}"),
    ]
    events = (
        ("in the image", "in_image"),
        (f"within {CLOSE_SHARE:g} of the longer side", "found"),
    )
    scores = [
        (f"{score} of the confidence that it is {what}", f"{name}_{event}")
        for what, event in events
        for score, name in (("Brier score", "brier"), ("calibration error", "ece"))
    ]
    rows = [(what, percent(group, Measure(name))) for what, name in rates]
    rows += [(what, number(group, Measure(name), 3)) for what, name in scores]
    return table(("", "in no plane"), rows)


def _groups_table(groups: Sequence[Group], kinds: Sequence[str], plane: Plane) -> str:
    unit = plane.unit
    columns = [
        ("detected", "detection_rate", "", percent),
        ("false positives", "false_positive_rate", "", percent),
        (f"mean error, {unit}", "mean_error", plane.value, number),
        (f"median error, {unit}", "median_error", plane.value, number),
        (f"SD, {unit}", "sd_error", plane.value, number),
        (f"95th percentile, {unit}", "p95_error", plane.value, number),
        (f"mean error at 95% kept, {unit}", "mean_error_95%_kept", plane.value, number),
    ]
    rows = [
        (
            group.name,
            group.n_images,
            group.n_visible,
            *(write(group, Measure(name, of)) for _, name, of, write in columns),
        )
        for kind in kinds
        for group in groups
        if group.kind == kind
    ]
    return table(("", "images", "landmarks in them", *(name for name, *_ in columns)), rows)


def number(group: Group, measure: Measure, digits: int = 2) -> str:
    """A measure and its interval."""
    return _written(group, measure, 1, digits, "")


def percent(group: Group, measure: Measure) -> str:
    """A share and its interval."""
    return _written(group, measure, 100, 1, "%")


def _written(group: Group, measure: Measure, factor: float, digits: int, unit: str) -> str:
    """Value and interval; "-" where a group cannot say."""
    values = group.measures.get(measure)
    if values is None or np.isnan(values[ESTIMATE]):
        return UNKNOWN
    text = f"{factor * values[ESTIMATE]:.{digits}f}{unit}"
    if np.isnan(values[LOW]):
        return text
    return f"{text} [{factor * values[LOW]:.{digits}f}, {factor * values[HIGH]:.{digits}f}]"
