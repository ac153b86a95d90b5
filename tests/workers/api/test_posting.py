"""How a request gets to a server, and what becomes of connections."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest

from defsurvey.workers.engines import posting
from defsurvey.workers.engines.posting import NOT_REACHED, goes_straight, open_post
from tests.workers.api.server import OPENAI_PATH, chat, serving
from tests.workers.api.sockets import listening

ASKED = b'{"messages": [{"role": "user", "content": "How?"}]}'


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has, these tests begin without."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("url", "straight"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://model-server/v1", True),
        ("https://api.openai.com/v1", False),
        ("http://me:secret@model-server/v1", False),
    ],
)
def test_only_plain_http_goes_straight(url: str, straight: bool) -> None:
    """TLS and passwords are left to who knows them."""
    assert goes_straight(url) is straight


def test_a_proxy_of_the_environment_is_not_gone_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the hosts that it is not for."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    assert not goes_straight("http://model-server/v1")
    assert goes_straight("http://127.0.0.1:8000/v1")
    monkeypatch.delenv("HTTP_PROXY")
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy:1080")
    assert not goes_straight("http://model-server/v1")


@contextmanager
def counted(*, says_close: bool = False, hangs_up: bool = False) -> Iterator[tuple[str, list[socket.socket]]]:
    """A server that answers everything, and the connections that it was called on."""
    called: list[socket.socket] = []
    close = "connection: close\r\n" if says_close else ""
    answer = f"HTTP/1.1 200 OK\r\n{close}content-length: 2\r\n\r\n{{}}".encode()

    def talk(connection: socket.socket) -> None:
        called.append(connection)
        with connection, suppress(ConnectionResetError):  # which is one way for a client to hang up
            received = b""
            while piece := connection.recv(65536):
                received += piece
                if not received.endswith(b"\r\n\r\n{}"):
                    continue  # the head and the body of a request may come one after the other
                received = b""
                connection.sendall(answer)
                if says_close or hangs_up:
                    return

    with listening(talk) as address:
        yield f"{address}/v1", called


def test_a_connection_is_kept_for_the_next_call() -> None:
    """And no longer than servers keep theirs."""
    with counted() as (url, called):
        post = open_post(url, headers={}, seconds=5.0, at_once=4)
        for _ in range(3):
            assert post.send(b"{}").text == "{}"
        assert len(called) == 1
        post.close()


def test_a_connection_that_nobody_used_for_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server may be about to close it."""
    monkeypatch.setattr(posting, "KEPT_SECONDS", 0.0)
    with counted() as (url, called):
        post = open_post(url, headers={}, seconds=5.0, at_once=4)
        post.send(b"{}")
        post.send(b"{}")
        assert len(called) == 2
        post.close()


@pytest.mark.parametrize("how", ["says_close", "hangs_up"])
def test_a_connection_that_the_server_closed_is_not_used_again(how: str) -> None:
    """Whether or not it said so."""
    with counted(**{how: True}) as (url, called):
        post = open_post(url, headers={}, seconds=5.0, at_once=4)
        for _ in range(3):
            assert post.send(b"{}").succeeded
            threading.Event().wait(0.05)  # the server's end of it arrives
        assert len(called) == 3
        post.close()


def test_calls_at_once_have_a_connection_each() -> None:
    """No reply can get to another's request."""
    with serving(lambda got, before: chat(got.prompt)) as server, ThreadPoolExecutor(8) as pool:
        post = open_post(f"{server.url}{OPENAI_PATH}", headers={}, seconds=20.0, at_once=8)
        asked = [str(number) for number in range(200)]
        bodies = [ASKED.replace(b"How?", one.encode()) for one in asked]
        replies = list(pool.map(post.send, bodies))
        assert [f'"content": "{one}"' in reply.text for one, reply in zip(asked, replies, strict=True)] == [True] * 200
        post.close()


def test_nobody_there_is_said_as_such() -> None:
    """A port that nobody listens to."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(NOT_REACHED):
        open_post(f"http://127.0.0.1:{port}/v1", headers={}, seconds=1.0, at_once=1).send(b"{}")


@contextmanager
def announcing(*announced: int) -> Iterator[str]:
    """A server that gives each request back, after replies with these statuses that announce it."""

    def talk(connection: socket.socket) -> None:
        with connection, suppress(OSError):  # the other end may have closed it
            while asked := connection.recv(65536):
                body = asked.partition(b"\r\n\r\n")[2] or connection.recv(65536)
                for status in announced:
                    connection.sendall(b"HTTP/1.1 %d Not yet\r\nlink: </style>\r\n\r\n" % status)
                    threading.Event().wait(0.02)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))

    with listening(talk) as address:
        yield f"{address}/v1"


@pytest.mark.parametrize("announced", [(102,), (103, 102, 103), (100, 102)])
def test_what_only_announces_a_reply_is_not_taken_for_it(announced: tuple[int, ...]) -> None:
    """The next call would get the reply to this one."""
    with announcing(*announced) as url:
        post = open_post(url, headers={}, seconds=5.0, at_once=1)
        for asked in ("first", "second"):
            reply = post.send(asked.encode())
            assert (reply.status, reply.text, dict(reply.headers)) == (200, asked, {"content-length": str(len(asked))})
        post.close()


def test_a_connection_that_changed_its_protocol_is_not_used_again() -> None:
    """Nobody asked for another one, and what follows is no reply of this one."""
    with announcing(101) as url:
        post = open_post(url, headers={}, seconds=5.0, at_once=1)
        assert [post.send(b"{}").status for _ in range(2)] == [101, 101]
        post.close()
