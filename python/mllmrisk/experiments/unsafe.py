"""`unsafe`: how often judges flag images, per generator and category, on images that are given.

A judge's category that it cannot see in images is not asked for: what nobody looked at is never counted as safe.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from mllmrisk import judges, metrics
from mllmrisk.experiments import detecting
from mllmrisk.experiments.base import WithParameters
from mllmrisk.experiments.study import Study, tally
from mllmrisk.judges.base import Judge
from mllmrisk.records import Estimate, Evidence, Sample, Score

_BATCH = 32


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What a suite may set.

    Attributes:
        judges: registered names or files; empty for the profile's.
        min_images: generators with fewer images have no rows of their own.
    """

    judges: tuple[str, ...] = ()
    min_images: int = 5


class Unsafe(WithParameters[Parameters]):
    """Unsafe scores of given images."""

    kind = "unsafe"
    accepts = Parameters
    extras = ("cpu",)  # a judge says itself what else it needs

    def estimates(self, study: Study) -> list[Estimate]:
        """Per judge and category: every group of images, photographs included."""
        found: list[Estimate] = []
        for name in self.parameters.judges:
            judge = judges.load(name, device=study.device)
            scorer = f"{judge.name}@{judge.version}"
            judged(study, judge, scorer)
            for category in judge.categories:
                scores = study.store.scores(scorer, "native", category)
                groups = [detecting.Group("real", None, [s for s in study.samples if s.label == "real"])]
                groups += detecting.groups(study.samples, self.parameters.min_images)
                for group in groups:
                    found += _figures(study, judge, scorer, category, group, scores)
        return found


def judged(study: Study, judge: Judge, scorer: str) -> None:
    """Scores every image that has no score of this judge yet, batch by batch."""
    first = judge.categories[0]
    known = study.store.scores(scorer, "native", first)
    missing = [s for s in study.samples if s.id not in known]
    for start in range(0, len(missing), _BATCH):
        batch = missing[start : start + _BATCH]
        answers = judge.score([study.path(s).read_bytes() for s in batch], threads=study.threads)
        # The first category last: its presence says that the batch is whole.
        for category in reversed(judge.categories):
            rows = {s.id: answer[category] for s, answer in zip(batch, answers, strict=True)}
            study.store.add_scores(scorer, "native", rows, category)
        study.progress(f"judge {judge.name}", min(start + _BATCH, len(missing)), len(missing))


def _figures(
    study: Study, judge: Judge, scorer: str, category: str, group: detecting.Group, scores: dict[str, Score]
) -> list[Estimate]:
    scored = [s for s in group.members if scores[s.id].value is not None]
    threshold = judge.threshold[category]
    flagged = np.array([float((scores[s.id].value or 0.0) >= threshold) for s in scored], dtype=np.float64)
    units = _prompts(scored)
    requested = [s for s in study.without_image if group.holds(s)]
    reasons = {i: score.reason for i, score in scores.items() if score.reason is not None}
    lost = tally(reasons, [*group.members, *requested])
    rows = []
    all_requested = np.concatenate([flagged, np.zeros(len(group.members) - len(scored) + len(requested))])
    counts = {
        "unsafe_score": (flagged, scored),
        "unsafe_as_published": (flagged, scored),
        "unsafe_of_requested": (all_requested, [*scored, *_rest(group.members, scored), *requested]),
    }
    for metric, (values, members) in counts.items():
        interval = None
        method = "none: no image was scored"
        if len(scored):
            ids = units if len(members) == len(scored) else _prompts(members)
            count = metrics.rate if metric == "unsafe_score" else metrics.share
            interval = count(values, ids, resamples=study.resamples, seed=study.seed, threads=study.threads)
            method = f"{_HOW[metric]} at score >= {threshold:g}; 95% cluster bootstrap, {study.resamples} resamples"
        rows.append(
            Estimate(
                experiment="unsafe",
                metric=metric,
                unit="share of images",
                method=method,
                n_prompts=len({s.prompt_id for s in members if s.prompt_id is not None}),
                n_images=len(scored),
                n_unscored=lost if interval is not None or lost else {"no_image": 0},
                value=None if interval is None else interval.value,
                low=None if interval is None else interval.low,
                high=None if interval is None else interval.high,
                paradigm=group.paradigm,
                generator=group.generator,
                judge=judge.name,
                category=category,
                perturbation="native",
                n_clusters=len(set(units.tolist())) if len(scored) else None,
                cluster_by="prompt" if any(s.prompt_id for s in scored) else "image",
                evidence=Evidence(
                    scorer=f"{scorer}/{category}",
                    perturbation="native",
                    where={"label": ["real"] if group.paradigm == "real" else ["fake"], **group.columns},
                ),
            )
        )
    return rows


_HOW = {
    "unsafe_score": "flagged / scored per prompt (per image where there is no prompt), mean over prompts",
    "unsafe_as_published": "flagged / images, as the paper counts",
    "unsafe_of_requested": "flagged / requested",
}


def _prompts(samples: Sequence[Sample]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The prompt as cluster; an image without one is a cluster of its own."""
    position: dict[str, int] = {}
    return np.array(
        [position.setdefault(s.prompt_id or f"image {s.id}", len(position)) for s in samples], dtype=np.int64
    )


def _rest(members: Sequence[Sample], scored: Sequence[Sample]) -> list[Sample]:
    there = {s.id for s in scored}
    return [s for s in members if s.id not in there]
