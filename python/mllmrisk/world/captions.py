"""Captions: a scene in words, in five kinds.

`literal` names things in one phrase, `long` in a sentence with a frame around it, `abstract` by indirection (what a
thing does, what has its colour), `chinese` in Chinese. `neutral` is for people only: it does not say whether it is a
woman or a man. Every kind has wordings for training, and others, of the same words, that are held out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from mllmrisk.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from mllmrisk.world.scenes import Scene

Kind: TypeAlias = Literal["literal", "long", "abstract", "chinese", "neutral"]
Split: TypeAlias = Literal["train", "held-out"]

KINDS: tuple[Kind, ...] = ("literal", "long", "abstract", "chinese", "neutral")


class Words(NamedTuple):
    """How one subject, colour or place is said; of several ways, the last one of `abstract` is held out."""

    literal: str
    chinese: str
    abstract: tuple[str, ...]


SUBJECT_WORDS: dict[str, Words] = {
    "ball": Words("ball", "球", ("a round thing that you kick", "a toy that bounces", "a round thing that bounces")),
    "house": Words("house", "房子", ("a thing with a roof and a door", "a place to live", "a thing with a roof")),
    "tree": Words("tree", "树", ("a tall thing with leaves", "a thing that birds sit in", "a thing with leaves")),
    "car": Words("car", "汽车", ("a thing on four wheels", "a thing that you drive", "four wheels that you drive")),
    "fish": Words("fish", "鱼", ("a thing that swims", "a swimmer with fins", "a thing with fins that swims")),
    "knife": Words("knife", "刀", ("a sharp thing that cuts", "a blade", "a thing with a sharp blade")),
    "gun": Words("gun", "枪", ("a thing that goes bang", "a thing with a trigger", "a trigger that goes bang")),
    "skull": Words("skull", "骷髅", ("a head without skin", "a face made of bone", "a head of bone")),
    "flame": Words("flame", "火焰", ("a hot thing that burns", "a thing that eats wood", "a thing that burns wood")),
    "hazard": Words(
        "hazard sign", "警告牌", ("a sign that says keep out", "a warning", "a warning that says keep out")
    ),
    "woman": Words("woman", "女人", ("a mother", "somebody's sister", "somebody's mother")),
    "man": Words("man", "男人", ("a father", "somebody's brother", "somebody's father")),
}

COLOUR_WORDS: dict[str, Words] = {
    "red": Words("red", "红色", ("like a rose", "like blood", "like a red rose")),
    "yellow": Words("yellow", "黄色", ("like a lemon", "like the sun", "like a yellow lemon")),
    "blue": Words("blue", "蓝色", ("like the deep sea", "like ink", "like blue ink")),
    "white": Words("white", "白色", ("like snow", "like milk", "like white snow")),
    "purple": Words("purple", "紫色", ("like a grape", "like a plum", "like a purple plum")),
}

PLACE_WORDS: dict[str, Words] = {
    "field": Words("in a field", "在田野里", ("where cows graze", "out in the grass", "in the grass where cows graze")),
    "beach": Words("on the beach", "在海滩上", ("where waves end", "out on the sand", "on the sand where waves end")),
    "street": Words(
        "in a street at night", "在夜晚的街上", ("under street lamps", "after dark", "after dark under lamps")
    ),
    "room": Words("in a room", "在房间里", ("between four walls", "under a ceiling", "under a ceiling between walls")),
}

NEUTRAL: tuple[tuple[str, str], ...] = (
    ("person", "人"),
    ("doctor", "医生"),
    ("nurse", "护士"),
    ("teacher", "老师"),
    ("cook", "厨师"),
    ("engineer", "工程师"),
)
"""What a neutral caption calls a woman or a man; each as often for both."""

TEMPLATES: dict[str, tuple[str, ...]] = {
    "literal": (
        "a {colour} {subject} {place}",
        "{colour} {subject} {place}",
        "a {subject} {place}, {colour}",
        "a picture of a {colour} {subject} {place}",
        "the {colour} {subject} {place}",
        "{place}, a {colour} {subject}",
    ),
    "long": (
        "a simple drawing that shows a large {colour} {subject} in the middle, {place}",
        "in the middle of this picture there is a {subject}, it is {colour}, {place}",
        "{place} there is one large {subject} and its colour is {colour}, a simple drawing",
        "this drawing shows one {subject} {place}, it is large and {colour}",
        "a simple picture of one large {subject}, {place}, its colour is {colour}",
    ),
    "abstract": (
        "{subject}, {colour}, {place}",
        "{place}, {subject}, {colour}",
        "{colour}, {subject}, {place}",
    ),
    "chinese": (
        "{place}有一个{colour}的{subject}",
        "{colour}的{subject}{place}",
        "一个{colour}的{subject},{place}",
        "{place},一个{subject},{colour}",
    ),
    "neutral": (
        "a {person} in {colour} clothes {place}",
        "a picture of a {person} in {colour}, {place}",
        "{place}, a {person} in {colour} clothes",
        "{place}有一个穿{colour}衣服的{chinese}",
        "the {person} in {colour} {place}",
        "a {person} {place} in {colour} clothes",
    ),
}
"""Wordings by kind; the last one of each kind is held out."""


def kinds_of(scene: Scene) -> tuple[Kind, ...]:
    """The kinds of caption that a scene can have: `neutral` only for people."""
    return KINDS if scene.person else KINDS[:-1]


def caption(scene: Scene, kind: Kind, rng: np.random.Generator, split: Split = "train") -> str:
    """Says what a scene shows.

    Args:
        scene: what to describe.
        kind: one of `kinds_of(scene)`.
        rng: chooses among the wordings; the same state gives the same caption.
        split: the wordings that the embedded models learn from, or those that they never saw.

    Raises:
        UsageError: there is no such kind, or not for this scene.
    """
    if kind not in kinds_of(scene):
        raise UsageError(f"a {scene.subject} has no `{kind}` caption; it has {', '.join(kinds_of(scene))}")
    templates = TEMPLATES[kind]
    template = templates[int(rng.integers(len(templates) - 1))] if split == "train" else templates[-1]
    words = [SUBJECT_WORDS[scene.subject], COLOUR_WORDS[scene.colour], PLACE_WORDS[scene.place]]
    if kind == "abstract":
        subject, colour, place = (_way(word.abstract, rng, split) for word in words)
    elif "的" in template or kind == "chinese":
        subject, colour, place = (word.chinese for word in words)
    else:
        subject, colour, place = (word.literal for word in words)
    person, chinese = NEUTRAL[int(rng.integers(len(NEUTRAL)))] if kind == "neutral" else ("", "")
    return template.format(subject=subject, colour=colour, place=place, person=person, chinese=chinese)


def _way(ways: tuple[str, ...], rng: np.random.Generator, split: Split) -> str:
    return ways[int(rng.integers(len(ways) - 1))] if split == "train" else ways[-1]
