"""C-arm DRR, used as a person does: choose, turn, press, wait for a real child process."""

import json

import numpy as np
import pytest
import slicer
from XraySynthSlicer import carm
from XraySynthSlicer.drr import pose_of
from XraySynthSlicer.nodes import is_xray, landmarks_from_node, xray_from_node

from XraySynthLib.data.formats.mrml import LANDMARKS
from XraySynthLib.geometry import View


@pytest.fixture
def panel(open_panel, a_ct):
    """The panel with a CT and its landmarks chosen; small X-rays, taken only when asked for."""
    panel = open_panel("XraySynthDRR")
    panel.ui.fullWhenReleasedCheck.checked = False
    panel.ui.imagePxSpin.value = 128
    panel.ui.landmarksSelector.setCurrentNode(a_ct[1])
    panel.ui.ctSelector.setCurrentNode(a_ct[0])
    panel.settle()
    panel.wait()  # where the projector is not yet compiled
    return panel


def parameters_of(panel):
    return panel.widget._parameters


def test_nothing_can_be_pressed_before_a_ct_is_chosen(open_panel):
    panel = open_panel("XraySynthDRR")
    assert not panel.ui.applyButton.enabled
    assert "Choose a CT" in panel.ui.statusLabel.text


def test_choosing_a_ct_places_the_c_arm_and_shows_a_preview(panel, a_ct):
    parameters = parameters_of(panel)
    assert panel.ui.carmSelector.currentNode() is parameters.carm
    bounds = np.zeros(6)
    a_ct[0].GetRASBounds(bounds)
    middle = (bounds[::2] + bounds[1::2]) / 2
    np.testing.assert_allclose(pose_of(parameters).isocenter_ras_mm, middle, atol=1e-6)
    xray = xray_from_node(parameters.xray)
    assert xray.values.shape == (256, 256)
    assert np.ptp(xray.values) > 0.5
    screen = carm.part(parameters.carm, carm.SCREEN)
    assert screen.GetDisplayNode().GetTextureImageDataConnection() is not None


def test_sliders_turn_the_c_arm_and_the_image_follows(panel):
    parameters = parameters_of(panel)
    before = xray_from_node(parameters.xray)
    panel.ui.primarySlider.value = 30
    panel.ui.secondarySlider.value = 20
    panel.settle()
    pose = pose_of(parameters)
    np.testing.assert_allclose([pose.primary_deg, pose.secondary_deg], [30, 20], atol=1e-9)
    after = xray_from_node(parameters.xray)
    assert np.abs(after.values - before.values).mean() > 0.01
    assert np.abs(after.view.source_ras_mm - before.view.source_ras_mm).max() > 50


def test_dragging_the_node_moves_the_sliders(panel):
    from XraySynthLib.geometry import CArmPose

    parameters = parameters_of(panel)
    old = pose_of(parameters).isocenter_ras_mm
    carm.set_pose(parameters.carm, CArmPose(-25, 10, 5, old))
    panel.settle()
    sliders = (panel.ui.primarySlider, panel.ui.secondarySlider, panel.ui.rollSlider)
    np.testing.assert_allclose([slider.value for slider in sliders], [-25, 10, 5], atol=0.05)


def test_presets_and_isocentre(panel, scene):
    parameters = parameters_of(panel)
    index = panel.ui.presetCombo.findData("inlet")
    panel.ui.presetCombo.setCurrentIndex(index)
    assert pose_of(parameters).secondary_deg == pytest.approx(40)
    point = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    point.AddControlPoint(10.0, 20.0, 30.0)
    panel.ui.isocenterSelector.setCurrentNode(point)
    np.testing.assert_allclose(pose_of(parameters).isocenter_ras_mm, [10, 20, 30])
    point.SetNthControlPointPositionWorld(0, 12.0, 20.0, 30.0)  # dragged
    np.testing.assert_allclose(pose_of(parameters).isocenter_ras_mm, [12, 20, 30])
    assert pose_of(parameters).secondary_deg == pytest.approx(40)


def test_landmarks_follow_a_drag(panel, a_ct):
    parameters, points = parameters_of(panel), a_ct[1]
    marks = parameters.xray.GetNodeReference(LANDMARKS)
    before = landmarks_from_node(marks).points_ras_mm
    x, y, z = landmarks_from_node(points).points_ras_mm[0]
    points.SetNthControlPointPositionWorld(0, x + 10, y, z)
    panel.settle()
    after = landmarks_from_node(marks).points_ras_mm
    moved = np.linalg.norm(after - before, axis=1)
    assert moved[0] > 10
    np.testing.assert_allclose(moved[1:], 0, atol=1e-4)


def test_taking_an_x_ray(panel):
    """A real child process; meanwhile the event loop runs, and the button cancels."""
    parameters = parameters_of(panel)
    panel.ui.applyButton.click()
    assert panel.ui.applyButton.text == "Cancel"
    assert panel.widget.panel.running
    panel.wait()
    assert panel.ui.statusLabel.text == "Done."
    assert panel.ui.applyButton.text == "Take X-ray"
    assert xray_from_node(parameters.xray).values.shape == (128, 128)
    marks = parameters.xray.GetNodeReference(LANDMARKS)
    assert marks.GetNumberOfControlPoints() == 14


