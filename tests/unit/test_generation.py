"""The stage that makes images: whatever a generator does, each sample ends in one outcome, and a run goes on."""

import io
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np
import pytest
from PIL import Image

from mllmrisk import generation, generators
from mllmrisk.errors import GeneratorError, OutOfMemoryError
from mllmrisk.generators.base import Made, Request
from mllmrisk.records import Outcome, Prompt, RunSpec
from mllmrisk.store import Store

SPEC = RunSpec(suite="s", suite_digest="1", profile="p", profile_digest="2")
PROMPTS = [Prompt(id=f"set/{i}", text=f"prompt {i}", prompt_set="set", language="en", level="v0") for i in range(30)]
ORDERS = [(prompt, 2) for prompt in PROMPTS]


class Painter:
    """A generator in memory: colours by seed, troubles as told."""

    accepts = msgspec.defstruct(
        "Accepts", [("fits", int, 64), ("stops_after", int, 10**9), ("batch", int, 8)], frozen=True, kw_only=True
    )
    asked: ClassVar[list[Request]] = []
    loads = 0

    def __init__(self, common, parameters, folder, *, device):
        self.name, self.paradigm, self.batch = common.name, common.paradigm, parameters.batch
        self.identity = {"model": "painter", "device": device, "arguments": {"fits": parameters.fits}}
        self.parameters = parameters
        self.closed = 0
        type(self).loads += 1

    def generate(self, requests: Sequence[Request]) -> list[Made]:
        if len(requests) > self.parameters.fits:
            raise OutOfMemoryError(f"{len(requests)} do not fit")
        if len(type(self).asked) + len(requests) > self.parameters.stops_after:
            left = self.parameters.stops_after - len(type(self).asked)
            type(self).asked += requests[:left]
            made = [self.one(request) for request in requests[:left]]
            raise GeneratorError("the worker died", [*made, *[None] * (len(requests) - left)])
        type(self).asked += requests
        return [self.one(request) for request in requests]

    def one(self, request: Request) -> Made:
        number = int(request.prompt.split()[1])
        if number == 3:
            return Made(Outcome.REFUSED, reason="moderation_blocked", facts={"request_id": "r-1"})
        if number == 4:
            return Made(Outcome.OK, b"no image at all")
        if number == 5:
            return Made(Outcome.OK)
        pixels = np.random.default_rng(request.seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        if number == 6:  # a provider's own bytes
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "WEBP", lossless=True)
            return Made(Outcome.OK, buffer.getvalue())
        return Made(Outcome.OK, pixels)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def painters(tmp_path, monkeypatch):
    """Two generators of a kind that is registered for the test, as a table line would."""
    monkeypatch.setitem(generators.GENERATORS._table, "painter", f"{__name__}:Painter")
    monkeypatch.setattr(Painter, "asked", [])
    monkeypatch.setattr(Painter, "loads", 0)

    def make(*names: str, **parameters: int) -> list[generators.Described]:
        found = []
        for name in names:
            path = tmp_path / f"{name}.toml"
            lines = [f'name = "{name}"', 'version = "1"', 'kind = "painter"', 'paradigm = "mllm"', 'about = "x"']
            path.write_text("\n".join([*lines, *(f"{k} = {v}" for k, v in parameters.items())]))
            found.append(generators.describe(str(path)))
        return found

    return make


def run(out: Path, makers: list[generators.Described]) -> Store:
    store = Store.open(out, SPEC)
    generation.generate(store, makers, ORDERS, first=5, seed=7, device="cpu", progress=lambda *_: None)
    return store


