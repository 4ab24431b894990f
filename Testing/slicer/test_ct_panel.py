"""CT Generator, used as a person does."""

import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
import slicer
import XraySynthCT
from XraySynthSlicer.nodes import landmarks_from_node, volume_from_node

from XraySynthLib.anatomy import Bone


@pytest.fixture
def panel(open_panel):
    panel = open_panel("XraySynthCT")
    panel.ui.presetCombo.setCurrentIndex(0)  # coarse
    return panel


def surfaces(panel):
    models = panel.widget.logic.ct.preview_models()
    return {
        model.GetAttribute("XraySynth.preview"): np.array(model.GetPolyData().GetBounds())
        for model in models
    }


def test_bones_are_there_at_once_and_follow_the_sliders(panel):
    before = surfaces(panel)
    assert set(before) == {bone.name for bone in Bone}
    assert before["LEFT_FEMUR"][0] < 0 < before["RIGHT_FEMUR"][1]  # the patient's left is at -R
    assert not panel.ui.shape1Slider.enabled
    panel.ui.shapeCheck.checked = True
    assert panel.ui.shape1Slider.enabled
    panel.settle()
    typical = surfaces(panel)
    panel.ui.shape1Slider.value = 2.5
    panel.settle()
    shaped = surfaces(panel)
    assert np.abs(shaped["SACRUM"] - typical["SACRUM"]).max() > 1
    panel.ui.previewCheck.checked = False
    panel.settle()
    assert not surfaces(panel)


def test_another_seed_is_another_person(panel):
    before = surfaces(panel)
    panel.ui.seedSpin.value = 1
    panel.settle()
    assert np.abs(surfaces(panel)["SACRUM"] - before["SACRUM"]).max() > 0.5


def test_generating_a_person(panel, scene):
    panel.ui.shapeCheck.checked = True
    panel.ui.ageSlider.value = 80
    panel.settle()
    bounds = surfaces(panel)
    panel.ui.applyButton.click()
    panel.wait(120)
    assert panel.ui.statusLabel.text == "Done."
    ct = scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
    volume = volume_from_node(ct)
    assert volume.values_hu.shape == (96, 96, 96)
    segmentation = scene.GetFirstNodeByClass("vtkMRMLSegmentationNode").GetSegmentation()
    assert segmentation.GetSegmentIdBySegmentName("left femur")
    landmarks = landmarks_from_node(scene.GetFirstNodeByClass("vtkMRMLMarkupsFiducialNode"))
    assert len(landmarks.names) == 14
    # the person is the one whose bones were shown
    (head,) = landmarks.points_ras_mm[[landmarks.names.index("FH-l")]]
    low, high = bounds["LEFT_FEMUR"][::2], bounds["LEFT_FEMUR"][1::2]
    assert (head > low).all() and (head < high).all()
    assert not surfaces(panel)  # the preview makes way
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(ct))
    assert hierarchy.GetItemName(folder).startswith("Person 0")


def test_knobs_that_do_not_go_together_are_refused_in_one_sentence(panel):
    panel.ui.shapeCheck.checked = True
    panel.ui.flexionSlider.value = -10
    panel.ui.tiltSlider.value = -30
    panel.settle()
    assert "must lie in -30..75" in panel.ui.statusLabel.text


def test_a_generator_that_is_not_there(panel, tmp_path):
    panel.ui.backendCombo.setCurrentIndex(1)
    panel.ui.modelPath.currentPath = str(tmp_path)
    panel.settle()
    assert panel.ui.labelsSelector.enabled
    panel.ui.applyButton.click()
    panel.wait()
    assert "no CT generator" in panel.ui.statusLabel.text


def test_a_condition_is_for_generators_alone(panel, a_ct, scene, tmp_path):
    panel.ui.shapeCheck.checked = True
    panel.ui.backendCombo.setCurrentIndex(1)
    panel.ui.modelPath.currentPath = str(tmp_path)
    panel.ui.labelsSelector.setCurrentNode(scene.GetFirstNodeByClass("vtkMRMLSegmentationNode"))
    panel.settle()
    assert not surfaces(panel)  # they would be another person's
    for name in ("shapeCheck", "shape1Slider", "previewCheck"):
        assert not getattr(panel.ui, name).enabled
    panel.ui.applyButton.click()
    assert [word for word in panel.widget.panel._job._commands[0] if "--labels" in word]
    panel.ui.applyButton.click()
    panel.ui.backendCombo.setCurrentIndex(0)
    panel.settle()
    assert surfaces(panel) and panel.ui.shape1Slider.enabled
    panel.ui.applyButton.click()
    words = panel.widget.panel._job._commands[0]
    assert not [word for word in words if "--labels" in word]
    assert [word for word in words if "--parameters" in word]


