"""How well the C-arm's pose is found, from perfect, noisy and detected landmarks; CSVs.

    xraysynth detect --image SET/images --output FOUND --no-overlay
    python Testing/benchmark/registration.py --subjects PEOPLE --set SET --predictions FOUND
        [--every 12] [--offset 1] [--capture 0] [--output FOLDER]

PEOPLE holds the CTs and landmarks of the people in SET, images in COCO. Every so-manieth image is
taken. Noise is 5 mm, normal, along columns and rows each, in the isocentre's plane.
registration.csv has a row for each image and kind of landmarks: error before and after refinement,
or why it was refused; registration_summary.csv medians, 95th percentiles and success (a refused
image is one that failed; images with fewer than four landmarks found are counted apart). With
--capture, registration_capture.csv: the share of that many images refined to 2 mm mTRE from starts
that are a given mTRE off in a random direction, without drawing further starts. Seconds are
processor time.
"""

import argparse
import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import process_time

import numpy as np

from XraySynthLib.data import ImageLandmarkSet, LandmarkSet, Sample
from XraySynthLib.data.sets import open_set
from XraySynthLib.drr import Preview
from XraySynthLib.evaluation import read_predictions
from XraySynthLib.registration import (
    LandmarkFit,
    RegistrationError,
    moved,
    pose_error,
    refine,
    view_from_landmarks,
)
from XraySynthLib.registration.landmark_pose import MIN_LANDMARKS
from XraySynthLib.workflows.register import materials_for_matching
from XraySynthLib.workflows.subjects import find_subjects

SEED, NOISE_MM = 811, 5.0
OFFSETS_MM = (5, 10, 20, 40, 80)
MEASURES = ("rotation_deg", "translation_mm", "depth_mm", "target_mm")
HEADER = (
    "image", "subject", "landmarks", "n_landmarks", *(f"{name}_before" for name in MEASURES),
    *MEASURES, "similarity_before", "similarity", "seconds", "refused",
)  # fmt: skip


def noisy(truth: ImageLandmarkSet, sample: Sample, rng: np.random.Generator) -> ImageLandmarkSet:
    spacing_mm = sample.xray.view.intrinsics.pixel_spacing_mm
    sigma_px = NOISE_MM / sample.isocenter_ratio / spacing_mm
    points_px = truth.points_px + rng.standard_normal(truth.points_px.shape) * sigma_px
    return replace(truth, points_px=points_px)


def registered(sample: Sample, landmarks: LandmarkSet, found: ImageLandmarkSet, preview: Preview):
    """Numbers of one row, from n_landmarks on."""
    true_view, begun = sample.xray.view, process_time()
    before = after = (np.nan,) * len(MEASURES)
    similarities, refused = (np.nan, np.nan), ""
    try:
        fit = view_from_landmarks(landmarks, found, true_view.intrinsics)
        before = pose_error(fit.view, true_view, landmarks.points_ras_mm)
        refinement = refine(fit, sample.xray, preview, np.random.default_rng(SEED))
        after = pose_error(refinement.view, true_view, landmarks.points_ras_mm)
        similarities = (refinement.similarity_before, refinement.similarity)
    except RegistrationError as error:
        refused = str(error)
    numbers = (*before, *after, *similarities, process_time() - begun)
    return int(found.visible.sum()), *(round(float(number), 3) for number in numbers), refused


def capture(
    sample: Sample, fit: LandmarkFit, preview: Preview, rng: np.random.Generator
) -> Iterator[tuple[int, bool]]:
    """Offset in mm and whether it was undone."""
    true_view = sample.xray.view
    for offset_mm in OFFSETS_MM:
        direction = rng.standard_normal(6)
        far_mm = pose_error(
            moved(true_view, direction, fit.pivot_ras_mm), true_view, fit.points_ras_mm
        ).target_mm
        start = moved(true_view, direction * offset_mm / far_mm, fit.pivot_ras_mm)
        shifted = replace(fit, view=start, covariance=1e6 * np.eye(6))
        try:
            view = refine(shifted, sample.xray, preview, rng, n_draws=0).view
            error_mm = pose_error(view, true_view, fit.points_ras_mm).target_mm
        except RegistrationError:
            error_mm = np.inf
        yield offset_mm, error_mm < 2


def summary(rows: list[tuple]) -> Iterator[tuple]:
    for kind in ("perfect", "noisy", "detected"):
        tried = [row for row in rows if row[2] == kind and row[3] >= MIN_LANDMARKS]
        n_few = sum(row[2] == kind and row[3] < MIN_LANDMARKS for row in rows)
        if not tried:
            continue
        for stage, first in (("landmarks", 4), ("refined", 8)):
            values = np.array([row[first : first + 4] for row in tried], dtype=float)
            known = values[np.isfinite(values[:, 0])]
            errors_mm = np.nan_to_num(values[:, 3], nan=np.inf)
            yield (
                kind, stage, len(tried), n_few, len(tried) - len(known),
                *np.round(np.percentile(known, (50, 95), axis=0), 2).ravel(),
                *(round(float(np.mean(errors_mm < limit)), 3) for limit in (2, 5)),
                round(float(np.median([row[14] for row in tried])), 1),
            )  # fmt: skip


def write(path: Path, header, rows) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--subjects", type=Path, required=True)
    parser.add_argument("--set", type=Path, required=True)
    parser.add_argument("--predictions", type=Path, required=True)
    parser.add_argument("--kinds", nargs="+", default=["perfect", "noisy", "detected"])
    parser.add_argument("--every", type=int, default=12)
    parser.add_argument("--offset", type=int, default=1)
    parser.add_argument("--capture", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    subjects = {subject.name: subject for subject in find_subjects(options.subjects)}
    predictions = read_predictions(options.predictions)
    samples = open_set(options.set)
    rows, captured, open_subject = [], [], None
    for number in range(options.offset, len(samples), options.every):
        sample = samples[number]
        subject = sample.provenance.subject
        rng = np.random.default_rng((SEED, number))
        if subject != open_subject:
            volume, landmarks = subjects[subject].read()
            preview = Preview(materials_for_matching(volume, subjects[subject].ct))
            open_subject = subject
        exact = landmarks.seen_from(sample.xray.view)
        kinds = {
            "perfect": exact,
            "noisy": noisy(exact, sample, rng),
            "detected": predictions[sample.key].landmarks,
        }
        for kind in options.kinds:
            row = (sample.key, subject, kind, *registered(sample, landmarks, kinds[kind], preview))
            rows.append(row)
            print(*row, flush=True)
        if len(captured) < options.capture * len(OFFSETS_MM) and rows[-1][3] >= MIN_LANDMARKS:
            fit = view_from_landmarks(landmarks, exact, sample.xray.view.intrinsics)
            captured.extend(capture(sample, fit, preview, rng))
            print(captured[-len(OFFSETS_MM) :], flush=True)
    write(options.output / "registration.csv", HEADER, rows)
    ends = [f"{name}_{part}" for part in ("median", "p95") for name in MEASURES]
    header = ("landmarks", "stage", "n", "n_too_few_landmarks", "n_refused", *ends)
    header += ("under_2_mm", "under_5_mm", "seconds_median")
    write(options.output / "registration_summary.csv", header, summary(rows))
    if captured:
        shares = []
        for offset_mm in OFFSETS_MM:
            hits = [hit for offset, hit in captured if offset == offset_mm]
            shares.append((offset_mm, len(hits), round(float(np.mean(hits)), 3)))
        write(options.output / "registration_capture.csv", ("start_mm", "n", "captured"), shares)


if __name__ == "__main__":
    main()
