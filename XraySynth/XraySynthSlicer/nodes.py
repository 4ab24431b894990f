"""The library's types from and to MRML nodes, in RAS, whatever their parent transforms are.

Every function that reads a node gives it as it stands in the world; every one that writes to a node
places it so that it stands right in the world. Parent transforms must be linear.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray, vtk_to_numpy

from XraySynthLib.data import ImageLandmarkSet, LandmarkSet, Quantity, Sample, Volume, Xray
from XraySynthLib.data.formats.markups_json import confidence_text
from XraySynthLib.data.formats.mrml import LANDMARKS, RECORD, ras_from_ijk
from XraySynthLib.data.formats.sample_files import sample_to_record
from XraySynthLib.geometry import View
from XraySynthLib.geometry.transforms import checked_rigid, transform_points

GREY = "vtkMRMLColorTableNodeGrey"


def matrix_of(vtk_matrix: Any) -> NDArray:
    """(4, 4) array of a vtkMatrix4x4."""
    return np.array(
        [[vtk_matrix.GetElement(row, column) for column in range(4)] for row in range(4)]
    )


def vtk_matrix_of(matrix: NDArray) -> Any:
    """A vtkMatrix4x4 of a (4, 4) array."""
    result = vtk.vtkMatrix4x4()
    result.DeepCopy(np.asarray(matrix, dtype=float).ravel().tolist())
    return result


def ras_from_local(node: Any) -> NDArray:
    """(4, 4) what the parent transforms of a node do to it.

    Raises:
        ValueError: If one of them is not linear.
    """
    parent = node.GetParentTransformNode()
    if parent is None:
        return np.eye(4)
    matrix = vtk.vtkMatrix4x4()
    if not parent.GetMatrixTransformToWorld(matrix):
        raise ValueError(
            f"{node.GetName()} is under a transform that is not linear; harden it first."
        )
    return matrix_of(matrix)


def volume_ras_from_ijk(node: Any) -> NDArray:
    """(4, 4) where a volume node's voxels are in the world."""
    local_from_ijk = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(local_from_ijk)
    return ras_from_local(node) @ matrix_of(local_from_ijk)


def place_volume(node: Any, ras_from_ijk: NDArray) -> None:
    """Put a volume node's voxels where they belong in the world."""
    local_from_ras = np.linalg.inv(ras_from_local(node))
    node.SetIJKToRASMatrix(vtk_matrix_of(local_from_ras @ ras_from_ijk))


def volume_from_node(node: Any, step: int = 1) -> Volume:
    """A scalar volume as a CT.

    Args:
        node: The volume node.
        step: Take every so many voxels along each axis.

    Raises:
        ValueError: If it holds no voxels, is no CT, or a parent transform is not linear or shears.
    """
    if node.GetImageData() is None:
        raise ValueError(f"{node.GetName()} holds no voxels.")
    values = slicer.util.arrayFromVolume(node)[::step, ::step, ::step]
    step_ijk = np.diag([step, step, step, 1.0])
    return Volume(values.astype(np.float32), volume_ras_from_ijk(node) @ step_ijk)


def volume_to_node(volume: Volume, node: Any) -> None:
    """Fill a scalar volume node with a CT."""
    slicer.util.updateVolumeFromArray(node, np.array(volume.values_hu))
    place_volume(node, volume.ras_from_ijk)
    display = _display(node)
    display.SetAndObserveColorNodeID(GREY)
    display.AutoWindowLevelOff()
    display.SetWindowLevel(1000, 200)


def write_volume_node(node: Any, path: Path) -> None:
    """Write a scalar volume as it stands in the world, uncompressed: .nrrd.

    Raises:
        ValueError: If it holds no voxels or a parent transform is not linear.
        OSError: If the file cannot be written.
    """
    if node.GetImageData() is None:
        raise ValueError(f"{node.GetName()} holds no voxels.")
    copy = slicer.vtkMRMLScalarVolumeNode()
    copy.SetAndObserveImageData(node.GetImageData())
    copy.SetIJKToRASMatrix(vtk_matrix_of(volume_ras_from_ijk(node)))
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetUseCompression(0)
    storage.SetFileName(str(path))
    if not storage.WriteData(copy):
        raise OSError(f"{path} cannot be written: is the disk full?")


