"""Logic of the module Training Set: landmarks placed and fitted, views shown, sets exported.

`parameters` is the module's parameter node; its fields are listed in `XraySynthDataset.py`.
"""

import json
import os
import re
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray

from XraySynthLib.data import LandmarkSet
from XraySynthLib.data.formats import read_landmarks, write_landmarks
from XraySynthLib.data.pelvis import LANDMARK_NAMES, other_side
from XraySynthLib.data.sets import open_set
from XraySynthLib.errors import UnreadableFileError
from XraySynthLib.geometry import Intrinsics
from XraySynthSlicer.carm import angle_limits
from XraySynthSlicer.ct import write_segmentation
from XraySynthSlicer.drr import center_ras_mm
from XraySynthSlicer.jobs import Job, empty_folder
from XraySynthSlicer.landmarks import SURE_COLOUR, UNSURE_COLOUR
from XraySynthSlicer.nodes import (
    landmarks_from_node,
    landmarks_to_node,
    new_node,
    point_names,
    write_volume_node,
)

FITTED, PREDICTED = "fitted", "predicted, no bone there"
"""Descriptions of points that a fit has placed; those that a person placed have none of these."""
VIEWS = "XraySynth.views"
"""Attribute of the models that show the views."""
SPHERE_MM, DOT_MM = 300.0, 5.0
MOST_DOTS = 1000
N_PREVIEWED, N_COLUMNS, TILE_PX = 6, 3, 380


