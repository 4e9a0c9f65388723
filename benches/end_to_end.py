"""Everything against what people use today: one process, sides in turn, results checked equal.

`python benches/end_to_end.py` prints the table; `--write` also writes it to docs/performance.md, with the goals of the
project, whether each is reached, and for one that is not, what stops it. `--only PART` runs one part.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"
sys.path.insert(0, str(Path(__file__).parent))
# Before NumPy and SciPy load: every side gets one thread.
os.environ.update(
    dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"), "1")
)

from comparison import Row  # noqa: E402
from unreached import reason  # noqa: E402

#: Share of the processors' time that other programs may have taken on a machine that counts as quiet.
_QUIET = 0.05
#: Where the hand-written rest of the page begins.
_REST = "<!-- what follows is written by hand -->"


class Part(NamedTuple):
    """A file of this folder: its comparisons, how often they are made, and what each side was asked to do."""

    name: str
    module: str
    passes: int
    asked: str

    def rows(self) -> Sequence[Row]:
        return importlib.import_module(self.module).rows()


PARTS = (
    Part(
        "Decoding and resizing",
        "end_to_end_decode",
        5,
        "File bytes in (or, where the row says so, a path), a (height, width, 3) uint8 RGB array that owns its memory "
        "out. Pillow: `np.array(Image.open(...).convert('RGB'))`. OpenCV: `imdecode` with `IMREAD_COLOR_RGB`, one "
        "thread. simplejpeg: `decode_jpeg`. Checked: every pixel equal. PNG files are written by Pillow at its "
        "defaults, the image is made of scikit-learn's two sample photographs. CPU time, since decoders use one "
        "thread; 31 rounds.",
    ),
    Part(
        "Features",
        "end_to_end_features",
        5,
        "Pixels in memory (or, where the row says so, the bytes of a JPEG file) in, the features out; ours per image "
        "in calls of 16 images, one thread, CPU time. The twins are the tests' own: what each formula says, in NumPy "
        "and SciPy, double precision, one family after the other. "
        "The usual radial spectrum is Pillow's mode L, `numpy.fft.fft2` of the whole image, means over rings by "
        "`bincount`; ours works on windowed 64 px tiles, so the two are not the same number, and that row compares "
        "what one pays for a radial spectrum. Checked: every family equal to its twin (relative 1e-4).",
    ),
    Part(
        "2-D transforms",
        "end_to_end_transform",
        3,
        "A (height, width) float32 plane to half of its spectrum and back: `mllmrisk.transform.rfft2` and `irfft2` "
        "against `torch.fft` (MKL, one thread) and `scipy.fft` (pocketfft, one worker). Checked: within 1e-5 of the "
        "largest value of the double-precision transform. CPU time.",
    ),
    Part(
        "Loading for PyTorch",
        "end_to_end_loader",
        1,
        "512x512 JPEG q90 (files, a WebDataset tar, a Parquet table) to batches of 32x3x224x224 float32, milliseconds "
        "of wall time an image: a `DataLoader` of torchvision v2 transforms on PIL images with 0, 1 and 2 workers "
        "against `mllmrisk.torch` with as many threads, and with as many worker processes. Checked: every value equal; "
        "random crops are drawn otherwise and compared in the tests.",
    ),
    Part(
        "Metrics",
        "end_to_end_metrics",
        3,
        "Arrays in, estimate and interval out, `threads=1`. NumPy: the usual loop, one resample at a time. SciPy: "
        "`stats.bootstrap`, percentile, batches of 500. scikit-learn: `roc_auc_score`, `average_precision_score`, in a "
        "loop of resamples for intervals. Checked: AUC equal to 1e-12; interval ends equal within the Monte-Carlo "
        "error of two bootstraps. 7 rounds of wall time.",
    ),
    Part(
        "Detection and laundering",
        "end_to_end_detect",
        1,
        "`forensic`: four JPEG files (512x512, quality 90) per call to logits, by a detector file with both parts of "
        "its classifier. The other side is `PIL.Image`, the tests' NumPy twins of the features that it reads, and the "
        "same classifier in NumPy and scikit-learn. Checked: the logits agree within 0.002. JPEG: `perturb.apply` "
        "against `simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(...))`, accurate transform, fancy upsampling. Checked: "
        "every pixel equal, at quality 96 and above with the binding's; below, where the binding encodes with "
        "libjpeg's fast transform whatever is asked, with Pillow's. Perturbations: the 16 of the suite `fake`, each "
        "followed by the crop and encoder of the experiment and the features that `forensic` and the report read. "
        "Checked: the same values bit for bit. CPU time, 9 rounds.",
    ),
    Part(
        "Threads",
        "end_to_end_threads",
        5,
        "The same call with `threads=2` and with `threads=1`, or two Python threads that each do half of the calls "
        "against one that does all. Wall time; checked: the same values bit for bit.",
    ),
    Part(
        "Memory",
        "end_to_end_memory",
        1,
        "`mllmrisk features FOLDER -o out.parquet` in a process of its own: its greatest resident memory with 100,000 "
        "files (96x96 JPEG; `default` set) against that with 1,000. No time is measured.",
    ),
)


class Measured(NamedTuple):
    """One comparison over several passes: medians, and the least and the greatest ratio of a pass."""

    row: Row
    ratio: float
    least: float
    greatest: float

    @property
    def reached(self) -> bool | None:
        """Whether the goal is; None where there is none."""
        return None if self.row.goal is None else self.ratio >= self.row.goal


def measure(part: Part, passes: int | None) -> list[Measured]:
    """A part's comparisons, each pass itself a median over interleaved rounds."""
    taken: dict[tuple[str, str], list[Row]] = {}
    for _ in range(passes or part.passes):
        for row in part.rows():
            taken.setdefault((row.work, row.baseline), []).append(row)
    found = []
    for rows in taken.values():
        ratios = [row.ratio for row in rows]
        ours, other = statistics.median(r.ours for r in rows), statistics.median(r.other for r in rows)
        median = rows[0]._replace(ours=ours, other=other)
        found.append(Measured(median, statistics.median(ratios), min(ratios), max(ratios)))
    return found


