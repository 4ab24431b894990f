"""Landmark Detector, used as a person does, with a tiny detector that has learned nothing."""

from dataclasses import replace

import numpy as np
import pytest
import slicer
from XraySynthSlicer import carm
from XraySynthSlicer.landmarks import CORRECTED, FOUND, UNSURE_COLOUR, show_detected
from XraySynthSlicer.nodes import (
    confidence_of,
    landmarks_from_node,
    landmarks_to_node,
    new_node,
    sample_to_node,
    samples_to_sequence,
    volume_from_node,
    volume_ras_from_ijk,
    vtk_matrix_of,
)

from XraySynthLib.data import ImageLandmarkSet, LandmarkSet, Provenance, Quantity, Sample, Xray
from XraySynthLib.data.formats.mrml import LANDMARKS
from XraySynthLib.data.pelvis import LANDMARK_NAMES
from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm
from XraySynthLib.geometry.transforms import rotation, transform_points, translation

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """(folder, detector): it takes half of its landmarks to be in a noisy image."""
    from XraySynthLib.detection.model import DetectorConfig, load_detector, save_detector
    from XraySynthLib.detection.network import HeatmapNetwork, NetworkConfig

    torch.manual_seed(0)
    network = NetworkConfig(len(LANDMARK_NAMES), channels=(8, 8), stride=2)
    config = DetectorConfig("tiny", LANDMARK_NAMES, 64, network)
    first, folder = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("detector")
    weights = HeatmapNetwork(network).eval()
    save_detector(config, weights, first)
    confidence = load_detector(first).detect(Xray(noise(), Quantity.DISPLAY)).confidence
    calibration = replace(config.calibration, threshold=float(np.median(confidence)))
    save_detector(replace(config, calibration=calibration), weights, folder)
    return folder, load_detector(folder)


@pytest.fixture
def panel(open_panel):
    """The panel with a detector chosen, which is looked for when it is needed."""
    panel = open_panel("XraySynthLandmarks")
    panel.ui.modelPath.currentPath = "model"
    return panel


