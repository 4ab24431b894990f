"""The C-arm in the scene: its transform, its model, its beam and the image on its detector.

The transform to world of the C-arm's node is `ras_from_carm`, which `project --transform` reads.
Model, beam and image are children of that node, so they move with it; it refers to them by role,
and so to its live X-ray.
"""

from typing import Any

import numpy as np
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import numpy_to_vtk

from XraySynthLib.data.formats.mrml import LANDMARKS
from XraySynthLib.geometry import CArmPose, Intrinsics, View, view_from_carm
from XraySynthSlicer.nodes import matrix_of, new_node, ras_from_local, vtk_matrix_of

BODY, BEAM, SCREEN = "XraySynth.body", "XraySynth.beam", "XraySynth.screen"
"""Roles of the C-arm's models."""
LIVE = "XraySynth.live"
"""Role of the image that follows the C-arm."""
_COLOURS = {BODY: (0.75, 0.78, 0.82), BEAM: (1.0, 0.85, 0.3), SCREEN: (1.0, 1.0, 1.0)}
_OPACITIES = {BODY: 1.0, BEAM: 0.12, SCREEN: 1.0}
_NAMES = {BODY: "C-arm model", BEAM: "C-arm beam", SCREEN: "C-arm detector"}
_TUBE_MM, _BOX_MM = 35.0, 60.0


def new_carm(scene: Any, isocenter_ras_mm: NDArray) -> Any:
    """Add a C-arm at 0/0/0 about an isocentre, to be dragged in the 3D view."""
    node = new_node(scene, "vtkMRMLLinearTransformNode", "C-arm")
    set_pose(node, CArmPose(isocenter_ras_mm=isocenter_ras_mm))
    display = node.GetDisplayNode()
    display.SetEditorScalingEnabled(False)
    display.SetEditorSliceIntersectionVisibility(False)
    return node


def pose_of(node: Any, source_to_isocenter_mm: float) -> CArmPose:
    """Angles and isocentre of a C-arm's node, under whatever parents it is.

    Raises:
        ValueError: If it is not rigid.
    """
    ras_from_carm = vtk.vtkMatrix4x4()
    if not node.GetMatrixTransformToWorld(ras_from_carm):
        raise ValueError(f"The transform {node.GetName()} must be linear to be a C-arm.")
    try:
        return CArmPose.from_matrix(matrix_of(ras_from_carm), source_to_isocenter_mm)
    except ValueError as error:
        raise ValueError(
            f"The transform {node.GetName()} scales, shears, mirrors or moves by over 100 m: a "
            "C-arm turns and moves."
        ) from error


def moves(node: Any, other: Any) -> bool:
    """Whether another node is under a C-arm's, so that it would be taken along."""
    parent = other.GetParentTransformNode()
    return parent is not None and (parent is node or parent.IsTransformNodeMyParent(node))


def set_pose(node: Any, pose: CArmPose) -> None:
    """Turn and move a C-arm's node, so that it stands right in the world."""
    parent_from_ras = np.linalg.inv(ras_from_local(node))
    node.SetMatrixTransformToParent(vtk_matrix_of(parent_from_ras @ pose.ras_from_carm))


def show(scene: Any, node: Any, source_to_isocenter_mm: float, intrinsics: Intrinsics) -> None:
    """Draw the C-arm, its beam and its detector, or draw them anew."""
    pose = CArmPose(source_to_isocenter_mm=source_to_isocenter_mm)
    view = view_from_carm(pose, intrinsics)  # as seen in the carm frame
    surfaces = {
        BODY: _body(source_to_isocenter_mm, intrinsics),
        BEAM: _beam(view),
        SCREEN: _screen(view),
    }
    for role, surface in surfaces.items():
        model = part(node, role)
        if model is None:
            model = new_node(scene, "vtkMRMLModelNode", _NAMES[role])
            model.SetAndObserveTransformNodeID(node.GetID())
            node.SetNodeReferenceID(role, model.GetID())
            display = model.GetDisplayNode()
            display.SetColor(*_COLOURS[role])
            display.SetOpacity(_OPACITIES[role])
            display.SetVisibility2D(False)
            display.SetBackfaceCulling(False)
            if role == BEAM:
                display.SetEdgeVisibility(True)
                display.SetEdgeColor(*_COLOURS[BEAM])
            if role == SCREEN:
                display.SetInterpolation(0)  # flat: the image's greys, whatever the light
                display.SetAmbient(1.0)
                display.SetDiffuse(0.0)
        model.SetAndObservePolyData(surface)


def angle_limits(parameters: Any) -> dict[str, tuple[float, float]]:
    """What a panel's four angles say of `primary_deg` and `secondary_deg`: least and greatest.

    Raises:
        ValueError: If the least is above the greatest.
    """
    primary = (parameters.primaryFromDeg, parameters.primaryToDeg)
    secondary = (parameters.secondaryFromDeg, parameters.secondaryToDeg)
    for name, (least, greatest) in (("Primary", primary), ("Secondary", secondary)):
        if least > greatest:
            raise ValueError(f"{name} from {least:g} to {greatest:g}: put the smaller angle first.")
    return {"primary_deg": primary, "secondary_deg": secondary}


def part(node: Any, role: str) -> Any:
    """A model of the C-arm, None where it is not drawn."""
    return node.GetNodeReference(role)


