"""The files of the dataset of Liu et al. (2025): where each is, and what is in it."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from defsurvey.storage.surveys.folder import find_survey
from defsurvey.storage.surveys.importers.files import (
    DATA,
    Header,
    read_dicts,
    read_header,
    read_lines,
    read_rows,
    read_sheet,
)
from defsurvey.storage.surveys.problem import Fault, SurveyError, fault, listed, shown
from defsurvey.storage.surveys.survey import Group, Wording

QUESTIONNAIRE, REFERENCES, TYPES, LEADING = (
    "_questionaires.txt",
    "_ref_score_all.csv",
    "Question_type.xlsx",
    "Character.xlsx",
)
#: Group -> the file with its respondents.
RESPONDENTS: Mapping[Group, str] = {
    Group.ALL: "final_all.csv",
    Group.MALE: "final_male.csv",
    Group.FEMALE: "final_female.csv",
    Group.AGE_LE29: "final_29.csv",
    Group.AGE_30_49: "final_30.csv",
    Group.AGE_50PLUS: "final_50.csv",
}
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
#: Column of the scores that counts failures, which are no answers.
FAILED = 12
#: Scores are shares if most of their rows sum to 1 or 100; a few may have codes that are no options.
_ROUNDING, _MOST = 0.02, 0.9
_NOTHING = frozenset({"", "nan", "na"})
_VARIABLE = re.compile(r"([0-9]{1,4})(?:-([0-9]{1,2}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The files of one part: a survey of one culture, in one or more languages."""

    name: str
    culture: str
    questionnaires: Mapping[str, Path]  #: language -> file; at least one
    references: Path
    respondents: Mapping[Group, Path]
    types: Path | None
    leading: Path | None


def find_parts(folder: Path) -> tuple[Part, ...]:
    """The parts of which there are questions and reference scores.

    Raises:
        SurveyError: there is none, or there are two files where one is expected.
        Fault: a file lies outside the folder.
    """
    if not folder.is_dir():
        raise SurveyError(f"{folder}: expected a folder, got {'a file' if folder.exists() else 'nothing'}")
    files = [path for path in sorted(folder.rglob("*")) if _is_wanted(path.name)]
    for file in files:
        if not file.resolve().is_relative_to(folder.resolve()):
            name = str(file.relative_to(folder))
            raise fault(name, f"a file within {folder}", f"a link to {file.resolve()}")
    layout: dict[str, list[dict[str, str]]] = {}
    for _, row in read_dicts(read_header(DATA / "def_layout.csv")):
        layout.setdefault(row["part"], []).append(row)
    present: dict[str, dict[str, Path]] = {name: {} for name in layout}
    for name, rows in layout.items():
        for row in rows:
            if questionnaire := _one(folder, files, row["questionnaire"] + QUESTIONNAIRE):
                present[name][row["language"]] = questionnaire
    parts = [name for name, found in present.items() if found]
    found = [_part(folder, files, name, present[name], layout, alone=len(parts) == 1) for name in parts]
    complete = tuple(part for part in found if part is not None)
    if not complete:
        wanted = listed(row["questionnaire"] + QUESTIONNAIRE for rows in layout.values() for row in rows)
        raise SurveyError(
            f"{folder}: expected {wanted}, each with its *{REFERENCES}, got {listed(p.name for p in files) or 'none'}"
        )
    return complete


def _is_wanted(name: str) -> bool:
    ends = (QUESTIONNAIRE, REFERENCES)
    return name.endswith(ends) or name in (TYPES, LEADING, *RESPONDENTS.values())