def noise(seed=0, shape=(48, 40)):
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def a_film(scene, values, name="Film"):
    """A volume under a rotated parent, oblique itself."""
    parent = new_node(scene, "vtkMRMLLinearTransformNode", "Turned")
    turned = translation([10, 20, 30]) @ rotation("x", 30) @ rotation("z", 40)
    parent.SetMatrixTransformToParent(vtk_matrix_of(turned))
    node = new_node(scene, "vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, values)
    node.SetIJKToRASMatrix(vtk_matrix_of(rotation("y", 25) @ np.diag([0.5, 0.8, 2.0, 1.0])))
    node.SetAndObserveTransformNodeID(parent.GetID())
    return node


def a_drr(scene, primary_deg=20.0, name="X-ray"):
    """An X-ray of ours with its landmarks: (volume node, landmarks node, View)."""
    view = view_from_carm(
        CArmPose(primary_deg, 10), Intrinsics(1020, np.full(2, 5.0), shape_px=(48, 40))
    )
    points = np.random.default_rng(1).uniform(-40, 40, (len(LANDMARK_NAMES), 3))
    seen = LandmarkSet(LANDMARK_NAMES, points).seen_from(view)
    xray = Xray(noise(3), Quantity.LINE_INTEGRAL, view=view)
    node = new_node(scene, "vtkMRMLScalarVolumeNode", name)
    marks = new_node(scene, "vtkMRMLMarkupsFiducialNode", f"{name} landmarks")
    sample_to_node(Sample(name, xray, seen, None, Provenance("simulated", "p")), node, marks)
    return node, marks, xray


def detect(panel, node, detector):
    """In a real child process; the list of landmarks."""
    panel.ui.modelPath.currentPath = str(detector[0])
    panel.ui.imageSelector.setCurrentNode(node)
    panel.settle()
    panel.ui.applyButton.click()
    panel.wait()
    assert "landmarks found" in panel.ui.statusLabel.text, panel.ui.statusLabel.text
    return panel.widget._parameters.points


def assert_found(points, expected, ras_from_ijk, k=0):
    """Control points lie on their pixels, in the world; what was not detected is undefined."""
    found = landmarks_from_node(points)
    assert found.names == expected.names
    defined = np.isfinite(found.points_ras_mm).all(axis=1)
    np.testing.assert_array_equal(defined, expected.visible)
    world = np.column_stack([found.points_ras_mm, np.ones(len(defined))])
    pixels = world @ np.linalg.inv(ras_from_ijk).T
    np.testing.assert_allclose(pixels[defined, :2], expected.points_px[expected.visible], atol=0.05)
    np.testing.assert_allclose(pixels[defined, 2], k, atol=1e-3)
    told = [confidence_of(points, index) for index in np.flatnonzero(defined)]
    np.testing.assert_allclose(told, expected.confidence[expected.visible], atol=0.006)


def test_a_film_of_unknown_geometry(panel, scene, detector):
    node = a_film(scene, noise(0)[None] * 4000 - 200)
    expected = detector[1].detect(Xray(noise(0), Quantity.DISPLAY))
    assert 0 < expected.visible.sum() < len(LANDMARK_NAMES)
    points = detect(panel, node, detector)
    assert_found(points, expected, volume_ras_from_ijk(node))
    assert panel.ui.pointsSelector.currentNode() is points
    for index, confidence in enumerate(expected.confidence):
        unsure = expected.visible[index] and confidence < 0.9
        assert points.GetNthControlPointSelected(index) == (not unsure)
    np.testing.assert_allclose(points.GetDisplayNode().GetColor(), UNSURE_COLOUR)


def test_a_colour_picture_of_grey(panel, scene):
    node = new_node(scene, "vtkMRMLVectorVolumeNode", "Screenshot")
    grey = np.round(noise(0) * 255).astype(np.uint8)
    colours = np.repeat(grey[None, :, :, None], 3, axis=3)
    slicer.util.updateVolumeFromArray(node, colours)
    (frame,) = panel.widget.logic.landmarks.frames(node)
    stretched = (grey - grey.min()) / np.ptp(grey)
    np.testing.assert_allclose(frame.xray.values, stretched, atol=1e-6)
    assert "vtkMRMLVectorVolumeNode" in panel.ui.imageSelector.nodeTypes
    colours[0, 3, 4, 0] ^= 1
    slicer.util.updateVolumeFromArray(node, colours)
    panel.ui.imageSelector.setCurrentNode(node)
    panel.ui.applyButton.click()
    assert "colour" in panel.ui.statusLabel.text


def test_every_frame_of_a_volume(panel, scene, detector, tmp_path):
    """Browsed, saved, loaded, browsed again; and detected again, over what was found before."""
    frames = np.stack([noise(seed) for seed in range(3)])
    node = a_film(scene, frames)
    points = detect(panel, node, detector)
    expected = [detector[1].detect(Xray(frame, Quantity.DISPLAY)) for frame in frames]

    def check():
        for frame in (2, 0, 1):
            panel.ui.frameSlider.setValue(frame)
            panel.settle()
            parameters = panel.widget._parameters
            ras_from_ijk = volume_ras_from_ijk(parameters.image)
            assert_found(parameters.points, expected[frame], ras_from_ijk, frame)

    check()
    points.SetNthControlPointPositionWorld(1, 1.0, 2.0, 3.0)
    n_nodes = scene.GetNumberOfNodes()
    assert detect(panel, node, detector) is points
    assert scene.GetNumberOfNodes() == n_nodes
    check()
    path = str(tmp_path / "scene.mrb")
    assert scene.WriteToMRB(path)
    scene.Clear(False)
    panel.settle()
    assert panel.ui.modelPath.currentPath == ""
    scene.ReadFromMRB(path, True)
    panel.settle()
    assert panel.ui.modelPath.currentPath == str(detector[0])
    parameters = panel.widget._parameters
    assert parameters.image.GetNodeReference(FOUND) is parameters.points
    check()


def test_a_fluoroscopy_run_from_dicom(panel, scene, detector, tmp_path):
    """A multi-frame XA file, as the application's own reader of scalar volumes loads it."""
    frames = np.stack([noise(seed) for seed in range(3)])
    stored = np.round(frames * 4095).astype(np.uint16)
    write_fluoroscopy(stored, tmp_path / "run.dcm")
    node = new_node(scene, "vtkMRMLScalarVolumeNode", "Run")
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(tmp_path / "run.dcm"))
    assert storage.ReadData(node)
    points = detect(panel, node, detector)
    assert panel.ui.frameSlider.maximum == 2
    shades = [(one - stored.min()) / np.ptp(stored) for one in stored]
    for frame in (1, 2, 0):
        panel.ui.frameSlider.setValue(frame)
        panel.settle()
        expected = detector[1].detect(Xray(shades[frame].astype(np.float32), Quantity.DISPLAY))
        assert_found(points, expected, volume_ras_from_ijk(node), frame)


