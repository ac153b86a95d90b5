"""Servers of which a test says every byte: they never end, say too much, or announce what never comes."""

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from defsurvey.workers.engines.base import FinishReason
from defsurvey.workers.engines.http import MOST_BYTES
from tests.workers.api.conftest import OPENAI, Protocol, ask
from tests.workers.api.server import chat

#: Seconds that something may take which is to happen.
PATIENCE = 20.0
CHUNKED = b"HTTP/1.1 %d Something\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
BLANK_LINE = b"1\r\n\n\r\n"
END = b"2\r\n{}\r\n0\r\n\r\n"


@contextmanager
def listening(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a server; ``talk`` has each connection to itself, in a thread of its own."""
    server = socket.create_server(("127.0.0.1", 0))

    def talk_to(connection: socket.socket) -> None:
        with connection, suppress(OSError):  # the other end gives up
            talk(connection)

    def listen() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=talk_to, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=listen, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.close()


@contextmanager
def trickling(begins: bytes, goes_on: bytes, *, times: int = 10_000) -> Iterator[tuple[str, list[float]]]:
    """A server whose reply begins, goes on every 0.05 s so many times and ends; and when it was called."""
    called: list[float] = []

    def talk(connection: socket.socket) -> None:
        called.append(time.monotonic())
        connection.recv(65536)
        connection.sendall(begins)
        for _ in range(times):
            connection.sendall(goes_on)
            time.sleep(0.05)
        connection.sendall(END)

    with listening(talk) as address:
        yield address, called


@pytest.mark.parametrize(
    ("begins", "goes_on"),
    [
        (CHUNKED % 200, BLANK_LINE),
        (CHUNKED % 500, BLANK_LINE),
        (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nx: ", b"K"),
    ],
    ids=["success", "error", "announced", "head"],
)
def test_a_reply_that_never_ends_is_given_up_after_all_attempts(
    protocol: Protocol, begins: bytes, goes_on: bytes
) -> None:
    with (
        trickling(begins, goes_on) as (url, called),
        protocol.engine_at(url, timeout_seconds=0.2, attempts=2) as engine,
    ):
        began = time.monotonic()
        completion = engine.submit(ask()).result(PATIENCE)
        assert 0.4 <= time.monotonic() - began < 3.0
    assert completion.finish is FinishReason.ERROR
    assert completion.error.startswith("the server was not reached: ")
    assert completion.error.endswith(" (asked 2 times)")
    assert len(called) == 2


def test_a_reply_that_comes_slowly_is_read_to_its_end(protocol: Protocol) -> None:
    with trickling(CHUNKED % 200, BLANK_LINE, times=4) as (url, _), protocol.engine_at(url, attempts=1) as engine:
        assert engine.submit(ask()).result(PATIENCE).error.startswith("the server's reply is no ")


PACKED = gzip.compress(gzip.compress(b" " * (MOST_BYTES + 1)))


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (f"200 OK\r\ncontent-length: {3 * MOST_BYTES}", b" " * 3 * MOST_BYTES),
        ("500 Something\r\nconnection: close", b" " * 3 * MOST_BYTES),
        (f"200 OK\r\ncontent-encoding: gzip, gzip\r\ncontent-length: {len(PACKED)}", PACKED),
    ],
    ids=["of a length", "until it closes", "packed"],
)
def test_a_reply_that_is_too_long_fails_its_answer_at_once(protocol: Protocol, head: str, body: bytes) -> None:
    called: list[int] = []

    def talk(connection: socket.socket) -> None:
        called.append(1)
        connection.recv(65536)
        connection.sendall(f"HTTP/1.1 {head}\r\n\r\n".encode() + body)

    with listening(talk) as url, protocol.engine_at(url, attempts=3) as engine:
        completion = engine.submit(ask()).result(PATIENCE)
    assert completion.error == "the server's reply is longer than 16 MiB"
    assert len(called) == 1


def test_what_only_announces_a_reply_is_not_taken_for_it() -> None:
    def talk(connection: socket.socket) -> None:
        while asked := connection.recv(65536):
            body = asked.partition(b"\r\n\r\n")[2] or connection.recv(65536)
            for status in (100, 103, 102):
                connection.sendall(b"HTTP/1.1 %d Not yet\r\nlink: </style>\r\n\r\n" % status)
                time.sleep(0.02)
            reply = chat("second" if b"second" in body else "first").body.encode()
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(reply), reply))

    with listening(talk) as url, OPENAI.engine_at(url, attempts=1, concurrency=1) as engine:
        for asked in ("first", "second"):
            assert engine.submit(ask(asked)).result(PATIENCE).text == asked


def test_what_a_server_says_before_it_has_read_all_is_heard(protocol: Protocol) -> None:
    def talk(connection: socket.socket) -> None:
        connection.sendall(b'HTTP/1.1 413 Too Large\r\ncontent-length: 24\r\n\r\n{"error":"far too long"}')

    with listening(talk) as url, protocol.engine_at(url, attempts=1) as engine:
        assert "far too long" in engine.submit(ask("How? " * 2_000_000)).result(PATIENCE).error
