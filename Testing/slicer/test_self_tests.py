"""The tests that users run inside Slicer (Reload and Test), here on the stand-in."""

import importlib

import pytest


@pytest.mark.parametrize("name", ["XraySynthCT", "XraySynthDRR", "XraySynthLandmarks"])
def test_a_module_tests_itself(scene, name):
    importlib.import_module(name).__dict__[f"{name}Test"]().runTest()