def write_fluoroscopy(pixels, path):
    """Write (frames, rows, columns) of uint16 as a plain XA file."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, XRayAngiographicImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = XRayAngiographicImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.Modality, dataset.PatientName, dataset.PatientID = "XA", "Test", "1"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = pixels.shape
    dataset.ImagerPixelSpacing = [0.4, 0.4]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation, dataset.PixelData = 0, pixels.tobytes()
    dataset.save_as(path, enforce_file_format=True)


def test_every_item_of_a_sequence_and_corrections_stay(panel, scene, detector):
    images = new_node(scene, "vtkMRMLSequenceNode", "Run")
    node, _, _ = a_drr(scene)
    xrays = []
    for angle in (-20.0, 0.0, 30.0):
        item, marks, xray = a_drr(scene, angle, f"at {angle:g}")
        images.SetDataNodeAtValue(item, f"{angle:g}")
        xrays.append(xray)
        scene.RemoveNode(item)
        scene.RemoveNode(marks)
    browser = new_node(scene, "vtkMRMLSequenceBrowserNode", "Browser")
    browser.AddSynchronizedSequenceNodeID(images.GetID())
    browser.AddProxyNode(node, images, False)
    browser.SetSelectedItemNumber(1)
    points = detect(panel, node, detector)
    assert scene.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode") == 1
    assert points is not node.GetNodeReference(LANDMARKS)  # those are true ones
    for frame in (2, 0, 1):
        browser.SetSelectedItemNumber(frame)
        panel.settle()
        assert panel.ui.frameSlider.value == frame
        expected, view = detector[1].detect(xrays[frame]), xrays[frame].view
        assert_found(points, expected, volume_ras_from_ijk(node))
        on_detector = view.detector_points_ras_mm(expected.points_px)[expected.visible]
        found = landmarks_from_node(points).points_ras_mm[expected.visible]
        np.testing.assert_allclose(found, on_detector, atol=0.05 * 5)  # 0.05 px
    points.SetNthControlPointPositionWorld(0, 1.0, 2.0, 3.0)
    browser.SetSelectedItemNumber(0)
    browser.SetSelectedItemNumber(1)
    np.testing.assert_allclose(landmarks_from_node(points).points_ras_mm[0], [1, 2, 3])


def test_an_image_brings_what_is_known_of_it(panel, scene):
    node, marks, _ = a_drr(scene)
    other = a_film(scene, noise(1)[None])
    found = new_node(scene, "vtkMRMLMarkupsFiducialNode", "Found")
    node.SetNodeReferenceID(FOUND, found.GetID())
    for image, points, truth in ((node, found, marks), (other, None, None), (node, found, marks)):
        panel.ui.imageSelector.setCurrentNode(image)
        assert panel.ui.pointsSelector.currentNode() is points
        assert panel.ui.referenceSelector.currentNode() is truth
    panel.ui.referenceSelector.setCurrentNode(found)  # a person's choice stays
    panel.ui.imageSelector.setCurrentNode(other)
    assert panel.ui.referenceSelector.currentNode() is found


def test_a_dragged_point_is_told_from_a_found_one(panel, scene):
    node = a_film(scene, noise(0)[None])
    points = new_node(scene, "vtkMRMLMarkupsFiducialNode", "Found")
    found = ImageLandmarkSet(("A", "B"), [[5, 6], [7, 8]], [True, True], [0.4, 0.95])
    show_detected(found, volume_ras_from_ijk(node), points)
    assert [points.GetNthControlPointSelected(index) for index in range(2)] == [0, 1]
    panel.ui.imageSelector.setCurrentNode(node)
    panel.ui.pointsSelector.setCurrentNode(points)
    points.SetNthControlPointPositionWorld(0, 3.0, 2.0, 1.0)
    points.GetDisplayNode().SetActiveControlPoint(0)
    points.InvokeEvent(points.PointEndInteractionEvent)
    assert points.GetNthControlPointDescription(0) == CORRECTED
    assert points.GetNthControlPointSelected(0)
    assert [confidence_of(points, index) for index in range(2)] == [1, 0.95]


def test_comparing_with_points_on_the_image_and_in_the_patient(panel, scene):
    """The reference's points are 3 columns and 4 rows off, so 5 px and 25 mm."""
    node, _, xray = a_drr(scene)
    truth = np.array([[10, 10], [20, 20], [12, 30], [-30, 5.0]])
    names = tuple("ABCD")
    shape_px = xray.values.shape
    points = new_node(scene, "vtkMRMLMarkupsFiducialNode", "Found")
    on_image = xray.view.detector_points_ras_mm(truth + np.array([3, 4]))
    on_image[2] = np.nan
    on_image[3] = xray.view.detector_points_ras_mm(np.array([[5.0, 5.0]]))
    landmarks_to_node(LandmarkSet(names, on_image), points)
    on_detector = xray.view.detector_points_ras_mm(truth)
    in_patient = xray.view.source_ras_mm + 0.6 * (on_detector - xray.view.source_ras_mm)
    for place in (on_detector, in_patient):
        reference = new_node(scene, "vtkMRMLMarkupsFiducialNode", "Truth")
        landmarks_to_node(LandmarkSet(names, place), reference)
        panel.ui.imageSelector.setCurrentNode(node)
        panel.ui.pointsSelector.setCurrentNode(points)
        panel.ui.referenceSelector.setCurrentNode(reference)
        panel.ui.compareButton.click()
        text = panel.ui.statusLabel.text
        assert "2 landmarks compared, 5.0 px off on average; 25.0 mm" in text
        assert "not found: C; not in the image: D" in text
    assert scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 1
    table = scene.GetFirstNodeByClass("vtkMRMLTableNode").GetTable()
    columns = [table.GetColumnName(index) for index in range(table.GetNumberOfColumns())]
    assert columns == ["landmark", "confidence", "error px", "error mm on detector"]
    assert [table.GetColumn(0).GetValue(row) for row in range(2)] == ["A", "B"]
    np.testing.assert_allclose([table.GetColumn(3).GetValue(row) for row in range(2)], 25)
    chart = scene.GetFirstNodeByClass("vtkMRMLPlotChartNode")
    assert chart.GetNthPlotSeriesNode(0).GetYColumnName() == "error mm on detector"
    assert ImageLandmarkSet.placed(names, truth, shape_px).visible.tolist() == [1, 1, 1, 0]


