"""Landmark Detector: the panel. What it does to the scene is in `XraySynthSlicer.landmarks`."""

from typing import Annotated, Union

import numpy as np
import slicer
import vtk
from slicer import (
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLVectorVolumeNode,
)
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


class XraySynthLandmarks(ScriptedLoadableModule):
    """What the application shows of the module."""

    def __init__(self, parent):
        super().__init__(parent)
        parent.title = _("Landmark Detector")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Image Synthesis")]
        parent.dependencies = ["XraySynthDRR"]
        parent.contributors = ["The XraySynth contributors"]
        parent.helpText = _(
            "Landmarks of the pelvis in X-rays, by a detector that was trained on synthetic ones: "
            "as control points to correct, and to find where the C-arm stood."
        )
        parent.acknowledgementText = _("Not for clinical use.")


@parameterNodeWrapper
class XraySynthLandmarksParameterNode:
    """What the panel says, kept in the scene."""

    image: Union[vtkMRMLScalarVolumeNode, vtkMRMLVectorVolumeNode, None]  # noqa: UP007
    points: vtkMRMLMarkupsFiducialNode
    reference: vtkMRMLMarkupsFiducialNode
    ct: vtkMRMLScalarVolumeNode
    ctLandmarks: vtkMRMLMarkupsFiducialNode
    model: str = ""
    showInRedView: bool = True
    sourceToDetectorMm: Annotated[float, WithinRange(300.0, 3000.0)] = 1020.0
    pixelMm: Annotated[float, WithinRange(0.0, 5.0)] = 0.0
    refine: bool = True


class XraySynthLandmarksLogic(ScriptedLoadableModuleLogic):
    """Holds the parameters and what acts on the scene."""

    def __init__(self):
        super().__init__()
        from XraySynthSlicer.landmarks import LandmarksLogic

        self.landmarks = LandmarksLogic(slicer.mrmlScene)

    def getParameterNode(self):
        """The module's parameters in the scene."""
        return XraySynthLandmarksParameterNode(super().getParameterNode())


class XraySynthLandmarksWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self._paths = []
        self._parameters = self._guiTag = None
        self._seen = {}
        self._hint = None
        self._entered = False

    def setup(self):
        """Build the panel, once."""
        from XraySynthSlicer.panel import JobPanel

        ScriptedLoadableModuleWidget.setup(self)
        widget = slicer.util.loadUI(self.resourcePath("UI/XraySynthLandmarks.ui"))
        self.layout.addWidget(widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = XraySynthLandmarksLogic()
        self.panel = JobPanel(
            self.ui.applyButton,
            self.ui.progressBar,
            self.ui.statusLabel,
            self.onApply,
            self.onParameters,
        )
        self.ui.frameSlider.valueChanged.connect(self.onFrame)
        self.ui.compareButton.clicked.connect(lambda *_: self.panel.attempt(self.onCompare))
        self.ui.carmButton.clicked.connect(lambda *_: self.panel.attempt(self.onSetCArm))
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
        self.logic.landmarks.close()

    def enter(self):
        """See to the parameters, when the module is opened."""
        self._hint, self._entered = None, True
        self.connectParameters()
        self.onParameters()

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
            self._seen["image"] = self._image()
            self.onParameters()

    def disconnectParameters(self):
        """Let go of the scene's nodes."""
        self._follow("points", None, slicer.vtkMRMLMarkupsNode.PointEndInteractionEvent)
        self._follow("browser", None, vtk.vtkCommand.ModifiedEvent)
        if self._parameters is not None:
            self._parameters.disconnectGui(self._guiTag)
            for end in self._paths:
                end()
            self.removeObserver(self._parameters, vtk.vtkCommand.ModifiedEvent, self.onParameters)
        self._parameters = self._guiTag = None
        self._seen = {}

    def onSceneStartClose(self, caller, event):
        """Undo everything before the scene goes."""
        self.panel.clear()
        self.disconnectParameters()
        self.logic.landmarks.close()

    def onSceneEndClose(self, caller, event):
        """Begin anew with the scene that is there now."""
        self.disconnectParameters()
        self.connectParameters()

    def onParameters(self, caller=None, event=None):
        """Follow the nodes chosen: enable what can be done, show the image."""
        parameters = self._parameters
        if parameters is None or slicer.mrmlScene.IsBatchProcessing():  # half a scene is there
            return
        with slicer.util.tryWithErrorDisplay(_("Failed to show the X-ray.")):
            image = self._image()
            before = self._seen.get("image")
            if image is not before:
                self._seen["image"] = image
                self._adopt(image, before)
                return  # which has called this again
            placed = parameters.points is not None and image is not None
            inCt = parameters.ct is not None and parameters.ctLandmarks is not None
            self.ui.applyButton.enabled = image is not None
            self.ui.compareButton.enabled = placed and parameters.reference is not None
            self.ui.carmButton.enabled = placed and inCt and not self.panel.running
            browser = None if image is None else self.logic.landmarks.browser(image)
            self._follow(
                "points", parameters.points, slicer.vtkMRMLMarkupsNode.PointEndInteractionEvent
            )
            self._follow("browser", browser, vtk.vtkCommand.ModifiedEvent)
            if image is None:
                self.panel.cancel()
            self._sayHint(image)
            self._showFrame()

    def onApply(self):
        """Detect."""
        from XraySynthSlicer.dependencies import Needs, ensure

        self._requireDetector()
        ensure(Needs.NETWORKS)
        self.panel.run(self.logic.landmarks.detect_job(self._parameters), self._showFound)

    def onFrame(self, value):
        """Show another frame."""
        browser = self._seen.get("browser")
        if browser is not None:
            browser.SetSelectedItemNumber(round(value))
        else:
            self._showFrame()

    def onCompare(self):
        """Tell the errors."""
        compared = self.logic.landmarks.compare(self._parameters)
        self.panel.say(_comparisonText(compared))
        slicer.modules.plots.logic().ShowChartInLayout(
            self.logic.landmarks.chart(self._parameters.points)
        )

    def onSetCArm(self):
        """Find where the C-arm stood."""
        from XraySynthDRR import XraySynthDRRLogic
        from XraySynthSlicer.dependencies import Needs, ensure

        ensure(Needs.PROJECTION)
        distance = XraySynthDRRLogic().getParameterNode().sourceToIsocenterMm
        job = self.logic.landmarks.register_job(self._parameters, distance)
        self.panel.run(job, self._setCArm)

    def onDragged(self, caller, event):
        """A person has put a point where it belongs."""
        from XraySynthSlicer.landmarks import mark_corrected

        mark_corrected(caller, caller.GetDisplayNode().GetActiveControlPoint())

    def onBrowsed(self, caller, event):
        """Another frame is shown."""
        self._showFrame()

    def _image(self):
        """The image chosen, if it holds pixels."""
        image = self._parameters.image
        return image if image is not None and image.GetImageData() is not None else None

    def _adopt(self, image, before):
        """Take up what is known of an image, instead of the one before: points found and true."""
        from XraySynthSlicer.landmarks import FOUND, TRUE

        parameters = self._parameters
        parameters.points = image and image.GetNodeReference(FOUND)
        truth = image and image.GetNodeReference(TRUE)
        if truth is not None or parameters.reference is (before and before.GetNodeReference(TRUE)):
            parameters.reference = truth
        self.onParameters()

    def _sayHint(self, image):
        """Say what to choose or what is not installed, once, until it is something else."""
        from XraySynthSlicer.dependencies import Needs, notice

        hint = _("Choose an X-ray.")
        if image is not None:
            hint = notice(Needs.NETWORKS, self.ui.applyButton.text)
        if hint != self._hint and not self.panel.running:
            self._hint = hint
            self.panel.say(hint)

    def _follow(self, role, node, event):
        """Follow this node and none else."""
        call = {"points": self.onDragged, "browser": self.onBrowsed}[role]
        old = self._seen.get(role)
        if old is not node:
            if old is not None:
                self.removeObserver(old, event, call)
            if node is not None:
                self.addObserver(node, event, call)
            self._seen[role] = node

    def _showFrame(self):
        """Let the slider say which frame is shown, and the red view show it."""
        image = self._image()
        slider = self.ui.frameSlider
        last = 0 if image is None else self.logic.landmarks.n_frames(image) - 1
        browser = self._seen.get("browser")
        frame = min(round(slider.value), last)
        if browser is not None and browser.GetSelectedItemNumber() >= 0:
            frame = browser.GetSelectedItemNumber()
        slider.blockSignals(True)
        slider.maximum = last
        slider.setValue(frame)
        slider.blockSignals(False)
        slider.enabled = last > 0
        if image is None or not self._parameters.showInRedView or not self._entered:
            return
        from XraySynthSlicer.panel import show_in_red_view

        fit = self._seen.get("faced") is not image  # zoomed in, one goes from frame to frame
        self._seen["faced"] = image
        show_in_red_view(image, self.logic.landmarks.slice_of_frame(image, frame), fit)

    def _requireDetector(self):
        """Say what to do where no detector is there."""
        from XraySynthLib.errors import XraySynthError
        from XraySynthLib.workflows.detect import SHIPPED_MODEL

        if not self._parameters.model and not (SHIPPED_MODEL / "config.json").is_file():
            raise XraySynthError(
                _("XraySynth comes without a detector: choose the folder of a trained one.")
            )

    def _showFound(self):
        from XraySynthSlicer.nodes import landmarks_from_node

        found = self.logic.landmarks.show_found()
        if self._image() is self.logic.landmarks.image:
            self._parameters.points = found
            self.onParameters()
        points = landmarks_from_node(found).points_ras_mm
        n_found = int(np.isfinite(points).all(axis=1).sum())
        self.panel.say(
            _("{found} of {all} landmarks found in this frame.").format(
                found=n_found, all=len(points)
            )
        )

    def _setCArm(self):
        from XraySynthDRR import XraySynthDRRLogic

        pose, view, error_mm, doubts = self.logic.landmarks.registered()
        logic = XraySynthDRRLogic()
        drr, parameters = logic.getParameterNode(), self._parameters
        drr.ct, drr.landmarks = parameters.ct, parameters.ctLandmarks
        logic.drr.set_geometry(drr, pose, view.intrinsics)
        stands = _(
            "The C-arm of C-arm DRR stands at {primary:.1f} / {secondary:.1f} degrees; "
            "landmarks fit to {error:.1f} mm on the detector."
        ).format(primary=pose.primary_deg, secondary=pose.secondary_deg, error=error_mm)
        doubtful = [_("Doubtful: {doubt}").format(doubt=doubt) for doubt in doubts]
        self.panel.say(" ".join([stands, *doubtful]))


def _comparisonText(compared):
    """A comparison in one line."""
    parts = []
    if compared.names:
        parts.append(
            _("{count} landmarks compared, {mean:.1f} px off on average").format(
                count=len(compared.names), mean=float(np.mean(compared.errors_px))
            )
        )
    if compared.errors_mm is not None and compared.names:
        parts.append(_("{mean:.1f} mm").format(mean=float(np.mean(compared.errors_mm))))
    if compared.missed:
        parts.append(_("not found: {names}").format(names=", ".join(compared.missed)))
    if compared.spurious:
        parts.append(_("not in the image: {names}").format(names=", ".join(compared.spurious)))
    return "; ".join(parts) + "."


class XraySynthLandmarksTest(ScriptedLoadableModuleTest):
    """A test to be run inside Slicer: points compared on an image are as far off as they are."""

    def setUp(self):
        """Start from an empty scene."""
        slicer.mrmlScene.Clear(0)

    def runTest(self):
        """Run all tests."""
        self.setUp()
        self.test_errors()

    def test_errors(self):
        """A point that is 3 columns and 4 rows off is 5 px off, and 10 mm at 2 mm a pixel."""
        self.delayDisplay(_("Comparing points on an image"))
        parameters = XraySynthLandmarksLogic().getParameterNode()
        scene, logic = slicer.mrmlScene, XraySynthLandmarksLogic().landmarks
        parameters.image = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
        slicer.util.updateVolumeFromArray(parameters.image, np.eye(40)[None])
        parameters.image.SetSpacing(2.0, 2.0, 1.0)
        parameters.points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
        parameters.points.AddControlPoint(10.0, 10.0, 0.0, "A")
        parameters.reference = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
        parameters.reference.AddControlPoint(16.0, 18.0, 0.0, "A")
        compared = logic.compare(parameters)
        self.assertAlmostEqual(compared.errors_px[0], 5.0)
        self.assertAlmostEqual(compared.errors_mm[0], 10.0)
        self.delayDisplay(_("Test passed"))
