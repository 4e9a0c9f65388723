"""The encoders of `configs/encoders/`: each TOML there is an attribute of this module that makes its encoder."""

from __future__ import annotations

import functools

from mllmrisk import config
from mllmrisk.detectors import encoders
from mllmrisk.detectors.encoders.base import Encoder, EncoderClass


def _load(name: str, *, device: str = "cpu") -> Encoder:
    return encoders.from_file(config.CONFIGS / "encoders" / f"{name}.toml", device=device)


def __getattr__(name: str) -> EncoderClass:
    if name not in config.names("encoders"):
        raise AttributeError(name)
    return functools.partial(_load, name)
