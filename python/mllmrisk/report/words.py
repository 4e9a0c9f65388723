"""The answer in words, made from the estimates by rules that this file states.

Two groups differ only if the interval of their difference excludes 0 *and* the Holm-adjusted p is below 0.05; anything
else is "we cannot tell", never "they are the same". Answers speak of the headline view (:attr:`Reading.headline`), and
no number stands without its interval and n.
"""

from __future__ import annotations

from mllmrisk.records import Estimate
from mllmrisk.report import detector_words, naming, richness, risk_words
from mllmrisk.report.cells import Cell, cell, p_value, within
from mllmrisk.report.document import Answer, Sentence, Tone
from mllmrisk.report.reading import Reading, difference

#: Fewer resampled groups than this make a result a first look.
FEW_CLUSTERS = 20
#: Fewer images than this on either side of a figure, likewise.
FEW_IMAGES = 30


def answers(reading: Reading) -> list[Answer]:
    """The questions that a run can answer, most wanted first."""
    found = [_harder(reading, row, told=i > 0) for i, row in enumerate(_contrasts(reading))]
    makers = (
        *([] if found else [_untested]),
        _container,
        _detects,
        detector_words.failing,
        detector_words.carrying_over,
        richness.answer,
        _laundering,
        _sure,
    )
    return [*risk_words.answers(reading), *found] + [answer for make in makers if (answer := make(reading)) is not None]


def sides(row: Estimate) -> tuple[str, str]:
    """The two paradigms of a contrast, first minus second."""
    first, _, second = (row.contrast or "").partition(": ")[2].partition(" - ")
    return first, second


def _contrasts(reading: Reading) -> list[Estimate]:
    first = reading.detectors("contrast")[:1]
    rows = reading.find("contrast", "difference", perturbation=reading.headline)
    return [row for row in rows if row.detector in first and (row.contrast or "").startswith("auc: ")]


def _harder(reading: Reading, row: Estimate, *, told: bool) -> Answer:
    """The answer of one contrast; `told` once the choice of the view has been explained."""
    first, second = sides(row)
    one, two = naming.images_of(first), naming.images_of(second)
    question = f"Are these {one} harder to detect than these {two}?"
    why = f"Again in the {reading.headline} view." if told else _headline_why(reading)
    sentences: list[Sentence] = []
    pair = [
        reading.one("detection", "auc", perturbation=row.perturbation, paradigm=side, detector=row.detector)
        for side in (first, second)
    ]
    if all(pair):
        sentences.append(
            [f"{why} There the detector's AUC is ", _cell(pair[0]), f" for {one} and ", _cell(pair[1]), f" for {two}."]
        )
    else:
        sentences.append([why])
    if row.value is None:
        sentences.append(["The difference could not be computed: ", cell(row), "."])
        return Answer(question, "We cannot tell", "open", sentences)
    sentences.append(
        [
            "The difference is ",
            cell(row),
            f"; p = {p_value(row.p_adjusted)} after Holm's adjustment.".replace("= <", "<"),
        ]
    )
    if within(row):
        sentences.append(
            [
                "The first interval resamples whole sources and speaks of images from elsewhere; the one within them "
                "speaks of other images of these same sources."
            ]
        )
    sign = difference(row)
    if sign == 0:
        sentences.append(
            [
                "An interval that holds 0, or an adjusted p of 0.05 or more, decides nothing: "
                "it is no proof that the two are alike."
            ]
        )
        return Answer(question, "We cannot tell", "open", sentences)
    verdict = "Yes, harder" if sign < 0 else "No, easier"
    if row.confounded:
        sentences.append(
            [
                f"But a probe that sees only the {cell(row).probes} does about as well as the detector here, so the "
                "difference may be one of files or subjects, not of generators."
            ]
        )
        return Answer(question, f"{verdict}, but confounded", "warn", sentences)
    return Answer(question, verdict, "clear", sentences)


