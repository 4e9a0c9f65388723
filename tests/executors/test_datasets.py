"""Features and scores on a cluster: the rows of the local executor, whatever dies on the way."""

from __future__ import annotations

import csv
import json
import os
import pickle
import signal
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import detector_models as tiny
from mllmrisk.cli.main import main
from mllmrisk.errors import UsageError
from mllmrisk.executors import dataset_inputs as inputs
from mllmrisk.executors import datasets
from mllmrisk.executors.dataset_workers import FeatureWorker

#: Ray Data warns itself of its own settings, and its processes end with open sockets.
pytestmark = [pytest.mark.filterwarnings("ignore:::ray"), pytest.mark.filterwarnings("ignore::ResourceWarning")]


def write_picture(path: Path, seed: int, size: tuple[int, int] = (96, 80)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 pictures in two folders, three broken files among them, and a tar."""
    root = tmp_path_factory.mktemp("photos")
    for index in range(97):
        suffix = ("png", "jpg", "webp")[index % 3]
        write_picture(root / ("one", "two")[index % 2] / f"{index:03}.{suffix}", index)
    (root / "one" / "b_empty.png").write_bytes(b"")
    (root / "two" / "d_text.jpg").write_text("not an image\n" * 20)
    whole = (root / "two" / "001.jpg").read_bytes()
    (root / "one" / "f_cut.jpg").write_bytes(whole[: len(whole) // 2])
    return root


@pytest.fixture(scope="module")
def shards(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three WebDataset tars of the same pictures, with labels, the last one cut; Parquet of bytes, and of paths."""
    root = tmp_path_factory.mktemp("shards")
    files = sorted(path for path in photos.rglob("*") if path.is_file())
    for number in range(3):
        with tarfile.open(root / f"s-{number:02}.tar", "w") as tar:
            for path in files[number * 8 : number * 8 + 8]:
                tar.add(path, path.name)
                label = root / "label"
                label.write_text(str(number % 2))
                tar.add(label, f"{path.stem}.cls")
                label.unlink()
    last = root / "s-02.tar"
    last.write_bytes(last.read_bytes()[:-12000])
    taken = files[:20]
    stored = [path.read_bytes() for path in taken]
    stored[3] = None
    pq.write_table(
        pa.table({"image": pa.array(stored, pa.binary()), "label": ["real"] * 20}), root / "b.parquet", row_group_size=7
    )
    paths = [os.path.relpath(path, root) for path in taken]
    pq.write_table(pa.table({"path": [*paths, "gone.png"]}), root / "p.parquet", row_group_size=7)
    return root


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    code = ended.value.code
    assert isinstance(code, int)
    return code


def rows(path: Path) -> pa.Table:
    """All rows, without what only files of a folder say of themselves; the order is that of the file names."""
    return pq.read_table(path).replace_schema_metadata(None)


def part_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("part-"))


def complete(folder: Path) -> dict[str, object]:
    """The manifest of a result that is whole: it lists exactly the files that are there."""
    assert (folder / "_SUCCESS").exists()
    told = json.loads((folder / "_manifest.json").read_text())
    assert [file["file"] for file in told["files"]] == part_names(folder)
    names = {"_SUCCESS", "_manifest.json", "_plan.json", *part_names(folder)}
    assert {path.name for path in folder.iterdir()} == names
    assert sum(pq.read_metadata(folder / name).num_rows for name in part_names(folder)) == told["rows"]
    return told


def test_files_give_the_rows_of_the_local_executor(two_nodes, photos, tmp_path, capsys):
    assert run("features", photos, "-o", tmp_path / "local.parquet") == 3
    out = tmp_path / "far.parquet"
    address = two_nodes.address
    capsys.readouterr()
    assert run("features", photos, "-o", out, "--executor", "ray", "--ray-address", address, "--json") == 3
    printed = capsys.readouterr()
    assert json.loads(printed.out)["errors"] == {"empty": 1, "not_an_image": 1, "truncated": 1}
    assert "WARNING" not in printed.err
    assert "Traceback" not in printed.err
    assert rows(out).equals(rows(tmp_path / "local.parquet"))
    told = complete(out)
    assert told["rows"] == 100
    assert len(told["files"]) > 1


