"""Counts the instructions of the core's workloads under callgrind, and compares them with the counts kept beside it.

`python benches/instructions.py` fails where a workload takes over 3% more than benches/instructions.toml says, or has
no count there; `--write` keeps what was counted. Instructions of one build do not vary from run to run, so the gate
needs no quiet machine. valgrind's processor has AVX2 and no AVX-512: that is the path which is counted.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
KEPT = Path(__file__).with_suffix(".toml")
#: What a count may rise by. Other compilers move it by about 1%.
TOLERANCE = 0.03
_COLLECTED = re.compile(r"Collected\s*:\s*(\d+)")


class Counted(NamedTuple):
    """Instructions of a workload, now and as kept."""

    work: str
    now: int
    kept: int | None

    @property
    def change(self) -> float | None:
        return None if self.kept is None else self.now / self.kept - 1

    @property
    def holds(self) -> bool:
        return self.kept is not None and self.now <= self.kept * (1 + TOLERANCE)


def build() -> Path:
    """Builds the workloads and returns the program."""
    command = ["cargo", "build", "--release", "--locked", "-p", "mllmrisk-benches", "--bin", "instructions"]
    told = subprocess.run(
        [*command, "--message-format=json-render-diagnostics"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    made = [json.loads(line) for line in told.stdout.splitlines()]
    return Path(next(m["executable"] for m in made if m.get("target", {}).get("name") == "instructions"))


def count(program: Path, work: str) -> int:
    """Instructions between the entry and the exit of the program's function `measured`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            "valgrind",
            "--tool=callgrind",
            "--collect-atstart=no",
            "--toggle-collect=instructions::measured*",
            f"--callgrind-out-file={folder}/out",
            str(program),
            work,
        ]
        # One layout of the environment: its size moves the stack, and some kernels look at alignment.
        told = subprocess.run(
            command, env={"PATH": os.environ["PATH"]}, check=True, capture_output=True, text=True, cwd=folder
        )
    found = _COLLECTED.search(told.stderr)
    if found is None or int(found[1]) == 0:
        raise SystemExit(f"instructions: nothing was counted for {work!r}:\n{told.stderr}")
    return int(found[1])


def compare(counts: dict[str, int], kept: dict[str, int]) -> list[Counted]:
    """Each workload beside its kept count."""
    return [Counted(work, now, kept.get(work)) for work, now in counts.items()]


def toolchain() -> str:
    """What compiled the workloads."""
    return subprocess.run(["rustc", "--version"], check=True, capture_output=True, text=True).stdout.strip()


def written(counts: dict[str, int]) -> str:
    """The kept file."""
    lines = "".join(f"{json.dumps(work)} = {counted:_}\n" for work, counted in counts.items())
    head = "# Written by `python benches/instructions.py --write`."
    return f"{head}\ntoolchain = {json.dumps(toolchain())}\n\n[counts]\n{lines}"


def main() -> int:
    """Counts, compares, says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="keep the counts in benches/instructions.toml")
    wanted = parser.parse_args()
    program = build()
    works = subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = dict(zip(works, pool.map(lambda work: count(program, work), works), strict=True))
    kept = tomllib.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {"counts": {}, "toolchain": ""}
    found = compare(counts, kept["counts"])
    for row in found:
        change = "no count kept" if row.change is None else f"{100 * row.change:+.2f}%"
        print(f"{'' if row.holds else 'ROSE':5s}{row.work:20s} {row.now:>14,} {change}")
    if wanted.write:
        KEPT.write_text(written(counts), encoding="utf-8")
        print(KEPT.relative_to(ROOT))
        return 0
    if all(row.holds for row in found):
        return 0
    if kept["toolchain"] != toolchain():
        print(f"instructions: the counts were kept with {kept['toolchain']}, this is {toolchain()}", file=sys.stderr)
    print(
        "instructions: mend the rise, or keep it with `make instructions-write` and say why in the commit",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
