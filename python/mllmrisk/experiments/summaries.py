"""What a report shows beside estimates: spectra per paradigm, the most and least detectable images, outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mllmrisk import features
from mllmrisk.experiments import levels
from mllmrisk.experiments.forensic import NAME, VECTOR
from mllmrisk.experiments.study import Study
from mllmrisk.experiments.views import VIEWS
from mllmrisk.records import Estimate, Sample

#: Radial spectrum of luma: mean level and its rings, r = 1..32 at frequency r / 64 cycles per pixel, in ln power.
_LEVEL = "radial.luma_level"
_RINGS = [f"radial.luma_r{ring:02d}" for ring in range(1, 33)]
_DECIBELS = 10.0 / np.log(10.0)
#: Images shown at each end of the ranking.
_SHOWN = 12


def of(study: Study, detection: Study, estimates: Sequence[Estimate]) -> dict[str, Any]:
    """Summaries of a study, from vectors and scores that its experiments have already made.

    Args:
        study: everything.
        detection: the part that detection is measured on.
        estimates: of the run.
    """
    views = [v for v in VIEWS if any(r.experiment == "detection" and r.perturbation == v for r in estimates)]
    told: dict[str, Any] = {"outcomes": _outcomes(study)}
    if views:
        told["spectra"] = {view: _spectra(detection, view) for view in views}
        told["ranking"] = _ranking(detection, views[-1])
    if any(row.experiment == "richness" for row in estimates):
        told["lengths"] = levels.lengths(detection)
    return told


def _spectra(study: Study, view: str) -> dict[str, Any]:
    """Mean log power over radial frequency, per paradigm, with the middle 80% of images."""
    table = study.features(study.arm(view), VECTOR)
    column = {name: i for i, name in enumerate(features.names(VECTOR))}
    level = table.values[:, [column[_LEVEL]]].astype(np.float64)
    decibels = _DECIBELS * (level + table.values[:, [column[ring] for ring in _RINGS]])
    found: dict[str, Any] = {"frequency": [ring / 64 for ring in range(1, 33)]}
    paradigms = np.array([s.paradigm for s in table.samples])
    for paradigm in sorted(set(paradigms)):
        rows = decibels[paradigms == paradigm]
        found[str(paradigm)] = {
            "mean": rows.mean(axis=0).round(3).tolist(),
            "low": np.quantile(rows, 0.1, axis=0).round(3).tolist(),
            "high": np.quantile(rows, 0.9, axis=0).round(3).tolist(),
            "n": len(rows),
        }
    return found


def _ranking(study: Study, view: str) -> dict[str, Any]:
    """Generated images by their mean cross-fitted logit, both ends."""
    means = study.store.mean_scores(f"{NAME}/{view}/all", view)
    values = {sample: score.value for sample, score in means.items() if score.value is not None}
    fakes = [s for s in study.samples if s.label == "fake" and s.id in values]
    fakes.sort(key=lambda s: -values[s.id])
    shown = min(_SHOWN, len(fakes) // 2)

    def tell(sample: Sample) -> dict[str, Any]:
        return {
            "sample": sample.id,
            "image": sample.image,
            "path": sample.path,
            "generator": sample.generator,
            "paradigm": sample.paradigm,
            "score": round(values[sample.id], 4),
        }

    return {
        "view": view,
        "detector": NAME,
        "most": [tell(s) for s in fakes[:shown]],
        "least": [tell(s) for s in fakes[::-1][:shown]],
    }


def _outcomes(study: Study) -> list[dict[str, Any]]:
    counted: dict[tuple[Any, ...], int] = {}
    for sample in [*study.samples, *study.without_image]:
        key = (sample.label, sample.paradigm, sample.generator, sample.source, sample.outcome.value, sample.reason)
        counted[key] = counted.get(key, 0) + 1
    names = ("label", "paradigm", "generator", "source", "outcome", "reason")
    return [
        {**dict(zip(names, key, strict=True)), "n": n} for key, n in sorted(counted.items(), key=lambda kv: str(kv[0]))
    ]
