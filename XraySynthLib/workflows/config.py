"""What every verb's config has in common, and how a config comes from and goes to JSON."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeVar

from XraySynthLib.errors import UsageError

Progress = Literal["auto", "json", "none"]


@dataclass(frozen=True, kw_only=True)
class VerbConfig:
    """Options that every verb has.

    Attributes:
        seed: Seeds all that is drawn at random.
        progress: A bar on a terminal, JSON lines on standard output, or nothing.
        dry_run: Check the input and print what would be done; write nothing.
    """

    seed: int = 0
    progress: Progress = "auto"
    dry_run: bool = False


@dataclass(frozen=True, kw_only=True)
class DeviceConfig(VerbConfig):
    """Options of the verbs that compute with torch.

    Attributes:
        device: Where torch runs: auto, cpu, cuda, cuda:1, mps.
    """

    device: str = "auto"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise UsageError(f"--device is auto, cpu, cuda, cuda:1 or mps, not {self.device!r}.")


def config_to_dict(config: Any) -> dict[str, Any]:
    """A config's fields as JSON types."""
    return {field.name: _to_json(getattr(config, field.name)) for field in fields(config)}


def _to_json(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return config_to_dict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [_to_json(item) for item in value]
    return value


def read_config_file(path: Path) -> dict[str, Any]:
    """Read a `--config` file: a JSON object of option names (as in the config classes).

    Raises:
        UsageError: If it is not there or not a JSON object.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"The config file {path} cannot be read: {error}.") from error
    if not isinstance(values, Mapping):
        raise UsageError(f"The config file {path} must hold a JSON object of options.")
    return dict(values)


ConfigType = TypeVar("ConfigType")


def check_option_names(config_class: type, values: Mapping[str, Any], path: Path) -> None:
    """Refuse options that a verb does not have, and true or false for one that takes neither.

    What else is wrong with a value is found when it is read as the command line is.

    Raises:
        UsageError: Naming the first such option.
    """
    known = {field.name: field.type for field in fields(config_class)}
    for name, value in values.items():
        if name not in known:
            raise UsageError(
                f"The config file {path} has the option {name!r}, which this verb does not have."
            )
        if isinstance(value, bool) != (known[name] is bool) and value is not None:
            kinds = ("something else than true or false", "true or false")
            wanted, found = kinds[known[name] is bool], json.dumps(value)
            raise UsageError(
                f"The config file {path} has the option {name!r} as {found}; it takes {wanted}."
            )
