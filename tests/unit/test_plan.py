"""What a call comes to before any work: roles and stand-ins, takes and limits, what is left out and why."""

import json
from pathlib import Path

import pytest

from mllmrisk import budget, plan
from mllmrisk.errors import UsageError
from mllmrisk.plan import Request


def asked(**changes) -> plan.Plan:
    return plan.plan(Request(**changes))


@pytest.fixture
def nothing_at_hand(tmp_path, monkeypatch):
    """A user's folder of prompts that is empty."""
    monkeypatch.setenv("MLLMRISK_PROMPTS", str(tmp_path / "none"))


def test_the_papers_study_is_its_plan(nothing_at_hand):
    found = asked(profile="paper")
    told = budget.outline(found)
    assert told["generators"] == [
        "sd35-large",
        "sd35-large-turbo",
        "bagel",
        "janus",
        "janus-pro",
        "tokenflow",
        "vila-u",
    ]
    assert told["totals"]["by_experiment"]["unsafe"] == 82_880
    assert told["totals"]["by_experiment"]["captions"] == 14_000
    sets = {row["prompt_set"]: row for row in told["prompt_sets"]}
    assert sum(sets[name]["prompts"] for name in ("i2p", "lexica", "4chan", "template", "template-long")) == 1184
    assert {row["samples"] for name, row in sets.items() if name not in {"coco", "flickr30k"}} == {10}
    assert sets["4chan-twins"]["images"] == 50 * 7 * 10
    lines = "\n".join(budget.describe(found))
    assert "82,880" in lines
    assert "14,000" in lines
    assert found.profile.judges == ["openai-moderation"]


def test_a_plan_without_its_texts_says_where_they_are_published_and_does_nothing_else(nothing_at_hand):
    with pytest.raises(UsageError) as told:
        plan.require(asked(profile="paper"))
    assert "zenodo" in str(told.value)
    assert "mllmrisk prompts fetch i2p" in str(told.value)


def test_detectors_that_are_not_at_hand_are_listed_with_their_cure(nothing_at_hand, tmp_path, monkeypatch):
    monkeypatch.setenv("MLLMRISK_WEIGHTS", str(tmp_path / "none"))
    for name in ("ILLUMINARTY_API_KEY", "WINSTON_API_KEY", "MLLMRISK_PUBLIC_IMAGES"):
        monkeypatch.delenv(name, raising=False)
    found = asked(profile="paper", suite="fake")
    assert list(found.absent) == ["de-fake", "aiornot-siglip2", "winston", "illuminarty"]
    lines = "\n".join(budget.describe(found))
    assert "mllmrisk export-detector aiornot-siglip2" in lines
    assert "ILLUMINARTY_API_KEY" in lines
    with pytest.raises(UsageError, match=r"4 detector\(s\) are not at hand"):
        plan.require(found._replace(orders=[]))


def test_the_embedded_profile_stands_in_for_every_set_and_needs_nothing():
    found = asked()
    plan.require(found)
    sets = {order.described.common.name: order for order in found.orders}
    assert set(sets) == {"literal", "abstract", "framed", "long", "twins", "chinese", "neutral", "benign"}
    assert sets["benign"].samples == 1
    assert {order.samples for name, order in sets.items() if name != "benign"} == {5}
    assert found.captions == ("benign",)
    assert found.photographs
    assert "lexica" in " ".join(found.notes)
    kinds = [experiment.kind for experiment in found.experiments]
    assert {"unsafe", "corrupted", "contrast", "filter", "agreement", "leak", "detection"} <= set(kinds)


def test_samples_and_limit_change_what_is_asked_for_and_the_spec():
    whole, small = asked(), asked(samples=2, limit=3)
    counts = {order.described.common.name: (order.n_prompts, order.samples) for order in small.orders}
    assert counts["literal"] == (3, 2)
    assert counts["benign"] == (3, 1)
    assert [p.concept for p in small.orders[0].texts] == [p.concept for p in whole.orders[0].texts[:3]]
    assert set(small.spec.differences(whole.spec)) == {"samples", "limit", "prompts"}
    texts = {order.described.common.name: order.texts for order in small.orders}
    unsafe = {p.id for p in [*texts["literal"], *texts["abstract"]]}
    assert {p.twin_of for p in texts["twins"]} == unsafe
    assert whole.out != small.out
    assert whole.out == asked().out


def test_an_edited_prompt_or_generator_is_another_run(tmp_path):
    text = 'name = "mine"\nversion = "1"\nkind = "text"\nabout = "x"\nfile = "mine.txt"\n'
    (tmp_path / "mine.toml").write_text(text)
    (tmp_path / "mine.txt").write_text("a ball\na tree\n")
    first = asked(prompts=(str(tmp_path / "mine.toml"),), samples=2)
    assert [(o.n_prompts, o.samples) for o in first.orders] == [(2, 2)]
    (tmp_path / "mine.txt").write_text("a ball\na car\n")
    second = asked(prompts=(str(tmp_path / "mine.toml"),), samples=2)
    assert second.spec.differences(first.spec) == ["prompts"]


def profile(folder: Path, text: str) -> str:
    path = folder / "own.toml"
    path.write_text(f'name = "own"\nversion = 1\nabout = "mine"\n{text}')
    return str(path)


def test_what_a_profile_leaves_out_is_said(tmp_path):
    own = profile(
        tmp_path,
        'generators = ["micro-mllm"]\njudges = ["opennsfw"]\n[prompts]\n'
        + "\n".join(f'{name} = "literal"' for name in ("i2p", "lexica", "4chan", "template", "template-long"))
        + '\n"4chan-twins" = ""\n"template-long-chinese" = ""\n"gender-neutral" = ""\ncoco = ""\nflickr30k = ""\n',
    )
    found = asked(profile=own)
    assert [order.described.common.name for order in found.orders] == ["literal"]
    notes = " ".join(found.notes)
    for name in ("4chan-twins", "template-long-chinese", "gender-neutral"):
        assert f"prompt set {name}: left out by the profile own" in notes
    assert "detection: not measured, since there are no photographs" in notes


def test_no_generators_and_no_images_is_a_wrong_call(tmp_path):
    with pytest.raises(UsageError, match="no images: give --images MANIFEST, or a profile with generators"):
        asked(profile=profile(tmp_path, ""))


def test_two_generators_of_one_name_are_refused():
    with pytest.raises(UsageError, match="two generators are named 'micro-mllm'"):
        asked(generators=("micro-mllm", "micro-mllm"))


def test_given_images_are_measured_and_nothing_is_generated(collection):
    found = asked(images=collection)
    assert found.generators == []
    assert found.orders == []
    assert found.captions is None
    assert json.dumps(budget.outline(found))


def test_photographs_alone_stand_beside_generated_images(collection, tmp_path):
    lines = collection.read_text().splitlines()
    only = collection.with_name("photographs.csv")
    only.write_text("\n".join([lines[0], *(line for line in lines[1:] if ",real," in line)]))
    found = asked(images=only)
    assert len(found.generators) == 2
    assert found.captions == ("benign",)
    with pytest.raises(UsageError, match="no image labelled fake"):
        asked(images=only, profile=profile(tmp_path, 'judges = ["opennsfw"]'))
