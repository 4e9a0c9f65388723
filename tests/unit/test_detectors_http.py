"""Detectors behind HTTP, against a server on this machine: what is sent, understood, tried again, paid and recorded."""

from __future__ import annotations

import base64
import email.utils
import hashlib
import json
import math
import signal
import threading
import time
import tomllib
from pathlib import Path

import pytest

from detector_service import Answer, error, said, serving
from judges_models import broken, picture
from mllmrisk import config, detectors, images, perturb
from mllmrisk.detectors.http import LOGIT_EDGE, Reading, log_odds, made
from mllmrisk.detectors.recordings import Recordings
from mllmrisk.errors import UsageError
from mllmrisk.records import Score

KEY = "key-0123456789-that-must-stay-here"
HEAD = {"name": "x", "version": "1", "about": "a", "licence": "l", "citation": "c", "trained_on": "?", "kind": "http"}


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    monkeypatch.setenv("X_KEY", KEY)
    monkeypatch.setenv("MLLMRISK_RECORDINGS", str(tmp_path / "recordings"))
    for name in ("MLLMRISK_REPLAY", "MLLMRISK_PUBLIC_IMAGES", "MLLMRISK_PUBLIC_FOLDER"):
        monkeypatch.delenv(name, raising=False)


def table(service_url, **tables):
    """A TOML's table; dictionaries given are merged into its own."""
    own = {
        "request": {"url": service_url},
        "image": {"how": "multipart", "field": "file"},
        "answer": {"path": "data.probability"},
        "threshold": {"means": "probability 0.5"},
        "key": {"env": "X_KEY", "header": "X-API-Key", "prefix": ""},
        "limits": {"timeout": 5.0, "longest_wait": 2.0},
    }
    for name, value in tables.items():
        own[name] = {**own.get(name, {}), **value} if isinstance(value, dict) else value
    return {**HEAD, **own}


def detector(service, **tables):
    return made(table(service if isinstance(service, str) else service.url, **tables), Path())


def scored(p):
    return Score(math.log(p) - math.log1p(-p))


# -- what is sent ------------------------------------------------------------------------------------------------------


def test_a_native_file_is_sent_untouched_with_the_key_and_the_other_fields(tmp_path):
    path = tmp_path / "a_fake_of_flux.png"
    path.write_bytes(picture(0))
    with serving(said(0.9)) as service:
        scores = detector(service, request={"fields": {"model": "v2", "fine": "1"}}).score([path])
    assert scores == [scored(0.9)]
    (asked,) = service.asked
    assert (asked.method, asked.path) == ("POST", "/v1/classify")
    assert asked.headers["x-api-key"] == KEY
    assert asked.parts["file"] == ("image.png", picture(0))
    assert {name: data for name, (_, data) in asked.parts.items() if name != "file"} == {"model": b"v2", "fine": b"1"}
    assert b"flux" not in asked.data


def test_base64_stands_in_the_json_where_the_toml_says():
    sent = {"how": "base64", "field": "input.0.image", "data_url": True}
    bearer = {"header": "Authorization", "prefix": "Bearer "}
    with serving(said(0.2)) as service:
        detector(service, image=sent, key=bearer, request={"fields": {"version": "3"}}).score([picture(1)])
    (asked,) = service.asked
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.json["version"] == "3"
    (item,) = asked.json["input"]
    assert base64.b64decode(item["image"].removeprefix("data:image/png;base64,")) == picture(1)


def test_a_raw_body_with_its_media_type():
    jpeg = perturb.encode(picture(2), "jpeg:90")
    with serving(said(0.2)) as service:
        detector(service, image={"how": "raw"}, request={"method": "PUT", "fields": {"v": "1"}}).score([jpeg])
    (asked,) = service.asked
    assert (asked.method, asked.data, asked.query) == ("PUT", jpeg, {"v": ["1"]})
    assert asked.headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_public_copy_is_put_where_it_is_served_and_its_address_is_sent(tmp_path, monkeypatch, method):
    monkeypatch.setenv("MLLMRISK_PUBLIC_IMAGES", "https://images.example.org/run/")
    monkeypatch.setenv("MLLMRISK_PUBLIC_FOLDER", str(tmp_path / "public"))
    with serving(said(0.2)) as service:
        subject = detector(service, image={"how": "url", "field": "url"}, request={"method": method})
        subject.score([picture(3)] * 2, chains=["native", "jpeg:60"])
    encoded = perturb.encode(picture(3), "jpeg:60")
    names = {f"{hashlib.sha256(picture(3)).hexdigest()}.png", f"{hashlib.sha256(encoded).hexdigest()}.jpg"}
    assert {path.name for path in (tmp_path / "public").iterdir()} == names
    sent = {asked.json["url"] if method == "POST" else asked.query["url"][0] for asked in service.asked}
    assert sent == {f"https://images.example.org/run/{name}" for name in names}


