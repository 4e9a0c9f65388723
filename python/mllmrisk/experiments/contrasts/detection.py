"""Are MLLM images harder to detect than diffusion images? Differences of detection against the same photographs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mllmrisk import metrics
from mllmrisk.experiments import detecting
from mllmrisk.experiments.crossfit import Scored
from mllmrisk.experiments.examined import Division, Examined
from mllmrisk.experiments.study import Study, tally
from mllmrisk.records import Estimate, Evidence


def differences(
    study: Study,
    detectors: Sequence[Examined],
    pairs: Sequence[tuple[str, str]],
    views: Sequence[str],
    repeats: int,
    folds: int,
    rate: float,
) -> list[Estimate]:
    """One AUC difference and one detection-rate difference per detector, view and pair of paradigms.

    Args:
        study: the images.
        detectors: which are compared.
        pairs: paradigms, first minus second; a pair of which one has no image is left out.
        views: under which images are compared.
        repeats: divisions of the groups.
        folds: of each division.
        rate: false-alarm rate of the detection rates.
    """
    present = {s.paradigm for s in study.samples}
    rows: list[Estimate] = []
    for view in views:
        for detector in detectors:
            scored = detector.under(study, view, [study.arm(view)], Division(repeats, folds, (rate,)))[view]
            for first, second in pairs:
                if {first, second} <= present:
                    rows += detector.stamped(study, _pair(study, detector, scored, view, (first, second), rate))
    return rows


def _pair(
    study: Study, detector: Examined, scored: Scored, view: str, pair: tuple[str, str], rate: float
) -> list[Estimate]:
    first, second = pair
    keep = np.array([s.paradigm in {"real", first, second} for s in scored.samples], dtype=bool)
    rows = scored.where(keep)
    labels = np.array([s.label == "fake" for s in rows.samples], dtype=bool)
    side = np.array([s.paradigm == first for s in rows.samples], dtype=bool)
    units = detecting.clusters(study, rows.samples)
    sides = [s for s in study.samples if s.paradigm in {"real", first, second}]
    found = []
    measures: list[tuple[metrics.Metric, float | None, NDArray[np.float64]]] = [("auc", None, rows.scores)]
    if rate in rows.margins:
        measures.append(("detection_rate", rate, rows.margins[rate]))
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
                detector=detector.name,
                trained_on=detector.trained_on,
                perturbation=view,
                contrast=f"{measure}: {first} - {second}",
                at=at,
                n_clusters=units.units,
                cluster_by=units.by,
                evidence=Evidence(
                    scorer=detector.scorer(view),
                    perturbation=view,
                    where={"paradigm": first},
                    against={"paradigm": second},
                ),
            )
        )
    return found
