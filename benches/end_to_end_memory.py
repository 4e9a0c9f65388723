"""The greatest resident memory of `mllmrisk features` with a hundred times the files: it is to stay what it was."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from mllmrisk import perturb

sys.path.insert(0, str(Path(__file__).parent))

import comparison
from comparison import Row
from end_to_end_decode import photograph

FEW, MANY = 1_000, 100_000
#: Contents that differ; the other files are links to them.
CONTENTS = 50
SIDE = 96


def folder(at: Path, count: int) -> Path:
    """A folder of `count` JPEG files."""
    at.mkdir()
    pixels = photograph(1024)
    for i in range(CONTENTS):
        y, x = divmod(i * SIDE, 1024 - SIDE)
        patch = np.ascontiguousarray(pixels[y * SIDE : (y + 1) * SIDE, x : x + SIDE])
        (at / f"{i:06d}.jpg").write_bytes(perturb.encode(patch, "jpeg:90"))
    for i in range(CONTENTS, count):
        os.link(at / f"{i % CONTENTS:06d}.jpg", at / f"{i:06d}.jpg")
    return at


def peak(command: list[str]) -> float:
    """MiB that the command held at most."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    child = os.posix_spawn(
        command[0],
        command,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, quiet, 1), (os.POSIX_SPAWN_DUP2, quiet, 2)],
    )
    os.close(quiet)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise RuntimeError(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss / 1024  # Linux: KiB


def rows() -> list[Row]:
    """The comparison."""
    with tempfile.TemporaryDirectory() as name:
        held = {}
        for count in (FEW, MANY):
            images = folder(Path(name) / str(count), count)
            out = str(Path(name) / f"{count}.parquet")
            held[count] = peak(
                [sys.executable, "-m", "mllmrisk.cli.main", "features", str(images), "-o", out, "--threads", "2"]
            )
    return [Row(f"`mllmrisk features`, {MANY:,} files", f"{FEW:,} files", held[MANY], held[FEW], 1 / 1.2, "MiB")]


if __name__ == "__main__":
    comparison.say(rows())
