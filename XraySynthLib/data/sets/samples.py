"""A set's samples, each read when it is asked for."""

from collections.abc import Callable, Sequence
from typing import Any, overload

from XraySynthLib.data.sample import Sample


class LazySamples(Sequence[Sample]):
    """Samples that are read one at a time; safe to hand to worker processes.

    Args:
        places: Where each sample is, in any form that `load` understands.
        load: A function (not a lambda, so that it can be pickled) from a place to its sample.
    """

    def __init__(self, places: Sequence[Any], load: Callable[[Any], Sample]) -> None:
        self._places, self._load = places, load

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> "LazySamples": ...
    def __getitem__(self, index: int | slice) -> "Sample | LazySamples":
        """Read sample `index`, or choose some without reading them."""
        if isinstance(index, slice):
            return LazySamples(self._places[index], self._load)
        return self._load(self._places[index])
