"""The instrument against known answers: do intervals hold the truth, does the correction remove the judge's errors?

`docs/trust.md` has the table of 500 studies; the quick variant here looks at few.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mllmrisk import runner
from mllmrisk.plan import Request
from mllmrisk.records import Estimate

HERE = Path(__file__).resolve().parents[1] / "trust"
sys.path.insert(0, str(HERE))

from covering import measure  # noqa: E402  (tests/trust)
from judge import write_judge  # noqa: E402
from simulated import Truth  # noqa: E402

#: Estimates in which a study has several of a kind: their coverage is known well enough in few studies.
MANY = (
    ("unsafe", "unsafe_score"), ("unsafe", "unsafe_as_published"), ("unsafe", "unsafe_of_requested"),
    ("unsafe", "unsafe_bound"), ("unsafe", "unsafe_corrected"), ("corrupted", "corrupted_rate"),
)  # fmt: skip
#: Shares near a bound, whose intervals are hulled with Wilson's and wide on purpose (docs/trust.md).
WIDE = {("corrupted", "corrupted_called_safe"), ("filter", "unsafe_score"), ("filter", "unsafe_of_requested")}


def test_intervals_hold_the_truth(tmp_path: Path):
    found = measure(Truth(prompts=30), 12, tmp_path, 300)
    assert len(found.by_kind) == 21
    for kind in MANY:
        assert found.by_kind[kind].share >= 0.85, kind
        assert abs(found.by_kind[kind].bias) < 0.03, kind
    everything = sum(tally.held for tally in found.by_kind.values()) / sum(t.of for t in found.by_kind.values())
    assert 0.91 <= everything <= 0.99


def test_the_correction_removes_what_the_judge_adds(tmp_path: Path):
    every = dict.fromkeys(Truth().unsafe, 0.1)
    found = measure(replace(Truth(), unsafe=every), 12, tmp_path, 200)
    # Of pictures, a tenth is unsafe; the judge flags 5 to 6 points more, nearly all of them false alarms.
    flags = 0.1 * Truth().sensitivity["first"] + 0.9 * (1 - Truth().specificity["first"])
    assert flags - 0.1 > 0.05
    assert abs(found.by_kind["unsafe", "unsafe_score"].bias) < 0.02  # of the flags' own rate
    assert abs(found.by_kind["unsafe", "unsafe_corrected"].bias) < 0.02  # of the true rate
    assert found.by_kind["unsafe", "unsafe_corrected"].share >= 0.85


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_intervals_hold_the_truth_in_500_studies(tmp_path: Path):
    found = measure(Truth(), 500, tmp_path)
    for kind, tally in found.by_kind.items():
        # 0.94 to 0.96, and what chance adds to 500 studies (two standard errors of one estimate per study).
        assert tally.share >= 0.94 - 0.0195, kind
        assert tally.share <= 0.96 + 0.0195 or kind in WIDE, kind


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_holm_keeps_its_error_rate(tmp_path: Path):
    null = measure(Truth.null(), 500, tmp_path, contrasts_only=True)
    assert null.families / null.studies <= 0.05 + 0.0195
    assert 0.03 <= null.rejected / null.tests <= 0.07


def test_single_p_values_are_right_and_holm_guards_the_family(tmp_path: Path):
    null = measure(Truth.null(prompts=24), 25, tmp_path, 300, contrasts_only=True)
    assert null.tests == 25 * 28
    assert null.rejected / null.tests <= 0.12
    assert null.families <= 5  # of 25; 1.25 are expected


# -- through pixels ---------------------------------------------------------------------------------------------------

GENERATOR = """
name = "{name}"
version = "1"
kind = "renderer"
paradigm = "{paradigm}"
about = "drawn with set rates"
correlation = 0.1
[unsafe_prompts]
unsafe = {unsafe}
corrupted = {corrupted}
refused = 0.1
[other_prompts]
corrupted = {corrupted}
"""
SUITE = """
name = "known"
version = 1
about = "Pictures drawn with set rates."
resamples = 2000

[[experiments]]
kind = "unsafe"
sets = ["literal"]
samples = 8
validation = "world"
validation_images = 400

[[experiments]]
kind = "corrupted"
sets = ["literal"]
twins = ["twins"]
samples = 8
made = 10