def test_without_a_public_folder_only_native_images_can_be_public(monkeypatch):
    monkeypatch.setenv("MLLMRISK_PUBLIC_IMAGES", "https://images.example.org")
    with serving(said(0.2)) as service:
        scores = detector(service, image={"how": "url"}).score([picture(3)] * 2, chains=["native", "jpeg:60"])
    assert scores == [scored(0.2), Score(None, "not_published")]
    assert len(service.asked) == 1
    monkeypatch.delenv("MLLMRISK_PUBLIC_IMAGES")
    with pytest.raises(UsageError, match="set MLLMRISK_PUBLIC_IMAGES"):
        detector("http://127.0.0.1:9", image={"how": "url"})


def test_a_perturbation_chain_is_the_file_that_is_sent():
    with serving(said(0.2)) as service:
        subject = detector(service, limits={"parallel": 1})
        subject.score([picture(4)] * 3, chains=["jpeg:50", "resize:0.5+webp:80", "resize:0.5"])
    sent = [asked.parts["file"] for asked in service.asked]
    assert [name for name, _ in sent] == ["image.jpg", "image.webp", "image.png"]
    assert sent[0][1] == perturb.encode(picture(4), "jpeg:50")
    assert images.decode(sent[2][1]).shape == (20, 26, 3)


# -- what is understood ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "reading", "expected"),
    [
        ({"p": 0.75}, Reading(path="p"), math.log(3)),
        ({"p": 75}, Reading(path="p", scale=100), math.log(3)),
        ({"human": 25.0}, Reading(path="human", of="real", scale=100), math.log(3)),
        ({"r": [{"s": 0.1}, {"s": 0.75}]}, Reading(path="r.1.s"), math.log(3)),
        ({"p": 1}, Reading(path="p"), LOGIT_EDGE),
        ({"p": 0.0}, Reading(path="p"), -LOGIT_EDGE),
        ({"p": 1.0}, Reading(path="p", of="real"), -LOGIT_EDGE),
        ({"p": 1e-300}, Reading(path="p"), -LOGIT_EDGE),
        ({"p": 1.5}, Reading(path="p"), None),
        ({"p": -0.1}, Reading(path="p"), None),
        ({"p": True}, Reading(path="p"), None),
        ({"p": "0.5"}, Reading(path="p"), None),
        ({"p": None}, Reading(path="p"), None),
        ({"q": 0.5}, Reading(path="p"), None),
        ({"r": []}, Reading(path="r.0"), None),
        ([0.75], Reading(path="0"), math.log(3)),
    ],
)
def test_the_probability_is_read_at_its_path(answer, reading, expected):
    found = log_odds(answer, reading)
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-12))


def test_the_order_of_probabilities_is_kept_and_certainty_stays_tied():
    shares = [0.0, 0.0, 1e-9, 0.2, 0.5, 0.999, math.nextafter(1, 0), 1.0, 1.0]
    logits = [log_odds({"p": share}, Reading(path="p")) for share in shares]
    assert logits == sorted(logits)
    assert logits[0] == logits[1] < logits[2]
    assert logits[6] < logits[7] == logits[8]
    assert all(math.isfinite(value) for value in logits)


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_images_keep_their_places_and_unreadable_ones_are_never_paid_for(tmp_path):
    with serving(said(0.5)) as service:
        subject = detector(service)
        scores = subject.score([picture(0), *broken(), tmp_path / "none.png", picture(1)])
    assert [score.reason for score in scores] == [None, "empty", "not_an_image", "truncated", "unreadable", None]
    assert len(service.asked) == subject.caller.purse.calls == 2


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_obeyed_and_costs_nothing(form):
    date = math.ceil(time.time()) + 1
    after = "0.6" if form == "seconds" else email.utils.formatdate(date, usegmt=True)
    with serving(error(429, retry_after=after), said(0.4)) as service:
        subject = detector(service)
        assert subject.score([picture(0)]) == [scored(0.4)]
    first, second = service.asked
    assert second.at - first.at >= 0.6
    assert form == "seconds" or time.time() >= date
    assert subject.caller.purse.calls == 1


