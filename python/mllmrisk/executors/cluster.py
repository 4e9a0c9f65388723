"""A Ray cluster: found, joined quietly and left again. Ray is an extra and is imported when a cluster is asked for."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from mllmrisk.errors import UsageError
from mllmrisk.extras import optional

#: Set before Ray is imported, and only where the user has not: no telemetry, no advice about accelerators, and no log
#: of the C++ side on stderr (what goes wrong comes as an exception too).
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}

_ADDRESS = re.compile(r"auto|local|(?:ray://)?(?P<host>[^\s/:]+):(?P<port>\d{1,5})")

#: Seconds until an address counts as one where nothing answers.
_PATIENCE = 10.0


@contextlib.contextmanager
def connect(address: str = "auto", *, cpus: int | None = None) -> Iterator[Any]:
    """Joins a cluster for the length of a `with`, and gives the module `ray`.

    A program that has joined one already keeps it: it is used and not left.

    Args:
        address: `auto`, the cluster that this machine is part of (`ray start`, or the variable RAY_ADDRESS); the
            `HOST:PORT` of a head node; `ray://HOST:PORT`, a Ray Client server; `local`, a cluster of this machine alone
            that lives as long as the `with`.
        cpus: CPUs of a `local` cluster; all cores if None.

    Raises:
        MissingExtraError: Ray is not installed.
        UsageError: the address is no address, or nothing answers there.
    """
    place = _ADDRESS.fullmatch(address)
    if place is None:
        raise UsageError(f"no Ray address: {address!r} (auto, local, HOST:PORT or ray://HOST:PORT)")
    ray = load()
    if ray.is_initialized():
        yield ray
        return
    if place["host"] is not None:
        _knock(address, place["host"], int(place["port"]))
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        options |= {"include_dashboard": False, "num_cpus": cpus}
    try:
        with _silence(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of packages that Ray brings; what goes wrong is raised
            ray.init(address=address, **options)
    except (RuntimeError, ValueError, OSError) as wrong:  # a ConnectionError among them
        raise UsageError(_unreached(address, wrong)) from wrong
    try:
        yield ray
    finally:
        ray.shutdown()


def load() -> Any:
    """The module `ray`, quiet and without telemetry.

    Raises:
        MissingExtraError: it is not installed.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    ray = optional("ray", "--executor ray", "ray")
    logging.getLogger("ray").setLevel(logging.ERROR)
    return ray


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without the file descriptor of stderr, where Ray's C++ side says at its start how much it will say."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _knock(address: str, host: str, port: int) -> None:
    """Tries the port first: where nothing listens, Ray's own client ends the whole process after half a minute."""
    try:
        socket.create_connection((host, port), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as wrong:
        raise UsageError(_unreached(address, wrong)) from wrong


def _unreached(address: str, wrong: BaseException) -> str:
    if address == "auto":
        return (
            "this machine is part of no Ray cluster: start one (ray start --head), or name one with --ray-address "
            "HOST:PORT; --ray-address local takes this machine alone"
        )
    if "ray[client]" in str(wrong):
        return f"{address} needs Ray's client: pip install 'ray[client]'; or give the head node's HOST:PORT"
    lines = str(wrong).strip().splitlines()
    return f"no Ray cluster answers at {address}: {(lines or [type(wrong).__name__])[0][:200]}"
