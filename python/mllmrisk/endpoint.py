"""Services of OpenAI's kind over HTTP: keys from the environment, retries with jitter, Retry-After obeyed.

Judges and expanders of prompts ask through it.

openai and tenacity are imported inside functions only. A key is written nowhere: neither into errors nor into versions.
"""

from __future__ import annotations

import contextlib
import email.utils
import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import msgspec

from mllmrisk.errors import UsageError
from mllmrisk.extras import optional

T = TypeVar("T")

#: Reasons that say nothing about what was sent: the same request may be answered tomorrow.
TRANSIENT = frozenset({"rate_limited", "server_error", "timeout", "unreachable", "malformed"})

#: Codes by which services decline a request.
_DECLINED = ("content_policy", "content_filter", "moderation_blocked", "image_content", "safety")


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a service is and how patiently it is asked.

    Attributes:
        model: pin a dated name where the service has them.
        base_url: up to and with `/v1`.
        key_env: the environment variable that holds the key; empty for a service without keys.
        timeout: seconds for one attempt.
        attempts: of one request, the first included.
        longest_wait: seconds; a service that asks for more (`Retry-After`) is given up for that request.
        parallel: requests at a time.
        parameters: the request's other fields, in place of the adapter's own.
    """

    model: str
    base_url: str = "https://api.openai.com/v1"
    key_env: str = "OPENAI_API_KEY"
    timeout: float = 60.0
    attempts: int = 6
    longest_wait: float = 120.0
    parallel: int = 4
    parameters: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Refuses what could never ask."""
        if self.attempts < 1 or self.parallel < 1 or self.timeout <= 0 or self.longest_wait < 0:
            raise ValueError("attempts and parallel must be at least 1, timeout above 0")
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError("base_url must begin with http:// or https://")


class Failed(NamedTuple):
    """A request that gave no answer, and why: a word for `n_unscored`."""

    reason: str


class Client:
    """Asks one service; may be used from several threads."""

    def __init__(self, endpoint: Endpoint, *, what: str) -> None:
        """Makes the client; nothing is sent.

        Raises:
            MissingExtraError: openai or tenacity is not installed.
            UsageError: the key's environment variable is not set.
        """
        self._openai = optional("openai", what, "api")
        self._tenacity = optional("tenacity", what, "api")
        self.endpoint = endpoint
        self.what = what
        key = os.environ.get(endpoint.key_env, "") if endpoint.key_env else "none"
        if not key:
            raise UsageError(f"{what} needs a key in the environment variable {endpoint.key_env}")
        self._client = self._openai.OpenAI(
            api_key=key, base_url=endpoint.base_url, timeout=endpoint.timeout, max_retries=0
        )
        self._answered = threading.Event()

    def ask(self, path: str, body: dict[str, Any], reply: type[T]) -> T | Failed:
        """Posts JSON and reads the answer into a struct; tries again where that may help.

        Raises:
            UsageError: the service refuses the key, the model or the account's credit, or has never answered yet and
                cannot be reached: no later request would fare better.
        """
        retrying = self._tenacity.Retrying(
            stop=self._tenacity.stop_after_attempt(self.endpoint.attempts),
            wait=self._wait,
            retry=self._tenacity.retry_if_exception(self._may_pass),
            reraise=True,
        )
        try:
            found: T = retrying(self._once, path, body, reply)
        except self._openai.OpenAIError as wrong:
            return self._failed(wrong)
        except msgspec.MsgspecError:
            return Failed("malformed")
        return found

    def _once(self, path: str, body: dict[str, Any], reply: type[T]) -> T:
        text = self._client.post(path, body=body, cast_to=str)
        self._answered.set()
        return msgspec.json.decode(text, type=reply)

    def _may_pass(self, wrong: BaseException) -> bool:
        if isinstance(wrong, msgspec.MsgspecError | self._openai.APIConnectionError):
            return True
        status = getattr(wrong, "status_code", 0)
        if status == 429 and getattr(wrong, "code", None) == "insufficient_quota":
            return False
        asked = _retry_after(wrong)
        return (status in (408, 409, 425, 429) or status >= 500) and (
            asked is None or asked <= self.endpoint.longest_wait
        )

    def _wait(self, state: Any) -> float:
        """Seconds: what the service asked for and up to a second more, else exponential with full jitter."""
        asked = _retry_after(state.outcome.exception())
        if asked is not None:
            return asked + random.uniform(0, min(1.0, 0.1 + asked))
        return random.uniform(0, min(self.endpoint.longest_wait, 2.0 ** (state.attempt_number - 1)))

    def _failed(self, wrong: Any) -> Failed:
        status, code = getattr(wrong, "status_code", 0), str(getattr(wrong, "code", None) or "")
        where = f"{self.what}: {self.endpoint.base_url}"
        if status in (401, 403, 404) or code == "insufficient_quota":
            raise UsageError(
                f"{where} refuses the request ({status}{f', {code}' if code else ''}): key, model or credit"
            )
        if isinstance(wrong, self._openai.APIConnectionError):
            if not self._answered.is_set():
                raise UsageError(f"{where} does not answer")
            return Failed("timeout" if isinstance(wrong, self._openai.APITimeoutError) else "unreachable")
        if status == 429:
            return Failed("rate_limited")
        if status >= 500:
            return Failed("server_error")
        return Failed("refused" if any(word in code for word in _DECLINED) else "bad_request")


def _retry_after(wrong: Any) -> float | None:
    """Seconds that the service asks to wait, from `retry-after-ms` or `Retry-After` (seconds or a date)."""
    headers = getattr(getattr(wrong, "response", None), "headers", {})
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with contextlib.suppress(ValueError):
            if (given := headers.get(name)) is not None:
                return max(0.0, float(given) * unit)
    with contextlib.suppress(TypeError, ValueError):
        if (given := headers.get("retry-after")) is not None:
            return max(0.0, email.utils.parsedate_to_datetime(given).timestamp() - time.time())
    return None


def in_order(tasks: list[Callable[[], T] | str], parallel: int) -> list[T | str]:
    """Runs tasks `parallel` at a time; a reason stays in its place. After an error no further task is begun."""
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(parallel)
    try:
        started = [task if isinstance(task, str) else pool.submit(task) for task in tasks]
        return [task if isinstance(task, str) else task.result() for task in started]
    finally:
        pool.shutdown(cancel_futures=True)
