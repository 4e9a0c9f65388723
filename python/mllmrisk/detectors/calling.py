"""One question to a service behind HTTP: how an image is sent, how patiently an answer is waited for, what it costs.

httpx and tenacity are imported inside functions only. A key is read from the environment and written nowhere: neither
into errors nor into recordings.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import ipaddress
import os
import random
import threading
import time
import weakref
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec

from mllmrisk.detectors.allowance import Budget, Purse
from mllmrisk.errors import UsageError
from mllmrisk.extras import optional
from mllmrisk.pace import Pace

#: Reasons that say nothing about the image: the same image may be scored tomorrow.
TRANSIENT = frozenset({"rate_limited", "server_error", "timeout", "unreachable", "malformed"})
#: Reasons for which no further call goes out.
SPENT = frozenset({"budget_spent", "credit_spent"})

#: Words in an error by which services decline an image.
_DECLINED = ("content_policy", "content_filter", "content filter", "moderation", "safety", "harm_content", "nsfw")
#: Words in an error that tell of an account without credit.
_NO_CREDIT = ("insufficient_quota", "insufficient_credit", "insufficient credit", "insufficient_balance")
#: The largest answer that is read.
_LONGEST_ANSWER = 4 << 20


class Sending(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the image travels.

    Attributes:
        how: `multipart`, a file part of a form; `base64`, a JSON field; `raw`, the body itself; `url`, the address of
            a public copy as a JSON field (or, with GET, in the query).
        field: the part's name, or where in the JSON it stands: `image`, `input.0.image`.
        data_url: base64 as `data:image/jpeg;base64,...`.
        prefix: `url` only: the address of the public copies, to which `/SHA256.jpg` is added; empty for the
            environment variable `MLLMRISK_PUBLIC_IMAGES`.
        folder: `url` only: where copies are put to become public (the folder of a web server, or one that is synced);
            empty for the environment variable `MLLMRISK_PUBLIC_FOLDER`, and without it the copies must be there.
    """

    how: Literal["multipart", "base64", "raw", "url"]
    field: str = "image"
    data_url: bool = False
    prefix: str = ""
    folder: str = ""


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the key is and how it is shown.

    Attributes:
        env: the environment variable that holds it.
        header, prefix: `Authorization` and `"Bearer "`.
    """

    env: str
    header: str = "Authorization"
    prefix: str = "Bearer "


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How patiently and how fast a service is asked.

    Attributes:
        timeout: seconds for one attempt, to the last byte of its answer.
        attempts: for one image, the first included.
        longest_wait: seconds between attempts; a service that asks for more (`Retry-After`) is given up for that
            image.
        parallel: requests at a time.
        per_minute: requests a minute at most, evenly spaced.
        max_bytes: a larger file is not sent: reason `too_large`.
    """

    timeout: float = 60.0
    attempts: int = 5
    longest_wait: float = 120.0
    parallel: int = 2
    per_minute: float | None = None
    max_bytes: int = 20 << 20

    def __post_init__(self) -> None:
        """Refuses what could never ask."""
        if self.attempts < 1 or self.parallel < 1 or self.longest_wait < 0:
            raise ValueError("attempts and parallel must be at least 1")
        if min(self.timeout, self.per_minute or 1.0, self.max_bytes) <= 0:
            raise ValueError("timeout, per_minute and max_bytes are positive")


