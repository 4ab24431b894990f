"""The modules on the real MRML library and a stand-in for the Qt application (see `standin`)."""

import importlib
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
STANDIN = Path(__file__).with_name("standin")
sys.path[:0] = [str(STANDIN), str(REPOSITORY / "XraySynth")]
try:
    import application

    application.install()
except ImportError as error:  # no slicer-core for this machine, or PySide6 lacks a system library
    warnings.warn(f"Testing/slicer is left out: {error}", stacklevel=1)
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def scene():
    """An empty scene of an application that has just started."""
    return application.new_scene()


@pytest.fixture
def a_ct(scene):
    """A small person's CT in the scene, with its landmarks: (CT node, landmarks node)."""
    from XraySynthSlicer.ct import add_person
    from XraySynthSlicer.nodes import point_names

    ct = add_person(scene, "Person", *_person())
    points = scene.GetFirstNodeByClass("vtkMRMLMarkupsFiducialNode")
    assert point_names(points)
    return ct, points


def _person():
    """A body with two bones in it, oblique, and a landmark list."""
    from XraySynthLib.data import LandmarkSet, Volume
    from XraySynthLib.data.pelvis import LANDMARK_NAMES
    from XraySynthLib.geometry.transforms import rotation, transform_points, translation

    ras_from_ijk = translation([20, -30, 10]) @ rotation("y", 12) @ np.diag([5.0, 5, 5, 1])
    ras_from_ijk = ras_from_ijk @ translation([-23.5] * 3)
    k, j, i = np.meshgrid(*[np.linspace(-1, 1, 48)] * 3, indexing="ij")
    values_hu = np.where(i**2 + (j / 0.7) ** 2 < 0.9, 0.0, -1000.0)
    labels = np.zeros(values_hu.shape, np.uint8)
    for label, side in ((1, -0.4), (2, 0.4)):
        labels[(i - side) ** 2 + j**2 + (k / 2) ** 2 < 0.05] = label
    values_hu[labels > 0] = 700
    points_ijk = np.random.default_rng(0).uniform(12, 35, (len(LANDMARK_NAMES), 3))
    landmarks = LandmarkSet(LANDMARK_NAMES, transform_points(ras_from_ijk, points_ijk))
    return Volume(values_hu, ras_from_ijk, labels), landmarks


class Panel:
    """A module's panel, used as a person does.

    Attributes:
        widget: The module's widget.
        ui: Its children by name.
    """

    def __init__(self, name):
        import slicer

        module = importlib.import_module(name)
        module.__dict__[name](_Parent())
        self.parent = slicer.qMRMLWidget()
        self.parent.setLayout(application.qt.QVBoxLayout())
        self.widget = module.__dict__[f"{name}Widget"](self.parent)
        self.widget.setup()
        self.widget.enter()
        self.ui = self.widget.ui
        self.settle()

    def settle(self):
        """Let everything that is due happen."""
        for _ in range(5):
            application.qt.application.processEvents()

    def wait(self, timeout_s=300.0):
        """Wait for the job, while the event loop runs."""
        started = time.monotonic()
        while self.widget.panel.running:
            application.qt.application.processEvents()
            assert time.monotonic() - started < timeout_s, self.ui.statusLabel.text
            time.sleep(0.005)
        self.settle()

    def close(self):
        """Unload the module."""
        self.widget.cleanup()
        self.parent.deleteLater()
        self.settle()


class _Parent:
    """What stands for a module's C++ side."""


@pytest.fixture
def open_panel(scene):
    """Opens a module's panel by the module's name."""
    opened = []

    def open_one(name):
        opened.append(Panel(name))
        return opened[-1]

    yield open_one
    for panel in opened:
        panel.close()
