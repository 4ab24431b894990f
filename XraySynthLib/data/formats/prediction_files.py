"""Landmarks that a detector found in an image, as one JSON file an image.

    {"format": "xraysynth-landmarks", "format_version": 1, "image": "ap.png", "frame": 0,
     "shape_px": [rows, columns], "pixel_spacing_mm": [column, row] or null, "view": VIEW or null,
     "landmarks": [{"name": "FH-l", "px": [column, row] or null, "visible": true,
                    "confidence": 0.97}],
     "model": {"name": "landmarks-128", "sha256": "..."}}

`visible` says that the detector takes the landmark to be in the image; `px` is its best place, also
where it does not.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from XraySynthLib.data.formats.atomic import atomic_path
from XraySynthLib.data.formats.problems import check_file, meaning, reading, unreadable
from XraySynthLib.data.formats.sample_files import (
    image_landmarks_from_dicts,
    image_landmarks_to_dicts,
)
from XraySynthLib.data.landmarks import ImageLandmarkSet
from XraySynthLib.geometry import View
from XraySynthLib.geometry.transforms import checked_vector

FORMAT, FORMAT_VERSION = "xraysynth-landmarks", 1
FIELDS = ("image", "frame", "shape_px", "pixel_spacing_mm", "view", "landmarks", "model")


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a detector found in one image.

    Attributes:
        image: Name of the image's file.
        frame: Its number in the file, from 0.
        shape_px: Rows, columns.
        landmarks: What was found; `visible` are those taken to be in the image.
        pixel_spacing_mm: (2,) column, row, on the detector; None where not known.
        view: Where the image was seen from; None where not known.
        model_name: Name of the detector.
        model_sha256: SHA-256 of its weights.

    Raises:
        ValueError: If the frame, the shape or the spacing cannot be meant.
    """

    image: str
    frame: int
    shape_px: tuple[int, int]
    landmarks: ImageLandmarkSet
    pixel_spacing_mm: NDArray | None = None
    view: View | None = None
    model_name: str = ""
    model_sha256: str = ""

    def __post_init__(self) -> None:
        texts = (self.image, self.model_name, self.model_sha256)
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("image, model name and sha256 must be text.")
        shape = checked_vector(self.shape_px, "shape_px", 2)
        if (shape < 1).any() or (shape % 1 != 0).any():
            raise ValueError(f"shape_px must be whole rows and columns, got {self.shape_px}.")
        if not isinstance(self.frame, int) or isinstance(self.frame, bool) or self.frame < 0:
            raise ValueError(f"frame must be a whole number of 0 or more, got {self.frame!r}.")
        object.__setattr__(self, "shape_px", (int(shape[0]), int(shape[1])))
        if self.pixel_spacing_mm is not None:
            spacing = checked_vector(self.pixel_spacing_mm, "pixel_spacing_mm", 2)
            if (spacing <= 0).any():
                raise ValueError(f"pixel_spacing_mm must be positive, got {spacing.tolist()}.")
            object.__setattr__(self, "pixel_spacing_mm", spacing)


def write_prediction(prediction: Prediction, path: str | Path) -> None:
    """Write a prediction; the same one gives the same bytes."""
    spacing = prediction.pixel_spacing_mm
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "image": prediction.image,
        "frame": prediction.frame,
        "shape_px": list(prediction.shape_px),
        "pixel_spacing_mm": None if spacing is None else spacing.tolist(),
        "view": None if prediction.view is None else prediction.view.to_dict(),
        "landmarks": image_landmarks_to_dicts(prediction.landmarks),
        "model": {"name": prediction.model_name, "sha256": prediction.model_sha256},
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", "utf-8")


def read_prediction(path: str | Path) -> Prediction:
    """Read what `write_prediction` wrote.

    Raises:
        UnreadableFileError: If it is damaged, something else or of a newer version.
    """
    file = Path(path)
    check_file(file)
    with reading(file, "a JSON file"):
        document = json.loads(file.read_text("utf-8"))
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise unreadable(file, f"it holds no predicted landmarks: its format is not {FORMAT!r}.")
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        raise unreadable(file, f"its format_version is {version!r}; update XraySynth.")
    missing = [name for name in FIELDS if name not in document]
    if missing:
        raise unreadable(file, f"it lacks {', '.join(missing)}.")
    with meaning(file):
        return _from_document(document)


def _from_document(document: Mapping[str, Any]) -> Prediction:
    model, view = document["model"], document["view"]
    if not isinstance(model, Mapping) or not {"name", "sha256"} <= set(model):
        raise ValueError("its model must have a name and a sha256.")
    return Prediction(
        image=document["image"],
        frame=document["frame"],
        shape_px=document["shape_px"],
        landmarks=image_landmarks_from_dicts(document["landmarks"]),
        pixel_spacing_mm=document["pixel_spacing_mm"],
        view=None if view is None else View.from_dict(view),
        model_name=model["name"],
        model_sha256=model["sha256"],
    )
