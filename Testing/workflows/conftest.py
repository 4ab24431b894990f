"""The command line in process, and a tiny patient for it."""

import io
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from XraySynthLib.cli import main
from XraySynthLib.data import LandmarkSet, Volume
from XraySynthLib.data.formats import read_landmarks, write_labels, write_landmarks, write_volume

SHOWN_WARNINGS = (RuntimeWarning, UserWarning, FutureWarning, SyntaxWarning)
"""What Python prints on stderr unless told otherwise."""
BRIGHT_IJK = (17, 9, 14)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes minutes; run with -m slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "slow" not in config.option.markexpr:
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip("slow; run with -m slow"))


@dataclass(frozen=True)
class Outcome:
    """What a program that starts `xraysynth` sees."""

    code: int
    out: str
    err: str


@contextmanager
def _descriptor_2() -> Iterator[list[str]]:
    """Yield a list that holds, afterwards, what C libraries wrote to standard error."""
    written: list[str] = []
    with tempfile.TemporaryFile() as file:
        saved = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield written
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            written.append(file.read().decode(errors="replace"))


def run_in_process(*words: object) -> Outcome:
    """Run the command line; what would be on its stderr (warnings too) is kept."""
    out, err = io.StringIO(), io.StringIO()
    with (
        _descriptor_2() as from_c,
        redirect_stdout(out),
        redirect_stderr(err),
        warnings.catch_warnings(record=True) as warned,
    ):
        warnings.simplefilter("always")
        code = main([str(word) for word in words])
    shown = [str(w.message) for w in warned if issubclass(w.category, SHOWN_WARNINGS)]
    return Outcome(code, out.getvalue(), err.getvalue() + "".join([*from_c, *shown]))


def write_patient(folder: Path) -> None:
    """ct.nii.gz, labels.nii.gz and points.mrk.json of a trunk with a bone and a bright blob.

    24 x 22 x 20 voxels of 4 mm about RAS (10, -20, 30); the blob is centred on `BRIGHT_IJK`.
    """
    k, j, i = np.indices((20, 22, 24), dtype=np.float32)
    values = np.full(k.shape, -1000.0, np.float32)
    values[2:18, 4:18, 3:21] = 40
    values[2:18, 11:15, 8:12] = 700
    distance = (i - BRIGHT_IJK[0]) ** 2 + (j - BRIGHT_IJK[1]) ** 2 + (k - BRIGHT_IJK[2]) ** 2
    values += np.round(2500 * np.exp(-distance / 2))
    ras_from_ijk = np.diag([4.0, 4.0, 4.0, 1.0])
    ras_from_ijk[:3, 3] = np.array([10, -20, 30]) - 2.0 * np.array([23, 21, 19])
    labels = np.zeros(k.shape, np.uint8)
    labels[2:18, 11:15, 8:12] = 3
    labels[distance < 5] = 7
    write_volume(Volume(values, ras_from_ijk), folder / "ct.nii.gz")
    write_labels(labels, ras_from_ijk, folder / "labels.nii.gz")
    bright_ras_mm = (ras_from_ijk @ [*BRIGHT_IJK, 1])[:3]
    points = LandmarkSet(("bright", "far"), [bright_ras_mm, bright_ras_mm + 500])
    write_landmarks(points, folder / "points.mrk.json")


@pytest.fixture(scope="session")
def write_subject() -> Callable[[Path], None]:
    """Write a patient whose two landmarks are both in most images, into a new folder."""

    def write(folder: Path) -> None:
        folder.mkdir(parents=True)
        write_patient(folder)
        points = read_landmarks(folder / "points.mrk.json")
        near = points.points_ras_mm[[0, 0]] + [[0, 0, 0], [-30, 5, 20]]
        write_landmarks(LandmarkSet(points.names, near), folder / "points.mrk.json")

    return write


@pytest.fixture(scope="session")
def in_process() -> tuple[Callable[..., Outcome], Callable[[Path], None]]:
    """The two functions above, for fixtures that outlive a test."""
    return run_in_process, write_patient


@pytest.fixture
def xraysynth() -> Callable[..., Outcome]:
    """`xraysynth("project", "--ct", ...)` as a shell would run it."""
    return run_in_process


@pytest.fixture
def patient(tmp_path: Path) -> Path:
    """A folder with ct.nii.gz, labels.nii.gz and points.mrk.json."""
    write_patient(tmp_path)
    return tmp_path


@pytest.fixture
def failed() -> Callable[[Outcome, int, str], None]:
    """`failed(outcome, 2, "--kvp")`: it ended with this code and one sentence with the words."""

    def check(outcome: Outcome, code: int, words: str) -> None:
        assert outcome.code == code, outcome.err
        assert outcome.err.startswith("xraysynth: ")
        assert outcome.err.count("\n") == 1 and outcome.err.endswith("\n")
        assert words in outcome.err
        assert "Traceback" not in outcome.err and len(outcome.err) < 350

    return check


@pytest.fixture
def a_blob(tmp_path: Path) -> tuple[Path, Path]:
    """A CT of one soft blob in air, and the landmark at its middle."""
    k, j, i = np.indices((20, 22, 24))
    distance = (i - 15) ** 2 + (j - 8) ** 2 + (k - 12) ** 2
    values = -1000 + 1400 * np.exp(-distance / 8)
    ras_from_ijk = np.diag([3.0, 3.0, 3.0, 1.0])
    ras_from_ijk[:3, 3] = [-30, -35, 200]
    middle = (ras_from_ijk @ [15, 8, 12, 1])[:3]
    write_volume(Volume(values, ras_from_ijk), tmp_path / "blob.nrrd")
    write_landmarks(LandmarkSet(("blob",), [middle]), tmp_path / "blob.csv")
    return tmp_path / "blob.nrrd", tmp_path / "blob.csv"


@pytest.fixture(scope="session")
def a_generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with networks that have learned nothing."""
    import torch

    from XraySynthLib.ct.model import GeneratorConfig, save_generator
    from XraySynthLib.ct.networks import Autoencoder, NetworkConfig, latent_flow, refiner_flow
    from XraySynthLib.ct.tissues import KINDS, SCALARS

    torch.manual_seed(0)
    sizes = NetworkConfig(
        len(KINDS), len(SCALARS), 2, 2, (8, 8), 8, diffusion_channels=(8, 8), refiner_channels=(8,)
    )
    config = GeneratorConfig(
        "tiny",
        sizes,
        tuple(kind.name.lower() for kind in KINDS),
        tuple(SCALARS),
        (0.0, 0.0),
        (1.0, 1.0),
        0.1,
        (2.5, 10.0),
        people=("somebody",),
    )
    networks = {
        "autoencoder": Autoencoder(sizes),
        "latents": latent_flow(sizes),
        "refiner": refiner_flow(sizes),
    }
    folder = tmp_path_factory.mktemp("generator") / "model"
    save_generator(config, networks, folder)
    return folder
