"""Generators of the kind `openai`, the real client against a real HTTP server that behaves as each prompt says."""

import contextlib
import email.utils
import json
import logging
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_server import KEY, Got, picture, serving
from mllmrisk import generators
from mllmrisk.errors import GeneratorError, MissingExtraError, UsageError
from mllmrisk.generators.answers import (
    AgainError,
    FatalError,
    FaultyError,
    RefusedError,
    cost,
    read,
    retry_after,
    sort_status,
)
from mllmrisk.generators.base import Common, Made, Request
from mllmrisk.generators.budget import Budget
from mllmrisk.generators.openai import GIVE_UP, OpenAI, Parameters
from mllmrisk.records import Outcome

QUICK = {"first_wait": 0.01, "longest_wait": 0.02, "attempts": 3, "timeout": 5.0}


class Client:
    """Loads generators against the server and closes them."""

    def __init__(self, server: Got) -> None:
        self.server = server
        self.loaded: list[OpenAI] = []

    def load(self, *, usd: float | None = None, path: str = "/v1", **keys: Any) -> OpenAI:
        given = {
            "model": "gpt-image-x",
            "base_url": self.server.url + path,
            "key_env": "TEST_IMAGE_KEY",
            **QUICK,
            **keys,
        }
        common = Common(name="api", version="1", kind="openai", paradigm="mllm", about="test", usd=usd)
        self.loaded.append(OpenAI(common, Parameters(**given), Path()))
        return self.loaded[-1]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TEST_IMAGE_KEY", KEY)


@pytest.fixture
def client() -> Iterator[Client]:
    with serving() as server:
        made = Client(server)
        yield made
        for generator in made.loaded:
            generator.close()
            generator.close()


def ask(generator: OpenAI, *prompts: str) -> list[Made]:
    return generator.generate([Request(f"s{i}", prompt, 100 + i) for i, prompt in enumerate(prompts)])


def one(generator: OpenAI, prompt: str) -> Made:
    (made,) = ask(generator, prompt)
    return made


def test_the_bytes_are_the_providers_own(client: Client):
    generator = client.load(size="1024x1024", quality="low", moderation="low", extra={"background": "opaque"})
    made = one(generator, "a red ball 猫")
    assert made.outcome is Outcome.OK
    assert made.image == picture()
    assert made.facts is not None
    assert made.facts["request_id"] == "req_1"
    assert json.loads(made.facts["usage"]) == {"input_tokens": 10, "output_tokens": 1000, "total_tokens": 1010}
    assert made.facts["attempts"] == "1"
    (body,) = client.server.bodies
    assert body == {
        "prompt": "a red ball 猫",
        "model": "gpt-image-x",
        "size": "1024x1024",
        "quality": "low",
        "moderation": "low",
        "background": "opaque",
    }
    assert client.server.headers[0]["authorization"] == f"Bearer {KEY}"


def test_a_seed_is_sent_only_where_it_is_taken(client: Client):
    with_seed, without = client.load(seed_field="seed", response_format="b64_json"), client.load()
    assert [one(g, "ball").outcome for g in (with_seed, without)] == [Outcome.OK] * 2
    first, second = client.server.bodies
    assert first["seed"] == 100
    assert first["response_format"] == "b64_json"
    assert "seed" not in second
    assert "response_format" not in second
    assert with_seed.identity["seed"] == "sent as seed"
    assert without.identity["seed"].startswith("not sent")


@pytest.mark.parametrize(
    ("prompt", "code"),
    [
        ("blocked:moderation_blocked", "moderation_blocked"),
        ("blocked:content_policy_violation", "content_policy_violation"),
        ("azure", "contentfilter"),
        ("gemini", "prohibited_content"),
        ("finish:IMAGE_SAFETY", "image_safety"),
        ("finish:PROHIBITED_CONTENT", "prohibited_content"),
        ("no data", "empty_data"),
        ("immoderate", "respect_moderation"),
        ("wrapped:content_filter", "content_filter"),
    ],
)
def test_a_refusal_is_an_outcome_with_its_code(client: Client, prompt: str, code: str):
    refused, good = ask(client.load(), prompt, "good")
    assert (refused.outcome, refused.reason, refused.image) == (Outcome.REFUSED, code, None)
    assert good.outcome is Outcome.OK
    assert client.server.tries[prompt] == 1