def test_points_off_an_image_are_not_compared(panel, scene):
    """Where the film was taken from is not known, so points in the patient say nothing of it."""
    node = a_film(scene, noise(0)[None])
    names, off_mm = ("A", "B"), 40.0
    lists = []
    for k in (0.0, off_mm / 2):  # a slice is 2 mm
        points = transform_points(volume_ras_from_ijk(node), np.array([[5, 5, k], [9, 9, 0.0]]))
        lists.append(new_node(scene, "vtkMRMLMarkupsFiducialNode", f"{k:g}"))
        landmarks_to_node(LandmarkSet(names, points), lists[-1])
    panel.ui.imageSelector.setCurrentNode(node)
    panel.ui.pointsSelector.setCurrentNode(lists[0])
    panel.ui.referenceSelector.setCurrentNode(lists[1])
    panel.ui.compareButton.click()
    assert panel.ui.statusLabel.text.startswith("Points of 20 lie off the image (A), and")


def test_landmarks_are_those_of_their_image(panel, scene, detector, a_ct):
    """Taken anew, the X-ray has none; of a sequence that has lost an item none are shown."""
    node, _, xray = a_drr(scene)
    detect(panel, node, detector)
    panel.ui.ctSelector.setCurrentNode(a_ct[0])
    panel.ui.ctLandmarksSelector.setCurrentNode(a_ct[1])
    panel.ui.compareButton.click()
    assert "compared" in panel.ui.statusLabel.text
    slicer.util.updateVolumeFromArray(node, noise(7)[None])
    for button in (panel.ui.compareButton, panel.ui.carmButton):
        panel.widget.panel.say("")
        button.click()
        assert "were found in another image" in panel.ui.statusLabel.text
        assert not panel.widget.panel.running
    browser = samples_to_sequence(
        {
            f"{angle:g}": Sample(
                "x",
                Xray(noise(int(angle)), Quantity.DISPLAY, view=xray.view),
                ImageLandmarkSet((), np.empty((0, 2)), [], []),
                None,
                Provenance("simulated", "p"),
            )
            for angle in (10.0, 20.0, 30.0)
        },
        scene,
        "Run",
        ("primary", "deg"),
    )
    sequence = browser.GetMasterSequenceNode()
    panel.ui.imageSelector.setCurrentNode(browser.GetProxyNode(sequence))
    panel.ui.applyButton.click()
    sequence.RemoveDataNodeAtValue("10")
    panel.wait()
    assert "has changed since" in panel.ui.statusLabel.text
    assert browser.GetProxyNode(sequence).GetNodeReference(FOUND) is None


