"""From area density to the signal of an energy-integrating detector, over a whole spectrum."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.drr.attenuation import mass_attenuation
from XraySynthLib.drr.spectrum import Spectrum, load_spectrum

TABLE_UNIT_G_PER_CM2 = 0.005
TABLE_SHAPE = (127, 91)
"""Nodes along the first and the second material, at n^2 units: up to 79.4 and 40.5 g/cm2."""
CHUNK_PIXELS = 4096


def polychromatic_line_integral(
    area_density: NDArray, names: tuple[str, ...], spectrum: Spectrum
) -> NDArray:
    """-ln of the transmitted signal, sum_E w(E) exp(-sum_m mu_m(E) A_m), w the detector's weights.

    The first two materials are looked up in a table, linearly between nodes (largest error 4e-4);
    where there is a third, or more than the table holds, the sum is taken energy by energy.

    Args:
        area_density: (M, rows, columns), g/cm2.
        names: (M,) the materials.
        spectrum: The spectrum.

    Returns:
        (rows, columns) float32, no unit.

    Raises:
        ValueError: If a material is unknown.
    """
    if len(names) < 2:
        return exact_line_integral(area_density, names, spectrum)
    from XraySynthLib.drr.engines.table_kernel import look_up_table

    table = _table(names[:2], spectrum.kvp)
    limits = (np.array(TABLE_SHAPE) - 1) ** 2 * TABLE_UNIT_G_PER_CM2
    image = np.empty(area_density.shape[1:], np.float32)
    look_up_table(table, np.float32(TABLE_UNIT_G_PER_CM2), area_density[0], area_density[1], image)
    by_energy = (area_density[0] >= limits[0]) | (area_density[1] >= limits[1])
    for further in area_density[2:]:
        by_energy |= further > 0
    if by_energy.any():
        image[by_energy] = exact_line_integral(area_density[:, by_energy], names, spectrum)
    return image


def exact_line_integral(
    area_density: NDArray, names: tuple[str, ...], spectrum: Spectrum
) -> NDArray:
    """As `polychromatic_line_integral`, for (M, ...) values, energy by energy, in float64."""
    attenuation = np.stack([mass_attenuation(name, spectrum.energies_kev) for name in names])
    flat = area_density.reshape(len(names), -1)
    result = np.empty(flat.shape[1], np.float32)
    log_weights = np.log(spectrum.detector_weights)
    for first in range(0, flat.shape[1], CHUNK_PIXELS):
        part = flat[:, first : first + CHUNK_PIXELS].astype(np.float64)
        exponents = log_weights[:, None] - attenuation.T @ part  # (E, pixels)
        # Shifted by the largest exponent, so that metal does not underflow.
        largest = exponents.max(axis=0)
        signal = np.exp(exponents - largest).sum(axis=0)
        result[first : first + CHUNK_PIXELS] = -np.log(signal) - largest
    return result.reshape(area_density.shape[1:])


@lru_cache(maxsize=16)
def _table(names: tuple[str, str], kvp: int) -> NDArray:
    """(127, 91) line integral over the area densities of two materials."""
    axes = [np.arange(n) ** 2 * TABLE_UNIT_G_PER_CM2 for n in TABLE_SHAPE]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    return exact_line_integral(grid, names, load_spectrum(kvp))
