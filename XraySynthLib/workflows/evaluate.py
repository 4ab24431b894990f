"""`xraysynth evaluate`: predictions and the truth -> how good the detector is.

    report.html        tables and figures
    measures.csv       every measure, of all and of each landmark, view and subject
    errors.csv         a row for each image and landmark
    histogram, error-versus-detected, success, landmarks, calibration (.png, .csv)
    worst.png          the images that went worst

The same predictions give the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from XraySynthLib.data import Sample
from XraySynthLib.data.formats.prediction_files import Prediction
from XraySynthLib.data.sets import open_set
from XraySynthLib.errors import UnreadableFileError, UsageError
from XraySynthLib.evaluation import Comparison, Plane, compare, read_predictions, refuse_trained_on
from XraySynthLib.workflows.config import VerbConfig
from XraySynthLib.workflows.progress import tracked

PAGE_NAME = "report.html"


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(VerbConfig):
    """Say how good a detector is: predictions held against the truth, image by image.

    Attributes:
        predictions: Folder of JSON files from detect, called like the set's images.
        truth: The set, of any layout, ours or DeepFluoro's.
        output: Folder to write to.
        model: Folders of the models that predicted, to see that nobody tested on was trained on;
            several where specimens are left out in turn.
        split: Which images of the set.
        landmarks: Which landmarks; by default all, which must then be the same on both sides.
        nowhere: What a landmark without a place (DeepFluoro's inf) is: unknown, and counts
            nowhere, or absent from the image, where finding it is a false positive.
        plane: Where the figures measure errors; by default mm on the detector, or px where no
            pixel spacing is known. Tables have every plane.
        resamples: Draws of subjects for the confidence intervals; 0 for none.
        worst: How many of the worst images are shown.
    """

    predictions: Path
    truth: Path
    output: Path
    model: tuple[Path, ...] = ()
    split: Literal["train", "val", "test", "all"] = "all"
    landmarks: tuple[str, ...] | None = None
    nowhere: Literal["unknown", "absent"] = "unknown"
    plane: Literal["auto", "detector", "isocenter", "px"] = "auto"
    resamples: int = 2000
    worst: int = 12


def check_inputs(config: EvaluateConfig) -> None:
    """Refuse what cannot be compared.

    Raises:
        XraySynthError: Saying what does not fit.
    """
    _compared(config)


def run(config: EvaluateConfig) -> Path:
    """Measure and write the report; returns its page.

    Raises:
        XraySynthError: If predictions and truth do not belong together.
    """
    from XraySynthLib.workflows.evaluation_report import write_evaluation

    comparison, samples, predictions = _compared(config)
    config.output.mkdir(parents=True, exist_ok=True)
    (config.output / PAGE_NAME).unlink(missing_ok=True)  # written last: with it all is there
    plane = _plane(config, comparison)
    write_evaluation(config, plane, comparison, samples, predictions)
    return config.output / PAGE_NAME


def _compared(
    config: EvaluateConfig,
) -> tuple[Comparison, Sequence[Sample], dict[str, Prediction]]:
    if config.resamples < 0 or config.worst < 0 or config.seed < 0:
        raise UsageError("--resamples, --worst and --seed must be 0 or more.")
    if config.landmarks is not None and len({*config.landmarks}) != len(config.landmarks):
        raise UsageError("--landmarks names a landmark twice.")
    _check_output(config.output)
    predictions = read_predictions(config.predictions)
    samples = open_set(config.truth, None if config.split == "all" else config.split)
    if not len(samples):
        where = "" if config.split == "all" else f" in its {config.split} split"
        raise UnreadableFileError(f"--truth {config.truth} has no images{where}.")
    comparison = compare(
        tracked(samples, "read", len(samples), config.progress),
        predictions,
        config.landmarks,
        nowhere_is_absent=config.nowhere == "absent",
    )
    _plane(config, comparison)
    if config.model:
        refuse_trained_on(comparison, predictions, config.model)
    return comparison, samples, predictions


def _plane(config: EvaluateConfig, comparison: Comparison) -> Plane:
    """Where the figures measure."""
    planes = comparison.planes
    if config.plane == "auto":
        return Plane.DETECTOR if Plane.DETECTOR in planes else Plane.PIXELS
    if Plane(config.plane) not in planes:
        known = "pixel spacing" if config.plane == "detector" else "distance to the isocentre"
        raise UsageError(f"--plane {config.plane}: no image of {config.truth} has a known {known}.")
    return Plane(config.plane)


def _check_output(folder: Path) -> None:
    """A folder that holds anything but an evaluation is left alone."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output {folder} is a file; name a folder.")
    ours = any((folder / name).exists() for name in (PAGE_NAME, "measures.csv"))
    if folder.is_dir() and any(folder.iterdir()) and not ours:
        raise UsageError(f"{folder} is not empty and holds no evaluation; name another.")
