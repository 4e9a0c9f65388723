"""Judges behind HTTP, against a server on this machine: what is sent, what is understood, what is tried again."""

from __future__ import annotations

import base64
import io
import math
import time
from pathlib import Path

import pytest
from PIL import Image

from judges_models import broken, picture, turned
from judges_service import Answer, error, moderated, said, serving
from mllmrisk import judges
from mllmrisk.endpoint import TRANSIENT
from mllmrisk.errors import UsageError
from mllmrisk.judges.moderation import SEEN, made
from mllmrisk.records import Score

HEAD = {"name": "x", "version": "1", "about": "a", "licence": "l", "citation": "c"}
KEY = "sk-a-key-that-must-stay-here"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def moderation(service, **endpoint):
    table = {
        **HEAD,
        "kind": "openai-moderation",
        "endpoint": {"model": "omni-moderation-2024-09-26", "base_url": service.base_url, **endpoint},
        "categories": {name: {} for name in ("flagged", *SEEN)},
    }
    return made(table, Path())


def chat(service, answer, categories, question="Is it safe?", **endpoint):
    table = {
        **HEAD,
        "kind": "vlm",
        "endpoint": {"model": "m", "base_url": service.base_url, "key_env": "", **endpoint},
        "answer": answer,
        "question": {"text": question},
        "categories": categories,
    }
    return judges.KINDS.get("vlm")(table, Path(), device="cpu")


LABELLED = ({"format": "label", "other": ["safe"]}, {"violence": {"labels": ["violent"]}})


# -- moderation --------------------------------------------------------------------------------------------------------


def test_raw_scores_the_services_own_flags_and_its_verdict():
    with serving(moderated({"violence": 0.31, "sexual": 0.02}, flags=("violence",))) as service:
        judge = moderation(service)
        (scores,) = judge.score([picture(0)], threads=1)
    assert scores["violence"] == Score(0.31)
    assert scores["sexual"] == Score(0.02)
    assert scores["violence:flag"] == Score(1.0) == scores["flagged"]
    assert scores["sexual:flag"] == Score(0.0)
    assert set(scores) == {*judge.categories, *judge.attributes}
    assert judge.threshold == dict.fromkeys(judge.categories, 0.5)
    (asked,) = service.asked
    assert asked.path == "/v1/moderations"
    assert asked.body["model"] == "omni-moderation-2024-09-26"
    (image,) = asked.body["input"]
    assert base64.b64decode(image["image_url"]["url"].removeprefix("data:image/png;base64,")) == picture(0)


def test_a_flag_of_texts_alone_is_no_verdict_on_an_image():
    with serving(moderated({"hate": 0.99}, flags=("hate",))) as service:
        (scores,) = moderation(service).score([picture(0)], threads=1)
    assert scores["flagged"] == Score(0.0)


def test_a_category_that_was_not_applied_to_the_image_is_unscored():
    with serving(moderated({"violence": 0.9}, flags=("violence",), unseen=("violence",))) as service:
        (scores,) = moderation(service).score([picture(0)], threads=1)
    assert scores["violence"] == scores["violence:flag"] == scores["flagged"] == Score(None, "not_seen")
    assert scores["sexual"] == Score(0.0)


def test_hate_cannot_be_asked_for():
    table = {**HEAD, "kind": "openai-moderation", "endpoint": {"model": "m"}, "categories": {"hate": {}}}
    with pytest.raises(UsageError, match="'hate' is not scored in images"):
        made(table, Path())


def test_images_keep_their_places_and_unreadable_ones_are_never_sent():
    images = [picture(0), *broken(), picture(1)]
    with serving(moderated({"violence": 0.5})) as service:
        scores = moderation(service).score(images, threads=2)
    assert [s["violence"].reason for s in scores] == [None, "empty", "not_an_image", "truncated", None]
    assert len(service.asked) == 2


def test_an_image_that_exif_turns_is_sent_upright():
    with serving(moderated({})) as service:
        moderation(service).score([turned()], threads=1)
    url = service.asked[0].body["input"][0]["image_url"]["url"]
    sent = Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,"))))
    assert sent.size == (40, 52)


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_retry_after_is_obeyed():
    with serving(error(429, "rate_limit_exceeded", retry_after="1"), moderated({"violence": 0.4})) as service:
        (scores,) = moderation(service).score([picture(0)], threads=1)
    assert scores["violence"] == Score(0.4)
    first, second = service.asked
    assert second.at - first.at >= 1.0


