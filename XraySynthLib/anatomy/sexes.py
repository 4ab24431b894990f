"""Sex-typical shapes from a model that does not know its people's sex.

The asset names no sex. So a subject's scores are shifted: by the likeliest shift, the scores being
standard normal, that brings the measures towards half the difference between the sexes' published
means, each to within its tolerance (`TARGETS`). Along the shift the scores' spread, which already
holds both sexes, shrinks to `KEPT`.

Sources of the differences, women's less men's; "direction" means that the text at hand gave no
figure and the size is a choice:

- Subpubic angle 87.4 and 68.6 degrees: Ali et al. 2020, Anat Cell Biol 53, CT.
- Interspinous distance 105 and 88 mm, conjugate 116 and 105 mm: Ahrend et al., CT, 100 people
  (PubMed 31908940). The conjugate's target is less: it did not differ between the sexes in MR
  images of 186 patients (Colorectal Dis 2006, 8:772), nor quite (p = 0.06) in CT of 200 ("3D
  pelvimetry and biometric measurements: a surgical perspective for colorectal resections").
- Head's diameter 44 and 49 mm: "Determination of sex from femora", 170 German femora.
- Greater sciatic notch, ischial to posterior inferior iliac spine, 54.4 and 49.6 mm: Sinha et al.,
  149 hip bones (Int J Res Med Sci).
- Neck-shaft angle 123.0 and 121.5 degrees: Hartel et al. 2016, PLoS One 11, 1070 CT.
- Bi-iliac width 275.8 and 280.9 mm: the 507 people of the data set `bdims` (R package openintro).
- Inlet's width, direction: wider in women (the same 200 CT). Its relation to the depth hardly
  differs (Delprete 2017, Anat Rec 300:706).
- Hip bone's height, direction: taller in men in each of six samples ("Similarities in pelvic
  dimorphisms across populations": iliac length, pelvic depth).
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.anatomy.pelvimetry import pelvimetry
from XraySynthLib.anatomy.shape_model import load_shape_model

TARGETS = {
    "subpubic_angle_deg": (9.4, 1.5),
    "interspinous_mm": (8.5, 2.5),
    "inlet_depth_mm": (1.5, 1.5),
    "inlet_width_mm": (3.0, 0.8),
    "head_diameter_mm": (-2.5, 0.5),
    "notch_width_mm": (2.4, 1.5),
    "neck_shaft_angle_deg": (0.75, 2.0),
    "bi_iliac_mm": (-2.5, 5.0),
    "hip_bone_height_mm": (-8.0, 3.0),
}
"""What a typical woman differs by from the mean of both sexes, and its tolerance."""
KEPT = 0.5
"""Standard deviation left along the shift within a sex."""
STEP = 0.5  # of a score, for the differences


@lru_cache(maxsize=1)
def female_shift() -> NDArray:
    """(modes,) shift of the scores from the mean of both sexes to a typical woman."""
    model = load_shape_model()

    def measures(scores: NDArray) -> NDArray:
        found = pelvimetry(model.shape(scores))
        return np.array([found[name] for name in TARGETS])

    slopes = np.array(
        [
            (measures(STEP * unit) - measures(-STEP * unit)) / (2 * STEP)
            for unit in np.eye(model.n_modes)
        ]
    ).T
    wanted, tolerance = np.array(list(TARGETS.values())).T
    # Least squares of the misses in tolerances and of the shift itself (ridge regression).
    rows = np.concatenate([slopes / tolerance[:, None], np.eye(model.n_modes)])
    return np.linalg.lstsq(
        rows, np.concatenate([wanted / tolerance, np.zeros(model.n_modes)]), rcond=None
    )[0]


def scores_for_sex(scores: NDArray, sex: str) -> NDArray:
    """Turn standard normal scores (modes,) into a sex's."""
    shift = female_shift()
    along = shift / np.linalg.norm(shift)
    own = scores - (1 - KEPT) * (scores @ along) * along
    return own + (shift if sex == "female" else -shift)
