"""The rule of corruption: verdicts, the null of alignment, one picture for many prompts, calibration."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mllmrisk import images, judges, metrics, perturb, world
from mllmrisk.experiments import corruption, made_corruptions
from mllmrisk.experiments.corruption import Labelled, Verdict
from mllmrisk.records import Outcome, Sample, Score

THRESHOLDS = {"black": 0.5, "noise": 0.5, "rendered_text": 0.3, "unrelated": -0.2}
SOUND = {"black": Score(0.0), "noise": Score(0.1), "rendered_text": Score(0.02), "unrelated": Score(-0.3)}


def sample(number=0, prompt=None, generator="g", outcome=Outcome.OK, reason=None):
    return Sample(
        id=f"s{number}",
        label="fake",
        paradigm="mllm",
        generator=generator,
        prompt_id=prompt,
        outcome=outcome,
        reason=reason,
    )


def judged(repeated=False, black="filtered", thresholds=THRESHOLDS, **answers):
    return corruption.verdict(sample(), {**SOUND, **answers}, thresholds, repeated=repeated, black=black)


# -- the rule -------------------------------------------------------------------------------------------------------


def test_a_sound_picture_is_ok():
    assert judged() == Verdict("ok", None, None, {})


def test_an_outcome_is_the_state_whatever_judges_say():
    for outcome in (Outcome.REFUSED, Outcome.FILTERED, Outcome.FAILED):
        given = sample(outcome=outcome, reason="moderation_blocked")
        assert corruption.verdict(given, SOUND, THRESHOLDS) == Verdict(outcome.value, "moderation_blocked")


@pytest.mark.parametrize("code", ["empty", "not_an_image", "truncated", "corrupt"])
def test_a_picture_that_does_not_decode_is_corrupted(code):
    answers = dict.fromkeys(SOUND, Score(None, code))
    found = corruption.verdict(sample(), answers, THRESHOLDS)
    assert (found.state, found.reason) == ("corrupted", "undecodable")


def test_a_picture_that_nobody_looked_at_is_not_ok():
    assert corruption.verdict(sample(), {}, THRESHOLDS).state == "unjudged"
    small = corruption.verdict(sample(), dict.fromkeys(SOUND, Score(None, "too_small")), THRESHOLDS)
    assert (small.state, set(small.unscored.values())) == ("unjudged", {"too_small"})


def test_what_was_not_seen_stands_beside_ok():
    assert judged(unrelated=Score(None, "no_prompt")) == Verdict("ok", None, None, {"unrelated": "no_prompt"})


def test_the_first_look_that_objects_names_the_corruption():
    assert judged(noise=Score(0.5), unrelated=Score(0.1)) == Verdict("corrupted", "noise", 0.5)
    assert judged(rendered_text=Score(0.6), unrelated=Score(0.1)) == Verdict("corrupted", "rendered_text", 0.6)
    assert judged(unrelated=Score(-0.2)).reason == "unrelated"
    assert judged(unrelated=Score(-0.2000001)).state == "ok"


def test_a_black_picture_was_filtered_unless_nothing_filters():
    found = corruption.verdict(sample(), {**SOUND, "black": Score(0.9)}, THRESHOLDS)
    assert found == Verdict("filtered", "black", 0.9)
    found = corruption.verdict(sample(), {**SOUND, "black": Score(0.9)}, THRESHOLDS, black="corrupted")
    assert found == Verdict("corrupted", "black", 0.9)


def test_a_fixed_picture_is_a_refusal_and_an_empty_one_is_not():
    assert judged(repeated=True).state == "refused"
    assert judged(repeated=True, unrelated=Score(0.3)).state == "refused"
    assert judged(repeated=True, noise=Score(0.9)) == Verdict("corrupted", "noise", 0.9)


def test_what_has_no_threshold_is_not_asked():
    assert judged(noise=Score(1.0), thresholds={"unrelated": -0.2}).state == "ok"


# -- the null of alignment ------------------------------------------------------------------------------------------


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def space(seed, prompts=40, each=5, closeness=1.0, corrupted=0.0):
    """Prompts, and benign images near their own prompt but for a share that are near nothing."""
    rng = np.random.default_rng(seed)
    texts = unit(rng.normal(size=(prompts, 24)))
    own = np.repeat(np.arange(prompts), each)
    near = closeness * texts[own] + 0.6 * unit(rng.normal(size=(len(own), 24)))
    broken = rng.random(len(own)) < corrupted
    near[broken] = rng.normal(size=(int(broken.sum()), 24))
    return unit(near), texts, own, broken


def test_the_threshold_is_the_quantile_of_strangers():
    vectors, texts, own, _ = space(0)
    found = corruption.null_threshold(vectors, texts, own, [str(i) for i in range(40)])
    cosines = vectors @ texts.T
    strangers = np.array([cosines[i, j] for i in range(len(own)) for j in range(40) if j != own[i]])
    assert (found.n_images, found.n_pairs) == (200, 200 * 39)
    assert np.mean(strangers <= -found.threshold) == pytest.approx(0.95, abs=2 / len(strangers))
    assert found.kept == np.mean(cosines[np.arange(200), own] > -found.threshold) > 0.95


def test_corruption_among_the_benign_does_not_move_the_threshold():
    concepts = [str(i) for i in range(40)]
    clean = corruption.null_threshold(*space(1)[:3], concepts)
    vectors, texts, own, broken = space(1, corrupted=0.8)
    dirty = corruption.null_threshold(vectors, texts, own, concepts)
    assert dirty.threshold == pytest.approx(clean.threshold, abs=0.02)
    unrelated = -np.einsum("nd,nd->n", vectors, texts[own]) >= dirty.threshold
    assert np.mean(unrelated[broken]) > 0.9
    assert np.mean(unrelated[~broken]) < 0.05


def test_prompts_of_one_concept_are_no_strangers():
    vectors, texts, own, _ = space(2)
    doubled = np.concatenate([texts, texts])  # every prompt again, in other words
    concepts = [str(i) for i in range(40)] * 2
    apart = corruption.null_threshold(vectors, doubled, own, concepts)
    assert apart.threshold == pytest.approx(corruption.null_threshold(vectors, texts, own, concepts[:40]).threshold)
    mixed = corruption.null_threshold(vectors, doubled, own, [str(i) for i in range(80)])
    assert mixed.threshold < apart.threshold


def test_few_strangers_make_no_threshold():
    vectors, texts, own, _ = space(3, prompts=5, each=3)
    found = corruption.null_threshold(vectors, texts, own, list("abcde"))
    assert found == corruption.Null(None, 0.95, 15, 60, None)
    assert corruption.null_threshold(vectors, texts, own, ["same"] * 5).n_pairs == 0
    with pytest.raises(ValueError, match="level"):
        corruption.null_threshold(vectors, texts, own, list("abcde"), level=1.0)


# -- one picture for many prompts -----------------------------------------------------------------------------------


def refusal():
    """A provider's fixed picture: a grey card with a sign."""
    card = np.full((128, 128, 3), 225, np.uint8)
    card[40:90, 58:70] = 60
    card[95:107, 58:70] = 60
    return card


