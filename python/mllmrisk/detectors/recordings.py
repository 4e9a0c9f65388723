"""Recorded answers: what a service once said of an image is kept in a JSONL file, and never paid for twice."""

from __future__ import annotations

import hashlib
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from mllmrisk.errors import UsageError


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the file.

    Attributes:
        request: digest of what was asked (:func:`digest`): the key under which it is found again.
        service, model: address and model version that were asked.
        image: sha256 of the image file, before its chain.
        chain: canonical perturbation chain.
        sent: sha256 of the bytes that went out.
        status: of HTTP.
        answer: the service's JSON, whole; None where a refusal was no JSON. It holds no key.
        at: when, ISO 8601, UTC.
    """

    request: str
    service: str
    model: str
    image: str
    chain: str
    sent: str
    status: int
    answer: Any
    at: str = ""
    schema: int = 1


def digest(*parts: Any) -> str:
    """Sha256 (hex) of a request: what is equal as JSON has an equal digest."""
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()


class Recordings:
    """The answers of one file; threads and processes may share it.

    What another process appends is seen before the next call goes out. A line that a crash cut short holds no answer
    and is passed over.
    """

    def __init__(self, path: Path) -> None:
        """Reads what is there; nothing is written before the first answer.

        Raises:
            UsageError: the file cannot be read.
        """
        self.path = path
        self._known: dict[str, Recorded] = {}
        self._read_to = 0
        self._lock = threading.Lock()
        with self._lock:
            self._read_on()

    def find(self, request: str) -> Recorded | None:
        """The answer to a request, if there is one."""
        with self._lock:
            if request not in self._known:
                self._read_on()
            return self._known.get(request)

    def ready(self) -> None:
        """Makes sure that an answer can be kept, before it is paid for.

        Raises:
            UsageError: the file cannot be written.
        """
        with self._lock:
            self._append(b"")

    def add(self, recorded: Recorded) -> None:
        """Keeps an answer; it is on the disk when this returns.

        Raises:
            UsageError: the file cannot be written: the answers that follow would be paid for in vain.
        """
        stamped = msgspec.structs.replace(recorded, at=datetime.now(UTC).isoformat(timespec="seconds"))
        with self._lock:
            self._known[recorded.request] = stamped
            self._append(msgspec.json.encode(stamped) + b"\n")

    def _append(self, line: bytes) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                # One write in append mode: lines of two processes do not mix.
                file.write(line if not line or self._ends_whole() else b"\n" + line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as wrong:
            raise UsageError(f"{self.path}: answers cannot be recorded: {wrong.strerror}") from wrong

    def __len__(self) -> int:
        return len(self._known)

    def _ends_whole(self) -> bool:
        """Whether the file is empty or its last line was written to its end."""
        with self.path.open("rb") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return True
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _read_on(self) -> None:
        """Takes in the whole lines that were appended since."""
        try:
            if self.path.stat().st_size <= self._read_to:
                return
            with self.path.open("rb") as file:
                file.seek(self._read_to)
                new = file.read()
        except FileNotFoundError:
            return
        except OSError as wrong:
            raise UsageError(f"{self.path}: recordings cannot be read: {wrong.strerror}") from wrong
        whole = new.rfind(b"\n") + 1
        self._read_to += whole
        for line in new[:whole].split(b"\n"):
            try:
                recorded = msgspec.json.decode(line, type=Recorded)
            except msgspec.MsgspecError:
                continue
            self._known[recorded.request] = recorded
