"""Remarks in brackets behind what is chosen: "8 (needed), 9 (work)".

Deliberately does not know what is chosen: that is ``workers.simulation.joining``.
"""

from __future__ import annotations

import re

#: Most characters of a remark; what is longer tells more than one.
MOST_REMARKED = 80

_INSIDE = rf"[^()\[\]\n]{{0,{MOST_REMARKED}}}"
#: A remark, for the patterns of others.
REMARK = rf" ?(?:\({_INSIDE}\)|\[{_INSIDE}\])"
_REMARK = re.compile(REMARK)
_REST = re.compile(rf"{_INSIDE}[)\]]")
_OPENING = re.compile(rf"[(\[]{_INSIDE}$")


def without_remarks(text: str, start: int, end: int) -> str:
    """What stands between two places of a text, but for remarks; of one that is open at its start the bracket stays."""
    between = text[start:end]
    if _OPENING.search(text[max(0, start - MOST_REMARKED - 1) : start]) and (rest := _REST.match(between)):
        between = between[rest.end() - 1 :]
    return re.sub(" {2,}", " ", _REMARK.sub(" ", between)) if between[1:] else between