def test_full_physics_when_the_c_arm_rests(panel, monkeypatch):
    parameters = parameters_of(panel)
    panel.widget._restTimer.setInterval(20)
    panel.ui.fullWhenReleasedCheck.checked = True
    panel.ui.primarySlider.value = 15
    panel.settle()
    assert xray_from_node(parameters.xray).values.shape == (256, 256)
    while not panel.widget.panel.running:
        panel.settle()
    panel.wait()
    assert xray_from_node(parameters.xray).values.shape == (128, 128)


def test_a_sequence_of_views(panel, scene):
    panel.ui.sweepCountSpin.value = 2
    panel.ui.sequenceButton.click()
    panel.wait()
    browser = scene.GetFirstNodeByClass("vtkMRMLSequenceBrowserNode")
    images = browser.GetMasterSequenceNode()
    assert [images.GetNthIndexValue(index) for index in range(2)] == ["-45", "45"]
    poses = []
    for index in range(2):
        node = images.GetNthDataNode(index)
        assert is_xray(node)
        poses.append(
            View.from_dict(json.loads(node.GetAttribute("XraySynth.record"))["xray"]["view"])
        )
    assert (
        poses[0].source_ras_mm[0] * poses[1].source_ras_mm[0] < 0
    )  # left and right of the patient
    assert browser.GetProxyNode(images) is not None


def test_the_projector_is_compiled_by_a_child_process(panel, monkeypatch):
    parameters = parameters_of(panel)
    monkeypatch.setattr(type(panel.widget.logic.drr), "compiled", False)
    before = xray_from_node(parameters.xray).values
    panel.ui.primarySlider.value = 40
    panel.settle()
    assert panel.widget.panel.running
    panel.wait()
    assert np.abs(xray_from_node(parameters.xray).values - before).mean() > 0.01


def test_cancelling(panel):
    parameters = parameters_of(panel)
    before = parameters.xray.GetAttribute("XraySynth.record")
    panel.ui.applyButton.click()
    job = panel.widget.panel._job
    panel.ui.applyButton.click()
    assert job.state.name == "CANCELLED"
    assert panel.ui.statusLabel.text == "Cancelled."
    panel.settle()
    assert parameters.xray.GetAttribute("XraySynth.record") == before


def test_closing_the_scene_midway(panel, scene):
    panel.ui.applyButton.click()
    job = panel.widget.panel._job
    scene.Clear(False)
    panel.settle()
    assert job.state.name == "CANCELLED"
    assert panel.ui.ctSelector.currentNode() is None
    assert not panel.ui.applyButton.enabled
    kinds = ("vtkMRMLModelNode", "vtkMRMLLinearTransformNode", "vtkMRMLScalarVolumeNode")
    assert [scene.GetNumberOfNodesByClass(kind) for kind in kinds] == [0, 0, 0]


def test_saving_and_loading_the_scene(panel, scene, tmp_path):
    panel.ui.primarySlider.value = 33
    panel.ui.detectorSpin.value = 350
    panel.settle()
    path = str(tmp_path / "scene.mrb")
    assert scene.WriteToMRB(path)
    scene.Clear(False)
    panel.settle()
    assert panel.ui.detectorSpin.value == 400
    scene.ReadFromMRB(path, False)
    panel.settle()
    parameters = parameters_of(panel)
    assert panel.ui.detectorSpin.value == 350
    assert panel.ui.primarySlider.value == pytest.approx(33, abs=0.05)
    assert parameters.ct.GetName() == "Person CT"
    assert is_xray(parameters.xray)
    assert carm.part(parameters.carm, carm.BODY).GetPolyData().GetNumberOfPoints() > 100
    assert scene.GetNumberOfNodesByClass("vtkMRMLModelNode") == 3  # found again, not made twice


def test_a_ct_that_is_none_is_refused_in_one_sentence(panel, a_ct):
    slicer.util.updateVolumeFromArray(a_ct[0], np.zeros((8, 8, 8), np.float32))
    panel.ui.applyButton.click()
    panel.wait()
    text = panel.ui.statusLabel.text
    assert "HU" in text
    assert "Traceback" not in text and "\n" not in text


def test_declining_the_installation(panel, monkeypatch):
    from XraySynthSlicer import dependencies

    monkeypatch.setattr(
        dependencies, "find_spec", lambda name: None if name == "numba" else object()
    )
    panel.ui.applyButton.click()
    assert not panel.widget.panel.running
    assert "package numba" in panel.ui.statusLabel.text
    panel.ui.primarySlider.value = 12  # the preview says what it lacks
    panel.settle()
    assert "numba" in panel.ui.statusLabel.text


def test_fifty_previews_leave_nothing_behind(panel, scene):
    n_nodes = scene.GetNumberOfNodes()
    for angle in range(50):
        panel.ui.primarySlider.value = angle
        panel.settle()
    assert scene.GetNumberOfNodes() == n_nodes
