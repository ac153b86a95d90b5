"""Posts to one address over connections that are kept, and gives back whatever comes.

Knows two ways: straight to a server on plain HTTP by the standard library, since with a server next door the client is
what takes time (0.1 ms a call, by httpx2 0.4), and by httpx2 wherever TLS, a proxy or a password is in between.
Deliberately reads nothing of what it carries and asks for nothing twice.
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

#: Seconds until a connection stands.
CONNECT_SECONDS = 10.0
#: Seconds for which a connection that nobody uses is kept: servers close theirs, and the next call would meet that.
KEPT_SECONDS = 5.0
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
        """Post JSON once; raises one of ``NOT_REACHED``."""
        ...

    def close(self) -> None:
        """Close the connections; nothing is sent any more."""
        ...


def open_post(url: str, *, headers: Mapping[str, str], seconds: float, at_once: int) -> Post:
    """The shortest way to an address.

    Args:
        url: what is posted to.
        headers: sent with everything.
        seconds: to wait for each further part of a reply.
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
        self._idle: deque[tuple[HTTPConnection, float]] = deque()  # and since when; its ends are safe in any thread

    def send(self, body: bytes) -> Reply:
        """Post once; see ``Post``."""
        connection = self._connection()
        try:
            connection.request("POST", self._target, body, self._headers)
            response = connection.getresponse()
            text = response.read().decode("utf-8", "replace")
        except BaseException:
            connection.close()
            raise
        if response.will_close:
            connection.close()
        else:
            self._idle.append((connection, time.monotonic()))
        told = {name.lower(): value for name, value in response.headers.items()}
        return Reply(status=response.status, headers=told, text=text)

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop()[0].close()

    def _connection(self) -> HTTPConnection:
        while True:
            try:
                connection, since = self._idle.pop()
            except IndexError:
                return self._connected()
            if time.monotonic() - since < KEPT_SECONDS and not _ended(connection):
                return connection
            connection.close()

    def _connected(self) -> HTTPConnection:
        connection = HTTPConnection(self._host, self._port, timeout=CONNECT_SECONDS)
        connection.connect()
        connection.sock.settimeout(self._seconds)
        return connection


def _ended(connection: HTTPConnection) -> bool:
    """Whether the server has closed an idle connection: unasked, it has nothing else to say."""
    look = select.poll()
    look.register(connection.sock, select.POLLIN)
    return bool(look.poll(0))


class _Around:
    """By httpx2, which knows TLS, proxies and passwords."""

    def __init__(self, url: str, headers: Mapping[str, str], seconds: float, at_once: int) -> None:
        self._url = url
        self._client = httpx2.Client(
            headers=headers,
            timeout=httpx2.Timeout(seconds, connect=CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=at_once),
        )

    def send(self, body: bytes) -> Reply:
        """Post once; see ``Post``."""
        response = self._client.post(self._url, content=body)
        return Reply(status=response.status_code, headers=response.headers, text=response.text)

    def close(self) -> None:
        """Close the client."""
        self._client.close()
