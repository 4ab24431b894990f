"""`xraysynth doctor`: what is installed, what works here, and what would be needed for the rest."""

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, util

from XraySynthLib import __version__
from XraySynthLib.errors import UsageError
from XraySynthLib.workflows.config import VerbConfig

PACKAGES = (
    "numpy",
    "scipy",
    "SimpleITK",
    "pydicom",
    "pillow",
    "numba",
    "xraydb",
    "tyro",
    "matplotlib",
    "torch",
    "diffusers",
)


@dataclass(frozen=True, kw_only=True)
class DoctorConfig(VerbConfig):
    """Report versions, engines, devices, data and licences.

    Attributes:
        install_deepdrr: Install DeepDRR into an environment of its own (NVIDIA on Linux).
        accept_licence: DeepDRR's licence, GPL-3.0, named to say that you accept it.
    """

    install_deepdrr: bool = False
    accept_licence: str | None = None


def check_inputs(config: DoctorConfig) -> None:
    """Refuse to install without the licence's name.

    Raises:
        UsageError: If DeepDRR is asked for and its licence is not accepted.
    """
    if config.install_deepdrr and config.accept_licence != "GPL-3.0":
        raise UsageError(
            "DeepDRR is under the GNU General Public License 3: read it, and add "
            "--accept-licence GPL-3.0 to install it."
        )


def run(config: DoctorConfig) -> str:
    """Examine this machine; returns the report.

    Raises:
        XraySynthError: If DeepDRR was asked for and cannot be installed.
    """
    check_inputs(config)
    if config.install_deepdrr:
        from XraySynthLib.drr.engines.deepdrr_environment import install

        install(config.accept_licence or "", print)
    return "\n".join(f"{name:<16} {finding}" for name, finding in _findings())


def _findings() -> Iterator[tuple[str, str]]:
    yield "xraysynth", __version__
    yield "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    for package in PACKAGES:
        yield package, _version(package)
    yield "engine numba", _try_engine("numba")
    yield "engine torch", _try_engine("torch")
    yield "engine deepdrr", _deepdrr()
    yield "devices", _devices()
    yield "demo data", _demo_data()
    yield from _weights()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _try_engine(engine: str) -> str:
    """Project a box and compare with its length."""
    import numpy as np

    from XraySynthLib.drr import Materials, project
    from XraySynthLib.errors import EngineError
    from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm

    ras_from_ijk = np.diag([2.0, 2.0, 2.0, 1.0])
    ras_from_ijk[:3, 3] = -20
    box = Materials(("water",), np.ones((1, 21, 21, 21)), ras_from_ijk)
    view = view_from_carm(CArmPose(), Intrinsics(shape_px=(9, 9), pixel_spacing_mm=(1.0, 1.0)))
    try:
        length_cm = project(box, view, engine)[0, 4, 4]
    except EngineError as error:
        return str(error)
    return "works" if abs(length_cm - 4.2) < 1e-3 else f"wrong: a 4.2 cm box measures {length_cm}"


def _deepdrr() -> str:
    from XraySynthLib.drr.engines.deepdrr_environment import status

    return status()


def _devices() -> str:
    if util.find_spec("torch") is None:
        return "cpu (torch is not installed)"
    import torch

    names = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return ", ".join(["cpu", *names])


def _weights() -> Iterator[tuple[str, str]]:
    from XraySynthLib.workflows import ct_generator, detect, sample

    for what, folder in (
        ("landmark detector", detect.SHIPPED_MODEL),
        ("CT generator", ct_generator.SHIPPED),
        ("X-ray sampler, anatomy", sample.SHIPPED / "anatomy"),
        ("X-ray sampler, view", sample.SHIPPED / "view"),
    ):
        there = (folder / "config.json").is_file()
        yield "weights", f"{what} in {folder}" if there else f"no {what}; train one"


def _demo_data() -> str:
    from XraySynthLib.errors import MissingDependencyError
    from XraySynthLib.workflows.demo import chest_ct_folder

    try:
        return str(chest_ct_folder())
    except MissingDependencyError as error:
        return str(error)
