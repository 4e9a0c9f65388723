"""Generators of the kind `command`, against a worker process that really crashes, hangs, lies and writes elsewhere."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mllmrisk import generators, images
from mllmrisk.errors import GeneratorError, OutOfMemoryError, UsageError
from mllmrisk.generators.base import Common, Made, Request
from mllmrisk.generators.command import Command
from mllmrisk.generators.launch import Parameters, Timeouts
from mllmrisk.generators.protocol import GarbledError, Hello, Result, Stray, Wanted, decode, encode
from mllmrisk.generators.protocol import Generate as GenerateOrder
from mllmrisk.records import Outcome

ROGUE = Path(__file__).parents[1] / "rogue_worker.py"
ROOT = ROGUE.parents[1]


class Rogue:
    """Loads the rogue and looks at what it left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loaded: list[Command] = []

    def load(self, start: str = "", *, timeouts: dict[str, float] | None = None, **keys: Any) -> Command:
        limits = Timeouts(**{"start": 20.0, "image": 20.0, "bye": 20.0, **(timeouts or {})})
        arguments = {"counts": str(self.folder), "start": start, **keys.pop("arguments", {})}
        command = [sys.executable, "-I", "-S", str(ROGUE)]
        parameters = Parameters(command=command, arguments=arguments, timeouts=limits, **keys)
        common = Common(name="rogue", version="1", kind="command", paradigm="mllm", about="test")
        self.loaded.append(Command(common, parameters, self.folder))
        return self.loaded[-1]

    def pids(self) -> list[int]:
        return [int(line) for line in (self.folder / "starts").read_text().split()]

    def asked(self) -> list[str]:
        return [json.loads(line) for line in (self.folder / "asked").read_text().splitlines()]


@pytest.fixture
def rogue(tmp_path: Path) -> Iterator[Rogue]:
    made = Rogue(tmp_path)
    yield made
    for generator in made.loaded:
        generator.close()
    if (tmp_path / "starts").exists():
        assert not [pid for pid in made.pids() if alive(pid)]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def ask(generator: Command, *prompts: str) -> list[Made]:
    return generator.generate([Request(f"s{i}", prompt, 7 + i) for i, prompt in enumerate(prompts)])


def folder_of(generator: Command) -> Path:
    return generator._folder


def test_images_come_as_the_bytes_that_the_worker_wrote(rogue: Rogue):
    generator = rogue.load()
    made = ask(generator, "a", "b", "c", "d", "e", "f")
    assert [one.outcome for one in made] == [Outcome.OK] * 6
    assert all(isinstance(one.image, bytes) and images.decode(one.image).shape == (3, 4, 3) for one in made)
    assert rogue.asked() == list("abcdef")
    assert generator.batch == 4
    assert generator.identity["model"] == "rogue"
    assert set(generator.identity["scripts"]) == {"rogue_worker.py"}
    assert list(folder_of(generator).iterdir()) == []  # read once, then removed
    assert folder_of(generator).stat().st_mode & 0o077 == 0
    generator.close()
    generator.close()
    assert not folder_of(generator).exists()


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("no file", "no_file"),
        ("elsewhere", "outside_folder"),
        ("climbing", "outside_folder"),
        ("link", "outside_folder"),
        ("pipe", "no_file"),
        ("folder", "no_file"),
        ("text", "not_an_image"),
        ("half", "truncated"),
        ("lie", "wrong_size"),
        ("no size", "wrong_size"),
    ],
)
def test_an_image_that_is_not_as_told_is_a_failed_sample_with_its_reason(rogue: Rogue, prompt: str, reason: str):
    generator = rogue.load()
    bad, good = ask(generator, prompt, "next")
    assert (bad.outcome, bad.image, bad.reason) == (Outcome.FAILED, None, reason)
    assert good.outcome is Outcome.OK
    assert len(rogue.pids()) == 1


@pytest.mark.parametrize("outcome", ["refused", "filtered", "failed"])
def test_what_a_worker_declines_keeps_its_word_and_facts(rogue: Rogue, outcome: str):
    (made,) = ask(rogue.load(), outcome)
    assert made == Made(Outcome(outcome), reason="because", facts={"a": "b"})


def test_only_the_request_that_brings_the_worker_down_twice_is_lost(rogue: Rogue):
    generator = rogue.load()
    made = ask(generator, "a", "crash", "b", "crash once")
    assert [(one.outcome, one.reason) for one in made] == [
        (Outcome.OK, None),
        (Outcome.FAILED, "worker_crashed"),
        (Outcome.OK, None),
        (Outcome.OK, None),
    ]
    lost = made[1].facts
    assert lost is not None
    assert "SIGSEGV" in lost["worker"]
    assert "Segmentation fault in a kernel" in lost["stderr"]
    assert made[0].facts is None
    assert made[3].facts == {"worker_restarts": "2"}
    assert generator.restarts == 4
    assert rogue.asked().count("a") == 1  # what was answered is not made again
    assert ask(generator, "later")[0].outcome is Outcome.OK


