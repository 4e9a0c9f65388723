"""Richness: known answers on made scores, coverage by simulation, and a run over real pixels."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from mllmrisk import images, perturb, plan
from mllmrisk.experiments import confounds, detecting, levels, movement
from mllmrisk.experiments.crossfit import Scored
from mllmrisk.experiments.detecting import Group
from mllmrisk.experiments.examined import Loaded
from mllmrisk.experiments.levels import Comparing, Panel, caption_of, levels_of
from mllmrisk.experiments.richness import Parameters, Richness
from mllmrisk.experiments.study import Study
from mllmrisk.plan import Request
from mllmrisk.records import Estimate, Outcome, Prompt, RunSpec, Sample, Score
from mllmrisk.report import richness as told
from mllmrisk.report.cells import number
from mllmrisk.report.reading import Reading
from mllmrisk.store import Store
from studies import sample as made
from studies import study as study_of

LEVELS = {"v0": 0, "v1": 1, "v2": 2}
WHERE = detecting.Where("richness", "forensic", "recompressed", "forensic/recompressed/all", "all")


def fake(caption: int, level: str, generator: str = "m", **more: object) -> Sample:
    return made(f"set/k{caption}-{level}", generator, level=level, **more)


def scored_by(flags: Mapping[str, float], samples: Sequence[Sample], reasons: Mapping[str, str] = {}) -> Scored:
    """Each image once, above its threshold by what `flags` says of it."""
    there = [s for s in samples if s.id in flags]
    margins = np.array([flags[s.id] for s in there], dtype=np.float64)
    return Scored(there, margins, np.zeros(len(there), dtype=np.int64), {0.05: margins}, {}, dict(reasons))


@contextmanager
def comparing(root: Path, samples: Sequence[Sample], **more: object) -> Iterator[tuple[Study, Comparing]]:
    with study_of(root, samples, **more) as opened:  # type: ignore[arg-type]
        yield opened, Comparing(opened, WHERE, 0.05, LEVELS, {"paradigm": "mllm"})


def panel(values: Sequence[Sequence[float]], start: int = 0) -> Panel:
    table = np.array(values, dtype=np.float64)
    captions = [f"c{start + i}" for i in range(len(table))]
    return Panel(table, captions, table.size, table.size, {}, None)


# -- pairing -------------------------------------------------------------------------------------------------------


def test_levels_are_those_of_generated_images_in_order():
    samples = [fake(0, "v2"), fake(0, "v10"), fake(0, "v0"), made("set/x", "m", level="long"), made("set/y", "m")]
    assert levels_of(samples) == {"v0": 0, "v2": 2, "v10": 10}


def test_images_of_one_caption_are_found_by_concept_or_by_the_id_without_its_level(tmp_path):
    prompts = [Prompt(id="set/a-v1", text="x", prompt_set="set", concept="world/a")]
    samples = [
        made("set/a-v1", "m", level="v1"),
        made("set/b", "m", level="v1", extra={"concept": "own"}),
        made("set/c/v1", "m", level="v1"),
        made("set/c-v2", "m", level="v2"),
        made("set/d", "m", level="v2"),
    ]
    with study_of(tmp_path / "run", samples, prompts) as opened:
        assert [caption_of(opened, s) for s in samples] == ["world/a", "own", "set/c", "set/c", "set/d"]


def test_a_caption_that_lacks_a_level_is_left_out_there_and_counted(tmp_path):
    samples = [fake(c, level) for c in range(3) for level in LEVELS]
    samples += [fake(3, "v0"), fake(3, "v1"), fake(4, "v0", outcome=Outcome.REFUSED)]
    samples.append(fake(5, "v0"))
    flags = {s.id: 1.0 for s in samples if s.id != "set/k2-v1/m/0"}
    with comparing(tmp_path / "run", samples) as (opened, compare):
        group = Group("mllm", None, [s for s in samples if s.outcome is Outcome.OK])
        found = Panel.of(opened, group, LEVELS, scored_by(flags, samples, {"set/k2-v1/m/0": "too_small"}), 0.05)
        row = compare.slope(found)
    assert found.captions == ["set/k0", "set/k1"]
    assert found.unscored == {"too_small": 1, "refused": 1, "unmatched": 5}
    assert (row.n_images, row.n_clusters, row.cluster_by) == (6, 2, "caption")
    assert row.n_images + sum(row.n_unscored.values()) == len(samples)


def test_generators_are_paired_each_by_itself_and_a_caption_weighs_once(tmp_path):
    samples = [fake(0, level, g) for level in LEVELS for g in ("m", "m2")]
    samples += [fake(1, level, "m") for level in LEVELS]
    samples += [fake(1, "v0", "m2")]
    flags = {s.id: -1.0 if s.level == "v2" and s.generator == "m" else 1.0 for s in samples}
    with comparing(tmp_path / "run", samples) as (opened, _):
        found = Panel.of(opened, Group("mllm", None, samples), LEVELS, scored_by(flags, samples), 0.05)
    assert found.captions == ["set/k0", "set/k1"]
    assert found.values.tolist() == [[1.0, 1.0, 0.5], [1.0, 1.0, 0.0]], "m2 at v0 of the second caption has no match"
    assert found.unscored == {"unmatched": 1}


def test_without_a_threshold_there_is_a_reason(tmp_path):
    samples = [fake(c, level) for c in range(3) for level in LEVELS]
    scored = scored_by({s.id: 1.0 for s in samples}, samples)
    scored = scored._replace(margins={}, undefined={0.05: "too_few_calibration_photographs"})
    with comparing(tmp_path / "run", samples) as (opened, compare):
        row = compare.slope(Panel.of(opened, Group("mllm", None, samples), LEVELS, scored, 0.05))
    assert row.value is None
    assert row.n_unscored == {"too_few_calibration_photographs": 9}
    assert row.method == "none: too few calibration photographs"


# -- known answers and coverage ------------------------------------------------------------------------------------


def test_slope_and_difference_of_made_scores_are_what_they_must_be(tmp_path):
    fallen = [[1, 1, 0]] * 12 + [[1, 0, 0]] * 6 + [[1, 1, 1]] * 2
    with comparing(tmp_path / "run", [fake(0, "v0")]) as (_, compare):
        slope, difference = compare.slope(panel(fallen)), compare.difference(panel(fallen))
        steady = panel([[1, 1, 1]] * 20)
        contrast = compare.contrast(("mllm", "diffusion"), panel(fallen), steady)
        apart = compare.contrast(("mllm", "diffusion"), panel(fallen), panel([[1, 1, 1]] * 20, start=100))
    assert slope.value == pytest.approx(-0.45)
    assert difference.value == pytest.approx(-0.9)
    assert (slope.contrast, difference.contrast) == (None, "detection_rate: v2 - v0")
    assert slope.unit == "detection_rate per level"
    for row in (slope, difference, contrast, apart):
        assert row.low is not None
        assert row.high is not None
        assert row.low <= row.value <= row.high < 0
        assert row.p_value < (0.05 if row is apart else 0.01)  # by bootstrap, of 200 resamples
    assert contrast.value == apart.value == pytest.approx(-0.45)
    assert (contrast.contrast, contrast.n_clusters) == ("slope: mllm - diffusion", 20)
    assert "paired by caption" in contrast.method
    assert "captions of each side by themselves" in apart.method


def test_where_nothing_changes_few_captions_still_leave_room_for_a_change(tmp_path):
    with comparing(tmp_path / "run", [fake(0, "v0")]) as (_, compare):
        row = compare.slope(panel([[1, 1, 1]] * 25))
        same = compare.contrast(("mllm", "diffusion"), panel([[1, 1, 1]] * 25), panel([[1, 1, 1]] * 25))
    for found in (row, same):
        assert found.value == 0
        assert found.p_value == 1
        assert found.low == pytest.approx(-0.133, abs=2e-3)
        assert found.high == pytest.approx(0.133, abs=2e-3)


@pytest.mark.parametrize(
    ("rates", "true"), [((0.6, 0.6, 0.6), 0.0), ((0.9, 0.7, 0.5), -0.2), ((1.0, 0.98, 0.96), -0.02)]
)
def test_the_slopes_interval_covers_the_truth_as_often_as_it_says(tmp_path, rates, true):
    rng = np.random.default_rng(5)
    covered = claimed = 0
    with comparing(tmp_path / "run", [fake(0, "v0")]) as (opened, compare):
        opened.resamples = 200
        compare = Comparing(opened, WHERE, 0.05, LEVELS, {})
        for _ in range(200):
            hard = rng.random((30, 1))  # a caption's own difficulty, shared by its levels
            drawn = np.where(rng.random((30, 3)) < 0.5, hard, rng.random((30, 3))) < rates
            row = compare.slope(panel(drawn.astype(float).tolist()))
            covered += row.low <= true <= row.high
            claimed += not row.low <= 0 <= row.high
    assert covered >= 0.92 * 200
    if true == 0:
        assert claimed <= 0.08 * 200


# -- which features move -------------------------------------------------------------------------------------------


def features_of(captions: int, columns: int, shift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(captions, columns))
    first, second = ((shared + rng.normal(size=(captions, columns))) / 2**0.5 for _ in range(2))
    return first, second + shift, [f"{'ab'[i % 2]}.c{i}" for i in range(columns)]


def test_the_effect_size_is_the_formula_and_has_no_unit():
    first, second, names = features_of(20, 6, 0.4)
    found = movement.effects(first * 1000 + 7, second * 1000 + 7, names, strongest=6, resamples=300, seed=0)
    pooled = np.sqrt((first.var(axis=0, ddof=1) + second.var(axis=0, ddof=1)) / 2)
    d = dict(zip(names, (second.mean(axis=0) - first.mean(axis=0)) / pooled, strict=True))
    assert {e.name: e.value for e in found.strongest} == pytest.approx(d, abs=1e-8)
    assert [abs(e.value) for e in found.strongest] == pytest.approx(sorted((abs(v) for v in d.values()), reverse=True))
    assert {f.name: f.value for f in found.families} == pytest.approx(
        {family: np.mean([abs(v) for n, v in d.items() if n.startswith(family)]) for family in "ab"}, abs=1e-8
    )


@pytest.mark.parametrize("shift", [0.0, 0.8])
def test_intervals_of_effects_cover_and_p_values_keep_their_level(shift):
    first, second, names = features_of(25, 600, shift)
    found = movement.effects(first, second, names, strongest=600, resamples=600, seed=1)
    assert np.mean([e.low <= shift <= e.high for e in found.strongest]) >= 0.94
    p = np.array([e.p_value for e in found.strongest])
    if shift == 0:
        assert np.mean(p < 0.05) <= 0.08
        assert not any(e.p_adjusted < 0.05 for e in found.strongest)
        assert all(f.low == 0 for f in found.families), "chance keeps a mean of sizes above 0: no claim follows from it"
    else:
        assert np.mean([e.p_adjusted < 0.05 for e in found.strongest]) > 0.9
        assert all(f.low > 0.5 for f in found.families)


def test_the_strongest_of_many_are_not_taken_at_their_word():
    first, second, names = features_of(25, 900, 0.0, seed=4)
    found = movement.effects(first, second, names, strongest=15, resamples=600, seed=1)
    assert len(found.strongest) == 15
    assert sum(e.low <= 0 <= e.high for e in found.strongest) >= 14


def test_few_captions_are_swapped_in_every_way_and_constant_columns_left_out():
    first, second, names = features_of(6, 4, 3.0)
    first[:, 1] = second[:, 1] = 5.0
    first[:, 2], second[:, 2] = 0.0, 1.0
    found = movement.effects(first, second, names, strongest=4, resamples=100, seed=0)
    assert {e.name for e in found.strongest} == {"a.c0", "b.c3"}
    assert (found.features, found.constant) == (2, 2)
    assert {e.p_value for e in found.strongest} == {2 / 2**6}, "the two extreme swaps of 64"
    with pytest.raises(ValueError, match="at least 5 captions"):
        movement.effects(first[:4], second[:4], names, strongest=4, resamples=100, seed=0)


def test_the_false_discovery_rate_is_adjusted_as_published():
    # Benjamini and Hochberg (1995), section 4: the largest p at most 0.05 * i / 15 is the fourth.
    p = [
        0.0001,
        0.0004,
        0.0019,
        0.0095,
        0.0201,
        0.0278,
        0.0298,
        0.0344,
        0.0459,
        0.3240,
        0.4262,
        0.5719,
        0.6528,
        0.7590,
        1,
    ]
    adjusted = movement.benjamini_hochberg(np.array(p))
    assert (adjusted <= 0.05).tolist() == [True] * 4 + [False] * 11
    shuffled = np.random.default_rng(0).permutation(15)
    assert movement.benjamini_hochberg(np.array(p)[shuffled]).tolist() == adjusted[shuffled].tolist()


# -- a whole experiment over pixels --------------------------------------------------------------------------------


class Darkness:
    """A detector that calls dark images fake: real scores of real pixels, with a threshold of its own."""

    name, version, decision = "darkness", "1", 0.0
    thresholds: Mapping[float, float] = {0.05: 0.0}
    seen: frozenset[str] = frozenset()

    def score(self, sources: Sequence[Path], *, chains: Sequence[str], threads: int) -> list[Score]:
        pixels = [perturb.apply(images.decode(source), chain) for source, chain in zip(sources, chains, strict=True)]
        return [Score(float(128 - image.mean())) for image in pixels]


def picture(bright: float, rough: float, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    pixels = np.clip(rng.normal(bright, rough, (96, 96, 3)), 0, 255).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


@contextmanager
def pictured(root: Path, *, with_levels: bool = True) -> Iterator[Study]:
    """Photographs are bright; `d` stays dark at every level, `m` grows bright and smooth with it."""
    bright = {"v0": 90.0, "v1": 110.0, "v2": 175.0}
    with Store.open(root, RunSpec(suite="s", suite_digest="1", profile="p", profile_digest="2")) as store:
        rows = []
        for caption in range(10):
            extra = {"concept": f"c{caption}"}
            real = store.add_image(picture(180, 20, caption), "png")
            rows.append(
                Sample(id=f"r{caption}", label="real", paradigm="real", image=real, prompt_id=f"set/k{caption}")
            )
            for level, number in LEVELS.items():
                for generator in ("m", "d"):
                    moving = generator == "m"
                    data = picture(
                        bright[level] + caption if moving else 90 + caption,
                        20 - 3 * number if moving else 20,
                        1000 + 100 * caption + 10 * number + moving,
                    )
                    more: dict[str, object] = {"image": store.add_image(data, "png")}
                    more |= {"level": level, "extra": extra} if with_levels else {}
                    shown = made(f"set/k{caption}-{level}", generator, **more)
                    rows.append(msgspec.structs.replace(shown, prompt="a ball" + " here" * number))
        store.add_samples(enumerate(rows))
        yield Study(store, seed=0, resamples=300, threads=1)


def experiment(**more: object) -> Richness:
    asked = Richness(Parameters(features=("npr", "bits", "directional"), view="native", **more))
    asked.detectors = [Loaded(Darkness())]
    return asked


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> list[Estimate]:
    with pictured(tmp_path_factory.mktemp("pictured") / "run") as opened:
        assert levels.lengths(opened)["v2"] == {"words": 4.0, "prompts": 10}
        return confounds.marked(experiment().estimates(opened))


def find(rows: Sequence[Estimate], metric: str, generator: str | None, **more: object) -> list[Estimate]:
    wanted = {"metric": metric, "generator": generator, **more}
    return [r for r in rows if all(getattr(r, key) == value for key, value in wanted.items())]


def test_detection_falls_for_the_generator_that_moves_and_not_for_the_other(rows):
    rates = {r.level: r.value for r in find(rows, "detection_rate", "m")}
    assert rates == {"v0": 1.0, "v1": pytest.approx(1.0), "v2": 0.0}
    (slope,) = find(rows, "slope", "m")
    assert slope.value == pytest.approx(-0.5)
    assert slope.p_adjusted < 0.05
    assert slope.high < 0
    (still,) = find(rows, "slope", "d")
    assert still.low < 0 < still.high
    assert still.p_adjusted == 1
    (contrast,) = [r for r in rows if r.contrast == "slope: mllm - diffusion"]
    assert contrast.high < 0
    (aucs,) = [r for r in find(rows, "auc", "m") if r.level == "v0"]
    assert aucs.value == 1.0


def test_the_features_that_move_are_named_for_the_generator_that_moves(rows):
    moved = [r for r in rows if r.unit == "standard deviations"]
    strongest = [r for r in moved if r.generator == "m" and "family" not in r.contrast]
    assert len(strongest) == 15
    assert all(r.p_adjusted < 0.05 and (r.low > 0 or r.high < 0) for r in strongest[:3])
    assert strongest[0].contrast.startswith("v2 - v0: ")
    assert not any(r.p_adjusted < 0.05 for r in moved if r.generator == "d")
    assert {r.contrast for r in moved if "family" in r.contrast and r.generator == "m"} == {
        f"v2 - v0: family {name}" for name in ("npr", "bits", "directional")
    }
    assert len({r.cell for r in rows}) == len(rows)


def test_the_report_says_so_in_words(rows):
    reading = Reading("run", {}, rows, {"lengths": {"v0": {"words": 2.0, "prompts": 10}}})
    answer = told.answer(reading)
    assert answer.verdict == "Yes, for MLLM images"
    assert answer.tone == "clear"
    section = told.section(reading)
    names = [block.name for block in section.blocks if block.kind == "table"]
    assert names == ["richness-levels-darkness", "richness-slopes", "richness-features", "richness-families"]
    (chart,) = next(block for block in section.blocks if block.kind == "charts").charts
    assert chart.svg.count("<rect") + chart.svg.count("<circle") > 6
    assert "2 words at v0 (10 prompts)" in section.blocks[1].text[0]


def test_nothing_is_claimed_where_intervals_hold_0(rows):
    still = [r for r in rows if r.paradigm == "diffusion"]
    answer = told.answer(Reading("run", {}, still, {}))
    assert (answer.verdict, answer.tone) == ("We cannot tell", "open")
    text = "".join(part if isinstance(part, str) else part.text for sentence in answer.sentences for part in sentence)
    assert "Nearly all images are detected at every level" in text
    assert "no forensic feature is shown to move" in text


def test_a_leak_probe_that_reaches_a_level_is_told_there_and_in_what_compares(rows):
    base = {"experiment": "leak", "metric": "auc", "unit": "probability", "method": "x", "n_prompts": 0, "n_images": 9}
    leak = Estimate(**base, detector="size", perturbation="native", paradigm="mllm", value=0.6, low=0.55, high=0.9)
    found = confounds.marked([leak, *rows])
    stamped = {(r.metric, r.level, r.generator) for r in found if r.confounded and r.paradigm == "mllm"}
    assert ("auc", "v2", "m") in stamped, "there the detector is worse than the probe"
    assert ("auc", "v0", "m") not in stamped
    assert ("slope", None, "m") in stamped
    assert [r.contrast for r in found if r.confounded and r.paradigm is None] == ["slope: mllm - diffusion"]
    assert not any(r.confounded for r in found if r.paradigm == "diffusion")


def test_without_levels_one_line_says_what_is_missing(tmp_path):
    with pictured(tmp_path / "run", with_levels=False) as opened:
        (row,) = experiment().estimates(opened)
    assert row.value is None
    assert row.n_unscored == {"no_levels": 60}
    answer = told.answer(Reading("run", {}, [row], {}))
    assert answer.verdict == "Not measured"
    assert "the column level (v0, v1, v2)" in answer.sentences[0][1].text


def test_units_are_printed_as_what_they_are(rows):
    (slope,) = find(rows, "slope", "m")
    assert number(slope, -0.05) == "−5.0 pts"
    moved = next(r for r in rows if r.unit == "standard deviations")
    assert number(moved, 0.5) == "+0.50 sd"
    (difference,) = find(rows, "difference", "m", contrast="detection_rate: v2 - v0")
    assert number(difference, -0.05) == "−5 pts"


# -- the suite -----------------------------------------------------------------------------------------------------


def test_the_suite_asks_the_embedded_set_for_its_levels_and_the_papers_for_files(tmp_path, monkeypatch):
    monkeypatch.setenv("MLLMRISK_PROMPTS", str(tmp_path / "none"))
    found = plan.plan(Request(suite="richness"))
    assert found.captions == ("benign",)
    assert {p.level for order in found.orders for p in order.texts} == set(LEVELS)
    assert [e.kind for e in found.experiments] == ["leak", "richness"]
    missing = [order.missing for order in plan.plan(Request(suite="richness", profile="paper")).orders]
    assert ["mllmrisk expand --prompts" in str(why) for why in missing] == [True, True]
