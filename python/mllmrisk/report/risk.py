"""The sections of the unsafe half: unsafe scores, corrupted images, contrasts of matched prompts, filters, agreement.

Tables hold every estimate of their experiment; a row is a prompt set and who made the images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from mllmrisk.records import PARADIGMS, Estimate
from mllmrisk.report import naming
from mllmrisk.report.cells import Cell, cell, p_value
from mllmrisk.report.document import Block, Heading, Prose, Section, Table
from mllmrisk.report.reading import Reading, difference

_NOTHING = "not measured"

#: Design of a contrast → what is subtracted from what, and what it is about.
DESIGNS = {
    "paradigm": ("Paradigm", "one paradigm minus another, on the same prompts"),
    "language": ("Language", "the same concepts in two languages"),
    "abstraction": ("Abstraction", "the same concepts, asked for more or less directly"),
    "association": ("Association", "slang minus its safe twins"),
    "gender": ("Gender presentation", "women among people shown, for prompts that name no gender"),
    "corrupted": ("Corrupted", "unsafe prompts minus their safe twins"),
}


class Maker(NamedTuple):
    """Whose images a row is about, on which prompts."""

    prompt_set: str | None
    paradigm: str | None
    generator: str | None

    @classmethod
    def of(cls, row: Estimate) -> Maker:
        """The maker of an estimate's images."""
        return cls(row.prompt_set, row.paradigm, row.generator)

    @property
    def heading(self) -> Heading:
        """The row's header."""
        if self.generator is None:
            return Heading(naming.paradigm(self.paradigm))
        return Heading(naming.printable(self.generator), "", True)

    @property
    def prompts(self) -> str:
        """The prompt set in words."""
        return "all" if self.prompt_set is None else naming.printable(self.prompt_set)


def makers(rows: Iterable[Estimate]) -> list[Maker]:
    """Everybody who has rows: over all prompts first, then per set; paradigms before their generators."""
    seen = dict.fromkeys(map(Maker.of, rows))
    sets = list(dict.fromkeys(m.prompt_set for m in seen))
    sets.sort(key=lambda name: name is not None)

    def place(maker: Maker) -> tuple[int, int, bool, str]:
        paradigm = -1 if maker.paradigm is None else PARADIGMS.index(maker.paradigm)
        return sets.index(maker.prompt_set), paradigm, maker.generator is not None, maker.generator or ""

    return sorted(seen, key=place)


def sections(reading: Reading) -> list[Section]:
    """What was measured, in the order in which a reader asks."""
    found = (_unsafe(reading), _corrupted(reading), _contrasts(reading), _filter(reading), _agreement(reading))
    return [section for section in found if section is not None]


def _prose(*sentences: str) -> Prose:
    return Prose([" ".join(sentences)])


def _table(
    name: str,
    caption: str,
    rows: Sequence[Estimate],
    columns: Sequence[tuple[str, Callable[[Estimate], bool]]],
    *,
    note: str = "",
    folded: bool = False,
) -> Table:
    """A row per maker, a column per kind of figure, and what was left out."""
    everybody = makers(rows)
    with_sets = any(m.prompt_set is not None for m in everybody)
    body: list[tuple[Heading, list[str | Cell]]] = []
    for maker in everybody:
        mine = [row for row in rows if Maker.of(row) == maker]
        cells: list[str | Cell] = [maker.prompts] if with_sets else []
        for _, chosen in columns:
            found = next((row for row in mine if chosen(row)), None)
            cells.append(_NOTHING if found is None else cell(found))
        lost = dict.fromkeys(text for row in mine if (text := cell(row).unscored))
        body.append((maker.heading, [*cells, "; ".join(lost) or "none"]))
    heads = ["Images", *(["Prompts"] if with_sets else []), *(head for head, _ in columns), "Left out"]
    return Table(name, caption, heads, body, note, folded)


def _of_metric(metric: str) -> Callable[[Estimate], bool]:
    return lambda row: row.metric == metric


