"""What detectors can and cannot do, in words: who fails on which images, and whether retraining carries over.

A detector is *not shown to beat guessing* on a group of images where the interval of its AUC reaches 0.5. One that was
trained on one paradigm *loses* on another where the interval of its AUC there lies below that of one trained on it.
"""

from __future__ import annotations

from mllmrisk.records import Estimate
from mllmrisk.report import naming
from mllmrisk.report.cells import Cell, cell
from mllmrisk.report.document import Answer, Sentence, Tone
from mllmrisk.report.reading import Reading


def failing(reading: Reading) -> Answer | None:
    """Which detectors fail on which paradigm; only where several were measured."""
    view, detectors = reading.headline, reading.detectors()
    if len(detectors) < 2:
        return None
    sentences: list[Sentence] = [[f"In the {view} view, AUC per paradigm:"]]
    lost: list[str] = []
    unsure = False
    for detector in detectors:
        parts: Sentence = [f"{naming.printable(detector)}: "]
        missed: list[str] = []
        for i, paradigm in enumerate(reading.paradigms("detection")):
            row = reading.one("detection", "auc", perturbation=view, detector=detector, paradigm=paradigm)
            if row is None:
                continue
            parts += [", " if i else "", f"{naming.images_of(paradigm)} ", cell(row)]
            unsure |= row.value is None
            if row.low is not None and row.low <= 0.5:
                missed.append(naming.images_of(paradigm))
        sentences.append([*parts, "."])
        if missed:
            lost.append(f"{naming.printable(detector)} on {naming.listed(missed)}")
    question = "Which detectors fail on which images?"
    if lost:
        sentences.append(["Where an AUC's interval reaches 0.5, guessing is not ruled out."])
        return Answer(question, f"Not shown to beat guessing: {'; '.join(lost)}", "warn", sentences)
    if unsure:
        return Answer(question, "Not all of them could be measured", "open", sentences)
    return Answer(question, "All beat guessing, on every paradigm", "clear", sentences)


def carrying_over(reading: Reading) -> Answer | None:
    """Whether a detector that was trained on one paradigm finds another; leave-one-paradigm-out."""
    paradigms = [p for p in reading.paradigms("retrain") if p != "unknown"]
    pairs = [(a, b) for a in paradigms for b in paradigms if a != b]
    if not pairs:
        return None
    sentences: list[Sentence] = []
    losing, blind, open_ = [], [], False
    for detector in reading.detectors("retrain"):
        for trained, tested in pairs:
            across = _block(reading, detector, trained, tested)
            own = _block(reading, detector, tested, tested)
            if across is None or own is None:
                continue
            who = f"{naming.printable(detector)} trained on {naming.images_of(trained)}"
            sentences.append(
                [
                    f"{who} reaches AUC ",
                    cell(across),
                    f" on {naming.images_of(tested)}, where one trained on them reaches ",
                    cell(own),
                    ".",
                ]
            )
            said = f"{naming.printable(detector)}, {naming.paradigm(trained)} to {naming.paradigm(tested)}"
            if across.low is None or across.low <= 0.5:
                blind.append(said)
            elif across.high is not None and own.low is not None and across.high < own.low:
                losing.append(said)
            else:
                open_ = True
    if not sentences:
        return None
    question = "Does retraining carry over to a paradigm that was left out?"
    verdict, tone = _verdict(blind, losing, open_=open_)
    if open_:
        sentences.append(["Where the two intervals overlap no loss is shown; that is no proof that there is none."])
    if any(isinstance(part, Cell) and part.probes for parts in sentences for part in parts):
        sentences.append(["A figure with ⚠ may be a leak's and not the training's: see the next questions."])
    return Answer(question, verdict, tone, sentences)


def _block(reading: Reading, detector: str, trained: str, tested: str) -> Estimate | None:
    return reading.one("retrain", "auc", detector=detector, trained_on=trained, paradigm=tested)


def _verdict(blind: list[str], losing: list[str], *, open_: bool) -> tuple[str, Tone]:
    if blind and not losing and not open_:
        return "Not shown: none beats guessing for certain", "warn"
    if blind:
        return f"Not shown everywhere: guessing is not ruled out for {'; '.join(blind)}", "warn"
    if losing:
        return f"In part: less is found for {'; '.join(losing)}", "clear"
    return "No loss is shown", "open"
