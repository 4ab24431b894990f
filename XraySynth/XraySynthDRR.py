"""C-arm DRR: the panel. What it does to the scene is in `XraySynthSlicer.drr`."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import numpy as np
import qt
import slicer
import vtk
from slicer import (
    vtkMRMLLinearTransformNode,
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLScalarVolumeNode,
)
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

REST_MS = 700
"""The C-arm is at rest when it has not moved for so long."""


class XraySynthDRR(ScriptedLoadableModule):
    """What the application shows of the module."""

    def __init__(self, parent):
        super().__init__(parent)
        parent.title = _("C-arm DRR")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Image Synthesis")]
        parent.dependencies = []
        parent.contributors = ["The XraySynth contributors"]
        parent.helpText = _(
            "X-rays of any CT in the scene by a C-arm that is dragged in the 3D view: a preview at "
            "once, the whole physics when it is released, landmarks projected with it."
        )
        parent.acknowledgementText = _("Synthetic images are not for clinical use.")


class Physics(Enum):
    """How much physics an image has."""

    PLAIN = "plain"
    FULL = "full"

    def label(self):
        """What the panel calls it."""
        return {
            Physics.PLAIN: _("spectrum alone"),
            Physics.FULL: _("scatter, noise and blur"),
        }[self]


class Values(Enum):
    """What an image holds."""

    DISPLAY = "display"
    LINE_INTEGRAL = "line-integral"
    TRANSMISSION = "transmission"

    def label(self):
        """What the panel calls it."""
        return {
            Values.DISPLAY: _("grey as displayed"),
            Values.LINE_INTEGRAL: _("line integral"),
            Values.TRANSMISSION: _("transmission"),
        }[self]


@parameterNodeWrapper
class XraySynthDRRParameterNode:
    """What the panel says, kept in the scene."""

    ct: vtkMRMLScalarVolumeNode
    landmarks: vtkMRMLMarkupsFiducialNode
    carm: vtkMRMLLinearTransformNode
    isocenter: vtkMRMLMarkupsFiducialNode
    xray: vtkMRMLScalarVolumeNode
    showCArm: bool = True
    livePreview: bool = True
    fullWhenReleased: bool = True
    showInRedView: bool = True
    sourceToDetectorMm: Annotated[float, WithinRange(300.0, 3000.0)] = 1020.0
    sourceToIsocenterMm: Annotated[float, WithinRange(100.0, 2500.0)] = 650.0
    detectorMm: Annotated[float, WithinRange(50.0, 1000.0)] = 400.0
    imagePx: Annotated[int, WithinRange(64, 4096)] = 1024
    kvp: Annotated[int, Choice([60, 70, 80, 90, 100, 110, 120])] = 90
    physics: Physics = Physics.FULL
    quantity: Values = Values.DISPLAY
    sweepFromDeg: Annotated[float, WithinRange(-180.0, 180.0)] = -45.0
    sweepToDeg: Annotated[float, WithinRange(-180.0, 180.0)] = 45.0
    sweepCount: Annotated[int, WithinRange(2, 360)] = 7


class XraySynthDRRLogic(ScriptedLoadableModuleLogic):
    """Holds the parameters and what acts on the scene."""

    def __init__(self):
        super().__init__()
        from XraySynthSlicer.drr import DrrLogic

        self.drr = DrrLogic(slicer.mrmlScene)

    def getParameterNode(self):
        """The module's parameters in the scene."""
        return XraySynthDRRParameterNode(super().getParameterNode())


class XraySynthDRRWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self._parameters = self._guiTag = None
        self._seen = {}
        self._drawn = None
        self._previewPending = self._settingAngles = self._automatic = False

    def setup(self):
        """Build the panel, once."""
        from XraySynthSlicer.panel import JobPanel

        ScriptedLoadableModuleWidget.setup(self)
        widget = slicer.util.loadUI(self.resourcePath("UI/XraySynthDRR.ui"))
        self.layout.addWidget(widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = XraySynthDRRLogic()
        self.panel = JobPanel(
            self.ui.applyButton, self.ui.progressBar, self.ui.statusLabel, self.onApply
        )
        self._restTimer = qt.QTimer()
        self._restTimer.setSingleShot(True)
        self._restTimer.setInterval(REST_MS)
        self._restTimer.timeout.connect(self.onRest)
        self._fillPresets()
        for slider in self._angleSliders():
            slider.valueChanged.connect(self.onAngles)
        self.ui.presetCombo.currentIndexChanged.connect(self.onPreset)
        self.ui.centerOnCtButton.clicked.connect(self.onCenterOnCt)
        self.ui.handlesCheck.toggled.connect(self.onHandles)
        self.ui.sequenceButton.clicked.connect(lambda *_: self.panel.attempt(self.onSequence))
        self.ui.saveViewButton.clicked.connect(self.onSaveView)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndClose)
        self.connectParameters()

    def cleanup(self):
        """End what runs, when the module is unloaded."""
        self.disconnectParameters()
        self.removeObservers()
        self.logic.drr.close()

    def enter(self):
        """See to the parameters, when the module is opened."""
        self.connectParameters()

    def connectParameters(self):
        """Bind the panel to the scene's parameters."""
        if self._parameters is None:
            self._parameters = self.logic.getParameterNode()
            self._guiTag = self._parameters.connectGui(self.ui)
            modified = vtk.vtkCommand.ModifiedEvent
            self.addObserver(self._parameters, modified, self.onParameters)
            self.onParameters()

    def disconnectParameters(self):
        """Let go of the scene's nodes."""
        self.panel.cancel()
        self._restTimer.stop()
        self._observe({})
        if self._parameters is not None:
            self._parameters.disconnectGui(self._guiTag)
            self.removeObserver(self._parameters, vtk.vtkCommand.ModifiedEvent, self.onParameters)
        self._parameters = self._guiTag = self._drawn = None

    def onSceneStartClose(self, caller, event):
        """Undo everything before the scene goes."""
        self.disconnectParameters()
        self.logic.drr.close()

    def onSceneEndClose(self, caller, event):
        """Begin anew with the scene that is there now."""
        self.disconnectParameters()
        self.connectParameters()

    def onParameters(self, caller=None, event=None):
        """Follow the nodes chosen, and redraw what changed."""
        parameters = self._parameters
        if parameters is None or slicer.mrmlScene.IsBatchProcessing():  # half a scene is there
            return
        with slicer.util.tryWithErrorDisplay(_("Failed to place the C-arm.")):
            hasCt = parameters.ct is not None and parameters.ct.GetImageData() is not None
            if hasCt and parameters.carm is None:
                self.logic.drr.new_carm(parameters)
                return  # which has called this again
            ready = hasCt and parameters.carm is not None
            for button in (self.ui.applyButton, self.ui.sequenceButton, self.ui.saveViewButton):
                button.enabled = ready
            self.ui.centerOnCtButton.enabled = ready
            if not ready:
                self.panel.say(_("Choose a CT: the C-arm is placed about its middle."))
            self._observe(
                {
                    "ct": parameters.ct,
                    "carm": parameters.carm,
                    "landmarks": parameters.landmarks,
                    "isocenter": parameters.isocenter,
                }
            )
            if parameters.carm is not None:
                self._redraw(ready)

    def onCArm(self, caller=None, event=None):
        """Follow the C-arm as it moves."""
        self._showAngles()
        self._moved()

    def onMoved(self, caller=None, event=None):
        """Follow the CT or a landmark as it moves."""
        self._moved()

    def onIsocenter(self, caller=None, event=None):
        """Bring the isocentre to the point chosen for it."""
        parameters = self._parameters
        points = parameters.isocenter
        if parameters.carm is None or points is None:
            return
        from XraySynthSlicer.nodes import landmarks_from_node

        placed = landmarks_from_node(points).points_ras_mm
        placed = placed[np.isfinite(placed).all(axis=1)]
        if len(placed):
            self.logic.drr.center_on(parameters, placed[0])

    def onAngles(self, value):
        """Turn the C-arm as the sliders say."""
        if self._parameters is None or self._parameters.carm is None:
            return
        self._settingAngles = True
        angles = [slider.value for slider in self._angleSliders()]
        self.logic.drr.set_angles(self._parameters, *angles)
        self._settingAngles = False

    def onPreset(self, index):
        """Turn the C-arm to a named view."""
        from XraySynthLib.geometry import view_preset

        name = self.ui.presetCombo.currentData
        if name and self._parameters.carm is not None:
            self.logic.drr.set_angles(self._parameters, *view_preset(name), 0.0)
        self.ui.presetCombo.blockSignals(True)
        self.ui.presetCombo.setCurrentIndex(0)
        self.ui.presetCombo.blockSignals(False)

    def onCenterOnCt(self):
        """Bring the isocentre to the middle of the CT."""
        from XraySynthSlicer.drr import center_ras_mm

        self.logic.drr.center_on(self._parameters, center_ras_mm(self._parameters.ct))

    def onHandles(self, shown):
        """Show or hide the handles of the C-arm in the 3D view."""
        if self._parameters is not None and self._parameters.carm is not None:
            display = self._parameters.carm.GetDisplayNode()
            display.SetEditorVisibility(shown)
            display.SetEditorVisibility3D(shown)

    def onApply(self):
        """Take the X-ray."""
        self._automatic = False
        self._install()
        self._take()

    def onRest(self):
        """Take the X-ray by itself, if nothing that was asked for is running."""
        if self._parameters is None or (self.panel.running and not self._automatic):
            return
        try:
            self._automatic = True
            self._take()
        except (ValueError, OSError) as error:
            self.panel.say(str(error))

    def onSequence(self):
        """Take the sequence of views."""
        from XraySynthSlicer.drr import sweep

        self._automatic = False
        self._install()
        self._restTimer.stop()
        self.panel.cancel()
        parameters, views = self._parameters, sweep(self._parameters)
        job = self.logic.drr.job(parameters, list(views.values()))
        done = self.logic.drr.show_sequence
        self.panel.run(job, lambda: done(parameters, list(views)))

    def onSaveView(self):
        """Save the geometry as JSON."""
        from XraySynthSlicer.drr import view_of

        path = qt.QFileDialog.getSaveFileName(
            self.ui.saveViewButton, _("Save view"), "view.json", "JSON (*.json)"
        )
        path = path[0] if isinstance(path, tuple) else path  # PySide gives the filter, too
        if path:
            with slicer.util.tryWithErrorDisplay(_("Failed to save the view.")):
                Path(path).write_text(view_of(self._parameters).to_json(), "utf-8")

    def _angleSliders(self):
        return (self.ui.primarySlider, self.ui.secondarySlider, self.ui.rollSlider)

    def _fillPresets(self):
        names = {
            "ap": _("AP"),
            "pa": _("PA"),
            "lateral": _("Lateral, detector on the left"),
            "lateral-right": _("Lateral, detector on the right"),
            "inlet": _("Pelvic inlet"),
            "outlet": _("Pelvic outlet"),
            "judet-obturator-right": _("Judet, right obturator"),
            "judet-obturator-left": _("Judet, left obturator"),
        }
        self.ui.presetCombo.addItem(_("Turn to ..."), "")
        for name, text in names.items():
            self.ui.presetCombo.addItem(text, name)

    def _observe(self, nodes):
        """Follow these nodes and none else."""
        transformed = slicer.vtkMRMLTransformableNode.TransformModifiedEvent
        points = [
            slicer.vtkMRMLMarkupsNode.PointModifiedEvent,
            slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent,
            slicer.vtkMRMLMarkupsNode.PointRemovedEvent,
        ]
        rules = {
            "ct": ([transformed], self.onMoved),
            "carm": ([transformed], self.onCArm),
            "landmarks": ([transformed, *points], self.onMoved),
            "isocenter": ([transformed, *points], self.onIsocenter),
        }
        for role, (events, call) in rules.items():
            old, new = self._seen.get(role), nodes.get(role)
            if old is new:
                continue
            for event in events:
                if old is not None:
                    self.removeObserver(old, event, call)
                if new is not None:
                    self.addObserver(new, event, call)
            self._seen[role] = new
            if role == "isocenter" and new is not None:
                self.onIsocenter()

    def _redraw(self, ready):
        """Draw the C-arm and the image anew where the parameters have changed."""
        parameters = self._parameters
        state = (
            ready,
            *(node and node.GetID() for node in self._seen.values()),
            *(parameters.sourceToIsocenterMm, parameters.sourceToDetectorMm),
            *(parameters.detectorMm, parameters.imagePx, parameters.showCArm),
            *(parameters.livePreview, parameters.fullWhenReleased, parameters.showInRedView),
            *(parameters.kvp, parameters.physics, parameters.quantity),
        )
        if state == self._drawn:
            return
        self._drawn = state
        self.logic.drr.show_carm(parameters)
        self._showAngles()
        if ready:
            self._moved()

    def _showAngles(self):
        if self._settingAngles or self._parameters is None or self._parameters.carm is None:
            return
        from XraySynthSlicer.drr import pose_of

        try:
            pose = pose_of(self._parameters)
        except ValueError as error:
            self.panel.say(str(error))
            return
        angles = (pose.primary_deg, pose.secondary_deg, pose.roll_deg)
        for slider, angle in zip(self._angleSliders(), angles, strict=True):
            slider.blockSignals(True)
            slider.setValue(angle)
            slider.blockSignals(False)

    def _moved(self):
        """Something that the image shows has moved: preview now, the whole image at rest."""
        parameters = self._parameters
        if parameters is None or parameters.ct is None or parameters.carm is None:
            return
        if self._automatic:
            self.panel.cancel()
        if parameters.livePreview and not self._previewPending:
            self._previewPending = True
            qt.QTimer.singleShot(0, self._renderPreview)
        if parameters.fullWhenReleased and self._canProject():
            self._restTimer.start()

    def _renderPreview(self):
        self._previewPending = False
        parameters = self._parameters
        if parameters is None or parameters.ct is None or not parameters.livePreview:
            return
        if not self._canProject() or not self._compiled():
            return
        try:
            self.logic.drr.preview(parameters)
        except ValueError as error:
            self.panel.say(str(error))
            return
        if not self.panel.running:
            self.panel.say("")
        self._face()

    def _compiled(self):
        """Whether the projector is compiled; else a child process begins to."""
        drr = self.logic.drr
        if not drr.compiled and not self.panel.running:
            self.panel.run(drr.compile_job(), self._onCompiled)
            self.panel.say(_("Preparing the preview ..."))
        return drr.compiled

    def _onCompiled(self):
        type(self.logic.drr).compiled = True
        self._moved()

    def _face(self):
        """Turn the red view to the detector."""
        red = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
        shown = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
        if self._parameters.showInRedView and red is not None and shown is not None:
            from XraySynthSlicer.nodes import face

            shown.SetBackgroundVolumeID(self._parameters.xray.GetID())
            face(red, self._parameters.xray)

    def _canProject(self):
        from XraySynthSlicer.dependencies import Needs, missing

        lacking = missing(Needs.PROJECTION)
        if lacking:
            self.panel.say(
                _("Projecting needs {packages}: press {button}, which asks and installs.").format(
                    packages=", ".join(lacking), button=_("Take X-ray")
                )
            )
        return not lacking

    def _install(self):
        from XraySynthSlicer.dependencies import Needs, ensure

        ensure(Needs.PROJECTION)

    def _take(self):
        from XraySynthSlicer.drr import view_of

        parameters = self._parameters
        self._restTimer.stop()
        self.panel.cancel()
        job = self.logic.drr.job(parameters, [view_of(parameters)])
        self.panel.run(job, self._showResult)

    def _showResult(self):
        type(self.logic.drr).compiled = True
        self.logic.drr.show_result(self._parameters)
        self._face()


