"""What Slicer and its extensions index ask of the files, read from the files."""

import ast
import json
import os
import re
import struct
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest
from XraySynthSlicer.dependencies import PACKAGES, REQUIREMENTS, Needs

REPOSITORY = Path(__file__).resolve().parents[2]
MODULES = REPOSITORY / "XraySynth"
MODULE_FILES = sorted(MODULES.glob("*.py"))
UI_FILES = sorted((MODULES / "Resources" / "UI").glob("*.ui"))
BUNDLED = {"numpy", "scipy", "SimpleITK", "pydicom", "requests", "pillow", "vtk"}
"""What Slicer 5.12 brings of what the library needs."""
SLICERS = {"slicer", "qt", "ctk", "vtk", "SampleData", "PyTorchUtils"}


def listed(folder):
    """Files that a CMakeLists.txt lists, relative to its folder."""
    text = re.sub(r"#.*", "", (folder / "CMakeLists.txt").read_text("utf-8"))
    return [word for word in re.split(r"[\s()]+", text) if re.search(r"[^.]\.[a-z]{2,}$", word)]


@pytest.mark.parametrize("folder", [MODULES, REPOSITORY / "XraySynthLib"])
def test_cmake_lists_every_file_once(folder):
    there = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != "CMakeLists.txt"
        if path.suffix not in (".nbi", ".nbc", ".pyc")
    }
    names = [name for name in listed(folder) if not name.startswith("$")]
    scripts = set(re.findall(r"SCRIPT (\S+)\)", (folder / "CMakeLists.txt").read_text("utf-8")))
    names = names[: len(names) - len(scripts)]  # those are named once more as tests
    assert sorted(names) == sorted(there)


def test_every_file_beside_the_modules_is_a_module():
    text = (MODULES / "CMakeLists.txt").read_text("utf-8")
    assert re.findall(r"NAME (\w+)", text) == [path.stem for path in MODULE_FILES]
    for path in MODULE_FILES:
        classes = {
            node.name
            for node in ast.parse(path.read_text("utf-8")).body
            if isinstance(node, ast.ClassDef)
        }
        assert {path.stem + end for end in ("", "Widget", "Logic", "Test")} <= classes


def test_names_of_resources_are_our_own():
    names = [path.name for path in (MODULES / "Resources").rglob("*") if path.is_file()]
    assert len(set(names)) == len(names)
    assert all(name.startswith("XraySynth") for name in names)


def test_the_top_list_is_what_the_index_reads():
    text = (REPOSITORY / "CMakeLists.txt").read_text("utf-8")
    for name in ("HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS"):
        assert re.search(rf'^set\(EXTENSION_{name} "[^"\n]+"\)$', text, re.M), name
    for url in re.findall(r"/main/(Resources/[^\"\s]+)", text):  # screenshots may be several
        assert (REPOSITORY / url).is_file(), url
    entry = json.loads((REPOSITORY / "Resources" / "XraySynth.json").read_text("utf-8"))
    assert entry["category"] == "Image Synthesis"
    assert entry["scm_url"].endswith("/SlicerXraySynth.git")
    depends = re.search(r'EXTENSION_DEPENDS "([^"]+)"', text)[1]
    assert entry["build_dependencies"] == depends.split()


@pytest.mark.parametrize(
    "icon",
    [REPOSITORY / "Resources" / "XraySynth.png", *(MODULES / "Resources" / "Icons").glob("*.png")],
    ids=lambda path: path.stem,
)
def test_icons_are_128_pixels_wide_and_high(icon):
    assert struct.unpack(">II", icon.read_bytes()[16:24]) == (128, 128)


def test_every_module_has_icon_and_panel():
    for path in MODULE_FILES:
        assert (MODULES / "Resources" / "Icons" / f"{path.stem}.png").is_file()
        assert (MODULES / "Resources" / "UI" / f"{path.stem}.ui").is_file()


@pytest.mark.parametrize("path", UI_FILES, ids=lambda path: path.stem)
def test_every_widget_that_is_used_says_what_it_does(path):
    """Containers and labels aside; what the code names must be there."""
    root = ElementTree.parse(path).getroot()
    passive = ("QLabel", "ctkCollapsibleButton", "qMRMLWidget")
    for widget in root.iter("widget"):
        if widget.get("class") not in passive:
            tips = [one for one in widget.findall("property") if one.get("name") == "toolTip"]
            assert tips and tips[0].find("string").text, widget.get("name")
    names = {widget.get("name") for widget in root.iter("widget")}
    code = (MODULES / f"{path.stem}.py").read_text("utf-8")
    assert set(re.findall(r"self\.ui\.(\w+)", code)) <= names
    selectors = {
        w.get("name") for w in root.iter("widget") if w.get("class") == "qMRMLNodeComboBox"
    }
    assert {one.find("receiver").text for one in root.iter("connection")} == selectors


