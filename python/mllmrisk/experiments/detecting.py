"""From cross-fitted scores to the figures of detection, for any group of generated images against photographs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mllmrisk import metrics
from mllmrisk.experiments.crossfit import Scored
from mllmrisk.experiments.study import Study, by_generator, tally
from mllmrisk.records import AGAINST, EVERY, Estimate, Evidence, ExperimentKind, Sample

#: A side with fewer groups than this is resampled by image: two or three sources say nothing about sources.
_FEWEST_GROUPS = 4


class Group(NamedTuple):
    """A group of generated images, as the columns of its rows name it."""

    paradigm: str | None
    generator: str | None
    members: list[Sample]
    level: str | None = None

    def holds(self, sample: Sample) -> bool:
        """Whether a sample, with or without an image, is one of the group."""
        if self.paradigm == "real":  # photographs are grouped by source
            return sample.label == "real" and self.generator in (None, sample.source)
        return sample.label == "fake" and all(getattr(sample, key) == value for key, value in self.columns.items())

    @property
    def columns(self) -> dict[str, str]:
        """The group's keys that are not null."""
        named = {"paradigm": self.paradigm, "generator": self.generator, "level": self.level}
        return {key: value for key, value in named.items() if value is not None}


class Where(NamedTuple):
    """The keys that all rows of one call share."""

    experiment: ExperimentKind
    detector: str
    perturbation: str
    scorer: str | None
    trained_on: str | None = None


class Clusters(NamedTuple):
    """Resampled units of some rows: (n,) ids, how many there are, and what they are."""

    ids: NDArray[np.int64]
    units: int
    by: str


def groups(samples: Sequence[Sample], min_images: int) -> list[Group]:
    """All generated images, each paradigm, and each generator with at least `min_images`."""
    fakes = [s for s in samples if s.label == "fake"]
    found = [Group(None, None, fakes)]
    found += [Group(p, None, [s for s in fakes if s.paradigm == p]) for p in sorted({s.paradigm for s in fakes})]
    for name, members in by_generator(samples).items():
        paradigms = {s.paradigm for s in members}
        if len(members) >= min_images and len(paradigms) == 1:
            found.append(Group(paradigms.pop(), name, members))
    return found


def clusters(study: Study, rows: Sequence[Sample]) -> Clusters:
    """What is resampled: groups of the study, or single images on a side that has too few groups."""
    ids = study.group_of(rows)
    by = {"real": study.groups.by, "fake": study.groups.by}
    labels = np.array([s.label for s in rows])
    for label in ("real", "fake"):
        side = labels == label
        if side.any() and len(np.unique(ids[side])) < _FEWEST_GROUPS and by[label] != "image":
            by[label] = "image"
            position: dict[str, int] = {}
            offset = int(ids.max()) + 1
            for row in np.flatnonzero(side):
                ids[row] = offset + position.setdefault(rows[int(row)].id, len(position))
    present = [label for label in ("real", "fake") if (labels == label).any()]
    words = {by[label] for label in present}
    named = words.pop() if len(words) == 1 else f"{by['real']} (photographs), {by['fake']} (generated)"
    return Clusters(ids, len(np.unique(ids)), named)


def within_sources(study: Study, rows: Sequence[Sample]) -> Clusters | None:
    """What is resampled for other images of the same sources: prompts, or images; None where these are `clusters`."""
    if "source" not in study.groups.by:
        return None
    position: dict[str, int] = {}
    concept = study.concepts
    keys = [f"image {s.id}" if s.prompt_id is None else f"prompt {concept.get(s.prompt_id, s.prompt_id)}" for s in rows]
    ids = np.array([position.setdefault(key, len(position)) for key in keys], dtype=np.int64)
    return Clusters(ids, len(position), "prompt" if any(s.prompt_id for s in rows) else "image")


