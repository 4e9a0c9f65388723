"""Levels of a prompt, paired by caption: what was detected at each, its slope, and the rows that compare.

A caption counts where it has scored images at every level, generator by generator; the caption is what is resampled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from mllmrisk import metrics
from mllmrisk.experiments import detecting
from mllmrisk.experiments.crossfit import Scored
from mllmrisk.experiments.detecting import Group
from mllmrisk.experiments.study import Study, tally
from mllmrisk.records import Estimate, Evidence, Sample

_LEVEL = re.compile(r"v(\d{1,2})")
#: Of a row that compares what was detected.
MEASURE = "detection_rate"


def levels_of(samples: Iterable[Sample]) -> dict[str, int]:
    """The levels of generated images, in order: `{"v0": 0, "v1": 1, "v2": 2}`."""
    named = {s.level for s in samples if s.label == "fake" and s.level is not None}
    numbers = {level: int(match[1]) for level in named if (match := _LEVEL.fullmatch(level))}
    return dict(sorted(numbers.items(), key=lambda pair: pair[1]))


def caption_of(study: Study, sample: Sample) -> str:
    """The caption that a prompt goes back to: its concept, else its id without the level at the end."""
    prompt = study.prompts.get(sample.prompt_id or "")
    concept = (prompt.concept if prompt is not None else None) or sample.extra.get("concept")
    if concept:
        return concept
    name = sample.prompt_id or f"image {sample.id}"
    marked = [f"{mark}{sample.level}" for mark in "/-_"]
    return next((name.removesuffix(end) for end in marked if name.endswith(end)), name)


class Panel(NamedTuple):
    """What was detected, by caption and level, of the captions that have every level.

    Attributes:
        values: (captions, levels) share of images above the threshold; mean over generators where there are several.
        captions: their names.
        images: ids of the images behind them.
        prompts: distinct prompts behind them.
        unscored: images of the group that are not behind them, by reason.
        undefined: why there is no threshold, or None.
    """

    values: NDArray[np.float64]
    captions: list[str]
    images: int
    prompts: int
    unscored: dict[str, int]
    undefined: str | None

    @classmethod
    def of(cls, study: Study, group: Group, levels: Mapping[str, int], scored: Scored, rate: float) -> Panel:
        """Collects a group's images; a caption lacking a level of some generator is left out there, and counted."""
        lost = [s for s in study.without_image if group.holds(s) and s.level in levels]
        if rate not in scored.margins:
            reason = scored.undefined.get(rate, "no_threshold_in_the_file")
            return cls(np.zeros((0, len(levels))), [], 0, 0, {reason: len(group.members)}, reason)
        flags = _mean_flags(scored, rate)
        unscored = tally({i: r for i, r in scored.reasons.items() if i not in flags}, [*group.members, *lost])
        there = [s for s in group.members if s.id in flags]
        whole = complete(study, there, levels)
        kept = [s for cells in whole.values() for samples in cells.values() for s in samples]
        if len(kept) < len(there):
            unscored["unmatched"] = unscored.get("unmatched", 0) + len(there) - len(kept)
        by_caption: dict[str, list[list[float]]] = {}
        for (_, caption), cells in whole.items():
            means = [float(np.mean([flags[s.id] for s in cells[level]])) for level in levels]
            by_caption.setdefault(caption, []).append(means)
        values = [np.mean(rows, axis=0) for rows in by_caption.values()]
        return cls(
            np.array(values, dtype=np.float64).reshape(len(values), len(levels)),
            list(by_caption),
            len(kept),
            len({s.prompt_id for s in kept if s.prompt_id is not None}),
            unscored,
            None,
        )

    def slopes(self, levels: Mapping[str, int]) -> NDArray[np.float64]:
        """(captions,) least-squares slope of each caption over the levels."""
        found: NDArray[np.float64] = self.values @ _weights(levels)
        return found


def complete(
    study: Study, samples: Iterable[Sample], levels: Mapping[str, int]
) -> dict[tuple[str, str], dict[str, list[Sample]]]:
    """Images by (generator, caption) and level, of those that have every level."""
    cells: dict[tuple[str, str], dict[str, list[Sample]]] = {}
    for sample in samples:
        key = (str(sample.generator), caption_of(study, sample))
        cells.setdefault(key, {}).setdefault(str(sample.level), []).append(sample)
    return {key: by_level for key, by_level in cells.items() if set(levels) <= set(by_level)}


