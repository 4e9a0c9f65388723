"""Prompts: what a TOML says is what is read, and a file that is another one, or broken, is named and refused."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mllmrisk import config, prompts
from mllmrisk.cli.main import cli
from mllmrisk.errors import UsageError
from mllmrisk.prompts import embedded, places
from mllmrisk.prompts.columns import key_of, normalised
from mllmrisk.prompts.fetching import download
from mllmrisk.records import Prompt
from mllmrisk.world import COLOURS, PLACES
from mllmrisk.world.captions import SUBJECT_WORDS

UNSAFE_SETS = ("literal", "framed", "long", "abstract", "chinese")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder of prompts for each test; nobody's real one is looked at."""
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.setenv("MLLMRISK_PROMPTS", str(folder))
    return folder


def write(folder: Path, data: str | bytes, **keys: object) -> Path:
    """A set's TOML and its file; a dict becomes a table."""
    data = data.encode() if isinstance(data, str) else data
    keys = {"name": "mine", "version": "1", "kind": "csv", "about": "a", "file": "data", **keys}
    (folder / str(keys["file"])).write_bytes(data)
    lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items() if not isinstance(value, dict)]
    for name, table in keys.items():
        if isinstance(table, dict):
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    toml = folder / f"{keys['name']}.toml"
    toml.write_text("\n".join(lines), encoding="utf-8")
    return toml


def read(toml: Path) -> list[Prompt]:
    return prompts.read(prompts.describe(str(toml)))


def refused(toml: Path) -> str:
    with pytest.raises(UsageError) as wrong:
        read(toml)
    return str(wrong.value)


# ---- what is read ----


def test_a_csv_with_every_column(tmp_path: Path) -> None:
    data = (
        "key,prompt,lang,lv,kind,of,scene,note\r\n"
        'a,"a ball, red",en,v0,,,ball,x\r\n'
        "b,un ballon,fr,v1,,,ball,\r\n"
        "c,a cube,en,v0,,a,cube,y\r\n"
        "d,a cone,en,v0,odd,other/q,else/cone,z\r\n"
    )
    columns = {
        "text": "prompt",
        "id": "key",
        "language": "lang",
        "level": "lv",
        "category": "kind",
        "twin_of": "of",
        "concept": "scene",
    }
    first, second, third, fourth = read(write(tmp_path, data, rows=4, columns=columns))
    assert first == Prompt(
        id="mine/a", text="a ball, red", prompt_set="mine", level="v0", concept="mine/ball", extra={"note": "x"}
    )
    assert (second.language, second.level, second.concept, second.extra) == ("fr", "v1", "mine/ball", {})
    assert (third.twin_of, fourth.twin_of) == ("mine/a", "other/q")
    assert (fourth.category, fourth.concept) == ("odd", "else/cone")


def rows_in(kind: str, rows: list[dict[str, Any]], folder: Path) -> bytes:
    if kind == "jsonl":
        return "\n".join(json.dumps(row) for row in rows).encode()
    if kind == "parquet":
        path = folder / "made.parquet"
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
        return path.read_bytes()
    lines = [",".join(rows[0]), *(",".join(str(value) for value in row.values()) for row in rows)]
    return "\n".join(lines).encode()


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_formats_give_the_same_prompts(kind: str, tmp_path: Path) -> None:
    rows = [{"text": f"thing {i}", "n": i, "hard": i % 2, "score": i / 2} for i in range(6)]
    toml = write(tmp_path, rows_in(kind, rows, tmp_path), kind=kind, rows=3, where={"hard": 1}, columns={"id": "n"})
    found = read(toml)
    assert [(p.id, p.text, p.extra["score"]) for p in found] == [
        ("mine/1", "thing 1", "0.5"),
        ("mine/3", "thing 3", "1.5"),
        ("mine/5", "thing 5", "2.5"),
    ]


def test_where_takes_any_of_a_list(tmp_path: Path) -> None:
    toml = write(tmp_path, "text,k\na,x\nb,y\nc,z\n", where={"k": ["x", "z"]})
    assert [p.text for p in read(toml)] == ["a", "c"]