@pytest.mark.parametrize(
    "prompt",
    [
        "status:500",
        "status:503",
        "limited:0",
        "malformed",
        "not base64",
        "cut",
        "hung up",
        "silent",
        "trickle",
        "status:408",
    ],
)
def test_what_passes_is_tried_again(client: Client, prompt: str):
    """Twice so, then an image."""
    made = one(client.load(timeout=0.4), f"twice {prompt}")
    assert made.outcome is Outcome.OK, made
    assert made.facts is not None
    assert made.facts["attempts"] == "3"


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("status:502", "http_502"),
        ("limited:0", "rate_limited"),
        ("malformed", "malformed_response"),
        ("not base64", "malformed_response"),
        ("cut", "connection"),
        ("hung up", "connection"),
        ("silent", "timeout"),
        ("trickle", "timeout"),
    ],
)
def test_what_does_not_pass_is_a_failed_sample(client: Client, prompt: str, reason: str):
    made = one(client.load(timeout=0.3, attempts=2), prompt)
    assert (made.outcome, made.reason) == (Outcome.FAILED, reason)
    assert client.server.tries[prompt] == 2


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("no image", "not_an_image"),
        ("huge", "too_large"),
        ("finish:NO_IMAGE", "no_image"),
        ("status:400 string_above_max_length", "string_above_max_length"),
        ("status:422", "http_422"),
    ],
)
def test_a_fault_of_one_request_is_not_tried_again(client: Client, prompt: str, reason: str):
    made = one(client.load(max_bytes=100_000), prompt)
    assert (made.outcome, made.reason) == (Outcome.FAILED, reason)
    assert client.server.tries[prompt] == 1


@pytest.mark.parametrize(("after", "at_least"), [("Retry_After=0.5", 0.5), ("date", 0.2), ("retry_after_ms=400", 0.4)])
def test_retry_after_is_obeyed_by_all_threads(client: Client, after: str, at_least: float):
    """In seconds, as a date (of whole seconds, so up to one less), and in OpenAI's milliseconds."""
    generator = client.load(attempts=2)
    limited = threading.Thread(target=ask, args=(generator, f"limited:{after}"))
    limited.start()
    while not client.server.times:
        time.sleep(0.005)
    time.sleep(0.1)
    assert one(generator, "meanwhile").outcome is Outcome.OK
    limited.join()
    first, *later = client.server.times
    assert len(later) == 2
    assert min(later) - first >= at_least


def test_a_pause_that_is_too_long_ends_the_run(client: Client):
    with pytest.raises(GeneratorError, match="asks to wait 86400 s, more than longest_pause = 900"):
        ask(client.load(), "limited:86400")
    assert len(client.server.bodies) == 1


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("status:401 invalid_api_key", "api: 401: the key in TEST_IMAGE_KEY is not accepted"),
        ("status:403", r"api: 403: said with the key \*\*\* in it and more \(model gpt-image-x"),
        ("status:404 model_not_found", "api: 404"),
        ("status:429 insufficient_quota", "api: 429"),
        ("status:402", "api: 402"),
    ],
)
def test_what_no_request_survives_ends_the_run_in_one_line(client: Client, prompt: str, message: str):
    generator = client.load(concurrency=1)
    with pytest.raises(GeneratorError, match=message) as stopped:
        ask(generator, "good", prompt, "never asked", "never asked")
    assert "\n" not in str(stopped.value)
    assert [made.outcome if made else None for made in stopped.value.made] == [Outcome.OK, None, None, None]
    assert client.server.prompts() == ["good", prompt]
    with pytest.raises(GeneratorError, match=message):
        ask(generator, "good")
    assert len(client.server.bodies) == 2


