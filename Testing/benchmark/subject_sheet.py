"""Eight subjects in six views each, full physics, on one sheet to be looked at.

    python Testing/benchmark/subject_sheet.py [--output FILE.png] [--seed S] [--spacing-mm 1.25]

The grid is wider and taller than the presets, so that no view sees an end of the volume. Prints how
long each CT takes.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from XraySynthLib.anatomy.render import render_ct
from XraySynthLib.anatomy.subject import sample_subject
from XraySynthLib.data import LandmarkSet
from XraySynthLib.drr import FULL, expose, materials_from_hu, project, to_display, to_line_integral
from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm, view_preset
from XraySynthLib.workflows.figures import Panel, write_sheet

N_SUBJECTS = 8
VIEWS = ("ap", "inlet", "outlet", "judet-obturator-left", "judet-obturator-right", "lateral")
SIZE_MM = np.array([624, 288, 432])
INTRINSICS = Intrinsics(1200.0, (0.39, 0.39), (1024, 1024))  # type: ignore[arg-type]
SOURCE_TO_ISOCENTER_MM = 785.0


def panels_of(seed: int, index: int, spacing_mm: float, landmarks: bool) -> list[Panel]:
    """All views of one subject."""
    subject = sample_subject((seed, index))
    start = time.perf_counter()
    shape = tuple(int(size) for size in np.rint(SIZE_MM / spacing_mm))
    volume = render_ct(subject, shape, spacing_mm)
    p = subject.parameters
    print(f"{index}: {shape} in {time.perf_counter() - start:.1f} s, {p.sex}, {p.age_years:.0f} y")
    materials = materials_from_hu(volume)
    panels = []
    for name in VIEWS:
        pose = CArmPose(
            *view_preset(name), 0.0, subject.grid().center_ras_mm, SOURCE_TO_ISOCENTER_MM
        )
        view = view_from_carm(pose, INTRINSICS)
        rng = np.random.default_rng((seed, index))
        transmission = expose(project(materials, view), materials.names, view, FULL, rng)
        shown = to_display(to_line_integral(transmission), detail=1.0)
        title = f"{index} {p.sex}, {p.age_years:.0f} y, {name}"
        marks = subject.landmarks if landmarks else LandmarkSet((), np.empty((0, 3)))
        panels.append(Panel(shown, marks.seen_from(view), title))
    return panels


def main() -> None:
    """Make the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("subject-sheet.png"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--spacing-mm", type=float, default=1.25)
    parser.add_argument("--landmarks", action="store_true", help="draw them")
    options = parser.parse_args()
    panels = []
    for index in range(N_SUBJECTS):
        panels += panels_of(options.seed, index, options.spacing_mm, options.landmarks)
    write_sheet(panels, len(VIEWS), options.output)


if __name__ == "__main__":
    main()
