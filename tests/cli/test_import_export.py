"""`mllmrisk import` writes manifests that mean the same; `mllmrisk export` writes tables that other tools read."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pyarrow.parquet
import pytest
from commandline import picture

from mllmrisk import manifest
from mllmrisk.cli.export_command import WHAT
from mllmrisk.records import Estimate, Evidence, RunSpec, Sample, Score
from mllmrisk.store import Store

SPEC = RunSpec(suite="fake", suite_digest="a", profile="embedded", profile_digest="b")


# -- import ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Folders in the common convention, in three formats."""
    root = tmp_path / "set"
    for position, name in enumerate(["0_real/a.jpg", "0_real/b.png", "1_fake/sd/c.png", "1_fake/sd/d.webp"]):
        picture(root / name, seed=position)
    return root


def meaning(entries: list[manifest.Entry]) -> list[tuple[object, ...]]:
    return sorted(
        (e.sample.label, e.sample.paradigm, e.sample.generator, e.sample.source, hashlib.sha256(e.read()).hexdigest())
        for e in entries
    )


def test_counts(run, dataset):
    result = run("import", dataset, "--json")
    assert result.code == 0
    found = json.loads(result.out)
    assert found["images"] == 4
    assert found["label"] == {"real": 2, "fake": 2}
    assert found["paradigm"] == {"real": 2, "unknown": 2}
    assert found["generator"] == {"sd": 2}
    assert found["format"] == {"PNG": 2, "JPEG": 1, "WebP": 1}
    assert found["problems"] == found["duplicates"] == []
    text = run("import", dataset)
    assert text.code == 0
    assert "4 images can be used" in text.out
    assert "format     PNG 2, JPEG 1, WebP 1" in text.out


@pytest.mark.parametrize("place", ["set/manifest.csv", "manifest.csv"])
def test_a_folder_becomes_a_manifest_that_means_the_same(run, dataset, tmp_path, place):
    before = manifest.read(dataset)
    assert run("import", dataset, "-o", tmp_path / place).code == 0
    after = manifest.read(tmp_path / place)
    assert meaning(after.entries) == meaning(before.entries)
    assert all(e.sha256 == hashlib.sha256(e.read()).hexdigest() for e in after.entries)
    assert run("import", tmp_path / place).code == 0


def test_a_tar_becomes_a_manifest_that_means_the_same(run, dataset, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for path in sorted(dataset.rglob("*.*")):
            tar.add(path, path.relative_to(dataset))
    assert run("import", tmp_path / "a.tar", "-o", tmp_path / "m.csv").code == 0
    assert meaning(manifest.read(tmp_path / "m.csv").entries) == meaning(manifest.read(dataset).entries)


def test_every_column_survives(run, dataset, tmp_path):
    prompt = 'a cat, "quoted",\nover two lines, ü'
    columns = ["path", "label", "paradigm", "generator", "prompt_id", "prompt", "prompt_set", "level", "language"]
    columns += ["index", "seed", "source", "camera"]
    rows = [
        ["0_real/a.jpg", "real", "real", "", "p1", prompt, "coco", "v0", "en", "0", "", "s1", "X100"],
        ["1_fake/sd/c.png", "fake", "mllm", "Janus", "p1", prompt, "coco", "v1", "de", "3", "42", "s2", ""],
    ]
    with (dataset / "in.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    assert run("import", dataset / "in.csv", "-o", dataset / "out.csv").code == 0
    before, after = (manifest.read(dataset / name).entries for name in ("in.csv", "out.csv"))
    assert [e.sample for e in after] == [e.sample for e in before]
    assert after[1].sample.seed == 42


def test_images_that_cannot_be_used_are_left_out_of_the_file(run, dataset, tmp_path):
    (dataset / "1_fake" / "sd" / "e.png").write_bytes(b"")
    result = run("import", dataset, "-o", tmp_path / "m.csv")
    assert result.code == 3
    assert "1 cannot be used" in result.out
    assert "1_fake/sd/e.png: empty: " in result.out
    assert len(manifest.read(tmp_path / "m.csv").entries) == 4


def test_threads_change_nothing(run, dataset):
    assert run("import", dataset, "--json", "--threads", 1).out == run("import", dataset, "--json", "--threads", 3).out


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("set/0_real/m.csv", "must lie in"),
        ("other/m.csv", "must lie in"),
        ("m.parquet", "must end in .csv"),
        ("old.csv", "exists; give --force"),
        ("gone/m.csv", "no such folder"),
    ],
)
def test_places_where_it_cannot_be_written(run, dataset, tmp_path, out, says):
    (tmp_path / "other").mkdir()
    (tmp_path / "old.csv").write_text("kept")
    result = run("import", dataset, "-o", tmp_path / out)
    assert (result.code, result.out) == (2, "")
    assert says in result.err
    assert (tmp_path / "old.csv").read_text() == "kept"


# -- export ------------------------------------------------------------------------------------------------------------


