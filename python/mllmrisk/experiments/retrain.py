"""`retrain`: detectors trained on one generator (or paradigm), tested on each: the whole matrix.

Splits are group-wise: a generator whose images all come from one source has no cell with itself, since no split could
keep that source on one side; the cell is unscored and says so.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from mllmrisk.experiments import detecting
from mllmrisk.experiments.base import WithParameters
from mllmrisk.experiments.crossfit import Plan, crossfit
from mllmrisk.experiments.detecting import Group
from mllmrisk.experiments.recipes import FORENSIC
from mllmrisk.experiments.study import Study
from mllmrisk.records import Estimate, Sample


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What a suite may set.

    Attributes:
        view: the view of training and test.
        min_images: generators with fewer images are neither rows nor columns.
        most: at most so many generators, those with most images.
    """

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

    def estimates(self, study: Study) -> list[Estimate]:
        """AUC and detection rate of each cell."""
        p = self.parameters
        every = [g for g in detecting.groups(study.samples, p.min_images) if g.columns]
        generators = sorted((g for g in every if g.generator), key=lambda g: -len(g.members))[: p.most]
        tested = [g for g in every if not g.generator] + sorted(generators, key=lambda g: (g.paradigm, g.generator))
        found: list[Estimate] = []
        for trained in tested:
            name = trained.generator or str(trained.paradigm)
            asked = Plan(p.view, name, _includes(trained), p.repeats, p.folds, tuple(p.rates))
            scored = crossfit(study, FORENSIC, asked, [study.arm(p.view)])[p.view]
            where = detecting.Where("retrain", FORENSIC.name, p.view, f"{FORENSIC.name}/{p.view}/{name}", name)
            for group in tested:
                found += detecting.figures(study, scored, where, group, p.rates, short=True)
        return found


def _includes(group: Group) -> Callable[[Sample], bool]:
    members = {s.id for s in group.members}
    return lambda sample: sample.id in members
