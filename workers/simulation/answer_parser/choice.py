"""Whether the witnesses of a section agree, and on which options.

Nothing is coerced: what names several options where one is allowed, none that is offered, or contradicts itself, is a
problem and no choice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from defsurvey.storage.surveys.survey import Question
from defsurvey.workers.simulation.answer_parser.labels import is_weaker
from defsurvey.workers.simulation.answer_parser.lexicon import clean, pattern
from defsurvey.workers.simulation.answer_parser.mentions import Kind, Mention
from defsurvey.workers.simulation.answer_parser.witnesses import BULLET, HEARD, SENTENCE_END, Statement

CONTRADICTIONS = ("number and label name different options", "number and sentence are at different ends of the scale")
#: Between the items of a list, the choices among which are written as a NUL.
_BETWEEN_ITEMS = re.compile(r"[,;、]|(?<![a-z])and(?![a-z])|和|以及")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What one section says. Neither codes nor problem: it says nothing about the options."""

    codes: frozenset[int] = frozenset()
    problem: str = ""
    opening: bool = False  #: whether the section begins with it, so that it needs no marker to be an answer
    final: bool = False  #: whether nothing that may follow the text can change it


NOTHING = Choice()


def choose(text: str, question: Question, shown: Sequence[int], *, marked: bool) -> Choice:
    """The options that a section chooses.

    Args:
        text: cleaned text of the section, its explanation left out.
        question: tells how many may be chosen.
        shown: codes of the options offered, in the order shown.
        marked: whether an answer marker opens it: then the first sentence that names
            options decides, else all sentences have to agree.
    """
    said = Statement(text, question, shown, marked=marked)
    if not said.found:
        return NOTHING
    opening = said.opening()
    stated = opening or said.in_sentences()
    first, labels = said.found[0], {said.found[i].is_label for i in stated}
    end = said.found[stated[-1]].end if stated else first.end if first.is_label else 0
    silent = not said.several and end and len(labels) < 2 and (opening or marked or said.scale)
    heard = said.heard(end, labels=labels == {False}) if silent else []
    mentions = [said.found[i] for i in (*stated, *heard)]
    if (
        first.kind is Kind.NUMBER
        and first not in mentions
        and BULLET.match(said.text[: first.start])
        and (not stated or (first.code in said.vocabulary.shown and not first.labelled))
    ):
        return Choice(problem=f"it begins with {first.words}, which may be a quantity")
    if not mentions:
        return NOTHING
    if said.several:
        counting = _counting(said, mentions)
        mentions = [mention for mention in mentions if mention not in counting]
    problem = _unoffered(said, mentions)
    if not problem:
        problem = _listed(said, mentions, stated) if said.several else _disagreement(said, mentions, heard, end)
    if problem:
        return Choice(problem=problem)
    numbers = [mention for mention in mentions if not mention.is_label]
    deciding = numbers if numbers and not said.several else mentions
    codes = frozenset(mention.code for mention in deciding if mention.code is not None)
    allowed = question.max_choices if said.several else 1
    if len(codes) > allowed:
        return Choice(problem=f"{len(codes)} options are named where at most {allowed} may be chosen")
    final = bool(opening) and not said.several and len(said.text) - end > HEARD + 30  # a word more than is heard
    return Choice(codes=codes, opening=bool(opening), final=final)


def _unoffered(said: Statement, mentions: Sequence[Mention]) -> str:
    """What is wrong with single mentions: no option, or a number that is the code of one and the label of another."""
    shown = said.vocabulary.shown
    for mention in mentions:
        if mention.code is None or mention.code not in shown:
            return f"{mention.words} is not one of {', '.join(map(str, sorted(shown)))}"
    labelled = {mention.code for mention in mentions if mention.labelled}
    figures = labelled or any(mention.kind is Kind.LINE for mention in mentions)
    for before, mention, after in zip((None, *mentions), mentions, (*mentions[1:], None), strict=False):
        if (
            not figures
            or mention.labelled
            or mention.kind not in (Kind.NUMBER, Kind.WORD)
            or (after and after.is_label)
        ):
            continue
        # "0 (1)" and "2, 20" are clear where 0 is the label of 1 and 20 that of 2; "0, 1" is not where 1 is a label too
        bracketed = before and re.fullmatch(r" ?[(\[] ?", said.text[before.end : mention.start])
        if (labelled and mention.code not in labelled) or (mention.shared and not bracketed and before):
            return f"{mention.words} may be the number of an option or its label"
    return ""


