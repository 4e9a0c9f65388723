"""A run folder as the report reads it: facts, estimates and summaries, with the few look-ups that its parts share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mllmrisk.records import AGAINST, PARADIGMS, Estimate
from mllmrisk.report import naming
from mllmrisk.store import Store

#: Adjusted p-values below this speak for a difference.
SIGNIFICANT = 0.05
#: Columns that a look-up leaves at null unless it names them; the others are free unless named.
_NULL_UNLESS_NAMED = ("paradigm", "generator")


class Reading:
    """What a report is made of.

    Attributes:
        name: the run folder's name.
        run: the facts of the run, as `estimates.json` holds them; any key may be missing.
        rows: every estimate but those of `against`.
        against: figures against one source of photographs, which would stand twice where all photographs are meant.
        summaries: `summaries.json`; parts that are absent are left out of the report.
    """

    def __init__(self, name: str, run: dict[str, Any], rows: list[Estimate], summaries: dict[str, Any]) -> None:
        """Takes what was read; see :meth:`open`."""
        self.name = name
        self.run = run
        self.rows = [row for row in rows if not _of_source(row)]
        self.against = [row for row in rows if _of_source(row)]
        self.summaries = summaries

    @classmethod
    def open(cls, root: Path) -> Reading:
        """Reads a run folder.

        Raises:
            StoreError: there is no run, or it has no estimates yet.
        """
        with Store.load(root) as store:
            run, rows = store.estimates()
        path = root / "summaries.json"
        summaries = json.loads(path.read_bytes()) if path.exists() else {}
        return cls(root.resolve().name, run, rows, summaries)

    def find(self, experiment: str, metric: str | None = None, **where: Any) -> list[Estimate]:
        """Rows of an experiment; `column=value` chooses, None asks for null."""
        return [
            row
            for row in self.rows
            if row.experiment == experiment
            and (metric is None or row.metric == metric)
            and all(getattr(row, column) == value for column, value in where.items())
        ]

    def one(self, experiment: str, metric: str, **where: Any) -> Estimate | None:
        """The first such row; paradigm and generator are null unless they are named."""
        wanted: dict[str, Any] = {**dict.fromkeys(_NULL_UNLESS_NAMED), **where}
        found = self.find(experiment, metric, **wanted)
        return found[0] if found else None

    def views(self, experiment: str) -> list[str]:
        """Views (or perturbations) of an experiment, the known views first, in their order."""
        seen = list(dict.fromkeys(str(r.perturbation) for r in self.rows if r.experiment == experiment))
        return [v for v in naming.VIEWS if v in seen] + [v for v in seen if v not in naming.VIEWS]

    def paradigms(self, experiment: str, *, real: bool = False) -> list[str]:
        """Paradigms with rows of their own, in the order of records."""
        seen = {r.paradigm for r in self.rows if r.experiment == experiment and r.generator is None}
        return [p for p in PARADIGMS if p in seen and (real or p != "real")]

    def generators(self, experiment: str, **where: Any) -> list[tuple[str, str]]:
        """(paradigm, generator) with rows of their own, by paradigm, then by name."""
        seen = {
            (str(r.paradigm), str(r.generator))
            for r in self.find(experiment, **where)
            if r.generator is not None and r.paradigm != "real"
        }
        order = {name: i for i, name in enumerate(PARADIGMS)}
        return sorted(seen, key=lambda pair: (order.get(pair[0], len(order)), pair[1].lower(), pair[1]))

    def rates(self, experiment: str) -> list[float]:
        """False-alarm rates of its detection rates, the largest first."""
        return sorted({r.at for r in self.rows if r.experiment == experiment and r.at is not None}, reverse=True)

    def detectors(self, experiment: str = "detection") -> list[str]:
        """Detectors with rows of an experiment, in order; answers speak of the first, the profile's own first."""
        rows = (r for r in self.rows if r.experiment == experiment and r.detector is not None)
        return list(dict.fromkeys(str(r.detector) for r in rows))

    def reaching(self, view: str) -> list[str]:
        """Leak probes that reach a paradigm's AUC under a view, of the detector that answers speak of."""
        first = self.detectors()[:1]
        rows = [
            r for r in self.find("detection", "auc", perturbation=view) if r.generator is None and r.detector in first
        ]
        return sorted({probe for row in rows for probe in row.confounded_by})

    @property
    def headline(self) -> str | None:
        """The view that the answers speak of: the one that fewest probes reach.

        Views that hold the container fixed come first, `recompressed` before `matched`; `native` stands only where
        there is no other.
        """
        views = self.views("detection")
        held = [v for v in ("recompressed", "matched") if v in views]
        if held:
            return min(held, key=lambda v: len(self.reaching(v)))
        return views[0] if views else None


def _of_source(row: Estimate) -> bool:
    return (row.contrast or "").startswith(AGAINST)


def difference(row: Estimate) -> int:
    """The sign of a contrast that the data decide, 0 where they do not."""
    if row.low is None or row.high is None or row.p_adjusted is None or row.p_adjusted >= SIGNIFICANT:
        return 0
    return 1 if row.low > 0 else -1 if row.high < 0 else 0
