"""Predictions and truth brought together, image by image."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from XraySynthLib.data import ImageLandmarkSet, Sample
from XraySynthLib.data.formats.prediction_files import Prediction, read_prediction
from XraySynthLib.errors import UnreadableFileError, XraySynthError
from XraySynthLib.evaluation.comparison import Comparison
from XraySynthLib.geometry import View

SLICER_SUFFIX = ".mrk.json"
SAME_VIEW_MM = 0.1
"""How far source and detector may lie apart: DICOM rounds."""


class EvaluationError(XraySynthError):
    """Predictions and truth do not belong together."""


def read_predictions(folder: Path) -> dict[str, Prediction]:
    """Read every prediction of a folder; Slicer's .mrk.json beside them are left alone.

    Returns:
        Stem of the file -> prediction.

    Raises:
        UnreadableFileError: If there are none, or one is damaged.
    """
    if not folder.is_dir():
        raise UnreadableFileError(f"There is no folder {folder}.")
    files = [
        file for file in sorted(folder.glob("*.json")) if not file.name.endswith(SLICER_SUFFIX)
    ]
    if not files:
        raise UnreadableFileError(f"There are no predictions (.json) in {folder}.")
    return {file.stem: read_prediction(file) for file in files}


def compare(
    samples: Iterable[Sample],
    predictions: Mapping[str, Prediction],
    landmark_names: Sequence[str] | None = None,
    nowhere_is_absent: bool = False,
) -> Comparison:
    """Hold predictions against the truth.

    Args:
        samples: The truth, read one by one.
        predictions: Key -> prediction; those of other images are not looked at.
        landmark_names: Which landmarks; by default all, which must then be the same.
        nowhere_is_absent: Whether a landmark without a place (DeepFluoro's `inf`) is not in the
            image; else nobody knows, and it counts nowhere.

    Returns:
        Images in the order of their keys.

    Raises:
        EvaluationError: If an image has no prediction or one of another image, or names or sizes
            do not fit.
    """
    rows: dict[str, dict[str, Any]] = {}
    missing: list[str] = []
    names = None if landmark_names is None else tuple(landmark_names)
    for sample in samples:
        if sample.key in rows:
            raise EvaluationError(f"Two images of the truth are called {sample.key}.")
        prediction = predictions.get(sample.key)
        if prediction is None:
            missing.append(sample.key)
            continue
        names = names or sample.landmarks.names
        rows[sample.key] = _row(sample, prediction, names, landmark_names, nowhere_is_absent)
    if not rows:
        raise EvaluationError(_nothing_in_common(missing, predictions))
    if missing:
        raise EvaluationError(
            f"{len(missing)} of {len(missing) + len(rows)} images have no prediction: "
            f"{_some(missing)}."
        )
    keys = sorted(rows)
    columns = {name: np.array([rows[key][name] for key in keys]) for name in rows[keys[0]]}
    return Comparison(keys=np.array(keys), landmark_names=names or (), **columns)


def _row(
    sample: Sample,
    prediction: Prediction,
    names: tuple[str, ...],
    chosen: Sequence[str] | None,
    nowhere_is_absent: bool,
) -> dict[str, Any]:
    shape = sample.xray.values.shape
    if not _may_be_of(prediction, sample.key):
        frame = f", frame {prediction.frame}" if prediction.frame else ""
        raise EvaluationError(
            f"The prediction for {sample.key} is of {prediction.image}{frame}: call its file like "
            "its image, or correct its `image` and `frame`."
        )
    if prediction.shape_px != shape:
        raise EvaluationError(
            f"The prediction for {sample.key} is of an image of {prediction.shape_px} rows and "
            f"columns, the image has {shape}."
        )
    view = sample.xray.view
    if view is not None and prediction.view is not None and not _alike(view, prediction.view):
        raise EvaluationError(
            f"The prediction for {sample.key} is of another view than the truth's; detect again in "
            "the images of the set."
        )
    for what, landmarks in (("truth", sample.landmarks), ("prediction", prediction.landmarks)):
        there = set(landmarks.names)
        lacking, surplus = sorted(set(names) - there), sorted(there - set(names))
        if lacking or (surplus and chosen is None):
            odd = f"lacks {_some(lacking)}" if lacking else f"also has {_some(surplus)}"
            raise EvaluationError(
                f"Landmarks differ: the {what} for {sample.key} {odd}; choose with --landmarks."
            )
    truth, found = _ordered(sample.landmarks, names), _ordered(prediction.landmarks, names)
    has_place = np.isfinite(truth["px"]).all(axis=1)
    spacing_mm = sample.xray.pixel_spacing_mm
    return {
        "subjects": sample.provenance.subject,
        "truth_px": truth["px"],
        "visible": truth["visible"],
        "known": has_place | nowhere_is_absent,
        "predicted_px": found["px"],
        "detected": found["visible"],
        "confidence": found["confidence"],
        "shape_px": shape,
        "spacing_mm": np.full(2, np.nan) if spacing_mm is None else spacing_mm,
        "isocenter_ratio": sample.isocenter_ratio,
        "directions_ras": np.full(3, np.nan) if view is None else view.ras_from_camera[:3, 2],
    }


def _may_be_of(prediction: Prediction, key: str) -> bool:
    """Whether a key can be of the image and frame that a prediction names.

    A key ends with the name of its image's file, folders before it and the number of a frame behind
    it. SyntheX's files are numbers, which say nothing of our keys.
    """
    name = PurePath(prediction.image.replace("\\", "/"))
    if name.stem.isdecimal() and not key.isdecimal():
        return True
    stems = [f"{name.stem}-{prediction.frame:04d}"]
    if prediction.frame == 0:
        stems += [name.stem, name.name]
    return any(key == stem or key.endswith(f"-{stem}") for stem in stems)


def _alike(one: View, other: View) -> bool:
    """Whether source and detector of two views of the same pixels lie at the same places."""
    rows, columns = one.intrinsics.shape_px
    corners_px = np.array([[0, 0], [columns, 0], [0, rows]])
    places = [
        np.vstack([view.source_ras_mm, view.detector_points_ras_mm(corners_px)])
        for view in (one, other)
    ]
    return bool(np.abs(places[0] - places[1]).max() <= SAME_VIEW_MM)


def _ordered(landmarks: ImageLandmarkSet, names: tuple[str, ...]) -> dict[str, Any]:
    order = [landmarks.names.index(name) for name in names]
    return {
        "px": landmarks.points_px[order],
        "visible": landmarks.visible[order],
        "confidence": landmarks.confidence[order],
    }


def _nothing_in_common(missing: Sequence[str], predictions: Mapping[str, Prediction]) -> str:
    if not missing:
        return "The truth has no images."
    return (
        "No prediction is for an image of the truth: predictions are called "
        f"{_some(sorted(predictions))}, images {_some(missing)}."
    )


def _some(names: Sequence[str], at_most: int = 4) -> str:
    return ", ".join(names[:at_most]) + (" ..." if len(names) > at_most else "")
