"""Pictures for the README: the stand-in's panels, beside scenes drawn by Slicer's own renderers.

    python Testing/slicer/standin/screenshots.py [--folder FOLDER] [--only NAME ...]

Needs no display. Some minutes on two idle cores.
"""

import argparse
import importlib
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(REPOSITORY / "XraySynth")]

import application  # noqa: E402
import qt  # noqa: E402
import vtk  # noqa: E402
from PIL import Image  # noqa: E402

slicer = application.install()
MANAGERS = (
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLMarkupsDisplayableManager",
)
SHOWN_SAMPLE = 2
BONE_COLOUR = (0.93, 0.86, 0.72)


def settle():
    """Let everything that is due happen."""
    for _ in range(6):
        qt.application.processEvents()


def open_panel(name):
    """A module's parent widget and its panel."""
    module = importlib.import_module(name)
    parent = slicer.qMRMLWidget()
    parent.setLayout(qt.QVBoxLayout())
    widget = module.__dict__[f"{name}Widget"](parent)
    widget.setup()
    widget.enter()
    settle()
    return parent, widget


def wait(widget):
    """Wait for the panel's job."""
    while widget.panel.running:
        qt.application.processEvents()
        time.sleep(0.02)
    settle()


def panel_picture(parent, height_px):
    """The upper part of a panel."""
    parent.resize(430, max(900, height_px))
    parent.show()
    settle()
    image = parent.grab().toImage().convertToFormat(qt.QImage.Format_RGB888)
    rows = bytes(image.constBits())
    picture = Image.frombuffer(
        "RGB", (image.width(), image.height()), rows, "raw", "RGB", image.bytesPerLine(), 1
    )
    parent.hide()
    return picture.crop((0, 0, 430, height_px))


def scene_picture(size_px, position, focal_point, angle_deg):
    """The scene as its displayable managers draw it."""
    renderer, window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
    renderer.SetBackground(0.87, 0.90, 0.94)
    window.SetOffScreenRendering(True)
    window.SetMultiSamples(0)
    window.AddRenderer(renderer)
    window.SetSize(*size_px)
    interactor = vtk.vtkGenericRenderWindowInteractor()
    interactor.SetRenderWindow(window)
    view_node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLViewNode")
    view_node.SetLayoutName("Picture")
    group = slicer.vtkMRMLDisplayableManagerGroup()
    group.SetRenderer(renderer)
    for name in MANAGERS:
        manager = getattr(slicer, name)()
        manager.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        group.AddDisplayableManager(manager)
    group.SetMRMLDisplayableNode(view_node)
    camera = renderer.GetActiveCamera()
    camera.SetPosition(*position)
    camera.SetFocalPoint(*focal_point)
    camera.SetViewUp(0, 0, 1)
    camera.SetViewAngle(angle_deg)
    renderer.ResetCameraClippingRange()
    window.Render()
    grabbed = vtk.vtkWindowToImageFilter()
    grabbed.SetInput(window)
    grabbed.ReadFrontBufferOff()
    grabbed.Update()
    image = grabbed.GetOutput()
    slicer.mrmlScene.RemoveNode(view_node)
    rows = bytes(memoryview(image.GetPointData().GetScalars()))
    return Image.frombytes("RGB", size_px, rows).transpose(Image.Transpose.FLIP_TOP_BOTTOM)


def save_beside(panel, scene, path):
    """Save two pictures of one height side by side."""
    joined = Image.new("RGB", (panel.width + scene.width, panel.height))
    joined.paste(panel, (0, 0))
    joined.paste(scene, (panel.width, 0))
    joined.quantize(256, kmeans=2).save(path, optimize=True)


def ct_generator(folder):
    """The bones of a person, shaped by sliders."""
    parent, widget = open_panel("XraySynthCT")
    widget.ui.shapeCheck.checked = True
    widget.ui.shape1Slider.value = 1.5
    settle()
    scene = scene_picture((640, 745), (250, 850, 150), (0, 0, -20), 30)
    save_beside(panel_picture(parent, 745), scene, folder / "ct-generator.png")
    widget.cleanup()
    slicer.mrmlScene.Clear(False)


