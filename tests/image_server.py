"""A real HTTP server that behaves like an image provider, or as badly as one can: it does what the prompt says.

`with serving() as server:` gives its address, the requests that it got, and when.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from mllmrisk import perturb

KEY = "sk-test-0123456789abcdefSECRET"


def picture(seed: int = 0) -> bytes:
    """A JPEG of a provider: with an EXIF-free comment that must survive untouched."""
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    data = perturb.encode(pixels, "jpeg:90")
    comment = b"made by a provider"
    return data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + data[2:]


class Got:
    """What a server was asked.

    Attributes:
        bodies: decoded JSON of each request, in order.
        headers: of each request.
        times: `time.monotonic()` of each.
        most_at_once: requests that were under way together at most.
    """

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.downloads: list[dict[str, str]] = []
        self.times: list[float] = []
        self.tries: Counter[str] = Counter()
        self.at_once = 0
        self.most_at_once = 0
        self.lock = threading.Lock()
        self.url = ""

    def prompts(self) -> list[str]:
        return [body["prompt"] for body in self.bodies]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    got: Got

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_POST(self) -> None:
        got = self.got
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/chat/completions"):
            body["prompt"] = "chat " + body["messages"][0]["content"]
        with got.lock:
            got.bodies.append(body)
            got.headers.append({name.lower(): value for name, value in self.headers.items()})
            got.times.append(time.monotonic())
            got.tries[body["prompt"]] += 1
            number = got.tries[body["prompt"]]
            got.at_once += 1
            got.most_at_once = max(got.most_at_once, got.at_once)
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.behave(body, number)
        finally:
            with got.lock:
                got.at_once -= 1

    def do_GET(self) -> None:
        self.got.downloads.append({name.lower(): value for name, value in self.headers.items()})
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if self.path == "/gone.jpg":
                self.answer(404, b"gone")
            elif self.path == "/large.jpg":
                self.answer(200, b"\xff" * 500_000)
            elif self.path == "/later.jpg" and len(self.got.downloads) < 2:
                self.answer(503, b"later")
            else:
                self.answer(200, picture())

    def answer(self, status: int, data: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("x-request-id", f"req_{len(self.got.bodies)}")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def json(self, status: int, found: object, **headers: str) -> None:
        self.answer(status, json.dumps(found).encode(), **headers)

    def error(self, status: int, code: str | None, message: str = "No.", **extra: Any) -> None:
        headers = extra.pop("headers", {})
        self.json(
            status, {"error": {"message": message, "type": "x_error", "param": None, "code": code, **extra}}, **headers
        )

    def good(self, **extra: Any) -> dict[str, Any]:
        return {
            "created": 1,
            "data": [{"b64_json": base64.b64encode(picture()).decode(), **extra}],
            "usage": {"input_tokens": 10, "output_tokens": 1000, "total_tokens": 1010},
        }

    def behave(self, body: dict[str, Any], number: int) -> None:
        what = body["prompt"]
        if what.startswith("twice "):  # fails twice, then succeeds
            what = what.removeprefix("twice ") if number <= 2 else "ok"
        name, _, argument = what.partition(":")
        do = getattr(self, "do_" + name.replace(" ", "_"), None)
        if do is None:
            self.json(200, self.good())
        else:
            do(argument)

    def do_revised(self, _: str) -> None:
        self.json(200, self.good(revised_prompt=f"A nicer prompt, signed {KEY}"))

    def do_blocked(self, code: str) -> None:
        self.error(400, code, "Your request was rejected by the safety system.", type="image_generation_user_error")

    def do_azure(self, _: str) -> None:
        inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_results": {}}
        self.error(400, "contentFilter", innererror=inner)

    def do_gemini(self, _: str) -> None:
        details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "PROHIBITED_CONTENT"}]
        error = {"code": 400, "message": "blocked", "status": "INVALID_ARGUMENT", "details": details}
        self.json(400, [{"error": error}])

    def do_finish(self, word: str) -> None:
        self.json(200, {"created": 1, "data": [{"finish_reason": word}]})

    def do_no_data(self, _: str) -> None:
        self.json(200, {"created": 1, "data": []})

    def do_immoderate(self, _: str) -> None:
        self.json(200, {"data": [{"b64_json": None, "respect_moderation": False}]})

    def do_wrapped(self, code: str) -> None:
        self.json(200, {"error": {"code": code, "message": "from a proxy"}})

    def do_status(self, argument: str) -> None:
        status, _, code = argument.replace("THE_KEY", KEY).partition(" ")
        self.error(int(status), code or None, f"said with the key {KEY} in it\nand more")

    def do_limited(self, after: str) -> None:
        if after == "date":
            after = email.utils.formatdate(time.time() + 1.2, usegmt=True)
        name, _, value = after.rpartition("=")
        self.error(429, "rate_limit_exceeded", headers={name or "Retry_After": value})

    def do_malformed(self, _: str) -> None:
        self.answer(200, b'{"created": 1, "data": [')

    def do_not_base64(self, _: str) -> None:
        self.json(200, {"data": [{"b64_json": "###"}]})

    def do_no_image(self, _: str) -> None:
        self.json(200, {"data": [{"b64_json": base64.b64encode(b"sorry").decode()}]})

    def do_silent(self, _: str) -> None:
        time.sleep(0.8)
        self.json(200, self.good())

    def do_slow(self, milliseconds: str) -> None:
        time.sleep(int(milliseconds) / 1000)
        self.json(200, self.good())

    def do_trickle(self, _: str) -> None:
        """Never silent for long, and never done in time."""
        data = json.dumps(self.good()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        for at in range(len(data)):
            self.wfile.write(data[at : at + 1])
            self.wfile.flush()
            time.sleep(0.02)

    def do_cut(self, _: str) -> None:
        data = json.dumps(self.good()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])
        self.close_connection = True

    def do_hung_up(self, _: str) -> None:
        self.close_connection = True

    def do_huge(self, _: str) -> None:
        self.answer(200, b" " * 500_000)

    def chat(self, message: dict[str, Any], finish: str = "stop") -> None:
        choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", **message}}
        self.json(200, {"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 1000}})

    def link(self) -> dict[str, Any]:
        url = "data:image/jpeg;base64," + base64.b64encode(picture()).decode()
        return {"type": "image_url", "image_url": {"url": url}}

    def do_chat_images(self, _: str) -> None:
        self.chat({"content": "Here you are.", "images": [self.link()]})

    def do_chat_parts(self, _: str) -> None:
        self.chat({"content": [{"type": "text", "text": "Here."}, self.link()]})

    def do_chat_link(self, _: str) -> None:
        self.chat({"content": None, "images": [{"image_url": {"url": f"{self.got.url}/a.jpg"}}]})

    def do_chat_words(self, _: str) -> None:
        self.chat({"content": f"I would rather not, {KEY}."})

    def do_chat_refusal(self, _: str) -> None:
        self.chat({"content": None, "refusal": "I cannot."})

    def do_chat_filtered(self, _: str) -> None:
        self.chat({"content": ""}, "content_filter")

    def do_chat_empty(self, _: str) -> None:
        self.json(200, {"choices": []})

    def do_url(self, path: str) -> None:
        url = path if "://" in path else f"{self.got.url}/{path}"
        self.json(200, {"data": [{"url": url}]})

    def do_data_url(self, _: str) -> None:
        self.json(200, {"data": [{"url": "data:image/jpeg;base64," + base64.b64encode(picture()).decode()}]})


class Server(ThreadingHTTPServer):
    """Clients that go away are part of the tests."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def serving() -> Iterator[Got]:
    """A server of its own on a free port of this machine."""
    got = Got()
    handler = type("Handler", (Handler,), {"got": got})
    server = Server(("127.0.0.1", 0), handler)
    got.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield got
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
