"""`corrupted`: how many images show nothing that was asked for, and what that does to the unsafe score.

Unsafe prompts and their safe twins (the same words but for the unsafe one), from every generator. An image that is
noise, blank, text in place of a scene, or of something else altogether, is neither safe nor unsafe; a judge that looks
for unsafe content calls it safe. The figures stand side by side: as published, without corrupted images, and bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np

from mllmrisk import metrics
from mllmrisk.experiments import counting, judging, unsafe
from mllmrisk.experiments.base import WithParameters
from mllmrisk.experiments.contrasts.matched import Side, adjusted, compared
from mllmrisk.experiments.counting import Group, Verdicts
from mllmrisk.experiments.judging import Flags, Judged
from mllmrisk.experiments.study import Study
from mllmrisk.experiments.verdicts import calibrated, verdicts
from mllmrisk.records import Ask, Estimate, Evidence, Sample

#: The three counts whose comparison is the point, and the bound.
_COUNTS = ("unsafe_as_published", "unsafe_score", "unsafe_bound")


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What a suite may set.

    Attributes:
        sets: unsafe prompts that have safe twins.
        twins: the twins' sets.
        samples: images per prompt and generator.
        take: at most so many prompts of a set, by its name.
        judges: of unsafe content; empty for the profile's.
        corrupted: judges of corruption; empty for the profile's.
        made: made examples per kind of corruption, on which the rule is tried.
    """

    sets: tuple[str, ...] = ()
    twins: tuple[str, ...] = ()
    samples: int = 10
    take: dict[str, int] = {}
    judges: tuple[str, ...] = ()
    corrupted: tuple[str, ...] = ()
    made: int = 40


class Corrupted(WithParameters[Parameters]):
    """Corrupted rates, their difference between unsafe prompts and twins, and the unsafe score three ways."""

    kind = "corrupted"
    accepts = Parameters
    extras = ("cpu",)
    prompt_sets = ("sets", "twins", "take")

    def asks(self) -> Iterable[Ask]:
        """Unsafe prompts and twins."""
        p = self.parameters
        return unsafe.asked((*p.sets, *p.twins), p.samples, p.take)

    def estimates(self, study: Study) -> list[Estimate]:
        """Nothing where nobody looks for corruption: then nothing is known of it."""
        p = self.parameters
        corruption = verdicts(study, p.corrupted)
        if not corruption.asked:
            return []
        sets, twins = counting.set_names(p.sets), counting.set_names(p.twins)
        if sets:
            # Other experiments may have asked for more of a set than has twins.
            samples = counting.twinned(study, sets, twins) if twins else counting.of_sets(study, sets)
            samples += [s for name in twins for s in counting.twins_of(study, name, sets)]
        else:
            samples, twins = unsafe.fakes(study), []
        panel = judging.panel(study, p.judges)
        found = figures(study, samples, sets, twins, corruption, panel)
        return found + calibrated(study, p.corrupted, p.made)


def figures(
    study: Study,
    samples: Sequence[Sample],
    sets: Sequence[str],
    twins: Sequence[str],
    corruption: Verdicts,
    panel: Sequence[Judged],
) -> list[Estimate]:
    """All rows but those of the rule's own errors."""
    groups = [g for g in counting.groups(study, samples, [*sets, *twins]) if "prompt_set" in g.keys or not sets]
    # Over all unsafe prompts, and over all twins, nothing is pooled across the two.
    found = [rate(study, group, corruption) for group in groups]
    found += differences(study, groups, sets, twins, corruption)
    for judge in panel:
        if not judge.categories:
            continue
        flags = judge.flags(None)
        for group in groups:
            columns = {"judge": judge.name}
            found += counting.unsafe_figures(
                study, "corrupted", group, flags, corruption, only=_COUNTS, columns=columns
            )
            found.append(_called_safe(study, group, flags, corruption, judge.name))
    return found


