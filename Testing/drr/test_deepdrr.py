"""The deepdrr engine, its self-test and its child process, against a stand-in for DeepDRR.

The stand-in is in `fakes/deepdrr`; nothing here runs the real one, which needs a GPU.
"""

import gc
import json
import subprocess
import sys
import sysconfig
import time
import weakref
from pathlib import Path

import numpy as np
import pytest

import XraySynthLib
from XraySynthLib.drr import Materials, prepare, project
from XraySynthLib.drr.engines import deepdrr_environment, deepdrr_process
from XraySynthLib.drr.engines.deepdrr_environment import find_python, install, status
from XraySynthLib.drr.engines.deepdrr_process import Calibration, Child, DeepDrrProcess, calibrate
from XraySynthLib.errors import EngineError
from XraySynthLib.geometry import CArmPose, Intrinsics, View, view_from_carm

FAKES = Path(__file__).parent / "fakes"
HOUR = 3600
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="DeepDRR is for Linux")


@pytest.fixture(scope="module")
def an_environment(tmp_path_factory) -> Path:
    """A Python of its own that has the stand-in."""
    folder = tmp_path_factory.mktemp("deepdrr")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    paths = [FAKES, Path(XraySynthLib.__file__).parents[1], sysconfig.get_paths()["purelib"]]
    (site_packages / "paths.pth").write_text("\n".join(map(str, paths)))
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def habits_file(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("habits") / "habits.json"


@pytest.fixture
def habits(habits_file, monkeypatch, an_environment):
    """Sets how the stand-in behaves from its next volume on; it is DeepDRR for this test."""
    monkeypatch.setenv("FAKE_DEEPDRR", str(habits_file))
    monkeypatch.setenv("XRAYSYNTH_DEEPDRR_PYTHON", str(an_environment))

    def behave(**changed):
        habits_file.write_text(json.dumps(changed))

    behave()
    return behave


@pytest.fixture(scope="module")
def a_child(an_environment, habits_file):
    """A child that the tests share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE_DEEPDRR", str(habits_file))
        child = Child(an_environment)
    yield child
    child.close()


@pytest.fixture(scope="module")
def the_connection():
    connection = deepdrr_process._connection
    connection.close()
    yield connection
    connection.close()


def a_worker(tmp_path, source: str) -> Path:
    """A script in place of the worker."""
    script = tmp_path / "worker.py"
    script.write_text("import os, sys, time\n" + source)
    return script


def a_phantom(seed: int) -> Materials:
    """Two smooth materials on an oblique grid; every even one's is left-handed."""
    rng = np.random.default_rng(seed)
    shape = (26, 30, 34)
    k, j, i = np.indices(shape)
    maps = [
        rng.uniform(0.5, 2)
        * np.exp(-(((i - a) / 5) ** 2 + ((j - b) / 4) ** 2 + ((k - c) / 3.5) ** 2))
        for a, b, c in rng.uniform(11, 15, (2, 3))
    ]
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    if (np.linalg.det(axes) > 0) == (seed % 2 == 0):
        axes[:, 0] *= -1
    ras_from_ijk = np.eye(4)
    ras_from_ijk[:3, :3] = axes * [1.5, 2.0, 2.5]
    ras_from_ijk[:3, 3] = -ras_from_ijk[:3, :3] @ [17, 15, 13]
    density = np.array(maps, np.float32)
    return Materials(("soft tissue", "titanium"), density * (density > 1e-3), ras_from_ijk)


def a_view(mirrored: bool = True, primary_deg: float = 30.0) -> View:
    intrinsics = Intrinsics(1020.0, (0.9, 1.1), (150, 190), (88.0, 80.5), mirrored)
    return view_from_carm(CArmPose(primary_deg, 20, 10, (2, -3, 4)), intrinsics)


def a_ball_px_error(child: Child, calibration: Calibration, seed: int) -> float:
    """How far from its place a bright ball of another grid and view than the self-test's lies."""
    materials, view = a_phantom(seed), a_view(seed % 2 == 0)
    k, j, i = np.indices((21, 21, 21))
    ball = np.exp(-((i - 12) ** 2 + (j - 8) ** 2 + (k - 11) ** 2) / 4.0)[None]
    child.load(ball.astype(np.float32), materials.ras_from_ijk, calibration.shift_ijk)
    image = calibration.area_density(child.project(view))[0]
    row, column = np.indices(image.shape)
    found_px = np.array([(image * column).sum(), (image * row).sum()]) / image.sum()
    expected_px = view.project((materials.ras_from_ijk @ [12, 8, 11, 1])[None, :3])[0]
    return float(np.linalg.norm(found_px - expected_px))


class TestSelfTest:
    @pytest.mark.parametrize("shift_ijk", [(1, 1, 1), (0, 0, 0), (-0.5, 1.0, 0.25)])
    def test_the_shift_is_measured_and_undone(self, a_child, habits, shift_ijk):
        habits(shift_ijk=shift_ijk)
        calibration = calibrate(a_child)
        np.testing.assert_allclose(calibration.shift_ijk, shift_ijk, atol=0.02)
        assert calibration.open_beam_kev == pytest.approx(100)
        # NIST: soft tissue (ICRU 44) at 100 keV.
        assert calibration.mass_attenuation_cm2_per_g == pytest.approx(0.1693, rel=5e-3)
        assert a_ball_px_error(a_child, calibration, seed=1) < 0.1
        assert a_ball_px_error(a_child, calibration, seed=2) < 0.1

    def test_without_the_compensation_the_ball_is_elsewhere(self, a_child, habits):
        uncompensated = Calibration(np.zeros(3), 100.0, 0.1693)
        assert a_ball_px_error(a_child, uncompensated, seed=1) > 1

    @pytest.mark.parametrize(
        ("wrong", "what"),
        [
            ({"mirror": True}, "no small shift"),
            ({"shift_ijk": [6, 0, 0]}, "no small shift"),
            ({"zoom": 1.02}, "leaves that error"),
            ({"density": 1.05}, r"attenuation of a block is off by \+5"),
            ({"density": 0.95}, "attenuation of a block is off by -"),
            ({"offset_kev": 5.0}, "off by -"),
        ],
    )
    def test_what_a_shift_cannot_explain_fails_in_one_sentence(self, a_child, habits, wrong, what):
        habits(**wrong)
        with pytest.raises(EngineError, match=f"^DeepDRR failed its self-test: .*{what}") as error:
            calibrate(a_child)
        assert "\n" not in str(error.value)

    def test_an_empty_picture_fails(self, a_child, habits):
        habits(density=0.0)
        with pytest.raises(EngineError, match="self-test"):
            calibrate(a_child)


class TestProjection:
    def test_area_density_is_that_of_numba(self, habits, the_connection):
        for seed in (1, 2):
            materials = a_phantom(seed)
            for view in (a_view(True), a_view(False, -70.0)):
                expected = prepare(materials).project(view)
                image = project(materials, view, "deepdrr")
                assert image.shape == (2, 150, 190)
                assert image.dtype == np.float32
                assert np.abs(image - expected).max() < 0.01 * expected.max()
        assert the_connection._child.n_loads == 2 + 2  # the self-test's, then each phantom once
        assert not list(the_connection._child._folder.glob("*.npy"))

    def test_a_box_that_fills_its_grid_keeps_its_outermost_voxels(self, habits, the_connection):
        # 21 voxels of 2 mm along A, density 1.5: 1.5 g/cm3 * 4.2 cm = 6.3 g/cm2 in the middle.
        ras_from_ijk = np.diag([2.0, 2.0, 2.0, 1.0])
        ras_from_ijk[:3, 3] = -20
        box = Materials(("bone",), np.full((1, 21, 21, 21), 1.5, np.float32), ras_from_ijk)
        intrinsics = Intrinsics(shape_px=(33, 33), pixel_spacing_mm=(3, 3))
        image = project(box, view_from_carm(CArmPose(), intrinsics), "deepdrr")[0]
        assert image[16, 16] == pytest.approx(6.3, rel=2e-3)

    def test_engines_take_turns_in_one_child(self, habits, the_connection):
        one, other = a_phantom(1), a_phantom(2)
        first = project(one, a_view(), "deepdrr")
        assert np.abs(project(other, a_view(), "deepdrr") - first).max() > 0.1 * first.max()
        np.testing.assert_array_equal(project(one, a_view(), "deepdrr"), first)

    def test_an_engine_does_not_keep_the_materials(self, habits, the_connection):
        materials = a_phantom(1)
        engine, forgotten = prepare(materials, "deepdrr"), weakref.ref(materials)
        del materials
        gc.collect()
        assert forgotten() is None
        assert engine.project(a_view()).any()

    def test_a_child_that_dies_is_one_sentence_and_the_next_one_works(self, habits, the_connection):
        engine = DeepDrrProcess(a_phantom(1))
        habits(die="CUDA_ERROR_OUT_OF_MEMORY: out of memory")
        with pytest.raises(EngineError) as error:
            prepare(a_phantom(2), "deepdrr").project(a_view())
        assert str(error.value) == (
            "DeepDRR's process ended unexpectedly with exit code 3; "
            "the last it said was: CUDA_ERROR_OUT_OF_MEMORY: out of memory"
        )
        assert not the_connection._child.alive
        habits()
        assert engine.project(a_view()).any()

    def test_a_worn_child_is_replaced_before_it_loads_again(self, monkeypatch, habits):
        class Idle:
            alive, n_loads, loaded = True, 0, None

            def __init__(self, python):
                pass

            def close(self):
                self.alive = False

        monkeypatch.setattr(deepdrr_process, "Child", Idle)
        monkeypatch.setattr(deepdrr_process, "calibrate", lambda child: None)
        connection, key = deepdrr_process._Connection(), object()
        first, _ = connection.child(key)
        first.n_loads, first.loaded = deepdrr_process.LOADS_PER_CHILD, key
        assert connection.child(key)[0] is first
        assert connection.child(object())[0] is not first
        assert not first.alive

    def test_a_ray_through_which_nothing_comes_is_no_mass(self):
        calibration = Calibration(np.zeros(3), 100.0, 0.17)
        with pytest.raises(EngineError, match="so dense"):
            calibration.area_density(np.zeros((1, 2, 2), np.float32))


class TestChild:
    @pytest.mark.parametrize(
        ("source", "sentence"),
        [
            ("sys.exit(5)", "ended unexpectedly with exit code 5; the last it said was: nothing"),
            ("os.write(2, b'no GPU\\n\\n'); os.abort()", "exit code -6; .*: no GPU$"),
            ("print('Segmentation fault')", "makes no sense, 'Segmentation fault'"),
            ("print('{\"done\": true}')", "makes no sense"),
            ("print('[1, 2')", "makes no sense"),
            (
                'print(\'{"error": "ImportError: no cupy."}\')',
                "^DeepDRR failed: ImportError: .*y.$",
            ),
        ],
    )
    def test_a_child_that_fails_ends_in_one_sentence(self, tmp_path, source, sentence):
        with pytest.raises(EngineError, match=sentence) as error:
            Child(Path(sys.executable), a_worker(tmp_path, source))
        assert "\n" not in str(error.value)

    def test_a_child_that_hangs_is_killed(self, tmp_path, monkeypatch):
        monkeypatch.setattr(deepdrr_process, "TIMEOUT_S", 0.5)
        monkeypatch.setattr(deepdrr_process.tempfile, "tempdir", str(tmp_path))
        started = time.monotonic()
        hanging = a_worker(
            tmp_path, f"open('pid', 'w').write(str(os.getpid()))\ntime.sleep({HOUR})"
        )
        with pytest.raises(EngineError, match=r"gave no answer within 0\.5 s"):
            Child(Path(sys.executable), hanging)
        assert time.monotonic() - started < 10
        assert list(tmp_path.iterdir()) == [hanging]  # its folder is gone

    def test_a_forgotten_child_ends_and_leaves_nothing(self, tmp_path, monkeypatch):
        monkeypatch.setattr(deepdrr_process.tempfile, "tempdir", str(tmp_path))
        waiting = a_worker(tmp_path, f"print('{{\"ready\": 1}}', flush=True)\ntime.sleep({HOUR})")
        child = Child(Path(sys.executable), waiting)
        process = child._process
        assert child.alive
        del child
        gc.collect()
        assert process.returncode is not None  # waited for, so no zombie
        assert list(tmp_path.iterdir()) == [waiting]

    def test_the_worker_says_what_is_missing(self):
        # This Python has no deepdrr.
        with pytest.raises(
            EngineError, match=r"^DeepDRR failed: ModuleNotFoundError: .*'deepdrr'\.$"
        ):
            Child(Path(sys.executable))

    def test_a_python_that_does_not_start(self, tmp_path):
        with pytest.raises(EngineError, match="does not start"):
            Child(tmp_path / "nothing")


class TestEnvironment:
    @pytest.fixture(autouse=True)
    def a_user_without_it(self, monkeypatch, tmp_path):
        monkeypatch.delenv("XRAYSYNTH_DEEPDRR_PYTHON", raising=False)
        monkeypatch.setattr(
            deepdrr_environment.platformdirs, "user_data_path", lambda name: tmp_path / name
        )
        monkeypatch.setattr(deepdrr_environment.sys, "platform", "linux")
        self.folder = tmp_path / "XraySynth" / "deepdrr"

    def test_without_it_one_sentence_says_what_to_do(self):
        deepdrr_process._connection.close()
        with pytest.raises(EngineError) as error:
            prepare(a_phantom(1), "deepdrr")
        for part in (
            "GPLv3",
            "NVIDIA",
            "Linux",
            "xraysynth doctor --install-deepdrr --accept-licence GPL-3.0",
        ):
            assert part in str(error.value)
        assert status() == str(error.value)

    def test_a_named_python_that_is_not_there(self, monkeypatch):
        monkeypatch.setenv("XRAYSYNTH_DEEPDRR_PYTHON", "/nowhere/python")
        with pytest.raises(EngineError, match="/nowhere/python, which is not a file"):
            find_python()

    @pytest.mark.parametrize("licence", ["", "yes", "GPLv3", "gpl-3.0", "GPL-3.0 ", "MIT"])
    def test_nothing_is_installed_unless_the_licence_is_named(self, licence):
        with pytest.raises(EngineError, match=r"--accept-licence GPL-3\.0"):
            install(licence)
        assert not self.folder.parent.exists()

    def test_not_on_another_system(self, monkeypatch):
        monkeypatch.setattr(deepdrr_environment.sys, "platform", "darwin")
        with pytest.raises(EngineError, match="Linux; this is darwin"):
            install("GPL-3.0")

    def a_base_python(self, tmp_path, pip: str) -> str:
        """Stands in for Python: `-m venv FOLDER` makes a python that runs the script `pip`."""
        made = tmp_path / "made"
        made.write_text(f"#!/bin/sh\n{pip}\n")
        made.chmod(0o755)
        base = tmp_path / "base"
        base.write_text(f'#!/bin/sh\nmkdir -p "$3/bin" && cp {made} "$3/bin/python"\n')
        base.chmod(0o755)
        return str(base)

    def test_install_keeps_the_yes_and_says_what_it_does(self, tmp_path):
        (self.folder / "left").mkdir(parents=True)  # by a try that was cut short
        lines = []
        python = install("GPL-3.0", lines.append, self.a_base_python(tmp_path, 'echo "$@"'))
        assert lines == [f"-I -m pip install {' '.join(deepdrr_environment.PACKAGES)}"]
        assert not (self.folder / "left").exists()
        assert find_python() == python
        assert "deepdrr==1.2.2" in status()
        assert "licence GPL-3.0" in status()
        assert "\n" not in status()
        assert install("GPL-3.0", lines.append, "/no/python") == python  # it is whole

    def test_a_failed_install_is_not_taken_for_whole(self, tmp_path):
        with pytest.raises(EngineError, match="last message was: no space left"):
            install(
                "GPL-3.0", base_python=self.a_base_python(tmp_path, "echo no space left; exit 1")
            )
        with pytest.raises(EngineError, match="not installed"):
            find_python()


def test_the_worker_knows_only_numpy_and_deepdrr():
    import ast

    tree = ast.parse(deepdrr_process.WORKER.read_text())
    imported = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy", "deepdrr"}


def test_the_camera_we_hand_over_is_the_view_by_deepdrrs_own_geometry(tmp_path):
    """Oracle: killeengeo, the geometry that DeepDRR uses."""
    geo = pytest.importorskip("killeengeo")

    class Listener(Child):
        def __init__(self):
            self._folder, self._names = tmp_path, iter("a")

        def _ask(self, project):
            self.asked = project
            np.save(project["output"], np.ones((1, *project["shape_px"]), np.float32))

    for mirrored in (True, False):
        view, listener = a_view(mirrored), Listener()
        listener.project(view)
        projection = geo.CameraProjection(
            geo.CameraIntrinsicTransform(np.array(listener.asked["index_from_camera2d"])),
            geo.FrameTransform(np.array(listener.asked["camera3d_from_world"])),
        )
        for point_ras_mm in ([0.0, 0.0, 0.0], [-20.0, 15.0, 30.0]):
            index = np.array(projection @ geo.point(point_ras_mm))
            column, row = view.project(np.array([point_ras_mm]))[0]
            if mirrored:
                column = view.intrinsics.shape_px[1] - 1 - column
            np.testing.assert_allclose(index, [column + 0.5, row + 0.5], atol=2e-3)
