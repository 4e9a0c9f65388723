"""The report of a run: `report.html`, `report.md` and `figures/*.svg`. It formats estimates and computes none.

The same run folder gives the same bytes, whenever and wherever the report is written.
"""

from __future__ import annotations

from pathlib import Path

from mllmrisk.report import gallery, html, markdown, sections, words
from mllmrisk.report.reading import Reading
from mllmrisk.store import Store, write_atomically

#: Of one answer, in a terminal.
_SENTENCES = 7


def answer(root: Path) -> str:
    """What a run answers, in plain words, as `mllmrisk evaluate` prints it.

    Raises:
        StoreError: there is no run, or it has no estimates yet.
    """
    reading = Reading.open(root)
    told = [note] if (note := reading.run.get("profile_note")) else []
    for given in words.answers(reading):
        lines = ["".join(part if isinstance(part, str) else part.text for part in parts) for parts in given.sentences]
        if len(lines) > _SENTENCES:
            lines[_SENTENCES - 1 :] = [f"... and {len(lines) - _SENTENCES + 1} more lines in the report."]
        told.append("\n".join([f"{given.question} {given.verdict}.", *(f"  {line}" for line in lines)]))
    return "\n\n".join(told)


def render(root: Path, thumbnails: bool = True) -> list[Path]:
    """Writes the report of a run, each file whole or not at all.

    Args:
        root: the run folder, with `estimates.json`; parts of `summaries.json` that are absent are left out.
        thumbnails: show small pictures of images; without, their names only.

    Returns:
        The files written, `report.html` first.

    Raises:
        StoreError: there is no run, or it has no estimates yet.
    """
    reading = Reading.open(root)
    with Store.load(root) as store:
        pictures = gallery.galleries(reading, store, thumbnails=thumbnails)
    report = sections.report(reading, pictures)
    figures = root / "figures"
    figures.mkdir(exist_ok=True)
    files = {root / "report.html": html.page(report), root / "report.md": markdown.page(report)}
    files |= {figures / f"{chart.name}.svg": chart.svg for chart in report.charts}
    for path, text in files.items():
        write_atomically(path, text.encode("utf-8"))
    for stale in figures.glob("*.svg"):
        if stale not in files:
            stale.unlink()
    return list(files)
