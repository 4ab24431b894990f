"""The config.json of a model's folder, of any task; it makes the folder whole, so it comes last."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from XraySynthLib.data.formats import atomic_path
from XraySynthLib.errors import UnreadableFileError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

CONFIG_NAME = "config.json"


def write_model_config(
    config: "DataclassInstance", model_format: str, version: int, folder: Path
) -> None:
    """Write what a model is, under the name and the version of its format."""
    document = {"format": model_format, "format_version": version, **asdict(config)}
    with atomic_path(folder / CONFIG_NAME) as temporary:
        temporary.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


def read_model_document(folder: Path, model_format: str, version: int, what: str) -> dict[str, Any]:
    """The fields of a model's config.json.

    Args:
        folder: The model's.
        model_format: Its format's name.
        version: Its format's version.
        what: What the model is called in messages, "landmark detector".

    Raises:
        UnreadableFileError: If the folder holds no model.
        ValueError: If it is another model's, or of another version.
        OSError: If it cannot be read.
    """
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise UnreadableFileError(f"{folder} holds no {what}: it has no {CONFIG_NAME}.")
    document = json.loads(path.read_text("utf-8"))
    if not isinstance(document, dict) or document.pop("format", None) != model_format:
        raise ValueError(f"it is no {what}'s")
    if document.pop("format_version", None) != version:
        raise ValueError("it is of another version; update XraySynth")
    return document
