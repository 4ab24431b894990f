"""Logic of the module C-arm DRR: quick previews here, the whole physics in a child process.

`parameters` is the module's parameter node; its fields are listed in `XraySynthDRR.py`. The live
X-ray follows the C-arm and is the only image that is written again: an X-ray that is taken is new.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from XraySynthLib.data import LandmarkSet, Provenance, Sample, Volume
from XraySynthLib.data.formats import read_sample, write_landmarks, write_volume
from XraySynthLib.data.formats.hounsfield import checked_hu
from XraySynthLib.data.formats.mrml import LANDMARKS
from XraySynthLib.errors import XraySynthError
from XraySynthLib.geometry import CArmPose, Intrinsics, View, view_from_carm
from XraySynthLib.geometry.carm import MAX_COORDINATE_MM
from XraySynthSlicer import carm
from XraySynthSlicer.jobs import Job, State, empty_folder
from XraySynthSlicer.nodes import (
    is_xray,
    landmarks_from_node,
    new_node,
    record_of,
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
            machine and would hold up the application: a child process does it.
    """

    compiled = False

    def __init__(self, scene: Any) -> None:
        self.scene = scene
        self._folder: TemporaryDirectory[str] | None = None
        self._forget()

    def _forget(self) -> None:
        self._written: tuple[object, ...] | None = None
        self._compiling: Job | None = None
        self._steps: Iterator[None] = iter(())
        self._stepped: tuple[object, ...] | None = None
        self._preview: Any = None
        self._ijk_from_ras = np.eye(4)
        self._previewed: tuple[object, ...] | None = None
        self._results: list[Path] = []

    def close(self) -> None:
        """Forget the CT and remove what was written for child processes."""
        if self._compiling is not None:
            self._compiling.cancel()
        if self._folder is not None:
            self._folder.cleanup()
        self._folder = None
        self._forget()

    def new_carm(self, parameters: Any) -> None:
        """Add a C-arm about the middle of the CT."""
        parameters.carm = carm.new_carm(self.scene, center_ras_mm(parameters.ct))

    def center_on(self, parameters: Any, isocenter_ras_mm: np.ndarray) -> None:
        """Move the isocentre and keep the angles.

        Raises:
            ValueError: If it is too far, or the transform chosen cannot be a C-arm.
        """
        if np.abs(isocenter_ras_mm).max() > MAX_COORDINATE_MM:
            raise ValueError("The isocentre would be over 100 m away.")
        pose = pose_of(parameters)
        self.set_angles(
            parameters, pose.primary_deg, pose.secondary_deg, pose.roll_deg, isocenter_ras_mm
        )

    def center_on_point(self, parameters: Any) -> None:
        """Move the isocentre to the first point that is placed in the list chosen for it.

        Raises:
            ValueError: If it is too far, or the C-arm would take it along.
        """
        points, position = parameters.isocenter, [0.0] * 3
        _check_unmoved(points, parameters.carm)
        for index in range(points.GetNumberOfControlPoints()):
            if points.GetNthControlPointPositionStatus(index) == points.PositionDefined:
                points.GetNthControlPointPositionWorld(index, position)
                self.center_on(parameters, np.array(position))
                return

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
        check(parameters)
        carm.set_pose(parameters.carm, pose)

    def show_carm(self, parameters: Any) -> None:
        """Draw the C-arm as its parameters are.

        Raises:
            ValueError: If there can be no such C-arm.
        """
        check(parameters)
        carm.show(
            self.scene, parameters.carm, parameters.sourceToIsocenterMm, intrinsics_of(parameters)
        )
        carm.set_visible(parameters.carm, parameters.showCArm)
        carm.set_handles(parameters.carm, parameters.dragIn3DView)

    def ready(self, node: Any) -> bool:
        """Whether previews of a CT are ready; if not, take the next step, a short one, to that.

        Raises:
            ValueError: If it is no CT or cannot be projected.
            ModuleNotFoundError: If a package that projecting needs is not installed.
        """
        state = _shape_of(node)
        if self._previewed != state:
            if self._stepped != state:
                _check_ct(node)
                self._steps = self._prepare(node, state)
            self._stepped = None  # so that one begins anew after an error
            next(self._steps)
            self._stepped = state
        return self._previewed == state

    def preview(self, parameters: Any) -> None:
        """Show what the C-arm sees, quickly, with its landmarks.

        Raises:
            ValueError: If the CT cannot be projected or the view does not see it.
            ModuleNotFoundError: If a package that projecting needs is not installed.
        """
        state = _shape_of(parameters.ct)
        if self._previewed != state:
            for _ in self._prepare(parameters.ct, state):
                time.sleep(0.01)
        view = view_of(parameters).resized(PREVIEW_PX, PREVIEW_PX)
        # Where the CT has moved since, the C-arm is seen from the CT as if that had not.
        here_from_there = volume_ras_from_ijk(parameters.ct) @ self._ijk_from_ras
        moved = View(np.linalg.inv(here_from_there) @ view.ras_from_camera, view.intrinsics)
        xray = replace(self._preview.render(moved), view=view)
        landmarks = landmarks_of(parameters).seen_from(view)
        name = parameters.ct.GetName()
        sample = Sample(file_name(name), xray, landmarks, None, Provenance("simulated", name))
        self._show_live(parameters, sample)

    def job(self, parameters: Any, views: list[View]) -> Job:
        """Start taking X-rays with the whole physics, where no other job of this runs.

        Raises:
            ValueError: If the CT or the landmarks cannot be used.
        """
        ct_file = self._ct_file(parameters.ct)
        folder = empty_folder(self._path("job"))
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
        """Make the X-ray that a job of one view has made the live one."""
        self._show_live(parameters, read_sample(self._results[0]))

    def add_result(self, parameters: Any) -> None:
        """Add the X-ray that a job of one view has made, and choose it."""
        node = new_node(self.scene, "vtkMRMLScalarVolumeNode", "X-ray")
        self._show(read_sample(self._results[0]), node)
        parameters.xray = node
        self.refresh_screen(parameters)

    def show_sequence(self, parameters: Any, indices: list[str]) -> Any:
        """Add the X-rays that a job has made as a sequence, with their landmarks; its browser.

        Args:
            parameters: The parameters.
            indices: What each is found by, as an angle.
        """
        samples = dict(zip(indices, map(read_sample, self._results), strict=True))
        return samples_to_sequence(samples, self.scene, "X-ray", ("primary", "deg"))

    def refresh_screen(self, parameters: Any) -> None:
        """Put the X-ray that the C-arm sees as it stands on its detector: one chosen, or live."""
        if parameters.carm is None:
            return
        corners_mm = carm.corners_mm(view_of(parameters))
        for node in (parameters.xray, carm.part(parameters.carm, carm.LIVE)):
            if not is_xray(node):
                continue
            xray, display = xray_from_node(node), node.GetDisplayNode()
            assert xray.view is not None
            if np.allclose(carm.corners_mm(xray.view), corners_mm, atol=0.01):
                window_level = display.GetWindow(), display.GetLevel()
                carm.put_on_screen(parameters.carm, xray.values, *window_level)
                return
        carm.clear_screen(parameters.carm)

    def show_landmarks(self, parameters: Any, before: Any) -> None:
        """Show the landmarks of the X-ray chosen, no more those of the one chosen before."""
        if parameters.xray is not before:
            for node, visible in ((before, False), (parameters.xray, True)):
                marks = node and node.GetNodeReference(LANDMARKS)
                if marks:
                    marks.GetDisplayNode().SetVisibility(visible)

    def _show_live(self, parameters: Any, sample: Sample) -> None:
        live = carm.part(parameters.carm, carm.LIVE)
        if live is None:
            live = new_node(self.scene, "vtkMRMLScalarVolumeNode", "Live X-ray")
            parameters.carm.SetNodeReferenceID(carm.LIVE, live.GetID())
        self._show(sample, live)
        for node in (live, live.GetNodeReference(LANDMARKS)):
            if node is not None:  # it is made anew when the scene is opened
                node.SetSaveWithScene(False)
                node.GetDisplayNode().SetSaveWithScene(False)
        parameters.xray = live
        self.refresh_screen(parameters)

    def _show(self, sample: Sample, node: Any) -> None:
        """Fill a node, which keeps window and level where it showed such an image before."""
        quantity = sample.xray.quantity.value
        kept = is_xray(node) and record_of(node)["xray"]["quantity"] == quantity
        display = node.GetDisplayNode()
        window_level = display.GetWindow(), display.GetLevel()
        marks = node.GetNodeReference(LANDMARKS)
        if marks is None and sample.landmarks.names:
            name = f"{node.GetName()} landmarks"
            marks = new_node(self.scene, "vtkMRMLMarkupsFiducialNode", name)
        sample_to_node(sample, node, marks)
        if kept:
            display.SetWindowLevel(*window_level)

    def _prepare(self, node: Any, state: tuple[object, ...]) -> Iterator[None]:
        """Make previews of a CT ready; other things can happen between two steps."""
        from XraySynthLib.drr import Preview, materials_from_hu, prepare

        while not self.compiled:
            self._compiling = self._compiling or self._compile_job()
            if self._compiling.poll() is State.FAILED:
                raise ValueError(self._compiling.error)
            type(self).compiled = self._compiling.state is State.DONE
            yield
        import numba  # noqa: F401  as others below, it takes a second to load

        yield
        volume, ijk_from_ras = _thinned(node), np.linalg.inv(volume_ras_from_ijk(node))
        yield
        materials = materials_from_hu(volume)
        yield
        preview = Preview(materials)
        yield
        prepare(preview.levels[-1])
        yield
        preview.warm()
        self._preview, self._ijk_from_ras, self._previewed = preview, ijk_from_ras, state
        yield

    def _compile_job(self) -> Job:
        """Start compiling, by a tiny X-ray whose kernels stay on disk."""
        values_hu = np.full((8, 8, 8), -1000.0)
        values_hu[2:6, 2:6, 2:6], values_hu[3, 3, 3] = 0, 1000
        tiny = self._path("tiny.nrrd")
        write_volume(Volume(values_hu, np.diag([9.0, 9.0, 9.0, 1.0])), tiny)
        output = self._path("tiny")
        return Job([["project", f"--ct={tiny}", f"--output={output}", "--shape-px", "32", "32"]])

    def _ct_file(self, node: Any) -> Path:
        """The CT as a file, written once as long as it does not change."""
        path = self._path("ct.nrrd")
        if self._written != (state := _state_of(node)):
            _check_ct(node)
            path.unlink(missing_ok=True)
            write_volume_node(node, path)
            self._written = state
        return path

    def _path(self, name: str) -> Path:
        """Where a file for child processes is."""
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="XraySynth-DRR-")
        return Path(self._folder.name) / name


