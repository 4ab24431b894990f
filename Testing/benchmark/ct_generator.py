"""The CT generator on the six people held out: everything its model card says, in one run.

    python Testing/benchmark/ct_generator.py FOLDER --model MODEL [--training PEOPLE ...]

FOLDER gets, and on a rerun keeps, reference CTs (rendered) and generated ones of the same label
maps, labelled X-rays of both at the same poses, what the shipped detector finds in them, and

    subjects.csv   a row a person: agreement of bone with the condition, HU, texture inside bones;
                   the reference's beside
    spectra.csv    power of CT texture by spatial frequency, in cubes about bone and in soft tissue
    variety.csv    correlation with the nearest training CT; one condition drawn twice
    detector.csv   error of the detector on the X-rays of both
    cost.csv       seconds and memory of a volume
    drr-pairs.png  reference and generated, the same views
"""

import argparse
import csv
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from XraySynthLib.ct.quality import bone_agreement, dice, median_hu
from XraySynthLib.ct.tissues import BONES, KINDS, bone_mask, kinds_of
from XraySynthLib.data import Volume
from XraySynthLib.data.formats import read_volume
from XraySynthLib.data.sets import open_set
from XraySynthLib.workflows import detect, evaluate, export, generate
from XraySynthLib.workflows.conditions import sampled_condition
from XraySynthLib.workflows.ct_generator import generated_volume, ready_generator
from XraySynthLib.workflows.figures import Panel, write_sheet

SEED, VIEWS = 301, 16
CUBE = 48
"""Side of the cubes that spectra are taken of, voxels."""
N_BINS = 9
"""Of spatial frequency, 1/16 cycle a voxel each; the last is all from 0.5 on."""
INSIDE_VOXELS, LEAST_VOXELS = 2, 100
"""The inside of a bone is so far from its surface, and is measured where it has so many voxels."""
PLACES = ("about bone", "soft")
CORRELATION = "correlation of HU, means of 2 x 2 x 2 voxels, with the nearest training CT"
MEASURES = ("mean_error_95%_kept", "mean_error", "median_error", "detection_rate")