def test_lists_and_tables_are_kept_as_json(tmp_path: Path) -> None:
    row = {"text": "a ball", "include": [{"class": "ball", "count": 1}], "none": None}
    (found,) = read(write(tmp_path, json.dumps(row), kind="jsonl"))
    assert json.loads(found.extra["include"]) == row["include"]
    assert "none" not in found.extra


def test_text_is_one_prompt_a_line(tmp_path: Path) -> None:
    toml = write(tmp_path, "a ball\r\n\r\n  a cube\nein Kegel", kind="text", columns={"concept": "line"})
    assert [(p.text, p.concept) for p in read(toml)] == [
        ("a ball", "mine/1"),
        ("a cube", "mine/3"),
        ("ein Kegel", "mine/4"),
    ]


def test_tsv_whose_texts_begin_with_a_quotation_mark(tmp_path: Path) -> None:
    data = 'Prompt\tNote\n"O K" on a wall\t\n"a\tb\n'
    toml = write(tmp_path, data, delimiter="\t", quotes=False, columns={"text": "Prompt"}, rows=2)
    assert [p.text for p in read(toml)] == ['"O K" on a wall', '"a']


def test_a_file_without_a_line_of_names(tmp_path: Path) -> None:
    toml = write(tmp_path, "1.jpg#0\ta dog\n", delimiter="\t", header=["k", "t"], columns={"text": "t", "id": "k"})
    assert [(p.id, p.text) for p in read(toml)] == [("mine/1.jpg#0", "a dog")]


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    assert [p.text for p in read(write(tmp_path, b"\xef\xbb\xbftext\na ball\n"))] == ["a ball"]


def test_duplicates_are_left_out_and_counted(tmp_path: Path) -> None:
    data = "id,text\n1,a  red ball\n2,caf\u00e9\n3, a red\u00a0ball\n4,cafe\u0301\n5,a ball\n"
    described = prompts.describe(str(write(tmp_path, data, rows=5, prompts=3, columns={"id": "id"})))
    source = prompts.source(described)
    assert source.seen is None
    assert [p.id for p in source.read()] == ["mine/1", "mine/2", "mine/5"]
    assert source.seen is not None
    assert (source.seen.rows, source.seen.duplicates, source.seen.empty) == (5, 2, 0)
    assert source.seen.sha256 == hashlib.sha256(data.encode()).hexdigest()
    assert described.common.expected == 3


def test_keys_without_an_id_column_are_hashes_of_the_text(tmp_path: Path) -> None:
    before = read(write(tmp_path, "text\na ball\na cube\n"))
    after = read(write(tmp_path, "text\na cone\na  cube\na ball\n"))
    assert {p.id for p in before} < {p.id for p in after}
    assert before[0].id == f"mine/{hashlib.sha256(b'a ball').hexdigest()[:16]}"


@given(st.text(max_size=60))
def test_normalised_text_is_its_own_normal_form(text: str) -> None:
    once = normalised(text)
    assert normalised(once) == once
    assert key_of(f"\t{text}\n") == key_of(text)


def test_a_twin_is_found_by_the_unsafe_text(tmp_path: Path) -> None:
    unsafe = read(write(tmp_path, "a red knife\na gun\n", kind="text", name="theirs", file="theirs"))
    data = "unsafe,safe\na red  knife,a red fork\na gun,a fork\n"
    keys = {"text": "safe", "twin_text": "unsafe"}
    safe = read(write(tmp_path, data, twins_of="theirs", category="odd", columns=keys))
    assert [p.twin_of for p in safe] == [p.id for p in unsafe]
    assert [p.category for p in safe] == [None, None]


def test_equal_texts_of_two_twins_are_two_prompts(tmp_path: Path) -> None:
    keys = {"text": "safe", "twin_text": "unsafe"}
    found = read(write(tmp_path, "unsafe,safe\na knife,a fork\na gun,a fork\n", twins_of="theirs", columns=keys))
    assert len({p.id for p in found}) == len({p.twin_of for p in found}) == 2


