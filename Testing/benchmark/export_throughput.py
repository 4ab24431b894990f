"""Labelled images a second: `export` against a plain loop over itk-rtk; memory over 2,000 images.

    python Testing/benchmark/export_throughput.py SUBJECTS [--images 100] [--memory-images 2000]

SUBJECTS is a folder from `xraysynth generate`. Both make the same set: 512 x 512 pixels, two
materials, full physics (spectrum, scatter, noise, blur, collimator), 14 landmarks, masks of six
bones, WebDataset shards. The plain loop draws the same records and uses this project's physics and
writer; RTK's Joseph filter projects the materials and each bone's box, on all threads. `export`
runs as a user runs it: a new process, with its workers' start. Compared are transmissions, as the
mean absolute difference over the mean: of both sets, in means of 8 x 8 pixels (a photon more or
less changes all draws of noise after it, so single pixels differ by the noise), and of some images
made again without noise, pixel by pixel. Memory is the resident set of one process after every 200
images. Needs itk-rtk beside this project.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from drr_peers import RtkJoseph, processor_name

from XraySynthLib.data import Provenance, Sample
from XraySynthLib.data.sets import open_set, webdataset
from XraySynthLib.drr import (
    Materials,
    acquire,
    draw_acquisition,
    expose,
    materials_from_hu,
    to_line_integral,
)
from XraySynthLib.drr.materials import bounding_box
from XraySynthLib.drr.projection import MASK_MIN_VOXELS
from XraySynthLib.geometry.transforms import translation
from XraySynthLib.workflows import export, export_images

BLOCK_PX, NOISE_FREE_IMAGES = 8, 10
COLUMNS = ("what", "images", "wall_s", "images_per_s", "rss_mb", "mean_difference", "processor")


def config_of(subjects: Path, output: Path, views: int) -> export.ExportConfig:
    """The set that both make."""
    return export.ExportConfig(
        subjects=subjects,
        views=views,
        format="webdataset",
        output=output,
        part_size=25,
        progress="none",
    )


def rtk_projector(density, ras_from_ijk) -> RtkJoseph:
    """RTK with one volume, in a border of air: it does not go beyond the outer voxels' centres."""
    projector = RtkJoseph()
    bordered = np.pad(density, 1).astype(np.float32)
    projector.prepare(bordered, ras_from_ijk @ translation([-1, -1, -1]))
    return projector


def rtk_projectors(materials: Materials) -> list[RtkJoseph]:
    """RTK with each material."""
    return [rtk_projector(one, materials.ras_from_ijk) for one in materials.density_g_per_cm3]


def rtk_samples(config: export.ExportConfig, plan: export_images.ExportPlan):
    """The plain loop: one image after the other."""
    recipe = plan.recipe
    for number, source in enumerate(plan.subjects.values()):
        volume, landmarks = source.read()
        materials = materials_from_hu(volume).cropped()
        of_materials = rtk_projectors(materials)
        of_labels = {}
        for label in recipe.label_values:
            inside = volume.labels == label
            box, ras_from_box = bounding_box(inside, volume.ras_from_ijk)
            of_labels[label] = rtk_projector(inside[box] * 10.0, ras_from_box)
        threshold_mm = MASK_MIN_VOXELS * np.linalg.norm(volume.ras_from_ijk[:3, :3], axis=0).min()
        aim_ras_mm = source.aim_ras_mm(volume, landmarks)
        for item in range(number * config.views, (number + 1) * config.views):
            rng = np.random.default_rng((recipe.seed, item))
            record = draw_acquisition(recipe.ranges, recipe.intrinsics, aim_ras_mm, rng)
            area_density = np.stack([one.project(record.view) for one in of_materials])
            noise = np.random.default_rng(record.noise_seed)
            xray = expose(area_density, materials.names, record.view, record.exposure, noise)
            field = record.open_field
            masks = {
                export_images.mask_name(label): (one.project(record.view) > threshold_mm)
                & (True if field is None else field)
                for label, one in of_labels.items()
            }
            yield Sample(
                key=f"{source.name}-{item:08d}",
                xray=to_line_integral(xray),
                landmarks=export_images.seen_in_field(landmarks.seen_from(record.view), field),
                masks=masks,
                provenance=Provenance("simulated", source.name, (recipe.seed, item)),
            )


def run_rtk(config: export.ExportConfig) -> float:
    """Seconds of the plain loop."""
    plan = export.plan_set(config)
    config.output.mkdir(parents=True)
    start = time.perf_counter()
    part = replace(plan.description.parts[0], split="train", index_in_split=0)
    webdataset.write_part(config.output, part, rtk_samples(config, plan))
    return time.perf_counter() - start


