"""From captions to levels: v0 is the caption, v1 the caption expanded, v2 the expansion expanded again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mllmrisk.errors import UsageError
from mllmrisk.prompts.columns import LONGEST, normalised
from mllmrisk.prompts.expansion import cache
from mllmrisk.prompts.expansion.base import Expanded, Expander, Wanted
from mllmrisk.records import Prompt

#: The level of a caption as it is.
CAPTION = "v0"
_QUOTES = (('"', '"'), ("“", "”"), ("'", "'"), ("«", "»"), ("「", "」"))


class Failure(NamedTuple):
    """A text that could not be made, and why, in one word."""

    prompt: str
    level: str
    reason: str


class Made(NamedTuple):
    """What came of a call.

    Attributes:
        rows: lines of the prompt set, caption by caption, each with its levels in order.
        captions: how many there were.
        asked: texts that the expander was asked for.
        remembered: texts that the cache had.
        words: mean number of words by level.
        failures: those texts that are missing from the rows.
    """

    rows: list[dict[str, Any]]
    captions: int
    asked: int
    remembered: int
    words: dict[str, float]
    failures: list[Failure]


def captions_of(prompts: Sequence[Prompt], name: str) -> list[Prompt]:
    """Those prompts of a set that are captions: with no level, or with the first.

    Raises:
        UsageError: there is none.
    """
    found = [prompt for prompt in prompts if prompt.level in (None, CAPTION)]
    if not found:
        raise UsageError(f"prompt set {name}: no caption to expand: every prompt has a level above {CAPTION} already")
    return found


def expand(
    captions: Sequence[Prompt],
    expander: Expander,
    *,
    levels: int,
    seed: int,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Made:
    """Expands captions level by level; whatever a model answered before is not asked again.

    Args:
        captions: of one set.
        expander: what expands them.
        levels: how often each is expanded.
        seed: of the expander's draws.
        progress: called with (stage, done, total).

    Raises:
        UsageError: the expander can make nothing of any of them.
    """
    work = _Work(expander, seed, progress)
    texts = [{CAPTION: prompt.text} for prompt in captions]
    for number in range(1, levels + 1):
        before, level = f"v{number - 1}", f"v{number}"
        places = [i for i, made in enumerate(texts) if before in made]
        wanted = [Wanted(captions[i], texts[i][before], level) for i in places]
        for i, text in zip(places, work.level(level, wanted), strict=True):
            if text is not None:
                texts[i][level] = text
    rows = [_row(prompt, made, level, work) for prompt, made in zip(captions, texts, strict=True) for level in made]
    lengths: dict[str, list[int]] = {}
    for made in texts:
        for level, text in made.items():
            lengths.setdefault(level, []).append(len(text.split()))
    words = {level: sum(counts) / len(counts) for level, counts in sorted(lengths.items())}
    return Made(rows, len(captions), work.asked, work.remembered, words, work.failures)


def cleaned(text: str) -> str:
    """An answer as a prompt: on one line, without the quotation marks that models put around it."""
    line = " ".join(text.split())
    for first, last in _QUOTES:
        if len(line) > 1 and line.startswith(first) and line.endswith(last) and first not in line[1:-1]:
            return line[1:-1].strip()
    return line


def fault(text: str, before: str) -> str | None:
    """Why an answer is no richer prompt, in one word; None where it is one."""
    new, old = normalised(text), normalised(before)
    if not new:
        return "empty"
    if new == old:
        return "unchanged"
    if len(new) < len(old):
        return "shorter"
    return "too_long" if len(text) > LONGEST else None


class _Work:
    """One call's cache, counts and failures."""

    def __init__(self, expander: Expander, seed: int, progress: Callable[[str, int, int], None]) -> None:
        self.expander, self.seed = expander, seed
        self.asked = self.remembered = 0
        self.failures: list[Failure] = []
        self._progress = progress
        self._cache = cache.Cache(expander.name) if expander.remembered else None
        self._lock = threading.Lock()

    def level(self, level: str, wanted: Sequence[Wanted]) -> list[str | None]:
        """The texts of one level, None where there is none; equal texts are asked for once."""
        keys = [cache.key(each.text, self.expander.identity, self.seed) for each in wanted]
        if not self.expander.remembered:  # by caption, not by content
            keys = [each.prompt.id for each in wanted]
        known = {key: text for key in keys if self._cache is not None and (text := self._cache.get(key)) is not None}
        self.remembered += sum(key in known for key in keys)
        waiting = {key: each for key, each in zip(keys, wanted, strict=True) if key not in known}
        self.asked += len(waiting)
        reasons = self._ask(level, waiting, known)
        for key, each in zip(keys, wanted, strict=True):
            if key in reasons:
                self.failures.append(Failure(each.prompt.id, level, reasons[key]))
        return [known.get(key) for key in keys]

    def _ask(self, level: str, waiting: dict[str, Wanted], known: dict[str, str]) -> dict[str, str]:
        """Asks for what is waiting and adds it to `known`; returns why a text is not there, by key."""
        reasons: dict[str, str] = {}
        names, wanted = list(waiting), list(waiting.values())
        done = 0

        def tell(place: int, found: Expanded) -> None:
            nonlocal done
            text = None if found.text is None else cleaned(found.text)
            reason = found.reason if text is None else fault(text, wanted[place].text)
            if reason is None and text is not None and self._cache is not None:
                self._cache.add(names[place], text, self._record(wanted[place]))
            with self._lock:
                done += 1
                if reason is not None or text is None:
                    reasons[names[place]] = reason or "failed"
                else:
                    known[names[place]] = text
                self._progress(f"{self.expander.name} ({level})", done, len(wanted))

        if wanted:
            self.expander.expand(wanted, seed=self.seed, tell=tell)
        return reasons

    def _record(self, wanted: Wanted) -> dict[str, Any]:
        return {"of": wanted.text, "level": wanted.level, **self.origin()}

    def origin(self) -> dict[str, Any]:
        """What made a text, as it stands beside it."""
        identity = self.expander.identity
        return {
            "expander": self.expander.name,
            "expander_digest": identity.digest,
            "model": identity.model,
            "instruction": identity.instruction,
            "seed": self.seed,
        }


def _row(prompt: Prompt, made: dict[str, str], level: str, work: _Work) -> dict[str, Any]:
    """A line of the prompt set; `key` is what a TOML takes for the id, since a key holds no slash."""
    row: dict[str, Any] = {
        **prompt.extra,
        "id": f"{prompt.id}/{level}",
        "key": f"{prompt.id.partition('/')[2]}-{level}",
        "text": made[level],
        "level": level,
        "concept": prompt.id,
        "prompt_set": prompt.prompt_set,
        "language": prompt.language,
    }
    if level != CAPTION:
        row |= {"expanded_from": f"{prompt.id}/v{int(level[1:]) - 1}", **work.origin()}
    return row
