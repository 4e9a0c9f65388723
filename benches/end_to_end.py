"""Everything against what people use today: one process, one thread each, interleaved, results checked equal.

`python benches/end_to_end.py` prints the table; `--write` also writes it to docs/performance.md, with the targets of
the project and whether each is reached.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, Protocol

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"
sys.path.insert(0, str(Path(__file__).parent))
# Before NumPy and SciPy load: every side gets one thread.
os.environ.update(
    dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"), "1")
)

import end_to_end_decode  # noqa: E402
import end_to_end_features  # noqa: E402
import end_to_end_metrics  # noqa: E402

#: Load of other work per core below which the machine counts as quiet.
_QUIET = 0.25


class Row(Protocol):
    """One comparison of a part: medians in milliseconds over the same work."""

    @property
    def work(self) -> str: ...
    @property
    def baseline(self) -> str: ...
    @property
    def ours_ms(self) -> float: ...
    @property
    def baseline_ms(self) -> float: ...
    @property
    def ratio(self) -> float: ...


class Measured(NamedTuple):
    """One comparison over several passes: medians, and the least and the greatest ratio of a pass."""

    work: str
    baseline: str
    ours_ms: float
    baseline_ms: float
    ratio: float
    least: float
    greatest: float


def measure(part: Part, passes: int) -> list[Measured]:
    """A part's comparisons, each pass itself a median over interleaved rounds."""
    taken: dict[tuple[str, str], list[Row]] = {}
    for _ in range(passes):
        for row in part.rows():
            taken.setdefault((row.work, row.baseline), []).append(row)
    found = []
    for (work, baseline), rows in taken.items():
        ratios = [row.ratio for row in rows]
        ours, other = statistics.median(r.ours_ms for r in rows), statistics.median(r.baseline_ms for r in rows)
        found.append(Measured(work, baseline, ours, other, statistics.median(ratios), min(ratios), max(ratios)))
    return found


class Part(NamedTuple):
    """A file of this folder: its comparisons and what each side was asked to do."""

    name: str
    rows: Callable[[], Sequence[Row]]
    asked: str


PARTS = (
    Part(
        "Decoding and resizing",
        end_to_end_decode.rows,
        "File bytes in, a (height, width, 3) uint8 RGB array that owns its memory out. Pillow: `np.array(Image.open("
        "...).convert('RGB'))`. OpenCV: `imdecode` with `IMREAD_COLOR_RGB`, one thread. simplejpeg: `decode_jpeg`. "
        "Checked: every pixel equal. PNG files are written by Pillow at its defaults, the image is "
        "made of scikit-learn's two sample photographs. CPU time, since decoders use one thread; 31 rounds.",
    ),
    Part(
        "Features",
        end_to_end_features.rows,
        "Pixels in memory (or, where the row says so, the bytes of a JPEG file) in, the features out; ours per image "
        "in calls of 16 images, one thread, CPU time. The twins are the tests' own: what each formula says, in NumPy "
        "and SciPy, double precision, one family after the other. "
        "The usual radial spectrum is Pillow's mode L, `numpy.fft.fft2` of the whole image, means over rings by "
        "`bincount`; ours works on windowed 64 px tiles, so the two are not the same number, and that row compares "
        "what one pays for a radial spectrum. Checked: every family equal to its twin (relative 1e-4).",
    ),
    Part(
        "Metrics",
        end_to_end_metrics.rows,
        "Arrays in, estimate and interval out, `threads=1`. NumPy: the usual loop, one resample at a time. SciPy: "
        "`stats.bootstrap`, percentile, batches of 500. scikit-learn: `roc_auc_score`, `average_precision_score`, in a "
        "loop of resamples for intervals. Checked: AUC equal to 1e-12; interval ends equal within the Monte-Carlo "
        "error of two bootstraps. 7 rounds of wall time.",
    ),
)


class Target(NamedTuple):
    """What the project set out to reach, as a bound on a quotient of two measured times."""

    words: str
    reached: bool
    measured: str


