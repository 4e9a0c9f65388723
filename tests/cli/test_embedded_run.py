"""The embedded profile end to end: real diffusers and transformers models from the package, judged and reported.

A run is killed at random moments and goes on: its figures are those of a run that was left alone.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SUITE = """
name = "short"
version = 1
about = "every experiment on prompts, as short as it goes"
resamples = 300
[[experiments]]
kind = "unsafe"
sets = ["i2p", "4chan"]
samples = 2
validation = "world"
validation_images = 60
[[experiments]]
kind = "corrupted"
sets = ["4chan"]
twins = ["4chan-twins"]
samples = 2
made = 4
[[experiments]]
kind = "contrast"
designs = ["paradigm", "language", "abstraction", "gender", "association"]
sets = ["i2p", "4chan"]
language = [["template-long-chinese", "template-long"]]
abstraction = [["4chan", "i2p"]]
gender = ["gender-neutral"]
association = [["4chan", "4chan-twins"]]
samples = 2
[[experiments]]
kind = "filter"
sets = ["i2p", "4chan"]
benign = ["4chan-twins"]
samples = 2
[[experiments]]
kind = "agreement"
sets = ["i2p", "4chan"]
samples = 2
"""


def call(suite: Path, out: Path) -> list[str]:
    arguments = ["evaluate", "--suite", suite, "--out", out, "--limit", "3", "--samples", "2", "--device", "cpu"]
    return [sys.executable, "-m", "mllmrisk.cli.main", *map(str, arguments)]


def run(suite: Path, out: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(call(suite, out), capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done


def estimates(out: Path) -> list[dict]:
    return json.loads((out / "estimates.json").read_text())["estimates"]


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("suite") / "short.toml"
    path.write_text(SUITE)
    return path


@pytest.fixture(scope="module")
def unbroken(suite, tmp_path_factory) -> tuple[Path, str, float]:
    out = tmp_path_factory.mktemp("runs") / "unbroken"
    began = time.monotonic()
    done = run(suite, out)
    return out, done.stdout, time.monotonic() - began


def test_the_run_folder_keeps_the_contract(unbroken, contract):
    done = subprocess.run([sys.executable, contract, unbroken[0]], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_question_of_the_unsafe_half_has_its_figures(unbroken):
    rows = estimates(unbroken[0])
    metrics = {(row["experiment"], row["metric"]) for row in rows}
    for metric in ("unsafe_score", "unsafe_of_requested", "unsafe_as_published", "unsafe_bound", "unsafe_corrected"):
        assert ("unsafe", metric) in metrics
    assert {("corrupted", "corrupted_rate"), ("filter", "unsafe_score"), ("agreement", "kappa")} <= metrics
    generators = {"micro-diffusion", "micro-mllm"}
    scores = {
        (row["generator"], row["prompt_set"]): row
        for row in rows
        if (row["experiment"], row["metric"], row["judge"], row["category"])
        == ("unsafe", "unsafe_score", "micro-judge", None)
    }
    for generator in generators:
        for name in ("literal", "abstract"):
            row = scores[generator, name]
            assert row["low"] <= row["value"] <= row["high"]
            assert 1 <= row["n_prompts"] <= 3
            assert row["n_images"] + sum(row["n_unscored"].values()) == 6
    contrasts = {str(row["contrast"]).split(":")[0] for row in rows if row["experiment"] == "contrast"}
    assert {"paradigm", "language", "abstraction", "gender", "association"} <= contrasts


def test_a_reader_learns_first_what_the_models_are(unbroken):
    out, told, _ = unbroken
    page = (out / "report.md").read_text()
    for text in (told, page, (out / "report.html").read_text()):
        assert text.index("miniature models") < text.index("Are MLLM images")
    assert told.startswith("These are miniature models")


def test_the_run_says_with_what_its_images_were_made(unbroken):
    run = json.loads((unbroken[0] / "estimates.json").read_text())["run"]
    diffusion, mllm = run["generators"]["micro-diffusion"], run["generators"]["micro-mllm"]
    assert "StableDiffusion3Pipeline" in json.dumps(diffusion)
    assert "Janus" in json.dumps(mllm)
    assert "miniature" in run["profile_note"]
    assert str(Path.home()) not in json.dumps(run["generators"])


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_a_run_killed_at_random_moments_ends_with_the_same_figures(suite, unbroken, tmp_path, kills):
    whole, _, seconds = unbroken
    rng = random.Random(kills)
    out = tmp_path / "killed"
    for _ in range(kills):
        process = subprocess.Popen(
            call(suite, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            process.wait(rng.uniform(0.2, 0.9) * seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        else:  # it ended before its moment: it must be whole, and another one begins
            assert process.returncode == 0
            assert estimates(out) == estimates(whole)
            shutil.rmtree(out)
    run(suite, out)
    assert estimates(out) == estimates(whole)
