"""The C-arm's node is the matrix that `project --transform` reads, and its image lies on it."""

import numpy as np
import pytest
import slicer
from XraySynthSlicer import carm, nodes

from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm
from XraySynthLib.geometry.converters.slicer import read_ras_from_carm
from XraySynthLib.geometry.transforms import rotation, transform_points, translation

POSE = CArmPose(30, 20, 10, [5.0, 6.0, 7.0])


@pytest.fixture
def node(scene):
    node = carm.new_carm(scene, np.zeros(3))
    carm.set_pose(node, POSE)
    return node


def test_golden_matrix(node):
    """Primary 30, secondary 20: the beam's direction, the frame's +A axis, written by hand."""
    carm.set_pose(node, CArmPose(30, 20))
    matrix = slicer.util.arrayFromTransformMatrix(node)
    np.testing.assert_allclose(matrix[:3, 1], [-0.469846, 0.813798, 0.342020], atol=1e-6)


@pytest.mark.parametrize("suffix", ["h5", "tfm"])
def test_a_saved_node_is_what_the_command_line_reads(node, tmp_path, suffix):
    path = tmp_path / f"carm.{suffix}"
    storage = slicer.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(path))
    assert storage.WriteData(node)
    np.testing.assert_allclose(read_ras_from_carm(path), POSE.ras_from_carm, atol=1e-9)


def test_under_a_parent_it_stands_where_it_was_put(scene, node):
    table = nodes.new_node(scene, "vtkMRMLLinearTransformNode", "table")
    turned = translation([1, 2, 3]) @ rotation("z", 50)
    table.SetMatrixTransformToParent(nodes.vtk_matrix_of(turned))
    node.SetAndObserveTransformNodeID(table.GetID())
    carm.set_pose(node, POSE)
    pose = carm.pose_of(node, 530)
    np.testing.assert_allclose(pose.ras_from_carm, POSE.ras_from_carm, atol=1e-9)


def test_a_scaled_transform_is_refused(node):
    node.SetMatrixTransformToParent(nodes.vtk_matrix_of(np.diag([1, 1, 2, 1.0])))
    with pytest.raises(ValueError, match="C-arm scales, shears"):
        carm.pose_of(node, 530)


def test_the_image_lies_on_the_detector(scene, node):
    intrinsics = Intrinsics(1000, (2.0, 1.0), (40, 30))
    carm.show(scene, node, 530, intrinsics)
    surface = carm.part(node, carm.SCREEN).GetPolyData()
    corners = np.array([surface.GetPoint(index) for index in range(4)])
    texture = [surface.GetPointData().GetTCoords().GetTuple2(index) for index in range(4)]
    view = view_from_carm(POSE, intrinsics)
    for corner, (s, t) in zip(corners, texture, strict=True):
        edge_px = np.array([[30 * s - 0.5, 40 * t - 0.5]])
        (expected,) = view.detector_points_ras_mm(edge_px)
        (found,) = transform_points(POSE.ras_from_carm, corner[None])
        np.testing.assert_allclose(found, expected, atol=1e-3)
    values = np.zeros((40, 30))
    values[0, 0] = 1
    carm.put_on_screen(node, values, 1.0, 0.5)
    display = carm.part(node, carm.SCREEN).GetDisplayNode()
    image = display.GetTextureImageDataConnection().GetProducer().GetOutputDataObject(0)
    assert image.GetDimensions() == (30, 40, 1)
    # vtkTexture puts the first value of its image at texture coordinate 0, 0
    assert image.GetScalarComponentAsFloat(0, 0, 0, 0) == 255
    assert image.GetScalarComponentAsFloat(29, 39, 0, 0) == 0


def test_the_beam_begins_at_the_source(scene, node):
    carm.show(scene, node, 530, Intrinsics())
    source = carm.part(node, carm.BEAM).GetPolyData().GetPoint(0)
    np.testing.assert_allclose(source, [0, -530, 0], atol=1e-4)
    carm.show(scene, node, 530, Intrinsics())
    assert scene.GetNumberOfNodesByClass("vtkMRMLModelNode") == 3  # drawn anew, not again


def test_what_is_under_a_c_arm_moves_with_it(scene, node):
    table = nodes.new_node(scene, "vtkMRMLLinearTransformNode", "table")
    other = nodes.new_node(scene, "vtkMRMLMarkupsFiducialNode", "points")
    assert not carm.moves(node, other)
    other.SetAndObserveTransformNodeID(table.GetID())
    assert not carm.moves(node, other)
    table.SetAndObserveTransformNodeID(node.GetID())
    assert carm.moves(node, other) and carm.moves(table, other)


def test_an_empty_detector(scene, node):
    carm.show(scene, node, 530, Intrinsics())
    display = carm.part(node, carm.SCREEN).GetDisplayNode()
    carm.put_on_screen(node, np.zeros((4, 4)), 1.0, 0.5)
    assert display.GetTextureImageDataConnection() is not None
    carm.clear_screen(node)
    assert display.GetTextureImageDataConnection() is None
