"""Training Set, used as a person does: place, fit, choose views, export."""

import json

import numpy as np
import pytest
import slicer
from XraySynthSlicer.ct import add_person
from XraySynthSlicer.dataset import FITTED, PREDICTED, SPHERE_MM, VIEWS, subject_name
from XraySynthSlicer.nodes import landmarks_from_node, landmarks_to_node, new_node

from XraySynthLib.data import LandmarkSet
from XraySynthLib.data.pelvis import LANDMARK_NAMES
from XraySynthLib.data.sets import open_set


@pytest.fixture
def panel(open_panel):
    return open_panel("XraySynthDataset")


@pytest.fixture
def a_patient(panel, a_ct, scene):
    """The panel with a small CT, its two bones and its landmarks chosen."""
    panel.ui.ctSelector.setCurrentNode(a_ct[0])
    panel.ui.pointsSelector.setCurrentNode(a_ct[1])
    panel.ui.labelsSelector.setCurrentNode(scene.GetFirstNodeByClass("vtkMRMLSegmentationNode"))
    panel.ui.imagePxSpin.value = 48
    panel.ui.viewsSpin.value = 3
    return a_ct


@pytest.fixture(scope="module")
def a_pelvis():
    from XraySynthLib.anatomy.render import render_ct
    from XraySynthLib.anatomy.subject import sample_subject

    subject = sample_subject(3)
    return render_ct(subject, (80, 60, 96), 4.0), subject.landmarks


def texts(panel):
    points = panel.ui.pointList
    return [points.item(row).text() for row in range(points.count)]


def dots(panel):
    """Points of the model that shows the views; None where there is none."""
    models = panel.widget.logic.dataset.view_models()
    found = [model.GetPolyData() for model in models if model.GetAttribute(VIEWS) == "Views"]
    return found[0].GetNumberOfPoints() if found else None


def placing(scene):
    """Whether a click would place a point, and of which list."""
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    selection = slicer.app.applicationLogic().GetSelectionNode()
    return interaction.GetCurrentInteractionMode() == interaction.Place, (
        scene.GetNodeByID(selection.GetActivePlaceNodeID() or "")
    )


def test_nothing_can_be_pressed_before_something_is_chosen(panel):
    for name in ("apply", "preview", "saveSubject", "place", "fitLabels", "fitPoints"):
        assert not getattr(panel.ui, f"{name}Button").enabled
    assert "Choose a CT" in panel.ui.statusLabel.text


def test_landmarks_are_asked_for_one_by_one_with_their_pictures(panel, scene):
    ui = panel.ui
    ui.newListButton.click()
    assert texts(panel) == [f"{name}  -  missing" for name in LANDMARK_NAMES]
    node = ui.pointsSelector.currentNode()
    node.SetNthControlPointPositionWorld(1, 80.0, 0.0, 0.0)
    seen = set()
    for row in range(14):
        ui.pointList.setCurrentRow(row)
        assert LANDMARK_NAMES[row] in ui.ruleLabel.text and len(ui.ruleLabel.text) > 20
        seen.add(bytes(ui.pictureLabel.pixmap.toImage().constBits()))
    assert len(seen) == 14  # a picture of each
    ui.pointList.setCurrentRow(0)
    ui.placeButton.click()
    assert placing(scene) == (True, node)
    assert ui.statusLabel.text == "Click where FH-l is."
    node.SetNthControlPointPositionWorld(0, -80.0, 0.0, 0.0)  # the click
    panel.settle()
    assert texts(panel)[0] == "FH-l  -  placed"
    assert ui.pointList.currentRow == 2  # the second is there already
    assert ui.statusLabel.text == "Click where GSN-l is." and placing(scene)[0]
    ui.pointList.setCurrentRow(5)  # another one first
    node.SetNthControlPointPositionWorld(5, 50.0, 0.0, 0.0)
    panel.settle()
    assert texts(panel)[5] == "IOF-r  -  placed" and ui.pointList.currentRow == 6
    ui.placeButton.click()
    assert not placing(scene)[0]
    placed = np.isfinite(landmarks_from_node(node).points_ras_mm).all(axis=1)
    assert np.flatnonzero(placed).tolist() == [0, 1, 5]