def run_export(config: export.ExportConfig) -> float:
    """Seconds of the command."""
    words = ["--subjects", config.subjects, "--views", config.views, "--output", config.output]
    words += ["--format", config.format, "--progress", "none"]
    words += ["--part-size", config.part_size]
    command = [sys.executable, "-m", "XraySynthLib", "export", *map(str, words)]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def relative_difference(pairs) -> float:
    """Mean absolute difference of pairs of images, over the mean of the first ones."""
    differences = [(np.abs(one - other).mean(), one.mean()) for one, other in pairs]
    return float(np.divide(*np.mean(differences, axis=0)))


def difference_of_sets(one: Path, other: Path) -> float:
    """Of the transmissions of two sets, in block means."""

    def transmissions(path: Path):
        return {s.key: block_means(np.exp(-s.xray.values)) for s in open_set(path)}

    ours, theirs = transmissions(one), transmissions(other)
    assert ours.keys() == theirs.keys()
    return relative_difference((ours[key], theirs[key]) for key in ours)


def block_means(image: np.ndarray) -> np.ndarray:
    """Means of `BLOCK_PX` x `BLOCK_PX` pixels."""
    rows, columns = np.array(image.shape) // BLOCK_PX
    return image.reshape(rows, BLOCK_PX, columns, BLOCK_PX).mean(axis=(1, 3))


def noise_free_pairs(config: export.ExportConfig):
    """The transmissions of the first images of each subject without noise: ours, the loop's."""
    plan = export.plan_set(config)
    recipe = plan.recipe
    for number, source in enumerate(plan.subjects.values()):
        volume, landmarks = source.read()
        materials = materials_from_hu(volume).cropped()
        of_materials = rtk_projectors(materials)
        aim_ras_mm = source.aim_ras_mm(volume, landmarks)
        first = number * config.views
        for item in range(first, first + min(config.views, NOISE_FREE_IMAGES)):
            rng = np.random.default_rng((recipe.seed, item))
            record = draw_acquisition(recipe.ranges, recipe.intrinsics, aim_ras_mm, rng)
            noise_free = replace(record.exposure, photons_per_mm2=0, electronic_noise_photons=0)
            record = replace(record, exposure=noise_free)
            area_density = np.stack([one.project(record.view) for one in of_materials])
            theirs = expose(area_density, materials.names, record.view, noise_free)
            yield acquire(materials, record).values, theirs.values


def rss_mb() -> float:
    """Resident memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def memory_over(config: export.ExportConfig) -> list[tuple[int, float]]:
    """(images made, resident MB) after every 200 images of one process."""
    from XraySynthLib.data.sets.description import UNFINISHED_NAME

    plan = export.plan_set(config)
    (config.output / "parts").mkdir(parents=True)
    plan.description.write(config.output / UNFINISHED_NAME)
    found, done = [], 0
    for part in plan.description.parts:
        task = part, plan.subjects[part.subject]
        export_images.make_part(config.output, config.format, plan.recipe, task)
        (config.output / f"{part.split}-{part.index_in_split:06d}.tar").unlink()
        done += part.count
        if done % 200 == 0:
            found.append((done, rss_mb()))
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("subjects", type=Path)
    parser.add_argument("--images", type=int, default=100, help="of each subject")
    parser.add_argument("--memory-images", type=int, default=2000, help="0 for none")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        ours = config_of(options.subjects, Path(name, "export"), options.images)
        plain = config_of(options.subjects, Path(name, "rtk"), options.images)
        run_export(config_of(options.subjects, Path(name, "warm"), 2))  # compiles, fills caches
        n_images = options.images * len(export.plan_set(ours).subjects)
        for what, seconds in (("export", run_export(ours)), ("itk-rtk loop", run_rtk(plain))):
            rows.append((what, n_images, round(seconds, 2), round(n_images / seconds, 2), "", ""))
        of_sets = difference_of_sets(ours.output, plain.output)
        rows.append((f"means of {BLOCK_PX} x {BLOCK_PX} pixels", n_images, "", "", "", of_sets))
        pairs = list(noise_free_pairs(ours))
        noise_free = relative_difference(pairs)
        rows.append(("pixels without noise", len(pairs), "", "", "", noise_free))
        if options.memory_images:
            views = options.memory_images // len(export.plan_set(ours).subjects)
            memory = config_of(options.subjects, Path(name, "memory"), views)
            rows += [("memory", n, "", "", round(mb, 1), "") for n, mb in memory_over(memory)]
    with options.output.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([(*row, processor_name()) for row in rows])
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
