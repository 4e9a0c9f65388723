"""Does each 95% interval hold its truth as often as it says? Counted over simulated studies."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from simulated import Truth, studies
from truths import true_value

#: What stands together in a row of the table: estimates that are made in the same way.
Kind = tuple[str, str]


@dataclass
class Tally:
    """Intervals that hold the truth, of how many; and the mean error of their values."""

    held: int = 0
    of: int = 0
    error: float = 0.0

    @property
    def share(self) -> float:
        return self.held / self.of

    @property
    def bias(self) -> float:
        return self.error / self.of


@dataclass
class Coverage:
    """What came out over the studies.

    Attributes:
        by_kind: by experiment and metric (for differences the design).
        families: studies in which an adjusted p of the experiment `contrast` was below 0.05.
        tests, rejected: single p-values of it, and those below 0.05 before adjustment.
        studies: how many.
    """

    by_kind: dict[Kind, Tally] = field(default_factory=lambda: defaultdict(Tally))
    families: int = 0
    tests: int = 0
    rejected: int = 0
    studies: int = 0


def measure(truth: Truth, count: int, folder: Path, resamples: int = 1000, *, contrasts_only: bool = False) -> Coverage:
    """Counts over `count` studies with seeds from 0 on."""
    found = Coverage()
    for rows in studies(truth, count, folder, resamples, contrasts_only=contrasts_only):
        found.studies += 1
        contrasts = [r for r in rows if r.experiment == "contrast" and r.p_value is not None]
        found.tests += len(contrasts)
        found.rejected += sum(r.p_value < 0.05 for r in contrasts)
        found.families += any((r.p_adjusted or 0.0) < 0.05 for r in contrasts)
        for row in rows:
            value = true_value(row, truth)
            if value is None or row.value is None or row.low is None or row.high is None:
                continue
            design = str(row.contrast).partition(":")[0]
            kind = (row.experiment, f"difference, {design}" if row.contrast else row.metric)
            tally = found.by_kind[kind]
            tally.of += 1
            # Bounds of 1e-12 are the sums' own.
            tally.held += row.low - 1e-12 <= value <= row.high + 1e-12
            tally.error += row.value - value
    return found
