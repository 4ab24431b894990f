"""Logic of the module CT Generator: the anatomy as models at once, CTs by a child process.

`parameters` is the module's parameter node; its fields are listed in `XraySynthCT.py`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from XraySynthLib.anatomy import Bone, HipPose
from XraySynthLib.anatomy.label_maps import tissue_table
from XraySynthLib.anatomy.parts import LABEL_IDS
from XraySynthLib.anatomy.subject import Subject, sample_subject
from XraySynthLib.anatomy.tissues import SEGMENTS
from XraySynthLib.data import LandmarkSet, Volume
from XraySynthLib.data.formats import read_landmarks, read_volume, write_labels
from XraySynthLib.errors import XraySynthError
from XraySynthSlicer.jobs import Job, empty_folder
from XraySynthSlicer.nodes import (
    labels_from_node,
    labels_to_node,
    landmarks_to_node,
    new_node,
    surface_to_node,
    volume_to_node,
)

N_SHAPE_MODES = 4
PREVIEW = "XraySynth.preview"
"""Attribute of the preview's models: the bone's name."""


class CtLogic:
    """What the module does to the scene.

    Args:
        scene: The scene.
    """

    def __init__(self, scene: Any) -> None:
        self.scene = scene
        self._folder = TemporaryDirectory(prefix="XraySynth-CT-")
        self._output: Path | None = None

    def close(self) -> None:
        """Remove what was written for child processes."""
        self._folder.cleanup()
        self.__init__(self.scene)  # type: ignore[misc]

    def preview(self, subject: Subject) -> None:
        """Show the bones of a person as models."""
        models = {node.GetAttribute(PREVIEW): node for node in self.preview_models()}
        for bone in Bone:
            model = models.get(bone.name)
            if model is None:
                model = new_node(self.scene, "vtkMRMLModelNode", f"Preview {SEGMENTS[bone][0]}")
                model.SetAttribute(PREVIEW, bone.name)
                model.SetSaveWithScene(False)
                display = model.GetDisplayNode()
                display.SetSaveWithScene(False)
                display.SetColor(*SEGMENTS[bone][1])
                display.SetVisibility2D(True)
            surface_to_node(*subject.bones.surface(bone), model)
            model.GetDisplayNode().SetVisibility(True)

    def preview_models(self) -> list[Any]:
        """The preview's models that are in the scene."""
        nodes = self.scene.GetNodesByClass("vtkMRMLModelNode")
        found = [nodes.GetItemAsObject(index) for index in range(nodes.GetNumberOfItems())]
        return [node for node in found if node.GetAttribute(PREVIEW)]

    def hide_preview(self) -> None:
        """Take the preview's models out of the scene."""
        for node in self.preview_models():
            self.scene.RemoveNode(node)

    def job(self, parameters: Any) -> Job:
        """Start generating, where no other job of this runs.

        Raises:
            ValueError: If the segmentation cannot be used.
        """
        folder = empty_folder(Path(self._folder.name) / "job")
        self._output = folder / "subjects"
        options: dict[str, object] = {
            "output": self._output,
            "count": parameters.count,
            "seed": parameters.seed,
            "backend": parameters.backend.value,
            "preset": parameters.preset.value,
        }
        condition = condition_of(parameters)
        if condition is not None:
            options["labels"] = folder / "labels.nrrd"
            write_segmentation(condition, folder / "labels.nrrd")
        elif knobs := knobs_of(parameters):
            options["parameters"] = folder / "knobs.json"
            hips = {
                name: asdict(value) for name, value in knobs.items() if isinstance(value, HipPose)
            }
            (folder / "knobs.json").write_text(json.dumps(dict(knobs) | hips), "utf-8")
        if parameters.model and parameters.backend.value != "rendered":
            options["model"] = parameters.model
        words = {
            f"--parameters {folder / 'knobs.json'}": "Anatomy",
            str(folder / "labels.nrrd"): condition.GetName() if condition else "",
            "--labels": "Condition",
            "name its folder with --model": "choose its folder under Generator",
            "--model": "Generator",
        }
        command = ["generate", *(f"--{name}={value}" for name, value in options.items())]
        return Job([command], words)

    def show_results(self, read: Callable[[Callable[[], Volume]], Volume]) -> list[Any]:
        """Put the people whom a job has made into the scene; their CT nodes.

        Args:
            read: Calls what reads a CT, which takes a while.
        """
        assert self._output is not None
        output = self._output
        folders = sorted(output.glob("subject-*"))
        self.hide_preview()
        cts: list[Any] = []
        for folder in folders:
            try:
                volume = read(partial(read_volume, folder / "ct.nii.gz", folder / "labels.nii.gz"))
            except (OSError, XraySynthError):
                if self._output is output:
                    raise
            if self._output is not output:  # the scene has been closed meanwhile
                return cts
            landmarks = read_landmarks(folder / "landmarks.mrk.json")
            provenance = json.loads((folder / "provenance.json").read_text("utf-8"))
            seed, number = provenance["seed"]
            title = f"Person {seed}" + (f" no. {number + 1}" if len(folders) > 1 else "")
            cts.append(add_person(self.scene, title, volume, landmarks))
        return cts


