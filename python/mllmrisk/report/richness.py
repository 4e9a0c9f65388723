"""Whether longer prompts bypass detection: the answer, and the section that it rests on."""

from __future__ import annotations

from collections.abc import Sequence

from mllmrisk.records import Estimate
from mllmrisk.report import charts, naming
from mllmrisk.report.cells import Cell, cell, p_value
from mllmrisk.report.document import Answer, Block, Charts, Heading, Prose, Section, Sentence, Table, Tone
from mllmrisk.report.reading import Reading, difference

QUESTION = "Do longer prompts bypass detection?"
#: A detection rate beyond these leaves little room to fall, or to rise.
_CEILING, _FLOOR = 0.95, 0.05
_DEVIATIONS = "standard deviations"
_FAMILY = "family "


def answer(reading: Reading) -> Answer | None:
    """By the rules of `words`: a slope counts where its interval excludes 0 and its adjusted p is below 0.05."""
    slopes = reading.find("richness", "slope", generator=None)
    if not slopes:
        return None
    scored = [row for row in slopes if row.value is not None and row.paradigm is not None]
    if not scored:
        said: Sentence = ["It could not be measured: ", cell(slopes[0]), "."]
        return Answer(QUESTION, "Not measured", "open", [said])
    sentences = [sentence for sentence in (_lengths(reading),) if sentence]
    sentences += [_slope(reading, row) for row in scored]
    if room := _room(reading):
        sentences.append(room)
    for row in reading.find("richness", "difference", paradigm=None):
        first, _, second = (row.contrast or "").removeprefix("slope: ").partition(" - ")
        one, two = naming.images_of(first), naming.images_of(second)
        sentences.append([f"The slope of {one} minus that of {two}, by {_detector(row)}, is ", cell(row), _p(row)])
    sentences += _moving(reading)
    verdict, tone = _verdict(scored)
    if tone == "open":
        decides = (
            "An interval that holds 0, or an adjusted p of 0.05 or more, decides nothing: it proves no lack of change."
        )
        sentences.append([decides])
    return Answer(QUESTION, verdict, tone, sentences)


def section(reading: Reading) -> Section | None:
    """Chart, levels, slopes, and the features that move; None where no level was measured."""
    slopes = reading.find("richness", "slope")
    if not slopes:
        return None
    lead = Prose(
        [
            "The same captions as they are (v0), expanded (v1), and expanded again (v2). Detectors and thresholds are "
            "those of all images, carried to every level; a caption counts where it has scored images at every level, "
            "and captions are what is resampled."
        ]
    )
    blocks: list[Block] = [lead]
    if told := _lengths(reading):
        blocks.append(Prose(told))
    detectors = list(dict.fromkeys(str(row.detector) for row in slopes if row.detector is not None))
    drawn = [chart for name in detectors if (chart := charts.levels(reading, name)) is not None]
    blocks += [Charts(drawn, wide=True)] if drawn else []
    blocks += [table for name in detectors if (table := _levels(reading, name)) is not None]
    blocks += [_slopes(reading, slopes), *_features(reading)]
    return Section("richness", QUESTION, blocks)


def _verdict(rows: Sequence[Estimate]) -> tuple[str, Tone]:
    """Whose images are detected less often with longer prompts, and whose more often."""
    detectors = len({row.detector for row in rows})
    said: list[str] = []
    for sign, words in ((-1, "Yes, for"), (1, "No, rather the reverse for")):
        decided: dict[str, int] = {}
        for row in rows:
            if difference(row) == sign:
                decided[str(row.paradigm)] = decided.get(str(row.paradigm), 0) + 1
        if decided:
            who = [f"{naming.images_of(p)}{_of(n, detectors)}" for p, n in decided.items()]
            said.append(f"{words} {naming.listed(who)}")
    if not said:
        return "We cannot tell", "open"
    reached = any(row.confounded for row in rows if difference(row))
    return "; ".join(said) + (", but confounded" if reached else ""), "warn" if reached else "clear"


