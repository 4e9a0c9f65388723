"""The tables of a report: which estimates stand where. Every figure is a cell with its interval and n."""

from __future__ import annotations

from collections.abc import Iterable

from mllmrisk.records import AGAINST, EVERY, Estimate
from mllmrisk.report import heatmap, naming
from mllmrisk.report.cells import Cell, cell, p_value
from mllmrisk.report.document import Heading, Table
from mllmrisk.report.reading import Reading, difference
from mllmrisk.report.words import sides

_NOTHING = "not measured"
#: Rows beyond which a table is folded.
_MANY = 12


def _cell(row: Estimate | None) -> Cell | str:
    return _NOTHING if row is None else cell(row)


def _first(rows: Iterable[Estimate]) -> Estimate | None:
    return next(iter(rows), None)


def _unscored(rows: Iterable[Estimate]) -> str:
    found = dict.fromkeys(text for row in rows if (text := cell(row).unscored))
    return "; ".join(found) or "none"


def leak(reading: Reading) -> Table:
    """Probe × view, a column per paradigm."""
    groups: list[str | None] = [None, *reading.paradigms("leak")]
    rows: list[tuple[Heading, list[str | Cell]]] = []
    for view in reading.views("leak"):
        for probe in dict.fromkeys(str(r.detector) for r in reading.find("leak", "auc", perturbation=view)):
            found = [reading.one("leak", "auc", perturbation=view, detector=probe, paradigm=g) for g in groups]
            head = Heading(naming.printable(probe), naming.probe(probe))
            rows.append((head, [naming.printable(view), *map(_cell, found)]))
    columns = ["Probe", "View", *map(naming.paradigm, groups)]
    return Table("leak", "AUC of each leak probe", columns, rows)


def leaks_of_generators(reading: Reading) -> list[Table]:
    """Generator × view, a column per probe: what separates one generator's images from photographs."""
    probes = list(dict.fromkeys(str(r.detector) for r in reading.find("leak", "auc")))
    rows: list[tuple[Heading, list[str | Cell]]] = []
    for paradigm, generator in reading.generators("leak"):
        where = {"paradigm": paradigm, "generator": generator}
        for view in reading.views("leak"):
            found = [reading.one("leak", "auc", perturbation=view, detector=probe, **where) for probe in probes]
            if any(found):
                head = Heading(naming.printable(generator), naming.paradigm(paradigm))
                rows.append((head, [naming.printable(view), *map(_cell, found)]))
    if not rows:
        return []
    columns = ["Generator", "View", *map(naming.printable, probes)]
    note = "A generator's figures are held against its own leak; where it has none, against its paradigm's."
    return [Table("leak-generators", "AUC of each leak probe, per generator", columns, rows, note, folded=True)]


def detection(reading: Reading, view: str) -> list[Table]:
    """Per detector: all generated images, paradigms, generators; every metric that was measured."""
    tables = []
    for detector in reading.detectors():
        rows = [r for r in reading.find("detection", perturbation=view, detector=detector) if r.paradigm != "real"]
        kinds = _kinds(rows)
        columns = ["Images", *(naming.metric(m, at) for m, at in kinds), "Left out"]
        body = []
        for paradigm, generator in _order(reading, rows, view):
            mine = [r for r in rows if (r.paradigm, r.generator) == (paradigm, generator)]
            head = (
                Heading(naming.paradigm(paradigm))
                if generator is None
                else Heading(naming.printable(generator), "", True)
            )
            body.append((head, [*(_cell(_first(_of(mine, *kind))) for kind in kinds), _unscored(mine)]))
        if body:
            named = f"detection-{view}-{detector}"
            tables.append(Table(named, f"{naming.printable(detector)} detector, {naming.view(view)}", columns, body))
    return tables


def _kinds(rows: Iterable[Estimate]) -> list[tuple[str, float | None]]:
    seen = {(r.metric, r.at) for r in rows}
    order = list(naming.METRICS)
    return sorted(seen, key=lambda k: (order.index(k[0]) if k[0] in order else len(order), k[0], -(k[1] or 0.0)))


def _of(rows: Iterable[Estimate], metric: str, at: float | None) -> list[Estimate]:
    return [r for r in rows if r.metric == metric and r.at == at]


def _order(reading: Reading, rows: list[Estimate], view: str) -> list[tuple[str | None, str | None]]:
    """All, then each paradigm, then each generator."""
    whole: list[tuple[str | None, str | None]] = [(None, None)] if any(r.paradigm is None for r in rows) else []
    whole += [(p, None) for p in reading.paradigms("detection")]
    return [*whole, *reading.generators("detection", perturbation=view)]


def false_alarms(reading: Reading) -> Table | None:
    """The share of photographs called fake, per source, over views and rates."""
    rows = reading.find("detection", "detection_rate", paradigm="real")
    kinds = [(v, at) for v in reading.views("detection") for at in reading.rates("detection")]
    sources = sorted({r.generator for r in rows}, key=lambda s: (s is not None, s or ""))
    body = []
    for source in sources:
        mine = [r for r in rows if r.generator == source]
        head = Heading("All photographs") if source is None else Heading(naming.printable(source), "", True)
        body.append((head, [_cell(_first(r for r in mine if (r.perturbation, r.at) == kind)) for kind in kinds]))
    columns = ["Source", *(f"{naming.printable(v)}, set for {at:.0%}" for v, at in kinds)]
    note = (
        "A threshold is set by photographs of other sources; what is shown is how many photographs it then calls fake."
    )
    return Table("false-alarms", "Photographs called fake, per source", columns, body, note) if body else None


