"""`retrain`: detectors trained on one generator (or paradigm), tested on each: the whole matrix, for each family.

Splits are group-wise across all generators and levels: a generator whose images all come from one source has no cell
with itself, since no split could keep that source on one side; the cell is unscored and says so. The blocks between
paradigms are the leave-one-paradigm-out figures: trained on diffusion and tested on MLLM, and back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from mllmrisk.experiments import detecting, families
from mllmrisk.experiments.base import WithParameters
from mllmrisk.experiments.crossfit import Plan, crossfit
from mllmrisk.experiments.detecting import Group
from mllmrisk.experiments.study import Study
from mllmrisk.records import Estimate, Sample


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What a suite may set.

    Attributes:
        detectors: of these, the families (`forensic`, `probe:ENCODER`, ...) are trained; empty for the profile's.
        view: the view of training and test.
        min_images: generators with fewer images are neither rows nor columns.
        most: at most so many generators, those with most images.
        repeats, folds, rates: as in `detection`.
    """

    detectors: tuple[str, ...] = ()
    view: str = "recompressed"
    min_images: int = 8
    most: int = 12
    repeats: int = 2
    folds: int = 3
    rates: tuple[float, ...] = (0.05,)


class Retrain(WithParameters[Parameters]):
    """The train-generator × test-generator matrix, with blocks per paradigm."""

    kind = "retrain"
    accepts = Parameters
    photographs = True

    def __init__(self, parameters: Parameters) -> None:
        """Takes the suite's parameters; a family that is not there is refused here, before any work."""
        super().__init__(parameters)
        self.families = [families.load(name) for name in parameters.detectors if families.is_family(name)]

    def needs(self) -> Iterable[str]:
        """The optional dependency sets of the families."""
        return dict.fromkeys(extra for family in self.families for extra in family.needs())

    def absent(self) -> str | None:
        """Nothing can be trained without a family."""
        return None if self.families else "the profile names no family of detectors (forensic, probe:ENCODER, ...)"

    def check(self, study: Study) -> None:
        """Stops where near-duplicates would have stood on both sides of a split."""
        study.check_near_duplicates()

    def estimates(self, study: Study) -> list[Estimate]:
        """AUC and detection rate of each cell."""
        p = self.parameters
        every = [g for g in detecting.groups(study.samples, p.min_images) if g.columns]
        generators = sorted((g for g in every if g.generator), key=lambda g: -len(g.members))[: p.most]
        tested = [g for g in every if not g.generator] + sorted(generators, key=lambda g: (g.paradigm, g.generator))
        found: list[Estimate] = []
        for family in self.families:
            for trained in tested:
                name = trained.generator or str(trained.paradigm)
                asked = Plan(p.view, name, _includes(trained), p.repeats, p.folds, tuple(p.rates))
                scored = crossfit(study, family, asked, [study.arm(p.view)])[p.view]
                where = detecting.Where("retrain", family.name, p.view, f"{family.name}/{p.view}/{name}", name)
                for group in tested:
                    found += detecting.figures(study, scored, where, group, p.rates, short=True)
        return found


def _includes(group: Group) -> Callable[[Sample], bool]:
    members = {s.id for s in group.members}
    return lambda sample: sample.id in members