@pytest.mark.parametrize("path", UI_FILES, ids=lambda path: path.stem)
def test_widgets_are_bound_to_parameters_that_exist(path):
    tree = ast.parse((MODULES / f"{path.stem}.py").read_text("utf-8"))
    (fields,) = [
        {one.target.id for one in node.body if isinstance(one, ast.AnnAssign)}
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == f"{path.stem}ParameterNode"
    ]
    bound = [
        one.find("string").text
        for one in ElementTree.parse(path).getroot().iter("property")
        if one.get("name") == "SlicerParameterName"
    ]
    code = (MODULES / f"{path.stem}.py").read_text("utf-8")
    paths = re.findall(r'bind_path\(self\.ui\.(\w+), self\._parameters, "(\w+)"\)', code)
    assert sorted([*bound, *(name for _, name in paths)]) == sorted(fields)
    assert {widget for widget, _ in paths} == {
        one.get("name") for one in widgets(path) if one.get("class") == "ctkPathLineEdit"
    }


def widgets(path):
    """Widgets of a .ui file."""
    return list(ElementTree.parse(path).getroot().iter("widget"))


def properties(widget):
    """Name -> text of a widget's properties."""
    return {one.get("name"): one[0].text for one in widget.findall("property")}


@pytest.mark.parametrize("path", UI_FILES, ids=lambda path: path.stem)
def test_paths_are_folders_and_nothing_is_chosen_by_itself(path):
    """A browse button asks for a folder; a selector does not choose another node by itself."""
    for widget in widgets(path):
        if widget.get("class") == "ctkPathLineEdit":
            filters = properties(widget)["filters"].split("|")
            assert "ctkPathLineEdit::Dirs" in filters and "ctkPathLineEdit::Files" not in filters
        if widget.get("class") == "qMRMLNodeComboBox":
            assert properties(widget)["noneEnabled"] == "true", widget.get("name")


def our_sources():
    return [*MODULE_FILES, *sorted((MODULES / "XraySynthSlicer").glob("*.py"))]


@pytest.mark.parametrize("path", our_sources(), ids=lambda path: path.stem)
def test_sources_keep_slicers_rules(path):
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_":
            (text,) = node.args
            assert isinstance(text, ast.Constant), f"{path}:{node.lineno} f-string in _()"
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "connect":
            assert len(node.args) == 1, f"{path}:{node.lineno} a signal by its signature"
    for node in tree.body:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        for name in names:
            top = name.partition(".")[0]
            own = (
                top in ("XraySynthSlicer", "XraySynthLib") and path.parent.name == "XraySynthSlicer"
            )
            allowed = top in sys.stdlib_module_names | SLICERS | BUNDLED
            assert own or allowed, f"{path}:{node.lineno} imports {name} with the module"
    if path.parent.name == "XraySynthSlicer" and path.stem != "panel":
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert "qt" not in names
        uses = [
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "slicer"
        ]
        assert not {"app", "modules", "mrmlScene"} & set(uses)


def test_requirements_are_the_librarys():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    needed = {
        Needs.PROJECTION: project["dependencies"],
        Needs.NETWORKS: project["optional-dependencies"]["torch"],
    }
    left_out = BUNDLED | {"torch", "tensorboard"}  # tensorboard: for training alone
    for needs, requirements in needed.items():
        lines = (MODULES / "Resources" / REQUIREMENTS[needs]).read_text("utf-8").splitlines()
        listed_here = [line for line in lines if not line.startswith("#")]
        wanted = [one for one in requirements if re.match(r"[\w-]+", one)[0] not in left_out]
        assert sorted(listed_here) == sorted(wanted)
        names = [re.match(r"[\w-]+", line)[0] for line in listed_here]
        assert sorted(names) == sorted(PACKAGES[needs].values())


def test_modules_open_with_what_slicer_brings_alone():
    """No torch, monai, diffusers, numba, or any other package that must be installed first."""
    program = f"""
import sys
from importlib.abc import MetaPathFinder
absent = {{"torch", "monai", "diffusers", "einops", "accelerate", "safetensors"}}
absent |= {sorted(PACKAGES[Needs.PROJECTION])!r} and set({sorted(PACKAGES[Needs.PROJECTION])!r})
class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
sys.path[:0] = {[str(REPOSITORY / "Testing" / "slicer" / "standin"), str(MODULES)]!r}
import application, importlib.util, qt
slicer = application.install()
from XraySynthSlicer import dependencies
dependencies.find_spec = lambda name: None if name in absent else importlib.util.find_spec(name)
for name in {[path.stem for path in MODULE_FILES]!r}:
    module = __import__(name)
    getattr(module, name)(type("Parent", (), {{}})())
    parent = slicer.qMRMLWidget()
    parent.setLayout(qt.QVBoxLayout())
    widget = getattr(module, name + "Widget")(parent)
    widget.setup()
    widget.enter()
    for _ in range(5):
        qt.application.processEvents()
print(sorted(absent & sys.modules.keys()))
"""
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr[-2000:]


@pytest.mark.parametrize("name", [path.stem for path in MODULE_FILES])
def test_panels_fit_into_the_applications_column(open_panel, name):
    assert open_panel(name).parent.minimumSizeHint.width() <= 430
