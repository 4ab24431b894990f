"""The nodes of X-rays in a Slicer scene, as XML: what `data.sets.scene` writes and reads.

A volume node's attributes hold the image's record and its split, and it refers to its points.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.geometry import CArmPose, View
from XraySynthLib.geometry.view import CARM_AXES_FROM_CAMERA_AXES

RECORD, SPLIT, LANDMARKS = "XraySynth.record", "XraySynth.split", "XraySynth.landmarks"
FOUND = "XraySynth.found"
"""How an image refers to the landmarks that a detector found in it."""


class ImageNodes(NamedTuple):
    """An image of ours in a scene.

    Attributes:
        record: The text of its record.
        split: "train", "val", "test", or None where the scene does not say.
        volume: File of the volume, relative to the scene's, or None where there is none.
        points: File of the landmarks, likewise.
    """

    record: str
    split: str | None
    volume: str | None
    points: str | None


def add_nodes(
    scene: ElementTree.Element,
    number: int,
    file_stem: str,
    record: Mapping[str, Any],
    window: tuple[float, float],
    split: str,
    source_to_isocenter_mm: float | None = None,
    found: int | None = None,
) -> None:
    """Add the nodes of an image, whose files are `Data/STEM.nrrd` and `Data/STEM.mrk.json`.

    Args:
        scene: The root of the scene.
        number: The image's, from 1; the first one is shown.
        file_stem: STEM; only letters and digits are safe, Slicer undoes few percent-encodings.
        record: `sample_to_record` of its sample.
        window: Width and level of the grey shown.
        split: The sample's.
        source_to_isocenter_mm: Where on the beam the C-arm has its isocentre; by default where
            `CArmPose` has it.
        found: Number of a point list, none of an image's, whose file is `Data/STEM-found.mrk.json`:
            the landmarks that were found in the image.
    """
    key, view = record["key"], View.from_dict(record["xray"]["view"])

    def add(tag: str, kind: str, name: str = key, **attributes: str) -> None:
        node_id = f"vtkMRML{kind}Node{number}"
        ElementTree.SubElement(scene, tag, {"id": node_id, "name": name, **attributes})

    add(
        "Volume",
        "ScalarVolume",
        attributes=f"{RECORD}:{_encoded(json.dumps(record))};{SPLIT}:{split}",
        references=f"display:vtkMRMLScalarVolumeDisplayNode{number};"
        f"storage:vtkMRMLVolumeArchetypeStorageNode{number};"
        f"{LANDMARKS}:vtkMRMLMarkupsFiducialNode{number};"
        + (f"{FOUND}:vtkMRMLMarkupsFiducialNode{found};" if found else ""),
    )
    add(
        "VolumeDisplay",
        "ScalarVolumeDisplay",
        colorNodeID="vtkMRMLColorTableNodeGrey",
        autoWindowLevel="0",
        window=repr(window[0]),
        level=repr(window[1]),
    )
    add("VolumeArchetypeStorage", "VolumeArchetypeStorage", fileName=f"Data/{file_stem}.nrrd")
    _add_points(scene, number, key, f"{file_stem}.mrk.json", shown=number == 1)
    if found:
        _add_points(scene, found, f"{key} detected", f"{file_stem}-found.mrk.json", number == 1)
    isocenter_mm = source_to_isocenter_mm or CArmPose().source_to_isocenter_mm
    if view.intrinsics.source_to_detector_mm > isocenter_mm:
        ras_from_carm = _ras_from_carm(view, isocenter_mm)
        add(
            "LinearTransform",
            "LinearTransform",
            f"{key} C-arm",
            matrixTransformToParent=_numbers(ras_from_carm),
        )
    if number == 1:
        _show(scene, view)


def _add_points(scene: ElementTree.Element, number: int, name: str, file: str, shown: bool) -> None:
    """Add a point list, its display and its file."""
    kinds = {"display": "MarkupsFiducialDisplay", "storage": "MarkupsJsonStorage"}
    ids = {role: f"vtkMRML{kind}Node{number}" for role, kind in kinds.items()}
    references = "".join(f"{role}:{node_id};" for role, node_id in ids.items())
    ElementTree.SubElement(
        scene,
        "MarkupsFiducial",
        {"id": f"vtkMRMLMarkupsFiducialNode{number}", "name": name, "references": references},
    )
    visible = {"id": ids["display"], "name": name, "visibility": str(shown).lower()}
    ElementTree.SubElement(scene, kinds["display"], visible)
    kept = {"id": ids["storage"], "name": name, "fileName": f"Data/{file}"}
    ElementTree.SubElement(scene, kinds["storage"], kept)


def add_patient_nodes(scene: ElementTree.Element, number: int, name: str, stem: str) -> None:
    """Add the nodes of a CT, its segmentation and its landmarks.

    Their files are `Data/STEM-ct.nrrd`, `Data/STEM-labels.seg.nrrd` and
    `Data/STEM-landmarks.mrk.json`.

    Args:
        scene: The root of the scene.
        number: None of an image's.
        name: The patient's.
        stem: STEM.
    """
    nodes = (
        ("Volume", "ScalarVolume", "VolumeArchetype", "CT", "ct.nrrd"),
        ("Segmentation", "Segmentation", "Segmentation", "labels", "labels.seg.nrrd"),
        ("MarkupsFiducial", "MarkupsFiducial", "MarkupsJson", "landmarks", "landmarks.mrk.json"),
    )
    for tag, kind, storage, what, file in nodes:
        display_id = f"vtkMRML{kind}DisplayNode{number}"
        storage_id = f"vtkMRML{storage}StorageNode{number}"
        references = f"display:{display_id};storage:{storage_id};"
        named = {"name": f"{name} {what}"}
        ElementTree.SubElement(
            scene, tag, {"id": f"vtkMRML{kind}Node{number}", **named, "references": references}
        )
        display = {"id": display_id, **named}
        if what == "CT":
            display |= {"colorNodeID": "vtkMRMLColorTableNodeGrey", "autoWindowLevel": "0"}
            display |= {"window": "1000", "level": "200"}
        ElementTree.SubElement(scene, f"{kind if tag == 'Volume' else tag}Display", display)
        ElementTree.SubElement(
            scene, f"{storage}Storage", {"id": storage_id, "fileName": f"Data/{stem}-{file}"}
        )


def segments_header(
    segments: Mapping[int, tuple[str, tuple[float, float, float]]], shape: tuple[int, ...]
) -> dict[str, str]:
    """What the header of a .seg.nrrd says.

    Args:
        segments: Label -> name and colour, 0..1.
        shape: (K, J, I) of the label map.
    """
    extent = " ".join(f"0 {count - 1}" for count in shape[::-1])
    header = {
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    for index, (label, (name, colour)) in enumerate(segments.items()):
        values = {
            "ID": name,
            "Name": name,
            "Color": " ".join(f"{part:g}" for part in colour),
            "LabelValue": str(label),
            "Layer": "0",
            "Extent": extent,
        }
        header |= {f"Segment{index}_{key}": value for key, value in values.items()}
    return header


def find_nodes(scene: ElementTree.Element) -> list[ImageNodes]:
    """The images of XraySynth in a scene, also in one that Slicer saved."""
    nodes = {node.get("id"): node for node in scene}
    found = []
    for volume in nodes.values():
        attributes = _pairs(volume.get("attributes"))
        if RECORD in attributes:
            points = nodes.get(_pairs(volume.get("references")).get(LANDMARKS))
            files = [_file_of(owner, nodes) for owner in (volume, points)]
            found.append(ImageNodes(attributes[RECORD], attributes.get(SPLIT), *files))
    return found


def ras_from_ijk(view: View) -> NDArray:
    """(4, 4) where a volume of one slice, 1 mm thick, lies that is the image of a View, RAS, mm."""
    corner, column, row = view.detector_points_ras_mm(np.array([[0, 0], [1, 0], [0, 1]]))
    normal = np.cross(column - corner, row - corner)
    matrix = np.eye(4)
    matrix[:3] = np.column_stack(
        [column - corner, row - corner, normal / np.linalg.norm(normal), corner]
    )
    return matrix


def ras_from_slice(view: View) -> NDArray:
    """(4, 4) of a slice view of the image as displayed: right is along columns, up against rows."""
    rows, columns = view.intrinsics.shape_px
    corners_px = np.array([[0, 0], [columns - 1, 0], [0, rows - 1], [columns - 1, rows - 1]])
    matrix = ras_from_ijk(view) @ np.diag([1.0, -1.0, -1.0, 1.0])
    matrix[:3, :3] /= np.linalg.norm(matrix[:3, :3], axis=0)
    matrix[:3, 3] = view.detector_points_ras_mm(corners_px).mean(axis=0)
    return matrix


def _show(scene: ElementTree.Element, view: View) -> None:
    """Turn the red view to the detector."""
    red = {"name": "Red", "singletonTag": "Red", "layoutName": "Red"}
    reach_mm = float(view.intrinsics.size_mm.max())
    where = {
        "sliceToRAS": _numbers(ras_from_slice(view)),
        "fieldOfView": f"{reach_mm!r} {reach_mm!r} 1",
        "sliceVisibility": "true",
    }
    ElementTree.SubElement(scene, "Slice", {"id": "vtkMRMLSliceNodeRed", **red, **where})
    background = "backgroundVolume:vtkMRMLScalarVolumeNode1;"
    composite = {"id": "vtkMRMLSliceCompositeNodeRed", **red, "references": background}
    ElementTree.SubElement(scene, "SliceComposite", composite)


def _ras_from_carm(view: View, source_to_isocenter_mm: float) -> NDArray:
    """(4, 4) the C-arm's node, its isocentre on the beam that stands upright on the detector."""
    matrix = np.eye(4)
    matrix[:3, :3] = view.ras_from_camera[:3, :3] @ CARM_AXES_FROM_CAMERA_AXES.T
    matrix[:3, 3] = view.source_ras_mm + source_to_isocenter_mm * view.ras_from_camera[:3, 2]
    return matrix


def _numbers(matrix: NDArray) -> str:
    return " ".join(map(repr, matrix.ravel().tolist()))


def _encoded(value: str) -> str:
    """A value of a node's attribute: of ASCII text only what Slicer encodes there."""
    return value.replace("%", "%25").replace(";", "%3B")


def _pairs(text: str | None) -> dict[str, str]:
    """A node's attributes or references: `name:value;name:value`, values percent-encoded."""
    pairs = (pair.partition(":") for pair in (text or "").split(";") if pair)
    return {name: unquote(value) for name, _, value in pairs}


def _file_of(
    owner: ElementTree.Element | None, nodes: Mapping[str | None, ElementTree.Element]
) -> str | None:
    """The file that a node's storage node names."""
    if owner is None:
        return None
    storage = nodes.get(_pairs(owner.get("references")).get("storage"))
    if storage is None or not storage.get("fileName"):
        return None
    return unquote(storage.get("fileName", ""))