def landmarks_from_node(node: Any) -> LandmarkSet:
    """The points of a list; those that are not placed are undefined.

    Raises:
        ValueError: If two points have one name.
    """
    names, points_ras_mm = [], []
    for index in range(node.GetNumberOfControlPoints()):
        names.append(node.GetNthControlPointLabel(index))
        placed = node.GetNthControlPointPositionStatus(index) == node.PositionDefined
        position = [np.nan] * 3
        if placed:
            node.GetNthControlPointPositionWorld(index, position)
        points_ras_mm.append(position)
    return LandmarkSet(tuple(names), np.array(points_ras_mm, dtype=float).reshape(-1, 3))


def landmarks_to_node(landmarks: LandmarkSet, node: Any) -> None:
    """Set the points of a list; points that stay keep what else the list says of them."""
    with slicer.util.NodeModify(node):
        if point_names(node) != landmarks.names:
            node.RemoveAllControlPoints()
            for name in landmarks.names:
                node.AddControlPoint(0.0, 0.0, 0.0, name)
        for index, position in enumerate(landmarks.points_ras_mm.tolist()):
            if np.isnan(position).any():
                node.UnsetNthControlPointPosition(index)
            else:
                node.SetNthControlPointPositionWorld(index, *position)


def point_names(node: Any) -> tuple[str, ...]:
    """Labels of a list's points."""
    count = node.GetNumberOfControlPoints()
    return tuple(node.GetNthControlPointLabel(index) for index in range(count))


def image_landmarks_to_node(landmarks: ImageLandmarkSet, view: View, node: Any) -> None:
    """Put points of an image on its detector; those outside the image are not shown."""
    points_ras_mm = view.detector_points_ras_mm(landmarks.points_px)
    with slicer.util.NodeModify(node):
        landmarks_to_node(LandmarkSet(landmarks.names, points_ras_mm), node)
        marks = zip(landmarks.visible.tolist(), landmarks.confidence.tolist(), strict=True)
        for index, (visible, confidence) in enumerate(marks):
            node.SetNthControlPointVisibility(index, visible)
            node.SetNthControlPointDescription(index, confidence_text(confidence))


def confidence_of(node: Any, index: int) -> float:
    """A point's confidence; one that is not told, as of points set by hand, is 1."""
    found = re.fullmatch(r"confidence ([01]\.\d+)", node.GetNthControlPointDescription(index))
    return float(found[1]) if found else 1.0


def image_landmarks_from_node(node: Any, view: View) -> ImageLandmarkSet:
    """Points on a detector as points of its image, seen along the beam."""
    points = landmarks_from_node(node)
    # The same ray, but surely this side of the detector.
    nearer_ras_mm = view.source_ras_mm + 0.999 * (points.points_ras_mm - view.source_ras_mm)
    return replace(points, points_ras_mm=nearer_ras_mm).seen_from(view)


def sample_to_node(sample: Sample, node: Any, points_node: Any = None) -> None:
    """Put an image on its detector, and its landmarks if a list is given.

    The node then is what the sets' format `scene` holds: its attribute `XraySynth.record` has all
    but the pixels.

    Raises:
        ValueError: If the image has no View.
    """
    view = sample.xray.view
    if view is None:
        raise ValueError(f"{sample.key} has no View, so it has no place in the scene.")
    slicer.util.updateVolumeFromArray(node, np.array(sample.xray.values)[None])
    place_volume(node, ras_from_ijk(view))
    # Its place is part of its View: the View is kept as it is without the node's parents.
    local_from_ras = np.linalg.inv(checked_rigid(ras_from_local(node), "the parent transform"))
    local_view = View(local_from_ras @ view.ras_from_camera, view.intrinsics)
    local = replace(sample, xray=replace(sample.xray, view=local_view), masks=None)
    node.SetAttribute(RECORD, json.dumps(sample_to_record(local), allow_nan=False))
    display = _display(node)
    display.SetAndObserveColorNodeID(GREY)
    display.AutoWindowLevelOff()
    low, high = (0.0, 1.0)
    if sample.xray.quantity is not Quantity.DISPLAY:
        low, high = np.percentile(sample.xray.values, (0.5, 99.5)).tolist()
    display.SetWindowLevel(max(high - low, 1e-6), (high + low) / 2)
    if points_node is not None:
        image_landmarks_to_node(sample.landmarks, view, points_node)
        if node.GetNodeReference(LANDMARKS) is not points_node:
            node.SetNodeReferenceID(LANDMARKS, points_node.GetID())
            put_under(node, points_node)


