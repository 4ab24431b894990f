"""C-arm DRR, used as a person does: choose, turn, press, wait for a real child process."""

import json
import time

import numpy as np
import pytest
import qt
import slicer
from XraySynthSlicer import carm, nodes
from XraySynthSlicer.drr import pose_of, sweep, view_of
from XraySynthSlicer.nodes import is_xray, landmarks_from_node, xray_from_node

from XraySynthLib.data.formats.mrml import LANDMARKS
from XraySynthLib.geometry import CArmPose, View
from XraySynthLib.geometry.transforms import rotation, translation


@pytest.fixture
def a_red_view(scene):
    """The red slice view, 300 x 200: (slice node, its composite node)."""
    red = slicer.vtkMRMLSliceNode()
    red.SetLayoutName("Red")
    red.SetSingletonTag("Red")
    red = scene.AddNode(red)
    red.SetDimensions(300, 200, 1)
    shown = slicer.vtkMRMLSliceCompositeNode()
    shown.SetSingletonTag("Red")
    return red, scene.AddNode(shown)


@pytest.fixture
def panel(open_panel, a_ct):
    """The panel with a CT and its landmarks chosen; small X-rays, taken only when asked for."""
    panel = open_panel("XraySynthDRR")
    panel.ui.fullWhenReleasedCheck.checked = False
    panel.ui.imagePxSpin.value = 128
    panel.ui.landmarksSelector.setCurrentNode(a_ct[1])
    panel.ui.ctSelector.setCurrentNode(a_ct[0])
    wait_until(panel, lambda: parameters_of(panel).xray is not None)
    return panel


def parameters_of(panel):
    return panel.widget._parameters


def wait_until(panel, holds, timeout_s=120.0):
    started = time.monotonic()
    while not holds():
        panel.settle()
        assert time.monotonic() - started < timeout_s, panel.ui.statusLabel.text
        time.sleep(0.005)


def take(panel):
    """Take an X-ray; its node."""
    panel.ui.applyButton.click()
    panel.wait()
    return parameters_of(panel).xray


def live_of(panel):
    return carm.part(parameters_of(panel).carm, carm.LIVE)


def texture_of(panel):
    screen = carm.part(parameters_of(panel).carm, carm.SCREEN)
    return screen.GetDisplayNode().GetTextureImageDataConnection()


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
    assert texture_of(panel) is not None


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


def test_the_event_loop_turns_while_an_x_ray_is_taken(panel):
    panel.ui.applyButton.click()
    started, busy_s = time.monotonic(), 0.0
    while panel.widget.panel.running:
        before = time.monotonic()
        qt.application.processEvents()
        busy_s += time.monotonic() - before
        time.sleep(0.005)
    assert busy_s < 0.5 * (time.monotonic() - started)


def test_an_x_ray_that_was_taken_stays(panel):
    """The C-arm moves on, and another one is taken."""
    first = take(panel)
    before = xray_from_node(first)
    marks = landmarks_from_node(first.GetNodeReference(LANDMARKS)).points_ras_mm
    panel.ui.primarySlider.value = 25
    panel.settle()
    assert parameters_of(panel).xray is live_of(panel) is not first
    second = take(panel)
    assert second is not first
    after = xray_from_node(first)
    np.testing.assert_array_equal(after.values, before.values)
    np.testing.assert_array_equal(after.view.ras_from_camera, before.view.ras_from_camera)
    kept = landmarks_from_node(first.GetNodeReference(LANDMARKS)).points_ras_mm
    np.testing.assert_array_equal(kept, marks)


def test_a_ct_or_a_film_chosen_as_the_x_ray_is_refused(panel, a_ct):
    before = slicer.util.arrayFromVolume(a_ct[0]).copy()
    panel.ui.xraySelector.setCurrentNode(a_ct[0])
    assert panel.ui.statusLabel.text == "Person CT is no X-ray of XraySynth."
    assert parameters_of(panel).xray is None
    panel.ui.primarySlider.value = 20
    panel.settle()
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(a_ct[0]), before)


