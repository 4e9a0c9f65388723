"""DE-FAKE on tiny networks in the authors' layouts: conversion, captions, scores against the author's own steps."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tomllib

import pytest
import torch
from click.testing import CliRunner

import detector_tiny as tiny
from judges_models import broken, picture
from mllmrisk import detectors, perturb
from mllmrisk.detectors import captions, convert_de_fake
from mllmrisk.detectors.base import Captioning
from mllmrisk.errors import UsageError
from mllmrisk.records import Score

PICTURES = [
    picture(seed, height, width) for seed, (height, width) in enumerate([(40, 52), (90, 33), (32, 32), (64, 200)])
]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return tiny.Published(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def folder(published, tmp_path_factory):
    to = tmp_path_factory.mktemp("weights") / "de-fake"
    convert_de_fake.convert(published.files(), published.tokenizers(), to)
    return to


@pytest.fixture(scope="module")
def detector(folder):
    return detectors.load(str(folder / "de-fake.toml"))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def changed(folder, tmp_path, **tables):
    """A copy of the detector whose TOML differs."""
    to = tmp_path / "copy"
    shutil.copytree(folder, to)
    table = tomllib.loads((to / "de-fake.toml").read_text(encoding="utf-8"))
    for name, value in tables.items():
        table[name] = {**table[name], **value} if isinstance(value, dict) else value
    table["caption"] = {key: value for key, value in table["caption"].items() if value is not None}
    return lambda: detectors.KINDS.get("de-fake")(table, to, device="cpu")


# -- the author's steps ------------------------------------------------------------------------------------------------


def test_scores_are_those_of_the_authors_steps(detector, published):
    found = detector.captioned(PICTURES)
    for data, (score, caption) in zip(PICTURES, found, strict=True):
        assert score.value == pytest.approx(tiny.author(published, data, caption), abs=1e-5)
    values = [score.value for score, _ in found]
    assert max(values) - min(values) > 0.05
    assert detector.score(PICTURES) == [score for score, _ in found]
    assert isinstance(detector, Captioning)


def test_the_converted_towers_compute_what_the_published_ones_do(detector, published):
    views = torch.cat([tiny.caption_view(data) for data in PICTURES])
    with torch.no_grad():
        mine = detector._blip._model.vision_model(views).last_hidden_state
        assert torch.allclose(mine, published.vit(views), atol=1e-4)
        seen = torch.cat([tiny.clip_view(data) for data in PICTURES])
        mine = detector._clip.get_image_features(seen)
        assert torch.allclose(getattr(mine, "pooler_output", mine), published.clip.visual(seen), atol=1e-4)


def test_captions_are_those_of_the_authors_call(detector):
    blip, words = detector._blip._model, detector._blip._words
    said = [caption for _, caption in detector.captioned(PICTURES)]
    for data, caption in zip(PICTURES, said, strict=True):
        prompt = words("a picture of ", return_tensors="pt").input_ids
        beams = {"num_beams": 3, "max_length": 60, "min_length": 5, "do_sample": False}
        (tokens,) = blip.generate(tiny.caption_view(data), prompt, **beams)
        assert len(tokens) <= 60
        text = words.decode(tokens, skip_special_tokens=True)
        assert text == f"a picture of {caption}"
    assert len(set(said)) > 1
    assert all(set(caption.split()) <= set(tiny.WORDS) for caption in said)
    assert all("[" not in caption for caption in said)


def test_one_beam_is_the_likeliest_next_word_each_time(folder, tmp_path):
    subject = changed(folder, tmp_path, caption={"beams": 1, "longest": 12}, probe=[])()
    blip, words = subject._blip._model, subject._blip._words
    ids = [blip.config.text_config.bos_token_id, *words("a picture of ")["input_ids"][1:-1]]
    with torch.no_grad():
        seen = blip.vision_model(tiny.caption_view(PICTURES[0])).last_hidden_state
        while len(ids) < 12:
            logits = blip.text_decoder(torch.tensor([ids]), encoder_hidden_states=seen).logits[0, -1]
            if len(ids) < 5:
                logits[102] = float("-inf")
            ids.append(int(logits.argmax()))
            if ids[-1] == 102:
                break
    ((_, caption),) = subject.captioned(PICTURES[:1])
    assert caption == words.decode(ids[4:], skip_special_tokens=True)


def test_a_perturbation_comes_before_everything_else(detector):
    ((score, caption),) = detector.captioned([PICTURES[3]], chains=["resize:0.5+jpeg:40"])
    assert detector.captioned([perturb.encode(PICTURES[3], "resize:0.5+jpeg:40")]) == [(score, caption)]
    assert detector.score([PICTURES[3]]) != [score]


# -- independence ------------------------------------------------------------------------------------------------------


def test_nothing_depends_on_company_or_threads(detector):
    alone = [detector.captioned([data], threads=1)[0] for data in PICTURES]
    assert detector.captioned(PICTURES * 2, threads=3) == alone * 2
    assert detector.captioned(PICTURES[::-1], threads=2) == alone[::-1]


def test_a_gpu_batch_that_is_filled_up_gives_the_same(detector, monkeypatch):
    alone = detector.captioned(PICTURES)
    monkeypatch.setattr(detector, "_batch", 3)
    monkeypatch.setattr(detector._blip, "_batch", 3)
    for (one, text), (other, same) in zip(alone, detector.captioned(PICTURES), strict=True):
        assert text == same
        assert one.value == pytest.approx(other.value, abs=1e-5)


def test_images_keep_their_places(detector, tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(PICTURES[1])
    found = detector.captioned([PICTURES[0], *broken(), tmp_path / "none.png", path])
    assert [score.reason for score, _ in found] == [None, "empty", "not_an_image", "truncated", "unreadable", None]
    assert [caption is None for _, caption in found] == [False, True, True, True, True, False]
    assert found[-1] == detector.captioned([PICTURES[1]])[0]


# -- captions held fixed -----------------------------------------------------------------------------------------------


def test_captions_can_be_held_fixed(detector, published):
    table = {sha256(PICTURES[0]): "a small red fish", sha256(PICTURES[1]): ""}
    held = detector.holding(table)
    found = held.captioned(PICTURES[:3])
    assert [caption for _, caption in found] == ["a small red fish", "", None]
    assert found[2][0] == Score(None, "no_caption")
    for data, (score, caption) in zip(PICTURES, found[:2], strict=False):
        assert score.value == pytest.approx(tiny.author(published, data, caption), abs=1e-5)
    # the caption goes with the file, whatever is done to it
    assert held.captioned([PICTURES[0]], chains=["jpeg:50"])[0][1] == "a small red fish"
    assert held.version != detector.version != detector.holding({}).version
    # and what BLIP says of it, held, gives what the detector gives
    said = {sha256(data): caption for data, (_, caption) in zip(PICTURES, detector.captioned(PICTURES), strict=True)}
    assert detector.holding(said).captioned(PICTURES) == detector.captioned(PICTURES)


def test_a_table_takes_the_place_of_blip(detector, folder, tmp_path):
    make = changed(folder, tmp_path, caption={"folder": None, "table": "captions.jsonl"})
    shutil.rmtree(tmp_path / "copy" / "blip")
    rows = [{"sha256": sha256(data), "caption": f"picture {i}", "other": 1} for i, data in enumerate(PICTURES)]
    (tmp_path / "copy" / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    subject = make()
    assert subject.captioned(PICTURES) == detector.holding({r["sha256"]: r["caption"] for r in rows}).captioned(
        PICTURES
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"sha256": "ab", "caption": "x"}', "line 1: sha256 is 64"),
        ('\n{"caption": "x"}', "line 2"),
        ("nonsense", "line 1"),
        ("\n".join(json.dumps({"sha256": "a" * 64, "caption": text}) for text in "xxy"), "line 3: a second caption"),
    ],
)
def test_a_table_that_cannot_be_read(tmp_path, text, message):
    (tmp_path / "captions.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        captions.read(tmp_path / "captions.jsonl")
    with pytest.raises(UsageError, match="no table of captions"):
        captions.read(tmp_path / "none.jsonl")


def test_a_long_caption_is_cut_where_clips_own_tokenizer_would_cut_it(detector, published):
    long = " ".join(["flower"] * 40)
    assert len(tiny.clip_tokens(long)[0]) == tiny.CONTEXT
    held = detector.holding({sha256(PICTURES[0]): long})
    ((score, caption),) = held.captioned(PICTURES[:1])
    assert caption == long
    assert score.value == pytest.approx(tiny.author(published, PICTURES[0], long), abs=1e-5)
    # what is beyond the cut decides nothing, what is before it does
    longer = detector.holding({sha256(PICTURES[0]): long + " and a car"})
    other = detector.holding({sha256(PICTURES[0]): "car " + long})
    assert longer.score(PICTURES[:1]) == [score] != other.score(PICTURES[:1])


# -- weights -----------------------------------------------------------------------------------------------------------


def test_the_command_writes_what_load_finds_by_name(published, tmp_path, monkeypatch, detector):
    monkeypatch.setenv("MLLMRISK_WEIGHTS", str(tmp_path))
    files = [f"--{name}={path}" for name, path in published.files().items()]
    words = published.tokenizers()
    call = [*files, f"--bert-tokenizer={words['blip']}", f"--clip-tokenizer={words['clip']}"]
    done = CliRunner().invoke(convert_de_fake.main, call)
    assert done.exit_code == 0, done.output
    subject = detectors.load("de-fake")
    assert subject.version == detector.version
    assert subject.captioned(PICTURES[:1]) == detector.captioned(PICTURES[:1])
    assert subject.decision == 0.0


@pytest.mark.parametrize("name", ["mlp", "clip", "blip"])
def test_a_whole_pickled_module_is_refused_with_what_to_do(published, tmp_path, name):
    files = published.files() | {name: published.folder / "module.pth"}
    with pytest.raises(UsageError, match=r"runs code when it is loaded.*state_dict\(\), NEW") as refused:
        convert_de_fake.convert(files, published.tokenizers(), tmp_path / "to")
    assert str(published.folder / "module.pth") in str(refused.value)
    assert not (tmp_path / "to").exists()


def test_no_pickle_runs_its_code(published, tmp_path):
    bomb = tmp_path / "bomb.pth"
    torch.save({"fc1.weight": Bomb(tmp_path / "went off")}, bomb)
    with pytest.raises(UsageError, match="runs code"):
        convert_de_fake.state(bomb)
    assert not (tmp_path / "went off").exists()
    torch.load(bomb, weights_only=False)  # it would have
    assert (tmp_path / "went off").exists()


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize(
    ("name", "other", "message"),
    [
        ("mlp", "clip", "the perceptron has"),
        ("clip", "mlp", "not the weights of a CLIP of OpenAI's code"),
        ("blip", "clip", "not the weights of a BLIP of Salesforce's code"),
    ],
)
def test_other_weights_are_refused(published, tmp_path, name, other, message):
    files = published.files()
    with pytest.raises(UsageError, match=message):
        convert_de_fake.convert(files | {name: files[other]}, published.tokenizers(), tmp_path / "to")


def test_a_tensor_that_finds_no_place_is_named(published, tmp_path):
    tensors = torch.load(published.folder / "clip.pt", weights_only=True) | {"visual.extra": torch.zeros(1)}
    with pytest.raises(UsageError, match=r"do not fit CLIPModel: .*visual.extra"):
        convert_de_fake.clip(tensors)


def test_known_answers_are_asked_for_first(folder, tmp_path):
    probe = tomllib.loads((folder / "de-fake.toml").read_text(encoding="utf-8"))["probe"]
    assert {row["image"] for row in probe} == {"ellipse", "gradient"}
    wrong = [probe[0], {**probe[1], "logit": probe[1]["logit"] + 1}]
    with pytest.raises(UsageError, match=r"not to be trusted here: .* of 'gradient'"):
        changed(folder, tmp_path, probe=wrong)()


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"mlp": {"sha256": "0" * 64}}, "not the file that its TOML names"),
        ({"clip": {"folder": "elsewhere"}}, "no such folder"),
        ({"clip": {"folder": None}}, "folder"),
        ({"clip": {"hub": "a/b", "commit": "main"}}, "folder, or hub"),
        ({"caption": {"table": "x.jsonl"}}, "captions come from one of"),
        ({"clip": {"input": {"crop_mode": "squash", "size": [16, 16]}}}, "its CLIP takes 32 x 32"),
        ({"batch": 0}, "batch must be at least 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(folder, tmp_path, tables, message):
    with pytest.raises(UsageError, match=message):
        changed(folder, tmp_path, **tables)()


def test_without_weights_it_says_where_they_are(monkeypatch, tmp_path):
    monkeypatch.setenv("MLLMRISK_WEIGHTS", str(tmp_path))
    with pytest.raises(UsageError, match=r"Google Drive .*licence: MIT.*convert_de_fake"):
        detectors.load("de-fake")
    assert "Never run on its published weights" in detectors.describe("de-fake").common.about


def test_no_gpu_here(folder):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UsageError, match="torch sees no such device"):
        detectors.load(str(folder / "de-fake.toml"), device="cuda")
