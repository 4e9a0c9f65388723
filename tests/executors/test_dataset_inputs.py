"""What names mean, and what reading them gives when files, tars, tables and stores are at their worst. No Ray here."""

from __future__ import annotations

import io
import tarfile
import threading
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from mllmrisk.errors import UsageError
from mllmrisk.executors import dataset_inputs as inputs
from mllmrisk.executors import dataset_reading as reading
from mllmrisk.executors.dataset_folders import Folder


def names(*arguments: object, rows: int = 2048) -> list[str]:
    return [one.name for one in inputs.expand([str(argument) for argument in arguments], rows)]


def items(*arguments: object, facts: bool = False) -> list[reading.Item]:
    parts = inputs.parts(inputs.expand([str(argument) for argument in arguments]), 10)
    return [item for batch in reading.batches(parts, facts=facts) for item in batch]


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("s-{08..11}.tar", ["s-08.tar", "s-09.tar", "s-10.tar", "s-11.tar"]),
        ("s-{8..10}.tar", ["s-8.tar", "s-9.tar", "s-10.tar"]),
        ("{a,b}-{0..1}.tar", ["a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar"]),
        ("{odd}.tar", ["{odd}.tar"]),
    ],
)
def test_braces_stand_for_names(tmp_path, pattern, meant):
    for name in meant:
        write_tar(tmp_path / name, {})
    assert names(tmp_path / pattern) == [str(tmp_path / name) for name in meant]


def test_a_shard_that_is_missing_is_named(tmp_path):
    write_tar(tmp_path / "s-0.tar", {})
    with pytest.raises(UsageError, match=r"no such file or folder: .*s-1\.tar"):
        names(tmp_path / "s-{0..1}.tar")
    with pytest.raises(UsageError, match="is empty"):
        names(tmp_path / "s-{3..1}.tar")


def test_parts_keep_the_order_and_never_mix_kinds(tmp_path):
    for name in ("a.png", "b.png", "c.png", "e.png"):
        (tmp_path / name).write_bytes(b"x")
    write_tar(tmp_path / "d.tar", {})
    found = list(inputs.parts(inputs.expand([str(tmp_path)]), 2))
    assert [type(part).__name__ for part in found] == ["Files", "Files", "Tar", "Files"]
    assert [inputs.size(part) for part in found] == [2, 1, None, 1]
    assert len({inputs.digest(part) for part in found}) == 4
    assert inputs.count([str(tmp_path)]) is None


def test_row_groups_are_put_together_and_never_cut(tmp_path):
    pq.write_table(pa.table({"path": [f"{i}.png" for i in range(50)]}), tmp_path / "t.parquet", row_group_size=7)
    tables = list(inputs.expand([str(tmp_path / "t.parquet")], 20))
    assert [(table.first, table.last, table.row, table.rows) for table in tables] == [
        (0, 2, 0, 14),
        (2, 4, 14, 14),
        (4, 6, 28, 14),
        (6, 8, 42, 8),
    ]
    assert [item.name for item in items(tmp_path / "t.parquet")] == [f"{i}.png" for i in range(50)]
    assert inputs.count([str(tmp_path / "t.parquet")]) == 50


def test_a_table_without_images_names_its_columns(tmp_path):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "t.parquet")
    with pytest.raises(UsageError, match="Found: text"):
        names(tmp_path / "t.parquet")


def test_the_way_that_data_sets_are_published(tmp_path):
    stored = [{"bytes": b"one", "path": "x/1.png"}, {"bytes": b"two", "path": None}, None]
    pq.write_table(pa.table({"image": stored, "label": ["1", "0", None]}), tmp_path / "t.parquet")
    first, second, third = items(tmp_path / "t.parquet", facts=True)
    assert first == ("x/1.png", b"one", None, {"label": "1"})
    assert second == (f"{tmp_path}/t.parquet/1", b"two", None, {"label": "0"})
    assert (third.name, third.reason.code) == (f"{tmp_path}/t.parquet/2", "empty")


def test_side_files_of_a_tar_say_what_its_images_are(tmp_path):
    tar = write_tar(
        tmp_path / "t.tar",
        {
            "real/a.jpg": b"a",
            "b.json": b'{"label": "fake", "generator": "g", "n": null}',
            "b.png": b"b",
            "c.webp": b"c",
            "c.json": b"not json",
            "c.cls": b"0\n",
            "d.txt": b"no image",
        },
    )
    found = {item.name.removeprefix(f"{tar}/"): item for item in items(tar, facts=True)}
    assert list(found) == ["real/a.jpg", "b.png", "c.webp"]
    assert [item.data for item in found.values()] == [b"a", b"b", b"c"]
    assert found["real/a.jpg"].facts["label"] == "real"
    assert found["b.png"].facts == {"label": "fake", "generator": "g"}
    assert found["c.webp"].facts == {"label": "real"}


