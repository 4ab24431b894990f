"""How far a landmark carried by correspondence is from its rule on a sample's own surface.

    python Testing/benchmark/landmark_rules.py [OUTPUT.csv]

100 samples with local variation and the 26 people. `rule`: as defined. `strict`: the same
with a reach of 12 mm and a sharpness of 30 (near the single extreme point), for comparison.
"""

import csv
import sys
from pathlib import Path

import numpy as np

from XraySynthLib.anatomy.landmark_rules import (
    STRICT,
    facing_point,
    head_center,
)
from XraySynthLib.anatomy.landmarks import load_marks
from XraySynthLib.anatomy.shape_model import PelvisShape, load_shape_model


def sampled_shape(seed: tuple[int, ...], local_variation: float = 1.0) -> PelvisShape:
    """Shape of both sexes in neutral pose, from standard normal scores cut at 2.5."""
    model, generator = load_shape_model(), np.random.default_rng(seed)
    scores = np.clip(generator.standard_normal(model.n_modes), -2.5, 2.5)
    coefficients = generator.standard_normal((model.local_basis.shape[1], 3))
    return model.shape(scores, local_variation * coefficients)


def rule_errors_mm(shape: PelvisShape, **settings: float) -> list[float]:
    """Distance between rule and correspondence for each of the 14 landmarks."""
    errors = []
    for mark in load_marks():
        if mark.anchor_ras_mm is None:
            point = head_center(shape, mark.bone)
        else:
            point = facing_point(
                shape, mark.bone, mark.anchor_ras_mm, mark.direction_ras, **settings
            )[0]
        errors.append(float(np.linalg.norm(point - mark.on(shape.vertices_ras_mm))))
    return errors


def main(output: Path) -> None:
    """Measure and write."""
    model = load_shape_model()
    samples = [sampled_shape((0, index)) for index in range(100)]
    people = [model.person(index) for index in range(len(model.people_nodes_mm))]
    with output.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["landmark", "shapes", "rule", "mean_mm", "p95_mm", "max_mm"])
        for shapes, group in (("samples", samples), ("people", people)):
            for rule, settings in (("rule", {}), ("strict", STRICT)):
                errors = np.array([rule_errors_mm(shape, **settings) for shape in group])
                for mark, column in zip(load_marks(), errors.T, strict=True):
                    numbers = column.mean(), np.percentile(column, 95), column.max()
                    writer.writerow([mark.name, shapes, rule, *(f"{n:.2f}" for n in numbers)])


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "Testing/benchmark/landmark_rules.csv"))
