"""The report as Markdown: the same words and figures, tables and all, for a pull request or a terminal."""

from __future__ import annotations

import re

from mllmrisk.report.cells import Cell
from mllmrisk.report.document import Block, Report, Section, Sentence, Table
from mllmrisk.report.naming import printable

#: Everything that Markdown or the HTML inside it could read as markup.
_MARKUP = re.compile(r"([\\`*_\[\]#|~$])")


def escaped(text: str, *, inline: bool = False) -> str:
    """Text that renders as itself: names are data; `inline` text stands at no line's head."""
    plain = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    marked = _MARKUP.sub(r"\\\1", plain)
    # A bare address or an @name would be made a link by some renderers.
    marked = marked.replace("://", ":&#47;&#47;").replace("@", "&#64;")
    if inline:
        return marked
    # What would start a list, a quotation or a rule at the head of a line.
    return re.sub(r"^(\d*)([-+=.)])(?=\s|$)", r"\1\\\2", marked)


def code(text: str) -> str:
    """Text as a code span, whatever backticks it holds."""
    plain = printable(text).replace("|", "¦")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", plain)), default=0))
    pad = " " if "`" in plain else ""
    return f"{fence}{pad}{plain}{pad}{fence}"


def figure(cell: Cell) -> str:
    """A figure with interval, n, warning and its cell's name."""
    warning = f" · ⚠ **{escaped(cell.warning)}**" if cell.probes else ""
    if not cell.value:
        return f"not scored: {escaped(cell.reason)} · {escaped(cell.n)}{warning} `{cell.cell}`"
    interval = f" {escaped(cell.interval)}" if cell.interval else ""
    return f"**{cell.value}**{interval} · {escaped(cell.n)}{warning} `{cell.cell}`"


def page(report: Report) -> str:
    """The whole report."""
    lines = [f"# {escaped(report.title)}", ""]
    if report.note:
        lines += [f"> **{escaped(report.note)}**", ""]
    lines += [f"- {escaped(term)}: {escaped(text)}" for term, text in report.facts]
    lines += ["", "## The answer", ""]
    for answer in report.answers:
        lines += [f"### {escaped(answer.question)}", "", f"**{escaped(answer.verdict)}.**", ""]
        lines += [_sentence(sentence) for sentence in answer.sentences] + [""]
    for section in report.sections:
        lines += _section(section)
    return "\n".join(lines).rstrip() + "\n"


def _section(section: Section) -> list[str]:
    lines = [f"## {escaped(section.title)}", ""]
    for block in section.blocks:
        lines += [*_block(block), ""]
    return lines


def _block(block: Block) -> list[str]:
    if block.kind == "prose":
        return [_sentence(block.text)]
    if block.kind == "charts":
        return [line for c in block.charts for line in (f"![{escaped(c.caption)}](figures/{c.name}.svg)", "")][:-1]
    if block.kind == "gallery":
        lines = [f"**{escaped(block.caption)}**", ""]
        return lines + [f"- {escaped(p.caption)}, {escaped(p.note)}: {code(p.path)}" for p in block.pictures]
    if block.kind == "listing":
        shown = code if block.code else escaped
        return [f"- **{escaped(t)}**: {shown(text)}" if t else f"- {shown(text)}" for t, text in block.items]
    return _table(block)


def _table(table: Table) -> list[str]:
    lines = [f"**{escaped(table.caption)}**", ""]
    lines.append("| " + " | ".join(map(escaped, table.columns)) + " |")
    lines.append("|" + "---|" * len(table.columns))
    for head, cells in table.rows:
        note = f" ({escaped(head.note)})" if head.note else ""
        name = escaped(head.text) if head.child else f"**{escaped(head.text)}**"
        shown = [figure(c) if isinstance(c, Cell) else escaped(c) for c in cells]
        lines.append("| " + " | ".join([("&nbsp;&nbsp;" if head.child else "") + name + note, *shown]) + " |")
    return lines + (["", escaped(table.note)] if table.note else [])


def _sentence(parts: Sentence) -> str:
    return "".join(figure(p) if isinstance(p, Cell) else _kept(p) for p in parts)


def _kept(text: str) -> str:
    """Prose of our own with names in it; spaces at its ends belong to the sentence."""
    head, tail = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return head + escaped(text, inline=True) + tail if text.strip() else text
