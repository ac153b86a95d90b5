"""Which options a section of a completion chooses.

Knows two ways to give an answer: at once ("2: Rather important") and in a sentence ("I
would say rather important"). Deliberately does not decide whether what is chosen makes an
answer: that is ``workers.simulation.amounting``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from storage.survey import Question, QuestionType
from workers.simulation.amounting import BULLET, NOTHING, Choice, judge
from workers.simulation.lexicon import lexicon
from workers.simulation.mentions import UNDECIDED, Kind, Mention, vocabulary
from workers.simulation.quantities import ends_clause, is_all, is_cued

_SENTENCE = re.compile(r"[!?。！？\n]|\.(?=\s|$)")
_TIGHT = re.compile(
    r"[\s\"'“”‘’:.)\]\-–—=(\[,、]{0,5}(?:(?:即|也就是|that is|meaning|which is|which means|means|is)[\s\"'“”:,]{0,3})?$"
)
#: All of a text that joins two numbers so directly that who says the one says the other, whatever follows.
_DIRECTLY = re.compile(r" (?:or|to|through) | ?(?:或者?|到|至|还是) ?|[-–—~]")
_UNDECIDED = re.compile(rf" ?分? ?(?:{UNDECIDED})")
#: Characters between the words of an end of a scale and the points given after all.
_ARGUED = 100
#: Characters behind a choice after which no mention joins it: above the widest gap that ``_joined`` and a span allow.
FAR = 150


def choose(text: str, question: Question, shown: Sequence[int], *, marked: bool) -> Choice:
    """The options that a section chooses.

    Args:
        text: cleaned text of the section, its explanation left out.
        question: tells how many may be chosen.
        shown: codes of the options offered, in the order shown.
        marked: whether an answer marker opens it: then the first sentence that names
            options decides, else all sentences have to agree.
    """
    words = vocabulary(question, shown)
    folded = words.fold(text)
    found = words.mentions(folded)
    if not found:
        return NOTHING
    stated = _at_once(folded, found, question, marked=marked) or _in_sentences(folded, found, question, marked=marked)
    if question.type is QuestionType.SCALE:
        stated = _by_number(stated, folded, found)
    first = found[0]
    if (
        first.kind is Kind.NUMBER
        and first not in stated
        and BULLET.match(folded[: first.start])
        and (not stated or (first.code in shown and not first.labelled))
    ):
        return Choice(problem=f"it begins with {first.words}, which may be a quantity")
    return judge(stated, folded, question, shown) if stated else NOTHING


def stands(text: str, question: Question, shown: Sequence[int]) -> bool:
    """Whether a section chooses one option at once, and so far back that nothing behind the text can be part of it.

    Args:
        text: cleaned text of the section as far as it is there.
        question: tells how many may be chosen; of several, more may always follow.
        shown: codes of the options offered, in the order shown.
    """
    if question.type is QuestionType.MULTIPLE:
        return False
    folded, stated = _beginning(text, question, shown)
    return bool(stated) and len(folded) - stated[-1].end > FAR


def begins(text: str, question: Question, shown: Sequence[int]) -> bool:
    """Whether a section begins with its choice, so that it needs no marker to be an answer."""
    return bool(_beginning(text, question, shown)[1])


def _beginning(text: str, question: Question, shown: Sequence[int]) -> tuple[str, list[Mention]]:
    """The folded text, and the mentions by which it chooses at once without a marker."""
    words = vocabulary(question, shown)
    folded = words.fold(text)
    found = words.mentions(folded)
    return folded, _at_once(folded, found, question, marked=False) if found else []


def _at_once(text: str, found: Sequence[Mention], question: Question, *, marked: bool) -> list[Mention]:
    """The mentions that a section begins with: one, and those joined to it."""
    first = found[0]
    if first.start > 60 or not lexicon().preamble.match(text[: first.start]):
        return []
    told = marked or is_cued(first, text[: first.start])
    if not (
        _is_choice(first, text, found, 0) or (told and first.labelled and ends_clause(first, text, counted=True))
    ) or (first.kind in (Kind.LABEL, Kind.LINE) and lexicon().denied_after.match(text, first.end)):
        return []
    if not marked and first.kind is Kind.LABEL and not _ends_clause(text, first.end) and not _paired(text, found, 0):
        return []  # "Very important to some, ..."
    stated = [first, *_following(text, found, 1, question)]
    end = stated[-1].end
    rest = _SENTENCE.split(text[end : end + _ARGUED])[0]  # close behind only: ``stands`` relies on it
    return [] if first.labelled and not is_all(rest, end, found[len(stated) :], told=told) else stated


def _following(text: str, found: Sequence[Mention], position: int, question: Question) -> Iterator[Mention]:
    """The mentions from a position on that are joined to the one before, or go on with its list."""
    for place in range(position, len(found)):
        gap = text[found[place - 1].end : found[place].start]
        if not _joined(gap, text, found, place) and not _next_in_list(text, found, place, question):
            return
        yield found[place]


def _by_number(stated: Sequence[Mention], text: str, found: Sequence[Mention]) -> list[Mention]:
    """The points that a sentence gives where the words of an end of the scale were only its argument.

    "The government should take more responsibility, so I would say 3." Close behind only: ``stands`` relies on it.
    """
    if not stated or any(mention.kind is not Kind.LABEL for mention in stated):
        return list(stated)
    last = stated[-1]
    sentences = [start for start, _ in _sentences(text)]
    points = [
        mention
        for place, mention in enumerate(found)
        if mention.kind is not Kind.LABEL
        and last.end <= mention.start <= last.end + _ARGUED
        and sum(last.end < start <= mention.start for start in sentences) <= 1
        and _affirmed(text, found, place, max(start for start in sentences if start <= mention.start))
        and _is_choice(mention, text, found, place)
    ]
    return points[:1] if len({mention.code for mention in points}) == 1 else [*stated, *points]


def _is_choice(mention: Mention, text: str, found: Sequence[Mention], position: int) -> bool:
    """Whether a number is a choice and not a quantity, and a label is not made more or less of."""
    if mention.kind is Kind.LABEL:
        return _unmodified(mention, text)
    if mention.kind in (Kind.PLACE, Kind.LINE) or _paired(text, found, position):
        return True
    if mention.labelled:
        return ends_clause(mention, text) or _linked(text, found, position)
    after = text[mention.end : mention.end + 20]
    if mention.kind is Kind.RANGE:  # "6 or 7" is no answer, whatever follows
        return mention.words[0].isdecimal() or _is_undecided(mention, text)
    if mention.kind is Kind.WORD and not mention.scored:
        return bool(re.match(r"\s*(?:$|[^\w\s-])", after))
    return bool(lexicon().after.match(after))


def _linked(text: str, found: Sequence[Mention], position: int) -> bool:
    """Whether the next mention is joined to this one as another choice: "10 and 60+"."""
    if position + 1 == len(found):
        return False
    gap = text[found[position].end : found[position + 1].start]
    joins = 0 < len(gap) <= 16 and bool(lexicon().connector.match(gap))
    return joins and _is_choice(found[position + 1], text, found, position + 1)


def _is_undecided(mention: Mention, text: str) -> bool:
    """Whether two numbers are a choice between them and not a quantity, such as "3 to 4 times a week"."""
    after = text[mention.end : mention.end + 20]
    return bool(_UNDECIDED.match(after) or lexicon().after.match(after))


def _paired(text: str, found: Sequence[Mention], position: int) -> bool:
    """Whether a label stands right behind a number, or a number right behind a label."""
    if position + 1 >= len(found):
        return False
    one, other = found[position], found[position + 1]
    gap = text[one.end : other.start]
    return (one.kind is Kind.LABEL) != (other.kind is Kind.LABEL) and len(gap) <= 16 and bool(_TIGHT.match(gap))


def _joined(gap: str, text: str, found: Sequence[Mention], position: int) -> bool:
    if len(gap) > 40:
        return False
    mention, before = found[position], found[position - 1]
    if mention.labelled and re.fullmatch(r"\. ?", gap):  # "1. 20"
        return _is_choice(mention, text, found, position)
    if "\n" in gap and not _ends_line(text, found, position):
        return False
    if mention.kind is Kind.RANGE and (before.kind is Kind.LABEL or not re.fullmatch(r" ?[,、] ?", gap)):
        return bool(lexicon().connector.match(gap)) and _is_undecided(mention, text)
    if _paired(text, found, position - 1) and (
        mention.kind is Kind.LABEL or re.match(r"[\s\"'“”]*[:(\[,\-–—=]", gap) or not gap.strip()
    ):
        return mention.kind is Kind.LABEL or _is_choice(mention, text, found, position)
    if before.kind is not Kind.LABEL and mention.kind is not Kind.LABEL:
        if not gap.strip(" \n"):
            return "\n" in gap
        if _DIRECTLY.fullmatch(gap):
            return True
    return bool(lexicon().connector.match(gap)) and _is_choice(mention, text, found, position)


def _next_in_list(text: str, found: Sequence[Mention], position: int, question: Question) -> bool:
    """Whether a mention opens the next line or sentence of a list of choices, each of which is explained."""
    if question.type is not QuestionType.MULTIPLE:
        return False
    mention = found[position]
    gap = text[found[position - 1].end : mention.start]
    _, newline, line = gap.rpartition("\n")
    if newline and BULLET.match(line):
        return mention.kind is not Kind.LABEL or bool(line.strip()) or _ends_line(text, found, position)
    after = text[mention.end : mention.end + 2]
    if not re.search(r"[.!?;。；！？] ?$", gap):
        return False
    alone = len(gap) <= 2 and bool(re.match(r" ?(?:[.;。；!！\n]|$)", after))  # a sentence that is nothing but a label
    named = alone if mention.kind is Kind.LABEL else _paired(text, found, position)
    return named or mention.kind is Kind.LINE or bool(re.match(r" ?[:\-–—]", after))


def _ends_line(text: str, found: Sequence[Mention], position: int) -> bool:
    end = found[position + 1].end if _paired(text, found, position) else found[position].end
    return bool(re.match(r"[ .,;。；，)\"'”]*(?:\n|$)", text[end : end + 20]))


def _ends_clause(text: str, end: int) -> bool:
    return bool(re.match(r"\s*(?:$|[^\w\s])|\s*(?:because|since|as|因为|吧)", text[end : end + 10]))


def _unmodified(mention: Mention, text: str) -> bool:
    before, after, words = text[max(0, mention.start - 20) : mention.start], text[mention.end :][:20], lexicon()
    if re.search(r"[不没非未]$", before):
        return False
    if words.degree_start.match(mention.words):
        return (
            not re.match(r" (?:strongly|somewhat|completely|partly)\b", after)
            or words.degree_after.match(after) is None
        )
    return not words.degree_before.search(before) and not words.degree_after.match(after)


def _in_sentences(text: str, found: Sequence[Mention], question: Question, *, marked: bool) -> list[Mention]:
    """The mentions by which sentences choose: the first such sentence, with a list that it begins, or all where
    none is marked."""
    stated: list[Mention] = []
    next_position = 0
    for start, end in _sentences(text):
        here = []
        while next_position < len(found) and found[next_position].start < end:
            here.append(next_position)
            next_position += 1
        chosen = _chosen_in_sentence(text, found, here, start)
        stated.extend(chosen)
        if chosen and marked:
            if question.type is QuestionType.MULTIPLE and chosen[-1] is found[next_position - 1]:
                stated.extend(_following(text, found, next_position, question))
            break
    return stated


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for end in _SENTENCE.finditer(text):
        yield start, end.end()
        start = end.end()
    yield start, len(text) + 1


def _chosen_in_sentence(text: str, found: Sequence[Mention], here: Sequence[int], start: int) -> list[Mention]:
    chosen: list[Mention] = []
    for position in here:
        mention = found[position]
        joined = bool(chosen) and chosen[-1] is found[position - 1]
        gap = text[chosen[-1].end : mention.start] if joined else ""
        affirmed = _affirmed(text, found, position, start) and _is_choice(mention, text, found, position)
        if affirmed or (joined and _joined(gap, text, found, position)):
            chosen.append(mention)
    return chosen


def _affirmed(text: str, found: Sequence[Mention], position: int, start: int) -> bool:
    """Whether a sentence that began at ``start`` chooses by this mention, rather than denies or merely uses it."""
    mention = found[position]
    before = text[max(start, mention.start - 200) : mention.start]
    for earlier in found[max(0, position - 8) : position]:  # "not very important" denies nothing that follows
        if earlier.start >= mention.start - len(before):
            at = earlier.start - (mention.start - len(before))
            before = before[:at] + " " * (earlier.end - earlier.start) + before[at + earlier.end - earlier.start :]
    clause = lexicon().clause.split(before)[-1]
    if lexicon().negation.search(clause):
        return False
    if mention.kind in (Kind.LABEL, Kind.LINE) and lexicon().denied_after.match(text, mention.end):
        return False
    if mention.kind is Kind.LABEL:
        return len(mention.words) > 3 or not mention.words.isascii() or _ends_clause(text, mention.end)
    if mention.kind in (Kind.PLACE, Kind.LINE):
        return True
    return mention.scored or is_cued(mention, before)
