"""The config.json of a model's folder, of any task, and how its values are checked.

It makes the folder whole, so it comes last.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, asdict, fields
from itertools import pairwise
from numbers import Integral, Real
from pathlib import Path
from sys import float_info
from typing import TYPE_CHECKING, Any, TypeVar

from XraySynthLib.data.formats import atomic_path
from XraySynthLib.errors import UnreadableFileError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Config = TypeVar("Config", bound=DataclassInstance)

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
        ValueError: If it is no JSON, another model's, or of another version.
        OSError: If it cannot be read.
    """
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise UnreadableFileError(f"{folder} holds no {what}: it has no {CONFIG_NAME}.")
    try:
        document = json.loads(path.read_text("utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(document, dict) or document.pop("format", None) != model_format:
        raise ValueError(f"it is no {what}'s")
    if document.pop("format_version", None) != version:
        raise ValueError("it is of another version; update XraySynth")
    return document


@contextmanager
def reading_config(folder: Path) -> Iterator[None]:
    """Say of which file an error is that comes up while a config.json is read.

    Raises:
        UnreadableFileError: For an error of the file or of a value in it.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        reason = str(error).removesuffix(".")
        raise UnreadableFileError(f"Cannot read {folder / CONFIG_NAME}: {reason}.") from error


def built(
    config_class: "type[Config]", document: object, what: str = "it", needed: tuple[str, ...] = ()
) -> "Config":
    """Make a dataclass of a JSON object; lists become tuples.

    Args:
        config_class: Checks its own values.
        document: The object.
        what: What it is called in messages.
        needed: Fields that must be there although they have a default.

    Raises:
        ValueError: If it is no object, a field is missing or unknown, or a value cannot be meant.
    """
    if not isinstance(document, dict):
        raise ValueError(f"{what} must be an object, got {shown(document)}.")
    known = {field.name: field for field in fields(config_class)}
    if unknown := sorted(set(document) - set(known)):
        raise ValueError(f"{what} has {unknown[0]!r}, which is unknown here; update XraySynth.")
    for name, field in known.items():
        optional = not (field.default is field.default_factory is MISSING or name in needed)
        if name not in document and not optional:
            raise ValueError(f"{what} lacks {name!r}.")
    return config_class(**{name: _frozen(value) for name, value in document.items()})


def _frozen(value: Any) -> Any:
    """Lists as tuples, also in lists and objects."""
    if isinstance(value, dict):
        return {name: _frozen(one) for name, one in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def shown(value: object) -> str:
    """A value in a message, short."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_text(**texts: object) -> None:
    """See that fields are text.

    Raises:
        ValueError: Naming the first that is not.
    """
    for field, value in texts.items():
        if not isinstance(value, str):
            raise ValueError(f"{field} must be text in quotes, got {shown(value)}.")


def check_names(**names: object) -> None:
    """See that fields are tuples of names.

    Raises:
        ValueError: Naming the first that is not.
    """
    for field, value in names.items():
        if not isinstance(value, tuple) or not all(isinstance(one, str) and one for one in value):
            raise ValueError(f"{field} must be a list of names, got {shown(value)}.")


def check_sizes(multiple: int = 1, **sizes: object) -> None:
    """See that fields are whole numbers of 1 or more.

    Args:
        multiple: Of what they must be multiples.
        **sizes: The fields.

    Raises:
        ValueError: Naming the first that is not.
    """
    for field, value in sizes.items():
        if not _is_size(value, multiple):
            kind = f"a multiple of {multiple}" if multiple > 1 else "a whole number of 1 or more"
            raise ValueError(f"{field} must be {kind}, got {shown(value)}.")


def check_levels(multiple: int = 1, **channels: object) -> None:
    """See that fields are tuples of such numbers, one at least.

    Raises:
        ValueError: Naming the first that is not.
    """
    for field, value in channels.items():
        good = isinstance(value, tuple) and all(_is_size(one, multiple) for one in value)
        if not good or not value:
            kind = f"multiples of {multiple}" if multiple > 1 else "whole numbers of 1 or more"
            raise ValueError(f"{field} must be a list of {kind}, got {shown(value)}.")


def _is_size(value: object, multiple: int) -> bool:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    return whole and value >= 1 and not value % multiple


def check_numbers(
    field: str,
    numbers: object,
    count: int | None = None,
    *,
    above: float = -math.inf,
    rising: bool = False,
) -> None:
    """See that a field is a tuple of finite numbers.

    Args:
        field: Its name.
        numbers: Its value.
        count: How many there must be; None for one or more.
        above: What they must be above.
        rising: Whether none may be less than the one before.

    Raises:
        ValueError: Saying what it must be.
    """
    kind = "numbers" if count is None else "a number" if count == 1 else f"{count} numbers"
    got = shown(numbers[0] if count == 1 and isinstance(numbers, tuple) else numbers)
    good = isinstance(numbers, tuple) and len(numbers) == (count or max(len(numbers), 1))
    if not good or not all(isinstance(n, Real) and not isinstance(n, bool) for n in numbers):
        raise ValueError(f"{field} must be {kind}, got {got}.")
    if not all(abs(n) <= float_info.max and n > above for n in numbers):
        finite = "finite" if above == -math.inf else f"finite and above {above:g}"
        raise ValueError(f"{field} must be {finite}, got {got}.")
    if rising and any(later < one for one, later in pairwise(numbers)):
        raise ValueError(f"{field} must not fall, got {got}.")
