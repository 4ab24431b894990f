"""Optional packages, asked for before work begins."""

from importlib.util import find_spec

from XraySynthLib.errors import MissingDependencyError


def need_torch_packages(what: str, *packages: str) -> None:
    """See that packages of the extra "torch" are installed, without importing them.

    Args:
        what: What needs them, to begin a sentence with.
        packages: Their names, beside torch, monai and safetensors.

    Raises:
        MissingDependencyError: Naming the first that is missing.
    """
    for package in ("torch", "monai", "safetensors", *packages):
        if find_spec(package) is None:
            raise MissingDependencyError(
                f"{what} needs the package {package!r}: pip install 'xraysynth[torch]'."
            )