def set_visible(node: Any, visible: bool) -> None:
    """Show or hide C-arm and beam; the image stays."""
    for role in (BODY, BEAM):
        model = part(node, role)
        if model is not None:
            model.GetDisplayNode().SetVisibility(visible)


def set_handles(node: Any, visible: bool) -> None:
    """Show or hide what the C-arm is dragged by in the 3D view."""
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetEditorVisibility(visible)
    node.GetDisplayNode().SetEditorVisibility3D(visible)


def remove_belongings(scene: Any, node: Any) -> None:
    """Remove what a C-arm or an image of ours that is being removed would leave behind."""
    for role in (BODY, BEAM, SCREEN, LIVE, LANDMARKS):
        if (belonging := part(node, role)) is not None:
            scene.RemoveNode(belonging)


def put_on_screen(node: Any, values: NDArray, window: float, level: float) -> None:
    """Show an image on the detector.

    Args:
        node: The C-arm's.
        values: (rows, columns).
        window: Width of the grey scale.
        level: Its middle.
    """
    model = part(node, SCREEN)
    if model is None:
        return
    grey = np.clip((values - (level - window / 2)) / window, 0, 1)
    rgb = np.repeat((255 * grey).astype(np.uint8).reshape(-1, 1), 3, axis=1)
    image = vtk.vtkImageData()
    image.SetDimensions(values.shape[1], values.shape[0], 1)
    image.GetPointData().SetScalars(numpy_to_vtk(rgb, deep=True))
    texture = vtk.vtkTrivialProducer()
    texture.SetOutput(image)
    model.GetDisplayNode().SetTextureImageDataConnection(texture.GetOutputPort())


def clear_screen(node: Any) -> None:
    """Show nothing on the detector."""
    model = part(node, SCREEN)
    if model is not None:
        model.GetDisplayNode().SetTextureImageDataConnection(None)


def corners_mm(view: View) -> NDArray:
    """(4, 3) the detector's corners, RAS, mm: top left, top right, bottom right, bottom left."""
    rows, columns = view.intrinsics.shape_px
    left, top, right, bottom = -0.5, -0.5, columns - 0.5, rows - 0.5
    return view.detector_points_ras_mm(
        np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    )


def _screen(view: View) -> Any:
    """The detector, its first row of pixels at texture coordinate 0."""
    corners = corners_mm(view)
    surface = _polygons(corners, [(0, 1, 2, 3)])
    coordinates = vtk.vtkFloatArray()
    coordinates.SetName("TextureCoordinates")
    coordinates.SetNumberOfComponents(2)
    for pair in ((0, 0), (1, 0), (1, 1), (0, 1)):
        coordinates.InsertNextTuple2(*pair)
    surface.GetPointData().SetTCoords(coordinates)
    return surface


def _beam(view: View) -> Any:
    corners = corners_mm(view)
    points = np.vstack([view.source_ras_mm, corners])
    return _polygons(points, [(0, 1, 2), (0, 2, 3), (0, 3, 4), (0, 4, 1)])


def _body(source_to_isocenter_mm: float, intrinsics: Intrinsics) -> Any:
    """The C in the plane of primary rotation, the tube and the detector's housing."""
    source_a_mm = -source_to_isocenter_mm
    detector_a_mm = source_a_mm + intrinsics.source_to_detector_mm
    angles = np.deg2rad(np.linspace(-90, 90, 49))
    middle, radius = (source_a_mm + detector_a_mm) / 2, intrinsics.source_to_detector_mm / 2 + 60
    arc = np.column_stack(
        [radius * np.cos(angles), middle + radius * np.sin(angles), np.zeros(len(angles))]
    )
    line = vtk.vtkPolyData()
    points, cells = vtk.vtkPoints(), vtk.vtkCellArray()
    cells.InsertNextCell(len(arc))
    for point in arc.tolist():
        cells.InsertCellPoint(points.InsertNextPoint(point))
    line.SetPoints(points)
    line.SetLines(cells)
    tube = vtk.vtkTubeFilter()
    tube.SetInputData(line)
    tube.SetRadius(_TUBE_MM)
    tube.SetNumberOfSides(24)
    tube.CappingOn()
    width, height = intrinsics.size_mm.tolist()
    housings = (
        (0.0, source_a_mm - 80.0, 0.0, 200.0, 150.0, 200.0),
        (0.0, detector_a_mm + _BOX_MM / 2 + 2.0, 0.0, width + 40.0, _BOX_MM, height + 40.0),
    )
    joined = vtk.vtkAppendPolyData()
    joined.AddInputConnection(tube.GetOutputPort())
    for x, y, z, x_mm, y_mm, z_mm in housings:
        box = vtk.vtkCubeSource()
        box.SetCenter(x, y, z)
        box.SetXLength(x_mm)
        box.SetYLength(y_mm)
        box.SetZLength(z_mm)
        joined.AddInputConnection(box.GetOutputPort())
    joined.Update()
    return joined.GetOutput()


def _polygons(points_mm: NDArray, polygons: list[tuple[int, ...]]) -> Any:
    points, cells = vtk.vtkPoints(), vtk.vtkCellArray()
    for point in points_mm.tolist():
        points.InsertNextPoint(point)
    for polygon in polygons:
        cells.InsertNextCell(len(polygon), polygon)
    surface = vtk.vtkPolyData()
    surface.SetPoints(points)
    surface.SetPolys(cells)
    return surface
