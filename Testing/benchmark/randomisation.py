"""How long a randomisation takes, and pictures of many of one image to be looked at.

    python Testing/benchmark/randomisation.py time [--output FILE.csv]
    python Testing/benchmark/randomisation.py sheet [--output FILE.jpg] [--seed S] [--index I] \
        [--count N] [--preset strong] [--width PX] [--landmarks]

`time` writes `randomisation.csv`: processor time of drawing and applying by one thread, over 300
records of each preset, with 14 landmarks, without masks and with six. `sheet` writes
`Resources/randomisation.jpg`: the image untouched, then randomised, visible landmarks circled if
asked for.
"""

import argparse
import csv
import platform
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from XraySynthLib.anatomy.render import render_ct
from XraySynthLib.anatomy.subject import sample_subject
from XraySynthLib.data import ImageLandmarkSet, LandmarkSet, Quantity, Xray
from XraySynthLib.data.pelvis import LANDMARK_NAMES
from XraySynthLib.data.randomisation import PRESETS, draw_randomisation, randomise_image
from XraySynthLib.drr import FULL, expose, materials_from_hu, project, to_line_integral
from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm

RESOURCES = Path(__file__).parents[2] / "Resources"
N_RECORDS = 300
N_MASKS = 6
SIZES_PX = (256, 512)
COLUMNS = ("preset", "size_px", "masks", "mean_ms", "median_ms", "p95_ms", "greatest_ms", "cpu")
POSES = ((0.0, 0.0), (25.0, 10.0), (-35.0, -15.0), (0.0, 35.0))


def a_radiograph(seed: int, index: int, size_px: int) -> tuple[Xray, ImageLandmarkSet]:
    """Line integrals of a sampled subject, full physics, and its landmarks."""
    subject = sample_subject((seed, index))
    materials = materials_from_hu(render_ct(subject, (300, 180, 260), 1.5))
    center_ras_mm = subject.grid().center_ras_mm
    pose = CArmPose(*POSES[index % len(POSES)], 0.0, center_ras_mm, 660.0)
    intrinsics = Intrinsics(1020.0, [300 / size_px] * 2, (size_px, size_px))
    view = view_from_carm(pose, intrinsics)
    rng = np.random.default_rng((seed, index))
    xray = to_line_integral(expose(project(materials, view), materials.names, view, FULL, rng))
    landmarks = LandmarkSet(subject.landmarks.names, subject.landmarks.points_ras_mm)
    return xray, landmarks.seen_from(view)


def write_times(output: Path) -> None:
    """Measure every preset."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    with output.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, COLUMNS)
        writer.writeheader()
        for name, ranges in PRESETS.items():
            for size_px in SIZES_PX:
                smooth = cv2.resize(rng.random((9, 9), dtype=np.float32), (size_px, size_px))
                xray = Xray(5 * smooth, Quantity.LINE_INTEGRAL)
                points_px = rng.uniform(0, size_px - 1, (len(LANDMARK_NAMES), 2))
                seen = np.ones(len(points_px), bool)
                landmarks = ImageLandmarkSet(LANDMARK_NAMES, points_px, seen, np.ones(seen.size))
                all_masks = {str(n): smooth > (n + 1) / (N_MASKS + 1) for n in range(N_MASKS)}
                for masks in ({}, all_masks):
                    times = []
                    for number in range(-20, N_RECORDS):
                        generator = np.random.default_rng((1, number + 20))
                        start = time.process_time()
                        record = draw_randomisation(ranges, (size_px, size_px), generator)
                        randomise_image(xray, landmarks, masks, record)
                        if number >= 0:  # the others warm up
                            times.append(1e3 * (time.process_time() - start))
                    row = {
                        "preset": name,
                        "size_px": size_px,
                        "masks": len(masks),
                        "mean_ms": f"{np.mean(times):.2f}",
                        "median_ms": f"{np.median(times):.2f}",
                        "p95_ms": f"{np.percentile(times, 95):.2f}",
                        "greatest_ms": f"{max(times):.2f}",
                        "cpu": _processor(),
                    }
                    writer.writerow(row)
                    print(*row.values())


def write_sheet(arguments: argparse.Namespace) -> None:
    """Draw a sheet of the image and its randomisations."""
    size_px, width_px = 512, arguments.width
    xray, landmarks = a_radiograph(arguments.seed, arguments.index, size_px)
    tiles = []
    for number in range(arguments.count):
        ranges = PRESETS["none" if number == 0 else arguments.preset]
        rng = np.random.default_rng((arguments.seed, number))
        record = draw_randomisation(ranges, (size_px, size_px), rng)
        shown, marked, _ = randomise_image(xray, landmarks, None, record)
        tile = cv2.cvtColor(np.rint(255 * shown.values).astype(np.uint8), cv2.COLOR_GRAY2RGB)
        if arguments.landmarks:
            for point_px in marked.points_px[marked.visible]:
                cv2.circle(tile, tuple(np.rint(point_px).astype(int).tolist()), 7, (255, 176, 0), 2)
        tile = cv2.resize(tile, (width_px, width_px), interpolation=cv2.INTER_AREA)
        tiles.append(np.pad(tile, ((2, 2), (2, 2), (0, 0)), constant_values=90))
    across = 6 if len(tiles) > 12 else 4
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % across)
    rows = [np.hstack(tiles[start : start + across]) for start in range(0, len(tiles), across)]
    Image.fromarray(np.vstack(rows)).save(arguments.output, quality=72, optimize=True)
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1000:.0f} kB")


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    timing, sheet = verbs.add_parser("time"), verbs.add_parser("sheet")
    timing.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".csv"))
    sheet.add_argument("--output", type=Path, default=RESOURCES / "randomisation.jpg")
    for name, default in (("seed", 0), ("index", 0), ("count", 24), ("width", 170)):
        sheet.add_argument(f"--{name}", type=int, default=default)
    sheet.add_argument("--preset", choices=PRESETS, default="strong")
    sheet.add_argument("--landmarks", action="store_true")
    arguments = parser.parse_args()
    if arguments.verb == "time":
        write_times(arguments.output)
    else:
        write_sheet(arguments)


if __name__ == "__main__":
    main()
