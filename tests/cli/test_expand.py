"""`mllmrisk expand`: a prompt set out of captions, which a suite then reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from judges_service import said, serving
from mllmrisk import prompts


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("MLLMRISK_PROMPTS", str(folder))
    return folder


def captions(folder: Path, *texts: str) -> Path:
    (folder / "mine.txt").write_text("\n".join(texts), encoding="utf-8")
    path = folder / "mine.toml"
    path.write_text('name = "mine"\nversion = "1"\nkind = "text"\nabout = "x"\nfile = "mine.txt"\n')
    return path


def test_the_new_set_lies_where_a_suite_finds_it(run, home):
    out = home / "coco-levels.jsonl"
    made = run("expand", "--prompts", "benign", "--with", "grammar", "-o", out)
    assert made.code == 0, made.err
    assert "25 captions, 75 prompts; mean words v0 6.5, v1 14.5, v2 20.5" in made.out
    found = prompts.read(prompts.describe("coco-levels"))
    assert [prompt.level for prompt in found[:3]] == ["v0", "v1", "v2"]
    assert len({prompt.concept for prompt in found}) == 25
    assert found[0].concept == "benign/ball-red-field-v0"
    assert found[2].extra["instruction"]
    assert found[2].extra["subject"] == "ball", "what a caption's row said of it is still there"
    assert run("prompts", "show", "coco-levels", "--json").code == 0


@pytest.mark.parametrize("name", ["coco", "flickr30k"])
def test_without_the_file_the_call_that_makes_it_is_named(run, name):
    told = run("prompts", "show", f"{name}-levels")
    assert told.code == 2
    assert f"mllmrisk expand --prompts {name} --with gpt-4o" in told.err


def test_limit_chooses_as_a_suite_does(run, tmp_path):
    out = tmp_path / "few.jsonl"
    made = run("expand", "--prompts", "benign", "--with", "grammar", "-o", out, "--limit", 3, "--levels", 1, "--json")
    told = json.loads(made.out)
    assert (told["captions"], told["rows"], told["failures"]) == (3, 6, [])
    levels = [prompt for prompt in prompts.read(prompts.describe("benign")) if prompt.level == "v0"]
    ids = [json.loads(line)["concept"] for line in out.read_text().splitlines()]
    assert list(dict.fromkeys(ids)) == [prompt.id for prompt in prompts.pick(levels, 3)]


def test_what_cannot_be_expanded_is_listed_and_ends_in_3_and_the_next_call_asks_for_it_alone(run, tmp_path):
    expander = tmp_path / "model.toml"
    given = captions(tmp_path, "a red ball", "a tree")
    out = tmp_path / "out.jsonl"
    with serving(said("a red ball in the grass"), said("tree"), said("a tree that is tall")) as service:
        expander.write_text(
            'name = "model"\nversion = "1"\nkind = "openai"\nabout = "x"\n'
            f'[endpoint]\nmodel = "m"\nbase_url = "{service.base_url}"\nkey_env = ""\nparallel = 1\n'
            '[instruction]\ntext = "Longer: {text}"\n'
        )
        first = run("expand", "--prompts", given, "--with", expander, "-o", out, "--levels", 1)
        assert first.code == 3
        assert "has no v1: shorter" in first.err
        assert len(out.read_text().splitlines()) == 3
        refused = run("expand", "--prompts", given, "--with", expander, "-o", out, "--levels", 1)
        assert refused.code == 2
        assert "--force" in refused.err
        again = run("expand", "--prompts", given, "--with", expander, "-o", out, "--levels", 1, "--force")
        assert again.code == 0
        assert len(service.asked) == 3
    assert "1 texts asked of model, 1 already there" in again.out
    assert len(out.read_text().splitlines()) == 4


def test_a_wrong_call_is_one_line_and_leaves_nothing(run, tmp_path):
    out = tmp_path / "out.jsonl"
    given = captions(tmp_path, "a man rides a wave")
    told = run("expand", "--prompts", given, "--with", "grammar", "-o", out)
    assert told.code == 2
    assert "no caption of the drawn world" in told.err
    assert len(told.err.splitlines()) == 1
    assert not out.exists()
    assert run("expand", "--prompts", given, "--with", "grammar", "-o", tmp_path / "out.csv").code == 2
    assert "Did you mean 'benign'" in run("expand", "--prompts", "benin", "--with", "grammar", "-o", out).err