def samples_to_sequence(
    samples: Mapping[str, Sample], scene: Any, name: str, index: tuple[str, str]
) -> Any:
    """Add images as a sequence to browse, their landmarks with them.

    Args:
        samples: What an image is found by, as an angle -> the image.
        scene: The scene.
        name: What the nodes are called.
        index: Name and unit of what images are found by.

    Returns:
        The browser; it shows the last image.
    """
    images = new_node(scene, "vtkMRMLSequenceNode", f"{name} sequence")
    points = new_node(scene, "vtkMRMLSequenceNode", f"{name} landmarks sequence")
    image = new_node(scene, "vtkMRMLScalarVolumeNode", f"{name} of sequence")
    marks = new_node(scene, "vtkMRMLMarkupsFiducialNode", f"{name} landmarks of sequence")
    for sequence in (images, points):
        sequence.SetIndexName(index[0])
        sequence.SetIndexUnit(index[1])
    for value, sample in samples.items():
        sample_to_node(sample, image, marks)
        images.SetDataNodeAtValue(image, value)
        points.SetDataNodeAtValue(marks, value)
    browser = new_node(scene, "vtkMRMLSequenceBrowserNode", f"{name} browser")
    with slicer.util.NodeModify(browser):  # or Slicer makes nodes of its own to show the items
        for sequence, proxy in ((images, image), (points, marks)):
            browser.AddSynchronizedSequenceNodeID(sequence.GetID())
            browser.AddProxyNode(proxy, sequence, False)
    browser.SetSelectedItemNumber(len(samples) - 1)
    return browser


def xray_from_node(node: Any) -> Xray:
    """The image of a node that `sample_to_node` wrote, seen as the node now stands.

    Raises:
        ValueError: If it is no X-ray of XraySynth, or a parent transform is not rigid.
    """
    quantity = Quantity(record_of(node)["xray"]["quantity"])
    return Xray(slicer.util.arrayFromVolume(node)[0].copy(), quantity, view=view_from_node(node))


def view_from_node(node: Any, ras_from_parent: NDArray | None = None) -> View:
    """The View of an X-ray as the node now stands; see `xray_from_node`.

    Args:
        node: The node.
        ras_from_parent: (4, 4) stands for its parent transforms, which an item of a sequence lacks.
    """
    if ras_from_parent is None:
        ras_from_parent = ras_from_local(node)
    view = View.from_dict(record_of(node)["xray"]["view"])
    rigid = checked_rigid(ras_from_parent, "the parent transform")
    return View(rigid @ view.ras_from_camera, view.intrinsics)


def face(slice_node: Any, node: Any, frame: int = 0, fit: bool = True) -> None:
    """Turn a slice view to an image as it is displayed.

    Args:
        slice_node: The view.
        node: The image's volume node: columns to the right, rows down.
        frame: Which of its slices.
        fit: Whether to bring all of it into sight; else a view that looks the same way already
            keeps its zoom and what is in its middle.
    """
    ras_from_ijk = volume_ras_from_ijk(node)
    columns, rows, _ = node.GetImageData().GetDimensions()
    columns_mm, rows_mm = np.linalg.norm(ras_from_ijk[:3, :2], axis=0) * [columns, rows]
    ras_from_slice = ras_from_ijk @ np.diag([1.0, -1.0, -1.0, 1.0])  # up is against the rows
    ras_from_slice[:3, :3] /= np.linalg.norm(ras_from_slice[:3, :3], axis=0)
    ras_from_slice[:, 3] = ras_from_ijk @ [(columns - 1) / 2, (rows - 1) / 2, frame, 1.0]
    before = matrix_of(slice_node.GetSliceToRAS())
    if not fit and np.allclose(before[:3, :3], ras_from_slice[:3, :3], atol=1e-6):
        normal = ras_from_slice[:3, 2]
        depth_mm = normal @ (ras_from_slice[:3, 3] - before[:3, 3])
        ras_from_slice[:3, 3] = before[:3, 3] + depth_mm * normal
    else:
        width_px, height_px, _ = slice_node.GetDimensions()
        mm_per_px = max(columns_mm / max(width_px, 1), rows_mm / max(height_px, 1))
        slice_node.SetFieldOfView(width_px * mm_per_px, height_px * mm_per_px, 1.0)
    slice_node.GetSliceToRAS().DeepCopy(vtk_matrix_of(ras_from_slice))
    slice_node.UpdateMatrices()


