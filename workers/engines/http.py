"""One exchange with a server: a client that keeps to time and size, and what follows from what comes back."""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import httpcore2
import httpx2

from defsurvey.workers.engines.base import EngineUnavailable
from defsurvey.workers.engines.keys import redacted

#: Seconds until a connection stands.
CONNECT_SECONDS = 10.0
#: Bytes that are read of a reply, counted as they are once unpacked: a thousand times what any answer has.
MOST_BYTES = 16 << 20
#: Tokens of one exchange that are believed: more than any model reads, and little enough that those of an answer that
#: takes several have room in the ledger, which has 31 bits.
MOST_TOKENS = 2**26

#: Statuses after which no request of this model can succeed: no key, no money, no right, no such model.
_UNAVAILABLE = frozenset({401, 402, 403, 404})
#: Statuses below 500 after which the same request can succeed later.
_PASSING = frozenset({408, 409, 425, 429})
#: Statuses that say that the server has too much to do.
_OVERLOADED = frozenset({429, 503, 529})
#: Error codes that come as a passing status and do not pass.
_NO_CREDIT = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
    | {"enforced_spend_limit_reached", "contract_spend_limit_reached"}
)
#: Error codes of a provider's filter that declines a prompt: Azure's, OpenAI's, and Azure's inner one.
_DECLINED = frozenset({"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"})


class Retryable(RuntimeError):
    """The same request may succeed later: after ``wait`` seconds, where the server says so."""

    def __init__(self, message: str, *, wait: float | None = None, overloaded: bool = False) -> None:
        super().__init__(message)
        self.wait = wait
        self.overloaded = overloaded


class Rejected(RuntimeError):
    """The server will never answer this request; the message is its own."""


class Declined(Rejected):
    """A filter of the provider's declines the prompt, which is a refusal; the message is its own."""


class TooLong(httpx2.HTTPError):
    """A reply is longer than ``MOST_BYTES``; it would be again."""


class Client(httpx2.Client):
    """A client that waits so many seconds for the whole of a reply, and reads ``MOST_BYTES`` of one at most.

    A file that is asked for as a stream has neither limit.
    """

    def __init__(self, *, seconds: float, **options: Any) -> None:
        super().__init__(timeout=httpx2.Timeout(seconds, connect=CONNECT_SECONDS), **options)
        self.seconds = seconds
        self._call = threading.local()
        for transport in (self._transport, *self._mounts.values()):
            if isinstance(transport, httpx2.HTTPTransport):
                transport._pool._network_backend = _Network(self._call)  # there is no other way to hand it over

    def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        """Send once; raises ``httpx2.ReadTimeout`` where the reply is not there in time, or TooLong."""
        # Anthropic's client asks for a stream whatever it reads; only a file of results has no limits.
        file = stream and request.headers.get("accept") == "application/binary"
        self._call.until = math.inf if file else time.monotonic() + self.seconds
        response = super().send(request, stream=True, **options)
        if file:
            return response
        body = bytearray()
        with closing(response):
            for part in response.iter_bytes():
                body += part
                if len(body) > MOST_BYTES:
                    raise TooLong(f"the server's reply is longer than {MOST_BYTES >> 20} MiB")
        response._content = bytes(body)  # as its own ``read`` does, which knows no limit
        return response


class _Network(httpcore2.SyncBackend):
    """Opens connections that are read until the moment that the calling thread has set, head and body."""

    def __init__(self, call: threading.local) -> None:
        super().__init__()
        self._call = call

    def connect_tcp(self, *where: Any, **options: Any) -> Any:
        return _Stream(super().connect_tcp(*where, **options), self._call)