def condition_of(parameters: Any) -> Any:
    """The segmentation whose CT is made, None without: the shape model has bones of its own."""
    return parameters.labels if parameters.backend.value != "rendered" else None


def knobs_of(parameters: Any) -> Mapping[str, Any]:
    """What the sliders set instead of leaving it to the draw; nothing where they are off."""
    if not parameters.shapeAnatomy:
        return {}
    hip = HipPose(parameters.hipFlexionDeg, parameters.hipAbductionDeg, parameters.hipRotationDeg)
    scores = [getattr(parameters, f"shape{mode + 1}") for mode in range(N_SHAPE_MODES)]
    return {
        "sex": parameters.sex.value,
        "age_years": parameters.ageYears,
        "fat_mm": parameters.fatMm,
        "belly_mm": parameters.bellyMm,
        "shape_scores": tuple(scores),
        "anterior_tilt_deg": parameters.tiltDeg,
        "left_hip": hip,
        "right_hip": hip,
    }


def add_person(scene: Any, title: str, volume: Volume, landmarks: LandmarkSet) -> Any:
    """Add a CT, its segmentation and its landmarks in a folder; returns the CT's node."""
    ct = new_node(scene, "vtkMRMLScalarVolumeNode", f"{title} CT")
    volume_to_node(volume, ct)
    points = new_node(scene, "vtkMRMLMarkupsFiducialNode", f"{title} landmarks")
    landmarks_to_node(landmarks, points)
    nodes = [ct, points]
    if volume.labels is not None:
        segmentation = new_node(scene, "vtkMRMLSegmentationNode", f"{title} labels")
        labels_to_node(volume.labels, volume.ras_from_ijk, SEGMENTS, segmentation)
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(ct)
        nodes.append(segmentation)
    put_in_folder(scene, title, nodes)
    return ct


def add_sample_subject(scene: Any) -> Any:
    """Add a person that is made here and now; returns the CT's node."""
    return add_person(scene, "XraySynth subject", *sample_person())


def sample_person(seed: int = 0) -> tuple[Volume, LandmarkSet]:
    """Make a person here and now, without network access or anything to install."""
    from XraySynthLib.anatomy.render import render_ct

    subject = sample_subject((seed, 0))
    return render_ct(subject, (96, 96, 96), 10 / 3), subject.landmarks


def write_segmentation(node: Any, path: Path, volume: Any = None) -> None:
    """Write a segmentation whose segments have a maker's names, with that maker's ids.

    Args:
        node: The segmentation node.
        path: Where to.
        volume: The volume node on whose voxels it is written; None for the segmentation's own.

    Raises:
        ValueError: If it holds nothing, or a name is not known.
    """
    names = [{k: name for k, (name, _) in tissue_table(maker).items()} for maker in LABEL_IDS]
    write_labels(*labels_from_node(node, names, volume), path)


def put_in_folder(scene: Any, title: str, nodes: list[Any]) -> None:
    """Put nodes into a new folder of the subject hierarchy."""
    import slicer

    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), title)
    for node in nodes:
        hierarchy.CreateItem(folder, node)  # where it has one, that is moved
