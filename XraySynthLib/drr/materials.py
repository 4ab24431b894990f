"""What the X-rays pass through: a density map for each material, from HU or from labels."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data import Volume
from XraySynthLib.drr.attenuation import mass_attenuation
from XraySynthLib.geometry.transforms import checked_affine, translation

SOFT, BONE, METAL = "soft tissue", "bone", "titanium"
AIR_HU = -900.0
"""At and below it is air: an exposure is measured against air, so air weighs nothing."""
CT_EFFECTIVE_KEV = 70.0
"""Energy at which HU are taken to be measured; a 120 kVp scanner's beam in a body."""
METAL_HU = 3000.0
"""Above it is metal. Scanners saturate near 3071 HU, so metal gets its own density."""
METAL_DENSITY_G_PER_CM3 = 4.506


@dataclass(frozen=True, eq=False)
class Materials:
    """One density map for each material, on one grid.

    Attributes:
        names: Names known to `drr.attenuation`.
        density_g_per_cm3: (M, K, J, I) float32, read-only, not negative.
        ras_from_ijk: (4, 4) from voxel index (integer = centre) to RAS, mm.

    Raises:
        ValueError: If shapes do not fit, or a density is negative or not finite.
    """

    names: tuple[str, ...]
    density_g_per_cm3: NDArray
    ras_from_ijk: NDArray

    def __post_init__(self) -> None:
        density = np.ascontiguousarray(self.density_g_per_cm3, dtype=np.float32)
        names = tuple(self.names)
        if density.ndim != 4 or density.shape[0] != len(names) or density.size == 0:
            raise ValueError(
                f"density_g_per_cm3 must be ({len(names)} materials, K, J, I), got {density.shape}."
            )
        # One pass each, without a temporary: NaN fails both comparisons.
        if not (density.min() >= 0 and density.max() < np.inf):
            raise ValueError("A density is negative, NaN or infinite.")
        density = density.view()
        density.setflags(write=False)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "density_g_per_cm3", density)
        object.__setattr__(self, "ras_from_ijk", checked_affine(self.ras_from_ijk, "ras_from_ijk"))

    def cropped(self) -> "Materials":
        """The same materials on the smallest grid that holds all that is not air.

        Raises:
            ValueError: If everything is air.
        """
        box, ras_from_box = bounding_box((self.density_g_per_cm3 > 0).any(0), self.ras_from_ijk)
        return Materials(self.names, self.density_g_per_cm3[:, *box], ras_from_box)


def bounding_box(filled: NDArray, ras_from_ijk: NDArray) -> tuple[tuple[slice, ...], NDArray]:
    """Slices along K, J, I of the smallest box around what is filled, and its `ras_from_ijk`.

    Raises:
        ValueError: If nothing is filled.
    """
    slices = []
    for axis in range(3):
        others = tuple({0, 1, 2} - {axis})
        (indices,) = np.nonzero(filled.any(axis=others))
        if len(indices) == 0:
            raise ValueError("The volume holds nothing but air.")
        slices.append(slice(int(indices[0]), int(indices[-1]) + 1))
    return tuple(slices), ras_from_ijk @ translation([s.start for s in reversed(slices)])


def density_from_hu(values_hu: NDArray) -> NDArray:
    """Mass density of tissue, g/cm3: max(0, min(.001029 HU + 1.03, .0005886 HU + 1.03)).

    The two lines are those of DeepDRR (Unberath et al. 2018); they meet at 0 HU.
    """
    density = np.where(values_hu < 0, np.float32(0.001029), np.float32(0.0005886))
    density *= values_hu
    density += np.float32(1.03)
    return np.maximum(density, 0, out=density)


def bone_share(values_hu: NDArray) -> NDArray:
    """Share of cortical bone in a tissue's mass, in 0..1.

    HU = 1000 (rho (f b + (1 - f) s) / w - 1) solved for f: rho the density, b, s and w the mass
    attenuation of bone, soft tissue and water (1 g/cm3) at `CT_EFFECTIVE_KEV`. 0 up to about
    55 HU, 0.15 at 200 HU, 0.71 at 1000 HU.
    """
    energy_kev = np.array([CT_EFFECTIVE_KEV])
    bone, soft, water = (mass_attenuation(name, energy_kev)[0] for name in (BONE, SOFT, "water"))
    share = values_hu * np.float32(1e-3) + np.float32(1)
    share /= np.maximum(density_from_hu(values_hu), np.float32(1e-3))
    share -= np.float32(soft / water)
    share /= np.float32((bone - soft) / water)
    return np.clip(share, 0, 1, out=share)


def materials_from_hu(volume: Volume) -> Materials:
    """Split a CT into soft tissue, bone and, where there is any, metal.

    Each voxel is the mixture of soft tissue and cortical bone that has its density and, at the
    scanner's energy, its HU; so trabecular bone is part bone, and no edge is drawn where HU cross
    a threshold (DeepDRR makes all above 350 HU cortical bone and all below soft tissue).

    Raises:
        ValueError: If the volume holds nothing but air.
    """
    box, ras_from_ijk = bounding_box(volume.values_hu > AIR_HU, volume.ras_from_ijk)
    names, maps = _maps_from_hu(volume.values_hu[box])
    return Materials(names, maps, ras_from_ijk)


def _maps_from_hu(values_hu: NDArray) -> tuple[tuple[str, ...], NDArray]:
    """Names and (M, K, J, I) float32 density, g/cm3, of soft tissue, bone and any metal."""
    density = density_from_hu(values_hu)
    density[values_hu <= AIR_HU] = 0
    metal = values_hu > METAL_HU
    n_materials = 3 if metal.any() else 2
    maps = np.empty((n_materials, *density.shape), np.float32)
    np.multiply(density, bone_share(values_hu), out=maps[1])
    np.subtract(density, maps[1], out=maps[0])
    if n_materials == 3:
        maps[:2] *= ~metal
        np.multiply(metal, np.float32(METAL_DENSITY_G_PER_CM3), out=maps[2])
    return (SOFT, BONE, METAL)[:n_materials], maps


def materials_from_labels(
    volume: Volume,
    material_of_label: Mapping[int, str],
    density_of_label: Mapping[int, float] | None = None,
) -> Materials:
    """Take each voxel's material from its label; its density from HU unless the label sets it.

    Args:
        volume: A CT with a label map.
        material_of_label: Label -> material name. Voxels of other labels keep what their HU say.
        density_of_label: Label -> g/cm3, for labels whose HU say nothing (metal).

    Raises:
        ValueError: If the volume has no labels, or a density is set for a label without material.
    """
    if volume.labels is None:
        raise ValueError("The volume has no label map to take materials from.")
    fixed = dict(density_of_label or {})
    if set(fixed) - set(material_of_label):
        raise ValueError(f"Labels {sorted(set(fixed) - set(material_of_label))} have no material.")
    filled = (volume.values_hu > AIR_HU) | np.isin(volume.labels, list(fixed))
    box, ras_from_ijk = bounding_box(filled, volume.ras_from_ijk)
    labels, values_hu = volume.labels[box], volume.values_hu[box]
    names_from_hu, maps_from_hu = _maps_from_hu(values_hu)
    names = list(dict.fromkeys([*names_from_hu, *material_of_label.values()]))
    maps = np.zeros((len(names), *labels.shape), np.float32)
    maps[: len(names_from_hu)] = maps_from_hu
    for label, name in material_of_label.items():
        here = labels == label
        maps[:, here] = 0
        density = fixed[label] if label in fixed else density_from_hu(values_hu[here])
        maps[names.index(name), here] = density
    return Materials(tuple(names), maps, ras_from_ijk)
