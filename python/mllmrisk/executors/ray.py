"""The executor `ray`: the blocks of a stage spread over the workers of a cluster.

The driver keeps every block until its result is there. A worker that dies, or whose node does, costs the blocks that it
held: they go to others, and another worker takes its place where there is room. Which of them brought it down is not
known, since an answer may go down with its process: each is tried again alone, and one under which three workers died
while they had it alone is given up with a reason. So one picture that brings a model down does not end a run.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, NamedTuple

from mllmrisk.errors import MllmriskError, UsageError
from mllmrisk.executors.base import B, Build, Place, Pool, R
from mllmrisk.executors.worker import Said, StageWorker
from mllmrisk.inference import parse_device

#: Why a block has no result.
LOST = "worker_died"
#: Workers that may die under a block, or while they load, one after the other.
_TRIES = 3
#: Blocks that a worker holds: the one it works on, and the next, so that it does not wait for it.
_HELD = 2
#: Blocks between the one whose turn it is and the last one that was taken, per worker.
_AHEAD = 4
#: Seconds in which some machine must have room for a worker, where none runs; a cluster that grows takes minutes.
_ROOM = 300.0
#: Seconds that a worker has to free its stage.
_GRACE = 30.0
#: Seconds between two looks at the clock while nothing comes.
_LOOK = 5.0


class Share(NamedTuple):
    """What each worker asks the cluster for, and how many workers it has room for."""

    cpus: int
    gpus: float
    workers: int


class Ray:
    """A cluster that this process has joined."""

    remote = True

    def __init__(self, ray: Any, *, device: str, threads: int | None, gpus: float) -> None:
        """Divides the cluster among workers; see :func:`mllmrisk.executors.opened`.

        Args:
            ray: the module, joined to a cluster.
            device: `auto` takes GPUs where the cluster has any.
            threads: CPUs of a worker; None for all CPUs of the smallest machine, or a GPU's part of all CPUs.
            gpus: of a worker.

        Raises:
            UsageError: the device names an index, or the cluster has none of its kind.
        """
        kind, index = parse_device(device)
        if index:
            raise UsageError(f"--device {device}: with --executor ray the cluster chooses the GPU; leave out the index")
        if gpus <= 0 or (gpus > 1 and gpus != int(gpus)):
            raise UsageError(f"GPUs of a worker: a part of one, or a whole number, not {gpus:g}")
        self._ray = ray
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.share = divided(nodes, gpus=0.0 if kind == "cpu" else gpus, threads=threads)
        if kind not in ("auto", "cpu") and not self.share.gpus:
            raise UsageError(f"--device {device}: no machine of the Ray cluster has a GPU")
        self._machines = len(nodes)
        # A GPU worker sees the GPU that the cluster gave it as its first.
        self._place = Place(device.split(":")[0] if self.share.gpus else "cpu", self.share.cpus)

    @property
    def about(self) -> dict[str, Any]:
        """Machines, and each worker's share."""
        return {"kind": "ray", "machines": self._machines, **self.share._asdict()}

    @contextlib.contextmanager
    def pool(self, build: Build[B, R], *, what: str) -> Iterator[Pool[B, R]]:
        """Starts one worker, and more as there are blocks for them; see :class:`~mllmrisk.executors.base.Executor`."""
        pool: Workers[B, R] = Workers(self._ray, build, self._place, self.share, what)
        try:
            pool.first()
            yield pool
            pool.dismiss()
        finally:
            pool.kill()


