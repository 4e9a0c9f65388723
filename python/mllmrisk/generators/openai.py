"""Generators of the kind `openai`: closed models, and servers of open ones, through OpenAI-compatible image endpoints.

What costs money is treated so: nothing that came is lost when a later request ends the run, a budget holds before a
request goes out, and the key is read from the environment and written nowhere.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from functools import cached_property
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec

from mllmrisk import images
from mllmrisk.errors import GeneratorError, ImageError
from mllmrisk.extras import optional
from mllmrisk.generators import answers
from mllmrisk.generators.answers import AgainError, Answer, FatalError, FaultyError, RefusedError
from mllmrisk.generators.base import Common, Made, Request
from mllmrisk.generators.budget import Budget
from mllmrisk.generators.endpoint import Parameters, check, fields, key
from mllmrisk.pace import Pace, StoppedError
from mllmrisk.records import Outcome

#: Seconds after which an interrupt is heeded at the latest: one that comes just before a wait does not end it.
_HEED = 0.2
#: Requests in a row that come to nothing before the provider is held to be down.
GIVE_UP = 10
#: Failures after which an image may have been made, and billed, all the same.
_MAYBE_BILLED = ("timeout", "connection", "malformed_response")


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
        check(parameters, common, self._what)
        self._parameters = parameters
        self._key = key(parameters.key_env, self._what)
        self._client = self._openai.OpenAI(
            api_key=self._key or "none", base_url=parameters.base_url, max_retries=0, timeout=parameters.timeout
        )
        # The HTTP library that this version of the client is built on: httpx before 3, httpx2 since.
        self._http = import_module(self._openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])
        self._pace = Pace(parameters.per_minute)
        self.budget = Budget(parameters.max_images, parameters.max_usd, common.usd or 0.0)
        self._lock = threading.Lock()
        self._fatal: str | None = None
        self._in_vain = 0
        self._fields = fields(parameters)
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
        made: list[Made | None] = [None] * len(requests)
        waiting = deque(enumerate(requests))

        def work() -> None:
            while waiting and not self._pace.stopped:
                with contextlib.suppress(IndexError):
                    index, request = waiting.popleft()
                    made[index] = self._make(request)

        # Daemons: after an interrupt nobody waits minutes for an answer that is still under way.
        threads = [threading.Thread(target=work, daemon=True) for _ in requests[: self._parameters.concurrency]]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(_HEED)
        except BaseException:
            self._pace.stop()
            raise
        done = [one for one in made if one is not None]
        if self._fatal or len(done) < len(requests):
            raise GeneratorError(self._fatal or f"{self._what}: it was closed", made)
        return done

    def close(self) -> None:
        """Closes connections; who waits is woken."""
        self._pace.stop()
        self._client.close()
        if "_downloads" in vars(self):
            self._downloads.close()

    @cached_property
    def _downloads(self) -> Any:
        """A client without the key, for images behind a URL; made when the first comes."""
        return self._http.Client(timeout=self._parameters.timeout, follow_redirects=True)

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
            if refused.said:
                facts["answered"] = self._clean(refused.said, 500)
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
        body_fields = dict(self._fields)
        if self._parameters.seed_field:
            body_fields[self._parameters.seed_field] = request.seed
        try:
            with self._call(request.prompt, body_fields) as response:
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

    def _call(self, prompt: str, body_fields: dict[str, Any]) -> Any:
        """The client's call, whose body is not read yet."""
        model = self._parameters.model
        if self._parameters.route == "chat":
            messages = [{"role": "user", "content": prompt}]
            chat = self._client.chat.completions.with_streaming_response
            return chat.create(model=model, messages=messages, extra_body=body_fields)
        return self._client.images.with_streaming_response.generate(model=model, prompt=prompt, extra_body=body_fields)

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
            "route": self._parameters.route,
            "arguments": {"passed": self._fields, "effective": "the provider's own where none is passed"},
            "seed": f"sent as {seed}" if seed else "not sent: the endpoint takes none",
            "versions": {"openai": version("openai"), "tenacity": version("tenacity")},
        }
