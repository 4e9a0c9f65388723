"""`train` and `detect` as a user calls them: a file is made, carried away, and used on other images."""

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

import detector_models as tiny
from made import make_collection
from mllmrisk import detectors


def run(*args: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "mllmrisk.cli.main", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "MLLMRISK_WEIGHTS": os.devnull},  # nobody's own weights
    )
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def detector(collection, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("detector") / "mine.onnx"
    told = json.loads(run("train", "--images", collection, "-o", out, "--json").stdout)
    assert told["real"] == told["fake"] == 24
    assert told["groups"] == "source"
    return out


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Path:
    return make_collection(tmp_path_factory.mktemp("others"), per_source=4, seed=9)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_planted_trace_is_found_in_images_that_the_detector_never_saw(detector, others, tmp_path):
    out = tmp_path / "scores.csv"
    told = json.loads(run("detect", "--detector", detector, "--images", others, "-o", out, "--json").stdout)
    assert told["images"] == 32
    assert float(told["auc"].split()[0]) > 0.9
    found = rows(out)
    assert len(found) == 32
    for row in found:
        assert 0 <= float(row["probability"]) <= 1
        assert row["error"] == ""


def test_scores_are_the_same_on_any_number_of_threads_and_in_any_order(detector, others, tmp_path):
    lines = others.read_text().splitlines()
    turned = others.with_name("turned.csv")
    turned.write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    run("detect", "--detector", detector, "--images", others, "-o", tmp_path / "a.csv", "--threads", "1")
    run("detect", "--detector", detector, "--images", turned, "-o", tmp_path / "b.csv", "--threads", "2")
    assert sorted(map(str, rows(tmp_path / "a.csv"))) == sorted(map(str, rows(tmp_path / "b.csv")))


def test_images_need_no_labels_and_bad_ones_are_named(detector, others, tmp_path):
    folder = tmp_path / "unlabelled"
    folder.mkdir()
    for name in ("real_0_0.jpg", "fake_0_0.png"):
        (folder / name).write_bytes((others.parent / name).read_bytes())
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    done = run("detect", "--detector", detector, "--images", folder, code=3)
    found = {row["path"]: row for row in csv.DictReader(done.stdout.splitlines())}
    assert found["broken.jpg"]["score"] == ""
    assert found["broken.jpg"]["error"] in {"truncated", "corrupt"}
    assert float(found["real_0_0.jpg"]["score"]) < float(found["fake_0_0.png"]["score"])
    assert {row["label"] for row in found.values()} == {""}


def test_a_detector_beside_those_of_the_run_and_its_own_training_images_are_stamped(
    detector, collection, others, tmp_path
):
    suite = tmp_path / "one.toml"
    suite.write_text(
        'name = "one"\nversion = 1\nabout = "x"\nresamples = 200\n[[experiments]]\nkind = "detection"\n'
        'views = ["recompressed"]\nrepeats = 1\nfolds = 3\n'
    )
    for images, stamped in ((collection, True), (others, False)):
        out = tmp_path / images.parent.name
        run("evaluate", "--suite", suite, "--detector", detector, "--images", images, "--out", out)
        found = json.loads((out / "estimates.json").read_text())["estimates"]
        mine = [r for r in found if r["detector"] == "mine"]
        assert mine
        assert all(("training images" in r["confounded_by"]) == stamped for r in mine)
        assert not any("training images" in r["confounded_by"] for r in found if r["detector"] == "forensic")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["train", "--images", "nowhere.csv", "-o", "x.onnx"], "no such manifest"),
        (["train", "--images", "nowhere.csv", "-o", "x.pkl"], ".onnx"),
        (["detect", "--detector", "forensic", "--images", "."], "mllmrisk train"),
        (["detect", "--detector", "forensics", "--images", "."], "Did you mean 'forensic'"),
        (["detect", "--detector", "nowhere.onnx", "--images", "."], "no detector file"),
    ],
)
def test_a_wrong_call_is_one_line(args: list[str], words: str):
    assert words in run(*args, code=2).stderr


