"""Generators of the kind `openai`: closed models, and servers of open ones, through OpenAI-compatible image endpoints.

What costs money is treated so: nothing that came is lost when a later request ends the run, a budget holds before a
request goes out, and the key is read from the environment and written nowhere.
"""

from __future__ import annotations

import ipaddress
import os
import random
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec

from mllmrisk import images
from mllmrisk.errors import GeneratorError, ImageError, UsageError
from mllmrisk.extras import optional
from mllmrisk.generators import answers
from mllmrisk.generators.answers import AgainError, Answer, FatalError, FaultyError, RefusedError
from mllmrisk.generators.base import Common, Made, Request
from mllmrisk.generators.pace import Budget, Pace, StoppedError
from mllmrisk.records import Outcome

#: Requests in a row that come to nothing before the provider is held to be down.
GIVE_UP = 10
#: Failures after which an image may have been made, and billed, all the same.
_MAYBE_BILLED = ("timeout", "connection", "malformed_response")
_RESERVED = ("model", "prompt", "n", "stream")


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """Keys of a TOML of the kind `openai`. An empty string is not sent.

    Attributes:
        base_url: up to and with `/v1`.
        key_env: the environment variable that holds the key; empty for a server that takes none.
        size, quality, moderation, output_format, response_format: as the endpoint has them. GPT Image models refuse
            `response_format`; most other endpoints need `b64_json`.
        extra: further fields of the request's body.
        seed_field: the field that takes a seed; empty where the endpoint has none, and then images cannot be repeated.
        concurrency: requests at once.
        per_minute: requests a minute at most, evenly spaced.
        max_images, max_usd: what one call of mllmrisk may spend; a resumed one starts anew.
        usd_per_million: prices of `input` and `output` tokens, for a cost by the provider's own count.
        timeout: seconds for one answer, to its last byte.
        attempts: of one request.
        first_wait, longest_wait: seconds between attempts, doubling and jittered.
        longest_pause: the longest `Retry-After` that is obeyed; a longer one ends the run.
        max_bytes: largest answer and largest image.
    """

    model: str
    base_url: str = "https://api.openai.com/v1"
    key_env: str = "OPENAI_API_KEY"
    size: str = ""
    quality: str = ""
    moderation: str = ""
    output_format: str = ""
    response_format: str = ""
    extra: dict[str, Any] = {}
    seed_field: str = ""
    concurrency: int = 4
    per_minute: float | None = None
    max_images: int | None = None
    max_usd: float | None = None
    usd_per_million: dict[str, float] = {}
    timeout: float = 300.0
    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 60.0
    longest_pause: float = 900.0
    max_bytes: int = 64 << 20


