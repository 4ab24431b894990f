"""Slicer's `qt` (PythonQt) on PySide6: Qt properties are attributes, names are in one module.

widget.enabled = True             a property is an attribute, and is not called
button.clicked.connect(f)         signals as in PySide6; string signatures are not there
QTimer.singleShot(ms, f)          the static method, although QTimer has such a property
"""

import os
import re
from xml.etree import ElementTree

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

application = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["XraySynth"])
for _module in (QtCore, QtGui, QtWidgets):
    globals().update({name: getattr(_module, name) for name in dir(_module) if name[0] != "_"})

_custom: dict[str, type] = {}
_exposed: set[type] = set()
_running_single_shots = []


def _expose_properties(cls):
    """Make every Qt property that a class declares an attribute of it."""
    if cls in _exposed:
        return
    _exposed.add(cls)
    meta = cls.staticMetaObject
    for index in range(meta.propertyOffset(), meta.propertyCount()):
        name = meta.property(index).name()
        if not isinstance(cls.__dict__.get(name), QtCore.Property):
            read = lambda self, name=name: self.property(name)  # noqa: E731
            write = lambda self, value, name=name: self.setProperty(name, value)  # noqa: E731
            setattr(cls, name, property(read, write))


def _single_shot(milliseconds, callback):
    timer = QtCore.QTimer()
    timer.setSingleShot(True)
    _running_single_shots.append(timer)
    timer.timeout.connect(lambda: (_running_single_shots.remove(timer), callback()))
    timer.start(milliseconds)


for _value in list(globals().values()):
    if isinstance(_value, type) and issubclass(_value, QtCore.QObject):
        for _base in reversed(_value.__mro__):
            if issubclass(_base, QtCore.QObject):
                _expose_properties(_base)
QtCore.QObject.name = property(lambda self: self.objectName, lambda self, v: self.setObjectName(v))
QtCore.QObject.className = lambda self: self.metaObject().className()
QtCore.QTimer.singleShot = staticmethod(_single_shot)


def register_widget(cls):
    """Let .ui files name a class."""
    _expose_properties(cls)
    _custom[cls.__name__] = cls
    return cls


class QUiLoader:
    """Loads .ui files; connections of scenes, which Qt's own loader cannot make, are made here."""

    def load(self, file, parent=None):
        path = file.fileName()
        root = ElementTree.parse(path).getroot()
        loader = QtUiTools.QUiLoader()
        for cls in _custom.values():
            loader.registerCustomWidget(cls)
        known = set(loader.availableWidgets()) | set(_custom) | {"QWidget", "Line", "Spacer"}
        unknown = sorted({one.get("class") for one in root.iter("widget")} - known)
        if unknown:
            raise RuntimeError(f"{path}: the stand-in has no {', '.join(unknown)}.")
        connections = list(root.iter("connection"))
        for section in root.findall("connections"):
            root.remove(section)
        for one in root.findall(".//widget[@class='ctkPathLineEdit']"):  # has no browse button here
            one.remove(one.find("property[@name='filters']"))
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        widget = loader.load(buffer, parent)
        widget._loader = loader
        objects = {one.objectName: one for one in [widget, *widget.findChildren(QtCore.QObject)]}
        for connection in connections:
            names = [connection.find(tag).text for tag in ("sender", "receiver", "signal", "slot")]
            sender, receiver = objects[names[0]], objects[names[1]]
            signal, slot = (re.match(r"\w+", name).group() for name in names[2:])
            getattr(sender, signal).connect(getattr(receiver, slot))
        return widget
