"""How a server is asked for a reply that names options alone, and which of them it names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from defsurvey.workers.engines.base import ClosedReply

#: Stands where no further option is named.
_NONE = "none"
_SPECIAL = re.compile(r"([\\.^$*+?{}()|\[\]])")


def schema_of(closed: ClosedReply) -> dict[str, object]:
    """The JSON schema of a reply: an object with one option, or with as many places as options may be named.

    Not a list: Anthropic takes no ``maxItems``, and the strict mode of OpenAI no ``uniqueItems``.
    """
    one = {"type": "string", "enum": list(closed.options)}
    further = {"type": "string", "enum": [*closed.options, _NONE]}
    names = _names(closed)
    properties = {name: further if place else one for place, name in enumerate(names)}
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


def of_vllm(closed: ClosedReply, beginning: str) -> tuple[str, object]:
    """vLLM's way, ``choice`` or ``regex``, and the replies that are allowed, each with this beginning."""
    if closed.most == 1:
        return "choice", [beginning + option for option in closed.options]
    begin, between = (_SPECIAL.sub(r"\\\1", text) for text in (beginning, closed.separator))
    one = "|".join(closed.options)
    return "regex", f"{begin}({one})({between}({one})){{0,{closed.most - 1}}}"


def longest(closed: ClosedReply) -> int:
    """Characters of the longest reply in JSON, and so more tokens than any reply has in any form."""
    return len(json.dumps(dict.fromkeys(_names(closed), max((*closed.options, _NONE), key=len))))


def options_in(text: str, closed: ClosedReply, *, as_json: bool) -> tuple[str, ...] | None:
    """The options that a reply names, each once; None where it is no reply that was allowed."""
    said = _values(text) if as_json else text.strip().split(closed.separator)
    named = tuple(dict.fromkeys(option for option in said or () if option != _NONE))
    return closed.named(closed.separator.join(named))


def _names(closed: ClosedReply) -> list[str]:
    return ["answer"] if closed.most == 1 else [f"answer_{number}" for number in range(1, closed.most + 1)]


def _values(text: str) -> list[str] | None:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return [str(value) for value in said.values()] if isinstance(said, Mapping) else None