def _part(
    folder: Path,
    files: Sequence[Path],
    name: str,
    questionnaires: Mapping[str, Path],
    layout: Mapping[str, Sequence[Mapping[str, str]]],
    *,
    alone: bool,
) -> Part | None:
    """None where there are no reference scores."""
    others = set(layout) - {name}
    steps = {path: path.relative_to(folder).parts for path in files}
    own = [path for path in files if name in steps[path] or (alone and others.isdisjoint(steps[path]))]
    names = [f"{prefix}{REFERENCES}" for row in layout[name] for prefix in row["references"].split()]
    references = [path for path in (_one(folder, files, wanted) for wanted in names) if path is not None]
    if not references:
        return None
    if len(references) > 1:
        raise _twice(folder, references)
    respondents = {group: _one(folder, own, file) for group, file in RESPONDENTS.items()}
    return Part(
        name=name,
        culture=layout[name][0]["culture"],
        questionnaires=questionnaires,
        references=references[0],
        respondents={group: path for group, path in respondents.items() if path is not None},
        types=_one(folder, own, TYPES),
        leading=_one(folder, own, LEADING),
    )


def _one(folder: Path, files: Sequence[Path], name: str) -> Path | None:
    found = [path for path in files if path.name == name]
    if len(found) > 1:
        raise _twice(folder, found)
    return found[0] if found else None


def _twice(folder: Path, found: Sequence[Path]) -> SurveyError:
    got = listed(str(path.relative_to(folder)) for path in found)
    return SurveyError(f"{folder}: expected one file, got {got}; name the folder that has one")


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
        return fault(self.file, expected, got, line=self.line)

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
    """The questions of a questionnaire in order, the first of which has number 1; raises Fault.

    ``country`` has the country's name by language, for ``[COUNTRY]``.
    """
    found: list[Line] = []
    for number, text in read_lines(path):
        if text.strip():
            found.append(_read(path.name, number, _filled(path.name, number, text, language, country)))
    if not found:
        raise fault(path.name, "a question", "an empty file", line=1)
    return found


def _filled(file: str, line: int, text: str, language: str, country: Wording) -> str:
    def word(found: re.Match[str]) -> str:
        if found[1] == "COUNTRY":
            return country.get(language) or country["en"]
        if found[1] in _PREVIOUS:
            return _PREVIOUS_WORDS.get(language, _PREVIOUS_WORDS["en"])
        expected = "no placeholder but [COUNTRY] and [PREVIOUS CHIOCE]"
        raise fault(file, expected, found[0], line=line, column=found.start() + 1)

    return _PLACEHOLDER.sub(word, text)


def _read(file: str, line: int, text: str) -> Line:
    written = _LINE.fullmatch(text)
    if not written or not written[2].strip():
        expected = "[number of options] question - 1: option, 2: option"
        raise fault(file, expected, shown(text.strip()), line=line)
    most, body = int(written[1]), " ".join(written[2].split())
    for dash in _DASH.finditer(body):
        options = _options(body[dash.end() :], most)
        asked = body[: dash.start()].strip()
        if len(options) > 1 and asked:
            return Line(file=file, line=line, most=most, text=asked, options=options)
    if not 2 <= most <= 62:
        raise fault(file, "a scale of 2 to 62 points", f"[{most}]", line=line)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The reference scores of a part."""

    rows: Mapping[int, Mapping[int, float]]  #: question number -> code -> amount; failures left out
    failed: Mapping[int, float]  #: question number -> failures
    lines: Mapping[int, int]  #: question number -> line
    header: Header
    whole: float | None  #: what each row sums to: 1 or 100 for shares; None for counts

    def fault(self, number: int, expected: str, got: str) -> Fault:
        """The error that says what is wrong with a question's row."""
        field = f"question {number}"
        return fault(self.header.path.name, expected, got, line=self.lines.get(number), field=field)


