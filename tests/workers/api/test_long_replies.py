"""A reply that is longer than any that is wanted is not read to its end, however it comes."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx2
import pytest

from defsurvey.workers.engines.base import FinishReason
from defsurvey.workers.engines.http import MOST_BYTES, Client, TooLong
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
def test_what_is_packed_counts_as_long_as_it_is_unpacked(client: Client, layers: int) -> None:
    """A few kilobytes can be as many megabytes; the number of layers does not matter."""
    packed = PIECE * PIECES
    for _ in range(layers):
        packed = gzip.compress(packed)
    coding = ", ".join(["gzip"] * layers)
    head = HEAD % (200, f"content-encoding: {coding}\r\ncontent-length: {len(packed)}")

    def talk(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(head.encode() + packed)

    client.seconds = PATIENCE
    with listening(talk) as address, pytest.raises(TooLong):
        client.post(address)


@pytest.mark.parametrize("how", ["of a length", "in chunks", "until it closes"])
def test_the_longest_that_is_read(client: Client, how: str) -> None:
    """Exactly so many bytes are a reply; one that breaks off is none."""
    client.seconds = PATIENCE
    with long_winded(how, pieces=MOST) as (url, _):
        if how == "in chunks":  # whose last is missing
            with pytest.raises(httpx2.HTTPError):
                client.post(url)
        else:
            assert len(client.post(url).text) == MOST_BYTES