def table(rows: Sequence[Measured]) -> str:
    """A part's comparisons as Markdown."""
    head = ["work", "ours", "compared with", "it takes", "times less", "passes", "goal"]
    lines = [f"| {' | '.join(head)} |", "|---|---:|---|---:|---:|---|---:|"]
    for found in rows:
        row = found.row
        spread = f"{_figure(found.least)} to {_figure(found.greatest)}"
        goal = "" if row.goal is None else _figure(row.goal)
        ratio = f"**{_figure(found.ratio)}**" if found.reached is False else _figure(found.ratio)
        sides = f"{_figure(row.ours)} {row.unit} | {row.baseline} | {_figure(row.other)} {row.unit}"
        lines.append(f"| {row.work} | {sides} | {ratio} | {spread} | {goal} |")
    return "\n".join(lines)


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def machine() -> str:
    """Processor and cores, without the name of the machine."""
    model = platform.processor() or platform.machine()
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        named = [line.partition(":")[2].strip() for line in facts.read_text().splitlines() if "model name" in line]
        model = named[0] if named else model
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"


_COMPARED = (
    "numpy",
    "scipy",
    "scikit-learn",
    "pillow",
    "opencv-python-headless",
    "simplejpeg",
    "webp",
    "torch",
    "torchvision",
)


def versions() -> str:
    """What was compared, with versions."""

    def told(name: str) -> str:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            return f"{name} not there"

    return ", ".join([f"Python {platform.python_version()}", *map(told, _COMPARED)])


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def goals(rows: Sequence[Measured]) -> str:
    """Every row with a goal as a line of Markdown."""
    lines = ["| what | against | times less, goal | measured | |", "|---|---|---:|---:|---|"]
    for found in rows:
        row = found.row
        if row.goal is None:
            continue
        verdict = "reached" if found.reached else f"**not reached**: {reason(row.work)}"
        lines.append(f"| {row.work} | {row.baseline} | {_figure(row.goal)} | {_figure(found.ratio)} | {verdict} |")
    return "\n".join(lines)


