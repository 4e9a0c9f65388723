"""Contrasts of unsafe scores: paradigm, language, abstraction, association.

Each is a difference between matched prompts, per generator and per paradigm; and, where two paradigms were measured,
the difference of their differences: whether what separates the two sets does more to the one than to the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mllmrisk.experiments import counting
from mllmrisk.experiments.contrasts.matched import Side, compared
from mllmrisk.experiments.counting import Group, Verdicts
from mllmrisk.experiments.judging import Judged
from mllmrisk.experiments.study import Study
from mllmrisk.records import PARADIGMS, Estimate, Evidence, ExperimentKind, Sample

Pairs = Sequence[tuple[str, str]]


class Asked(NamedTuple):
    """What all designs share.

    Attributes:
        pairs: paradigms compared, first minus second.
        judge: whose flags are compared.
        corruption: corrupted images are outside.
        categories: of the judge; None for any that it sees.
    """

    pairs: Pairs
    judge: Judged
    corruption: Verdicts
    categories: tuple[str | None, ...]


def paradigm(study: Study, asked: Asked, sets: Sequence[str]) -> list[Estimate]:
    """Per prompt set, one paradigm minus another on the same prompts; without sets, over all images with a prompt."""
    found: list[Estimate] = []
    if not sets:
        samples = [s for s in counting.requests(study) if s.label == "fake" and s.prompt_id is not None]
        return between_paradigms(study, asked, samples, {}, "contrast")
    for name in sets:
        samples = counting.of_sets(study, [name])
        found += between_paradigms(study, asked, samples, {"prompt_set": name}, "contrast")
    return found


def between_paradigms(
    study: Study, asked: Asked, samples: Sequence[Sample], keys: dict[str, str], experiment: ExperimentKind
) -> list[Estimate]:
    """One paradigm minus another on the same prompts of some samples."""
    found: list[Estimate] = []
    where: dict[str, str | list[str]] = {"label": "fake", **({"prompt_set": keys["prompt_set"]} if keys else {})}
    for category in asked.categories:
        flags = asked.judge.flags(category)
        for first, second in _present(samples, asked.pairs):
            sides = [
                Side.of(study, [s for s in samples if s.paradigm == p], flags, asked.corruption)
                for p in (first, second)
            ]
            row = compared(
                study,
                experiment,
                "unsafe_score",
                f"paradigm: {first} - {second}",
                *sides,
                keys=keys,
                evidence=Evidence(
                    scorer=flags.scorer,
                    perturbation="native",
                    where={**where, "paradigm": first},
                    against={**where, "paradigm": second},
                ),
                judge=asked.judge.name,
                category=category,
                how=f", flagged {flags.rule}",
            )
            found += [row] if row is not None else []
    return found


def sets(study: Study, asked: Asked, design: str, pairs: Iterable[Sequence[str]]) -> list[Estimate]:
    """Per pair of sets, the first's unsafe score minus that of the second on matched prompts.

    Args:
        study: whose prompts say what matches what.
        asked: what is compared.
        design: `language`, `abstraction` or `association`; its name stands in `contrast`.
        pairs: pairs of prompt sets; one that is not a pair (a set was left out) is passed over.
    """
    found: list[Estimate] = []
    for pair in pairs:
        names = counting.set_names(pair)
        if len(names) != 2:
            continue
        first, second = names
        twins = counting.twins_of(study, second, [first])
        samples = counting.of_sets(study, [first]) + (twins or counting.of_sets(study, [second]))
        for category in asked.categories:
            flags = asked.judge.flags(category)
            differences: dict[str, Side] = {}
            for group in makers(samples):
                members = [[s for s in group.members if s.prompt_set == name] for name in names]
                sides = [Side.of(study, one, flags, asked.corruption, to_twin=bool(twins)) for one in members]
                row = compared(
                    study,
                    "contrast",
                    "unsafe_score",
                    f"{design}: {first} - {second}",
                    *sides,
                    keys=dict(group.keys),
                    evidence=Evidence(
                        scorer=flags.scorer,
                        perturbation="native",
                        where={**group.where, "prompt_set": first},
                        against={**group.where, "prompt_set": second},
                    ),
                    judge=asked.judge.name,
                    category=category,
                    how=f", flagged {flags.rule}",
                )
                found += [row] if row is not None else []
                if "generator" not in group.keys:
                    differences[group.keys["paradigm"]] = sides[0].minus(sides[1])
            found += _of_differences(study, asked, f"{design}: {first} - {second}", names, differences, category)
    return found


def _of_differences(
    study: Study,
    asked: Asked,
    contrast: str,
    names: Sequence[str],
    differences: dict[str, Side],
    category: str | None,
) -> list[Estimate]:
    found: list[Estimate] = []
    flags = asked.judge.flags(category)
    for one, other in asked.pairs:
        if one in differences and other in differences:
            where: dict[str, str | list[str]] = {"label": "fake", "prompt_set": list(names)}
            row = compared(
                study,
                "contrast",
                "unsafe_score",
                f"{contrast}, {one} - {other}",
                differences[one],
                differences[other],
                keys={},
                bounded=False,
                evidence=Evidence(
                    scorer=flags.scorer,
                    perturbation="native",
                    where={**where, "paradigm": one},
                    against={**where, "paradigm": other},
                ),
                judge=asked.judge.name,
                category=category,
                how=", the first paradigm's difference minus the second's",
            )
            found += [row] if row is not None else []
    return found


def makers(samples: Sequence[Sample]) -> list[Group]:
    """Paradigms and generators of some samples."""
    found = []
    for name in [p for p in PARADIGMS if any(s.paradigm == p for s in samples)]:
        members = [s for s in samples if s.paradigm == name]
        where: dict[str, str | list[str]] = {"label": "fake", "paradigm": name}
        found.append(Group({"paradigm": name}, members, where))
        for generator in sorted({s.generator for s in members if s.generator is not None}):
            own = [s for s in members if s.generator == generator]
            found.append(Group({"paradigm": name, "generator": generator}, own, {**where, "generator": generator}))
    return found


def _present(samples: Sequence[Sample], pairs: Pairs) -> list[tuple[str, str]]:
    there = {s.paradigm for s in samples}
    return [(first, second) for first, second in pairs if {first, second} <= there]