def a_person_in_a_carm():
    """A sampled person's X-ray, taken: (subject, landmarks node, parent widget, panel)."""
    from XraySynthSlicer.ct import add_person

    from XraySynthLib.anatomy.render import render_ct
    from XraySynthLib.anatomy.subject import sample_subject

    subject = sample_subject((0, 0), fat_mm=14.0, belly_mm=20.0)
    volume = render_ct(subject, (176, 112, 176), 2.2)
    ct = add_person(slicer.mrmlScene, "Person", volume, subject.landmarks)
    points = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLMarkupsFiducialNode")
    parent, widget = open_panel("XraySynthDRR")
    widget.ui.fullWhenReleasedCheck.checked = False
    widget.ui.landmarksSelector.setCurrentNode(points)
    widget.ui.ctSelector.setCurrentNode(ct)
    settle()
    wait(widget)
    return subject, points, parent, widget


def take_xray(widget, primary_deg, secondary_deg):
    """Turn the C-arm and wait for the X-ray."""
    widget.ui.primarySlider.value, widget.ui.secondarySlider.value = primary_deg, secondary_deg
    settle()
    widget.ui.applyButton.click()
    wait(widget)
    return slicer.mrmlScene.GetFirstNodeByName("X-ray")


def large_glyphs(node, colour=None, labels=False):
    """Show a list's points larger."""
    display = node.GetDisplayNode()
    display.SetPointLabelsVisibility(labels)
    display.SetUseGlyphScale(False)
    display.SetGlyphSize(14)
    if colour is not None:
        display.SetSelectedColor(*colour)


def drr_scene(folder):
    """A sampled person in a C-arm that is turned by 25 and 10 degrees."""
    from XraySynthSlicer.nodes import new_node, surface_to_node

    from XraySynthLib.anatomy import Bone
    from XraySynthLib.data.formats.mrml import LANDMARKS

    subject, points, parent, widget = a_person_in_a_carm()
    xray = take_xray(widget, 25, 10)
    for bone in Bone:
        model = new_node(slicer.mrmlScene, "vtkMRMLModelNode", bone.name)
        surface_to_node(*subject.bones.surface(bone), model)
        model.GetDisplayNode().SetColor(*BONE_COLOUR)
    large_glyphs(points, (0.9, 0.2, 0.15))
    large_glyphs(xray.GetNodeReference(LANDMARKS), (1.0, 0.8, 0.1))
    scene = scene_picture((920, 700), (-1000, -1560, 620), (60, 0, -10), 26)
    save_beside(panel_picture(parent, 700), scene, folder / "drr-scene.png")
    widget.cleanup()
    slicer.mrmlScene.Clear(False)


def landmark_detector(folder):
    """Landmarks detected in an X-ray of a sampled person, compared with where they are."""
    from XraySynthSlicer.nodes import view_from_node

    from XraySynthLib.data.formats.mrml import LANDMARKS

    _, points, _, drr = a_person_in_a_carm()
    drr.ui.showCArmCheck.checked = False
    xray = take_xray(drr, 12, 8)
    parent, widget = open_panel("XraySynthLandmarks")
    widget.ui.imageSelector.setCurrentNode(xray)
    settle()
    widget.ui.applyButton.click()
    wait(widget)
    for node in (points, xray.GetNodeReference(LANDMARKS)):
        node.GetDisplayNode().SetVisibility(False)
    large_glyphs(widget.ui.pointsSelector.currentNode(), labels=True)
    widget.ui.compareButton.click()
    settle()
    view = view_from_node(xray)
    (middle,) = view.detector_points_ras_mm(view.intrinsics.principal_point_px[None])
    viewer = middle + 0.9 * (middle - view.source_ras_mm)  # facing detector and patient
    scene = scene_picture((700, 700), viewer, middle, 26)
    save_beside(panel_picture(parent, 700), scene, folder / "landmark-detector.png")
    widget.cleanup()
    drr.cleanup()


