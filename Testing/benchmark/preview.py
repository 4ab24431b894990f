"""How long a preview takes: two materials, AP and oblique, at several sizes, from every level.

    python Testing/benchmark/preview.py [--output FILE.csv]

The volume is the phantom of `phantom.py`, 256^3 at 1.5 mm, its bones a second material. Each row is
the median and the least of 40 calls after a warm-up, by the wall clock, with all cores: projection
alone, and `Preview.render` (projection, spectrum, window). Preparation is not counted: a module
does it once, when it opens.
"""

import argparse
import csv
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import phantom

from XraySynthLib.drr import Materials, Preview, prepare
from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm

REPETITIONS = 40
DETECTOR_MM = 397.3
BONE_G_PER_CM3 = 1.15
"""Denser voxels of the phantom count as bone."""
COLUMNS = ("stage", "level", "voxel_mm", "size_px", "view", "median_ms", "least_ms", "cpus", "cpu")


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Median and least wall time of a call, ms."""
    call()
    times = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times), min(times)


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).with_suffix(".csv")
    parser.add_argument("--output", type=Path, default=default)
    output = parser.parse_args().output
    density, ras_from_ijk = phantom.voxelised(phantom.abdomen())
    bone = np.where(density > BONE_G_PER_CM3, density, 0)
    maps = np.stack([density - bone, bone])
    preview = Preview(Materials(("soft tissue", "bone"), maps, ras_from_ijk))
    preview.warm()
    machine = {"cpus": len(os.sched_getaffinity(0)), "cpu": _processor()}
    with output.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, COLUMNS)
        writer.writeheader()
        for size_px in (128, 256, 512):
            for view_name, angles in (("ap", (0, 0)), ("oblique", (30, 20))):
                intrinsics = Intrinsics(1020, [DETECTOR_MM / size_px] * 2, (size_px, size_px))
                view = view_from_carm(CArmPose(*angles, source_to_isocenter_mm=660), intrinsics)
                chosen = preview.level_for(view)
                calls = {
                    ("projection", level): lambda m=materials, v=view: prepare(m).project(v)
                    for level, materials in enumerate(preview.levels)
                }
                calls["render", chosen] = lambda v=view: preview.render(v)
                for (stage, level), call in calls.items():
                    median_ms, least_ms = timed(call)
                    spacing = np.linalg.norm(preview.levels[level].ras_from_ijk[:3, 0])
                    row = {
                        "stage": stage,
                        "level": level,
                        "voxel_mm": f"{spacing:g}",
                        "size_px": size_px,
                        "view": view_name,
                        "median_ms": f"{median_ms:.2f}",
                        "least_ms": f"{least_ms:.2f}",
                        **machine,
                    }
                    writer.writerow(row)
                    print(row)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