def test_an_account_that_is_blocked_is_not_a_refused_prompt(client: Client):
    """Azure tells both in the same words; the code is `Forbidden`."""
    with pytest.raises(GeneratorError):
        ask(client.load(), "status:403 Forbidden")


def test_a_provider_that_answers_nobody_ends_the_run(client: Client):
    generator = client.load(attempts=1, concurrency=1)
    with pytest.raises(GeneratorError, match=rf"{GIVE_UP} requests in a row came to nothing, the last with http_500"):
        ask(generator, *["status:500"] * (GIVE_UP + 5))
    assert len(client.server.bodies) == GIVE_UP


def test_requests_go_out_side_by_side_and_no_more_than_said(client: Client):
    generator = client.load(concurrency=3)
    assert generator.batch == 6
    started = time.monotonic()
    made = ask(generator, *["slow:200"] * 6)
    assert [m.outcome for m in made] == [Outcome.OK] * 6
    assert client.server.most_at_once == 3
    assert time.monotonic() - started < 6 * 0.2


def test_outcomes_come_in_the_order_of_the_requests(client: Client):
    made = ask(client.load(), "slow:200", "blocked:moderation_blocked", "slow:50", "status:422")
    assert [m.outcome.value for m in made] == ["ok", "refused", "ok", "failed"]


def test_the_pace_is_kept(client: Client):
    ask(client.load(per_minute=600), *["ball"] * 5)
    times = sorted(client.server.times)
    assert times[-1] - times[0] >= 0.39


def test_a_budget_in_images_holds_and_what_was_made_is_kept(client: Client):
    """A refusal costs nothing, so it takes no place."""
    generator = client.load(max_images=3)
    with pytest.raises(GeneratorError, match=r"the budget is spent: 3 image\(s\) made, max_images = 3") as stopped:
        ask(generator, "blocked:moderation_blocked", *["ball"] * 6)
    outcomes = [made.outcome.value for made in stopped.value.made if made]
    assert sorted(outcomes) == ["ok", "ok", "ok", "refused"]
    assert client.server.tries["ball"] == 3
    with pytest.raises(GeneratorError, match="the budget is spent"):
        ask(generator, "ball")


def test_a_budget_in_money_holds_by_the_price_and_by_the_providers_own_count(client: Client):
    by_price = client.load(usd=0.04, max_usd=0.10)
    with pytest.raises(GeneratorError, match=r"2 image\(s\) made, about 0.08 USD of max_usd = 0.1"):
        ask(by_price, *["ball"] * 5)
    prices = {"input": 5.0, "output": 40.0}  # 10 and 1000 tokens: 0.04005 USD
    by_usage = client.load(usd=0.01, max_usd=0.10, usd_per_million=prices, concurrency=1)
    with pytest.raises(GeneratorError, match=r"3 image\(s\) made, about 0.12 USD") as stopped:
        ask(by_usage, *["ball"] * 5)
    assert stopped.value.made[0].facts["usd"] == "0.040050"


def test_threads_together_do_not_overspend():
    budget = Budget(None, 1.0, 0.1)
    taken = []

    def spend() -> None:
        while budget.reserve():
            time.sleep(0.001)
            budget.spend()
            taken.append(1)

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 10
    assert budget.usd == pytest.approx(1.0)


def test_an_image_behind_a_url_comes_without_the_key_and_is_not_paid_for_twice(client: Client):
    generator = client.load(response_format="url", max_bytes=100_000, attempts=2)
    made = ask(generator, "url:later.jpg", "data url")
    assert [m.image for m in made] == [picture()] * 2
    assert client.server.tries["url:later.jpg"] == 1
    assert len(client.server.downloads) == 2
    assert not [headers for headers in client.server.downloads if "authorization" in headers]
    gone, large, local = ask(generator, "url:gone.jpg", "url:large.jpg", "url:file:///etc/passwd")
    assert [m.reason for m in (gone, large, local)] == ["download_404", "too_large", "bad_url"]
    assert client.server.tries["url:gone.jpg"] == 1
    assert generator.budget.images == 5


