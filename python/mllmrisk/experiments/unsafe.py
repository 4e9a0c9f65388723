"""`unsafe`: how often judges flag images, per prompt set, generator and category.

A judge's category that it cannot see in images is not asked for: what nobody looked at is never counted as safe. On
images that are given, without prompt sets, it takes all of them, photographs included.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mllmrisk import metrics
from mllmrisk.experiments import counting, judging, validation
from mllmrisk.experiments.base import WithParameters
from mllmrisk.experiments.counting import Group, Verdicts
from mllmrisk.experiments.judging import Judged
from mllmrisk.experiments.study import Study
from mllmrisk.experiments.verdicts import verdicts
from mllmrisk.records import Ask, Estimate, Sample


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What a suite may set.

    Attributes:
        sets: prompt sets; none for all images that are given.
        samples: images per prompt and generator.
        take: at most so many prompts of a set, by its name.
        judges: registered names or files; empty for the profile's.
        corrupted: judges of corruption; empty for the profile's.
        min_images: generators with fewer images have no rows over all sets.
        labels: manifest of labelled images (columns `path`, `categories`), which corrects rates for the judge's errors.
        validation: `world`, in place of `labels`: the embedded world's own renders.
        validation_images: how many of them.
    """

    sets: tuple[str, ...] = ()
    samples: int = 10
    take: dict[str, int] = {}
    judges: tuple[str, ...] = ()
    corrupted: tuple[str, ...] = ()
    min_images: int = 5
    labels: str | None = None
    validation: str | None = None
    validation_images: int = 600


class Unsafe(WithParameters[Parameters]):
    """Unsafe scores."""

    kind = "unsafe"
    accepts = Parameters
    extras = ("cpu",)  # a judge says itself what else it needs
    prompt_sets = ("sets", "take")

    def asks(self) -> Iterable[Ask]:
        """Every set, from every generator."""
        return asked(self.parameters.sets, self.parameters.samples, self.parameters.take)

    def estimates(self, study: Study) -> list[Estimate]:
        """Per judge and category: every group of images, photographs included where they are given."""
        p = self.parameters
        sets = counting.set_names(p.sets)
        samples = counting.of_sets(study, sets) if sets else fakes(study)
        groups = counting.groups(study, samples, sets, p.min_images)
        real = [s for s in counting.requests(study) if s.label == "real"]
        if real and not sets:
            groups.insert(0, Group({"paradigm": "real"}, real, {"label": ["real"]}))
        corruption = verdicts(study, p.corrupted)
        found: list[Estimate] = []
        for judge in judging.panel(study, p.judges):
            known = validation.of(study, judge, p.labels, p.validation, p.validation_images)
            found += figures(study, judge, groups, corruption, known)
        return found


def asked(sets: Iterable[str], samples: int, take: dict[str, int]) -> list[Ask]:
    """The images of prompt sets, each set once."""
    return [Ask(prompt_set=name, samples=samples, take=take.get(name)) for name in dict.fromkeys(sets) if name]


def fakes(study: Study) -> list[Sample]:
    """Every generated sample, with and without an image."""
    return [s for s in counting.requests(study) if s.label == "fake"]


def figures(
    study: Study,
    judge: Judged,
    groups: Iterable[Group],
    corruption: Verdicts,
    known: validation.Known | None = None,
) -> list[Estimate]:
    """All rows of one judge."""
    groups = list(groups)
    found: list[Estimate] = []
    for _, category in judging.categories([judge]):
        flags = judge.flags(category)
        for group in groups:
            columns: dict[str, str | None] = {"judge": judge.name, "category": category}
            found += counting.unsafe_figures(study, "unsafe", group, flags, corruption, columns=columns)
            if known is not None:
                found.append(_corrected(study, group, flags, corruption, known, columns))
    return found


def _corrected(
    study: Study,
    group: Group,
    flags: judging.Flags,
    corruption: Verdicts,
    known: validation.Known,
    columns: dict[str, str | None],
) -> Estimate:
    """The unsafe score had the judge made no errors."""
    counts = counting.counted(group.members, flags, corruption)
    shown, values = counting.rows_of(counts, "unsafe_score")
    seen = known.by_category.get(columns["category"])
    figure, method = None, "none: no image was scored"
    lost = counts.reasons
    if seen is None:
        method, lost = "none: the labelled images hold none of both kinds", {"no_labelled_image": len(group.members)}
    elif shown.any():
        try:
            figure = metrics.rogan_gladen(values[shown], counts.clusters[shown], seen, **counting.resampling(study))
            method = f"unsafe score corrected for {known.words(columns['category'])} (Rogan-Gladen); " + (
                f"flagged {flags.rule}; {counting.bootstrap(study)} with Beta draws of both"
            )
        except ValueError as why:
            method, lost = f"none: {why}", {"judge_no_better_than_chance": len(group.members)}
    return counting.estimate(
        "unsafe",
        "unsafe_corrected",
        group,
        counts,
        shown,
        figure,
        method,
        flags.scorer,
        n_unscored=lost,
        **columns,
    )
