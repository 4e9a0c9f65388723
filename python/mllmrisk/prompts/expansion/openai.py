"""Expansion by a chat model behind an OpenAI-compatible endpoint: a provider, vLLM, SGLang, llama.cpp."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from mllmrisk.endpoint import Client, Endpoint, Failed, in_order
from mllmrisk.errors import UsageError
from mllmrisk.prompts.expansion.base import Common, Expanded, Identity, Instruction, Tell, Wanted

#: Fields of a request that are the expander's own.
_RESERVED = ("model", "messages", "n", "stream")


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of a TOML of the kind `openai`.

    Attributes:
        endpoint: where, which model, how patiently; its `parameters` are sent in place of temperature 0.
        seed_field: the request's field for the seed; empty where the endpoint refuses one.
    """

    endpoint: Endpoint
    instruction: Instruction
    seed_field: str = "seed"


class _Message(msgspec.Struct, frozen=True):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Message
    finish_reason: str | None = None


class _Completion(msgspec.Struct, frozen=True):
    choices: list[_Choice]


class OpenAI:
    """Asks a chat model.

    Attributes:
        name, identity, remembered: see :class:`~mllmrisk.prompts.expansion.base.Expander`.
    """

    accepts: ClassVar[type[msgspec.Struct]] = Parameters
    remembered = True

    def __init__(self, common: Common, parameters: Parameters, folder: Path) -> None:
        """Makes the client; nothing is sent."""
        del folder
        endpoint = parameters.endpoint
        self.name = common.name
        self._parameters = parameters
        self._given: dict[str, Any] = {"temperature": 0} if endpoint.parameters is None else endpoint.parameters
        if wrong := sorted(set(self._given) & {*_RESERVED, parameters.seed_field}):
            raise UsageError(f"expander {common.name}: endpoint.parameters cannot set {wrong[0]!r}")
        self._client = Client(endpoint, what=f"expander {common.name!r}")
        deciding = json.dumps([common.kind, endpoint.base_url, self._given, bool(parameters.seed_field)])
        digest = hashlib.sha256(deciding.encode()).hexdigest()[:16]
        self.identity = Identity(digest, endpoint.model, parameters.instruction.whole)

    def expand(self, wanted: Sequence[Wanted], *, seed: int, tell: Tell) -> None:
        """See :class:`~mllmrisk.prompts.expansion.base.Expander`."""

        def one(place: int, text: str) -> None:
            tell(place, self._one(text, seed))

        in_order([functools.partial(one, i, each.text) for i, each in enumerate(wanted)], self._parallel)

    @property
    def _parallel(self) -> int:
        return self._parameters.endpoint.parallel

    def _one(self, text: str, seed: int) -> Expanded:
        told = self._parameters.instruction
        head = [{"role": "system", "content": told.system}] if told.system else []
        body: dict[str, Any] = {
            "model": self._parameters.endpoint.model,
            "messages": [*head, {"role": "user", "content": told.about(text)}],
            **self._given,
        }
        if self._parameters.seed_field:
            body[self._parameters.seed_field] = seed
        reply = self._client.ask("/chat/completions", body, _Completion)
        if isinstance(reply, Failed):
            return Expanded(None, reply.reason)
        if len(reply.choices) != 1:
            return Expanded(None, "malformed")
        (choice,) = reply.choices
        if choice.message.refusal or choice.finish_reason == "content_filter":
            return Expanded(None, "refused")
        if choice.finish_reason == "length":
            return Expanded(None, "cut")
        return Expanded(choice.message.content or "")