class Address(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked.

    Attributes:
        url, method: of the endpoint.
        model: the service's model version, where it has one: it goes into the detector's version and into recordings;
            what the service needs of it stands in `fields` as well.
        fields: the request's other fields: of the form, of the JSON, or (`raw`, GET) of the query.
        headers: fixed ones, never a key.
    """

    url: str
    method: Literal["POST", "PUT", "GET"] = "POST"
    model: str = ""
    fields: dict[str, Any] = {}
    headers: dict[str, str] = {}


class File(NamedTuple):
    """What goes out: the bytes, their media type, their suffix, their sha256.

    Attributes:
        made: whether a perturbation made them here, so that no public copy can be there yet.
    """

    data: bytes
    media: str
    suffix: str
    sha256: str
    made: bool


class Answer(NamedTuple):
    """What came back: the status, and the body as JSON (None if it is none)."""

    status: int
    body: Any


class _AgainError(Exception):
    """An attempt that came to nothing and may be repeated."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after


class Caller:
    """Asks one service; may be used from several threads.

    Attributes:
        purse: what was spent.
    """

    def __init__(
        self, address: Address, sending: Sending, key: Key | None, limits: Limits, budget: Budget, *, what: str
    ) -> None:
        """Makes the client; nothing is sent.

        Raises:
            MissingExtraError: httpx or tenacity is not installed.
            UsageError: the address cannot be used, or the key's environment variable is not set.
        """
        self._httpx = optional("httpx", what, "api")
        self._tenacity = optional("tenacity", what, "api")
        self._what, self._address, self._limits = what, address, limits
        self._sending = _published(sending, what)
        _check(address, secret=key is not None, what=what)
        flat = sending.how in {"multipart", "raw"} or address.method == "GET"
        if flat and any(isinstance(value, dict | list) for value in address.fields.values()):
            raise UsageError(f"{what}: fields of a form or a query are single values; only JSON has tables in it")
        self._key = os.environ.get(key.env, "").strip() if key else ""
        if key and not self._key:
            raise UsageError(
                f"{what} needs a key in the environment variable {key.env}; recorded answers need none: "
                f"MLLMRISK_REPLAY=only"
            )
        headers = address.headers | ({key.header: key.prefix + self._key} if key else {})
        self._client = self._httpx.Client(headers=headers, timeout=limits.timeout, follow_redirects=False)
        weakref.finalize(self, self._client.close)  # a detector is not closed, it is forgotten
        self._pace = Pace(limits.per_minute)
        self._answered = threading.Event()
        self._spent: str | None = None
        self.purse = Purse(budget)

    def ask(self, file: File) -> Answer | str:
        """The service's answer to an image, or the reason why there is none; tries again where that may help.

        Raises:
            UsageError: the service refuses the key or does not know the address, has never answered yet and cannot be
                reached, or the public folder cannot be written: no later image would fare better.
            StoppedError: :meth:`stop` was called.
        """
        if len(file.data) > self._limits.max_bytes:
            return "too_large"
        if self._sending.how == "url" and not self._publish(file):
            return "not_published"
        retrying = self._tenacity.Retrying(
            stop=self._tenacity.stop_after_attempt(self._limits.attempts),
            wait=self._waiting,
            retry=self._tenacity.retry_if_exception(self._may_pass),
            sleep=self._pace.sleep,
            reraise=True,
        )
        try:
            found: Answer | str = retrying(self._once, file)
        except _AgainError as again:
            if again.reason in {"unreachable", "timeout"} and not self._answered.is_set():
                raise UsageError(f"{self._what}: {self._address.url} does not answer ({again.reason})") from None
            return again.reason
        return found

    def stop(self) -> None:
        """Lets no further request go out, for good, and wakes all who wait; answers under way still come."""
        self._pace.stop()

    def close(self) -> None:
        """Closes connections, whatever is under way."""
        self._client.close()

    def _once(self, file: File) -> Answer | str:
        """One attempt.

        Raises:
            _AgainError: it came to nothing, and may be repeated.
            UsageError: see :meth:`ask`.
        """
        self._pace.wait()
        if self._spent or not self.purse.take():
            return self._spent or "budget_spent"
        billed = True
        try:
            status, headers, text = self._exchange(file)
            self._answered.set()
            billed = 200 <= status < 300
        except self._httpx.TimeoutException as wrong:
            billed = not isinstance(wrong, self._httpx.ConnectTimeout | self._httpx.PoolTimeout)
            raise _AgainError("timeout") from None  # the request, which an exception holds, has the key
        except self._httpx.RequestError as wrong:
            billed = not isinstance(wrong, self._httpx.ConnectError)
            raise _AgainError("unreachable") from None
        finally:
            self.purse.settle(billed=billed)
        return self._understood(status, headers, text)

    def _exchange(self, file: File) -> tuple[int, Any, bytes]:
        """Sends a file and reads the answer, within the time and the size that it may have."""
        until = time.monotonic() + self._limits.timeout
        address = self._address
        with self._client.stream(address.method, address.url, **self._content(file)) as response:
            text = bytearray()
            for chunk in response.iter_bytes():
                text += chunk
                if time.monotonic() > until:  # a trickle would outlast any timeout between bytes
                    raise self._httpx.ReadTimeout("the answer took too long")
                if len(text) > _LONGEST_ANSWER:
                    raise self._httpx.ReadError("the answer is too long")
            return response.status_code, response.headers, bytes(text)

    def _content(self, file: File) -> dict[str, Any]:
        """The HTTP library's arguments for one request. The file's own name is not told: labels may stand in it."""
        fields, sending = self._address.fields, self._sending
        if sending.how == "multipart":
            return {"data": fields, "files": {sending.field: (f"image{file.suffix}", file.data, file.media)}}
        if sending.how == "raw":
            return {"params": fields or None, "content": file.data, "headers": {"Content-Type": file.media}}
        if sending.how == "base64":
            value = base64.b64encode(file.data).decode("ascii")
            value = f"data:{file.media};base64,{value}" if sending.data_url else value
        else:
            value = f"{sending.prefix.rstrip('/')}/{file.sha256}{file.suffix}"
        if self._address.method == "GET":
            return {"params": {**fields, sending.field: value}}
        return {"json": placed(fields, sending.field, value)}

    def _publish(self, file: File) -> bool:
        """Puts a copy where it becomes public; False if a file that was made here has no such place."""
        if not self._sending.folder:
            return not file.made
        folder = Path(self._sending.folder).expanduser()
        copy = folder / f"{file.sha256}{file.suffix}"
        if not copy.exists():
            try:
                folder.mkdir(parents=True, exist_ok=True)
                part = copy.with_name(f"{copy.name}.{threading.get_ident()}.part")
                part.write_bytes(file.data)
                part.replace(copy)
            except OSError as wrong:
                raise UsageError(f"{self._what}: no copy can be put into {folder}: {wrong.strerror}") from wrong
        return True

    def _understood(self, status: int, headers: Any, text: bytes) -> Answer | str:
        """What a status and a body mean."""
        body = self._json(text)
        if 200 <= status < 300:
            if body is None:
                raise _AgainError("malformed")
            return Answer(status, body)
        said = text[:2000].decode("utf-8", "replace").lower()
        if status == 402 or any(words in said for words in _NO_CREDIT):
            self._spent = "credit_spent"
            return self._spent
        if status in {408, 409, 425, 429} or status >= 500:
            raise _AgainError("rate_limited" if status == 429 else "server_error", _retry_after(headers))
        if status == 451 or any(word in said for word in _DECLINED):
            return Answer(status, body)
        if status < 400 or status in {401, 403, 404, 405}:
            raise UsageError(f"{self._what}: {self._address.url} refuses the request ({status}): key, address or model")
        return {413: "too_large", 415: "unsupported"}.get(status, "bad_request")

    def _json(self, text: bytes) -> Any:
        """The body as JSON, without the key, which a service may repeat; None if it is none."""
        if self._key:
            text = text.replace(self._key.encode(), b"***")
        try:
            return msgspec.json.decode(text)
        except msgspec.MsgspecError:
            return None

    def _may_pass(self, wrong: BaseException) -> bool:
        return isinstance(wrong, _AgainError) and (wrong.after or 0.0) <= self._limits.longest_wait

    def _waiting(self, state: Any) -> float:
        """Seconds: what the service asked for and up to a second more, else exponential with full jitter."""
        after: float | None = state.outcome.exception().after
        if after is None:
            return random.uniform(0, min(self._limits.longest_wait, 2.0 ** (state.attempt_number - 1)))
        self._pace.hold(after)
        return after + random.uniform(0, min(1.0, 0.1 + after))


def placed(fields: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """`fields` with a value at a dotted path; `0` makes a list of one: `input.0` gives `{"input": [value]}`."""
    name, _, rest = path.partition(".")
    if rest == "0" or rest.startswith("0."):
        inner = rest.partition(".")[2]
        return {**fields, name: [placed({}, inner, value) if inner else value]}
    return {**fields, name: placed(dict(fields.get(name) or {}), rest, value) if rest else value}


def _check(address: Address, *, secret: bool, what: str) -> None:
    """Refuses an address that cannot be meant, or over which a key would travel unencrypted."""
    parts = urlsplit(address.url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(f"{what}: url is no web address: {address.url}")
    if parts.username or parts.password:
        raise UsageError(f"{what}: url must not hold credentials; name the variable with the key in [key]")
    if parts.scheme == "http" and secret and not _nearby(parts.hostname):
        raise UsageError(f"{what}: the key would travel unencrypted to {parts.hostname}: use https")


def _nearby(host: str) -> bool:
    """Whether a host is this machine or an address of a private network."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost"


def _published(sending: Sending, what: str) -> Sending:
    """With the public prefix and folder from the environment, where the TOML leaves them to it."""
    if sending.how != "url":
        return sending
    prefix = sending.prefix or os.environ.get("MLLMRISK_PUBLIC_IMAGES", "")
    folder = sending.folder or os.environ.get("MLLMRISK_PUBLIC_FOLDER", "")
    if not prefix.startswith(("http://", "https://")):
        raise UsageError(
            f"{what} takes the address of a public copy of each image: set MLLMRISK_PUBLIC_IMAGES to where copies "
            f"named SHA256.jpg (.png, .webp) can be read, and MLLMRISK_PUBLIC_FOLDER to the folder that is served there"
        )
    return msgspec.structs.replace(sending, prefix=prefix, folder=folder)


def _retry_after(headers: Any) -> float | None:
    """Seconds that a service asks to wait, from `Retry-After`: seconds or a date."""
    given = headers.get("retry-after")
    if given is None:
        return None
    with contextlib.suppress(ValueError):
        return max(0.0, float(given))
    with contextlib.suppress(TypeError, ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(given).timestamp() - time.time())
    return None