def read_scores(path: Path, *, lists: Sequence[int] = ()) -> Scores:
    """The scores of a CSV file, whose first column has the numbers of the questions; raises Fault.

    Rows of ``lists``, questions with several answers, sum to nothing in particular, and number 0 is no question.
    """
    header = read_header(path)
    codes = {position: int(name) for position, name in enumerate(header.names) if position and name.isdecimal()}
    header.require([str(code) for code in range(2)])
    rows: dict[int, dict[int, float]] = {}
    failed: dict[int, float] = {}
    lines: dict[int, int] = {}
    for line, cells in read_rows(header):
        number = _number(header, line, 0, cells[0])
        if number is None or number != int(number) or int(number) in lines:
            raise header.fault(line, header.names[0], "the number of a question, each once", cells[0])
        amounts = {code: _number(header, line, position, cells[position]) or 0.0 for position, code in codes.items()}
        for code, amount in amounts.items():
            if amount < 0:
                raise header.fault(line, str(code), "an amount, 0 or more", f"{amount:g}")
        lines[int(number)] = line
        failed[int(number)] = amounts.pop(FAILED, 0.0)
        rows[int(number)] = amounts
    sums = [math.fsum(amounts.values()) for number, amounts in rows.items() if number and number not in lists]
    sums = [amount for amount in sums if amount]
    near = {one: sum(abs(amount / one - 1) <= _ROUNDING for amount in sums) for one in (1.0, 100.0)}
    whole = next((one for one, fitting in near.items() if sums and fitting >= _MOST * len(sums)), None)
    return Scores(rows=rows, failed=failed, lines=lines, header=header, whole=whole)


def _number(header: Header, line: int, position: int, cell: str) -> float | None:
    text = cell.strip()
    if text.casefold() in _NOTHING:
        return None
    try:
        number = math.inf if "_" in text else float(text)  # Python's own way to group digits is no file's
    except ValueError:
        number = math.inf
    if not math.isfinite(number):
        name = header.names[position]
        raise fault(header.path.name, "a number", repr(text), line=line, column=position + 1, field=name)
    return number


@dataclass(slots=True, kw_only=True)
class Respondents:
    """What the respondents of a group answered."""

    single: defaultdict[int, Counter[int]]  #: question number -> code -> respondents
    chosen: defaultdict[int, Counter[int]]  #: list -> option -> who chose it
    asked: Counter[int]  #: list -> respondents with an answer to any of its options


def read_respondents(path: Path) -> Respondents:
    """The answers of a file of respondents: a column ``12`` is a question, ``7-3`` option 3 of list 7.

    Of a list, 1 is "chosen". Negative values and empty cells are missing, columns of other names passed over.
    Raises Fault where a cell is no number.
    """
    header = read_header(path)
    columns = [(position, match) for position, name in enumerate(header.names) if (match := _VARIABLE.fullmatch(name))]
    found = Respondents(single=defaultdict(Counter), chosen=defaultdict(Counter), asked=Counter())
    for line, cells in read_rows(header):
        answered: set[int] = set()
        for position, match in columns:
            value = _number(header, line, position, cells[position])
            if value is None or value < 0:
                continue
            if value != int(value):
                raise header.fault(line, header.names[position], "a code, a whole number", cells[position])
            question, code = int(match[1]), int(value)
            if match[2] is None:
                found.single[question][code] += 1
            else:
                answered.add(question)
                found.chosen[question][int(match[2])] += code == 1
        found.asked.update(answered)
    return found


def read_types(path: Path) -> dict[int, str]:
    """Question number -> code of its value dimension; the columns are ``id`` and ``value type``."""
    known = find_survey("wvs7").dimensions
    by_name = {code.casefold(): code for code in known} | {name["en"].casefold(): code for code, name in known.items()}
    rows = read_sheet(path)
    line, names = next(rows, (1, []))
    places = {name.casefold(): position for position, name in enumerate(names)}
    if "value type" not in places:
        expected, got = "a column 'value type'", listed(filter(None, names)) or "an empty sheet"
        raise fault(path.name, expected, got, line=line, field="header")
    found: dict[int, str] = {}
    for order, (number, cells) in enumerate(rows, start=1):
        row = {name: cells[position] if position < len(cells) else "" for name, position in places.items()}
        written, kind = row.get("id", str(order)), row["value type"]
        if not written.isdecimal():
            raise fault(path.name, "the number of a question", repr(written), line=number, field="id")
        if kind:
            found[int(written)] = by_name.get(kind.casefold(), "".join(filter(str.isalnum, kind)).upper() or kind)
    return found
