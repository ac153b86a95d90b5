"""What the mentions by which a section chooses amount to: options, or what is wrong with them.

Nothing is coerced: what names several options where one is allowed, none that is offered, or contradicts itself, is a
problem and no choice. Deliberately does not look for the mentions: that is ``workers.simulation.choices``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from storage.survey import Question, QuestionType
from workers.simulation.lexicon import clean, lexicon
from workers.simulation.mentions import Kind, Mention
from workers.simulation.remarks import MOST_REMARKED, without_remarks

#: Ends what may stand in a line before its item.
BULLET = re.compile(r"[\s\-–—•·(\[{<,;:\"'“]*$")
#: One item, and what joins it to the next.
_HEAD = re.compile(
    r"\W*(?P<words>[^\W\d]+(?: [^\W\d]+){0,2}) ?(?:、|(?P<comma>(?<=[a-z]),)|(?<= )and|以及|和) ?(?:and )?\W{0,2}"
)
#: A line of a list that is an item.
_ITEM = re.compile(r" ?[\-–—•·] ?(?P<words>[^\W\d][^,;.。:()]{0,39})[.,;。；，]?\n")
_UNLISTED = re.compile(r"\s?(?:[,;、]|\band\b|和|以及)\s?(?:and |和|以及)?(?P<words>[^,;、.。\n:()]{1,40})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What one section says. Neither codes nor problem: it says nothing about the options."""

    codes: frozenset[int] = frozenset()
    problem: str = ""


NOTHING = Choice()


def judge(stated: Sequence[Mention], text: str, question: Question, shown: Sequence[int]) -> Choice:
    """The choice that the mentions amount to, or what is wrong with them."""
    multiple = question.type is QuestionType.MULTIPLE
    if multiple:
        counting = _counting(stated, text)
        stated = [mention for mention in stated if mention not in counting]
    offered = ", ".join(map(str, sorted(shown)))
    for mention in stated:
        if mention.kind is Kind.RANGE:
            return Choice(problem="2 options are named where at most 1 may be chosen")
        if mention.code is None or mention.code not in shown:
            return Choice(problem=f"{mention.words} is not one of {offered}")
    if mixed := _mixed(stated, text):
        return Choice(problem=f"{mixed.words} may be the number of an option or its label")
    if _contradicts(stated, text, multiple=multiple):
        return Choice(problem="number and label name different options")
    if multiple and (wide := _range(stated, text)):
        return Choice(problem=f"{wide} is a range and not a list")
    if multiple and (unlisted := _unlisted(stated, text)):
        return Choice(problem=f"it lists {unlisted!r}, which is not offered")
    codes = frozenset(mention.code for mention in stated if mention.code is not None)
    allowed = question.max_choices if multiple else 1
    if len(codes) > allowed:
        return Choice(problem=f"{len(codes)} options are named where at most {allowed} may be chosen")
    return Choice(codes=codes)


def _pairs(stated: Sequence[Mention], text: str) -> Iterator[tuple[Mention, Mention]]:
    """A number and the label right behind it, unless it stands in brackets behind another."""
    for before, one, other in zip((None, *stated), stated, stated[1:], strict=False):
        bracketed = before is not None and re.fullmatch(r" ?[(\[] ?", text[before.end : one.start])
        gap = text[one.end : other.start]
        if (
            one.kind is not Kind.LABEL
            and other.kind is Kind.LABEL
            and not bracketed
            and re.match(r" ?[:.)\]\-–—=、]{0,2} ?[\"'“]?$", gap)
        ):
            yield one, other


def _contradicts(stated: Sequence[Mention], text: str, *, multiple: bool) -> bool:
    if multiple:
        pairs = [*_pairs(stated, text), *(pair for pair in _numbered(stated, text) if _is_item(pair[1]))]
        return any(number.code != label.code for number, label in pairs)
    numbers = {mention.code for mention in stated if mention.kind is not Kind.LABEL}
    labels = {mention.code for mention in stated if mention.kind is Kind.LABEL}
    return len(numbers) == len(labels) == 1 and numbers != labels