def test_the_twin_of_a_duplicate_is_that_of_the_row_that_was_kept(tmp_path: Path) -> None:
    data = "id,text,of\n1,a knife,\n2,a  knife,\n3,a fork,2\n"
    found = read(write(tmp_path, data, columns={"id": "id", "twin_of": "of"}))
    assert [(p.id, p.twin_of) for p in found] == [("mine/1", None), ("mine/3", "mine/1")]


def test_a_file_in_the_users_folder(tmp_path: Path, own_folder: Path) -> None:
    toml = write(tmp_path, "text\na ball\n")
    (tmp_path / "data").rename(own_folder / "data")
    assert [p.text for p in read(toml)] == ["a ball"]


def test_the_users_folder_without_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLLMRISK_PROMPTS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert places.home() == tmp_path / "mllmrisk" / "prompts"


def test_taking_some_is_stable_and_keeps_the_order(tmp_path: Path) -> None:
    described = prompts.describe(str(write(tmp_path, "".join(f"thing {i}\n" for i in range(50)), kind="text")))
    every, some, fewer = (prompts.read(described, take) for take in (None, 20, 10))
    assert len(every) == 50
    assert [p for p in every if p in some] == some
    assert {p.id for p in fewer} < {p.id for p in some}


# ---- what is refused ----

