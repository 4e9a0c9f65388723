"""Features and scores on a cluster: the rows of the local executor, whatever dies on the way."""

from __future__ import annotations

import csv
import json
import os
import signal
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import detector_models as tiny
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mllmrisk.cli.main import main
from mllmrisk.errors import MllmriskError, UsageError
from mllmrisk.executors import datasets

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
    """Three WebDataset tars of the same pictures, with labels, the last one cut; a Parquet file of bytes, one of paths."""
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
