"""Whether a worker keeps the protocol: `mllmrisk doctor --worker` asks it for images and looks at what it does.

Every finding is the result of trying, on the real worker with its real model, and each that is bad says what to do.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mllmrisk import config, images
from mllmrisk.errors import MllmriskError, OutOfMemoryError, UsageError
from mllmrisk.generators import describe
from mllmrisk.generators.base import Common, Made, Request
from mllmrisk.generators.command import Command
from mllmrisk.generators.launch import Parameters
from mllmrisk.records import Outcome

PROMPT = "a red ball on a green lawn"
#: Characters that are lost where a prompt is taken for a command line, one line, ASCII or Latin-1.
UNICODE = "Eine \"rote\" Kugel; $(id) \\n\n '猫' と 🔥 \u202eabc"
_SEED = 20_260_324


class Finding(NamedTuple):
    """One thing that was tried.

    Attributes:
        state: `ok`, `info` (allowed, but good to know) or `broken`.
        cure: what to do, where there is something.
    """

    name: str
    state: Literal["ok", "info", "broken"]
    detail: str
    cure: str | None = None


def worker(command_or_toml: str) -> tuple[Common, Parameters, Path]:
    """What `--worker` names: a generator of the kind `command` (name or .toml), or a command line.

    Raises:
        UsageError: neither, or a generator of another kind.
    """
    parts = shlex.split(command_or_toml)
    if not parts:
        raise UsageError("--worker: a command, or a generator's name or .toml")
    if len(parts) == 1 and (parts[0].endswith(".toml") or parts[0] in config.names("generators")):
        found = describe(parts[0])
        if found.common.kind != "command":
            raise UsageError(f"generator {found.common.name} is of the kind {found.common.kind!r}, not 'command'")
        where = f"generator {found.common.name}"
        return found.common, config.parameters(found.parameters, Parameters, where), found.folder
    common = Common(name="worker", version="0", kind="command", paradigm="unknown", about="given as a command")
    return common, Parameters(command=parts), Path.cwd()


def examine(command_or_toml: str, *, device: str = "auto") -> Iterator[Finding]:
    """Tries a worker; the first finding that leaves nothing to try is the last."""
    common, parameters, folder = worker(command_or_toml)
    started = time.monotonic()
    try:
        generator = Command(common, parameters, folder, device=device)
    except MllmriskError as wrong:
        yield Finding("hello", "broken", str(wrong), "docs/workers.md says how a worker answers to hello")
        return
    try:
        yield from _hello(generator, time.monotonic() - started)
        for trial in (_seeds, _batch, _odd_prompts):
            try:
                yield from trial(generator)
            except OutOfMemoryError as wrong:
                yield Finding(trial.__name__[1:], "info", str(wrong), "a run halves the batch by itself")
            except MllmriskError as wrong:
                yield Finding(
                    trial.__name__[1:],
                    "broken",
                    str(wrong),
                    "its last words are above; `log` in its TOML keeps them all",
                )
                return
        yield from _words(generator)
        yield from _bye(generator, parameters.timeouts.bye)
    finally:
        generator.close()


def _hello(generator: Command, seconds: float) -> Iterator[Finding]:
    hello = generator.hello
    told = f"{hello.name or 'unnamed'}: {hello.model} {hello.revision} on {hello.device or 'unknown'} {hello.dtype}"
    yield Finding("hello", "ok", f"{' '.join(told.split())}, ready after {seconds:.1f} s")
    lacking = [name for name in ("revision", "versions", "arguments") if not getattr(hello, name)]
    if lacking:
        yield Finding(
            "identity",
            "info",
            f"its hello has no {', '.join(lacking)}: a run's record cannot say exactly what made its images",
            "add them to hello",
        )
    else:
        yield Finding("identity", "ok", f"versions of {', '.join(sorted(hello.versions))}")


def _seeds(generator: Command) -> Iterator[Finding]:
    started = time.monotonic()
    (first,) = generator.generate([Request("first", PROMPT, _SEED)])
    seconds = time.monotonic() - started
    pixels = _pixels(first)
    if pixels is None:
        yield Finding("image", "broken", f"{_told(first)} for {PROMPT!r}", _cure(first))
        return
    yield Finding("image", "ok", f"{pixels.shape[1]} x {pixels.shape[0]} in {seconds:.1f} s")
    again, other = (generator.generate([Request(f"s{seed}", PROMPT, seed)])[0] for seed in (_SEED, _SEED + 1))
    same = _pixels(again)
    if same is not None and np.array_equal(same, pixels):
        yield Finding("seed", "ok", "one seed gives one image")
    else:
        yield Finding(
            "seed",
            "info",
            f"one seed gave two images ({_difference(pixels, same)}): its samples cannot be made again exactly",
            "seed every generator that it draws from before each image, and ask for deterministic kernels",
        )
    changed = _pixels(other)
    if changed is None:
        yield Finding("other seed", "broken", _told(other), _cure(other))
    elif np.array_equal(changed, pixels):
        yield Finding(
            "other seed", "broken", "another seed gives the same image", "use the request's seed, not one of your own"
        )
    else:
        yield Finding("other seed", "ok", "another seed gives another image")


def _batch(generator: Command) -> Iterator[Finding]:
    """Several at once, in one message where the worker takes so many: each as if alone."""
    size = max(3, min(generator.batch, 4))
    asked = [Request(f"b{index}", PROMPT, _SEED + index) for index in range(size)]
    together = generator.generate(asked)
    bad = [made for made in together if _pixels(made) is None]
    if bad:
        yield Finding("batch", "broken", f"{len(bad)} of {size} images failed: {_told(bad[0])}", _cure(bad[0]))
        return
    alone = [generator.generate([request])[0] for request in asked[:2]]
    worst = max(_largest(_pixels(one), _pixels(other)) for one, other in zip(together, alone, strict=False))
    how = f"{size} images, {min(size, generator.batch)} in one message"
    if worst == 0:
        yield Finding("batch", "ok", f"{how}; each as if asked for alone")
    else:
        yield Finding("batch", "info", f"{how}; pixels differ from single images by up to {worst:g} of 255")


def _odd_prompts(generator: Command) -> Iterator[Finding]:
    for name, prompt in (("empty prompt", ""), ("unicode", UNICODE)):
        before = generator.restarts
        (made,) = generator.generate([Request(name, prompt, _SEED)])
        if made.reason in {"worker_crashed", "timeout", "garbled"} or generator.restarts > before:
            yield Finding(
                name,
                "broken",
                f"it went down: {made.reason or 'once'}",
                "an exception is one request's `failed` outcome",
            )
        elif made.outcome is Outcome.FAILED and made.reason in _LIES:
            yield Finding(name, "broken", _told(made), _cure(made))
        else:
            yield Finding(name, "ok", f"outcome {made.outcome.value}{f' ({made.reason})' if made.reason else ''}")


def _words(generator: Command) -> Iterator[Finding]:
    if generator.strays:
        yield Finding(
            "stdout",
            "info",
            f"{generator.strays} line(s) on stdout were no messages; they are kept as log",
            "print to stderr, as workers/mllmrisk_worker.py makes all libraries do",
        )
    else:
        yield Finding("stdout", "ok", "nothing but messages")


def _bye(generator: Command, limit: float) -> Iterator[Finding]:
    started = time.monotonic()
    code = generator.stop()
    if code is None:
        yield Finding(
            "bye", "broken", f"still there {limit:g} s after bye, and killed", "exit when bye comes or stdin ends"
        )
    elif code:
        yield Finding("bye", "info", f"it ended with exit code {code}")
    else:
        yield Finding("bye", "ok", f"ended after {time.monotonic() - started:.1f} s")


#: Reasons that speak of how an image was handed over, with what to do.
_LIES = {
    "no_file": "write the file before its outcome is sent",
    "outside_folder": "write to the request's `path` and give that path back",
    "wrong_size": "tell the width and height of the file that was written",
    "not_an_image": "write PNG, JPEG or WebP",
    "truncated": "close the file before its outcome is sent",
    "file_too_large": "write a smaller file",
}


def _cure(made: Made) -> str | None:
    return _LIES.get(made.reason or "")


def _told(made: Made) -> str:
    facts = "".join(f"; {name}: {text}" for name, text in (made.facts or {}).items())
    return f"outcome {made.outcome.value} ({made.reason}{facts})"


def _pixels(made: Made) -> NDArray[np.uint8] | None:
    return images.decode(made.image) if isinstance(made.image, bytes) else None


def _largest(one: NDArray[np.uint8] | None, other: NDArray[np.uint8] | None) -> float:
    if one is None or other is None or one.shape != other.shape:
        return 255.0
    return float(np.abs(one.astype(np.int16) - other.astype(np.int16)).max())


def _difference(one: NDArray[np.uint8], other: NDArray[np.uint8] | None) -> str:
    return "no second image" if other is None else f"up to {_largest(one, other):g} of 255 apart"
