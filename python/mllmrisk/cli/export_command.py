"""`mllmrisk export`: a run's estimates, scores or samples as a table for other tools."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from mllmrisk.cli.output import check_free, check_suffix, replacing
from mllmrisk.extras import optional
from mllmrisk.records import Estimate, Sample
from mllmrisk.store import Store

Row = dict[str, Any]


def _estimates(store: Store) -> tuple[list[str], Iterator[Row]]:
    _, estimates = store.estimates()
    return ["cell", *Estimate.__struct_fields__], (estimate.row() for estimate in estimates)


def _samples(store: Store) -> tuple[list[str], Iterator[Row]]:
    return list(Sample.__struct_fields__), (msgspec.to_builtins(sample) for sample in store.samples())


def _scores(store: Store) -> tuple[list[str], Iterator[Row]]:
    """Every score beside the sample that it belongs to, so that the table stands alone."""
    samples = {sample.id: sample for sample in store.samples()}
    about = ["label", "paradigm", "generator", "prompt_id", "source", "image", "path"]

    def rows() -> Iterator[Row]:
        for scorer, perturbation, category, _ in store.scorers():
            for sample, score in store.scores(scorer, perturbation, category).items():
                row: Row = {"scorer": scorer, "perturbation": perturbation, "category": category, "sample": sample}
                row |= msgspec.to_builtins(score)
                if sample in samples:
                    row |= {name: getattr(samples[sample], name) for name in about}
                yield row

    return ["scorer", "perturbation", "category", "sample", "value", "reason", "stratum", *about], rows()


WHAT: dict[str, Callable[[Store], tuple[list[str], Iterator[Row]]]] = {
    "estimates": _estimates,
    "scores": _scores,
    "samples": _samples,
}


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--what", type=click.Choice(list(WHAT)), default="estimates", show_default=True, help="Which table.")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="A .csv, .jsonl or .parquet file.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON.")
def command(run: Path, what: str, out: Path, force: bool, as_json: bool) -> None:
    """Write a run's estimates, scores or samples as CSV, JSONL or Parquet.

    An absent number is an empty cell (null in JSONL and Parquet), never 0 and never NaN. Maps and lists (n_unscored,
    evidence, extra) are JSON text in CSV and Parquet.
    """
    suffix = check_suffix(out, (".csv", ".jsonl", ".parquet"))
    check_free(out, force)
    with Store.load(run) as store:
        columns, rows = WHAT[what](store)
        with replacing(out) as temporary:
            written = _WRITERS[suffix](temporary, columns, rows)
    if written == 0:
        click.echo(f"mllmrisk: the run has no {what} yet; {out} holds the header only", err=True)
    click.echo(json.dumps({"file": str(out), "rows": written}) if as_json else f"{written} {what} written to {out}")


def _write_csv(path: Path, columns: list[str], rows: Iterator[Row]) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for count, row in enumerate(rows, 1):  # noqa: B007 (the last count is the result)
            writer.writerow(["" if (value := row.get(name)) is None else _flat(value) for name in columns])
    return count


def _write_jsonl(path: Path, columns: list[str], rows: Iterator[Row]) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for count, row in enumerate(rows, 1):  # noqa: B007 (the last count is the result)
            whole = {name: row.get(name) for name in columns}
            file.write(json.dumps(whole, ensure_ascii=False, allow_nan=False) + "\n")
    return count


def _write_parquet(path: Path, columns: list[str], rows: Iterator[Row]) -> int:
    pyarrow = optional("pyarrow", "Parquet", "parquet")
    parquet = optional("pyarrow.parquet", "Parquet", "parquet")
    table = [{name: _flat(row.get(name)) for name in columns} for row in rows]
    arrays = {name: pyarrow.array([row[name] for row in table]) for name in columns}
    # a column without any value has no type of its own; text is what every reader takes
    arrays = {k: a.cast(pyarrow.string()) if pyarrow.types.is_null(a.type) else a for k, a in arrays.items()}
    parquet.write_table(pyarrow.table(arrays), path)
    return len(table)


def _flat(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


_WRITERS: dict[str, Callable[[Path, list[str], Iterator[Row]], int]] = {
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