def _untested(reading: Reading) -> Answer | None:
    """Both paradigms were measured, their difference was not: figures side by side decide nothing."""
    view = reading.headline
    pair = [reading.one("detection", "auc", perturbation=view, paradigm=side) for side in ("mllm", "diffusion")]
    if not all(pair):
        return None
    sentences: list[Sentence] = [
        [_headline_why(reading)],
        ["The detector's AUC is ", _cell(pair[0]), " for MLLM images and ", _cell(pair[1]), " for diffusion images."],
        ["Their difference was not tested in this run: two figures side by side decide nothing."],
    ]
    question = "Are these MLLM images harder to detect than these diffusion images?"
    return Answer(question, "Not tested in this run", "open", sentences)


def _headline_why(reading: Reading) -> str:
    view = str(reading.headline)
    reached = reading.reaching(view)
    doing = naming.VIEWS.get(view, view)
    if view == "native":
        return f"Only the native view ({doing}) was measured, in which files differ in more than their pixels."
    left = (
        f"still reached by {_probe_words(reached)}, though by no more probes than any other view"
        if reached
        else "reached by no leak probe"
    )
    return f"The figures that count are those of the {view} view ({doing}): it is {left}."


def _probe_words(probes: list[str]) -> str:
    named = naming.listed([naming.printable(p) for p in probes])
    return f"the {named} probe{'s' if len(probes) > 1 else ''}"


def _verb(probes: list[str], verb: str) -> str:
    return verb if len(probes) > 1 else f"{verb}es"