@pytest.mark.parametrize(
    ("left", "images", "code"),
    [(512 + 1000, 0, "corrupt"), (512 + 1024 + 512 + 1024, 2, "truncated"), (700, 0, "corrupt"), (0, 0, None)],
)
def test_a_cut_tar_gives_what_it_holds_and_a_row_of_its_own(tmp_path, left, images, code):
    whole = write_tar(tmp_path / "t.tar", {f"{i}.png": b"x" * 1000 for i in range(3)})
    whole.write_bytes(whole.read_bytes()[:left])
    *good, last = items(whole)
    assert len(good) == images
    assert all(item.reason is None for item in good)
    assert last.name == str(whole)
    assert last.reason is not None
    assert code is None or last.reason.code == code


def test_a_broken_row_group_costs_its_rows(tmp_path):
    path = tmp_path / "t.parquet"
    stored = [bytes([i]) * 3000 for i in range(30)]
    pq.write_table(pa.table({"image": stored}), path, row_group_size=10, use_dictionary=False)
    second = pq.read_metadata(path).row_group(1).column(0)
    data = bytearray(path.read_bytes())
    data[second.data_page_offset : second.data_page_offset + second.total_compressed_size] = (
        b"\xff" * second.total_compressed_size
    )
    path.write_bytes(data)
    found = items(path)
    assert [item.name for item in found] == [f"{path}/{row}" for row in range(30)]
    assert [item.reason and item.reason.code for item in found] == [None] * 10 + ["unreadable"] * 10 + [None] * 10
    assert [item.data for item in found[20:]] == stored[20:]


class Busy(MemoryFileSystem):
    """A store that refuses each object twice before it gives it."""

    protocol = "busy"
    store: dict = {}  # noqa: RUF012  # as its base has it
    pseudo_dirs: list = [""]  # noqa: RUF012
    asked: dict[str, int] = {}  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("busy://", "memory://"))

    def cat_file(self, path: str, *args: object, **kwargs: object) -> bytes:
        self.asked[path] = self.asked.get(path, 0) + 1
        if self.asked[path] <= 2 and self.exists(path):
            raise OSError("503 Slow Down")
        return super().cat_file(path, *args, **kwargs)


def test_a_busy_store_is_asked_again_and_a_missing_object_is_not(tmp_path):
    fsspec.register_implementation("busy", Busy, clobber=True)
    store = fsspec.filesystem("busy")
    store.pipe({f"/b/{i}.png": bytes([i]) for i in range(5)})
    store.pipe("/b/[odd].png", b"odd")
    assert [item.data for item in items("busy://b")] == [bytes([i]) for i in range(5)] + [b"odd"]
    listed = tmp_path / "l.txt"
    listed.write_text("busy://b/gone.png\nbusy://b/3.png\n")
    gone, there = items(listed)
    assert gone.reason is not None
    assert gone.reason.code == "unreadable"
    assert there.data == b"\x03"
    assert store.asked["/b/gone.png"] == 1


def test_one_batch_ahead_and_no_thread_left_behind(tmp_path):
    for i in range(600):
        (tmp_path / f"{i:03}.png").touch()
    before = threading.active_count()
    found = reading.batches(inputs.parts(inputs.expand([str(tmp_path)]), 100))
    assert len(next(found)) == 256
    found.close()
    assert threading.active_count() == before


def test_a_folder_behind_a_url_holds_whole_files_only():
    folder = Folder("memory://out/f.parquet")
    folder.begin({"stage": "features"}, force=False, resume=False)
    schema = pa.schema([("path", pa.string()), ("error", pa.string())])
    table = pa.table({"path": ["a", "b"], "error": [None, "empty"]}, schema=schema)
    done = folder.write_part(0, "0123", [table, table], schema)
    assert (done.rows, done.errors) == (4, {"empty": 2})
    assert folder.done() == {"part-000000.parquet": done}
    folder.finish([done], {"stage": "features"})
    assert folder.names() == ["_SUCCESS", "_manifest.json", "_plan.json", "part-000000.parquet"]
