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
STEP_MS = 10
"""Between two steps of preparing the preview: what else is due has its turn."""


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
    dragIn3DView: bool = False
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
        self._drawn = self._faced = self._shown = None
        self._open = self._behind = False
        self._previewPending = self._overtaken = self._settingAngles = False

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
        self.ui.centerOnCtButton.clicked.connect(lambda *_: self.panel.attempt(self.onCenterOnCt))
        self.ui.sequenceButton.clicked.connect(lambda *_: self.panel.attempt(self.onSequence))
        self.ui.saveViewButton.clicked.connect(self.onSaveView)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndBatchProcessEvent, self.onParameters)
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self.onNodeRemoved)
        self.connectParameters()

    def cleanup(self):
        """End what runs, when the module is unloaded."""
        self.panel.cancel()
        self.disconnectParameters()
        self.removeObservers()
        self.logic.drr.close()

    def enter(self):
        """See to the parameters and follow the C-arm, when the module is opened."""
        self._open = True
        self.connectParameters()
        if self._behind:
            self.onMoved()

    def exit(self):
        """Follow the C-arm no more, when another module is opened."""
        self._open = False
        self._behind = self._restTimer.isActive()
        self._restTimer.stop()
        if self.panel.automatic:
            self._behind = True
            self.panel.cancel()

    def connectParameters(self):
        """Bind the panel to the scene's parameters."""
        from XraySynthSlicer.panel import connect_gui

        if self._parameters is None:
            self._parameters = self.logic.getParameterNode()
            self._guiTag = connect_gui(self._parameters, self.ui)
            modified = vtk.vtkCommand.ModifiedEvent
            self.addObserver(self._parameters, modified, self.onParameters)
            self.onParameters()

    def disconnectParameters(self):
        """Let go of the scene's nodes."""
        self._restTimer.stop()
        self._observe({})
        if self._parameters is not None:
            self._parameters.disconnectGui(self._guiTag)
            self.removeObserver(self._parameters, vtk.vtkCommand.ModifiedEvent, self.onParameters)
        self._parameters = self._guiTag = None
        self._drawn = self._faced = self._shown = None

    def onSceneStartClose(self, caller, event):
        """Undo everything before the scene goes."""
        self.panel.clear()
        self.disconnectParameters()
        self.logic.drr.close()

    def onSceneEndClose(self, caller, event):
        """Begin anew with the scene that is there now."""
        self.disconnectParameters()
        self.connectParameters()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeRemoved(self, caller, event, node):
        """Let what belongs to a C-arm or an X-ray go with it."""
        from XraySynthSlicer.carm import remove_belongings

        if not slicer.mrmlScene.IsBatchProcessing():
            if self._parameters is not None and node is self._parameters.carm:
                self._parameters.carm = None  # else it would be drawn anew without them
            remove_belongings(slicer.mrmlScene, node)

    def onParameters(self, caller=None, event=None):
        """Follow the nodes chosen, and redraw what changed."""
        if self._parameters is not None and not slicer.mrmlScene.IsBatchProcessing():
            self._sayingErrors(self._update)  # else half a scene is there

    def onCArm(self, caller=None, event=None):
        """Follow the C-arm as it moves."""
        self._sayingErrors(self._showAngles)
        self.onMoved()

    def onMoved(self, caller=None, event=None):
        """Follow what the image shows as it moves: preview now, the whole image at rest."""
        parameters = self._parameters
        if parameters is None or parameters.ct is None or parameters.carm is None:
            return
        self._behind = not self._open
        self._overtaken = False
        if self.panel.automatic:
            self.panel.cancel()
        if not self._open or not parameters.livePreview:
            self._sayingErrors(lambda: self.logic.drr.refresh_screen(parameters))
        if not self._open:
            return
        if parameters.livePreview:
            self._previewSoon(0)
        if parameters.fullWhenReleased and self._canProject():
            self._restTimer.start()

    def onIsocenter(self, caller=None, event=None):
        """Bring the isocentre to the point chosen for it."""
        parameters = self._parameters
        if parameters.carm is not None and parameters.isocenter is not None:
            self._sayingErrors(lambda: self.logic.drr.center_on_point(parameters))

    def onAngles(self, value):
        """Turn the C-arm as the sliders say."""
        parameters = self._parameters
        if parameters is None or parameters.carm is None:
            return
        angles = [slider.value for slider in self._angleSliders()]
        self._settingAngles = True
        try:
            self._sayingErrors(lambda: self.logic.drr.set_angles(parameters, *angles))
        finally:
            self._settingAngles = False

    def onPreset(self, index):
        """Turn the C-arm to a named view."""
        from XraySynthLib.geometry import view_preset

        name, parameters = self.ui.presetCombo.currentData, self._parameters
        self.ui.presetCombo.blockSignals(True)
        self.ui.presetCombo.setCurrentIndex(0)
        self.ui.presetCombo.blockSignals(False)
        if name and parameters.carm is not None:
            angles = view_preset(name)
            self._sayingErrors(lambda: self.logic.drr.set_angles(parameters, *angles, 0.0))

    def onCenterOnCt(self):
        """Bring the isocentre to the middle of the CT."""
        from XraySynthSlicer.drr import center_ras_mm

        self.logic.drr.center_on(self._parameters, center_ras_mm(self._parameters.ct))

    def onApply(self):
        """Take the X-ray."""
        self._install()
        self._take(self._showTaken)

    def onRest(self):
        """Take the live X-ray, if nothing that was asked for is running."""
        if self._parameters is not None and (self.panel.automatic or not self.panel.running):
            self._sayingErrors(lambda: self._take(self._showLive, automatic=True))

    def onSequence(self):
        """Take the sequence of views."""
        from XraySynthSlicer.drr import sweep

        if self.panel.running and not self.panel.automatic:
            raise ValueError(_("Something is being taken: wait for it, or cancel it first."))
        self._install()
        parameters, views = self._parameters, sweep(self._parameters)
        self._restTimer.stop()
        self.panel.cancel()
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
            self.panel.attempt(
                lambda: Path(path).write_text(view_of(self._parameters).to_json(), "utf-8")
            )

    def _sayingErrors(self, action):
        """Do what a move asks for; what is wrong is said below the button."""
        from XraySynthLib.errors import XraySynthError

        try:
            action()
        except (ValueError, OSError, XraySynthError) as error:
            self._restTimer.stop()
            self.panel.say(str(error))

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

    def _update(self):
        """Follow the nodes chosen, with a C-arm if there is a CT, and draw them."""
        parameters = self._parameters
        self._refuse()
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
        roles = ("ct", "carm", "landmarks", "isocenter")
        self._observe({role: getattr(parameters, role) for role in roles})
        if parameters.carm is not None:
            self._redraw(ready)

    def _refuse(self):
        """Let nothing but an X-ray be chosen as one."""
        from XraySynthSlicer.nodes import is_xray

        chosen = self._parameters.xray
        if chosen is not None and not is_xray(chosen):
            self._parameters.xray = None
            raise ValueError(_("{name} is no X-ray of XraySynth.").format(name=chosen.GetName()))

    def _redraw(self, ready):
        """Draw the C-arm and the image anew where the parameters have changed."""
        parameters = self._parameters
        nodes = (parameters.ct, parameters.carm, parameters.landmarks)
        seen = (
            ready,
            *(node and node.GetID() for node in nodes),
            *(parameters.sourceToIsocenterMm, parameters.sourceToDetectorMm),
            *(parameters.detectorMm, parameters.imagePx),
            *(parameters.livePreview, parameters.fullWhenReleased),
            *(parameters.kvp, parameters.physics, parameters.quantity),
        )
        chosen = parameters.xray and parameters.xray.GetID()
        shown = (parameters.showCArm, parameters.dragIn3DView, parameters.showInRedView, chosen)
        drawn, self._drawn = self._drawn, None  # so that it is tried again after an error
        if drawn != (seen, shown):
            self.logic.drr.show_carm(parameters)
            self.logic.drr.refresh_screen(parameters)
            self.logic.drr.show_landmarks(parameters, self._shown)
            self._shown = parameters.xray
            self._showAngles()
            self._face()
        self._drawn = seen, shown
        if ready and (drawn is None or not drawn[0][0]) and not self.panel.running:
            self.panel.say("")
        if ready and (drawn is None or drawn[0] != seen):
            self.onMoved()

    def _showAngles(self):
        if self._settingAngles or self._parameters.carm is None:
            return
        from XraySynthSlicer.drr import pose_of

        pose = pose_of(self._parameters)
        angles = (pose.primary_deg, pose.secondary_deg, pose.roll_deg)
        for slider, angle in zip(self._angleSliders(), angles, strict=True):
            slider.blockSignals(True)
            slider.setValue(angle)
            slider.blockSignals(False)

    def _previewSoon(self, milliseconds):
        if not self._previewPending:
            self._previewPending = True
            qt.QTimer.singleShot(milliseconds, self._preview)

    def _preview(self):
        self._previewPending = False
        parameters = self._parameters
        if parameters is None or parameters.ct is None or parameters.carm is None:
            return
        if not self._open:
            self._behind = True
        elif parameters.livePreview and self._canProject():
            self._sayingErrors(self._renderPreview)

    def _renderPreview(self):
        drr, parameters = self.logic.drr, self._parameters
        if not drr.ready(parameters.ct):
            if not self.panel.running:
                self.panel.say(_("Preparing the preview ..."))
            self._previewSoon(STEP_MS)
            return
        if self._overtaken:
            self._overtaken = False
            return
        drr.preview(parameters)
        if not self.panel.running:
            self.panel.say("")
        self._face()

    def _face(self):
        """Turn the red view to the detector; once it is, its zoom and its middle stay."""
        red = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
        shown = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
        xray = self._parameters.xray
        if not (self._open and self._parameters.showInRedView and xray and red and shown):
            return
        from XraySynthSlicer.nodes import face, matrix_of, view_from_node, vtk_matrix_of

        before, size = matrix_of(red.GetSliceToRAS()), red.GetFieldOfView()
        shown.SetBackgroundVolumeID(xray.GetID())
        face(red, xray)
        view, faced = view_from_node(xray), self._faced
        self._faced = view
        if faced is None:
            return
        zoomed = faced.camera_from_ras @ before
        fitted = view.camera_from_ras @ matrix_of(red.GetSliceToRAS())
        if np.allclose(zoomed[:3, :3], fitted[:3, :3], atol=1e-4):  # it still faced the image
            zoomed[2, 3] = fitted[2, 3]
            red.GetSliceToRAS().DeepCopy(vtk_matrix_of(view.ras_from_camera @ zoomed))
            red.SetFieldOfView(*size)
            red.UpdateMatrices()

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

    def _take(self, done, automatic=False):
        from XraySynthSlicer.drr import view_of

        parameters = self._parameters
        self._restTimer.stop()
        self.panel.cancel()
        job = self.logic.drr.job(parameters, [view_of(parameters)])
        self.panel.run(job, done, automatic)

    def _showTaken(self):
        type(self.logic.drr).compiled = True
        self.logic.drr.add_result(self._parameters)
        self._overtaken = self._previewPending  # by what has been taken of the same view

    def _showLive(self):
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
