"""How the CPU kernels are compiled: without the global lock, cached on disk where that can be."""

from collections.abc import Callable
from typing import Any

import numba

OPTIONS: dict[str, Any] = {
    "nogil": True,  # threads of our own: numba's pool aborts on concurrent calls
    "fastmath": True,  # inputs are checked for NaN once, before
    "error_model": "numpy",
}


def kernel(function: Callable) -> Callable:
    """Compile `function` at its first call; keep it on disk unless no folder can be written."""
    try:
        return numba.njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # a read-only install and a read-only home: numba finds no cache folder
        return numba.njit(**OPTIONS)(function)