def divided(nodes: list[dict[str, float]], *, gpus: float, threads: int | None) -> Share:
    """Each worker's share of a cluster.

    Args:
        nodes: what each machine has, as Ray tells it (`CPU`, `GPU`).
        gpus: of a worker, where any machine has one; 0 for workers without.
        threads: CPUs of a worker, or None.
    """
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    there = [node.get("GPU", 0.0) for node in nodes]
    if gpus and any(there):
        workers = int(sum(whole // gpus for whole in there)) or 1
        own = threads or max(1, min(int(c * gpus / g) for c, g in zip(cpus, there, strict=True) if g))
        return Share(own, gpus, workers)
    own = threads or max(1, min((c for c in cpus if c), default=1))
    return Share(own, 0.0, sum(c // own for c in cpus) or 1)


class _Held(Generic[B]):
    """A block on its way.

    Attributes:
        position: its place in the order.
        suspect: whether a worker died that held it.
        deaths: workers that died and held nothing else.
        wanted: whether anyone waits for its result.
    """

    def __init__(self, position: int, block: B) -> None:
        self.position, self.block = position, block
        self.suspect, self.deaths, self.wanted = False, 0, True


class _Hand(Generic[B]):
    """A worker as the driver sees it."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.placed = actor.where.remote()
        self.started = actor.start.remote()
        self.where = "a worker that has no machine yet"
        self.ready = False
        self.held: deque[tuple[_Held[B], Any]] = deque()

    @property
    def next(self) -> Any:
        """The answer that comes first."""
        if not self.ready:
            return self.started if self.placed is None else self.placed
        return self.held[0][1] if self.held else None

    def takes(self, block: _Held[B]) -> bool:
        """Whether a block may join what it holds: a suspect is alone."""
        return not self.held or not (block.suspect or any(held.suspect for held, _ in self.held))


class Workers(Generic[B, R]):
    """The workers of one stage.

    Attributes:
        facts: of the first; the others must have the same.
    """

    def __init__(self, ray: Any, build: Build[B, R], place: Place, share: Share, what: str) -> None:
        """Starts nothing yet."""
        self._ray, self._build, self._place, self._share, self._what = ray, build, place, share, what
        self._hands: list[_Hand[B]] = []
        self._facts: tuple[str, Any] | None = None
        self._broken_starts = 0
        self._since = time.monotonic()  # when there last was a worker that has a machine
        self._gone = (
            ray.exceptions.RayActorError, ray.exceptions.ObjectLostError, ray.exceptions.WorkerCrashedError,
            ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError,
        )  # fmt: skip

    @property
    def facts(self) -> Any:
        """See :class:`~mllmrisk.executors.base.Work`."""
        assert self._facts is not None
        return self._facts[1]

    def first(self) -> None:
        """Returns when one worker is ready.

        Raises:
            MllmriskError: it could not be built, or there is no room for it.
        """
        while self._facts is None:
            if not self._hands:
                self._hire()
            self._attend(deque())

    def map(self, blocks: Iterable[B], lost: Callable[[B, str], R]) -> Iterator[R]:
        """See :class:`~mllmrisk.executors.base.Pool`."""
        source = iter(blocks)
        waiting: deque[_Held[B]] = deque()
        done: dict[int, Said] = {}
        taken = turn = 0
        more = True
        for hand in self._hands:  # what an earlier call left under way, where its results were not asked for to the end
            for held, _ in hand.held:
                held.wanted = False
        while True:
            while more and taken - turn < _AHEAD * self._share.workers:
                try:
                    waiting.append(_Held(taken, next(source)))
                except StopIteration:
                    more = False
                else:
                    taken += 1
            if turn in done:
                said = done.pop(turn)
                turn += 1
                if said.error is not None:
                    raise said.error
                yield said.value
                continue
            if turn == taken:
                return
            self._deal(waiting)
            answers = self._attend(waiting)
            for held, answer in ((held, answer) for held, answer in answers if held.wanted):
                done[held.position] = Said(lost(held.block, LOST)) if answer is None else answer

    def dismiss(self) -> None:
        """Lets the workers free their stages."""
        closing = [hand.actor.close.remote() for hand in self._hands if hand.ready]
        if closing:
            self._ray.wait(closing, num_returns=len(closing), timeout=_GRACE)

    def kill(self) -> None:
        """Ends the workers, whatever they do."""
        hands, self._hands = self._hands, []
        for hand in hands:
            self._ray.kill(hand.actor)

    # -- one round: blocks out, one answer in --------------------------------------------------------------------

    def _hire(self) -> None:
        environment = {"OMP_NUM_THREADS": str(self._place.threads)}
        options: dict[str, Any] = {"num_cpus": self._share.cpus, "max_restarts": 0, "max_task_retries": 0}
        if self._share.gpus:
            options["num_gpus"] = self._share.gpus
        actor = self._ray.remote(StageWorker).options(**options, runtime_env={"env_vars": environment})
        self._hands.append(_Hand(actor.remote(self._build, self._place)))

    def _deal(self, waiting: deque[_Held[B]]) -> None:
        """Gives out blocks, first to those who hold least, and hires where there are more blocks than hands."""
        for room in range(_HELD):
            for hand in self._hands:
                if waiting and hand.ready and len(hand.held) <= room and hand.takes(waiting[0]):
                    held = waiting.popleft()
                    hand.held.append((held, hand.actor.work.remote(held.block)))
        coming = sum(not hand.ready for hand in self._hands)
        queued = sum(max(0, len(hand.held) - 1) for hand in self._hands)
        while len(self._hands) < self._share.workers and coming < len(waiting) + queued:
            self._hire()
            coming += 1

    def _attend(self, waiting: deque[_Held[B]]) -> list[tuple[_Held[B], Said | None]]:
        """Waits for the next answer, or a few seconds; None for a block that is lost."""
        by_answer = {hand.next: hand for hand in self._hands if hand.next is not None}
        ready, _ = self._ray.wait(list(by_answer), num_returns=1, timeout=_LOOK)
        if any(hand.placed is None for hand in self._hands):
            self._since = time.monotonic()
        elif not ready and time.monotonic() - self._since > _ROOM:
            raise UsageError(self._no_room())
        found: list[tuple[_Held[B], Said | None]] = []
        for answer in ready:
            hand = by_answer[answer]
            try:
                value = self._ray.get(answer)
            except self._gone as death:
                found += self._bury(hand, waiting, death)
                continue
            except self._ray.exceptions.RayTaskError as wrong:  # a mistake in the stage itself, as it was raised
                raise wrong.as_instanceof_cause() from wrong
            except self._ray.exceptions.RayError as wrong:
                raise MllmriskError(f"{self._what}: Ray cannot go on: {_line(wrong)}") from wrong
            if hand.ready:
                found.append((hand.held.popleft()[0], value))
            elif hand.placed is not None:
                hand.placed, hand.where = None, value
            else:
                self._welcome(hand, value)
        return found

    def _welcome(self, hand: _Hand[B], said: Said) -> None:
        if said.error is not None:
            if self._facts is not None:  # elsewhere it could be built
                said.error.args = (f"{said.error} (on {hand.where})", *said.error.args[1:])
            raise said.error
        self._facts = self._facts or said.value
        if said.value != self._facts:
            raise UsageError(f"{self._what}: workers differ, so images or scores would: {self._difference(hand, said)}")
        hand.ready = True
        self._broken_starts = 0

    def _difference(self, hand: _Hand[B], said: Said) -> str:
        assert self._facts is not None
        theirs, ours = ((f"mllmrisk {version}", repr(facts)) for version, facts in (said.value, self._facts))
        first, second = next(pair for pair in zip(theirs, ours, strict=True) if pair[0] != pair[1])
        return f"{first} on {hand.where}, {second} elsewhere"

    def _bury(
        self, hand: _Hand[B], waiting: deque[_Held[B]], death: BaseException
    ) -> list[tuple[_Held[B], Said | None]]:
        """Takes back what a dead worker held."""
        self._hands.remove(hand)
        with contextlib.suppress(Exception):  # one that only cannot be reached shall not go on
            self._ray.kill(hand.actor)
        if not hand.ready:
            self._broken_starts += 1
            if self._broken_starts == _TRIES:
                raise MllmriskError(f"{self._what}: {_TRIES} workers died while they loaded it: {_line(death)}")
        back = [held for held, _ in hand.held]
        for held in back:
            held.suspect = True
            held.deaths += len(back) == 1
        back = [held for held in back if held.wanted]
        given_up = [held for held in back if held.deaths == _TRIES]
        waiting.extendleft(held for held in reversed(back) if held.deaths < _TRIES)
        return [(held, None) for held in given_up]

    def _no_room(self) -> str:
        asked = f"{self._share.cpus} CPU(s)" + (f" and {self._share.gpus:g} GPU(s)" if self._share.gpus else "")
        there = self._ray.cluster_resources()
        has = f"{there.get('CPU', 0):g} CPU(s) and {there.get('GPU', 0):g} GPU(s)"
        return f"{self._what}: for {_ROOM:g} s no machine had {asked} free for a worker; the Ray cluster has {has}"


def _line(death: BaseException) -> str:
    """Ray's account of a death in one line: the error that it ends with, where it quotes one."""
    lines = [line.strip() for line in str(death).splitlines() if line.strip()] or [type(death).__name__]
    return next((line for line in reversed(lines) if "Error: " in line), lines[0])[:200]