def _of(n: int, detectors: int) -> str:
    return f" (by {n} of {detectors} detectors)" if detectors > 1 else ""


def _slope(reading: Reading, row: Estimate) -> Sentence:
    who = naming.images_of(row.paradigm)
    parts: Sentence = [f"With each level, the share of {who} that {_detector(row)} detects changes by ", cell(row)]
    ends = [_at_level(reading, row, level) for level in _names(reading)]
    if len(ends) > 1 and ends[0] is not None and ends[-1] is not None:
        first, *_, last = _names(reading)
        parts += [f" (at {first} ", cell(ends[0]), f", at {last} ", cell(ends[-1]), ")"]
    return [*parts, _p(row)]


def _at_level(reading: Reading, row: Estimate, level: str) -> Estimate | None:
    return reading.one(
        "richness", "detection_rate", level=level, detector=row.detector, paradigm=row.paradigm, generator=row.generator
    )


def _names(reading: Reading) -> list[str]:
    """Levels with rows, in order."""
    seen = {row.level for row in reading.find("richness") if row.level is not None}
    return sorted(seen, key=lambda level: (len(level), level))


def _p(row: Estimate) -> str:
    return f"; p = {p_value(row.p_adjusted)} after Holm's adjustment.".replace("= <", "<")


def _detector(row: Estimate) -> str:
    return f"the {naming.printable(row.detector)} detector"


def _room(reading: Reading) -> Sentence:
    """Where everything or nothing is detected, a slope of 0 says little."""
    rows = [row for row in reading.find("richness", "detection_rate", generator=None) if row.value is not None]
    values = [row.value for row in rows if row.value is not None]
    if values and min(values) > _CEILING:
        return ["Nearly all images are detected at every level: there was hardly any room for a fall, or a rise."]
    if values and max(values) < _FLOOR:
        return ["Hardly any image is detected at any level: there was no room for a fall."]
    return []


def _lengths(reading: Reading) -> Sentence:
    told = reading.summaries.get("lengths") or {}
    said = [
        f"{float(one['words']):.0f} words at {naming.printable(level)} ({naming.count(int(one['prompts']), 'prompt')})"
        for level, one in told.items()
    ]
    return [f"The prompts have on average {naming.listed(said)}."] if said else []


def _moved(reading: Reading, *, family: bool) -> list[Estimate]:
    rows = reading.find("richness", "difference", unit=_DEVIATIONS)
    return [row for row in rows if _feature(row).startswith(_FAMILY) == family]


def _feature(row: Estimate) -> str:
    return (row.contrast or "").partition(": ")[2]


def _moving(reading: Reading) -> list[Sentence]:
    """In how many generators' images some feature moves, and the largest shift; the table has them all."""
    rows = [row for row in _moved(reading, family=False) if row.value is not None]
    if not rows:
        return []
    moving = [row for row in rows if difference(row)]
    whole = naming.count(len({row.generator for row in rows}), "generator")
    if not moving:
        largest = max(rows, key=lambda row: abs(row.value or 0.0))
        return [
            [f"In images of {whole}, no forensic feature is shown to move; the largest shift is ", cell(largest), "."]
        ]
    largest = max(moving, key=lambda row: abs(row.value or 0.0))
    said = f"Forensic features move with the level in images of {len({row.generator for row in moving})} of {whole}"
    name = naming.printable(_feature(largest))
    return [[f"{said}; most of all {name}, by ", cell(largest), ". The table of features has them all."]]


def _who(row: Estimate) -> Heading:
    if row.generator is not None:
        return Heading(naming.printable(row.generator), "", True)
    return Heading(naming.paradigm(row.paradigm))


