"""A completion taken apart: what it gives as answer, as explanation, and what it merely repeats.

Knows the markers ("Answer:", "解释：") that the prompt asks for and those that models use
instead. Deliberately does not know which option a section names: that is
``workers.simulation.choices``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from storage.survey import Question
from workers.simulation.lexicon import clean, lexicon
from workers.simulation.prompts import languages, option_text

#: A survey's wordings are looked for in every completion.
_cleaned = lru_cache(maxsize=1024)(clean)
#: No completion has a use for more sections; the rest of one that has more is not read.
MOST_SECTIONS = 20

_SENTENCE_END = re.compile(r"[。！？]|[.!?](?=[\s\"'”)]|$)")
_FULL = re.compile(r"[.?!。？！…:：]\W*$")
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
    for count, mark in enumerate(lexicon().marker.finditer(text)):
        if count >= 2 * MOST_SECTIONS:
            return
        yield mark


def _is_prose(mark: re.Match[str]) -> bool:
    """Whether an answer marker has no colon and begins no line, and so may be part of a sentence."""
    line = mark.string[: mark.start()].rpartition("\n")[2]
    return mark.lastgroup == "answer" and not mark[0].endswith((":", "：", "=")) and bool(line.strip())


def _section(kind: str, answer: str) -> Section:
    return Section(answer=answer.strip(), marked=kind == "answer", turn=kind == "turn")


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
            listing = "\n".join(clean(option_text(question, code, language)) for code in shown)
            text = f"\n{text}\n".replace(f"\n{listing}\n", "\n\n")
    return text.strip()


@lru_cache(maxsize=1024)
def _as_line(wording: str) -> re.Pattern[str]:
    requests = "|".join(re.escape(_cleaned(words.request)) for words in languages().values())
    return re.compile(rf"^((?:{requests})? ?){re.escape(wording)}[ .:：]*$", re.MULTILINE)


def is_blank(text: str) -> bool:
    """Whether a completion has no words but markers."""
    return not re.search(r"\w", lexicon().marker.sub("", text))


def first_sentence(text: str, most: int = 300) -> str:
    """The text up to the end of its first sentence, at most ``most`` characters.

    A full stop behind a leading number, a single letter or a common abbreviation ends nothing.
    """
    line = text.strip()[: most + 1].partition("\n")[0]
    end = _sentence_end(line)
    return line[:most].strip() if end is None else line[:end][:most]


def has_first_sentence(text: str, most: int = 300) -> bool:
    """Whether the first sentence is there, so that ``first_sentence`` stays as it is whatever follows the text."""
    stripped = text.lstrip()
    line, newline, _ = stripped.partition("\n")
    if newline or len(line) > most + 1:
        return True
    end = _sentence_end(line)
    # What follows a full stop tells whether it ends a sentence: "7." may become 7.5.
    return end is not None and (end < len(line) or line[end - 1] in "。！？")


def _sentence_end(line: str) -> int | None:
    for end in _SENTENCE_END.finditer(line):
        if not _NO_END.search(line[: end.start()]):
            return end.end()
    return None
