"""Points of a scale that are given behind the words of one of its ends.

"The government should take more responsibility, so I would say 3": the words are the argument, the number is the
answer. Deliberately does not know what else is chosen: that is ``workers.simulation.choices``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from workers.simulation.affirming import SENTENCE_END, is_affirmed, sentences
from workers.simulation.amounting import BULLET
from workers.simulation.joining import is_choice
from workers.simulation.mentions import Kind, Mention

#: Characters between the words of an end of a scale and the points given after all.
ARGUED = 100

_BREAK = re.compile(rf"(?:{SENTENCE_END.pattern})\s*")
#: Ends a text behind which a number is the answer that the words before it led to.
_GIVEN = re.compile(
    r"(?<!\d)[,;:，；：(\[–—-][\s\"'“]*"
    r"(?:(?:so|about|around|roughly|approximately|say|i'd say|maybe|probably|perhaps|at|an?) "
    r"|(?:[给給打得]|大?[约約]|大概) ?)*$"
)
_LINE_END = re.compile(r"[ \"'”)\].!。！]*(?:$|\n)")
_CLAUSE_END = re.compile(rf"{_LINE_END.pattern}|[.;；)\]](?!\w)")


def by_number(stated: Sequence[Mention], text: str, found: Sequence[Mention]) -> list[Mention]:
    """The points that a sentence gives where the words of an end of the scale were only its argument.

    Close behind only: ``workers.simulation.choices.stands`` relies on it.

    Args:
        stated: what is chosen so far; nothing where the words are made more or less of ("left of centre, 4").
        text: what it stands in.
        found: all mentions in it.
    """
    words = stated or [mention for mention in found[:1] if mention.kind is Kind.LABEL]
    if not words or any(mention.kind is not Kind.LABEL for mention in words):
        return list(stated)
    last = words[-1]
    starts = [start for start, _ in sentences(text)]
    points = [
        mention
        for place, mention in enumerate(found)
        if mention.kind is not Kind.LABEL
        and last.end <= mention.start <= last.end + ARGUED
        and len(_BREAK.findall(text, last.end, mention.start)) <= 1
        and is_choice(mention, text, found, place)
        and (
            is_affirmed(text, found, place, start := max(start for start in starts if start <= mention.start))
            or _is_given(mention, text, max(start, last.end), alone=start > last.end)
        )
    ]
    return points[:1] if len({mention.code for mention in points}) == 1 else [*stated, *points]


def _is_given(mention: Mention, text: str, start: int, *, alone: bool) -> bool:
    """Whether a number ends a sentence as its result: "..., 8", "... (8)"; or is all of the next, and of its line.

    The number of a list's item is none ("1. It is wrong").
    """
    before = text[start : mention.start]
    if alone:
        return BULLET.match(before) is not None and _LINE_END.match(text, mention.end) is not None
    return _GIVEN.search(before) is not None and _CLAUSE_END.match(text, mention.end) is not None
