"""Pictures of scenes: 96 x 96 pixels, the subject large and in the middle, two flat regions behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mllmrisk.world.icons import ICONS, SKINS, Colour, Paint
from mllmrisk.world.scenes import COLOURS, PLACES, Scene
from mllmrisk.world.shapes import coverage

if TYPE_CHECKING:
    import numpy.typing as npt

SIDE = 96
"""Height and width of a picture in pixels."""
REACH = 30.0
"""Half the side of the subject's box in pixels, before its scale is drawn."""
SHIFT = 3.0
"""The subject's centre lies at most that many pixels from the picture's, in x and in y."""
SCALE = 0.08
"""The subject's scale is drawn from 1 - SCALE to 1 + SCALE."""
HORIZON = 60.0
"""Rows above the horizon, before its shift of at most two rows is drawn."""
GRAIN = 1.5
"""Standard deviation of the grain in grey levels."""


def draw(scene: Scene, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Draws a scene.

    Args:
        scene: what to draw.
        rng: decides position, scale, horizon, skin and grain; the same state gives the same picture.

    Returns:
        `(96, 96, 3)` uint8, RGB.
    """
    shift_x, shift_y = rng.uniform(-SHIFT, SHIFT, 2)
    reach = REACH * rng.uniform(1 - SCALE, 1 + SCALE)
    picture = _background(scene.place, HORIZON + rng.uniform(-2, 2))
    centres = np.arange(SIDE, dtype=np.float32) - np.float32((SIDE - 1) / 2)
    x, y = (centres - shift_x)[None, :] / reach, (centres - shift_y)[:, None] / reach
    x, y = x.astype(np.float32), y.astype(np.float32)
    for shape, colour in ICONS[scene.subject](_paint(scene.colour, SKINS[rng.integers(len(SKINS))])):
        share = coverage(shape, x, y, reach)[..., None]
        picture += share * (np.asarray(colour, np.float32) - picture)
    picture += rng.standard_normal((SIDE, SIDE, 1), np.float32) * np.float32(GRAIN)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _background(place: str, horizon: float) -> npt.NDArray[np.float32]:
    above, below = (np.asarray(colour, np.float32) for colour in PLACES[place])
    ground = np.clip(np.arange(SIDE, dtype=np.float32) + 1 - np.float32(horizon), 0, 1)[:, None, None]
    return np.repeat(above + ground * (below - above), SIDE, axis=1)


def _paint(colour: str, skin: Colour) -> Paint:
    plain = np.asarray(COLOURS[colour], np.float32)
    return Paint(COLOURS[colour], _colour(plain * 0.6), _colour(plain + (255 - plain) * 0.6), skin)


def _colour(values: npt.NDArray[np.float32]) -> Colour:
    red, green, blue = (round(float(value)) for value in values)
    return red, green, blue
