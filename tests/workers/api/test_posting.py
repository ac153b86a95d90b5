"""How a request gets to a server, and whose reply it gets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.workers.api.conftest import Protocol, ask
from tests.workers.api.server import chat
from tests.workers.api.sockets import listening

PATIENCE = 20.0


def test_calls_at_once_have_a_connection_each(openai_protocol: Protocol) -> None:
    """No reply can get to another's request."""
    with openai_protocol.engine(lambda got, before: chat(got.prompt), concurrency=8) as (engine, _):
        asked = [str(number) for number in range(200)]
        replies = [engine.submit(ask(one)) for one in asked]
        assert [reply.result(PATIENCE).text for reply in replies] == asked


def test_nobody_there_is_said_as_such(protocol: Protocol) -> None:
    """A port that nobody listens to."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with protocol.engine_at(f"http://127.0.0.1:{port}", attempts=1) as engine:
        assert engine.submit(ask()).result(PATIENCE).error.startswith("the server was not reached: ConnectError: ")


@contextmanager
def announcing(*announced: int) -> Iterator[str]:
    """A server whose reply to a question names it, after replies with these statuses that announce it."""

    def talk(connection: socket.socket) -> None:
        with connection, suppress(OSError):  # the other end may have closed it
            while asked := connection.recv(65536):
                body = asked.partition(b"\r\n\r\n")[2] or connection.recv(65536)
                for status in announced:
                    connection.sendall(b"HTTP/1.1 %d Not yet\r\nlink: </style>\r\n\r\n" % status)
                    threading.Event().wait(0.02)
                reply = chat("second" if b"second" in body else "first").body.encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(reply), reply))

    with listening(talk) as address:
        yield address


@pytest.mark.parametrize("announced", [(102,), (103, 102, 103), (100, 102)])
def test_what_only_announces_a_reply_is_not_taken_for_it(openai_protocol: Protocol, announced: tuple[int, ...]) -> None:
    """The next call would get the reply to this one."""
    with announcing(*announced) as url, openai_protocol.engine_at(url, attempts=1, concurrency=1) as engine:
        for asked in ("first", "second"):
            assert engine.submit(ask(asked)).result(PATIENCE).text == asked