def test_models_that_draw_in_a_chat_are_asked_there(client: Client):
    prices = {"input": 5.0, "output": 40.0}
    generator = client.load(
        route="chat", extra={"modalities": ["image", "text"]}, seed_field="seed", attempts=2, usd_per_million=prices
    )
    made = ask(generator, "images", "parts", "link", "words", "refusal", "filtered", "empty")
    assert [m.image for m in made[:3]] == [picture()] * 3
    assert made[0].facts is not None
    assert made[0].facts["usd"] == "0.040050"
    assert [(m.outcome, m.reason) for m in made[3:]] == [
        (Outcome.REFUSED, "words_only"),
        (Outcome.REFUSED, "refusal"),
        (Outcome.REFUSED, "content_filter"),
        (Outcome.FAILED, "malformed_response"),
    ]
    assert [(m.facts or {}).get("answered") for m in made[3:6]] == ["I would rather not, ***.", "I cannot.", None]
    body = next(body for body in client.server.bodies if body["prompt"] == "chat images")
    assert body["messages"] == [{"role": "user", "content": "images"}]
    assert body["modalities"] == ["image", "text"]
    assert body["seed"] == 100
    assert generator.identity["route"] == "chat"


def test_the_key_is_written_nowhere(
    client: Client, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    """Nowhere in what is returned, logged at any level, raised with its whole chain, or shown."""
    caplog.set_level(logging.DEBUG)
    generator = client.load(concurrency=2)
    prompts = (
        "revised",
        "status:422",
        "status:500",
        "cut",
        "blocked:moderation_blocked",
        "ball",
        "limited:0",
        "silent",
    )
    found: list[str] = [repr(ask(client.load(timeout=0.3), prompt)) for prompt in prompts]
    assert "***" in found[0]
    assert "***" in found[1]
    for prompt in ("status:401", "status:403", "status:404 THE_KEY"):
        with pytest.raises(GeneratorError) as stopped:
            ask(client.load(), prompt)
        trace = traceback.TracebackException.from_exception(stopped.value, capture_locals=True)
        chain: list[BaseException | None] = [stopped.value, stopped.value.__cause__, stopped.value.__context__]
        found += ["".join(trace.format()), *map(repr, chain), repr(vars(stopped.value))]
    found += [repr(generator), json.dumps(generator.identity), caplog.text, *capfd.readouterr()]
    assert len(caplog.text) > 1000
    assert not [text for text in found if KEY in text]


def test_closing_wakes_who_waits(client: Client):
    """The provider asked for a long pause; closing does not wait for it."""
    generator = client.load()
    said: list[str] = []

    def wait() -> None:
        try:
            ask(generator, "limited:60")
        except GeneratorError as wrong:
            said.append(str(wrong))

    thread = threading.Thread(target=wait)
    thread.start()
    while not client.server.bodies:
        time.sleep(0.005)
    started = time.monotonic()
    generator.close()
    thread.join(5)
    assert not thread.is_alive()
    assert time.monotonic() - started < 3
    assert said == ["generator api: it was closed"]


def test_an_interrupt_does_not_wait_for_answers_under_way(client: Client):
    generator = client.load()
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ask(generator, "slow:4000")
    generator.close()
    timer.join()
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"base_url": "ftp://x/v1"}, "no web address"),
        ({"base_url": "https://user:secret@x/v1"}, "must not hold credentials"),
        ({"base_url": "http://example.com/v1"}, "would travel unencrypted to example.com"),
        ({"key_env": "NO_SUCH_KEY_1"}, "set the environment variable NO_SUCH_KEY_1"),
        ({"extra": {"prompt": "x"}}, "cannot set 'prompt'"),
        ({"concurrency": 0}, "at least 1"),
        ({"per_minute": -1.0}, "positive"),
        ({"max_usd": 1.0}, "needs the price"),
        ({"usd_per_million": {"images": 1.0}}, "not 'images'"),
    ],
)
def test_a_toml_that_cannot_be_used_says_why(keys: dict[str, Any], message: str):
    common = Common(name="x", version="1", kind="openai", paradigm="mllm", about="test")
    given = {"model": "m", "key_env": "TEST_IMAGE_KEY", **keys}
    with pytest.raises(UsageError, match=message) as wrong:
        OpenAI(common, Parameters(**given), Path())
    assert "secret" not in str(wrong.value)


