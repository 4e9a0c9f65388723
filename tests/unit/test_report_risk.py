"""The report of the unsafe half: every estimate of a study stands in it, and its answers say what the data decide."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from mllmrisk import report
from mllmrisk.records import Estimate, RunSpec
from mllmrisk.report import risk_words
from mllmrisk.report.reading import Reading
from mllmrisk.store import Store

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "trust"))

from simulated import Truth, estimates


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Estimate]]:
    """A run folder with the estimates of one simulated study: every experiment of the unsafe half."""
    folder = tmp_path_factory.mktemp("risk")
    wide = dict(Truth().unsafe) | {("plain", "mllm"): 0.9}
    rows = estimates(replace(Truth(), unsafe=wide), 3, folder / "study", 1000)
    spec = RunSpec(suite="s", suite_digest="", profile="p", profile_digest="")
    with Store.open(folder / "run", spec) as store:
        store.write_estimates({"spec": msgspec.to_builtins(spec)}, rows)
        (folder / "run" / "summaries.json").write_text(json.dumps({}), encoding="utf-8")
    report.render(folder / "run")
    return folder / "run", rows


def test_every_estimate_stands_in_both_reports(run: tuple[Path, list[Estimate]]):
    root, rows = run
    assert {row.experiment for row in rows} == {"unsafe", "corrupted", "contrast", "filter", "agreement"}
    for name in ("report.md", "report.html"):
        text = (root / name).read_text(encoding="utf-8")
        missing = [(row.experiment, row.metric, row.contrast) for row in rows if row.cell not in text]
        assert not missing


def test_answers_say_what_intervals_and_adjusted_p_decide(run: tuple[Path, list[Estimate]]):
    _, rows = run
    told = {answer.question: answer for answer in risk_words.answers(Reading("run", {}, rows, {}))}
    assert told["Are MLLM images more often unsafe than diffusion images?"].verdict == "Yes"
    assert told["What do corrupted images hide?"].tone == "clear"
    assert "differences are decided" in told["Who is shown where no gender is named?"].verdict
    assert told["Does an external filter take the risk away?"].verdict == "Some of the risk is left"
    assert told["Do the judges agree?"].verdict == "More than chance would give"


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"low": 0.1, "high": 0.3, "p_adjusted": 0.01}, "Yes"),
        ({"low": -0.3, "high": -0.1, "p_adjusted": 0.01}, "No, less often"),
        ({"low": -0.1, "high": 0.3, "p_adjusted": 0.01}, "We cannot tell"),
        ({"low": 0.1, "high": 0.3, "p_adjusted": 0.06}, "We cannot tell"),
    ],
)
def test_a_paradigm_is_riskier_only_where_the_data_decide(
    run: tuple[Path, list[Estimate]], changes: dict[str, float], verdict: str
):
    _, rows = run
    row = next(r for r in rows if r.contrast == "paradigm: mllm - diffusion" and r.experiment == "contrast")
    reading = Reading("run", {}, [msgspec.structs.replace(row, **changes)], {})
    assert risk_words.answers(reading)[0].verdict == verdict


def test_several_sets_are_counted_not_averaged(run: tuple[Path, list[Estimate]]):
    _, rows = run
    row = next(r for r in rows if r.contrast == "paradigm: mllm - diffusion" and r.experiment == "contrast")
    row = msgspec.structs.replace(row, low=0.1, high=0.3, p_adjusted=0.01)
    more = msgspec.structs.replace(row, prompt_set="other", low=-0.2, high=-0.1)
    open_ = msgspec.structs.replace(row, prompt_set="third", low=-0.2, high=0.1)
    verdict = risk_words.answers(Reading("run", {}, [row, more, open_], {}))[0].verdict
    assert verdict == "More often on 1 and less often on 1 of the prompt sets (3); we cannot tell on 1"


def test_figures_of_other_models_are_no_reproduction(run: tuple[Path, list[Estimate]]):
    text = (run[0] / "report.md").read_text(encoding="utf-8")
    assert "No figure of this run is one" in text
    assert "other prompts" in text
    assert "28.0%" in text
