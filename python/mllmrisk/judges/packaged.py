"""The judges of `configs/judges/`: each TOML there is an attribute of this module that makes its judge."""

from __future__ import annotations

import functools

from mllmrisk import config
from mllmrisk.judges.base import JudgeClass
from mllmrisk.judges.onnx import OnnxJudge
from mllmrisk.judges.recipe import Recipe


def _load(name: str, *, device: str = "auto") -> OnnxJudge:
    recipe: Recipe = config.load("judges", name, Recipe).value
    return OnnxJudge(recipe, config.CONFIGS / "judges", device=device)


def __getattr__(name: str) -> JudgeClass:
    if name not in config.names("judges"):
        raise AttributeError(name)
    return functools.partial(_load, name)