def test_a_worker_that_hangs_is_ended_and_started_again(rogue: Rogue):
    generator = rogue.load(timeouts={"image": 0.4}, batch=1)
    started = time.monotonic()
    hung, good = ask(generator, "hang", "good")
    assert (hung.outcome, hung.reason) == (Outcome.FAILED, "timeout")
    assert good.outcome is Outcome.OK
    assert time.monotonic() - started < 10
    assert len(rogue.pids()) == 3


@pytest.mark.parametrize(("prompt", "reason"), [("garbled", "garbled"), ("wrong name", "garbled")])
def test_a_message_that_does_not_fit_the_protocol_is_not_waited_for(rogue: Rogue, prompt: str, reason: str):
    bad, good = ask(rogue.load(), prompt, "good")
    assert (bad.outcome, bad.reason, good.outcome) == (Outcome.FAILED, reason, Outcome.OK)


def test_a_worker_that_closes_its_stdout_counts_as_crashed(rogue: Rogue):
    (made,) = ask(rogue.load(), "stdout closed")
    assert made.reason == "worker_crashed"


def test_nothing_that_a_worker_started_outlives_it(rogue: Rogue):
    """The child holds the worker's stdout open: the end of the process is seen all the same."""
    (made,) = ask(rogue.load(timeouts={"image": 5.0}), "orphan")
    assert made.reason == "worker_crashed"
    child = int((rogue.folder / "child").read_text())
    until = time.monotonic() + 5
    while alive(child) and time.monotonic() < until:
        time.sleep(0.01)
    assert not alive(child)


def test_a_worker_that_is_killed_from_outside_is_started_again(rogue: Rogue):
    generator = rogue.load()
    assert ask(generator, "a")[0].outcome is Outcome.OK
    os.kill(rogue.pids()[-1], signal.SIGKILL)
    (made,) = ask(generator, "b")
    assert made.outcome is Outcome.OK
    assert made.facts == {"worker_restarts": "1"}


def test_a_worker_that_only_goes_down_ends_the_generator_and_what_was_made_is_kept(rogue: Rogue):
    generator = rogue.load(restarts=2)
    with pytest.raises(GeneratorError, match=r"3 times in a row.*SIGSEGV[\s\S]*Segmentation fault") as stopped:
        ask(generator, "a", "crash", "crash", "b")
    assert [one.outcome if one else None for one in stopped.value.made] == [Outcome.OK, Outcome.FAILED, None, None]
    assert not [pid for pid in rogue.pids() if alive(pid)]


def test_a_worker_that_cannot_come_up_again_ends_the_generator(rogue: Rogue):
    generator = rogue.load("once")
    with pytest.raises(GeneratorError, match=r"no hello.*exit code 3[\s\S]*no module named torch") as stopped:
        ask(generator, "a", "crash")
    assert stopped.value.made[0].outcome is Outcome.OK


def test_a_worker_that_comes_up_as_another_model_ends_the_generator(rogue: Rogue):
    with pytest.raises(GeneratorError, match="describes itself differently"):
        ask(rogue.load("changing"), "crash")


def test_a_worker_that_gives_up_ends_the_generator_in_its_own_words(rogue: Rogue):
    with pytest.raises(GeneratorError, match="rogue: the GPU fell off the bus") as stopped:
        ask(rogue.load(), "a", "giving up")
    assert stopped.value.made[0].outcome is Outcome.OK


def test_out_of_memory_is_told_as_such(rogue: Rogue):
    with pytest.raises(OutOfMemoryError, match="2 image"):
        ask(rogue.load(), "a", "no memory")


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("exit", r"no hello: the worker ended with exit code 3; its last words:\nno module named torch"),
        ("hang", r"no hello: no answer within 0\.5 s"),
        ("trouble", r"generator rogue: the weights are not at /models/x"),
        ("garbled", "no hello: a message does not fit the protocol"),
        ("outcome", "first message is Result, not hello"),
        ("newer", "speaks protocol 2, this is 1"),
    ],
)
def test_a_worker_that_does_not_say_hello_is_a_usage_error(rogue: Rogue, start: str, message: str):
    with pytest.raises(UsageError, match=message):
        rogue.load(start, timeouts={"start": 0.5 if start == "hang" else 20.0})
    assert not [pid for pid in rogue.pids() if alive(pid)]


def test_an_interrupt_while_the_model_loads_ends_the_worker_at_once(rogue: Rogue):
    timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        rogue.load("hang")
    timer.join()
    assert time.monotonic() - started < 5


