"""Files that a command writes: whole or not at all, never over something that is there without being told so."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mllmrisk.errors import UsageError


def check_suffix(path: Path, known: tuple[str, ...]) -> str:
    """The suffix of an output, one of `known`.

    Raises:
        UsageError: another suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in known:
        names = " or ".join(filter(None, (", ".join(known[:-1]), known[-1])))
        raise UsageError(f"{path}: the name must end in {names}")
    return suffix


def check_free(path: Path, force: bool) -> None:
    """Refuses, before any work is done, an output that could not be written.

    Raises:
        UsageError: it exists (and `force` is not set), is a folder, or its folder is missing or read-only.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder")
    if path.exists() and not force:
        raise UsageError(f"{path} exists; give --force to replace it")
    if not path.parent.is_dir():
        raise UsageError(f"no such folder: {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"{path.parent} cannot be written to")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, which takes its place at the end; after an error or Ctrl-C nothing is left."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def cores() -> int:
    """CPU cores that this process may use: the default of `--threads`."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
