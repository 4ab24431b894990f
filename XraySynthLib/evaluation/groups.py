"""All measures of all images, of each landmark, view and subject; and an error a row."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from XraySynthLib.evaluation.bootstrap import N_RESAMPLES, bootstrap_over_subjects
from XraySynthLib.evaluation.comparison import Comparison, Plane
from XraySynthLib.evaluation.measures import Measure, all_measures
from XraySynthLib.evaluation.views import beam_angles_deg, nearest_presets

ALL, LANDMARK, VIEW, SUBJECT = "all", "landmark", "view", "subject"
MEAN_OF_SUBJECTS, SD_OF_SUBJECTS = "mean of subjects", "SD of subjects"
ESTIMATE, LOW, HIGH = 0, 1, 2


@dataclass(frozen=True)
class Group:
    """Measures of some images and landmarks.

    Attributes:
        kind: "all", "landmark", "view", "subject", or what subjects are summed up by.
        name: Which one.
        n_subjects: Subjects.
        n_images: Images.
        n_visible: Landmarks in them.
        measures: Measure -> value, lower and upper bound (NaN where there is none).
    """

    kind: str
    name: str
    n_subjects: int
    n_images: int
    n_visible: int
    measures: Mapping[Measure, tuple[float, float, float]]


def groups_of(comparison: Comparison) -> list[tuple[str, str, Comparison]]:
    """Kind, name and content of what is measured: all, each landmark, view and subject."""
    groups = [(ALL, "all", comparison)]
    groups += [(LANDMARK, name, comparison.only([name])) for name in comparison.landmark_names]
    presets = nearest_presets(comparison.directions_ras)
    for kind, labels in ((VIEW, presets), (SUBJECT, comparison.subjects)):
        for name in np.unique(labels):
            groups.append((kind, str(name), comparison.take(np.flatnonzero(labels == name))))
    return groups


def measured(
    comparison: Comparison,
    planes: Sequence[Plane],
    kind: str,
    name: str,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> Group:
    """Measure some images, with intervals over their subjects."""
    measures = list(all_measures(comparison, planes))

    def statistic(rows: np.ndarray) -> np.ndarray:
        return np.array([*all_measures(comparison.take(rows), planes).values()])

    found = bootstrap_over_subjects(statistic, comparison.subjects, seed, n_resamples)
    return Group(
        kind,
        name,
        len(np.unique(comparison.subjects)),
        len(comparison.keys),
        int(comparison.visible.sum()),
        dict(zip(measures, zip(*(part.tolist() for part in found), strict=True), strict=True)),
    )


def over_subjects(subjects: Sequence[Group]) -> Iterator[Group]:
    """Mean and SD (n - 1) over subjects, each counting alike however many images it has.

    It is what leaving one specimen out reports. Subjects of whom a measure says nothing are left
    out of it.
    """
    table = np.array([[value[ESTIMATE] for value in g.measures.values()] for g in subjects])
    said = np.isfinite(table)
    count = said.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(said, table, 0).sum(axis=0) / count
        squares = np.where(said, (table - mean) ** 2, 0).sum(axis=0)
        sd = np.sqrt(np.where(count > 1, squares / (count - 1), np.nan))
    nothing = float("nan")
    for name, values in ((MEAN_OF_SUBJECTS, mean), (SD_OF_SUBJECTS, sd)):
        yield Group(
            name,
            name,
            len(subjects),
            sum(group.n_images for group in subjects),
            sum(group.n_visible for group in subjects),
            {m: (v, nothing, nothing) for m, v in zip(subjects[0].measures, values, strict=True)},
        )


MEASURES_HEADER = (
    "group", "name", "subjects", "images", "landmarks_in_image", "measure", "plane", "value",
    "low", "high",
)  # fmt: skip


def measure_rows(groups: Iterable[Group]) -> Iterator[tuple[object, ...]]:
    """A row for each group and measure."""
    for group in groups:
        about = (group.kind, group.name, group.n_subjects, group.n_images, group.n_visible)
        for measure, values in group.measures.items():
            yield (*about, *measure, *values)


ERRORS_HEADER = (
    "image", "subject", "landmark", "view", "primary_deg", "secondary_deg", "known", "in_image",
    "detected", "confidence", "truth_column_px", "truth_row_px", "predicted_column_px",
    "predicted_row_px", "error_px", "error_detector_mm", "error_isocenter_mm",
)  # fmt: skip


def error_rows(comparison: Comparison) -> Iterator[tuple[object, ...]]:
    """A row for each image and landmark."""
    presets = nearest_presets(comparison.directions_ras)
    angles_deg = beam_angles_deg(comparison.directions_ras)
    errors = np.stack([comparison.errors(plane) for plane in Plane], axis=-1)
    for n, key in enumerate(comparison.keys):
        for k, name in enumerate(comparison.landmark_names):
            yield (
                key,
                comparison.subjects[n],
                name,
                presets[n],
                *angles_deg[n],
                int(comparison.known[n, k]),
                int(comparison.visible[n, k]),
                int(comparison.detected[n, k]),
                comparison.confidence[n, k],
                *comparison.truth_px[n, k],
                *comparison.predicted_px[n, k],
                *errors[n, k],
            )
