"""What a TOML of the kind `openai` says: an endpoint, what is asked of it, how fast and for how much."""

from __future__ import annotations

import ipaddress
import os
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from mllmrisk.errors import UsageError
from mllmrisk.generators.base import Common

_RESERVED = ("model", "prompt", "messages", "n", "stream")


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """Keys of a TOML of the kind `openai`. An empty string is not sent.

    Attributes:
        base_url: up to and with `/v1`.
        route: `images` asks `BASE_URL/images/generations`; `chat` asks `BASE_URL/chat/completions`, where models answer
            with images among their words.
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
    route: Literal["images", "chat"] = "images"
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


def fields(parameters: Parameters) -> dict[str, Any]:
    """The body of a request, but for prompt, model and seed."""
    names = ("size", "quality", "moderation", "output_format", "response_format")
    given = {name: getattr(parameters, name) for name in names}
    return {**{name: value for name, value in given.items() if value}, **parameters.extra}


def key(name: str, what: str) -> str:
    """The key in an environment variable; empty where no variable is named.

    Raises:
        UsageError: it is not set.
    """
    if not name:
        return ""
    found = os.environ.get(name, "").strip()
    if not found:
        raise UsageError(f"{what}: set the environment variable {name} to your key")
    return found


def check(parameters: Parameters, common: Common, what: str) -> None:
    """Refuses what cannot be meant.

    Raises:
        UsageError: with the key and what is wrong with it.
    """
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
