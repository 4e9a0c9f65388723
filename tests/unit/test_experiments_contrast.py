"""Contrasts of matched prompts and agreement of judges, on studies made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mllmrisk import metrics
from mllmrisk.errors import UsageError
from mllmrisk.experiments import agreement, contrast, published
from mllmrisk.records import Estimate, Prompt
from mllmrisk.run import load_run
from studies import said, sample, study

SETS = ("en", "zh", "slang", "twins")
CONCEPTS = tuple(range(8))


def prompts() -> list[Prompt]:
    """Two languages of one concept each, slang with safe twins that have concepts of their own."""
    found = [Prompt(id=f"{s}/{c}", text="", prompt_set=s, concept=f"c{c}") for s in ("en", "zh") for c in CONCEPTS]
    found += [Prompt(id=f"slang/{c}", text="", prompt_set="slang", concept=f"s{c}") for c in CONCEPTS]
    found += [
        Prompt(id=f"twins/{c}", text="", prompt_set="twins", concept=f"t{c}", twin_of=f"slang/{c}") for c in CONCEPTS
    ]
    return [*found, Prompt(id="zh/only", text="", prompt_set="zh", concept="nowhere else")]


#: Flagged images of four per prompt, by set and generator.
FLAGGED = {
    ("en", "d"): 2, ("en", "m"): 3, ("zh", "d"): 0, ("zh", "m"): 3, ("slang", "d"): 1, ("slang", "m"): 2,
    ("twins", "d"): 1, ("twins", "m"): 0,
}  # fmt: skip


@pytest.fixture
def rows(tmp_path: Path) -> dict[tuple[str | None, ...], Estimate]:
    samples = [sample(p.id, g, i) for p in prompts() for g in ("d", "m") for i in range(4)]
    judge = said(
        "j", {"sexual": {s.id: float(s.index < FLAGGED[str(s.prompt_set), str(s.generator)]) for s in samples}}
    )
    with study(tmp_path / "run", samples, prompts(), [judge]) as made:
        found = contrast.Contrast(
            contrast.Parameters(
                designs=("paradigm", "language", "association"),
                sets=("en",),
                language=(("zh", "en"), ("zh",)),
                association=(("slang", "twins"),),
                judges=("j",),
            )
        ).estimates(made)
    assert len({row.cell for row in found}) == len(found)
    return {(r.contrast, r.paradigm, r.generator): r for r in found}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (("paradigm: mllm - diffusion", None, None), (3 - 2) / 4),
        (("language: zh - en", "diffusion", "d"), (0 - 2) / 4),
        (("language: zh - en", "mllm", "m"), 0.0),
        (("language: zh - en, mllm - diffusion", None, None), 0.0 - (0 - 2) / 4),
        (("association: slang - twins", "mllm", None), 2 / 4),
        (("association: slang - twins, mllm - diffusion", None, None), 2 / 4 - 0.0),
    ],
)
def test_differences_by_hand(rows: dict[tuple[str | None, ...], Estimate], key: tuple[str, ...], value: float):
    assert rows[key].value == pytest.approx(value)


def test_a_prompt_without_its_match_is_left_out_and_counted(rows: dict[tuple[str | None, ...], Estimate]):
    row = rows["language: zh - en", "mllm", "m"]
    assert row.n_unscored == {"unmatched": 4}
    assert row.n_clusters == len(CONCEPTS)
    assert row.n_images == 2 * 4 * len(CONCEPTS)


def test_holm_is_over_the_whole_family(rows: dict[tuple[str | None, ...], Estimate]):
    given = [row.p_value for row in rows.values()]
    assert [row.p_adjusted for row in rows.values()] == pytest.approx(list(metrics.holm(np.array(given, dtype=float))))
    assert len(given) == 1 + 2 * (4 + 1)


def test_every_prompt_equally_far_is_as_sure_as_a_permutation_allows(rows: dict[tuple[str | None, ...], Estimate]):
    # 8 concepts, all of one sign: 2 of the 2**8 patterns are as extreme, more than the 200 resamples asked for.
    assert rows["language: zh - en", "diffusion", "d"].p_value == pytest.approx(2 / 2**8, abs=0.02)


def test_detection_stands_alone_and_unknown_designs_are_refused():
    assert contrast.Contrast(contrast.Parameters()).photographs
    assert not contrast.Contrast(contrast.Parameters(designs=("paradigm",))).photographs
    with pytest.raises(UsageError, match="table of its own"):
        contrast.Parameters(designs=("detection", "paradigm"))
    with pytest.raises(UsageError, match="Did you mean 'language'"):
        contrast.Parameters(designs=("langage",))


def test_a_contrast_asks_for_the_sets_of_its_designs_once():
    given = contrast.Parameters(
        designs=("paradigm", "language"), sets=("en",), language=(("zh", "en"),), gender=("people",), take={"zh": 3}
    )
    asked = list(contrast.Contrast(given).asks())
    assert [(ask.prompt_set, ask.samples, ask.take) for ask in asked] == [("en", 10, None), ("zh", 10, 3)]


def test_gender_counts_people_shown_only(tmp_path: Path):
    samples = [sample(f"people/{k}", g, i) for k in range(6) for g in ("d", "d2", "m") for i in range(4)]
    # d shows a man in three of four, d2 in two, m a woman always; the last image of d2 shows nobody.
    men = {"d": (0, 1, 2), "d2": (0, 1), "m": ()}
    woman, man = {}, {}
    for s in samples:
        nobody = s.generator == "d2" and s.index == 3
        woman[s.id] = 0.0 if nobody else float(s.index not in men[str(s.generator)])
        man[s.id] = 0.0 if nobody else 1.0 - woman[s.id]
    judge = said("j", {"sexual": {s.id: 0.0 for s in samples}, "woman": woman, "man": man}, attributes=("woman", "man"))
    with study(tmp_path / "run", samples, judges=[judge]) as made:
        given = contrast.Parameters(designs=("gender",), gender=("people",), judges=("j",))
        found = {(r.contrast, r.paradigm, r.generator): r for r in contrast.Contrast(given).estimates(made)}
    assert found["gender: women - half", "diffusion", "d"].value == pytest.approx(0.25 - 0.5)
    assert found["gender: women - half", "diffusion", "d2"].value == pytest.approx(1 / 3 - 0.5)
    assert found["gender: women - half", "diffusion", "d2"].n_unscored == {"no_person": 6}
    assert found["gender: women - half", "diffusion", "d2"].n_images == 18
    # Six prompts that always show a woman do not make a certainty of it.
    always = found["gender: women - half", "mllm", "m"]
    assert (always.value, always.high) == (0.5, 0.5)
    assert always.low == pytest.approx(metrics.wilson(6, 6).low - 0.5, abs=1e-6)
    assert found["gender: mllm - diffusion", None, None].value == pytest.approx(1 - 2 / 7)
    assert found["gender: d - d2", None, None].value == pytest.approx(0.25 - 1 / 3)


# -- agreement ------------------------------------------------------------------------------------------------------

GIVEN = {
    "first": [1, 1, 1, 0, 0, 0, 1, 0, 1, 0],
    "second": [1, 1, 0, 0, 0, 0, 1, 0, 0, 1],
    "third": [1, 0, 0, 0, 0, 1, 1, 0, None, 1],
}


def judged(root: Path, rule: str = "majority") -> tuple[list[Estimate], list[str]]:
    samples = [sample(f"a/{i}", "d") for i in range(10)]
    panel = []
    for name, flags in GIVEN.items():
        scores = {s.id: "timeout" if f is None else float(f) for s, f in zip(samples, flags, strict=True)}
        # Only two judges see the second category, one sees the third.
        extra = {"first": {"violence": scores, "other": scores}, "second": {"violence": scores}}.get(name, {})
        panel.append(said(name, {"sexual": scores, **extra}))
    with study(root, samples, judges=panel) as made:
        given = agreement.Parameters(judges=tuple(GIVEN), consensus=rule)  # type: ignore[arg-type]
        found = agreement.Agreement(given).estimates(made)
        made.store.write_estimates({}, found)
    assert len({row.cell for row in found}) == len(found)
    return found, [s.id for s in samples]


def test_agreement_is_on_what_both_scored_and_both_can_see(tmp_path: Path):
    found, _ = judged(tmp_path / "run")
    kappa = {(r.category, r.judge): r for r in found if r.metric == "kappa"}
    assert {key for key in kappa if key[1] is not None} == {
        ("sexual", "first & second"), ("sexual", "first & third"), ("sexual", "second & third"),
        ("violence", "first & second"),
    }  # fmt: skip
    both = metrics.cohen_kappa(np.array(GIVEN["first"]), np.array(GIVEN["second"]))
    assert kappa["sexual", "first & second"].value == pytest.approx(both.value)
    row = kappa["sexual", "first & third"]
    assert (row.n_images, row.n_unscored) == (9, {"timeout": 1})
    table = np.array([[-1 if f is None else f for f in flags] for flags in GIVEN.values()])
    alpha = next(r for r in found if (r.metric, r.category) == ("alpha", "sexual"))
    assert alpha.value == pytest.approx(metrics.krippendorff_alpha(table).value)
    assert alpha.n_images == 10


@pytest.mark.parametrize(("rule", "flagged"), [("majority", 4), ("any", 7), ("all", 2)])
def test_consensus_is_a_stated_rule(tmp_path: Path, rule: str, flagged: int):
    found, _ = judged(tmp_path / "run", rule)
    row = next(
        r for r in found if (r.metric, r.category, r.generator, r.prompt_set) == ("unsafe_score", "sexual", "d", None)
    )
    assert row.judge == agreement.CONSENSUS
    assert row.value == pytest.approx(flagged / 10)
    assert rule.replace("all", "every").replace("majority", "more than half") in row.method


def test_the_most_disputed_images_come_first(tmp_path: Path):
    found, ids = judged(tmp_path / "run")
    alpha = next(r for r in found if (r.metric, r.category) == ("alpha", "sexual"))
    _, images = load_run(tmp_path / "run").show(alpha.cell)
    assert images[0].sample.id == ids[8]  # one against one
    assert {image.sample.id for image in images[1:5]} == {ids[1], ids[2], ids[5], ids[9]}  # two against one
    assert images[-1].score.value == 0.0


# -- beside the paper -----------------------------------------------------------------------------------------------


def estimate(**columns: object) -> Estimate:
    given = {
        "experiment": "unsafe", "metric": "unsafe_as_published", "unit": "share of images", "method": "m",
        "n_prompts": 1, "n_images": 10, "value": 0.5, "paradigm": "mllm",
    }  # fmt: skip
    return Estimate(**{**given, **columns})  # type: ignore[arg-type]


def test_the_paper_is_reproduced_only_on_its_prompts_by_its_generators():
    same = estimate(prompt_set="template-long", generator="janus-pro", judge="j")
    other = estimate(prompt_set=None, generator=None)
    by = {(b.figure.prompt_set, b.figure.generator): b for b in published.beside([same, other])}
    found = by["template-long", "janus-pro"]
    assert found.figure.value == pytest.approx(0.613)
    assert (found.same, found.elsewhere) == ([same], [])
    assert (by["template-long", "janus"].same, by["template-long", "janus"].elsewhere) == ([], [other])
    assert by["template-long", "sd35-large"].elsewhere == []
    assert not any(figure.figure.metric == "corrupted_rate" for figure in by.values())


def test_twins_stand_beside_twins():
    rows = [
        estimate(experiment="corrupted", metric="corrupted_rate", prompt_set=name, value=value)
        for name, value in (("literal", 0.2), ("tame", 0.1))
    ]
    pair = estimate(experiment="corrupted", metric="difference", contrast="corrupted: literal - tame")
    by = {(b.figure.prompt_set, b.figure.generator): b for b in published.beside([*rows, pair])}
    assert [r.prompt_set for r in by["4chan", "bagel"].elsewhere] == ["literal"]
    assert [r.prompt_set for r in by["4chan-twins", "bagel"].elsewhere] == ["tame"]
