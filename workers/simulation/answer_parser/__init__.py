"""Reads completions: which options a reply chooses, or why it is no answer. Other rooms import this module alone.

A completion is taken apart: what a model thinks, what it gives as answer and as explanation, and what it repeats of its
prompt. Nothing is coerced and nothing raises: it ends in exactly one state, with the reason where it is no answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice

from defsurvey.storage.runs.run import AnswerState, Reply
from defsurvey.storage.surveys.survey import Question
from defsurvey.workers.engines.base import FinishReason
from defsurvey.workers.simulation.answer_parser.choice import CONTRADICTIONS, NOTHING, Choice, choose
from defsurvey.workers.simulation.answer_parser.lexicon import clean, fold, in_one_form, marker, pattern
from defsurvey.workers.simulation.answer_parser.mentions import unread_labels
from defsurvey.workers.simulation.prompts import closed_reply, words
from defsurvey.workers.simulation.prompts import languages as prompt_languages

__all__ = ["Reading", "clean", "is_settled", "read", "spoken", "unread_labels", "without_echo"]

_BEGINNING = re.compile(r"<think(?:ing)?>|\[THINK\]|(?:<\|start\|>assistant)?<\|channel\|>", re.IGNORECASE)
_END = re.compile(r"</think(?:ing)?>|\[/THINK\]|<\|channel\|>final\b[^<\n]{0,80}<\|message\|>", re.IGNORECASE)


def spoken(text: str) -> tuple[str, bool]:
    """What a completion says behind its thoughts, and whether a thought that never ends cuts it off.

    A thought that ends need not have begun, since the prompt may have begun it.

    >>> spoken("<think>Is it 1? No.</think>Answer: 2")
    ('Answer: 2', False)
    >>> spoken("<think>It may be 1, but")
    ('', True)
    """
    over = max((end.end() for end in _END.finditer(text)), default=0)
    said = text[over:].lstrip() if over else text
    beginning = _BEGINNING.search(said)
    return (said, False) if beginning is None else (said[: beginning.start()], True)


#: A survey's wordings are looked for in every completion.
_cleaned = lru_cache(maxsize=1024)(clean)
#: No completion has a use for more sections; the rest of one that has more is not read.
MOST_SECTIONS = 20
#: An answer that runs on without explanation is remembered up to so many characters.
MOST_REMEMBERED = 300

_SENTENCE_END = re.compile(r"[。！？]|[.!?](?=[\s\"'”)]|$)")
_FULL = re.compile(r"[.?!。？！…:：]\W*$")
#: A choice as mathematics marks it, and what it holds as text.
_BOXED = re.compile(r"\\boxed ?\{((?:[^{}]|\{[^{}]*\})*)\}")
_COMMAND = re.compile(r"\\[a-z]+ ?\{([^{}]*)\}")
_NOT_TICKED = re.compile(r"^[ \-–•·+]*(?:\[ ?\]|[☐□])[^\n]*\n?", re.MULTILINE)
_TICKED = re.compile(r"\[[xX✓✔]\]|[☑☒✅✓✔]")
_NO_END = re.compile(r"^\W*\d+$|\b(?:[A-Za-z]|[Mm]rs?|[Dd]r|[Ss]t|vs)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A stretch of a completion."""

    answer: str  #: cleaned text that should hold the answer
    explanation: str = ""  #: cleaned text of the explanation that follows it
    marked: bool = False  #: opened by an answer marker
    turn: bool = False  #: opened like a turn of a conversation ("Request:", "User:")
    explained: bool = False  #: an explanation marker ends the answer
    ended: bool = False  #: another section is opened behind it


