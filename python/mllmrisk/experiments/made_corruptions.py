"""Pictures broken in known ways: what the verdict on corruption is calibrated on where nobody has labelled examples.

Sound renders of the world beside renders that are blank, flat, noise, shuffled, tiled, clipped, a page of text, or of
another scene than was asked for. Each way takes any picture, so that photographs can be broken as well. Everything
follows from the seed. What is found among these says that the rule works as stated; how often a generator's own
corruption is found, only labelled examples of its own can say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mllmrisk import world

Pixels: TypeAlias = NDArray[np.uint8]

#: Kinds of pictures that are not broken, and the one that is sound but not what was asked for.
SOUND, PHOTOGRAPH, UNRELATED = "sound", "photograph", "unrelated"


class Example(NamedTuple):
    """A picture whose state is known.

    Attributes:
        kind: `sound`, `photograph`, a name of `WAYS` or `unrelated`.
        corrupted: whether it is broken, or shows another scene than its prompt.
        prompt: what was asked for.
        scene: what its prompt asks for, as `subject/colour/place`: prompts of one scene are no strangers.
        image: the pixels (96, 96, 3), or the JPEG file of a photograph.
    """

    kind: str
    corrupted: bool
    prompt: str
    scene: str
    image: Pixels | bytes


def blank(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """One colour."""
    return np.broadcast_to(rng.integers(0, 256, 3, dtype=np.uint8), picture.shape).copy()


def black(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """All black, as a safety checker leaves it."""
    del rng
    return np.zeros_like(picture)


def flat(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """The picture with a twentieth of its contrast: a grey veil."""
    mean = picture.mean((0, 1))
    return _bytes(mean + (picture - mean) * rng.uniform(0.02, 0.05))


def noise(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Coloured noise with grains of 1, 2 or 4 pixels."""
    grain = int(rng.choice((1, 2, 4)))
    height, width = picture.shape[:2]
    grains = rng.integers(0, 256, (-(-height // grain), -(-width // grain), 3), dtype=np.uint8)
    return grains.repeat(grain, 0).repeat(grain, 1)[:height, :width]


def shuffled(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Its blocks of 8 or 16 pixels in another order: what a decoder makes of tokens that mean nothing."""
    side = int(rng.choice((8, 16)))
    height, width = (n // side for n in picture.shape[:2])
    blocks = picture[: height * side, : width * side].reshape(height, side, width, side, 3).swapaxes(1, 2)
    order = rng.permutation(height * width)
    mixed = blocks.reshape(-1, side, side, 3)[order].reshape(height, width, side, side, 3)
    return np.ascontiguousarray(mixed.swapaxes(1, 2).reshape(height * side, width * side, 3))


def tiled(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """A part of it over and over: a third to a quarter of its side, from around its middle."""
    height, width = picture.shape[:2]
    parts = int(rng.choice((3, 4)))
    tall, wide = height // parts, width // parts
    top, left = (int(rng.integers(n // 3, n // 2)) for n in (height, width))
    tile = picture[top : top + tall, left : left + wide]
    return np.ascontiguousarray(np.tile(tile, (parts + 1, parts + 1, 1))[:height, :width])


def clipped(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Every channel driven to black or white around its mean: latents that ran away."""
    return _bytes(128 + (picture - picture.mean((0, 1))) * rng.uniform(60, 200))


def text(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """A page of words in black on white, or the reverse."""
    height, width = picture.shape[:2]
    scale = max(1, min(height, width) // 96)
    paper, ink = ((250, 10), (10, 250))[int(rng.integers(2))]
    page = np.full((height, width), paper, np.float64)
    for top in range(6 * scale, height - 10 * scale, 11 * scale):
        left = 5 * scale
        while left + 6 * scale <= width - 5 * scale:
            letter = _LETTERS[str(rng.choice(list(_LETTERS)))] if rng.random() > 0.18 else _SPACE
            drawn = letter.repeat(scale, 0).repeat(scale, 1)
            page[top : top + 7 * scale, left : left + 5 * scale][drawn] = ink
            left += 6 * scale
    return _bytes(page[..., None] + rng.normal(0, 1.5, picture.shape))


#: Ways to break a picture, by kind; each takes (h, w, 3) uint8 and a generator of random numbers.
WAYS: dict[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    "blank": blank,
    "black": black,
    "flat": flat,
    "noise": noise,
    "shuffled": shuffled,
    "tiled": tiled,
    "clipped": clipped,
    "text": text,
}


def examples(each: int, seed: int) -> list[Example]:
    """Examples of every kind.

    Args:
        each: pictures per kind of corruption; of sound renders and of photographs there are four times as many, since
            what is rare among them matters most.
        seed: decides all of them.
    """
    scenes = list(world.scenes())
    made = []
    for number, kind in enumerate((SOUND, PHOTOGRAPH, *WAYS, UNRELATED)):
        rng = np.random.default_rng((seed, number))
        for _ in range(each * (4 if kind in (SOUND, PHOTOGRAPH) else 1)):
            scene = scenes[int(rng.integers(len(scenes)))]
            prompt = world.caption(scene, ("literal", "long")[int(rng.integers(2))], rng)
            shown = _stranger(scene, scenes, rng) if kind == UNRELATED else scene
            picture = world.draw(shown, rng)
            image: Pixels | bytes = picture
            if kind == PHOTOGRAPH:
                image = world.photograph(picture, rng)
            elif kind in WAYS:
                image = WAYS[kind](picture, rng)
            name = f"{scene.subject}/{scene.colour}/{scene.place}"
            made.append(Example(kind, kind not in (SOUND, PHOTOGRAPH), prompt, name, image))
    return made


def _stranger(scene: world.Scene, scenes: list[world.Scene], rng: np.random.Generator) -> world.Scene:
    """A scene that has neither subject nor colour nor place with another one in common."""
    others = [
        other
        for other in scenes
        if other.subject != scene.subject and other.colour != scene.colour and other.place != scene.place
    ]
    return others[int(rng.integers(len(others)))]


def _bytes(values: NDArray[np.float64]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


_SPACE = np.zeros((7, 5), bool)
#: Letters of 5 x 7 dots, row after row.
_LETTERS = {
    letter: np.array([[dot == "#" for dot in row] for row in rows.split()])
    for letter, rows in {
        "A": ".###. #...# #...# ##### #...# #...# #...#",
        "D": "####. #...# #...# #...# #...# #...# ####.",
        "E": "##### #.... #.... ####. #.... #.... #####",
        "H": "#...# #...# #...# ##### #...# #...# #...#",
        "I": ".###. ..#.. ..#.. ..#.. ..#.. ..#.. .###.",
        "L": "#.... #.... #.... #.... #.... #.... #####",
        "N": "#...# ##..# ##..# #.#.# #..## #..## #...#",
        "O": ".###. #...# #...# #...# #...# #...# .###.",
        "R": "####. #...# #...# ####. #.#.. #..#. #...#",
        "S": ".#### #.... #.... .###. ....# ....# ####.",
        "T": "##### ..#.. ..#.. ..#.. ..#.. ..#.. ..#..",
        "U": "#...# #...# #...# #...# #...# #...# .###.",
    }.items()
}
