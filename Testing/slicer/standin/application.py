"""The parts of Slicer's application that the modules meet, on the real MRML library.

`install()` gives the package `slicer` of slicer-core an application: a scene with module logics,
node selectors, the scripted modules' base classes, translation and parameter nodes.
"""

import sys
import tempfile
import types
import unittest
from pathlib import Path

import parameter_node
import qt
from PySide6 import QtCore, QtWidgets

LOGICS = {
    "colors": "vtkSlicerColorLogic",
    "volumes": "vtkSlicerVolumesLogic",
    "markups": "vtkSlicerMarkupsLogic",
    "models": "vtkSlicerModelsLogic",
    "transforms": "vtkSlicerTransformLogic",
    "units": "vtkSlicerUnitsLogic",
    "subjecthierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "segmentations": "vtkSlicerSegmentationsModuleLogic",
    "sequences": "vtkSlicerSequencesLogic",
    "plots": "vtkSlicerPlotsLogic",
}


class qMRMLWidget(QtWidgets.QWidget):
    """A widget that knows the scene."""

    mrmlSceneChanged = QtCore.Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene = None

    def setMRMLScene(self, scene):
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self):
        return self._scene


class qMRMLNodeComboBox(QtWidgets.QComboBox):
    """A selector of nodes; it lists what the scene has whenever its node changes."""

    currentNodeChanged = QtCore.Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene, self._id, self._types, self._tags = None, "", [], []

    def setMRMLScene(self, scene):
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._scene = scene
        import slicer

        events = (slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, slicer.vtkMRMLScene.EndCloseEvent)
        self._tags = [scene.AddObserver(event, self._forget) for event in events]

    def _forget(self, caller, event):
        node = self.currentNode()
        if node is None and self._id:
            self._id = ""
            if not self.noneEnabled:  # another one of the scene takes its place
                self._id = next((one.GetID() for one in self._choices()), "")
            self.currentNodeChanged.emit(self.currentNode())

    def _choices(self):
        nodes = [self._scene.GetNthNode(index) for index in range(self._scene.GetNumberOfNodes())]
        return [node for node in nodes if node.GetClassName() in self._types]

    def mrmlScene(self):
        return self._scene

    def currentNode(self):
        return self._scene.GetNodeByID(self._id) if self._scene and self._id else None

    def setCurrentNode(self, node):
        if node is not None and self._scene is None:
            raise RuntimeError(f"{self.objectName}: setCurrentNode before setMRMLScene")
        if node is not None and not any(node.IsA(kind) for kind in self._types):
            raise ValueError(f"{self.objectName}: {node.GetClassName()} is none of {self._types}")
        new = node.GetID() if node is not None else ""
        self.clear()
        self.addItem(node.GetName() if node is not None else f"Select a {self._kind()}")
        if new != self._id:
            self._id = new
            self.currentNodeChanged.emit(node)

    def _kind(self):
        kind = self._types[0] if self._types else "vtkMRMLNode"
        return kind.removeprefix("vtkMRML").removesuffix("Node")

    def showEvent(self, event):
        super().showEvent(event)
        if not self.count:
            self.addItem(f"Select a {self._kind()}")

    nodeTypes = QtCore.Property(
        "QStringList", lambda self: self._types, lambda self, value: setattr(self, "_types", value)
    )


for _flag in (
    "addEnabled",
    "removeEnabled",
    "renameEnabled",
    "editEnabled",
    "noneEnabled",
    "showChildNodeTypes",
    "showHidden",
    "selectNodeUponCreation",
):
    setattr(
        qMRMLNodeComboBox,
        _flag,
        property(
            lambda self, n=f"_{_flag}": self.__dict__.get(n, True),
            lambda self, value, n=f"_{_flag}": self.__dict__.__setitem__(n, value),
        ),
    )


class ScriptedLoadableModule:
    """Base of a module."""

    def __init__(self, parent):
        self.parent = parent

    def getDefaultModuleDocumentationLink(self, docPage=None):
        return ""


class ScriptedLoadableModuleWidget:
    """Base of a module's panel."""

    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.parent = parent
        self.layout = parent.layout()

    def resourcePath(self, name):
        folder = Path(sys.modules[type(self).__module__].__file__).parent / "Resources"
        return str(folder / name)

    def setup(self):
        pass

    def cleanup(self):
        pass