def test_the_preview_is_not_saved(panel):
    for model in panel.widget.logic.ct.preview_models():
        assert not model.GetSaveWithScene() and not model.GetDisplayNode().GetSaveWithScene()


def test_closing_the_scene_while_a_ct_is_read(panel, scene):
    panel.ui.applyButton.click()
    logic, job = panel.widget.logic.ct, panel.widget.panel._job
    while job.poll().name == "RUNNING":
        time.sleep(0.05)

    def close_and_read(read):
        scene.Clear(False)
        return read()

    panel.widget.panel._timer.stop()
    assert logic.show_results(close_and_read) == []


def test_closing_the_scene_midway(panel, scene):
    panel.ui.applyButton.click()
    job = panel.widget.panel._job
    scene.Clear(False)
    panel.settle()
    assert job.state.name == "CANCELLED"
    assert scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode") is None


def test_the_bones_return_with_another_scene(panel, scene, tmp_path):
    panel.ui.seedSpin.value = 7
    panel.settle()
    before = surfaces(panel)
    assert scene.WriteToMRB(str(tmp_path / "scene.mrb"))
    scene.Clear(False)
    panel.settle()
    assert surfaces(panel) and panel.ui.seedSpin.value == 0
    assert scene.ReadFromMRB(str(tmp_path / "scene.mrb"), True)
    panel.settle()
    assert panel.ui.seedSpin.value == 7
    np.testing.assert_allclose(surfaces(panel)["SACRUM"], before["SACRUM"])
    panel.widget.exit()
    scene.Clear(False)
    panel.settle()
    assert not surfaces(panel)


def test_adding_a_scene_lets_a_job_go_on_and_cancel_ends_it(panel, scene, tmp_path):
    other = slicer.vtkMRMLScene()
    other.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Added")
    other.SetURL(str(tmp_path / "other.mrml"))
    assert other.Commit()
    panel.ui.applyButton.click()
    job = panel.widget.panel._job
    scene.SetURL(str(tmp_path / "other.mrml"))
    assert scene.Import()
    panel.settle()
    assert scene.GetFirstNodeByName("Added")
    assert panel.widget.panel._job is job and panel.ui.applyButton.text == "Cancel"
    panel.ui.applyButton.click()
    assert job.state.name == "CANCELLED"
    assert panel.ui.applyButton.text == "Generate CT"
    assert panel.ui.statusLabel.text == "Cancelled."


def test_a_saved_scene_keeps_the_panel(panel, scene, tmp_path):
    panel.ui.shapeCheck.checked = True
    panel.ui.fatSlider.value = 40
    panel.ui.backendCombo.setCurrentIndex(1)
    panel.ui.modelPath.currentPath = "/a/model"
    assert scene.WriteToMRB(str(tmp_path / "scene.mrb"))
    scene.Clear(False)
    panel.settle()
    assert panel.ui.modelPath.currentPath == "" and not panel.ui.shapeCheck.checked
    scene.ReadFromMRB(str(tmp_path / "scene.mrb"), True)
    panel.settle()
    assert panel.ui.modelPath.currentPath == "/a/model" and panel.ui.shapeCheck.checked
    assert (panel.ui.fatSlider.value, panel.ui.backendCombo.currentIndex) == (40, 1)


def test_sample_data_offers_a_subject(scene, monkeypatch):
    offered, calls = {}, []
    logic = types.SimpleNamespace(
        registerCustomSampleDataSource=lambda **options: offered.update(options)
    )
    monkeypatch.setitem(sys.modules, "SampleData", types.SimpleNamespace(SampleDataLogic=logic))
    monkeypatch.setattr(slicer.app.startupCompleted, "connect", calls.append)
    XraySynthCT.XraySynthCT(types.SimpleNamespace())
    (register,) = calls
    register()
    assert Path(offered["thumbnailFileName"]).is_file()
    (ct,) = offered["customDownloader"](None)
    assert ct.GetName() == "XraySynth subject CT"


def test_leaving_the_module_takes_the_preview_away(panel):
    panel.widget.exit()
    assert not surfaces(panel)
    panel.widget.enter()
    panel.settle()
    assert surfaces(panel)
