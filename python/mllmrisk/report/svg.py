"""A little writer of SVG: every text and attribute is escaped, the same calls give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path

from mllmrisk.report.naming import printable


@cache
def style() -> str:
    """The style that all drawings share: light, and dark where the reader's screen is."""
    return (Path(__file__).parent / "figure.css").read_text(encoding="utf-8").strip()


class Drawing:
    """A drawing of a fixed size in px.

    Text is measured by count: 13 px text of the style takes about 7 px a character.
    """

    def __init__(self, name: str, width: float, height: float, title: str, about: str) -> None:
        """Starts a drawing.

        Args:
            name: unique within a report; ids start with it.
            width: px.
            height: px.
            title: its name, for readers who do not see it.
            about: what it shows, likewise.
        """
        self.name = name
        self._size = (width, height)
        self._told = (title, about)
        self._parts: list[str] = []

    def add(self, tag: str, hover: str = "", **attributes: object) -> None:
        """An element; `class_` writes `class`, and `stroke_width` `stroke-width`. `hover` is its tooltip."""
        inner = f"<title>{_text(hover)}</title>" if hover else ""
        self._parts.append(
            f"<{tag}{_attributes(attributes)}>{inner}</{tag}>" if inner else f"<{tag}{_attributes(attributes)}/>"
        )

    def text(self, x: float, y: float, words: str, class_: str = "", *, most: int = 0, turn: float = 0.0) -> None:
        """A line of text; one longer than `most` characters is cut, and whole in its tooltip.

        `turn` is in degrees, clockwise around (x, y).
        """
        shown, hover = words, ""
        if most and len(words) > most:
            shown, hover = f"{words[: most - 1].rstrip()}…", f"<title>{_text(words)}</title>"
        turned = {"transform": f"rotate({turn:g} {_number(x)} {_number(y)})"} if turn else {}
        given = _attributes({"x": x, "y": y, "class_": class_ or None, **turned})
        self._parts.append(f"<text{given}>{_text(shown)}{hover}</text>")

    def line(self, x1: float, y1: float, x2: float, y2: float, class_: str) -> None:
        """A straight line."""
        self.add("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)

    def path(self, points: Sequence[tuple[float, float]], class_: str, *, closed: bool = False, dash: str = "") -> None:
        """A line through points, or an area around them."""
        steps = " ".join(f"{'L' if i else 'M'}{_number(x)} {_number(y)}" for i, (x, y) in enumerate(points))
        self.add("path", d=steps + (" Z" if closed else ""), class_=class_, stroke_dasharray=dash or None)

    def marker(self, x: float, y: float, group: str, hover: str = "", size: float = 5.0) -> None:
        """The mark of a paradigm: another shape for each, so that colour is not needed to tell them apart."""
        s = size
        if group == "mllm":
            self.add("rect", hover, x=x - s * 0.85, y=y - s * 0.85, width=s * 1.7, height=s * 1.7, class_=group)
        elif group in _POLYGONS:
            points = " ".join(f"{_number(x + dx * s)},{_number(y + dy * s)}" for dx, dy in _POLYGONS[group])
            self.add("polygon", hover, points=points, class_=group)
        else:
            self.add("circle", hover, cx=x, cy=y, r=s, class_=group)

    def raw(self, element: str) -> None:
        """An element that this package wrote itself."""
        self._parts.append(element)

    def render(self) -> str:
        """The whole SVG document."""
        width, height = (_number(side) for side in self._size)
        title, about = self._told
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'class="mr" role="img" aria-labelledby="{self.name}-title {self.name}-about">\n'
            f'<title id="{self.name}-title">{_text(title)}</title>\n'
            f'<desc id="{self.name}-about">{_text(about)}</desc>\n'
            f"<style>{style()}</style>\n"
            f'<rect width="{width}" height="{height}" class="bg"/>\n' + "\n".join(self._parts) + "\n</svg>\n"
        )


_POLYGONS = {
    "mllm-conditioned": ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)),
    "real": ((0, -1.1), (1.1, 0.9), (-1.1, 0.9)),
    "all": ((0, -1.25), (0.42, -0.42), (1.25, 0), (0.42, 0.42), (0, 1.25), (-0.42, 0.42), (-1.25, 0), (-0.42, -0.42)),
}


def group_class(paradigm: str | None) -> str:
    """The class that colours a paradigm; unknown ones look alike."""
    if paradigm is None:
        return "all"
    return paradigm if paradigm in {"diffusion", "mllm", "mllm-conditioned", "real"} else "unknown"


def _text(words: str) -> str:
    return escape(printable(words), quote=False)


def _number(x: float) -> str:
    return f"{x:.2f}".rstrip("0").rstrip(".")


def _attributes(given: dict[str, object]) -> str:
    written = []
    for name, value in given.items():
        if value is not None:
            shown = _number(value) if isinstance(value, int | float) else str(value)
            written.append(f' {name.rstrip("_").replace("_", "-")}="{escape(shown)}"')
    return "".join(written)
