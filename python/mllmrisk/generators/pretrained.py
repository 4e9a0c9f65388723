"""What diffusers and transformers have in common: where a model comes from, loading it quietly, and its record."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mllmrisk.errors import MllmriskError, OutOfMemoryError, UsageError
from mllmrisk.extras import optional
from mllmrisk.inference import first_line

T = TypeVar("T")

#: Files that decide what a model computes; everything else in its folder is text for people.
_COUNTED = {".json", ".jinja", ".safetensors", ".txt", ".model"}

#: Warnings of the libraries' own inner workings, by the start of their message. Anything else is shown.
_KNOWN = (
    # schedulers of diffusers hand tensors to NumPy 2
    "__array__ implementation doesn't accept a copy keyword",
    # diffusers calls the hub's client with an argument of former days
    "The `local_dir_use_symlinks` argument is deprecated",
)

_LOGGING = ("diffusers.utils.logging", "transformers.utils.logging")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The libraries' progress bars and log lines below an error are off inside, and as before afterwards."""
    hub = optional("huggingface_hub.utils", "a pretrained model", "gen")
    libraries = [sys.modules[name] for name in _LOGGING if name in sys.modules]
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    hub_bars = not hub.are_progress_bars_disabled()
    try:
        for library in libraries:
            library.set_verbosity(logging.ERROR)
            library.disable_progress_bar()
        hub.disable_progress_bars()
        with warnings.catch_warnings():
            for known in _KNOWN:
                warnings.filterwarnings("ignore", message=known)
            yield
    finally:
        for library, (level, bars) in zip(libraries, before, strict=True):
            library.set_verbosity(level)
            if bars:
                library.enable_progress_bar()
        if hub_bars:
            hub.enable_progress_bars()


def loaded(what: str, load: Callable[[], T]) -> T:
    """What `load` returns, loaded quietly.

    Raises:
        UsageError: whatever the library found wrong, in one line.
    """
    try:
        with quiet():
            return load()
    except OutOfMemoryError as wrong:
        message = f"{what} does not fit into memory: {wrong}; another dtype, offload or device may do"
        raise UsageError(message) from wrong
    except MllmriskError:
        raise
    except Exception as wrong:  # OSError, ValueError, ImportError, SafetensorError, ...: no common base
        raise UsageError(f"{what} cannot be loaded: {type(wrong).__name__}: {first_line(wrong)}") from wrong


def origin(model: str, placed: str, revision: str | None, index: str) -> dict[str, Any]:
    """Which weights these are, after they were loaded.

    Args:
        model: as the TOML has it.
        placed: hub id or folder, from :func:`~mllmrisk.generators.base.place`.
        revision: branch, tag or commit that was asked for.
        index: the file that every such model has at its top: `config.json`, `model_index.json`.

    Returns:
        For a hub id `revision` and the `commit` that it stood for; for a folder a `digest` of its contents, and its
        name without the path, which is of this machine.
    """
    folder = Path(placed)
    if placed != model or folder.is_absolute():
        return {"model": model if model.startswith("package:") else folder.name, "digest": folder_digest(folder)}
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model, index, revision=revision)
    commit = Path(found).parent.name if isinstance(found, str) else None
    return {"model": model, "revision": revision or "main", "commit": commit}


def passed(parameters: msgspec.Struct) -> dict[str, Any]:
    """A generator's own keys as given, for its record; `model` is in its :func:`origin`."""
    return {name: value for name, value in msgspec.to_builtins(parameters).items() if name != "model"}


def folder_digest(folder: Path) -> str:
    """First 16 digits of a sha256 over names and contents of what a model's folder computes with.

    Contents and not headers alone: two trainings of one architecture have the same headers. It reads every weight
    once: about a second per 1 to 2 GB.
    """
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in _COUNTED and path.is_file():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            total.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return total.hexdigest()[:16]
