"""Silence for C libraries that print to standard error themselves."""

import atexit
import contextlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_depth = 0
_saved = -1


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Silence file descriptor 2: ITK, MetaIO, GDCM and HDF5 print there themselves.

    Threads may be inside at once; the last one out gives the descriptor back.
    """
    global _depth, _saved
    with _lock:
        if _depth == 0:
            _saved = _silence()
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0 and _saved >= 0:
                os.dup2(_saved, 2)
                os.close(_saved)


def quiet_exit() -> None:
    """Silence file descriptor 2 when the process ends.

    HDF5 does not forget a damaged file, and complains of it once more from its own exit handler,
    which runs after Python's.
    """
    atexit.unregister(_silence)
    atexit.register(_silence)


def _silence() -> int:
    """Point descriptor 2 at nothing and return a copy of the old one; -1 where there is none."""
    with contextlib.suppress(OSError):
        saved = os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        return saved
    return -1
