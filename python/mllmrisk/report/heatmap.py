"""The retrain matrix as a heat map: trained on (rows) × tested on (columns), paradigms first, blocks apart."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

from mllmrisk.records import Estimate
from mllmrisk.report import naming
from mllmrisk.report.cells import cell, short
from mllmrisk.report.document import Chart
from mllmrisk.report.reading import Reading
from mllmrisk.report.svg import Drawing

#: Upper ends of the colour steps: one stands astride 0.5, where a detector guesses; the last holds all above.
_STEPS = (0.35, 0.45, 0.55, 0.65, 0.75, 0.85)
_SIDE, _TALL, _GAP, _LEFT = 61.0, 46.0, 9.0, 206.0
#: Characters of a column's label, and how far right and up each of them reaches at its slope.
_LABEL, _RUN, _RISE = 26, 4.9, 4.5
_WORDS = ("below .35", ".35–.45", "guessing", ".55–.65", ".65–.75", ".75–.85", "above .85")


class Member(NamedTuple):
    """A row or column: a paradigm or a generator."""

    name: str
    paradigm: str
    whole: bool

    @property
    def key(self) -> str:
        """As the `trained_on` column names it."""
        return self.name

    @property
    def label(self) -> str:
        """As a reader sees it."""
        return naming.paradigm(self.name) if self.whole else naming.printable(self.name)


def members(reading: Reading) -> list[Member]:
    """Paradigms, then generators by paradigm."""
    whole = [Member(p, "", True) for p in reading.paradigms("retrain")]
    return whole + [Member(g, p, False) for p, g in reading.generators("retrain")]


def lookup(
    reading: Reading, detector: str, metric: str, at: float | None = None
) -> dict[tuple[str, str, str | None], Estimate]:
    """Rows of a detector and metric by (trained on, paradigm, generator)."""
    rows = reading.find("retrain", metric, at=at, detector=detector)
    return {(str(r.trained_on), str(r.paradigm), r.generator): r for r in rows}


def at(rows: dict[tuple[str, str, str | None], Estimate], trained: Member, tested: Member) -> Estimate | None:
    """The row of one cell."""
    key = (trained.key, tested.name, None) if tested.whole else (trained.key, tested.paradigm, tested.name)
    return rows.get(key)


def retrain(reading: Reading, detector: str) -> Chart | None:
    """The matrix of a detector's AUCs."""
    every, rows = members(reading), lookup(reading, detector, "auc")
    if not every or not rows:
        return None
    offsets = _offsets(every)
    lengths = [min(_LABEL, len(m.label)) for m in every]
    head = 30.0 + _RISE * max(lengths)
    ends = [_LEFT + _position(every, i, _SIDE) + _SIDE / 2 + _RUN * n for i, n in enumerate(lengths)]
    width = max(_LEFT + _across(every), *ends, 640.0) + 8
    bottom = head + offsets[-1] + _TALL
    unscored = sorted({cell(r).reason for r in rows.values() if r.value is None})
    about = "; ".join(
        f"trained on {a.label}, tested on {b.label}: {cell(row).text}"
        for a in every
        for b in every
        if (row := at(rows, a, b))
    )
    name = naming.named("retrain", detector, reading.detectors("retrain"))
    title = f"AUC by training and test generator, {naming.printable(detector)}"
    drawing = Drawing(name, width, bottom + 74 + 18 * len(unscored), title, about)
    drawing.raw(
        f'<defs><pattern id="{name}-nil" width="7" height="7" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><rect width="7" height="7" class="nil"/>'
        '<line x1="0" y1="0" x2="0" y2="7" class="hatch"/></pattern></defs>'
    )
    drawing.text(_LEFT - 10, head - 12, "trained on ↓   tested on →", "muted small end")
    for i, member in enumerate(every):
        x = _LEFT + _position(every, i, _SIDE) + _SIDE / 2
        drawing.text(x + 3, head - 8, member.label, "small bold" if member.whole else "small", most=_LABEL, turn=-42)
        y = head + offsets[i] + _TALL / 2
        drawing.text(_LEFT - 10, y + 4, member.label, "small end bold" if member.whole else "small end", most=30)
    for i, trained in enumerate(every):
        for j, tested in enumerate(every):
            row = at(rows, trained, tested)
            corner = (_LEFT + _position(every, j, _SIDE), head + offsets[i])
            _square(
                drawing, *corner, row, f"trained on {trained.label}, tested on {tested.label}", own=trained == tested
            )
    _scale(drawing, _LEFT, bottom + 24, unscored)
    caption = f"AUC of {naming.printable(detector)} trained on one (row) and tested on each (column)"
    return Chart(drawing.name, drawing.render(), caption)


def _position(every: list[Member], index: int, side: float) -> float:
    breaks = sum(a.paradigm != b.paradigm for a, b in pairwise(every[: index + 1]))
    return index * side + breaks * _GAP


def _offsets(every: list[Member]) -> list[float]:
    return [_position(every, i, _TALL) for i in range(len(every))]


def _across(every: list[Member]) -> float:
    return _position(every, len(every) - 1, _SIDE) + _SIDE


def _square(drawing: Drawing, x: float, y: float, row: Estimate | None, who: str, *, own: bool) -> None:
    box: dict[str, Any] = {"x": x + 1, "y": y + 1, "width": _SIDE - 2, "height": _TALL - 2, "rx": 3}
    if row is None or row.value is None:
        why = "not measured" if row is None else f"{cell(row).text} ({row.cell})"
        drawing.add("rect", f"{who}: {why}", **box, fill=f"url(#{drawing.name}-nil)")
        return
    shade = sum(row.value >= step for step in _STEPS)
    drawing.add("rect", f"{who}: {cell(row).text} ({row.cell})", **box, class_=f"h{shade}")
    value, spread, n = short(row)
    middle = x + _SIDE / 2
    drawing.text(middle, y + 17, value, f"bold mid on{shade} plain")
    drawing.text(middle, y + 29, spread, f"tiny mid on{shade} plain")
    drawing.text(middle, y + 40, n, f"tiny mid on{shade} plain")
    if row.confounded:
        drawing.text(x + _SIDE - 6, y + 14, "⚠", f"tiny end on{shade} plain")
    if own:
        drawing.add("rect", **{**box, "rx": 3}, class_="axis hollow plain")


def _scale(drawing: Drawing, x: float, y: float, unscored: list[str]) -> None:
    drawing.text(x - 10, y + 13, "AUC", "muted small end")
    for shade, words in enumerate(_WORDS):
        drawing.add("rect", x=x + shade * 62, y=y, width=60, height=14, class_=f"h{shade}")
        drawing.text(x + shade * 62 + 30, y + 28, words, "tiny mid muted")
    drawing.text(x - 10, y + 46, "framed", "muted small end")
    drawing.text(
        x,
        y + 46,
        "trained and tested on the same, never on the same source  ·  ⚠ a leak probe reaches it",
        "small muted",
    )
    for i, why in enumerate(unscored):
        at_y = y + 54 + 18 * i
        drawing.add("rect", x=x - 34, y=at_y, width=24, height=12, fill=f"url(#{drawing.name}-nil)")
        drawing.text(x, at_y + 10, f"not scored: {why}", "small muted", most=110)
