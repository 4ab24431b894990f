"""`xraysynth fit`: labelled bones, or some landmarks, of a pelvis -> its 14 landmarks.

landmarks.mrk.json   the landmarks, for Slicer and `project --landmarks`
fit.json             which were seen in what was given, and how far that lies off the fitted pelvis
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from XraySynthLib.data import LandmarkSet
from XraySynthLib.data.formats import read_labels, read_landmarks, write_landmarks
from XraySynthLib.data.formats.problems import meaning
from XraySynthLib.errors import UnreadableFileError, UsageError
from XraySynthLib.workflows.config import VerbConfig
from XraySynthLib.workflows.progress import say, stage
from XraySynthLib.workflows.whole_folders import whole_folder

RESULT_NAME, POINTS_NAME = "fit.json", "landmarks.mrk.json"
FORMAT, FORMAT_VERSION = "xraysynth-fit", 1


@dataclass(frozen=True, kw_only=True)
class FitConfig(VerbConfig):
    """Fit the pelvis shape model to labelled bones, or to some landmarks, for all 14 landmarks.

    Attributes:
        labels: A label map with at least one hip bone: ids of XraySynth, DeepFluoro,
            TotalSegmentator or MAISI.
        landmarks: At least four of the 14, by their names: .mrk.json, .fcsv or .csv. Those given
            stay where they are.
        output: Folder to write to.
    """

    labels: Path | None = None
    landmarks: Path | None = None
    output: Path


def check_inputs(config: FitConfig) -> None:
    """Refuse what cannot be fitted, before anything is read.

    Raises:
        XraySynthError: Saying what to change.
    """
    given = [path for path in (config.labels, config.landmarks) if path is not None]
    if len(given) != 1:
        raise UsageError("A fit is to --labels or to --landmarks; give one of them.")
    if not given[0].exists():
        raise UnreadableFileError(f"{given[0]} does not exist.")
    if config.output.exists() and not config.output.is_dir():
        raise UsageError(f"--output {config.output} is a file; name a folder.")
    ours = (config.output / RESULT_NAME).exists()
    if config.output.is_dir() and any(config.output.iterdir()) and not ours:
        raise UsageError(f"{config.output} is not empty and holds no fit; name another folder.")


def run(config: FitConfig) -> Path:
    """Fit and write; returns the folder.

    Raises:
        XraySynthError: If the file cannot be used or is not a pelvis.
    """
    check_inputs(config)
    with stage("fit", config.progress):
        fit = _fit_labels if config.labels is not None else _fit_landmarks
        landmarks, result, doubt = fit(config)
    config.output.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(config.output) as folder:
        write_landmarks(landmarks, folder / POINTS_NAME)
        document = {"format": FORMAT, "version": FORMAT_VERSION, **result, "doubt": doubt}
        text = json.dumps(document, indent=1, allow_nan=False)
        (folder / RESULT_NAME).write_text(text + "\n", "utf-8")
    if doubt:
        say(doubt, config.progress)
    return config.output


def _fit_labels(config: FitConfig) -> tuple[LandmarkSet, dict[str, Any], str]:
    from XraySynthLib.anatomy.fit import fit_labels

    assert config.labels is not None
    labels, ras_from_ijk = read_labels(config.labels)
    with meaning(config.labels):
        fit = fit_labels(labels, ras_from_ijk)
    names = fit.landmarks.names
    seen = [name for name, one in zip(names, fit.landmark_seen.tolist(), strict=True) if one]
    residual_mm = {bone.name.lower(): round(mm, 2) for bone, mm in fit.residual_mm.items()}
    doubt = ""
    if unseen := [name for name in names if name not in seen]:
        doubt = f"No whole bone was given around {', '.join(unseen)}: look at what is predicted."
    return fit.landmarks, {"seen": seen, "residual_mm": residual_mm}, doubt


def _fit_landmarks(config: FitConfig) -> tuple[LandmarkSet, dict[str, Any], str]:
    from XraySynthLib.anatomy.fit_landmarks import fit_landmarks

    assert config.landmarks is not None
    fit = fit_landmarks(read_landmarks(config.landmarks))
    names = fit.landmarks.names
    seen = [name for name, one in zip(names, fit.given.tolist(), strict=True) if one]
    doubt = ""
    if fit.swapped:
        doubt = f"Left and right look exchanged: {', '.join(fit.swapped)}."
    elif fit.poor:
        doubt = (
            f"The landmarks lie {fit.residual_mm:.1f} mm off any likely pelvis, {fit.worst} "
            "farthest: look at it."
        )
    return fit.landmarks, {"seen": seen, "residual_mm": round(fit.residual_mm, 2)}, doubt
