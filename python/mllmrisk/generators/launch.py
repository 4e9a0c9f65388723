"""What a TOML of the kind `command` says, and the process that follows from it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mllmrisk.errors import UsageError
from mllmrisk.generators.base import PACKAGE

#: The variable that says where the worker scripts are; in a checkout it need not be set.
WORKERS = "MLLMRISK_WORKERS"
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Timeouts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds that a worker has.

    Attributes:
        start: from the start of the process to its hello, with the model loaded.
        image: for one image; a batch has as much for each of its requests.
        bye: from the request to end to its end.
    """

    start: float = 1800.0
    image: float = 600.0
    bye: float = 20.0


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """Keys of a TOML of the kind `command`.

    `${NAME}` in `command`, `python`, `cwd`, `log` and the strings of `arguments` stands for an environment variable.

    Attributes:
        command: program and arguments, as a list: no shell reads it.
        python: an interpreter that runs `command`, where that is a script.
        cwd: working folder; relative paths start at the TOML's folder, which is the default.
        env: names of environment variables that the worker sees beside the usual ones (PATH, HOME, CUDA_*, ...). Only
            names: a secret has no place in a TOML.
        arguments: what the worker's hello gets; its own business.
        batch: requests in one message; 0 takes what the worker likes.
        restarts: how often in a row it is started again with nothing made in between.
        log: a file that all its words are appended to.
    """

    command: list[str]
    python: str = ""
    cwd: str = ""
    env: list[str] = []
    arguments: dict[str, Any] = {}
    batch: int = 0
    timeouts: Timeouts = Timeouts()
    restarts: int = 10
    log: str = ""


class Launch(NamedTuple):
    """What is started: nothing in it is unresolved.

    Attributes:
        arguments: what the worker's hello gets.
        scripts: the script files of the command with a digest: another text is another generator.
    """

    command: list[str]
    cwd: Path
    arguments: dict[str, Any]
    log: Path | None
    scripts: dict[str, str]


def launch(parameters: Parameters, folder: Path, what: str) -> Launch:
    """Checks the keys and fills in variables and paths.

    Args:
        parameters: the keys.
        folder: where the TOML is.
        what: whose keys they are, for messages.

    Raises:
        UsageError: a key cannot be used as it stands, or a variable that it names is not set.
    """
    _check(parameters, what)
    cwd = _path(parameters.cwd or ".", folder, what)
    command = [_expanded(part, what) for part in parameters.command]
    if parameters.python:
        command.insert(0, str(Path(_expanded(parameters.python, what)).expanduser()))
    command = [str((folder / part).resolve()) if part.startswith(("./", "../")) else part for part in command]
    log = _path(parameters.log, folder, what) if parameters.log else None
    if log is not None and not log.parent.is_dir():
        raise UsageError(f"{what}: no folder for `log`: {log.parent}")
    return Launch(command, cwd, _expanded(parameters.arguments, what), log, _digests(command, cwd))


def _check(parameters: Parameters, what: str) -> None:
    if not parameters.command:
        raise UsageError(f"{what}: `command` is empty")
    for name in parameters.env:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise UsageError(f"{what}: `env` holds names of variables; {name.partition('=')[0]!r}... is none")
    if parameters.batch < 0 or parameters.restarts < 0:
        raise UsageError(f"{what}: `batch` and `restarts` cannot be negative")
    if min(parameters.timeouts.start, parameters.timeouts.image, parameters.timeouts.bye) <= 0:
        raise UsageError(f"{what}: `timeouts` are positive numbers of seconds")


def _variable(name: str, what: str) -> str:
    found = os.environ.get(name)
    if found is None and name == WORKERS:
        beside = PACKAGE.parents[1] / "workers"  # a checkout: python/mllmrisk is the package
        if beside.is_dir():
            return str(beside)
        raise UsageError(
            f"{what}: the worker scripts are not here: set {WORKERS} to the folder `workers` of a checkout"
        )
    if found is None:
        raise UsageError(f"{what}: set the environment variable {name}, which its TOML names")
    return found


def _expanded(value: Any, what: str) -> Any:
    """A value of the TOML with its `${NAME}` replaced."""
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _variable(match[1], what), value)
    if isinstance(value, list):
        return [_expanded(item, what) for item in value]
    if isinstance(value, dict):
        return {key: _expanded(item, what) for key, item in value.items()}
    return value


def _path(text: str, folder: Path, what: str) -> Path:
    return (folder / Path(_expanded(text, what)).expanduser()).resolve()


def _digests(command: Sequence[str], cwd: Path) -> dict[str, str]:
    """Which scripts run: another text is another generator."""
    found = {}
    for part in command:
        path = cwd / part
        if path.suffix in {".py", ".sh"} and path.is_file():
            found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return found
