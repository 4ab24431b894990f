"""The scene that the demo ends with, loaded by Slicer's own library."""

import numpy as np
import pytest
from XraySynthSlicer.nodes import (
    image_landmarks_from_node,
    labels_from_node,
    landmarks_from_node,
    matrix_of,
    volume_from_node,
    xray_from_node,
)

from XraySynthLib.anatomy.tissues import SEGMENTS
from XraySynthLib.data.formats import read_sample
from XraySynthLib.data.formats.mrml import FOUND, LANDMARKS
from XraySynthLib.data.sets import open_set
from XraySynthLib.data.sets import scene as scene_sets
from XraySynthLib.geometry import Intrinsics, carm_from_view
from XraySynthLib.workflows import demo

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """The demo's folder, small and without the real CT."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "chest_ct_folder", lambda: folder)
        patch.setattr(demo, "_images", demo._subject_images)
        small = Intrinsics(demo.INTRINSICS.source_to_detector_mm, (8.0, 8.0), (50, 50))
        patch.setattr(demo, "INTRINSICS", small)
        patch.setattr(demo, "N_SUBJECTS", 1)
        patch.setattr(demo, "SUBJECT_GRID", ((40, 26, 42), 9.0))
        demo.run(demo.DemoConfig(output=folder, progress="none"))
    return folder


def named(scene, kind, name):
    nodes = scene.GetNodesByClassByName(kind, name)
    assert nodes.GetNumberOfItems() == 1, name
    return nodes.GetItemAsObject(0)


def check_networks(output, scene, landmarks):
    """The sampler's images show the subject's own landmarks; every image has those found in it."""
    sampled = list(open_set(output / demo.SAMPLED))
    assert len(sampled) == demo.N_SAMPLED
    for sample in sampled:
        xray = xray_from_node(named(scene, "vtkMRMLScalarVolumeNode", sample.key))
        np.testing.assert_allclose(xray.values, sample.xray.values)
        order = [landmarks.names.index(name) for name in sample.landmarks.names]
        places_px = xray.view.project(landmarks.points_ras_mm[order])
        np.testing.assert_allclose(sample.landmarks.points_px, places_px, atol=0.01)
    keys = [f"subject-0000-{name}" for name in demo.SUBJECT_VIEWS]
    n_found = 0
    for key in [*keys, *(sample.key for sample in sampled)]:
        node = named(scene, "vtkMRMLScalarVolumeNode", key)
        found = node.GetNodeReference(FOUND)
        assert found.GetName() == f"{key} detected"
        marks = image_landmarks_from_node(found, xray_from_node(node).view)
        assert marks.names == landmarks.names
        n_found += marks.visible.sum()
    assert n_found > 14
    assert (output / demo.NETWORKS_PICTURE).stat().st_size > 10_000


def test_everything_is_in_place(output, scene):
    assert scene.ReadFromMRB(str(output / demo.SCENE_NAME), False)
    ct = named(scene, "vtkMRMLScalarVolumeNode", "subject-0000 CT")
    volume = volume_from_node(ct)
    assert volume.values_hu.shape == (40, 26, 42) and volume.values_hu.max() > 300
    labels = named(scene, "vtkMRMLSegmentationNode", "subject-0000 labels")
    names = {label: name for label, (name, _) in SEGMENTS.items()}
    found, ras_from_ijk = labels_from_node(labels, [names], ct)
    bone = np.isin(found, range(1, 7))
    assert volume.values_hu[bone].mean() > 150 > volume.values_hu[~bone].mean()
    np.testing.assert_allclose(ras_from_ijk, volume.ras_from_ijk, atol=1e-4)
    segment = labels.GetSegmentation().GetSegment("left femur")
    np.testing.assert_allclose(segment.GetColor(), SEGMENTS[5][1])
    points = named(scene, "vtkMRMLMarkupsFiducialNode", "subject-0000 landmarks")
    landmarks = landmarks_from_node(points)
    head_ijk = np.linalg.inv(ras_from_ijk) @ [*landmarks.points_ras_mm[0], 1]
    assert landmarks.names[0] == "FH-l"
    assert found[tuple(np.rint(head_ijk[2::-1]).astype(int))] == 5  # left femur
    for name in demo.SUBJECT_VIEWS:
        key = f"subject-0000-{name}"
        sample = read_sample(output / key)
        node = named(scene, "vtkMRMLScalarVolumeNode", key)
        xray = xray_from_node(node)
        np.testing.assert_allclose(xray.values, sample.xray.values)
        np.testing.assert_allclose(xray.view.ras_from_camera, sample.xray.view.ras_from_camera)
        marks = image_landmarks_from_node(node.GetNodeReference(LANDMARKS), xray.view)
        seen = landmarks.seen_from(xray.view)
        np.testing.assert_allclose(marks.points_px, seen.points_px, atol=0.01)
        matrix = named(
            scene, "vtkMRMLLinearTransformNode", f"{key} C-arm"
        ).GetMatrixTransformToParent()
        pose = carm_from_view(xray.view, demo.SOURCE_TO_ISOCENTER_MM)
        np.testing.assert_allclose(matrix_of(matrix), pose.ras_from_carm, atol=1e-6)
    check_networks(output, scene, landmarks)
    composite = scene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
    first = f"subject-0000-{demo.SUBJECT_VIEWS[0]}"
    assert scene.GetNodeByID(composite.GetBackgroundVolumeID()).GetName() == first


def test_it_is_a_set_too(output):
    keys = [sample.key for sample in scene_sets.read(output / demo.SCENE_NAME)]
    expected = [f"subject-0000-{name}" for name in demo.SUBJECT_VIEWS]
    assert keys[:-3] == expected
    assert all(key.startswith("sampled-anatomy-0-00000") for key in keys[-3:])
