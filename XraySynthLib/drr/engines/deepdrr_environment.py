"""Where DeepDRR lives: a Python environment of its own, made only for who accepts its licence.

DeepDRR is GPLv3 and needs numpy < 2, CUDA 12 and an NVIDIA GPU under Linux; none of that comes
near the Python that runs XraySynthLib. Talking to it is `deepdrr_process`'s business.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from ctypes.util import find_library
from datetime import UTC, datetime
from pathlib import Path

import platformdirs

from XraySynthLib.errors import EngineError

PYTHON_VARIABLE = "XRAYSYNTH_DEEPDRR_PYTHON"
LICENCE = "GPL-3.0"
PACKAGES = (
    "deepdrr==1.2.2",
    "killeengeo==0.0.5",  # its geometry, which it leaves unpinned
    "cuda-python<13",  # 13 has no cuda.cudart
    "numpy<2",
    "numba",  # imported, but not among its requirements
    "cupy-cuda12x",
)
MARKER = "complete.json"
"""Written last: an environment without it was cut short. (Renaming would break a venv's paths.)"""
HOW_TO_INSTALL = f"xraysynth doctor --install-deepdrr --accept-licence {LICENCE}"


def environment_folder() -> Path:
    """Where `install` puts DeepDRR's environment."""
    return platformdirs.user_data_path("XraySynth") / "deepdrr"


def find_python() -> Path:
    """The Python that has DeepDRR: the one the user named, else the one `install` made.

    Raises:
        EngineError: If there is none.
    """
    named = os.environ.get(PYTHON_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise EngineError(f"{PYTHON_VARIABLE} names {named}, which is not a file.")
        return Path(named)
    if not (environment_folder() / MARKER).is_file():
        raise EngineError(
            "The deepdrr engine is not installed: DeepDRR is a GPLv3 package that needs an NVIDIA "
            f"GPU under Linux and an environment of its own, which `{HOW_TO_INSTALL}` makes."
        )
    return _python_in(environment_folder())


def install(
    accepted_licence: str,
    progress: Callable[[str], None] = lambda line: None,
    base_python: str = sys.executable,
) -> Path:
    """Make DeepDRR's environment; one that is whole is left as it is.

    Args:
        accepted_licence: Must be exactly `LICENCE`: the user's yes to it, kept in the environment.
        progress: Called with each line that venv and pip print.
        base_python: The Python, 3.10 to 3.12, that the environment is made from.

    Returns:
        The environment's Python.

    Raises:
        EngineError: If the licence was not named, this is not Linux, or pip fails.
    """
    if accepted_licence != LICENCE:
        raise EngineError(
            f"DeepDRR is under the licence {LICENCE}; to accept it and install, run "
            f"`{HOW_TO_INSTALL}` (got {accepted_licence!r})."
        )
    if sys.platform != "linux":
        raise EngineError(f"DeepDRR needs an NVIDIA GPU under Linux; this is {sys.platform}.")
    folder = environment_folder()
    python, marker = _python_in(folder), folder / MARKER
    if marker.is_file():
        progress(f"DeepDRR is installed in {folder}.")
        return python
    shutil.rmtree(folder, ignore_errors=True)  # what an earlier try left
    folder.parent.mkdir(parents=True, exist_ok=True)
    _run([base_python, "-m", "venv", str(folder)], progress)
    _run([str(python), "-I", "-m", "pip", "install", *PACKAGES], progress)
    record = {
        "accepted_licence": accepted_licence,
        "accepted": datetime.now(UTC).isoformat(timespec="seconds"),
        "packages": PACKAGES,
    }
    unfinished = marker.with_suffix(".part")
    unfinished.write_text(json.dumps(record, indent=2))
    unfinished.replace(marker)
    return python


def status() -> str:
    """One line for `xraysynth doctor`: where DeepDRR is and what this machine lacks for it."""
    try:
        python = find_python()
    except EngineError as error:
        return str(error)
    needs = {
        "Linux": sys.platform == "linux",
        "an NVIDIA driver (libcuda)": find_library("cuda"),
        "nvcc (the CUDA 12 toolkit, on PATH or at CUDA_PATH)": _has_nvcc(),
        "libEGL": find_library("EGL"),
        "libusb-1.0": find_library("usb-1.0"),  # open3d loads it, DeepDRR loads open3d
    }
    missing = ", ".join(what for what, found in needs.items() if not found)
    if os.environ.get(PYTHON_VARIABLE):
        place = f"DeepDRR by {python} ({PYTHON_VARIABLE})"
    else:
        record = json.loads((environment_folder() / MARKER).read_text())
        place = f"{record['packages'][0]} by {python} (licence {record['accepted_licence']})"
    return f"{place}; {f'missing: {missing}' if missing else 'it is tested when first used'}"


def _python_in(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _has_nvcc() -> bool:
    """Look where cupy looks for the compiler that DeepDRR's kernels need."""
    root = Path(os.environ.get("CUDA_PATH", "/usr/local/cuda"))
    return shutil.which("nvcc") is not None or (root / "bin" / "nvcc").is_file()


def _run(command: list[str], progress: Callable[[str], None]) -> None:
    last = "no message"
    try:
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=clean_environment(),
        ) as process:
            for line in process.stdout:
                last = line.strip() or last
                progress(line.rstrip())
    except OSError as error:
        raise EngineError(f"Installing DeepDRR failed: {error}.") from error
    if process.returncode:
        raise EngineError(f"Installing DeepDRR failed; the last message was: {last}")


def clean_environment() -> dict[str, str]:
    """This process's environment variables, less those that would mislead another Python."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH")}
