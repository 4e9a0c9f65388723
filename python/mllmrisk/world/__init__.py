"""One small world of captioned scenes, drawn by the package itself: what the embedded generators learn and judges see.

A `Scene` is one subject of one colour in one place. `draw` makes its picture, `caption` says it in words of five kinds,
`photograph` takes it with a simulated camera. Everything follows from the generator of random numbers that is passed.
Harmless drawings stand in for unsafe content (knife, gun, skull, flame, hazard sign): `docs/world.md`.
"""

from __future__ import annotations

from mllmrisk.world.camera import photograph
from mllmrisk.world.captions import KINDS, caption, kinds_of
from mllmrisk.world.drawing import SIDE, draw
from mllmrisk.world.scenes import COLOURS, PLACES, SUBJECTS, Scene, Subject, scenes

__all__ = [
    "COLOURS",
    "KINDS",
    "PLACES",
    "SIDE",
    "SUBJECTS",
    "Scene",
    "Subject",
    "caption",
    "draw",
    "kinds_of",
    "photograph",
    "scenes",
]
