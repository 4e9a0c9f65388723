"""Differences of rates between matched prompts: by concept, by safe twin, or by the prompt itself.

Two sides are compared within the clusters that both have, so that a difference between the prompts of one side and
those of the other cannot pass for a difference between languages, levels or generators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mllmrisk import metrics
from mllmrisk.experiments import counting
from mllmrisk.experiments.counting import Verdicts
from mllmrisk.experiments.judging import Flags
from mllmrisk.experiments.study import Study
from mllmrisk.records import Estimate, Evidence, ExperimentKind, Prompt, Sample


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
        names: (n,) what each value is matched by.
        values: (n,) floats.
        images: by name, the prompt of each image behind it.
        reasons: requests that are not among them, counted by reason.
    """

    names: list[str]
    values: NDArray[np.float64]
    images: Mapping[str, list[str]]
    reasons: dict[str, int]

    @classmethod
    def of(
        cls, study: Study, members: Sequence[Sample], flags: Flags, verdicts: Verdicts, *, to_twin: bool = False
    ) -> Side:
        """The images of some requests that count in an unsafe score.

        Args:
            study: for the prompts' concepts and twins.
            members: requests.
            flags: what each image counts for.
            verdicts: of corruption.
            to_twin: match a safe twin with its unsafe prompt; else prompts of one concept.
        """
        counts = counting.counted(members, flags, verdicts)
        shown, values = counting.rows_of(counts, "unsafe_score")
        names: list[str] = []
        images: dict[str, list[str]] = {}
        for sample, take in zip(members, shown, strict=True):
            if take:
                names.append(matched_by(study.prompts.get(sample.prompt_id or ""), sample, to_twin=to_twin))
                images.setdefault(names[-1], []).append(sample.prompt_id or sample.id)
        return cls(names, values[shown], images, counts.reasons)

    def only(self, names: set[str]) -> Side:
        """The part that is matched by some names."""
        keep = np.array([name in names for name in self.names], dtype=bool)
        return Side(
            [name for name in self.names if name in names],
            self.values[keep],
            {name: images for name, images in self.images.items() if name in names},
            self.reasons,
        )

    def minus(self, other: Side) -> Side:
        """Per shared name, the mean of this side minus that of the other: one row each."""
        mine, theirs = self._means(), other._means()
        shared = [name for name in mine if name in theirs]
        return Side(
            shared,
            np.array([mine[name] - theirs[name] for name in shared], dtype=np.float64),
            {name: [*self.images[name], *other.images[name]] for name in shared},
            added(self.reasons, other.reasons),
        )

    def _means(self) -> dict[str, float]:
        sums: dict[str, list[float]] = {}
        for name, value in zip(self.names, self.values, strict=True):
            sums.setdefault(name, []).append(float(value))
        return {name: float(np.mean(values)) for name, values in sums.items()}


def matched_by(prompt: Prompt | None, sample: Sample, *, to_twin: bool) -> str:
    """What a prompt has in common with its match: the unsafe prompt of a twin, the concept, or itself."""
    if prompt is None:
        return sample.prompt_id or sample.id
    if to_twin:
        return prompt.twin_of or prompt.id
    return prompt.concept or prompt.id


def added(*counts: Mapping[str, int]) -> dict[str, int]:
    """Counts by reason, together."""
    total: dict[str, int] = {}
    for one in counts:
        for reason, n in one.items():
            total[reason] = total.get(reason, 0) + n
    return total


def compared(
    study: Study,
    experiment: ExperimentKind,
    measure: str,
    contrast: str,
    first: Side,
    second: Side,
    *,
    keys: Mapping[str, str],
    evidence: Evidence,
    bounded: bool = True,
    how: str = "",
    **columns: Any,
) -> Estimate | None:
    """First minus second, over what both have; None where neither side has been asked for.

    Args:
        study: whose seed and resamples are used.
        experiment: the row's experiment.
        measure: the metric whose difference it is.
        contrast: `DESIGN: FIRST - SECOND`.
        first: one side.
        second: the other.
        keys: the row's group.
        evidence: the way back.
        bounded: the values are shares, not differences of shares.
        how: more words for the method.
        columns: other columns of the row.
    """
    names = set(first.names) & set(second.names)
    reasons = added(first.reasons, second.reasons)
    if not first.names and not second.names and not reasons:
        return None
    a, b = first.only(names), second.only(names)
    behind = [prompt for side in (a, b) for images in side.images.values() for prompt in images]
    unmatched = len(first.names) + len(second.names) - len(a.names) - len(b.names)
    if unmatched:
        reasons["unmatched"] = unmatched
    result = None
    method = "none: no prompt of one side has its match on the other"
    if names:
        ids = counting.clusters([*a.names, *b.names])
        split = len(a.names)
        result = metrics.difference(
            a.values,
            ids[:split],
            b.values,
            ids[split:],
            paired=True,
            bounded=bounded,
            **counting.resampling(study),
        )
        method = (
            f"difference of {measure}, paired by prompt{how}; {counting.bootstrap(study)}; "
            f"p: {metrics.PAIRED_P_METHOD}, Holm over the experiment's differences"
        )
    return Estimate(
        experiment=experiment,
        metric="difference",
        unit=f"difference of {measure}",
        method=method,
        n_prompts=len(set(behind)),
        n_images=len(behind),
        n_unscored=reasons if result is not None or reasons else {"no_match": 0},
        value=None if result is None else result.value,
        low=None if result is None else result.low,
        high=None if result is None else result.high,
        p_value=None if result is None else result.p_value,
        contrast=contrast,
        n_clusters=len(names) or None,
        cluster_by="prompt" if len(set(behind)) == len(names) else "pair",
        evidence=evidence,
        **{"perturbation": "native", **keys, **columns},
    )


def adjusted(rows: list[Estimate]) -> list[Estimate]:
    """The rows with p-values adjusted by Holm over all of them."""
    values = [row.p_value for row in rows]
    tested = [i for i, value in enumerate(values) if value is not None]
    if not tested:
        return rows
    corrected = metrics.holm(np.array([values[i] for i in tested], dtype=np.float64))
    rows = list(rows)
    for i, p in zip(tested, corrected, strict=True):
        rows[i] = msgspec.structs.replace(rows[i], p_adjusted=float(p))
    return rows
