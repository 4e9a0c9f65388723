"""`mllmrisk import`: checks a manifest, and every image that it names, before anything is built on them."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import click

from mllmrisk.cli.main import FAILED_UNITS
from mllmrisk.cli.output import check_free, check_suffix, cores, replacing
from mllmrisk.cli.progress import Progress
from mllmrisk.errors import ImageError, ManifestError, UsageError
from mllmrisk.manifest import Entry, Manifest, check_labels, printable
from mllmrisk.manifest import read as read_manifest

#: Columns of a normalised manifest, before those that only the user knows.
_COLUMNS = ("path", "label", "paradigm", "generator", "prompt_id", "prompt", "prompt_set", "level", "language", "index")
_LATE_COLUMNS = ("seed", "source", "sha256")
_SHOWN = 20


class Checked(NamedTuple):
    """One image as it was found: its format and digest, or what is wrong with it."""

    entry: Entry
    format: str
    sha256: str
    code: str | None = None
    message: str | None = None


@click.command()
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write the manifest normalised, with sha256 (.csv).")
@click.option("--force", is_flag=True, help="Replace the file of -o if it exists.")
@click.option("--threads", type=click.IntRange(min=1), default=cores, help="Images read at once.  [default: all cores]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(manifest: Path, out: Path | None, force: bool, threads: int, as_json: bool) -> int:
    """Check a manifest of images, and write it normalised with sha256.

    MANIFEST is a .csv, .jsonl, .parquet or .tar file, or a folder. Every image is read, hashed and decoded. The
    counts are printed; images that cannot be used are listed, left out of the written manifest, and make the exit code
    3. A manifest that contradicts itself or its files (a wrong sha256, one image under two labels) is refused with 2.
    """
    read = read_manifest(manifest)
    root = manifest if manifest.is_dir() else manifest.parent
    if out is not None:
        check_suffix(out, (".csv",))
        check_free(out, force)
        _check_above(out, root)
    checked = list(_check_all(read, threads))
    _check_claims(checked, manifest)
    good, duplicates = _distinct(checked, manifest)
    bad = [item for item in checked if item.code is not None]
    check_labels((item.entry for item in good), manifest)
    if out is not None:
        _write(out, good, root)
    summary = _summary(good, bad, read.notes, duplicates)
    click.echo(json.dumps(summary, indent=1, ensure_ascii=False) if as_json else _text(summary, out))
    return FAILED_UNITS if bad else 0


def _check_all(manifest: Manifest, threads: int) -> Iterator[Checked]:
    progress = Progress()
    total, size = len(manifest.entries), 16 * threads
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, total, size):
            yield from pool.map(_check, manifest.entries[start : start + size])
            progress("images checked", min(start + size, total), total)


def _check(entry: Entry) -> Checked:
    from mllmrisk import images

    try:
        data = entry.read()
    except OSError as wrong:
        return Checked(entry, "", "", "unreadable", wrong.strerror or str(wrong))
    sha256 = hashlib.sha256(data).hexdigest()
    if printable(str(entry.file)) != str(entry.file):
        return Checked(entry, "", sha256, "name", "its file name is not UTF-8, so that no manifest can name it")
    try:
        container = images.probe(data)
        images.decode(data)
    except ImageError as wrong:
        return Checked(entry, "", sha256, wrong.code, str(wrong))
    return Checked(entry, container.format, sha256)


def _check_claims(checked: list[Checked], path: Path) -> None:
    """Refuses a manifest whose sha256 are not those of the files."""
    wrong = [item for item in checked if item.sha256 and item.entry.sha256 not in (None, item.sha256)]
    if wrong:
        first = wrong[0]
        raise ManifestError(
            f"{path}: {len(wrong)} of {len(checked)} images are not the ones that it names: the sha256 of "
            f"{first.entry.sample.path} begins {first.sha256[:12]}, not {str(first.entry.sha256)[:12]}"
        )


def _distinct(checked: list[Checked], path: Path) -> tuple[list[Checked], list[tuple[str, str]]]:
    """The usable images, each set of equal bytes once, and (left out, kept) for the others."""
    kept: dict[str, Checked] = {}
    duplicates = []
    for item in checked:
        if item.code is not None:
            continue
        before = kept.setdefault(item.sha256, item)
        if before is item:
            continue
        if before.entry.sample.label != item.entry.sample.label:
            raise ManifestError(
                f"{path}: {item.entry.sample.path} holds the same bytes as {before.entry.sample.path}, "
                f"once {item.entry.sample.label} and once {before.entry.sample.label}"
            )
        duplicates.append((str(item.entry.sample.path), str(before.entry.sample.path)))
    return list(kept.values()), duplicates


def _check_above(out: Path, root: Path) -> None:
    """A manifest's paths stay inside its folder, so it must lie beside or above the images."""
    if not root.resolve().is_relative_to(out.parent.resolve()):
        raise UsageError(f"{out} must lie in {root} or above it: a manifest's paths stay inside its own folder")


def _write(out: Path, good: list[Checked], root: Path) -> None:
    prefix = root.resolve().relative_to(out.parent.resolve())
    extra = sorted({name for item in good for name in item.entry.sample.extra} - {*_COLUMNS, *_LATE_COLUMNS})
    with replacing(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*_COLUMNS, *_LATE_COLUMNS, *extra], lineterminator="\n", restval="")
        writer.writeheader()
        for item in good:
            sample = item.entry.sample
            row = {name: getattr(sample, name) for name in (*_COLUMNS, "seed", "source")}
            row |= {**sample.extra, "path": str(prefix / str(sample.path)), "sha256": item.sha256}
            writer.writerow({name: "" if value is None else value for name, value in row.items()})


def _summary(
    good: list[Checked], bad: list[Checked], notes: list[str], duplicates: list[tuple[str, str]]
) -> dict[str, Any]:
    samples = [item.entry.sample for item in good]
    return {
        "images": len(good),
        "label": _counts(s.label for s in samples),
        "paradigm": _counts(s.paradigm for s in samples),
        "generator": _counts(s.generator for s in samples if s.generator),
        "source": _counts(s.source for s in samples if s.source),
        "format": _counts(item.format for item in good),
        "prompts": len({s.prompt_id for s in samples if s.prompt_id}),
        "notes": notes,
        "duplicates": [{"path": path, "same_as": kept} for path, kept in duplicates],
        "problems": [
            {"path": item.entry.sample.path, "error": item.code, "error_message": item.message} for item in bad
        ],
    }


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _text(summary: dict[str, Any], out: Path | None) -> str:
    def counts(name: str) -> str:
        found = [f"{value} {count}" for value, count in summary[name].items()]
        more = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        return f"{name:<10} " + (", ".join(found[:_SHOWN]) + more or "none named")

    def listed(name: str, lines: list[str]) -> list[str]:
        more = [f"  ... and {len(lines) - _SHOWN} more (--json lists all)"] if len(lines) > _SHOWN else []
        return [f"{len(lines)} {name}", *(f"  {line}" for line in lines[:_SHOWN]), *more] if lines else []

    return "\n".join(
        [
            f"{summary['images']} images can be used",
            *(counts(name) for name in ("label", "paradigm", "generator", "source", "format")),
            f"{'prompts':<10} {summary['prompts']}",
            *summary["notes"],
            *listed(
                "with the same bytes as another, left out",
                [f"{item['path']} = {item['same_as']}" for item in summary["duplicates"]],
            ),
            *listed(
                "cannot be used",
                [f"{item['path']}: {item['error']}: {item['error_message']}" for item in summary["problems"]],
            ),
            *([f"written: {out}"] if out else []),
        ]
    )