def check(parameters: Any) -> None:
    """Raise a sentence where the transform chosen or the distances cannot be a C-arm's.

    Raises:
        ValueError: That sentence.
    """
    if parameters.sourceToIsocenterMm >= parameters.sourceToDetectorMm:
        raise ValueError("Source to isocentre must be less than Source to detector.")
    _check_unmoved(parameters.ct, parameters.carm)


def preview_step(n_voxels: int) -> int:
    """How many voxels apart a preview takes a CT's."""
    return max(1, int(np.ceil((n_voxels / MAX_PREVIEW_VOXELS) ** (1 / 3))))


def intrinsics_of(parameters: Any) -> Intrinsics:
    """The detector, square."""
    size_px = parameters.imagePx
    spacing_mm = np.full(2, parameters.detectorMm / size_px)
    return Intrinsics(parameters.sourceToDetectorMm, spacing_mm, (size_px, size_px))


def _check_unmoved(node: Any, carm_node: Any) -> None:
    if node is not None and carm.moves(carm_node, node):
        raise ValueError(
            f"{node.GetName()} is under the transform {carm_node.GetName()} and would move with "
            "it: choose another C-arm, or none for a new one."
        )


def pose_of(parameters: Any) -> CArmPose:
    """How the C-arm stands.

    Raises:
        ValueError: If there can be no such C-arm.
    """
    check(parameters)
    return carm.pose_of(parameters.carm, parameters.sourceToIsocenterMm)


