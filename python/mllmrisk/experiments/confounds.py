"""Marks every figure that a leak probe reaches. It cannot be switched off, only explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from mllmrisk.errors import UsageError
from mllmrisk.experiments.probes import PROBES
from mllmrisk.experiments.views import VIEWS
from mllmrisk.records import AGAINST, EVERY, Estimate
from mllmrisk.registry import did_you_mean

#: Experiments whose figures are about telling real from fake.
_REACHABLE = frozenset({"detection", "retrain", "laundering", "contrast", "richness"})


#: What a stamp may name: a probe, or that a detector was trained on some of the images.
STAMPS = (*PROBES, "training images")


def check(explained: Mapping[str, str]) -> None:
    """Refuses an explanation of a stamp that there is not.

    Raises:
        UsageError: a key is no probe.
    """
    for name in explained:
        if name.partition(":")[0] not in STAMPS:  # content:ENCODER is content, through an encoder
            raise UsageError(
                f"explained: no stamp is named {name!r}.{did_you_mean(name, STAMPS)} Known: {', '.join(STAMPS)}"
            )


def marked(estimates: Sequence[Estimate], explained: Mapping[str, str] | None = None) -> list[Estimate]:
    """The estimates, each with the probes that reach it, and beside these what suite and profile say of them.

    A probe reaches a figure when it separates real from fake at all (its interval within these sources lies above
    0.5) and does so at least as well as the low end of the figure's own AUC: then the figure may be the probe's.
    Figures that are no AUC are marked with the AUC of their group; a contrast with those of both its sides. Of one
    generator's figures its own leak is asked, where it has one, else its paradigm's.
    """
    leaks_of = _leaks(estimates)
    told = explained or {}
    aucs = {_key(row): row for row in estimates if row.metric == "auc" and row.experiment in _REACHABLE}
    found = []
    for row in estimates:
        reached = set(row.confounded_by)
        if row.experiment in _REACHABLE:
            for auc in _aucs_behind(row, aucs):
                reached |= {probe for probe, leak in _behind(leaks_of, auc).items() if _reaches(leak, auc)}
        if reached:
            why = {name: told[name] for name in sorted(reached) if name in told}
            row = msgspec.structs.replace(row, confounded=True, confounded_by=sorted(reached), explained=why)
        found.append(row)
    return found


#: View, paradigm, generator.
_Place = tuple[str | None, str | None, str | None]


def _leaks(estimates: Sequence[Estimate]) -> dict[_Place, dict[str, Estimate]]:
    """Scored AUCs of probes by place, then by probe."""
    found: dict[_Place, dict[str, Estimate]] = {}
    for row in estimates:
        if row.experiment == "leak" and row.metric == "auc" and row.value is not None:
            found.setdefault((row.perturbation, row.paradigm, row.generator), {})[str(row.detector)] = row
    return found


def _behind(leaks: Mapping[_Place, dict[str, Estimate]], auc: Estimate) -> dict[str, Estimate]:
    """What each probe reaches on the images of a figure."""
    view = auc.perturbation if auc.perturbation in VIEWS else "recompressed"
    whole = leaks.get((view, auc.paradigm, None), {})
    return whole if auc.generator is None else {**whole, **leaks.get((view, auc.paradigm, auc.generator), {})}


def _key(row: Estimate) -> tuple[str | None, ...]:
    # A figure against one source says which; it is another than that against all photographs.
    group = (row.paradigm, row.generator, row.level, row.contrast)
    return (row.experiment, row.detector, row.trained_on, row.perturbation, *group)


def _aucs_behind(row: Estimate, aucs: dict[tuple[str | None, ...], Estimate]) -> list[Estimate]:
    keys: list[tuple[str | None, ...]]
    if row.experiment == "contrast":
        sides = (row.contrast or "").partition(": ")[2].split(" - ")
        keys = [("detection", row.detector, row.trained_on, row.perturbation, side, None, None, None) for side in sides]
    elif row.experiment == "richness" and row.level is None:  # what compares levels: the AUCs of all of them
        makers = {(row.paradigm, row.generator)}
        if row.paradigm is None:
            makers = {(side, None) for side in (row.contrast or "").partition("slope: ")[2].split(" - ")}
        shared = ("richness", row.detector, row.trained_on, row.perturbation)
        keys = [key for key in aucs if key[:4] == shared and key[4:6] in makers]
    elif (row.contrast or "").startswith(AGAINST):  # its own AUC, with the leak of the generated images behind it
        side = (row.contrast or "").removeprefix(AGAINST)
        return [msgspec.structs.replace(row, paradigm=None if side == EVERY else side, generator=None)]
    elif row.paradigm == "real":  # false alarms: the AUC of all generated images stands for them
        keys = [(row.experiment, row.detector, row.trained_on, row.perturbation, *[None] * 4)]
    else:
        keys = [_key(row)]
    return [aucs[key] for key in keys if key in aucs]


def _reaches(leak: Estimate, auc: Estimate) -> bool:
    if leak.value is None or leak.low is None:
        return False
    # A leak is a fact about these very images: their sources are not resampled to establish it.
    separates = leak.low if leak.low_within is None else leak.low_within
    return separates > 0.5 and auc.low is not None and leak.value >= auc.low