def write_csv(path: Path, rows: list[dict]) -> None:
    """Write rows with the keys of the first."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), restval="")
        writer.writeheader()
        writer.writerows(rows)


def volumes_in(folder: Path) -> list[Volume]:
    """The CTs of a folder of subjects, by name."""
    return [
        read_volume(place / "ct.nii.gz", place / "labels.nii.gz")
        for place in sorted(folder.iterdir())
        if (place / "ct.nii.gz").exists()
    ]


def subject_rows(references: list[Volume], generated: list[Volume]) -> list[dict]:
    """Agreement and HU of each person."""
    rows = []
    for index, (reference, made) in enumerate(zip(references, generated, strict=True)):
        kinds = kinds_of(reference.labels)
        own, its = (bone_agreement(one.values_hu, kinds) for one in (reference, made))
        row = {
            "person": index,
            "bone_dice_reference": round(own, 4),
            "bone_dice_generated": round(its, 4),
            "ratio": round(its / own, 4),
            "bone_dice_between": round(
                dice(*(one.values_hu > 150 for one in (reference, made))), 4
            ),
        }
        medians = [median_hu(one.values_hu, kinds) for one in (reference, made)]
        for kind in KINDS:
            name = kind.name.lower()
            for which, median in zip(("reference", "generated"), medians, strict=True):
                row[f"{name}_{which}_hu"] = round(median.get(name, float("nan")), 1)
        textures = [inner_texture_hu(one.values_hu, kinds) for one in (reference, made)]
        for name in textures[0]:
            for which, texture in zip(("reference", "generated"), textures, strict=True):
                row[f"{name}_inside_{which}_sd_hu"] = round(texture[name], 1)
        rows.append(row)
    return rows


def inner_texture_hu(values_hu: NDArray, kinds: NDArray) -> dict[str, float]:
    """Standard deviation, inside each bone, of HU less the mean of 3 x 3 x 3 voxels."""
    fine = values_hu - ndimage.uniform_filter(values_hu.astype(np.float32), 3)
    found = {}
    for bone in BONES:
        inside = ndimage.binary_erosion(kinds == KINDS.index(bone), iterations=INSIDE_VOXELS)
        enough = inside.sum() >= LEAST_VOXELS
        found[bone.name.lower()] = float(fine[inside].std()) if enough else float("nan")
    return found


def spectrum(volume: Volume, place: str) -> NDArray:
    """Radial power of HU in cubes about bone, or within soft tissue, HU^2 a mode."""
    kinds = kinds_of(volume.labels)
    bone = bone_mask(kinds)
    rng = np.random.default_rng(5)
    soft = np.isin(kinds, [k for k, kind in enumerate(KINDS) if kind.name in ("MUSCLE", "FAT")])
    side = CUBE if place == "about bone" else 12
    centers = np.argwhere(bone if place == "about bone" else soft)
    window = np.hanning(side + 2)[1:-1]
    window = window[:, None, None] * window[:, None] * window
    radius = np.linalg.norm(
        np.stack(np.meshgrid(*(np.fft.fftfreq(side),) * 3, indexing="ij")), axis=0
    )
    bins = np.minimum((radius * 16).astype(int), N_BINS - 1)
    total, count = np.zeros(N_BINS), 0
    for center in rng.permutation(centers)[:4000]:
        low = center - side // 2
        if (low < 0).any() or (low + side > kinds.shape).any():
            continue
        box = tuple(slice(a, a + side) for a in low)
        if place == "soft" and not soft[box].all():
            continue
        cube = np.clip(volume.values_hu[box], -1000, 2000)
        power = np.abs(np.fft.fftn((cube - cube.mean()) * window)) ** 2 / (window**2).sum()
        total += [power[bins == one].mean() for one in range(N_BINS)]
        count += 1
        if count == 40:
            break
    return total / max(count, 1)


def spectrum_rows(references: list[Volume], generated: list[Volume]) -> list[dict]:
    """Mean spectra of both, and their ratio."""
    rows = []
    for place in PLACES:
        own, its = (
            np.mean([spectrum(one, place) for one in volumes], axis=0)
            for volumes in (references, generated)
        )
        for number in range(N_BINS):
            last = number == N_BINS - 1
            rows.append(
                {
                    "place": place,
                    "cycles_per_voxel": "over 0.5" if last else (number + 0.5) / 16,
                    "reference": round(own[number], 1),
                    "generated": round(its[number], 1),
                    "ratio": round(its[number] / max(own[number], 1e-9), 3),
                }
            )
    return rows


def coarse(volume: Volume) -> NDArray:
    """A CT as a vector that stands for its looks: means of 2 x 2 x 2 voxels, standardised."""
    values = np.clip(volume.values_hu, -200, 800)
    size = [n // 2 * 2 for n in values.shape]
    values = values[: size[0], : size[1], : size[2]]
    small = values.reshape(size[0] // 2, 2, size[1] // 2, 2, size[2] // 2, 2).mean((1, 3, 5))
    flat = small.ravel() - small.mean()
    return flat / np.linalg.norm(flat)


def variety_rows(
    references: list[Volume], generated: list[Volume], training: list[Path], model: Path
) -> list[dict]:
    """Correlation with the most alike training CT, and of two draws of one condition."""
    given = [coarse(one) for folder in training for one in volumes_in(folder)]
    known = [one for one in given if one.size == coarse(references[0]).size]
    rows: list[dict] = [
        {"measure": "training CTs given", "value": len(given)},
        {"measure": "training CTs of the same size, compared", "value": len(known)},
    ]
    for name, volumes in (("reference", references), ("generated", generated)):
        for index, one in enumerate(volumes):
            vector = coarse(one)
            nearest = max((float(vector @ other) for other in known), default=float("nan"))
            measure = f"{name} {index}: {CORRELATION}"
            rows.append({"measure": measure, "value": round(nearest, 4)})
    condition = sampled_condition((SEED, 0), True, generate.PRESETS["compact"])
    generator = ready_generator(model, "cpu")
    one, other = (generated_volume(generator, condition, (SEED, 0, n))[0] for n in (0, 77))
    kinds = kinds_of(one.labels)
    bone = bone_mask(kinds)
    soft = np.isin(kinds, [k for k, kind in enumerate(KINDS) if kind.name in ("MUSCLE", "FAT")])
    within = dice(*((volume.values_hu > 150) & bone for volume in (one, other)))
    rows.append({"measure": "two draws: Dice of bone over 150 HU", "value": round(within, 4)})
    for name, mask in (("soft tissue", soft), ("bone", bone)):
        pair = one.values_hu[mask], other.values_hu[mask]
        value = float(np.abs(pair[0] - pair[1]).mean())
        rows.append(
            {"measure": f"two draws: mean difference in {name}, HU", "value": round(value, 2)}
        )
    bowel = kinds == [kind.name for kind in KINDS].index("BOWEL")
    value = float(np.corrcoef(one.values_hu[bowel], other.values_hu[bowel])[0, 1])
    rows.append({"measure": "two draws: correlation of HU in the bowel", "value": round(value, 3)})
    return rows


def reported(report: Path) -> dict[str, float]:
    """What a report of `evaluate` says of all its images."""
    with (report / "measures.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["group"] == "all"]
    value = {
        row["measure"]: float(row["value"]) for row in rows if row["plane"] in ("isocenter", "")
    }
    return {f"{name}_mm" if "error" in name else name: value[name] for name in MEASURES}


def detector_rows(folder: Path, detector: Path | None) -> list[dict]:
    """Export X-rays of both at the same poses, detect, evaluate."""
    rows = []
    for name in ("reference", "generated"):
        set_folder = folder / f"set-{name}"
        export.run(
            export.ExportConfig(
                subjects=folder / name,
                views=VIEWS,
                format="coco",
                output=set_folder,
                seed=SEED,
                split=(0, 0, 1),
                masks=False,
                shape_px=(384, 384),
                progress="none",
            )
        )
        found = folder / f"found-{name}"
        detect.run(
            detect.DetectConfig(
                image=set_folder / "images",
                output=found,
                model=detector,
                overlay=False,
                progress="none",
            )
        )
        report = folder / f"report-{name}"
        evaluate.run(
            evaluate.EvaluateConfig(
                predictions=found,
                truth=set_folder,
                output=report,
                plane="isocenter",
                progress="none",
            )
        )
        rows.append({"cts": name, **reported(report)})
    reference, generated = rows
    ratio = {"cts": "generated / reference"}
    for key in reference:
        if key.endswith("_mm"):
            ratio[key] = round(generated[key] / reference[key], 3)
    rows.append(ratio)
    return rows


def cost_rows(model: Path) -> list[dict]:
    """Seconds and peak memory of a volume, each in a process of its own."""
    rows = []
    for preset in ("coarse", "compact"):
        code = (
            "import resource,sys,time\n"
            "from pathlib import Path\n"
            "from XraySynthLib.workflows import generate\n"
            "from XraySynthLib.workflows.conditions import sampled_condition\n"
            "from XraySynthLib.workflows.ct_generator import generated_volume, ready_generator\n"
            f"condition = sampled_condition((1, 0), False, generate.PRESETS[{preset!r}])\n"
            f"generator = ready_generator(Path({str(model)!r}), 'cpu')\n"
            "start = time.perf_counter()\n"
            "generated_volume(generator, condition, (1, 0, 0))\n"
            "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6\n"
            "print(time.perf_counter() - start, peak)\n"
        )
        words = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout.split()
        shape, spacing_mm = generate.PRESETS[preset]
        rows.append(
            {
                "preset": preset,
                "shape": "x".join(map(str, shape)),
                "spacing_mm": round(spacing_mm, 3),
                "seconds": round(float(words[0]), 1),
                "peak_gb": round(float(words[1]), 2),
            }
        )
    return rows


def write_pairs(folder: Path, path: Path) -> None:
    """X-rays of reference and generated CTs, side by side."""
    sets = [open_set(folder / f"set-{name}") for name in ("reference", "generated")]
    panels = []
    for index in np.linspace(0, len(sets[0]) - 1, 8).astype(int).tolist():
        for name, samples in zip(("reference", "generated"), sets, strict=True):
            sample = samples[index]
            none = replace(sample.landmarks, visible=np.zeros(len(sample.landmarks.names), bool))
            panels.append(Panel(sample.xray, none, f"{name} {sample.provenance.subject}"))
    write_sheet(panels, 4, path)


def main() -> None:
    """Make what is missing, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--detector", type=Path)
    parser.add_argument("--training", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    folder: Path = options.folder
    start = time.perf_counter()
    common = {"count": 6, "people": "held-out", "seed": SEED, "progress": "none"}
    generate.run(generate.GenerateConfig(output=folder / "reference", **common))
    generate.run(
        generate.GenerateConfig(
            output=folder / "generated", backend="diffusion", model=options.model, **common
        )
    )
    references, generated = (volumes_in(folder / name) for name in ("reference", "generated"))
    write_csv(folder / "subjects.csv", subject_rows(references, generated))
    write_csv(folder / "spectra.csv", spectrum_rows(references, generated))
    rows = variety_rows(references, generated, options.training, options.model)
    write_csv(folder / "variety.csv", rows)
    write_csv(folder / "detector.csv", detector_rows(folder, options.detector))
    write_csv(folder / "cost.csv", cost_rows(options.model))
    write_pairs(folder, folder / "drr-pairs.png")
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{time.perf_counter() - start:.0f} s, peak {peak_gb:.1f} GB")


if __name__ == "__main__":
    main()
