"""`mllmrisk features`: a row per file whatever happens, the numbers of `features.extract`, and a whole file or none."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from commandline import ROOT, picture

from mllmrisk import features

#: Bad files by name, and the reason that their rows must give.
BAD = {"b_empty.png": "empty", "d_text.jpg": "not_an_image", "f_cut.jpg": "truncated", "h_small.png": "too_small"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Good and bad files by turns, one of them two folders down."""
    root = tmp_path / "photos"
    for name in ("a.png", "c.jpg", "e.webp"):
        picture(root / name, seed=ord(name[0]))
    picture(root / "sub" / "deep" / "g.JPG", seed=7)
    (root / "b_empty.png").write_bytes(b"")
    (root / "d_text.jpg").write_text("not an image\n" * 20)
    whole = picture(tmp_path / "whole.jpg").read_bytes()
    (root / "f_cut.jpg").write_bytes(whole[: len(whole) // 2])
    picture(root / "h_small.png", size=(40, 40))
    (root / "notes.txt").write_text("no image suffix: not taken from a folder")
    (root / "loop").symlink_to(root)
    return root


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def expected(folder: Path) -> tuple[list[str], features.Features]:
    paths = sorted(str(p) for p in folder.rglob("*") if p.is_file() and p.suffix != ".txt" and "loop" not in p.parts)
    return paths, features.extract(paths, threads=1)


def test_csv_has_a_row_per_file_with_exact_values(run, folder, tmp_path):
    out = tmp_path / "out.csv"
    result = run("features", folder, "-o", out, "--threads", 2)
    assert result.code == 3
    assert "4 of 8 images have no features" in result.err
    paths, found = expected(folder)
    rows = table(out)
    assert [row["path"] for row in rows] == paths
    for index, row in enumerate(rows):
        reason = BAD.get(Path(row["path"]).name)
        assert row["error"] == (reason or "")
        assert bool(row["error_message"]) == bool(reason)
        cells = [row[name] for name in found.names]
        if reason:
            assert set(cells) == {""}
        else:
            np.testing.assert_array_equal(np.array(cells, np.float32), found.values[index])


def test_parquet_holds_the_same_with_nulls(run, folder, tmp_path):
    out = tmp_path / "out.parquet"
    assert run("features", folder, "-o", out).code == 3
    paths, found = expected(folder)
    read = pyarrow.parquet.read_table(out)
    assert read.column_names == ["path", *found.names, "error", "error_message"]
    assert read["path"].to_pylist() == paths
    bad = [Path(path).name in BAD for path in paths]
    assert [code is not None for code in read["error"].to_pylist()] == bad
    for position, name in enumerate(found.names):
        column = read[name]
        assert [value is None for value in column.to_pylist()] == bad
        np.testing.assert_array_equal(column.drop_null().to_numpy(), found.values[~np.array(bad), position])


def test_npy_has_nan_rows_and_files_that_explain_them(run, folder, tmp_path):
    out = tmp_path / "out.npy"
    assert run("features", folder, "-o", out).code == 3
    paths, found = expected(folder)
    values = np.load(out, mmap_mode="r")
    np.testing.assert_array_equal(values, found.values)
    assert (tmp_path / "out.names.txt").read_text().splitlines() == list(found.names)
    assert (tmp_path / "out.paths.txt").read_text().splitlines() == paths
    rows = table(tmp_path / "out.errors.csv")
    assert {Path(row["path"]).name: row["error"] for row in rows} == BAD
    assert all(np.isnan(values[int(row["row"])]).all() for row in rows)


def test_npy_grows_over_many_blocks(run, tmp_path):
    one = picture(tmp_path / "one.png", size=(64, 64))
    many = tmp_path / "many"
    many.mkdir()
    for index in range(600):
        (many / f"{index:04}.png").hardlink_to(one)
    assert run("features", many, "-o", tmp_path / "out.npy", "--features", "radial").code == 0
    values = np.load(tmp_path / "out.npy")
    assert values.shape == (600, len(features.names("radial")))
    assert (values == values[0]).all()


def test_files_and_patterns(run, folder, tmp_path):
    out = tmp_path / "out.csv"
    picture(tmp_path / "odd.suffix.png").rename(tmp_path / "photo.bin")
    result = run("features", tmp_path / "photo.bin", folder / "**" / "*.JPG", "-o", out, "--json")
    assert result.code == 0
    assert json.loads(result.out) == {
        "files": [str(out)],
        "rows": 2,
        "columns": len(features.names()),
        "failed": 0,
        "errors": {},
    }
    rows = table(out)
    assert [Path(row["path"]).name for row in rows] == ["photo.bin", "g.JPG"]


def test_a_name_that_is_not_utf8_has_its_row(run, tmp_path):
    good = picture(tmp_path / "in" / "a.png")
    os.link(good, os.fsencode(tmp_path / "in") + b"/b\xff.png")
    Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/c\xff.png")).symlink_to("gone")
    assert run("features", tmp_path / "in", "-o", tmp_path / "out.parquet").code == 3
    read = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert [Path(path).name for path in read["path"].to_pylist()] == ["a.png", "b\\xff.png", "c\\xff.png"]
    assert read["error"].to_pylist() == [None, None, "unreadable"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["missing.png", "-o", "out.csv"], "no such file or folder: missing.png"),
        (["*.nothing", "-o", "out.csv"], "matches no file"),
        (["empty", "-o", "out.csv"], "no image among the paths"),
        (["a.png", "-o", "out.xlsx"], "must end in .parquet, .csv or .npy"),
        (["a.png", "-o", "nowhere/out.csv"], "no such folder"),
        (["a.png", "-o", "out.csv", "--features", "radail"], "Did you mean 'radial'?"),
        (["a.png", "-o", "out.csv", "--features", ","], "names nothing"),
        (["a.png", "-o", "out.csv", "--threads", "0"], "threads"),
        (["a.png", "-o", "old.csv"], "old.csv exists; give --force"),
        (["-o", "out.csv"], "PATHS"),
    ],
)
def test_a_wrong_call_is_one_line_and_leaves_nothing(run, tmp_path, monkeypatch, args, says):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "old.csv").write_text("kept")
    before = sorted(tmp_path.iterdir())
    result = run("features", *args)
    assert (result.code, result.out) == (2, "")
    assert says in result.err
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "old.csv").read_text() == "kept"


