"""Spectra of the X-ray tube, shipped as small tables."""

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

SHIPPED_KVP = (60, 70, 80, 90, 100, 110, 120)


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Photons by energy, as they leave the filtered tube.

    Attributes:
        energies_kev: (E,) middles of equal bins.
        fluence: (E,) photons in each bin, summing to 1.
        kvp: Tube voltage.
    """

    energies_kev: NDArray
    fluence: NDArray
    kvp: int

    @property
    def detector_weights(self) -> NDArray:
        """(E,) share of each energy in the signal of an energy-integrating detector; sums to 1."""
        weights = self.fluence * self.energies_kev
        return weights / weights.sum()


@lru_cache(maxsize=len(SHIPPED_KVP))
def load_spectrum(kvp: int) -> Spectrum:
    """Load the tungsten spectrum for a tube voltage.

    Raises:
        ValueError: If there is none for this voltage; the message lists those there are.
    """
    if kvp not in SHIPPED_KVP:
        raise ValueError(f"There is no spectrum for {kvp} kVp; there are {SHIPPED_KVP}.")
    table = resources.files("XraySynthLib.assets") / "spectra" / f"tungsten-{kvp}kvp.csv"
    with table.open(encoding="utf-8") as lines:
        energies_kev, fluence = np.loadtxt(lines, delimiter=",", comments="#", unpack=True)
    energies_kev.setflags(write=False)
    fluence /= fluence.sum()
    fluence.setflags(write=False)
    return Spectrum(energies_kev, fluence, kvp)
