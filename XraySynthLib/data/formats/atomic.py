"""Files that appear whole or not at all."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Lend a temporary name beside `path`; rename it to `path` when the block ends well.

    The temporary name ends as `path` does, so that a writer that goes by the suffix recognises it.

    Yields:
        The path to write to; nothing is there yet.

    Raises:
        FileNotFoundError: If the folder of `path` does not exist.
        OSError: If the file cannot be written, as on a full disk; it names `path`.
    """
    final = Path(path)
    if not final.parent.is_dir():
        raise FileNotFoundError(f"The folder {final.parent} does not exist; make it first.")
    temporary = final.with_name(f".tmp-{secrets.token_hex(6)}-{final.name}")
    try:
        yield temporary
        temporary.replace(final)
    except OSError as error:
        about_us = error.filename is None or str(error.filename) == str(temporary)
        if error.errno is None or not about_us:
            raise
        raise OSError(error.errno, error.strerror, str(final)) from error
    finally:
        temporary.unlink(missing_ok=True)
