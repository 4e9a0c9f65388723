"""`richness`: do longer prompts bypass detection? Figures per level, their slope, and which features move.

Detectors and thresholds are those of `detection`, carried to every level. All comparisons are paired: a caption counts
where it has scored images at every level, generator by generator, and the caption is what is resampled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from mllmrisk import features
from mllmrisk.experiments import detecting, movement
from mllmrisk.experiments.contrasts.matched import adjusted
from mllmrisk.experiments.crossfit import Scored
from mllmrisk.experiments.detecting import Group
from mllmrisk.experiments.examined import Division, LooksAtDetectors
from mllmrisk.experiments.levels import MEASURE, Comparing, Panel, complete, levels_of
from mllmrisk.experiments.study import Study, tally
from mllmrisk.records import Estimate, Evidence


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What a suite may set.

    Attributes:
        detectors: as in `detection`; empty for the profile's.
        device: where they run; the call's.
        view: under which container images are looked at.
        repeats, folds: as in `detection`; the same numbers reuse its models.
        rate: false-alarm rate of the carried thresholds.
        pairs: paradigms whose slopes are compared, first minus second.
        min_images: generators with fewer images have no rows of their own.
        features: families of features (or `default`, `all`) whose movement is measured; empty for none.
        strongest: features that are listed per generator.
    """

    detectors: tuple[str, ...] = ()
    device: str = "auto"
    view: str = "recompressed"
    repeats: int = 4
    folds: int = 3
    rate: float = 0.05
    pairs: tuple[tuple[str, str], ...] = (("mllm", "diffusion"), ("mllm-conditioned", "diffusion"))
    min_images: int = 5
    features: tuple[str, ...] = ("default",)
    strongest: int = 15


class Richness(LooksAtDetectors[Parameters]):
    """Detection against the level of the prompt, per detector, generator and paradigm."""

    kind = "richness"
    accepts = Parameters

    def needs(self) -> Iterable[str]:
        """The optional dependency sets of the families; effect sizes need those of training."""
        return dict.fromkeys(["train", *super().needs()])

    def estimates(self, study: Study) -> list[Estimate]:
        """Rows per detector (each level, slopes, differences, contrasts), then what moves."""
        levels = levels_of(study.samples)
        if len(levels) < 2:
            return [_without_levels(study, levels)]
        p = self.parameters
        way, division = study.arm(p.view), Division(p.repeats, p.folds, (p.rate,))
        found: list[Estimate] = []
        for detector in self.detectors:
            scored = detector.under(study, p.view, [way], division)[p.view]
            scorer = detector.scorer(p.view)
            where = detecting.Where("richness", detector.name, p.view, scorer, detector.trained_on)
            found += detector.stamped(study, self._detected(study, levels, scored, where))
        return found + self._moved(study, levels)

    def _groups(self, study: Study, levels: Mapping[str, int]) -> list[Group]:
        """Paradigms and generators, of images with a level."""
        with_level = [s for s in study.samples if s.label == "fake" and s.level in levels]
        return [group for group in detecting.groups(with_level, self.parameters.min_images) if group.columns]

    def _detected(
        self, study: Study, levels: Mapping[str, int], scored: Scored, where: detecting.Where
    ) -> list[Estimate]:
        rate = self.parameters.rate
        found: list[Estimate] = []
        slopes: list[Estimate] = []
        differences: list[Estimate] = []
        panels: dict[str, Panel] = {}
        for group in self._groups(study, levels):
            for level in levels:
                members = [s for s in group.members if s.level == level]
                if members:
                    own = group._replace(members=members, level=level)
                    found += detecting.figures(study, scored, where, own, (rate,), short=True)
            panel = Panel.of(study, group, levels, scored, rate)
            comparing = Comparing(study, where, rate, levels, group.columns)
            slopes.append(comparing.slope(panel))
            differences.append(comparing.difference(panel))
            if group.generator is None and group.paradigm is not None:
                panels[group.paradigm] = panel
        contrasts = [
            Comparing(study, where, rate, levels, {}).contrast(pair, panels[pair[0]], panels[pair[1]])
            for pair in self.parameters.pairs
            if set(pair) <= set(panels)
        ]
        # Each is a family of its own: slopes and differences ask the same of each group, contrasts something else.
        return [*found, *adjusted(slopes), *adjusted(differences), *adjusted(contrasts)]

    def _moved(self, study: Study, levels: Mapping[str, int]) -> list[Estimate]:
        p = self.parameters
        if not p.features:
            return []
        table = study.features(study.arm(p.view), p.features)
        row_of = {s.id: i for i, s in enumerate(table.samples)}
        found: list[Estimate] = []
        for group in self._groups(study, levels):
            if group.generator is not None:
                found += _moved(study, group, levels, p, table.values, row_of, table.reasons)
        return found


