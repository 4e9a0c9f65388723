"""Which files the paths on a command line mean: files, folders with all below them, and patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from mllmrisk.errors import UsageError
from mllmrisk.tars import SUFFIXES


def check(arguments: Sequence[str]) -> None:
    """Refuses, before any work is done, an argument that names nothing.

    Raises:
        UsageError: no such file, or a pattern that matches none.
    """
    for argument in arguments:
        if os.path.lexists(argument):
            continue
        if not glob.has_magic(argument):
            raise UsageError(f"no such file or folder: {argument}")
        if not _matching(argument):
            raise UsageError(f"the pattern {argument} matches no file")


def _matching(pattern: str) -> list[Path]:
    """The files that a pattern matches, sorted; `**` does not follow links to folders, so that a loop of links ends."""
    anchor = Path(Path(pattern).anchor)
    try:
        return sorted(path for path in anchor.glob(str(Path(pattern).relative_to(anchor))) if not path.is_dir())
    except ValueError as wrong:
        raise UsageError(f"{pattern}: {wrong}") from wrong


def files(arguments: Sequence[str]) -> Iterator[str]:
    """The files meant, one at a time: nothing is held in memory but the folder (or the pattern) that is being read.

    A file that is named is taken whatever its suffix; of a folder, the image suffixes are taken, in the order of
    names; links to folders are not followed, so that a loop of links ends.
    """
    for argument in arguments:
        path = Path(argument)
        if not os.path.lexists(path):
            yield from map(str, _matching(argument))
        elif path.is_dir():
            yield from map(str, _below(path))
        else:
            yield argument


def _below(folder: Path) -> Iterator[Path]:
    open_folders = [_inside(folder)]
    while open_folders:
        path = next(open_folders[-1], None)
        if path is None:
            open_folders.pop()
        elif path.is_dir() and not path.is_symlink():
            if os.access(path, os.R_OK | os.X_OK):
                open_folders.append(_inside(path))
            else:
                yield path  # reading it fails, and its row says so
        elif path.suffix.lower() in SUFFIXES and not path.is_dir():
            yield path


def _inside(folder: Path) -> Iterator[Path]:
    """What a folder holds, sorted by name; names are held alone, since a path takes five times as much memory."""
    return (folder / name for name in sorted(os.listdir(folder)))  # noqa: PTH208 (names, not paths)
