"""The page's figures are those of the script, and the script's are what its constants say."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_SPEC = importlib.util.spec_from_file_location("cost", ROOT / "benches" / "cost.py")
assert _SPEC is not None
assert _SPEC.loader is not None
cost = importlib.util.module_from_spec(_SPEC)
sys.modules["cost"] = cost  # where NamedTuple looks for the names of its types
_SPEC.loader.exec_module(cost)


def test_the_page_holds_what_the_script_prints():
    text = (ROOT / "docs" / "many-machines.md").read_text(encoding="utf-8")
    _, _, rest = text.partition("<!-- benches/cost.py -->\n")
    assert rest.partition("<!-- end -->")[0] == cost.page()


@pytest.mark.parametrize(
    ("measured", "layout", "cores", "limit", "hours"),
    [
        ({}, "files", 4, "decode", 1e6 / (4 * 100) / 3600),
        ({}, "files", 1000, "object store", 1e6 / 5500 / 3600),
        ({"image_bytes": 1e7}, "tars", 16, "network", 1e6 / (10e9 / 8 / 1e7) / 3600),
        ({"driver_seconds": 100.0}, "tars", 1000, "driver", 1e6 / (1e9 / 1e5 / 100) / 3600),
    ],
)
def test_the_slowest_stage_sets_the_time(measured, layout, cores, limit, hours):
    known = cost.Measured(**{"images_per_core": 100.0, "image_bytes": 1e5, **measured})
    found = cost.cost(1e6, layout, cores, known, cost.Assumed())
    assert found.limit == limit
    assert found.hours == pytest.approx(hours)
    assert found.compute == pytest.approx(hours * cores * 0.05)