def test_the_last_landmark_ends_the_placing(panel, scene):
    panel.ui.newListButton.click()
    node = panel.ui.pointsSelector.currentNode()
    points = np.random.default_rng(0).uniform(-50, 50, (14, 3))
    points[3] = np.nan
    landmarks_to_node(LandmarkSet(LANDMARK_NAMES, points), node)
    panel.settle()
    panel.ui.pointList.setCurrentRow(3)
    panel.ui.placeButton.click()
    node.SetNthControlPointPositionWorld(3, 1.0, 2.0, 3.0)
    panel.settle()
    assert not panel.ui.placeButton.checked and not placing(scene)[0]
    assert not [text for text in texts(panel) if "missing" in text]
    panel.ui.placeButton.click()  # nothing that is placed is lost
    assert not panel.ui.placeButton.checked and "drag what is wrong" in panel.ui.statusLabel.text
    np.testing.assert_allclose(landmarks_from_node(node).points_ras_mm[3], [1, 2, 3])


def test_placing_ended_elsewhere(panel, scene):
    panel.ui.newListButton.click()
    panel.ui.placeButton.click()
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)  # Esc
    panel.settle()
    assert not panel.ui.placeButton.checked and panel.ui.statusLabel.text == ""
    panel.ui.placeButton.click()
    node = panel.ui.pointsSelector.currentNode()
    node.SetNthControlPointPositionWorld(0, 1.0, 2.0, 3.0)  # a click ends it for a moment
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)
    panel.settle()
    assert panel.ui.placeButton.checked and placing(scene)[0]
    assert panel.ui.statusLabel.text == "Click where FH-r is."


def test_sides_are_checked(panel, scene):
    points = new_node(scene, "vtkMRMLMarkupsFiducialNode", "Mine")
    points.AddControlPoint(40.0, 0.0, 0.0, "hip-l")
    points.AddControlPoint(-40.0, 0.0, 0.0, "hip-r")
    points.AddControlPoint(40.0, 0.0, 0.0, "nail")
    panel.ui.pointsSelector.setCurrentNode(points)
    assert "hip-l must lie on the patient's left" in panel.ui.sidesLabel.text
    assert panel.ui.pictureLabel.pixmap.isNull()  # of an own list there are none
    points.SetNthControlPointPositionWorld(0, -50.0, 0.0, 0.0)
    panel.settle()
    assert panel.ui.sidesLabel.text == ""
    panel.ui.fitPointsButton.click()
    assert "none of the landmarks of the shape model" in panel.ui.statusLabel.text


def test_the_others_are_predicted_from_those_placed(panel, a_pelvis, scene):
    panel.ui.newListButton.click()
    node, truth = panel.ui.pointsSelector.currentNode(), a_pelvis[1]
    for index in (0, 1, 2, 4, 9, 10, 12, 13):
        node.SetNthControlPointPositionWorld(index, *truth.points_ras_mm[index])
    panel.ui.fitPointsButton.click()
    assert panel.ui.applyButton.text == "Cancel"
    panel.wait()
    assert panel.ui.statusLabel.text.startswith("All landmarks are placed")
    found = landmarks_from_node(node).points_ras_mm
    apart_mm = np.linalg.norm(found - truth.points_ras_mm, axis=1)
    assert np.median(apart_mm[[3, 5, 6, 7, 8, 11]]) < 8 and apart_mm.max() < 20
    np.testing.assert_allclose(apart_mm[[0, 1, 2, 4, 9, 10, 12, 13]], 0, atol=1e-6)
    assert texts(panel)[3] == "GSN-r  -  predicted, look at it"
    assert node.GetNthControlPointDescription(3) == PREDICTED
    assert not node.GetNthControlPointSelected(3)  # orange
    node.GetDisplayNode().SetActiveControlPoint(3)  # dragged
    node.InvokeEvent(slicer.vtkMRMLMarkupsNode.PointEndInteractionEvent)
    assert texts(panel)[3] == "GSN-r  -  placed" and node.GetNthControlPointSelected(3)


def test_a_segmentation_places_all_of_them(panel, a_pelvis, scene):
    ct = add_person(scene, "Pelvis", *a_pelvis)
    panel.ui.ctSelector.setCurrentNode(ct)
    panel.ui.labelsSelector.setCurrentNode(scene.GetFirstNodeByClass("vtkMRMLSegmentationNode"))
    panel.ui.newListButton.click()
    node = panel.ui.pointsSelector.currentNode()
    node.SetNthControlPointPositionWorld(4, -1.0, 2.0, 3.0)
    panel.ui.fitLabelsButton.click()
    panel.wait()
    found = landmarks_from_node(node).points_ras_mm
    np.testing.assert_allclose(found[4], [-1, 2, 3], atol=1e-6)  # a person's stays
    apart_mm = np.linalg.norm(found - a_pelvis[1].points_ras_mm, axis=1)
    assert np.median(apart_mm) < 3
    assert node.GetNthControlPointDescription(0) == FITTED


