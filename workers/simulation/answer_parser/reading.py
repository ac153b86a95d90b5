"""What a completion answers: one state, and the options chosen.

Nothing is coerced and nothing raises: whatever a model writes ends in exactly one state, with the reason where it is
no answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from defsurvey.storage.runs.run import AnswerState, Reply
from defsurvey.storage.surveys.survey import Question
from defsurvey.workers.engines.base import FinishReason
from defsurvey.workers.simulation.answer_parser.choice import CONTRADICTIONS, NOTHING, Choice, choose
from defsurvey.workers.simulation.answer_parser.lexicon import clean, fold, pattern
from defsurvey.workers.simulation.answer_parser.sections import (
    MOST_REMEMBERED,
    Section,
    first_sentence,
    has_first_sentence,
    is_blank,
    split_sections,
    with_plain_marks,
    without_echo,
)
from defsurvey.workers.simulation.answer_parser.thoughts import spoken
from defsurvey.workers.simulation.prompts import words

_CUT_OFF = "cut off while thinking"
#: What may settle an answer, in the last characters of a text: a long token, and the white space before it.
_TELLING, _JUST_SAID = re.compile(r"[\n.!?。！？:：=]"), 20
#: Characters: a look takes longer the longer the text, and none may hold up the others of a batch.
_LONG = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was read from a completion."""

    state: AnswerState
    choices: tuple[int, ...] = ()  #: option codes, ascending; empty unless answered
    reason: str = ""  #: why it is refused, unparsable or failed
    remembered: str | None = None  #: the answer as memory keeps it; None unless answered


def read(
    text: str,
    finish: FinishReason,
    question: Question,
    shown: Sequence[int],
    language: str,
    reply: Reply = Reply.FULL,
) -> Reading:
    """Read the options that a completion chooses.

    A completion that disclaims and then answers is answered; one that only disclaims is
    refused. A number and a label, or a number and the end of a scale, that contradict each other, several options
    where one is allowed, more than the maximum, or two answers that differ, are unparsable. What a model thinks
    before it replies is no part of the reply: where nothing else is there, it is unparsable.

    Args:
        text: the whole completion.
        finish: why it ended.
        question: what was asked.
        shown: codes of the options offered, in the order shown.
        language: language code of the prompt, for the words that memory puts around an answer.
        reply: how far it is read. Where not to its end, the first answer that is complete counts, and what
            follows it is as if it had never been said (see ``is_settled``).
    """
    if finish is FinishReason.ERROR:
        return Reading(state=AnswerState.FAILED, reason="the engine gave up")
    if finish is FinishReason.REFUSAL:
        return Reading(state=AnswerState.REFUSED, reason="the provider says that the model declined")
    said, cut_off = spoken(text)
    cleaned = clean(said)
    folded = fold(cleaned)
    if pattern("failure").match(folded):
        return Reading(state=AnswerState.FAILED, reason=f"the completion is an error message: {cleaned[:80]}")
    own = without_echo(with_plain_marks(cleaned), question, shown)
    if is_blank(own):
        return _unparsable(_CUT_OFF if cut_off else _nothing(text, cleaned))
    choice, section = _settled(own, question, shown, reply) or _agreed(own, question, shown)
    if section is not None and choice.codes:
        return Reading(
            state=AnswerState.ANSWERED,
            choices=tuple(sorted(choice.codes)),
            remembered=_remembered(section, choice, question, shown, language),
        )
    # what declines anything at all counts where the answer should be, and not in an explanation
    answers = [fold(section.answer) for section in split_sections(own)]
    for found in (pattern("refusal").search(folded), *map(pattern("declining").search, answers)):
        if found:
            return Reading(state=AnswerState.REFUSED, reason=f"it declines: {found[0][:80].strip()}")
    return _unparsable(choice.problem or (_CUT_OFF if cut_off else "it names no option"))