def _metrics(rows: Iterable[Estimate]) -> list[tuple[str, Callable[[Estimate], bool]]]:
    """A column per metric, in the order of reports."""
    order = list(naming.METRICS)
    seen = sorted({row.metric for row in rows}, key=lambda m: (order.index(m) if m in order else len(order), m))
    return [(naming.metric(metric), _of_metric(metric)) for metric in seen]


def _unsafe(reading: Reading) -> Section | None:
    every = reading.find("unsafe")
    if not every:
        return None
    lead = _prose(
        "Shares of images that a judge flags: in any category that it sees, then in each. Images without a score are "
        "counted beside the figure, never inside it; a corrupted image is neither safe nor unsafe."
    )
    found: list[Block] = [lead]
    for judge, category in dict.fromkeys((r.judge, r.category) for r in every):
        rows = [r for r in every if (r.judge, r.category) == (judge, category)]
        said = "any category that it sees" if category is None else naming.printable(category)
        name = f"unsafe-{judge}-{category or 'any'}"
        found.append(_table(name, f"{naming.printable(judge)}: {said}", rows, _metrics(rows), folded=bool(category)))
    whole = {r.judge for r in every if r.category is None}
    # Where a judge has no figure over all categories, its categories are what there is to read.
    opened = [
        b._replace(folded=False) if isinstance(b, Table) and not any(str(j) in b.name for j in whole) else b
        for b in found
    ]
    return Section("unsafe", "How many images are unsafe?", opened)


def _corrupted(reading: Reading) -> Section | None:
    every = reading.find("corrupted")
    if not every:
        return None
    lead = _prose(
        "A corrupted image shows nothing that was asked for, and a judge of unsafe content takes it for safe: so a "
        "generator looks safer the more it fails.",
        "Beside the count as published stand the score without corrupted images, and the bound had all of them been "
        "unsafe.",
    )
    blocks: list[Block] = [lead]
    rates = [r for r in every if r.metric == "corrupted_rate"]
    for judge in dict.fromkeys(r.judge for r in every if r.metric.startswith("unsafe_")):
        rows = [*rates, *(r for r in every if r.judge == judge and r.metric != "difference" and judge)]
        order = ("corrupted_rate", "corrupted_called_safe", "unsafe_as_published", "unsafe_score", "unsafe_bound")
        columns = [(naming.metric(metric), _of_metric(metric)) for metric in order]
        caption = f"Corrupted images, and what they do to the unsafe score: {naming.printable(judge)}, any category"
        blocks.append(_table(f"corrupted-{judge}", caption, rows, columns))
    if rates and len(blocks) == 1:
        blocks.append(_table("corrupted", "Corrupted images", rates, _metrics(rates)))
    differences = [r for r in every if r.metric == "difference"]
    if differences:
        caption = "Corrupted rate of unsafe prompts minus that of their safe twins"
        blocks.append(_differences("corrupted-twins", caption, differences))
    rule = [r for r in every if r.metric in ("sensitivity", "specificity")]
    if rule:
        body: list[tuple[Heading, list[str | Cell]]] = [
            (Heading(naming.printable(r.category or "all kinds"), naming.metric(r.metric)), [cell(r)]) for r in rule
        ]
        note = "On pictures that were made for it: how it does on those of a model is not known from this."
        blocks.append(Table("corruption-rule", "The rule on made examples", ["Kind", "Right"], body, note))
    return Section("corrupted", "What do corrupted images hide?", blocks)


def _contrasts(reading: Reading) -> Section | None:
    rows = [r for r in reading.find("contrast", "difference") if r.detector is None]
    if not rows:
        return None
    lead = _prose(
        "Differences between matched prompts, so that what separates the two sides is what was meant to.",
        "Two sides differ only where the interval excludes 0 and the adjusted p is below 0.05.",
    )
    blocks: list[Block] = [lead]
    for design, (title, about) in DESIGNS.items():
        mine = [r for r in rows if _design(r) == design]
        if mine:
            blocks.append(_differences(f"contrast-{design}", f"{title}: {about}", mine))
    return Section("matched", "Do paradigm, language and wording change the risk?", blocks)


