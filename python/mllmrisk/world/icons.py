"""How each subject looks: its layers of shapes, from back to front."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from mllmrisk.world.shapes import Ellipse, Polygon, Shape, Stroke, box

if TYPE_CHECKING:
    from collections.abc import Callable

Colour: TypeAlias = tuple[int, int, int]
Layers: TypeAlias = list[tuple[Shape, Colour]]

INK: Colour = (20, 20, 24)
STEEL: Colour = (150, 150, 160)
WOOD: Colour = (96, 60, 34)
HAIR: Colour = (58, 34, 20)
GLASS: Colour = (205, 232, 240)
SKINS: tuple[Colour, ...] = ((240, 196, 164), (150, 98, 66))


class Paint(NamedTuple):
    """The colours of one drawing."""

    plain: Colour
    """The colour that the caption names."""
    dark: Colour
    """Its shade."""
    light: Colour
    """Its highlight."""
    skin: Colour
    """The skin of a person."""


def _ball(paint: Paint) -> Layers:
    return [
        (Ellipse(0, 0, 1, 1), paint.plain),
        (Ellipse(0, 0, 0.34, 1), paint.dark),
        (Ellipse(0, 0, 0.14, 0.96), paint.light),
    ]


def _house(paint: Paint) -> Layers:
    return [
        (box(-0.8, -0.1, 0.8, 1), paint.plain),
        (Polygon(((-1, 0), (0, -1), (1, 0))), paint.dark),
        (box(-0.2, 0.35, 0.2, 1), INK),
        (box(-0.62, 0.2, -0.34, 0.5), GLASS),
        (box(0.34, 0.2, 0.62, 0.5), GLASS),
    ]


def _tree(paint: Paint) -> Layers:
    return [
        (box(-0.16, 0.2, 0.16, 1), WOOD),
        (Ellipse(-0.45, 0.05, 0.55, 0.42), paint.plain),
        (Ellipse(0.45, 0.05, 0.55, 0.42), paint.plain),
        (Ellipse(0, -0.45, 0.62, 0.55), paint.plain),
        (Ellipse(-0.4, 0.1, 0.16, 0.14), paint.dark),
        (Ellipse(0.4, 0.0, 0.16, 0.14), paint.dark),
        (Ellipse(0.05, -0.5, 0.18, 0.16), paint.dark),
    ]


def _car(paint: Paint) -> Layers:
    return [
        (Polygon(((-0.62, 0.1), (-0.38, -0.55), (0.38, -0.55), (0.66, 0.1))), paint.plain),
        (Stroke(-0.74, 0.24, 0.74, 0.24, 0.26), paint.plain),
        (Polygon(((-0.44, -0.02), (-0.28, -0.4), (-0.06, -0.4), (-0.06, -0.02))), GLASS),
        (Polygon(((0.06, -0.02), (0.06, -0.4), (0.28, -0.4), (0.46, -0.02))), GLASS),
        (Ellipse(-0.5, 0.48, 0.27, 0.27), INK),
        (Ellipse(0.5, 0.48, 0.27, 0.27), INK),
        (Ellipse(-0.5, 0.48, 0.1, 0.1), GLASS),
        (Ellipse(0.5, 0.48, 0.1, 0.1), GLASS),
    ]


def _fish(paint: Paint) -> Layers:
    return [
        (Polygon(((0.35, 0), (1, -0.6), (0.85, 0))), paint.dark),
        (Polygon(((0.35, 0), (0.85, 0), (1, 0.6))), paint.dark),
        (Polygon(((-0.3, -0.4), (0.1, -0.75), (0.3, -0.3))), paint.dark),
        (Ellipse(-0.22, 0, 0.78, 0.52), paint.plain),
        (Stroke(-0.35, -0.25, -0.35, 0.25, 0.05), paint.dark),
        (Ellipse(-0.66, -0.1, 0.13, 0.13), GLASS),
        (Ellipse(-0.68, -0.1, 0.07, 0.07), INK),
    ]


def _knife(paint: Paint) -> Layers:
    return [
        (Polygon(((-0.42, 0.25), (-0.42, -0.5), (-0.1, -1), (0.42, -0.4), (0.42, 0.25))), paint.plain),
        (box(0.22, -0.5, 0.42, 0.25), paint.dark),
        (box(-0.7, 0.2, 0.7, 0.38), STEEL),
        (Stroke(0, 0.5, 0, 0.8, 0.2), WOOD),
    ]


def _gun(paint: Paint) -> Layers:
    return [
        (Polygon(((0.2, 0), (0.78, 0), (0.98, 0.82), (0.48, 0.82))), paint.dark),
        (Ellipse(0.08, 0.12, 0.26, 0.24), INK),
        (box(-1, -0.56, 0.86, -0.04), paint.plain),
        (box(-1, -0.3, -0.2, -0.18), INK),
        (box(0.3, -0.5, 0.72, -0.3), paint.dark),
        (box(-0.95, -0.68, -0.8, -0.56), INK),
    ]


def _skull(paint: Paint) -> Layers:
    return [
        (box(-0.46, 0.3, 0.46, 0.98), paint.plain),
        (Ellipse(0, -0.22, 0.88, 0.78), paint.plain),
        (Ellipse(-0.37, -0.12, 0.25, 0.27), INK),
        (Ellipse(0.37, -0.12, 0.25, 0.27), INK),
        (Polygon(((-0.13, 0.42), (0, 0.14), (0.13, 0.42))), INK),
        (box(-0.34, 0.66, -0.24, 0.98), INK),
        (box(-0.05, 0.66, 0.05, 0.98), INK),
        (box(0.24, 0.66, 0.34, 0.98), INK),
    ]


def _flame(paint: Paint) -> Layers:
    return [
        (Polygon(((-0.72, 0.3), (-0.55, -0.45), (0, 0.3))), paint.dark),
        (Polygon(((0, 0.3), (0.6, -0.55), (0.72, 0.3))), paint.dark),
        (Polygon(((-0.6, 0.25), (0.05, -1), (0.6, 0.25))), paint.plain),
        (Ellipse(0, 0.38, 0.74, 0.62), paint.plain),
        (Polygon(((-0.3, 0.5), (0, -0.2), (0.3, 0.5))), paint.light),
        (Ellipse(0, 0.58, 0.34, 0.34), paint.light),
    ]


def _hazard(paint: Paint) -> Layers:
    return [
        (Polygon(((-1, 0.88), (0, -0.95), (1, 0.88))), INK),
        (Polygon(((-0.74, 0.73), (0, -0.62), (0.74, 0.73))), paint.plain),
        (Stroke(0, -0.15, 0, 0.28, 0.1), INK),
        (Ellipse(0, 0.55, 0.12, 0.12), INK),
    ]


def _woman(paint: Paint) -> Layers:
    return [
        (Ellipse(0, -0.62, 0.42, 0.38), HAIR),
        (box(-0.42, -0.62, 0.42, -0.05), HAIR),
        (Stroke(-0.22, 0.6, -0.22, 0.92, 0.09), paint.skin),
        (Stroke(0.22, 0.6, 0.22, 0.92, 0.09), paint.skin),
        (Stroke(-0.3, -0.12, -0.62, 0.3, 0.09), paint.skin),
        (Stroke(0.3, -0.12, 0.62, 0.3, 0.09), paint.skin),
        (Polygon(((-0.3, -0.22), (0.3, -0.22), (0.78, 0.72), (-0.78, 0.72))), paint.plain),
        (Ellipse(0, -0.58, 0.26, 0.3), paint.skin),
    ]


def _man(paint: Paint) -> Layers:
    return [
        (box(-0.38, 0.2, -0.05, 1), paint.dark),
        (box(0.05, 0.2, 0.38, 1), paint.dark),
        (Stroke(-0.46, -0.14, -0.62, 0.36, 0.12), paint.plain),
        (Stroke(0.46, -0.14, 0.62, 0.36, 0.12), paint.plain),
        (box(-0.46, -0.28, 0.46, 0.36), paint.plain),
        (Ellipse(0, -0.66, 0.3, 0.34), HAIR),
        (Ellipse(0, -0.56, 0.27, 0.3), paint.skin),
    ]


ICONS: dict[str, Callable[[Paint], Layers]] = {
    "ball": _ball,
    "house": _house,
    "tree": _tree,
    "car": _car,
    "fish": _fish,
    "knife": _knife,
    "gun": _gun,
    "skull": _skull,
    "flame": _flame,
    "hazard": _hazard,
    "woman": _woman,
    "man": _man,
}
"""The layers of each subject, by its name."""
