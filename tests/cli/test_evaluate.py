"""`evaluate` as a user calls it: a real run folder, the contract, the way back, refusal, resumption after SIGKILL."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

SUITE = """
name = "quick"
version = 1
about = "every experiment on given images, as short as it goes"
resamples = 300
[[experiments]]
kind = "leak"
repeats = 1
folds = 3
[[experiments]]
kind = "detection"
repeats = 1
folds = 3
min_images = 4
rates = [0.2, 0.1]
[[experiments]]
kind = "contrast"
repeats = 1
folds = 3
[[experiments]]
kind = "laundering"
repeats = 1
folds = 3
perturbations = ["jpeg:60", "resize:0.5"]
[[experiments]]
kind = "retrain"
folds = 3
min_images = 6
"""


def run(*args: str | Path, code: int = 0, timeout: int = 300) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "mllmrisk.cli.main", *map(str, args)], capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("suite") / "quick.toml"
    path.write_text(SUITE)
    return path


@pytest.fixture(scope="module")
def finished(suite, collection, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "first"
    done = run("evaluate", "--suite", suite, "--images", collection, "--out", out)
    assert "report.html" in done.stdout
    return out


def estimates(out: Path) -> list[dict]:
    return json.loads((out / "estimates.json").read_text())["estimates"]


def test_the_run_folder_keeps_the_contract(finished, contract):
    done = subprocess.run([sys.executable, contract, finished], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_experiment_of_the_suite_has_figures_with_intervals(finished):
    rows = estimates(finished)
    assert {row["experiment"] for row in rows} == {"leak", "detection", "contrast", "laundering", "retrain"}
    for row in rows:
        assert (row["low"] is None) == (row["high"] is None), row
        assert row["low"] is not None or row["value"] is None or row["n_clusters"] == 1, row
        assert row["value"] is not None or row["n_unscored"], row
    # Other experiments reuse these models at other rates; thresholds are set anew for each, whatever ran before.
    rates = {(row["experiment"], row["at"]) for row in rows if row["at"] is not None and row["value"] is not None}
    assert {("detection", 0.2), ("detection", 0.1)} <= rates
    views = {row["perturbation"] for row in rows if row["experiment"] == "detection"}
    assert views == {"native", "matched", "recompressed"}


def test_a_planted_trace_is_found_and_the_container_is_exposed(finished):
    def auc(experiment: str, **keys: object) -> dict:
        (row,) = [
            r
            for r in estimates(finished)
            if r["experiment"] == experiment and r["metric"] == "auc" and all(r[k] == v for k, v in keys.items())
        ]
        return row

    everything = {"paradigm": None, "generator": None}
    assert auc("detection", perturbation="native", **everything)["value"] > 0.9
    # Photographs are JPEG and generated images PNG here: the container alone must separate them, and say so.
    container = auc("leak", perturbation="native", detector="container", **everything)
    assert container["value"] > 0.95
    assert auc("detection", perturbation="native", **everything)["confounded"]
    assert abs(auc("leak", perturbation="recompressed", detector="container", **everything)["value"] - 0.5) < 1e-9


def test_retrain_says_why_a_generator_of_one_source_has_no_cell_with_itself(finished):
    own = [
        r
        for r in estimates(finished)
        if r["experiment"] == "retrain" and r["generator"] is not None and r["generator"] == r["trained_on"]
    ]
    assert own
    for row in own:
        assert row["value"] is None
        assert "no_training_images" in row["n_unscored"]


def test_the_same_call_on_a_finished_run_changes_no_figure(finished, suite, collection):
    before = estimates(finished)
    scored = _rows(finished, "scores")
    run("evaluate", "--suite", suite, "--images", collection, "--out", finished)
    assert estimates(finished) == before
    assert _rows(finished, "scores") == scored


def test_another_spec_is_refused_with_the_keys(finished, suite, collection):
    done = run("evaluate", "--suite", suite, "--images", collection, "--out", finished, "--seed", "5", code=2)
    assert "another seed" in done.stderr


def test_the_result_does_not_depend_on_threads(finished, suite, collection, tmp_path):
    run("evaluate", "--suite", suite, "--images", collection, "--out", tmp_path / "one", "--threads", "1")
    assert estimates(tmp_path / "one") == estimates(finished)


def test_show_leads_from_a_figure_to_images(finished):
    row = next(r for r in estimates(finished) if r["experiment"] == "detection" and r["paradigm"] == "mllm")
    told = json.loads(run("show", finished, row["cell"], "--json").stdout)
    assert told["estimate"]["cell"] == row["cell"]
    assert {i["label"] for i in told["images"]} == {"real", "fake"}
    assert {i["paradigm"] for i in told["images"]} == {"real", "mllm"}
    assert len(told["images"]) == row["n_images"]
    for image in told["images"]:
        assert Path(image["path"]).read_bytes()
        assert image["score"] is not None
    text = run("show", finished, row["cell"]).stdout
    assert row["cell"] not in text.splitlines()[0]
    assert "by highest score" in text
    assert "no cell 'ffffffff'" in run("show", finished, "ffffffff", code=2).stderr


def test_a_run_opens_from_python(finished):
    import mllmrisk

    opened = mllmrisk.load_run(finished)
    rows = opened.estimates(experiment="detection", metric="auc", paradigm="mllm", generator=None)
    assert [r.perturbation for r in rows] == ["native", "matched", "recompressed"]
    frame = opened.estimates("pandas", experiment="detection")
    assert len(frame) == len(opened.estimates(experiment="detection"))
    assert opened.estimates("polars", experiment="detection").height == len(frame)


@pytest.mark.parametrize("moments", [5])
def test_a_run_killed_again_and_again_ends_with_the_same_figures(finished, suite, collection, tmp_path, moments):
    """SIGKILL at several moments, each time the same call: nothing lost, nothing different, nothing scored twice."""
    out = tmp_path / "killed"
    call = [
        sys.executable,
        "-m",
        "mllmrisk.cli.main",
        "evaluate",
        "--suite",
        suite,
        "--images",
        collection,
        "--out",
        out,
    ]
    kept: set[tuple[str, ...]] = set()
    for moment in range(moments):
        process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1.5 + 1.1 * moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (out / "run.db").exists():
            now = _rows(out, "scores")
            assert kept <= now, "a score that was there is gone or has changed"
            kept = now
    run("evaluate", "--suite", suite, "--images", collection, "--out", out)
    assert kept <= _rows(out, "scores")
    assert estimates(out) == estimates(finished)


def _rows(out: Path, table: str) -> set[tuple[str, ...]]:
    with sqlite3.connect(out / "run.db") as db:
        try:
            found = set(db.execute(f"SELECT * FROM {table}"))
        except sqlite3.OperationalError:
            return set()
    db.close()
    return found


def test_dry_run_makes_nothing(suite, collection, tmp_path):
    done = run("evaluate", "--suite", suite, "--images", collection, "--out", tmp_path / "none", "--dry-run")
    assert "48" in done.stdout
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--suite", "fakes"], "Did you mean 'fake'"),
        (["--suite", "fake", "--profile", "embeded"], "Did you mean 'embedded'"),
        (["--suite", "fake", "--images", "/no/such/manifest.csv"], "no such manifest"),
        (["--sute", "fake"], "--suite"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(args: list[str], words: str):
    done = run("evaluate", *args, code=2)
    assert words in done.stderr


def test_bad_images_are_listed_and_the_rest_goes_on(suite, collection, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    lines = collection.read_text().splitlines()
    for line in lines[1:]:
        name = line.split(",")[0]
        os.link(collection.parent / name, folder / name)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("not an image")
    (folder / "cut.jpg").write_bytes((folder / "real_0_0.jpg").read_bytes()[:900])
    lines += [f"{name},fake,mllm,mllm 1,source fake 1" for name in ("empty.jpg", "text.png", "cut.jpg", "gone.jpg")]
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    out = tmp_path / "run"
    smoke = suite.with_name("smoke.toml")
    smoke.write_text(SUITE.split('[[experiments]]\nkind = "contrast"')[0])
    done = run("evaluate", "--suite", smoke, "--images", folder / "manifest.csv", "--out", out, code=3)
    assert "4 unit(s) failed" in done.stderr
    mllm = next(
        r
        for r in estimates(out)
        if r["experiment"] == "detection" and r["metric"] == "auc" and r["paradigm"] == "mllm" and not r["generator"]
    )
    assert mllm["n_unscored"] == {"empty": 1, "not_an_image": 1, "truncated": 1, "missing": 1}
    assert mllm["n_images"] == 36
