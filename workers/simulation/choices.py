"""Which options a section of a completion chooses.

Knows two ways to give an answer: at once ("2: Rather important") and in a sentence ("I
would say rather important"). Deliberately does not decide whether what is chosen makes an
answer: that is ``workers.simulation.amounting``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from storage.survey import Question, QuestionType
from workers.simulation.affirming import SENTENCE_END, ends_at, is_affirmed, sentences
from workers.simulation.amounting import BULLET, NOTHING, Choice, judge
from workers.simulation.joining import WIDEST_GAP, is_choice, is_joined, is_next_in_list, is_paired, left_out
from workers.simulation.lexicon import lexicon
from workers.simulation.mentions import Kind, Mention, Vocabulary, vocabulary
from workers.simulation.points import ARGUED, by_number
from workers.simulation.quantities import ends_clause, is_all, is_cued
from workers.simulation.remarks import REMARK

#: Characters behind a choice after which no mention joins it: above the widest gap that ``is_joined`` and a span allow;
#: twice as many where a remark may stand between them.
FAR = 150
#: Characters of a line above which it is no list of labels alone.
_LONG_LINE = 2000
_REMARKED = re.compile(REMARK)


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
    found = _readable(folded, words)
    if not found:
        return NOTHING
    stated = _at_once(folded, found, question, marked=marked) or _in_sentences(folded, found, question, marked=marked)
    if question.type is QuestionType.SCALE:
        stated = by_number(stated, folded, found)
    first = found[0]
    if (
        first.kind is Kind.NUMBER
        and first not in stated
        and BULLET.match(folded[: first.start])
        and (not stated or (first.code in shown and not first.labelled))
    ):
        return Choice(problem=f"it begins with {first.words}, which may be a quantity")
    choice = judge(stated, folded, question, shown) if stated else NOTHING
    if choice.codes and question.type is QuestionType.MULTIPLE and (more := left_out(stated, folded, found, shown)):
        return Choice(problem=f"it goes on with {more.words!r}, which may be chosen as well")
    return choice


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
    if not stated:
        return False
    end = stated[-1].end
    remarked = re.search(r"[(\[]", folded[end : end + WIDEST_GAP])
    return len(folded) - end > (2 * FAR if remarked else FAR)


def begins(text: str, question: Question, shown: Sequence[int]) -> bool:
    """Whether a section begins with its choice, so that it needs no marker to be an answer."""
    return bool(_beginning(text, question, shown)[1])


def _beginning(text: str, question: Question, shown: Sequence[int]) -> tuple[str, list[Mention]]:
    """The folded text, and the mentions by which it chooses at once without a marker."""
    words = vocabulary(question, shown)
    folded = words.fold(text)
    found = _readable(folded, words)
    return folded, _at_once(folded, found, question, marked=False) if found else []


def _readable(text: str, words: Vocabulary) -> list[Mention]:
    """The mentions in a folded text, without labels of which it cannot be told whether they are denied.

    Where no denials of a label's language are known, it counts with its number beside it, or as all of its line.
    """
    found = _chosen_from(text, words.mentions(text))
    return [
        mention
        for place, mention in enumerate(found)
        if not mention.unreadable
        or is_paired(text, found, place)
        or (place > 0 and is_paired(text, found, place - 1))
        or _fills_line(mention, text, found)
    ]


def _chosen_from(text: str, found: Sequence[Mention]) -> list[Mention]:
    """The mentions but for those that a remark behind a choice only tells of: "1 (better than 3) or 2"."""
    kept: list[Mention] = []
    for place, mention in enumerate(found):
        bracket = max(text.rfind("(", 0, mention.start), text.rfind("[", 0, mention.start))
        remark = _REMARKED.match(text, bracket) if bracket >= 0 else None
        if (
            kept
            and remark is not None
            and mention.end < remark.end()
            and kept[-1].end <= bracket <= kept[-1].end + 1
            and not is_paired(text, found, place - 1)
            and lexicon().connector.match(text[bracket : mention.start]) is None
        ):
            continue
        kept.append(mention)
    return kept


def _fills_line(mention: Mention, text: str, found: Sequence[Mention]) -> bool:
    """Whether the line of a mention holds nothing but mentions and what joins them."""
    start, end = text.rfind("\n", 0, mention.start) + 1, text.find("\n", mention.end)
    end = len(text) if end < 0 else end
    if end - start > _LONG_LINE:
        return False
    rest, at = "", start
    for other in found:
        if start <= other.start and other.end <= end:
            rest, at = rest + text[at : other.start], other.end
    rest += text[at:end]
    return lexicon().connector.match(re.sub(r"[.!。！]", " ", rest)) is not None


def _at_once(text: str, found: Sequence[Mention], question: Question, *, marked: bool) -> list[Mention]:
    """The mentions that a section begins with: one, and those joined to it."""
    first = found[0]
    if first.start > 60 or not lexicon().preamble.match(text[: first.start]):
        return []
    told = marked or is_cued(first, text[: first.start])
    if not (
        is_choice(first, text, found, 0) or (told and first.labelled and ends_clause(first, text, counted=True))
    ) or (first.kind in (Kind.LABEL, Kind.LINE) and lexicon().denied_after.match(text, first.end)):
        return []
    if not marked and first.kind is Kind.LABEL and not ends_at(text, first.end) and not is_paired(text, found, 0):
        return []  # "Very important to some, ..."
    stated = [first, *_following(text, found, 1, question)]
    end = stated[-1].end
    rest = SENTENCE_END.split(text[end : end + ARGUED])[0]  # close behind only: ``stands`` relies on it
    return [] if first.labelled and not is_all(rest, end, found[len(stated) :], told=told) else stated


def _following(text: str, found: Sequence[Mention], position: int, question: Question) -> Iterator[Mention]:
    """The mentions from a position on that are joined to the one before, or go on with its list."""
    for place in range(position, len(found)):
        if not is_joined(text, found, place) and not is_next_in_list(text, found, place, question):
            return
        yield found[place]


def _in_sentences(text: str, found: Sequence[Mention], question: Question, *, marked: bool) -> list[Mention]:
    """The mentions by which sentences choose: the first such sentence, with a list that it begins, or all where
    none is marked."""
    stated: list[Mention] = []
    next_position = 0
    for start, end in sentences(text):
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


def _chosen_in_sentence(text: str, found: Sequence[Mention], here: Sequence[int], start: int) -> list[Mention]:
    chosen: list[Mention] = []
    for position in here:
        mention = found[position]
        joined = bool(chosen) and chosen[-1] is found[position - 1]
        affirmed = is_affirmed(text, found, position, start) and is_choice(mention, text, found, position)
        if affirmed or (joined and is_joined(text, found, position)):
            chosen.append(mention)
    return chosen
