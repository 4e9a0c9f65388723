"""A worker process: started in a process group of its own, spoken with in lines, and ended whatever it does.

POSIX only: process groups are what makes sure that nothing of a worker is left on a GPU.
"""

from __future__ import annotations

import os
import queue
import select
import signal
import subprocess
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from mllmrisk.generators import protocol
from mllmrisk.generators.protocol import LONGEST_LINE, GarbledError, Log, Message, Order, Stray

#: What a worker's environment has without being named: enough to find programs, libraries, caches and GPUs.
_NAMES = (
    "PATH HOME USER LOGNAME SHELL LANG TZ TMPDIR LD_LIBRARY_PATH DYLD_LIBRARY_PATH XDG_CACHE_HOME "
    "HF_HOME HF_HUB_CACHE HF_HUB_OFFLINE TRANSFORMERS_OFFLINE TORCH_HOME OMP_NUM_THREADS MKL_NUM_THREADS"
)
INHERITED = frozenset(_NAMES.split())
INHERITED_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "NCCL_", "ROCR_", "HIP_")

_KEPT_LINES = 200
_KEPT_CHARACTERS = 2_000
#: Messages that wait to be read; a worker that sends more than this has run wild.
_MOST_MESSAGES = 10_000
#: How often a silent worker is looked at: it may have died while a child of its own holds the pipe open.
_LOOK = 0.2