def estimate(**changes: object) -> Estimate:
    values: dict[str, object] = {
        "experiment": "detection",
        "metric": "auc",
        "unit": "1",
        "method": "cluster bootstrap, 95%",
        "n_prompts": 0,
        "n_images": 4,
        "value": 0.75,
        "low": 0.5,
        "high": 1.0,
        "paradigm": "mllm",
        "evidence": Evidence(scorer="d@1", perturbation="native", where={"paradigm": ["mllm"]}),
    }
    return Estimate(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A run with two samples, three scores (one absent) and two estimates (one absent)."""
    samples = [
        Sample(id="a", label="real", paradigm="real", path="r.png", extra={"camera": "X100"}),
        Sample(id="b", label="fake", paradigm="mllm", generator="Janus", prompt='a,\n"b"', path="f.png"),
    ]
    with Store.open(tmp_path / "run", SPEC) as store:
        store.add_samples(enumerate(samples))
        store.add_scores("d@1", "native", {"a": Score(-1.25), "b": Score(0.1 + 0.2)})
        store.add_scores("judge@1", "native", {"b": Score(None, "corrupt")}, "sexual")
        absent = estimate(metric="eer", value=None, low=None, high=None, n_unscored={"corrupt": 4})
        store.write_estimates({}, [estimate(), absent])
    return tmp_path / "run"


def read(path: Path) -> list[dict[str, object]]:
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path).to_pylist()
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.split("\n") if line]
    return [dict(row) for row in csv.DictReader(io.StringIO(text, newline=""))]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("what", WHAT)
def test_every_table_in_every_format(run, finished, tmp_path, what, suffix):
    out = tmp_path / f"out{suffix}"
    result = run("export", finished, "--what", what, "-o", out)
    count = 3 if what == "scores" else 2
    assert (result.code, result.err) == (0, "")
    assert result.out == f"{count} {what} written to {out}\n"
    assert len(read(out)) == count


def test_scores_are_exact_and_absent_ones_are_empty(run, finished, tmp_path):
    for suffix, absent in ((".csv", ""), (".jsonl", None), (".parquet", None)):
        out = tmp_path / f"scores{suffix}"
        run("export", finished, "--what", "scores", "-o", out)
        rows = {(row["scorer"], row["sample"]): row for row in read(out)}
        assert float(str(rows["d@1", "b"]["value"])) == 0.1 + 0.2
        assert rows["d@1", "b"]["generator"] == "Janus"
        unscored = rows["judge@1", "b"]
        assert (unscored["value"], unscored["reason"], unscored["category"]) == (absent, "corrupt", "sexual")


def test_estimates_keep_their_cell_and_their_maps(run, finished, tmp_path):
    run("export", finished, "-o", tmp_path / "e.csv")
    run("export", finished, "-o", tmp_path / "e.jsonl")
    flat, deep = read(tmp_path / "e.csv"), read(tmp_path / "e.jsonl")
    assert (
        [row["cell"] for row in flat] == [row["cell"] for row in deep] == [estimate().cell, estimate(metric="eer").cell]
    )
    assert json.loads(str(flat[1]["n_unscored"])) == deep[1]["n_unscored"] == {"corrupt": 4}
    assert (flat[1]["value"], deep[1]["value"]) == ("", None)
    assert deep[0]["evidence"]["where"] == {"paradigm": ["mllm"]}  # type: ignore[index]


def test_samples_keep_awkward_prompts(run, finished, tmp_path):
    run("export", finished, "--what", "samples", "-o", tmp_path / "s.csv")
    assert read(tmp_path / "s.csv")[1]["prompt"] == 'a,\n"b"'


def test_a_summary_for_programs(run, finished, tmp_path):
    out = tmp_path / "s.csv"
    assert json.loads(run("export", finished, "-o", out, "--json").out) == {"file": str(out), "rows": 2}


def test_a_run_without_scores_says_so(run, tmp_path):
    Store.open(tmp_path / "run", SPEC).close()
    result = run("export", tmp_path / "run", "--what", "scores", "-o", tmp_path / "s.csv")
    assert result.code == 0
    assert "the run has no scores yet" in result.err
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 1


def test_wrong_calls(run, finished, tmp_path):
    (tmp_path / "old.csv").write_text("kept")
    Store.open(tmp_path / "young", SPEC).close()
    for args, says in [
        ((tmp_path / "gone", "-o", tmp_path / "x.csv"), "is not a run folder"),
        ((finished, "-o", tmp_path / "old.csv"), "exists; give --force"),
        ((finished, "-o", tmp_path / "x.xlsx"), "must end in .csv, .jsonl or .parquet"),
        ((finished, "-o", tmp_path / "x.csv", "--what", "scors"), "scores"),
        ((tmp_path / "young", "-o", tmp_path / "x.csv"), "has no estimates yet"),
    ]:
        result = run("export", *args)
        assert (result.code, result.out) == (2, ""), args
        assert says in result.err
    assert not (tmp_path / "x.csv").exists()
    assert (tmp_path / "old.csv").read_text() == "kept"
    assert run("export", finished, "-o", tmp_path / "old.csv", "--force").code == 0
