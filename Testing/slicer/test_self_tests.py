"""The tests that users run inside Slicer (Reload and Test), here on the stand-in."""

import importlib
from pathlib import Path

import pytest

MODULES = sorted(Path(__file__).resolve().parents[2].joinpath("XraySynth").glob("*.py"))


@pytest.mark.parametrize("name", [path.stem for path in MODULES])
def test_a_module_tests_itself(scene, name):
    importlib.import_module(name).__dict__[f"{name}Test"]().runTest()
