"""What is missing is named, asked for, and a No is respected."""

import sys
import types

import pytest
import slicer
from XraySynthSlicer import dependencies
from XraySynthSlicer.dependencies import Needs, ensure, missing

from XraySynthLib.errors import MissingDependencyError


@pytest.fixture
def lacking(monkeypatch):
    """Names that cannot be imported, to be changed by the test."""
    names = {"numba", "tyro", "torch", "monai"}
    monkeypatch.setattr(dependencies, "find_spec", lambda name: None if name in names else object())
    return names


def test_what_is_missing(lacking):
    assert missing(Needs.PROJECTION) == ["numba", "tyro"]
    assert missing(Needs.NETWORKS) == ["numba", "tyro", "torch", "monai"]


def test_nothing_is_asked_where_all_is_there(monkeypatch):
    monkeypatch.setattr(dependencies, "find_spec", lambda name: object())
    monkeypatch.setattr(slicer.packaging, "pip_ensure", None)  # calling it would fail
    ensure(Needs.NETWORKS)


def test_declining(lacking):
    with pytest.raises(MissingDependencyError, match="packages numba, tyro"):
        ensure(Needs.PROJECTION)


def test_agreeing_installs_what_the_file_lists_but_torch(lacking, monkeypatch):
    asked = []

    def pip_ensure(requirements, requester, skip_packages):
        asked.extend(requirements)
        lacking.clear()
        assert requester == "XraySynth" and "torch" in skip_packages

    monkeypatch.setattr(slicer.packaging, "pip_ensure", pip_ensure)
    ensure(Needs.PROJECTION)
    assert "numba>=0.61" in asked


def test_what_a_press_will_install_is_said_before(lacking, monkeypatch):
    said = dependencies.notice(Needs.PROJECTION, "Export")
    assert said == "Not installed yet: numba, tyro. Export asks first and installs them."
    lacking.add("PyTorchUtils")
    said = dependencies.notice(Needs.NETWORKS, "Detect")
    assert "numba, tyro, torch, monai" in said and "extension PyTorch" in said
    lacking.clear()
    assert dependencies.notice(Needs.NETWORKS, "Detect") == ""


@pytest.mark.parametrize(
    ("name", "lacks"),
    [
        ("XraySynthCT", "numba"),
        ("XraySynthSampler", "torch"),
        ("XraySynthLandmarks", "torch"),
        ("XraySynthDataset", "numba"),
    ],
)
def test_every_module_says_so_on_opening(lacking, open_panel, a_ct, name, lacks):
    panel = open_panel(name)
    if name == "XraySynthLandmarks":
        panel.ui.imageSelector.setCurrentNode(a_ct[0])
    if name == "XraySynthDataset":
        panel.ui.ctSelector.setCurrentNode(a_ct[0])
        panel.ui.pointsSelector.setCurrentNode(a_ct[1])
    panel.settle()
    assert "Not installed yet" in panel.ui.statusLabel.text
    assert lacks in panel.ui.statusLabel.text


def test_torch_comes_by_its_extension(lacking, monkeypatch):
    with pytest.raises(MissingDependencyError, match="monai: install the extension PyTorch"):
        ensure(Needs.NETWORKS)
    calls = []

    class Logic:
        def installTorch(self, **options):
            calls.append(options)

    monkeypatch.setitem(sys.modules, "PyTorchUtils", types.SimpleNamespace(PyTorchUtilsLogic=Logic))
    with pytest.raises(MissingDependencyError, match="package torch"):  # None: declined
        ensure(Needs.NETWORKS)
    assert calls == [{"askConfirmation": True, "torchVersionRequirement": ">=2.4"}]