def training_set(folder):
    """Landmarks of a sampled person, two of them still to be placed, and views about it."""
    from XraySynthSlicer.ct import add_sample_subject
    from XraySynthSlicer.nodes import landmarks_to_node, new_node, surface_to_node

    from XraySynthLib.anatomy import Bone
    from XraySynthLib.anatomy.subject import sample_subject
    from XraySynthLib.data import LandmarkSet

    subject = sample_subject((0, 0))
    ct = add_sample_subject(slicer.mrmlScene)
    slicer.mrmlScene.RemoveNode(slicer.mrmlScene.GetFirstNodeByName("XraySynth subject landmarks"))
    labels = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    labels.GetDisplayNode().SetVisibility(False)
    for bone in Bone:
        model = new_node(slicer.mrmlScene, "vtkMRMLModelNode", bone.name)
        surface_to_node(*subject.bones.surface(bone), model)
        model.GetDisplayNode().SetColor(*BONE_COLOUR)
    parent, widget = open_panel("XraySynthDataset")
    widget.ui.ctSelector.setCurrentNode(ct)
    widget.ui.labelsSelector.setCurrentNode(labels)
    widget.ui.newListButton.click()
    node = widget.ui.pointsSelector.currentNode()
    points = subject.landmarks.points_ras_mm.copy()
    points[12:] = float("nan")
    landmarks_to_node(LandmarkSet(subject.landmarks.names, points), node)
    settle()
    widget.ui.pointList.setCurrentRow(12)
    widget.ui.placeButton.checked = True
    widget.ui.sphereCheck.checked = True
    widget.ui.posesCombo.setCurrentIndex(1)
    widget.ui.outputPath.currentPath = "set"
    settle()
    large_glyphs(node, labels=True)
    scene = scene_picture((700, 1130), (-900, 1350, 430), (0, 0, -10), 33)
    save_beside(panel_picture(parent, 1130), scene, folder / "training-set.png")
    widget.cleanup()
    slicer.mrmlScene.Clear(False)


def xray_sampler(folder):
    """An X-ray of nobody with its landmarks, from a C-arm's view."""
    from XraySynthSlicer import carm
    from XraySynthSlicer.nodes import view_from_node

    from XraySynthLib.data.formats.mrml import LANDMARKS

    parent, widget = open_panel("XraySynthSampler")
    node = carm.new_carm(slicer.mrmlScene, [0.0, 0.0, 0.0])
    widget.ui.carmSelector.setCurrentNode(node)
    widget.ui.applyButton.click()
    wait(widget)
    widget.ui.imageSlider.value = SHOWN_SAMPLE
    settle()
    image = widget.logic.sampler.image_of(widget.ui.resultSelector.currentNode())
    large_glyphs(image.GetNodeReference(LANDMARKS), (1.0, 0.8, 0.1), labels=True)
    view, display = view_from_node(image), image.GetDisplayNode()
    carm.show(slicer.mrmlScene, node, 700.0, view.intrinsics)
    carm.set_visible(node, False)
    carm.part(node, carm.SCREEN).GetDisplayNode().SetVisibility(True)
    values = slicer.util.arrayFromVolume(image)[0]
    carm.put_on_screen(node, values, display.GetWindow(), display.GetLevel())
    settle()
    (middle,) = view.detector_points_ras_mm(view.intrinsics.principal_point_px[None])
    viewer = middle + 0.9 * (middle - view.source_ras_mm)
    scene = scene_picture((620, 700), viewer, middle, 26)
    save_beside(panel_picture(parent, 700), scene, folder / "xray-sampler.png")
    widget.cleanup()
    slicer.mrmlScene.Clear(False)


def main():
    """Make the pictures that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = REPOSITORY / "Resources" / "Screenshots"
    pictures = {
        "ct-generator": ct_generator,
        "drr-scene": drr_scene,
        "training-set": training_set,
        "landmark-detector": landmark_detector,
        "xray-sampler": xray_sampler,
    }
    parser.add_argument("--folder", type=Path, default=default)
    parser.add_argument("--only", nargs="+", choices=pictures, default=list(pictures))
    arguments = parser.parse_args()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        pictures[name](folder)


if __name__ == "__main__":
    main()
