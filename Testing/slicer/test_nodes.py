"""The library's types and MRML nodes: the same places, the same values, under any parents."""

import numpy as np
import pytest
import SimpleITK
import slicer
from scipy import ndimage
from XraySynthSlicer import carm, nodes
from XraySynthSlicer.drr import DrrLogic, view_of

from XraySynthLib.data import (
    ImageLandmarkSet,
    LandmarkSet,
    Provenance,
    Quantity,
    Sample,
    Volume,
    Xray,
)
from XraySynthLib.data.formats import read_volume
from XraySynthLib.data.formats.mrml import LANDMARKS
from XraySynthLib.data.sets import scene as scene_sets
from XraySynthLib.drr import materials_from_hu, project
from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm
from XraySynthLib.geometry.transforms import rotation, transform_points, translation

RAS_FROM_IJK = (
    translation([12.0, -7.0, 40.0])
    @ rotation("x", 21)
    @ rotation("z", -33)
    @ np.diag([1.5, 2.0, 2.5, 1.0])
)
TURNED = translation([30.0, 20.0, -10.0]) @ rotation("z", 40) @ rotation("y", -25)


def a_volume():
    values = np.random.default_rng(0).integers(-1000, 1500, (9, 10, 11))
    return Volume(values.astype(np.float32), RAS_FROM_IJK)


def under(scene, node, matrix):
    """Put a node under a chain of two transforms that makes `matrix`."""
    half = translation([5.0, 6.0, 7.0]) @ rotation("x", 15)
    outer = nodes.new_node(scene, "vtkMRMLLinearTransformNode", "outer")
    inner = nodes.new_node(scene, "vtkMRMLLinearTransformNode", "inner")
    outer.SetMatrixTransformToParent(nodes.vtk_matrix_of(half))
    inner.SetMatrixTransformToParent(nodes.vtk_matrix_of(np.linalg.inv(half) @ matrix))
    inner.SetAndObserveTransformNodeID(outer.GetID())
    node.SetAndObserveTransformNodeID(inner.GetID())


@pytest.fixture
def ct_node(scene):
    return nodes.new_node(scene, "vtkMRMLScalarVolumeNode", "CT")


def test_a_volume_exported_from_the_scene_is_simple_itks(scene, ct_node, tmp_path):
    volume = a_volume()
    nodes.volume_to_node(volume, ct_node)
    under(scene, ct_node, TURNED)
    nodes.write_volume_node(ct_node, tmp_path / "ct.nrrd")
    image = SimpleITK.ReadImage(str(tmp_path / "ct.nrrd"))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), volume.values_hu)
    exported = nodes.volume_from_node(ct_node)
    for ijk in ([0, 0, 0], [10, 0, 0], [0, 9, 0], [0, 0, 8], [10, 9, 8]):
        x, y, z = image.TransformIndexToPhysicalPoint(ijk)
        (point,) = transform_points(exported.ras_from_ijk, np.array([ijk]))
        np.testing.assert_allclose(point, [-x, -y, z], atol=1e-4)
    np.testing.assert_allclose(exported.ras_from_ijk, TURNED @ RAS_FROM_IJK, atol=1e-9)
    np.testing.assert_array_equal(exported.values_hu, volume.values_hu)


def test_a_volume_that_simple_itk_wrote_reads_the_same_by_slicer(scene, ct_node, tmp_path):
    image = SimpleITK.GetImageFromArray(a_volume().values_hu)
    image.SetSpacing((1.5, 2.0, 2.5))
    image.SetOrigin((3.0, -4.0, 5.0))
    turn = rotation("y", 30) @ rotation("x", 10)
    image.SetDirection(turn[:3, :3].ravel().tolist())
    path = tmp_path / "ct.nii.gz"
    SimpleITK.WriteImage(image, str(path))
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    assert storage.ReadData(ct_node)
    read, by_slicer = read_volume(path), nodes.volume_from_node(ct_node)
    np.testing.assert_array_equal(by_slicer.values_hu, np.maximum(read.values_hu, -1024))
    np.testing.assert_allclose(by_slicer.ras_from_ijk, read.ras_from_ijk, atol=1e-5)


def test_writing_to_a_node_under_a_transform_places_it_in_the_world(scene, ct_node):
    under(scene, ct_node, TURNED)
    nodes.volume_to_node(a_volume(), ct_node)
    np.testing.assert_allclose(
        nodes.volume_from_node(ct_node).ras_from_ijk, RAS_FROM_IJK, atol=1e-9
    )


