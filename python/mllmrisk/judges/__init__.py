"""Judges: image → scores per category of unsafe content. The table of names; nothing is imported until asked for."""

from __future__ import annotations

from mllmrisk.judges.base import Judge
from mllmrisk.registry import Registry

JUDGES: Registry[type[Judge]] = Registry("judge", "mllmrisk.judges", {}, {})