def split_sections(text: str) -> Iterator[Section]:
    """The sections of a cleaned completion, in order, blank ones left out."""
    marks = list(islice(marker().finditer(in_one_form(text)), 2 * MOST_SECTIONS))
    bounds = [*(mark.start() for mark in marks), len(text)]
    section = _section("", text[: bounds[0]])
    for mark, end in zip(marks, bounds[1:], strict=True):
        if mark.lastgroup == "explanation":
            explanation = f"{section.explanation} {text[mark.end() : end]}".lstrip()
            section = replace(section, explanation=explanation, explained=True)
            continue
        if section.explained and section.answer and _is_prose(mark):  # "My answer is based on ..."
            section = replace(section, explanation=section.explanation + text[mark.start() : end])
            continue
        if section.answer:
            yield replace(section, ended=True)
        section = _section(mark.lastgroup or "", text[mark.end() : end])
    if section.answer:
        yield section


def _is_prose(mark: re.Match[str]) -> bool:
    """Whether an answer marker has no colon and begins no line, and so may be part of a sentence."""
    line = mark.string[: mark.start()].rpartition("\n")[2]
    return mark.lastgroup == "answer" and not mark[0].endswith((":", "：", "=")) and bool(line.strip())


def _section(kind: str, answer: str) -> Section:
    return Section(answer=answer.strip(), marked=kind == "answer", turn=kind == "turn")


def with_plain_marks(text: str) -> str:
    """The cleaned completion with ``\\boxed{2}`` as an answer, and of a list with boxes only what is ticked."""
    if "\\boxed" in text:
        text = _BOXED.sub(lambda found: "\nAnswer: " + _COMMAND.sub(r"\1", found[1]) + "\n", text)
    boxes = any(sign in text for sign in "[☐□☑☒✅✓✔")
    return _TICKED.sub("", _NOT_TICKED.sub("", text)).strip() if boxes else text.strip()


def without_echo(text: str, question: Question, shown: Sequence[int]) -> str:
    """The cleaned completion without what it repeats of its prompt: format, question, and the list of all options.

    A question of a few words ("Income") may be part of an answer: it is a repetition only as all of a line or request.
    """
    for table in prompt_languages().values():
        text = text.replace(_cleaned(table.format), "\n")
    labels = [_cleaned(label) for code in shown for label in question.option(code).label.values()]
    for wording in map(_cleaned, question.text.values()):
        if _FULL.search(wording) and not any(wording in label for label in labels):
            text = text.replace(wording, "\n")
        else:
            text = _as_line(wording).sub(r"\1", text)
    if text.count("\n") < len(shown) - 1:  # too few lines for a list of all options
        return text.strip()
    for language in prompt_languages():
        if all(language in question.option(code).label for code in shown):
            options = ((code, _cleaned(question.option(code).label[language])) for code in shown)
            # a point of a scale is shown as its number alone
            listing = r"\n".join(
                label if label == str(code) else rf"{code} ?[:：.)、] ?{re.escape(label)}" for code, label in options
            )
            text = re.sub(rf"(?<=\n){listing}(?=\n)", "", f"\n{text}\n")
    return text.strip()


@lru_cache(maxsize=1024)
def _as_line(wording: str) -> re.Pattern[str]:
    requests = "|".join(re.escape(_cleaned(table.request)) for table in prompt_languages().values())
    return re.compile(rf"^((?:{requests})? ?){re.escape(wording)}[ .:：]*$", re.MULTILINE)


def is_blank(text: str) -> bool:
    """Whether a completion has no words but markers."""
    return not re.search(r"\w", marker().sub("", in_one_form(text)))


def first_sentence(text: str) -> str:
    """The text up to the end of its first sentence, at most ``MOST_REMEMBERED`` characters."""
    line = text.strip()[: MOST_REMEMBERED + 1].partition("\n")[0]
    end = _sentence_end(line)
    return line[:MOST_REMEMBERED].strip() if end is None else line[:end][:MOST_REMEMBERED]


def has_first_sentence(text: str) -> bool:
    """Whether the first sentence is there, so that ``first_sentence`` stays as it is whatever follows the text."""
    line, newline, _ = text.lstrip().partition("\n")
    end = _sentence_end(line)
    # What follows a full stop tells whether it ends a sentence: "7." may become 7.5.
    ended = end is not None and (end < len(line) or line[end - 1] in "。！？")
    return bool(newline) or len(line) > MOST_REMEMBERED + 1 or ended


