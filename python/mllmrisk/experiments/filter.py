"""`filter`: what is left when an external filter stands before publication.

A filter is a judge with its thresholds: an image that it flags in any category is removed. What is asked is what a
judge then says of the rest, what the filter costs on prompts that are harmless, and whether paradigms still differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import msgspec
import numpy as np

from mllmrisk import metrics
from mllmrisk.experiments import counting, judging, unsafe
from mllmrisk.experiments.base import WithParameters
from mllmrisk.experiments.contrasts import rates
from mllmrisk.experiments.contrasts.matched import adjusted
from mllmrisk.experiments.counting import Group, Verdicts
from mllmrisk.experiments.judging import Judged
from mllmrisk.experiments.study import Study
from mllmrisk.experiments.verdicts import verdicts
from mllmrisk.records import Ask, Estimate, Sample


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What a suite may set.

    Attributes:
        sets: prompt sets; none for all images that are given.
        benign: sets of harmless prompts, on which a filter should remove nothing.
        samples: images per prompt and generator.
        take: at most so many prompts of a set, by its name.
        filters: registered names or files of judges; empty for the profile's.
        judges: of what is left; empty for the profile's.
        corrupted: judges of corruption; empty for the profile's.
        pairs: paradigms compared, first minus second.
    """

    sets: tuple[str, ...] = ()
    benign: tuple[str, ...] = ()
    samples: int = 10
    take: dict[str, int] = {}
    filters: tuple[str, ...] = ()
    judges: tuple[str, ...] = ()
    corrupted: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = (("mllm", "diffusion"), ("mllm-conditioned", "diffusion"))


class Filter(WithParameters[Parameters]):
    """Unsafe scores behind filters, what filters remove, and the paradigms' difference behind them."""

    kind = "filter"
    accepts = Parameters
    extras = ("cpu",)
    prompt_sets = ("sets", "benign", "take")

    def asks(self) -> Iterable[Ask]:
        """Every set, from every generator."""
        p = self.parameters
        return unsafe.asked((*p.sets, *p.benign), p.samples, p.take)

    def estimates(self, study: Study) -> list[Estimate]:
        """Per filter, and per judge that is not the filter itself."""
        p = self.parameters
        sets, benign = counting.set_names(p.sets), counting.set_names(p.benign)
        corruption = verdicts(study, p.corrupted)
        panel = judging.panel(study, p.judges)
        samples = counting.of_sets(study, sets) if sets else unsafe.fakes(study)
        found: list[Estimate] = []
        for standing in judging.panel(study, p.filters):
            judges = [j for j in panel if j.scorer != standing.scorer and j.categories]
            for chosen, named in ((samples, sets), (counting.of_sets(study, benign), benign)):
                if chosen:
                    found += figures(study, standing, judges, chosen, named, corruption)
            for judge in judges:
                found += self._differences(study, standing, judge, samples, sets, corruption)
        return adjusted(found)

    def _differences(
        self,
        study: Study,
        standing: Judged,
        judge: Judged,
        samples: Sequence[Sample],
        sets: Sequence[str],
        corruption: Verdicts,
    ) -> list[Estimate]:
        asked = rates.Asked(self.parameters.pairs, judge, behind(standing, samples, corruption), (None,))
        found = []
        for name in sets:
            members = [s for s in samples if s.prompt_set == name]
            found += rates.between_paradigms(study, asked, members, {"prompt_set": name}, "filter")
        if not sets:
            found += rates.between_paradigms(study, asked, samples, {}, "filter")
        return [msgspec.structs.replace(row, perturbation=named(standing)) for row in found]


def named(standing: Judged) -> str:
    """A filter as a column of its rows: what happens to an image on its way to a viewer."""
    return f"filter:{standing.name}"


def behind(standing: Judged, samples: Sequence[Sample], corruption: Verdicts) -> Verdicts:
    """The verdicts with what a filter removes regraded to `filtered`; an image that it cannot score passes."""
    flags = standing.flags(None)
    removed = {s.id: "filtered" for s in samples if flags.flagged.get(s.id) and s.id not in corruption.regraded}
    return replace(corruption, regraded={**corruption.regraded, **removed})


def figures(
    study: Study,
    standing: Judged,
    judges: Sequence[Judged],
    samples: Sequence[Sample],
    sets: Sequence[str],
    corruption: Verdicts,
) -> list[Estimate]:
    """Per set and maker: the share removed, and what each judge says of the rest and of all requests."""
    left = behind(standing, samples, corruption)
    found: list[Estimate] = []
    groups = [g for g in counting.groups(study, samples, sets) if "prompt_set" in g.keys or not sets]
    for group in groups:
        found.append(_removed(study, standing, group, corruption))
        for judge in judges:
            found += counting.unsafe_figures(
                study,
                "filter",
                group,
                judge.flags(None),
                replace(left, asked=False),
                only=("unsafe_score", "unsafe_of_requested"),
                columns={"judge": judge.name, "perturbation": named(standing)},
            )
    return found


def _removed(study: Study, standing: Judged, group: Group, corruption: Verdicts) -> Estimate:
    """The share of pictures that a filter removes; what it cannot score passes it, and is counted so."""
    flags = standing.flags(None)
    counts = counting.counted(group.members, flags, corruption)
    chosen = counts.imaged & ~counts.corrupted & ~counts.lost
    passed = int((chosen & ~counts.known).sum())
    figure, method = None, "none: no image reached the filter"
    if chosen.any():
        values = np.where(counts.known, counts.flagged, 0.0)[chosen]
        figure = metrics.rate(values, counts.clusters[chosen], **counting.resampling(study))
        method = (
            f"removed / images that reach the filter per prompt, mean over prompts; removed {flags.rule}; "
            f"{passed} images that it could not score pass; {counting.bootstrap(study)}"
        )
    lost = {reason: n for reason, n in counts.reasons.items() if reason not in set(flags.reasons.values())}
    return counting.estimate(
        "filter",
        "removed_rate",
        group,
        counts,
        chosen,
        figure,
        method,
        flags.scorer,
        n_unscored=lost,
        perturbation=named(standing),
    )
