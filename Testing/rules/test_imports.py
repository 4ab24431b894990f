"""Who may import whom, what an import must not load, and what must have a docstring."""

import ast
import subprocess
import sys

import pytest

import XraySynthLib
from XraySynthLib.cli import VERBS, workflow_of

LAYERS = (
    {"errors", "quiet", "assets", ""},
    {"geometry"},
    {"data"},
    {"anatomy", "drr", "training"},
    {"ct", "diffusion", "detection", "registration"},
    {"evaluation"},
    {"workflows"},
    {"cli"},
    {"__main__"},
)
"""A module imports from its own package and from layers above it in this list; never a sibling."""
HEAVY = ("torch", "numba", "matplotlib", "tyro", "cv2", "h5py")
LIGHT_MODULES = (
    "XraySynthLib",
    "XraySynthLib.geometry",
    "XraySynthLib.geometry.converters",
    "XraySynthLib.data",
    "XraySynthLib.data.formats",
    "XraySynthLib.data.randomisation",
    "XraySynthLib.data.sets",
    "XraySynthLib.drr",
    "XraySynthLib.cli",
    "XraySynthLib.detection",
    "XraySynthLib.registration",
    "XraySynthLib.training",
    *map(workflow_of, VERBS),
)


def rank(layer: str) -> int:
    return next(number for number, layers in enumerate(LAYERS) if layer in layers)


def test_every_package_has_its_layer(sources):
    assert {source.layer for source in sources} <= set().union(*LAYERS)


def test_layers(sources):
    wrong = []
    for source in sources:
        for name, line in source.imports():
            if name.partition(".")[0] != "XraySynthLib":
                continue
            target = name.removeprefix("XraySynthLib").lstrip(".").partition(".")[0]
            if target not in set().union(*LAYERS):
                target = ""  # `from XraySynthLib import __version__`
            if target != source.layer and rank(target) >= rank(source.layer):
                wrong.append(f"{source.path}:{line} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_a_forbidden_import_is_seen(sources):
    """The test above is no good if it sees nothing: geometry must not import data, say."""
    names = {name for source in sources if source.layer == "data" for name, _ in source.imports()}
    assert any(name.startswith("XraySynthLib.geometry") for name in names)
    assert rank("data") > rank("geometry") and rank("drr") == rank("anatomy")


def test_no_relative_imports(sources):
    assert not [s.path for s in sources for name, _ in s.imports() if name.startswith("a relative")]


def test_no_slicer_no_qt_and_vtk_in_anatomy_alone(sources):
    wrong = []
    for source in sources:
        for name, line in source.imports():
            top = name.partition(".")[0].lower()
            forbidden = top in ("slicer", "qt", "ctk", "mrml", "pythonqt", "pyside6")
            if forbidden or (top.startswith("vtk") and source.layer != "anatomy"):
                wrong.append(f"{source.path}:{line} imports {name}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_an_import_loads_nothing_heavy(module):
    program = f"import sys, {module}; print(*({HEAVY!r} & sys.modules.keys()))"
    program = program.replace(repr(HEAVY), repr(set(HEAVY)))
    path = XraySynthLib.__path__[0].rpartition("XraySynthLib")[0]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {path!r}); {program}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [], "")


def test_no_print_in_the_library(sources):
    wrong = [
        f"{source.path}:{node.lineno}"
        for source in sources
        if source.layer not in ("cli", "__main__") and not source.name.endswith("_worker")
        for node in source.nodes(ast.Call)
        if isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not wrong, "\n".join(wrong)


def test_no_global_generator_is_seeded_or_drawn_from(sources):
    allowed = {"default_rng", "Generator", "SeedSequence"}
    wrong = [
        f"{source.path}:{node.lineno} uses np.random.{node.attr}"
        for source in sources
        for node in source.nodes(ast.Attribute)
        if isinstance(node.value, ast.Attribute)
        and node.value.attr == "random"
        and getattr(node.value.value, "id", "") == "np"
        and node.attr not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_everything_public_has_a_docstring(sources):
    wrong = []
    for source in sources:
        if not ast.get_docstring(source.tree):
            wrong.append(f"{source.path} has no docstring")
        for owner in [source.tree, *source.nodes(ast.ClassDef)]:
            if getattr(owner, "name", "").startswith("_"):
                continue
            for node in owner.body:
                kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
                if (
                    isinstance(node, kinds)
                    and not node.name.startswith("_")
                    and not ast.get_docstring(node)
                ):
                    wrong.append(f"{source.path}:{node.lineno} {node.name} has no docstring")
    assert not wrong, "\n".join(wrong)
