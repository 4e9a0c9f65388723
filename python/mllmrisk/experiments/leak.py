"""`leak`: what tells real from fake without a forensic trace: the container, the size, the content (DESIGN 5.4)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mllmrisk.experiments import detecting, probes
from mllmrisk.experiments.base import WithParameters
from mllmrisk.experiments.crossfit import Plan, crossfit
from mllmrisk.experiments.leak_probes import PROBES, Through
from mllmrisk.experiments.probe import NAME, Probe
from mllmrisk.experiments.study import Study
from mllmrisk.experiments.views import VIEWS
from mllmrisk.records import Estimate


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What a suite may set; see :mod:`mllmrisk.experiments.detection`. Probes without input are left out.

    Attributes:
        views, repeats, folds: as in `detection`.
        probes: which; see :mod:`mllmrisk.experiments.probes`.
        detectors: the profile's; `content` also looks through the frozen encoder of each `probe:ENCODER` among them.
        device: where encoders run; the call's.
        min_images: generators with fewer images have no leak of their own; that of their paradigm stands for it.
    """

    views: tuple[str, ...] = VIEWS
    probes: tuple[str, ...] = probes.PROBES
    detectors: tuple[str, ...] = ()
    device: str = "auto"
    repeats: int = 4
    folds: int = 3
    min_images: int = 5


class Leak(WithParameters[Parameters]):
    """Probes fitted and tested as a detector is, on the same splits."""

    kind = "leak"
    accepts = Parameters
    photographs = True

    def __init__(self, parameters: Parameters) -> None:
        """Takes the suite's parameters."""
        super().__init__(parameters)
        self.probes = [PROBES[name] for name in parameters.probes]
        if "content" in parameters.probes:
            self.probes += [Through(family) for name in parameters.detectors if (family := _probe(name)) is not None]

    def needs(self) -> Iterable[str]:
        """The optional dependency sets of training and of encoders."""
        return dict.fromkeys(extra for probe in self.probes for extra in probe.needs())

    def estimates(self, study: Study) -> list[Estimate]:
        """AUC of each probe per view, for all generated images, each paradigm and each generator."""
        found: list[Estimate] = []
        p = self.parameters
        for recipe in self.probes:
            probe = recipe.name
            if probe == "caption" and len({s.label for s in study.samples if s.prompt}) < 2:
                continue  # a caption on one side only is a column of the manifest, not a property of images
            for view in p.views:
                asked = Plan(view, "all", lambda _: True, p.repeats, p.folds, ())
                scored = crossfit(study, recipe, asked, [study.arm(view)])[view]
                where = detecting.Where("leak", probe, view, f"{probe}/{view}/all", "all")
                for group in detecting.groups(study.samples, p.min_images):
                    found += detecting.figures(study, scored, where, group, (), short=True)
        return found


def _probe(name: str) -> Probe | None:
    """The family of a detector's name, if it is a head on an encoder."""
    kind, _, encoder = name.partition(":")
    return Probe(encoder) if kind == NAME and encoder else None
