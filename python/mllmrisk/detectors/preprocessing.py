"""The names of the core's preprocessing, for the modules beside this one."""

from __future__ import annotations

from mllmrisk.images import Prepared, Preprocessing, prepare

__all__ = ["Prepared", "Preprocessing", "prepare"]
