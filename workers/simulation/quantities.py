"""Whether a number that is an option's label is chosen, or counts something: "20", "20 years ago".

Knows only numbers that are labels and no codes, in texts that are cleaned and folded. Whoever says a code means
an option; whoever says such a number may mean minutes, years or people, so that it counts only where little else can
be meant. Deliberately does not decide what is chosen: that is ``workers.simulation.choices``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from workers.simulation.lexicon import lexicon
from workers.simulation.mentions import Mention

#: No word for what is counted, and no part of one: "20 plus", "20多".
_NO_UNIT = r"plus|minus|ago|old|maximum|minimum|max|percent|hundred|thousand|million|billion|dozen"
_NO_UNIT_ZH = "多几幾余餘来來百千万萬亿億半成倍以前后後内內外上下之太不没沒少的了我是就也到至或和与與者"
_UNIT = re.compile(rf" ?(?:(?!(?:{_NO_UNIT})(?![a-z]))[a-z]+(?![a-z])|(?:(?![{_NO_UNIT_ZH}])[\u4e00-\u9fff]){{1,3}})")
_END = re.compile(r"\s*(?:$|\n|(?![-–—~][a-z]|'s)[^\w\s?+%/<>]|(?:because|since|as)(?![a-z])|因[为為]|吧)")
_BOUND = re.compile(r"[<>≤≥+]\s?$")
#: Ends a text after which a number that is a label may be any fact: an age, a time, a sum.
_FACT = re.compile(
    r"(?:(?<![a-z])(?:at|as|(?<!go )with|is|be|between)|(?<!的)是|(?<![评評])[为為]|得)[\s\"'“:(\[]{0,3}$"
)
_REASON = re.compile(r"(?<![a-z])(?:because|since)(?![a-z])|因[为為]|由[于於]")
_TAKEN_BACK = re.compile(r"\W*(?:\w+\W+)?(?:(?:not|no|never|too)(?![a-z])|[不没沒太])")


def ends_clause(mention: Mention, text: str, *, counted: bool = False) -> bool:
    """Whether a number ends its clause and is no bound.

    Args:
        mention: the number.
        text: what it stands in.
        counted: whether one word may stand behind it: "20 minutes", "0个孩子".
    """
    end = mention.end
    if _BOUND.search(text[max(0, mention.start - 2) : mention.start]) and not text.startswith(">", end):
        return False
    unit = _UNIT.match(text, end) if counted else None
    if unit and not lexicon().degree_after.match(text, end) and not lexicon().after.match(text, end):
        end = unit.end()
    return _END.match(text, end) is not None


def is_cued(mention: Mention, before: str) -> bool:
    """Whether words before a number tell that it is chosen; "at 20" and "is 20" tell it of codes alone."""
    return bool(lexicon().cue.search(before[-24:])) and not (mention.labelled and _FACT.search(before[-24:]))


def is_all(rest: str, end: int, behind: Sequence[Mention], *, told: bool) -> bool:
    """Whether a sentence that begins with numbers goes on to no other option, nor takes them back.

    Args:
        rest: of the sentence, behind the numbers.
        end: where they end.
        behind: the mentions behind them.
        told: whether a marker, or a word of choosing, tells that they are chosen. If not, the sentence has to say
            nothing else but its reason.
    """
    rest = _REASON.split(rest)[0]
    if not told:
        return not re.search(r"\w", rest)
    return not _TAKEN_BACK.match(rest) and not any(mention.start < end + len(rest) for mention in behind)
