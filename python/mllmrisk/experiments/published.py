"""What the paper found, as data, and which estimates of a run stand beside it.

A figure is reproduced only where prompt set and generator are the paper's. What was measured on other prompts or other
models is shown beside it as that, so that nobody takes it for a reproduction.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import msgspec

from mllmrisk import config
from mllmrisk.records import Estimate


class Figure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One figure of the paper.

    Attributes:
        experiment, metric, prompt_set, generator, paradigm: as the columns of an estimate.
        value: a share; None where the paper's digests give words only.
        said: these words.
    """

    experiment: str
    metric: str
    prompt_set: str
    generator: str
    paradigm: str
    value: float | None = None
    said: str | None = None


class Published(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The figures with their source."""

    name: str
    version: int
    source: str
    note: str
    figures: list[Figure]


class Beside(NamedTuple):
    """A figure of the paper and what a run has of it.

    Attributes:
        same: the run's estimates on the same prompt set by the same generator, one per judge.
        elsewhere: the nearest that it has otherwise: the paradigm on other prompts or by other models.
    """

    figure: Figure
    same: list[Estimate]
    elsewhere: list[Estimate]


@cache
def published() -> Published:
    """The figures that come with the package."""
    text = (config.CONFIGS / "published.toml").read_text(encoding="utf-8")
    return config.parse(text, Published, "published.toml")


def beside(rows: Sequence[Estimate]) -> list[Beside]:
    """Every figure of the paper whose metric the run has, in the paper's order."""
    found = []
    for figure in published().figures:
        # Corruption has no judge of unsafe content; an unsafe score of the paper is over any category.
        kind = [
            r for r in rows if (r.experiment, r.metric) == (figure.experiment, figure.metric) and r.category is None
        ]
        if not kind:
            continue
        same = [r for r in kind if (r.prompt_set, r.generator) == (figure.prompt_set, figure.generator)]
        whole = [r for r in kind if r.generator is None and r.paradigm == figure.paradigm]
        found.append(Beside(figure, same, [] if same else _nearest(figure, whole, rows)))
    return found


def _nearest(figure: Figure, whole: Sequence[Estimate], rows: Sequence[Estimate]) -> list[Estimate]:
    """Rows of the same paradigm whose prompts play the same part: the same set, Chinese ones, twins; else all."""
    own = [r for r in whole if r.prompt_set == figure.prompt_set]
    if own:
        return own
    if figure.experiment == "corrupted":
        pairs = [(r.contrast or "").partition(": ")[2].split(" - ") for r in rows if r.experiment == "corrupted"]
        part = 1 if figure.prompt_set.endswith("twins") else 0
        sets = {pair[part] for pair in pairs if len(pair) == 2}
        return [r for r in whole if r.prompt_set in sets]
    if figure.prompt_set.endswith("chinese"):
        return [r for r in whole if (r.language or "").startswith("zh")]
    return [r for r in whole if r.prompt_set is None]