def against(reading: Reading, view: str) -> list[Table]:
    """Per detector: AUC against the photographs of each source, for all generated images and each paradigm."""
    tables = []
    groups: list[str | None] = [None, *reading.paradigms("detection")]
    for detector in reading.detectors():
        rows = [r for r in reading.against if (r.detector, r.perturbation) == (detector, view) and r.metric == "auc"]
        body = []
        for name in dict.fromkeys(str(r.generator) for r in rows):
            mine = {r.contrast: r for r in rows if r.generator == name}
            found = [mine.get(f"{AGAINST}{group or EVERY}") for group in groups]
            head = Heading(naming.printable(name))
            body.append((head, [_cell(row) for row in found]))
        if body:
            named = f"against-{view}-{detector}"
            caption = f"AUC against each source of photographs, {naming.printable(detector)} detector, "
            columns = ["Photographs of", *map(naming.paradigm, groups)]
            tables.append(Table(named, caption + naming.view(view), columns, body, folded=len(body) > _MANY))
    return tables


def contrast(reading: Reading) -> Table:
    """Differences between paradigms, with both p-values and what they say."""
    body: list[tuple[Heading, list[str | Cell]]] = []
    rows = [row for row in reading.find("contrast", "difference") if row.detector is not None]
    for row in sorted(rows, key=lambda r: r.perturbation != reading.headline):
        first, second = sides(row)
        measure = (row.contrast or "").partition(":")[0]
        names = f"{naming.paradigm(first)} − {naming.paradigm(second)}"
        sign = difference(row)
        said = (
            f"{naming.images_of(first)} are {'harder' if sign < 0 else 'easier'} to detect"
            if sign
            else "we cannot tell"
        )
        body.append(
            (
                Heading(names, naming.metric(measure, row.at)),
                [
                    naming.printable(row.detector),
                    naming.printable(row.perturbation),
                    cell(row),
                    p_value(row.p_value),
                    p_value(row.p_adjusted),
                    said,
                ],
            )
        )
    columns = ["Difference", "Detector", "View", "Value", "p", "p (Holm)", "Says"]
    note = (
        "A negative difference: the first is harder to detect. p-values are two-sided, adjusted by Holm over all rows."
    )
    return Table("contrast", "Differences between paradigms", columns, body, note)


def laundering(reading: Reading, detector: str) -> Table:
    """Perturbation × paradigm: a detector's AUC and carried detection rate."""
    groups: list[str | None] = [None, *reading.paradigms("laundering", real=True)]
    mine = reading.find("laundering", detector=detector)
    kinds = [(m, at, g) for m, at in _kinds(mine) for g in groups if not (m == "auc" and g == "real")]
    kinds.sort(key=lambda kind: kind[2] == "real")
    body = []
    for chain in reading.views("laundering"):
        where = {"perturbation": chain, "detector": detector}
        cells = [_cell(reading.one("laundering", m, paradigm=g, at=at, **where)) for m, at, g in kinds]
        body.append((Heading(naming.perturbation(chain), naming.printable(chain)), cells))
    columns = [
        "Perturbation",
        *(f"{'False alarms' if g == 'real' else naming.metric(m, at)}, {naming.paradigm(g)}" for m, at, g in kinds),
    ]
    note = "Detector and thresholds are those of undisturbed images, carried along."
    name = naming.named("laundering", detector, reading.detectors("laundering"))
    return Table(name, f"Detection after laundering, {naming.printable(detector)}", columns, body, note)


def retrain(reading: Reading, detector: str) -> Table:
    """A detector's matrix as rows, with every cell's name."""
    members = heatmap.members(reading)
    rates = reading.rates("retrain")
    asked: list[tuple[str, float | None]] = [("auc", None), *(("detection_rate", at) for at in rates)]
    maps = [heatmap.lookup(reading, detector, metric, at) for metric, at in asked]
    body: list[tuple[Heading, list[str | Cell]]] = []
    for trained in members:
        for tested in members:
            found = [heatmap.at(rows, trained, tested) for rows in maps]
            if any(found):
                body.append((Heading(trained.label), [tested.label, *map(_cell, found)]))
    columns = ["Trained on", "Tested on", "AUC", *(naming.metric("detection_rate", at) for at in rates)]
    name = naming.named("retrain", detector, reading.detectors("retrain"))
    return Table(name, f"The matrix as a table, {naming.printable(detector)}", columns, body, folded=True)


def outcomes(reading: Reading) -> Table | None:
    """How samples ended, by who made them and where they come from."""
    told = reading.summaries.get("outcomes") or []
    body = []
    for one in told:
        why = naming.reason(str(one["reason"])) if one.get("reason") else ""
        named = naming.printable(one.get("generator") or "no generator named")
        cells: list[str | Cell] = [
            naming.paradigm(one.get("paradigm")),
            naming.printable(one.get("source") or "not named"),
            naming.printable(one.get("outcome") or ""),
            why,
            f"{int(one.get('n') or 0):,}",
        ]
        body.append((Heading(named), cells))
    columns = ["Generator or camera", "Paradigm", "Source", "Outcome", "Reason", "Samples"]
    return Table("outcomes", "Every sample, by outcome", columns, body, folded=len(body) > _MANY) if body else None
