"""The options of commands that can run on many machines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from mllmrisk.cli.main import INTERRUPTED
from mllmrisk.errors import UsageError
from mllmrisk.executors import EXECUTORS


def executor_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Of commands on files: `--executor`, `--ray-address` and `--resume`."""
    return _taking(command, *_WHERE, click.option("--resume", is_flag=True, help="Go on with a stopped run (ray)."))


def stage_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Of commands on runs, the fields of :class:`~mllmrisk.executors.Chosen`."""
    return _taking(command, *_WHERE, _GPUS)


def _taking(command: Callable[..., Any], *options: Option) -> Callable[..., Any]:
    for option in reversed(options):
        command = option(command)
    return command


Option = Callable[[Callable[..., Any]], Callable[..., Any]]

_WHERE: tuple[Option, ...] = (
    click.option(
        "--executor",
        type=click.Choice(EXECUTORS),
        default="local",
        show_default=True,
        help="Where the work runs: here, or on a Ray cluster.",
    ),
    click.option(
        "--ray-address",
        default="auto",
        show_default=True,
        metavar="auto|local|HOST:PORT|ray://HOST:PORT",
        help="Which cluster.",
    ),
)
_GPUS: Option = click.option(
    "--ray-gpus",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="GPUs of each worker, where the cluster has any; 0.5 lets two share one.",
)


def folder(out: str) -> str:
    """The output of the Ray executor: a folder of Parquet files, whatever its name.

    Raises:
        UsageError: a name that promises another format.
    """
    if out.lower().endswith((".csv", ".npy")):
        raise UsageError(f"{out}: with --executor ray the output is a folder of Parquet files (features.parquet)")
    return out


def interrupted(out: str) -> int:
    """Says what Ctrl-C leaves of the Ray executor's work, and gives the exit code."""
    click.echo(f"mllmrisk: interrupted; what is done is in {out}, and --resume goes on with it", err=True)
    return INTERRUPTED