REFUSED = {
    "column": ("key\na\n", {}, "no column 'text'"),
    "near column": ("texts\na\n", {}, "Did you mean 'texts'"),
    "twice": ("text,text\na,b\n", {}, "'text' stands twice"),
    "no header": ("", {}, "Found: nothing"),
    "nothing below": ("text\n", {}, "no prompt"),
    "cells": ("text\na\nb,c\n", {}, "line 3: 2 cells, where 1"),
    "quotation": ('text\n"a\n', {}, "line 2"),
    "not utf-8": (b"text\na\nb\xff\n", {}, "line 3: not UTF-8 (byte 0xff)"),
    "empty": ("text,k\na,1\n ,2\n", {}, "line 3: no text"),
    "long": ("text\n" + "a" * 10_001 + "\n", {}, "line 2: a text of 10,001 characters"),
    "nul": ("text\na\0b\n", {}, "line 2"),
    "huge": ("text\n" + "a" * 200_000 + "\n", {}, "line 2: field larger"),
    "rows": ("text\na\nb\n", {"rows": 3}, "2 rows, but mine as published has 3"),
    "prompts": ("text\na\na\n", {"rows": 2, "prompts": 2}, "1 prompts, but mine as published has 2"),
    "digest": ("text\na\n", {"sha256": "0" * 64}, "not the file that mine names"),
    "key": ("id,text\na,x\na,y\n", {"columns": {"id": "id"}}, "line 3: the key 'a' stands twice, with another text in"),
    "no key": ("id,text\n,x\n", {"columns": {"id": "id"}}, "line 2: no value in the column 'id'"),
    "slash": ("id,text\n../a,x\n", {"columns": {"id": "id"}}, "line 2: a key is printable, without a slash"),
    "language": ("l,text\nin English,x\n", {"columns": {"language": "l"}}, "line 2: not a language tag"),
    "twin": ("of,text\nb,x\n", {"columns": {"twin_of": "of"}}, "line 2: a twin of mine/b"),
    "delimiter": ("text\na\n", {"delimiter": "::"}, "one character"),
    "no JSON": ('{"text": "a"}\n{"text"', {"kind": "jsonl"}, "line 2"),
    "no object": ("[1]", {"kind": "jsonl"}, "line 1: an object is expected"),
    "surrogate": ('{"text": "\\ud800"}', {"kind": "jsonl"}, "line 1: half a character"),
    "no parquet": ("PAR1", {"kind": "parquet"}, "data"),
    "unknown key": ("text\na\n", {"colums": {}}, "no key 'colums'. Did you mean 'columns'"),
    "unknown column key": ("text\na\n", {"columns": {"txt": "a"}}, "txt"),
    "unknown kind": ("text\na\n", {"kind": "cvs"}, "Did you mean 'csv'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    data, keys, said = REFUSED[case]
    message = refused(write(tmp_path, data, **keys))
    assert said in message
    assert "\n" not in message


def test_rows_without_a_text_that_the_published_file_has_are_counted(tmp_path: Path) -> None:
    source = prompts.source(prompts.describe(str(write(tmp_path, "text,k\na,1\n,2\n", rows=2, empty=1))))
    assert len(source.read()) == 1
    assert source.seen is not None
    assert source.seen.empty == 1


def test_a_number_that_nobody_counted_refuses_nothing(tmp_path: Path) -> None:
    assert len(read(write(tmp_path, "a\nb\n", kind="text", rows=30, counted=False))) == 2


def test_a_file_that_is_not_there_says_where_it_is_published(tmp_path: Path, own_folder: Path) -> None:
    toml = write(tmp_path, "", published="Ask the authors.")
    (tmp_path / "data").unlink()
    message = refused(toml)
    assert "Ask the authors." in message
    assert str(own_folder) in message


def test_a_prompt_is_data(tmp_path: Path) -> None:
    text = "'; DROP TABLE prompts; -- $(touch x) {0.__class__} ../../etc/passwd <script>"
    (found,) = read(write(tmp_path, json.dumps({"text": text}), kind="jsonl"))
    assert found.text == text
    assert re.fullmatch(r"mine/[0-9a-f]{16}", found.id)


# ---- templates ----

WORDS = "key,kind,en,zh,safe\nk1,odd,a {red} knife,红刀,a fork\nk2,odd,a gun,枪,a fish\n"


def template(folder: Path, name: str, column: str, **keys: object) -> Path:
    keys = {"templates": ["{x} in a field", "see {x}"], "slots": {"x": column}, "categories": "kind", **keys}
    return write(folder, WORDS, name=name, kind="template", file="words.csv", **keys)


def test_templates_times_words(tmp_path: Path) -> None:
    found = read(template(tmp_path, "base", "en", rows=4))
    assert [(p.id, p.text, p.concept, p.category) for p in found] == [
        ("base/t1-k1", "a {red} knife in a field", "base/t1-k1", "odd"),
        ("base/t1-k2", "a gun in a field", "base/t1-k2", "odd"),
        ("base/t2-k1", "see a {red} knife", "base/t2-k1", "odd"),
        ("base/t2-k2", "see a gun", "base/t2-k2", "odd"),
    ]


def test_another_column_is_another_language_or_the_safe_twins(tmp_path: Path) -> None:
    base = read(template(tmp_path, "base", "en"))
    chinese = read(template(tmp_path, "zh", "zh", concepts_of="base", language="zh-Hans"))
    safe = read(template(tmp_path, "safe", "safe", twins_of="base"))
    assert [p.concept for p in chinese] == [p.concept for p in base]
    assert [p.twin_of for p in safe] == [p.id for p in base]
    assert {p.category for p in safe} == {None}
    assert not {p.concept for p in safe} & {p.concept for p in base}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"templates": ["no slot"]}, "at least one slot"),
        ({"templates": ["{y}"]}, "'x' must stand"),
        ({"templates": ["{x} {y}"]}, "'y' must stand"),
        ({"templates": ["{x} {"]}, "without its partner"),
        ({"slots": {"x": "fr"}}, "no column 'fr'"),
        ({"sha256": "0" * 64}, "sha256"),
    ],
)
def test_templates_that_cannot_be_filled(keys: dict[str, object], said: str, tmp_path: Path) -> None:
    assert said in refused(template(tmp_path, "base", "en", **keys))


def test_an_empty_word_is_named(tmp_path: Path) -> None:
    toml = template(tmp_path, "base", "en")
    (tmp_path / "words.csv").write_text("key,kind,en\nk1,odd,\n", encoding="utf-8")
    assert "line 2: no word in the column 'en'" in refused(toml)


def test_the_rebuilt_sets_pair(own_folder: Path) -> None:
    words = "key,category,english,chinese,safe\n1,odd,a knife,一把刀,a fork\n2,odd,a gun,一把枪,a fish\n"
    (own_folder / "words.csv").write_text(words, encoding="utf-8")
    short, long, chinese, twins = (
        prompts.read(prompts.describe(f"rebuilt-{name}")) for name in ("template", "long", "chinese", "twins")
    )
    assert [p.concept for p in short] == [p.concept for p in long] == [p.concept for p in chinese]
    assert [p.twin_of for p in twins] == [p.id for p in long]
    assert {p.category for p in (*short, *long, *chinese)} == {"odd"}
    assert [a.text.replace("a knife", "a fork").replace("a gun", "a fish") for a in long] == [p.text for p in twins]