def _mean_flags(scored: Scored, rate: float) -> dict[str, float]:
    """By sample id, in what share of the divisions an image lies above its threshold."""
    raised: dict[str, list[bool]] = {}
    for sample, margin in zip(scored.samples, scored.margins[rate], strict=True):
        raised.setdefault(sample.id, []).append(bool(margin > 0))
    return {name: float(np.mean(flags)) for name, flags in raised.items()}


def _weights(levels: Mapping[str, int]) -> NDArray[np.float64]:
    """(levels,) what each level's value weighs in the least-squares slope of a caption that has them all."""
    x = np.array(list(levels.values()), dtype=np.float64)
    x -= x.mean()
    weights: NDArray[np.float64] = x / (x @ x)
    return weights


class Comparing:
    """Makes the rows that compare levels: the keys and words that they share."""

    def __init__(
        self, study: Study, where: detecting.Where, rate: float, levels: Mapping[str, int], columns: Mapping[str, str]
    ) -> None:
        self._study, self._where, self._rate, self._levels, self._columns = study, where, rate, levels, columns
        self._options: dict[str, Any] = {"resamples": study.resamples, "seed": study.seed, "threads": study.threads}
        self._how = f"95% bootstrap by caption, {study.resamples} resamples"

    def slope(self, panel: Panel) -> Estimate:
        """Least squares over the levels, with the caption's own mean at each."""
        how = (
            f"least-squares slope over the levels {', '.join(self._levels)} of the share of images above the carried "
            f"threshold, captions with every level; {self._how}, near no change hulled with the bounded difference; "
            f"p: {metrics.PAIRED_P_METHOD} of the captions' own slopes, Holm over the detector's slopes"
        )
        result = None
        if panel.captions:
            n, numbers = len(panel.captions), np.array(list(self._levels.values()), dtype=np.int64)
            ids = np.repeat(np.arange(n), len(numbers))
            found = metrics.slope(panel.values.ravel(), np.tile(numbers, n), ids, **self._options)
            result = _hull(found, self._mean_of(panel.slopes(self._levels)))
        return self._row("slope", f"{MEASURE} per level", how, result, [panel])

    def difference(self, panel: Panel) -> Estimate:
        """The last level minus the first."""
        first, *_, last = self._levels
        how = (
            f"share of images above the carried threshold at {last} minus that at {first}, paired by caption; "
            f"{self._how}; p: {metrics.PAIRED_P_METHOD}, Holm over the detector's differences"
        )
        result = None
        if panel.captions:
            ids = np.arange(len(panel.captions))
            sides = panel.values[:, -1], ids, panel.values[:, 0], ids
            result = metrics.difference(*sides, paired=True, **self._options)
        name = f"{MEASURE}: {last} - {first}"
        return self._row("difference", f"difference of {MEASURE}", how, result, [panel], contrast=name)

    def contrast(self, pair: tuple[str, str], first: Panel, second: Panel) -> Estimate:
        """One paradigm's slope minus another's, on the same captions where they have some in common."""
        shared = [name for name in first.captions if name in set(second.captions)]
        paired = len(shared) > 1
        how = (
            f"slope of {pair[0]} minus slope of {pair[1]}, "
            f"{'paired by caption' if paired else 'captions of each side by themselves'}; {self._how}; "
            f"p: {metrics.PAIRED_P_METHOD if paired else metrics.UNPAIRED_P_METHOD}, Holm over the detector's contrasts"
        )
        result = None
        if first.captions and second.captions:
            place = {name: i for i, name in enumerate(dict.fromkeys([*first.captions, *second.captions]))}
            sides = [
                (self._scaled(panel.slopes(self._levels)), np.array([place[name] for name in panel.captions]))
                for panel in (first, second)
            ]
            scaled = metrics.difference(*sides[0], *sides[1], paired=paired, **self._options)
            result = self._unscaled(scaled)
        row = self._row(
            "difference",
            f"difference of {MEASURE} per level",
            how,
            result,
            [first, second],
            contrast=f"slope: {pair[0]} - {pair[1]}",
            clusters=len(shared) if paired else None,
        )
        lost = len(first.captions) + len(second.captions) - 2 * len(shared)
        return _counted(row, "unmatched", lost) if paired and lost else row

    # A slope of shares lies in [-range / 2, range / 2]; scaled to [0, 1] few events widen its interval as they should.

    @property
    def _range(self) -> float:
        return float(np.abs(_weights(self._levels)).sum())

    def _scaled(self, slopes: NDArray[np.float64]) -> NDArray[np.float64]:
        scaled: NDArray[np.float64] = np.clip(slopes / self._range + 0.5, 0.0, 1.0)
        return scaled

    def _unscaled(self, found: metrics.Contrast) -> metrics.Contrast:
        ends = [None if end is None else end * self._range for end in (found.low, found.high)]
        return metrics.Contrast(found.value * self._range, ends[0], ends[1], found.p_value)

    def _mean_of(self, slopes: NDArray[np.float64]) -> metrics.Contrast:
        ids, half = np.arange(len(slopes)), np.full(len(slopes), 0.5)
        return self._unscaled(metrics.difference(self._scaled(slopes), ids, half, ids, paired=True, **self._options))

    def _row(
        self,
        metric: str,
        unit: str,
        how: str,
        result: metrics.Contrast | None,
        panels: Sequence[Panel],
        *,
        contrast: str | None = None,
        clusters: int | None = None,
    ) -> Estimate:
        unscored: dict[str, int] = {}
        for panel in panels:
            for reason, n in panel.unscored.items():
                unscored[reason] = unscored.get(reason, 0) + n
        if result is None and not unscored:
            unscored = {"no_scored_image": 0}
        side: dict[str, str | list[str]] = {"label": "fake", "level": list(self._levels), **self._columns}
        if (contrast or "").startswith("slope: "):
            side["paradigm"] = (contrast or "").removeprefix("slope: ").split(" - ")
        reason = next(
            (panel.undefined for panel in panels if panel.undefined), "no caption has a scored image at every level"
        )
        return Estimate(
            experiment="richness",
            metric=metric,
            unit=unit,
            method=how if result is not None else f"none: {reason.replace('_', ' ')}",
            n_prompts=sum(panel.prompts for panel in panels),
            n_images=sum(panel.images for panel in panels),
            n_unscored=unscored,
            value=None if result is None else result.value,
            low=None if result is None else result.low,
            high=None if result is None else result.high,
            p_value=None if result is None else result.p_value,
            detector=self._where.detector,
            trained_on=self._where.trained_on,
            perturbation=self._where.perturbation,
            contrast=contrast,
            at=self._rate,
            n_clusters=clusters or sum(len(panel.captions) for panel in panels) or None,
            cluster_by="caption",
            evidence=Evidence(scorer=self._where.scorer, perturbation=self._where.perturbation, where=side),
            paradigm=self._columns.get("paradigm"),
            generator=self._columns.get("generator"),
        )


def _hull(found: metrics.Contrast, other: metrics.Contrast) -> metrics.Contrast:
    """The first, its interval widened to hold the second's, with the second's p-value."""
    if found.low is None or found.high is None or other.low is None or other.high is None:
        return found
    return metrics.Contrast(found.value, min(found.low, other.low), max(found.high, other.high), other.p_value)


def _counted(row: Estimate, reason: str, n: int) -> Estimate:
    lost = {**row.n_unscored, reason: row.n_unscored.get(reason, 0) + n}
    return msgspec.structs.replace(row, n_unscored=lost)


def lengths(study: Study) -> dict[str, dict[str, float]]:
    """Mean words (between white space) of the generated images' prompts, by level, and how many prompts there are."""
    levels = levels_of(study.samples)
    texts: dict[str, dict[str, str]] = {level: {} for level in levels}
    for sample in study.samples:
        if sample.label == "fake" and sample.level in levels and sample.prompt:
            texts[sample.level][sample.prompt_id or sample.id] = sample.prompt
    return {
        level: {"words": round(sum(len(t.split()) for t in found.values()) / len(found), 2), "prompts": len(found)}
        for level, found in texts.items()
        if found
    }