def _mixed(stated: Sequence[Mention], text: str) -> Mention | None:
    """An option's code that stands beside numbers that are labels only, so that it may be meant as one as well.

    Of "0, 1" no one can tell what 1 is where it is the code of 0; of "0 (1)" and of "2, 20" one can.
    """
    labelled = {mention.code for mention in stated if mention.labelled}
    for place, mention in enumerate(stated):
        if not labelled or mention.labelled or mention.kind not in (Kind.NUMBER, Kind.WORD):
            continue
        bracketed = place > 0 and re.fullmatch(r" ?[(\[] ?", text[stated[place - 1].end : mention.start])
        if mention.code not in labelled or (mention.shared and not bracketed):
            return mention
    return None


def _numbered(stated: Sequence[Mention], text: str) -> Iterator[tuple[Mention, Mention]]:
    """A number that opens a line like the number of a list's item, and what stands behind it."""
    for one, other in pairwise(stated):
        opens = one.kind is Kind.NUMBER and BULLET.match(text[: one.start].rpartition("\n")[2])
        if opens and re.match(r"[.)、] ?$", text[one.end : other.start]):
            yield one, other


def _is_item(mention: Mention) -> bool:
    """Whether a number is an option on its own in a list with numbers: a line as shown, or a label."""
    return mention.kind is Kind.LINE or mention.labelled


def _counting(stated: Sequence[Mention], text: str) -> Sequence[Mention]:
    """Numbers that only count what is chosen: 1., 2., 3. before options with other codes."""
    pairs = list(_pairs(stated, text))
    paired = [number for number, _ in pairs]
    at_lines = list(_numbered(stated, text))
    lines = [number for number, _ in at_lines]
    held = sum(2 if _is_item(item) else 3 for _, item in at_lines)
    for numbers, every in ((paired, len(pairs) * 2 == len(stated)), (lines, held == len(stated))):
        if every and len(numbers) > 1 and [one.code for one in numbers] == list(range(1, len(numbers) + 1)):
            return numbers
    return ()


def _range(stated: Sequence[Mention], text: str) -> str:
    """A range of codes with others between its ends, e.g. ``1-5``: whether these are meant is not said."""
    for one, other in pairwise(stated):
        dash = re.fullmatch(r" ?(?:[-–—~]|to|through|到|至) ?", text[one.end : other.start])
        if dash and Kind.LABEL not in (one.kind, other.kind) and abs((other.code or 0) - (one.code or 0)) > 1:
            return text[one.start : other.end]
    return ""


def _unlisted(stated: Sequence[Mention], text: str) -> str:
    """Words that stand in a list of choices like a choice but name no option."""
    if at_its_head := _unlisted_first(stated[0], text, alone=len(stated) == 1) or _unlisted_line(stated, text):
        return at_its_head
    for one, other in zip(stated, (*stated[1:], None), strict=True):
        rest = without_remarks(text, one.end, other.start if other else one.end + 2 * MOST_REMARKED)
        found = _UNLISTED.match(rest)
        if found and re.search(r"[^\W\d]", found["words"]) and not lexicon().reason.match(found["words"]):
            connecting = other is not None and found.end() == len(rest)
            if not connecting and not lexicon().connector.match(found["words"]):
                return clean(found["words"])
    return ""


def _unlisted_first(first: Mention, text: str, *, alone: bool) -> str:
    """Words at the head of a list, in front of its first option: "Honesty, hard work and obedience"."""
    found = _HEAD.fullmatch(text[: first.start].rpartition("\n")[2])
    if found is None or lexicon().opening.match(found["words"]) or (alone and found["comma"]):
        return ""
    return clean(found["words"])


def _unlisted_line(stated: Sequence[Mention], text: str) -> str:
    """A line of a list with bullets that has words but no option; what follows the last option may be anything."""
    lines = text[: stated[-1].start].splitlines(keepends=True)
    at = 0
    for line in lines[:-1]:
        found = _ITEM.fullmatch(line)
        named = any(at <= mention.start < at + len(line) for mention in stated)
        if found and not named and not lexicon().reason.match(found["words"]):
            return clean(found["words"])
        at += len(line)
    return ""
