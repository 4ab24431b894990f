"""What every drawn step has in common: plain fields that are JSON, and checks of their types."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]
"""Column, row, px."""


@dataclass(frozen=True)
class Drawn:
    """A record whose fields are numbers, text, or tuples of them.

    Raises:
        ValueError: If a field has another type, a number is not finite or a whole one is negative.
    """

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            try:
                checked = _checked(value, field.type)
            except (OverflowError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{type(self).__name__}'s {field.name} cannot be {value!r}."
                ) from error
            object.__setattr__(self, field.name, checked)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types, tuples as lists."""
        return {name: _listed(value) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Operation(Drawn, ABC):
    """One step of an image's randomisation that moves nothing."""

    @abstractmethod
    def __call__(self, values: NDArray, rng: np.random.Generator) -> NDArray:
        """Apply it.

        Args:
            values: (rows, columns) float32, left as it is.
            rng: For what differs from pixel to pixel.

        Returns:
            (rows, columns) float32, not clipped.
        """

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types, after the operation's name."""
        return {"operation": type(self).__name__, **super().to_dict()}


def operation_from_dict(
    document: Mapping[str, Any], kinds: Mapping[str, type[Operation]]
) -> Operation:
    """Make an operation from what `to_dict` returned.

    Raises:
        ValueError: If it is not of these kinds, or a field is missing, unknown or wrong.
    """
    try:
        values = dict(document)
        kind = kinds[values.pop("operation")]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"An operation must be one of {sorted(kinds)}: {document!r}.") from error
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"The fields of a {kind.__name__} are wrong: {error}.") from error


def _checked(value: Any, wanted: Any) -> Any:
    if wanted in (str, bool):
        if not isinstance(value, wanted):
            raise TypeError
        return value
    if wanted in (float, int):
        if isinstance(value, bool | str) or not np.isfinite(value) or wanted(value) != value:
            raise TypeError
        if wanted is int and value < 0:
            raise ValueError
        return wanted(value)
    return _tuple(value)


def _tuple(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_tuple(entry) for entry in value)
    return value if isinstance(value, str) else _checked(value, float)


def _listed(value: Any) -> Any:
    return [_listed(entry) for entry in value] if isinstance(value, tuple) else value
