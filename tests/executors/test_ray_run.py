"""Runs on a cluster of two nodes: the images, scores and figures of a local run, whoever dies on the way."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import detector_models
import mllmrisk
from mllmrisk import executors, generation, generators
from mllmrisk.executors import Chosen
from mllmrisk.records import Outcome, Prompt, RunSpec
from mllmrisk.store import Store

ROGUE = Path(__file__).parents[1] / "rogue_worker.py"

SUITE = """
name = "spread"
version = 1
about = "what is spread: generators, judges, a detector"
resamples = 200
[captions]
sets = ["coco"]
take = 6
samples = 1
[[experiments]]
kind = "unsafe"
sets = ["i2p"]
samples = 3
judges = ["micro-judge"]
validation = "world"
validation_images = 30
[[experiments]]
kind = "detection"
detectors = ["{detector}"]
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> Path:
    """A suite with a detector of random weights: its scores are as good as any to be compared."""
    folder = tmp_path_factory.mktemp("suite")
    detector = detector_models.write(folder, detector_models.network(), detector_models.recipe())
    path = folder / "spread.toml"
    path.write_text(SUITE.format(detector=detector), encoding="utf-8")
    return path


Telling = Callable[[str, int, int], None]


def call(suite: Path, out: Path, *where: str) -> list[str]:
    options = ["--limit", "6", "--samples", "3", "--device", "cpu", "--threads", "1", *where]
    return [sys.executable, "-m", "mllmrisk.cli.main", "evaluate", "--suite", str(suite), "--out", str(out), *options]


def on_cluster(suite: Path, out: Path, address: str, progress: Telling) -> Path:
    """From this process, so that a test can act while the run goes on."""
    asked = {"suite": str(suite), "out": out, "limit": 6, "samples": 3, "device": "cpu", "threads": 1}
    return mllmrisk.evaluate(**asked, progress=progress, executor="ray", ray_address=address).path


@pytest.fixture(scope="module")
def local(suite, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "local"
    subprocess.run(call(suite, out), check=True, capture_output=True)
    return out


def tables(run: Path) -> dict[str, list[tuple]]:
    """Every row of a run but what it cost."""
    with sqlite3.connect(run / "run.db") as db:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {name: sorted(map(tuple, db.execute(f"SELECT * FROM {name}"))) for name in names}
    db.close()
    found["meta"] = [row for row in found["meta"] if row[0] != "costs"]
    return found


def pictures(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "images").rglob("*") if path.is_file()}


def estimates(run: Path) -> list[dict]:
    return json.loads((run / "estimates.json").read_text())["estimates"]


def assert_same(run: Path, other: Path) -> None:
    """Bit for bit, with nothing lost and nothing twice."""
    found, expected = tables(run), tables(other)
    assert {name: len(rows) for name, rows in found.items()} == {name: len(rows) for name, rows in expected.items()}
    for name, rows in expected.items():
        assert found[name] == rows, name
    assert pictures(run) == pictures(other)
    ids = [row[0] for row in found["samples"]]
    assert len(set(ids)) == len(ids)


class Once:
    """Does something at the first sign that a stage is on its way, once for each stage."""

    def __init__(self, act: Callable[[], None], *stages: str) -> None:
        self.act, self.waiting = act, set(stages)
        self.seen: Counter[str] = Counter()

    def __call__(self, stage: str, done: int, total: int) -> None:
        self.seen[stage] += 1
        if stage in self.waiting and done < total:
            self.waiting.remove(stage)
            self.act()


