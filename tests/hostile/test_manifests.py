"""Manifests that are wrong, through `mllmrisk import`: one clear line and exit 2, or a defined result."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from mllmrisk import manifest
from mllmrisk.cli.main import main
from mllmrisk.errors import ManifestError


def image(seed: int, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (70, 72, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder `data` with two real and two fake images, and one image beside it."""
    data = tmp_path / "data"
    data.mkdir()
    for position, name in enumerate(["r1.png", "r2.png", "f1.png", "f2.png"]):
        (data / name).write_bytes(image(position))
    (tmp_path / "outside.png").write_bytes(image(9))
    return data


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[[Path], str]:
    """Runs `mllmrisk import`, which must refuse with one line; returns the line."""

    def call(path: Path) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["import", str(path)])
        out, err = capsys.readouterr()
        assert (ended.value.code, out) == (2, "")
        *progress, line = err.splitlines()
        assert all(shown.startswith("images checked") for shown in progress)
        assert line.startswith("mllmrisk: ")
        assert len(line) < 600
        return line

    return call


GOOD = "path,label\nr1.png,real\nr2.png,real\nf1.png,fake\nf2.png,fake\n"

#: Name → (manifest.csv, what the line must say).
CSV: dict[str, tuple[str, str]] = {
    "no label column": ("path\nr1.png\n", "needs a column 'label' (real or fake). Found: 'path'"),
    "no path column": ("file,label\nr1.png,real\n", "needs a column 'path'"),
    "mistyped column": ("path,lable\nr1.png,real\n", "Did you mean 'lable'? Found: 'lable', 'path'"),
    "empty file": ("", "needs a column 'path'"),
    "header only": ("path,label\n", "names no image"),
    "column twice": ("path,label,label\nr1.png,real,fake\n", "the column 'label' stands twice"),
    "too many cells": (GOOD + "r1.png,real,more\n", "line 6: 2 columns expected"),
    "too few cells": (GOOD + "r1.png\n", "line 6: 2 columns expected"),
    "open quote": (GOOD + '"r1.png,real\n', "line 6: unexpected end of data"),
    "label typo": (GOOD + "r1.png,fke\n", "line 6: label must be real or fake, not 'fke'"),
    "no label": (GOOD + "r1.png,\n", "line 6: no label (real or fake)"),
    "no path": (GOOD + ",real\n", "line 6: no path"),
    "only real": ("path,label\nr1.png,real\n", "no image labelled fake: generated images are needed"),
    "only fake": ("path,label\nf1.png,fake\n", "no image labelled real: photographs are needed"),
    "parent folder": (GOOD + "../outside.png,fake\n", "line 6: ../outside.png points outside the manifest's folder"),
    "parent folder, hidden": (GOOD + "x/../../outside.png,fake\n", "points outside the manifest's folder"),
    "absolute path": (GOOD + "/etc/passwd,fake\n", "/etc/passwd points outside the manifest's folder"),
    "both labels": (GOOD + "r1.png,fake\n", "line 6: r1.png stands twice, once real and once fake"),
    "not a sha256": ("path,label,sha256\nr1.png,real,123\nf1.png,fake,\n", "line 2: not a sha256: '123'"),
    "unknown paradigm": ("path,label,paradigm\nr1.png,real,\nf1.png,fake,difusion\n", "Did you mean 'diffusion'?"),
    "paradigm of the other": ("path,label,paradigm\nr1.png,real,mllm\n", "label real with paradigm mllm"),
    "index of words": ("path,label,index\nr1.png,real,first\n", "index must be a whole number, not 'first'"),
    "index beyond bounds": (f"path,label,index\nr1.png,real,{10**30}\n", "index is too large"),
    "index of many digits": (f"path,label,index\nr1.png,real,{'9' * 5000}\n", "index must be a whole number"),
    "a cell of a megabyte": (f"path,label,x\nr1.png,real,{'y' * (1 << 20)}\n", "field larger than field limit"),
}


@pytest.mark.parametrize("name", CSV)
def test_csv(root, refused, name):
    text, says = CSV[name]
    (root / "manifest.csv").write_text(text, encoding="utf-8")
    assert says in refused(root / "manifest.csv")


def test_the_good_one_is_accepted(root, capsys):
    (root / "manifest.csv").write_text(GOOD)
    with pytest.raises(SystemExit) as ended:
        main(["import", str(root / "manifest.csv")])
    assert ended.value.code == 0
    assert "label      real 2, fake 2" in capsys.readouterr().out


