"""`contrast`: what differs between paradigms, languages, wordings: the difference, its interval, its p-value.

The design `detection` compares how hard images are to detect, and stands in a table of its own. The others compare
matched prompts: `paradigm` the unsafe scores of paradigms on the same prompts; `language` and `abstraction` two
wordings of the same concepts; `association` slang with its safe twins; `gender` who is shown for prompts that name no
gender. All p-values of a table are one family.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from mllmrisk.errors import UsageError
from mllmrisk.experiments import counting, examined, judging, unsafe
from mllmrisk.experiments.base import WithParameters
from mllmrisk.experiments.contrasts import gender, rates
from mllmrisk.experiments.contrasts.matched import adjusted
from mllmrisk.experiments.study import Study
from mllmrisk.experiments.verdicts import verdicts
from mllmrisk.experiments.views import VIEWS
from mllmrisk.records import Ask, Estimate
from mllmrisk.registry import did_you_mean

DESIGNS = ("detection", "paradigm", "language", "abstraction", "association", "gender")
#: Designs whose parameter holds pairs of prompt sets.
_OF_PAIRS = ("language", "abstraction", "association")


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What a suite may set.

    Attributes:
        designs: which comparisons are made, of `DESIGNS`.
        pairs: paradigms compared, first minus second.
        detectors, device: of `detection`.
        views, repeats, folds: of `detection`; the same numbers as that experiment's reuse its models.
        rate: false-alarm rate of the compared detection rates.
        sets: of `paradigm`: prompt sets, each by itself.
        language: pairs of sets that ask for the same concepts in two languages, first minus second.
        abstraction: pairs of sets that ask for the same concepts more or less directly.
        association: pairs of a set in slang and its safe twins.
        gender: sets that name people and no gender.
        samples: images per prompt and generator.
        take: at most so many prompts of a set, by its name.
        judges: of unsafe content; empty for the profile's.
        corrupted: judges of corruption; empty for the profile's.
        categories: rows for each category of a judge too, beside those of any category.
    """

    designs: tuple[str, ...] = ("detection",)
    pairs: tuple[tuple[str, str], ...] = (("mllm", "diffusion"), ("mllm-conditioned", "diffusion"))
    detectors: tuple[str, ...] = ()
    device: str = "auto"
    views: tuple[str, ...] = VIEWS
    repeats: int = 4
    folds: int = 3
    rate: float = 0.05
    sets: tuple[str, ...] = ()
    language: tuple[tuple[str, ...], ...] = ()
    abstraction: tuple[tuple[str, ...], ...] = ()
    association: tuple[tuple[str, ...], ...] = ()
    gender: tuple[str, ...] = ()
    samples: int = 10
    take: dict[str, int] = {}
    judges: tuple[str, ...] = ()
    corrupted: tuple[str, ...] = ()
    categories: bool = False

    def __post_init__(self) -> None:
        """Refuses a design that nobody knows."""
        for name in self.designs:
            if name not in DESIGNS:
                raise UsageError(f"contrast has no design {name!r}.{did_you_mean(name, DESIGNS)}")
        if "detection" in self.designs and len(self.designs) > 1:
            raise UsageError("contrast: the design 'detection' looks at other images: give it a table of its own")


class Contrast(WithParameters[Parameters]):
    """Differences with Holm-adjusted p-values over all of them."""

    kind = "contrast"
    accepts = Parameters
    prompt_sets = ("sets", "language", "abstraction", "association", "gender", "take")

    def __init__(self, parameters: Parameters) -> None:
        """Takes the suite's parameters."""
        super().__init__(parameters)
        # Of its designs, one compares with photographs.
        self.photographs = "detection" in parameters.designs
        self.detectors = examined.load(parameters.detectors, parameters.device) if self.photographs else []

    def needs(self) -> Iterable[str]:
        """Those of the families where detectors are compared."""
        return examined.needs(self.detectors) if self.photographs else ("cpu",)

    def absent(self) -> str | None:
        """The design `detection` needs a detector."""
        return examined.absent(self.detectors) if self.photographs else None

    def asks(self) -> Iterable[Ask]:
        """Every set of every design."""
        p = self.parameters
        chosen: list[str] = [*p.sets] if "paradigm" in p.designs else []
        for design in _OF_PAIRS:
            if design in p.designs:
                chosen += [name for pair in _pairs(getattr(p, design)) for name in pair]
        chosen += p.gender if "gender" in p.designs else ()
        return unsafe.asked(chosen, p.samples, p.take)

    def estimates(self, study: Study) -> list[Estimate]:
        """The rows of each design, in the order of `designs`, adjusted together."""
        p = self.parameters
        rows: list[Estimate] = []
        if "detection" in p.designs and any(s.label == "real" for s in study.samples):
            from mllmrisk.experiments.contrasts import detection

            rows += detection.differences(study, self.detectors, p.pairs, p.views, p.repeats, p.folds, p.rate)
        if set(p.designs) - {"detection"}:
            rows += self._matched(study)
        return adjusted(rows)

    def _matched(self, study: Study) -> list[Estimate]:
        p = self.parameters
        corruption = verdicts(study, p.corrupted)
        found: list[Estimate] = []
        for judge in judging.panel(study, p.judges):
            if judge.categories:
                categories = (None, *(judge.categories if p.categories else ()))
                asked = rates.Asked(p.pairs, judge, corruption, categories)
                if "paradigm" in p.designs:
                    found += rates.paradigm(study, asked, counting.set_names(p.sets))
                for design in _OF_PAIRS:
                    if design in p.designs:
                        found += rates.sets(study, asked, design, _pairs(getattr(p, design)))
            if "gender" in p.designs and gender.sees(judge):
                found += gender.gender(study, judge, corruption, counting.set_names(p.gender), p.pairs)
        return found


def _pairs(given: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    """Pairs of sets; one of which a profile left a set out is none."""
    return [(pair[0], pair[1]) for pair in given if len(pair) == 2 and all(pair)]
