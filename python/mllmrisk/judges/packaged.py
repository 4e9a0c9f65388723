"""The judges of `configs/judges/`: each TOML there is an attribute of this module that makes its judge."""

from __future__ import annotations

import functools

from mllmrisk import config, judges
from mllmrisk.judges.base import Judge, JudgeClass


def _load(name: str, *, device: str = "auto") -> Judge:
    return judges.from_file(config.CONFIGS / "judges" / f"{name}.toml", device=device)


def __getattr__(name: str) -> JudgeClass:
    if name not in config.names("judges"):
        raise AttributeError(name)
    return functools.partial(_load, name)