def test_every_second_voxel_is_where_it_was(ct_node):
    nodes.volume_to_node(a_volume(), ct_node)
    thin = nodes.volume_from_node(ct_node, 2)
    np.testing.assert_array_equal(thin.values_hu, a_volume().values_hu[::2, ::2, ::2])
    (point,) = transform_points(thin.ras_from_ijk, np.array([[2, 1, 3]]))
    (same,) = transform_points(RAS_FROM_IJK, np.array([[4, 2, 6]]))
    np.testing.assert_allclose(point, same)


def test_a_transform_that_is_not_linear_is_refused(scene, ct_node):
    nodes.volume_to_node(a_volume(), ct_node)
    bent = nodes.new_node(scene, "vtkMRMLBSplineTransformNode", "bent")
    import vtk

    bent.SetAndObserveTransformFromParent(vtk.vtkThinPlateSplineTransform())
    ct_node.SetAndObserveTransformNodeID(bent.GetID())
    with pytest.raises(ValueError, match="not linear; harden it"):
        nodes.volume_from_node(ct_node)


def test_landmarks_keep_their_place_and_undefined_ones_stay_so(scene):
    node = nodes.new_node(scene, "vtkMRMLMarkupsFiducialNode", "points")
    under(scene, node, TURNED)
    landmarks = LandmarkSet(("a", "b", "c"), [[1, 2, 3], [np.nan] * 3, [-40, 5.5, 6]])
    nodes.landmarks_to_node(landmarks, node)
    again = nodes.landmarks_from_node(node)
    assert again.names == landmarks.names
    np.testing.assert_allclose(again.points_ras_mm, landmarks.points_ras_mm, atol=1e-9)
    local = np.zeros(3)
    node.GetNthControlPointPosition(0, local)
    np.testing.assert_allclose(transform_points(TURNED, local[None])[0], [1, 2, 3], atol=1e-9)


def test_segments_become_the_labels_of_their_names(scene):
    labels = np.zeros((8, 9, 10), np.uint8)
    labels[2:4, 2:4, 2:4], labels[5:7, 5:8, 1:9], labels[7, 8, 9] = 1, 2, 4
    segments = {1: ("hip left", (1, 0, 0)), 2: ("Hip_Right", (0, 1, 0)), 4: ("sacrum", (0, 0, 1))}
    node = nodes.new_node(scene, "vtkMRMLSegmentationNode", "labels")
    under(scene, node, TURNED)
    nodes.labels_to_node(labels, RAS_FROM_IJK, segments, node)
    assert node.GetSegmentation().GetNumberOfLayers() == 1  # one image for all
    table = {77: "hip_left", 78: "hip_right", 25: "sacrum"}
    found, ras_from_ijk = nodes.labels_from_node(node, [{1: "liver"}, table])
    assert set(np.unique(found)) == {0, 25, 77, 78}
    for old, new in ((1, 77), (2, 78), (4, 25)):
        places = [
            transform_points(matrix, np.argwhere(array == value)[:, ::-1])
            for matrix, array, value in ((RAS_FROM_IJK, labels, old), (ras_from_ijk, found, new))
        ]
        np.testing.assert_allclose(places[1], places[0], atol=1e-6)
    with pytest.raises(ValueError, match="segment 'hip_left'"):
        nodes.labels_from_node(node, [{1: "liver"}])


def test_a_segmentation_with_nothing_in_it_is_refused(scene, ct_node):
    nodes.volume_to_node(a_volume(), ct_node)
    node = nodes.new_node(scene, "vtkMRMLSegmentationNode", "labels")
    node.GetSegmentation().AddEmptySegment("sacrum", "sacrum")
    for volume in (None, ct_node):
        with pytest.raises(ValueError, match="labels is empty"):
            nodes.labels_from_node(node, [{25: "sacrum"}], volume)


@pytest.mark.parametrize("record", ["{", "[]", '{"xray": {"quantity": "display"}}'])
def test_a_damaged_record_is_named(scene, ct_node, record):
    ct_node.SetAttribute("XraySynth.record", record)
    with pytest.raises(ValueError, match=r"The record of CT, .* is damaged"):
        nodes.view_from_node(ct_node)


