"""Which files the paths on a command line mean: files, folders with all below them, and patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence

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
        if next(glob.iglob(argument, recursive=True), None) is None:
            raise UsageError(f"the pattern {argument} matches no file")


def files(arguments: Sequence[str]) -> Iterator[str]:
    """The files meant, one at a time: nothing is held in memory but the folder that is being read.

    A file that is named is taken whatever its suffix; of a folder, the image suffixes are taken, in the order of
    names; links to folders are not followed, so that a loop of links ends.
    """
    for argument in arguments:
        if os.path.lexists(argument):
            yield from _below(argument) if os.path.isdir(argument) else [argument]
            continue
        for found in glob.iglob(argument, recursive=True):
            if not os.path.isdir(found):
                yield found


def _below(folder: str) -> Iterator[str]:
    open_folders = [_entries(folder)]
    while open_folders:
        path = next(open_folders[-1], None)
        if path is None:
            open_folders.pop()
        elif os.path.isdir(path) and not os.path.islink(path):
            if os.access(path, os.R_OK | os.X_OK):
                open_folders.append(_entries(path))
            else:
                yield path  # reading it fails, and its row says so
        elif os.path.splitext(path)[1].lower() in SUFFIXES and not os.path.isdir(path):
            yield path


def _entries(folder: str) -> Iterator[str]:
    return iter(sorted(os.path.join(folder, name) for name in os.listdir(folder)))
