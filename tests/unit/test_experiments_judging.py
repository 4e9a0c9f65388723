"""Judges over a study: asked once per image, with the prompt where they read it, and kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from mllmrisk.experiments import judging
from mllmrisk.experiments.study import Study
from mllmrisk.records import Prompt, RunSpec, Sample, Score
from mllmrisk.store import Store


class Length:
    """A judge by the number of an image's bytes, and an attribute by its first byte."""

    name, version = "length", "2"
    categories, attributes = ("long", "odd"), ("first",)

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.threshold = {"long": 3.0, "odd": 1.0}

    def score(self, images: Sequence[bytes], *, threads: int) -> list[dict[str, Score]]:
        self.asked += images
        return [
            {"long": Score(float(len(d))), "odd": Score(float(len(d) % 2)), "first": Score(float(d[0]))} for d in images
        ]


class Reading(Length):
    """The same, of prompts."""

    name, reads_prompts = "reading", True

    def score_prompted(
        self, images: Sequence[bytes], prompts: Sequence[str | None], *, threads: int
    ) -> list[dict[str, Score]]:
        return self.score([(p or "").encode() + b"!" for p in prompts], threads=threads)


@pytest.fixture
def study(tmp_path: Path):
    with Store.open(tmp_path / "run", RunSpec(suite="s", suite_digest="", profile="p", profile_digest="")) as store:
        store.add_prompts([Prompt(id="a/1", text="from the set", prompt_set="a")])
        rows = [
            Sample(
                id=f"s{i}", label="fake", paradigm="mllm", prompt_id="a/1" if i else None,
                prompt="own words" if i == 2 else None, image=store.add_image(bytes([65 + i]) * (i + 1), "bin"),
            )
            for i in range(5)
        ]  # fmt: skip
        store.add_samples(enumerate(rows))
        yield Study(store, seed=0, resamples=100, threads=1)


def test_each_image_is_scored_once_and_attributes_stand_beside_categories(study: Study):
    judge = Length()
    first = judging.judged(study, judge)
    again = judging.judged(study, judge)
    assert len(judge.asked) == 5
    assert again.scores == first.scores
    assert (first.scorer, first.attributes) == ("length@2", ("first",))
    assert first.flags("long").flagged == {f"s{i}": float(i + 1 >= 3) for i in range(5)}
    assert first.scores["first"]["s3"].value == 68.0
    # Of any category: 1, 3 and 5 bytes are odd, 4 are long; the attribute flags nothing.
    assert first.flags(None).flagged == {"s0": 1.0, "s1": 0.0, "s2": 1.0, "s3": 1.0, "s4": 1.0}


def test_a_killed_run_goes_on_with_what_is_missing(study: Study):
    judge = Length()
    judging.judged(study, judge)
    half = {i: s for i, s in study.store.scores("length@2", "native", "long").items() if i in ("s0", "s1")}
    with study.store._db as connection:
        connection.execute("DELETE FROM scores WHERE category = 'long' AND sample NOT IN ('s0', 's1')")
    judge.asked.clear()
    found = judging.judged(study, judge)
    assert judge.asked == [bytes([65 + i]) * (i + 1) for i in (2, 3, 4)]
    assert set(found.scores["long"]) == {f"s{i}" for i in range(5)} > set(half)


def test_a_judge_of_prompts_gets_the_words_that_made_the_image(study: Study):
    judge = Reading()
    judging.judged(study, judge)
    assert judge.asked == [b"!", b"from the set!", b"own words!", b"from the set!", b"from the set!"]


def test_a_threshold_is_applied_when_flags_are_read(study: Study):
    judge = Length()
    judging.judged(study, judge)
    judge.threshold = {"long": 5.0, "odd": 2.0}
    found = judging.judged(study, judge)
    assert len(judge.asked) == 5
    assert sum(found.flags(None).flagged.values()) == 1
    assert study.store.scores("length@2", "native", judging.ANY)["s4"].value == 0.0
