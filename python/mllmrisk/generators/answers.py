"""What an OpenAI-compatible image endpoint answers, sorted: an image, a refusal, try again, or stop.

Sorted by status and code, never by the words of a message: an account that is blocked is told in the same words as a
prompt that is refused, and must not be counted as thousands of refusals.
"""

from __future__ import annotations

import base64
import binascii
import email.utils
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

#: Codes by which providers say that they will not make this image: OpenAI, Azure, Gemini, proxies.
REFUSALS = (
    "moderation_blocked",
    "content_policy_violation",
    "content_filter",
    "contentfilter",
    "responsibleaipolicyviolation",
    "image_safety",
    "prohibited_content",
    "image_prohibited_content",
    "blocklist",
    "safety",
    "spii",
    "recitation",
    "image_recitation",
)
#: Codes after which no request of this account succeeds.
FATAL = (
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "account_deactivated",
    "invalid_api_key",
)
#: Statuses that pass.
PASSING = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529))
#: Statuses that speak of one request only.
OWN_FAULT = frozenset((400, 413, 422))

_CODE_KEYS = ("code", "type", "status", "reason", "finish_reason", "finishReason", "block_reason", "blockReason")
_FINISH_KEYS = (
    "finish_reason",
    "finishReason",
    "block_reason",
    "blockReason",
    "raiFilteredReason",
    "rai_filtered_reason",
)


class AgainError(Exception):
    """The request may succeed if it is made again.

    Attributes:
        reason: in one word: `rate_limited`, `http_503`, `timeout`, `connection`, `malformed_response`.
        after: seconds that the provider asks to wait, None where it does not say.
    """

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.after = reason, after


class RefusedError(Exception):
    """The provider declined this prompt.

    Attributes:
        code: its word for it.
        said: what it answered in place of an image, where it did.
    """

    def __init__(self, code: str, said: str = "") -> None:
        super().__init__(code)
        self.code, self.said = code, said


class FaultyError(Exception):
    """This request cannot succeed; the next may."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class FatalError(Exception):
    """No request can succeed; the message is for a person."""


class Answer(NamedTuple):
    """A good answer.

    Attributes:
        data: the image's bytes, None where it is at `url`.
        facts: the provider's words about it.
        usage: tokens, where told.
    """

    data: bytes | None
    url: str | None
    facts: dict[str, str]
    usage: Mapping[str, Any]


def read(body: bytes) -> Answer:
    """The answer in a response of status 200.

    Raises:
        AgainError: it is no JSON of the kind, or its base64 is broken.
        RefusedError: it has no image because the provider declined.
        FaultyError: it has no image for another reason that it tells.
    """
    try:
        found = json.loads(body)
    except ValueError:
        raise AgainError("malformed_response") from None
    if not isinstance(found, dict) or not isinstance(found.get("data", []), list | None):
        raise AgainError("malformed_response")
    if isinstance(found.get("error"), dict):  # proxies answer 200 with an error inside
        refuse(found["error"])
        raise AgainError("malformed_response")
    if "choices" in found:
        return _chat(found)
    data = found.get("data") or []
    item: Any = data[0] if data else {}
    if not isinstance(item, dict):
        raise AgainError("malformed_response")
    usage: Mapping[str, Any] = found["usage"] if isinstance(found.get("usage"), dict) else {}
    text, url = item.get("b64_json"), item.get("url")
    if isinstance(url, str) and url.startswith("data:"):
        text, url = url, None
    if isinstance(text, str) and text:
        return Answer(_bytes(text), None, _facts(found, item), usage)
    if isinstance(url, str) and url:
        return Answer(None, url, _facts(found, item), usage)
    _explain(found, item)
    raise RefusedError("empty_data")


def sort_status(status: int, body: object, headers: Mapping[str, str], *, longest: float) -> Exception:
    """What an error status means: one of this module's exceptions, to be raised.

    Args:
        status: HTTP status.
        body: the decoded JSON, or text.
        headers: of the response.
        longest: the longest wait, in seconds, that is obeyed; a provider that asks for more ends the run.
    """
    error = _error(body)
    codes = list(_codes(error))
    if any(code in FATAL for code in codes):
        return FatalError(f"{status}: {_said(error) or next(code for code in codes if code in FATAL)}")
    if status in OWN_FAULT or status == 403:
        try:
            refuse(error)
        except RefusedError as refused:
            return refused
    if status in PASSING:
        after = retry_after(headers)
        if after is not None and after > longest:
            return FatalError(
                f"{status}: the provider asks to wait {after:.0f} s, more than longest_pause = {longest:g}"
            )
        return AgainError("rate_limited" if status == 429 else f"http_{status}", after)
    if status in OWN_FAULT:
        code = str(error.get("code") or f"http_{status}")
        return FaultyError(code if code.isidentifier() else f"http_{status}", f"{status}: {_said(error)}")
    return FatalError(f"{status}: {_said(error)}")


def refuse(error: Mapping[str, Any]) -> None:
    """Raises RefusedError if one of an error's codes is a refusal."""
    for code in _codes(error):
        if code in REFUSALS:
            raise RefusedError(code)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of `Retry-After` (seconds or a date) or of `retry-after-ms`; None where neither can be read."""
    try:
        return max(0.0, float(headers["retry-after-ms"]) / 1000)
    except (KeyError, ValueError):
        pass
    text = headers.get("retry-after")
    if text is None:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def cost(usage: Mapping[str, Any], usd_per_million: Mapping[str, float]) -> float | None:
    """Dollars of an answer by its tokens; None where it tells none or no prices are known.

    Args:
        usage: `input_tokens` and `output_tokens` of image endpoints, `prompt_tokens` and `completion_tokens` of chat.
        usd_per_million: prices of `input` and `output` tokens.
    """
    if not usd_per_million:
        return None
    total = 0.0
    for kind, chat in (("input", "prompt"), ("output", "completion")):
        tokens = usage.get(f"{kind}_tokens", usage.get(f"{chat}_tokens"))
        if not isinstance(tokens, int):
            return None
        total += tokens * usd_per_million.get(kind, 0.0) / 1e6
    return total


def one_line(text: object, length: int = 200) -> str:
    """Text of a provider on one line, cut."""
    return " ".join(str(text).split())[:length]


def _chat(found: Mapping[str, Any]) -> Answer:
    """The answer of a chat endpoint: an image among the message's images or parts, or words alone."""
    choices = found["choices"]
    choice = choices[0] if isinstance(choices, list) and choices else {}
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise AgainError("malformed_response")
    content = message.get("content")
    parts = [*_dicts(message.get("images")), *_dicts(content)]
    words = content if isinstance(content, str) else " ".join(str(part.get("text", "")) for part in parts)
    links = [part["image_url"].get("url") for part in parts if isinstance(part.get("image_url"), dict)]
    usage: Mapping[str, Any] = found["usage"] if isinstance(found.get("usage"), dict) else {}
    for link in links:
        if isinstance(link, str) and link:
            inline = link.startswith("data:")
            return Answer(_bytes(link) if inline else None, None if inline else link, _facts(found, {}), usage)
    if isinstance(message.get("refusal"), str):
        raise RefusedError("refusal", message["refusal"])
    reason = choice.get("finish_reason")
    if isinstance(reason, str) and reason.lower() in REFUSALS:
        raise RefusedError(reason.lower(), words)
    raise RefusedError("words_only", words)


