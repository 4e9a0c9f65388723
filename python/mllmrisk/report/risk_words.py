"""The answers of the unsafe half, by the rules of `words`: no difference without interval and adjusted p."""

from __future__ import annotations

from collections.abc import Sequence

from mllmrisk.records import Estimate
from mllmrisk.report import naming
from mllmrisk.report.cells import cell, p_value
from mllmrisk.report.document import Answer, Sentence, Tone
from mllmrisk.report.reading import Reading, difference

#: Design → its question, and how a sentence about one of its rows begins.
_DESIGNS = {
    "language": "Does the language of a prompt change the risk?",
    "abstraction": "Does it matter how directly a prompt asks?",
    "association": "Do generators understand slang?",
    "gender": "Who is shown where no gender is named?",
}


def answers(reading: Reading) -> list[Answer]:
    """The questions that a run's unsafe half can answer, most wanted first."""
    makers = (_drawn, _riskier, _unsafe, _corrupted)
    found = [answer for make in makers if (answer := make(reading)) is not None]
    found += [answer for design in _DESIGNS if (answer := _design(reading, design)) is not None]
    last = (_filter, _agreement)
    return found + [answer for make in last if (answer := make(reading)) is not None]


def _drawn(reading: Reading) -> Answer | None:
    """A run over drawn pictures says so before anything else."""
    generators = reading.run.get("generators") or {}
    drawn = sorted(name for name, facts in generators.items() if isinstance(facts, dict) and facts.get("drawn"))
    if not drawn:
        return None
    who = naming.listed([naming.printable(name) for name in drawn])
    sentences: list[Sentence] = [
        [f"{who} drew pictures with set rates. Nothing here is about any model: this run tries the instrument itself."]
    ]
    return Answer("Are these images of a model?", "No: they were drawn to try the instrument", "warn", sentences)


def _first_judge(rows: Sequence[Estimate]) -> tuple[list[Estimate], list[Sentence]]:
    """The rows of the first judge, and a sentence that says whose they are where there are others."""
    judges = list(dict.fromkeys(row.judge for row in rows))
    told: list[Sentence] = []
    if len(judges) > 1:
        others = naming.listed([naming.printable(judge) for judge in judges[1:]])
        told.append([f"All of this by {naming.printable(judges[0])}; what {others} would say stands in the tables."])
    return [row for row in rows if row.judge == judges[0]], told


def _matched(reading: Reading, design: str) -> list[Estimate]:
    """Contrasts of a design over any category."""
    rows = reading.find("contrast", "difference", category=None, detector=None)
    return [row for row in rows if (row.contrast or "").startswith(f"{design}: ")]


def _riskier(reading: Reading) -> Answer | None:
    rows = _matched(reading, "paradigm")
    if not rows:
        return None
    rows, whose = _first_judge(rows)
    sentences: list[Sentence] = [
        [
            f"On {_prompts(row)} {_sides(row)}, by {naming.printable(row.judge)}: ",
            cell(row),
            _p(row),
        ]
        for row in rows
    ]
    first = (rows[0].contrast or "").partition(": ")[2].partition(" - ")
    question = f"Are {naming.images_of(first[0])} more often unsafe than {naming.images_of(first[2])}?"
    mine = [row for row in rows if row.contrast == rows[0].contrast]
    return Answer(question, *_verdict(mine, "on", "of the prompt sets"), [*sentences, *whose])


def _verdict(rows: Sequence[Estimate], where: str, of: str) -> tuple[str, Tone]:
    """How many rows the data decide, and which way."""
    signs = [difference(row) for row in rows]
    more, less = signs.count(1), signs.count(-1)
    if not more and not less:
        return "We cannot tell", "open"
    if len(rows) == 1:
        return ("Yes" if more else "No, less often"), "clear"
    told = [f"more often {where} {more}" if more else "", f"less often {where} {less}" if less else ""]
    left = len(rows) - more - less
    tail = f"; we cannot tell on {left}" if left else ""
    return f"{' and '.join(text for text in told if text).capitalize()} {of} ({len(rows)}){tail}", "clear"


def _prompts(row: Estimate) -> str:
    return "the same prompts" if row.prompt_set is None else f"the prompts of {naming.printable(row.prompt_set)}"


def _sides(row: Estimate) -> str:
    first, _, second = (row.contrast or "").partition(": ")[2].partition(" - ")
    return f"{_said(first)} minus {_said(second)}"


def _said(name: str) -> str:
    return naming.PARADIGMS[name][1] if name in naming.PARADIGMS else naming.printable(name)


def _p(row: Estimate) -> str:
    return f"; p = {p_value(row.p_adjusted)} after Holm's adjustment.".replace("= <", "<")


def _unsafe(reading: Reading) -> Answer | None:
    every = [r for r in reading.find("unsafe", "unsafe_score", generator=None, prompt_set=None) if r.paradigm != "real"]
    if not every:
        return None
    # A judge with several categories is told over all of them; the tables tell each.
    rows = []
    for judge in dict.fromkeys(r.judge for r in every):
        mine = [r for r in every if r.judge == judge]
        named = {r.category for r in mine if r.category is not None}
        rows += [r for r in mine if (r.category is None) == (len(named) != 1)]
    sentences: list[Sentence] = []
    for row in rows:
        what = "in any category that it sees" if row.category is None else f"as {naming.printable(row.category)}"
        sentences.append(
            [f"{naming.printable(row.judge)} flags {what}, of {naming.images_of(row.paradigm)}: ", cell(row), "."]
        )
    sentences.append(["A judge sees only the categories it was made for; what it cannot see is not counted as safe."])
    if all(row.value is None for row in rows):
        return Answer("How many images are unsafe?", "We cannot tell", "open", sentences)
    verdict = "Some were flagged" if any(row.value for row in rows) else "None was flagged"
    return Answer("How many images are unsafe?", verdict, "clear", sentences)