def _looked_at(samples: Sequence[Sample], corruption: Verdicts) -> Flags:
    """Corruption as flags: 1.0 for a corrupted image."""
    return Flags(
        {
            s.id: float(s.id in corruption.corrupted)
            for s in samples
            if s.image is not None and s.id not in corruption.unknown
        },
        corruption.unknown,
        "",
        corruption.scorer or "",
    )


def rate(study: Study, group: Group, corruption: Verdicts) -> Estimate:
    """The share of corrupted images among those with a verdict."""
    looked = _looked_at(group.members, corruption)
    # With corruption as the flag, nothing else is corruption.
    counts = counting.counted(group.members, looked, pictures_only(corruption))
    chosen, values = counting.rows_of(counts, "unsafe_score")
    figure, method = None, "none: no image could be judged for corruption"
    if chosen.any():
        figure = metrics.rate(values[chosen], counts.clusters[chosen], **counting.resampling(study))
        method = (
            f"corrupted / images with a verdict per prompt, mean over prompts; corrupted by {corruption.by}; "
            f"{counting.bootstrap(study)}"
        )
    return counting.estimate("corrupted", "corrupted_rate", group, counts, chosen, figure, method, corruption.scorer)


def pictures_only(corruption: Verdicts) -> Verdicts:
    """The verdicts without their corrupted images: what is left is who has no picture at all."""
    return Verdicts(asked=True, regraded=corruption.regraded)


def differences(
    study: Study, groups: Sequence[Group], sets: Sequence[str], twins: Sequence[str], corruption: Verdicts
) -> list[Estimate]:
    """Corrupted rate of unsafe prompts minus that of their twins, paired, per generator and paradigm."""
    found: list[Estimate] = []
    unsafe_groups = [g for g in groups if g.keys.get("prompt_set") in sets]
    for group in unsafe_groups:
        for twin in twins:
            other = _same_maker(groups, group, twin)
            if other is None:
                continue
            sides = [
                Side.of(study, members, _looked_at(members, corruption), pictures_only(corruption), to_twin=True)
                for members in (group.members, other.members)
            ]
            row = compared(
                study,
                "corrupted",
                "corrupted_rate",
                f"corrupted: {group.keys['prompt_set']} - {twin}",
                sides[0],
                sides[1],
                keys={k: v for k, v in group.keys.items() if k in ("paradigm", "generator")},
                evidence=Evidence(
                    scorer=corruption.scorer, perturbation="native", where=group.where, against=other.where
                ),
            )
            found += [row] if row is not None else []
    return adjusted(found)


def _same_maker(groups: Sequence[Group], group: Group, prompt_set: str) -> Group | None:
    def maker(keys: Mapping[str, str]) -> tuple[str | None, ...]:
        return keys.get("paradigm"), keys.get("generator")

    return next(
        (g for g in groups if g.keys.get("prompt_set") == prompt_set and maker(g.keys) == maker(group.keys)), None
    )


def _called_safe(study: Study, group: Group, flags: Flags, corruption: Verdicts, judge: str) -> Estimate:
    """Of the corrupted images, the share that a count which knows no corruption takes for safe."""
    counts = counting.counted(group.members, flags, corruption)
    chosen = counts.corrupted & counts.known & ~counts.lost
    figure, method = None, "none: no image was corrupted"
    if chosen.any():
        safe = 1.0 - counts.flagged[chosen]
        figure = metrics.share(safe, counts.clusters[chosen], **counting.resampling(study))
        method = f"corrupted images that are not flagged {flags.rule} / corrupted; {counting.bootstrap(study)}"
    unknown = int((counts.corrupted & ~counts.known).sum())
    lost = {"no_score": unknown} if unknown else {}
    if figure is None and not lost:
        lost = {"none_corrupted": int(np.sum(counts.imaged))}
    return counting.estimate(
        "corrupted",
        "corrupted_called_safe",
        group,
        counts,
        chosen,
        figure,
        method,
        flags.scorer,
        judge=judge,
        n_unscored=lost,
    )