def test_the_sphere_shows_the_views_that_are_exported(panel, a_patient, tmp_path):
    panel.ui.sphereCheck.checked = True
    panel.ui.limitCheck.checked = True
    panel.ui.primaryFromSpin.value, panel.ui.primaryToSpin.value = 20, 40
    panel.settle()
    n_points = dots(panel)
    places = panel.widget.logic.dataset.show_views(panel.widget._parameters)
    assert len(places) == 3 and n_points % 3 == 0
    points = landmarks_from_node(a_patient[1]).points_ras_mm
    aim = (points.min(axis=0) + points.max(axis=0)) / 2
    np.testing.assert_allclose(np.linalg.norm(places - aim, axis=1), SPHERE_MM)
    panel.ui.outputPath.currentPath = str(tmp_path / "set")
    panel.ui.applyButton.click()
    assert panel.ui.applyButton.text == "Cancel"
    panel.wait()
    assert "set is written" in panel.ui.statusLabel.text
    samples = open_set(tmp_path / "set")
    toward = [-sample.xray.view.ras_from_camera[:3, 2] for sample in samples]
    np.testing.assert_allclose(aim + SPHERE_MM * np.array(toward), places, atol=1e-3)
    sample = samples[0]
    assert sample.xray.values.shape == (48, 48)
    assert sample.landmarks.names == landmarks_from_node(a_patient[1]).names
    assert any(mask.any() for mask in sample.masks.values())
    panel.ui.viewsSpin.value = 40
    panel.settle()
    assert dots(panel) == n_points * 40 / 3
    panel.widget.exit()
    assert dots(panel) is None
    panel.widget.enter()
    panel.settle()
    assert dots(panel) is not None
    panel.ui.primaryFromSpin.value = 50
    panel.settle()
    assert "put the smaller angle first" in panel.ui.statusLabel.text


def test_the_sphere_is_not_saved_and_needs_a_place(panel, scene):
    ct = new_node(scene, "vtkMRMLScalarVolumeNode", "Empty")
    panel.ui.ctSelector.setCurrentNode(ct)
    panel.ui.sphereCheck.checked = True
    panel.settle()
    assert panel.ui.statusLabel.text == "Empty holds no voxels."
    panel.ui.ctSelector.setCurrentNode(None)
    panel.ui.newListButton.click()
    panel.settle()
    assert "place a landmark" in panel.ui.statusLabel.text
    panel.ui.pointsSelector.currentNode().SetNthControlPointPositionWorld(0, 1.0, 2.0, 3.0)
    panel.settle()
    models = panel.widget.logic.dataset.view_models()
    assert len(models) == 2
    for model in models:
        assert not model.GetSaveWithScene() and not model.GetDisplayNode().GetSaveWithScene()


def test_a_contact_sheet_of_the_first_images(panel, a_patient):
    panel.ui.viewsSpin.value = 4
    panel.ui.previewButton.click()
    panel.wait()
    assert panel.ui.statusLabel.text == "Done."
    size = panel.ui.sheetButton.iconSize
    assert (size.width(), size.height()) == (380, 253)  # three columns, two rows
    panel.ui.sheetButton.click()
    large = panel.widget._sheet
    assert large.visible and large.pixmap.width() == 1140
    picture = large.pixmap.toImage()
    third, none = (picture.pixelColor(950, 190 + 380 * row).lightness() for row in (0, 1))
    assert third > 0 == none


def test_subjects_are_kept_for_a_set_of_several(panel, a_patient, tmp_path):
    panel.ui.subjectsPath.currentPath = str(tmp_path / "people")
    panel.ui.saveSubjectButton.click()
    folder = tmp_path / "people" / subject_name(a_patient[0].GetName())
    assert {path.name for path in folder.iterdir()} == {
        "ct.nrrd",
        "labels.nrrd",
        "landmarks.mrk.json",
    }
    panel.ui.saveSubjectButton.click()
    assert "rename the CT" in panel.ui.statusLabel.text
    a_patient[0].SetName("Somebody: else/")
    panel.ui.saveSubjectButton.click()
    panel.ui.outputPath.currentPath = str(tmp_path / "set")
    panel.ui.viewsSpin.value = 1
    panel.ui.applyButton.click()
    panel.wait()
    description = json.loads((tmp_path / "set" / "set.json").read_text("utf-8"))
    names = sorted(subject["name"] for subject in description["subjects"])
    assert names == ["Person_CT", "Somebody_else"]


