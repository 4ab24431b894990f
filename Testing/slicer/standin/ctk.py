"""The few widgets of Slicer's `ctk` that the modules use, drawn with plain Qt."""

import qt
from PySide6 import QtCore, QtWidgets


class ctkCollapsibleButton(QtWidgets.QGroupBox):
    """A title and a body that can be hidden."""

    contentsCollapsed = QtCore.Signal(bool)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._collapsed = False

    def _set_collapsed(self, collapsed):
        self._collapsed = collapsed
        for child in self.findChildren(QtWidgets.QWidget, options=QtCore.Qt.FindDirectChildrenOnly):
            child.setVisible(not collapsed)
        self.contentsCollapsed.emit(collapsed)

    def showEvent(self, event):
        super().showEvent(event)
        self._set_collapsed(self._collapsed)

    text = QtCore.Property(str, lambda self: self.title, lambda self, text: self.setTitle(text))
    collapsed = QtCore.Property(bool, lambda self: self._collapsed, _set_collapsed)


class ctkSliderWidget(QtWidgets.QWidget):
    """A slider and a spin box of one value."""

    valueChanged = QtCore.Signal(float)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Horizontal)
        self._box = QtWidgets.QDoubleSpinBox()
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider, 1)
        layout.addWidget(self._box)
        self._box.setRange(0, 100)
        self._box.valueChanged.connect(self._changed)
        self._slider.valueChanged.connect(lambda steps: self._box.setValue(steps / 100))

    def _changed(self, value):
        self._slider.blockSignals(True)
        self._slider.setRange(round(100 * self._box.minimum), round(100 * self._box.maximum))
        self._slider.setValue(round(100 * value))
        self._slider.blockSignals(False)
        self.valueChanged.emit(value)

    def setValue(self, value):
        self._box.setValue(value)

    def setRange(self, low, high):
        self._box.setRange(low, high)

    def _bound(name):
        def write(self, value):
            setattr(self._box, name, value)
            self._slider.blockSignals(True)
            self._slider.setRange(round(100 * self._box.minimum), round(100 * self._box.maximum))
            self._slider.setValue(round(100 * self._box.value))
            self._slider.blockSignals(False)

        return QtCore.Property(float, lambda self: getattr(self._box, name), write)

    value, minimum, maximum = _bound("value"), _bound("minimum"), _bound("maximum")
    singleStep = _bound("singleStep")
    pageStep = QtCore.Property(float, lambda self: 10.0, lambda self, value: None)
    decimals = QtCore.Property(
        int, lambda self: self._box.decimals, lambda self, n: self._box.setDecimals(n)
    )
    suffix = QtCore.Property(
        str, lambda self: self._box.suffix, lambda self, text: self._box.setSuffix(text)
    )


class ctkPathLineEdit(QtWidgets.QLineEdit):
    """A line with a path."""

    currentPathChanged = QtCore.Signal(str)

    def __init__(self, parent=None):
        super().__init__(parent)
        self.textChanged.connect(self.currentPathChanged)

    currentPath = QtCore.Property(
        str, lambda self: self.text, lambda self, path: self.setText(path)
    )


for _cls in (ctkCollapsibleButton, ctkSliderWidget, ctkPathLineEdit):
    qt.register_widget(_cls)