class DatasetLogic:
    """What the module does to the scene.

    Args:
        scene: The scene.
    """

    def __init__(self, scene: Any) -> None:
        self.scene = scene
        self._folder = TemporaryDirectory(prefix="XraySynth-Dataset-")
        self._fitted: Any = None

    def close(self) -> None:
        """Remove what was written for child processes."""
        self._folder.cleanup()
        self.__init__(self.scene)  # type: ignore[misc]

    def new_list(self) -> Any:
        """Add a list of the 14 landmarks, none of them placed."""
        node = new_node(self.scene, "vtkMRMLMarkupsFiducialNode", "Landmarks")
        node.GetDisplayNode().SetSelectedColor(*SURE_COLOUR)
        node.GetDisplayNode().SetColor(*UNSURE_COLOUR)
        node.GetDisplayNode().SetOccludedVisibility(True)  # through bones
        nowhere = np.full((len(LANDMARK_NAMES), 3), np.nan)
        landmarks_to_node(LandmarkSet(LANDMARK_NAMES, nowhere), node)
        node.SetFixedNumberOfControlPoints(True)
        return node

    def fit_labels_job(self, parameters: Any) -> Job:
        """Start fitting the shape model to the segmentation, where no other job of this runs.

        Raises:
            ValueError: If the segmentation or the list cannot be used.
        """
        _check_names(parameters.points)
        self._fitted, folder = parameters.points, empty_folder(self._job)
        write_segmentation(parameters.labels, folder / "labels.nrrd")
        return _fit_job("labels", folder / "labels.nrrd", folder, parameters.labels)

    def fit_points_job(self, parameters: Any) -> Job:
        """Start fitting the shape model to the points that a person placed; see `fit_labels_job`.

        Raises:
            ValueError: If the list cannot be used.
        """
        _check_names(parameters.points)
        self._fitted, folder = parameters.points, empty_folder(self._job)
        landmarks = landmarks_from_node(parameters.points)
        by_hand = [is_by_hand(parameters.points, index) for index in range(len(landmarks.names))]
        points = np.where(np.array(by_hand)[:, None], landmarks.points_ras_mm, np.nan)
        write_landmarks(LandmarkSet(landmarks.names, points), folder / "placed.mrk.json")
        return _fit_job("landmarks", folder / "placed.mrk.json", folder, parameters.points)

    def show_fit(self) -> str:
        """Place what a person has not placed where the fit has it; returns what is doubtful.

        Raises:
            ValueError: If the list has been removed meanwhile.
        """
        node, fit = self._fitted, self._job / "fit"
        if node.GetScene() is not self.scene:
            raise ValueError(f"{node.GetName()} is no longer in the scene.")
        fitted = read_landmarks(fit / "landmarks.mrk.json")
        result = json.loads((fit / "fit.json").read_text("utf-8"))
        places = dict(zip(fitted.names, fitted.points_ras_mm.tolist(), strict=True))
        with slicer.util.NodeModify(node):
            for index, name in enumerate(point_names(node)):
                if name in places and not is_by_hand(node, index):
                    seen = name in result["seen"]
                    node.SetNthControlPointPositionWorld(index, *places[name])
                    node.SetNthControlPointDescription(index, FITTED if seen else PREDICTED)
                    node.SetNthControlPointSelected(index, seen)
        return str(result["doubt"])

    def show_views(self, parameters: Any) -> NDArray:
        """Show on a sphere about the patient from where the set's images look.

        Returns:
            (N, 3) where the dots are, RAS, mm: image i of the set is dot i.

        Raises:
            ValueError: If a range of angles runs backward.
        """
        aim_ras_mm = _aim_ras_mm(parameters)
        poses, limits_deg = parameters.poses.value, tuple(_limits_deg(parameters).items())
        count = min(parameters.views, MOST_DOTS)
        directions = _directions(poses, limits_deg, parameters.seed, count)
        places = aim_ras_mm + SPHERE_MM * directions
        ball, dot = vtk.vtkSphereSource(), vtk.vtkSphereSource()
        ball.SetRadius(SPHERE_MM)
        ball.SetCenter(*aim_ras_mm)
        ball.SetThetaResolution(24)
        ball.SetPhiResolution(13)
        dot.SetRadius(DOT_MM)
        points, cloud, dots = vtk.vtkPoints(), vtk.vtkPolyData(), vtk.vtkGlyph3D()
        for place in places.tolist():
            points.InsertNextPoint(place)
        cloud.SetPoints(points)
        dots.SetInputData(cloud)
        dots.SetSourceConnection(dot.GetOutputPort())
        for name, source in (("Sphere of views", ball), ("Views", dots)):
            source.Update()
            self._view_model(name).SetAndObservePolyData(source.GetOutput())
        return np.array(places)

    def hide_views(self) -> None:
        """Take the sphere out of the scene."""
        for node in self.view_models():
            self.scene.RemoveNode(node)

    def view_models(self) -> list[Any]:
        """The models that show the views: dots and their sphere."""
        nodes = self.scene.GetNodesByClass("vtkMRMLModelNode")
        found = [nodes.GetItemAsObject(index) for index in range(nodes.GetNumberOfItems())]
        return [node for node in found if node.GetAttribute(VIEWS)]

    def preview_job(self, parameters: Any) -> Job:
        """Start making the set's first images for a contact sheet, where no other job runs.

        Raises:
            ValueError: If a node cannot be used.
        """
        folder = empty_folder(self._job)
        count = min(N_PREVIEWED, parameters.views)
        subjects = self._subject(parameters, folder)
        return _export_job(parameters, subjects, folder / "preview", count, "webdataset")

    def contact_sheet(self) -> Path:
        """Make a picture of a preview's images, their landmarks in yellow; returns its path."""
        from PIL import Image, ImageDraw

        from XraySynthLib.workflows.set_report import as_display

        samples = list(open_set(self._job / "preview"))
        rows = -(-len(samples) // N_COLUMNS)
        sheet = Image.new("RGB", (N_COLUMNS * TILE_PX, rows * TILE_PX))
        for number, sample in enumerate(samples):
            values = as_display(sample).values
            tile = Image.fromarray(np.uint8(np.clip(255 * values, 0, 255))).convert("RGB")
            tile = tile.resize((TILE_PX, TILE_PX))
            draw, scale = ImageDraw.Draw(tile), TILE_PX / np.array(values.shape[::-1])
            for x, y in (sample.landmarks.points_px[sample.landmarks.visible] + 0.5) * scale:
                draw.ellipse((x - 4, y - 4, x + 4, y + 4), outline=(255, 210, 0), width=2)
            row, column = divmod(number, N_COLUMNS)
            sheet.paste(tile, (column * TILE_PX, row * TILE_PX))
        path = self._job / "sheet.png"
        sheet.save(path)
        return path

    def export_job(self, parameters: Any) -> Job:
        """Start exporting: the scene's subject, or those of a folder where one is chosen.

        Raises:
            ValueError: If a node cannot be used or no folder for the set is chosen.
        """
        if not parameters.output:
            raise ValueError("Choose a folder for the set.")
        folder = empty_folder(self._job)
        subjects = Path(parameters.subjects or self._subject(parameters, folder))
        layout = parameters.layout.value
        return _export_job(parameters, subjects, Path(parameters.output), parameters.views, layout)

    def save_subject(self, parameters: Any) -> Path:
        """Add the scene's subject to a folder of subjects, to be exported with others.

        Raises:
            ValueError: If a node cannot be used.
            UnreadableFileError: If there is such a subject.
        """
        name = subject_name(parameters.ct.GetName())
        target = Path(parameters.subjects) / name
        if target.exists():
            raise UnreadableFileError(f"{target} exists; rename the CT or remove that folder.")
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".", dir=target.parent) as draft:
            return _write_subject(parameters, Path(draft) / name).rename(target)

    @property
    def _job(self) -> Path:
        return Path(self._folder.name) / "job"

    def _subject(self, parameters: Any, folder: Path) -> Path:
        subjects = folder / "subjects"
        _write_subject(parameters, subjects / subject_name(parameters.ct.GetName()))
        return subjects

    def _view_model(self, name: str) -> Any:
        for node in self.view_models():
            if node.GetAttribute(VIEWS) == name:
                return node
        node = new_node(self.scene, "vtkMRMLModelNode", name)
        node.SetAttribute(VIEWS, name)
        node.SetSaveWithScene(False)
        node.SetSelectable(False)
        display = node.GetDisplayNode()
        display.SetSaveWithScene(False)
        if name == "Views":
            display.SetColor(1.0, 0.6, 0.1)
        else:
            display.SetColor(0.35, 0.5, 0.7)
            display.SetRepresentation(display.WireframeRepresentation)
            display.SetOpacity(0.3)
            display.SetLighting(False)
        return node


