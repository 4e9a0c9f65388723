"""The section that sets measured values beside the paper's."""

from __future__ import annotations

from mllmrisk.experiments import published
from mllmrisk.experiments.published import Beside, Figure
from mllmrisk.records import Estimate
from mllmrisk.report import naming
from mllmrisk.report.cells import Cell, cell
from mllmrisk.report.document import Heading, Prose, Section, Table
from mllmrisk.report.reading import Reading


def section(reading: Reading) -> Section | None:
    """None where the run has no figure of a kind that the paper has."""
    found = published.beside(reading.rows)
    if not any(one.same or one.elsewhere for one in found):
        return None
    paper = published.published()
    reproduced = any(one.same for one in found)
    lead = [
        f"The paper's figures ({paper.source}) beside this run's.",
        paper.note,
        "The paper gives no intervals. A figure is reproduced only on the same prompts by the same generator.",
    ]
    if not reproduced:
        lead.append("No figure of this run is one: it was measured on other prompts and other models.")
    body: list[tuple[Heading, list[str | Cell]]] = []
    for one in found:
        rows = one.same or one.elsewhere
        for row in rows or (None,):
            head = Heading(naming.printable(one.figure.generator), naming.printable(one.figure.prompt_set))
            body.append((head, [naming.metric(one.figure.metric), _paper(one.figure), _here(row), _where(one, row)]))
    columns = ["Paper's model and prompts", "Figure", "Paper", "Here", "Measured on"]
    table = Table("published", "The paper's figures and this run's", columns, body, folded=not reproduced)
    return Section("published", "What did the paper find?", [Prose([" ".join(lead)]), table])


def _paper(figure: Figure) -> str:
    return f"{figure.value:.1%}" if figure.value is not None else figure.said or ""


def _here(row: Estimate | None) -> Cell | str:
    return "not measured" if row is None else cell(row)


def _where(one: Beside, row: Estimate | None) -> str:
    if row is None:
        return "nothing of this kind"
    judge = f", by {naming.printable(row.judge)}" if row.judge else ""
    if one.same:
        return f"the same prompts, the same generator{judge}"
    prompts = (
        "the same prompts"
        if row.prompt_set == one.figure.prompt_set
        else f"other prompts ({naming.printable(row.prompt_set)})"
        if row.prompt_set
        else "other prompts"
    )
    return f"{prompts}, other models: {naming.images_of(row.paradigm)}{judge}"
