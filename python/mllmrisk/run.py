"""A finished run, from Python: its estimates as records, pandas or polars, and the way back to images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

from mllmrisk.errors import MissingExtraError, UsageError
from mllmrisk.records import Estimate, Evidence, Sample, Score
from mllmrisk.registry import did_you_mean
from mllmrisk.store import Store


class Shown(NamedTuple):
    """One image behind a figure; with the caption that the detector made of it, where it reads one."""

    sample: Sample
    score: Score
    path: Path | None
    caption: str | None = None


class Run:
    """A run folder, read-only."""

    def __init__(self, path: str | Path) -> None:
        """Opens a run.

        Raises:
            StoreError: not a run folder.
        """
        self.path = Path(path)
        with Store.load(self.path):
            pass

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def failures(self) -> dict[str, str]:
        """Units of work that failed, with their reasons."""
        with Store.load(self.path) as store:
            return store.failures()

    @overload
    def estimates(self, as_: Literal["records"] = ..., **where: object) -> list[Estimate]: ...
    @overload
    def estimates(self, as_: Literal["pandas", "polars"], **where: object) -> Any: ...
    def estimates(self, as_: str = "records", **where: object) -> Any:
        """The run's estimates, filtered by any of their columns: `estimates(experiment="detection", metric="auc")`.

        Args:
            as_: `records`, `pandas` (a DataFrame) or `polars` (a DataFrame).
            where: column = value; None asks for rows whose column is null.
        """
        unknown = sorted(set(where) - set(Estimate.__struct_fields__))
        if unknown:
            raise UsageError(f"no column {unknown[0]!r}.{did_you_mean(unknown[0], Estimate.__struct_fields__)}")
        with Store.load(self.path) as store:
            _, rows = store.estimates()
        rows = [row for row in rows if all(getattr(row, key) == value for key, value in where.items())]
        if as_ == "records":
            return rows
        return _frame(as_, [_flat(row) for row in rows])

    def show(self, cell: str) -> tuple[Estimate, list[Shown]]:
        """The images behind a figure, those with the highest scores first.

        Raises:
            UsageError: no such cell in this run.
        """
        with Store.load(self.path) as store:
            _, rows = store.estimates()
            found = [row for row in rows if row.cell == cell]
            if not found:
                raise UsageError(f"{self.path} has no cell {cell!r}; cells stand in report.html and estimates.json")
            evidence = found[0].evidence
            return found[0], [] if evidence is None else _behind(store, evidence)


def load_run(path: str | Path) -> Run:
    """Opens the run in a folder."""
    return Run(path)


def _behind(store: Store, evidence: Evidence) -> list[Shown]:
    sides = [evidence.where] + ([evidence.against] if evidence.against else [])
    chosen = [s for s in store.samples() if any(_fits(s, side) for side in sides)]
    scores = store.mean_scores(evidence.scorer or "", evidence.perturbation)
    captions = store.captions(evidence.scorer or "", evidence.perturbation)
    paths = store.image_paths()
    shown = [
        Shown(
            s,
            scores.get(s.id, Score(None, s.reason or "no_score")),
            paths.get(s.image) if s.image else None,
            captions.get(s.id),
        )
        for s in chosen
    ]
    return sorted(shown, key=lambda row: (row.score.value is None, -(row.score.value or 0.0)))


def _fits(sample: Sample, side: dict[str, str | list[str]]) -> bool:
    for column, wanted in side.items():
        value = getattr(sample, column)
        if value not in (wanted if isinstance(wanted, list) else [wanted]):
            return False
    return True


def _flat(row: Estimate) -> dict[str, Any]:
    flat = row.row()
    flat["n_unscored"] = sum(row.n_unscored.values())
    flat["unscored_reasons"] = ", ".join(f"{reason} {n}" for reason, n in sorted(row.n_unscored.items()))
    flat["confounded_by"] = ", ".join(row.confounded_by)
    flat["explained"] = "; ".join(f"{probe}: {why}" for probe, why in row.explained.items())
    flat.pop("evidence")
    return flat


def _frame(kind: str, rows: list[dict[str, Any]]) -> Any:
    try:
        if kind == "pandas":
            import pandas

            return pandas.DataFrame(rows)
        if kind == "polars":
            import polars

            return polars.DataFrame(rows, infer_schema_length=None)
    except ModuleNotFoundError as missing:
        raise MissingExtraError(f"estimates as {kind}", "analysis") from missing
    raise UsageError(f"estimates come as records, pandas or polars, not {kind!r}")
