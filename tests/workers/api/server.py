"""A local server that speaks the protocols of Anthropic and OpenAI, and goes wrong in every way on demand.

It answers what a test's function says, notes every request it got, and how many were under way at once.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANTHROPIC_PATH = "/v1/messages"
OPENAI_PATH = "/v1/chat/completions"


@dataclass(frozen=True, kw_only=True)
class Reply:
    status: int = 200
    body: str = "{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0  #: before the first byte
    cut: bool = False  #: the connection ends in the middle of the body


@dataclass(frozen=True, kw_only=True)
class Got:
    path: str
    headers: Mapping[str, str]  #: names in lower case
    body: Any
    at: float  #: monotonic seconds

    @property
    def prompt(self) -> str:
        """The last user turn, by which tests tell requests apart."""
        return str([turn["content"] for turn in self.body["messages"] if turn["role"] == "user"][-1])


Behaviour = Callable[[Got, int], Reply]  #: a request, and how many with the same prompt came before it


def message(text: str = "Answer: 1", *, stop: str = "end_turn", prompt: int = 20, completion: int = 5) -> Reply:
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "some-model",
        "stop_sequence": None,
        "content": [{"type": "text", "text": text}],
        "stop_reason": stop,
        "usage": {"input_tokens": prompt, "output_tokens": completion},
    }
    return Reply(body=json.dumps(body))


def chat(text: str | None = "Answer: 1", *, finish: str = "stop", **extra: object) -> Reply:
    """A chat completion as OpenAI and its like send it; ``extra`` goes into its message."""
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "some-model",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text, **extra}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25},
    }
    return Reply(body=json.dumps(body))


def error(status: int, text: str = "it went wrong", *, code: str = "", **headers: str) -> Reply:
    """An error as both providers send it; a header ``retry_after`` is sent as ``retry-after``."""
    body = {"type": "error", "error": {"type": "some_error", "message": text, "code": code or None}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=status, body=json.dumps(body), headers=named)


CUT = Reply(cut=True)


class LocalServer:
    """The server; ``behave`` may be changed while it runs."""

    def __init__(self, behave: Behaviour) -> None:
        self.behave = behave
        self.got: list[Got] = []
        self.succeeded: Counter[str] = Counter()  #: prompt -> how often it was answered well
        self.asked: Counter[str] = Counter()  #: prompt -> how often it came
        self.after_success: Counter[str] = Counter()  #: prompt -> how often it came although it had been answered well
        self.most_at_once = 0
        self.at_once = 0
        self.lock = threading.Lock()
        self.server = _Server(("127.0.0.1", 0), _Exchange)
        self.server.local = self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def take(self, got: Got) -> Reply:
        with self.lock:
            before = self.asked[got.prompt]
            self.got.append(got)
            self.asked[got.prompt] += 1
            if self.succeeded[got.prompt]:
                self.after_success[got.prompt] += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            reply = self.behave(got, before)
            if reply.seconds:
                time.sleep(reply.seconds)
        finally:
            with self.lock:
                self.at_once -= 1
        if reply.status == 200 and not reply.cut:
            with self.lock:
                self.succeeded[got.prompt] += 1
        return reply


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    local: LocalServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the tests."""


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        got = Got(path=self.path, headers=headers, body=body, at=time.monotonic())
        reply = self.server.local.take(got)
        payload = reply.body.encode()
        self.send_response(reply.status)
        for name, value in {"content-type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(payload) + (10 if reply.cut else 0)))
        self.end_headers()
        self.wfile.write(payload)
        self.wfile.flush()
        if reply.cut:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(behave: Behaviour) -> Iterator[LocalServer]:
    local = LocalServer(behave)
    thread = threading.Thread(target=local.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield local
    finally:
        local.server.shutdown()
        local.server.server_close()
        thread.join()
