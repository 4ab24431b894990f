"""What the X-rays pass through: one density map for each material."""
from dataclasses import dataclass
import numpy as np
from numpy.typing import NDArray

@dataclass(frozen=True, eq=False)
class Materials:
    names: tuple[str, ...]
    density_g_per_cm3: NDArray
    ras_from_ijk: NDArray
