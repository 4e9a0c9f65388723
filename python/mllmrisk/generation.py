"""The stage that makes images: orders → samples → batches of a generator → stored images with their outcomes.

A chunk of samples is asked for and stored as one, and chunks are cut over all samples of a generator, so that a run
that was killed makes the same batches again: what a batch's company may change in the last bit is not changed.
While a chunk is made, a thread encodes and stores the one before it: a killed run loses the chunk under way.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

import msgspec

from mllmrisk import batch_search, executors, generators, images, perturb, trace
from mllmrisk.errors import GeneratorError, ImageError, OutOfMemoryError
from mllmrisk.executors.base import Executor, Place, Pool
from mllmrisk.generators.base import Generator, Made, Request
from mllmrisk.overlap import Behind
from mllmrisk.records import Outcome, Prompt, Sample
from mllmrisk.store import Store

Progress = Callable[[str, int, int], None]

#: File name extension by what the bytes are.
EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WebP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif"}
#: Samples per chunk, rounded up to whole batches: what a killed run may have to make again. So many failures in a row
#: at the start are the generator's, not the prompts'.
_CHUNK = 8


class Wanted(NamedTuple):
    """A sample that is to be made, with its place in reports."""

    position: int
    sample: Sample
    prompt: Prompt


def wanted(
    described: generators.Described, orders: Iterable[tuple[Prompt, int]], seed: int, first: int
) -> list[Wanted]:
    """The samples of one generator.

    Args:
        described: the generator.
        orders: each prompt and how many images of it.
        seed: of the run; two generators get the same seed for the same prompt and index.
        first: position of the first sample.
    """
    found: list[Wanted] = []
    for prompt, count in orders:
        for index in range(count):
            sample = Sample(
                id=_digest(described.common.name, prompt.id, index)[:16],
                label="fake",
                paradigm=described.common.paradigm,
                generator=described.common.name,
                prompt_id=prompt.id,
                prompt=prompt.text,
                prompt_set=prompt.prompt_set,
                level=prompt.level,
                language=prompt.language,
                index=index,
                seed=int(_digest(seed, prompt.id, index)[:8], 16),
            )
            found.append(Wanted(first + len(found), sample, prompt))
    return found


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def generate(
    store: Store,
    makers: Sequence[generators.Described],
    orders: Sequence[tuple[Prompt, int]],
    *,
    first: int,
    seed: int,
    device: str,
    progress: Progress,
    executor: Executor | None = None,
) -> None:
    """Makes every sample that is not stored yet, generator by generator; `first` is the position of the first one.

    A generator that cannot go on leaves its samples unmade and one failure; the others go on, and the next call of
    the same run tries it again. Chunks are made where `executor` says, on `device` in this process unless it is
    given; a service is asked from here in any case, since its pace and its budget are one process's.

    Raises:
        UsageError, MissingExtraError: a generator cannot be loaded as described.
    """
    store.add_prompts({prompt.id: prompt for prompt, _ in orders}.values())
    known = {sample.id for sample in store.samples()}
    for described in makers:
        plan = wanted(described, orders, seed, first)
        first += len(plan)
        if all(w.sample.id in known for w in plan):
            continue
        unit = f"generator {described.common.name}"
        store.clear_failures([unit])
        where = executor
        if where is None or generators.stays_here(described):
            where = executors.local(device)
        if where.remote:
            described = described._replace(folder=described.folder.resolve())
        try:
            with where.pool(functools.partial(_loaded, described, encoded=where.remote), what=unit) as pool:
                batch, found = _batch(store, pool, plan)
                store.set_meta(unit, json.dumps({**json.loads(pool.facts.identity), **found}))
                _make(store, pool, plan, known, progress, batch)
        except GeneratorError as broken:
            store.add_failures({unit: str(broken)})


def _batch(store: Store, pool: _Pool, plan: Sequence[Wanted]) -> tuple[int, dict[str, Any]]:
    """The batch of a generator, and how it was found where it had to be: once in a run, then kept with it."""
    facts: _Facts = pool.facts
    if facts.batch > 0:
        return facts.batch, {}
    name = f"batch {facts.name}"
    kept = store.meta(name)
    if kept is None:
        with trace.Stage(f"search {facts.name}"), trace.span("search"):
            (searched,) = pool.map([_Trial(list(plan[: batch_search.MOST]))], _no_worker)
        kept = json.dumps({"batch": searched.batch, "images_per_second": searched.trials})
        store.set_meta(name, kept)
    found = json.loads(kept)
    return found["batch"], {"batch_search": found}


def _no_worker(_: object, reason: str) -> NoReturn:
    raise GeneratorError(f"no worker lived through the search for its batch: {reason}")


class _Facts(NamedTuple):
    """What is known of a generator once it is loaded: `batch` is 0 where it is to be found, `identity` is JSON."""

    name: str
    batch: int
    identity: str


class _Chunk(NamedTuple):
    """Samples that are made and stored as one, in batches of that size."""

    wanted: list[Wanted]
    batch: int


class _Trial(NamedTuple):
    """Samples to find a generator's batch with; what is made of them is thrown away."""

    wanted: list[Wanted]


