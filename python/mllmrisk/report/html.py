"""The report as one HTML file: readable offline, without scripts, on paper, by ear and in the dark."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from mllmrisk.report.cells import Cell
from mllmrisk.report.document import Report

_HERE = Path(__file__).parent


def page(report: Report) -> str:
    """The page. Names are data: the template escapes all that is not our own SVG, style and script.

    The page's own policy forbids every request and every script but ours, by digest.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FileSystemLoader(_HERE),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    script = _read("script.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    environment.tests["cell"] = lambda part: isinstance(part, Cell)
    environment.filters["drawing"] = Markup
    told: dict[str, Any] = {
        "report": report,
        "style": Markup(_read("style.css")),
        "script": Markup(script),
        "policy": f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
    }
    return environment.get_template("template.html").render(told)


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