def _sentence_end(line: str) -> int | None:
    ends = (
        end for end in _SENTENCE_END.finditer(line[: MOST_REMEMBERED + 2]) if not _NO_END.search(line[: end.start()])
    )
    return next((end.end() for end in ends), None)


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
    text: str, finish: FinishReason, question: Question, shown: Sequence[int], language: str, reply: Reply = Reply.FULL
) -> Reading:
    """Read the options that a completion chooses.

    One that disclaims and then answers is answered; one that only disclaims is refused. Contradictions, several options
    where one is allowed, more than the maximum, or two answers that differ, are unparsable, and so is a completion that
    holds nothing but thoughts.

    Args:
        text: the whole completion.
        finish: why it ended.
        question: what was asked.
        shown: codes of the options offered, in the order shown.
        language: language code of the prompt, for the words that memory puts around an answer.
        reply: how far it is read. Where not to its end, the first answer that is complete counts (see ``is_settled``).
            One that can name options alone is read as that, and nothing else is: its engine has failed then.
    """
    if finish is FinishReason.ERROR:
        return Reading(state=AnswerState.FAILED, reason="the engine gave up")
    if finish is FinishReason.REFUSAL:
        return Reading(state=AnswerState.REFUSED, reason="the provider says that the model declined")
    if reply is Reply.CHOICE:
        return _named(text, finish, question, shown, language)
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
    """Whether ``read`` with this ``reply`` gives the same whatever follows the text: called after every token."""
    if reply is Reply.FULL or not _TELLING.search(text, max(0, len(text) - _JUST_SAID)):
        return False
    said, thinking = spoken(text)
    if thinking or len(said) > _LONG:
        return False
    cleaned = clean(said)
    if pattern("failure").match(fold(cleaned)):
        return False
    return _settled(without_echo(with_plain_marks(cleaned), question, shown), question, shown, reply) is not None


def _named(text: str, finish: FinishReason, question: Question, shown: Sequence[int], language: str) -> Reading:
    """What a reply names that could name options alone."""
    if finish is FinishReason.LENGTH:  # what is there may be the beginning of another number
        return _unparsable("it was cut off at max_new_tokens")
    start, closed, thought = words(language).answer, closed_reply(question, shown, language), _BEGINNING.match(text)
    said = text[thought.end() :].lstrip() if thought else text  # a thought that the prompt has begun
    named = closed.named(said.removeprefix(start).strip())
    if named is None:
        held = f"the engine did not hold the reply to the options that exist: {text[:80]!r}"
        return Reading(state=AnswerState.FAILED, reason=held)
    choices = tuple(sorted(map(int, named)))
    return Reading(state=AnswerState.ANSWERED, choices=choices, remembered=start + closed.separator.join(named))


def _unparsable(reason: str) -> Reading:
    return Reading(state=AnswerState.UNPARSABLE, reason=reason)


def _nothing(text: str, said: str) -> str:
    """Why there is nothing to be read in what is said."""
    if not is_blank(said):
        return "the completion only repeats the question"
    return "nothing follows its thoughts" if not is_blank(clean(text)) else "it is empty"


def _choices(text: str, question: Question, shown: Sequence[int]) -> Iterator[tuple[Choice, Section]]:
    """The sections that say something about the options, and what; no turn that a model invents behind its answer."""
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
    if short == section.answer:
        return short
    return short if choose(short, question, shown, marked=section.marked).codes == choice.codes else section.answer


def _remembered(section: Section, choice: Choice, question: Question, shown: Sequence[int], language: str) -> str:
    """The answer in the model's own words, up to the first sentence of its explanation."""
    table = words(language)
    answer = section.answer if section.explanation else _in_short(section, choice, question, shown)
    answer = table.answer + answer[:MOST_REMEMBERED].strip(" \n\"',;{}")
    if not section.explanation:
        return answer
    return f"{answer}\n{table.explanation}{first_sentence(section.explanation)}"
