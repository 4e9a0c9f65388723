"""What a report consists of, before it is HTML or Markdown: sections of prose, tables, charts and pictures."""

from __future__ import annotations

from typing import Literal, NamedTuple

from mllmrisk.report.cells import Cell

#: Text and figures in their order; a figure brings its interval, n and warning along.
Sentence = list["str | Cell"]


#: `clear`: the data decide; `open`: they do not; `warn`: they may mislead.
Tone = Literal["clear", "open", "warn"]


class Answer(NamedTuple):
    """A question, its answer in a few words, and the sentences that carry it."""

    question: str
    verdict: str
    tone: Tone
    sentences: list[Sentence]


class Prose(NamedTuple):
    """A paragraph."""

    text: Sentence
    kind: Literal["prose"] = "prose"


class Heading(NamedTuple):
    """A row's header: the name, and what it is a part of."""

    text: str
    note: str = ""
    child: bool = False


class Table(NamedTuple):
    """A table: the first column of every row is its header.

    Attributes:
        name: unique within a report.
        folded: shown only when asked for (HTML).
    """

    name: str
    caption: str
    columns: list[str]
    rows: list[tuple[Heading, list[str | Cell]]]
    note: str = ""
    folded: bool = False
    kind: Literal["table"] = "table"

    @property
    def nested(self) -> bool:
        """Whether some rows are parts of others."""
        return any(head.child for head, _ in self.rows)


class Chart(NamedTuple):
    """A drawing: a whole SVG document, written to `figures/<name>.svg` and inlined in HTML."""

    name: str
    svg: str
    caption: str


class Charts(NamedTuple):
    """Drawings side by side where there is room; `wide` ones scroll on a narrow screen instead of shrinking."""

    charts: list[Chart]
    wide: bool = False
    kind: Literal["charts"] = "charts"


class Picture(NamedTuple):
    """A small picture of an image; `data` is a data URI, None where it is left out and `why` says why."""

    data: str | None
    why: str
    caption: str
    note: str
    path: str


class Gallery(NamedTuple):
    """Pictures in a row."""

    caption: str
    pictures: list[Picture]
    kind: Literal["gallery"] = "gallery"


class Listing(NamedTuple):
    """Points, or terms with what they mean."""

    items: list[tuple[str, str]]
    code: bool = False
    kind: Literal["listing"] = "listing"


Block = Prose | Table | Charts | Gallery | Listing


class Section(NamedTuple):
    """A part of the report."""

    name: str
    title: str
    blocks: list[Block]


class Report(NamedTuple):
    """The whole, with the facts that stand above it, and above them what a reader must know first."""

    title: str
    note: str
    facts: list[tuple[str, str]]
    answers: list[Answer]
    sections: list[Section]

    @property
    def charts(self) -> list[Chart]:
        """Every drawing, in order."""
        return [c for s in self.sections for b in s.blocks if isinstance(b, Charts) for c in b.charts]
