"""`xraysynth detect`: X-rays -> their landmarks, by a detector."""

import re
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data import ImageLandmarkSet, LandmarkSet, Quantity, Xray
from XraySynthLib.errors import (
    MissingDependencyError,
    UnreadableFileError,
    UsageError,
    XraySynthError,
)
from XraySynthLib.workflows.config import DeviceConfig
from XraySynthLib.workflows.progress import tracked

if TYPE_CHECKING:
    from XraySynthLib.detection.model import Detector

IMAGE_SUFFIXES = (
    ".dcm", ".dicom", ".ima", ".png", ".tif", ".tiff", ".nii", ".nii.gz", ".nrrd", ".mha", ".mhd",
)  # fmt: skip
OUTPUT_SUFFIXES = (".mrk.json", ".json")
OVERLAY_DPI = 300
"""About 960 pixels."""
NOT_IMAGES = (".overlay.png", "labels.png")
SHIPPED_MODEL = Path(str(files("XraySynthLib.assets"))) / "landmark_detector"
UNKNOWN_SPACING_MM = (1.0, 1.0)
SHOWN_NAMES = 4
"""Of images that were left out."""


@dataclass(frozen=True, kw_only=True)
class DetectConfig(DeviceConfig):
    """Find landmarks in X-rays.

    For an image NAME.EXT: NAME.json (pixels, confidence), NAME.mrk.json (points in the scene),
    NAME.overlay.png. Where the image's View is known the points of .mrk.json lie on the detector's
    plane in RAS; else x is columns to the right and y rows up, mm from the image's middle, z 0 (a
    pixel counts as 1 mm where its size is not known). Only detected points are defined there. A
    file with several frames gives NAME-0000, NAME-0001, ...

    Attributes:
        image: An image, or a folder of them: DICOM, PNG, TIFF, NIfTI, NRRD, MetaImage.
        output: A folder; for one image with one frame also FILE.json or FILE.mrk.json alone.
        model: Folder of a detector; by default the one that comes with the library.
        pixel_spacing_mm: Pixel size on the detector, column and row, where the file has none.
        threshold: Least confidence of a detected landmark; by default the model's.
        overlay: Whether to draw the overlay.
    """

    image: Path
    output: Path
    model: Path | None = None
    pixel_spacing_mm: tuple[float, float] | None = None
    threshold: float | None = None
    overlay: bool = True


def check_inputs(config: DetectConfig) -> None:
    """Refuse what cannot be done before anything is loaded.

    Raises:
        XraySynthError: Saying what to change.
    """
    images = images_in(config.image)
    single = _is_file_name(config.output)
    if single and config.image.is_dir():
        raise UsageError(f"--image is a folder; --output {config.output} must be one, too.")
    if not single and config.output.is_file():
        raise UsageError(f"--output {config.output} is a file; name a folder or a .json file.")
    if config.threshold is not None and not 0 <= config.threshold <= 1:
        raise UsageError(f"--threshold must lie in 0..1, got {config.threshold}.")
    if config.pixel_spacing_mm is not None and not min(config.pixel_spacing_mm) > 0:
        raise UsageError(f"--pixel-spacing-mm must be positive, got {config.pixel_spacing_mm}.")
    if not single:
        stems = [stem_of(image) for image in images]
        for stem in stems:
            if stems.count(stem) > 1:
                raise UsageError(
                    f"Two images in {config.image} are called {stem!r}, so that their results "
                    "would be, too; rename one."
                )
    model_folder(config.model)


def run(config: DetectConfig) -> Path:
    """Detect; returns what was written.

    Raises:
        XraySynthError: If an image or the model cannot be used; the other images of a folder are
            then done.
    """
    check_inputs(config)
    from XraySynthLib.data.formats import read_xrays
    from XraySynthLib.detection.model import load_detector
    from XraySynthLib.training.precision import device_of

    detector = load_detector(model_folder(config.model), device_of(config.device))
    if config.threshold is not None:
        calibration = replace(detector.config.calibration, threshold=config.threshold)
        detector.config = replace(detector.config, calibration=calibration)
    images = images_in(config.image)
    written: set[Path] = set()
    left_out: dict[str, XraySynthError] = {}
    for path in tracked(images, "detect", len(images), config.progress):
        try:
            frames = read_xrays(path)
            targets = _targets(config, path, len(frames))
            _check_targets(path, targets, written)
        except XraySynthError as error:
            if not config.image.is_dir():
                raise
            left_out[path.name] = error
            continue
        written.update(targets)
        for frame, (xray, target) in enumerate(zip(frames, targets, strict=True)):
            target.parent.mkdir(parents=True, exist_ok=True)
            _detect(config, detector, path, frame, xray, target)
    if left_out:
        names, first = list(left_out), next(iter(left_out.values()))
        some = ", ".join(names[:SHOWN_NAMES]) + (" ..." if len(names) > SHOWN_NAMES else "")
        raise UnreadableFileError(
            f"{len(names)} of {len(images)} images were left out: {some}. The first: {first}"
        ) from first
    return config.output


