"""The card that a detector's ONNX file carries, so that the file alone is enough; and the TOML beside it.

The card is JSON under the metadata key `mllmrisk`. It is read and written in the file's bytes, as the protobuf field
that it is (field 14 of `ModelProto`): no `onnx` package is needed, no weights are parsed, and a file of gigabytes is
copied once.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from mllmrisk.errors import UsageError
from mllmrisk.store import write_atomically

Buffer: TypeAlias = bytes | mmap.mmap

#: Key of the card among the ONNX file's metadata.
METADATA = "mllmrisk"
SCHEMA = 1

#: What a file of the kind `forensic` says of itself in the words of a TOML; it has no recipe, its card is its own.
_FORENSIC = {
    "kind": "forensic",
    "version": "trained",
    "about": "features of the Rust core and a classifier, trained by mllmrisk",
    "licence": "its owner's",
    "citation": "docs/forensic.md",
    "trained_on": "its card says: counts, sources, view",
}

#: Fields of ModelProto and of StringStringEntryProto (onnx.proto).
_METADATA_PROPS, _KEY, _VALUE = 14, 1, 2
#: Wire types of protobuf.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What an ONNX detector says of itself.

    Attributes:
        kind: `onnx`; a file of `forensic` has a card of its own shape (:class:`mllmrisk.detectors.forensic.Card`).
        recipe: the whole TOML as a table, without `[model]`, which is the file.
        seen: first 16 hex digits of the sha256 of each training image, sorted.
        training: who trained it on what, as its family records it.
    """

    kind: str
    recipe: dict[str, Any]
    seen: list[str] = []
    training: dict[str, Any] = {}
    schema: int = SCHEMA


def write(model: bytes, recipe: Mapping[str, Any], *, seen: Iterable[str] = (), training: Mapping[str, Any]) -> bytes:
    """An ONNX model with its card in it; a card that it had is replaced.

    Args:
        model: the ONNX file.
        recipe: the TOML as a table; `model` is left out.
        seen: sha256 digits of the training images; 16 of each are kept.
        training: the training record, of what JSON can hold.

    Raises:
        ValueError: the bytes are no ONNX model, or the recipe has a value that JSON has not (infinity, NaN).
    """
    card = Card(
        kind=str(recipe.get("kind", "onnx")),
        recipe={key: value for key, value in recipe.items() if key != "model"},
        seen=sorted({digits[:16] for digits in seen}),
        training=dict(training),
    )
    text = json.dumps(msgspec.to_builtins(card), ensure_ascii=False, allow_nan=False, sort_keys=True)
    entry = _field(_KEY, METADATA.encode()) + _field(_VALUE, text.encode())
    others = [model[start:end] for start, end, key, _ in _fields(model) if key != METADATA]
    return b"".join([*others, _field(_METADATA_PROPS, entry)])


def read(model: Buffer) -> dict[str, Any] | None:
    """The card as a table; None where the file has none. Its shape is that of its kind: see :class:`Card`.

    Raises:
        UsageError: the bytes are no ONNX model, or the card is no JSON table.
    """
    found = None
    try:
        for _, _, key, value in _fields(model):
            if key == METADATA:
                found = value
        card = None if found is None else json.loads(found)
    except ValueError as wrong:
        raise UsageError(str(wrong)) from wrong
    if card is not None and not isinstance(card, dict):
        raise UsageError(f"its {METADATA!r} metadata are no table")
    return card


