"""Nobody is tested on whom the detector was trained on."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from XraySynthLib.data.formats.prediction_files import Prediction
from XraySynthLib.data.formats.problems import check_file, reading, unreadable
from XraySynthLib.data.sets import SplitOverlapError
from XraySynthLib.data.sets.parts import sha256_of
from XraySynthLib.errors import UnreadableFileError
from XraySynthLib.evaluation.comparison import Comparison
from XraySynthLib.evaluation.matching import EvaluationError

CONFIG_NAME, WEIGHTS_PATTERN, PEOPLE = "config.json", "*.safetensors", "people"


def refuse_trained_on(
    comparison: Comparison, predictions: Mapping[str, Prediction], models: Sequence[Path]
) -> None:
    """See that no image's subject is behind the training of the model that looked at it.

    Where every specimen is left out once there are as many models, and each image is held against
    the one that made its prediction.

    Args:
        comparison: The images.
        predictions: Key -> prediction, which names its model by SHA-256.
        models: Folders of all the models.

    Raises:
        SplitOverlapError: Naming who was both trained on and tested on.
        EvaluationError: If a prediction is of none of the models.
        UnreadableFileError: If a folder holds no model.
    """
    people = {digest: names for folder in models for digest, names in _people(folder)}
    used = np.array([predictions[key].model_sha256 for key in comparison.keys])
    for digest in np.unique(used):
        if digest not in people:
            raise EvaluationError(
                f"Predictions were made by a model with SHA-256 {digest[:12] or 'unknown'}, which "
                "is none of those given with --model."
            )
        both = sorted(set(people[digest]) & set(comparison.subjects[used == digest].tolist()))
        if both:
            shown = ", ".join(both[:8]) + (" ..." if len(both) > 8 else "")
            raise SplitOverlapError(
                f"{len(both)} subjects of the test set are behind the training set: {shown}."
            )


def _people(folder: Path) -> Iterable[tuple[str, list[str]]]:
    """SHA-256 of each weights file of a model, and everybody behind its training."""
    path = folder / CONFIG_NAME
    check_file(path)
    with reading(path, "a JSON file"):
        document = json.loads(path.read_text("utf-8"))
    names = document.get(PEOPLE) if isinstance(document, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise unreadable(path, f"it does not say whom the model was trained on ({PEOPLE}).")
    weights = sorted(folder.glob(WEIGHTS_PATTERN))
    if not weights:
        raise UnreadableFileError(f"{folder} holds no model: it has no {WEIGHTS_PATTERN}.")
    return [(sha256_of(file), names) for file in weights]
