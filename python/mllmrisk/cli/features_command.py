"""`mllmrisk features`: forensic features of any number of images, as a file."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click

from mllmrisk.cli import feature_files, inputs
from mllmrisk.cli.main import FAILED_UNITS, INTERRUPTED
from mllmrisk.cli.output import check_suffix, cores
from mllmrisk.cli.progress import Progress
from mllmrisk.errors import UsageError
from mllmrisk.registry import did_you_mean

#: Images per call of the core: many threads' worth, and little memory.
_BLOCK = 256


@click.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="A .parquet, .csv or .npy file.")
@click.option(
    "--features",
    "chosen",
    default="default",
    show_default=True,
    metavar="NAME,...",
    help="Sets (default, all), families or single columns; `mllmrisk list features`.",
)
@click.option("--threads", type=click.IntRange(min=1), default=cores, help="Threads.  [default: all cores]")
@click.option("--force", is_flag=True, help="Replace the output if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON.")
def command(paths: tuple[str, ...], out: Path, chosen: str, threads: int, force: bool, as_json: bool) -> int:
    """Extract forensic features to Parquet, CSV or NumPy.

    PATHS are files, folders (with all images below them) and patterns such as 'photos/**/*.jpg'. Every file gets a
    row: its path, its features, and for a file without features the error (one word) and its message. Features are
    computed on the pixels as stored, at native size. A .npy holds the numbers alone, NaN where there are none, with
    .names.txt, .paths.txt and .errors.csv beside it.

    The output appears when it is complete. Exits with 3 if some rows have an error, 130 after Ctrl-C.
    """
    check_suffix(out, (".parquet", ".csv", ".npy"))
    names = _names(chosen)
    inputs.check(paths)
    feature_files.check_targets(out, force)
    total = sum(1 for _ in inputs.files(paths))
    if total == 0:
        raise UsageError("no image among the paths; a folder gives its files with an image's suffix")
    errors: Counter[str] = Counter()
    rows = 0
    try:
        with feature_files.opened(out, names) as writer:
            for block in _blocks(inputs.files(paths), total, _list(chosen), threads):
                writer.write(block)
                rows += len(block.paths)
                errors.update(reason.code for reason in block.reasons.values())
    except KeyboardInterrupt:
        click.echo("mllmrisk: interrupted; nothing was written", err=True)
        return INTERRUPTED
    _say(rows, errors, len(names), out, as_json)
    return FAILED_UNITS if errors else 0


def _blocks(files: Iterator[str], total: int, chosen: list[str], threads: int) -> Iterator[feature_files.Block]:
    from mllmrisk import features

    progress = Progress()
    done = 0
    while part := list(itertools.islice(files, _BLOCK)):
        found = features.extract(part, features=chosen, threads=threads)
        reasons = {row: feature_files.Reason(error.code, str(error)) for row, error in found.errors.items()}
        yield feature_files.Block(part, found.values, reasons)
        done += len(part)
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


def _say(rows: int, errors: Counter[str], columns: int, out: Path, as_json: bool) -> None:
    failed = sum(errors.values())
    files = [str(target) for target in feature_files.targets(out)]
    if as_json:
        summary = {"files": files, "rows": rows, "columns": columns, "failed": failed, "errors": dict(errors)}
        click.echo(json.dumps(summary, ensure_ascii=False))
        return
    reasons = ", ".join(f"{code} {count}" for code, count in errors.most_common())
    click.echo(f"{rows} images, {columns} features each: {', '.join(files)}")
    if failed:
        click.echo(f"mllmrisk: {failed} of {rows} images have no features ({reasons}); their rows say why", err=True)
