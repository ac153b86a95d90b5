"""What a sentence says of an option that it mentions: that it is chosen, or not.

Deliberately looks at one mention at a time: see ``workers.simulation.joining`` for those that follow it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from workers.simulation.lexicon import lexicon
from workers.simulation.mentions import Kind, Mention
from workers.simulation.quantities import is_cued

SENTENCE_END = re.compile(r"[!?。！？\n]|\.(?=\s|$)")

_OWN = re.compile(r"[;:：；]|(?<![a-z])(?:i|we|it|is|would|say)(?![a-z])|[我都也]")
_CLAUSE = re.compile(r"[,;:，；：(]|(?<![a-z])(?:i|we|it)(?![a-z])|[我都也]|[以之]外")


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Where each sentence of a text begins and ends."""
    start = 0
    for end in SENTENCE_END.finditer(text):
        yield start, end.end()
        start = end.end()
    yield start, len(text) + 1


def is_affirmed(text: str, found: Sequence[Mention], position: int, start: int) -> bool:
    """Whether a sentence that began at ``start`` chooses by this mention, rather than denies or merely uses it."""
    mention = found[position]
    before = text[max(start, mention.start - 200) : mention.start]
    for earlier in found[max(0, position - 8) : position]:  # "not very important" denies nothing that follows
        if earlier.start >= mention.start - len(before):
            at = earlier.start - (mention.start - len(before))
            before = before[:at] + " " * (earlier.end - earlier.start) + before[at + earlier.end - earlier.start :]
    if lexicon().negation.search(lexicon().clause.split(before)[-1]) or _is_excluded(mention, before):
        return False
    if mention.kind in (Kind.LABEL, Kind.LINE) and lexicon().denied_after.match(text, mention.end):
        return False
    if mention.kind is Kind.LABEL:
        return len(mention.words) > 3 or not mention.words.isascii() or ends_at(text, mention.end)
    if mention.kind in (Kind.PLACE, Kind.LINE):
        return True
    return mention.scored or is_cued(mention, before)


def ends_at(text: str, end: int) -> bool:
    """Whether a clause ends there, or gives its reason next."""
    return bool(re.match(r"\s*(?:$|[^\w\s])|\s*(?:because|since|as|因[为為]|吧)", text[end : end + 10]))


def _is_excluded(mention: Mention, before: str) -> bool:
    """Whether it is left out: "all except this, that and those".

    A comma may end what is left out: "Apart from work, family is very important", "Never, except once, 2".
    """
    behind = lexicon().all_but.split(before)
    if len(behind) > 1 and mention.kind in (Kind.LABEL, Kind.LINE) and not _OWN.search(behind[-1]):
        return True
    behind = lexicon().excluding.split(before)
    return len(behind) > 1 and (_CLAUSE.search(behind[-1]) is None or lexicon().connector.match(behind[-1]) is not None)
