"""The questionnaires of the dataset of Liu et al. (2025): ``{language}_questionaires.txt``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from defsurvey.storage.surveys.importers.delimited import read_lines
from defsurvey.storage.surveys.problem import Fault, Problem, shown
from defsurvey.storage.surveys.survey import Wording

_LINE = re.compile(r"\s*\[\s*([0-9]{1,3})\s*\]\s*(.*)", re.DOTALL)
_DASH = re.compile(r"[-–—]\s*(?=[0-9]{1,2}\s*[:：.．、])")
#: Codes are followed by a colon; where there is none, by a full stop.
_MARKS = tuple(re.compile(rf"(?:^|(?<=[\s,，.．。;；、]))([0-9]{{1,2}})\s*[{mark}]\s*") for mark in (":：", ".．、"))
_PLACEHOLDER = re.compile(r"\[([A-Z][A-Z _-]*)\]")
_ENDS = " \t,，.．。;；、"
#: The published code means to put the answer before here, and spells it so.
_PREVIOUS = ("PREVIOUS CHIOCE", "PREVIOUS CHOICE")
_PREVIOUS_WORDS = {"en": "your answer to the question before", "zh": "您对上一题的回答"}
_COUNTS = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "两": 2, "二": 2, "三": 3, "四": 4, "五": 5, "六": 6, "七": 7, "八": 8,
}  # fmt: skip
_UP_TO = re.compile(
    r"(?:up to|at most|no more than|最多|不超过|至多)\D{0,12}?([0-9]+|[a-z]+|[两二三四五六七八])", re.IGNORECASE
)
_ANY = re.compile(r"all that apply|more than one|multiple choice|several of|多选|可选多项|选出所有", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A question as a line of a questionnaire has it."""

    file: str
    line: int
    most: int  #: the number in brackets: the largest code
    text: str
    options: dict[int, str]  #: code -> label; empty for a scale, whose text tells it

    def fault(self, expected: str, got: str) -> Fault:
        """The error that says what is wrong with the line."""
        return Fault(Problem(file=self.file, line=self.line, expected=expected, got=got))

    @property
    def said_multiple(self) -> bool:
        """Whether the text asks for several options."""
        return bool(self.options) and (self.said_most is not None or bool(_ANY.search(self.text)))

    @property
    def said_most(self) -> int | None:
        """How many options the text allows to choose, where it says so."""
        found = _UP_TO.search(self.text)
        if not found:
            return None
        word = found[1].casefold()
        count = int(word) if word.isdecimal() else _COUNTS.get(word)
        return count if count is not None and count > 1 else None


def read_questionnaire(path: Path, *, language: str, country: Wording) -> list[Line]:
    """The questions of a questionnaire, in order: the first has number 1.

    Args:
        path: the text file.
        language: in which it is.
        country: name of the country by language, for ``[COUNTRY]``.

    Raises:
        Fault: a line is not of the form, or has a placeholder that is not known.
    """
    found: list[Line] = []
    for number, text in read_lines(path):
        if text.strip():
            found.append(_read(path.name, number, _filled(path.name, number, text, language, country)))
    if not found:
        raise Fault(Problem(file=path.name, line=1, expected="a question", got="an empty file"))
    return found


def _filled(file: str, line: int, text: str, language: str, country: Wording) -> str:
    def word(found: re.Match[str]) -> str:
        if found[1] == "COUNTRY":
            return country.get(language) or country["en"]
        if found[1] in _PREVIOUS:
            return _PREVIOUS_WORDS.get(language, _PREVIOUS_WORDS["en"])
        expected = "no placeholder but [COUNTRY] and [PREVIOUS CHIOCE]"
        raise Fault(Problem(file=file, line=line, column=found.start() + 1, expected=expected, got=found[0]))

    return _PLACEHOLDER.sub(word, text)


def _read(file: str, line: int, text: str) -> Line:
    written = _LINE.fullmatch(text)
    if not written or not written[2].strip():
        expected = "[number of options] question - 1: option, 2: option"
        raise Fault(Problem(file=file, line=line, expected=expected, got=shown(text.strip())))
    most, body = int(written[1]), " ".join(written[2].split())
    for dash in _DASH.finditer(body):
        options = _options(body[dash.end() :], most)
        asked = body[: dash.start()].strip()
        if len(options) > 1 and asked:
            return Line(file=file, line=line, most=most, text=asked, options=options)
    if not 2 <= most <= 62:
        raise Fault(Problem(file=file, line=line, expected="a scale of 2 to 62 points", got=f"[{most}]"))
    return Line(file=file, line=line, most=most, text=body, options={})


def _options(text: str, most: int) -> dict[int, str]:
    """Code -> label. Only a code that can be one ends a label before it: "2: 3 to 5 times" is one option."""
    for mark in _MARKS:
        places: dict[int, re.Match[str]] = {}
        for found in mark.finditer(text):
            code = int(found[1])
            if code <= most and code not in places:
                places[code] = found
        begins = list(places.values())
        if begins and begins[0].start() == 0:
            ends = [*(found.start() for found in begins[1:]), len(text)]
            labels = [text[found.end() : end].strip(_ENDS) for found, end in zip(begins, ends, strict=True)]
            return dict(zip(places, labels, strict=True)) if all(labels) else {}
    return {}
