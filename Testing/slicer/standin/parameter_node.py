"""A clean-room `slicer.parameterNodeWrapper`: typed attributes of a scripted module node.

It keeps Slicer's format in the scene (`str(value)`, names of enums, node references by role), its
rule that a widget's type must match exactly, and its refusal of values out of range.
"""

import enum
import typing
from dataclasses import dataclass
from pathlib import Path

import ctk
import qt
import vtk


@dataclass
class WithinRange:
    minimum: float
    maximum: float


@dataclass
class Choice:
    choices: list


@dataclass
class Default:
    value: object


def _plain(hint):
    """A type without its annotations, and those."""
    if hasattr(hint, "__metadata__"):
        return hint.__origin__, hint.__metadata__
    return hint, ()


def _node_types(kind):
    """The nodes' classes that a type names; none where it is no type of nodes."""
    kinds = typing.get_args(kind) if typing.get_origin(kind) is typing.Union else (kind,)
    return tuple(one for one in kinds if one.__name__.startswith("vtkMRML"))


def _write(node, name, kind, notes, value):
    for note in notes:
        if isinstance(note, WithinRange) and not note.minimum <= value <= note.maximum:
            raise ValueError(f"{name} is not within {note.minimum}..{note.maximum}: {value}")
        if isinstance(note, Choice) and value not in note.choices:
            raise ValueError(f"{name} is none of {note.choices}: {value}")
    if _node_types(kind):
        if value is not None and not isinstance(value, _node_types(kind)):
            raise TypeError(f"{name} must be a {kind}, got {value.GetClassName()}")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)
        return
    if not isinstance(value, kind) and not (kind is float and isinstance(value, int)):
        raise TypeError(f"{name} must be {kind}, got {value!r}")
    text = value.name if isinstance(value, enum.Enum) else str(value)
    node.SetParameter(name, text)


def _read(node, name, kind):
    if _node_types(kind):
        return node.GetNodeReference(name)
    text = node.GetParameter(name)
    if issubclass(kind, enum.Enum):
        return kind[text]
    return text == "True" if kind is bool else kind(text)


def parameterNodeWrapper(cls):
    """Turn a class of typed attributes into a view of a parameter node."""
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {name: _plain(hint) for name, hint in hints.items()}

    def init(self, node):
        if not node.IsA("vtkMRMLScriptedModuleNode"):
            raise TypeError("A parameter node must be a vtkMRMLScriptedModuleNode")
        self.parameterNode, self._bound = node, {}
        for name, (kind, notes) in fields.items():
            if not _node_types(kind) and not node.GetParameter(name):
                default = defaults.get(name, kind() if not issubclass(kind, enum.Enum) else None)
                if default is None:
                    default = next(iter(kind))
                _write(node, name, kind, notes, default)

    defaults = {name: cls.__dict__[name] for name in fields if name in cls.__dict__}
    for name, (kind, notes) in fields.items():
        read = lambda self, n=name, k=kind: _read(self.parameterNode, n, k)  # noqa: E731
        write = lambda self, value, n=name, k=kind, a=notes: _write(  # noqa: E731
            self.parameterNode, n, k, a, value
        )
        setattr(cls, name, property(read, write))
    cls.__init__ = init
    cls.fields = fields
    cls.connectGui = _connect_gui
    cls.connectParametersToGui = _connect_parameters
    cls.disconnectGui = lambda self, tag: [undo() for undo in self._bound.pop(tag, ())]
    cls.AddObserver = lambda self, *arguments: self.parameterNode.AddObserver(*arguments)
    cls.RemoveObserver = lambda self, tag: self.parameterNode.RemoveObserver(tag)
    return cls


_SIGNALS = {
    "QCheckBox": ("stateChanged", "checked", bool),
    "QPushButton": ("toggled", "checked", bool),
    "QSlider": ("valueChanged", "value", int),
    "QSpinBox": ("valueChanged", "value", int),
    "QDoubleSpinBox": ("valueChanged", "value", float),
    "ctkSliderWidget": ("valueChanged", "value", float),
    "QLineEdit": ("textChanged", "text", str),
    "ctkPathLineEdit": ("currentPathChanged", "currentPath", Path),
}
"""Slicer's connectors, of those that have a counterpart here."""


def _connect_parameters(self, widgets):
    """Bind widgets to the parameters that they are given for; returns the tag that ends it."""
    tag = len(self._bound) + 1
    self._bound[tag] = [undo for name, one in widgets.items() for undo in _bind(self, one, name)]
    return tag


def _connect_gui(self, ui):
    """Bind every widget that has the property SlicerParameterName; like Slicer's, no tag."""
    name = "SlicerParameterName"
    _connect_parameters(
        self, {one.property(name): one for one in vars(ui).values() if one.property(name)}
    )


def _bind(self, widget, name):
    kind, notes = self.fields[name]
    if _node_types(kind):
        widget.nodeTypes = [one.__name__ for one in _node_types(kind)]
        signal = widget.currentNodeChanged
        read, write = widget.currentNode, widget.setCurrentNode
    elif type(widget) is qt.QComboBox:
        labels, values = _options(kind, notes)
        widget.clear()
        widget.addItems(labels)
        signal = widget.currentIndexChanged
        read = lambda: values[widget.currentIndex]  # noqa: E731
        write = lambda value: widget.setCurrentIndex(values.index(value))  # noqa: E731
    else:
        signal_name, attribute, shown = _SIGNALS.get(type(widget).__name__, (None, None, None))
        if kind is not shown:
            raise RuntimeError(f"{name}: no connector from {type(widget).__name__} to {kind}")
        limits = next((note for note in notes if isinstance(note, WithinRange)), None)
        if limits is None and isinstance(widget, (ctk.ctkSliderWidget, qt.QSlider)):
            raise RuntimeError(f"{name}: a {type(widget).__name__} needs a range")
        if limits is not None:
            widget.setRange(limits.minimum, limits.maximum)
        signal = getattr(widget, signal_name)
        read = lambda: kind(getattr(widget, attribute))  # noqa: E731
        write = lambda value: setattr(  # noqa: E731
            widget, attribute, str(value) if kind is Path else value
        )

    def to_node(*_):
        if _read(self.parameterNode, name, kind) != read():
            setattr(self, name, read())

    def to_widget(*_):
        if (value := getattr(self, name)) != read():
            write(value)

    to_widget()
    signal.connect(to_node)
    tag = self.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, to_widget)
    return [lambda: signal.disconnect(to_node), lambda: self.parameterNode.RemoveObserver(tag)]


def _options(kind, notes):
    if issubclass(kind, enum.Enum):
        label = getattr(kind, "label", lambda one: one.name)
        return [label(one) for one in kind], list(kind)
    choices = next(note.choices for note in notes if isinstance(note, Choice))
    return [str(one) for one in choices], list(choices)