def is_settled(text: str, question: Question, shown: Sequence[int], reply: Reply) -> bool:
    """Whether ``read`` with this ``reply`` gives the same whatever follows the text.

    Never where replies are read to their end, nor amid a thought; one that comes after the answer is left out of
    account. It is called after every token, and looks only where something that can settle an answer has just been
    said: a marker, the end of a sentence or of a line. What has settled nothing for long is left to its own end.
    """
    if reply is Reply.FULL or not _TELLING.search(text, max(0, len(text) - _JUST_SAID)):
        return False
    said, thinking = spoken(text)
    if thinking or len(said) > _LONG:
        return False
    cleaned = clean(said)
    if pattern("failure").match(fold(cleaned)):
        return False
    return _settled(without_echo(with_plain_marks(cleaned), question, shown), question, shown, reply) is not None


def _unparsable(reason: str) -> Reading:
    return Reading(state=AnswerState.UNPARSABLE, reason=reason)


def _nothing(text: str, said: str) -> str:
    """Why there is nothing to be read in what is said."""
    if not is_blank(said):
        return "the completion only repeats the question"
    return "nothing follows its thoughts" if not is_blank(clean(text)) else "it is empty"


def _choices(text: str, question: Question, shown: Sequence[int]) -> Iterator[tuple[Choice, Section]]:
    """The sections that say something about the options, and what.

    What follows like a new turn of a conversation ("Request:", "User:") once something was
    chosen is the model's own invention and is not read.
    """
    chosen = False
    for section in split_sections(text):
        if section.turn and chosen:
            return
        choice = choose(section.answer, question, shown, marked=section.marked)
        if choice != NOTHING:
            chosen = True
            yield choice, section


def _agreed(text: str, question: Question, shown: Sequence[int]) -> tuple[Choice, Section | None]:
    """The choice on which the sections agree, and the section that states it."""
    chosen = list(_choices(text, question, shown))
    deciding = [pair for pair in chosen if pair[1].marked] or chosen
    definite = [pair for pair in deciding if pair[0].codes or pair[0].problem in CONTRADICTIONS]
    if len({choice.codes for choice, _ in definite}) > 1:
        return Choice(problem="it gives answers that differ"), None
    return next(iter(definite or deciding), (NOTHING, None))


def _settled(text: str, question: Question, shown: Sequence[int], reply: Reply) -> tuple[Choice, Section] | None:
    """The first choice and its section, where it is complete for this ``reply``."""
    if reply is Reply.FULL:
        return None
    for choice, section in _choices(text, question, shown):
        if not choice.codes or not (section.marked or choice.opening):
            return None
        if reply is Reply.ANSWER:
            complete = section.explained or section.ended or _stays(section, choice, question, shown)
            return (choice, replace(section, explanation="")) if complete else None
        complete = section.ended or (section.explained and has_first_sentence(section.explanation))
        return (choice, section) if complete else None
    return None


def _stays(section: Section, choice: Choice, question: Question, shown: Sequence[int]) -> bool:
    """Whether neither the choice nor what is remembered of it changes, however the section goes on."""
    if not choice.final or len(section.answer) > MOST_REMEMBERED:
        return choice.final
    return has_first_sentence(section.answer) and _in_short(section, choice, question, shown) != section.answer


def _in_short(section: Section, choice: Choice, question: Question, shown: Sequence[int]) -> str:
    """The first sentence of an answer, or all of it where the sentence does not hold the whole choice."""
    short = first_sentence(section.answer)
    return short if choose(short, question, shown, marked=section.marked).codes == choice.codes else section.answer


def _remembered(section: Section, choice: Choice, question: Question, shown: Sequence[int], language: str) -> str:
    """The answer in the model's own words, up to the first sentence of its explanation."""
    table = words(language)
    answer = section.answer if section.explanation else _in_short(section, choice, question, shown)
    answer = table.answer + answer[:MOST_REMEMBERED].strip(" \n\"',;{}")
    if not section.explanation:
        return answer
    return f"{answer}\n{table.explanation}{first_sentence(section.explanation)}"