def test_a_server_without_keys_needs_none(client: Client):
    assert one(client.load(key_env=""), "ball").outcome is Outcome.OK
    assert KEY not in client.server.headers[0]["authorization"]


def test_a_toml_leads_to_the_endpoint(client: Client, tmp_path: Path):
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\nversion = "1"\nkind = "openai"\nparadigm = "mllm"\nabout = "x"\nusd = 0.02\n'
        f'model = "m"\nbase_url = "{client.server.url}/v1"\nkey_env = "TEST_IMAGE_KEY"\nmax_usd = 1.0\n'
    )
    generator = generators.load(generators.describe(str(tmp_path / "mine.toml")))
    (made,) = generator.generate([Request("s", "ball", 1)])
    generator.close()
    assert made.facts is not None
    assert made.facts["usd"] == "0.020000"


def test_a_missing_package_gets_its_pip_line(monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "openai", None)
    common = Common(name="x", version="1", kind="openai", paradigm="mllm", about="test")
    with pytest.raises(MissingExtraError, match=r"mllmrisk\[api\]"):
        OpenAI(common, Parameters(model="m", key_env=""), Path())


def test_retry_after_is_read_in_every_form_and_nonsense_is_not():
    assert retry_after({"retry-after": "7"}) == 7
    assert retry_after({"retry-after-ms": "250", "retry-after": "7"}) == 0.25
    soon = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert retry_after({"retry-after": soon}) == pytest.approx(30, abs=2)
    past = email.utils.formatdate(time.time() - 30, usegmt=True)
    assert retry_after({"retry-after": past}) == 0
    for nonsense in ({}, {"retry-after": "soon"}, {"retry-after": ""}, {"retry-after-ms": "x"}):
        assert retry_after(nonsense) is None


WORDS = (
    "data url b64_json error code message usage choices images content image_url text refusal finish_reason innererror",
    "details status input_tokens output_tokens revised_prompt model",
)
KEYS = st.sampled_from(" ".join(WORDS).split())
LEAVES = st.sampled_from(["", "x", "data:,eA==", "safety", "eA==", None, True, 7, 0.5])
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=25
)


@given(body=st.dictionaries(KEYS, JSON, max_size=6) | JSON)
@settings(max_examples=200, deadline=None)
def test_no_answer_whatever_its_shape_is_anything_but_sorted(body: Any):
    """Another exception would stop the generator."""
    with contextlib.suppress(AgainError, RefusedError, FaultyError):
        answer = read(json.dumps(body).encode())
        assert (answer.data is None) != (answer.url is None)
        cost(answer.usage, {"input": 1.0, "output": 1.0})
    for status in (400, 403, 429, 500):
        found = sort_status(status, body, {}, longest=1)
        assert isinstance(found, AgainError | RefusedError | FaultyError | FatalError)


def test_bodies_of_errors_are_read_whatever_their_shape():
    for body in (None, "", "<html>", [], [1], {}, {"error": None}, {"error": "no"}, {"detail": [{"loc": ["body"]}]}):
        assert type(sort_status(400, body, {}, longest=1)).__name__ == "FaultyError"
        assert type(sort_status(404, body, {}, longest=1)).__name__ == "FatalError"
        assert type(sort_status(503, body, {}, longest=1)).__name__ == "AgainError"
    assert cost({}, {"output": 1.0}) is None
    assert cost({"input_tokens": 1, "output_tokens": 2}, {}) is None