def test_lists_without_a_name_in_common(panel, scene):
    node, _, _ = a_drr(scene)
    other = new_node(scene, "vtkMRMLMarkupsFiducialNode", "Other")
    other.AddControlPoint(0.0, 0.0, 0.0, "nose")
    panel.ui.imageSelector.setCurrentNode(node)
    panel.ui.pointsSelector.setCurrentNode(other)
    panel.ui.compareButton.click()
    assert "no landmark in common" in panel.ui.statusLabel.text


@pytest.mark.parametrize("knows_its_view", [True, False])
def test_setting_the_c_arm_from_landmarks(panel, scene, a_ct, knows_its_view, monkeypatch):
    ct, ct_points = a_ct
    middle = volume_from_node(ct).ras_from_ijk[:3, :3] @ np.full(3, 23.5)
    middle = middle + volume_from_node(ct).ras_from_ijk[:3, 3]
    pose = CArmPose(25, -10, 5, middle, 650)
    view = view_from_carm(pose, Intrinsics(1100, np.full(2, 4.0), shape_px=(96, 96)))
    seen = landmarks_from_node(ct_points).seen_from(view)
    xray = Xray(noise(0, (96, 96)), Quantity.DISPLAY, view=view)
    node = new_node(scene, "vtkMRMLScalarVolumeNode", "Film")
    marks = new_node(scene, "vtkMRMLMarkupsFiducialNode", "Found")
    sample_to_node(Sample("film", xray, seen, None, Provenance("simulated", "p")), node, marks)
    if not knows_its_view:
        node.RemoveAttribute("XraySynth.record")
        panel.ui.sourceToDetectorSpin.value = 1100
    panel.ui.imageSelector.setCurrentNode(node)
    panel.ui.pointsSelector.setCurrentNode(marks)
    panel.ui.ctSelector.setCurrentNode(ct)
    panel.ui.ctLandmarksSelector.setCurrentNode(ct_points)
    panel.ui.refineCheck.checked = False
    panel.settle()
    logic = panel.widget.logic.landmarks
    registered = logic.registered
    monkeypatch.setattr(logic, "registered", lambda: (*registered()[:3], ["Odd."]))
    panel.ui.carmButton.click()
    panel.wait()
    assert "25.0 / -10.0 degrees" in panel.ui.statusLabel.text
    assert panel.ui.statusLabel.text.endswith("Doubtful: Odd.")
    from XraySynthDRR import XraySynthDRRLogic

    drr = XraySynthDRRLogic().getParameterNode()
    found = carm.pose_of(drr.carm, 650)
    np.testing.assert_allclose(found.ras_from_carm, pose.ras_from_carm, atol=0.05)
    assert (drr.sourceToDetectorMm, drr.detectorMm) == pytest.approx((1100, 384))
    assert drr.ct is ct