class OpenAI:
    """A generator behind an OpenAI-compatible image endpoint.

    Attributes:
        name, paradigm, batch, identity: see :class:`~mllmrisk.generators.base.Generator`.
        budget: what was spent.
    """

    accepts: ClassVar[type[msgspec.Struct]] = Parameters

    def __init__(self, common: Common, parameters: Parameters, folder: Path, *, device: str = "auto") -> None:
        """Makes the client; no request goes out. See :class:`~mllmrisk.generators.base.GeneratorKind`.

        Raises:
            UsageError: a key of the TOML cannot be used, or the environment variable with the key is not set.
        """
        self.name = common.name
        self.paradigm = common.paradigm
        self._what = f"generator {common.name}"
        self._openai = optional("openai", self._what, "api")
        self._tenacity = optional("tenacity", self._what, "api")
        _check(parameters, common, self._what)
        self._parameters = parameters
        self._key = _key(parameters.key_env, self._what)
        self._client = self._openai.OpenAI(
            api_key=self._key or "none", base_url=parameters.base_url, max_retries=0, timeout=parameters.timeout
        )
        # The HTTP library that this version of the client is built on: httpx before 3, httpx2 since.
        self._http = import_module(self._openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])
        self._downloads = self._http.Client(timeout=parameters.timeout, follow_redirects=True)
        self._pool = ThreadPoolExecutor(parameters.concurrency, thread_name_prefix=common.name)
        self._pace = Pace(parameters.per_minute)
        self.budget = Budget(parameters.max_images, parameters.max_usd, common.usd or 0.0)
        self._lock = threading.Lock()
        self._fatal: str | None = None
        self._in_vain = 0
        self._fields = _fields(parameters)
        self.batch = 2 * parameters.concurrency  # a slow answer does not leave the other threads idle
        self.identity = self._identify()

    def generate(self, requests: Sequence[Request]) -> list[Made]:
        """See :class:`~mllmrisk.generators.base.Generator`.

        Raises:
            GeneratorError: the budget is spent, the key is refused, or the provider answers nobody; `made` has what
                came until then, and requests under way are waited for, since they are paid for.
        """
        if self._fatal:
            raise GeneratorError(self._fatal)
        futures = [self._pool.submit(self._make, request) for request in requests]
        try:
            wait(futures)
        except BaseException:
            self._pace.stop()
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._client.close()
            raise
        made = [future.result() for future in futures]
        if self._fatal:
            raise GeneratorError(self._fatal, made)
        return [one for one in made if one is not None]

    def close(self) -> None:
        """Closes connections and threads."""
        self._pace.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._client.close()
        self._downloads.close()

    def __repr__(self) -> str:
        """Name and model; never the key."""
        return f"OpenAI({self.name!r}, model={self._parameters.model!r})"

    def _make(self, request: Request) -> Made | None:
        """One request to its end; None if the generator stopped before it came to one."""
        if not self.budget.reserve():
            self._stop(f"the budget is spent: {self.budget.spent()}")
            return None
        try:
            made = self._made(request)
        except StoppedError:
            return None
        except FatalError as fatal:
            self._stop(str(fatal))
            return None
        except Exception as wrong:  # a fault of ours must not lose what the other threads were paid for
            self._stop(f"{type(wrong).__name__}: {wrong}")
            return None
        self._count(made)
        return made

    def _made(self, request: Request) -> Made:
        """One request whose place in the budget is reserved; the place is spent or given back."""
        billed = False
        facts: dict[str, str] = {}
        try:
            answer = self._retrying()(self._ask, request, facts)
            billed = True
            data = answer.data if answer.data is not None else self._retrying()(self._download, answer.url)
            images.decode(data)
            return Made(Outcome.OK, data, facts=facts)
        except RefusedError as refused:
            return Made(Outcome.REFUSED, reason=self._clean(refused.code), facts=facts)
        except FaultyError as faulty:
            facts["error"] = self._clean(str(faulty))
            return Made(Outcome.FAILED, reason=self._clean(faulty.code), facts=facts)
        except AgainError as again:
            billed = billed or again.reason in _MAYBE_BILLED
            return Made(Outcome.FAILED, reason=again.reason, facts=facts)
        except ImageError as wrong:
            return Made(Outcome.FAILED, reason=wrong.code, facts=facts)
        finally:
            if billed:
                usd = self.budget.spend(float(facts["usd"]) if "usd" in facts else None)
                if usd:
                    facts["usd"] = f"{usd:.6f}"
            else:
                self.budget.release()

    def _ask(self, request: Request, facts: dict[str, str]) -> Answer:
        """One attempt; `facts` are filled in as they come.

        Raises:
            AgainError, RefusedError, FaultyError, FatalError: there is no image.
        """
        self._pace.wait()
        facts["attempts"] = str(int(facts.get("attempts", "0")) + 1)
        fields = dict(self._fields)
        if self._parameters.seed_field:
            fields[self._parameters.seed_field] = request.seed
        try:
            call = self._client.images.with_streaming_response.generate(
                model=self._parameters.model, prompt=request.prompt, extra_body=fields
            )
            with call as response:
                if told := response.headers.get("x-request-id"):
                    facts["request_id"] = self._clean(told)
                body = self._whole(response.iter_bytes())
        except Exception as wrong:
            failure = self._sorted(wrong, facts)
        else:
            answer = answers.read(body)
            facts.update({name: self._clean(text, 4000) for name, text in answer.facts.items()})
            usd = answers.cost(answer.usage, self._parameters.usd_per_million)
            if usd is not None:
                facts["usd"] = repr(usd)
            return answer
        raise failure

    def _sorted(self, wrong: Exception, facts: dict[str, str]) -> Exception:
        """What an exception of the client means. It is not chained: its request holds the key."""
        if isinstance(wrong, self._openai.APIStatusError):
            if told := wrong.response.headers.get("x-request-id"):
                facts["request_id"] = self._clean(told)
            if wrong.status_code == 401:
                return FatalError(f"401: the key in {self._parameters.key_env or '(none)'} is not accepted")
            found = answers.sort_status(
                wrong.status_code, wrong.body, wrong.response.headers, longest=self._parameters.longest_pause
            )
            if isinstance(found, FatalError):
                return FatalError(f"{found} (model {self._parameters.model}, {self._parameters.base_url})")
            return found
        if isinstance(wrong, self._openai.APITimeoutError | self._http.TimeoutException | TimeoutError):
            return AgainError("timeout")
        if isinstance(wrong, self._openai.APIConnectionError | self._http.RequestError):
            return AgainError("connection")
        return wrong

    def _download(self, url: str) -> bytes:
        """The image behind a URL, with none of the client's headers.

        Raises:
            AgainError: it did not come whole.
            FaultyError: it is no web address.
        """
        if urlsplit(url).scheme not in {"http", "https"}:
            raise FaultyError("bad_url", f"the image is said to be at {answers.one_line(url, 80)}")
        try:
            with self._downloads.stream("GET", url) as response:
                if response.status_code != 200:
                    failure = AgainError(f"download_{response.status_code}")
                else:
                    return self._whole(response.iter_bytes())
        except (self._http.HTTPError, self._http.InvalidURL, TimeoutError):
            failure = AgainError("download")
        raise failure

    def _whole(self, chunks: Iterable[bytes]) -> bytes:
        """A body, within the time and the size that it may have: a trickle would outlast any timeout between bytes.

        Raises:
            TimeoutError: it took too long.
            FaultyError: it is too large.
        """
        until = time.monotonic() + self._parameters.timeout
        found = bytearray()
        for chunk in chunks:
            found += chunk
            if len(found) > self._parameters.max_bytes:
                raise FaultyError("too_large", f"more than {self._parameters.max_bytes} bytes")
            if time.monotonic() > until:
                raise TimeoutError
        return bytes(found)

    def _retrying(self) -> Any:
        """Exponential waits with jitter, or as long as the provider says; all threads hold back where it says so."""
        tenacity, limits = self._tenacity, self._parameters
        backoff = tenacity.wait_exponential(multiplier=limits.first_wait, max=limits.longest_wait)

        def pause(state: Any) -> float:
            after = state.outcome.exception().after
            if after is not None:
                self._pace.hold(after)
            jitter = random.uniform(0, limits.first_wait)
            return float(backoff(state) if after is None else after) + jitter

        return tenacity.Retrying(
            stop=tenacity.stop_after_attempt(limits.attempts),
            wait=pause,
            retry=tenacity.retry_if_exception_type(AgainError),
            sleep=self._pace.sleep,
            reraise=True,
        )

    def _count(self, made: Made) -> None:
        """Ends the run when nothing but failures come: thousands of prompts must not wait out every attempt."""
        with self._lock:
            self._in_vain = 0 if made.outcome is not Outcome.FAILED else self._in_vain + 1
            in_vain = self._in_vain
        if in_vain >= GIVE_UP:
            said = (made.facts or {}).get("error", "")
            self._stop(f"{in_vain} requests in a row came to nothing, the last with {made.reason} {said}".rstrip())

    def _stop(self, message: str) -> None:
        with self._lock:
            self._fatal = self._fatal or f"{self._what}: {self._clean(message, 400)}"
        self._pace.stop()

    def _clean(self, text: str, length: int = 200) -> str:
        """One line without the key, which some providers repeat in their messages."""
        if self._key:
            text = text.replace(self._key, "***")
        return answers.one_line(text, length)

    def _identify(self) -> dict[str, Any]:
        seed = self._parameters.seed_field
        return {
            "kind": "openai",
            "model": self._parameters.model,
            "revision": None,
            "base_url": self._parameters.base_url,
            "arguments": {"passed": self._fields, "effective": "the provider's own where none is passed"},
            "seed": f"sent as {seed}" if seed else "not sent: the endpoint takes none",
            "versions": {"openai": version("openai"), "tenacity": version("tenacity")},
        }