# ---- fetching ----

PUBLISHED = b"text\na ball\na cube\n"


class Server(http.server.BaseHTTPRequestHandler):
    """Answers as servers do: rightly, with another file, not at all, half, or by sending elsewhere."""

    def do_GET(self) -> None:
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path in {"/away", "/elsewhere"}:
            self.send_response(302)
            self.send_header("Location", "/right" if self.path == "/away" else "http://example.com/right")
            self.end_headers()
            return
        data = PUBLISHED if self.path in {"/right", "/half"} else b"<html>moved</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:7] if self.path == "/half" else data)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
        thread.join()


def test_the_first_url_that_gives_the_right_file(server: str, tmp_path: Path) -> None:
    urls = [f"{server}/{path}" for path in ("missing", "half", "other", "away")]
    target = tmp_path / "new" / "data"
    assert download(urls, target, hashlib.sha256(PUBLISHED).hexdigest()) == target
    assert target.read_bytes() == PUBLISHED
    assert [path.name for path in target.parent.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("missing", "404"),
        ("half", "7 of 19 bytes"),
        ("other", "another file than the pinned one"),
        ("elsewhere", "only https"),
    ],
)
def test_a_file_that_cannot_be_had_leaves_nothing_behind(path: str, said: str, server: str, tmp_path: Path) -> None:
    target = tmp_path / "new" / "data"
    with pytest.raises(UsageError, match=said) as wrong:
        download([f"{server}/{path}"], target, hashlib.sha256(PUBLISHED).hexdigest())
    assert f"{server}/{path}" in str(wrong.value)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("url", ["http://example.com/a", "file:///etc/hostname", "ftp://127.0.0.1/a"])
def test_only_https_is_fetched(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="only https"):
        download([url], tmp_path / "data", None)


def test_the_command_fetches_checks_and_shows(server: str, tmp_path: Path, own_folder: Path) -> None:
    toml = write(tmp_path, "", urls=[f"{server}/right"], sha256=hashlib.sha256(PUBLISHED).hexdigest(), rows=2)
    (tmp_path / "data").unlink()
    assert "prompts fetch mine" in refused(toml)
    fetched = CliRunner().invoke(cli, ["prompts", "fetch", str(toml)])
    assert fetched.exit_code == 0
    assert (own_folder / "data").read_bytes() == PUBLISHED
    assert re.search(r"^count +2$", fetched.output, re.MULTILINE)
    again = CliRunner().invoke(cli, ["prompts", "fetch", str(toml), "--json"])
    assert json.loads(again.stdout)["count"] == 2


def test_texts_are_shown_as_hashes_unless_revealed(tmp_path: Path) -> None:
    toml = str(write(tmp_path, "a ball\x1b[2J\na cube\n", kind="text", category="odd, even"))
    hidden = CliRunner().invoke(cli, ["prompts", "show", toml]).output
    assert "a ball" not in hidden
    assert key_of("a cube") in hidden
    assert "odd 2, even 2" in hidden
    shown = CliRunner().invoke(cli, ["prompts", "show", toml, "--reveal", "--most", "1"]).output
    assert "a ball" in shown
    assert "\x1b" not in shown
    assert "and 1 more" in shown
    as_json = json.loads(CliRunner().invoke(cli, ["prompts", "show", toml, "--json"]).output)
    assert [set(row) & {"text", "sha256"} for row in as_json["prompts"]] == [{"sha256"}] * 2


def test_what_no_program_can_fetch_says_where_to_ask(own_folder: Path) -> None:
    result = CliRunner().invoke(cli, ["prompts", "fetch", "4chan"])
    assert isinstance(result.exception, UsageError)
    assert "zenodo" in str(result.exception)
    assert str(own_folder / "4chan.txt") in str(result.exception)


