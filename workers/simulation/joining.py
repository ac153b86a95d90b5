"""Whether a mention is a choice in itself, and whether it goes on with the one before it.

Knows numbers that may be quantities, labels that are made more or less of, and lists. Deliberately does not know
where a choice begins: that is ``workers.simulation.choices``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from storage.survey import Question, QuestionType
from workers.simulation.affirming import SENTENCE_END, is_affirmed
from workers.simulation.amounting import BULLET
from workers.simulation.lexicon import lexicon
from workers.simulation.mentions import UNDECIDED, Kind, Mention
from workers.simulation.quantities import ends_clause
from workers.simulation.remarks import MOST_REMARKED, REMARK, without_remarks

#: Characters between two choices that are joined, remarks left out.
WIDEST_GAP = 40

_TIGHT = re.compile(
    r"[\s\"'“”‘’:.)\]\-–—=(\[,、]{0,5}(?:(?:即|也就是|that is|meaning|which is|which means|means|is)[\s\"'“”:,]{0,3})?$"
)
#: All of a text that joins two numbers so directly that who says the one says the other, whatever follows.
_DIRECTLY = re.compile(r" (?:or|to|through) | ?(?:或者?|到|至|[还還]是) ?|[-–—~]")
_UNDECIDED = re.compile(rf" ?分? ?(?:{UNDECIDED})")
_LINE_END = re.compile(rf"(?:{REMARK})?[ .,;。；，)\"'”]*(?:\n|$)")
#: Ends a text behind which an item of a list may stand, whatever stands before it.
_ITEM = re.compile(r"(?:[,;、，；/+&]|(?<![a-z])(?:and|or|plus|also|then)(?![a-z])|[和与與及]|[还還]有|也)[\s\"'“]*$")
#: What may tell of another option without choosing it.
_ARGUMENT = re.compile(
    r"(?<![a-z])(?:because|since|as|which|so|that|they|it|this|these|i|my|we|our)(?![a-z])"
    r"|[(\[][^)\]]*$|因[为為]|由[于於]|所以|因此|[我这這它他都能让讓使]"
)
#: Begins a text: the item before it has a remark or a reason of its own.
_EXPLAINED = re.compile(rf"{REMARK}| ?[:–—]| (?:because|since)(?![a-z])|因[为為]")


def is_choice(mention: Mention, text: str, found: Sequence[Mention], position: int) -> bool:
    """Whether a number is a choice and not a quantity, and a label is not made more or less of."""
    if mention.kind is Kind.LABEL:
        return _is_unmodified(mention, text)
    if mention.kind in (Kind.PLACE, Kind.LINE) or is_paired(text, found, position):
        return True
    if mention.labelled:
        return ends_clause(mention, text) or _is_linked(text, found, position)
    after = text[mention.end : mention.end + 20]
    if mention.kind is Kind.RANGE:  # "6 or 7" is no answer, whatever follows
        return mention.words[0].isdecimal() or _is_undecided(mention, text)
    if mention.kind is Kind.WORD and not mention.scored:
        return bool(re.match(r"\s*(?:$|[^\w\s-])", after))
    return bool(lexicon().after.match(after))


def is_paired(text: str, found: Sequence[Mention], position: int) -> bool:
    """Whether a label stands right behind a number, or a number right behind a label."""
    if position + 1 >= len(found):
        return False
    one, other = found[position], found[position + 1]
    gap = text[one.end : other.start]
    return (one.kind is Kind.LABEL) != (other.kind is Kind.LABEL) and len(gap) <= 16 and bool(_TIGHT.match(gap))


def is_joined(text: str, found: Sequence[Mention], position: int) -> bool:
    """Whether a mention is joined to the one before it as another choice, or as the same in other words."""
    mention, before = found[position], found[position - 1]
    if mention.start - before.end > WIDEST_GAP + MOST_REMARKED:
        return False
    gap = without_remarks(text, before.end, mention.start)
    if len(gap) > WIDEST_GAP:
        return False
    if mention.labelled and re.fullmatch(r"\. ?", gap):  # "1. 20"
        return is_choice(mention, text, found, position)
    if "\n" in gap and not _ends_line(text, found, position):
        return False
    if mention.kind is Kind.RANGE and (before.kind is Kind.LABEL or not re.fullmatch(r" ?[,、] ?", gap)):
        return bool(lexicon().connector.match(gap)) and _is_undecided(mention, text)
    if is_paired(text, found, position - 1) and (
        mention.kind is Kind.LABEL or re.match(r"[\s\"'“”]*[:(\[,\-–—=]", gap) or not gap.strip()
    ):
        return mention.kind is Kind.LABEL or is_choice(mention, text, found, position)
    if before.kind is not Kind.LABEL and mention.kind is not Kind.LABEL:
        if not gap.strip(" \n"):
            return "\n" in gap
        if _DIRECTLY.fullmatch(gap):
            return True
    return bool(lexicon().connector.match(gap)) and is_choice(mention, text, found, position)


def is_next_in_list(text: str, found: Sequence[Mention], position: int, question: Question) -> bool:
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
    # a sentence, or the last of a list with semicolons, that is nothing but a label
    alone = (len(gap) <= 2 or gap.rstrip()[-1] in ";；") and bool(re.match(r" ?(?:[.;。；!！\n]|$)", after))
    named = alone if mention.kind is Kind.LABEL else is_paired(text, found, position)
    return named or mention.kind is Kind.LINE or bool(re.match(r" ?[:\-–—]", after))


def left_out(stated: Sequence[Mention], text: str, found: Sequence[Mention], shown: Sequence[int]) -> Mention | None:
    """An option that the sentence of the last choice goes on with like a list, though it is not joined to it.

    "Independence needed in life, hard work for success": whether the second is chosen is not certain. What only an
    argument or a denial names ("not 10 and 11") is no part of a list.
    """
    last, codes = stated[-1], {mention.code for mention in stated}
    ending = SENTENCE_END.search(text, last.end)
    for place in range(found.index(last) + 1, len(found)):
        mention = found[place]
        if ending is not None and mention.start >= ending.start():
            return None
        between = without_remarks(text, last.end, mention.start)
        if mention.code in codes or mention.code not in shown or not _ITEM.search(between):
            continue
        if not is_choice(mention, text, found, place):
            continue
        if mention.kind is Kind.LABEL and not is_affirmed(text, found, place, last.end):
            continue
        argued = _ARGUMENT.search(between) or lexicon().negation.search(between)
        if not argued or _EXPLAINED.match(text, mention.end):
            return mention
    return None


def _is_linked(text: str, found: Sequence[Mention], position: int) -> bool:
    """Whether the next mention is joined to this one as another choice: "10 and 60+"."""
    if position + 1 == len(found):
        return False
    gap = text[found[position].end : found[position + 1].start]
    joins = 0 < len(gap) <= 16 and bool(lexicon().connector.match(gap))
    return joins and is_choice(found[position + 1], text, found, position + 1)


def _is_undecided(mention: Mention, text: str) -> bool:
    """Whether two numbers are a choice between them and not a quantity, such as "3 to 4 times a week"."""
    after = text[mention.end : mention.end + 20]
    return bool(_UNDECIDED.match(after) or lexicon().after.match(after))


def _ends_line(text: str, found: Sequence[Mention], position: int) -> bool:
    end = found[position + 1].end if is_paired(text, found, position) else found[position].end
    return _LINE_END.match(text[end : end + MOST_REMARKED + 20]) is not None


def _is_unmodified(mention: Mention, text: str) -> bool:
    before, after, words = text[max(0, mention.start - 20) : mention.start], text[mention.end :][:40], lexicon()
    if re.search(r"[不没沒非未]$", before) or words.denied_before.search(before) or words.changed_after.match(after):
        return False
    if words.degree_start.match(mention.words):
        return (
            not re.match(r" (?:strongly|somewhat|completely|partly)\b", after)
            or words.degree_after.match(after) is None
        )
    return not words.degree_before.search(before) and not words.degree_after.match(after)
