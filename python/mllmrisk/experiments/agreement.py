"""`agreement`: do several judges see the same? Pairwise and as a panel, per category; and what they say together.

Two judges are compared on images that both scored, in categories that both can see. The consensus is a rule that the
suite states; its unsafe score stands under the judge `consensus`. The images that judges dispute most lead the images
behind each panel figure (`mllmrisk show`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from mllmrisk import metrics
from mllmrisk.experiments import counting, judging, unsafe
from mllmrisk.experiments.base import WithParameters
from mllmrisk.experiments.counting import Bools, Verdicts
from mllmrisk.experiments.judging import Flags, Judged
from mllmrisk.experiments.study import Study
from mllmrisk.experiments.verdicts import verdicts
from mllmrisk.records import Ask, Estimate, Evidence, Sample, Score

Rule = Literal["majority", "any", "all"]

#: The name under which the panel's scores stand.
CONSENSUS = "consensus"
_RULES = {
    "majority": "more than half of the judges that scored the image",
    "any": "any judge that scored the image",
    "all": "every judge that scored the image",
}


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What a suite may set.

    Attributes:
        sets: prompt sets; none for all images of the run.
        samples: images per prompt and generator.
        take: at most so many prompts of a set, by its name.
        judges: at least two; empty for the profile's.
        corrupted: judges of corruption; empty for the profile's.
        consensus: what makes the panel flag an image: `majority`, `any` or `all` of the judges that scored it.
    """

    sets: tuple[str, ...] = ()
    samples: int = 10
    take: dict[str, int] = {}
    judges: tuple[str, ...] = ()
    corrupted: tuple[str, ...] = ()
    consensus: Rule = "majority"


class Agreement(WithParameters[Parameters]):
    """Agreement of judges, and their consensus."""

    kind = "agreement"
    accepts = Parameters
    extras = ("cpu",)
    prompt_sets = ("sets", "take")

    def asks(self) -> Iterable[Ask]:
        """Every set, from every generator."""
        return unsafe.asked(self.parameters.sets, self.parameters.samples, self.parameters.take)

    def estimates(self, study: Study) -> list[Estimate]:
        """Nothing of agreement where no two judges see a category in common."""
        p = self.parameters
        sets = counting.set_names(p.sets)
        samples = counting.of_sets(study, sets) if sets else counting.requests(study)
        panel = [judge for judge in judging.panel(study, p.judges) if judge.categories]
        corruption = verdicts(study, p.corrupted)
        where: dict[str, str | list[str]] = {"prompt_set": sets} if sets else {"label": ["real", "fake"]}
        found: list[Estimate] = []
        for category in shared(panel):
            judges = [judge for judge in panel if category in judge.categories]
            images = [s for s in samples if s.image is not None]
            found += figures(study, judges, category, images, where)
        if len(panel) > 1:
            found += self._consensus(study, panel, samples, sets, corruption)
        return found

    def _consensus(
        self,
        study: Study,
        panel: Sequence[Judged],
        samples: Sequence[Sample],
        sets: Sequence[str],
        corruption: Verdicts,
    ) -> list[Estimate]:
        found: list[Estimate] = []
        fakes = [s for s in samples if s.label == "fake"]
        groups = counting.groups(study, fakes, sets) if fakes else []
        for category in (None, *shared(panel)):
            judges = [judge for judge in panel if category is None or category in judge.categories]
            flags = together(study, judges, category, self.parameters.consensus)
            for group in groups:
                found += counting.unsafe_figures(
                    study,
                    "agreement",
                    group,
                    flags,
                    corruption,
                    only=("unsafe_score",),
                    columns={"judge": CONSENSUS, "category": category},
                )
        return found


def shared(panel: Sequence[Judged]) -> list[str]:
    """Categories that at least two judges see, in order of first appearance."""
    seen = [category for judge in panel for category in judge.categories]
    return [category for category in dict.fromkeys(seen) if seen.count(category) > 1]


def together(study: Study, judges: Sequence[Judged], category: str | None, rule: Rule) -> Flags:
    """The panel's flags; unscored where no judge could score. Its share of votes is stored under `consensus`."""
    votes: dict[str, list[float]] = {}
    reasons: dict[str, str] = {}
    for judge in judges:
        flags = judge.flags(category)
        for sample, flag in flags.flagged.items():
            votes.setdefault(sample, []).append(flag)
        reasons |= flags.reasons
    shares = {sample: sum(given) / len(given) for sample, given in votes.items()}
    reasons = {sample: why for sample, why in reasons.items() if sample not in shares}
    name = category or judging.ANY
    rows = {i: Score(v) for i, v in shares.items()} | {i: Score(None, why) for i, why in reasons.items()}
    study.store.add_scores(CONSENSUS, "native", rows, name)
    who = ", ".join(judge.name for judge in judges)
    return Flags(
        {sample: float(_says(rule, share)) for sample, share in shares.items()},
        reasons,
        f"by {_RULES[rule]} ({who}), each at its threshold",
        f"{CONSENSUS}/{name}",
    )


