"""What a module needs that Slicer does not bring, and how it is installed: asked for first.

Nothing is looked for or installed on import; `ensure` is called by the button that needs it.
"""

from enum import Enum
from importlib.util import find_spec
from pathlib import Path

import slicer

from XraySynthLib.errors import MissingDependencyError

RESOURCES = Path(__file__).resolve().parents[1] / "Resources"


class Needs(Enum):
    """What is needed for what."""

    PROJECTION = "projection"
    NETWORKS = "networks"


PACKAGES = {
    Needs.PROJECTION: {
        "cv2": "opencv-python-headless",
        "filelock": "filelock",
        "h5py": "h5py",
        "matplotlib": "matplotlib",
        "numba": "numba",
        "platformdirs": "platformdirs",
        "tqdm": "tqdm",
        "tyro": "tyro",
        "xraydb": "xraydb",
    },
    Needs.NETWORKS: {
        "accelerate": "accelerate",
        "diffusers": "diffusers",
        "einops": "einops",
        "monai": "monai",
        "safetensors": "safetensors",
    },
}
"""Name to import -> name to install, of what the requirements files list."""
REQUIREMENTS = {
    Needs.PROJECTION: "XraySynthRequirements.txt",
    Needs.NETWORKS: "XraySynthNetworkRequirements.txt",
}
TORCH_VERSION = ">=2.4"


def missing(needs: Needs) -> list[str]:
    """Names of the packages that are not installed, also of those that networks build on."""
    wanted = dict(PACKAGES[Needs.PROJECTION])
    if needs is Needs.NETWORKS:
        wanted |= {"torch": "torch"} | PACKAGES[Needs.NETWORKS]
    return [package for name, package in wanted.items() if find_spec(name) is None]


def ensure(needs: Needs) -> None:
    """Install what is missing, if the user agrees: Slicer asks, naming the packages.

    Raises:
        MissingDependencyError: If the user declines, saying what is missing.
        RuntimeError: If an installation fails.
    """
    lacking = missing(needs)
    if "torch" in lacking:
        _install_torch(lacking)
    steps = [Needs.PROJECTION] + [Needs.NETWORKS] * (needs is Needs.NETWORKS)
    for step in steps:
        if set(lacking) & set(PACKAGES[step].values()):
            _install(step)
    if still := missing(needs):
        raise MissingDependencyError(_sentence(still))


def notice(needs: Needs, button: str) -> str:
    """What is missing and what a press of the button will do about it; empty for nothing."""
    lacking = missing(needs)
    if not lacking:
        return ""
    text = f"Not installed yet: {', '.join(lacking)}. "
    if "torch" in lacking and find_spec("PyTorchUtils") is None:
        return text + (
            "Install the extension PyTorch in the Extensions Manager and restart Slicer; then "
            f"{button} asks and installs the rest."
        )
    return text + f"{button} asks first and installs them."


def _install(step: Needs) -> None:
    requirements = slicer.packaging.load_requirements(RESOURCES / REQUIREMENTS[step])
    try:
        slicer.packaging.pip_ensure(
            requirements, requester="XraySynth", skip_packages=["torch", "SimpleITK"]
        )
    except RuntimeError as error:
        if still := [name for name in PACKAGES[step].values() if name in missing(step)]:
            raise MissingDependencyError(_sentence(still)) from error
        raise


def _install_torch(lacking: list[str]) -> None:
    try:
        import PyTorchUtils
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"This needs {', '.join(lacking)}: install the extension PyTorch in the Extensions "
            "Manager, restart Slicer and press the button again, which installs the rest."
        ) from error
    logic = PyTorchUtils.PyTorchUtilsLogic()
    if logic.installTorch(askConfirmation=True, torchVersionRequirement=TORCH_VERSION) is None:
        raise MissingDependencyError(_sentence(["torch"]))


def _sentence(packages: list[str]) -> str:
    plural = "s" if len(packages) > 1 else ""
    return (
        f"This needs the Python package{plural} {', '.join(packages)}; press the button again and "
        "agree to the installation."
    )