def table(path: Path) -> dict[str, Any]:
    """The TOML of an ONNX detector, out of its card; `model` is the file itself.

    Raises:
        UsageError: no such file, not ONNX, no card, or one of a schema that this version does not know.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as model:
            card = read(model)
            digest = hashlib.sha256(model).hexdigest()
    except OSError as wrong:
        raise UsageError(f"no detector file {path}: {wrong.strerror}") from wrong
    except ValueError as wrong:  # mmap of an empty file
        raise UsageError(f"{path}: an empty file is no detector") from wrong
    except UsageError as wrong:
        raise UsageError(f"{path}: {wrong}") from wrong
    if card is None:
        raise UsageError(
            f"{path}: an ONNX model, but not one that mllmrisk wrote (no {METADATA!r} metadata); "
            f"describe it in a .toml: docs/detectors.md"
        )
    if card.get("schema") != SCHEMA:
        raise UsageError(f"{path}: its card has schema {card.get('schema')}; this version reads {SCHEMA}")
    try:
        recipe = _FORENSIC | {"name": path.stem} if card.get("kind") == "forensic" else dict(card["recipe"])
    except (KeyError, TypeError, ValueError) as wrong:
        raise UsageError(f"{path}: its card has no recipe") from wrong
    return {**recipe, "model": {"file": path.name, "sha256": digest}}


def save(path: Path, data: bytes, recipe: Mapping[str, Any]) -> Path:
    """Writes `x.onnx` and, beside it, `x.toml`: the recipe with the file and its sha256. Each appears whole or not.

    Args:
        path: of the ONNX file.
        data: from :func:`write`.
        recipe: as given to :func:`write`.

    Returns:
        The TOML's path.
    """
    table = {key: value for key, value in recipe.items() if key != "model"}
    table["model"] = {"file": path.name, "sha256": hashlib.sha256(data).hexdigest()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)
    beside = path.with_suffix(".toml")
    write_atomically(beside, toml(table).encode())
    return beside


def toml(table: Mapping[str, Any]) -> str:
    """TOML text of a detector's table: scalars and lists, tables of these, lists of tables. None is left out.

    Raises:
        ValueError: infinity or NaN.
        TypeError: a value that TOML has not.
    """
    plain = {key: value for key, value in table.items() if value is not None}
    tables = {key: value for key, value in plain.items() if isinstance(value, Mapping)}
    lists = {key: value for key, value in plain.items() if _is_tables(value)}
    lines = [_line(key, value) for key, value in plain.items() if key not in tables and key not in lists]
    for key, value in tables.items():
        lines += ["", f"[{_key(key)}]", *(_line(k, v) for k, v in value.items() if v is not None)]
    for key, rows in lists.items():
        for row in rows:
            lines += ["", f"[[{_key(key)}]]", *(_line(k, v) for k, v in row.items() if v is not None)]
    return "\n".join(lines).lstrip("\n") + "\n"


def _is_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _line(key: str, value: Any) -> str:
    return f"{_key(key)} = {_value(value)}"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, str):  # a JSON string is a TOML one, but for the control character 127
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} has no place in a detector's TOML")
        return repr(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(_line(k, v) for k, v in value.items() if v is not None) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    raise TypeError(f"TOML has no {type(value).__name__}")


def _fields(model: Buffer) -> Iterator[tuple[int, int, str | None, bytes]]:
    """Top-level fields of a ModelProto: (start, end) of each; of a metadata entry its key and value, else None and b''.

    Raises:
        ValueError: no protobuf message, or an empty one.
    """
    at = 0
    if not model:
        raise ValueError("an empty file is no ONNX model")
    while at < len(model):
        start = at
        number, low, end = _next(model, at)
        at = end
        if number == _METADATA_PROPS:
            entry = dict(_entry(model, low, end))
            yield start, end, entry.get(_KEY, b"").decode(errors="replace"), entry.get(_VALUE, b"")
        else:
            yield start, end, None, b""


def _entry(model: Buffer, at: int, end: int) -> Iterator[tuple[int, bytes]]:
    while at < end:
        number, low, at = _next(model, at)
        yield number, model[low:at]


def _next(model: Buffer, at: int) -> tuple[int, int, int]:
    """The field at `at`: its number, where its content begins (after the length, if it has one), where it ends."""
    tag, at = _varint(model, at)
    number, wire = tag >> 3, tag & 7
    low = at
    if wire == _VARINT:
        _, end = _varint(model, at)
    elif wire == _BYTES:
        length, low = _varint(model, at)
        end = low + length
    elif wire in (_FIXED32, _FIXED64):
        end = at + (4 if wire == _FIXED32 else 8)
    else:
        raise ValueError("not an ONNX model")
    if number == 0 or end > len(model):
        raise ValueError("not an ONNX model, or a truncated one")
    return number, low, end


def _varint(data: Buffer, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("not an ONNX model, or a truncated one")


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field; its number is below 16."""
    length, size = len(content), bytearray()
    while length > 0x7F:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    size.append(length)
    return bytes([number << 3 | _BYTES]) + bytes(size) + content
