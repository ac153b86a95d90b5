"""A server that never comes to an end is given up in time."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from defsurvey.workers.engines.base import FinishReason
from defsurvey.workers.engines.http import Client
from tests.workers.api.conftest import Protocol, ask
from tests.workers.api.sockets import listening

#: Seconds that something may take which is to happen.
PATIENCE = 20.0
HEAD = b"HTTP/1.1 %d Something\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
BLANK_LINE = b"1\r\n\n\r\n"
END = b"2\r\n{}\r\n0\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@contextmanager
def trickling(
    begins: bytes, goes_on: bytes, *, times: int = 10_000, ends: bytes = END
) -> Iterator[tuple[str, list[float]]]:
    """A server whose reply begins, goes on every 0.05 s so many times and ends; and when it was called."""
    called: list[float] = []

    def talk(connection: socket.socket) -> None:
        called.append(time.monotonic())
        with connection:
            try:
                connection.recv(65536)
                connection.sendall(begins)
                for _ in range(times):
                    connection.sendall(goes_on)
                    time.sleep(0.05)
                connection.sendall(ends)
            except OSError:
                return  # the other end has given up

    with listening(talk) as address:
        yield address, called


@pytest.mark.parametrize("status", [200, 500])
def test_a_reply_that_never_ends_is_given_up_after_all_attempts(protocol: Protocol, status: int) -> None:
    """A blank line now and then is no reply, be it to be a success or an error."""
    with (
        trickling(HEAD % status, BLANK_LINE) as (url, called),
        protocol.engine_at(url, timeout_seconds=0.2, attempts=2) as engine,
    ):
        began = time.monotonic()
        completion = engine.submit(ask()).result(PATIENCE)
        assert 0.4 <= time.monotonic() - began < 3.0
    assert completion.finish is FinishReason.ERROR
    assert completion.error.startswith("the server was not reached: ")
    assert completion.error.endswith(" (asked 2 times)")
    assert len(called) == 2


ENDLESS_HEADS = pytest.mark.parametrize(
    ("begins", "goes_on"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nx: ", b"K"),
    ],
)


@ENDLESS_HEADS
def test_a_head_that_never_ends_costs_one_attempt_each_time(protocol: Protocol, begins: bytes, goes_on: bytes) -> None:
    """Whichever provider's server it is."""
    with (
        trickling(begins, goes_on) as (url, called),
        protocol.engine_at(url, timeout_seconds=0.2, attempts=2) as engine,
    ):
        began = time.monotonic()
        completion = engine.submit(ask()).result(PATIENCE)
        assert 0.4 <= time.monotonic() - began < 3.0
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


def test_a_reply_that_comes_slowly_is_read_to_its_end(protocol: Protocol) -> None:
    """As long as it is there in time."""
    with (
        trickling(HEAD % 200, BLANK_LINE, times=4) as (url, _),
        protocol.engine_at(url, timeout_seconds=5.0, attempts=1) as engine,
    ):
        completion = engine.submit(ask()).result(PATIENCE)
    assert completion.error.startswith("the server's reply is no ")


def test_whoever_streams_a_reply_may_take_longer(client: Client) -> None:
    """The results of a batch come for as long as they come."""
    with trickling(HEAD % 200, BLANK_LINE, times=4) as (url, _):
        client.seconds = 0.1
        with client.stream("POST", url) as response:
            assert response.read() == b"\n\n\n\n{}"
