"""The drawings of a report: leak probes beside the detector, figures per generator, laundering, spectra."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from mllmrisk.records import PARADIGMS, Estimate
from mllmrisk.report import naming
from mllmrisk.report.cells import cell
from mllmrisk.report.document import Chart
from mllmrisk.report.reading import Reading
from mllmrisk.report.svg import Drawing, group_class

_DASHES = {"mllm": "7 3", "mllm-conditioned": "2 3", "real": "10 3 2 3"}


class Scale(NamedTuple):
    """From numbers to px."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, x: float) -> float:
        """Where a number lies; one outside lies on the edge."""
        share = (min(max(x, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def _floor(rows: Sequence[Estimate]) -> float:
    """The lower end of an AUC axis: at most 0.4, in steps of 0.1."""
    lows = [x for row in rows for x in (row.low, row.value) if x is not None]
    return max(0.0, min(0.4, math.floor(min(lows, default=0.4) * 10) / 10))


def _tip(who: str, row: Estimate) -> str:
    return f"{who}: {cell(row).text} ({row.cell})"


def _axis(drawing: Drawing, x: Scale, top: float, bottom: float, label: str) -> None:
    """Grid and labels of a horizontal AUC axis, chance marked."""
    tick = math.ceil(x.low * 10) / 10
    while tick <= x.high + 1e-9:
        at = x(tick)
        drawing.line(at, top, at, bottom, "chance" if abs(tick - 0.5) < 1e-9 else "grid")
        if round(tick * 10) % 2 == 0 or abs(tick - 0.5) < 1e-9:
            drawing.text(at, bottom + 16, f"{tick:.1f}", "muted small mid")
        tick += 0.1
    drawing.text((x.start + x.end) / 2, bottom + 33, label, "muted small mid")


def _legend(drawing: Drawing, groups: Sequence[str | None], x: float, y: float, most: float) -> float:
    """Marks with names, wrapped at `most` px; returns the height taken."""
    at, line = x, 0
    for group in groups:
        name = naming.paradigm(group)
        width = 24 + 6.6 * len(name)
        if at > x and at + width > most:
            at, line = x, line + 1
        drawing.marker(at + 6, y + line * 20, group_class(group), size=5)
        drawing.text(at + 17, y + 4 + line * 20, name, "small")
        at += width + 10
    return 20.0 * (line + 1)


def _dots(drawing: Drawing, x: Scale, y: float, rows: Sequence[Estimate], step: float, *, wide: bool = False) -> None:
    """One figure per paradigm, one under the other around `y`: a mark on its interval; a cross where there is none."""
    start = y - step * (len(rows) - 1) / 2
    for i, row in enumerate(rows):
        group, at = group_class(row.paradigm), start + i * step
        who = naming.printable(row.generator) if row.generator else naming.paradigm(row.paradigm)
        if row.value is None:
            drawing.text(x.start + 4, at + 4, f"not scored: {cell(row).reason}", "muted tiny", most=44 if wide else 34)
            continue
        if row.low is not None and row.high is not None:
            drawing.line(x(row.low), at, x(row.high), at, f"bar {group}")
        drawing.marker(x(row.value), at, group, _tip(who, row), size=4.6)
        if row.confounded:
            drawing.text(x(row.value if row.high is None else row.high) + 5, at + 4, "⚠", "warn small")


def leak(reading: Reading) -> list[Chart]:
    """A panel per view: what probes reach, above what the detector reaches."""
    every = [
        r for r in reading.rows if r.experiment in {"leak", "detection"} and r.metric == "auc" and r.generator is None
    ]
    floor = _floor(every)
    charts = []
    for view in reading.views("leak"):
        probes = dict.fromkeys(str(r.detector) for r in reading.find("leak", "auc", perturbation=view))
        bands = [(probe, _by_paradigm(reading, "leak", view, probe)) for probe in probes]
        for detector in reading.detectors():
            rows = _by_paradigm(reading, "detection", view, detector)
            if rows:
                bands.append((detector, rows))
        charts.append(_leak_panel(view, bands, floor))
    return charts


def _by_paradigm(reading: Reading, experiment: str, view: str, detector: str) -> list[Estimate]:
    rows = reading.find(experiment, "auc", perturbation=view, detector=detector, generator=None)
    return sorted(rows, key=lambda r: PARADIGMS.index(r.paradigm) if r.paradigm in PARADIGMS else -1)


def _leak_panel(view: str, bands: list[tuple[str, list[Estimate]]], floor: float) -> Chart:
    groups = sorted(
        {r.paradigm for _, rows in bands for r in rows}, key=lambda p: PARADIGMS.index(p) if p in PARADIGMS else -1
    )
    step, head, width = 15.0, 52.0, 380.0
    tall = step * max((len(rows) for _, rows in bands), default=1) + 16
    bottom = head + tall * len(bands)
    legend = 20 * (1 + sum(24 + 6.6 * len(naming.paradigm(g)) + 10 for g in groups) // (width - 24))
    title = f"{naming.printable(view)}: {naming.VIEWS.get(view, 'a perturbation')}"
    about = "; ".join(
        f"{name}: " + ", ".join(_tip(naming.paradigm(r.paradigm), r) for r in rows) for name, rows in bands
    )
    drawing = Drawing(f"leak-{naming.slug(view)}", width, bottom + 46 + legend, f"Leak probes, {title}", about)
    drawing.text(12, 22, naming.printable(view), "bold")
    drawing.text(12, 40, naming.VIEWS.get(view, ""), "muted small", most=62)
    x = Scale(floor, 1.0, 104, width - 26)
    for i in range(0, len(bands), 2):
        drawing.add("rect", x=0, y=head + tall * i, width=width, height=tall, class_="stripe")
    _axis(drawing, x, head, bottom, "AUC (0.5: guessing)")
    for i, (name, rows) in enumerate(bands):
        middle = head + tall * (i + 0.5)
        detector = rows and rows[0].experiment == "detection"
        if detector:
            drawing.line(0, head + tall * i, width, head + tall * i, "axis")
        called, _, encoder = (name, "", "") if detector else name.partition(":")
        below = "the detector" if detector else f"through {naming.printable(encoder)}" if encoder else ""
        drawing.text(12, middle + (0 if below else 4), naming.printable(called), "bold" if detector else "", most=16)
        if below:
            drawing.text(12, middle + 14, below, "muted tiny", most=20)
        _dots(drawing, x, middle, rows, step)
    _legend(drawing, groups, 12, bottom + 54, width - 12)
    return Chart(drawing.name, drawing.render(), title)


def generators(reading: Reading, detector: str, view: str) -> Chart | None:
    """A detector's AUC per paradigm and generator under a view, with intervals."""
    rows = reading.find("detection", "auc", perturbation=view, detector=detector)
    names = reading.generators("detection", perturbation=view)
    if not names:
        return None
    order: list[Estimate] = []
    for paradigm in dict.fromkeys(p for p, _ in names):
        order += [r for r in rows if r.paradigm == paradigm and r.generator is None]
        order += [r for pair in names if pair[0] == paradigm for r in rows if (r.paradigm, r.generator) == pair]
    width, step, head, left = 760.0, 24.0, 12.0, 270.0
    bottom = head + step * len(order)
    about = "; ".join(_tip(r.generator or naming.paradigm(r.paradigm), r) for r in order)
    title = f"AUC of {naming.printable(detector)} per paradigm and generator, {naming.printable(view)} view"
    drawing = Drawing(
        naming.named(f"detection-{naming.slug(view)}", detector, reading.detectors()), width, bottom + 44, title, about
    )
    x = Scale(_floor(order), 1.0, left, width - 150)
    for i, row in enumerate(order):
        if row.generator is None:
            drawing.add("rect", x=0, y=head + step * i, width=width, height=step, class_="stripe")
    _axis(drawing, x, head, bottom, "AUC against all photographs (0.5: guessing)")
    for i, row in enumerate(order):
        y, whole = head + step * (i + 0.5), row.generator is None
        name = naming.paradigm(row.paradigm) if whole else naming.printable(row.generator)
        drawing.text(12 if whole else 26, y + 4.5, name, "bold" if whole else "", most=38 if whole else 34)
        _dots(drawing, x, y, [row], step, wide=True)
        shown = cell(row)
        drawing.text(width - 10, y + 4.5, f"{shown.value} {shown.interval}".strip(), "small end muted")
    return Chart(drawing.name, drawing.render(), title)


def laundering(reading: Reading, detector: str) -> Chart | None:
    """A detector's AUC per paradigm over perturbations, those of one kind joined by a line."""
    chains = reading.views("laundering")
    rows = {
        p: {r.perturbation: r for r in reading.find("laundering", "auc", paradigm=p, detector=detector)}
        for p in reading.paradigms("laundering")
    }
    if not chains or not rows:
        return None
    families = naming.families(chains)
    gap, step, left, head = 26.0, 22.0 * max(2, len(rows)), 52.0, 16.0
    positions: dict[str, float] = {}
    at, breaks = left + 10, []
    for family in families:
        for chain in family:
            positions[chain] = at + step / 2
            at += step
        breaks.append(at + gap / 2)
        at += gap
    width, plot = at - gap + 14, 250.0
    bottom = head + plot
    every = [r for found in rows.values() for r in found.values()]
    y = Scale(_floor(every), 1.0, bottom, head)
    about = "; ".join(
        _tip(f"{naming.perturbation(c)}, {naming.paradigm(p)}", r)
        for p, found in rows.items()
        for c, r in found.items()
    )
    name = naming.named("laundering", detector, reading.detectors("laundering"))
    title = f"AUC of {naming.printable(detector)} after what happens to images on their way to a viewer"
    drawing = Drawing(name, width, bottom + 132, title, about)
    tick = y.low
    while tick <= 1.0 + 1e-9:
        drawing.line(left, y(tick), width - 10, y(tick), "chance" if abs(tick - 0.5) < 1e-9 else "grid")
        drawing.text(left - 8, y(tick) + 4, f"{tick:.1f}", "muted small end")
        tick += 0.1
    drawing.text(15, (head + bottom) / 2, "AUC", "muted small mid", turn=-90)
    for edge in breaks[:-1]:
        drawing.line(edge, head, edge, bottom, "grid")
    for chain, middle in positions.items():
        drawing.text(middle + 4, bottom + 16, naming.perturbation(chain), "small end", most=26, turn=-38)
    for i, (paradigm, found) in enumerate(rows.items()):
        _curve(drawing, y, families, positions, found, paradigm, (i - (len(rows) - 1) / 2) * 13)
        before = found.get(chains[0])
        if chains[0] in naming.VIEWS and before is not None and before.value is not None:
            drawing.line(left, y(before.value), width - 10, y(before.value), f"before {group_class(paradigm)}")
    _legend(drawing, list(rows), left, bottom + 116, width)
    return Chart(drawing.name, drawing.render(), title)


def _curve(
    drawing: Drawing,
    y: Scale,
    families: list[list[str]],
    positions: dict[str, float],
    found: dict[str | None, Estimate],
    paradigm: str,
    shift: float,
) -> None:
    group = group_class(paradigm)
    for family in families:
        points = [(positions[c] + shift, found[c]) for c in family if c in found]
        scored = [(x, y(r.value)) for x, r in points if r.value is not None]
        if len(scored) > 1:
            drawing.path(scored, f"line {group}", dash=_DASHES.get(paradigm, ""))
        for x, row in points:
            if row.value is None:
                drawing.text(x, y(y.low) - 4, "–", "muted mid")
                continue
            if row.low is not None and row.high is not None:
                drawing.line(x, y(row.low), x, y(row.high), f"bar {group}")
            drawing.marker(
                x,
                y(row.value),
                group,
                _tip(f"{naming.perturbation(row.perturbation)}, {naming.paradigm(paradigm)}", row),
                4.2,
            )
            if row.confounded:
                drawing.text(x, y(row.value if row.high is None else row.high) - 5, "⚠", "warn tiny mid")


def levels(reading: Reading, detector: str) -> Chart | None:
    """Detection rate over the levels of a prompt: a small panel per generator."""
    rows = [r for r in reading.find("richness", "detection_rate", detector=detector) if r.generator is not None]
    names = sorted({str(r.level) for r in rows if r.level is not None}, key=lambda level: (len(level), level))
    makers = [pair for pair in reading.generators("richness", detector=detector) if any(_made(r, pair) for r in rows)]
    if len(names) < 2 or not makers:
        return None
    across, wide, tall = 4, 184.0, 190.0
    groups = list(dict.fromkeys(paradigm for paradigm, _ in makers))
    bottom = tall * -(-len(makers) // across)
    title = f"Detected images against the level of the prompt, {naming.printable(detector)} detector"
    about = "; ".join(_tip(f"{r.generator}, {r.level}", r) for r in rows)
    drawing = Drawing(f"richness-{naming.slug(detector)}", across * wide + 8, bottom + 34, title, about)
    for i, pair in enumerate(makers):
        left, top = (i % across) * wide, (i // across) * tall
        found = {str(r.level): r for r in rows if _made(r, pair)}
        _level_panel(drawing, left, top, pair, names, found)
    _legend(drawing, groups, 12, bottom + 16, across * wide)
    return Chart(drawing.name, drawing.render(), title)


def _made(row: Estimate, pair: tuple[str, str]) -> bool:
    return (row.paradigm, row.generator) == pair


def _level_panel(
    drawing: Drawing, left: float, top: float, pair: tuple[str, str], names: list[str], found: dict[str, Estimate]
) -> None:
    paradigm, generator = pair
    y = Scale(0.0, 1.0, top + 150, top + 36)
    x = Scale(0.0, max(1.0, len(names) - 1.0), left + 62, left + 164)
    drawing.text(left + 12, top + 18, naming.printable(generator), "bold", most=20)
    for tick in (0.0, 0.5, 1.0):
        drawing.line(left + 44, y(tick), left + 178, y(tick), "grid")
        drawing.text(left + 40, y(tick) + 4, f"{tick:.0%}", "muted small end")
    group = group_class(paradigm)
    points = [(x(i), y(r.value)) for i, name in enumerate(names) if (r := found.get(name)) and r.value is not None]
    if len(points) > 1:
        drawing.path(points, f"line {group}", dash=_DASHES.get(paradigm, ""))
    for i, name in enumerate(names):
        drawing.text(x(i), top + 168, naming.printable(name), "muted small mid")
        row = found.get(name)
        if row is None or row.value is None:
            drawing.text(x(i), y(0.0) - 4, "–", "muted mid")
            continue
        if row.low is not None and row.high is not None:
            drawing.line(x(i), y(row.low), x(i), y(row.high), f"bar {group}")
        drawing.marker(x(i), y(row.value), group, _tip(f"{generator}, {name}", row), 4.2)


def spectra(reading: Reading) -> list[Chart]:
    """Mean log power over radial frequency, a panel per view on one scale."""
    told = reading.summaries.get("spectra") or {}
    values = [
        v
        for view in told.values()
        for key, curve in view.items()
        if key != "frequency"
        for v in (*curve["low"], *curve["high"])
    ]
    if not values:
        return []
    floor, ceiling = math.floor(min(values) / 10) * 10, math.ceil(max(values) / 10) * 10
    order = [v for v in naming.VIEWS if v in told] + [v for v in told if v not in naming.VIEWS]
    return [_spectrum(view, told[view], floor, max(ceiling, floor + 10)) for view in order]


def _spectrum(view: str, told: dict[str, Any], floor: float, ceiling: float) -> Chart:
    frequency = told["frequency"]
    groups = [p for p in PARADIGMS if p in told] + sorted(set(told) - set(PARADIGMS) - {"frequency"})
    width, head, bottom = 380.0, 52.0, 292.0
    names = ", ".join(f"{naming.paradigm(g)} ({naming.count(int(told[g]['n']), 'image')})" for g in groups)
    title = f"Spectra, {naming.printable(view)} view"
    drawing = Drawing(
        f"spectra-{naming.slug(view)}",
        width,
        bottom + 56 + 20 * len(groups),
        title,
        f"Mean log power over radial frequency with the middle 80% of images, of {names}.",
    )
    drawing.text(12, 22, naming.printable(view), "bold")
    drawing.text(12, 40, naming.VIEWS.get(view, ""), "muted small", most=62)
    x = Scale(0.0, max(0.5, max(frequency)), 48, width - 14)
    y = Scale(floor, ceiling, bottom, head)
    step = 10 if ceiling - floor <= 60 else 20
    for tick in range(int(floor), int(ceiling) + 1, step):
        drawing.line(x.start, y(tick), x.end, y(tick), "grid")
        drawing.text(x.start - 6, y(tick) + 4, f"{tick}".replace("-", "−"), "muted small end")
    for tenth in range(int(x.high * 10 + 1e-9) + 1):
        drawing.text(x(tenth / 10), bottom + 16, f"{tenth / 10:.1f}", "muted small mid")
    drawing.text(14, (head + bottom) / 2, "log power, dB", "muted small mid", turn=-90)
    drawing.text((x.start + x.end) / 2, bottom + 32, "radial frequency, cycles per px", "muted small mid")
    for g in groups:
        up = [(x(f), y(v)) for f, v in zip(frequency, told[g]["high"], strict=True)]
        down = [(x(f), y(v)) for f, v in zip(frequency, told[g]["low"], strict=True)]
        drawing.path([*up, *reversed(down)], f"band {group_class(g)}", closed=True)
    for i, g in enumerate(groups):
        points = [(x(f), y(v)) for f, v in zip(frequency, told[g]["mean"], strict=True)]
        drawing.path(points, f"line {group_class(g)}", dash=_DASHES.get(g, ""))
        at = bottom + 54 + 20 * i
        drawing.path([(x.start, at), (x.start + 26, at)], f"line {group_class(g)}", dash=_DASHES.get(g, ""))
        drawing.text(
            x.start + 34, at + 4, f"{naming.paradigm(g)} · {naming.count(int(told[g]['n']), 'image')}", "small", most=46
        )
    return Chart(drawing.name, drawing.render(), title)
