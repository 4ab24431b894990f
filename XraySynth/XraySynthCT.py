"""CT Generator: the panel. What it does to the scene is in `XraySynthSlicer.ct`."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import qt
import slicer
import vtk
from slicer import vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class XraySynthCT(ScriptedLoadableModule):
    """What the application shows of the module."""

    def __init__(self, parent):
        super().__init__(parent)
        parent.title = _("CT Generator")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Image Synthesis")]
        parent.dependencies = []
        parent.contributors = ["The XraySynth contributors"]
        parent.helpText = _(
            "CTs of people who never were, with segmentation and landmarks: at random, shaped by "
            "sliders, or of a segmentation of your own."
        )
        parent.acknowledgementText = _(
            "Bones from the shape model of the Auckland Bioengineering Institute (MPL-2.0). "
            "Synthetic images are not for clinical use."
        )
        slicer.app.startupCompleted.connect(registerSampleData)


def registerSampleData():
    """Offer a subject in the module Sample Data; it is made on demand, without a network."""
    import SampleData

    icon = Path(__file__).with_name("Resources") / "Icons" / "XraySynthSubject.png"
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="XraySynth",
        sampleName="XraySynthSubject",
        thumbnailFileName=str(icon),
        customDownloader=makeSampleSubject,
    )


def makeSampleSubject(source):
    """Make the sample subject in the scene."""
    from XraySynthSlicer.ct import add_person, sample_person
    from XraySynthSlicer.panel import in_background

    return [add_person(slicer.mrmlScene, "XraySynth subject", *in_background(sample_person))]


class Sex(Enum):
    """Of the person."""

    FEMALE = "female"
    MALE = "male"

    def label(self):
        """What the panel calls it."""
        return {Sex.FEMALE: _("female"), Sex.MALE: _("male")}[self]


class Backend(Enum):
    """What makes the CT."""

    RENDERED = "rendered"
    DIFFUSION = "diffusion"
    MAISI = "maisi"

    def label(self):
        """What the panel calls it."""
        return {
            Backend.RENDERED: _("the shape model, no network"),
            Backend.DIFFUSION: _("a trained generator"),
            Backend.MAISI: _("MAISI, files of your own"),
        }[self]


class Preset(Enum):
    """Voxels of the CT."""

    COARSE = "coarse"
    COMPACT = "compact"
    FULL = "full"
    WIDE = "wide"
    WIDE_FULL = "wide-full"
    MAISI = "maisi"

    def label(self):
        """What the panel calls it."""
        return {
            Preset.COARSE: _("320 mm, voxels of 3.3 mm"),
            Preset.COMPACT: _("320 mm, voxels of 2.5 mm"),
            Preset.FULL: _("320 mm, voxels of 1.25 mm"),
            Preset.WIDE: _("440 x 320 x 600 mm, voxels of 2.5 mm"),
            Preset.WIDE_FULL: _("440 x 320 x 600 mm, voxels of 1.25 mm"),
            Preset.MAISI: _("384 mm, voxels of 1.5 mm (MAISI)"),
        }[self]


@parameterNodeWrapper
class XraySynthCTParameterNode:
    """What the panel says, kept in the scene."""

    labels: vtkMRMLSegmentationNode
    count: Annotated[int, WithinRange(1, 100)] = 1
    seed: Annotated[int, WithinRange(0, 999_999)] = 0
    showPreview: bool = True
    shapeAnatomy: bool = False
    sex: Sex = Sex.FEMALE
    ageYears: Annotated[float, WithinRange(18.0, 110.0)] = 50.0
    shape1: Annotated[float, WithinRange(-3.0, 3.0)] = 0.0
    shape2: Annotated[float, WithinRange(-3.0, 3.0)] = 0.0
    shape3: Annotated[float, WithinRange(-3.0, 3.0)] = 0.0
    shape4: Annotated[float, WithinRange(-3.0, 3.0)] = 0.0
    fatMm: Annotated[float, WithinRange(4.0, 90.0)] = 25.0
    bellyMm: Annotated[float, WithinRange(0.0, 150.0)] = 30.0
    tiltDeg: Annotated[float, WithinRange(-30.0, 30.0)] = 4.0
    hipFlexionDeg: Annotated[float, WithinRange(-10.0, 45.0)] = 0.0
    hipAbductionDeg: Annotated[float, WithinRange(-5.0, 35.0)] = 5.0
    hipRotationDeg: Annotated[float, WithinRange(-40.0, 40.0)] = -10.0
    backend: Backend = Backend.RENDERED
    preset: Preset = Preset.COMPACT
    model: str = ""


class XraySynthCTLogic(ScriptedLoadableModuleLogic):
    """Holds the parameters and what acts on the scene."""

    def __init__(self):
        super().__init__()
        from XraySynthSlicer.ct import CtLogic

        self.ct = CtLogic(slicer.mrmlScene)

    def getParameterNode(self):
        """The module's parameters in the scene."""
        return XraySynthCTParameterNode(super().getParameterNode())


class XraySynthCTWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self._paths = []
        self._parameters = self._guiTag = None
        self._drawn = self._hint = None
        self._previewPending = self._entered = False

    def setup(self):
        """Build the panel, once."""
        from XraySynthSlicer.panel import JobPanel

        ScriptedLoadableModuleWidget.setup(self)
        widget = slicer.util.loadUI(self.resourcePath("UI/XraySynthCT.ui"))
        self.layout.addWidget(widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = XraySynthCTLogic()
        self.panel = JobPanel(
            self.ui.applyButton,
            self.ui.progressBar,
            self.ui.statusLabel,
            self.onApply,
            self.onParameters,
        )
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndBatchProcessEvent, self.onParameters)
        self.connectParameters()

    def cleanup(self):
        """End what runs, when the module is unloaded."""
        self.panel.cancel()
        self.disconnectParameters()
        self.removeObservers()
        self.logic.ct.close()

    def enter(self):
        """Show the bones, when the module is opened."""
        self._entered = True
        self.connectParameters()
        self._drawn = self._hint = None
        self.onParameters()

    def exit(self):
        """Take the preview out of the scene, when the module is left."""
        self._entered = False
        self.logic.ct.hide_preview()

    def connectParameters(self):
        """Bind the panel to the scene's parameters."""
        from XraySynthSlicer.panel import bind_path, connect_gui

        if self._parameters is None:
            self._parameters = self.logic.getParameterNode()
            self._guiTag = connect_gui(self._parameters, self.ui)
            self._paths = [bind_path(self.ui.modelPath, self._parameters, "model")]
            modified = vtk.vtkCommand.ModifiedEvent
            self.addObserver(self._parameters, modified, self.onParameters)

    def disconnectParameters(self):
        """Let go of the scene's nodes."""
        if self._parameters is not None:
            self._parameters.disconnectGui(self._guiTag)
            for end in self._paths:
                end()
            self.removeObserver(self._parameters, vtk.vtkCommand.ModifiedEvent, self.onParameters)
        self._parameters = self._guiTag = self._drawn = None

    def onSceneStartClose(self, caller, event):
        """Undo everything before the scene goes."""
        self.panel.clear()
        self.disconnectParameters()
        self.logic.ct.close()

    def onSceneEndClose(self, caller, event):
        """Begin anew with the scene that is there now."""
        self.disconnectParameters()
        self.connectParameters()
        self.onParameters()

    def onParameters(self, caller=None, event=None):
        """Follow the panel: enable what has an effect, show the bones anew."""
        from XraySynthSlicer.ct import condition_of
        from XraySynthSlicer.dependencies import notice

        parameters = self._parameters
        if parameters is None or slicer.mrmlScene.IsBatchProcessing():  # half a scene is there
            return
        free = condition_of(parameters) is None
        self.ui.previewCheck.enabled = self.ui.shapeCheck.enabled = free
        for slider in self._anatomyWidgets():
            slider.enabled = free and parameters.shapeAnatomy
        network = parameters.backend is not Backend.RENDERED
        self.ui.labelsSelector.enabled = network
        self.ui.modelPath.enabled = network
        hint = notice(self._needs(), self.ui.applyButton.text)
        if hint != self._hint and not self.panel.running:
            self._hint = hint
            self.panel.say(hint)
        state = self._anatomy()
        if self._entered and state != self._drawn:
            self._drawn = state
            self._previewSoon()

    def onApply(self):
        """Generate."""
        from XraySynthSlicer.dependencies import ensure

        ensure(self._needs())
        self.panel.run(self.logic.ct.job(self._parameters), self._showResults)

    def _showResults(self):
        from XraySynthSlicer.panel import in_background

        self.ui.applyButton.enabled = False
        try:
            self.logic.ct.show_results(in_background)
        finally:
            self.ui.applyButton.enabled = True

    def _needs(self):
        from XraySynthSlicer.dependencies import Needs

        network = self._parameters.backend is not Backend.RENDERED
        return Needs.NETWORKS if network else Needs.PROJECTION

    def _anatomyWidgets(self):
        names = ("age", "shape1", "shape2", "shape3", "shape4", "fat", "belly", "tilt")
        names += ("flexion", "abduction", "rotation")
        return [self.ui.sexCombo, *(getattr(self.ui, f"{name}Slider") for name in names)]

    def _anatomy(self):
        """What the preview depends on."""
        from XraySynthSlicer.ct import knobs_of

        parameters = self._parameters
        knobs = tuple(knobs_of(parameters).items())
        return self._mayPreview(), parameters.seed, knobs

    def _renderPreview(self):
        """Show the bones as the sliders are; when they have moved meanwhile, once more."""
        from XraySynthSlicer.ct import knobs_of, sample_subject
        from XraySynthSlicer.panel import in_background

        drawn, parameters = self._drawn, self._parameters
        subject, said = None, self._hint
        if self._mayPreview():
            seed, knobs = (parameters.seed, 0), knobs_of(parameters)
            try:
                subject = in_background(lambda: sample_subject(seed, **knobs))
            except ValueError as error:
                said = str(error)
        self._previewPending = False
        if not self._mayPreview():
            self.logic.ct.hide_preview()
            return
        if subject is not None:
            self.logic.ct.preview(subject)
        if not self.panel.running:
            self.panel.say(said)
        if self._drawn != drawn:
            self._previewSoon()

    def _mayPreview(self):
        from XraySynthSlicer.ct import condition_of

        parameters = self._parameters
        if not self._entered or parameters is None:
            return False
        return parameters.showPreview and condition_of(parameters) is None

    def _previewSoon(self):
        if not self._previewPending:
            self._previewPending = True
            qt.QTimer.singleShot(0, self._renderPreview)


class XraySynthCTTest(ScriptedLoadableModuleTest):
    """A test to be run inside Slicer: a subject is made whole."""

    def setUp(self):
        """Start from an empty scene."""
        slicer.mrmlScene.Clear(0)

    def runTest(self):
        """Run all tests."""
        self.setUp()
        self.test_sample_subject()

    def test_sample_subject(self):
        """CT, labels and 14 landmarks are there, and every landmark is within the CT."""
        from XraySynthSlicer.nodes import landmarks_from_node, volume_from_node

        self.delayDisplay(_("Making a subject"))
        (ct,) = makeSampleSubject(None)
        points = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLMarkupsFiducialNode")
        landmarks, volume = landmarks_from_node(points), volume_from_node(ct)
        self.assertEqual(len(landmarks.names), 14)
        places = landmarks.points_ras_mm @ volume.ijk_from_ras[:3, :3].T
        places = places + volume.ijk_from_ras[:3, 3]
        self.assertTrue((places > 0).all())
        self.assertTrue((places < volume.values_hu.shape[::-1]).all())
        self.delayDisplay(_("Test passed"))