def test_tars_tables_and_lists_give_the_same_rows_here_and_there(two_nodes, photos, shards, tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text(f"{photos / 'one' / '000.png'}\n\n{shards / 's-00.tar'}\nfile://{photos / 'gone.png'}\n")
    names = [shards / "s-{00..02}.tar", shards / "b.parquet", shards / "p.parquet", listed]
    assert run("features", *names, "-o", tmp_path / "local.parquet", "--features", "radial") == 3
    ray = ["--executor", "ray", "--ray-address", two_nodes.address]
    assert run("features", *names, "-o", tmp_path / "far", "--features", "radial", *ray) == 3
    here = rows(tmp_path / "local.parquet")
    assert rows(tmp_path / "far").equals(here)
    complete(tmp_path / "far")
    told = dict(zip(here["path"].to_pylist(), here["error"].to_pylist(), strict=True))
    assert told[f"{shards}/s-02.tar"] in ("truncated", "corrupt")  # what the cut tar still held has rows of its own
    assert told[f"{shards}/b.parquet/3"] == "empty"
    assert told["gone.png"] == "unreadable"
    assert told[f"file://{photos}/gone.png"] == "unreadable"


def test_urls_are_read_through_fsspec(two_nodes, photos, shards, tmp_path):
    """`local://` is a URL for fsspec, so that bytes come the way that those of s3:// come."""
    files = sorted((photos / "one").iterdir())
    gone = f"local://{photos / 'gone.png'}"
    listed = tmp_path / "list.txt"
    listed.write_text(gone)
    plain = tmp_path / "plain.parquet"
    here = [*files, shards / "s-00.tar", shards / "b.parquet"]
    urls = [f"local://{path}" for path in (*files, shards / "s-00.tar", shards / "b.parquet")]
    urls.append(f"local://{listed}")
    assert run("features", *here, "-o", plain, "--features", "radial") == 3
    assert run("features", *urls, "-o", tmp_path / "urls.parquet", "--features", "radial") == 3
    ray = ["--executor", "ray", "--ray-address", two_nodes.address]
    assert run("features", *urls, "-o", f"local://{tmp_path / 'far'}", "--features", "radial", *ray) == 3
    complete(tmp_path / "far")
    assert rows(tmp_path / "far").equals(rows(tmp_path / "urls.parquet"))
    found = rows(tmp_path / "urls.parquet")
    assert found["path"][-1].as_py() == gone
    assert found["error"][-1].as_py() == "unreadable"
    values = ["path", "error_message"]  # these name the URLs
    assert found.slice(0, found.num_rows - 1).drop(values).equals(rows(plain).drop(values))


def test_a_detector_scores_as_it_does_here(two_nodes, collection, tmp_path):
    (tmp_path / "tiny").mkdir()
    detector = tiny.write(tmp_path / "tiny", tiny.network(), tiny.recipe())
    call = ["detect", "--detector", detector, "--device", "cpu", "--threads", 1]
    ray = ["--executor", "ray", "--ray-address", two_nodes.address]
    assert run(*call, "--images", collection, "-o", tmp_path / "local.parquet") == 0
    assert run(*call, "--images", collection, "-o", tmp_path / "far", *ray) == 0
    assert rows(tmp_path / "far").equals(rows(tmp_path / "local.parquet"))
    assert len(complete(tmp_path / "far")["files"]) > 1
    with tarfile.open(tmp_path / "s-0.tar", "w") as tar:
        for path in sorted(collection.parent.glob("*_0_*")):
            tar.add(path, path.name)
            (tmp_path / "label").write_text("0" if path.name.startswith("real") else "1")
            tar.add(tmp_path / "label", f"{path.stem}.cls")
    shard = f"local://{tmp_path / 's-{0..0}.tar'}"
    assert run(*call, "--images", shard, "-o", tmp_path / "tar.csv") == 0
    assert run(*call, "--images", shard, "-o", tmp_path / "tar", *ray) == 0
    with (tmp_path / "tar.csv").open(newline="") as file:
        scores = {row["path"].rsplit("/", 1)[-1]: row for row in csv.DictReader(file)}
    here = {row["path"]: row for row in rows(tmp_path / "local.parquet").to_pylist()}
    assert len(scores) == 12
    for row in rows(tmp_path / "tar").to_pylist():
        name = row["path"].rsplit("/", 1)[-1]
        assert row["label"] == here[name]["label"] == scores[name]["label"]
        assert row["score"] == pytest.approx(here[name]["score"], abs=1e-5)  # another batch: the last bits may differ
        assert float(scores[name]["score"]) == pytest.approx(row["score"], rel=1e-5)


class Meanwhile:
    """Does something once, from another thread, when a result has its first files."""

    def __init__(self, folder: Path, act: Callable[[], object], files: int = 2) -> None:
        self._folder, self._act, self._files = folder, act, files
        self.seen: list[str] = []
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Meanwhile:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def _watch(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            names = part_names(self._folder) if self._folder.is_dir() else []
            if len(names) >= self._files:
                self.seen = names
                self._act()
                return
            time.sleep(0.01)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pa.Table]:
    """240 pictures (links to 12), enough for parts that take a while, and the rows that they must give."""
    root = tmp_path_factory.mktemp("many")
    for index in range(240):
        name = root / f"{index:03}.png"
        if index < 12:
            write_picture(name, index, (320, 320))
        else:
            name.hardlink_to(root / f"{index % 12:03}.png")
    expected = root.parent / "expected.parquet"
    assert run("features", root, "-o", expected, "--threads", 1) == 0
    return root, rows(expected)


def test_a_worker_that_is_killed_costs_its_part_again_and_nothing_else(two_nodes, many, tmp_path, capsys):
    root, expected = many
    out = tmp_path / "far"
    killed: list[int] = []

    def kill() -> None:
        victim = two_nodes.workers("MapWorker")[0]
        os.kill(victim, signal.SIGKILL)
        killed.append(victim)

    with Meanwhile(out, kill) as meanwhile:
        written = datasets.features([root], out, address=two_nodes.address, rows=12)
    assert killed
    assert capsys.readouterr().out == ""  # Ray would tell it there
    assert len(meanwhile.seen) < 20  # it died in the middle
    assert written == (str(out), 240, {}, 20, written.bytes)
    assert rows(out).equals(expected)
    complete(out)


def test_a_node_that_goes_costs_its_parts_again_and_nothing_else(two_nodes, many, tmp_path):
    root, expected = many
    out = tmp_path / "far"
    with Meanwhile(out, two_nodes.remove_node) as meanwhile:
        datasets.features([root], out, address=two_nodes.address, rows=12)
    assert 0 < len(meanwhile.seen) < 20
    assert rows(out).equals(expected)
    complete(out)


def test_a_stopped_run_goes_on_and_computes_only_what_is_missing(two_nodes, many, tmp_path):
    root, expected = many
    out = tmp_path / "far"
    first = datasets.features([root], out, address=two_nodes.address, rows=40)
    assert first.files == 6
    (out / "_SUCCESS").unlink()  # as a run that was stopped leaves it: some parts, half a file of a writer that died
    (out / "_manifest.json").unlink()
    (out / "part-000002.parquet").unlink()
    (out / "part-000004.parquet").write_bytes((out / "part-000004.parquet").read_bytes()[:-9])
    (out / ".part-000005.parquet.abc").write_bytes(b"half")
    before = {name: (out / name).stat().st_mtime_ns for name in part_names(out)}
    with pytest.raises(UsageError, match="--resume"):
        datasets.features([root], out, address=two_nodes.address)
    with pytest.raises(UsageError, match=r"another call \(columns differ\)"):
        datasets.features([root], out, "radial", address=two_nodes.address, resume=True)
    told: list[tuple[int, int]] = []
    again = datasets.features(
        [root], out, address=two_nodes.address, resume=True, progress=lambda _, done, total: told.append((done, total))
    )
    assert again == first
    assert rows(out).equals(expected)
    complete(out)
    after = {name: (out / name).stat().st_mtime_ns for name in part_names(out)}
    assert {name for name in after if after[name] != before.get(name)} == {"part-000002.parquet", "part-000004.parquet"}
    assert told[-1] == (240, 240)


def test_a_part_that_is_written_twice_is_there_once(photos, tmp_path, monkeypatch):
    """What a worker leaves that dies after its file is there, and before it has said so."""
    monkeypatch.chdir(tmp_path)  # a worker goes where its driver is: afterwards, back
    part = inputs.Files(tuple(inputs.File(str(path), str(path)) for path in sorted((photos / "one").iterdir())[:9]))
    row = {"number": [3], "part": [pickle.dumps(part)]}
    told = [FeatureWorker(["radial"], 1, str(tmp_path / "out"), str(tmp_path))(row) for _ in range(2)]
    assert told[0] == told[1]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["part-000003.parquet"]
    assert pq.read_metadata(tmp_path / "out" / "part-000003.parquet").num_rows == 9


@pytest.mark.parametrize("name", ["out.csv", "out.npy"])
def test_the_output_is_a_folder(photos, tmp_path, capsys, name):
    assert run("features", photos, "-o", tmp_path / name, "--executor", "ray") == 2
    assert "a folder of Parquet files" in capsys.readouterr().err


def test_what_a_worker_says_is_one_line(two_nodes, photos, tmp_path, capsys):
    ray = ["--executor", "ray", "--ray-address", two_nodes.address]
    out = tmp_path / "out"
    assert run("detect", "--detector", "npr", "--images", photos, "-o", out, "--device", "cpu", *ray) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert "mllmrisk export-detector npr --weights" in said[-1]
    assert "Traceback" not in "".join(said)
    assert part_names(out) == []


def test_other_peoples_files_are_not_replaced(two_nodes, photos, tmp_path):
    (tmp_path / "thesis.tex").write_text("kept")
    with pytest.raises(UsageError, match=r"no result of mllmrisk \(thesis.tex\)"):
        datasets.features([photos], tmp_path, address=two_nodes.address, force=True)
    with pytest.raises(UsageError, match="is a file"):
        datasets.features([photos], tmp_path / "thesis.tex", address=two_nodes.address, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_force_replaces_a_result_and_all_of_it(two_nodes, photos, tmp_path):
    out = tmp_path / "out"
    first = datasets.features([photos], out, "radial", address=two_nodes.address, rows=20)
    again = datasets.features([photos / "one"], out, "radial", address=two_nodes.address, rows=40, force=True)
    assert again.files < first.files
    assert complete(out)["rows"] == again.rows


def test_nothing_to_do_is_said(two_nodes, tmp_path):
    with pytest.raises(UsageError, match="no image"):
        datasets.features([tmp_path], tmp_path / "out", address=two_nodes.address)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--device", "cuda"], "no node of the cluster has 1 CPU(s) and a GPU"),
        (["--device", "cpu", "--threads", "7"], "no node of the cluster has 7 CPU(s)"),
        (["--device", "cuda:1"], "give --device cuda"),
    ],
)
def test_what_the_cluster_has_no_room_for_is_not_waited_for(two_nodes, photos, tmp_path, capsys, options, says):
    call = ["detect", "--detector", "npr", "--images", photos, "-o", tmp_path / "out", *options]
    assert run(*call, "--executor", "ray", "--ray-address", two_nodes.address) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