def _design(row: Estimate) -> str:
    return (row.contrast or "").partition(":")[0]


def _differences(name: str, caption: str, rows: Sequence[Estimate]) -> Table:
    body: list[tuple[Heading, list[str | Cell]]] = []
    for row in rows:
        what = naming.printable((row.contrast or "").partition(": ")[2])
        of = [naming.printable(text) for text in (row.prompt_set, row.judge, row.category, _filter_of(row)) if text]
        sign = difference(row)
        said = "higher" if sign > 0 else "lower" if sign < 0 else "we cannot tell"
        body.append(
            (
                Heading(what, ", ".join(of)),
                [_who(row), cell(row), p_value(row.p_value), p_value(row.p_adjusted), said],
            )
        )
    note = "First minus second, in points of per cent. p-values are two-sided, adjusted by Holm over the experiment."
    return Table(name, caption, ["Difference", "Images", "Value", "p", "p (Holm)", "The first is"], body, note)


def _who(row: Estimate) -> str:
    if row.generator is not None:
        return naming.printable(row.generator)
    return "both sides" if row.paradigm is None else naming.paradigm(row.paradigm)


def _filter_of(row: Estimate) -> str:
    return row.perturbation or "" if (row.perturbation or "").startswith("filter:") else ""


def _filter(reading: Reading) -> Section | None:
    every = reading.find("filter")
    if not every:
        return None
    lead = _prose(
        "An image that the filter flags in any category is removed before anybody sees it.",
        "What it removes of harmless prompts is its cost; what a judge still flags is what it leaves.",
    )
    blocks: list[Block] = [lead]
    for standing in dict.fromkeys(str(r.perturbation) for r in every):
        rows = [r for r in every if r.perturbation == standing and r.metric != "difference"]
        removed = [("Removed", _of_metric("removed_rate"))]
        columns = [
            (f"{naming.metric(metric)}, {naming.printable(judge)}", _said_by(judge, metric))
            for judge in dict.fromkeys(r.judge for r in rows if r.judge)
            for metric in ("unsafe_score", "unsafe_of_requested")
        ]
        name = naming.printable(standing.removeprefix("filter:"))
        if rows:
            blocks.append(_table(f"filter-{name}", f"Behind the filter {name}", rows, [*removed, *columns]))
    differences = [r for r in every if r.metric == "difference"]
    if differences:
        blocks.append(_differences("filter-paradigms", "Paradigms behind the filter", differences))
    return Section("filter", "What does an external filter leave?", blocks)


def _said_by(judge: str | None, metric: str) -> Callable[[Estimate], bool]:
    return lambda row: row.judge == judge and row.metric == metric


def _agreement(reading: Reading) -> Section | None:
    every = reading.find("agreement")
    if not every:
        return None
    lead = _prose(
        "Agreement beyond chance on images that both judges scored, in categories that both can see.",
        "The images that the judges dispute most come first under `mllmrisk show RUN CELL` with the cell of a figure.",
    )
    blocks: list[Block] = [lead]
    between = [r for r in every if r.metric in ("kappa", "alpha")]
    if between:
        body: list[tuple[Heading, list[str | Cell]]] = [
            (
                Heading(naming.printable(r.judge or "panel"), r.method.partition(" of flags")[0]),
                [naming.printable(r.category), cell(r), cell(r).unscored or "none"],
            )
            for r in between
        ]
        blocks.append(Table("agreement", "Agreement of judges", ["Judges", "Category", "Value", "Left out"], body))
    for category in dict.fromkeys(r.category for r in every if r.metric == "unsafe_score"):
        rows = [r for r in every if r.metric == "unsafe_score" and r.category == category]
        said = "any category" if category is None else naming.printable(category)
        name, caption = f"consensus-{category or 'any'}", f"Unsafe by the judges' consensus: {said}"
        blocks.append(_table(name, caption, rows, _metrics(rows), folded=category is not None))
    return Section("agreement", "Do the judges agree?", blocks)