def view_of(parameters: Any) -> View:
    """What the C-arm sees.

    Raises:
        ValueError: If there can be no such C-arm.
    """
    return view_from_carm(pose_of(parameters), intrinsics_of(parameters))


def sweep(parameters: Any) -> dict[str, View]:
    """The views of a sweep, by their primary angle, all else as the C-arm stands.

    Raises:
        ValueError: If it is none.
    """
    if parameters.sweepFromDeg == parameters.sweepToDeg:
        raise ValueError("From and To must be different angles.")
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
    return {f"{one.primary_deg:.8g}": view_from_carm(one, intrinsics) for one in poses}


def landmarks_of(parameters: Any) -> LandmarkSet:
    """The points to project, none if no list is chosen."""
    if parameters.landmarks is None:
        return LandmarkSet((), np.empty((0, 3)))
    return landmarks_from_node(parameters.landmarks)


def center_ras_mm(node: Any) -> np.ndarray:
    """(3,) the middle of a volume node, RAS, mm.

    Raises:
        ValueError: If it holds no voxels.
    """
    _voxels_of(node)
    middle_ijk = [(size - 1) / 2 for size in node.GetImageData().GetDimensions()]
    return (volume_ras_from_ijk(node) @ [*middle_ijk, 1.0])[:3]


def file_name(name: str) -> str:
    """A node's name usable in files."""
    return "".join("_" if character in '/\\:*?"<>|\0' else character for character in name) or "ct"


def _thinned(node: Any) -> Volume:
    """A CT as previews take it."""
    return volume_from_node(node, preview_step(node.GetImageData().GetNumberOfPoints()))


def _check_ct(node: Any) -> None:
    """Raise a sentence where the values cannot be HU."""
    try:
        checked_hu(_thinned(node).values_hu, Path(node.GetName()))
    except XraySynthError as error:
        raise ValueError(str(error)) from error


def _state_of(node: Any) -> tuple[object, ...]:
    """Changes when the voxels or their place change."""
    return *_voxels_of(node), volume_ras_from_ijk(node).tobytes()


def _shape_of(node: Any) -> tuple[object, ...]:
    """Changes when the voxels, their sizes or the angles between their axes change."""
    axes_mm = volume_ras_from_ijk(node)[:3, :3]
    metric = np.round(axes_mm.T @ axes_mm, 6).ravel().tolist()
    return *_voxels_of(node), bool(np.linalg.det(axes_mm) < 0), *metric


def _voxels_of(node: Any) -> tuple[object, ...]:
    if node.GetImageData() is None:
        raise ValueError(f"{node.GetName()} holds no voxels.")
    return node.GetID(), node.GetImageData().GetMTime()