def test_an_x_ray_that_was_taken_is_shown_when_it_is_chosen(panel, a_red_view):
    taken = take(panel)
    for node, width_px in ((live_of(panel), 256), (taken, 128)):
        panel.ui.xraySelector.setCurrentNode(node)
        image = texture_of(panel).GetProducer().GetOutputDataObject(0)
        assert image.GetDimensions()[0] == width_px
    panel.ui.primarySlider.value = 25
    panel.settle()
    assert a_red_view[1].GetBackgroundVolumeID() == live_of(panel).GetID()
    lists = [node.GetNodeReference(LANDMARKS).GetDisplayNode() for node in (taken, live_of(panel))]
    assert [one.GetVisibility() for one in lists] == [0, 1]
    panel.ui.xraySelector.setCurrentNode(taken)
    assert a_red_view[1].GetBackgroundVolumeID() == taken.GetID()
    assert [one.GetVisibility() for one in lists] == [1, 0]
    panel.settle()
    assert parameters_of(panel).xray is taken


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
    assert parameters.xray is live_of(panel)


def test_the_button_takes_an_x_ray_while_an_automatic_one_is_made(panel):
    parameters = parameters_of(panel)
    panel.widget.onRest()
    automatic = panel.widget.panel._job
    assert panel.widget.panel.automatic and panel.ui.applyButton.text == "Take X-ray"
    panel.ui.applyButton.click()
    assert automatic.state.name == "CANCELLED" and panel.ui.applyButton.text == "Cancel"
    panel.wait()
    assert parameters.xray is not live_of(panel)


def test_a_preview_that_comes_late_leaves_the_x_ray_that_was_taken(panel, monkeypatch):
    parameters, drr = parameters_of(panel), panel.widget.logic.drr
    monkeypatch.setattr(drr, "ready", lambda ct: False)
    panel.ui.primarySlider.value = 12
    panel.ui.applyButton.click()
    panel.wait()
    taken = parameters.xray
    assert taken is not live_of(panel)
    monkeypatch.undo()
    wait_until(panel, lambda: not panel.widget._previewPending)
    assert parameters.xray is taken
    panel.ui.primarySlider.value = 13
    wait_until(panel, lambda: parameters.xray is live_of(panel))


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


def test_the_projector_is_compiled_by_a_child_process(open_panel, a_ct, monkeypatch):
    """The button does not cancel that, it takes an X-ray."""
    panel = open_panel("XraySynthDRR")
    panel.ui.fullWhenReleasedCheck.checked = False
    panel.ui.imagePxSpin.value = 64
    monkeypatch.setattr(type(panel.widget.logic.drr), "compiled", False)
    panel.ui.ctSelector.setCurrentNode(a_ct[0])
    panel.settle()
    job = panel.widget.logic.drr._compiling
    assert job.state.name == "RUNNING"
    assert "Preparing the preview" in panel.ui.statusLabel.text
    assert panel.ui.applyButton.text == "Take X-ray"
    wait_until(panel, lambda: parameters_of(panel).xray is not None)
    assert job.state.name == "DONE"
    assert xray_from_node(parameters_of(panel).xray).values.shape == (256, 256)


def test_the_preview_is_prepared_in_steps(panel, a_ct):
    """Between two of them the event loop turns."""
    slicer.util.updateVolumeFromArray(a_ct[0], slicer.util.arrayFromVolume(a_ct[0]) + 1)
    drr, n_steps = panel.widget.logic.drr, 1
    while not drr.ready(a_ct[0]):
        n_steps += 1
    assert n_steps >= 6
    panel.ui.primarySlider.value = 10
    panel.settle()
    assert "Preparing" not in panel.ui.statusLabel.text