def test_a_file_that_is_there_is_not_replaced_unasked(detector, collection):
    before = detector.read_bytes()
    assert "--force" in run("train", "--images", collection, "-o", detector, code=2).stderr
    assert detector.read_bytes() == before


def test_the_same_images_and_seed_give_the_same_file(detector, collection, tmp_path):
    run("train", "--images", collection, "-o", tmp_path / "again.onnx", "--threads", "1")
    assert (tmp_path / "again.onnx").read_bytes() == detector.read_bytes()


# -- detectors that a TOML describes ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_detector(others, tmp_path_factory) -> Path:
    """A network whose author's threshold lies amid its scores of `others`, its calibrated one above most of them."""
    folder = tmp_path_factory.mktemp("tiny")
    table = tiny.recipe(output={"kind": "softmax2", "labels": ["Real", "AI"]})
    plain = detectors.load(str(tiny.write(folder, tiny.network(2), table)))
    scores = sorted(score.value for score in plain.score([others.parent / row["path"] for row in rows(others)]))
    table["threshold"]["value"] = scores[len(scores) // 2]
    table |= {"thresholds": {"0.05": scores[-3]}, "restrictions": "not on Sundays"}
    return tiny.write(folder, tiny.network(2), table)


def test_a_detector_of_a_toml_scores_and_says_what_its_licence_forbids(tiny_detector, others, tmp_path):
    out = tmp_path / "scores.csv"
    done = run("detect", "--detector", tiny_detector, "--images", others, "-o", out, "--json", "--device", "cpu")
    assert "detector tiny: not on Sundays" in done.stderr
    told = json.loads(done.stdout)
    assert told["provider"] == "CPUExecutionProvider"
    assert 0 < told["session_seconds"] < told["wall_seconds"]
    found = rows(out)
    assert len(found) == 32
    assert list(found[0]) == [
        *("path", "label", "paradigm", "generator", "score", "probability"),
        *("fake_by_author", "fake_at_0.05", "error"),
    ]
    for row in found:
        assert float(row["probability"]) == pytest.approx(1 / (1 + math.exp(-float(row["score"]))), abs=1e-5)
    ascending = sorted(found, key=lambda row: float(row["score"]))
    assert [row["fake_by_author"] for row in ascending] == ["0"] * 16 + ["1"] * 16
    assert [row["fake_at_0.05"] for row in ascending] == ["0"] * 30 + ["1"] * 2


def test_the_onnx_file_of_a_detector_is_enough(tiny_detector, others, tmp_path):
    for file, out in ((tiny_detector, "toml.csv"), (tiny_detector.with_suffix(".onnx"), "onnx.csv")):
        run("detect", "--detector", file, "--images", others, "-o", tmp_path / out)
    assert rows(tmp_path / "toml.csv") == rows(tmp_path / "onnx.csv")


def test_weights_that_are_not_here_are_named_with_their_licence_and_the_way_to_them(others, tmp_path):
    told = run("detect", "--detector", "npr", "--images", others, "-o", tmp_path / "x.csv", code=2).stderr
    assert "no licence file" in told
    assert "github.com/chuangchuangtan/NPR-DeepfakeDetection" in told
    assert "mllmrisk export-detector npr --weights" in told
    assert told.index("ask the authors") < told.index("its weights are not in")


def test_detectors_are_listed_with_licence_and_whereabouts():
    found = {row["name"]: row for row in json.loads(run("list", "detectors", "--json").stdout)["detectors"]}
    assert found["univfd"]["weights"] == "not here"
    assert found["univfd"]["kind"] == "onnx"
    assert found["univfd"]["licence"].startswith("MIT")
    assert found["npr"]["restrictions"]
    assert all(row["about"] for row in found.values())
    line = next(line for line in run("list", "detectors").stdout.splitlines() if line.startswith("univfd"))
    assert "weights not here" in line