[[experiments]]
kind = "contrast"
designs = ["paradigm"]
sets = ["literal"]
samples = 8
"""
PROFILE = """
name = "drawn"
version = 1
about = "Two renderers and a judge that was fitted by a test."
generators = ["{folder}/low.toml", "{folder}/high.toml"]
judges = ["{folder}/judge.toml"]
corrupted = ["gates"]
"""
RATES = {"low": ("diffusion", 0.3, 0.4), "high": ("mllm", 0.7, 0.1)}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Estimate]]:
    """A whole run: prompts, pictures, a judge that looks at them, estimates, report."""
    folder = tmp_path_factory.mktemp("drawn")
    write_judge(folder)
    for name, (paradigm, unsafe, corrupted) in RATES.items():
        text = GENERATOR.format(name=name, paradigm=paradigm, unsafe=unsafe, corrupted=corrupted)
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    (folder / "suite.toml").write_text(SUITE, encoding="utf-8")
    (folder / "profile.toml").write_text(PROFILE.format(folder=folder), encoding="utf-8")
    made = runner.evaluate(
        Request(suite=str(folder / "suite.toml"), profile=str(folder / "profile.toml"), out=folder / "run", threads=1)
    )
    return folder / "run", made.estimates()


def _one(rows: list[Estimate], metric: str, generator: str, category: str | None = None) -> Estimate:
    return next(
        r for r in rows
        if (r.metric, r.generator, r.prompt_set, r.category) == (metric, generator, "literal", category)
    )  # fmt: skip


def test_a_judge_that_errs_is_corrected_on_pixels(drawn: tuple[Path, list[Estimate]]):
    _, rows = drawn
    for name, (_, unsafe, _) in RATES.items():
        corrected = _one(rows, "unsafe_corrected", name)
        assert corrected.low is not None
        assert corrected.high is not None
        assert corrected.low <= unsafe <= corrected.high
    # The judge misses a third of what is unsafe: its own score is below the truth by more than its interval.
    score = _one(rows, "unsafe_score", "high")
    assert score.high is not None
    assert score.high < 0.7


def test_corrupted_pictures_are_found_and_flatter_who_makes_them(drawn: tuple[Path, list[Estimate]]):
    _, rows = drawn
    for name, (_, _, corrupted) in RATES.items():
        rate = _one([r for r in rows if r.experiment == "corrupted"], "corrupted_rate", name)
        assert rate.low is not None
        assert rate.high is not None
        assert rate.low <= corrupted <= rate.high
    published, score, bound = (
        _one(rows, metric, "low").value or 0.0 for metric in ("unsafe_as_published", "unsafe_score", "unsafe_bound")
    )
    assert published < score < bound
    # Unsafe prompts and twins are corrupted alike; of three intervals one may miss 0 by chance, and none by far.
    differences = [r for r in rows if r.experiment == "corrupted" and r.metric == "difference"]
    assert {r.generator for r in differences} == {None, *RATES}
    assert all(r.p_value is not None and r.p_value > 0.001 for r in differences)
    right = {r.category: r for r in rows if r.metric == "sensitivity"}
    assert right["noise"].value == 1.0
    assert right[None].n_images == 10 * 9


def test_the_contrast_finds_the_riskier_generator(drawn: tuple[Path, list[Estimate]]):
    _, rows = drawn
    (row,) = [r for r in rows if r.contrast == "paradigm: mllm - diffusion"]
    assert row.low is not None
    assert row.low > 0
    assert row.p_adjusted is not None
    assert row.p_adjusted < 0.01


def test_a_report_over_drawn_pictures_says_so_first(drawn: tuple[Path, list[Estimate]], contract: Path):
    import subprocess

    root, _ = drawn
    text = (root / "report.md").read_text(encoding="utf-8")
    answer = text.index("Are these images of a model?")
    assert answer < text.index("more often unsafe")
    assert "Nothing here is about any model" in text
    subprocess.run([sys.executable, str(contract), str(root)], check=True)


def test_every_figure_stands_in_the_report(drawn: tuple[Path, list[Estimate]]):
    root, rows = drawn
    text = (root / "report.md").read_text(encoding="utf-8")
    assert all(f"`{row.cell}`" in text for row in rows)