def test_a_ct_that_moves_is_not_prepared_anew(panel, a_ct, scene):
    parameters, drr = parameters_of(panel), panel.widget.logic.drr
    prepared, before = drr._preview, xray_from_node(parameters.xray).values
    move = nodes.new_node(scene, "vtkMRMLLinearTransformNode", "move")
    a_ct[0].SetAndObserveTransformNodeID(move.GetID())
    matrix = translation([20.0, 10.0, -15.0]) @ rotation("y", 20) @ rotation("x", -10)
    move.SetMatrixTransformToParent(nodes.vtk_matrix_of(matrix))
    panel.settle()
    moved = xray_from_node(parameters.xray)
    assert drr._preview is prepared
    assert np.abs(moved.values - before).mean() > 0.01
    drr.close()  # which forgets what was prepared
    move.SetMatrixTransformToParent(nodes.vtk_matrix_of(np.eye(4)))
    for _ in range(4):  # it moves while the preview is prepared
        assert not drr.ready(a_ct[0])
    move.SetMatrixTransformToParent(nodes.vtk_matrix_of(matrix))
    while not drr.ready(a_ct[0]):
        pass
    drr.preview(parameters)
    np.testing.assert_allclose(xray_from_node(parameters.xray).values, moved.values, atol=0.03)
    move.SetMatrixTransformToParent(nodes.vtk_matrix_of(np.diag([1.0, 1.2, 1.0, 1.0])))
    assert not drr.ready(a_ct[0])  # its voxels have grown


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
    taken = xray_from_node(take(panel))
    path = str(tmp_path / "scene.mrb")
    assert scene.WriteToMRB(path)
    scene.Clear(False)
    panel.settle()
    assert panel.ui.detectorSpin.value == 400
    scene.ReadFromMRB(path, True)
    panel.settle()
    parameters = parameters_of(panel)
    wait_until(panel, lambda: live_of(panel) is not None)
    assert panel.ui.detectorSpin.value == 350
    assert panel.ui.primarySlider.value == pytest.approx(33, abs=0.05)
    assert parameters.ct.GetName() == "Person CT"
    assert is_xray(parameters.xray)
    assert carm.part(parameters.carm, carm.BODY).GetPolyData().GetNumberOfPoints() > 100
    assert scene.GetNumberOfNodesByClass("vtkMRMLModelNode") == 3  # found again, not made twice
    loaded = xray_from_node(scene.GetFirstNodeByName("X-ray"))
    np.testing.assert_array_equal(loaded.values, taken.values)
    assert loaded.view.intrinsics.shape_px == (128, 128)
    # The live X-ray and its landmarks are not kept: CT, X-ray and live one; the lists of each.
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 3
    assert scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 3
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeDisplayNode") == 3


def test_the_detector_shows_the_x_ray_of_a_scene_that_is_loaded(panel, scene, tmp_path):
    panel.ui.livePreviewCheck.checked = False
    take(panel)
    path = str(tmp_path / "scene.mrb")
    assert scene.WriteToMRB(path)
    scene.Clear(False)
    panel.settle()
    scene.ReadFromMRB(path, True)
    panel.settle()
    assert texture_of(panel) is not None
    assert live_of(panel) is None
    panel.ui.primarySlider.value = 30  # where nothing has been seen
    assert texture_of(panel) is None


def test_adding_a_scene_lets_an_x_ray_be_taken(panel, scene, tmp_path):
    path = str(tmp_path / "other.mrb")
    other = slicer.vtkMRMLScene()
    other.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "more")
    scene.AddNewNodeByClass("vtkMRMLTextNode", "more")
    assert scene.WriteToMRB(path)
    panel.ui.applyButton.click()
    job = panel.widget.panel._job
    scene.ReadFromMRB(path, False)
    panel.wait()
    assert job.state.name == "DONE"
    assert xray_from_node(parameters_of(panel).xray).values.shape == (128, 128)


def test_a_ct_that_is_none_is_refused_in_one_sentence(panel, a_ct):
    slicer.util.updateVolumeFromArray(a_ct[0], np.zeros((8, 8, 8), np.float32))
    panel.ui.applyButton.click()
    assert not panel.widget.panel.running
    text = panel.ui.statusLabel.text
    assert "Person CT" in text and "HU" in text
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


