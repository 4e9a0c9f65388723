"""Two threads against one: inside a call, and two callers with half of the calls each. Wall time, checked equal."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mllmrisk import features, images, metrics, perturb
from mllmrisk.preprocessing import Preprocessing

sys.path.insert(0, str(Path(__file__).parent))

import comparison
from comparison import Row
from end_to_end_decode import photograph

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROUNDS = 9
#: JPEG files of 512x512 per call.
FILES = 96
#: Of two threads.
GOAL = 1.9


def files() -> list[bytes]:
    """Different ones, of about the same cost."""
    return [perturb.encode(np.roll(photograph(512), 5 * i, axis=i % 2).copy(), "jpeg:90") for i in range(FILES)]


def within(sources: Sequence[bytes]) -> list[Row]:
    """`threads=2` of a call against `threads=1`."""
    prompts = np.repeat(np.arange(1184), 10)
    flags = np.random.default_rng(1).random(prompts.size) < 0.3
    how = Preprocessing(crop_mode="short", size=(224, 224), resize=256)
    works: dict[str, Callable[[int], Any]] = {
        f"{FILES} JPEG files to the `default` set": lambda t: features.extract(sources, threads=t).values,
        f"{FILES} JPEG files to the input of a network": lambda t: images.prepare(sources, how, threads=t).values,
        "rate and interval, 10,000 resamples": lambda t: [
            tuple(metrics.rate(flags, prompts, threads=t)) for _ in range(8)
        ],
    }
    return [row(work, "the same on one thread", lambda w=w: w(2), lambda w=w: w(1)) for work, w in works.items()]


def callers(sources: Sequence[bytes]) -> list[Row]:
    """Two Python threads that call at the same time, one thread of the core each."""
    works: dict[str, Callable[[Sequence[bytes]], Any]] = {
        "images.decode": lambda part: [images.decode(source) for source in part],
        "features.extract": lambda part: features.extract(part, threads=1).values,
    }
    halves = sources[: FILES // 2], sources[FILES // 2 :]
    with ThreadPoolExecutor(2) as pool:
        return [
            row(
                f"{FILES} JPEG files through `{name}`, two Python threads",
                "one Python thread",
                lambda w=w: [one for part in pool.map(w, halves) for one in part],
                lambda w=w: list(w(sources)),
            )
            for name, w in works.items()
        ]


def row(work: str, baseline: str, both: Callable[[], Any], alone: Callable[[], Any]) -> Row:
    np.testing.assert_array_equal(np.asarray(both()), np.asarray(alone()))
    times = comparison.interleaved(both, alone, rounds=ROUNDS, clock=time.perf_counter)
    return Row(work, baseline, *times, goal=GOAL)


def rows() -> list[Row]:
    """Every comparison; raises where the results are not the same."""
    sources = files()
    return [*within(sources), *callers(sources)]


if __name__ == "__main__":
    comparison.say(rows())
