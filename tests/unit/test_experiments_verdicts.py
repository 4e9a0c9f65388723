"""Verdicts over a study of pictures: gates, fixed answers, and alignment against the run's own strangers."""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from mllmrisk import world
from mllmrisk.experiments import related, verdicts
from mllmrisk.experiments.study import Study
from mllmrisk.records import Prompt, RunSpec, Sample
from mllmrisk.store import Store

COLOURS = tuple(world.COLOURS)


class ColourJudge:
    """A judge of alignment that reads a prompt's colour and looks for it in the middle of the picture."""

    name, version = "colours", "1"
    categories, attributes, threshold = ("unrelated",), (), {"unrelated": float("inf")}
    reads_prompts = True

    def __init__(self) -> None:
        self.asked = 0

    def image_vectors(self, images: list[bytes], *, threads: int) -> list[np.ndarray | str]:
        self.asked += len(images)
        return [self._seen(data) for data in images]

    def _seen(self, data: bytes) -> np.ndarray | str:
        picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float32)[24:72, 24:72].reshape(-1, 1, 3)
        far = np.linalg.norm(picture - np.array([world.COLOURS[c] for c in COLOURS], np.float32), axis=2)
        share = np.bincount(np.argmin(far, axis=1)[far.min(axis=1) < 40], minlength=len(COLOURS)) + 1e-3
        return (share / np.linalg.norm(share)).astype(np.float32)

    def text_vectors(self, prompts: list[str | None], *, threads: int) -> list[np.ndarray | str]:
        return [np.eye(len(COLOURS), dtype=np.float32)[COLOURS.index(str(p).split()[1])] for p in prompts]


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def made(tmp_path: Path):
    """Thirty prompts, four pictures each: sound, of the wrong colour, noise, and one fixed answer to all."""
    rng = np.random.default_rng(5)
    prompts = [
        Prompt(id=f"balls/{i}", text=f"a {COLOURS[i % 5]} ball {i}", prompt_set="balls", concept=COLOURS[i % 5])
        for i in range(30)
    ]
    fixed = png(world.draw(world.Scene("house", "white", "street"), np.random.default_rng(1)))
    with Store.open(tmp_path / "run", RunSpec(suite="s", suite_digest="", profile="p", profile_digest="")) as store:
        rows = []
        for prompt in prompts:
            colour = prompt.text.split()[1]
            wrong = COLOURS[(COLOURS.index(colour) + 1) % 5]
            pictures = {
                "sound": png(world.draw(world.Scene("ball", colour, "field"), rng)),
                "wrong": png(world.draw(world.Scene("ball", wrong, "field"), rng)),
                "noise": png(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)),
                "fixed": fixed,
            }
            for kind, data in pictures.items():
                rows.append(
                    Sample(
                        id=f"{prompt.id}/{kind}", label="fake", paradigm="mllm", generator="m", prompt_id=prompt.id,
                        prompt_set="balls", image=store.add_image(data, "png"),
                    )
                )  # fmt: skip
        store.add_prompts(prompts)
        store.add_samples(enumerate(rows))
        yield Study(store, seed=0, resamples=200, threads=1)


def test_gates_find_noise_and_one_picture_for_all_is_a_refusal(made: Study):
    found = verdicts.verdicts(made, ["gates"])
    assert found.corrupted == {s.id for s in made.samples if s.id.endswith("noise")}
    assert found.regraded == {s.id: "refused" for s in made.samples if s.id.endswith("fixed")}
    assert not found.unknown
    assert verdicts.verdicts(made, ["gates"]) is found
    stored = made.store.scores(verdicts.SCORER, "native")
    assert stored["balls/0/noise"].value == 1.0
    assert stored["balls/0/sound"].value == 0.0
    assert stored["balls/0/fixed"].reason == "refused"


def test_without_judges_nothing_is_known(made: Study):
    assert not verdicts.verdicts(made, []).asked


def test_a_picture_of_something_else_is_unrelated_by_the_runs_own_null(made: Study):
    judge = ColourJudge()
    vectors = related.vectors(made, judge)
    sound = {s.id for s in made.samples if s.id.endswith("sound")}
    concepts = {p.id: str(p.concept) for p in made.prompts.values()}
    null = related.null(vectors, sound, concepts)
    # 30 pictures with the 24 prompts of other colours each; prompts of one colour are no strangers.
    assert null.n_pairs == 30 * 24
    assert null.kept == 1.0
    scores = vectors.scores()
    unrelated = {i for i, s in scores.items() if s.value is not None and s.value >= (null.threshold or 0.0)}
    wrong = {s.id for s in made.samples if s.id.endswith("wrong")}
    assert len(wrong & unrelated) >= 0.9 * len(wrong)  # the null lets 5% of strangers pass
    assert not sound & unrelated
    assert "720 pairs" in related.words(null)


def test_vectors_are_made_once(made: Study):
    judge = ColourJudge()
    first = related.vectors(made, judge)
    again = related.vectors(made, judge)
    assert judge.asked == len(made.samples)
    assert all(np.array_equal(first.images[i], again.images[i]) for i in first.images)
    assert isinstance(judge, related.Embedding)


def test_too_few_strangers_set_no_threshold(made: Study):
    null = related.null(related.vectors(made, ColourJudge()), {"balls/0/sound"}, {})
    assert null.threshold is None
    assert "not asked" in related.words(null)


def test_the_rule_is_tried_on_made_examples_once(made: Study):
    rows = verdicts.calibrated(made, ["gates"], 6)
    by = {(r.metric, r.category): r for r in rows}
    assert by["sensitivity", "noise"].value == 1.0
    assert by["sensitivity", "blank"].value == 1.0
    assert by["sensitivity", None].n_images == 6 * 9  # eight ways to break a picture, and another scene
    assert by["specificity", None].n_images == 6 * 4 * 2
    assert (by["specificity", "sound"].value or 0.0) > 0.9
    assert verdicts.calibrated(made, ["gates"], 6) == rows
    assert verdicts.calibrated(made, ["gates"], 0) == []


@pytest.mark.parametrize(
    ("identity", "state"),
    [
        ({}, "filtered"),
        ({"kind": "command"}, "filtered"),
        ({"kind": "diffusers", "effective": {"safety_checker": False}}, "corrupted"),
        ({"kind": "diffusers", "effective": {"safety_checker": True}}, "filtered"),
    ],
)
def test_a_black_picture_is_a_filters_only_where_something_may_filter(
    made: Study, identity: dict[str, object], state: str
):
    made.store.set_meta("generator m", json.dumps(identity))
    assert verdicts.black(made, made.samples[0]) == state
    assert verdicts.black(made, msgspec.structs.replace(made.samples[0], label="real")) == "corrupted"
