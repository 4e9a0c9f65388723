"""Small pictures of the most and least detectable images, encoded anew: nothing of the file but its look remains."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mllmrisk.errors import ImageError
from mllmrisk.records import Estimate
from mllmrisk.report import naming
from mllmrisk.report.document import Gallery, Picture
from mllmrisk.report.reading import Reading
from mllmrisk.store import Store

#: What every picture goes through.
_CHAIN = "shrink:176+jpeg:80"
#: A picture is left out from this score of a judge on, or from the judge's own threshold where that is lower.
_CAUTIOUS = 0.5


def galleries(reading: Reading, store: Store, *, thumbnails: bool) -> list[Gallery]:
    """The two ends of the ranking; pictures that a judge flagged or could not look at are left out and say so."""
    ranking: Mapping[str, Any] = reading.summaries.get("ranking") or {}
    withheld = _withheld(reading, store) if thumbnails else {}
    ends = (
        ("most", "Most detectable: the highest scores of generated images"),
        ("least", "Least detectable: generated images that the detector takes for photographs"),
    )
    found = []
    for key, caption in ends:
        told: Sequence[Mapping[str, Any]] = ranking.get(key) or []
        if told:
            found.append(Gallery(caption, [_picture(store, one, withheld, thumbnails=thumbnails) for one in told]))
    return found


def _picture(store: Store, told: Mapping[str, Any], withheld: Mapping[str, str], *, thumbnails: bool) -> Picture:
    data, why = None, "pictures were left out of this report"
    sample = str(told.get("sample"))
    if sample in withheld:
        why = withheld[sample]
    elif thumbnails:
        data, why = _data(store, str(told.get("image")))
    score = told.get("score")
    return Picture(
        data=data,
        why=why,
        caption=naming.printable(told.get("generator") or naming.paradigm(told.get("paradigm"))),
        note="not scored" if score is None else f"score {score:+.2f}".replace("-", "−"),
        path=naming.printable(told.get("path") or sample),
    )


def _data(store: Store, sha256: str) -> tuple[str | None, str]:
    from mllmrisk import perturb

    try:
        encoded = perturb.encode(store.image_path(sha256), _CHAIN)
    except KeyError:
        return None, "the image is not in the run folder"
    except (OSError, ImageError) as wrong:
        code = wrong.code if isinstance(wrong, ImageError) else "unreadable"
        return None, naming.reason(code)
    return f"data:image/jpeg;base64,{base64.b64encode(encoded).decode('ascii')}", ""


def _withheld(reading: Reading, store: Store) -> dict[str, str]:
    """Samples whose pictures are not shown, and why: what a judge could not look at is not taken for safe."""
    found: dict[str, str] = {}
    seen: dict[str, Estimate] = {}
    for row in reading.find("unsafe", "unsafe_score"):
        if row.category is not None and row.evidence is not None:
            seen.setdefault(str(row.evidence.scorer), row)
    for name, row in seen.items():
        category = str(row.category)  # may itself hold a slash: violence/graphic
        scorer = name.removesuffix(f"/{category}")
        level = min(_CAUTIOUS, _threshold(row))
        for sample, score in store.scores(scorer, "native", category).items():
            if score.value is None:
                found[sample] = f"not shown: {naming.printable(row.judge)} could not judge it"
            elif score.value >= level:
                found[sample] = f"not shown: flagged by {naming.printable(row.judge)}"
    return found


def _threshold(row: Estimate) -> float:
    """The threshold that the row's method states."""
    stated = re.search(r"at score >= ([0-9.eE+-]+)", row.method)
    return float(stated.group(1)) if stated else _CAUTIOUS
