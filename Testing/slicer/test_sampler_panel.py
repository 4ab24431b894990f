"""X-ray Sampler, used as a person does, with a tiny sampler that has learned nothing."""

import numpy as np
import pytest
import slicer
from XraySynthSlicer import carm
from XraySynthSlicer.nodes import is_xray, landmarks_from_node, xray_from_node

from XraySynthLib.data.formats.mrml import LANDMARKS
from XraySynthLib.data.pelvis import LANDMARK_NAMES
from XraySynthLib.geometry import CArmPose

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
SIDE_PX = 32


@pytest.fixture(scope="module")
def sampler(tmp_path_factory):
    """Folder of a sampler that is told the view."""
    from XraySynthLib.diffusion.model import SamplerConfig, save_sampler
    from XraySynthLib.diffusion.network import ConditionedVelocity, NetworkConfig
    from XraySynthLib.diffusion.plausibility import landmark_prior

    torch.manual_seed(0)
    network = NetworkConfig("view", len(LANDMARK_NAMES), side_px=SIDE_PX, channels=(8, 16))
    config = SamplerConfig("tiny", LANDMARK_NAMES, network, "display", (0.0, 1.0), ((0.0, 0.0),))
    people = np.random.default_rng(0).uniform(-80, 80, (3, len(LANDMARK_NAMES), 3))
    prior = landmark_prior(people, range(len(LANDMARK_NAMES)))
    folder = tmp_path_factory.mktemp("sampler")
    save_sampler(config, ConditionedVelocity(network), prior, folder)
    return folder


@pytest.fixture
def panel(open_panel, sampler):
    """The panel with the sampler chosen; three quick images."""
    panel = open_panel("XraySynthSampler")
    panel.ui.conditionCombo.setCurrentIndex(1)
    panel.ui.modelPath.currentPath = str(sampler)
    panel.ui.countSpin.value = 3
    panel.ui.stepsSpin.value = 1
    return panel


def sample(panel):
    """In a real child process; the volume node that shows the images."""
    panel.ui.applyButton.click()
    assert panel.ui.applyButton.text == "Cancel"
    panel.wait()
    assert "3 X-rays of no real person" in panel.ui.statusLabel.text, panel.ui.statusLabel.text
    return panel.widget.logic.sampler.image_of(panel.ui.resultSelector.currentNode())


def shown(panel, image, number):
    """(image, its landmarks) after the slider has been moved."""
    panel.ui.imageSlider.value = number
    panel.settle()
    return xray_from_node(image), landmarks_from_node(image.GetNodeReference(LANDMARKS))


def test_a_range_of_angles_as_a_sequence(panel, scene):
    panel.ui.primaryFromSpin.value, panel.ui.primaryToSpin.value = 40, 50
    image = sample(panel)
    assert is_xray(image)
    for kind in ("vtkMRMLScalarVolumeNode", "vtkMRMLMarkupsFiducialNode"):
        assert scene.GetNumberOfNodesByClass(kind) == 1
    assert panel.ui.imageSlider.maximum == 2 and panel.ui.imageSlider.value == 2
    assert "never trained" in panel.ui.statusLabel.text  # it knows AP alone
    images = []
    for number in (0, 1, 2):
        xray, points = shown(panel, image, number)
        assert xray.values.shape == (SIDE_PX, SIDE_PX)
        assert points.names == LANDMARK_NAMES
        beam = xray.view.ras_from_camera[:3, 2]
        assert 40 <= np.rad2deg(np.arctan2(-beam[0], beam[1])) <= 50
        images.append(xray.values)
    assert np.ptp([one.mean() for one in images]) > 0  # three different ones
    assert panel.widget._browser.GetSelectedItemNumber() == 2
    panel.widget._browser.SetSelectedItemNumber(0)  # by the application's own toolbar
    assert panel.ui.imageSlider.value == 0


def test_the_view_of_the_c_arm(panel, scene):
    node = carm.new_carm(scene, np.zeros(3))
    pose = CArmPose(20, 15, 5, [30, -40, 50])
    carm.set_pose(node, pose)
    panel.ui.carmSelector.setCurrentNode(node)
    assert not panel.ui.primaryFromSpin.enabled
    image = sample(panel)
    for number in (0, 2):
        view = shown(panel, image, number)[0].view
        found = carm.pose_of(node, 650.0)
        toward = found.isocenter_ras_mm - view.source_ras_mm
        assert np.linalg.norm(toward) == pytest.approx(650)
        np.testing.assert_allclose(toward / 650, view.ras_from_camera[:3, 2], atol=1e-6)
        beam = view.ras_from_camera[:3, 2]
        assert np.rad2deg(np.arctan2(-beam[0], beam[1])) == pytest.approx(20)
        assert np.rad2deg(np.arcsin(beam[2])) == pytest.approx(15)
        assert view.intrinsics.source_to_detector_mm == pytest.approx(1020)
        np.testing.assert_allclose(view.intrinsics.size_mm, 400)


