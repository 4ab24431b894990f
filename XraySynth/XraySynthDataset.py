"""Training Set: the panel. What it does to the scene is in `XraySynthSlicer.dataset`."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import numpy as np
import qt
import slicer
import vtk
from slicer import vtkMRMLMarkupsFiducialNode, vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
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

SHEET_WIDTH_PX = 380


class XraySynthDataset(ScriptedLoadableModule):
    """What the application shows of the module."""

    def __init__(self, parent):
        super().__init__(parent)
        parent.title = _("Training Set")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Image Synthesis")]
        parent.dependencies = []
        parent.contributors = ["The XraySynth contributors"]
        parent.helpText = _(
            "Labelled X-rays of a CT to learn from: landmarks placed step by step or by the shape "
            "model, views chosen on a sphere, the set written in a known format."
        )
        parent.acknowledgementText = _(
            "Bones from the shape model of the Auckland Bioengineering Institute (MPL-2.0). "
            "Synthetic images are not for clinical use."
        )


class Poses(Enum):
    """From where images look."""

    PELVIS = "pelvis-deepfluoro"
    STANDARD = "standard-views"
    UNIFORM = "uniform"

    def label(self):
        """What the panel calls it."""
        return {
            Poses.PELVIS: _("about AP, obliques and tilts"),
            Poses.STANDARD: _("about the standard views"),
            Poses.UNIFORM: _("anywhere in front"),
        }[self]


class Layout(Enum):
    """How the files of a set are laid out."""

    COCO = "coco"
    DEEPFLUORO = "deepfluoro"
    SYNTHEX = "synthex"
    WEBDATASET = "webdataset"
    DICOM = "dicom"
    SCENE = "scene"

    def label(self):
        """What the panel calls it."""
        return {
            Layout.COCO: _("COCO keypoints, PNG"),
            Layout.DEEPFLUORO: _("DeepFluoro, HDF5"),
            Layout.SYNTHEX: _("SyntheX, TIFF and HDF5"),
            Layout.WEBDATASET: _("WebDataset shards"),
            Layout.DICOM: _("DICOM"),
            Layout.SCENE: _("Slicer scene"),
        }[self]


@parameterNodeWrapper
class XraySynthDatasetParameterNode:
    """What the panel says, kept in the scene."""

    ct: vtkMRMLScalarVolumeNode
    labels: vtkMRMLSegmentationNode
    points: vtkMRMLMarkupsFiducialNode
    poses: Poses = Poses.PELVIS
    views: Annotated[int, WithinRange(1, 100_000)] = 200
    limitAngles: bool = False
    primaryFromDeg: Annotated[float, WithinRange(-180.0, 180.0)] = -30.0
    primaryToDeg: Annotated[float, WithinRange(-180.0, 180.0)] = 30.0
    secondaryFromDeg: Annotated[float, WithinRange(-90.0, 90.0)] = -20.0
    secondaryToDeg: Annotated[float, WithinRange(-90.0, 90.0)] = 20.0
    seed: Annotated[int, WithinRange(0, 999_999)] = 0
    showViews: bool = False
    layout: Layout = Layout.WEBDATASET
    imagePx: Annotated[int, WithinRange(32, 2048)] = 512
    output: str = ""
    subjects: str = ""


class XraySynthDatasetLogic(ScriptedLoadableModuleLogic):
    """Holds the parameters and what acts on the scene."""

    def __init__(self):
        super().__init__()
        from XraySynthSlicer.dataset import DatasetLogic

        self.dataset = DatasetLogic(slicer.mrmlScene)

    def getParameterNode(self):
        """The module's parameters in the scene."""
        return XraySynthDatasetParameterNode(super().getParameterNode())


class XraySynthDatasetWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self._paths = []
        self._parameters = self._guiTag = self._seen = self._drawn = None
        self._placing = None
        self._hint = ""
        self._redrawPending = False

    def setup(self):
        """Build the panel, once."""
        from XraySynthSlicer.panel import JobPanel

        ScriptedLoadableModuleWidget.setup(self)
        widget = slicer.util.loadUI(self.resourcePath("UI/XraySynthDataset.ui"))
        self.layout.addWidget(widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = XraySynthDatasetLogic()
        self._sheet = qt.QLabel()
        self._sheet.setWindowTitle(_("First images of the set"))
        self.ui.sheetButton.setVisible(False)
        self.panel = JobPanel(
            self.ui.applyButton,
            self.ui.progressBar,
            self.ui.statusLabel,
            self.onApply,
            self.onParameters,
        )
        self.ui.newListButton.clicked.connect(self.onNewList)
        self.ui.pointList.currentRowChanged.connect(self.onPoint)
        self.ui.placeButton.toggled.connect(self.onPlace)
        for button, action in (
            (self.ui.fitLabelsButton, self.onFitLabels),
            (self.ui.fitPointsButton, self.onFitPoints),
            (self.ui.previewButton, self.onPreview),
            (self.ui.saveSubjectButton, self.onSaveSubject),
            (self.ui.sheetButton, self.onEnlarge),
        ):
            button.clicked.connect(lambda *_, action=action: self.panel.attempt(action))
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
        self.logic.dataset.close()

    def enter(self):
        """See to the parameters, when the module is opened."""
        self.connectParameters()
        self._drawn = self._hint = None
        self.onParameters()

    def exit(self):
        """Stop placing and take the sphere out of the scene, when the module is left."""
        self.ui.placeButton.checked = False
        self.logic.dataset.hide_views()

    def connectParameters(self):
        """Bind the panel to the scene's parameters."""
        from XraySynthSlicer.panel import bind_path, connect_gui

        if self._parameters is None:
            self._parameters = self.logic.getParameterNode()
            self._guiTag = connect_gui(self._parameters, self.ui)
            self._paths = [
                bind_path(self.ui.outputPath, self._parameters, "output"),
                bind_path(self.ui.subjectsPath, self._parameters, "subjects"),
            ]
            modified = vtk.vtkCommand.ModifiedEvent
            self.addObserver(self._parameters, modified, self.onParameters)
            self.onParameters()

    def disconnectParameters(self):
        """Let go of the scene's nodes."""
        self._follow(None)
        self._sheet.hide()
        self.ui.sheetButton.setVisible(False)
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
        self.logic.dataset.close()

    def onSceneEndClose(self, caller, event):
        """Begin anew with the scene that is there now."""
        self.disconnectParameters()
        self.connectParameters()

    def onParameters(self, caller=None, event=None):
        """Follow the panel: enable what can be done, show points and views."""
        parameters, ui = self._parameters, self.ui
        if parameters is None or slicer.mrmlScene.IsBatchProcessing():  # half a scene is there
            return
        hasPoints = parameters.points is not None
        ready = parameters.ct is not None and hasPoints
        running = self.panel.running
        ui.placeButton.enabled = hasPoints
        ui.fitPointsButton.enabled = hasPoints and not running
        ui.fitLabelsButton.enabled = hasPoints and parameters.labels is not None and not running
        ui.previewButton.enabled = ready and not running
        ui.saveSubjectButton.enabled = ready and bool(parameters.subjects)
        ui.applyButton.enabled = running or ready or bool(parameters.subjects)
        for spin in (
            ui.primaryFromSpin,
            ui.primaryToSpin,
            ui.secondaryFromSpin,
            ui.secondaryToSpin,
        ):
            spin.enabled = parameters.limitAngles
        self._follow(parameters.points)
        self._sayHint(ready)
        self._showViewsSoon()

    def onNewList(self, *arguments):
        """Begin with the 14 landmarks."""
        self._parameters.points = self.logic.dataset.new_list()
        self.ui.pointList.setCurrentRow(0)

    def onPoint(self, row):
        """Show where the landmark chosen is; while placing, ask for it if it is missing."""
        from XraySynthSlicer.dataset import is_placed, rule_of

        node = self._seen
        picture, rule = qt.QPixmap(), ""
        if node is not None and 0 <= row < node.GetNumberOfControlPoints():
            name = node.GetNthControlPointLabel(row)
            path = self.resourcePath(f"Landmarks/XraySynthLandmark-{name}.png")
            if Path(path).is_file():
                picture, rule = qt.QPixmap(path), f"{name}: {rule_of(name)}"
            if self._placing not in (None, row) and not is_placed(node, row):
                self._place(row)
        self.ui.pictureLabel.setPixmap(picture)
        self.ui.ruleLabel.text = rule

    def onPlace(self, pressed):
        """Begin or end placing."""
        from XraySynthSlicer.dataset import next_unplaced

        if not pressed:
            self._stopPlacing()
        elif self._seen is not None:
            missing = next_unplaced(self._seen, self.ui.pointList.currentRow - 1)
            if missing is None:
                self.ui.placeButton.checked = False
                self.panel.say(_("All landmarks are placed; drag what is wrong."))
            else:
                self._place(missing)

    def onMode(self, caller, event):
        """Placing may have been ended elsewhere: by Esc, a right click or the toolbar."""
        qt.QTimer.singleShot(0, self._endPlacing)  # a click ends it, too: see `onDefined`

    def onDefined(self, caller, event):
        """A point has got a place: ask for the next one."""
        from XraySynthSlicer.dataset import is_placed, next_unplaced
        from XraySynthSlicer.landmarks import mark_corrected

        placed = self._placing
        if placed is None or not is_placed(caller, placed):
            return
        mark_corrected(caller, placed)
        self._placing = None
        following = next_unplaced(caller, placed)
        if following is None:
            self.ui.placeButton.checked = False
        else:  # once the click is dealt with
            qt.QTimer.singleShot(0, lambda: self._placeNext(following))

    def onDragged(self, caller, event):
        """A person has put a point where it belongs."""
        from XraySynthSlicer.landmarks import mark_corrected

        mark_corrected(caller, caller.GetDisplayNode().GetActiveControlPoint())
        self._showPoints()

    def onPoints(self, caller, event):
        """Points have been placed, moved or renamed."""
        if not self._redrawPending:
            self._redrawPending = True
            qt.QTimer.singleShot(0, self._redrawPoints)

    def onFitLabels(self):
        """Lay the shape model over the bones."""
        self._fit(self.logic.dataset.fit_labels_job)

    def onFitPoints(self):
        """Let the shape model predict the other landmarks."""
        self._fit(self.logic.dataset.fit_points_job)

    def onPreview(self):
        """Make the first images."""
        self._install()
        self.panel.run(self.logic.dataset.preview_job(self._parameters), self._showSheet)

    def onEnlarge(self):
        """Show the first images in a window of their own."""
        self._sheet.show()

    def onSaveSubject(self):
        """Keep the patient for sets of several."""
        path = self.logic.dataset.save_subject(self._parameters)
        self.panel.say(_("Saved as {path}.").format(path=path))

    def onApply(self):
        """Export."""
        self._install()
        job = self.logic.dataset.export_job(self._parameters)
        self.panel.run(job, self._sayWhere)

    def _sayHint(self, ready):
        """Say what to choose or what is not installed, once, until it is something else."""
        from XraySynthSlicer.dependencies import Needs, notice

        if ready or self._parameters.subjects:
            hint = notice(Needs.PROJECTION, self.ui.applyButton.text)
        else:
            hint = _("Choose a CT and its landmarks, or make a new list of landmarks.")
        if hint != self._hint and not self.panel.running:
            self._hint = hint
            self.panel.say(hint)

    def _install(self):
        from XraySynthSlicer.dependencies import Needs, ensure

        ensure(Needs.PROJECTION)

    def _fit(self, start):
        self._install()
        self.ui.placeButton.checked = False
        self.panel.run(start(self._parameters), self._showFit)

    def _showFit(self):
        doubt = self.logic.dataset.show_fit()
        self.panel.say(doubt or _("All landmarks are placed; look at each and drag what is wrong."))

    def _showSheet(self):
        sheet = qt.QPixmap(str(self.logic.dataset.contact_sheet()))
        self._sheet.setPixmap(sheet)
        small = sheet.scaledToWidth(SHEET_WIDTH_PX, qt.Qt.SmoothTransformation)
        self.ui.sheetButton.setIcon(qt.QIcon(small))
        self.ui.sheetButton.setIconSize(small.size())
        self.ui.sheetButton.setVisible(True)

    def _sayWhere(self):
        page = Path(self._parameters.output) / "index.html"
        self.panel.say(_("The set is written; {page} shows it.").format(page=page))

    def _place(self, row):
        """Ask for a click where this landmark is."""
        node, logic = self._seen, slicer.modules.markups.logic()
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        changed = interaction.InteractionModeChangedEvent
        if not self.hasObserver(interaction, changed, self.onMode):
            self.addObserver(interaction, changed, self.onMode)
        self._placing = row
        self.ui.pointList.setCurrentRow(row)
        node.SetControlPointPlacementStartIndex(row)
        logic.SetActiveList(node)
        logic.StartPlaceMode(False)
        name = node.GetNthControlPointLabel(row)
        self.panel.say(_("Click where {name} is.").format(name=name))

    def _placeNext(self, row):
        if self.ui.placeButton.checked and self._seen is not None:
            self._place(row)

    def _endPlacing(self):
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        if self._placing is not None and interaction.GetCurrentInteractionMode() != (
            interaction.Place
        ):
            self.ui.placeButton.checked = False

    def _stopPlacing(self):
        self._placing = None
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        if interaction is not None:
            interaction.SetCurrentInteractionMode(interaction.ViewTransform)
        self.panel.say("")
        self._showPoints()

    def _follow(self, node):
        """Follow this list of points and none else."""
        rules = {
            slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent: [self.onDefined, self.onPoints],
            slicer.vtkMRMLMarkupsNode.PointPositionUndefinedEvent: [self.onPoints],
            slicer.vtkMRMLMarkupsNode.PointModifiedEvent: [self.onPoints],
            slicer.vtkMRMLMarkupsNode.PointAddedEvent: [self.onPoints],
            slicer.vtkMRMLMarkupsNode.PointRemovedEvent: [self.onPoints],
            slicer.vtkMRMLMarkupsNode.PointEndInteractionEvent: [self.onDragged],
        }
        if node is self._seen:
            return
        self.ui.placeButton.checked = False
        for event, calls in rules.items():
            for call in calls:
                if self._seen is not None:
                    self.removeObserver(self._seen, event, call)
                if node is not None:
                    self.addObserver(node, event, call)
        self._seen = node
        self._showPoints()

    def _redrawPoints(self):
        self._redrawPending = False
        self._showPoints()
        self._showViewsSoon()

    def _showPoints(self):
        """List the points, whether they are placed, and say which look wrong."""
        from XraySynthSlicer.dataset import FITTED, PREDICTED, is_placed, wrong_sides
        from XraySynthSlicer.nodes import landmarks_from_node, point_names

        texts, node = [], self._seen
        names = point_names(node) if node is not None else ()
        for index, name in enumerate(names):
            told = {
                FITTED: _("fitted"),
                PREDICTED: _("predicted, look at it"),
            }.get(node.GetNthControlPointDescription(index), _("placed"))
            texts.append(f"{name}  -  {told if is_placed(node, index) else _('missing')}")
        points = self.ui.pointList
        row = points.currentRow
        points.blockSignals(True)
        points.clear()
        points.addItems(texts)
        points.setCurrentRow(min(max(row, 0), len(texts) - 1))
        points.blockSignals(False)
        if points.currentRow != row:
            self.onPoint(points.currentRow)
        wrong = []
        if len(set(names)) == len(names) > 0:
            wrong = wrong_sides(landmarks_from_node(node))
        warning = _("Left and right look exchanged: {names} must lie on the patient's left.")
        self.ui.sidesLabel.text = warning.format(names=", ".join(wrong)) if wrong else ""

    def _showViewsSoon(self):
        parameters = self._parameters
        if parameters is None:
            return
        points, places = parameters.points, b""  # a point's move is none of the node's MTime
        if points is not None:
            places = slicer.util.arrayFromMarkupsControlPoints(points, world=True).tobytes()
        state = (
            *(parameters.showViews, parameters.poses, parameters.views, parameters.seed),
            *(parameters.limitAngles, parameters.primaryFromDeg, parameters.primaryToDeg),
            *(parameters.secondaryFromDeg, parameters.secondaryToDeg),
            *(node and node.GetID() for node in (parameters.ct, points)),
            places,
        )
        if state != self._drawn:
            self._drawn = state
            qt.QTimer.singleShot(0, self._showViews)

    def _showViews(self):
        parameters = self._parameters
        if parameters is None:
            return
        if not parameters.showViews or (parameters.ct is None and parameters.points is None):
            self.logic.dataset.hide_views()
            return
        try:
            self.logic.dataset.show_views(parameters)
        except ValueError as error:
            self.panel.say(str(error))


class XraySynthDatasetTest(ScriptedLoadableModuleTest):
    """A test to be run inside Slicer: landmarks are asked for one by one, sides are checked."""

    def setUp(self):
        """Start from an empty scene."""
        slicer.mrmlScene.Clear(0)

    def runTest(self):
        """Run all tests."""
        self.setUp()
        self.test_landmarks()

    def test_landmarks(self):
        """The next missing point follows the one placed; sides that are exchanged are seen."""
        from XraySynthSlicer.dataset import next_unplaced, wrong_sides
        from XraySynthSlicer.nodes import landmarks_from_node

        self.delayDisplay(_("Placing landmarks"))
        node = XraySynthDatasetLogic().dataset.new_list()
        self.assertEqual(node.GetNumberOfControlPoints(), 14)
        node.SetNthControlPointPositionWorld(0, 40.0, 0.0, 0.0)
        self.assertEqual(next_unplaced(node, 0), 1)
        node.SetNthControlPointPositionWorld(1, -40.0, 0.0, 0.0)
        landmarks = landmarks_from_node(node)
        self.assertEqual(wrong_sides(landmarks), ["FH-l"])
        self.assertEqual(int(np.isfinite(landmarks.points_ras_mm).all(axis=1).sum()), 2)
        self.delayDisplay(_("Test passed"))