class XraySynthDRRTest(ScriptedLoadableModuleTest):
    """A test to be run inside Slicer: a point's image is where its View puts it."""

    def setUp(self):
        """Start from an empty scene."""
        slicer.mrmlScene.Clear(0)

    def runTest(self):
        """Run all tests."""
        self.setUp()
        self.test_landmark_is_on_its_image()

    def test_landmark_is_on_its_image(self):
        """A dense cube's image is where its middle is projected."""
        from XraySynthSlicer.drr import view_of
        from XraySynthSlicer.nodes import new_node, volume_to_node, xray_from_node

        from XraySynthLib.data import Volume

        self.delayDisplay(_("Projecting a dense cube"))
        values = np.full((48, 48, 48), -1000.0)
        values[27:36, 17:26, 9:18] = 1000
        ras_from_ijk = np.diag([3.0, 3.0, 3.0, 1.0])
        logic = XraySynthDRRLogic()
        parameters = logic.getParameterNode()
        parameters.ct = new_node(slicer.mrmlScene, "vtkMRMLScalarVolumeNode", "Cube")
        volume_to_node(Volume(values, ras_from_ijk), parameters.ct)
        logic.drr.new_carm(parameters)
        logic.drr.preview(parameters)
        xray = xray_from_node(parameters.xray)
        row, column = np.argwhere(xray.values > 0.5).mean(axis=0)
        found = view_of(parameters).resized(*xray.values.shape).project([[39.0, 63.0, 93.0]])[0]
        self.assertLess(float(np.hypot(found[0] - column, found[1] - row)), 3.0)
        self.delayDisplay(_("Test passed"))
