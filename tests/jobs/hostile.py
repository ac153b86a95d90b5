"""Items that somebody else has put into a queue: noise, and messages of ours with something changed."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from typing import Any

#: Values in the place of any other.
STRANGE: tuple[Any, ...] = (
    None, True, False, -1, 0, 2**64, 1e308, "", "\x00", "../../x", "/etc/passwd", "x" * 300, ["a"], [["a"]], {},
    {"a": {}}, {"__type__": "datetime", "__value__": "x"}, "celery.backend_cleanup", "defsurvey.simulate_participant",
)  # fmt: skip
#: Items that are no message at all.
NOISE = (
    b"", b"x", b"\xff\xfe\x00", b"null", b"[]", b"{}", b'"x"', b"1e999", b"NaN", b"[" * 60_000, b'{"a":' * 10_000,
    b"x" * 200_000, b'{"headers": {"task": ["a"], "id": "x"}, "properties": {}}',
)  # fmt: skip


def hostile(ours: bytes, number: int, *, seed: int) -> Iterator[bytes]:
    """So many items: noise, then messages of ours with a value changed, taken away, or cut off."""
    generator = random.Random(seed)
    yield from NOISE[:number]
    for _ in range(number - len(NOISE)):
        message = json.loads(ours)
        if generator.random() < 0.3:
            body = json.loads(base64.b64decode(message["body"]))
            _spoil(body, generator)
            message["body"] = base64.b64encode(json.dumps(body).encode()).decode()
        else:
            _spoil(message, generator)
        item = json.dumps(message).encode()
        yield item[: generator.randrange(len(item))] if generator.random() < 0.1 else item


def _spoil(value: Any, generator: random.Random) -> None:
    """Change something at a place that chance chooses."""
    while True:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = generator.choice(keys) if keys else None
        if key is not None and isinstance(value[key], dict | list) and value[key] and generator.random() < 0.7:
            value = value[key]
            continue
        if key is not None and generator.random() < 0.2:
            del value[key]
        elif key is not None:
            value[key] = generator.choice(STRANGE)
        return
