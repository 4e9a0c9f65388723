"""What models have answered, kept by content: the same text, model, instruction and seed are never asked twice.

One JSONL file per expander in the user's folder of prompts, a line per answer, written as soon as it is there: a call
that was cut goes on from its last whole line.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from typing import Any

from mllmrisk.prompts import places
from mllmrisk.prompts.expansion.base import Identity


def key(text: str, identity: Identity, seed: int) -> str:
    """The sha256 of what decides an answer: caption, expander, model, instruction, seed."""
    return hashlib.sha256(json.dumps([text, *identity, seed]).encode()).hexdigest()


class Cache:
    """Answers by key; may be used from several threads."""

    def __init__(self, expander: str) -> None:
        """Reads what is there; a last line that was cut is passed over."""
        self.path = places.home() / "expansions" / f"{expander}.jsonl"
        self._lock = threading.Lock()
        self._texts: dict[str, str] = {}
        self._whole = True
        if self.path.is_file():
            data = self.path.read_bytes()
            self._whole = not data or data.endswith(b"\n")
            for line in data.splitlines():
                if (found := _read(line)) is not None:
                    self._texts[found[0]] = found[1]

    def get(self, name: str) -> str | None:
        """The answer of this key."""
        return self._texts.get(name)

    def add(self, name: str, text: str, record: dict[str, Any]) -> None:
        """Keeps an answer: on disk before anything else is done with it.

        Args:
            name: its key.
            text: the answer.
            record: what it was an answer to, for whoever reads the file.
        """
        line = json.dumps({"key": name, "text": text, **record}, ensure_ascii=True) + "\n"
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(handle, (line if self._whole else f"\n{line}").encode())
            finally:
                os.close(handle)
            self._whole = True
            self._texts[name] = text


def _read(line: bytes) -> tuple[str, str] | None:
    try:
        found = json.loads(line)
        name, text = found["key"], found["text"]
    except (ValueError, KeyError, TypeError):  # a line that was cut, or none of ours
        return None
    return (name, text) if isinstance(name, str) and isinstance(text, str) else None
