"""`xraysynth register`: an X-ray and the CT of its patient -> where the C-arm stood.

registration.json   the pose as View and C-arm angles, its errors, every landmark
view.json           the View, for `project --view`
c-arm.tfm           the C-arm's transform to world, for Slicer and `project --transform`
overlay.png         edges of the CT's DRR and the landmarks over the film
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data import ImageLandmarkSet, LandmarkSet, Quantity, Volume, Xray
from XraySynthLib.errors import UnreadableFileError, UsageError
from XraySynthLib.geometry import CArmPose, Intrinsics, View, carm_from_view
from XraySynthLib.registration import (
    LandmarkFit,
    Refinement,
    doubts_of,
    pose_error,
    refine,
    view_from_landmarks,
)
from XraySynthLib.workflows.config import DeviceConfig
from XraySynthLib.workflows.progress import say, tracked
from XraySynthLib.workflows.project import read_view

if TYPE_CHECKING:
    from XraySynthLib.data.formats import Prediction
    from XraySynthLib.drr import Materials, Preview
    from XraySynthLib.workflows.figures import Panel

RESULT_NAME = "registration.json"
FORMAT, FORMAT_VERSION = "xraysynth-registration", 1
MOTION_NAMES = ("turn_x_deg", "turn_y_deg", "turn_z_deg", "x_mm", "y_mm", "depth_mm")
FINEST_VOXEL_MM = 2.0
"""Voxels are made larger up to here: no image that poses are refined by shows finer ones."""
OVERLAY_SIDE_PX = 512


@dataclass(frozen=True, kw_only=True)
class RegisterConfig(DeviceConfig):
    """Find where the C-arm stood: landmarks give a pose, matching DRRs of the CT refines it.

    Attributes:
        image: An X-ray: DICOM, PNG, TIFF, NIfTI, NRRD, MetaImage; the first frame counts. One that
            shows the patient mirrored must be flipped first: a pelvis does not give it away.
        ct: The patient's CT: NIfTI, NRRD, MHA, or a folder with a DICOM series.
        landmarks: The landmarks in the CT: .mrk.json, .fcsv or .csv.
        output: Folder to write to.
        model: Folder of the detector; by default the one that comes with the library.
        predictions: JSON file of detect for this image, instead of detecting now.
        truth: JSON file of the true View (a sample.json has one too), to say how far off the
            pose is.
        source_to_detector_mm: Distance from the source to the detector, where the image has none.
        pixel_spacing_mm: Pixel size on the detector: column, row, where the image has none.
        mirrored: The radiological display, where the image does not say.
        source_to_isocenter_mm: Distance from the source to the isocentre; a machine's constant
            that decides where on the beam the C-arm's transform has its origin.
        refine: Whether to refine by DRRs; else landmarks alone give the pose.
    """

    image: Path
    ct: Path
    landmarks: Path
    output: Path
    model: Path | None = None
    predictions: Path | None = None
    truth: Path | None = None
    source_to_detector_mm: float | None = None
    pixel_spacing_mm: tuple[float, float] | None = None
    mirrored: bool = True
    source_to_isocenter_mm: float = 530.0
    refine: bool = True


def check_inputs(config: RegisterConfig) -> None:
    """Refuse what cannot be registered, before the CT is read.

    Raises:
        XraySynthError: Saying what to change.
    """
    from XraySynthLib.workflows.detect import model_folder

    if config.model is not None and config.predictions is not None:
        raise UsageError("Landmarks come from --model or from --predictions; give one of them.")
    if config.seed < 0:
        raise UsageError(f"--seed must be 0 or more, got {config.seed}.")
    for path in (config.image, config.ct, config.landmarks, config.predictions, config.truth):
        if path is not None and not path.exists():
            raise UnreadableFileError(f"{path} does not exist.")
    if config.output.exists() and not config.output.is_dir():
        raise UsageError(f"--output {config.output} is a file; name a folder.")
    ours = (config.output / RESULT_NAME).exists()
    if config.output.is_dir() and any(config.output.iterdir()) and not ours:
        raise UsageError(
            f"{config.output} is not empty and holds no registration; name another folder."
        )
    if config.predictions is None:
        model_folder(config.model)
    _read_small_inputs(config)


def run(config: RegisterConfig) -> Path:
    """Register and write; returns the folder.

    Raises:
        XraySynthError: If a file cannot be used, or no pose can be trusted.
    """
    from XraySynthLib.geometry.converters.slicer import write_ras_from_carm
    from XraySynthLib.workflows.whole_folders import whole_folder

    check_inputs(config)
    result = None
    for stage in tracked(_stages(config), "register", 4, config.progress):
        result = stage if isinstance(stage, _Result) else result
    assert result is not None
    config.output.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(config.output) as folder:
        document = json.dumps(result.document, indent=1, allow_nan=False)
        (folder / RESULT_NAME).write_text(document + "\n", "utf-8")
        (folder / "view.json").write_text(result.view.to_json() + "\n", "utf-8")
        write_ras_from_carm(result.pose, folder / "c-arm.tfm")
        result.write_overlay(folder / "overlay.png")
    say(result.summary, config.progress)
    for doubt in result.document["doubtful"]:
        say(f"Doubtful: {doubt}", config.progress)
    return config.output


@dataclass(frozen=True, eq=False)
class _Result:
    """A registration and all that is told of it."""

    view: View
    pose: CArmPose
    document: dict[str, Any]
    panels: list["Panel"]

    @property
    def summary(self) -> str:
        """How good the pose is, in one line."""
        document = self.document
        error_mm = document["reprojection_error"]["mm_on_detector"]
        parts = [f"Landmarks miss by {error_mm:.1f} mm on the detector"]
        if (changes := document["refinement"]) is not None:
            before = changes["similarity_before"]
            parts.append(f"similarity {changes['similarity']:.2f} ({before:.2f} before)")
        if (errors := document["error_against_truth"]) is not None:
            parts.append(f"mTRE {errors['registered']['target_mm']:.2f} mm")
        return "; ".join(parts) + "."

    def write_overlay(self, path: Path) -> None:
        from XraySynthLib.workflows.figures import write_sheet

        write_sheet(self.panels, len(self.panels), path, dpi=200)


@dataclass(frozen=True)
class _Found:
    """The landmarks in the image, and who found them: what registration.json says of it."""

    landmarks: ImageLandmarkSet
    finder: dict[str, str | None]

    @property
    def by_detector(self) -> bool:
        """Whether a detector found them, not a person."""
        return bool(self.finder["model_name"] or self.finder["model_sha256"])


def _read_small_inputs(
    config: RegisterConfig,
) -> tuple[Xray, Intrinsics, LandmarkSet, "_Found | None"]:
    """Read what is read in no time; the landmarks in the image only from --predictions."""
    from XraySynthLib.data.formats import read_landmarks, read_prediction, read_xray

    xray = read_xray(config.image)
    intrinsics = intrinsics_of(config, xray)
    try:
        carm_from_view(View(np.eye(4), intrinsics), config.source_to_isocenter_mm)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if config.truth is not None:
        read_view(config.truth)
    found = None
    if config.predictions is not None:
        prediction = read_prediction(config.predictions)
        _check_prediction(config, prediction, xray)
        finder = {
            "predictions": config.predictions.name,
            "model_name": prediction.model_name,
            "model_sha256": prediction.model_sha256,
        }
        found = _Found(prediction.landmarks, finder)
    return xray, intrinsics, read_landmarks(config.landmarks), found


def _check_prediction(config: RegisterConfig, prediction: "Prediction", xray: Xray) -> None:
    """Refuse what was found in another image, or in another frame than the first.

    As in `evaluate`, neither folders nor formats count: xray.png is xray.tiff.

    Raises:
        UsageError: Saying in which.
    """
    from XraySynthLib.workflows.detect import stem_of

    if stem_of(PurePath(prediction.image.replace("\\", "/"))) != stem_of(config.image):
        raise UsageError(
            f"{config.predictions} is of the image {prediction.image}, not of "
            f"{config.image.name}; name this image's predictions."
        )
    if prediction.frame != 0:
        raise UsageError(
            f"{config.predictions} is of frame {prediction.frame} of {prediction.image}; the "
            "first frame is registered, name the predictions of frame 0."
        )
    if prediction.shape_px != xray.values.shape:
        raise UsageError(
            f"{config.predictions} is of an image of {prediction.shape_px} rows and columns, "
            f"{config.image} has {xray.values.shape}; name this image's predictions."
        )


def intrinsics_of(config: RegisterConfig, xray: Xray) -> Intrinsics:
    """The detector: as the image's View says, else as the options do.

    Raises:
        UsageError: If neither does, or both do.
    """
    if xray.view is not None:
        for name in ("source_to_detector_mm", "pixel_spacing_mm"):
            if getattr(config, name) is not None:
                option = name.replace("_", "-")
                raise UsageError(f"{config.image} holds its geometry; leave --{option} out.")
        if xray.view.intrinsics.mirrored and not config.mirrored:
            raise UsageError(f"{config.image} holds its geometry; leave --no-mirrored out.")
        return xray.view.intrinsics
    spacing_mm = xray.pixel_spacing_mm
    if config.pixel_spacing_mm is not None:
        if spacing_mm is not None:
            raise UsageError(
                f"{config.image} holds its pixels' size, {spacing_mm[0]:g} x {spacing_mm[1]:g} mm; "
                "leave --pixel-spacing-mm out."
            )
        spacing_mm = np.array(config.pixel_spacing_mm)
    if spacing_mm is None or config.source_to_detector_mm is None:
        missing = "pixel-spacing-mm" if spacing_mm is None else "source-to-detector-mm"
        raise UsageError(f"{config.image} does not hold its geometry; give --{missing}.")
    rows, columns = xray.values.shape
    try:
        return Intrinsics(
            config.source_to_detector_mm, spacing_mm, (rows, columns), mirrored=config.mirrored
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def _stages(config: RegisterConfig) -> Iterator[object]:
    """Do the work step by step; the last step yields the result."""
    from XraySynthLib.data.formats import read_volume
    from XraySynthLib.drr import Preview

    xray, intrinsics, landmarks, found = _read_small_inputs(config)
    if found is None:
        found = _detected(config, xray)
    yield "landmarks"
    fit = view_from_landmarks(landmarks, found.landmarks, intrinsics)
    yield "fitted"
    preview = Preview(materials_for_matching(read_volume(config.ct), config.ct))
    yield "read"
    refinement = None
    if config.refine:
        rng = np.random.default_rng((config.seed, 0))
        refinement = refine(fit, xray, preview, rng)
    views = {"landmarks": fit.view}
    if refinement is not None:
        views["refined"] = refinement.view
    view = list(views.values())[-1]
    pose = carm_from_view(view, config.source_to_isocenter_mm)
    doubts: list[str] = []
    if refinement is not None:
        # with a View the image is as the C-arm took it
        doubts = list(doubts_of(fit, refinement, xray.view is None and found.by_detector))
    document = _document(config, fit, refinement, pose, landmarks)
    document |= {"landmarks_from": found.finder, "doubtful": doubts}
    panels = [_panel(name, view, xray, fit, preview) for name, view in views.items()]
    yield _Result(view, pose, document, panels)


def _detected(config: RegisterConfig, xray: Xray) -> _Found:
    from XraySynthLib.detection.model import load_detector
    from XraySynthLib.training.precision import device_of
    from XraySynthLib.workflows.detect import model_folder

    detector = load_detector(model_folder(config.model), device_of(config.device))
    finder = {
        "predictions": None,
        "model_name": detector.config.name,
        "model_sha256": detector.sha256,
    }
    return _Found(detector.detect(xray), finder)


def materials_for_matching(volume: Volume, ct: Path) -> "Materials":
    """A CT's materials on voxels that images for matching do justice to.

    Args:
        volume: The CT.
        ct: Its file, for the error.

    Raises:
        UnreadableFileError: If it holds nothing but air.
    """
    from XraySynthLib.drr import materials_from_hu
    from XraySynthLib.drr.preview import halved

    try:
        materials = materials_from_hu(volume)
    except ValueError as error:
        raise UnreadableFileError(f"{ct} cannot be projected: {error}") from error
    voxel_mm = volume.spacing_mm.min()
    while voxel_mm < FINEST_VOXEL_MM:
        materials, voxel_mm = halved(materials), 2 * voxel_mm
    return materials


def _document(
    config: RegisterConfig,
    fit: LandmarkFit,
    refinement: Refinement | None,
    pose: CArmPose,
    landmarks: LandmarkSet,
) -> dict[str, Any]:
    """What registration.json holds."""
    view = fit.view if refinement is None else refinement.view
    truth = None
    if config.truth is not None:
        true_view = read_view(config.truth)
        truth = {
            "landmarks": pose_error(fit.view, true_view, landmarks.points_ras_mm)._asdict(),
            "registered": pose_error(view, true_view, landmarks.points_ras_mm)._asdict(),
        }
    changes = None
    if refinement is not None:
        changes = {
            "similarity_before": refinement.similarity_before,
            "similarity": refinement.similarity,
            "n_drrs": refinement.n_drrs,
            "inverted": refinement.inverted,
            "moved": pose_error(view, fit.view, landmarks.points_ras_mm)._asdict(),
        }
    projected_px = view.project(fit.points_ras_mm)
    columns = zip(
        fit.names, fit.points_px, fit.confidence, projected_px, fit.errors_px(view),
        fit.errors_mm(view), fit.inliers, strict=True,
    )  # fmt: skip
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "image": config.image.name,
        "ct": config.ct.name,
        "view": view.to_dict(),
        "c_arm": {**asdict(pose), "isocenter_ras_mm": pose.isocenter_ras_mm.tolist()},
        "reprojection_error": {
            "px": float(fit.errors_px(view)[fit.inliers].mean()),
            "mm_on_detector": float(fit.errors_mm(view)[fit.inliers].mean()),
            "mm_on_detector_before": float(fit.errors_mm(fit.view)[fit.inliers].mean()),
        },
        "standard_error_of_landmarks_alone": dict(
            zip(MOTION_NAMES, np.sqrt(np.diag(fit.covariance)).tolist(), strict=True)
        ),
        "refinement": changes,
        "error_against_truth": truth,
        "landmarks": [
            {
                "name": name,
                "found_px": found_px.tolist(),
                "confidence": float(confidence),
                "projected_px": point_px.tolist(),
                "error_px": float(error_px),
                "error_mm_on_detector": float(error_mm),
                "inlier": bool(inlier),
            }
            for name, found_px, confidence, point_px, error_px, error_mm, inlier in columns
        ],
    }


def _panel(name: str, view: View, xray: Xray, fit: LandmarkFit, preview: "Preview") -> "Panel":
    """The film with the edges of a view's DRR, and landmarks where found and where projected."""
    from XraySynthLib.drr import to_display, to_line_integral
    from XraySynthLib.workflows.figures import Panel

    shown = to_line_integral(xray) if xray.quantity is Quantity.TRANSMISSION else xray
    if shown.quantity is Quantity.LINE_INTEGRAL:
        shown = to_display(shown)
    shape_px = view.intrinsics.shape_px
    projected = ImageLandmarkSet.placed(fit.names, view.project(fit.points_ras_mm), shape_px)
    found = ImageLandmarkSet.placed(fit.names, fit.points_px, shape_px)
    error_mm = fit.errors_mm(view)[fit.inliers].mean()
    return Panel(
        replace(shown, view=view),
        projected,
        f"{name}: landmarks miss by {error_mm:.1f} mm on the detector",
        found,
        edges=_edges(view, preview),
    )


def _edges(view: View, preview: "Preview") -> NDArray:
    """(rows, columns) bool, edges of the DRR, its longer side at most `OVERLAY_SIDE_PX`."""
    import cv2

    from XraySynthLib.drr import to_display

    rows, columns = view.intrinsics.shape_px
    scale = min(1.0, OVERLAY_SIDE_PX / max(rows, columns))
    small = view.resized(max(round(rows * scale), 1), max(round(columns * scale), 1))
    drr = to_display(preview.line_integral(small), detail=2.0)
    grey = cv2.GaussianBlur((drr.values * 255).astype(np.uint8), (0, 0), 1.5)
    return np.asarray(cv2.Canny(grey, 15, 40)) > 0