def _between(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"between {low:,} and {high:,}"


def _container(reading: Reading) -> Answer | None:
    view = reading.headline
    views = [v for v in ("native", view) if v is not None and v in reading.views("leak")]
    probes = list(dict.fromkeys(str(r.detector) for r in reading.find("leak", "auc")))
    if not probes or not views:
        return None
    sentences: list[Sentence] = []
    for probe in probes:
        parts: Sentence = [f"A probe that sees only the {naming.printable(probe.partition(':')[0])}"]
        if seen := naming.probe(probe):
            parts.append(f" ({seen})")
        for i, name in enumerate(dict.fromkeys(views)):
            row = reading.one("leak", "auc", detector=probe, perturbation=name)
            if row is not None:
                parts += [" reaches AUC " if i == 0 else " and ", cell(row), f" in the {name} view"]
        sentences.append([*parts, "."])
    native, held = reading.reaching("native"), reading.reaching(str(view))
    if native:
        sentences.append(
            [f"Native figures are confounded: {_probe_words(native)} {_verb(native, 'do')} as well as the detector."]
        )
    if view == "native" and native:
        return Answer("Is it the container that we see?", "It may well be", "warn", sentences)
    if held:
        sentences.append(
            [
                f"In the {view} view {_probe_words(held)} still {_verb(held, 'reach')} the detector's figures: "
                "what is seen there may be "
                + (
                    "what the images show, not how they were made."
                    if {name.partition(":")[0] for name in held} == {"content"}
                    else "a leak."
                )
            ]
        )
        verdict = "Natively yes; a leak is left elsewhere too" if native else f"In the {view} view a leak is left"
        return Answer("Is it the container that we see?", verdict, "warn", sentences)
    if native:
        sentences.append([f"In the {view} view no probe reaches the detector's figures."])
        return Answer("Is it the container that we see?", f"Natively yes; not in the {view} view", "warn", sentences)
    return Answer("Is it the container that we see?", "No probe says so", "clear", sentences)


def _detects(reading: Reading) -> Answer | None:
    view = reading.headline
    whole = reading.one("detection", "auc", perturbation=view)
    if whole is None:
        return None
    sentences: list[Sentence] = [
        [
            f"Over all generated images the {naming.printable(whole.detector)} detector's AUC in the {view} view is ",
            cell(whole),
            ".",
        ]
    ]
    for at in reading.rates("detection"):
        found = reading.one("detection", "detection_rate", perturbation=view, at=at)
        alarms = reading.one("detection", "detection_rate", perturbation=view, at=at, paradigm="real")
        if found is None:
            continue
        if found.value is None:
            sentences.append([f"No threshold could be set to call {at:.0%} of photographs fake: ", cell(found), "."])
            continue
        parts: Sentence = [f"With a threshold set to call {at:.0%} of photographs fake, it finds ", cell(found)]
        if alarms is not None:
            parts += ["; it then did call fake ", cell(alarms), " of the photographs it was not set on"]
        sentences.append([*parts, "."])
    if whole.low is None or whole.value is None:
        return Answer("Does the detector work at all?", "We cannot tell", "open", sentences)
    if whole.low > 0.5:
        tone: Tone = "warn" if whole.confounded else "clear"
        return Answer("Does the detector work at all?", "Better than chance", tone, sentences)
    sentences.append(["An interval that reaches 0.5 is what guessing would give."])
    return Answer("Does the detector work at all?", "Not better than guessing", "open", sentences)


def _laundering(reading: Reading) -> Answer | None:
    chains = reading.views("laundering")
    whole = [row for chain in chains if (row := reading.one("laundering", "auc", perturbation=chain)) is not None]
    scored = [row for row in whole if row.value is not None]
    if len(scored) < 2 or scored[0].perturbation not in naming.VIEWS:
        return None
    before, after = scored[0], min(scored[1:], key=lambda row: row.value or 0.0)
    sentences: list[Sentence] = [
        [
            "Before anything is done to the images the AUC is ",
            cell(before),
            f"; it is lowest under {naming.perturbation(after.perturbation)}: ",
            cell(after),
            ".",
        ]
    ]
    question = "Does detection survive the way to a viewer?"
    if _below(after.high, before.low):
        return Answer(question, "Not all of it", "clear", sentences)
    if _below(after.high_within, before.low_within):
        sentences.append(
            [
                "Within these sources the two intervals lie apart: on images like these, some of it is lost. Over "
                "other sources they overlap, so that no loss is shown for images from elsewhere."
            ]
        )
        return Answer(question, "Not all of it, on images like these", "clear", sentences)
    sentences.append(["The two intervals overlap: no loss is shown on these images."])
    return Answer(question, "No loss is shown", "open", sentences)


def _below(high: float | None, low: float | None) -> bool:
    return high is not None and low is not None and high < low


def _sure(reading: Reading) -> Answer | None:
    view = reading.headline
    rows = [r for r in reading.find("detection", "auc", perturbation=view) if r.generator is None]
    # What groups are to splits matters only where something was fitted and tested on them.
    groups = (reading.run.get("groups") or {}) if rows else {}
    by = naming.printable(groups.get("by") or next((r.cluster_by for r in rows if r.cluster_by), "image"))
    sentences: list[Sentence] = []
    tone: Tone = "clear"
    verdict = "As sure as the intervals say"
    counts = [r.n_clusters for r in rows if r.n_clusters is not None]
    if counts and not groups.get("weak"):
        sentences.append(
            [
                f"Images that share a {by.replace(' and ', ' or ')} are kept together, in splits and in resampling: "
                f"{_between(min(counts), max(counts))} such groups stand behind each paradigm's figure."
            ]
        )
    if groups.get("weak"):
        tone, verdict = "warn", "Less sure than the intervals say"
        sentences.append(
            [
                "The images name too few sources and prompts to be kept apart by them: images of one source may stand "
                "on both sides of a split, and every figure may be better than it would be on a new source."
            ]
        )
    few = [r for r in rows if (r.n_clusters or FEW_CLUSTERS) < FEW_CLUSTERS or r.n_images < FEW_IMAGES]
    if few:
        tone, verdict = "warn", "A first look, no more"
        who = naming.listed([naming.images_of(r.paradigm) for r in few])
        sentences.append([f"Few images or groups stand behind the figures of {who}: take them as a first look."])
    lost = reading.run.get("counts") or {}
    if lost.get("failed"):
        sentences.append(
            [f"{naming.count(int(lost['failed']), 'sample')} ended without an image; section Left out says why."]
        )
    if not sentences:
        return None
    sentences.append(["Every interval is a 95% bootstrap interval; Methods says of what."])
    return Answer("How sure are we?", verdict, tone, sentences)


def _cell(row: Estimate | None) -> Cell | str:
    return "not measured" if row is None else cell(row)
