"""`renderer`: draws the world directly, with *set* rates: the instrument's known answer.

What it makes is no model's work. Its rates of unsafe, corrupted, refused, filtered and failed outcomes are parameters,
and so are a judge's errors, so that a study over its images has a true value for every estimate (`docs/trust.md`). It
never stands in for a model: its images say that they were drawn, and a report over them says so.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from mllmrisk import world
from mllmrisk.errors import UsageError
from mllmrisk.generators.base import Common, Made, Request
from mllmrisk.records import Outcome
from mllmrisk.world import SUBJECTS, Scene
from mllmrisk.world.captions import COLOUR_WORDS, NEUTRAL, PLACE_WORDS, SUBJECT_WORDS, Words

#: Categories' subjects that a safe picture shows in place of an unsafe one.
_HARMLESS = tuple(name for name, subject in SUBJECTS.items() if subject.category is None and not subject.person)
_UNSAFE = tuple(name for name, subject in SUBJECTS.items() if subject.category is not None)


class Rates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often what comes of a request.

    Attributes:
        refused, filtered, failed: shares of requests that end so; the rest gives an image.
        corrupted: share of images that are noise, blank or tiles.
        unsafe: share of the other images that are unsafe.
    """

    refused: float = 0.0
    filtered: float = 0.0
    failed: float = 0.0
    corrupted: float = 0.0
    unsafe: float = 0.0


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of its TOML.

    Attributes:
        unsafe_prompts: rates for prompts that name a subject of an unsafe category.
        other_prompts: rates for all others.
        correlation: of two images of one prompt being unsafe, and being corrupted: prompts differ (Beta).
        sensitivity: share of unsafe images that look unsafe: the rest shows a harmless subject and stays unsafe by its
            facts, which is how a judge that misses is made.
        specificity: share of safe images that look safe.
    """

    unsafe_prompts: Rates = Rates(unsafe=0.5)
    other_prompts: Rates = Rates()
    correlation: float = 0.2
    sensitivity: float = 1.0
    specificity: float = 1.0


class Renderer:
    """A generator that draws."""

    accepts: ClassVar[type[msgspec.Struct]] = Parameters

    def __init__(self, common: Common, parameters: Parameters, folder: Path, *, device: str = "auto") -> None:
        """Needs no folder and no device.

        Raises:
            UsageError: a rate is outside 0..1, or outcomes add up to more than 1.
        """
        del folder, device
        for rates in (parameters.unsafe_prompts, parameters.other_prompts):
            shares = msgspec.structs.astuple(rates)
            if not all(0.0 <= share <= 1.0 for share in shares) or rates.refused + rates.filtered + rates.failed > 1.0:
                raise UsageError(f"generator {common.name}: rates are shares, and outcomes at most 1 together: {rates}")
        if not 0.0 <= parameters.correlation < 1.0:
            raise UsageError(f"generator {common.name}: correlation is in [0, 1), not {parameters.correlation}")
        self.name = common.name
        self.paradigm = common.paradigm
        self.batch = 32
        self.identity: dict[str, Any] = {
            "kind": "renderer",
            "drawn": "pictures drawn with set rates; not the work of a model",
            "parameters": msgspec.to_builtins(parameters),
            "effective": {"safety_checker": False},
        }
        self._set = parameters

    def generate(self, requests: Sequence[Request]) -> list[Made]:
        """One outcome per request; it follows from prompt and seed alone."""
        return [self._one(request) for request in requests]

    def close(self) -> None:
        """Nothing to free."""

    def _one(self, request: Request) -> Made:
        rates = self._set.unsafe_prompts if names_unsafe(request.prompt) else self._set.other_prompts
        of_prompt = np.random.default_rng(np.frombuffer(self._digest(request.prompt), dtype=np.uint32))
        unsafe = drawn_rate(of_prompt, rates.unsafe, self._set.correlation)
        corrupted = drawn_rate(of_prompt, rates.corrupted, self._set.correlation)
        rng = np.random.default_rng([request.seed, *self._digest(request.prompt)[:4]])
        ended = rng.random()
        for outcome, share in (
            (Outcome.REFUSED, rates.refused),
            (Outcome.FILTERED, rates.filtered),
            (Outcome.FAILED, rates.failed),
        ):
            if ended < share:
                return Made(outcome, reason="drawn", facts={"drawn": outcome.value})
            ended -= share
        if rng.random() < corrupted:
            return Made(Outcome.OK, broken(rng), facts={"drawn": "corrupted"})
        truly = bool(rng.random() < unsafe)
        looks = truly == bool(rng.random() < (self._set.sensitivity if truly else self._set.specificity))
        scene = asked(request.prompt, rng, unsafe=looks)
        told = {"drawn": "unsafe" if truly else "safe", "subject": scene.subject}
        return Made(Outcome.OK, world.draw(scene, rng), facts=told)

    def _digest(self, prompt: str) -> bytes:
        return hashlib.sha256(f"{self.name}\n{prompt}".encode()).digest()


def names_unsafe(prompt: str) -> bool:
    """Whether a prompt says a subject of an unsafe category, in any of the world's ways."""
    return _said(prompt, SUBJECT_WORDS) in _UNSAFE


def asked(prompt: str, rng: np.random.Generator, *, unsafe: bool) -> Scene:
    """The scene of a prompt, with another subject where its own is not as unsafe, or as harmless, as it is to look.

    What a prompt does not say is drawn; of people whose gender it does not say, as many are women as men.
    """
    subject = _said(prompt, SUBJECT_WORDS)
    if subject is None and any(_holds(prompt.lower(), word) for pair in NEUTRAL for word in pair):
        subject = ("woman", "man")[int(rng.integers(2))]
    if subject is None or (subject in _UNSAFE) != unsafe:
        subject = str(rng.choice(_UNSAFE if unsafe else _HARMLESS))
    colour = _said(prompt, COLOUR_WORDS) or str(rng.choice(tuple(world.COLOURS)))
    place = _said(prompt, PLACE_WORDS) or str(rng.choice(tuple(world.PLACES)))
    return Scene(subject, colour, place)


def _said(prompt: str, table: Mapping[str, Words]) -> str | None:
    """Which of a table's things a prompt says, by the longest wording that is in it."""
    text = prompt.lower()
    found = [
        (len(way), name)
        for name, words in table.items()
        for way in (words.literal, words.chinese, *words.abstract)
        if _holds(text, way)
    ]
    return max(found)[1] if found else None


def _holds(text: str, way: str) -> bool:
    """Whether a text says it, as whole words where words have spaces between them: no tree stands in a street."""
    return re.search(rf"\b{re.escape(way)}\b", text) is not None if way.isascii() else way in text


def drawn_rate(rng: np.random.Generator, mean: float, correlation: float) -> float:
    """A prompt's own rate: Beta with that mean, so that two draws of one prompt correlate as asked."""
    if correlation == 0.0 or mean in (0.0, 1.0):
        return mean
    total = 1.0 / correlation - 1.0
    return float(rng.beta(mean * total, (1.0 - mean) * total))


def broken(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A corrupted picture: one colour, noise, or one tile repeated: (96, 96, 3) uint8."""
    side = world.SIDE
    kind = int(rng.integers(3))
    if kind == 0:
        return np.full((side, side, 3), rng.integers(1, 255, 3), np.uint8)
    if kind == 1:
        return rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    tile = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.tile(tile, (side // 8, side // 8, 1))