def test_a_subject_that_cannot_be_written_leaves_nothing(panel, a_patient, scene, tmp_path):
    segmentation = scene.GetFirstNodeByClass("vtkMRMLSegmentationNode").GetSegmentation()
    segmentation.GetNthSegment(0).SetName("something else")
    panel.ui.subjectsPath.currentPath = str(tmp_path)
    panel.ui.saveSubjectButton.click()
    assert "No label is known" in panel.ui.statusLabel.text
    assert not list(tmp_path.iterdir())


def test_subjects_of_a_folder_need_no_patient(panel, tmp_path):
    panel.ui.subjectsPath.currentPath = str(tmp_path)
    assert panel.ui.applyButton.enabled and panel.ui.statusLabel.text == ""


def test_poses_and_format_are_exported(panel, a_patient, tmp_path):
    panel.ui.outputPath.currentPath = str(tmp_path / "set")
    panel.ui.posesCombo.setCurrentIndex(2)
    panel.ui.layoutCombo.setCurrentIndex(0)
    panel.ui.seedSpin.value = 5
    panel.ui.applyButton.click()
    words = panel.widget.panel._job._commands[0]
    assert {"--poses=uniform", "--format=coco", "--seed=5", "--views=3"} <= set(words)
    panel.ui.applyButton.click()


def test_a_list_without_places_is_refused(panel, a_patient, tmp_path):
    panel.ui.newListButton.click()
    panel.ui.previewButton.click()
    assert panel.ui.statusLabel.text == "No landmark is placed: place some, or fit them."
    panel.ui.applyButton.click()
    assert panel.ui.statusLabel.text == "Choose a folder for the set."


def test_a_saved_scene_keeps_the_panel(panel, a_patient, scene, tmp_path):
    panel.ui.viewsSpin.value = 17
    panel.ui.sphereCheck.checked = True
    panel.settle()
    assert scene.WriteToMRB(str(tmp_path / "scene.mrb"))
    scene.Clear(False)
    panel.settle()
    assert panel.ui.pointsSelector.currentNode() is None and texts(panel) == []
    scene.ReadFromMRB(str(tmp_path / "scene.mrb"), True)
    panel.settle()
    assert panel.ui.viewsSpin.value == 17 and len(texts(panel)) == 14
    assert panel.ui.ctSelector.currentNode().GetName() == "Person CT"
    assert dots(panel) is not None


def test_what_the_panel_says_is_true(panel, a_patient):
    assert panel.ui.statusLabel.text == ""  # CT and landmarks are chosen
    panel.ui.pointsSelector.setCurrentNode(None)
    assert "Choose a CT" in panel.ui.statusLabel.text


def test_one_job_at_a_time_and_cancel(panel, a_patient):
    panel.ui.previewButton.click()
    job = panel.widget.panel._job
    for name in ("preview", "fitLabels", "fitPoints"):
        assert not getattr(panel.ui, f"{name}Button").enabled
    panel.ui.viewsSpin.value = 4
    assert not panel.ui.previewButton.enabled
    panel.ui.applyButton.click()
    assert job.state.name == "CANCELLED" and panel.ui.statusLabel.text == "Cancelled."
    assert panel.ui.previewButton.enabled and panel.ui.fitLabelsButton.enabled


def test_a_list_removed_during_its_fit(panel, a_patient, scene):
    panel.ui.fitPointsButton.click()
    scene.RemoveNode(a_patient[1])
    panel.wait()
    assert panel.ui.statusLabel.text == "Person landmarks is no longer in the scene."


def test_closing_the_scene_midway(panel, a_patient, scene):
    panel.ui.sphereCheck.checked = True
    panel.ui.placeButton.click()
    panel.ui.previewButton.click()
    job = panel.widget.panel._job
    scene.Clear(False)
    panel.settle()
    assert job.state.name == "CANCELLED" and not panel.ui.placeButton.checked
    assert scene.GetNumberOfNodesByClass("vtkMRMLModelNode") == 0
