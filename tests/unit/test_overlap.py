"""Work beside the model: order and bytes stay, errors come through, nothing is left running, the trace adds up."""

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mllmrisk import executors, generation, generators, perturb, trace
from mllmrisk.generators.base import Made, Request
from mllmrisk.overlap import Behind, ahead
from mllmrisk.records import Outcome, Prompt, RunSpec
from mllmrisk.store import Store

SPEC = RunSpec(suite="s", suite_digest="1", profile="p", profile_digest="2")


def threads() -> set[str]:
    return {t.name for t in threading.enumerate() if t.name.startswith(("ahead", "behind"))}


@pytest.mark.parametrize("depth", [1, 2, 7])
def test_items_come_in_their_order_from_another_thread(depth):
    made_in = []

    def source():
        for i in range(20):
            made_in.append(threading.get_ident())
            yield i

    assert list(ahead(source(), depth)) == list(range(20))
    assert len(set(made_in)) == 1
    assert threading.get_ident() not in made_in
    assert not threads()


def test_the_next_item_is_made_while_the_caller_holds_one_and_no_further():
    made, used = [], threading.Event()

    def source():
        for i in range(10):
            made.append(i)
            if i == 1:
                used.set()
            yield i

    items = ahead(source())
    assert next(items) == 0
    assert used.wait(5)  # 1 is made although nobody asked for it
    time.sleep(0.05)
    assert made == [0, 1]
    assert list(items) == list(range(1, 10))


def test_an_error_comes_in_its_place():
    def source():
        yield 1
        yield 2
        raise ValueError("the third")

    got = []
    with pytest.raises(ValueError, match="the third"):
        got.extend(ahead(source(), 3))
    assert got == [1, 2]
    assert list(ahead([])) == []
    with pytest.raises(ValueError, match="at least 1"):
        ahead([1], 0)


def test_who_stops_early_leaves_no_thread_and_closes_the_source():
    closed = []

    def source():
        try:
            yield from itertools.count()
        finally:
            closed.append(True)

    for item in ahead(source(), 3):
        if item == 4:
            break
    del item
    import gc

    gc.collect()
    assert closed == [True]
    assert not threads()


def test_calls_behind_keep_their_order_and_stop_at_the_first_error():
    done = []
    with Behind() as behind:
        for i in range(50):
            behind.do(lambda i=i: done.append(i))
    assert done == list(range(50))

    def fails():
        raise OSError("disk full")

    def unfinished():
        with Behind() as behind:
            behind.do(lambda: done.append("last"))
            raise KeyError

    def handed_over(*calls):
        with Behind() as behind:
            for call in calls:
                behind.do(call)

    for calls in ([fails], [fails, lambda: done.append("never")]):
        with pytest.raises(OSError, match="disk full"):
            handed_over(*calls)
    assert done[-1] == 49
    with pytest.raises(KeyError):  # what was handed over is done all the same
        unfinished()
    assert done[-1] == "last"
    assert not threads()


class Slow:
    """A generator whose model leaves the processor alone, as one on a GPU does: noise by seed, 20 ms a batch."""

    name, paradigm, batch, identity = "slow", "mllm", 4, {}

    def generate(self, requests):
        time.sleep(0.02)
        return [Made(Outcome.OK, noise(request)) for request in requests]

    def close(self):
        pass


def make(store, generator, plan, progress):
    """The stage around a generator that is there, in this process."""
    maker = generation._Maker(generator, encoded=False)
    with executors.local("cpu").pool(lambda _: maker, what="generator slow") as pool:
        generation._make(store, pool, plan, set(), progress, 4)


def noise(request: Request) -> np.ndarray:
    return np.random.default_rng(request.seed).integers(0, 256, (160, 160, 3), dtype=np.uint8)


def plan_of(n: int) -> list[generation.Wanted]:
    common = generators.Common(name="slow", version="1", kind="k", paradigm="mllm", about="x")
    orders = [(Prompt(id=f"p/{i}", text=f"prompt {i}", prompt_set="p"), 1) for i in range(n)]
    return generation.wanted(generators.Described(common, {}, Path(), ""), orders, 7, 0)


def test_the_stored_images_are_those_of_one_thread_in_order(tmp_path):
    plan = plan_of(40)
    with Store.open(tmp_path / "run", SPEC) as store:
        seen = []
        make(store, Slow(), plan, lambda _, done, of: seen.append((done, of)))
        samples = store.samples()
        assert seen == [(8 * i, 40) for i in range(1, 6)]
        assert [s.id for s in samples] == [w.sample.id for w in plan]
        for sample in samples:
            pixels = noise(Request(sample.id, "", sample.seed))
            assert sample.image == hashlib.sha256(perturb.encode(pixels, "png")).hexdigest()
            assert store.image_path(sample.image).exists()


