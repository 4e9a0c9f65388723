"""A local HTTP server that behaves like a detection service: a script of answers, one a request, or one per image."""

from __future__ import annotations

import email
import email.policy
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit


class Answer(NamedTuple):
    """What one request gets.

    Attributes:
        cut: bytes of the body after which the connection is closed, though more were announced.
        slow: seconds before the body.
        trickle: seconds between the bytes of the body.
    """

    body: Any
    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({})
    cut: int | None = None
    slow: float = 0.0
    trickle: float = 0.0


class Asked(NamedTuple):
    """One request that came in."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    data: bytes
    at: float

    @property
    def json(self) -> Any:
        return json.loads(self.data)

    @property
    def parts(self) -> dict[str, tuple[str | None, bytes]]:
        """Of a multipart form: file name and bytes by field."""
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
        message = email.message_from_bytes(head + self.data, policy=email.policy.HTTP)
        return {
            part.get_param("name", header="content-disposition"): (part.get_filename(), part.get_payload(decode=True))
            for part in message.iter_parts()
        }


Script = list[Answer] | Callable[[Asked], Answer]


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Clients that do not wait are part of the tests."""


class Service:
    """The running server.

    Attributes:
        script: answers still to give, the last one repeated; or a function of the request.
        asked: requests, in order.
        most: requests that were under way together at most.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[Asked] = []
        self.most = self._now = 0
        self._lock = threading.Lock()
        self._server = Server(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/classify"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                address = urlsplit(self.path)
                query = parse_qs(address.query)
                asked = Asked(self.command, address.path, query, headers, data, time.monotonic())
                answer = service.next(asked)
                try:
                    self.give(answer)
                except OSError:  # the client did not wait
                    self.close_connection = True
                finally:
                    service.done()

            do_GET = do_PUT = do_POST

            def give(self, answer: Answer) -> None:
                body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
                self.send_response(answer.status)
                for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.flush()
                time.sleep(answer.slow)
                if answer.trickle:
                    for at in range(len(body)):
                        self.wfile.write(body[at : at + 1])
                        self.wfile.flush()
                        time.sleep(answer.trickle)
                else:
                    self.wfile.write(body if answer.cut is None else body[: answer.cut])
                if answer.cut is not None:
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                """Tests read `asked`."""

        return Handler

    def next(self, asked: Asked) -> Answer:
        with self._lock:
            self.asked.append(asked)
            self._now += 1
            self.most = max(self.most, self._now)
            if not callable(self.script):
                return self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return self.script(asked)

    def done(self) -> None:
        with self._lock:
            self._now -= 1

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def serving(*script: Answer | Callable[[Asked], Answer]) -> Iterator[Service]:
    """A service that runs inside the block."""
    service = Service(script[0] if callable(script[0]) else list(script))  # type: ignore[arg-type]
    service.start()
    try:
        yield service
    finally:
        service.stop()


def said(probability: float, **more: Any) -> Answer:
    """An answer in the shape of Illuminarty's."""
    return Answer({"status": "success", "data": {"probability": probability}, **more})


def error(status: int, message: str = "no", **headers: str) -> Answer:
    """An error; header names are written with underscores."""
    return Answer({"error": message}, status, {name.replace("_", "-"): value for name, value in headers.items()})