def test_another_module_is_opened(panel, scene, a_ct, a_red_view, monkeypatch):
    """Then the red view is that module's, and nothing is computed until one is back."""
    panel.widget._restTimer.setInterval(0)
    panel.ui.fullWhenReleasedCheck.checked = True
    panel.settle()
    assert panel.widget.panel.running  # by itself, at rest
    panel.widget.exit()
    assert not panel.widget.panel.running
    a_red_view[1].SetBackgroundVolumeID(a_ct[0].GetID())
    before = live_of(panel).GetAttribute("XraySynth.record")
    x, y, z = landmarks_from_node(a_ct[1]).points_ras_mm[0]
    a_ct[1].SetNthControlPointPositionWorld(0, x + 10, y, z)
    carm.set_pose(parameters_of(panel).carm, CArmPose(20, isocenter_ras_mm=[1.0, 2.0, 3.0]))
    panel.settle()
    assert panel.ui.primarySlider.value == pytest.approx(20)
    assert not panel.widget.panel.running and not panel.widget._restTimer.isActive()
    assert a_red_view[1].GetBackgroundVolumeID() == a_ct[0].GetID()
    assert live_of(panel).GetAttribute("XraySynth.record") == before
    assert texture_of(panel) is None  # the C-arm stands elsewhere
    panel.ui.fullWhenReleasedCheck.checked = False
    panel.widget.enter()
    panel.settle()
    assert live_of(panel).GetAttribute("XraySynth.record") != before
    assert a_red_view[1].GetBackgroundVolumeID() == live_of(panel).GetID()


def test_opening_the_module_again_leaves_the_x_ray_that_is_shown(panel):
    taken = take(panel)
    panel.widget.exit()
    panel.widget.enter()
    panel.settle()
    assert parameters_of(panel).xray is taken


@pytest.mark.parametrize("above", [1, 2])
def test_a_transform_of_the_ct_is_refused_as_c_arm(panel, scene, a_ct, above):
    chain = [nodes.new_node(scene, "vtkMRMLLinearTransformNode", "table") for _ in range(2)]
    chain[0].SetAndObserveTransformNodeID(chain[1].GetID())
    a_ct[0].SetAndObserveTransformNodeID(chain[0].GetID())
    before = nodes.volume_ras_from_ijk(a_ct[0])
    panel.ui.carmSelector.setCurrentNode(chain[above - 1])
    assert "Person CT is under the transform table" in panel.ui.statusLabel.text
    panel.ui.primarySlider.value = 40
    panel.ui.presetCombo.setCurrentIndex(panel.ui.presetCombo.findData("inlet"))
    panel.ui.centerOnCtButton.click()
    panel.settle()
    assert "Person CT is under the transform table" in panel.ui.statusLabel.text
    np.testing.assert_array_equal(nodes.volume_ras_from_ijk(a_ct[0]), before)
    assert carm.part(chain[above - 1], carm.BODY) is None
    panel.ui.carmSelector.setCurrentNode(None)  # a new one is made
    panel.ui.primarySlider.value = 40
    panel.settle()
    assert pose_of(parameters_of(panel)).primary_deg == pytest.approx(40)


def test_no_point_that_moves_with_the_c_arm_is_its_isocentre(panel, scene):
    point = nodes.new_node(scene, "vtkMRMLMarkupsFiducialNode", "tip")
    point.AddControlPoint(10.0, 20.0, 30.0)
    point.SetAndObserveTransformNodeID(parameters_of(panel).carm.GetID())
    before = pose_of(parameters_of(panel)).isocenter_ras_mm
    panel.ui.isocenterSelector.setCurrentNode(point)
    assert "tip is under the transform" in panel.ui.statusLabel.text
    np.testing.assert_array_equal(pose_of(parameters_of(panel)).isocenter_ras_mm, before)


def test_sliders_follow_again_after_an_error(panel):
    parameters = parameters_of(panel)
    good = slicer.util.arrayFromTransformMatrix(parameters.carm)
    slicer.util.updateTransformMatrixFromArray(parameters.carm, np.diag([1, 1, 2, 1.0]))
    for widget, value in ((panel.ui.primarySlider, 30), (panel.ui.secondarySlider, 10)):
        widget.value = value
        assert "C-arm scales, shears" in panel.ui.statusLabel.text
    panel.ui.presetCombo.setCurrentIndex(panel.ui.presetCombo.findData("pa"))
    assert panel.ui.presetCombo.currentIndex == 0
    assert "C-arm scales, shears" in panel.ui.statusLabel.text
    slicer.util.updateTransformMatrixFromArray(parameters.carm, good)
    carm.set_pose(parameters.carm, CArmPose(-25, 10, 5))
    sliders = (panel.ui.primarySlider, panel.ui.secondarySlider, panel.ui.rollSlider)
    np.testing.assert_allclose([slider.value for slider in sliders], [-25, 10, 5], atol=0.05)