class _Stream:
    def __init__(self, stream: httpcore2.NetworkStream, call: threading.local) -> None:
        self._stream, self._call = stream, call
        self._unsent = b""

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 -- that of the read goes
        self._unsent += buffer  # head and body leave together, in one packet

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._unsent:
            unsent, self._unsent = self._unsent, b""
            with suppress(httpcore2.WriteError):  # a server may answer before it has read all, and hang up
                self._stream.write(unsent, timeout)
        left = self._call.until - time.monotonic()
        if left <= 0:
            raise httpcore2.ReadTimeout("the reply was not there in time")
        return self._stream.read(max_bytes, left if timeout is None else min(timeout, left))

    def start_tls(self, *where: Any, **options: Any) -> _Stream:
        return _Stream(self._stream.start_tls(*where, **options), self._call)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def failure(status: int, headers: Mapping[str, str], body: str, key: str | None) -> Exception:
    """What follows from an answer that is no success, to be raised; the ``key`` that was sent is not repeated.

    Where a server sends an error as a success (``status`` 2xx) the error's own code decides.
    """
    code, message = _error(body)
    said = redacted(f"the server says {status}" + (f": {message}" if message else ""), key)
    if code in _DECLINED and status in (200, 400, 403):
        return Declined(said)
    if status < 300:
        status = int(code) if re.fullmatch(r"[45]\d\d", code) else 500
    if 300 <= status < 400:
        to = redacted(headers.get("location", "") or "an address that it does not name", key)
        return EngineUnavailable(f"the server says {status}: it redirects to {to}; base_url must name who answers")
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        return EngineUnavailable(f"{said}; is base_url right?")
    # the last is how Anthropic says that there is no credit, under the status of a request that is wrong
    if status in _UNAVAILABLE or code in _NO_CREDIT or "credit balance is too low" in message:
        return EngineUnavailable(said)
    if status in _PASSING or status >= 500:
        return Retryable(said, wait=wait_asked(headers), overloaded=status in _OVERLOADED)
    return Rejected(said)


def not_reached(error: Exception, key: str | None) -> Exception:
    """What follows where no reply came, or more of one than is read."""
    if isinstance(error, TooLong):
        return Rejected(str(error))
    return Retryable(redacted(f"the server was not reached: {type(error).__name__}: {error}", key))


def wait_asked(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait: ``retry-after-ms``, or ``retry-after`` in seconds or as a date."""
    milliseconds = _seconds(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    asked = headers.get("retry-after", "")
    try:
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    except ValueError:
        return _seconds(asked)


def _seconds(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < math.inf else None


def _error(body: str) -> tuple[str, str]:
    """The code and the message of an error, wherever a server puts them: Anthropic has codes in an error's details."""
    try:
        error = json.loads(body)
    except (ValueError, RecursionError):
        return "", " ".join(body.split())
    if isinstance(error, dict):
        error = error.get("error") or error
    if not isinstance(error, dict):
        return "", str(error)
    message = error.get("message") or error.get("detail") or error
    return _code_in(error), message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)


def _code_in(error: Mapping[str, object]) -> str:
    """The error's own code; where something next to it says that the prompt is declined, that goes first."""
    inner, details, metadata = error.get("innererror"), error.get("details"), error.get("metadata")
    if isinstance(inner, dict) and str(inner.get("code")) in _DECLINED:
        return str(inner["code"])
    if isinstance(metadata, dict) and "flagged_input" in metadata:  # of OpenRouter, whose code is its status
        return "content_policy_violation"
    return str(error.get("code") or (details.get("error_code") if isinstance(details, dict) else None) or "")


def json_object(text: str) -> Mapping[str, object]:
    """The body of a success; raises Retryable where it is no JSON object."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):  # the latter where it is nested too deeply
        raise Retryable(f"the server's reply is no JSON that can be read ({len(text)} characters)") from None
    if not isinstance(body, dict):
        raise Retryable(f"the server's reply is no JSON object ({len(text)} characters)")
    return body


def tokens(usage: object, *names: str) -> int | None:
    """Sum of the counts of those names in a reply's usage; None where none is there, or what is there cannot be."""
    counts = [usage.get(name) for name in names] if isinstance(usage, dict) else []
    present = [count for count in counts if count is not None]
    if not present or not all(type(count) is int and count >= 0 for count in present):
        return None
    return total if (total := sum(present)) <= MOST_TOKENS else None
