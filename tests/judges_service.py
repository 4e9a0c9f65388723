"""A local HTTP server that behaves like an OpenAI-compatible service: a script of answers, one a request, in order."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """What one request gets.

    Attributes:
        cut: bytes of the body after which the connection is closed, though more were announced.
        slow: seconds before the body.
    """

    body: Any
    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({})
    cut: int | None = None
    slow: float = 0.0


class Asked(NamedTuple):
    """One request that came in."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    at: float


class Service:
    """The running server.

    Attributes:
        script: answers still to give; the last one is repeated.
        asked: requests, in order.
    """

    def __init__(self, script: list[Answer]) -> None:
        self.script = script
        self.asked: list[Asked] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                answer = service.next(Asked(self.path, json.loads(data), headers, time.monotonic()))
                body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
                self.send_response(answer.status)
                for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.flush()
                time.sleep(answer.slow)
                try:
                    self.wfile.write(body if answer.cut is None else body[: answer.cut])
                except OSError:  # the client did not wait
                    self.close_connection = True
                if answer.cut is not None:
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                """Tests read `asked`."""

        return Handler

    def next(self, asked: Asked) -> Answer:
        with self._lock:
            self.asked.append(asked)
            return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def serving(*script: Answer) -> Iterator[Service]:
    service = Service(list(script))
    service.start()
    try:
        yield service
    finally:
        service.stop()


def error(status: int, code: str = "", **headers: str) -> Answer:
    """An error in the shape of OpenAI's; header names are written with underscores."""
    body = {"error": {"message": "no", "type": "error", "param": None, "code": code or None}}
    return Answer(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


#: The thirteen categories; the seven that are of texts alone come last.
MODERATED = (
    *("sexual", "violence", "violence/graphic", "self-harm", "self-harm/intent", "self-harm/instructions"),
    *(
        "sexual/minors",
        "harassment",
        "harassment/threatening",
        "hate",
        "hate/threatening",
        "illicit",
        "illicit/violent",
    ),
)


def moderated(scores: dict[str, float], flags: tuple[str, ...] = (), unseen: tuple[str, ...] = ()) -> Answer:
    """A moderation of one image, as the service sends it."""
    seen = [name for name in MODERATED[:6] if name not in unseen]
    result = {
        "flagged": bool(flags),
        "categories": {name: name in flags for name in MODERATED},
        "category_scores": {name: scores.get(name, 0.0) for name in MODERATED},
        "category_applied_input_types": {name: ["image"] if name in seen else [] for name in MODERATED},
    }
    return Answer({"id": "modr-1", "model": "omni-moderation-2024-09-26", "results": [result]})


def said(text: str | None, *, finish: str = "stop", refusal: str | None = None, tokens: dict[str, float] | None = None):
    """A chat completion; `tokens` are the log probabilities shown for its first token."""
    choice: dict[str, Any] = {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": text, "refusal": refusal},
    }
    if tokens is not None:
        shown = [{"token": token, "logprob": value, "bytes": None} for token, value in tokens.items()]
        choice["logprobs"] = {"content": [{"token": text, "logprob": 0.0, "bytes": None, "top_logprobs": shown}]}
    return Answer({"id": "c", "object": "chat.completion", "model": "m", "choices": [choice]})