class Others:
    """What other programs take of the processors' time, from its making on (Linux)."""

    def __init__(self) -> None:
        self._before = self._taken()

    @property
    def share(self) -> float:
        """Of all processors' time so far."""
        (busy, total, own), (busy0, total0, own0) = self._taken(), self._before
        return max(0.0, (busy - busy0) - (own - own0)) / max(total - total0, 1e-9)

    @staticmethod
    def _taken() -> tuple[float, float, float]:
        """Seconds: of all processors busy, and in all; of this program with the children that have ended."""
        head = Path("/proc/stat").read_text(encoding="utf-8").partition("\n")[0]
        ticks = [int(field) / os.sysconf("SC_CLK_TCK") for field in head.split()[1:9]]
        idle = ticks[3] + ticks[4]
        return sum(ticks) - idle, sum(ticks), sum(os.times()[:4])


def page(rows: dict[str, list[Measured]], others: float, rest: str) -> str:
    """docs/performance.md.

    Args:
        rows: comparisons by part.
        others: the share of the processors' time that other programs took meanwhile.
        rest: what stands below the measured part.
    """
    shared = (
        "The machine was shared with other heavy work meanwhile: times are longer than on a quiet one and single "
        "figures may be off by a few tens of per cent; the two sides of a ratio ran in turn, so ratios are less so."
        if others > _QUIET
        else "The machine did nothing else meanwhile."
    )
    parts = "\n\n".join(
        f"## {part.name}\n\n{part.asked}\n\n{table(rows[part.name])}" for part in PARTS if part.name in rows
    )
    return f"""\
# Performance

Measured by `python benches/end_to_end.py --write` in one run; `make bench` prints the same table where you are.

- Machine: {machine()}. {shared}
- Versions: {versions()}.
- Commit {_commit()}, {datetime.datetime.now(datetime.UTC).date().isoformat()}.
- Method: whole Python calls in one process, one thread on each side unless a part says otherwise, the sides taken in
  turn, the median of the rounds after one to warm up; all that several times over (*passes*: the least and the greatest
  of their ratios). The results are compared before anything is timed, and a difference ends the run.
- *Times less* is what the other side takes over what ours takes: above 1, ours is faster.

{goals([found for part in rows.values() for found in part])}

{parts}

{_REST}
{rest}"""


def main() -> None:
    """Runs every part and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/performance.md")
    parser.add_argument("--passes", type=int, help="how often each comparison is made [default: the part's own]")
    names = [part.name for part in PARTS]
    parser.add_argument("--only", action="append", choices=names, help="this part alone (may be repeated)")
    wanted = parser.parse_args()
    if wanted.write and wanted.only:
        parser.error("--write needs every part: the page is one run")
    others = Others()
    rows: dict[str, list[Measured]] = {}
    for part in PARTS:
        if wanted.only and part.name not in wanted.only:
            continue
        rows[part.name] = measure(part, wanted.passes)
        print(f"{part.name}\n{table(rows[part.name])}\n", flush=True)
    for found in (found for part in rows.values() for found in part):
        if found.reached is not None:
            verdict = "reached    " if found.reached else "NOT REACHED"
            row = found.row
            print(f"{verdict}  {row.work}, {row.baseline}: {_figure(found.ratio)} of {_figure(row.goal or 0)}")
    if wanted.write:
        _, _, rest = PAGE.read_text(encoding="utf-8").partition(_REST + "\n")
        PAGE.write_text(page(rows, others.share, rest), encoding="utf-8")
        print(PAGE.relative_to(ROOT))


if __name__ == "__main__":
    main()