class ScriptedLoadableModuleLogic:
    """Base of a module's logic: keeps its parameter node."""

    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self):
        import slicer

        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag(self.moduleName)
            node.SetModuleName(self.moduleName)
            node.SetName(self.moduleName)
            node = slicer.mrmlScene.AddNode(node)
        node.SetAttribute("ModuleName", self.moduleName)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Base of a module's own test."""

    def __init__(self, *arguments):
        super().__init__(*arguments or ("runTest",))

    def delayDisplay(self, message, *_):
        pass

    def runTest(self):
        pass


class Application:
    """What stands for qSlicerApplication."""

    def __init__(self, scene, logic):
        self._scene, self._logic, self.cursors = scene, logic, 0
        self.temporaryPath = tempfile.gettempdir()
        self.applicationName = "Slicer"
        self.startupCompleted = types.SimpleNamespace(connect=lambda call: None)

    def mrmlScene(self):
        return self._scene

    def applicationLogic(self):
        return self._logic

    def processEvents(self, *_):
        qt.application.processEvents()

    def testingEnabled(self):
        return True

    def setOverrideCursor(self, cursor):
        self.cursors += 1

    def restoreOverrideCursor(self):
        self.cursors -= 1

    def layoutManager(self):
        return None

    def pauseRender(self):
        pass

    def resumeRender(self):
        pass


def new_scene():
    """A scene with the logics of the modules, as an application starts with one."""
    import slicer

    if isinstance(getattr(slicer, "app", None), Application):
        slicer.app.folder.cleanup()
    scene, logic = slicer.vtkMRMLScene(), slicer.vtkSlicerApplicationLogic()
    logic.SetMRMLScene(scene)
    logic.GetColorLogic().SetMRMLScene(scene)
    logic.GetColorLogic().AddDefaultColorNodes()
    modules = types.ModuleType("slicer.modules")
    folder = tempfile.TemporaryDirectory(prefix="XraySynth-application-")
    share, cache = (Path(folder.name) / name for name in ("share", "cache"))
    share.mkdir()
    cache.mkdir()
    for name, cls in LOGICS.items():
        module_logic = getattr(slicer, cls)()
        if hasattr(module_logic, "SetModuleShareDirectory"):
            module_logic.SetModuleShareDirectory(str(share))
        module_logic.SetMRMLApplicationLogic(logic)
        module_logic.SetMRMLScene(scene)
        logic.SetModuleLogic(name.capitalize(), module_logic)
        setattr(modules, name, types.SimpleNamespace(logic=lambda one=module_logic: one))
    remote, files = slicer.vtkMRMLRemoteIOLogic(), slicer.vtkDataIOManagerLogic()
    for one in (remote, files):
        one.SetMRMLApplicationLogic(logic)
        one.SetMRMLScene(scene)
    remote.GetCacheManager().SetRemoteCacheDirectory(str(cache))
    files.SetAndObserveDataIOManager(remote.GetDataIOManager())
    remote.AddDataIOToScene()
    slicer.mrmlScene, slicer.modules = scene, modules
    slicer.app = Application(scene, logic)
    slicer.app.keep, slicer.app.folder = (remote, files), folder
    return scene


def _module(name, **values):
    module = types.ModuleType(name)
    module.__dict__.update(values)
    sys.modules[name] = module
    return module


def install():
    """Give slicer-core an application; returns the package `slicer`."""
    import ctk  # noqa: F401
    import slicer

    for cls in (qMRMLWidget, qMRMLNodeComboBox):
        setattr(slicer, cls.__name__, qt.register_widget(cls))
    bases = (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    )
    names = {cls.__name__: cls for cls in bases}
    _module("slicer.ScriptedLoadableModule", __all__=list(names), **names)
    slicer.i18n = _module("slicer.i18n", tr=lambda text: text, translate=lambda context, text: text)
    slicer.parameterNodeWrapper = _module(
        "slicer.parameterNodeWrapper",
        parameterNodeWrapper=parameter_node.parameterNodeWrapper,
        WithinRange=parameter_node.WithinRange,
        Choice=parameter_node.Choice,
        Default=parameter_node.Default,
    )
    slicer.packaging = _module(
        "slicer.packaging", load_requirements=_load_requirements, pip_ensure=_pip_ensure
    )
    new_scene()
    return slicer


def _load_requirements(path):
    lines = Path(path).read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _pip_ensure(requirements, requester=None, skip_packages=()):
    raise RuntimeError(f"{requester}: the user declined to install {', '.join(requirements)}")
