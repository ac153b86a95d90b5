"""Posts to one address over connections that are kept, and gives back whatever comes."""

from __future__ import annotations

import io
import select
import socket
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

from defsurvey.workers.engines.in_time import LATE, MOST_BYTES, InTime, TooLong

#: Seconds until a connection stands.
CONNECT_SECONDS = 10.0
#: Seconds for which a connection that nobody uses is kept: servers close theirs, and the next call would meet that.
KEPT_SECONDS = 5.0
#: Bytes of a reply of unknown length that are read in one go.
_PIECE = 1 << 16
#: What is raised where no reply comes, or not all of it.
NOT_REACHED = (httpx2.HTTPError, HTTPException, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]  #: finds names in lower case
    text: str

    @property
    def succeeded(self) -> bool:
        """Whether the status says so."""
        return 200 <= self.status < 300


class Post(Protocol):
    """Posts to one address. Safe to use from any thread."""

    def send(self, body: bytes) -> Reply:
        """Post JSON once.

        Raises:
            TooLong: the reply has more than ``MOST_BYTES``.
            Exception: one of ``NOT_REACHED``, also where the reply is not there in time.
        """
        ...

    def close(self) -> None:
        """Close the connections; nothing is sent any more."""
        ...


def open_post(url: str, *, headers: Mapping[str, str], seconds: float, at_once: int) -> Post:
    """The shortest way to an address.

    Args:
        url: what is posted to.
        headers: sent with everything.
        seconds: until all of a reply has to be there, however it comes.
        at_once: most calls under way together.
    """
    told = {"accept": "application/json", "content-type": "application/json", "user-agent": "defsurvey", **headers}
    return _Straight(url, told, seconds) if goes_straight(url) else _Around(url, told, seconds, at_once)


def goes_straight(url: str) -> bool:
    """Whether nothing is between here and an address: neither TLS nor a password nor a proxy of the environment."""
    address = urlsplit(url)
    if address.scheme != "http" or not address.hostname or address.username is not None:
        return False
    proxies = getproxies()
    return not ({"http", "all"} & proxies.keys()) or bool(proxy_bypass(address.hostname))


class _Straight:
    """By the standard library; each call has a connection of its own for as long as it lasts."""

    def __init__(self, url: str, headers: Mapping[str, str], seconds: float) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        self._host, self._port = address.hostname, address.port
        self._target = f"{address.path}?{address.query}" if address.query else address.path
        self._headers = headers
        self._seconds = seconds
        self._idle: deque[tuple[_Connection, float]] = deque()  # and since when; its ends are safe in any thread

    def send(self, body: bytes) -> Reply:
        """Post once; see ``Post``."""
        until = time.monotonic() + self._seconds
        connection = self._connection()
        try:
            connection.sock.settimeout(_left(until))
            connection.request("POST", self._target, body, self._headers)
            response = connection.getresponse_until(until)
            text = _whole(response).decode("utf-8", "replace")
        except BaseException:
            connection.close()
            raise
        if response.will_close or response.status < 200:  # what follows an announcement is nobody else's reply
            connection.close()
        else:
            self._idle.append((connection, time.monotonic()))
        told = {name.lower(): value for name, value in response.headers.items()}
        return Reply(status=response.status, headers=told, text=text)

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop()[0].close()

    def _connection(self) -> _Connection:
        while True:
            try:
                connection, since = self._idle.pop()
            except IndexError:
                return self._connected()
            if time.monotonic() - since < KEPT_SECONDS and not _ended(connection):
                return connection
            connection.close()

    def _connected(self) -> _Connection:
        connection = _Connection(self._host, self._port, timeout=min(CONNECT_SECONDS, self._seconds))
        connection.connect()
        return connection


def _whole(response: HTTPResponse) -> bytes:
    """All of a body; raises TooLong, having read no more than may be."""
    if response.length is not None:
        if response.length > MOST_BYTES:
            raise TooLong
        return response.read()
    body = bytearray()
    while piece := response.read(_PIECE):
        body += piece
        if len(body) > MOST_BYTES:
            raise TooLong
    return bytes(body)


def _left(until: float) -> float:
    """Seconds until then; raises TimeoutError where there are none."""
    seconds = until - time.monotonic()
    if seconds <= 0:
        raise TimeoutError(LATE)
    return seconds


class _Connection(HTTPConnection):
    """A connection on which a reply has to be there by some moment; its own timeout is for a single read."""

    def getresponse_until(self, until: float) -> HTTPResponse:
        """The response, each of whose reads waits no longer than until then."""
        self.response_class = partial(_Response, until)  # type: ignore[assignment]  # whatever makes one will do
        return self.getresponse()


class _Response(HTTPResponse):
    """A response that is read until some moment, head and body."""

    def __init__(self, until: float, sock: socket.socket, *options: Any, **named: Any) -> None:
        super().__init__(sock, *options, **named)
        self.fp = io.BufferedReader(_Reads(self.fp.detach(), sock, until))

    def begin(self) -> None:
        """Read the head of the reply, past all that only announce it (RFC 9110, 15.2); the library knows 100 alone."""
        super().begin()
        while self.status < 200 and self.status != HTTPStatus.SWITCHING_PROTOCOLS:
            self.headers = self.msg = None  # type: ignore[assignment]  # as before anything was read
            super().begin()


class _Reads(io.RawIOBase):
    """What comes on a socket until some moment."""

    def __init__(self, comes: io.RawIOBase, sock: socket.socket, until: float) -> None:
        self._comes, self._sock, self._until = comes, sock, until

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, into: Any) -> int | None:
        """As much as is there; raises TimeoutError where nothing comes in time."""
        self._sock.settimeout(_left(self._until))
        return self._comes.readinto(into)

    def close(self) -> None:
        """Let the socket go."""
        self._comes.close()
        super().close()


def _ended(connection: HTTPConnection) -> bool:
    """Whether the server has closed an idle connection: unasked, it has nothing else to say."""
    look = select.poll()
    look.register(connection.sock, select.POLLIN)
    return bool(look.poll(0))


class _Around:
    """By httpx2, which knows TLS, proxies and passwords."""

    def __init__(self, url: str, headers: Mapping[str, str], seconds: float, at_once: int) -> None:
        self._url = url
        self._client = InTime(
            headers=headers,
            timeout=httpx2.Timeout(seconds, connect=CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=at_once),
        )
        self._client.seconds = seconds

    def send(self, body: bytes) -> Reply:
        """Post once; see ``Post``."""
        response = self._client.post(self._url, content=body)
        return Reply(status=response.status_code, headers=response.headers, text=response.text)

    def close(self) -> None:
        """Close the client."""
        self._client.close()