def figures(
    study: Study,
    scored: Scored,
    where: Where,
    group: Group,
    rates: Iterable[float],
    *,
    short: bool = False,
    source: str | None = None,
) -> list[Estimate]:
    """AUC, AP, EER, accuracy, calibration error and detection rates of one group against photographs.

    Args:
        study: whose seed, resamples and groups are used.
        scored: cross-fitted scores, or those of a file.
        where: the keys of the rows.
        group: the generated images.
        rates: false-alarm rates of the detection rates.
        short: AUC and detection rates only.
        source: against the photographs of this source alone, which the `contrast` column then names; None for all.
    """
    members = {s.id for s in group.members}
    keep = np.array([_photograph(s, source) or s.id in members for s in scored.samples], dtype=bool)
    rows = scored.where(keep)
    sides = [*(s for s in study.samples if _photograph(s, source)), *group.members]
    make = _maker(study, where, group, rows, sides, source)
    labels = np.array([s.label == "fake" for s in rows.samples], dtype=bool)
    if not labels.any() or labels.all():
        return [make("auc", None, method="none: one side has no scored image")]
    units = clusters(study, rows.samples)
    inside = within_sources(study, rows.samples)
    found: list[Estimate] = []
    options: dict[str, Any] = {"resamples": study.resamples, "seed": study.seed, "threads": study.threads}

    def add(metric: metrics.Metric, scores: NDArray[np.float64], how: str, at: float | None = None) -> None:
        ranked = metric in RANKED
        given: dict[str, Any] = {"strata": rows.strata} if ranked else {"threshold": 0.0}
        try:
            interval = metrics.detection(metric, scores, labels, units.ids, **given, **options)
            within = metrics.detection(metric, scores, labels, inside.ids, **given, **options) if inside else None
        except ValueError as why:  # no stratum holds both labels
            found.append(make(metric, None, method=f"none: {why}", at=at, units=units, lost={"undefined": len(sides)}))
            return
        method = f"{how}; {bootstrap(study, units)}"
        tied = ties(rows, labels) if ranked else None
        found.append(make(metric, interval, method=method, at=at, units=units, within=within, ties=tied))

    add("auc", rows.scores, "pairs scored by one model")
    if not short:
        add("ap", rows.scores, "average precision among images scored by one model, weighted over models")
        add("eer", rows.scores, "equal error rate among images scored by one model, weighted over models")
        add("accuracy", rows.scores, "share of images on the right side of calibrated probability 0.5")
        found.append(_calibration(study, rows, labels, units, make))
    for rate in rates:
        if rate in rows.margins:
            how = f"share of generated images above the threshold that calibration photographs set at {rate:.0%}"
            add("detection_rate", rows.margins[rate], how, at=rate)
        else:
            lost = {rows.undefined[rate]: len(group.members)}
            found.append(make("detection_rate", None, method="none", at=rate, units=units, lost=lost))
    return found


def against_sources(
    study: Study, scored: Scored, where: Where, chosen: Iterable[Group], min_images: int
) -> list[Estimate]:
    """AUC of groups against each source of photographs with at least `min_images`, never only against all of them.

    None where there are fewer than two such sources: against the only one is against all.
    """
    counted = Counter(s.source for s in study.samples if s.label == "real" and s.source is not None)
    sources = [source for source, n in counted.items() if n >= min_images]
    if len(counted) < 2:
        return []
    every = list(chosen)
    return [
        row
        for source in sources
        for group in every
        for row in figures(study, scored, where, group, (), short=True, source=source)
    ]


def _photograph(sample: Sample, source: str | None) -> bool:
    return sample.label == "real" and source in (None, sample.source)


def ties(rows: Scored, labels: NDArray[np.bool_]) -> float:
    """Share of (photograph, generated) pairs scored by one model whose scores are equal."""
    tied = pairs = 0.0
    for stratum in np.unique(rows.strata):
        member = rows.strata == stratum
        fakes = int(labels[member].sum())
        if own := fakes * (int(member.sum()) - fakes):
            tied += own * metrics.tie_share(rows.scores[member], labels[member])
            pairs += own
    return tied / pairs if pairs else 0.0


def _calibration(
    study: Study, rows: Scored, labels: NDArray[np.bool_], units: Clusters, make: Callable[..., Estimate]
) -> Estimate:
    probabilities = 1.0 / (1.0 + np.exp(-np.clip(rows.scores, -500, 500)))
    interval = metrics.calibration_error(
        probabilities,
        labels,
        units.ids,
        bins=10,
        equal_mass=True,
        resamples=study.resamples,
        seed=study.seed,
        threads=study.threads,
    )
    how = "expected calibration error, 10 bins of equal mass"
    return make("calibration_error", interval, method=f"{how}; {bootstrap(study, units)}", units=units)


def bootstrap(study: Study, units: Clusters) -> str:
    """How an interval was made, in words."""
    return f"95% cluster bootstrap by {units.by}, {study.resamples} resamples"


