"""One estimate as a reader sees it: value, interval, n, what was left out, whether a leak probe reaches it."""

from __future__ import annotations

from dataclasses import dataclass

from mllmrisk.records import Estimate
from mllmrisk.report import naming

#: Metrics that are shares of images: printed in per cent.
_SHARES = frozenset(
    {
        "eer",
        "accuracy",
        "detection_rate",
        "unsafe_score",
        "unsafe_of_requested",
        "unsafe_as_published",
        "unsafe_bound",
        "unsafe_corrected",
        "corrupted_rate",
        "corrupted_called_safe",
        "removed_rate",
        "sensitivity",
        "specificity",
        "woman_share",
    }
)
#: Metrics that also show their interval within the sources: those that answers are made of.
_TOLD_WITHIN = frozenset({"auc", "difference"})
_MINUS = "−"


@dataclass(frozen=True)
class Cell:
    """A figure, ready to print.

    Attributes:
        value: `0.71`, `34%`; empty where there is none, and then `reason` says why.
        interval: `[0.62, 0.79]`, empty where none could be computed.
        n: images, prompts and resampled groups behind it, in words.
        reason: why there is no value.
        unscored: images left out, in words; empty if none.
        probes: leak probes that reach the figure, in words; empty if none.
        explained: what suite or profile say of them; empty if nothing.
        cell: what `mllmrisk show RUN CELL` takes.
        method: how it was computed.
        order: what a table sorts by.
    """

    value: str
    interval: str
    n: str
    reason: str
    unscored: str
    probes: str
    explained: str
    cell: str
    method: str
    order: float | None

    @property
    def text(self) -> str:
        """The whole figure in one line."""
        warning = f" · ⚠ {self.warning}" if self.probes else ""
        if not self.value:
            return f"not scored: {self.reason} · {self.n}{warning}"
        return " ".join(part for part in (self.value, self.interval, f"· {self.n}") if part) + warning

    @property
    def warning(self) -> str:
        """The leak warning, empty if no probe reaches the figure; an explanation stands beside it."""
        told = f" ({self.explained})" if self.explained else ""
        return f"confounded by {self.probes}{told}" if self.probes else ""


def cell(row: Estimate) -> Cell:
    """An estimate as a cell."""
    n = [naming.count(row.n_images, "image")]
    if row.n_prompts:
        n.append(naming.count(row.n_prompts, "prompt"))
    counted = row.cluster_by == "prompt" and row.n_clusters == row.n_prompts
    if row.n_clusters is not None and row.cluster_by not in {None, "image"} and not counted:
        n.append(naming.clusters(row.n_clusters, str(row.cluster_by)))
    if row.metric in _TOLD_WITHIN and row.generator is None and within(row):
        n.append(f"within them {within(row)}")
    if row.ties:
        n.append(f"{row.ties:.1%} of pairs tied")
    unscored = ", ".join(f"{naming.reason(r)}: {k:,}" for r, k in sorted(row.n_unscored.items()) if k)
    named = naming.listed([naming.printable(p) for p in row.confounded_by]) if row.confounded_by else "a leak probe"
    return Cell(
        value="" if row.value is None else number(row, row.value),
        interval="" if row.value is None else interval(row),
        n=", ".join(n),
        reason="" if row.value is not None else _why(row),
        unscored=unscored,
        probes=named if row.confounded else "",
        explained="; ".join(f"{naming.printable(p)}: {naming.printable(why)}" for p, why in row.explained.items()),
        cell=row.cell,
        method=row.method,
        order=row.value,
    )


def number(row: Estimate, x: float) -> str:
    """A number of this estimate: two decimals, or per cent for shares of images; differences carry their sign."""
    if row.metric in ("difference", "slope"):
        if row.unit == "standard deviations":
            shown = f"{x:+.2f} sd"
        elif _SHARES.isdisjoint(row.unit.split()):
            shown = f"{x:+.2f}"
        else:  # a change per level is smaller than one between sides
            shown = f"{x * 100:+.1f} pts" if row.unit.endswith(" per level") else f"{x * 100:+.0f} pts"
        return shown.replace("-", _MINUS)
    if row.metric in _SHARES:
        # One style per estimate, so that value and interval line up.
        small = max(y for y in (row.value, row.low, 0.0) if y is not None) < 0.1
        return f"{x:.1%}" if small else f"{x:.0%}"
    return f"{x:.2f}".replace("-", _MINUS)


def interval(row: Estimate) -> str:
    """`[0.62, 0.79]`, or that there is none."""
    if row.low is None or row.high is None:
        return "(no interval)"
    return f"[{number(row, row.low)}, {number(row, row.high)}]"


def within(row: Estimate) -> str:
    """The interval for other images of the same sources, empty where the estimate has none."""
    if row.low_within is None or row.high_within is None:
        return ""
    return f"[{number(row, row.low_within)}, {number(row, row.high_within)}]"


def short(row: Estimate) -> tuple[str, str, str]:
    """Value, interval and n for the small space of a heat map's cell."""
    if row.value is None:
        return "–", "", ""
    spread = "no interval"
    if row.low is not None and row.high is not None:
        spread = f"{number(row, row.low)}–{number(row, row.high)}"
    return number(row, row.value), spread, f"n {row.n_images}"


def p_value(p: float | None) -> str:
    """A p-value as papers print it."""
    if p is None:
        return "none"
    return "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def _why(row: Estimate) -> str:
    """Why there is no value: the reasons in words; what the method says of it where that is more."""
    said = row.method.removeprefix("none: ")
    if said != row.method and not said.startswith("one side has no scored image"):
        return naming.printable(said)
    return naming.listed([naming.reason(r) for r in sorted(row.n_unscored)]) if row.n_unscored else "no reason given"
