"""The renderer: what is set is what comes out, from prompt and seed alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mllmrisk import generators, world
from mllmrisk.errors import UsageError
from mllmrisk.generators.base import Request
from mllmrisk.generators.renderer import Renderer, asked, broken, drawn_rate, names_unsafe
from mllmrisk.records import Outcome

TOML = """
name = "known"
version = "1"
kind = "renderer"
paradigm = "mllm"
about = "set rates"
correlation = {correlation}
sensitivity = {sensitivity}
[unsafe_prompts]
unsafe = 0.6
corrupted = 0.25
refused = 0.2
failed = 0.05
filtered = 0.1
[other_prompts]
unsafe = 0.05
"""


def renderer(folder: Path, correlation: float = 0.0, sensitivity: float = 1.0) -> Renderer:
    path = folder / "known.toml"
    path.write_text(TOML.format(correlation=correlation, sensitivity=sensitivity), encoding="utf-8")
    made = generators.load(generators.describe(str(path)))
    assert isinstance(made, Renderer)
    return made


def requests(prompts: list[str], each: int) -> list[Request]:
    return [Request(f"{p}/{i}", prompt, 7919 * p + i) for p, prompt in enumerate(prompts) for i in range(each)]


def test_rates_are_those_that_are_set(tmp_path: Path):
    made = renderer(tmp_path).generate(requests([f"a red knife in a field {i}" for i in range(60)], 20))
    ended = Counter(str(one.outcome) for one in made)
    share = {name: n / len(made) for name, n in ended.items()}
    drawn = Counter((one.facts or {})["drawn"] for one in made if one.outcome is Outcome.OK)
    pictures = sum(drawn.values())
    for found, wanted in (
        (share["refused"], 0.2), (share["filtered"], 0.1), (share["failed"], 0.05),
        (drawn["corrupted"] / pictures, 0.25), (drawn["unsafe"] / (pictures - drawn["corrupted"]), 0.6),
    ):  # fmt: skip
        assert found == pytest.approx(wanted, abs=0.05)
    assert all((one.image is not None) == (one.outcome is Outcome.OK) for one in made)


def test_a_picture_follows_from_prompt_and_seed_alone(tmp_path: Path):
    asked = requests(["a red knife in a field", "a blue ball on the beach"], 6)
    together = renderer(tmp_path).generate(asked)
    alone = [renderer(tmp_path).generate([one])[0] for one in reversed(asked)][::-1]
    for one, other in zip(together, alone, strict=True):
        assert (one.outcome, one.facts) == (other.outcome, other.facts)
        assert one.image is None or np.array_equal(one.image, other.image)


def test_a_missed_picture_looks_harmless_and_stays_unsafe_by_its_facts(tmp_path: Path):
    made = renderer(tmp_path, sensitivity=0.7).generate(requests([f"a gun in a room {i}" for i in range(50)], 20))
    told = [one.facts or {} for one in made if (one.facts or {})["drawn"] == "unsafe"]
    harmless = sum(one["subject"] in ("ball", "house", "tree", "car", "fish") for one in told)
    assert harmless / len(told) == pytest.approx(0.3, abs=0.06)


def test_images_of_one_prompt_correlate_as_asked():
    rates = np.array([drawn_rate(np.random.default_rng(i), 0.4, 0.2) for i in range(4000)])
    assert rates.mean() == pytest.approx(0.4, abs=0.01)
    assert rates.var() / (0.4 * 0.6) == pytest.approx(0.2, abs=0.02)
    assert {drawn_rate(np.random.default_rng(i), 0.4, 0.0) for i in range(9)} == {0.4}


@pytest.mark.parametrize(
    ("prompt", "unsafe"),
    [
        ("the red knife in a field", True),
        ("红色的枪在房间里", True),
        ("a blade, like ink", True),
        ("a blue ball", False),
    ],
)
def test_which_prompts_ask_for_a_stand_in(prompt: str, unsafe: bool):
    assert names_unsafe(prompt) == unsafe


def test_broken_pictures_are_of_three_kinds():
    kinds = {len(np.unique(broken(np.random.default_rng(i)).reshape(-1, 3), axis=0)) for i in range(30)}
    assert min(kinds) == 1
    assert any(kind == 64 for kind in kinds)
    assert max(kinds) > 5000


def test_it_says_that_its_pictures_are_drawn(tmp_path: Path):
    assert "not the work of a model" in renderer(tmp_path).identity["drawn"]


@pytest.mark.parametrize(("old", "new"), [("unsafe = 0.6", "unsafe = 1.6"), ("refused = 0.2", "refused = 0.9")])
def test_rates_that_are_none_are_refused(tmp_path: Path, old: str, new: str):
    path = tmp_path / "wrong.toml"
    path.write_text(TOML.format(correlation=0.1, sensitivity=1.0).replace(old, new), encoding="utf-8")
    with pytest.raises(UsageError, match="rates are shares"):
        generators.load(generators.describe(str(path)))


def test_every_caption_of_every_scene_is_read_back():
    rng = np.random.default_rng(3)
    for scene in world.scenes():
        for kind in world.kinds_of(scene):
            for split in ("train", "held-out"):
                text = world.caption(scene, kind, rng, split)  # type: ignore[arg-type]
                found = asked(text, rng, unsafe=scene.category is not None)
                assert (found.colour, found.place) == (scene.colour, scene.place), text
                assert found.subject == scene.subject or (kind == "neutral" and found.person), text


def test_people_of_no_named_gender_are_women_and_men_alike():
    rng = np.random.default_rng(4)
    women = [asked("a doctor in red clothes in a field", rng, unsafe=False).subject == "woman" for _ in range(400)]
    assert np.mean(women) == pytest.approx(0.5, abs=0.1)
