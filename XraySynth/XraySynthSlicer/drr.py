"""Logic of the module C-arm DRR: quick previews here, the whole physics in a child process.

`parameters` is the module's parameter node; its fields are listed in `XraySynthDRR.py`.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import slicer

from XraySynthLib.data import LandmarkSet, Provenance, Sample, Volume
from XraySynthLib.data.formats import read_sample, write_landmarks, write_volume
from XraySynthLib.data.formats.mrml import LANDMARKS
from XraySynthLib.geometry import CArmPose, Intrinsics, View, view_from_carm
from XraySynthSlicer import carm
from XraySynthSlicer.jobs import Job, empty_folder
from XraySynthSlicer.nodes import (
    landmarks_from_node,
    new_node,
    sample_to_node,
    samples_to_sequence,
    volume_from_node,
    volume_ras_from_ijk,
    write_volume_node,
    xray_from_node,
)

PREVIEW_PX = 256
MAX_PREVIEW_VOXELS = 5_000_000
"""A preview is made of a CT thinned out to this many voxels, so that it is ready in a moment."""


class DrrLogic:
    """What the module does to the scene.

    Args:
        scene: The scene.

    Attributes:
        compiled: Whether the projector has been compiled, which takes seconds the first time on a
            machine and would hold up the application: a child process does it, see `compile_job`.
    """

    compiled = False

    def __init__(self, scene: Any) -> None:
        self.scene = scene
        self._folder = TemporaryDirectory(prefix="XraySynth-DRR-")
        self._written: tuple[object, ...] | None = None
        self._preview: Any = None
        self._previewed: tuple[object, ...] | None = None
        self._results: list[Path] = []

    def close(self) -> None:
        """Forget the CT and remove what was written for child processes."""
        self._folder.cleanup()
        self.__init__(self.scene)  # type: ignore[misc]

    def new_carm(self, parameters: Any) -> None:
        """Add a C-arm about the middle of the CT."""
        parameters.carm = carm.new_carm(self.scene, center_ras_mm(parameters.ct))

    def center_on(self, parameters: Any, isocenter_ras_mm: np.ndarray) -> None:
        """Move the isocentre and keep the angles."""
        pose = pose_of(parameters)
        self.set_angles(
            parameters, pose.primary_deg, pose.secondary_deg, pose.roll_deg, isocenter_ras_mm
        )

    def set_angles(
        self,
        parameters: Any,
        primary_deg: float,
        secondary_deg: float,
        roll_deg: float,
        isocenter_ras_mm: np.ndarray | None = None,
    ) -> None:
        """Turn the C-arm; its isocentre stays unless one is given."""
        old = pose_of(parameters)
        isocenter = old.isocenter_ras_mm if isocenter_ras_mm is None else isocenter_ras_mm
        distance = parameters.sourceToIsocenterMm
        pose = CArmPose(primary_deg, secondary_deg, roll_deg, isocenter, distance)
        carm.set_pose(parameters.carm, pose)

    def set_geometry(self, parameters: Any, pose: CArmPose, intrinsics: Intrinsics) -> None:
        """Let C-arm and detector stand as a film was taken; a C-arm is added where none is.

        Raises:
            ValueError: If a distance or the detector's size is none that the module takes.
        """
        parameters.sourceToDetectorMm = intrinsics.source_to_detector_mm
        parameters.sourceToIsocenterMm = pose.source_to_isocenter_mm
        parameters.detectorMm = float(intrinsics.size_mm.max())
        if parameters.carm is None:
            parameters.carm = carm.new_carm(self.scene, pose.isocenter_ras_mm)
        carm.set_pose(parameters.carm, pose)

    def show_carm(self, parameters: Any) -> None:
        """Draw the C-arm as its parameters are."""
        carm.show(
            self.scene, parameters.carm, parameters.sourceToIsocenterMm, intrinsics_of(parameters)
        )
        carm.set_visible(parameters.carm, parameters.showCArm)

    def preview(self, parameters: Any) -> None:
        """Show what the C-arm sees, quickly, with its landmarks.

        Raises:
            ValueError: If the CT cannot be projected or the view does not see it.
            ModuleNotFoundError: If a package that projecting needs is not installed.
        """
        view = view_of(parameters).resized(PREVIEW_PX, PREVIEW_PX)
        xray = self._ready_preview(parameters.ct).render(view)
        landmarks = landmarks_of(parameters).seen_from(view)
        name = parameters.ct.GetName()
        sample = Sample(file_name(name), xray, landmarks, None, Provenance("simulated", name))
        self._show(parameters, sample)

    def compile_job(self) -> Job:
        """Start compiling, by a tiny X-ray whose kernels stay on disk."""
        values_hu = np.full((8, 8, 8), -1000.0)
        values_hu[2:6, 2:6, 2:6], values_hu[3, 3, 3] = 0, 1000
        folder = Path(self._folder.name)
        tiny = folder / "tiny.nrrd"
        write_volume(Volume(values_hu, np.diag([9.0, 9.0, 9.0, 1.0])), tiny)
        return Job(
            [["project", f"--ct={tiny}", f"--output={folder / 'tiny'}", "--shape-px", "32", "32"]]
        )

    def job(self, parameters: Any, views: list[View]) -> Job:
        """Start taking X-rays with the whole physics, where no other job of this runs.

        Raises:
            ValueError: If the CT or the landmarks cannot be used.
        """
        ct_file = self._ct_file(parameters.ct)
        folder = empty_folder(Path(self._folder.name) / "job")
        points_file = folder / "landmarks.mrk.json"
        write_landmarks(landmarks_of(parameters), points_file)
        commands = []
        for number, view in enumerate(views):
            view_file = folder / f"view-{number:04d}.json"
            view_file.write_text(view.to_json(), "utf-8")
            options = {
                "ct": ct_file,
                "landmarks": points_file,
                "view": view_file,
                "output": folder / f"{number:04d}",
                "subject": file_name(parameters.ct.GetName()),
                "physics": parameters.physics.value,
                "quantity": parameters.quantity.value,
                "kvp": parameters.kvp,
            }
            words = [f"--{name}={value}" for name, value in options.items()]
            commands.append(["project", *words])
        self._results = [folder / f"{number:04d}" for number in range(len(views))]
        return Job(commands)

    def show_result(self, parameters: Any) -> None:
        """Show the X-ray that a job of one view has made."""
        self._show(parameters, read_sample(self._results[0]))

    def show_sequence(self, parameters: Any, indices: list[str]) -> Any:
        """Add the X-rays that a job has made as a sequence, with their landmarks; its browser.

        Args:
            parameters: The parameters.
            indices: What each is found by, as an angle.
        """
        samples = dict(zip(indices, map(read_sample, self._results), strict=True))
        return samples_to_sequence(samples, self.scene, "X-ray", ("primary", "deg"))

    def refresh_screen(self, parameters: Any) -> None:
        """Put the X-ray on the C-arm's detector, where it is the C-arm's view."""
        if parameters.xray is None or parameters.carm is None:
            return
        xray = xray_from_node(parameters.xray)
        assert xray.view is not None
        display = parameters.xray.GetDisplayNode()
        carm.put_on_screen(parameters.carm, xray.values, display.GetWindow(), display.GetLevel())

    def _show(self, parameters: Any, sample: Sample) -> None:
        if parameters.xray is None:
            parameters.xray = new_node(self.scene, "vtkMRMLScalarVolumeNode", "X-ray")
        marks = parameters.xray.GetNodeReference(LANDMARKS)
        if marks is None and sample.landmarks.names:
            marks = new_node(self.scene, "vtkMRMLMarkupsFiducialNode", "X-ray landmarks")
        sample_to_node(sample, parameters.xray, marks)
        self.refresh_screen(parameters)

    def _ready_preview(self, node: Any) -> Any:
        from XraySynthLib.drr import Preview, materials_from_hu

        if self._previewed != (state := _state_of(node)):
            step = preview_step(slicer.util.arrayFromVolume(node).size)
            self._preview = Preview(materials_from_hu(volume_from_node(node, step)))
            self._preview.warm()
            self._previewed = state
        return self._preview

    def _ct_file(self, node: Any) -> Path:
        """The CT as a file, written once as long as it does not change."""
        path = Path(self._folder.name) / "ct.nrrd"
        if self._written != (state := _state_of(node)):
            path.unlink(missing_ok=True)
            write_volume_node(node, path)
            self._written = state
        return path


def preview_step(n_voxels: int) -> int:
    """How many voxels apart a preview takes a CT's."""
    return max(1, int(np.ceil((n_voxels / MAX_PREVIEW_VOXELS) ** (1 / 3))))