class _Maker:
    """The stage that an executor runs: a loaded generator, and the batch that fits into its device's memory."""

    def __init__(self, generator: Generator, *, encoded: bool) -> None:
        self._generator = generator
        self._fits: int | None = None
        self._encoded = encoded
        identity = json.dumps(self._generator.identity, default=str)
        self.facts = _Facts(self._generator.name, max(0, self._generator.batch), identity)

    def __call__(self, block: _Chunk | _Trial) -> Any:
        """A chunk's answers; where they leave this process, each with the bytes that are to be stored."""
        if isinstance(block, _Trial):
            return batch_search.search(self._generator, [request(w) for w in block.wanted])
        batch = min(block.batch, self._fits or block.batch)
        try:
            rows, self._fits = _chunk(self._generator, block.wanted, batch)
        except GeneratorError as stopped:
            stopped.made = [None if made is None else self._shipped(made) for made in stopped.made]
            raise
        return [self._shipped(made) for made in rows]

    def _shipped(self, made: Made) -> Made:
        return made._replace(image=_bytes(made)) if self._encoded else made

    def close(self) -> None:
        self._generator.close()


def _loaded(described: generators.Described, place: Place, *, encoded: bool) -> _Maker:
    return _Maker(generators.load(described, device=place.device), encoded=encoded)


#: A chunk gives a list of :class:`~mllmrisk.generators.base.Made`, a trial a :class:`~mllmrisk.batch_search.Found`.
_Pool = Pool[_Chunk | _Trial, Any]


def _make(store: Store, pool: _Pool, plan: Sequence[Wanted], known: set[str], progress: Progress, batch: int) -> None:
    name = pool.facts.name
    made, stage = 0, f"generate {name}"
    waiting = sum(w.sample.id not in known for w in plan)
    # A part of a chunk is there only where a generator stopped in it.
    left = ([w for w in whole if w.sample.id not in known] for whole in _chunks(plan, batch))
    chunks = [_Chunk(chunk, batch) for chunk in left if chunk]

    def lost(chunk: _Chunk | _Trial, reason: str) -> list[Made]:
        store.add_failures({f"generator {name}, images that no worker survived": reason})
        return [Made(Outcome.FAILED, reason=reason)] * len(chunk.wanted)

    # One thread stores in order, through a connection of its own: a chunk is safe before the next but one is made.
    with trace.Stage(stage) as spent, contextlib.closing(store.twin()) as beside, Behind() as behind:
        answers = pool.map(chunks, lost)
        for chunk in chunks:
            try:
                rows = next(answers)
            except GeneratorError as stopped:
                behind.do(functools.partial(_store, beside, chunk.wanted, stopped.made))  # it is paid for
                raise
            if not made:
                _check_first(rows)
            behind.do(functools.partial(_store, beside, chunk.wanted, rows))
            made += len(chunk.wanted)
            progress(stage, made, waiting)
    store.add_cost(stage, made, spent.seconds, spent.model_seconds)


def _store(store: Store, chunk: Sequence[Wanted], answers: Sequence[Made | None]) -> None:
    """Stores what came of a chunk, in one transaction; what has no answer stays unmade."""
    found = zip(chunk, answers, strict=False)
    with trace.span("store"):
        store.add_samples([(w.position, _stored(store, w.sample, answer)) for w, answer in found if answer is not None])


def _chunks(plan: Sequence[Wanted], batch: int) -> Iterator[Sequence[Wanted]]:
    size = batch * -(-_CHUNK // batch)
    for start in range(0, len(plan), size):
        yield plan[start : start + size]


def _chunk(generator: Generator, chunk: Sequence[Wanted], batch: int) -> tuple[list[Made], int]:
    """The answers for one chunk, and the batch that fitted into memory."""
    answers: list[Made] = []
    while len(answers) < len(chunk):
        part = chunk[len(answers) : len(answers) + batch]
        requests = [request(w) for w in part]
        try:
            with trace.span("model"):
                found = generator.generate(requests)
        except OutOfMemoryError as full:
            if batch > 1:
                batch //= 2
                continue
            found = [Made(Outcome.FAILED, reason="out_of_memory", facts={"error": str(full)})]
        except GeneratorError as stopped:
            stopped.made = [*answers, *stopped.made]
            raise
        if len(found) != len(part):
            raise GeneratorError(f"{generator.name} gave {len(found)} answers to {len(part)} requests", answers)
        answers += found
    return answers, batch


def request(wanted: Wanted) -> Request:
    """What a generator is asked for a sample."""
    return Request(wanted.sample.id, wanted.sample.prompt or "", wanted.sample.seed or 0)


def _check_first(rows: Sequence[Made]) -> None:
    """Stops where nothing at all can be made: a wrong argument would otherwise fail a thousand times."""
    if len(rows) >= _CHUNK and all(row.outcome is Outcome.FAILED for row in rows):
        first = rows[0]
        error = (first.facts or {}).get("error", "")
        raise GeneratorError(f"each of the first {len(rows)} requests failed: {first.reason} {error}".strip())


def _stored(store: Store, sample: Sample, made: Made) -> Sample:
    """The sample with its outcome, its image in the store."""
    facts = {str(key): str(value) for key, value in (made.facts or {}).items()}
    ended = msgspec.structs.replace(sample, outcome=made.outcome, reason=made.reason, extra=facts)
    if made.image is None:
        if made.outcome is Outcome.OK:
            return msgspec.structs.replace(ended, outcome=Outcome.FAILED, reason="no_image")
        return ended
    data = _bytes(made) or b""
    try:
        extension = EXTENSIONS[images.probe(data).format]
    except ImageError as wrong:
        kept = store.add_image(data, "bin")  # what a provider sent is evidence
        return msgspec.structs.replace(ended, outcome=Outcome.FAILED, reason=wrong.code, extra={**facts, "bytes": kept})
    return msgspec.structs.replace(ended, image=store.add_image(data, extension))


def _bytes(made: Made) -> bytes | None:
    """What is stored of an image: a provider's own bytes, or pixels, lossless."""
    if made.image is None or isinstance(made.image, bytes):
        return made.image
    return perturb.encode(made.image, "png")
