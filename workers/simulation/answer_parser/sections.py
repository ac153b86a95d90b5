"""A completion taken apart: what it gives as answer, as explanation, and what it merely repeats.

It looks for the markers that the prompt asks for ("Answer:", "解释：") and for those that models use instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from defsurvey.storage.surveys.survey import Question
from defsurvey.workers.simulation.answer_parser.lexicon import clean, in_one_form, marker
from defsurvey.workers.simulation.prompts import languages

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
    marks = list(_marks(text))
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


def _marks(text: str) -> Iterator[re.Match[str]]:
    for count, mark in enumerate(marker().finditer(in_one_form(text))):
        if count >= 2 * MOST_SECTIONS:
            return
        yield mark


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
    """The cleaned completion without what it repeats of its prompt.

    Taken out are the prompt's sentence about the format, the question, and the complete
    list of its options where it stands on lines of its own. A question of a few words ("Income") may as well be part
    of an answer ("Income from work"): it is a repetition only as all of a line, or of what is said to be the request.
    """
    for words in languages().values():
        text = text.replace(_cleaned(words.format), "\n")
    labels = [_cleaned(label) for code in shown for label in question.option(code).label.values()]
    for wording in map(_cleaned, question.text.values()):
        if _FULL.search(wording) and not any(wording in label for label in labels):
            text = text.replace(wording, "\n")
        else:
            text = _as_line(wording).sub(r"\1", text)
    if text.count("\n") < len(shown) - 1:  # too few lines for a list of all options
        return text.strip()
    for language in languages():
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
    requests = "|".join(re.escape(_cleaned(words.request)) for words in languages().values())
    return re.compile(rf"^((?:{requests})? ?){re.escape(wording)}[ .:：]*$", re.MULTILINE)


def is_blank(text: str) -> bool:
    """Whether a completion has no words but markers."""
    return not re.search(r"\w", marker().sub("", in_one_form(text)))


def first_sentence(text: str) -> str:
    """The text up to the end of its first sentence, at most ``MOST_REMEMBERED`` characters.

    A full stop after a leading number, a single letter or a common abbreviation ends nothing.
    """
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
