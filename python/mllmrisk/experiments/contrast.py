"""`contrast`: are MLLM images harder to detect than diffusion images? The difference, its interval, its p-value."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from mllmrisk import metrics
from mllmrisk.experiments import detecting
from mllmrisk.experiments.base import WithParameters
from mllmrisk.experiments.crossfit import Scored, crossfit
from mllmrisk.experiments.detection import Parameters as DetectionParameters
from mllmrisk.experiments.detection import plan
from mllmrisk.experiments.recipes import FORENSIC
from mllmrisk.experiments.study import Study, tally
from mllmrisk.experiments.views import VIEWS
from mllmrisk.records import Estimate, Evidence


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What a suite may set.

    Attributes:
        pairs: paradigms compared, first minus second.
        views, repeats, folds: as in `detection`; the same numbers reuse its models.
        rate: false-alarm rate of the compared detection rates.
    """

    pairs: tuple[tuple[str, str], ...] = (("mllm", "diffusion"), ("mllm-conditioned", "diffusion"))
    views: tuple[str, ...] = VIEWS
    repeats: int = 4
    folds: int = 3
    rate: float = 0.05


class Contrast(WithParameters[Parameters]):
    """Differences between paradigms under each view, with Holm-adjusted p-values over all of them."""

    kind = "contrast"
    accepts = Parameters

    def estimates(self, study: Study) -> list[Estimate]:
        """One AUC difference and one detection-rate difference per pair and view."""
        p = self.parameters
        present = {s.paradigm for s in study.samples}
        rows: list[Estimate] = []
        for view in p.views:
            asked = plan(view, DetectionParameters(repeats=p.repeats, folds=p.folds, rates=(p.rate,)))
            scored = crossfit(study, FORENSIC, asked, [study.arm(view)])[view]
            for first, second in p.pairs:
                if {first, second} <= present:
                    rows += self._pair(study, scored, view, first, second)
        return adjusted(rows)

    def _pair(self, study: Study, scored: Scored, view: str, first: str, second: str) -> list[Estimate]:
        keep = np.array([s.paradigm in {"real", first, second} for s in scored.samples], dtype=bool)
        rows = scored.where(keep)
        labels = np.array([s.label == "fake" for s in rows.samples], dtype=bool)
        side = np.array([s.paradigm == first for s in rows.samples], dtype=bool)
        units = detecting.clusters(study, rows.samples)
        sides = [s for s in study.samples if s.paradigm in {"real", first, second}]
        found = []
        measures: list[tuple[metrics.Metric, float | None, NDArray[np.float64]]] = [("auc", None, rows.scores)]
        if self.parameters.rate in rows.margins:
            measures.append(("detection_rate", self.parameters.rate, rows.margins[self.parameters.rate]))
        inside = detecting.within_sources(study, rows.samples)
        for measure, at, scores in measures:

            def over(
                ids: NDArray[np.int64],
                measure: metrics.Metric = measure,
                at: float | None = at,
                scores: NDArray[np.float64] = scores,
            ) -> metrics.Contrast:
                return metrics.detection_difference(
                    measure,
                    scores,
                    labels,
                    side,
                    ids,
                    strata=rows.strata if at is None else None,
                    threshold=None if at is None else 0.0,
                    resamples=study.resamples,
                    seed=study.seed,
                    threads=study.threads,
                )

            result = over(units.ids)
            within = over(inside.ids) if inside else None
            found.append(
                Estimate(
                    experiment="contrast",
                    metric="difference",
                    unit=f"difference of {measure}",
                    method=f"{measure} of {first} minus {measure} of {second} against the same photographs; "
                    f"{detecting.bootstrap(study, units)}; p two-sided, Holm over the contrasts",
                    n_prompts=len({s.prompt_id for s in rows.samples if s.prompt_id is not None}),
                    n_images=len({s.id for s in rows.samples}),
                    n_unscored=tally(scored.reasons, sides),
                    value=result.value,
                    low=result.low,
                    high=result.high,
                    low_within=None if within is None else within.low,
                    high_within=None if within is None else within.high,
                    p_value=result.p_value,
                    detector=FORENSIC.name,
                    trained_on="all",
                    perturbation=view,
                    contrast=f"{measure}: {first} - {second}",
                    at=at,
                    n_clusters=units.units,
                    cluster_by=units.by,
                    evidence=Evidence(
                        scorer=f"{FORENSIC.name}/{view}/all",
                        perturbation=view,
                        where={"paradigm": first},
                        against={"paradigm": second},
                    ),
                )
            )
        return found


def adjusted(rows: list[Estimate]) -> list[Estimate]:
    """The rows with p-values adjusted by Holm over all of them."""
    values = [row.p_value for row in rows]
    tested = [i for i, value in enumerate(values) if value is not None]
    if not tested:
        return rows
    corrected = metrics.holm(np.array([values[i] for i in tested], dtype=np.float64))
    rows = list(rows)
    for i, p in zip(tested, corrected, strict=True):
        rows[i] = msgspec.structs.replace(rows[i], p_adjusted=float(p))
    return rows
