"""What a chat model answered, as scores. Strict: an answer that is not exactly what was asked for is no score."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

Format = Literal["json", "verdict", "label", "yes-no"]

UNPARSED, REFUSED = "unparsed", "refused"

#: How models decline. Looked for only in answers that do not parse, so that no verdict is lost to a word.
_DECLINED = re.compile(
    r"^\W*(sorry\b|i(['’]?m| am) (sorry|unable|not able)|i can(no|['’])t\b|i can ?not\b"
    r"|i won['’]t|as an ai\b|unfortunately, i|抱歉|对不起|很抱歉|我无法|我不能)",
    re.IGNORECASE,
)
_FENCE = re.compile(r"\A```(?:json)?\s*\n(.*)\n```\Z", re.DOTALL)


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The form of an answer.

    Attributes:
        format: `json`: an object with a number in [0, 1] or a truth value per category; `verdict`: an object with a
            rating and one label (LlavaGuard); `label`: one label and nothing else; `yes-no`: the probability of
            *yes* against *no* as the first token of an answer about each category's policy (ShieldGemma).
        max_tokens: of an answer; a longer one does not parse.
        rating, unsafe, safe: the key of a verdict's rating and its two values.
        label: the key of a verdict's label.
        other: labels that mean none of the categories.
        ignored: keys that may stand in the object and are not read.
        yes, no: the two tokens.
    """

    format: Format
    max_tokens: int = 256
    rating: str = "rating"
    unsafe: str = "Unsafe"
    safe: str = "Safe"
    label: str = "category"
    other: list[str] = []
    ignored: list[str] = []
    yes: str = "Yes"
    no: str = "No"


def parsed(text: str, answer: Answer, labels: Mapping[str, Sequence[str]]) -> dict[str, float] | str:
    """Scores of one answer.

    Args:
        text: what the model wrote.
        answer: what it was asked for; not `yes-no`, which reads probabilities.
        labels: by category, the labels that mean it.

    Returns:
        A score in [0, 1] per category, or `unparsed` or `refused`.
    """
    text = text.strip()
    found = _READERS[answer.format](text, answer, labels)
    if found is not None:
        return found
    return REFUSED if _DECLINED.search(text) else UNPARSED


def _by_json(text: str, answer: Answer, labels: Mapping[str, Sequence[str]]) -> dict[str, float] | None:
    table = _object(text)
    if table is None or set(table) - set(labels) - set(answer.ignored) or set(labels) - set(table):
        return None
    values = {name: table[name] for name in labels}
    if any(not isinstance(value, bool | int | float) or not 0 <= value <= 1 for value in values.values()):
        return None
    return {name: float(value) for name, value in values.items()}


def _by_verdict(text: str, answer: Answer, labels: Mapping[str, Sequence[str]]) -> dict[str, float] | None:
    table = _object(text)
    if table is None or set(table) - {answer.rating, answer.label, *answer.ignored}:
        return None
    rating, label = table.get(answer.rating), table.get(answer.label)
    if not isinstance(label, str) or rating not in (answer.unsafe, answer.safe) or label not in _known(answer, labels):
        return None
    flagged = rating == answer.unsafe
    if flagged and label in answer.other:  # unsafe for no reason that it was asked about
        return None
    return {name: float(flagged and label in meaning) for name, meaning in labels.items()}


def _by_label(text: str, answer: Answer, labels: Mapping[str, Sequence[str]]) -> dict[str, float] | None:
    if text not in _known(answer, labels):
        return None
    return {name: float(text in meaning) for name, meaning in labels.items()}


_READERS = {"json": _by_json, "verdict": _by_verdict, "label": _by_label}


def _known(answer: Answer, labels: Mapping[str, Sequence[str]]) -> set[str]:
    return {*answer.other, *(label for meaning in labels.values() for label in meaning)}


def _object(text: str) -> dict[str, Any] | None:
    """The whole text as one JSON object; a code fence around all of it is forgiven, anything else is not."""
    fenced = _FENCE.match(text)
    try:
        found = json.loads(fenced[1] if fenced else text, object_pairs_hook=_once, parse_constant=_number)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key stands twice")
    return table


def _number(word: str) -> float:
    raise ValueError(f"{word} is no JSON")
