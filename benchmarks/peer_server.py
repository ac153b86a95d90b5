"""A local server that speaks OpenAI's chat protocol and says the same to everybody, after a delay.

Knows HTTP/1.1 with keep-alive, ``POST .../chat/completions`` without streaming, ``GET .../models``, and ``GET /seen``,
which tells what was asked. Deliberately uses no framework and reads no more of a request than it counts: what is
measured are its clients, and it shares the machine with them.

Run it by hand::

    python -m benchmarks.peer_server --delay-ms 50
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MODEL = "fixed"
#: A number of an option, which every tool reads as an answer.
REPLY = "1"


@dataclass(slots=True)
class Seen:
    """What a server was asked."""

    calls: int = 0  #: chat completions
    prompts: set[int] = field(default_factory=set)  #: hashes of their messages
    characters: int = 0  #: of all messages, as JSON
    most_at_once: int = 0  #: calls under way together, at their most; without a delay each is answered at once
    under_way: int = 0
    others: int = 0  #: requests for anything else, ``/seen`` not counted

    def told(self) -> dict[str, int]:
        """All of it in numbers."""
        return {
            "calls": self.calls,
            "prompts": len(self.prompts),
            "characters": self.characters,
            "most_at_once": self.most_at_once,
            "others": self.others,
        }


class Conversation(asyncio.Protocol):
    """One connection.

    Args:
        seen: Counts for all connections.
        delay: Seconds before each reply.
        reply: What is always said.
    """

    def __init__(self, seen: Seen, delay: float, reply: str) -> None:
        self._seen, self._delay = seen, delay
        self._said = _http(200, _completion(reply))
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody called."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            total = end + 4 + _length(head)
            if len(self._buffer) < total:
                return
            body, self._buffer = self._buffer[end + 4 : total], self._buffer[total:]
            self._request(head.split(b" ", 2)[1].decode("latin-1"), body)

    def _request(self, path: str, body: bytes) -> None:
        if path.endswith("/chat/completions"):
            self._call(json.loads(body))
        elif path == "/seen":
            self._write(_http(200, self._seen.told()))
        else:
            self._seen.others += 1
            models = {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "nobody"}]}
            known = path.endswith("/models")
            self._write(_http(200, models) if known else _http(404, {"error": {"message": f"no {path} here"}}))

    def _call(self, asked: Mapping[str, Any]) -> None:
        self._seen.calls += 1
        prompt = json.dumps(asked["messages"])
        self._seen.prompts.add(hash(prompt))
        self._seen.characters += len(prompt)
        self._seen.under_way += 1
        self._seen.most_at_once = max(self._seen.most_at_once, self._seen.under_way)
        if self._delay:
            asyncio.get_running_loop().call_later(self._delay, self._reply)
        else:
            self._reply()

    def _reply(self) -> None:
        self._seen.under_way -= 1
        self._write(self._said)

    def _write(self, answer: bytes) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.write(answer)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


def _completion(reply: str) -> dict[str, object]:
    choice = {"index": 0, "message": {"role": "assistant", "content": reply}, "finish_reason": "stop", "logprobs": None}
    usage = {"prompt_tokens": 64, "completion_tokens": 8, "total_tokens": 72}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [choice],
        "usage": usage,
    }


def _http(status: int, body: Mapping[str, object]) -> bytes:
    text = json.dumps(body).encode()
    reason = {200: "OK", 404: "Not Found"}[status]
    return (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n".encode()
        + text
    )


async def serve(delay: float, reply: str, port: int) -> None:
    """Answer until told to stop. The first line on standard output is the port."""
    seen = Seen()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Conversation(seen, delay, reply), "127.0.0.1", port, backlog=512)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--reply", default=REPLY)
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    asked = parser.parse_args()
    asyncio.run(serve(asked.delay_ms / 1000, asked.reply, asked.port))


if __name__ == "__main__":
    main()