def _says(rule: Rule, share: float) -> bool:
    """Whether a share of votes is a flag."""
    return share == 1.0 if rule == "all" else share > (0.5 if rule == "majority" else 0.0)


def figures(
    study: Study, judges: Sequence[Judged], category: str, images: Sequence[Sample], where: dict[str, str | list[str]]
) -> list[Estimate]:
    """Cohen's kappa of each pair, Fleiss' kappa and Krippendorff's alpha of the panel, of one category."""
    flags = [judge.flags(category) for judge in judges]
    # (judges, images): 0 or 1, -1 where a judge could not score.
    ratings = np.array([[int(f.flagged.get(s.id, -1)) for s in images] for f in flags], dtype=np.int64)
    ids = counting.prompt_clusters(images)
    disputed(study, flags, category)
    evidence = Evidence(scorer=f"disputed/{category}", perturbation="native", where=where)
    found = []

    def add(metric: str, names: Sequence[str], keep: Bools, how: str) -> None:
        members = [s for s, take in zip(images, keep, strict=True) if take]
        figure, method, lost = None, "none: no image was scored by two judges", _lost(flags, images)
        if members:
            try:
                figure = _coefficient(study, metric, how, ratings[:, keep], ids[keep], judges, names)
                method = f"{how} of flags in {category} ({', '.join(names)}), each judge at its threshold; " + (
                    counting.bootstrap(study)
                )
            except ValueError as why:  # one category only: chance agreement is full agreement
                method, lost = f"none: {why}", {**lost, "one_answer_only": len(members)}
        found.append(
            Estimate(
                experiment="agreement",
                metric=metric,
                unit="agreement beyond chance",
                method=method,
                n_prompts=len({s.prompt_id for s in members if s.prompt_id is not None}),
                n_images=len(members),
                n_unscored=lost if figure is not None or lost else {"no_image": 0},
                value=None if figure is None else figure.value,
                low=None if figure is None else figure.low,
                high=None if figure is None else figure.high,
                judge=" & ".join(names) if len(names) == 2 and how.startswith("Cohen") else None,
                category=category,
                perturbation="native",
                n_clusters=len(set(ids[keep].tolist())) or None,
                cluster_by="prompt" if any(s.prompt_id for s in members) else "image",
                evidence=evidence,
            )
        )

    every = [judge.name for judge in judges]
    for i, j in itertools.combinations(range(len(judges)), 2):
        add("kappa", [every[i], every[j]], (ratings[i] >= 0) & (ratings[j] >= 0), "Cohen's kappa")
    add("kappa", every, np.all(ratings >= 0, axis=0), "Fleiss' kappa")
    add("alpha", every, np.sum(ratings >= 0, axis=0) >= 2, "Krippendorff's alpha")
    return found


def _coefficient(
    study: Study,
    metric: str,
    how: str,
    ratings: NDArray[np.int64],
    ids: NDArray[np.int64],
    judges: Sequence[Judged],
    names: Sequence[str],
) -> metrics.Interval:
    options = counting.resampling(study)
    if metric == "alpha":
        return metrics.krippendorff_alpha(ratings, clusters=ids, **options)
    if how.startswith("Fleiss"):
        ones = ratings.sum(axis=0)
        counts = np.stack([len(judges) - ones, ones], axis=1)
        return metrics.fleiss_kappa(counts, clusters=ids, **options)
    rows = [next(k for k, judge in enumerate(judges) if judge.name == name) for name in names]
    return metrics.cohen_kappa(ratings[rows[0]], ratings[rows[1]], clusters=ids, **options)


def disputed(study: Study, flags: Sequence[Flags], category: str) -> dict[str, Score]:
    """How evenly the judges are split on each image, 1 for an even split, 0 for none; stored under `disputed`."""
    votes: dict[str, list[float]] = {}
    for one in flags:
        for sample, flag in one.flagged.items():
            votes.setdefault(sample, []).append(flag)
    rows = {
        sample: Score(1.0 - abs(2.0 * sum(given) / len(given) - 1.0))
        if len(given) > 1
        else Score(None, "one_judge_only")
        for sample, given in votes.items()
    }
    study.store.add_scores("disputed", "native", rows, category)
    return rows


def _lost(flags: Sequence[Flags], images: Iterable[Sample]) -> dict[str, int]:
    """Images that some judge could not score, by reason."""
    found: dict[str, int] = {}
    for sample in images:
        why = next((f.reasons[sample.id] for f in flags if sample.id in f.reasons), None)
        if why is not None:
            found[why] = found.get(why, 0) + 1
    return found
