"""Optional packages: imported where they are needed, and named with the line that installs them where they are not."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from mllmrisk.errors import MissingExtraError


def optional(module: str, what: str, extra: str) -> Any:
    """The module of an optional package.

    Args:
        module: its name: `pyarrow.parquet`.
        what: what needs it, for the message: `Parquet`.
        extra: the optional dependency set that brings it.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        raise MissingExtraError(what, extra) from missing


@contextlib.contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Without transformers' progress bars and advice; what goes wrong is in our errors."""
    log = transformers.utils.logging
    level, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bar:
            log.enable_progress_bar()