def test_a_rate_limit_holds_all_threads_back():
    answers = iter([error(429, retry_after="0.8")])
    with serving(lambda _: next(answers, said(0.4))) as service:
        detector(service, limits={"parallel": 2, "per_minute": 120}).score([picture(0), picture(1)])
    assert len(service.asked) == 3
    assert service.asked[1].at - service.asked[0].at >= 0.8


def test_a_service_that_asks_for_too_long_a_wait_is_given_up_for_that_image():
    with serving(error(429, retry_after="3600")) as service:
        begun = time.monotonic()
        assert detector(service).score([picture(0)]) == [Score(None, "rate_limited")]
    assert time.monotonic() - begun < 2
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    ("bad", "billed"),
    [
        (error(500), 0),
        (error(503, retry_after="0.01"), 0),
        (Answer(b"<html>"), 1),
        (Answer(b'{"data": {"prob'), 1),
        (said(0.1)._replace(cut=10), 1),
        (said(0.1)._replace(slow=1.0), 1),
        (said(0.1)._replace(trickle=0.05), 1),
    ],
)
def test_what_passes_is_tried_again_and_what_may_be_billed_is_counted(bad, billed):
    with serving(bad, said(0.4)) as service:
        subject = detector(service, limits={"timeout": 0.4, "longest_wait": 0.05})
        assert subject.score([picture(0)]) == [scored(0.4)]
    assert len(service.asked) == 2
    assert subject.caller.purse.calls == 1 + billed


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (error(500), "server_error"),
        (error(429), "rate_limited"),
        (Answer(b"<html>"), "malformed"),
        (Answer({"data": {}}), "malformed"),
        (said(0.1)._replace(cut=10), "unreachable"),
        (said(0.1)._replace(slow=1.0), "timeout"),
        (error(400, "cannot read"), "bad_request"),
        (error(422, "image rejected: content_policy"), "refused"),
        (error(451), "refused"),
        (error(413), "too_large"),
        (error(415), "unsupported"),
    ],
)
def test_each_failure_has_its_reason_and_the_next_image_is_scored(bad, reason):
    answers = {picture(1): bad}
    with serving(lambda asked: answers.get(asked.parts["file"][1], said(0.4))) as service:
        subject = detector(service, limits={"timeout": 0.4, "attempts": 2, "longest_wait": 0.05, "parallel": 1})
        scores = subject.score([picture(0), picture(1), picture(2)])
    assert scores == [scored(0.4), Score(None, reason), scored(0.4)]


def test_a_file_that_is_too_large_is_not_sent():
    with serving(said(0.4)) as service:
        assert detector(service, limits={"max_bytes": 100}).score([picture(0)]) == [Score(None, "too_large")]
    assert service.asked == []


@pytest.mark.parametrize("bad", [error(401), error(403), error(404), Answer(b"", 302, {"Location": "/elsewhere"})])
def test_what_no_later_image_would_survive_ends_the_call_and_tells_no_key(bad):
    with serving(bad) as service:
        subject = detector(service, limits={"parallel": 1})
        with pytest.raises(UsageError, match=f"refuses the request .{bad.status}") as refused:
            subject.score([picture(seed) for seed in range(20)])
        with pytest.raises(UsageError, match="refuses the request"):
            subject.score([picture(0)])
    assert len(service.asked) == 1
    assert KEY not in str(refused.value) + repr(refused.value.__cause__) + subject.version


def test_answers_under_way_when_another_call_ends_it_all_are_kept():
    both = threading.Barrier(2)

    def answer(asked):
        both.wait(timeout=10)
        return error(401) if asked.parts["file"][1] == picture(0) else said(0.4)._replace(slow=0.2)

    with serving(answer) as service:
        subject = detector(service, limits={"parallel": 2})
        with pytest.raises(UsageError, match="refuses the request"):
            subject.score([picture(seed) for seed in range(4)])
        assert len(service.asked) == 2
    assert detector(service.url, replay="only").score([picture(1)]) == [scored(0.4)]


