"""How sampled subjects vary, each sex against its published ranges.

    python Testing/benchmark/subject_variety.py [--output FILE.png] [--count 200]

Bars under the histograms: published mean +- 2 standard deviations. `published_ranges.csv` beside
this file has them, the sources, whether a source was read again (`read_again`) or a value is a
textbook one, and the ranges of Hounsfield units and thicknesses that the tests and the code name.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.anatomy.pelvimetry import pelvimetry
from XraySynthLib.anatomy.subject import Subject, sample_subject

MEASURES = {
    "pelvic width, mm": "bi_iliac_mm",
    "hip bone height, mm": "hip_bone_height_mm",
    "inlet width, mm": "inlet_width_mm",
    "inlet depth, mm": "inlet_depth_mm",
    "interspinous distance, mm": "interspinous_mm",
    "sciatic notch width, mm": "notch_width_mm",
    "subpubic angle, deg": "subpubic_angle_deg",
    "femoral head diameter, mm": "head_diameter_mm",
    "neck-shaft angle, deg": "neck_shaft_angle_deg",
}
NAMES = (*MEASURES, "inlet width / depth", "hip breadth, mm")
COLORS = {"female": "tab:red", "male": "tab:blue"}


def measures_of(subject: Subject) -> dict[str, float]:
    """The measures of one subject, in the order of `NAMES`."""
    found = pelvimetry(subject.bones)
    _, skin = subject.envelope.distances(_hip_line())
    return {name: found[key] for name, key in MEASURES.items()} | {
        "inlet width / depth": found["inlet_width_mm"] / found["inlet_depth_mm"],
        "hip breadth, mm": float((skin < 0).any(axis=(0, 1)).sum()),
    }


def _hip_line() -> tuple[NDArray, NDArray, NDArray]:
    x = np.arange(-300, 300, dtype=np.float32)[None, None, :]
    y = np.arange(-120, 60, 10, dtype=np.float32)[None, :, None]
    return x, y, np.arange(-60, 60, 10, dtype=np.float32)[:, None, None]


def published() -> dict[tuple[str, str], tuple[float, float]]:
    """Mean and standard deviation by measure and sex, where both are known."""
    path = Path(__file__).with_name("published_ranges.csv")
    with path.open(newline="", encoding="utf-8") as lines:
        return {
            (row["quantity"], row["who"]): (float(row["mean"]), float(row["sd"]))
            for row in csv.DictReader(lines)
            if row["mean"] and row["sd"]
        }


def main() -> None:
    """Sample, measure, write a table and a figure."""
    from matplotlib.figure import Figure

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".png"))
    parser.add_argument("--count", type=int, default=200)
    options = parser.parse_args()
    subjects = [sample_subject((0, index)) for index in range(options.count)]
    sexes = np.array([subject.parameters.sex for subject in subjects])
    rows = [measures_of(subject) for subject in subjects]
    with options.output.with_suffix(".csv").open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, ["sex", *NAMES], lineterminator="\n")
        writer.writeheader()
        for sex, row in zip(sexes, rows, strict=True):
            writer.writerow({"sex": sex} | {name: f"{row[name]:.2f}" for name in NAMES})
    figure, ranges = Figure(figsize=(17, 9)), published()
    for place, name in enumerate(NAMES, 1):
        axes = figure.add_subplot(3, 4, place)
        values = np.array([row[name] for row in rows])
        edges = np.histogram_bin_edges(values, 20)
        for depth, (sex, color) in enumerate(COLORS.items(), 1):
            own = values[sexes == sex]
            axes.hist(own, bins=edges, alpha=0.5, color=color, label=sex)
            text = f"{name}, {sex}: {own.mean():.2f} +- {own.std():.2f}"
            if (name, sex) in ranges:
                mean, sd = ranges[name, sex]
                axes.errorbar(
                    mean, -2.2 * depth, xerr=2 * sd, fmt="o", color=color, capsize=4, lw=2
                )
                text += f", published {mean:g} +- {sd:g}"
            print(text)
        axes.set_title(name, fontsize=9)
        axes.axhline(0, color="0.4", lw=0.6)
        axes.set_yticks([tick for tick in axes.get_yticks() if tick >= 0 and tick % 5 == 0])
    figure.axes[0].legend(fontsize=8)
    figure.text(0.77, 0.2, "dots and bars: published mean +- 2 SD\n(published_ranges.csv)")
    figure.tight_layout()
    figure.savefig(options.output, dpi=100)


if __name__ == "__main__":
    main()