def _disagreement(said: Statement, mentions: Sequence[Mention], heard: Sequence[int], end: int) -> str:
    """What is wrong between the witnesses where one option may be chosen.

    The words of an end of a scale agree with every number on its half, since the points between have no words; those
    of a sentence beside the number contradict it only where it is near the other end. A sentence that names several
    options contradicts none of them.
    """
    numbers = {mention.code for mention in mentions if not mention.is_label}
    number = numbers.pop() if len(numbers) == 1 else None
    if number is None:
        return ""
    low, high = said.vocabulary.ends
    off_middle = number - (low + high) / 2
    near_an_end = low <= number <= high and abs(off_middle) > (high - low) / 4

    def agrees(label: int) -> bool:
        if said.scale and low <= min(number, label) and max(number, label) <= high:
            return off_middle * (label - (low + high) / 2) >= 0 or (bool(heard) and not near_an_end)
        return label == number or (bool(heard) and _is_weaker(said, label, number))

    named = [agrees(mention.code or 0) for mention in mentions if mention.is_label]
    if named and not (any(named) if heard else all(named)):
        return CONTRADICTIONS[0]
    leaning = said.leaning(end) if said.vocabulary.poles and near_an_end else None
    return "" if leaning is None or agrees(leaning) else CONTRADICTIONS[1]


def _is_weaker(said: Statement, label: int, number: int) -> bool:
    full = said.vocabulary.full
    return any(is_weaker(words, other) for words in full[label] for other in full[number])


def _listed(said: Statement, mentions: Sequence[Mention], stated: Sequence[int]) -> str:
    """What is wrong with a list of choices."""
    for one, other in pairwise(mentions):
        gap = said.text[one.end : other.start]
        if _is_pair(said, one, other) and one.code != other.code:
            return CONTRADICTIONS[0]
        wide = not one.is_label and not other.is_label and abs((other.code or 0) - (one.code or 0)) > 1
        if wide and re.fullmatch(r" ?(?:[-–—~]|to|through|到|至) ?", gap):
            return f"{said.text[one.start : other.end]} is a range and not a list"
    for words in _unlisted(said.text, mentions):
        return f"it lists {words!r}, which is not offered"
    more = said.unjoined(stated)
    return f"it goes on with {more.words!r}, which may be chosen as well" if more else ""


def _is_pair(said: Statement, one: Mention, other: Mention) -> bool:
    """Whether a label is right after its number, which does not stand in brackets after another label."""
    bracketed = re.search(r"\w ?[(\[] ?$", said.text[max(0, one.start - 4) : one.start])
    beside = re.fullmatch(r" ?[:.)\]\-–—=、]{0,2} ?[\"'“]?", said.text[one.end : other.start])
    return not one.is_label and other.is_label and beside is not None and not bracketed


def _counting(said: Statement, stated: Sequence[Mention]) -> Sequence[Mention]:
    """Numbers that only count what is chosen: 1., 2., 3. before options with other codes."""
    text, numbered = said.text, [(one, other) for one, other in pairwise(stated) if one.kind is Kind.NUMBER]
    opening = [
        one
        for one, other in numbered
        if BULLET.match(text[: one.start].rpartition("\n")[2]) and re.match(r"[.)、] ?$", text[one.end : other.start])
    ]
    paired = [one for one, other in numbered if _is_pair(said, one, other)]
    counts = [found for found in (opening, paired) if [one.code for one in found] == list(range(1, len(found) + 1))]
    return next((found for found in counts if len(found) > 1), ())


def _unlisted(text: str, stated: Sequence[Mention]) -> Iterator[str]:
    """Words that stand in a list of choices like a choice but name no option."""
    for mention in stated:
        text = text[: mention.start] + "\0" * (mention.end - mention.start) + text[mention.end :]
    text = text[: stated[-1].end] + text[stated[-1].end :].partition("\n")[0]
    first = True
    for line in SENTENCE_END.split(re.sub("\0+", "\0", text)):
        if "\0" not in line and not re.match(r" ?[\-–—•·] ?[^\W\d][^,;.:()]{0,39}$", line):
            continue
        for item in _BETWEEN_ITEMS.split(line):
            words = item.strip(" \"'“”()[]-–—•·:")
            explains = "\0" in words or pattern("reason").match(words)
            first = first and "\0" not in words
            if not re.search(r"[^\W\d\0]", words.rpartition("\0")[2]) or pattern("connector").match(words):
                continue
            if explains:
                break
            if not first or (words.count(" ") < 3 and not pattern("opening").match(words)):
                yield clean(words)