def test_what_libraries_print_is_survived_and_kept(rogue: Rogue, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ROGUE_TOKEN", "hf_secretsecret")
    monkeypatch.setenv("OTHER_KEY", "sk-other")
    generator = rogue.load("garbage", log="said/../worker.log", env=["ROGUE_TOKEN"])
    assert ask(generator, "chatty")[0].outcome is Outcome.OK
    assert generator.strays == 6  # four at the start, a print and a message of an unknown type
    seen = generator.identity["arguments"]["effective"]["seen"]
    assert "ROGUE_TOKEN" in seen
    assert "OTHER_KEY" not in seen
    generator.close()
    said = (rogue.folder / "worker.log").read_text()
    assert "Loading checkpoint shards" in said
    assert "debug: half way" in said
    assert "***" in said
    assert "hf_secretsecret" not in said


def test_a_prompt_is_data(rogue: Rogue):
    prompts = ['"; touch /tmp/pwned; "', "$(id)\n`id`\r\n", "猫と🔥 \u202e\u0000", "", "x" * 300_000]
    made = ask(rogue.load(), *prompts)
    assert [one.outcome for one in made] == [Outcome.OK] * 5
    assert rogue.asked() == prompts
    (half,) = ask(rogue.loaded[0], "half a pair \ud83d")
    assert (half.outcome, half.reason) == (Outcome.FAILED, "not_unicode")
    for pid in rogue.pids():
        assert b"touch" not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_worker_that_does_not_read_is_not_waited_for_forever(rogue: Rogue):
    """The message is longer than what a pipe holds; the worker is stopped."""
    generator = rogue.load(timeouts={"image": 0.3}, restarts=1)
    os.kill(rogue.pids()[0], signal.SIGSTOP)
    (made,) = ask(generator, "y" * 300_000)
    assert made.outcome is Outcome.OK
    assert made.facts == {"worker_restarts": "1"}


def test_bye_is_obeyed_or_enforced(rogue: Rogue):
    assert rogue.load().stop() == 0
    generator = rogue.load("stubborn", timeouts={"bye": 0.3})
    started = time.monotonic()
    assert generator.stop() is None
    assert time.monotonic() - started < 5
    assert not alive(rogue.pids()[-1])


def test_an_interrupt_ends_the_worker(rogue: Rogue):
    generator = rogue.load()
    pid = rogue.pids()[0]
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        ask(generator, "hang")
    timer.join()
    assert not alive(pid)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"command": []}, "`command` is empty"),
        ({"command": ["no-such-program-1"]}, "cannot start no-such-program-1"),
        ({"command": ["${NO_SUCH_VARIABLE_1}/x"]}, "set the environment variable NO_SUCH_VARIABLE_1"),
        ({"command": ["true"], "cwd": "nowhere"}, "cannot start"),
        ({"command": ["true"], "log": "nowhere/x.log"}, "no folder for `log`"),
        ({"command": ["true"], "env": ["HF_TOKEN=hf_x"]}, "names of variables; 'HF_TOKEN'"),
        ({"command": ["true"], "batch": -1}, "cannot be negative"),
        ({"command": ["true"], "timeouts": Timeouts(image=0)}, "positive"),
        ({"command": ["true"]}, "no hello: the worker ended with exit code 0"),
    ],
)
def test_a_toml_that_cannot_be_used_says_why(tmp_path: Path, keys: dict[str, Any], message: str):
    common = Common(name="x", version="1", kind="command", paradigm="mllm", about="test")
    with pytest.raises(UsageError, match=message) as wrong:
        Command(common, Parameters(**keys), tmp_path)
    assert "hf_x" not in str(wrong.value)


def test_a_toml_leads_to_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The way that a profile takes: a file, relative paths in it, an interpreter of its own, variables."""
    monkeypatch.setenv("STRIPES", "40")
    (tmp_path / "echo.toml").write_text(
        'name = "echo"\nversion = "1"\nkind = "command"\nparadigm = "mllm"\nabout = "stripes"\n'
        f'python = "{sys.executable}"\ncommand = ["${{MLLMRISK_WORKERS}}/echo.py"]\n'
        "[arguments]\nwidth = 32\nheight = 16\n[timeouts]\nimage = 20\n"
    )
    generator = generators.load(generators.describe(str(tmp_path / "echo.toml")))
    try:
        (made,) = generator.generate([Request("s", "a red ball", 5)])
        assert images.decode(made.image).shape == (16, 32, 3)
        assert generator.identity["arguments"]["passed"] == {"width": 32, "height": 16}
        assert generator.identity["arguments"]["effective"]["stripe"] == 8
    finally:
        generator.close()
    with pytest.raises(UsageError, match="Did you mean 'timeouts'"):
        generators.load(
            generators.describe(str(tmp_path / "echo.toml"))._replace(parameters={"command": ["x"], "timeout": 5})
        )


def test_lines_are_messages_strays_or_garbled():
    assert decode(b'{"type":"hello","protocol":1,"model":"m","later":true}') == Hello(protocol=1, model="m")
    assert decode(b'{"type":"outcome","id":"1","outcome":"ok"}') == Result(id="1", outcome="ok")
    for noise in (b"", b"50%", b"{", b"[1]", b'"outcome"', b'{"type": "tensor"}', b'{"type": ["x"]}', b"\xff"):
        assert isinstance(decode(noise), Stray)
    for bad in (b'{"type":"outcome"}', b'{"type":"outcome","id":1,"outcome":"ok"}', b'{"type":"error"}'):
        with pytest.raises(GarbledError):
            decode(bad)
    order = GenerateOrder(requests=[Wanted(id="1", prompt="a\nb", seed=1, path="p")])
    assert encode(order).count(b"\n") == 1
