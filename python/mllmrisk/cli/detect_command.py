"""`mllmrisk detect`."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mllmrisk.cli.main import FAILED_UNITS
from mllmrisk.cli.output import check_free, check_suffix, replacing
from mllmrisk.cli.progress import Progress

if TYPE_CHECKING:
    from mllmrisk.detectors.base import Detector
    from mllmrisk.training import Detected


@click.command(name="detect")
@click.option("--detector", required=True, metavar="NAME|FILE", help="`mllmrisk list detectors`, or a file.")
@click.option("--images", required=True, type=click.Path(path_type=Path), metavar="MANIFEST|DIR", help="The images.")
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="SCORES.csv", help="CSV file [default: stdout].")
@click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda|tensorrt[:i]", help="Where it runs."
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the core [default: all cores].")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON (with -o).")
def command(
    detector: str, images: Path, out: Path | None, device: str, threads: int | None, force: bool, as_json: bool
) -> int:
    """Score images with a detector: a raw logit, its probability, and a call per false-alarm rate.

    Labels are not needed; where a manifest has them, the summary gives the AUC. What a detector's licence forbids is
    said before its weights are fetched or run.
    """
    if out is not None:
        check_suffix(out, (".csv",))
        check_free(out, force)
    from mllmrisk import detectors, training

    if forbidden := detectors.restrictions(detector):
        click.echo(f"mllmrisk: detector {Path(detector).stem}: {forbidden}", err=True)
    loaded, found = training.detect(detector, images, device=device, threads=threads, progress=Progress())
    text = _csv(loaded, found)
    if out is None:
        click.echo(text, nl=False)
    else:
        with replacing(out) as temporary:
            temporary.write_text(text, encoding="utf-8")
        summary = _summary(loaded, found)
        click.echo(json.dumps(summary) if as_json else "\n".join(f"{key}: {value}" for key, value in summary.items()))
    unscored = sum(row.score.value is None for row in found)
    if unscored:
        click.echo(f"mllmrisk: {unscored} image(s) unscored; the error column says why", err=True)
    return FAILED_UNITS if unscored else 0


def _csv(detector: Detector, found: Sequence[Detected]) -> str:
    from mllmrisk.detectors.base import Captioning

    rates = sorted(detector.thresholds, reverse=True)
    captions = ["caption"] if isinstance(detector, Captioning) else []
    calls = [f"fake_at_{rate:g}" for rate in rates]
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
            row += ["", "", "", *([""] * len(rates)), score.reason or ""]
        else:
            row += [f"{score.value:.6g}", f"{_probability(score.value):.6g}"]
            row.append(str(int(score.value >= _decision(detector))))
            row += [*(str(int(score.value > detector.thresholds[rate])) for rate in rates), ""]
        writer.writerow(row)
    return stream.getvalue()


def _decision(detector: Detector) -> float:
    """From which score the author calls an image fake; 0 for outside detectors that do not say."""
    return getattr(detector, "decision", 0.0)


def _probability(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-logit)) if logit > -700 else 0.0


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