def test_a_segmentation_on_a_volumes_voxels(scene, ct_node):
    """Both under a rotated parent, the volume a piece of the segmentation's grid and beyond it."""
    labels = np.zeros((12, 14, 16), np.uint8)
    labels[3:6, 4:8, 5:9], labels[6:9, 4:8, 10:12] = 1, 2
    piece = RAS_FROM_IJK @ translation([1, -2, 1])
    nodes.volume_to_node(Volume(np.zeros((10, 20, 18)), piece), ct_node)
    node = nodes.new_node(scene, "vtkMRMLSegmentationNode", "labels")
    segments = {1: ("one", (1, 0, 0)), 2: ("two", (0, 1, 0))}
    nodes.labels_to_node(labels, RAS_FROM_IJK, segments, node)
    under(scene, ct_node, TURNED)
    under(scene, node, TURNED)
    found, ras_from_ijk = nodes.labels_from_node(node, [{7: "one", 8: "two"}], ct_node)
    expected = np.zeros((10, 20, 18), np.uint8)
    expected[2:5, 6:10, 4:8], expected[5:8, 6:10, 9:11] = 7, 8
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(ras_from_ijk, nodes.volume_ras_from_ijk(ct_node), atol=1e-9)


def a_sample(view):
    rows, columns = view.intrinsics.shape_px
    values = np.random.default_rng(1).random((rows, columns)).astype(np.float32)
    points_px = [[3.0, 4.0], [10.5, 20.25], [np.nan, np.nan], [99.0, 5.0]]
    landmarks = ImageLandmarkSet(
        ("a", "b", "c", "d"), points_px, [True, True, False, False], [1, 0.5, 1, 1]
    )
    xray = Xray(values, Quantity.LINE_INTEGRAL, view=view)
    return Sample("one", xray, landmarks, None, Provenance("simulated", "somebody"))


def test_an_x_ray_and_its_landmarks_come_back(scene, ct_node):
    view = view_from_carm(CArmPose(30, 20, 10, [5, 6, 7]), Intrinsics(1000, (2.0, 1.0), (40, 30)))
    points = nodes.new_node(scene, "vtkMRMLMarkupsFiducialNode", "points")
    under(scene, ct_node, TURNED)
    sample = a_sample(view)
    nodes.sample_to_node(sample, ct_node, points)
    xray = nodes.xray_from_node(ct_node)
    np.testing.assert_array_equal(xray.values, sample.xray.values)
    assert xray.quantity is Quantity.LINE_INTEGRAL
    np.testing.assert_allclose(xray.view.ras_from_camera, view.ras_from_camera, atol=1e-9)
    found = nodes.image_landmarks_from_node(points, xray.view)
    np.testing.assert_allclose(found.points_px, sample.landmarks.points_px, atol=1e-6)
    shown = [points.GetNthControlPointVisibility(index) for index in range(4)]
    assert shown == [True, True, False, False]
    assert points.GetNthControlPointDescription(1) == "confidence 0.50"
    # moved with its transform, its View goes with it
    ct_node.SetAndObserveTransformNodeID(None)
    moved = nodes.xray_from_node(ct_node).view
    np.testing.assert_allclose(TURNED @ moved.ras_from_camera, view.ras_from_camera, atol=1e-9)


def test_an_x_ray_and_its_landmarks_are_removed_together(scene, ct_node):
    """As the module Data removes an item: with what is under it."""
    view = view_from_carm(CArmPose(30, 20, 10), Intrinsics(1000, (2.0, 1.0), (40, 30)))
    points = nodes.new_node(scene, "vtkMRMLMarkupsFiducialNode", "points")
    for _ in range(2):
        nodes.sample_to_node(a_sample(view), ct_node, points)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    hierarchy.RemoveItem(hierarchy.GetItemByDataNode(ct_node))
    assert scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 0


def test_a_scene_of_such_nodes_is_a_set(scene, ct_node, tmp_path):
    view = view_from_carm(CArmPose(30, 20, 10), Intrinsics(1000, (2.0, 1.0), (40, 30)))
    points = nodes.new_node(scene, "vtkMRMLMarkupsFiducialNode", "points")
    nodes.sample_to_node(a_sample(view), ct_node, points)
    assert scene.WriteToMRB(str(tmp_path / "scene.mrb"))
    (sample,) = scene_sets.read(tmp_path / "scene.mrb")
    assert sample.key == "one"
    np.testing.assert_allclose(
        sample.landmarks.points_px, a_sample(view).landmarks.points_px, atol=1e-4
    )
    np.testing.assert_allclose(sample.xray.view.ras_from_camera, view.ras_from_camera, atol=1e-9)


class Parameters:
    """The fields that the logic reads."""

    landmarks = xray = None
    sourceToDetectorMm, sourceToIsocenterMm = 1020.0, 650.0
    detectorMm, imagePx = 300.0, 256

    def __init__(self, ct, carm_node):
        self.ct, self.carm = ct, carm_node


