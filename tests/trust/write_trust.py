"""Measures the instrument on simulated studies and writes the table of `docs/trust.md`.

`--check N` prints the coverage of N studies and writes nothing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from covering import Coverage, measure  # noqa: E402  (beside this script)
from simulated import Truth  # noqa: E402

PAGE = HERE.parents[1] / "docs" / "trust.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
RESAMPLES = 1000

#: Column → what is set.
STUDIES = {"40 prompts": Truth(), "20 prompts": Truth(prompts=20), "rare": Truth.rare()}


def table(measured: dict[str, Coverage]) -> list[str]:
    """The coverage of every kind of estimate, a column per kind of study."""
    kinds = sorted({kind for one in measured.values() for kind in one.by_kind})
    lines = [f"| experiment | estimate | {' | '.join(measured)} | mean error ({next(iter(measured))}) |"]
    lines.append("|---|---|" + "---|" * (len(measured) + 1))
    for kind in kinds:
        cells = [f"{one.by_kind[kind].share:.3f}" if kind in one.by_kind else "" for one in measured.values()]
        first = next(iter(measured.values())).by_kind.get(kind)
        error = "" if first is None else f"{first.bias:+.4f}"
        lines.append(f"| `{kind[0]}` | {kind[1]} | {' | '.join(cells)} | {error} |")
    return lines


def main() -> None:
    """Runs the studies and writes the page's table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--studies", type=int, default=500)
    options.add_argument("--check", type=int, metavar="N", help="N studies, print only")
    given = options.parse_args()
    count = given.check or given.studies
    with tempfile.TemporaryDirectory() as folder:
        measured = {name: measure(truth, count, Path(folder), RESAMPLES) for name, truth in STUDIES.items()}
        null = measure(Truth.null(), count, Path(folder), RESAMPLES, contrasts_only=True)
    lines = table(measured)
    lines += [
        "",
        f"{count} studies per column, {RESAMPLES} resamples. Where nothing differs (another {count} studies):",
        f"{null.rejected / null.tests:.3f} of {null.tests:,} single p-values are below 0.05; after Holm, "
        f"{null.families / null.studies:.3f} of the studies hold any.",
    ]
    print("\n".join(lines))
    if given.check is None:
        head, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        tail = rest.partition(END)[2]
        PAGE.write_text("\n".join([f"{head}{BEGIN}", *lines, f"{END}{tail}"]), encoding="utf-8")


if __name__ == "__main__":
    main()
