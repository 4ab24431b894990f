"""Mass attenuation of what a C-arm sees, from xraydb (Elam, Ravel and Sieber 2002)."""

from functools import lru_cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

COMPOSITIONS = MappingProxyType(
    {
        # Mass fractions: ICRU Report 44 (1989) for tissues, as tabulated by NIST.
        "water": {"H": 0.111898, "O": 0.888102},
        "air": {"C": 0.000124, "N": 0.755268, "O": 0.231781, "Ar": 0.012827},
        "soft tissue": {
            "H": 0.102,
            "C": 0.143,
            "N": 0.034,
            "O": 0.708,
            "Na": 0.002,
            "P": 0.003,
            "S": 0.003,
            "Cl": 0.002,
            "K": 0.003,
        },
        "bone": {
            "H": 0.034,
            "C": 0.155,
            "N": 0.042,
            "O": 0.435,
            "Na": 0.001,
            "Mg": 0.002,
            "P": 0.103,
            "S": 0.003,
            "Ca": 0.225,
        },
        "titanium": {"Ti": 1.0},
        # ISO 5832-1 implant steel, ISO 5832-12 cobalt-chromium-molybdenum, rounded.
        "steel": {"Fe": 0.64, "Cr": 0.18, "Ni": 0.14, "Mo": 0.03, "Mn": 0.01},
        "cobalt-chromium": {"Co": 0.66, "Cr": 0.28, "Mo": 0.06},
        "iodine": {"I": 1.0},
    }
)
"""Material -> element -> mass fraction."""

DENSITY_G_PER_CM3 = MappingProxyType({"titanium": 4.506, "steel": 7.95, "cobalt-chromium": 8.3})
"""Densities of solid metals."""


def mass_attenuation(material: str, energies_kev: NDArray) -> NDArray:
    """Total mass attenuation coefficient.

    Args:
        material: A name in `COMPOSITIONS`.
        energies_kev: (E,) photon energies.

    Returns:
        (E,) cm2/g.

    Raises:
        ValueError: If the material is unknown.
    """
    if material not in COMPOSITIONS:
        raise ValueError(f"Unknown material {material!r}; known are {', '.join(COMPOSITIONS)}.")
    return _mass_attenuation(material, tuple(np.asarray(energies_kev, float).tolist()))


@lru_cache(maxsize=256)
def _mass_attenuation(material: str, energies_kev: tuple[float, ...]) -> NDArray:
    import xraydb

    energies_ev = np.array(energies_kev) * 1e3
    total = np.zeros(len(energies_ev))
    for element, fraction in COMPOSITIONS[material].items():
        total += fraction * xraydb.mu_elam(element, energies_ev)
    total.setflags(write=False)
    return total
