"""Generators of the kind `command`: a worker process in an environment of its own makes the images.

Research repositories pin versions that exclude each other; each gets its own interpreter, and speaks the protocol of
`docs/workers.md`. Nothing that a worker does ends the run: it may crash, hang, print, lie about its images or write
elsewhere, and each of these is one request's outcome with its reason.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from mllmrisk import images
from mllmrisk.errors import GeneratorError, ImageError, OutOfMemoryError, UsageError
from mllmrisk.generators import protocol
from mllmrisk.generators.base import Common, Made, Request
from mllmrisk.generators.launch import Parameters, launch
from mllmrisk.generators.protocol import Bye, Hello, Result, Trouble, Wanted
from mllmrisk.generators.worker import DownError, Worker, environment
from mllmrisk.inference import parse_device
from mllmrisk.records import Outcome

#: Largest file that is taken as an image, in bytes.
LARGEST_FILE = 64 << 20


class Command:
    """A generator whose images a worker makes.

    Attributes:
        name, paradigm, batch, identity: see :class:`~mllmrisk.generators.base.Generator`.
        restarts: how often the worker was started again.
    """

    accepts: ClassVar[type[msgspec.Struct]] = Parameters

    def __init__(self, common: Common, parameters: Parameters, folder: Path, *, device: str = "auto") -> None:
        """Starts the worker and waits for its model; see :class:`~mllmrisk.generators.base.GeneratorKind`.

        Raises:
            UsageError: there is no such program, or it does not say hello as the protocol wants.
        """
        self.name = common.name
        self.paradigm = common.paradigm
        self._what = f"generator {common.name}"
        parse_device(device)
        self._device = device
        self._parameters = parameters
        self._launch = launch(parameters, folder, self._what)
        self._folder = Path(tempfile.mkdtemp(prefix="mllmrisk-worker-")).resolve()  # only this user can enter it
        self._worker: Worker | None = None
        self._count = 0
        self._in_a_row = 0
        self.restarts = 0
        try:
            self._hello = self._start()
        except BaseException as wrong:
            self._end_worker()  # what is still loading would not hear a bye
            self.close()
            if isinstance(wrong, GeneratorError):
                raise UsageError(str(wrong)) from None
            raise
        self.batch = parameters.batch or max(1, self._hello.batch)
        self.identity = self._identify()

    def generate(self, requests: Sequence[Request]) -> list[Made]:
        """See :class:`~mllmrisk.generators.base.Generator`.

        A worker that goes down is started again. What it had not answered is asked for alone, so that only a request
        that brings it down twice by itself is `failed`.

        Raises:
            OutOfMemoryError: the worker says so of at least one request.
            GeneratorError: the worker cannot be started again, or says that it cannot go on; `made` has what it gave.
        """
        made: list[Made | None] = [None] * len(requests)
        groups = deque(
            [list(range(at, min(at + self.batch, len(requests)))) for at in range(0, len(requests), self.batch)]
        )
        downs: Counter[int] = Counter()
        alone: Counter[int] = Counter()
        try:
            while groups:
                group = groups.popleft()
                try:
                    self._ask(group, requests, made)
                except DownError as down:
                    left = [index for index in group if made[index] is None]
                    downs.update(left)
                    alone.update(group if len(group) == 1 else [])
                    if alone[group[0]] == 2:
                        made[group[0]] = self._lost(down)
                        left = []
                    self._down(down, made)
                    groups.extendleft([index] for index in reversed(left))
        except BaseException:
            self._end_worker()
            raise
        done = [one for one in made if one is not None]
        for index, times in downs.items():
            done[index] = _noted(done[index], {"worker_restarts": str(times)})
        if any(one.reason == "out_of_memory" for one in done):
            raise OutOfMemoryError(f"{self._what}: out of memory with {len(requests)} image(s) at once")
        return done

    def close(self) -> None:
        """Ends the worker and removes its folder."""
        worker, self._worker = self._worker, None
        try:
            if worker is not None:
                worker.stop(grace=self._parameters.timeouts.bye)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def stop(self) -> int | None:
        """Asks the worker to end; its exit code, None if it had to be killed. It starts again when it is needed."""
        worker, self._worker = self._worker, None
        return worker.stop(grace=self._parameters.timeouts.bye) if worker else 0

    @property
    def hello(self) -> Hello:
        """What the worker said of itself."""
        return self._hello

    @property
    def strays(self) -> int:
        """Lines that the running worker printed beside its messages."""
        return self._worker.strays if self._worker else 0

    def _start(self) -> Hello:
        """Starts the process and takes its hello.

        Raises:
            GeneratorError: it does not come up.
        """
        seen = environment(self._parameters.env, os.environ)
        try:
            worker = self._worker = Worker(
                self._launch.command,
                cwd=self._launch.cwd,
                environment=seen,
                log=self._launch.log,
                hide=[seen[name] for name in self._parameters.env if name in seen],
            )
        except OSError as wrong:
            raise GeneratorError(
                f"{self._what}: cannot start {self._launch.command[0]}: {wrong.strerror or wrong}"
            ) from wrong
        limit = self._parameters.timeouts.start
        order = protocol.Start(folder=str(self._folder), device=self._device, arguments=self._launch.arguments)
        try:
            worker.send(order, timeout=limit)
            answer = worker.receive(timeout=limit)
        except DownError as down:
            self._end_worker()
            raise GeneratorError(f"{self._what}: no hello: {down}{_quoted(worker)}") from None
        if isinstance(answer, Hello) and answer.protocol == protocol.VERSION:
            return answer
        self._end_worker()
        if isinstance(answer, Trouble):
            raise GeneratorError(f"{self._what}: {answer.reason}")
        if isinstance(answer, Hello):
            raise GeneratorError(
                f"{self._what}: the worker speaks protocol {answer.protocol}, this is {protocol.VERSION}"
            )
        raise GeneratorError(f"{self._what}: the worker's first message is {type(answer).__name__}, not hello")

    def _running(self, made: Sequence[Made | None]) -> Worker:
        """The worker, started again if it is down.

        Raises:
            GeneratorError: it does not come up, or is another one now: images of two models must not be mixed.
        """
        if self._worker is None:
            try:
                hello = self._start()
            except GeneratorError as wrong:
                raise GeneratorError(str(wrong), made) from None
            if hello != self._hello:
                self._end_worker()
                raise GeneratorError(f"{self._what}: after a restart the worker describes itself differently", made)
        assert self._worker is not None
        return self._worker

    def _ask(self, group: Sequence[int], requests: Sequence[Request], made: list[Made | None]) -> None:
        """Sends requests and fills in what comes of them.

        Raises:
            DownError: the worker is of no more use; what is not filled in was not answered.
            GeneratorError: it says that it cannot go on.
        """
        worker = self._running(made)
        asked: dict[str, int] = {}
        wanted: list[Wanted] = []
        for index in group:
            try:
                requests[index].prompt.encode()
            except UnicodeEncodeError:
                made[index] = Made(Outcome.FAILED, reason="not_unicode")
                continue
            self._count += 1
            name = str(self._count)
            asked[name] = index
            path = str(self._folder / f"{name}.png")
            wanted.append(Wanted(id=name, prompt=requests[index].prompt, seed=requests[index].seed, path=path))
        if not wanted:
            return
        limit = self._parameters.timeouts.image
        worker.send(protocol.Generate(requests=wanted), timeout=limit)
        while asked:
            answer = worker.receive(timeout=limit * len(asked))
            if isinstance(answer, Trouble):
                raise GeneratorError(f"{self._what}: {answer.reason}", made)
            if isinstance(answer, Bye):
                raise DownError("the worker took its leave in the middle of a batch", "worker_crashed")
            if isinstance(answer, Result) and answer.id in asked:
                made[asked.pop(answer.id)] = self._taken(answer)
                self._in_a_row = 0

    def _taken(self, result: Result) -> Made:
        """An outcome as the worker tells it, once its image is found to be as told."""
        facts = dict(result.facts) or None
        if result.outcome != "ok":
            return Made(
                Outcome(result.outcome), reason=" ".join((result.reason or "unstated").split())[:80], facts=facts
            )
        found = self._read(result.path or "")
        if isinstance(found, str):
            return Made(Outcome.FAILED, reason=found, facts=facts)
        try:
            height, width, _ = images.decode(found).shape
        except ImageError as wrong:
            return Made(Outcome.FAILED, reason=wrong.code, facts=facts)
        if (result.width, result.height) != (width, height):
            told = {"told_size": f"{result.width}x{result.height}", "found_size": f"{width}x{height}"}
            return Made(Outcome.FAILED, reason="wrong_size", facts={**result.facts, **told})
        return Made(Outcome.OK, found, facts=facts)

    def _read(self, told: str) -> bytes | str:
        """The bytes of a file in the private folder, or the reason why there are none.

        The file is opened without following a link and without waiting for a pipe, and what is then open is looked at:
        nothing can be put in its place between a check and its use.
        """
        path = self._folder / told
        if path.parent != self._folder or path.name in ("", ".", ".."):
            return "outside_folder"
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError):
            return "outside_folder" if path.is_symlink() else "no_file"
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            return "no_file"
        with os.fdopen(handle, "rb") as file:
            found = file.read(LARGEST_FILE + 1)
        path.unlink(missing_ok=True)
        return "file_too_large" if len(found) > LARGEST_FILE else found

    def _lost(self, down: DownError) -> Made:
        """The outcome of a request that brought the worker down twice."""
        facts = {"worker": str(down)}
        if self._worker and (tail := self._worker.tail()):
            facts["stderr"] = tail[-2000:]
        return Made(Outcome.FAILED, reason=down.code, facts=facts)

    def _down(self, down: DownError, made: Sequence[Made | None]) -> None:
        """Ends what is left of a worker; it is started again when it is needed, unless that has led nowhere.

        Raises:
            GeneratorError: it went down too often in a row.
        """
        quoted = _quoted(self._worker)
        self._end_worker()
        self.restarts += 1
        self._in_a_row += 1
        if self._in_a_row > self._parameters.restarts:
            raise GeneratorError(
                f"{self._what}: the worker went down {self._in_a_row} times in a row: {down}{quoted}", made
            )

    def _end_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.kill()
        for left in self._folder.glob("*"):
            if left.is_symlink() or not left.is_dir():
                left.unlink(missing_ok=True)

    def _identify(self) -> dict[str, Any]:
        hello = self._hello
        return {
            "kind": "command",
            "worker": hello.name,
            "scripts": self._launch.scripts,
            "model": hello.model,
            "revision": hello.revision,
            "device": hello.device,
            "dtype": hello.dtype,
            "versions": hello.versions,
            "arguments": {"passed": self._parameters.arguments, "effective": hello.arguments},
            "protocol": protocol.VERSION,
        }


def _quoted(worker: Worker | None) -> str:
    tail = worker.tail() if worker else ""
    return f"; its last words:\n{tail}" if tail else ""


def _noted(made: Made, facts: dict[str, str]) -> Made:
    return made._replace(facts={**(made.facts or {}), **facts})
