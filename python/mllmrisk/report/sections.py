"""Puts a report together: the answer first, then the figures in the order in which a reader asks for them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mllmrisk.report import charts, heatmap, naming, published, richness, risk, tables, words
from mllmrisk.report.document import Block, Chart, Charts, Gallery, Listing, Prose, Report, Section
from mllmrisk.report.reading import Reading

#: Facts of a run that Methods tells, beside its spec.
_FACTS = (
    *("resamples", "versions", "build", "hardware", "groups", "counts", "began", "seconds", "speeds"),
    "profile_about",
)


def report(reading: Reading, galleries: Sequence[Gallery]) -> Report:
    """The whole report; parts that a run has not measured are left out."""
    sections = [
        *risk.sections(reading),
        _leak(reading),
        _detection(reading),
        _contrast(reading),
        _laundering(reading),
        richness.section(reading),
        _retrain(reading),
        _spectra(reading),
        published.section(reading),
        _pictures(reading, galleries),
        _left_out(reading),
        _methods(reading),
    ]
    about = reading.run.get("suite_about")
    title = naming.printable(about) if about else "How risky are these images?"
    note = naming.printable(reading.run.get("profile_note") or "")
    return Report(title, note, _facts(reading), words.answers(reading), [s for s in sections if s is not None])


def _facts(reading: Reading) -> list[tuple[str, str]]:
    spec: Mapping[str, Any] = reading.run.get("spec") or {}
    counts: Mapping[str, int] = reading.run.get("counts") or {}
    told = [
        naming.count(n, "photograph") if name == "real" else f"{n:,} {naming.images_of(name)}"
        for name, n in counts.items()
        if name in naming.PARADIGMS
    ]
    facts = [
        ("Run", naming.printable(reading.name)),
        ("Suite", naming.printable(spec.get("suite") or "")),
        ("Profile", naming.printable(spec.get("profile") or "")),
        ("Images", ", ".join(told)),
        ("Begun", naming.printable(reading.run.get("began") or "")),
        (
            "mllmrisk",
            naming.printable((reading.run.get("versions") or {}).get("mllmrisk") or spec.get("version") or ""),
        ),
    ]
    return [(term, text) for term, text in facts if text]


def _prose(*sentences: str) -> Prose:
    return Prose([" ".join(sentences)])


def _charts(drawn: Sequence[Chart | None], *, wide: bool = False) -> list[Block]:
    made = [chart for chart in drawn if chart is not None]
    return [Charts(made, wide)] if made else []


def _leak(reading: Reading) -> Section | None:
    if not reading.find("leak", "auc"):
        return None
    lead = _prose(
        "A probe is fitted and tested exactly as the detector is, but sees no forensic trace.",
        "Where it separates photographs from generated images as well as the detector does, the detector's figure may "
        "be the probe's, and ⚠ stands beside it.",
    )
    drawn = _charts(charts.leak(reading))
    shown = [lead, *drawn, tables.leak(reading), *tables.leaks_of_generators(reading)]
    return Section("leak", "Is it the container that we see?", shown)


def _detection(reading: Reading) -> Section | None:
    if not reading.find("detection"):
        return None
    views, headline = reading.views("detection"), reading.headline
    order = [v for v in views if v == headline] + [v for v in views if v != headline]
    lead = _prose(
        "A detector that is trained here scores only images of groups that its model has not seen; one with weights of "
        "its own scores them as it comes.",
        "Thresholds are set by photographs that are in neither training nor test.",
    )
    blocks: list[Block] = [
        lead,
        *_charts([charts.generators(reading, d, str(headline)) for d in reading.detectors()], wide=True),
    ]
    for view in order:
        blocks += [*tables.detection(reading, view), *tables.against(reading, view)]
    alarms = tables.false_alarms(reading)
    return Section("detection", "How well are generated images detected?", [*blocks, *([alarms] if alarms else [])])


def _contrast(reading: Reading) -> Section | None:
    if all(row.detector is None for row in reading.find("contrast", "difference")):
        return None
    lead = _prose(
        "The same photographs stand on the other side of both figures.",
        "Two paradigms differ only where the interval excludes 0 and the adjusted p is below 0.05.",
    )
    return Section("contrast", "Is one paradigm harder to detect than another?", [lead, tables.contrast(reading)])


def _laundering(reading: Reading) -> Section | None:
    if not reading.find("laundering"):
        return None
    lead = _prose(
        "Images are recompressed, resized, cropped and blurred on their way to a viewer.",
        "Each is perturbed first and then cropped and encoded as all others are, so that neither size nor container "
        "tells.",
        "Bars are 95% intervals; a thin line across marks where undisturbed images stand.",
    )
    return Section(
        "laundering",
        "What is left after laundering?",
        [lead, *(block for d in reading.detectors("laundering") for block in _laundered(reading, d))],
    )


def _laundered(reading: Reading, detector: str) -> list[Block]:
    return [*_charts([charts.laundering(reading, detector)], wide=True), tables.laundering(reading, detector)]


def _retrain(reading: Reading) -> Section | None:
    if not reading.find("retrain"):
        return None
    lead = _prose(
        "A row is what a detector was trained on, a column what it was tested on; no source stands on both sides.",
        "Colour is the AUC; value, 95% interval and number of images stand in each cell.",
    )
    blocks: list[Block] = []
    for detector in reading.detectors("retrain"):
        blocks += [*_charts([heatmap.retrain(reading, detector)], wide=True), tables.retrain(reading, detector)]
    return Section("retrain", "Does a detector find generators that it has not seen?", [lead, *blocks])


def _spectra(reading: Reading) -> Section | None:
    drawn = charts.spectra(reading)
    if not drawn:
        return None
    lead = _prose(
        "Mean log power of luma over radial frequency; the band holds the middle 80% of images.",
        "A gap between curves that is there in the native view only is a gap between files.",
    )
    return Section("spectra", "What the spectra show", [lead, *_charts(drawn)])


def _pictures(reading: Reading, galleries: Sequence[Gallery]) -> Section | None:
    if not galleries:
        return None
    ranking = reading.summaries.get("ranking") or {}
    lead = _prose(
        f"By the {naming.printable(ranking.get('detector') or 'detector')} detector's mean score in the "
        f"{naming.printable(ranking.get('view') or 'headline')} view; higher is surer that the image is generated.",
    )
    return Section("pictures", "The most and least detectable images", [lead, *galleries])


def _left_out(reading: Reading) -> Section | None:
    blocks: list[Block] = []
    lost: dict[str, int] = {}
    for row in reading.rows:
        if row.value is None:
            for reason in row.n_unscored:
                lost[reason] = lost.get(reason, 0) + 1
    if lost:
        items = [
            (naming.reason(r), naming.count(n, "figure"))
            for r, n in sorted(lost.items(), key=lambda kv: (-kv[1], kv[0]))
        ]
        blocks += [_prose("Figures that could not be computed, by reason:"), Listing(items)]
    notes = [naming.printable(note) for note in reading.summaries.get("notes") or []]
    if notes:
        blocks += [_prose("Notes on the manifest:"), Listing([("", note) for note in notes])]
    failures = reading.summaries.get("failures") or {}
    if failures:
        items = [(naming.printable(unit), naming.reason(str(why))) for unit, why in sorted(failures.items())]
        blocks += [_prose(f"{naming.count(len(items), 'unit')} of work failed; all else was kept:"), Listing(items)]
    outcomes = tables.outcomes(reading)
    blocks += [outcomes] if outcomes else []
    return Section("left-out", "What was left out, and why", blocks) if blocks else None


def _methods(reading: Reading) -> Section:
    how = _how(reading)
    run = reading.run
    spec = {k: v for k, v in (run.get("spec") or {}).items() if v is not None}
    facts = [(key.replace("_", " "), _told(value)) for key, value in spec.items() if value not in ({}, "")]
    facts += [(key.replace("_", " "), _told(run[key])) for key in _FACTS if run.get(key)]
    blocks: list[Block] = [_prose("How every kind of figure was computed:"), Listing(how)]
    if facts:
        blocks += [_prose("What was run, on what:"), Listing(facts)]
    blocks += [
        _prose("The same call gives the same figures on any number of threads, and goes on where a killed run stood:"),
        Listing(
            [
                ("again", _call(spec)),
                ("back to the images", "mllmrisk show RUN CELL"),
                ("this page", "mllmrisk report RUN"),
            ],
            code=True,
        ),
        _prose("RUN is this run's folder; CELL is the small code beside a figure, as in the tables above."),
    ]
    return Section("methods", "Methods", blocks)


def _how(reading: Reading) -> list[tuple[str, str]]:
    """Every method that made a figure, with the figures that it made."""
    made: dict[str, dict[str, list[str]]] = {}
    for row in reading.rows:
        if not row.method.startswith("none"):
            experiments = made.setdefault(row.method, {}).setdefault(naming.metric(row.metric), [])
            if row.experiment not in experiments:
                experiments.append(row.experiment)
    return [
        (
            "; ".join(f"{metric} ({', '.join(experiments)})" for metric, experiments in used.items()),
            naming.printable(text),
        )
        for text, used in made.items()
    ]


def _call(spec: Mapping[str, Any]) -> str:
    parts = ["mllmrisk evaluate", "--suite", spec.get("suite", "NAME"), "--profile", spec.get("profile", "NAME")]
    parts += ["--images", "MANIFEST"] if spec.get("images") else []
    for key in ("limit", "samples", "seed"):
        parts += [f"--{key}", spec[key]] if spec.get(key) is not None else []
    for name in spec.get("detectors") or {}:
        parts += ["--detector", name]
    return naming.printable(" ".join(str(part) for part in parts))


def _told(value: object) -> str:
    """A fact in one line: `numpy 2.4, onnx 1.20`."""
    if isinstance(value, Mapping):
        return ", ".join(f"{naming.printable(k)} {_told(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(_told(v) for v in value)
    if isinstance(value, str):
        return naming.printable(value)
    return json.dumps(value)
