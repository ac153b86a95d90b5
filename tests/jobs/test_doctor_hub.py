"""How the model hub's answers are understood, from a server on this machine that answers as the hub does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from defsurvey.jobs import doctor as doctor


class _Hub(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # the library's name
        """Open, gated or absent, as the repository is called; anything else is a fault of the hub."""
        status, code = {
            "/api/models/here/open/auth-check": (200, ""),
            "/api/models/here/gated/auth-check": (403, "GatedRepo"),
            "/api/models/here/absent/auth-check": (404, "RepoNotFound"),
        }.get(self.path, (500, ""))
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub() -> Iterator[str]:
    """Address of a hub."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("repository", "answer"),
    [("here/open", ""), ("here/gated", "gated"), ("here/absent", "absent"), ("here/broken", "silent")],
)
def test_what_a_hub_answers(hub: str, repository: str, answer: str) -> None:
    """An agreement that is missing is not the same as a repository that is."""
    _token, ask = doctor._hub(hub)
    assert ask(repository) == answer


def test_a_hub_that_is_not_there() -> None:
    """Refused at once, and no traceback."""
    _token, ask = doctor._hub("http://127.0.0.1:1")
    assert ask("here/open") == "silent"