def test_every_sample_ends_in_one_outcome_with_its_reason(tmp_path, painters):
    with run(tmp_path / "run", painters("one", "two")) as store:
        samples = store.samples()
        assert len(samples) == 2 * 60
        by_prompt = {(s.generator, s.prompt_id, s.index): s for s in samples}
        assert by_prompt["one", "set/3", 0].outcome is Outcome.REFUSED
        assert by_prompt["one", "set/3", 0].reason == "moderation_blocked"
        assert by_prompt["one", "set/3", 0].extra == {"request_id": "r-1"}
        broken = by_prompt["two", "set/4", 1]
        assert (broken.outcome, broken.reason, broken.image) == (Outcome.FAILED, "not_an_image", None)
        assert store.image_path(broken.extra["bytes"]).read_bytes() == b"no image at all"
        assert by_prompt["two", "set/5", 1].reason == "no_image"
        provider, array = by_prompt["one", "set/6", 0], by_prompt["one", "set/7", 0]
        assert store.image_path(provider.image).suffix == ".webp"
        stored = np.asarray(Image.open(store.image_path(array.image)))
        expected = np.random.default_rng(array.seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        assert (stored == expected).all()
        assert array.level == "v0"
        assert store.prompts()["set/7"].text == "prompt 7"
        assert json.loads(store.meta("generator one"))["model"] == "painter"
        assert store.costs()["generate one"]["units"] == 60


def test_generators_get_the_same_seeds_and_every_sample_its_own(tmp_path, painters):
    with run(tmp_path / "run", painters("one", "two")) as store:
        seeds = {(s.generator, s.prompt_id, s.index): s.seed for s in store.samples()}
    assert all(seeds["one", p, i] == seeds["two", p, i] for _, p, i in seeds)
    assert len(set(seeds.values())) == 60
    assert max(seeds.values()) < 2**32


def test_memory_that_ends_halves_the_batch_and_changes_nothing(tmp_path, painters):
    with run(tmp_path / "a", painters("one")) as store:
        whole = {s.id: (s.outcome, s.image) for s in store.samples()}
    with run(tmp_path / "b", painters("one", fits=3)) as store:
        assert {s.id: (s.outcome, s.image) for s in store.samples()} == whole
    with run(tmp_path / "c", painters("one", fits=0)) as store:
        assert store.samples() == []
        (told,) = store.failures().values()
        assert told == "each of the first 8 requests failed: out_of_memory 1 do not fit"


def test_a_generator_that_cannot_go_on_leaves_the_others_and_is_tried_again(tmp_path, painters):
    with run(tmp_path / "run", painters("one", stops_after=41)) as store:
        assert store.failures() == {"generator one": "the worker died"}
        made = {s.id for s in store.samples()}
        assert len(made) == 41  # in the middle of a batch: what it had given is kept
    Painter.asked.clear()
    with run(tmp_path / "run", painters("one")) as store:
        assert store.failures() == {}
        assert len(store.samples()) == 60
    assert not {request.sample for request in Painter.asked} & made
    assert len(Painter.asked) == 19


def test_what_is_there_is_not_made_again_and_loads_no_model(tmp_path, painters):
    run(tmp_path / "run", painters("one")).close()
    Painter.asked.clear()
    loads = Painter.loads
    run(tmp_path / "run", painters("one")).close()
    assert Painter.asked == []
    assert Painter.loads == loads


def test_a_batch_that_was_looked_for_is_kept_with_the_run(tmp_path, painters):
    with run(tmp_path / "run", painters("one", batch=0, fits=6, stops_after=60)) as store:
        assert "the worker died" in store.failures()["generator one"]  # after the search, in the middle of the run
        kept = json.loads(store.meta("batch one"))
        assert kept["batch"] in {1, 2, 4}
        assert all(size <= 8 for size, _ in kept["images_per_second"])
        assert json.loads(store.meta("generator one"))["batch_search"] == kept
        store.set_meta("batch one", json.dumps({**kept, "batch": 4}))
        made = len(store.samples())
        assert 0 < made < 60
    Painter.asked.clear()
    with run(tmp_path / "run", painters("one", batch=0, fits=6)) as store:
        assert len(store.samples()) == 60
        assert json.loads(store.meta("generator one"))["batch_search"]["batch"] == 4
    assert len(Painter.asked) == 60 - made  # nothing was searched again


def test_the_bookkeeping_of_a_sample_is_a_small_part_of_the_fastest_model(tmp_path, painters):
    """5% of micro-mllm's 44 ms an image (its model card), with a generator that returns at once; CPU time, not wall."""
    orders = [(Prompt(id=f"set/{i}", text="prompt 9", prompt_set="set"), 10) for i in range(100)]
    with Store.open(tmp_path / "run", SPEC) as store:
        began = time.process_time()
        generation.generate(store, painters("one"), orders, first=0, seed=0, device="cpu", progress=lambda *_: None)
        spent = time.process_time() - began
        assert len(store.samples()) == 1000
    assert spent / 1000 < 0.05 * 0.044