def test_the_sampler_that_comes_with_xraysynth(open_panel, scene):
    """Bones of a person from a C-arm's view; nothing but the C-arm is chosen."""
    panel = open_panel("XraySynthSampler")
    panel.ui.carmSelector.setCurrentNode(carm.new_carm(scene, np.array([30.0, -40.0, 50.0])))
    panel.ui.countSpin.value = 1
    panel.ui.applyButton.click()
    panel.wait()
    assert "1 X-ray" in panel.ui.statusLabel.text, panel.ui.statusLabel.text
    assert "trained" not in panel.ui.statusLabel.text
    image = panel.widget.logic.sampler.image_of(panel.ui.resultSelector.currentNode())
    xray, points = shown(panel, image, 0)
    assert xray.view.intrinsics.size_mm == pytest.approx(298, abs=0.1)  # as in its training
    assert xray.values.shape == (128, 128) and points.names == LANDMARK_NAMES
    seen = points.seen_from(xray.view)
    assert seen.visible.sum() >= 10
    left, right = (seen.points_px[LANDMARK_NAMES.index(name), 0] for name in ("FH-l", "FH-r"))
    assert left > right + 20  # from in front


def test_no_sampler_or_none_of_that_kind(panel, tmp_path, monkeypatch):
    from XraySynthLib.workflows import sample as verb

    monkeypatch.setattr(verb, "SHIPPED", tmp_path)
    panel.ui.conditionCombo.setCurrentIndex(0)
    panel.ui.applyButton.click()
    panel.wait()
    assert "told the view alone: choose that under Condition" in panel.ui.statusLabel.text
    panel.ui.modelPath.currentPath = ""
    panel.ui.applyButton.click()
    assert not panel.widget.panel.running
    assert "choose the folder of a trained one" in panel.ui.statusLabel.text


def test_angles_the_wrong_way_round(panel):
    panel.ui.secondaryFromSpin.value, panel.ui.secondaryToSpin.value = 20, -10
    panel.ui.applyButton.click()
    assert not panel.widget.panel.running
    text = "Secondary from 20 to -10: put the smaller angle first."
    assert panel.ui.statusLabel.text == text


def test_a_closed_scene_leaves_no_word(panel, scene):
    sample(panel)
    scene.Clear(0)
    panel.settle()
    assert panel.ui.statusLabel.text == "" and panel.ui.resultSelector.currentNode() is None


def test_all_of_one_person_and_cancel(panel):
    panel.ui.onePersonCheck.checked = True
    assert not panel.ui.onePersonCheck.enabled  # told the view, it knows no person
    for condition, n_views in ((1, 1), (0, 3)):
        panel.ui.conditionCombo.setCurrentIndex(condition)
        panel.ui.applyButton.click()
        job = panel.widget.panel._job
        assert f"--views={n_views}" in job._commands[0]
        panel.ui.applyButton.click()
        assert job.state.name == "CANCELLED" and panel.ui.statusLabel.text == "Cancelled."


@pytest.fixture
def a_red_view(scene):
    """The red view's nodes: (slice node, composite node)."""
    red, composite = slicer.vtkMRMLSliceNode(), slicer.vtkMRMLSliceCompositeNode()
    for node in (red, composite):
        node.SetSingletonTag("Red")
        node.SetLayoutName("Red")
    return scene.AddNode(red), scene.AddNode(composite)


def test_a_saved_scene_is_browsed(panel, scene, tmp_path, a_red_view):
    from XraySynthSlicer.nodes import samples_to_sequence

    from XraySynthLib.data import ImageLandmarkSet, Provenance, Quantity, Sample, Xray
    from XraySynthLib.geometry import Intrinsics, view_from_carm

    view = view_from_carm(CArmPose(), Intrinsics(1000, np.full(2, 5.0), (16, 16)))
    nothing = ImageLandmarkSet((), np.empty((0, 2)), [], [])
    samples = {
        str(number): Sample(
            "x",
            Xray(np.full((16, 16), 0.1 * number), Quantity.DISPLAY, view=view),
            nothing,
            None,
            Provenance("generated", "x"),
        )
        for number in range(4)
    }
    panel.ui.resultSelector.setCurrentNode(samples_to_sequence(samples, scene, "S", ("image", "")))
    panel.ui.imageSlider.value = 1
    assert scene.WriteToMRB(str(tmp_path / "scene.mrb"))
    scene.Clear(False)
    panel.settle()
    assert not panel.ui.imageSlider.enabled
    scene.ReadFromMRB(str(tmp_path / "scene.mrb"), True)
    panel.settle()
    image = panel.widget.logic.sampler.image_of(panel.ui.resultSelector.currentNode())
    for number in (3, 0):
        assert shown(panel, image, number)[0].values.mean() == pytest.approx(0.1 * number)
    red, composite = a_red_view
    image = panel.widget.logic.sampler.image_of(panel.ui.resultSelector.currentNode())
    shown(panel, image, 2)
    assert composite.GetBackgroundVolumeID() == image.GetID()
    red.SetFieldOfView(10, 10, 1)
    shown(panel, image, 1)
    assert red.GetFieldOfView()[0] == 10  # zoomed in, one goes from image to image
    panel.widget.exit()
    composite.SetBackgroundVolumeID(None)
    shown(panel, image, 3)
    assert composite.GetBackgroundVolumeID() is None  # another module's


def test_closing_the_scene_midway(panel, scene):
    panel.ui.applyButton.click()
    job = panel.widget.panel._job
    scene.Clear(False)
    panel.settle()
    assert job.state.name == "CANCELLED"