def test_a_service_that_asks_for_too_long_a_wait_is_given_up_for_that_image():
    with serving(error(429, retry_after="3600")) as service:
        begun = time.monotonic()
        (scores,) = moderation(service).score([picture(0)], threads=1)
    assert scores["violence"] == Score(None, "rate_limited")
    assert time.monotonic() - begun < 5
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (error(500), "server_error"),
        (error(503, retry_after_ms="10"), "server_error"),
        (error(429, retry_after_ms="10"), "rate_limited"),
        (Answer(b'{"results": [{"categ'), "malformed"),
        (Answer({"results": "none"}), "malformed"),
        (Answer({"results": []}), "malformed"),
        (moderated({})._replace(cut=30), "unreachable"),
        (moderated({})._replace(slow=1.0), "timeout"),
        (error(400, "invalid_image"), "bad_request"),
        (error(400, "content_policy_violation"), "refused"),
    ],
)
def test_each_failure_has_its_reason_and_the_next_image_is_scored(bad, reason):
    good = moderated({"violence": 0.4})
    with serving(good, bad, bad, good) as service:
        judge = moderation(service, attempts=2, timeout=0.4, longest_wait=0.2, parallel=1)
        once = reason in ("bad_request", "refused") or bad == Answer({"results": []})
        scores = judge.score([picture(0), picture(1), *([] if once else [picture(2)])], threads=1)
        found = [s["violence"] for s in scores]
    assert found == [Score(0.4), Score(None, reason), *([] if once else [Score(0.4)])]
    assert (reason in TRANSIENT) == (reason not in ("bad_request", "refused"))


@pytest.mark.parametrize(
    "bad",
    [
        error(500),
        Answer(b"<html>"),
        moderated({})._replace(cut=30),
        moderated({})._replace(slow=1.0),
    ],
)
def test_what_passes_is_tried_again(bad):
    with serving(bad, moderated({"violence": 0.4})) as service:
        judge = moderation(service, attempts=3, timeout=0.4, longest_wait=0.1)
        (scores,) = judge.score([picture(0)], threads=1)
    assert scores["violence"] == Score(0.4)
    assert len(service.asked) == 2


@pytest.mark.parametrize(
    "bad", [error(401, "invalid_api_key"), error(404, "model_not_found"), error(429, "insufficient_quota")]
)
def test_what_no_later_image_would_survive_ends_the_run_and_tells_no_key(bad):
    with serving(bad) as service:
        judge = moderation(service)
        with pytest.raises(UsageError, match="refuses the request") as refused:
            judge.score([picture(0)], threads=1)
    assert len(service.asked) == 1
    assert KEY not in str(refused.value)
    assert service.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in judge.version


def test_a_service_that_was_never_there():
    with serving(moderated({})) as service:
        judge = moderation(service, attempts=2, longest_wait=0.0)
    with pytest.raises(UsageError, match="does not answer"):
        judge.score([picture(0)], threads=1)


def test_no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UsageError, match="needs a key in the environment variable OPENAI_API_KEY"):
        judges.load("openai-moderation")


# -- chat models behind an endpoint ------------------------------------------------------------------------------------


def test_a_label_and_what_was_asked():
    with serving(said("violent")) as service:
        (scores,) = chat(service, *LABELLED).score([picture(0)], threads=1)
    assert scores == {"violence": Score(1.0)}
    (asked,) = service.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.body["temperature"] == 0
    image, text = asked.body["messages"][0]["content"]
    assert image["image_url"]["url"].startswith("data:image/png;base64,")
    assert text == {"type": "text", "text": "Is it safe?"}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (said("It looks violent to me."), "unparsed"),
        (said("safe", finish="length"), "unparsed"),
        (said(None), "unparsed"),
        (said("I'm sorry, I can't help with that."), "refused"),
        (said(None, refusal="I cannot do this."), "refused"),
        (said(None, finish="content_filter"), "refused"),
        (error(400, "content_filter"), "refused"),
        (Answer({"choices": []}), "malformed"),
    ],
)
def test_an_answer_that_is_none_is_unscored(answer, reason):
    with serving(answer) as service:
        (scores,) = chat(service, *LABELLED, attempts=1).score([picture(0)], threads=1)
    assert scores == {"violence": Score(None, reason)}


def test_yes_and_no_from_the_shown_probabilities():
    shown = {"Yes": math.log(0.3), " Yes": math.log(0.1), "No": math.log(0.2), "Maybe": math.log(0.4)}
    categories = {"violence": {"policy": "no violence"}, "weapons": {"policy": "no weapons"}}
    with serving(
        said("Maybe", tokens=shown), said("No", tokens={"No": -0.01}), said("Hm", tokens={"Hm": 0.0})
    ) as service:
        judge = chat(service, {"format": "yes-no"}, categories, "Does it break this: {policy}?")
        first, second = (judge.score([picture(0)], threads=1)[0] for _ in range(2))
    assert first["violence"].value == pytest.approx(0.4 / 0.6)
    assert first["weapons"] == Score(0.0)
    assert second == {"violence": Score(None, "unparsed"), "weapons": Score(None, "unparsed")}
    assert [a.body["messages"][0]["content"][1]["text"] for a in service.asked[:2]] == [
        "Does it break this: no violence?",
        "Does it break this: no weapons?",
    ]
    assert service.asked[0].body["logprobs"] is True


def test_parameters_of_the_toml_replace_the_adapters():
    with serving(said("safe")) as service:
        judge = chat(service, *LABELLED, parameters={"max_completion_tokens": 9})
        judge.score([picture(0)], threads=1)
        other = chat(service, *LABELLED)
    assert {"max_completion_tokens"} == set(service.asked[0].body) - {"model", "messages"}
    assert judge.version != other.version
