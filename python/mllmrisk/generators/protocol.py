"""The messages between a `command` generator and its worker: one JSON object a line, on stdin and stdout.

`docs/workers.md` documents them for people who write workers; this is the same in types. A prompt travels as a JSON
string and nowhere else: not in arguments, not in file names, not through a shell.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

#: Version of the protocol; a worker that answers with another one is refused.
VERSION = 1
#: Longest line that is read as a message, in bytes; a longer one is noise.
LONGEST_LINE = 1 << 20


class Start(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="hello"):
    """First message to a worker: load the model.

    Attributes:
        protocol: version of the protocol.
        folder: the only folder that images are read from.
        device: `auto`, `cpu`, `cuda` or `cuda:INDEX`.
        arguments: the table `arguments` of the generator's TOML.
    """

    protocol: int = VERSION
    folder: str
    device: str
    arguments: dict[str, Any]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """One image that a worker is asked for.

    Attributes:
        id: what its outcome is called by.
        seed: of this image alone, below 2**32.
        path: where to write it.
    """

    id: str
    prompt: str
    seed: int
    path: str


class Generate(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="generate"):
    """A batch; each request is answered by one :class:`Result`, in any order."""

    requests: list[Wanted]


class End(msgspec.Struct, frozen=True, tag_field="type", tag="bye"):
    """Last message to a worker: exit."""


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="hello"):
    """A worker is ready.

    Attributes:
        name: of the worker's code, with its version.
        model, revision: what it loaded.
        versions: of its libraries.
        arguments: as effective, with every default filled in.
        batch: requests that it likes to get at once.
    """

    protocol: int
    model: str
    name: str = ""
    revision: str = ""
    device: str = ""
    dtype: str = ""
    versions: dict[str, str] = {}
    arguments: dict[str, Any] = {}
    batch: int = 1


class Result(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="outcome"):
    """What came of one request.

    Attributes:
        path, width, height: of an `ok` image; they are checked.
        reason: one word for any other outcome. `out_of_memory` halves the batch.
        facts: what else is to be kept with the sample.
    """

    id: str
    outcome: Literal["ok", "refused", "filtered", "failed"]
    path: str | None = None
    width: int | None = None
    height: int | None = None
    reason: str | None = None
    facts: dict[str, str] = {}


class Log(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="log"):
    """A line for the log."""

    text: str
    level: str = "info"


class Trouble(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="error"):
    """A worker cannot start or go on, whatever the prompt; `reason` is a sentence for a person."""

    reason: str


class Bye(msgspec.Struct, frozen=True, tag_field="type", tag="bye"):
    """A worker is about to exit."""


Order: TypeAlias = Start | Generate | End
Message: TypeAlias = Hello | Result | Log | Trouble | Bye

_DECODER = msgspec.json.Decoder(Message)
_TYPES = ("hello", "outcome", "log", "error", "bye")


class Stray(NamedTuple):
    """A line on a worker's stdout that is no message: a library's print. It is kept as log."""

    text: str


class GarbledError(ValueError):
    """A line that claims to be a message and does not fit the protocol."""


def encode(order: Order) -> bytes:
    """A message to a worker, as one line of UTF-8.

    Raises:
        UnicodeEncodeError: a string holds half a surrogate pair.
    """
    return msgspec.json.encode(order) + b"\n"


def decode(line: bytes) -> Message | Stray:
    """A line from a worker.

    Raises:
        GarbledError: it has the type of a message and is none: waiting for a better one would only take time.
    """
    try:
        found: Message = _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        if _claims(line):
            raise GarbledError(f"{wrong}: {line[:200].decode(errors='replace')}") from None
        return Stray(line.decode(errors="replace").rstrip("\r\n"))
    return found


def _claims(line: bytes) -> bool:
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return isinstance(found, dict) and found.get("type") in _TYPES
