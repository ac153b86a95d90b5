"""Servers of which a test says every byte: they never end, say too much, or announce what never comes."""

from __future__ import annotations

import gzip
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx2
import pytest

from defsurvey.workers.engines.base import FinishReason
from defsurvey.workers.engines.http import MOST_BYTES, Client, TooLong
from tests.workers.api.conftest import Protocol, ask
from tests.workers.api.server import chat
from tests.workers.api.sockets import listening

#: Seconds that something may take which is to happen.
PATIENCE = 20.0
CHUNKED = b"HTTP/1.1 %d Something\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
BLANK_LINE = b"1\r\n\n\r\n"
END = b"2\r\n{}\r\n0\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
PIECE = b" " * (1 << 20)


@contextmanager
def trickling(
    begins: bytes, goes_on: bytes, *, times: int = 10_000, ends: bytes = END
) -> Iterator[tuple[str, list[float]]]:
    """A server whose reply begins, goes on every 0.05 s so many times and ends; and when it was called."""
    called: list[float] = []

    def talk(connection: socket.socket) -> None:
        called.append(time.monotonic())
        with connection, suppress(OSError):  # the other end gives up
            connection.recv(65536)
            connection.sendall(begins)
            for _ in range(times):
                connection.sendall(goes_on)
                time.sleep(0.05)
            connection.sendall(ends)

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
    """A blank line now and then is no reply, be it to be a success or an error; nor is a head that goes on."""
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


def test_a_reply_that_comes_after_all_leaves_no_connection_behind(client: Client) -> None:
    """Only one call may be under way here, and the next one has its connection."""
    with trickling(b"", b"HTTP/1.1 102 Processing\r\n\r\n", times=12, ends=WHOLE) as (url, called):
        for _ in range(2):
            with pytest.raises(httpx2.ReadTimeout):
                client.post(url)
            time.sleep(0.4)
        assert len(called) == 2


def test_a_reply_that_comes_slowly_is_read_to_its_end(protocol: Protocol, client: Client) -> None:
    """As long as it is there in time; whoever streams a reply, as the results of a batch, may take longer."""
    with trickling(CHUNKED % 200, BLANK_LINE, times=4) as (url, _):
        with protocol.engine_at(url, timeout_seconds=5.0, attempts=1) as engine:
            assert engine.submit(ask()).result(PATIENCE).error.startswith("the server's reply is no ")
        client.seconds = 0.1
        with client.stream("POST", url) as response:
            assert response.read() == b"\n\n\n\n{}"


@contextmanager
def long_winded(how: str, status: int, pieces: int) -> Iterator[tuple[str, list[int]]]:
    """A server whose reply has so many megabytes, and how much of it was sent, each time."""
    sent: list[int] = []
    framing = {
        "of a length": f"content-length: {pieces * len(PIECE)}",
        "in chunks": "transfer-encoding: chunked",
        "until it closes": "connection: close",
    }[how]
    chunk = b"%x\r\n%s\r\n" % (len(PIECE), PIECE) if how == "in chunks" else PIECE

    def talk(connection: socket.socket) -> None:
        sent.append(0)
        with connection, suppress(OSError):  # the other end gives up
            connection.recv(65536)
            connection.sendall(f"HTTP/1.1 {status} Something\r\n{framing}\r\n\r\n".encode())
            for _ in range(pieces):
                connection.sendall(chunk)
                sent[-1] += len(PIECE)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass  # until the other end has everything

    with listening(talk) as address:
        yield address, sent


@pytest.mark.parametrize(("how", "status"), [("of a length", 200), ("in chunks", 200), ("until it closes", 500)])
def test_a_reply_that_is_too_long_fails_its_answer_at_once(protocol: Protocol, how: str, status: int) -> None:
    """Asked again it would be as long; what the server still has to say is not read."""
    pieces = 3 * MOST_BYTES // len(PIECE)
    with long_winded(how, status, pieces) as (url, sent), protocol.engine_at(url, attempts=3) as engine:
        completion = engine.submit(ask()).result(PATIENCE)
    assert completion.error == "the server's reply is longer than 16 MiB"
    assert len(sent) == 1
    assert sent[0] < pieces * len(PIECE)


def test_the_longest_that_is_read_counts_as_long_as_it_is_unpacked(client: Client) -> None:
    """Exactly so many bytes are a reply; a few packed kilobytes can be as many megabytes, and are none."""
    client.seconds = PATIENCE
    with long_winded("of a length", 200, MOST_BYTES // len(PIECE)) as (url, _):
        assert len(client.post(url).text) == MOST_BYTES
    packed = gzip.compress(gzip.compress(b" " * (MOST_BYTES + 1)))
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: gzip, gzip\r\ncontent-length: {len(packed)}\r\n\r\n"

    def talk(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(head.encode() + packed)

    with listening(talk) as address, pytest.raises(TooLong):
        client.post(address)


@pytest.mark.parametrize("announced", [(102,), (100, 103, 102)])
def test_what_only_announces_a_reply_is_not_taken_for_it(openai_protocol: Protocol, announced: tuple[int, ...]) -> None:
    """The next call would get the reply to this one."""

    def talk(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while asked := connection.recv(65536):
                body = asked.partition(b"\r\n\r\n")[2] or connection.recv(65536)
                for status in announced:
                    connection.sendall(b"HTTP/1.1 %d Not yet\r\nlink: </style>\r\n\r\n" % status)
                    time.sleep(0.02)
                reply = chat("second" if b"second" in body else "first").body.encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(reply), reply))

    with listening(talk) as url, openai_protocol.engine_at(url, attempts=1, concurrency=1) as engine:
        for asked in ("first", "second"):
            assert engine.submit(ask(asked)).result(PATIENCE).text == asked