def intrinsics_of(parameters: Any) -> Intrinsics:
    """The detector, square."""
    size_px = parameters.imagePx
    spacing_mm = np.full(2, parameters.detectorMm / size_px)
    return Intrinsics(parameters.sourceToDetectorMm, spacing_mm, (size_px, size_px))


def pose_of(parameters: Any) -> CArmPose:
    """How the C-arm stands."""
    return carm.pose_of(parameters.carm, parameters.sourceToIsocenterMm)


def view_of(parameters: Any) -> View:
    """What the C-arm sees.

    Raises:
        ValueError: If the detector would not lie beyond the isocentre.
    """
    return view_from_carm(pose_of(parameters), intrinsics_of(parameters))


def sweep(parameters: Any) -> dict[str, View]:
    """The views of a sweep, by their primary angle, all else as the C-arm stands."""
    pose, intrinsics = pose_of(parameters), intrinsics_of(parameters)
    count = parameters.sweepCount
    angles = np.linspace(parameters.sweepFromDeg, parameters.sweepToDeg, count)
    poses = [
        CArmPose(
            angle,
            pose.secondary_deg,
            pose.roll_deg,
            pose.isocenter_ras_mm,
            pose.source_to_isocenter_mm,
        )
        for angle in angles.tolist()
    ]
    return {f"{one.primary_deg:g}": view_from_carm(one, intrinsics) for one in poses}


def landmarks_of(parameters: Any) -> LandmarkSet:
    """The points to project, none if no list is chosen."""
    if parameters.landmarks is None:
        return LandmarkSet((), np.empty((0, 3)))
    return landmarks_from_node(parameters.landmarks)


def center_ras_mm(node: Any) -> np.ndarray:
    """(3,) the middle of a volume node, RAS, mm."""
    middle_ijk = [(size - 1) / 2 for size in node.GetImageData().GetDimensions()]
    return (volume_ras_from_ijk(node) @ [*middle_ijk, 1.0])[:3]


def file_name(name: str) -> str:
    """A node's name usable in files."""
    return "".join("_" if character in '/\\:*?"<>|\0' else character for character in name) or "ct"


def _state_of(node: Any) -> tuple[object, ...]:
    """Changes when the voxels or their place change."""
    return node.GetID(), node.GetImageData().GetMTime(), volume_ras_from_ijk(node).tobytes()