def test_what_cannot_be_stored_stops_the_stage(tmp_path):
    with Store.open(tmp_path / "run", SPEC) as store:
        (tmp_path / "run" / "images").rmdir()
        (tmp_path / "run" / "images").write_text("no folder")
        with pytest.raises(OSError, match="images"):
            make(store, Slow(), plan_of(40), lambda *_: None)
        assert store.samples() == []


KILLED = """
import sys, threading, time
sys.path.insert(0, {tests!r})
import test_overlap as t
from mllmrisk import executors, generation
from mllmrisk.store import Store
from pathlib import Path

class Stuck(t.Slow):
    calls = 0
    def generate(self, requests):
        self.calls += 1
        if self.calls == 7:  # the first batch of the fourth chunk
            print("stuck", flush=True)
            time.sleep(60)
        return super().generate(requests)

store = Store.open(Path({run!r}), t.SPEC)
t.make(store, Stuck(), t.plan_of(40), lambda *_: None)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_has_every_chunk_before_the_one_under_way(tmp_path, how):
    code = KILLED.format(tests=str(Path(__file__).parent), run=str(tmp_path / "run"))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout.readline() == b"stuck\n"
        time.sleep(0.5)  # the third chunk is being stored beside the model
        os.kill(process.pid, how)
        process.wait(20)
    with Store.load(tmp_path / "run") as store:
        assert [s.id for s in store.samples()] == [w.sample.id for w in plan_of(40)][:24]


def test_the_trace_is_a_file_that_viewers_read_and_its_sums_are_the_wall_time(tmp_path):
    began = time.perf_counter()
    with Store.open(tmp_path / "run", SPEC) as store:
        with trace.recording(tmp_path / "trace.json"):
            make(store, Slow(), plan_of(80), lambda *_: None)
        cost = store.costs()["generate slow"]
    outside = time.perf_counter() - began
    document = json.loads((tmp_path / "trace.json").read_text())
    done = [e for e in document["traceEvents"] if e["ph"] == "X"]
    named = {e["tid"]: e["args"]["name"] for e in document["traceEvents"] if e["ph"] == "M"}
    assert all(e.keys() >= {"name", "cat", "ts", "dur", "pid", "tid"} and e["dur"] >= 0 for e in done)
    (stage,) = (e for e in done if e["name"] == "generate slow")
    assert named[stage["tid"]] == "caller"
    assert stage["dur"] / 1e6 == pytest.approx(cost["seconds"], abs=0.002)
    assert stage["dur"] / 1e6 <= outside
    caller = sorted((e["ts"], e["dur"]) for e in done if e["tid"] == stage["tid"] and e is not stage)
    for (start, length), (following, _) in itertools.pairwise(caller):
        assert start + length <= following + 0.01  # on one thread nothing overlaps
    inside = sum(length for _, length in caller)
    assert 0.95 * stage["dur"] <= inside <= stage["dur"] + 1
    model = sum(e["dur"] for e in done if e["name"] == "model")
    assert model / 1e6 == pytest.approx(cost["model_seconds"], abs=0.002)
    assert sum(e["name"] == "model" for e in done) == 20
    stored = [e for e in done if e["name"] == "store"]
    assert len(stored) == 10
    assert {e["tid"] for e in stored}.isdisjoint({stage["tid"]})


def test_storing_is_hidden_behind_a_model_that_leaves_the_processor_alone(tmp_path):
    """The goal of docs/gpu.md: the share of a stage's time that is not the model stays below 5%."""
    with Store.open(tmp_path / "run", SPEC) as store:
        make(store, Slow(), plan_of(160), lambda *_: None)
        cost = store.costs()["generate slow"]
    assert cost["model_seconds"] > 0.8
    assert trace.idle_share(cost["seconds"], cost["model_seconds"]) < 0.1  # 0.05 on a free machine


def test_a_model_on_several_threads_is_busy_once():
    def work():
        with trace.span("model"):
            time.sleep(0.1)

    with trace.Stage("judge x") as spent:
        both = [threading.Thread(target=work) for _ in range(3)]
        for one in both:
            one.start()
        for one in both:
            one.join()
        time.sleep(0.1)
    assert 0.1 <= spent.model_seconds < 0.2
    assert spent.seconds >= 0.2
    assert spent.idle_share == pytest.approx(1 - spent.model_seconds / spent.seconds)
    with trace.span("model"):  # no stage is under way: nobody's time
        pass
    assert trace.idle_share(1.0, 0.0) is None


def test_a_span_costs_microseconds():
    with trace.Stage("x"):
        began = time.process_time()
        for _ in range(10_000):
            with trace.span("model"):
                pass
        assert time.process_time() - began < 0.2  # 20 µs each; about 1 µs on a free machine


def test_a_trace_is_written_when_its_block_fails(tmp_path):
    with pytest.raises(KeyError), trace.recording(tmp_path / "t.json"), trace.Stage("x"), trace.span("decode"):
        raise KeyError
    assert [e["name"] for e in json.loads((tmp_path / "t.json").read_text())["traceEvents"][1:]] == ["x", "decode"]