def _dicts(parts: object) -> list[dict[str, Any]]:
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def _bytes(text: str) -> bytes:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise AgainError("malformed_response") from None


def _facts(found: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, str]:
    facts = {}
    if isinstance(item.get("revised_prompt"), str) and item["revised_prompt"]:
        facts["revised_prompt"] = item["revised_prompt"][:4000]
    for key in ("model", "size", "quality", "background", "output_format"):
        if isinstance(found.get(key), str):
            facts[f"answered_{key}"] = found[key][:100]
    if isinstance(found.get("usage"), dict):
        facts["usage"] = json.dumps(found["usage"], sort_keys=True)[:1000]
    return facts


def _explain(found: Mapping[str, Any], item: Mapping[str, Any]) -> None:
    """Raises what an answer without an image says of itself, if it says anything."""
    if item.get("respect_moderation") is False:
        raise RefusedError("respect_moderation")
    for place in (item, found):
        for key in _FINISH_KEYS:
            word = place.get(key)
            if isinstance(word, str) and word:
                code = word.lower()
                if any(part in code for part in ("safety", "prohibited", "block", "filter", "spii", "recit", "moder")):
                    raise RefusedError(code[:80])
                raise FaultyError(code[:80], f"no image: {word}")


def _error(body: object) -> Mapping[str, Any]:
    """The error object of OpenAI, of Gemini (in a list) and of FastAPI servers."""
    if isinstance(body, list) and body:
        body = body[0]
    if isinstance(body, dict):
        inner = body.get("error")
        if isinstance(inner, dict):
            return inner
        if "message" not in body:
            text = inner if isinstance(inner, str) else body.get("detail", "")
            return {**body, "message": text if isinstance(text, str) else json.dumps(text)}
        return body
    return {"message": body if isinstance(body, str) else ""}


def _codes(error: Mapping[str, Any], depth: int = 3) -> Iterator[str]:
    """Every code in an error, also in its inner errors and details, in lower case."""
    for key in _CODE_KEYS:
        if isinstance(error.get(key), str):
            yield error[key].lower()
    for key in ("innererror", "inner_error", "details"):
        inner = error.get(key)
        for one in inner if isinstance(inner, list) else [inner]:
            if isinstance(one, dict) and depth:
                yield from _codes(one, depth - 1)


def _said(error: Mapping[str, Any]) -> str:
    return one_line(error.get("message", ""))
