"""The gate on instruction counts: what it lets through and what it stops."""

import sys
import tomllib
from pathlib import Path

import pytest

BENCHES = Path(__file__).resolve().parents[2] / "benches"
sys.path.insert(0, str(BENCHES))

import instructions  # noqa: E402


@pytest.mark.parametrize(
    ("now", "kept", "holds"),
    [(1000, 1000, True), (1030, 1000, True), (1031, 1000, False), (500, 1000, True), (1000, None, False)],
)
def test_three_per_cent_more_fails(now, kept, holds):
    known = {} if kept is None else {"work": kept}
    (row,) = instructions.compare({"work": now}, known)
    assert row.holds is holds


def test_what_is_kept_is_read_back():
    counts = {"decode jpeg": 8_073_007, 'a "quoted" name': 1}
    assert tomllib.loads(instructions.written(counts))["counts"] == counts


def test_every_workload_has_a_count():
    kept = tomllib.loads((BENCHES / "instructions.toml").read_text(encoding="utf-8"))["counts"]
    source = (BENCHES / "instructions.rs").read_text(encoding="utf-8")
    assert kept
    assert all(f'("{work}", ' in source for work in kept)
    assert source.count('\n    ("') == len(kept)