def test_force_replaces(run, tmp_path):
    out = tmp_path / "out.csv"
    out.write_text("old")
    assert run("features", picture(tmp_path / "a.png"), "-o", out, "--force").code == 0
    assert out.read_text().startswith("path,")


def _process(*args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mllmrisk.cli.main", "features", *map(str, args)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "python")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
def test_ctrl_c_leaves_no_half_file(tmp_path, suffix):
    one = picture(tmp_path / "one.png", size=(512, 512))
    many, out = tmp_path / "many", tmp_path / "out"
    many.mkdir()
    out.mkdir()
    for index in range(2000):
        (many / f"{index:05}.png").hardlink_to(one)
    process = _process(many, "-o", out / f"f{suffix}", "--threads", 1)
    deadline = time.monotonic() + 60
    while not any(out.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert any(out.iterdir()), "the command never began to write"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert "Traceback" not in stderr
    assert "interrupted; nothing was written" in stderr
    assert list(out.iterdir()) == []


def test_memory_does_not_grow_with_the_number_of_files(tmp_path):
    one = picture(tmp_path / "one.png", size=(64, 64))

    def peak(count: int) -> int:
        many = tmp_path / f"many{count}"
        many.mkdir()
        for index in range(count):
            (many / f"{index:05}.png").hardlink_to(one)
        code = (
            "import resource, sys; from mllmrisk.cli.main import main\n"
            "try: main(sys.argv[1:])\n"
            "except SystemExit as end: assert end.code == 0, end.code\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        args = [sys.executable, "-c", code, "features", many, "-o", tmp_path / f"{count}.npy", "--features", "benford"]
        done = subprocess.run(
            list(map(str, args)), env={**os.environ, "PYTHONPATH": str(ROOT / "python")}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout.split()[-1])

    few, more = peak(600), peak(6000)
    assert more - few < 8 << 10, f"{few} KiB for 600 files, {more} KiB for 6,000"