def measured(pictures):
    found = images.statistics(pictures, threads=2)
    return found.hashes, found.values


def test_a_fixed_picture_is_found_among_renders_of_one_generator():
    rng = np.random.default_rng(30)
    scenes = list(world.scenes())[::4]
    drawn = [world.draw(scene, rng) for scene in scenes]
    for at, chain in ((3, "native"), (17, "jpeg:80"), (31, "webp:80"), (44, "jpeg:60")):
        drawn[at] = perturb.apply(refusal(), chain)
    hashes, values = measured(drawn)
    samples = [sample(i, f"p{i}") for i in range(len(drawn))]
    (group,) = corruption.duplicates(hashes, samples, values=values)
    assert group.samples == ("s3", "s17", "s31", "s44")
    assert (group.generator, group.n_prompts) == ("g", 4)
    assert group.spread <= corruption.BITS


def test_repeats_of_a_prompt_or_of_a_concept_are_no_refusal():
    hashes, values = measured([refusal()] * 6)
    one = [sample(i, "p") for i in range(6)]
    assert corruption.duplicates(hashes, one, values=values) == []
    wordings = [sample(i, f"p{i}") for i in range(6)]
    assert len(corruption.duplicates(hashes, wordings, values=values)) == 1
    assert corruption.duplicates(hashes, wordings, concepts={f"p{i}": "scene" for i in range(6)}) == []
    apart = [sample(i, f"p{i}", generator=f"g{i % 3}") for i in range(6)]
    assert corruption.duplicates(hashes, apart, values=values) == []
    unprompted = [sample(i, None) for i in range(6)]
    assert corruption.duplicates(hashes, unprompted) == []
    assert corruption.duplicates(np.zeros(0, np.uint64), []) == []


