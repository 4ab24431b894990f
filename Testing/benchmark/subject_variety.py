"""How sampled subjects vary, against published ranges (mean +- 2 standard deviations).

    python Testing/benchmark/subject_variety.py [--output FILE.png] [--count 200]

Published: bi-iliac width and inlet, Kurki 2011 and DeSilva and Rosenberg 2017; head diameter,
Asala 2001; neck-shaft angle, Gilligan et al. 2013; hip breadth, ANSUR II (Gordon et al. 2014).
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.sexes import subpubic_angle_deg
from XraySynthLib.anatomy.shape_model import load_shape_model
from XraySynthLib.anatomy.subject import Subject, sample_subject

PUBLISHED = {
    "pelvic width, mm": (278, 18),
    "inlet width, mm": (129, 10),
    "inlet depth / width": (0.86, 0.10),
    "subpubic angle, deg": (104, 13),
    "femoral head diameter, mm": (46.5, 4),
    "neck-shaft angle, deg": (127, 6),
    "hip breadth, mm": (350, 30),
}


def measures_of(subject: Subject) -> dict[str, float]:
    """The measures of one subject, in the order of `PUBLISHED`."""
    vertices, model = subject.bones.vertices_ras_mm, load_shape_model()
    hips = vertices[: model.parts[Bone.SACRUM].start]
    brim = _brim()
    left, right = vertices[brim[0]].mean(0), vertices[brim[1]].mean(0)
    front, back = vertices[brim[2]].mean(0), vertices[brim[3]].mean(0)
    inlet = np.linalg.norm(right - left)
    _, skin = subject.envelope.distances(_hip_line())
    angle = np.mean([neck_shaft_angle_deg(subject, b) for b in (Bone.LEFT_FEMUR, Bone.RIGHT_FEMUR)])
    return {
        "pelvic width, mm": float(np.ptp(hips[:, 0])),
        "inlet width, mm": float(inlet),
        "inlet depth / width": float(np.linalg.norm(front - back) / inlet),
        "subpubic angle, deg": subpubic_angle_deg(subject.bones),
        "femoral head diameter, mm": 2 * subject.bones.head(Bone.LEFT_FEMUR)[1],
        "neck-shaft angle, deg": float(angle),
        "hip breadth, mm": float((skin < 0).any(axis=(0, 1)).sum()),
    }


def _hip_line() -> tuple[NDArray, NDArray, NDArray]:
    x = np.arange(-300, 300, dtype=np.float32)[None, None, :]
    y = np.arange(-120, 60, 10, dtype=np.float32)[None, :, None]
    return x, y, np.arange(-60, 60, 10, dtype=np.float32)[:, None, None]


def _brim() -> list[NDArray]:
    """Vertices on the mean at the widest left and right of the brim, symphysis, promontory."""
    model = load_shape_model()
    mean = model.mean.vertices_ras_mm
    targets = ([-63, -15, 40], [63, -15, 40], [0, 38, -12], [0, -9, 86])
    return [np.argsort(np.linalg.norm(mean - target, axis=1))[:8] for target in targets]


def neck_shaft_angle_deg(subject: Subject, femur: Bone) -> float:
    """Angle between the axes of neck (head's centre to the neck's middle) and shaft."""
    model = load_shape_model()
    side = -1.0 if femur is Bone.LEFT_FEMUR else 1.0
    mean = model.mean.surface(femur)[0]
    own = subject.bones.surface(femur)[0]

    def middle(near: NDArray) -> NDArray:
        return (own[near].min(0) + own[near].max(0)) / 2

    along = np.array([side * 0.79, 0.0, -0.61])
    offsets = mean - model.mean.head(femur)[0]
    at = offsets @ along
    neck = middle((np.abs(at - 26) < 2.5) & (np.linalg.norm(offsets, axis=1) < 36))
    shaft = middle(np.abs(mean[:, 2] + 140) < 3) - middle(np.abs(mean[:, 2] + 80) < 3)
    neck = subject.bones.head(femur)[0] - neck
    cosine = neck @ shaft / np.linalg.norm(neck) / np.linalg.norm(shaft)
    return float(np.degrees(np.arccos(cosine)))


def main() -> None:
    """Sample, measure, write a table and a figure."""
    from matplotlib.figure import Figure

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".png"))
    parser.add_argument("--count", type=int, default=200)
    options = parser.parse_args()
    subjects = [sample_subject((0, index)) for index in range(options.count)]
    rows = [measures_of(subject) for subject in subjects]
    with options.output.with_suffix(".csv").open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, ["sex", *PUBLISHED], lineterminator="\n")
        writer.writeheader()
        for subject, row in zip(subjects, rows, strict=True):
            writer.writerow(
                {"sex": subject.parameters.sex} | {k: f"{v:.2f}" for k, v in row.items()}
            )
    figure = Figure(figsize=(14, 6))
    for place, (name, (mean, sd)) in enumerate(PUBLISHED.items(), 1):
        axes = figure.add_subplot(2, 4, place)
        for sex, color in (("female", "tab:red"), ("male", "tab:blue")):
            values = [
                row[name]
                for row, subject in zip(rows, subjects, strict=True)
                if subject.parameters.sex == sex
            ]
            axes.hist(values, bins=20, alpha=0.5, color=color, label=sex)
        axes.axvspan(mean - 2 * sd, mean + 2 * sd, color="0.85", zorder=-1)
        axes.set_title(name, fontsize=9)
        values = np.array([row[name] for row in rows])
        print(f"{name}: {values.mean():.1f} +- {values.std():.1f}, published {mean} +- {sd}")
    figure.axes[0].legend()
    figure.tight_layout()
    figure.savefig(options.output, dpi=110)


if __name__ == "__main__":
    main()