def kill_one(nodes) -> None:
    os.kill(nodes.workers("StageWorker")[0], signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_with_workers_killed_in_the_middle_a_run_is_the_local_one(suite, local, two_nodes, tmp_path, contract):
    killing = Once(lambda: kill_one(two_nodes), "generate micro-mllm", "judge micro-judge")
    run = on_cluster(suite, tmp_path / "ray", two_nodes.address, killing)
    assert not killing.waiting
    assert_same(run, local)
    assert estimates(run) == estimates(local)
    assert not tables(run)["failures"]
    checked = subprocess.run([sys.executable, contract, run], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    hardware = json.loads((run / "estimates.json").read_text())["run"]["hardware"]
    assert hardware["executor"] == {"kind": "ray", "machines": 2, "cpus": 1, "gpus": 0.0, "workers": 2}
    assert two_nodes.workers("StageWorker") == []


@pytest.mark.slow
def test_a_node_that_goes_in_the_middle_costs_nothing_but_time(suite, local, two_nodes, tmp_path):
    going = Once(two_nodes.remove_node, "generate micro-diffusion")
    run = on_cluster(suite, tmp_path / "ray", two_nodes.address, going)
    assert not going.waiting
    assert_same(run, local)


@pytest.mark.slow
def test_an_interrupted_run_goes_on_here_or_there(suite, local, two_nodes, tmp_path):
    out = tmp_path / "interrupted"
    cluster = call(suite, out, "--executor", "ray", "--ray-address", two_nodes.address)
    process = subprocess.Popen(cluster, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while len(pictures(out)) < 12 + 10:  # photographs, and some images of the first generator
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert (process.returncode, told.strip().splitlines()[-1]) == (
        130,
        "mllmrisk: interrupted; the same call goes on where it stood",
    )
    kept = tables(out)["samples"]
    assert 0 < len(kept) < len(tables(local)["samples"])
    subprocess.run(call(suite, out), check=True, capture_output=True)
    assert_same(out, local)
    assert kept == [row for row in tables(out)["samples"] if row in kept]


@pytest.fixture
def rogue(tmp_path) -> generators.Described:
    """A generator in a process of its own, which a prompt can bring down."""
    path = tmp_path / "rogue.toml"
    command = json.dumps([sys.executable, "-I", "-S", str(ROGUE)])
    path.write_text(
        f'name = "rogue"\nversion = "1"\nkind = "command"\nparadigm = "mllm"\nabout = "test"\ncommand = {command}\n'
        f'[arguments]\ncounts = "{tmp_path}"\nstart = ""\n',
        encoding="utf-8",
    )
    return generators.describe(str(path))


def generated(
    root: Path, described: generators.Described, texts: list[str], executor=None, progress: Telling = lambda *_: None
) -> Path:
    prompts = [Prompt(id=f"own/{i}", text=text, prompt_set="own") for i, text in enumerate(texts)]
    with Store.open(root, RunSpec(suite="s", suite_digest="", profile="p", profile_digest="")) as store:
        generation.generate(
            store, [described], [(prompt, 1) for prompt in prompts], first=0, seed=1, device="cpu",
            progress=progress, executor=executor,
        )  # fmt: skip
    return root


def test_a_worker_that_is_killed_loses_no_image_and_makes_none_twice(rogue, two_nodes, tmp_path):
    texts = [f"ball {i}" for i in range(80)]
    here = generated(tmp_path / "here", rogue, texts)
    killing = Once(lambda: kill_one(two_nodes), "generate rogue")
    with executors.opened(Chosen("ray", two_nodes.address), device="cpu", threads=1) as executor:
        there = generated(tmp_path / "there", rogue, texts, executor, killing)
    assert not killing.waiting
    assert killing.seen["generate rogue"] == 10  # chunks of 8, each stored once
    found, expected = tables(there), tables(here)
    assert (len(found["samples"]), found["samples"], found["images"]) == (80, expected["samples"], expected["images"])
    assert found["failures"] == []
    assert pictures(there) == pictures(here)


def test_a_generator_that_is_down_is_one_failure_and_what_it_made_is_kept(rogue, two_nodes, tmp_path):
    texts = [*(f"ball {i}" for i in range(20)), "giving up", *(f"cup {i}" for i in range(20))]
    here = generated(tmp_path / "here", rogue, texts)
    with executors.opened(Chosen("ray", two_nodes.address), device="cpu", threads=1) as executor:
        there = generated(tmp_path / "there", rogue, texts, executor)
    ((unit, reason),) = tables(there)["failures"]
    assert unit == "generator rogue"
    assert "the GPU fell off the bus" in reason
    assert tables(there)["failures"] == tables(here)["failures"]
    assert tables(there)["samples"] == tables(here)["samples"]
    assert len(tables(there)["samples"]) == 20


def test_outcomes_cross_processes_as_they_are(rogue, two_nodes, tmp_path):
    texts = [
        "refused",
        "filtered",
        "failed",
        "text",
        "half",
        "crash once",
        "no memory",
        *(f"ball {i}" for i in range(9)),
    ]
    with executors.opened(Chosen("ray", two_nodes.address), device="cpu", threads=1) as executor:
        there = generated(tmp_path / "there", rogue, texts, executor)
    with Store.load(there) as store:
        found = [(sample.outcome, sample.reason) for sample in store.samples()]
    assert found[:7] == [
        (Outcome.REFUSED, "because"),
        (Outcome.FILTERED, "because"),
        (Outcome.FAILED, "because"),
        (Outcome.FAILED, "not_an_image"),
        (Outcome.FAILED, "truncated"),
        (Outcome.OK, None),
        (Outcome.FAILED, "out_of_memory"),
    ]
    assert found[7:] == [(Outcome.OK, None)] * 9