class DownError(Exception):
    """The worker is of no more use; `code` says why in one word: `worker_crashed`, `timeout`, `garbled`."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


def environment(names: Sequence[str], source: Mapping[str, str]) -> dict[str, str]:
    """What a worker sees of the environment: what every program needs, and the variables that are named.

    Keys of other services do not reach third-party code by being exported in the same shell.
    """
    kept = {
        name: value
        for name, value in source.items()
        if name in INHERITED or name.startswith(INHERITED_PREFIXES) or name in names
    }
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}


class Worker:
    """One process and its two streams.

    Attributes:
        strays: lines on stdout that were no messages.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        environment: Mapping[str, str],
        log: Path | None,
        hide: Sequence[str],
    ) -> None:
        """Starts it.

        Args:
            command: program and arguments; no shell reads them.
            cwd: its working folder.
            environment: all of its environment.
            log: file that everything it says is appended to.
            hide: strings that are blotted out in what is kept of its words.

        Raises:
            OSError: there is no such program or folder.
        """
        self._hide = [secret for secret in hide if len(secret) >= 6]
        self._said: deque[str] = deque(maxlen=_KEPT_LINES)
        self._log: IO[str] | None = log.open("a", encoding="utf-8") if log else None
        self._lock = threading.Lock()
        self._messages: queue.Queue[Message | Exception] = queue.Queue()
        self.strays = 0
        try:
            self._process = subprocess.Popen(
                list(command),
                cwd=cwd,
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except BaseException:
            if self._log:
                self._log.close()
            raise
        self._ended = False
        self._at_exit = weakref.finalize(self, _kill_group, self._process)
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None
        self._stdin = stdin
        os.set_blocking(stdin.fileno(), False)
        self._readers = [
            threading.Thread(target=self._read_messages, args=(stdout,), daemon=True),
            threading.Thread(target=self._read_words, args=(stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def send(self, order: Order, *, timeout: float) -> None:
        """Writes a message.

        Raises:
            DownError: the worker is gone, or does not read.
            UnicodeEncodeError: a prompt is no Unicode text.
        """
        rest = memoryview(protocol.encode(order))
        until = time.monotonic() + timeout
        while rest:
            _, ready, _ = select.select([], [self._stdin], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise DownError(f"the worker read nothing for {timeout:g} s", "timeout")
            try:
                rest = rest[os.write(self._stdin.fileno(), rest) :]
            except BlockingIOError:
                continue
            except OSError:
                raise self._crashed() from None

    def receive(self, *, timeout: float) -> Message:
        """The next message.

        Raises:
            DownError: none came in time, the worker ended, or what it sent does not fit the protocol.
        """
        until = time.monotonic() + timeout
        while True:
            left = until - time.monotonic()
            try:
                found = self._messages.get(timeout=max(0.0, min(left, _LOOK)))
            except queue.Empty:
                if self._process.poll() is not None and self._messages.empty():
                    raise self._crashed() from None
                if left <= 0:
                    raise DownError(f"no answer within {timeout:.3g} s", "timeout") from None
                continue
            if isinstance(found, GarbledError):
                raise DownError(f"a message does not fit the protocol: {found}", "garbled")
            if isinstance(found, Exception):
                raise self._crashed()
            return found

    def tail(self, lines: int = 12) -> str:
        """The last of what it wrote to stderr, and to stdout beside messages."""
        with self._lock:
            return "\n".join(list(self._said)[-lines:])

    def stop(self, *, grace: float) -> int | None:
        """Asks it to end, and ends it if it does not within `grace` seconds.

        Returns:
            Its exit code, None if it had to be killed.
        """
        code: int | None = None
        if not self._ended:
            try:
                self.send(protocol.End(), timeout=grace)
                self._stdin.close()
                code = self._process.wait(grace)
            except (DownError, OSError, subprocess.TimeoutExpired):
                code = None
        self.kill()
        return code

    def kill(self) -> None:
        """Ends it and all that it started, now. Calling it twice is harmless."""
        if self._ended:
            return
        self._ended = True
        self._at_exit.detach()
        _kill_group(self._process)
        self._stdin.close()
        for reader, stream in zip(self._readers, (self._process.stdout, self._process.stderr), strict=True):
            reader.join(1.0)
            if not reader.is_alive() and stream is not None:  # else a daemon that left the group holds it open
                stream.close()
        with self._lock:
            if self._log:
                self._log.close()
                self._log = None

    def _crashed(self) -> DownError:
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return DownError("the worker closed its stdout", "worker_crashed")
        for reader in self._readers:
            reader.join(0.5)  # its last words may still be in the pipe
        return DownError(f"the worker ended {ending(code)}", "worker_crashed")

    def _read_messages(self, stream: IO[bytes]) -> None:
        for line in _lines(stream):
            try:
                found = protocol.decode(line)
            except GarbledError as wrong:
                self._keep(f"stdout: {wrong}")
                self._messages.put(wrong)
                continue
            if isinstance(found, Stray):
                if found.text.strip():
                    self.strays += 1
                    self._keep(f"stdout: {found.text}")
            elif isinstance(found, Log):
                self._keep(f"{found.level}: {found.text}")
            else:
                self._messages.put(found)
            if self._messages.qsize() > _MOST_MESSAGES:
                self._messages.put(GarbledError(f"more than {_MOST_MESSAGES} messages that nobody asked for"))
                return
        self._messages.put(EOFError())

    def _read_words(self, stream: IO[bytes]) -> None:
        for line in _lines(stream):
            self._keep(line.decode(errors="replace").rstrip("\r\n"))

    def _keep(self, text: str) -> None:
        for secret in self._hide:
            text = text.replace(secret, "***")
        with self._lock:
            self._said.append(text[:_KEPT_CHARACTERS])
            if self._log:
                try:
                    self._log.write(text + "\n")
                    self._log.flush()
                except OSError:  # a full disk must not stop the reader, and with it the worker
                    self._log = None


def ending(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Lines of a stream, until it ends; one longer than `LONGEST_LINE` comes cut, and its rest is dropped."""
    held = b""
    dropping = False
    while True:
        try:
            part = os.read(stream.fileno(), 1 << 16)
        except (OSError, ValueError):
            return
        if not part:
            break
        *whole, held = (held + part).split(b"\n")
        for line in whole:
            if not dropping:
                yield line
            dropping = False
        if len(held) > LONGEST_LINE:
            if not dropping:
                yield held[:LONGEST_LINE]
            held, dropping = b"", True
    if held and not dropping:
        yield held


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kills the group before its leader is reaped, so that the number cannot belong to others yet."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.wait()