def _without_levels(study: Study, levels: Mapping[str, int]) -> Estimate:
    fakes = [s for s in study.samples if s.label == "fake"]
    have = f"only the level {next(iter(levels))}" if levels else "no level"
    return Estimate(
        experiment="richness",
        metric="slope",
        unit=f"{MEASURE} per level",
        method=f"none: the generated images have {have}: a manifest needs the column level (v0, v1, v2), and for what "
        "belongs together the column concept or prompt_id",
        n_prompts=len({s.prompt_id for s in fakes if s.prompt_id is not None}),
        n_images=0,
        n_unscored={"no_levels": len(fakes)},
    )


def _moved(
    study: Study,
    group: Group,
    levels: Mapping[str, int],
    parameters: Parameters,
    values: NDArray[np.float32],
    row_of: Mapping[str, int],
    reasons: Mapping[str, str],
) -> list[Estimate]:
    """The strongest features and the families of one generator, last level minus first."""
    first, *_, last = levels
    ends = {first: 0, last: 1}
    members = [s for s in group.members if s.level in ends]
    whole = complete(study, [s for s in members if s.id in row_of], ends)
    kept = [s for cells in whole.values() for samples in cells.values() for s in samples]
    unscored = tally(reasons, members)
    if lost := sum(s.id in row_of for s in members) - len(kept):
        unscored["unmatched"] = lost

    def row(contrast: str, method: str, found: movement.Effect | None) -> Estimate:
        numbers = {} if found is None else {key: value for key, value in found._asdict().items() if key != "name"}
        return Estimate(
            experiment="richness",
            metric="difference",
            unit="standard deviations",
            method=method,
            n_prompts=len({s.prompt_id for s in kept if s.prompt_id is not None}),
            n_images=len(kept),
            n_unscored=unscored if found is not None or unscored else {"too_few_captions": len(members)},
            paradigm=group.paradigm,
            generator=group.generator,
            perturbation=parameters.view,
            contrast=f"{last} - {first}: {contrast}",
            n_clusters=len(whole),
            cluster_by="caption",
            evidence=Evidence(
                scorer=None, perturbation=parameters.view, where={**group.columns, "label": "fake", "level": [*ends]}
            ),
            **numbers,
        )

    if len(whole) < movement.FEWEST:
        return [row("features", f"none: fewer than {movement.FEWEST} captions have both levels", None)]
    before, after = (
        np.stack([np.mean(values[[row_of[s.id] for s in cells[level]]], axis=0) for cells in whole.values()])
        for level in ends
    )
    names = features.names(parameters.features)
    found = movement.effects(
        before, after, names, strongest=parameters.strongest, resamples=study.resamples, seed=study.seed
    )
    paired = "mean difference over captions / pooled within-level sd"
    of_feature = (
        f"effect size d: {paired}; interval by bootstrap over captions, widened for the choice of the strongest "
        f"{len(found.strongest)} of {found.features:,} features (false coverage rate 5%); p by swapping levels within "
        "captions, Benjamini-Hochberg over all of them"
    )
    of_family = (
        f"mean |d| of the family's features (d: {paired}); interval by bootstrap over captions, from 0 where swapping "
        "levels within captions gives as much; p by swapping, Holm over the generator's families"
    )
    return [
        *(row(effect.name, of_feature, effect) for effect in found.strongest),
        *(row(f"family {effect.name}", of_family, effect) for effect in found.families),
    ]