def targets(rows: dict[str, list[Measured]]) -> list[Target]:
    """The targets with what was measured."""
    decoded = _row(rows["Decoding and resizing"], "decode jpeg:90 512x512", "simplejpeg")
    against = 1 / decoded.ratio
    costs = {row.work: row for row in rows["Features"]}
    default = costs[end_to_end_features.DEFAULT_AGAINST_DECODE]
    every = costs[end_to_end_features.ALL_AGAINST_DECODE]
    twin = costs[end_to_end_features.DEFAULT_AGAINST_TWIN]
    default_cost, all_cost = 1 / default.ratio, 1 / every.ratio
    slowest = min(rows["Metrics"], key=lambda row: row.ratio)
    return [
        Target("JPEG decode no slower than 1.1 × simplejpeg", against <= 1.1, f"{against:.2f} × its time"),
        Target("the `default` set under 4 × the decode", default_cost < 4, f"{default_cost:.2f} × the decode"),
        Target("the `default` set 10 × faster than the NumPy twin", twin.ratio >= 10, f"{twin.ratio:.0f} × faster"),
        Target("later: the `default` set under 1 × the decode", default_cost <= 1, f"{default_cost:.2f} × the decode"),
        Target("later: the set `all` under 10 × the decode", all_cost <= 10, f"{all_cost:.2f} × the decode"),
        Target("metrics never slower than what people use", slowest.ratio >= 1, f"least {slowest.ratio:.1f} ×"),
    ]


def _row(rows: Sequence[Measured], work: str, baseline: str) -> Measured:
    return next(row for row in rows if (row.work, row.baseline) == (work, baseline))


def table(rows: Sequence[Measured]) -> str:
    """A part's comparisons as Markdown."""
    lines = ["| work | ours, ms | compared with | its ms | times faster | passes |", "|---|---:|---|---:|---:|---|"]
    for row in rows:
        spread = f"{_figure(row.least)} to {_figure(row.greatest)}"
        times = f"{row.ours_ms:.2f} | {row.baseline} | {row.baseline_ms:.2f}"
        lines.append(f"| {row.work} | {times} | {_figure(row.ratio)} | {spread} |")
    return "\n".join(lines)


def _figure(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2f}"


def machine() -> str:
    """Processor and cores, without the name of the machine."""
    model = platform.processor() or platform.machine()
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        named = [line.partition(":")[2].strip() for line in facts.read_text().splitlines() if "model name" in line]
        model = named[0] if named else model
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"


def versions() -> str:
    """What was compared, with versions."""
    names = ("numpy", "scipy", "scikit-learn", "pillow", "opencv-python-headless", "simplejpeg")
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in names)])


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def page(rows: dict[str, list[Measured]], load: tuple[float, float]) -> str:
    """docs/performance.md.

    Args:
        rows: comparisons by part.
        load: load average over the last minute before and after.
    """
    busy = max(load[0], load[1] - 1) / (os.cpu_count() or 1) > _QUIET
    shared = (
        "The machine was shared with other heavy work meanwhile: times are longer than on a quiet one and single "
        "figures may be off by a few tens of per cent; the two sides of a ratio ran in turn, so ratios are less so."
        if busy
        else "The machine did nothing else meanwhile."
    )
    judged = "\n".join(
        f"| {t.words} | {t.measured} | {'reached' if t.reached else '**not reached**'} |" for t in targets(rows)
    )
    parts = "\n\n".join(f"## {part.name}\n\n{part.asked}\n\n{table(rows[part.name])}" for part in PARTS)
    return f"""\
# Performance

Written by `python benches/end_to_end.py --write`; `make bench` prints the same table where you are.

- Machine: {machine()}. {shared}
- Versions: {versions()}.
- Commit {_commit()}, {datetime.datetime.now(datetime.UTC).date().isoformat()}.
- Method: whole Python calls in one process, one thread on each side, the sides taken in turn, the median of the
  rounds after one to warm up; all that several times over (*passes*: the least and the greatest of their ratios). The
  results are compared before anything is timed, and a difference ends the run.

| target | measured | |
|---|---|---|
{judged}

{parts}
"""


def main() -> None:
    """Runs every part and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/performance.md")
    parser.add_argument("--passes", type=int, default=5, help="how often each comparison is made [default: 5]")
    wanted = parser.parse_args()
    before = os.getloadavg()[0]
    rows: dict[str, list[Measured]] = {}
    for part in PARTS:
        rows[part.name] = measure(part, wanted.passes)
        print(f"{part.name}\n{table(rows[part.name])}\n", flush=True)
    for target in targets(rows):
        print(f"{'reached    ' if target.reached else 'NOT REACHED'}  {target.words}: {target.measured}")
    if wanted.write:
        PAGE.write_text(page(rows, (before, os.getloadavg()[0])), encoding="utf-8")
        print(PAGE)


if __name__ == "__main__":
    main()
