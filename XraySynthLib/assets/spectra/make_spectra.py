"""Make the tube spectra beside this file: `pip install spekpy==2.5.4; python make_spectra.py`.

A tungsten anode at 12 degrees; aluminium as in DeepDRR's spectra at 60, 90 and 120 kVp (3.5, 4.0
and 4.3 mm) and linear in between. SpekPy (Poludniowski et al. 2021), default physics, 0.5 keV bins.
"""

from pathlib import Path

import numpy as np
import spekpy

ANODE_ANGLE_DEG = 12


def main() -> None:
    """Write one table for each tube voltage."""
    for kvp in (60, 70, 80, 90, 100, 110, 120):
        aluminium_mm = float(np.interp(kvp, [60, 90, 120], [3.5, 4.0, 4.3]).round(2))
        tube = spekpy.Spek(kvp=kvp, th=ANODE_ANGLE_DEG, dk=0.5).filter("Al", aluminium_mm)
        energies_kev, fluence = tube.get_spectrum(edges=False)
        keep = fluence > fluence.max() * 1e-6
        header = (
            f"kvp {kvp}; tungsten anode {ANODE_ANGLE_DEG} degrees; filter {aluminium_mm} mm Al; "
            f"half-value layer {tube.get_hvl1(matl='Al'):.3f} mm Al; SpekPy {spekpy.__version__}\n"
            "energy_kev (bin middle),fluence (photons in the bin, sums to 1)"
        )
        np.savetxt(
            Path(__file__).with_name(f"tungsten-{kvp}kvp.csv"),
            np.column_stack([energies_kev, fluence / fluence[keep].sum()])[keep],
            fmt=("%.2f", "%.6e"),
            delimiter=",",
            header=header,
        )


if __name__ == "__main__":
    main()