@pytest.mark.parametrize("angles", [(0, 0, 0), (30, 20, 10), (-70, -15, 5)])
@pytest.mark.parametrize("turned", [np.eye(4), TURNED])
def test_the_image_of_a_point_and_its_markup_agree(scene, ct_node, angles, turned):
    """For an oblique CT under rotated parents: within 0.05 px."""
    k, j, i = np.meshgrid(*[np.arange(32.0)] * 3, indexing="ij")
    bright_ijk = np.array([18.3, 13.6, 15.2])
    distance2 = (i - bright_ijk[0]) ** 2 + (j - bright_ijk[1]) ** 2 + (k - bright_ijk[2]) ** 2
    values = 200 * np.exp(-distance2 / 8)  # in water, where density is linear in HU
    nodes.volume_to_node(Volume(values, RAS_FROM_IJK), ct_node)
    under(scene, ct_node, turned)
    points = nodes.new_node(scene, "vtkMRMLMarkupsFiducialNode", "points")
    local = transform_points(RAS_FROM_IJK, bright_ijk[None])[0]
    points.AddControlPoint(*local.tolist(), "bright")
    under(scene, points, turned)  # the list moves with the CT
    carm_node = carm.new_carm(scene, transform_points(turned, local[None])[0] + [15, -10, 20])
    parameters = Parameters(ct_node, carm_node)
    parameters.landmarks = points
    logic = DrrLogic(scene)
    logic.set_angles(parameters, *angles)
    logic.preview(parameters)
    marks = parameters.xray.GetNodeReference(LANDMARKS)
    ras_from_px = nodes.volume_ras_from_ijk(parameters.xray)
    on_detector = nodes.landmarks_from_node(marks).points_ras_mm
    (column, row, off_plane), *_ = transform_points(np.linalg.inv(ras_from_px), on_detector)
    assert abs(off_plane) < 1e-6

    volume, view = nodes.volume_from_node(ct_node), view_of(parameters)
    water = Volume(np.zeros_like(values), volume.ras_from_ijk)
    images = [project(materials_from_hu(one), view).sum(axis=0) for one in (volume, water)]
    found_row, found_column = ndimage.center_of_mass(images[0] - images[1])
    assert np.hypot(found_column - column, found_row - row) < 0.05


def test_a_slice_view_shows_the_image_as_displayed(scene, ct_node):
    view = view_from_carm(CArmPose(30, 20, 10), Intrinsics(1000, (2.0, 2.0), (40, 60)))
    nodes.sample_to_node(a_sample_of(view), ct_node)
    slice_node = slicer.vtkMRMLSliceNode()
    slice_node.SetLayoutName("Red")
    slice_node = scene.AddNode(slice_node)
    slice_node.SetDimensions(300, 200, 1)
    nodes.face(slice_node, ct_node)
    ras_from_xy = nodes.matrix_of(slice_node.GetXYToRAS())
    # The window's top left corner, x 0 and y 200, is the image's: pixel -0.5, -0.5.
    (corner,) = view.detector_points_ras_mm(np.array([[-0.5, -0.5]]))
    np.testing.assert_allclose((ras_from_xy @ [0, 200, 0, 1])[:3], corner, atol=0.5)


def test_from_frame_to_frame_a_slice_view_keeps_its_zoom(scene):
    node = nodes.new_node(scene, "vtkMRMLScalarVolumeNode", "Fluoroscopy")
    slicer.util.updateVolumeFromArray(node, np.zeros((3, 40, 60)))
    node.SetSpacing(1, 1, 5)
    slice_node = slicer.vtkMRMLSliceNode()
    slice_node.SetLayoutName("Red")
    slice_node = scene.AddNode(slice_node)
    nodes.face(slice_node, node)
    slice_node.SetFieldOfView(10, 10, 1)
    slice_node.GetSliceToRAS().SetElement(0, 3, 33.0)
    nodes.face(slice_node, node, frame=2, fit=False)
    assert slice_node.GetFieldOfView()[0] == 10
    ras_from_slice = nodes.matrix_of(slice_node.GetSliceToRAS())
    np.testing.assert_allclose(ras_from_slice[:3, 3], [33, 19.5, 10])
    nodes.face(slice_node, node, frame=1)
    assert slice_node.GetFieldOfView()[0] >= 60
    ras_from_slice = nodes.matrix_of(slice_node.GetSliceToRAS())
    np.testing.assert_allclose(ras_from_slice[:3, 3], [29.5, 19.5, 5])


def a_sample_of(view):
    values = np.zeros(view.intrinsics.shape_px, np.float32)
    nowhere = ImageLandmarkSet((), np.empty((0, 2)), [], [])
    return Sample(
        "one",
        Xray(values, Quantity.DISPLAY, view=view),
        nowhere,
        None,
        Provenance("simulated", "s"),
    )
