"""`mllmrisk features`: forensic features of any number of images, as a file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click

from mllmrisk.cli import feature_files
from mllmrisk.cli.executor import executor_options, folder, interrupted
from mllmrisk.cli.main import FAILED_UNITS, INTERRUPTED
from mllmrisk.cli.output import check_suffix, cores
from mllmrisk.cli.progress import Progress
from mllmrisk.errors import UsageError
from mllmrisk.executors.dataset_tables import Block
from mllmrisk.registry import did_you_mean

_NOTHING = "no image among the paths; a folder gives its files with an image's suffix, and its tars"


@click.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("-o", "--out", required=True, metavar="FILE|FOLDER", help="A .parquet, .csv or .npy file.")
@click.option(
    "--features",
    "chosen",
    default="default",
    show_default=True,
    metavar="NAME,...",
    help="Sets (default, all), families or single columns; `mllmrisk list features`.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads  [default: all cores; 1 a worker with ray].")
@executor_options
@click.option("--force", is_flag=True, help="Replace the output if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON.")
def command(
    paths: tuple[str, ...],
    out: str,
    chosen: str,
    threads: int | None,
    executor: str,
    ray_address: str,
    resume: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Extract forensic features to Parquet, CSV or NumPy.

    PATHS are files, folders (with all images and tars below them), patterns such as 'photos/**/*.jpg' and
    'shard-{0000..0010}.tar', manifests (.csv, .jsonl), lists (.txt) and .parquet files of images or of their paths;
    with fsspec any of them behind a URL. Every image gets a row: its path, its features, and without features the
    error (one word) and its message. Features are computed on the pixels as stored, at native size. A .npy holds the
    numbers alone, NaN where there are none, with .names.txt, .paths.txt and .errors.csv beside it.

    With --executor ray the output is a folder of Parquet files with the same rows in the same order, complete when it
    holds _SUCCESS.

    The output appears when it is complete. Exits with 3 if some rows have an error, 130 after Ctrl-C.
    """
    names = _names(chosen)
    if executor == "ray":
        return _far(paths, folder(out), names, _list(chosen), threads or 1, ray_address, force, resume, as_json)
    if resume:
        raise UsageError("--resume goes with --executor ray; a file is written whole or not at all")
    file = Path(out)
    check_suffix(file, (".parquet", ".csv", ".npy"))
    feature_files.check_targets(file, force)
    return _here(paths, file, names, _list(chosen), threads or cores(), as_json)


def _far(
    paths: tuple[str, ...],
    out: str,
    names: list[str],
    chosen: list[str],
    threads: int,
    address: str,
    force: bool,
    resume: bool,
    as_json: bool,
) -> int:
    from mllmrisk.executors import datasets

    try:
        written = datasets.features(
            paths,
            out,
            chosen,
            threads=threads,
            address=address,
            force=force,
            resume=resume,
            progress=Progress(),
        )
    except KeyboardInterrupt:
        return interrupted(out)
    _say(written.rows, Counter(written.errors), len(names), [written.folder], as_json)
    return FAILED_UNITS if written.errors else 0


def _here(paths: tuple[str, ...], out: Path, names: list[str], chosen: list[str], threads: int, as_json: bool) -> int:
    from mllmrisk.executors import dataset_inputs

    total = dataset_inputs.count(paths)
    if total == 0:
        raise UsageError(_NOTHING)
    errors: Counter[str] = Counter()
    rows = 0
    try:
        with feature_files.opened(out, names) as writer:
            for block in _blocks(paths, total, chosen, threads):
                writer.write(block)
                rows += len(block.paths)
                errors.update(reason.code for reason in block.reasons.values())
            if rows == 0:
                raise UsageError(_NOTHING)
    except KeyboardInterrupt:
        click.echo("mllmrisk: interrupted; nothing was written", err=True)
        return INTERRUPTED
    _say(rows, errors, len(names), [str(target) for target in feature_files.targets(out)], as_json)
    return FAILED_UNITS if errors else 0


def _blocks(paths: tuple[str, ...], total: int | None, chosen: list[str], threads: int) -> Iterator[Block]:
    from mllmrisk.executors import dataset_inputs, dataset_reading, dataset_workers

    progress = Progress()
    done = 0
    parts = dataset_inputs.parts(dataset_inputs.expand(paths), dataset_reading.BATCH)
    for batch in dataset_reading.batches(parts):
        yield dataset_workers.extracted(batch, chosen, threads)
        done += len(batch)
        if total is not None:
            progress("features", done, max(total, done))


def _list(chosen: str) -> list[str]:
    return [name.strip() for name in chosen.split(",") if name.strip()]


def _names(chosen: str) -> list[str]:
    """The columns of a choice.

    Raises:
        UsageError: a name that is no set, family or column.
    """
    from mllmrisk import features

    families = features.describe()
    known = {"default", "all", *(family.name for family in families)}
    columns = set(features.names("all"))
    for name in _list(chosen):
        if name not in known and name not in columns:
            near = did_you_mean(name, known) or did_you_mean(name, columns)
            raise UsageError(f"no feature is named {name!r}.{near} See `mllmrisk list features`.")
    if not _list(chosen):
        raise UsageError("--features names nothing")
    return list(features.names(_list(chosen)))


def _say(rows: int, errors: Counter[str], columns: int, files: list[str], as_json: bool) -> None:
    failed = sum(errors.values())
    if as_json:
        summary = {"files": files, "rows": rows, "columns": columns, "failed": failed, "errors": dict(errors)}
        click.echo(json.dumps(summary, ensure_ascii=False))
        return
    reasons = ", ".join(f"{code} {count}" for code, count in errors.most_common())
    click.echo(f"{rows} images, {columns} features each: {', '.join(files)}")
    if failed:
        click.echo(f"mllmrisk: {failed} of {rows} images have no features ({reasons}); their rows say why", err=True)