def false_alarms(study: Study, scored: Scored, where: Where, rates: Iterable[float]) -> list[Estimate]:
    """The share of photographs called fake at thresholds set by other photographs, pooled and per source."""
    found = []
    real = [s for s in study.samples if s.label == "real"]
    sources: dict[str | None, list[Sample]] = {None: real}
    for sample in real:
        if sample.source is not None:
            sources.setdefault(sample.source, []).append(sample)
    for source, members in sources.items():
        ids = {s.id for s in members}
        rows = scored.where(np.array([s.id in ids for s in scored.samples], dtype=bool))
        group = Group("real", source, members)
        make = _maker(study, where, group, rows, members)
        for rate in rates:
            if rate not in rows.margins or not rows.samples:
                lost = {rows.undefined.get(rate, "no_scored_image"): len(members)}
                found.append(make("detection_rate", None, method="none", at=rate, lost=lost))
                continue
            units = clusters(study, rows.samples)
            alarms = (rows.margins[rate] > 0).astype(np.float64)
            interval = metrics.share(
                alarms, units.ids, resamples=study.resamples, seed=study.seed, threads=study.threads
            )
            method = (
                f"false alarms among photographs at the threshold that other photographs set at {rate:.0%}; "
                f"{bootstrap(study, units)}"
            )
            found.append(make("detection_rate", interval, method=method, at=rate, units=units))
    return found


#: Metrics of ranks, which are taken within what one model scored; the others have a threshold per model.
RANKED = frozenset({"auc", "ap", "eer"})

UNITS: Mapping[str, str] = {
    "auc": "probability",
    "ap": "precision",
    "eer": "error rate",
    "accuracy": "share of images",
    "calibration_error": "probability",
    "detection_rate": "share of images",
}


def _maker(
    study: Study, where: Where, group: Group, rows: Scored, sides: Sequence[Sample], source: str | None = None
) -> Callable[..., Estimate]:
    """A function that makes rows of one group: the keys, counts and evidence that all its figures share."""
    seen = {s.id for s in rows.samples}
    both = group.paradigm != "real"  # a figure against photographs counts theirs as well
    lost_before = [s for s in study.without_image if group.holds(s) or (both and _photograph(s, source))]
    unscored = tally({i: r for i, r in rows.reasons.items() if i not in seen}, [*sides, *lost_before])
    counted = [s for s in sides if s.id in seen]
    prompts = {s.prompt_id for s in counted if s.prompt_id is not None}
    keys: dict[str, Any] = {"paradigm": group.paradigm, "generator": group.generator}
    if source is not None:  # a figure of these photographs, as their false alarms are
        keys = {"paradigm": "real", "generator": source, "contrast": f"{AGAINST}{group.paradigm or EVERY}"}

    def make(
        metric: str,
        interval: metrics.Interval | None,
        *,
        method: str,
        at: float | None = None,
        units: Clusters | None = None,
        within: metrics.Interval | None = None,
        ties: float | None = None,
        lost: Mapping[str, int] | None = None,
    ) -> Estimate:
        reasons = {**unscored, **(lost or {})}
        if interval is None and not reasons:
            reasons = {"no_scored_image": len(sides)}
        return Estimate(
            experiment=where.experiment,
            metric=metric,
            unit=UNITS[metric],
            method=method,
            n_prompts=len(prompts),
            n_images=len(counted),
            value=None if interval is None else interval.value,
            low=None if interval is None else interval.low,
            high=None if interval is None else interval.high,
            low_within=None if within is None else within.low,
            high_within=None if within is None else within.high,
            n_unscored=reasons,
            **keys,
            level=group.level,
            detector=where.detector,
            trained_on=where.trained_on,
            perturbation=where.perturbation,
            at=at,
            ties=ties,
            n_clusters=None if units is None else units.units,
            cluster_by=None if units is None else units.by,
            evidence=_evidence(where, group, source),
        )

    return make


def _evidence(where: Where, group: Group, against: str | None) -> Evidence:
    if group.paradigm == "real":
        side: dict[str, str | list[str]] = {"label": "real"}
        if group.generator is not None:
            side["source"] = group.generator
        return Evidence(scorer=where.scorer, perturbation=where.perturbation, where=side)
    return Evidence(
        scorer=where.scorer,
        perturbation=where.perturbation,
        where={"label": "fake", **group.columns},
        against={"label": "real"} if against is None else {"label": "real", "source": against},
    )
