"""X-ray Sampler: the panel. What it does to the scene is in `XraySynthSlicer.sampler`."""

from enum import Enum
from typing import Annotated

import slicer
import vtk
from slicer import vtkMRMLLinearTransformNode, vtkMRMLSequenceBrowserNode
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


class XraySynthSampler(ScriptedLoadableModule):
    """What the application shows of the module."""

    def __init__(self, parent):
        super().__init__(parent)
        parent.title = _("X-ray Sampler")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Image Synthesis")]
        parent.dependencies = ["XraySynthDRR"]
        parent.contributors = ["The XraySynth contributors"]
        parent.helpText = _(
            "X-rays of no real person with their landmarks, made directly by a trained network "
            "from the view of a C-arm or from a range of angles."
        )
        parent.acknowledgementText = _("Synthetic images are not for clinical use.")


class Condition(Enum):
    """What the network is told."""

    ANATOMY = "anatomy"
    VIEW = "view"

    def label(self):
        """What the panel calls it."""
        return {
            Condition.ANATOMY: _("bones of a sampled person and the view"),
            Condition.VIEW: _("the view; image and landmarks are made together"),
        }[self]


@parameterNodeWrapper
class XraySynthSamplerParameterNode:
    """What the panel says, kept in the scene."""

    carm: vtkMRMLLinearTransformNode
    result: vtkMRMLSequenceBrowserNode
    model: str = ""
    condition: Condition = Condition.ANATOMY
    primaryFromDeg: Annotated[float, WithinRange(-180.0, 180.0)] = -30.0
    primaryToDeg: Annotated[float, WithinRange(-180.0, 180.0)] = 30.0
    secondaryFromDeg: Annotated[float, WithinRange(-90.0, 90.0)] = -20.0
    secondaryToDeg: Annotated[float, WithinRange(-90.0, 90.0)] = 20.0
    count: Annotated[int, WithinRange(1, 200)] = 8
    onePerson: bool = False
    seed: Annotated[int, WithinRange(0, 999_999)] = 0
    steps: Annotated[int, WithinRange(1, 1000)] = 8
    guidance: Annotated[float, WithinRange(0.0, 20.0)] = 0.0
    showInRedView: bool = True


class XraySynthSamplerLogic(ScriptedLoadableModuleLogic):
    """Holds the parameters and what acts on the scene."""

    def __init__(self):
        super().__init__()
        from XraySynthSlicer.sampler import SamplerLogic

        self.sampler = SamplerLogic(slicer.mrmlScene)

    def getParameterNode(self):
        """The module's parameters in the scene."""
        return XraySynthSamplerParameterNode(super().getParameterNode())


class XraySynthSamplerWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self._paths = []
        self._parameters = self._guiTag = self._browser = None
        self._faced, self._entered = None, False

    def setup(self):
        """Build the panel, once."""
        from XraySynthSlicer.panel import JobPanel

        ScriptedLoadableModuleWidget.setup(self)
        widget = slicer.util.loadUI(self.resourcePath("UI/XraySynthSampler.ui"))
        self.layout.addWidget(widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = XraySynthSamplerLogic()
        self.panel = JobPanel(
            self.ui.applyButton,
            self.ui.progressBar,
            self.ui.statusLabel,
            self.onApply,
            self.onParameters,
        )
        self.ui.imageSlider.valueChanged.connect(self.onImage)
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
        self.logic.sampler.close()

    def enter(self):
        """See to the parameters, when the module is opened; say what is not installed."""
        from XraySynthSlicer.dependencies import Needs, notice

        self._entered = True
        self.connectParameters()
        self.onParameters()
        if lacking := notice(Needs.NETWORKS, self.ui.applyButton.text):
            self.panel.say(lacking)

    def exit(self):
        """Leave the red view to others, when the module is left."""
        self._entered = False

    def connectParameters(self):
        """Bind the panel to the scene's parameters."""
        from XraySynthSlicer.panel import bind_path, connect_gui

        if self._parameters is None:
            self._parameters = self.logic.getParameterNode()
            self._guiTag = connect_gui(self._parameters, self.ui)
            self._paths = [bind_path(self.ui.modelPath, self._parameters, "model")]
            modified = vtk.vtkCommand.ModifiedEvent
            self.addObserver(self._parameters, modified, self.onParameters)
            self.onParameters()

    def disconnectParameters(self):
        """Let go of the scene's nodes."""
        self._follow(None)
        if self._parameters is not None:
            self._parameters.disconnectGui(self._guiTag)
            for end in self._paths:
                end()
            self.removeObserver(self._parameters, vtk.vtkCommand.ModifiedEvent, self.onParameters)
        self._parameters = self._guiTag = None

    def onSceneStartClose(self, caller, event):
        """Undo everything before the scene goes."""
        self.panel.clear()
        self.disconnectParameters()
        self.logic.sampler.close()

    def onSceneEndClose(self, caller, event):
        """Begin anew with the scene that is there now."""
        self.disconnectParameters()
        self.connectParameters()

    def onParameters(self, caller=None, event=None):
        """Follow the panel: enable what has an effect, browse the result chosen."""
        parameters = self._parameters
        if parameters is None or slicer.mrmlScene.IsBatchProcessing():  # half a scene is there
            return
        for angle in ("primaryFrom", "primaryTo", "secondaryFrom", "secondaryTo"):
            getattr(self.ui, f"{angle}Spin").enabled = parameters.carm is None
        self.ui.onePersonCheck.enabled = parameters.condition is Condition.ANATOMY
        self._follow(parameters.result)
        self._showImage()

    def onApply(self):
        """Make X-rays."""
        from XraySynthDRR import XraySynthDRRLogic
        from XraySynthSlicer.carm import pose_of
        from XraySynthSlicer.dependencies import Needs, ensure
        from XraySynthSlicer.drr import intrinsics_of

        self._requireSampler()
        ensure(Needs.NETWORKS)
        parameters, drr = self._parameters, XraySynthDRRLogic().getParameterNode()
        pose = parameters.carm and pose_of(parameters.carm, drr.sourceToIsocenterMm)
        job = self.logic.sampler.job(parameters, pose, intrinsics_of(drr))
        self.panel.run(job, lambda: self._showResults(job))

    def onImage(self, value):
        """Show another image."""
        if self._browser is not None:
            self._browser.SetSelectedItemNumber(round(value))

    def onBrowsed(self, caller, event):
        """Another image is shown."""
        self._showImage()

    def _requireSampler(self):
        """Say what to do where no sampler is there."""
        from XraySynthLib.errors import XraySynthError
        from XraySynthLib.workflows.sample import SHIPPED

        shipped = SHIPPED / self._parameters.condition.value / "config.json"
        if not self._parameters.model and not shipped.is_file():
            raise XraySynthError(
                _(
                    "XraySynth comes without an X-ray sampler of that kind: choose the folder of a "
                    "trained one."
                )
            )

    def _showResults(self, job):
        self._parameters.result = self.logic.sampler.show_results()
        count = self._parameters.result.GetNumberOfItems()
        made = _("{count} X-rays of no real person.").format(count=count)
        self.panel.say(" ".join([made, *job.messages]))

    def _follow(self, browser):
        """Follow this browser and none else."""
        if browser is not self._browser:
            modified = vtk.vtkCommand.ModifiedEvent
            if self._browser is not None:
                self.removeObserver(self._browser, modified, self.onBrowsed)
            if browser is not None:
                self.addObserver(browser, modified, self.onBrowsed)
            self._browser = browser

    def _showImage(self):
        """Let the slider say which image is shown, and the red view show it."""
        browser, slider = self._browser, self.ui.imageSlider
        count = 0 if browser is None else browser.GetNumberOfItems()
        slider.blockSignals(True)
        slider.maximum = max(count - 1, 0)
        slider.setValue(0 if count == 0 else max(browser.GetSelectedItemNumber(), 0))
        slider.blockSignals(False)
        slider.enabled = count > 1
        image = self.logic.sampler.image_of(browser)
        if image is None or not self._parameters.showInRedView or not self._entered:
            return
        from XraySynthSlicer.panel import show_in_red_view

        show_in_red_view(image, fit=self._faced is not image)  # else the zoom stays
        self._faced = image


class XraySynthSamplerTest(ScriptedLoadableModuleTest):
    """A test to be run inside Slicer: images in a sequence are browsed with their landmarks."""

    def setUp(self):
        """Start from an empty scene."""
        slicer.mrmlScene.Clear(0)

    def runTest(self):
        """Run all tests."""
        self.setUp()
        self.test_browsing()

    def test_browsing(self):
        """Each image of a sequence comes with its own landmark."""
        import numpy as np
        from XraySynthSlicer.nodes import landmarks_from_node, samples_to_sequence

        from XraySynthLib.data import LandmarkSet, Provenance, Quantity, Sample, Xray
        from XraySynthLib.data.formats.mrml import LANDMARKS
        from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm

        self.delayDisplay(_("Browsing two images"))
        samples = {}
        for number, angle in enumerate((0.0, 40.0)):
            view = view_from_carm(CArmPose(angle), Intrinsics(1000, np.full(2, 5.0), (40, 40)))
            points = LandmarkSet(("A",), np.array([[10.0, 20.0, 30.0]])).seen_from(view)
            xray = Xray(np.random.default_rng(number).random((40, 40)), Quantity.DISPLAY, view=view)
            samples[str(number)] = Sample("x", xray, points, None, Provenance("generated", "x"))
        browser = samples_to_sequence(samples, slicer.mrmlScene, "Sampled", ("image", ""))
        image = XraySynthSamplerLogic().sampler.image_of(browser)
        for number in (0, 1):
            browser.SetSelectedItemNumber(number)
            sample = samples[str(number)]
            (expected,) = sample.xray.view.detector_points_ras_mm(sample.landmarks.points_px)
            (found,) = landmarks_from_node(image.GetNodeReference(LANDMARKS)).points_ras_mm
            self.assertLess(float(np.abs(found - expected).max()), 1e-3)
        self.delayDisplay(_("Test passed"))