#: Name → (bytes of manifest.csv, what the line must say).
ENCODINGS: dict[str, tuple[bytes, str]] = {
    "one line in Latin-1": (GOOD.encode() + "caf\xe9.png,real\n".encode("latin-1"), "line 6: not UTF-8 (byte 0xe9)"),
    "UTF-16": (GOOD.encode("utf-16"), "line 1: not UTF-8 (byte 0xff); save the manifest as UTF-8"),
    "UTF-16 without a mark": (GOOD.encode("utf-16-le"), "needs a column 'path'"),
    "an image": (image(1), "not UTF-8"),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_encodings(root, refused, name):
    data, says = ENCODINGS[name]
    (root / "manifest.csv").write_bytes(data)
    line = refused(root / "manifest.csv")
    assert says in line
    assert line.isprintable()


def test_utf8_with_a_mark_and_windows_lines_is_good(root):
    (root / "manifest.csv").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert len(manifest.read(root / "manifest.csv").entries) == 4


#: Name → (manifest.jsonl, what the line must say).
JSONL: dict[str, tuple[str, str]] = {
    "not JSON": ('{"path": "r1.png", "label": "real"}\n{"path":\n', "line 2: Expecting value"),
    "a list": ('["r1.png", "real"]\n', "line 1: an object is expected"),
    "a NUL in the path": ('{"path": "r1\\u0000.png", "label": "real"}\n', "line 1: a path with a NUL byte"),
    "half a character": ('{"path": "r1.png", "label": "real", "prompt": "\\ud800"}\n', "a lone surrogate"),
    "brackets to the sky": ("[" * 100_000 + "\n", "line 1: "),
    "a number of 10,000 digits": ('{"path": "r1.png", "label": "real", "seed": ' + "9" * 10_000 + "}\n", "line 1: "),
    "no label": ('{"path": "r1.png", "labl": "real"}\n', "needs a column 'label' (real or fake). Did you mean 'labl'?"),
}


@pytest.mark.parametrize("name", JSONL)
def test_jsonl(root, refused, name):
    text, says = JSONL[name]
    (root / "manifest.jsonl").write_text(text)
    assert says in refused(root / "manifest.jsonl")


def test_jsonl_lines_end_in_newlines_only(root):
    """U+2028 and U+0085 may stand inside a JSON text; they end no line."""
    rows = [
        {"path": f"{n}.png", "label": "real" if n[0] == "r" else "fake", "prompt": "a\u2028b\x85c"}
        for n in ("r1", "f1")
    ]
    (root / "m.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    assert [entry.sample.prompt for entry in manifest.read(root / "m.jsonl").entries] == ["a\u2028b\x85c"] * 2


def test_parquet(root, refused):
    table = pyarrow.table({"path": ["r1.png", "f1.png"], "label": ["real", "fake"], "index": [1.0, float("nan")]})
    pyarrow.parquet.write_table(table, root / "good.parquet")
    assert [entry.sample.index for entry in manifest.read(root / "good.parquet").entries] == [1, 0]
    whole = (root / "good.parquet").read_bytes()
    (root / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    assert "cut.parquet" in refused(root / "cut.parquet")
    pyarrow.parquet.write_table(table.drop_columns("label"), root / "less.parquet")
    assert "needs a column 'label'" in refused(root / "less.parquet")


def test_other_things_than_manifests(root, refused, tmp_path):
    assert "no such manifest or folder" in refused(tmp_path / "gone.csv")
    (root / "manifest.xlsx").write_bytes(b"PK")
    assert "a manifest is .csv, .jsonl, .parquet, .tar or a folder" in refused(root / "manifest.xlsx")
    (tmp_path / "none").mkdir()
    assert "holds no image" in refused(tmp_path / "none")


# -- what the manifest claims of its files -----------------------------------------------------------------------------


def test_a_wrong_sha256_is_refused_with_the_file(root, refused):
    good = [(name, sha256((root / name).read_bytes())) for name in ("r1.png", "f1.png")]
    rows = "".join(f"{name},{'real' if name[0] == 'r' else 'fake'},{digest}\n" for name, digest in good)
    (root / "m.csv").write_text("path,label,sha256\n" + rows)
    assert len(manifest.read(root / "m.csv").entries) == 2
    (root / "f1.png").write_bytes(image(77))
    line = refused(root / "m.csv")
    assert "1 of 2 images are not the ones that it names: the sha256 of f1.png begins" in line
    assert good[1][1][:12] in line


def test_one_image_under_two_names_and_two_labels_is_refused(root, refused):
    (root / "copy.png").write_bytes((root / "r1.png").read_bytes())
    (root / "m.csv").write_text(GOOD + "copy.png,fake\n")
    assert "copy.png holds the same bytes as r1.png, once fake and once real" in refused(root / "m.csv")


def test_equal_rows_and_equal_bytes_are_counted_once_and_said(root, capsys):
    (root / "copy.png").write_bytes((root / "r1.png").read_bytes())
    (root / "m.csv").write_text(GOOD + "r1.png,real\ncopy.png,real\n")
    with pytest.raises(SystemExit) as ended:
        main(["import", str(root / "m.csv"), "--json"])
    assert ended.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == 4
    assert found["notes"] == ["1 duplicate row(s) left out"]
    assert found["duplicates"] == [{"path": "copy.png", "same_as": "r1.png"}]


def test_files_that_cannot_be_used_are_listed_and_the_rest_goes_on(root, capsys):
    (root / "empty.png").write_bytes(b"")
    (root / "text.jpg").write_text("no image")
    (root / "cut.png").write_bytes(image(5)[:3000])
    (root / "folder.png").mkdir()
    bad = ["gone.png", "empty.png", "text.jpg", "cut.png", "folder.png"]
    (root / "m.csv").write_text(GOOD + "".join(f"{name},fake\n" for name in bad))
    with pytest.raises(SystemExit) as ended:
        main(["import", str(root / "m.csv"), "--json"])
    assert ended.value.code == 3
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == 4
    assert {row["path"]: row["error"] for row in found["problems"]} == {
        "gone.png": "unreadable",
        "empty.png": "empty",
        "text.jpg": "not_an_image",
        "cut.png": "truncated",
        "folder.png": "unreadable",
    }
    assert all(row["error_message"] for row in found["problems"])


def test_no_readable_fake_left_is_refused(root, refused):
    (root / "f1.png").write_bytes(b"")
    (root / "m.csv").write_text("path,label\nr1.png,real\nf1.png,fake\n")
    assert "no image labelled fake" in refused(root / "m.csv")


# -- links -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["manifest", "folder", "tar in a folder"])
def test_links_out_of_the_folder_are_refused(root, refused, tmp_path, kind):
    if kind == "manifest":
        (root / "link.png").symlink_to(tmp_path / "outside.png")
        (root / "m.csv").write_text(GOOD + "link.png,fake\n")
        line = refused(root / "m.csv")
    elif kind == "folder":
        for label in ("0_real", "1_fake"):
            (root / "set" / label).mkdir(parents=True)
            (root / "set" / label / "a.png").write_bytes(image(hash(label) % 100))
        (root / "set" / "1_fake" / "link.png").symlink_to(tmp_path / "outside.png")
        line = refused(root / "set")
    else:
        shard(tmp_path / "outside.tar", {"real/a.png": image(1), "fake/b.png": image(2)})
        (root / "set").mkdir()
        (root / "set" / "link.tar").symlink_to(tmp_path / "outside.tar")
        line = refused(root / "set")
    assert "points outside the manifest's folder" in line


def test_a_link_to_a_folder_outside_is_refused_in_a_manifest(root, refused, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.png").write_bytes(image(3))
    (root / "sub").symlink_to(tmp_path / "elsewhere")
    (root / "m.csv").write_text(GOOD + "sub/x.png,fake\n")
    assert "points outside" in refused(root / "m.csv")


def test_a_loop_of_file_links_is_one_line(root, refused):
    (root / "loop1.png").symlink_to("loop2.png")
    (root / "loop2.png").symlink_to("loop1.png")
    (root / "m.csv").write_text(GOOD + "loop1.png,fake\n")
    assert "loop1.png" in refused(root / "m.csv")


def test_a_loop_of_folder_links_ends(root):
    for label in ("0_real", "1_fake"):
        (root / "set" / label).mkdir(parents=True)
        (root / "set" / label / "a.png").write_bytes(image(len(label)))
        (root / "set" / label / "again").symlink_to(root / "set")
    assert len(manifest.read(root / "set").entries) == 2


def test_a_folder_without_labels_is_told_what_is_missing(root, refused):
    line = refused(root)
    assert "no label (real or fake)" in line
    assert "0_real" in line


def test_names_that_are_not_utf8(root, capsys):
    folder = root / "set"
    for label in ("0_real", "1_fake"):
        (folder / label).mkdir(parents=True)
        (folder / label / "a.png").write_bytes(image(len(label) + (label == "0_real")))
    (folder / "1_fake").joinpath(os.fsdecode(b"b\xff.png")).write_bytes(image(50))
    entries = manifest.read(folder).entries
    assert sorted(str(entry.sample.path) for entry in entries) == ["0_real/a.png", "1_fake/a.png", "1_fake/b\\xff.png"]
    assert all(entry.read()[:4] == b"\x89PNG" for entry in entries)
    with pytest.raises(SystemExit) as ended:
        main(["import", str(folder), "--json"])
    assert ended.value.code == 3
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert (problem["path"], problem["error"]) == ("1_fake/b\\xff.png", "name")


# -- tars --------------------------------------------------------------------------------------------------------------


def shard(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def members(count: int) -> dict[str, bytes]:
    """WebDataset members, real and fake by turns."""
    found = {}
    for index in range(count):
        found[f"{index:04}.png"] = image(index)
        found[f"{index:04}.cls"] = str(index % 2).encode()
        found[f"{index:04}.json"] = json.dumps({"prompt": f"p{index}", "generator": None}).encode()
    return found


def test_a_tar_is_read_member_by_member(root):
    path = shard(root / "a.tar", members(6))
    entries = manifest.read(path).entries
    assert [entry.sample.label for entry in entries] == ["real", "fake"] * 3
    assert [entry.read() for entry in entries] == [image(index) for index in range(6)]
    assert entries[2].sample.prompt == "p2"
    assert entries[2].sample.path == "a.tar/0002.png"


def test_a_manifest_can_name_members_of_tars(root):
    shard(root / "a.tar", members(2))
    (root / "m.csv").write_text("path,label\na.tar/0000.png,real\na.tar/0001.png,fake\n")
    assert [entry.read() for entry in manifest.read(root / "m.csv").entries] == [image(0), image(1)]
    (root / "m.csv").write_text("path,label\na.tar/0009.png,real\n")
    with pytest.raises(ManifestError, match=r"a\.tar holds no 0009\.png"):
        manifest.read(root / "m.csv")


def test_shards_of_one_name_in_two_folders_are_two(root):
    for position, label in enumerate(("real", "fake")):
        (root / "set" / label).mkdir(parents=True)
        shard(root / "set" / label / "0.tar", {"a.png": image(position), "a.cls": str(position).encode()})
    entries = manifest.read(root / "set").entries
    assert [entry.sample.path for entry in entries] == ["fake/0.tar/a.png", "real/0.tar/a.png"]


def test_truncated_tars_at_every_block(root):
    """Wherever a tar is cut, images would be missing in silence: it is refused."""
    whole = shard(root / "whole.tar", {"real/a.png": image(1), "fake/b.png": image(2)}).read_bytes()
    end = len(whole.rstrip(b"\0")) + 511
    for size in range(0, end - end % 512, 512):
        (root / "cut.tar").write_bytes(whole[:size])
        with pytest.raises(ManifestError, match=r"cut\.tar"):
            manifest.read(root / "cut.tar")


def test_a_tar_that_is_cut_through_the_command(root, refused):
    whole = shard(root / "a.tar", members(4)).read_bytes()
    (root / "a.tar").write_bytes(whole[: len(whole) // 2 + 100])
    assert "a.tar" in refused(root / "a.tar")


#: Name → (what makes the file, what the line must say).
TARS: dict[str, tuple[Callable[[Path], object], str]] = {
    "compressed": (lambda path: shard(path, members(2), "w:gz"), "it is compressed; unpack it to a plain .tar"),
    "no tar": (lambda path: path.write_bytes(image(1)), "a.tar"),
    "empty": (lambda path: path.write_bytes(b""), "a.tar"),
    "class of words": (lambda path: shard(path, {"a.png": image(1), "a.cls": b"dog"}), "0 (real) or 1 (fake) expected"),
    "broken json": (lambda path: shard(path, {"a.png": image(1), "a.json": b"{"}), "a.json"),
    "json that is no object": (lambda path: shard(path, {"a.png": image(1), "a.json": b"[]"}), "an object is expected"),
    "no label": (lambda path: shard(path, {"a.png": image(1)}), "no label (real or fake)"),
    "no image": (lambda path: shard(path, {"a.txt": b"x"}), "names no image"),
}


@pytest.mark.parametrize("name", TARS)
def test_tars(root, refused, name):
    make, says = TARS[name]
    make(root / "a.tar")
    assert says in refused(root / "a.tar")


def test_members_that_are_links_or_lead_out_touch_nothing(root, tmp_path):
    path = root / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name, data in {"real/a.png": image(1), "fake/b.png": image(2), "fake/../../../evil.png": image(3)}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("fake/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    entries = manifest.read(path).entries
    assert [entry.member for entry in entries] == ["real/a.png", "fake/b.png", "fake/../../../evil.png"]
    assert [entry.read() for entry in entries] == [image(1), image(2), image(3)]
    assert sorted(tmp_path.rglob("*")) == before


def test_unknown_columns_are_kept(root):
    with (root / "m.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows(
            [["path", "label", "camera", "seed"], ["r1.png", "real", "X100", ""], ["f1.png", "fake", "", "7"]]
        )
    first, second = (entry.sample for entry in manifest.read(root / "m.csv").entries)
    assert (first.extra, first.seed) == ({"camera": "X100"}, None)
    assert (second.extra, second.seed) == ({}, 7)