def _corrupted(reading: Reading) -> Answer | None:
    rates = [r for r in reading.find("corrupted", "corrupted_rate", generator=None) if r.value is not None]
    if not rates:
        return None
    sentences: list[Sentence] = []
    whose: list[Sentence] = []
    for row in rates:
        key = {"paradigm": row.paradigm, "prompt_set": row.prompt_set}
        sentences.append([f"Of {naming.images_of(row.paradigm)} on {_prompts(row)}, corrupted are ", cell(row), "."])
        counted = reading.find("corrupted", "unsafe_as_published", generator=None, **key)
        mine, whose = _first_judge(counted) if counted else ([], [])
        for published in mine:
            score = reading.one("corrupted", "unsafe_score", judge=published.judge, **key)
            bound = reading.one("corrupted", "unsafe_bound", judge=published.judge, **key)
            if score is not None and bound is not None:
                judge = naming.printable(published.judge)
                sentences.append(
                    [
                        f"By {judge}, counting them as the paper does, unsafe are ",
                        cell(published),
                        "; leaving them out, ",
                        cell(score),
                        "; had all of them been unsafe, ",
                        cell(bound),
                        ".",
                    ]
                )
    sentences += whose
    some = any(row.low is not None and row.low > 0 for row in rates)
    verdict = "They are counted, and stand beside" if some else "Hardly anything: few or none are corrupted"
    return Answer("What do corrupted images hide?", verdict, "clear" if some else "open", sentences)


def _design(reading: Reading, design: str) -> Answer | None:
    rows = _matched(reading, design)
    # Generators stand in the table; the answer speaks of paradigms and of what lies between them.
    told = [row for row in rows if row.generator is None and (design != "gender" or _of_paradigms(row))]
    if not told:
        return None
    told, whose = _first_judge(told)
    sentences: list[Sentence] = []
    for row in told:
        who = "" if row.paradigm is None else f" for {naming.images_of(row.paradigm)}"
        sentences.append([f"{_what(row)}{who}, by {naming.printable(row.judge)}: ", cell(row), _p(row)])
    decided = sum(difference(row) != 0 for row in told)
    verdict = f"{decided} of {len(told)} differences are decided" if decided else "We cannot tell"
    return Answer(_DESIGNS[design], verdict, "clear" if decided else "open", [*sentences, *whose])


def _of_paradigms(row: Estimate) -> bool:
    first, _, _ = (row.contrast or "").partition(": ")[2].partition(" - ")
    return row.paradigm is not None or first in naming.PARADIGMS


def _what(row: Estimate) -> str:
    sides, _, paradigms = (row.contrast or "").partition(": ")[2].partition(", ")
    first, _, second = sides.partition(" - ")
    if second == "half":
        return "Women among people shown, minus one half,"
    if paradigms:
        one, _, other = paradigms.partition(" - ")
        return f"{_said(first)} minus {_said(second)}, {_said(one)} against {_said(other)}"
    return f"{_said(first)} minus {_said(second)}"


def _filter(reading: Reading) -> Answer | None:
    removed = reading.find("filter", "removed_rate", generator=None)
    if not removed:
        return None
    sentences: list[Sentence] = []
    for row in removed:
        name = naming.printable((row.perturbation or "").removeprefix("filter:"))
        sentences.append([f"{name} removes, of {naming.images_of(row.paradigm)} on {_prompts(row)}, ", cell(row), "."])
    behind = [r for r in reading.find("filter", "unsafe_score", generator=None) if r.value is not None]
    behind, whose = _first_judge(behind) if behind else (behind, [])
    for row in behind:
        who = f"{naming.images_of(row.paradigm)} on {_prompts(row)}"
        sentences.append([f"Of the rest of {who}, {naming.printable(row.judge)} flags ", cell(row), "."])
    left = any(row.low is not None and row.low > 0 for row in behind)
    verdict = "Some of the risk is left" if left else "We cannot tell that any is left"
    sentences += whose
    return Answer("Does an external filter take the risk away?", verdict, "clear" if left else "open", sentences)


def _agreement(reading: Reading) -> Answer | None:
    rows = [r for r in reading.find("agreement", "alpha") if r.value is not None]
    if not rows:
        return None
    sentences: list[Sentence] = [
        [f"On {naming.printable(row.category)}, Krippendorff's alpha is ", cell(row), "."] for row in rows
    ]
    sentences.append(
        ["1 is full agreement, 0 what chance would give. Where judges disagree, a figure is one judge's view."]
    )
    beyond = all(row.low is not None and row.low > 0 for row in rows)
    verdict = "More than chance would give" if beyond else "Not surely more than chance would give"
    return Answer("Do the judges agree?", verdict, "clear" if beyond else "open", sentences)
