"""Marks every figure that a leak probe reaches. It cannot be switched off."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mllmrisk.experiments.views import VIEWS
from mllmrisk.records import Estimate

#: Experiments whose figures are about telling real from fake.
_REACHABLE = frozenset({"detection", "retrain", "laundering", "contrast", "richness"})


def marked(estimates: Sequence[Estimate]) -> list[Estimate]:
    """The estimates, each with the probes that reach it.

    A probe reaches a figure when it separates real from fake at all (its interval within these sources lies above
    0.5) and does so at least as well as the low end of the figure's own AUC: then the figure may be the probe's.
    Figures that are no AUC are marked with the AUC of their group; a contrast with those of both its sides.
    """
    leaks = [row for row in estimates if row.experiment == "leak" and row.metric == "auc" and row.value is not None]
    aucs = {_key(row): row for row in estimates if row.metric == "auc" and row.experiment in _REACHABLE}
    found = []
    for row in estimates:
        reached = set(row.confounded_by)
        if row.experiment in _REACHABLE:
            for auc in _aucs_behind(row, aucs):
                reached |= {str(leak.detector) for leak in leaks if _reaches(leak, auc)}
        found.append(msgspec.structs.replace(row, confounded=True, confounded_by=sorted(reached)) if reached else row)
    return found


def _key(row: Estimate) -> tuple[str | None, ...]:
    return (row.experiment, row.detector, row.trained_on, row.perturbation, row.paradigm, row.generator, row.level)


def _aucs_behind(row: Estimate, aucs: dict[tuple[str | None, ...], Estimate]) -> list[Estimate]:
    keys: list[tuple[str | None, ...]]
    if row.experiment == "contrast":
        sides = (row.contrast or "").partition(": ")[2].split(" - ")
        keys = [("detection", row.detector, row.trained_on, row.perturbation, side, None, None) for side in sides]
    elif row.experiment == "richness" and row.level is None:  # what compares levels: the AUCs of all of them
        makers = {(row.paradigm, row.generator)}
        if row.paradigm is None:
            makers = {(side, None) for side in (row.contrast or "").partition("slope: ")[2].split(" - ")}
        shared = ("richness", row.detector, row.trained_on, row.perturbation)
        keys = [key for key in aucs if key[:4] == shared and key[4:6] in makers]
    elif row.paradigm == "real":  # false alarms: the AUC of all generated images stands for them
        keys = [(row.experiment, row.detector, row.trained_on, row.perturbation, None, None, None)]
    else:
        keys = [_key(row)]
    return [aucs[key] for key in keys if key in aucs]


def _reaches(leak: Estimate, auc: Estimate) -> bool:
    view = auc.perturbation if auc.perturbation in VIEWS else "recompressed"
    if leak.perturbation != view or leak.paradigm != auc.paradigm or leak.value is None or leak.low is None:
        return False
    # A leak is a fact about these very images: their sources are not resampled to establish it.
    separates = leak.low if leak.low_within is None else leak.low_within
    return separates > 0.5 and auc.low is not None and leak.value >= auc.low
