"""`xraysynth project`: a CT and a C-arm pose -> an X-ray with its landmarks and masks."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from XraySynthLib.data import LandmarkSet, Provenance, Sample, Volume
from XraySynthLib.drr import FULL, PLAIN, Exposure
from XraySynthLib.errors import UnreadableFileError, UsageError
from XraySynthLib.geometry import CArmPose, Intrinsics, View, view_from_carm, view_preset
from XraySynthLib.workflows.config import DeviceConfig, config_to_dict
from XraySynthLib.workflows.progress import tracked

UNTELLING_NAMES = ("ct", "image", "img", "volume", "vol", "scan", "data", "dicom")
DETECTOR_OPTIONS = ("source_to_detector_mm", "pixel_spacing_mm", "shape_px", "mirrored")


@dataclass(frozen=True, kw_only=True)
class ProjectConfig(DeviceConfig):
    """Project a CT to an X-ray.

    The view is given by one of: angles, a preset's name, a View file, a Slicer transform.

    Attributes:
        ct: A CT: NIfTI, NRRD, MHA, or a folder with a DICOM series.
        output: Folder to write to: xray.tiff, xray.png, sample.json, labels.png if asked.
        landmarks: Points to project: .mrk.json, .fcsv or .csv.
        labels: Label map on the CT's grid; its labels become masks.
        label_values: The labels wanted; all by default.
        subject: Name of the patient, by which sets are split; by default the CT's file or folder.
        primary_deg: Positioner primary angle, +LAO.
        secondary_deg: Positioner secondary angle, +CRA.
        roll_deg: Roll about the beam.
        preset: ap, pa, lateral, inlet, outlet, judet-obturator-left, ...
        view: JSON file of a View (a sample.json has one too).
        transform: Slicer linear transform of the C-arm node (.h5, .tfm).
        isocenter_ras_mm: The isocentre; by default the middle of the CT.
        source_to_isocenter_mm: Distance from the source to the isocentre.
        source_to_detector_mm: Distance from the source to the detector.
        pixel_spacing_mm: Pixel size on the detector: column, row.
        shape_px: Rows, columns.
        mirrored: The radiological display; turn off only for software that wants it otherwise.
        engine: numba (CPU), torch, or deepdrr (NVIDIA).
        quantity: What xray.tiff holds.
        physics: plain is the spectrum alone; full adds scatter, noise and blur.
        kvp: Tube voltage: 60, 70, ... 120.
        scatter: Strength of scatter; replaces that of the physics chosen.
        photons_per_mm2: Photons on a square millimetre of the open beam; 0 for no noise.
        blur_mm: Standard deviation of the detector's blur.
        window: Line integrals shown as black and white in xray.png; by default fitted.
        detail: Fine detail added to xray.png, as a console does; 0 for none.
    """

    EXCLUSIVE: ClassVar = (("primary_deg", "secondary_deg"), ("preset",), ("view",), ("transform",))

    ct: Path
    output: Path
    landmarks: Path | None = None
    labels: Path | None = None
    label_values: tuple[int, ...] = ()
    subject: str | None = None
    primary_deg: float | None = None
    secondary_deg: float | None = None
    roll_deg: float | None = None
    preset: str | None = None
    view: Path | None = None
    transform: Path | None = None
    isocenter_ras_mm: tuple[float, float, float] | None = None
    source_to_isocenter_mm: float = 530.0
    source_to_detector_mm: float = 1020.0
    pixel_spacing_mm: tuple[float, float] = (0.194, 0.194)
    shape_px: tuple[int, int] = (1536, 1536)
    mirrored: bool = True
    engine: Literal["numba", "torch", "deepdrr"] = "numba"
    quantity: Literal["line-integral", "transmission", "display"] = "line-integral"
    physics: Literal["plain", "full"] = "plain"
    kvp: int = 90
    scatter: float | None = None
    photons_per_mm2: float | None = None
    blur_mm: float | None = None
    window: tuple[float, float] | None = None
    detail: float = 1.0


def run(config: ProjectConfig) -> Path:
    """Project and write; returns the folder.

    Raises:
        XraySynthError: If a file cannot be used or the options contradict each other.
        ValueError: If the view does not see the volume.
    """
    from XraySynthLib.data.formats import write_sample, write_xray

    check_inputs(config)
    sample, shown = None, None
    for stage in tracked(_stages(config), "project", 4, config.progress):
        if isinstance(stage, tuple):
            sample, shown = stage
    assert sample is not None and shown is not None
    config.output.mkdir(parents=True, exist_ok=True)
    (config.output / "sample.json").unlink(missing_ok=True)  # written last: the folder is whole
    write_xray(shown, config.output / "xray.png")
    write_sample(sample, config.output)
    return config.output


def check_inputs(config: ProjectConfig) -> None:
    """Refuse options that contradict each other and files that are not there, before any work.

    Raises:
        UsageError: If options contradict each other, or an exposure, a distance or a detector is
            impossible.
        UnreadableFileError: If an input is missing.
        UnreadableFileError: Or if the view, the transform or the landmarks cannot be read.
    """
    angles = [config.primary_deg, config.secondary_deg]
    if config.preset is None:  # a preset may be rolled
        angles.append(config.roll_deg)
    ways = {
        "angles": any(angle is not None for angle in angles),
        "--preset": config.preset is not None,
        "--view": config.view is not None,
        "--transform": config.transform is not None,
    }
    given = [name for name, used in ways.items() if used]
    if len(given) > 1:
        raise UsageError(f"Give the view in one way, not by {' and '.join(given)}.")
    if config.seed < 0:
        raise UsageError(f"--seed must be 0 or more, got {config.seed}.")
    if config.window is not None and not -math.inf < config.window[0] < config.window[1] < math.inf:
        raise UsageError(f"--window must be two numbers, the lower first, got {config.window}.")
    if not math.isfinite(config.detail):
        raise UsageError(f"--detail must be a number, got {config.detail}.")
    if config.view is not None:
        geometry = ("isocenter_ras_mm", "source_to_isocenter_mm", *DETECTOR_OPTIONS)
        for name in geometry:
            if getattr(config, name) != getattr(ProjectConfig, name):
                option = name.replace("_", "-")
                raise UsageError(f"--view holds the whole geometry; leave --{option} out.")
    if config.label_values and config.labels is None:
        raise UsageError("--label-values needs --labels.")
    if config.transform is not None and config.isocenter_ras_mm is not None:
        raise UsageError("--transform says where the isocentre is; leave --isocenter-ras-mm out.")
    for path in (config.ct, config.landmarks, config.labels, config.view, config.transform):
        if path is not None and not path.exists():
            raise UnreadableFileError(f"{path} does not exist.")
    if config.output.exists() and not config.output.is_dir():
        raise UsageError(f"--output {config.output} is a file; name a folder.")
    try:
        exposure_of(config)
        if config.view is None:
            view_from_carm(pose_of(config, (0.0, 0.0, 0.0)), intrinsics_of(config))
        Provenance("simulated", subject_of(config))
    except ValueError as error:
        raise UsageError(str(error)) from error
    _read_small_inputs(config)


def _read_small_inputs(config: ProjectConfig) -> None:
    """Read what is read in no time, so that it is refused before the CT is read."""
    from XraySynthLib.data.formats import read_landmarks

    if config.view is not None:
        read_view(config.view)
    if config.landmarks is not None:
        read_landmarks(config.landmarks)


def intrinsics_of(config: ProjectConfig) -> Intrinsics:
    """The detector that the options describe."""
    return Intrinsics(**{name: getattr(config, name) for name in DETECTOR_OPTIONS})


def exposure_of(config: ProjectConfig) -> Exposure:
    """The exposure that the options describe."""
    base = {"plain": PLAIN, "full": FULL}[config.physics]
    names = ("scatter", "photons_per_mm2", "blur_mm")
    changes = {name: getattr(config, name) for name in names if getattr(config, name) is not None}
    return replace(base, kvp=config.kvp, **changes)


def view_of(config: ProjectConfig, volume: Volume) -> View:
    """The view that the options describe; by default about the middle of the CT."""
    if config.view is not None:
        return read_view(config.view)
    return view_from_carm(pose_of(config, volume.center_ras_mm), intrinsics_of(config))


def pose_of(config: ProjectConfig, middle_ras_mm: ArrayLike) -> CArmPose:
    """The pose that a transform, a preset or angles describe, by default about `middle_ras_mm`."""
    if config.transform is not None:
        from XraySynthLib.geometry.converters.slicer import read_ras_from_carm

        matrix = read_ras_from_carm(config.transform)
        try:
            return CArmPose.from_matrix(matrix, config.source_to_isocenter_mm)
        except ValueError as error:
            raise UnreadableFileError(f"{config.transform} is no C-arm's pose: {error}") from error
    primary_deg, secondary_deg = config.primary_deg or 0.0, config.secondary_deg or 0.0
    if config.preset is not None:
        primary_deg, secondary_deg = view_preset(config.preset)
    isocenter = config.isocenter_ras_mm
    return CArmPose(
        primary_deg,
        secondary_deg,
        config.roll_deg or 0.0,
        np.array(middle_ras_mm if isocenter is None else isocenter),
        config.source_to_isocenter_mm,
    )


def read_view(path: Path) -> View:
    """Read a View from its own JSON file or from a sample.json.

    Raises:
        UnreadableFileError: If it is not a view.
    """
    import json

    try:
        document = json.loads(path.read_text("utf-8"))
        if isinstance(document, dict) and "xray" in document:
            document = document["xray"].get("view")
        return View.from_dict(document)
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise UnreadableFileError(f"{path} is not the JSON of a View: {error}") from error


def _stages(config: ProjectConfig) -> Iterator[object]:
    """Do the work step by step; the last step yields (sample, display image)."""
    from XraySynthLib.data.formats import read_landmarks, read_volume
    from XraySynthLib.drr import (
        LabelProjector,
        expose,
        materials_from_hu,
        project,
        to_display,
        to_line_integral,
    )

    volume = read_volume(config.ct, config.labels)
    if volume.labels is not None:
        _check_label_values(config, volume.labels)
    landmarks = LandmarkSet((), np.empty((0, 3)))
    if config.landmarks is not None:
        landmarks = read_landmarks(config.landmarks)
    view = view_of(config, volume)
    yield "read"
    try:
        materials = materials_from_hu(volume)
    except ValueError as error:
        raise UnreadableFileError(f"{config.ct} cannot be projected: {error}") from error
    area_density = project(materials, view, config.engine, config.device)
    yield "projected"
    rng = np.random.default_rng((config.seed, 0))
    transmission = expose(area_density, materials.names, view, exposure_of(config), rng)
    line_integral = to_line_integral(transmission)
    shown = to_display(line_integral, config.window, config.detail)
    if np.ptp(shown.values) == 0:
        raise ValueError(
            "Every pixel of xray.png would be the same grey; check --window, --photons-per-mm2 and "
            "what the detector sees."
        )
    yield "exposed"
    masks = None
    if volume.labels is not None:
        values = config.label_values or None
        labels = LabelProjector(volume.labels, volume.ras_from_ijk, values=values)
        masks = {f"label {label}": mask for label, mask in labels.masks(view).items()}
    images = {"transmission": transmission, "line-integral": line_integral, "display": shown}
    sample = Sample(
        key=subject_of(config),
        xray=images[config.quantity],
        landmarks=landmarks.seen_from(view),
        masks=masks,
        provenance=Provenance(
            "simulated", subject_of(config), (config.seed, 0), config_to_dict(config)
        ),
    )
    yield sample, shown


def _check_label_values(config: ProjectConfig, labels: NDArray) -> None:
    """Refuse labels that are not in the map, and more of them than a sample holds."""
    from XraySynthLib.data.formats import MAX_MASKS

    present = np.unique(labels[labels > 0]).tolist()
    absent = sorted(set(config.label_values) - set(present))
    if absent:
        raise UsageError(f"--label-values: {config.labels} has no label {absent[0]}.")
    wanted = len(set(config.label_values) or present)
    if wanted > MAX_MASKS:
        raise UsageError(
            f"{wanted} labels of {config.labels} are asked for, a sample holds {MAX_MASKS} masks; "
            "name fewer with --label-values."
        )


def subject_of(config: ProjectConfig) -> str:
    """The subject's name: given, or from the CT's file, or its folder where the file says nothing.

    `patient-7/ct.nii.gz` and `patient-8/ct.nii.gz` are two subjects, not one called ct.
    """
    if config.subject is not None:
        return _file_name(config.subject)
    name = subject_name(config.ct)
    if name.lower() in UNTELLING_NAMES:
        return subject_name(config.ct.resolve().parent)
    return name


def subject_name(ct: Path) -> str:
    """A subject's name from its file or folder, usable as a file's name on any system."""
    name = ct.resolve().name
    if not ct.is_dir():
        name = re.sub(r"(?<=.)\.(nii(\.gz)?|(seg\.)?nrrd|nhdr|mh[ad]|dcm)$", "", name, flags=re.I)
    return _file_name(name) or "ct"


def _file_name(name: str) -> str:
    return re.sub(r'[/\\:*?"<>|]', "_", name)
