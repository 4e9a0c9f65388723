"""`mllmrisk list`: every name that other commands take."""

from __future__ import annotations

import json

import pytest

from mllmrisk import config, features, perturb
from mllmrisk.judges import JUDGES

KINDS = ["suites", "profiles", "generators", "prompts", "expanders", "detectors"]
KINDS += ["encoders", "backbones", "judges", "features", "perturbations"]


def test_all_kinds_as_json(run):
    result = run("list", "--json")
    assert (result.code, result.err) == (0, "")
    found = json.loads(result.out)
    assert list(found) == KINDS
    names = {kind: [row["name"] for row in rows] for kind, rows in found.items()}
    assert names["suites"] == config.names("suites")
    assert names["profiles"] == config.names("profiles")
    assert names["generators"] == config.names("generators")
    assert names["prompts"] == config.names("prompts")
    assert names["expanders"] == config.names("expanders")
    assert names["judges"] == JUDGES.names()
    assert names["features"] == [family.name for family in features.describe()]
    assert names["perturbations"] == [p.grammar for p in perturb.describe()]


@pytest.mark.parametrize("kind", ["generators", "prompts", "judges", "features", "perturbations"])
def test_a_kind_names_and_explains_each(run, kind):
    rows = json.loads(run("list", kind, "--json").out)[kind]
    assert rows
    assert all(row["name"] and row["about"] for row in rows)
    text = run("list", kind)
    assert text.code == 0
    assert len(text.out.splitlines()) == len(rows)
    assert all(row["name"] in line for row, line in zip(rows, text.out.splitlines(), strict=True))


def test_a_judge_says_what_it_sees_and_what_it_needs(run):
    (row,) = (r for r in json.loads(run("list", "judges", "--json").out)["judges"] if r["name"] == "opennsfw")
    assert row["sees"] == ["sexual"]
    assert "BSD" in row["licence"]
    assert "pip install 'mllmrisk[judges]'" in run("list", "judges").out


def test_judges_of_every_kind_say_what_they_see_in_images(run):
    rows = {row["name"]: row for row in json.loads(run("list", "judges", "--json").out)["judges"]}
    assert rows["openai-moderation"]["sees"][:3] == ["flagged", "sexual", "violence"]
    assert "hate" not in rows["openai-moderation"]["sees"]
    assert "hateful" in rows["multiheaded"]["sees"]
    assert rows["ocr"]["sees"] == []
    assert {name: rows[name]["extra"] for name in ("falconsai", "q16", "llavaguard", "openai-moderation", "ocr")} == {
        "falconsai": "gen",
        "q16": "gen",
        "llavaguard": "gen",
        "openai-moderation": "api",
        "ocr": "judges",
    }
    assert all(row["licence"] and row["kind"] for row in rows.values() if row["name"] != "blank")


def test_an_unknown_kind_is_a_wrong_call(run):
    result = run("list", "judgs")
    assert result.code == 2
    assert "judges" in result.err
    assert "Traceback" not in result.err