def is_placed(node: Any, index: int) -> bool:
    """Whether a point has a place."""
    return bool(node.GetNthControlPointPositionStatus(index) == node.PositionDefined)


def is_by_hand(node: Any, index: int) -> bool:
    """Whether a person has placed a point."""
    by_fit = node.GetNthControlPointDescription(index) in (FITTED, PREDICTED)
    return is_placed(node, index) and not by_fit


def next_unplaced(node: Any, after: int = -1) -> int | None:
    """The next point, from the beginning again, that is not placed."""
    count = node.GetNumberOfControlPoints()
    order = [(after + 1 + step) % count for step in range(count)]
    return next((index for index in order if not is_placed(node, index)), None)


@lru_cache(1)
def _rules() -> dict[str, str]:
    """Where the 14 landmarks are, in words; the shape model is not loaded for it."""
    text = files("XraySynthLib.assets").joinpath("pelvis", "landmarks.json").read_text("utf-8")
    return {entry["name"]: entry["rule"] for entry in json.loads(text)["landmarks"]}


def rule_of(name: str) -> str:
    """Where one of the 14 landmarks is, in words."""
    return _rules()[name]


def wrong_sides(landmarks: LandmarkSet) -> list[str]:
    """Left landmarks that do not lie to the patient's left of their partners."""
    right_mm = dict(zip(landmarks.names, landmarks.points_ras_mm[:, 0].tolist(), strict=True))
    return [
        name
        for name, x_mm in right_mm.items()
        if name.endswith("-l") and x_mm >= right_mm.get(other_side(name), np.nan)
    ]


def subject_name(name: str) -> str:
    """A node's name as a subject's, which names files."""
    return re.sub(r"[^\w.+-]+", "_", name).strip("._+-")[:64] or "subject"


def _check_names(node: Any) -> None:
    if not set(point_names(node)) & set(LANDMARK_NAMES):
        raise ValueError(
            f"{node.GetName()} has none of the landmarks of the shape model, "
            f"{LANDMARK_NAMES[0]} to {LANDMARK_NAMES[-1]}; make a new list, or place the points."
        )


def _fit_job(option: str, given: Path, folder: Path, node: Any) -> Job:
    command = ["fit", f"--{option}={given}", f"--output={folder / 'fit'}"]
    return Job([command], {str(given): node.GetName()})


def _write_subject(parameters: Any, folder: Path) -> Path:
    landmarks = landmarks_from_node(parameters.points)
    if not np.isfinite(landmarks.points_ras_mm).any():
        raise ValueError("No landmark is placed: place some, or fit them.")
    if parameters.ct.GetImageData() is None:
        raise ValueError(f"{parameters.ct.GetName()} holds no voxels.")
    folder.mkdir(parents=True)
    if parameters.labels is not None:
        write_segmentation(parameters.labels, folder / "labels.nrrd", parameters.ct)
    write_volume_node(parameters.ct, folder / "ct.nrrd")
    write_landmarks(landmarks, folder / "landmarks.mrk.json")
    return folder


def _export_job(parameters: Any, subjects: Path, output: Path, views: int, layout: str) -> Job:
    options: dict[str, object] = {
        "subjects": subjects,
        "output": output,
        "format": layout,
        "views": views,
        "poses": parameters.poses.value,
        "seed": parameters.seed,
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    words += ["--shape-px", str(parameters.imagePx), str(parameters.imagePx)]
    for name, limits in _limits_deg(parameters).items():
        words += [f"--{name.replace('_', '-')}", *map(str, limits)]
    return Job([["export", *words]], {f"{subjects}{os.sep}": ""})


def _limits_deg(parameters: Any) -> dict[str, tuple[float, float]]:
    """What the panel says of angles instead of the preset."""
    return angle_limits(parameters) if parameters.limitAngles else {}


def _aim_ras_mm(parameters: Any) -> NDArray:
    """(3,) where `export` aims: the middle of the landmarks' box, else the CT's."""
    if parameters.points is not None:
        points = landmarks_from_node(parameters.points).points_ras_mm
        points = points[np.isfinite(points).all(axis=1)]
        if len(points):
            return np.asarray(points.min(axis=0) + points.max(axis=0)) / 2
    if parameters.ct is None:
        raise ValueError("Choose a CT, or place a landmark: the sphere of views is about it.")
    return center_ras_mm(parameters.ct)


@lru_cache(1)
def _directions(poses: str, limits_deg: tuple[Any, ...], seed: int, count: int) -> NDArray:
    """(N, 3) unit vectors to the sources of the images that `export` makes, RAS."""
    from XraySynthLib.drr import draw_acquisition
    from XraySynthLib.workflows.acquisition_options import AcquisitionOptions

    ranges = AcquisitionOptions(poses=poses, **dict(limits_deg)).ranges()
    directions = []
    for item in range(count):
        rng = np.random.default_rng((seed, item))
        view = draw_acquisition(ranges, Intrinsics(), np.zeros(3), rng).view
        directions.append(-view.ras_from_camera[:3, 2])
    return np.array(directions)
