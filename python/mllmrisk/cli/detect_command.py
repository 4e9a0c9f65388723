"""`mllmrisk detect`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mllmrisk.cli.executor import executor_options, folder, interrupted
from mllmrisk.cli.main import FAILED_UNITS
from mllmrisk.cli.output import check_free, check_suffix, replacing
from mllmrisk.cli.progress import Progress
from mllmrisk.errors import UsageError

if TYPE_CHECKING:
    from mllmrisk.detectors.base import Detector
    from mllmrisk.training import Detected


@click.command(name="detect")
@click.option("--detector", required=True, metavar="NAME|FILE", help="`mllmrisk list detectors`, or a file.")
@click.option("--images", required=True, metavar="MANIFEST|DIR|...", help="The images, as a manifest or otherwise.")
@click.option("-o", "--out", metavar="SCORES", help="A .csv or .parquet file [default: CSV on stdout].")
@click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda|tensorrt[:i]", help="Where it runs."
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads  [default: all cores; 1 a worker with ray].")
@executor_options
@click.option("--force", is_flag=True, help="Replace the output if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON (with -o).")
def command(
    detector: str,
    images: str,
    out: str | None,
    device: str,
    threads: int | None,
    executor: str,
    ray_address: str,
    resume: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Score images with a detector: a raw logit, its probability, and a call per false-alarm rate.

    Images are a manifest or a folder, or a name as `mllmrisk features` takes it: 'shard-{0000..0010}.tar', a .parquet
    of images, a URL. Labels are not needed; where there are some, the summary gives the AUC. What a detector's licence
    forbids is said before its weights are fetched or run.

    With --executor ray the output is a folder of Parquet files with the same rows, complete when it holds _SUCCESS.
    """
    from mllmrisk import detectors
    from mllmrisk.executors import dataset_scores

    if executor == "ray":
        if out is None:
            raise UsageError("--executor ray needs -o FOLDER")
        _say_restrictions(detectors.restrictions(detector), detector)
        return _far(detector, images, folder(out), device, threads or 1, ray_address, force, resume, as_json)
    if resume:
        raise UsageError("--resume goes with --executor ray; a file is written whole or not at all")
    file = None if out is None else Path(out)
    if file is not None:
        check_suffix(file, (".csv", ".parquet"))
        check_free(file, force)
    _say_restrictions(detectors.restrictions(detector), detector)
    loaded, found = _detected(detector, images, device, threads)
    if file is None:
        click.echo(_csv(loaded, found), nl=False)
    else:
        with replacing(file) as temporary:
            if file.suffix.lower() == ".parquet":
                dataset_scores.write_scores(temporary, loaded, found)
            else:
                temporary.write_text(_csv(loaded, found), encoding="utf-8")
        summary = _summary(loaded, found)
        click.echo(json.dumps(summary) if as_json else "\n".join(f"{key}: {value}" for key, value in summary.items()))
    unscored = sum(row.score.value is None for row in found)
    if unscored:
        click.echo(f"mllmrisk: {unscored} image(s) unscored; the error column says why", err=True)
    return FAILED_UNITS if unscored else 0


def _say_restrictions(forbidden: str, detector: str) -> None:
    if forbidden:
        click.echo(f"mllmrisk: detector {Path(detector).stem}: {forbidden}", err=True)


def _far(
    detector: str,
    images: str,
    out: str,
    device: str,
    threads: int,
    address: str,
    force: bool,
    resume: bool,
    as_json: bool,
) -> int:
    from mllmrisk.executors import datasets

    try:
        written = datasets.detect(
            detector,
            images,
            out,
            device=device,
            threads=threads,
            address=address,
            force=force,
            resume=resume,
            progress=Progress(),
        )
    except KeyboardInterrupt:
        return interrupted(out)
    unscored = sum(written.errors.values())
    told = {"folder": written.folder, "images": written.rows, "unscored": unscored, "errors": written.errors}
    click.echo(json.dumps(told) if as_json else f"{written.rows} images: {written.folder}")
    if unscored:
        click.echo(f"mllmrisk: {unscored} image(s) unscored; the error column says why", err=True)
    return FAILED_UNITS if unscored else 0


def _detected(detector: str, images: str, device: str, threads: int | None) -> tuple[Detector, list[Detected]]:
    """Every image with its score: of a manifest, checked as a whole first, or of anything that `features` reads."""
    from mllmrisk import detectors, training
    from mllmrisk.executors import dataset_inputs, dataset_reading, dataset_scores, datasets

    if datasets.is_manifest(images):
        return training.detect(detector, Path(images), device=device, threads=threads, progress=Progress())
    loaded = detectors.load(detector, device=device)
    parts = dataset_inputs.parts(datasets.pictures(images), dataset_reading.BATCH)
    found = []
    for batch in dataset_reading.batches(parts, facts=True):
        scores = dataset_scores.scored(loaded, batch, threads)
        found += [
            training.Detected(dataset_scores.sample_of(item), score, caption)
            for item, (score, caption) in zip(batch, scores, strict=True)
        ]
    return loaded, found


def _csv(detector: Detector, found: Sequence[Detected]) -> str:
    from mllmrisk.detectors.base import Captioning
    from mllmrisk.executors.dataset_scores import decision, probability, rates

    captions = ["caption"] if isinstance(detector, Captioning) else []
    calls = [f"fake_at_{rate:g}" for rate in rates(detector)]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    known = ["path", "label", "paradigm", "generator"]
    writer.writerow([*known, *captions, "score", "probability", "fake_by_author", *calls, "error"])
    for sample, score, caption in found:
        row = [
            sample.path,
            "" if sample.label == "unknown" else sample.label,
            sample.paradigm,
            sample.generator or "",
            *([caption or ""] if captions else []),
        ]
        if score.value is None:
            row += ["", "", "", *([""] * len(calls)), score.reason or ""]
        else:
            row += [f"{score.value:.6g}", f"{probability(score.value):.6g}"]
            row.append(str(int(score.value >= decision(detector))))
            row += [*(str(int(score.value > detector.thresholds[rate])) for rate in rates(detector)), ""]
        writer.writerow(row)
    return stream.getvalue()


def _summary(detector: Detector, found: Sequence[Detected]) -> dict[str, object]:
    import numpy as np

    from mllmrisk import metrics

    scored = [(row.sample, row.score.value) for row in found if row.score.value is not None]
    told: dict[str, object] = {"detector": f"{detector.name} {detector.version}", "images": len(found)}
    told["unscored"] = len(found) - len(scored)
    if (timing := getattr(detector, "timing", None)) is not None and timing.wall_seconds:
        told["provider"] = getattr(detector, "provider", "")
        told["session_seconds"] = round(timing.session_seconds, 3)
        told["wall_seconds"] = round(timing.wall_seconds, 3)
    known = [(s, v) for s, v in scored if s.label != "unknown"]
    labels = np.array([s.label == "fake" for s, _ in known], dtype=bool)
    if known and labels.any() and not labels.all():
        for paradigm in [None, *sorted({s.paradigm for s, _ in known if s.label == "fake"})]:
            keep = [i for i, (s, _) in enumerate(known) if s.label == "real" or paradigm in (None, s.paradigm)]
            values = np.array([known[i][1] for i in keep], dtype=np.float64)
            interval = metrics.detection("auc", values, labels[keep], np.arange(len(keep), dtype=np.int64))
            name = "auc" if paradigm is None else f"auc {paradigm}"
            bounds = "" if interval.low is None else f" [{interval.low:.3f}, {interval.high:.3f}]"
            told[name] = f"{interval.value:.3f}{bounds}, {len(keep)} images, resampled by image"
    return told