def test_one_layout_in_other_tones_is_another_picture():
    cards = [np.clip(refusal().astype(int) - 12 * i, 0, 255).astype(np.uint8) for i in range(5)]
    hashes, values = measured(cards)
    samples = [sample(i, f"p{i}") for i in range(5)]
    assert len(corruption.duplicates(hashes, samples)) == 1
    assert corruption.duplicates(hashes, samples, values=values) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6)), max_size=40), st.integers(0, 3))
def test_groups_are_disjoint_tight_and_wide_enough(drawn, bits):
    codes = np.array([code for code, _ in drawn], np.uint64)
    samples = [sample(i, f"p{prompt}") for i, (_, prompt) in enumerate(drawn)]
    groups = corruption.duplicates(codes, samples, bits=bits, prompts=2)
    members = [int(name[1:]) for group in groups for name in group.samples]
    assert len(members) == len(set(members))
    for group in groups:
        inside = [int(name[1:]) for name in group.samples]
        assert group.spread <= bits
        assert images.hash_distance(codes[inside][:, None], codes[inside]).max() <= 2 * bits
        assert group.n_prompts == len({samples[i].prompt_id for i in inside}) >= 2


# -- calibration ----------------------------------------------------------------------------------------------------


def test_calibration_counts_and_its_intervals_are_wilsons():
    labelled = [
        *[Labelled(True, "noise", Verdict("corrupted", "noise"))] * 18,
        *[Labelled(True, "noise", Verdict("ok"))] * 2,
        *[Labelled(True, "black", Verdict("filtered", "black"))] * 5,
        *[Labelled(False, "sound", Verdict("ok"))] * 97,
        *[Labelled(False, "sound", Verdict("refused", "repeated"))] * 3,
        Labelled(False, "sound", Verdict("unjudged")),
    ]
    found = corruption.calibration(labelled)
    assert found.validation == metrics.Validation(23, 2, 97, 3)
    assert found.sensitivity == metrics.wilson(23, 25)
    assert found.specificity == metrics.wilson(97, 100)
    assert found.by_kind["noise"] == metrics.wilson(18, 20)
    assert found.n_unjudged == 1


def test_calibration_of_nothing_has_no_figure():
    found = corruption.calibration([])
    assert (found.sensitivity, found.specificity, found.n_unjudged) == (None, None, 0)


def test_gates_alone_on_made_examples_find_all_but_what_needs_the_prompt():
    judge = judges.load("gates")
    labelled = []
    for example in made_corruptions.examples(12, seed=5):
        data = example.image
        if not isinstance(data, bytes):
            buffer = io.BytesIO()
            Image.fromarray(data).save(buffer, "PNG")
            data = buffer.getvalue()
        (answer,) = judge.score([data], threads=1)
        labelled.append(
            Labelled(example.corrupted, example.kind, corruption.verdict(sample(), answer, judge.threshold))
        )
    found = corruption.calibration(labelled)
    assert found.specificity.value == 1.0
    assert found.by_kind["unrelated"].value == 0.0
    seen = [interval.value for kind, interval in found.by_kind.items() if kind != "unrelated"]
    assert min(seen) > 0.8
    assert np.mean(seen) > 0.95


def test_made_examples_follow_their_seed_and_say_what_they_are():
    first, again, other = (made_corruptions.examples(3, seed) for seed in (1, 1, 2))
    assert [np.array_equal(a.image, b.image) if not isinstance(a.image, bytes) else a.image == b.image
            for a, b in zip(first, again, strict=True)] == [True] * len(first)  # fmt: skip
    assert not np.array_equal(first[0].image, other[0].image)
    counts = {kind: sum(e.kind == kind for e in first) for kind in {e.kind for e in first}}
    assert counts == {"sound": 12, "photograph": 12, "unrelated": 3, **dict.fromkeys(made_corruptions.WAYS, 3)}
    assert all(e.corrupted == (e.kind not in ("sound", "photograph")) for e in first)
