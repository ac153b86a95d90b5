"""A client by httpx2 that waits for a reply as long as it may take, and reads as much of it as it may have."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from typing import Any

import httpx2

#: What is said of a reply that is given up.
LATE = "the reply was not there in time"
#: Bytes that are read of a reply, counted as they are once unpacked: a thousand times what any answer has.
MOST_BYTES = 16 << 20


class TooLong(RuntimeError):
    """A reply is longer than ``MOST_BYTES``; it would be again."""

    def __init__(self) -> None:
        super().__init__(f"the server's reply is longer than {MOST_BYTES >> 20} MiB")


class InTime(httpx2.Client):
    """A client that waits for the whole of a reply no longer than its seconds; its own timeouts are for a single read.

    Nor does it read more than ``MOST_BYTES`` of one. Whoever streams a reply may take as much of it, and as long, as
    comes.
    """

    seconds: float = 300.0

    def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        """Send once; raises ``httpx2.ReadTimeout`` where the reply is not there in time, or TooLong.

        On a thread of its own, which is left to itself then: nothing else of the client's bounds how long a head may
        come, and it does not say on which connection. That one is given up as soon as the head is there.
        """
        send = super().send
        if stream:
            return send(request, stream=True, **options)
        until = time.monotonic() + self.seconds
        replied: Future[httpx2.Response] = Future()

        def ask() -> None:
            try:
                replied.set_result(_read_until(until, send(request, stream=True, **options)))
            except BaseException as error:  # noqa: BLE001 -- whoever waits is told
                replied.set_exception(error)

        threading.Thread(target=ask, name="post", daemon=True).start()
        if not wait([replied], self.seconds).done:
            raise httpx2.ReadTimeout(LATE, request=request)
        return replied.result()


def _read_until(until: float, response: httpx2.Response) -> httpx2.Response:
    """A response of which all is read, unpacked.

    Raises:
        httpx2.ReadTimeout: it is not there until then; it is closed.
        TooLong: it is longer than any may be; it is closed, and no more of it was unpacked.
    """
    assert isinstance(response.stream, httpx2.SyncByteStream)
    response.stream = _Parts(response.stream, until)
    body = bytearray()
    try:
        for part in response.iter_bytes():
            body += part
            if len(body) > MOST_BYTES:
                raise TooLong
    except BaseException:
        response.close()
        raise
    response._content = bytes(body)  # as its own ``read`` does, which knows no limit
    return response


class _Parts(httpx2.SyncByteStream):
    """The parts of a reply that come until some moment."""

    def __init__(self, parts: httpx2.SyncByteStream, until: float) -> None:
        self._parts, self._until = parts, until

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            yield part
            if time.monotonic() > self._until:
                raise httpx2.ReadTimeout(LATE)

    def close(self) -> None:
        """Take no more."""
        self._parts.close()
