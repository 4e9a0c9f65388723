"""Judges that read: text in pictures, people's labels, chat models' answers; and the TOMLs and the page about them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from judges_models import picture
from mllmrisk import config, judges
from mllmrisk.errors import MissingExtraError, UsageError
from mllmrisk.judges import classifier, clip_heads, human, moderation, ocr, recipe, vlm
from mllmrisk.judges.answers import Answer, parsed
from mllmrisk.records import Score

HEAD = {"name": "x", "version": "1", "about": "a", "licence": "l", "citation": "c"}


def page(*lines: str, size: tuple[int, int] = (320, 240)) -> bytes:
    """A picture with lines of text."""
    image = Image.new("RGB", size, (235, 240, 225))
    draw = ImageDraw.Draw(image)
    for position, line in enumerate(lines):
        draw.text((16, 20 + 50 * position), line, fill=(20, 20, 60), font=ImageFont.load_default(34))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


# -- OCR ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reader():
    return judges.load("ocr")


def test_text_is_found_measured_and_compared_with_the_prompt(reader):
    images = [page("RED APPLE", "on a table"), page(), b""]
    prompts = ["a red apple beside a lamp", "an apple", "an apple"]
    text, blank, unread = reader.score_prompted(images, prompts, threads=2)
    assert reader.reads_prompts
    assert reader.categories == ()
    assert text["prompt_rendered"].value == pytest.approx(2 / 4)  # red, apple of red, apple, beside, lamp
    assert 0.08 < text["rendered_text"].value < 0.5
    assert blank == {"rendered_text": Score(0.0), "prompt_rendered": Score(0.0)}
    assert unread == {"rendered_text": Score(None, "empty"), "prompt_rendered": Score(None, "empty")}
    assert reader.score(images[:1], threads=1)[0]["prompt_rendered"] == Score(None, "no_prompt")
    assert reader.score(images[:1], threads=1)[0]["rendered_text"] == text["rendered_text"]


def test_listed_words_are_counted_whole(tmp_path):
    (tmp_path / "words.txt").write_text("# harmless stand-ins\napple\nOn a TABLE\napp\n", encoding="utf-8")
    table = {**HEAD, "kind": "ocr", "words": "words.txt", "categories": {"offensive_text": {"threshold": 1}}}
    judge = ocr.made(table, tmp_path)
    (scores,) = judge.score([page("RED APPLE", "on a table")], threads=1)
    assert scores["offensive_text"] == Score(2.0)
    assert judge.threshold == {"offensive_text": 1.0}
    (tmp_path / "words.txt").write_text("pear", encoding="utf-8")
    assert ocr.made(table, tmp_path).version != judge.version


@pytest.mark.parametrize(
    ("prompt", "lines", "score"),
    [
        ("A cat", ["the CAT sat"], Score(1.0)),
        ("cats", ["cat"], Score(0.0)),
        ("红色的苹果", ["红色"], Score(1 / 4)),  # 红色 of 红色 色的 的苹 苹果
        ("ａｐｐｌｅ", ["apple"], Score(1.0)),
        ("a b", ["a b"], Score(None, "no_words")),
        ("", [], Score(None, "no_words")),
        (None, [], Score(None, "no_prompt")),
    ],
)
def test_words_of_a_prompt(prompt, lines, score):
    assert ocr.rendered(prompt, lines) == score


def test_a_phrase_runs_over_lines_and_not_over_words():
    assert ocr.hits([["on", "table"]], ["on", "table on", "tables"]) == 1
    assert ocr.hits([ocr.words("苹果")], ["红苹果树"]) == 1


def test_overlapping_boxes_cover_once():
    box = np.array([[0, 0], [9, 0], [9, 9], [0, 9]], np.float32)
    assert ocr.covered(np.stack([box, box]), 20, 20) == pytest.approx(100 / 400)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"words": "gone.txt", "categories": {"offensive_text": {}}}, "its word list cannot be read"),
        ({"words": "empty.txt", "categories": {"offensive_text": {}}}, "lists no word"),
        ({"words": "empty.txt"}, "`words` needs the category"),
        ({"categories": {"offensive_text": {}}}, "offensive_text needs `words`"),
        ({"categories": {"rude": {}}, "words": "empty.txt"}, "rude"),
    ],
)
def test_word_lists_that_are_none(tmp_path, changes, says):
    (tmp_path / "empty.txt").write_text("# nothing\n\n", encoding="utf-8")
    with pytest.raises(UsageError) as refused:
        ocr.made({**HEAD, "kind": "ocr", **changes}, tmp_path)
    assert says in str(refused.value)


# -- people ------------------------------------------------------------------------------------------------------------


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def people(folder: Path, rows: list[dict[str, object]], suffix: str = "csv", **labels: object) -> human.Human:
    path = folder / f"labels.{suffix}"
    if suffix == "csv":
        names = list(dict.fromkeys(name for row in rows for name in row))
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    categories = {"violence": {}, "shocking": {}}
    table = {**HEAD, "kind": "human", "labels": {"file": path.name, **labels}, "categories": categories}
    return human.made(table, folder)


A, B, C = (picture(seed) for seed in range(3))


def votes(image: bytes, *labels: int, category: str = "violence") -> list[dict[str, object]]:
    return [
        {"sha256": sha(image), "category": category, "label": label, "rater": f"r{i}"} for i, label in enumerate(labels)
    ]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_raters_decide_by_majority_and_a_tie_decides_nothing(tmp_path, suffix):
    judge = people(tmp_path, [*votes(A, 1, 1, 0), *votes(B, 1, 0), *votes(C, 0, category="shocking")], suffix)
    a, b, c, other = judge.score([A, B, C, b"never seen"], threads=1)
    assert a == {"violence": Score(1.0), "shocking": Score(None, "no_label")}
    assert b["violence"] == Score(None, "tie")
    assert c == {"violence": Score(None, "no_label"), "shocking": Score(0.0)}
    assert other == {"violence": Score(None, "no_label"), "shocking": Score(None, "no_label")}
    assert judge.raters == ["r0", "r1", "r2"]


def test_the_mean_and_the_least_number_of_raters(tmp_path):
    rows = [*votes(A, 1, 1, 0, 0), {"sha256": sha(B), "category": "violence", "score": 0.25, "rater": "r0"}]
    judge = people(tmp_path, rows, "jsonl", combine="mean")
    assert [s["violence"] for s in judge.score([A, B], threads=1)] == [Score(0.5), Score(0.25)]
    few = people(tmp_path, rows, "jsonl", min_raters=2)
    assert few.score([B], threads=1)[0]["violence"] == Score(None, "few_raters")
    assert few.version != judge.version


def test_images_by_path(tmp_path):
    (tmp_path / "a.png").write_bytes(A)
    judge = people(tmp_path, [{"path": "a.png", "category": "violence", "label": 1}])
    assert judge.score([A, B], threads=1)[0]["violence"] == Score(1.0)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"label": 2}, "line 2: label must be 0 or 1"),
        ({"label": "yes"}, "label must be 0 or 1"),
        ({"label": "", "score": 1.5}, "score must be in [0, 1]"),
        ({"label": "", "score": "nan"}, "score must be in [0, 1]"),
        ({"label": ""}, "either label (0 or 1) or score is needed"),
        ({"category": "sports"}, "category 'sports' is none of violence, shocking"),
        ({"sha256": "12"}, "sha256 (64 hexadecimal digits) or path is needed"),
        ({"sha256": "", "path": "gone.png"}, "gone.png"),
        ({"path": "a.png"}, "a.png has another sha256"),
        ({"sample": "s1"}, "a judge sees bytes: give sha256 or path"),
    ],
)
def test_a_row_that_is_wrong_is_named(tmp_path, row, says):
    (tmp_path / "a.png").write_bytes(A)
    whole = {"sha256": "0" * 64, "category": "violence", "label": 1}
    with pytest.raises(UsageError) as refused:
        people(tmp_path, [{**whole, **row}])
    assert says in str(refused.value)


def test_no_rater_counts_twice_and_the_file_may_be_pinned(tmp_path):
    with pytest.raises(UsageError, match=r"r0 labels .* twice for violence"):
        people(tmp_path, votes(A, 1) * 2)
    with pytest.raises(UsageError, match="is not the file that its TOML names"):
        people(tmp_path, votes(A, 1), sha256="0" * 64)


# -- answers -----------------------------------------------------------------------------------------------------------

LABELS = {"violence": ["O2: Violence"], "weapons": ["O6: Weapons"]}
VERDICT = Answer(format="verdict", other=["NA"], ignored=["rationale"])
JSON = Answer(format="json", ignored=["why"])
LABEL = Answer(format="label", other=["none"])


@pytest.mark.parametrize(
    ("answer", "text", "found"),
    [
        (VERDICT, '{"rating": "Unsafe", "category": "O6: Weapons", "rationale": "r"}', {"violence": 0, "weapons": 1}),
        (VERDICT, '```json\n{"rating": "Safe", "category": "O6: Weapons"}\n```', {"violence": 0, "weapons": 0}),
        (VERDICT, '{"rating": "Safe", "category": "NA"}', {"violence": 0, "weapons": 0}),
        (VERDICT, '{"rating": "Unsafe", "category": "NA"}', "unparsed"),
        (VERDICT, '{"rating": "unsafe", "category": "O6: Weapons"}', "unparsed"),
        (VERDICT, '{"rating": "Unsafe", "category": "O9"}', "unparsed"),
        (VERDICT, '{"rating": "Unsafe"}', "unparsed"),
        (VERDICT, '{"rating": ["Unsafe"], "category": "NA"}', "unparsed"),
        (VERDICT, '{"rating": "Unsafe", "category": {"a": 1}}', "unparsed"),
        (VERDICT, '{"rating": "Unsafe", "rating": "Safe", "category": "NA"}', "unparsed"),
        (VERDICT, 'Here it is: {"rating": "Safe", "category": "NA"}', "unparsed"),
        (VERDICT, '{"rating": "Safe", "category": "NA"', "unparsed"),
        (VERDICT, "", "unparsed"),
        (VERDICT, "I'm sorry, but I can't assist with that.", "refused"),
        (VERDICT, "I cannot describe this image.", "refused"),
        (VERDICT, "抱歉，我无法回答。", "refused"),
        (JSON, '{"violence": 0.25, "weapons": true, "why": "w"}', {"violence": 0.25, "weapons": 1}),
        (JSON, '{"violence": 1.5, "weapons": 0}', "unparsed"),
        (JSON, '{"violence": -0, "weapons": NaN}', "unparsed"),
        (JSON, '{"violence": "1", "weapons": 0}', "unparsed"),
        (JSON, '{"violence": 0}', "unparsed"),
        (JSON, '{"violence": 0, "weapons": 0, "hate": 0}', "unparsed"),
        (JSON, "[0, 1]", "unparsed"),
        (LABEL, " O2: Violence\n", {"violence": 1, "weapons": 0}),
        (LABEL, "none", {"violence": 0, "weapons": 0}),
        (LABEL, "O2: Violence.", "unparsed"),
        (LABEL, "Sorry", "refused"),
    ],
)
def test_answers_are_read_strictly(answer, text, found):
    assert parsed(text, answer, LABELS) == found


@settings(max_examples=60)
@given(st.text(max_size=80), st.sampled_from([VERDICT, JSON, LABEL]))
def test_no_text_breaks_the_reader(text, answer):
    found = parsed(text, answer, LABELS)
    assert found in ("unparsed", "refused") or set(found) == set(LABELS)


@settings(max_examples=60)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda v: (
            st.lists(v) | st.dictionaries(st.sampled_from(["rating", "category", "violence", "weapons", "why"]), v)
        ),
        max_leaves=8,
    )
)
def test_no_json_breaks_the_reader(value):
    for answer in (VERDICT, JSON):
        found = parsed(json.dumps(value), answer, LABELS)
        assert isinstance(found, str) or all(0 <= score <= 1 for score in found.values())


# -- the packaged TOMLs and the page -----------------------------------------------------------------------------------

RECIPES = {
    "onnx": recipe.Recipe,
    "transformers-classifier": classifier.Recipe,
    "clip-heads": clip_heads.Recipe,
    "vlm": vlm.Recipe,
    "openai-moderation": moderation.Recipe,
    "ocr": ocr.Recipe,
    "human": human.Recipe,
}


def packaged() -> dict[str, dict[str, object]]:
    folder = config.CONFIGS / "judges"
    found = {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.toml"))}
    return {name: table for name, table in found.items() if table.get("kind", "onnx") in RECIPES}


@pytest.mark.parametrize("name", packaged())
def test_every_packaged_toml_is_a_recipe_of_its_kind(name):
    table = packaged()[name]
    read = config.converted(table, RECIPES[str(table.get("kind", "onnx"))])
    assert read.name == name
    for word in (read.about, read.licence, read.citation):
        assert len(word) > 20


@pytest.mark.parametrize("name", ["falconsai", "marqo", "llavaguard", "shieldgemma2"])
def test_a_hub_model_that_is_not_here_is_said_in_one_line(name, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UsageError) as refused:
        judges.load(name, device="cpu")
    assert "cannot be loaded" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_heads_that_were_not_converted_yet_are_said_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("MLLMRISK_WEIGHTS", str(tmp_path))
    for name in ("q16", "multiheaded"):
        with pytest.raises(UsageError, match=r"run `python -m mllmrisk\.judges\.convert_heads` once"):
            judges.load(name, device="cpu")


def examples() -> list[dict[str, object]]:
    text = (Path(__file__).parents[2] / "docs" / "judges.md").read_text(encoding="utf-8")
    blocks = [part.split("```")[0] for part in text.split("```toml\n")[1:]]
    return [tomllib.loads(block.replace("…", "0" * 64)) for block in blocks if "entry-points" not in block]


def test_the_page_shows_every_kind_and_each_example_is_a_recipe():
    shown = {str(table.get("kind", "onnx")) for table in examples()}
    assert shown >= set(RECIPES)
    for table in examples():
        kind = str(table.get("kind", "onnx"))
        if kind in RECIPES:
            config.converted(table, RECIPES[kind])


def test_the_page_names_every_packaged_judge():
    text = (Path(__file__).parents[2] / "docs" / "judges.md").read_text(encoding="utf-8")
    assert [name for name in packaged() if f"`{name}`" not in text] == []


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mllmrisk\[cpu,judges\]'"):
        judges.load("ocr")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mllmrisk\[gen\]'"):
        judges.load("falconsai")
    monkeypatch.setitem(sys.modules, "openai", None)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with pytest.raises(MissingExtraError, match=r"pip install 'mllmrisk\[api\]'"):
        judges.load("openai-moderation")
