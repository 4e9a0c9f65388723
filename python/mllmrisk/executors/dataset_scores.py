"""A detector's scores as rows: what is known of an image, its score, and the calls that follow from it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllmrisk.executors.dataset_reading import Item
from mllmrisk.extras import optional
from mllmrisk.manifest import printable
from mllmrisk.records import PARADIGMS, Label, Paradigm, Sample, Score

if TYPE_CHECKING:
    from mllmrisk.detectors.base import Detector


def scored(detector: Detector, batch: Sequence[Item], threads: int | None) -> list[tuple[Score, str | None]]:
    """The scores of a batch, each with its caption; an image that could not be read is unscored, with the reason."""
    from mllmrisk.detectors.base import Captioning

    images = [item.data if isinstance(item.data, bytes) else Path(item.data) for item in batch]
    found: list[tuple[Score, str | None]]
    if isinstance(detector, Captioning):
        found = list(detector.captioned(images, threads=threads))
    else:
        found = [(score, None) for score in detector.score(images, threads=threads)]
    return [
        (Score(None, item.reason.code), None) if item.reason is not None else own
        for item, own in zip(batch, found, strict=True)
    ]


def sample_of(item: Item) -> Sample:
    """What is known of an image that no manifest vouches for.

    A label or a paradigm that is no such word, or a paradigm that contradicts the label, is `unknown`.
    """
    told = item.facts.get("label", "").strip().lower()
    label: Label = "real" if told in ("real", "0") else "fake" if told in ("fake", "1") else "unknown"
    paradigm: Paradigm = "real" if label == "real" else "unknown"
    given = item.facts.get("paradigm", "").strip().lower()
    if label != "real" and given != "real" and given in PARADIGMS:
        paradigm = given  # type: ignore[assignment]  # one of the words
    path = printable(item.name)
    return Sample(
        id=hashlib.sha256(path.encode()).hexdigest()[:16],
        label=label,
        paradigm=paradigm,
        generator=item.facts.get("generator"),
        path=path,
    )


def decision(detector: Detector) -> float:
    """From which score the author calls an image fake; 0 for outside detectors that do not say."""
    return getattr(detector, "decision", 0.0)


def probability(logit: float) -> float:
    """The probability that a logit stands for."""
    return 1.0 / (1.0 + math.exp(-logit)) if logit > -700 else 0.0


def rates(detector: Detector) -> list[float]:
    """The false-alarm rates that calls are made at, as their columns stand."""
    return sorted(detector.thresholds, reverse=True)


def score_schema(detector: Detector) -> Any:
    """The columns of `mllmrisk detect` as an Arrow schema."""
    from mllmrisk.detectors.base import Captioning

    pyarrow = optional("pyarrow", "Parquet", "parquet")
    text, number, call = pyarrow.string(), pyarrow.float64(), pyarrow.bool_()
    captions = ["caption"] if isinstance(detector, Captioning) else []
    calls = ["fake_by_author", *(f"fake_at_{rate:g}" for rate in rates(detector))]
    return pyarrow.schema(
        [
            *((name, text) for name in ("path", "label", "paradigm", "generator", *captions)),
            ("score", number),
            ("probability", number),
            *((name, call) for name in calls),
            ("error", text),
        ]
    )


def score_row(detector: Detector, sample: Sample, score: Score, caption: str | None) -> dict[str, Any]:
    """A row of `score_schema`; its columns that are not here stay null."""
    row: dict[str, Any] = {
        "path": sample.path,
        "label": None if sample.label == "unknown" else sample.label,
        "paradigm": sample.paradigm,
        "generator": sample.generator,
        "caption": caption,
    }
    if score.value is None:
        return {**row, "error": score.reason or "unscored"}
    calls = {f"fake_at_{rate:g}": score.value > detector.thresholds[rate] for rate in rates(detector)}
    author = score.value >= decision(detector)
    return {**row, "score": score.value, "probability": probability(score.value), "fake_by_author": author, **calls}


def write_scores(path: Path, detector: Detector, rows: Sequence[tuple[Sample, Score, str | None]]) -> None:
    """One Parquet file of all rows.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    pyarrow = optional("pyarrow", "Parquet", "parquet")
    parquet = optional("pyarrow.parquet", "Parquet", "parquet")
    made = [score_row(detector, sample, score, caption) for sample, score, caption in rows]
    parquet.write_table(pyarrow.Table.from_pylist(made, schema=score_schema(detector)), path, compression="zstd")
