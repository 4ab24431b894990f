"""Folders that appear whole or not at all, and what killed runs leave of them."""

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

LONG_S = 3600.0
"""Where folders cannot be locked, one that did not change for so long is nobody's."""


@contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """Lend a temporary folder beside `final`; put it there when the block ends well.

    If `final` is there by then, its files are replaced one by one, in alphabetical order; what
    else it holds stays.
    """
    temporary, lock = _made(final)
    try:
        yield temporary
        try:
            temporary.rename(final)
        except OSError:
            if not final.is_dir():
                raise
            for file in sorted(temporary.iterdir()):
                file.replace(final / file.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def remove_if_unused(temporary: Path) -> None:
    """Remove a folder that `whole_folder` lent, unless a live process uses it."""
    with suppress(BlockingIOError, FileNotFoundError):  # in use; gone meanwhile
        lock = _lock(temporary)
        if lock is not None or time.time() - temporary.stat().st_mtime > LONG_S:
            shutil.rmtree(temporary, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _made(final: Path) -> tuple[Path, int | None]:
    """Make a temporary folder and lock it, so that `remove_if_unused` leaves it alone."""
    while True:
        temporary = final.with_name(f".tmp-{secrets.token_hex(6)}-{final.name}")
        temporary.mkdir()
        # Until it is locked another process may take it for a leftover and remove it.
        with suppress(BlockingIOError, FileNotFoundError):
            lock = _lock(temporary)
            temporary.stat()
            return temporary, lock


def _lock(folder: Path) -> int | None:
    """Lock a folder until the descriptor is closed or the process ends, however it ends.

    Returns:
        The descriptor; None where folders cannot be locked (Windows, some network drives).

    Raises:
        BlockingIOError: If a process has locked it.
        FileNotFoundError: If it is gone.
    """
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise
        return None
    return descriptor
