"""`leak`: what tells real from fake without a forensic trace: the container, the size, the content (DESIGN 5.4)."""

from __future__ import annotations

import msgspec

from mllmrisk.experiments import detecting, probes
from mllmrisk.experiments.base import WithParameters
from mllmrisk.experiments.crossfit import Plan, crossfit
from mllmrisk.experiments.leak_probes import PROBES
from mllmrisk.experiments.study import Study
from mllmrisk.experiments.views import VIEWS
from mllmrisk.records import Estimate


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What a suite may set; see :mod:`mllmrisk.experiments.detection`. Probes without input are left out.

    Attributes:
        views, repeats, folds: as in `detection`.
        probes: which; see :mod:`mllmrisk.experiments.probes`.
        min_images: generators with fewer images have no leak of their own; that of their paradigm stands for it.
    """

    views: tuple[str, ...] = VIEWS
    probes: tuple[str, ...] = probes.PROBES
    repeats: int = 4
    folds: int = 3
    min_images: int = 5


class Leak(WithParameters[Parameters]):
    """Probes fitted and tested as a detector is, on the same splits."""

    kind = "leak"
    accepts = Parameters
    photographs = True
    extras = ("train",)

    def estimates(self, study: Study) -> list[Estimate]:
        """AUC of each probe per view, for all generated images, each paradigm and each generator."""
        found: list[Estimate] = []
        p = self.parameters
        for probe in p.probes:
            if probe == "caption" and len({s.label for s in study.samples if s.prompt}) < 2:
                continue  # a caption on one side only is a column of the manifest, not a property of images
            recipe = PROBES[probe]
            for view in p.views:
                asked = Plan(view, "all", lambda _: True, p.repeats, p.folds, ())
                scored = crossfit(study, recipe, asked, [study.arm(view)])[view]
                where = detecting.Where("leak", probe, view, f"{probe}/{view}/all", "all")
                for group in detecting.groups(study.samples, p.min_images):
                    found += detecting.figures(study, scored, where, group, (), short=True)
        return found
