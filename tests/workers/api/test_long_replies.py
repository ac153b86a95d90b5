"""A reply that is longer than any that is wanted is not read to its end, however it comes."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from defsurvey.workers.engines import posting
from defsurvey.workers.engines.base import FinishReason
from defsurvey.workers.engines.in_time import MOST_BYTES, TooLong
from defsurvey.workers.engines.posting import NOT_REACHED, open_post
from tests.workers.api.conftest import Protocol, ask
from tests.workers.api.sockets import listening

PATIENCE = 20.0
HEAD = "HTTP/1.1 %d Something\r\ncontent-type: application/json\r\n%s\r\n\r\n"
PIECE = b" " * (1 << 20)
#: As many of them as a reply may have at most, and far more.
MOST, PIECES = MOST_BYTES // len(PIECE), 3 * MOST_BYTES // len(PIECE)


@contextmanager
def long_winded(how: str, status: int = 200, pieces: int = PIECES) -> Iterator[tuple[str, list[int]]]:
    """A server whose reply has so many pieces, and how much of it was sent, each time."""
    sent: list[int] = []
    begins = {
        "of a length": HEAD % (status, f"content-length: {pieces * len(PIECE)}"),
        "in chunks": HEAD % (status, "transfer-encoding: chunked"),
        "until it closes": HEAD % (status, "connection: close"),
    }[how]
    chunk = b"%x\r\n%s\r\n" % (len(PIECE), PIECE) if how == "in chunks" else PIECE

    def talk(connection: socket.socket) -> None:
        sent.append(0)
        with connection, suppress(OSError):  # the other end gives up
            connection.recv(65536)
            connection.sendall(begins.encode())
            for _ in range(pieces):
                connection.sendall(chunk)
                sent[-1] += len(PIECE)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass  # until the other end has everything

    with listening(talk) as address:
        yield address, sent


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("how", ["of a length", "in chunks", "until it closes"])
def test_a_reply_that_is_too_long_fails_its_answer_at_once(protocol: Protocol, how: str, status: int) -> None:
    """Asked again it would be as long; what the server still has to say is not read."""
    with long_winded(how, status) as (url, sent), protocol.engine_at(url, attempts=3) as engine:
        completion = engine.submit(ask()).result(PATIENCE)
    assert completion.finish is FinishReason.ERROR
    assert completion.error == "the server's reply is longer than 16 MiB"
    assert len(sent) == 1
    assert sent[0] < PIECES * len(PIECE)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("around", [False, True])
def test_what_is_packed_counts_as_long_as_it_is_unpacked(
    monkeypatch: pytest.MonkeyPatch, around: bool, layers: int
) -> None:
    """A few kilobytes can be as many megabytes; way and number of layers do not matter."""
    monkeypatch.setattr(posting, "goes_straight", lambda url: not around)
    packed = PIECE * PIECES
    for _ in range(layers):
        packed = gzip.compress(packed)
    coding = ", ".join(["gzip"] * layers)
    head = HEAD % (200, f"content-encoding: {coding}\r\ncontent-length: {len(packed)}")

    def talk(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(head.encode() + packed)

    with listening(talk) as address:
        post = open_post(f"{address}/v1", headers={}, seconds=PATIENCE, at_once=1)
        if around:
            with pytest.raises(TooLong):
                post.send(b"{}")
        else:
            assert len(post.send(b"{}").text) <= len(packed)  # nothing is unpacked that was not asked for
        post.close()


@pytest.mark.parametrize("around", [False, True])
@pytest.mark.parametrize("how", ["of a length", "in chunks", "until it closes"])
def test_the_longest_that_is_read(monkeypatch: pytest.MonkeyPatch, around: bool, how: str) -> None:
    """Exactly so many bytes are a reply; one that breaks off is none."""
    monkeypatch.setattr(posting, "goes_straight", lambda url: not around)
    with long_winded(how, pieces=MOST) as (url, _):
        post = open_post(f"{url}/v1", headers={}, seconds=PATIENCE, at_once=1)
        if how == "in chunks":  # whose last is missing
            with pytest.raises(NOT_REACHED):
                post.send(b"{}")
        else:
            assert len(post.send(b"{}").text) == MOST_BYTES
        post.close()