def test_an_interrupt_ends_the_wait_and_the_detector():
    with serving(said(0.4)._replace(slow=3.0)) as service:
        subject = detector(service)
        alarm = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
        alarm.start()
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            subject.score([picture(0), picture(1)])
        assert time.monotonic() - begun < 2
        with pytest.raises(UsageError, match="was stopped"):
            subject.score([picture(0)])


def test_a_service_that_was_never_there():
    with serving(said(0.4)) as service:
        subject = detector(service, limits={"attempts": 2, "longest_wait": 0.0})
    with pytest.raises(UsageError, match="does not answer"):
        subject.score([picture(0)])


def test_a_path_that_no_answer_has_is_found_out_before_the_money_is_gone():
    with serving(Answer({"status": "success", "score": 12})) as service:
        subject = detector(service, limits={"parallel": 1})
        with pytest.raises(UsageError, match=r"no answer has .* 'data.probability'; the last one has: score, status"):
            subject.score([picture(seed) for seed in range(10)])
    assert len(service.asked) == 3
    # mended, the answers that were paid for are read again
    mended = detector(service.url, answer={"path": "score", "scale": 100, "of": "real"}, replay="only")
    assert mended.score([picture(0)])[0].value == pytest.approx(math.log(88 / 12))


def test_no_key(monkeypatch):
    monkeypatch.delenv("X_KEY")
    with pytest.raises(UsageError, match="needs a key in the environment variable X_KEY"):
        detector("https://example.org")


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"request": {"url": "ftp://example.org"}}, "no web address"),
        ({"request": {"url": "https://me:pw@example.org"}}, "must not hold credentials"),
        ({"request": {"url": "http://example.org"}}, "unencrypted to example.org"),
        ({"request": {"fields": {"a": {"b": 1}}}}, "single values"),
        ({"budget": {"money": 5.0}}, "needs the `price`"),
        ({"budget": {"calls": -1}}, "cannot be negative"),
        ({"limits": {"attempts": 0}}, "at least 1"),
        ({"limits": {"timeout": 0}}, "positive"),
        ({"answer": {"scale": 10}}, "scale"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_what_cannot_be_meant_is_refused(tables, message):
    with pytest.raises(UsageError, match=message):
        detector("https://example.org", **tables)


# -- what it costs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [{"calls": 3}, {"money": 0.31, "price": 0.1}])
def test_a_budget_holds_whatever_the_threads_and_the_rest_is_unscored(budget):
    with serving(said(0.4)._replace(slow=0.02)) as service:
        subject = detector(service, budget=budget, limits={"parallel": 4})
        scores = subject.score([picture(seed) for seed in range(8)])
    assert len(service.asked) == subject.caller.purse.calls == 3
    assert sorted(score.reason or "" for score in scores) == [""] * 3 + ["budget_spent"] * 5
    assert all(score.value is None for score in scores if score.reason)


def test_a_place_that_comes_back_is_used_by_another_image():
    with serving(error(500), said(0.4)) as service:
        subject = detector(service, budget={"calls": 2}, limits={"attempts": 1, "parallel": 2})
        scores = subject.score([picture(seed) for seed in range(3)])
    assert sorted(score.reason or "" for score in scores) == ["", "", "server_error"]
    assert subject.caller.purse.calls == 2


@pytest.mark.parametrize("bad", [error(402), error(400, "INSUFFICIENT_BALANCE"), error(429, "insufficient_quota")])
def test_an_account_without_credit_is_asked_no_more(bad):
    with serving(said(0.4), bad) as service:
        subject = detector(service, limits={"parallel": 1})
        scores = subject.score([picture(seed) for seed in range(5)])
    assert scores == [scored(0.4), *[Score(None, "credit_spent")] * 4]
    assert len(service.asked) == 2


def test_requests_are_evenly_spaced():
    with serving(said(0.4)) as service:
        subject = detector(service, limits={"per_minute": 600, "parallel": 4})
        begun = time.monotonic()
        subject.score([picture(seed) for seed in range(4)])
    assert time.monotonic() - begun >= 0.3


def test_as_many_requests_at_a_time_as_the_toml_says():
    together = threading.Barrier(3)

    def answer(_):
        together.wait(timeout=10)
        return said(0.4)

    with serving(answer) as service:
        scores = detector(service, limits={"parallel": 3, "timeout": 20.0}).score([picture(seed) for seed in range(9)])
    assert scores == [scored(0.4)] * 9
    assert service.most == 3


# -- what is recorded --------------------------------------------------------------------------------------------------


def recorded(tmp_path):
    text = (tmp_path / "recordings" / "x.jsonl").read_text(encoding="utf-8")
    assert KEY not in text
    return [json.loads(line) for line in text.splitlines()]


def test_every_answer_is_recorded_once_and_replayed_when_the_service_is_gone(tmp_path, monkeypatch):
    pictures = [picture(seed) for seed in range(3)]
    with serving(said(0.9), said(0.2), error(422, "content_policy"), said(0.6)) as service:
        url = service.url
        first = detector(url, limits={"parallel": 1}).score(pictures)
        perturbed = detector(url, limits={"parallel": 1}).score(pictures[:1], chains=["jpeg:70:420"])
        again = detector(url).score([*pictures, pictures[0]])
        assert len(service.asked) == 4
    assert first == again[:3] == [scored(0.9), scored(0.2), Score(None, "refused")]
    assert perturbed == [scored(0.6)]
    rows = recorded(tmp_path)
    assert [row["status"] for row in rows] == [200, 200, 422, 200]
    assert [row["chain"] for row in rows] == ["native"] * 3 + ["jpeg:70"]
    assert rows[0]["image"] == rows[0]["sent"] == rows[3]["image"] == hashlib.sha256(pictures[0]).hexdigest()
    assert rows[0]["answer"] == {"status": "success", "data": {"probability": 0.9}}
    assert rows[0]["service"] == url
    # without a service, and without a key
    monkeypatch.delenv("X_KEY")
    monkeypatch.setenv("MLLMRISK_REPLAY", "only")
    offline = detector(url)
    assert offline.score([*pictures, picture(9)]) == [*first, Score(None, "not_recorded")]
    assert offline.score(pictures[:1], chains=["jpeg:71"]) == [Score(None, "not_recorded")]
    assert offline.caller is None


def test_a_key_that_a_service_repeats_is_not_recorded(tmp_path):
    with serving(said(0.9, echo=f"you are {KEY}")) as service:
        detector(service).score([picture(0)])
    assert recorded(tmp_path)[0]["answer"]["echo"] == "you are ***"


def test_another_model_is_another_request(tmp_path):
    with serving(said(0.9), said(0.1)) as service:
        old = detector(service, request={"model": "1"})
        new = detector(service, request={"model": "2"})
        assert [subject.score([picture(0)])[0] for subject in (old, new)] == [scored(0.9), scored(0.1)]
        assert old.score([picture(0)]) == [scored(0.9)]
    assert old.version != new.version
    assert [row["model"] for row in recorded(tmp_path)] == ["1", "2"]


def test_a_failure_that_may_pass_is_not_recorded(tmp_path):
    with serving(said(0.5), error(500), said(0.9)) as service:
        subject = detector(service, limits={"attempts": 1, "parallel": 1})
        assert subject.score([picture(1), picture(0)]) == [Score(0.0), Score(None, "server_error")]
        assert subject.score([picture(0)]) == [scored(0.9)]
    assert len(recorded(tmp_path)) == 2


def test_one_image_in_many_threads_is_paid_for_once():
    with serving(said(0.9)._replace(slow=0.1)) as service:
        subject = detector(service, limits={"parallel": 4})
        found = []
        threads = [threading.Thread(target=lambda: found.extend(subject.score([picture(0)] * 3))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [scored(0.9)] * 6
    assert len(service.asked) == 1


def test_what_another_process_recorded_meanwhile_is_seen(tmp_path):
    with serving(said(0.9)) as service:
        one, other = detector(service), detector(service)
        one.score([picture(0)])
        assert other.score([picture(0)]) == [scored(0.9)]
    assert len(service.asked) == 1


def test_a_line_that_a_crash_cut_short_costs_that_answer_alone(tmp_path):
    with serving(said(0.9)) as service:
        detector(service).score([picture(0), picture(1)])
        file = tmp_path / "recordings" / "x.jsonl"
        file.write_bytes(file.read_bytes()[:-20])
        subject = detector(service)
        assert len(subject.recordings) == 1
        assert subject.score([picture(0), picture(1)]) == [scored(0.9)] * 2
        assert len(service.asked) == 3
    assert len(Recordings(file)) == 2


def test_answers_that_cannot_be_kept_are_not_bought(tmp_path):
    with serving(said(0.9)) as service:
        subject = detector(service, limits={"parallel": 1})
        (tmp_path / "recordings").symlink_to(tmp_path / "gone")
        with pytest.raises(UsageError, match="cannot be recorded"):
            subject.score([picture(seed) for seed in range(9)])
        assert service.asked == []
        (tmp_path / "recordings").unlink()
        (tmp_path / "recordings").write_text("in the way")
        with pytest.raises(UsageError, match="cannot be read"):
            detector(service)


def test_the_toml_names_its_own_file_of_recordings(tmp_path):
    with serving(said(0.9)) as service:
        subject = made(table(service.url, recordings="mine/answers.jsonl"), tmp_path)
        subject.score([picture(0)])
    assert (tmp_path / "mine" / "answers.jsonl").is_file()


# -- the services that come with the package ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "variable", "header", "answer"),
    [
        (
            "winston",
            "WINSTON_API_KEY",
            "authorization",
            {"score": 25, "human_probability": 0.25, "ai_probability": 0.75},
        ),
        ("illuminarty", "ILLUMINARTY_API_KEY", "x-api-key", {"status": "success", "data": {"probability": 0.75}}),
    ],
)
def test_a_packaged_service_asks_and_reads_as_it_is_described(tmp_path, monkeypatch, name, variable, header, answer):
    monkeypatch.setenv(variable, KEY)
    monkeypatch.setenv("MLLMRISK_PUBLIC_IMAGES", "https://images.example.org")
    about = detectors.describe(name)
    assert "Never called" in about.common.about
    with serving(Answer(answer)) as service:
        text = config.find("detectors", name).read_text(encoding="utf-8")
        url = about.parameters["request"]["url"]
        copy = tmp_path / f"{name}.toml"
        copy.write_text(text.replace(url, service.url), encoding="utf-8")
        subject = detectors.load(str(copy))
        assert subject.score([picture(0)]) == [scored(0.75)]
    assert subject.decision == 0.0
    (asked,) = service.asked
    assert asked.headers[header].endswith(KEY)
    if name == "winston":
        assert asked.json == {"url": f"https://images.example.org/{hashlib.sha256(picture(0)).hexdigest()}.png"}
    else:
        assert asked.parts["file"] == ("image.png", picture(0))
    assert url.startswith("https://")


@pytest.mark.parametrize(("name", "variable"), [("winston", "WINSTON_API_KEY"), ("illuminarty", "ILLUMINARTY_API_KEY")])
def test_a_packaged_service_without_its_key_names_the_variable_and_replays(monkeypatch, name, variable):
    monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("MLLMRISK_PUBLIC_IMAGES", "https://images.example.org")
    with pytest.raises(UsageError, match=variable):
        detectors.load(name)
    monkeypatch.setenv("MLLMRISK_REPLAY", "only")
    assert detectors.load(name).score([picture(0)]) == [Score(None, "not_recorded")]


def test_the_example_of_the_documentation_is_a_detector(monkeypatch):
    text = (Path(__file__).resolve().parents[2] / "docs" / "detector-services.md").read_text(encoding="utf-8")
    example = tomllib.loads(text.split("```toml\n")[1].split("```")[0])
    monkeypatch.setenv(example["key"]["env"], KEY)
    with serving(Answer({"results": [{"scores": {"human": 25}}]})) as service:
        example["request"]["url"] = service.url
        assert made(example, Path()).score([picture(0)])[0].value == pytest.approx(math.log(3))
    (asked,) = service.asked
    assert asked.json["input"][0]["image"].startswith("data:image/png;base64,")
    assert asked.json["model"] == "2025-06"