def test_an_isocentre_of_any_list(panel, scene):
    """Names that stand twice do not matter; a point that is too far is said."""
    point = nodes.new_node(scene, "vtkMRMLMarkupsFiducialNode", "point")
    for position in ((0.0, 0.0, 0.0), (10.0, 20.0, 30.0), (1.0, 1.0, 1.0)):
        point.AddControlPoint(*position, "same")
    point.UnsetNthControlPointPosition(0)
    panel.ui.isocenterSelector.setCurrentNode(point)
    np.testing.assert_allclose(pose_of(parameters_of(panel)).isocenter_ras_mm, [10, 20, 30])
    point.SetNthControlPointPositionWorld(1, 1e6, 0.0, 0.0)
    assert panel.ui.statusLabel.text == "The isocentre would be over 100 m away."
    np.testing.assert_allclose(pose_of(parameters_of(panel)).isocenter_ras_mm, [10, 20, 30])


def test_centre_on_the_ct(panel, a_ct):
    parameters = parameters_of(panel)
    before = pose_of(parameters).isocenter_ras_mm
    carm.set_pose(parameters.carm, CArmPose(30, 20, 0, [500.0, 0.0, 0.0]))
    panel.ui.centerOnCtButton.click()
    pose = pose_of(parameters)
    np.testing.assert_allclose(pose.isocenter_ras_mm, before, atol=1e-9)
    np.testing.assert_allclose([pose.primary_deg, pose.secondary_deg], [30, 20])


def test_an_isocentre_beyond_the_detector_is_said(panel):
    panel.ui.sourceToIsocenterSpin.value = 1100
    said = "Source to isocentre must be less than Source to detector."
    assert panel.ui.statusLabel.text == said
    panel.ui.primarySlider.value = 5
    panel.settle()
    assert panel.ui.statusLabel.text == said
    panel.ui.sourceToDetectorSpin.value = 1400
    panel.settle()
    assert panel.ui.statusLabel.text == ""
    assert xray_from_node(live_of(panel)).view.intrinsics.source_to_detector_mm == 1400


def test_what_is_no_ct_has_no_preview(panel, a_ct):
    """An MR is refused before an X-ray is taken, and none is taken by itself."""
    panel.widget._restTimer.setInterval(0)
    panel.ui.fullWhenReleasedCheck.checked = True
    panel.wait()
    before = live_of(panel).GetAttribute("XraySynth.record")
    values = np.random.default_rng(0).integers(0, 255, (16, 16, 16)).astype(np.float32)
    slicer.util.updateVolumeFromArray(a_ct[0], values)
    panel.ui.primarySlider.value = 20
    for _ in range(20):
        panel.settle()
        time.sleep(0.01)
    assert not panel.widget.panel.running
    assert "Person CT" in panel.ui.statusLabel.text and "none below 0" in panel.ui.statusLabel.text
    assert live_of(panel).GetAttribute("XraySynth.record") == before


def test_a_ct_without_voxels(panel, scene):
    panel.ui.ctSelector.setCurrentNode(scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty"))
    assert not panel.ui.applyButton.enabled
    panel.ui.primarySlider.value = 10
    panel.settle()
    assert panel.ui.statusLabel.text == "empty holds no voxels."


def test_deleting_the_c_arm(panel, scene):
    taken, parameters = take(panel), parameters_of(panel)
    panel.ui.primarySlider.value = 20
    panel.settle()
    old = parameters.carm
    n_lists = scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode")
    scene.RemoveNode(old)
    wait_until(panel, lambda: live_of(panel) is not None)
    assert parameters.carm is not old  # a new one, as where none is chosen
    assert panel.ui.carmSelector.noneEnabled
    assert scene.GetNumberOfNodesByClass("vtkMRMLModelNode") == 3
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 3  # CT, taken, live
    assert scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == n_lists
    assert scene.IsNodePresent(taken)


def test_handles(open_panel, a_ct):
    """Ticked before there is a C-arm, and still when the panel is opened again."""
    panel = open_panel("XraySynthDRR")
    panel.ui.livePreviewCheck.checked = panel.ui.fullWhenReleasedCheck.checked = False
    panel.ui.handlesCheck.checked = True
    panel.ui.ctSelector.setCurrentNode(a_ct[0])
    display = parameters_of(panel).carm.GetDisplayNode()
    assert display.GetEditorVisibility() and display.GetEditorVisibility3D()
    again = open_panel("XraySynthDRR")
    assert again.ui.handlesCheck.checked
    again.ui.handlesCheck.checked = False
    assert not display.GetEditorVisibility()


def test_a_transform_without_a_display_node_as_c_arm(panel, scene):
    panel.ui.handlesCheck.checked = True
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "own")
    panel.ui.carmSelector.setCurrentNode(node)
    assert node.GetDisplayNode().GetEditorVisibility()