def images_in(path: Path) -> list[Path]:
    """The image itself, or those in a folder, by name.

    Raises:
        UnreadableFileError: If there are none.
    """
    if not path.exists():
        raise UnreadableFileError(f"--image {path} does not exist.")
    if not path.is_dir():
        return [path]
    from XraySynthLib.data.formats.dicom_files import is_dicom

    found = []
    for file in sorted(path.iterdir()):
        name = file.name.lower()
        if not file.is_file() or name.startswith(".") or name.endswith(NOT_IMAGES):
            continue
        if name.endswith(IMAGE_SUFFIXES) or (not file.suffix and is_dicom(file)):
            found.append(file)
    if not found:
        raise UnreadableFileError(f"No X-ray is in {path}: DICOM, PNG, TIFF, NIfTI, NRRD or MHA.")
    return found


def stem_of(path: PurePath) -> str:
    """An image's name without what says its format."""
    return re.sub(r"(?i)(?<=.)\.(nii\.gz|[a-z]{2,5})$", "", path.name)


def model_folder(named: Path | None) -> Path:
    """The model's folder: the one named, or the one that comes with the library.

    Raises:
        UnreadableFileError: If it holds no detector.
        MissingDependencyError: If there is none to take by default.
    """
    if named is not None:
        if not (named / "config.json").is_file():
            raise UnreadableFileError(f"--model {named} holds no landmark detector.")
        return named
    if not (SHIPPED_MODEL / "config.json").is_file():
        raise MissingDependencyError(
            "This installation has no landmark detector; train one with `xraysynth train "
            "landmarks` and name it with --model."
        )
    return SHIPPED_MODEL


def _is_file_name(path: Path) -> bool:
    return path.name.lower().endswith(OUTPUT_SUFFIXES) and not path.is_dir()


def _targets(config: DetectConfig, image: Path, n_frames: int) -> list[Path]:
    """What each frame's files are called, without a suffix or with the one asked for.

    Raises:
        UsageError: If there are several frames for one file.
    """
    if _is_file_name(config.output):
        if n_frames > 1:
            raise UsageError(f"{image.name} has {n_frames} frames; --output must be a folder.")
        return [config.output]
    stem = stem_of(image)
    if n_frames == 1:
        return [config.output / stem]
    return [config.output / f"{stem}-{frame:04d}" for frame in range(n_frames)]


def _check_targets(image: Path, targets: list[Path], written: set[Path]) -> None:
    """Refuse to write over what another image of the folder gave: a-0000.png and a.tif's frame."""
    for target in targets:
        if target in written:
            raise UsageError(
                f"{image.name} would write over {target.name}.json of another image; rename one."
            )


def _detect(
    config: DetectConfig, detector: "Detector", path: Path, frame: int, xray: Xray, target: Path
) -> None:
    """Detect in one frame and write what was asked for."""
    from XraySynthLib.data.formats import write_landmarks
    from XraySynthLib.data.formats.prediction_files import Prediction, write_prediction

    landmarks = detector.detect(xray)
    spacing_mm = xray.pixel_spacing_mm
    if spacing_mm is None and config.pixel_spacing_mm is not None:
        spacing_mm = np.array(config.pixel_spacing_mm)
    prediction = Prediction(
        image=path.name,
        frame=frame,
        shape_px=xray.values.shape,  # type: ignore[arg-type]
        landmarks=landmarks,
        pixel_spacing_mm=spacing_mm,
        view=xray.view,
        model_name=detector.config.name,
        model_sha256=detector.sha256,
    )
    name = target.name.lower()
    alone = name.endswith(OUTPUT_SUFFIXES) and _is_file_name(config.output)
    if not alone or name.endswith(".mrk.json"):
        markups = target if alone else target.with_name(f"{target.name}.mrk.json")
        write_landmarks(points_in_scene(xray, landmarks, spacing_mm), markups)
    if config.overlay and not alone:
        _write_overlay(xray, landmarks, target)
    if not alone or not name.endswith(".mrk.json"):
        write_prediction(prediction, target if alone else target.with_name(f"{target.name}.json"))


def points_in_scene(
    xray: Xray, landmarks: ImageLandmarkSet, spacing_mm: NDArray | None
) -> LandmarkSet:
    """Detected points in mm; see `DetectConfig`. Those not detected are undefined."""
    if xray.view is not None:
        points = xray.view.detector_points_ras_mm(landmarks.points_px)
    else:
        rows, columns = xray.values.shape
        middle = np.array([columns - 1, rows - 1]) / 2
        scale = np.array(UNKNOWN_SPACING_MM if spacing_mm is None else spacing_mm)
        in_plane = (landmarks.points_px - middle) * scale * [1, -1]
        points = np.column_stack([in_plane, np.zeros(len(in_plane))])
    return LandmarkSet(landmarks.names, np.where(landmarks.visible[:, None], points, np.nan))


def _write_overlay(xray: Xray, landmarks: ImageLandmarkSet, target: Path) -> None:
    from XraySynthLib.drr import to_display, to_line_integral
    from XraySynthLib.workflows.figures import Panel, write_sheet

    shown = to_line_integral(xray) if xray.quantity is Quantity.TRANSMISSION else xray
    if shown.quantity is Quantity.LINE_INTEGRAL:
        shown = to_display(shown)
    n_found = int(landmarks.visible.sum())
    title = f"{target.name}: {n_found} of {len(landmarks.names)}"
    path = target.with_name(f"{target.name}.overlay.png")
    write_sheet([Panel(shown, landmarks, title)], 1, path, OVERLAY_DPI)