def test_no_detector(open_panel, scene):
    panel = open_panel("XraySynthLandmarks")
    assert not panel.ui.applyButton.enabled
    panel.ui.imageSelector.setCurrentNode(a_film(scene, noise(0)[None]))
    panel.ui.modelPath.currentPath = "/no/such/folder"
    panel.ui.applyButton.click()
    panel.wait()
    assert panel.ui.statusLabel.text == "/no/such/folder holds no landmark detector."


def test_none_chosen_where_none_is_shipped(open_panel, scene, monkeypatch, tmp_path):
    from XraySynthLib.workflows import detect as detect_verb

    monkeypatch.setattr(detect_verb, "SHIPPED_MODEL", tmp_path)
    panel = open_panel("XraySynthLandmarks")
    panel.ui.imageSelector.setCurrentNode(a_film(scene, noise(0)[None]))
    panel.ui.applyButton.click()
    assert not panel.widget.panel.running
    assert "choose the folder of a trained one" in panel.ui.statusLabel.text


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros((1, 8, 8)), "no image in it"),
        (np.linspace(-1000, 500, 512).reshape(8, 8, 8), "looks like a CT"),
    ],
)
def test_what_is_no_x_ray_is_refused_in_one_sentence(panel, scene, values, said):
    panel.ui.imageSelector.setCurrentNode(a_film(scene, values))
    panel.ui.applyButton.click()
    assert not panel.widget.panel.running
    assert said in panel.ui.statusLabel.text


def test_cancelling_and_closing_the_scene_midway(panel, scene):
    panel.ui.imageSelector.setCurrentNode(a_film(scene, noise(0)[None]))
    panel.ui.applyButton.click()
    job = panel.widget.panel._job
    panel.ui.applyButton.click()
    assert job.state.name == "CANCELLED"
    panel.ui.applyButton.click()
    job = panel.widget.panel._job
    scene.Clear(False)
    panel.settle()
    assert job.state.name == "CANCELLED"
    assert panel.ui.imageSelector.currentNode() is None
    assert scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 0


def test_removing_the_image_midway(panel, scene):
    node = a_film(scene, noise(0)[None])
    panel.ui.imageSelector.setCurrentNode(node)
    panel.ui.applyButton.click()
    job = panel.widget.panel._job
    scene.RemoveNode(node)
    panel.settle()
    assert job.state.name == "CANCELLED"
    assert scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 0
    assert not panel.ui.applyButton.enabled


def test_declining_the_installation(panel, scene, monkeypatch):
    from XraySynthSlicer import dependencies

    monkeypatch.setattr(
        dependencies, "find_spec", lambda name: None if name == "numba" else object()
    )
    panel.ui.imageSelector.setCurrentNode(a_film(scene, noise(0)[None]))
    panel.ui.applyButton.click()
    assert not panel.widget.panel.running
    assert "package numba" in panel.ui.statusLabel.text