def _fields(parameters: Parameters) -> dict[str, Any]:
    names = ("size", "quality", "moderation", "output_format", "response_format")
    given = {name: getattr(parameters, name) for name in names}
    return {**{name: value for name, value in given.items() if value}, **parameters.extra}


def _key(name: str, what: str) -> str:
    if not name:
        return ""
    found = os.environ.get(name, "").strip()
    if not found:
        raise UsageError(f"{what}: set the environment variable {name} to your key")
    return found


def _check(parameters: Parameters, common: Common, what: str) -> None:
    """Refuses what cannot be meant."""
    address = urlsplit(parameters.base_url)
    if address.scheme not in {"http", "https"} or not address.hostname:
        raise UsageError(f"{what}: base_url is no web address: {parameters.base_url}")
    if address.username or address.password or address.query:
        raise UsageError(f"{what}: base_url must not hold credentials; name the variable with the key in key_env")
    if address.scheme == "http" and parameters.key_env and not _nearby(address.hostname):
        raise UsageError(f"{what}: the key would travel unencrypted to {address.hostname}: use https")
    for name in _RESERVED:
        if name in parameters.extra:
            raise UsageError(f"{what}: `extra` cannot set {name!r}")
    if parameters.concurrency < 1 or parameters.attempts < 1:
        raise UsageError(f"{what}: `concurrency` and `attempts` are at least 1")
    if min(parameters.timeout, parameters.per_minute or 1.0) <= 0:
        raise UsageError(f"{what}: `timeout` and `per_minute` are positive")
    if unknown := sorted(set(parameters.usd_per_million) - {"input", "output"}):
        raise UsageError(f"{what}: usd_per_million has prices of `input` and `output` tokens, not {unknown[0]!r}")
    if parameters.max_usd is not None and not common.usd:
        raise UsageError(f"{what}: max_usd needs the price of an image (`usd`)")


def _nearby(host: str) -> bool:
    """Whether a host is this machine or an address of a private network."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost"