def is_xray(node: Any) -> bool:
    """Whether a node is an X-ray of XraySynth."""
    return node is not None and bool(node.GetAttribute(RECORD))


def record_of(node: Any) -> dict[str, Any]:
    """All that an X-ray of XraySynth says of itself; see `xray_from_node`.

    Raises:
        ValueError: If it is no X-ray of XraySynth, or its record is damaged.
    """
    if not is_xray(node):
        raise ValueError(f"{node.GetName()} is no X-ray of XraySynth: it has no View.")
    try:
        record = dict(json.loads(node.GetAttribute(RECORD)))
        Quantity(record["xray"]["quantity"])
        View.from_dict(record["xray"]["view"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"The record of {node.GetName()}, which says how it was taken, is damaged; take the "
            "X-ray again."
        ) from error
    return record


def labels_from_node(
    node: Any, tables: Iterable[Mapping[int, str]], volume: Any = None
) -> tuple[NDArray, NDArray]:
    """A segmentation whose segments have a maker's names, as a label map.

    Args:
        node: vtkMRMLSegmentationNode.
        tables: Of each maker: label id -> name.
        volume: The volume node on whose voxels the label map is; None for the segmentation's own.

    Returns:
        (K, J, I) integers, and the (4, 4) ras_from_ijk, mm.

    Raises:
        ValueError: If it holds nothing, or no maker has all the segments' names.
    """
    segmentation = node.GetSegmentation()
    ids = [
        segmentation.GetNthSegmentID(index) for index in range(segmentation.GetNumberOfSegments())
    ]
    names = [_plain(segmentation.GetSegment(segment).GetName()) for segment in ids]
    if not ids:
        raise ValueError(f"The segmentation {node.GetName()} has no segments.")
    label_of_names = _label_of_names(names, list(tables))
    merged, wanted = slicer.vtkOrientedImageData(), vtk.vtkStringArray()
    for segment in ids:
        wanted.InsertNextValue(segment)
    extent, grid = slicer.vtkSegmentation.EXTENT_UNION_OF_EFFECTIVE_SEGMENTS, None
    if volume is not None:
        extent, grid = (
            slicer.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY,
            slicer.vtkOrientedImageData(),
        )
        grid.SetDimensions(volume.GetImageData().GetDimensions())
        local_from_ras = np.linalg.inv(ras_from_local(node))
        grid.SetImageToWorldMatrix(vtk_matrix_of(local_from_ras @ volume_ras_from_ijk(volume)))
    if not node.GenerateMergedLabelmapForAllSegments(merged, extent, grid, wanted):
        raise ValueError(f"The segmentation {node.GetName()} cannot be made a label map.")
    scalars = merged.GetPointData().GetScalars()
    if scalars is None or not vtk_to_numpy(scalars).any():
        there = "" if volume is None else f" within {volume.GetName()}"
        raise ValueError(f"The segmentation {node.GetName()} is empty{there}.")
    numbers = np.array([0] + [label_of_names[name] for name in names])  # merged: 1, 2, ... in order
    numbers = numbers.astype(np.min_scalar_type(numbers.max()))
    values = vtk_to_numpy(scalars)
    labels = numbers[values.reshape(merged.GetDimensions()[::-1])]
    local_from_ijk, first_ijk = vtk.vtkMatrix4x4(), np.eye(4)
    merged.GetImageToWorldMatrix(local_from_ijk)
    first_ijk[:3, 3] = merged.GetExtent()[::2]
    return labels, ras_from_local(node) @ matrix_of(local_from_ijk) @ first_ijk


def labels_to_node(
    labels: NDArray,
    ras_from_ijk: NDArray,
    segments: Mapping[int, tuple[str, tuple[float, float, float]]],
    node: Any,
) -> None:
    """Fill a segmentation node with a label map.

    Args:
        labels: (K, J, I) integers, none below 0.
        ras_from_ijk: (4, 4) of its grid.
        segments: Label -> name and colour, 0..1, of the labels that become segments where present.
        node: vtkMRMLSegmentationNode; its segments are replaced.
    """
    local_from_ras = np.linalg.inv(ras_from_local(node))
    node.GetSegmentation().RemoveAllSegments()
    node.CreateDefaultDisplayNodes()
    counts = np.bincount(labels.ravel())
    kept = np.array([label if label in segments else 0 for label in range(len(counts))])
    image = slicer.vtkOrientedImageData()  # of all segments
    image.DeepCopy(_image_data(kept.astype(labels.dtype)[labels]))
    image.SetImageToWorldMatrix(vtk_matrix_of(local_from_ras @ ras_from_ijk))
    for value, (name, colour) in segments.items():
        if value < len(counts) and counts[value]:
            segment = slicer.vtkSegment()
            segment.SetName(name)
            segment.SetColor(*colour)
            segment.SetLabelValue(value)
            segment.AddRepresentation("Binary labelmap", image)
            node.GetSegmentation().AddSegment(segment, name)


def surface_to_node(vertices_ras_mm: NDArray, triangles: NDArray, node: Any) -> None:
    """Fill a model node with a surface.

    Args:
        vertices_ras_mm: (N, 3) RAS, mm.
        triangles: (T, 3) counter-clockwise from outside.
        node: vtkMRMLModelNode.
    """
    points = vtk.vtkPoints()
    local_from_ras = np.linalg.inv(ras_from_local(node))
    places = transform_points(local_from_ras, vertices_ras_mm).astype(np.float32)
    points.SetData(numpy_to_vtk(places, deep=True))
    cells = vtk.vtkCellArray()
    sized = np.column_stack([np.full(len(triangles), 3), triangles]).astype(np.int64)
    cells.ImportLegacyFormat(numpy_to_vtkIdTypeArray(sized.ravel(), deep=True))
    surface = vtk.vtkPolyData()
    surface.SetPoints(points)
    surface.SetPolys(cells)
    normals = vtk.vtkPolyDataNormals()
    normals.SetInputData(surface)
    normals.SplittingOff()
    normals.Update()
    node.SetAndObservePolyData(normals.GetOutput())


def new_node(scene: Any, kind: str, name: str) -> Any:
    """Add a node with what shows it."""
    node = scene.AddNewNodeByClass(kind, scene.GenerateUniqueName(name))
    if node.IsA("vtkMRMLDisplayableNode"):
        node.CreateDefaultDisplayNodes()
    return node


def put_under(parent: Any, node: Any) -> None:
    """Make a node a child of another in the subject hierarchy: they are removed together."""
    scene = parent.GetScene()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    above = hierarchy.GetItemByDataNode(parent)
    if above == hierarchy.GetInvalidItemID():
        above = hierarchy.CreateItem(hierarchy.GetSceneItemID(), parent)
    hierarchy.CreateItem(above, node)  # where it has one, that is moved


def _display(node: Any) -> Any:
    node.CreateDefaultDisplayNodes()
    return node.GetDisplayNode()


def _image_data(values: NDArray) -> Any:
    """(K, J, I) or (J, I, components) values as vtkImageData."""
    image = vtk.vtkImageData()
    image.SetDimensions(*values.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(values.ravel(), deep=True))
    return image


def _plain(name: str) -> str:
    """A segment's name as tables have it: lower case, words joined by underscores."""
    return "_".join(name.lower().replace("-", " ").replace("_", " ").split())


def _label_of_names(names: list[str], tables: list[Mapping[int, str]]) -> dict[str, int]:
    best_unknown = names
    for table in tables:
        label_of = {_plain(name): label for label, name in table.items()}
        unknown = [name for name in names if name not in label_of]
        if not unknown:
            return {name: label_of[name] for name in names}
        best_unknown = min(best_unknown, unknown, key=len)
    raise ValueError(
        f"No label is known for the segment {best_unknown[0]!r}: name segments as "
        "TotalSegmentator, MAISI or XraySynth does, or remove it."
    )