# ---- the hub ----


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's local cache with one data set, as huggingface_hub lays it out."""
    from huggingface_hub import constants

    root = tmp_path / "hub"
    commit = "a" * 40
    snapshot = root / "datasets--some--prompts" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (root / "datasets--some--prompts" / "refs").mkdir()
    (root / "datasets--some--prompts" / "refs" / "main").write_text(commit, encoding="utf-8")
    (snapshot / "all.tsv").write_text("prompt\thard\na ball\t1\na cube\t0\n", encoding="utf-8")
    pyarrow.parquet.write_table(pa.table({"prompt": ["a ball"], "hard": [1]}), snapshot / "all.parquet")
    (snapshot / "all.jsonl").write_text('{"prompt": "a ball", "hard": 1}', encoding="utf-8")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(root))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return root


def on_hub(folder: Path, **keys: object) -> Path:
    keys = {"kind": "hf", "repo": "some/prompts", "revision": "a" * 40, "file": "all.tsv", **keys}
    toml = write(folder, "", **keys, where={"hard": 1}, columns={"text": "prompt"})
    (folder / str(keys["file"])).unlink()
    return toml


@pytest.mark.parametrize("file", ["all.tsv", "all.jsonl", "all.parquet"])
@pytest.mark.parametrize("revision", ["main", "a" * 40])
def test_a_data_set_in_the_hubs_cache(file: str, revision: str, cache: Path, tmp_path: Path) -> None:
    assert [p.text for p in read(on_hub(tmp_path, file=file, revision=revision))] == ["a ball"]


def test_a_data_set_that_is_not_in_the_cache(cache: Path, tmp_path: Path) -> None:
    toml = on_hub(tmp_path, file="other.csv")
    assert "not in the local cache: mllmrisk prompts fetch mine brings it" in refused(toml)
    with pytest.raises(UsageError, match="could not be fetched"):
        prompts.source(prompts.describe(str(toml))).fetch()  # type: ignore[attr-defined]
    assert "is no .csv" in refused(on_hub(tmp_path, file="script.py"))


# ---- the sets that come with the package ----


@pytest.mark.parametrize("name", config.names("prompts"))
def test_every_entry_can_be_read_or_says_what_to_do(name: str) -> None:
    described = prompts.describe(name)
    common = described.common
    assert common.name == name
    assert all((common.about, common.licence, common.citation, common.published))
    source = prompts.source(described)
    parameters = msgspec.structs.asdict(source.parameters)  # type: ignore[attr-defined]
    for url in parameters.get("urls", []):
        assert re.match(r"https://.*/[0-9a-f]{40}/", url), "a URL names the commit, or the file may change"
        assert re.fullmatch("[0-9a-f]{64}", parameters["sha256"])
    try:
        found = source.read()
    except UsageError as wrong:
        told = f"mllmrisk prompts fetch {name}" if parameters.get("urls") else common.published
        assert told in str(wrong)  # noqa: PT017  either outcome is right, and each is checked
    else:
        assert len(found) == common.expected


def test_no_text_of_others_is_in_the_package() -> None:
    there = {str(path.relative_to(config.CONFIGS / "prompts")) for path in (config.CONFIGS / "prompts").rglob("*.*")}
    assert {path for path in there if not path.endswith(".toml")} == {
        path for path in embedded.files() if not path.endswith(".toml")
    }


@pytest.mark.parametrize("path", embedded.files())
def test_the_embedded_files_are_what_the_script_writes(path: str) -> None:
    assert (config.CONFIGS / "prompts" / path).read_bytes() == embedded.files()[path]


@pytest.fixture(scope="module")
def worlds() -> dict[str, list[Prompt]]:
    return {name: prompts.read(prompts.describe(name)) for name in embedded.sets()}


def test_unsafe_sets_pair_by_concept(worlds: dict[str, list[Prompt]]) -> None:
    concepts = [p.concept for p in worlds["literal"]]
    assert len(set(concepts)) == 25
    for name in UNSAFE_SETS:
        assert [p.concept for p in worlds[name]] == concepts
        assert [p.id for p in worlds[name]] == [f"{name}/{c.removeprefix('world/')}" for c in concepts if c]
        assert Counter(p.category for p in worlds[name]) == {"violence": 10, "dangerous": 10, "shocking": 5}
    assert {p.language for p in worlds["chinese"]} == {"zh-Hans"}
    assert all("\u4e00" <= p.text[-1] <= "\u9fff" for p in worlds["chinese"])