def test_show_c_arm(panel):
    parameters = parameters_of(panel)
    shown = [carm.part(parameters.carm, role).GetDisplayNode() for role in (carm.BODY, carm.BEAM)]
    panel.ui.showCArmCheck.checked = False
    assert [one.GetVisibility() for one in shown] == [0, 0]
    panel.ui.showCArmCheck.checked = True
    assert [one.GetVisibility() for one in shown] == [1, 1]


def test_the_red_view_keeps_its_zoom_and_the_image_its_window(panel, a_red_view):
    red, shown = a_red_view
    panel.ui.primarySlider.value = 10
    panel.settle()
    assert shown.GetBackgroundVolumeID() == live_of(panel).GetID()
    assert red.GetFieldOfView()[1] == pytest.approx(400)
    red.SetFieldOfView(60.0, 40.0, 1.0)
    before = xray_from_node(live_of(panel)).view
    (middle,) = before.detector_points_ras_mm(np.array([[100.0, 80.0]]))
    for axis in range(3):
        red.GetSliceToRAS().SetElement(axis, 3, middle[axis])
    red.UpdateMatrices()
    live_of(panel).GetDisplayNode().SetWindowLevel(0.3, 0.6)
    panel.ui.primarySlider.value = 35
    panel.ui.sourceToDetectorSpin.value = 1100
    panel.settle()
    assert red.GetFieldOfView()[:2] == (60.0, 40.0)
    display = live_of(panel).GetDisplayNode()
    assert (display.GetWindow(), display.GetLevel()) == (0.3, 0.6)
    view = xray_from_node(live_of(panel)).view
    red_to_ras = nodes.matrix_of(red.GetSliceToRAS())
    np.testing.assert_allclose(view.project(red_to_ras[None, :3, 3] - 1e-6), [[100, 80]], atol=1e-3)
    np.testing.assert_allclose(red_to_ras[:3, 2], view.ras_from_camera[:3, 2], atol=1e-6)
    red.GetSliceToRAS().Identity()
    panel.ui.primarySlider.value = 36
    panel.settle()
    assert red.GetFieldOfView()[1] == pytest.approx(400)


def test_a_sequence_is_not_started_while_an_x_ray_is_taken(panel):
    panel.ui.applyButton.click()
    job = panel.widget.panel._job
    panel.ui.sequenceButton.click()
    assert job.state.name == "RUNNING"
    panel.wait()
    assert job.state.name == "DONE"


def test_a_sweep_that_is_none(panel):
    panel.ui.sweepFromSpin.value = panel.ui.sweepToSpin.value = 10
    panel.ui.sequenceButton.click()
    assert not panel.widget.panel.running
    assert panel.ui.statusLabel.text == "From and To must be different angles."
    panel.ui.sweepFromSpin.value, panel.ui.sweepToSpin.value = 100, 100.1
    panel.ui.sweepCountSpin.value = 360
    assert len(sweep(parameters_of(panel))) == 360


def test_save_view(panel, tmp_path, monkeypatch):
    path = tmp_path / "view.json"
    monkeypatch.setattr(
        qt.QFileDialog, "getSaveFileName", staticmethod(lambda *_: (str(path), "JSON (*.json)"))
    )
    panel.ui.primarySlider.value = 30
    panel.ui.saveViewButton.click()
    view = View.from_json(path.read_text("utf-8"))
    assert view.intrinsics.shape_px == (128, 128)
    expected = view_of(parameters_of(panel))
    np.testing.assert_allclose(view.ras_from_camera, expected.ras_from_camera)


def test_no_file_is_left(panel):
    take(panel)
    drr = panel.widget.logic.drr
    folder = drr._path("")
    assert folder.is_dir()
    panel.close()
    assert not folder.exists()
    assert drr._folder is None