def _levels(reading: Reading, detector: str) -> Table | None:
    names = _names(reading)
    kinds: list[tuple[str, float | None]] = [("detection_rate", at) for at in reading.rates("richness")]
    kinds.append(("auc", None))
    rows = reading.find("richness", detector=detector)
    makers = dict.fromkeys((row.paradigm, row.generator) for row in rows if row.level is not None)
    body: list[tuple[Heading, list[str | Cell]]] = []
    for paradigm, generator in sorted(makers, key=lambda m: (str(m[0]), m[1] is not None, m[1] or "")):
        mine = [row for row in rows if (row.paradigm, row.generator) == (paradigm, generator)]
        cells: list[str | Cell] = []
        for kind in kinds:
            for level in names:
                one = next((r for r in mine if r.level == level and (r.metric, r.at) == kind), None)
                cells.append("not measured" if one is None else cell(one))
        body.append((_who(mine[0]), cells))
    columns = ["Images", *(f"{naming.metric(metric, at)}, {level}" for metric, at in kinds for level in names)]
    caption = f"{naming.printable(detector)} detector, per level"
    return Table(f"richness-levels-{detector}", caption, columns, body, folded=True) if body else None


def _slopes(reading: Reading, slopes: Sequence[Estimate]) -> Table:
    body: list[tuple[Heading, list[str | Cell]]] = []
    for row in slopes:
        change = next(
            (
                r
                for r in reading.find("richness", "difference", detector=row.detector, paradigm=row.paradigm)
                if r.generator == row.generator and r.unit != _DEVIATIONS and row.paradigm is not None
            ),
            None,
        )
        body.append(
            (
                _who(row),
                [
                    naming.printable(row.detector or "none"),
                    cell(row),
                    "not measured" if change is None else cell(change),
                    p_value(row.p_adjusted),
                    _said(row, "falls", "rises"),
                    cell(row).unscored or "none",
                ],
            )
        )
    for row in reading.find("richness", "difference", paradigm=None):
        first, _, second = (row.contrast or "").removeprefix("slope: ").partition(" - ")
        head = Heading(f"{naming.paradigm(first)} − {naming.paradigm(second)}", "slope minus slope")
        said = _said(row, "falls faster", "falls slower")
        unscored = cell(row).unscored or "none"
        body.append((head, [naming.printable(row.detector), cell(row), "", p_value(row.p_adjusted), said, unscored]))
    columns = ["Images", "Detector", "Slope per level", "Last − first level", "p (Holm)", "Detection", "Left out"]
    note = (
        "Points of per cent of images above the carried threshold; below 0, longer prompts are detected less often. "
        "p is that of the slope."
    )
    return Table("richness-slopes", "Detection against the level of the prompt", columns, body, note)


def _said(row: Estimate, falls: str, rises: str) -> str:
    sign = difference(row)
    return falls if sign < 0 else rises if sign > 0 else "we cannot tell"


def _features(reading: Reading) -> list[Block]:
    found: list[Block] = []
    for family, name, caption, note in (
        (
            False,
            "richness-features",
            "Which forensic features move with the level: the strongest of each generator",
            "Last minus first level, paired by caption, in pooled within-level standard deviations. Intervals are "
            "widened for the choice of the strongest; p is adjusted over all features (false discovery rate).",
        ),
        (
            True,
            "richness-families",
            "How much each family of features moves",
            "The mean size of its features' shifts, which chance alone keeps above 0; an interval that begins at 0 "
            "says no more than that.",
        ),
    ):
        rows = _moved(reading, family=family)
        body: list[tuple[Heading, list[str | Cell]]] = [
            (
                Heading(naming.printable(_feature(row).removeprefix(_FAMILY)), naming.paradigm(row.paradigm)),
                [
                    naming.printable(row.generator),
                    cell(row),
                    p_value(row.p_value),
                    p_value(row.p_adjusted),
                    ("moves" if difference(row) else "we cannot tell") if row.value is not None else "not measured",
                ],
            )
            for row in rows
        ]
        if body:
            columns = ["Family" if family else "Feature", "Generator", "Shift", "p", "p (adjusted)", "With the level"]
            found.append(Table(name, caption, columns, body, note, folded=family or len(body) > 20))
    return found