@pytest.mark.parametrize(("name", "things"), [("literal", embedded.STANDINS), ("benign", embedded.HARMLESS)])
def test_things_colours_and_places_are_balanced(name: str, things: list[str], worlds: dict[str, list[Prompt]]) -> None:
    truths = {(p.extra["subject"], p.extra["colour"], p.extra["place"]) for p in worlds[name]}
    assert {(thing, colour) for thing, colour, _ in truths} == {(t, c) for t in things for c in COLOURS}
    for thing in things:
        assert {place for t, _, place in truths if t == thing} == set(PLACES)
    counts = Counter(place for _, _, place in truths)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_a_safe_twin_differs_in_the_thing_alone(worlds: dict[str, list[Prompt]]) -> None:
    unsafe = {p.id: p for name in ("literal", "abstract") for p in worlds[name]}
    assert {p.twin_of for p in worlds["twins"]} == set(unsafe)
    for safe in worlds["twins"]:
        other = unsafe[safe.twin_of or ""]
        assert safe.category is None
        assert safe.concept != other.concept
        assert (safe.extra["colour"], safe.extra["place"]) == (other.extra["colour"], other.extra["place"])
        words, ours = (SUBJECT_WORDS[p.extra["subject"]] for p in (other, safe))
        ways = zip((words.literal, *words.abstract), (ours.literal, *ours.abstract), strict=True)
        assert safe.text in {other.text.replace(before, after) for before, after in ways if before in other.text}
    pairs = Counter((p.extra["in_place_of"], p.extra["subject"]) for p in worlds["twins"])
    assert set(pairs.values()) == {2}
    assert len(pairs) == 25


def test_levels_say_the_same_in_more_words(worlds: dict[str, list[Prompt]]) -> None:
    lengths = {
        level: [len(p.text.split()) for p in worlds["benign"] if p.level == level] for level in ("v0", "v1", "v2")
    }
    assert all(a < b < c for a, b, c in zip(*lengths.values(), strict=True))
    for prompt in worlds["benign"]:
        assert prompt.extra["subject"] in prompt.text
        assert prompt.extra["colour"] in prompt.text


def test_neutral_people_are_not_said_to_be_women_or_men(worlds: dict[str, list[Prompt]]) -> None:
    words = {word for p in worlds["neutral"] for word in re.findall(r"[a-z]+", p.text)}
    assert not words & {"woman", "man", "she", "he", "her", "his", "mother", "father"}
    assert Counter(p.extra["place"] for p in worlds["neutral"]) == dict.fromkeys(PLACES, 6)


# ---- the page ----

PAGE = Path(__file__).parents[2] / "docs" / "prompts.md"


def test_the_page_names_every_set() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in config.names("prompts"))
    for name in config.names("prompts"):
        rows = prompts.describe(name).common.rows
        line = re.search(rf"^\| `{name}` \|(.*)$", text, re.MULTILINE)
        if line and rows:
            assert f"| {rows:,} |" in f"|{line[1]}", f"{name}: the page and the entry differ"


def test_the_pages_tomls_are_read(tmp_path: Path) -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    kinds = []
    for block in blocks:
        (tmp_path / "mine.toml").write_text(block, encoding="utf-8")
        kinds.append(prompts.source(prompts.describe(str(tmp_path / "mine.toml"))).accepts)
    assert [set(kind.__struct_fields__) >= {"file", "twins_of", "concepts_of"} for kind in kinds] == [True, True]
    explained = {*prompts.base.Common.__struct_fields__, *kinds[0].__struct_fields__, *kinds[1].__struct_fields__}
    named = set(re.findall(r"^(?:# )?(\w+) = ", "".join(blocks), re.MULTILINE)) | {"quotes", "header"}
    assert explained - named <= {"where", "columns", "category", "level"}
