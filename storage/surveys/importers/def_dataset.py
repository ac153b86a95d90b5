"""The dataset of Liu et al. (2025), as its authors keep it on their disks: its files, and the survey made of them."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from defsurvey.storage.surveys.folder import find_survey
from defsurvey.storage.surveys.importers import files
from defsurvey.storage.surveys.importers.cultures import Population, read_populations
from defsurvey.storage.surveys.importers.imported import LOW_N, Imported, dimensions_of
from defsurvey.storage.surveys.problem import SurveyError, UnknownName, fault, listed, nearest, shown
from defsurvey.storage.surveys.survey import Group, Option, Question, QuestionType, ReferenceDistribution, Survey, Value

CITATION = (
    "Liu, H., et al. (2025). Towards realistic evaluation of cultural value alignment in large language models: "
    "Diversity enhancement for survey response simulation. Information Processing & Management. "
    "doi:10.1016/j.ipm.2025.104099. The surveys it is made from are to be cited as well."
)
TERMS = "The surveys that the dataset is made from have terms of their own; it may not be passed on without them."
ENDS = ("_questionaires.txt", "_ref_score_all.csv")
TYPES, LEADING = "Question_type.xlsx", "Character.xlsx"
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
_AROUND = " \t,，.．。;；、"
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
FAILED = 12  #: column of the scores that counts failures, which are no answers
#: Scores are shares if most of their rows sum to 1 or 100; a few may have codes that are no options.
_ROUNDING, _MOST = 0.02, 0.9
_VARIABLE = re.compile(r"([0-9]{1,4})(?:-([0-9]{1,2}))?")


def import_def(
    folder: Path,
    *,
    id: str,
    part: str | None = None,
    multiple: Sequence[int] = (),
    respondents: int = 1000,
    cultures: Path | None = None,
) -> Imported:
    """The survey that a copy of the dataset holds, in the folder or below it.

    ``part`` names the one to import (``US_survey``), ``multiple`` numbers of questions that allow several answers where
    no file says so. So many ``respondents`` are assumed where scores are shares; ``cultures`` is the user's own table.
    Raises SurveyError, also where parts are worded in different languages.
    """
    parts = _chosen(folder, find_parts(folder), part)
    populations = read_populations(cultures)
    readers = [_PartReader(one, populations.named(one.culture), multiple, respondents) for one in parts]
    languages = tuple(sorted(parts[0].questionnaires))
    questions = tuple(question for reader in readers for question in reader.questions)
    bundled = find_survey("wvs7")
    regions = {  # the dataset has none; those of the bundled survey have names in its languages
        culture.code: tuple(replace(one, name={name: one.name[name] for name in languages}) for one in culture.regions)
        for culture in bundled.cultures
        if set(languages) <= set(bundled.languages)
    }
    survey = Survey(
        id=id,
        title=f"Dataset of Liu et al. (2025): {listed(one.name for one in parts)}",
        version="1",
        citation=CITATION,
        terms=TERMS,
        languages=languages,
        dimensions=dimensions_of(questions, languages),
        questions=questions,
        cultures=tuple(one.population.culture(languages, regions.get(one.population.code, ())) for one in readers),
        references=tuple(reference for reader in readers for reference in reader.references),
    )
    notes = tuple(f"{one.part.name}: {note}" for one in readers for note in one.notes())
    return Imported(survey=survey, left_out=notes)


def _chosen(folder: Path, parts: Sequence[Part], name: str | None) -> Sequence[Part]:
    if name is not None:
        names = [part.name for part in parts]
        if name not in names:
            got = f"{name!r}{nearest(name, names)}"
            raise UnknownName(f"{folder}: expected one of the parts {listed(names)}, got {got}")
        return [part for part in parts if part.name == name]
    if len({tuple(sorted(part.questionnaires)) for part in parts}) > 1:
        got = "; ".join(f"{part.name} in {listed(sorted(part.questionnaires))}" for part in parts)
        raise SurveyError(f"{folder}: expected parts worded in the same languages, got {got}; choose one with --part")
    return parts


class _PartReader:
    """A part as it was read: its questions and what people answered to them."""

    def __init__(self, part: Part, population: Population, said: Sequence[int], assumed: int) -> None:
        self.part, self.population, self.assumed = part, population, assumed
        wordings = self._wordings()
        first = next(iter(wordings.values()))
        present = {group: part.others[file] for group, file in RESPONDENTS.items() if file in part.others}
        self.groups = {group: read_respondents(path) for group, path in present.items()}
        chosen = {number for group in self.groups.values() for number in group.chosen} | set(said)
        self.lists = {
            number
            for number, line in enumerate(first, start=1)
            if line.options and (number in chosen or any(w[number - 1].said_multiple for w in wordings.values()))
        }
        self.scores = read_scores(part.references, lists=sorted(self.lists))
        dimensions = read_types(part.others[TYPES]) if TYPES in part.others else {}
        self.strange = 0.0  # sum of scores on codes that are no option
        self.questions: list[Question] = []
        self.references: list[ReferenceDistribution] = []
        for number in range(1, len(first) + 1):
            lines = {language: lines[number - 1] for language, lines in wordings.items()}
            question = self._question(number, lines, dimensions.get(number))
            self.questions.append(question)
            self.references += self._references(number, question)

    def notes(self) -> Iterator[str]:
        """What there is to tell of the part."""
        told = {reference.question for reference in self.references if reference.group is Group.ALL}
        without = [question.id for question in self.questions if question.id not in told]
        numbers = listed(map(str, sorted(self.lists))) or "none"
        yield f"{len(self.questions)} questions, {len(self.lists)} of them lists ({numbers})"
        if without:
            yield f"{len(without)} questions have no reference scores and cannot be asked: {listed(without)}"
        if self.scores.failed:
            yield f"failures in column 12 left out: {self.scores.failed:g}"
        if self.strange:
            yield f"scores on codes that are no option left out: {self.strange:g}"
        if self.scores.whole is not None:
            yield f"scores are shares; {self.assumed} respondents assumed behind each"
        if LEADING in self.part.others:
            yield f"{LEADING} passed over: who chose an option most follows from the respondents' files"

    def _wordings(self) -> dict[str, list[Line]]:
        found = {
            language: read_questionnaire(path, language=language, country=self.population.names)
            for language, path in sorted(self.part.questionnaires.items())
        }
        first = next(iter(found.values()))
        for lines in found.values():
            if len(lines) != len(first):
                expected = f"{len(first)} questions, as in {first[0].file}"
                raise fault(lines[-1].file, expected, f"{len(lines)}", line=lines[-1].line)
            for line, other in zip(lines, first, strict=True):
                if (line.most, set(line.options)) != (other.most, set(other.options)):
                    expected = f"the options of line {other.line} of {other.file}: {other}"
                    raise fault(line.file, expected, str(line), line=line.line)
        return found

    def _question(self, number: int, lines: Mapping[str, Line], dimension: str | None) -> Question:
        line, multiple = next(iter(lines.values())), number in self.lists
        value = Value(dimension=dimension, direction=1, basis="B") if dimension else None
        if line.options:
            kind = QuestionType.MULTIPLE if multiple else QuestionType.SINGLE
            labels = {code: {language: one.options[code] for language, one in lines.items()} for code in line.options}
        else:
            kind = QuestionType.SCALE
            begin = 0 if self.scores.rows.get(number, {}).get(0) else 1
            labels = {code: dict.fromkeys(lines, str(code)) for code in range(begin, line.most + 1)}
        most = next((one.said_most for one in lines.values() if one.said_most), None) or len(labels)
        return Question(
            id=f"{self.population.code.upper()}{number}",
            type=kind,
            topic=self.part.name,
            text={language: one.text for language, one in lines.items()},
            options=tuple(
                Option(code=code, label=label, value=value if multiple else None) for code, label in labels.items()
            ),
            max_choices=min(most, len(labels)) if multiple else 1,
            value=None if multiple else value,
        )

    def _references(self, number: int, question: Question) -> Iterator[ReferenceDistribution]:
        """What everybody answered, by the scores, and each group, by its respondents; none where nobody did."""
        for group, amounts, n, whole, file in (self._everybody(number, question), *self._groups(number, question)):
            if n >= 1 and whole and any(amounts.get(code) for code in question.codes):
                yield ReferenceDistribution(
                    question=question.id,
                    culture=self.population.code,
                    group=group,
                    shares={code: amounts.get(code, 0.0) / whole for code in question.codes},
                    n=n,
                    low_n=n < LOW_N,
                    source=f"Dataset of Liu et al. (2025), {file}",
                )

    def _everybody(self, number: int, question: Question) -> _Amounts:
        scores, shares = self.scores, self.scores.whole
        amounts = scores.rows.get(number, {})
        if number not in self.lists:
            whole = math.fsum(amounts.get(code, 0.0) for code in question.codes)
            self.strange += math.fsum(amount for code, amount in amounts.items() if code not in question.codes)
            return Group.ALL, amounts, self.assumed if shares is not None else round(whole), whole, scores.file
        asked = self.groups[Group.ALL].asked[number] if Group.ALL in self.groups else 0
        if shares is not None:
            n, whole = asked or self.assumed, shares
        else:
            sums = [sum(row.values()) for other, row in scores.rows.items() if other not in self.lists]
            largest = max(sums, default=0.0)
            n, whole = asked or round(largest), asked or largest
        if max(amounts.values(), default=0.0) > whole:
            line, expected = scores.lines.get(number), f"at most {whole:g} for each option of a list"
            raise fault(scores.file, expected, "more", line=line, field=f"question {number}")
        return Group.ALL, amounts, n, whole, scores.file

    def _groups(self, number: int, question: Question) -> Iterator[_Amounts]:
        for group, answers in self.groups.items():
            if group is not Group.ALL:
                multiple = number in self.lists
                chosen = answers.chosen[number] if multiple else answers.single[number]
                n = answers.asked[number] if multiple else sum(chosen[code] for code in question.codes)
                yield group, chosen, n, n, RESPONDENTS[group]


#: A group, what it answered by code, its respondents, what all of them are among the amounts, and the file.
_Amounts = tuple[Group, Mapping[int, float], int, float, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The files of one part: a survey of one culture, in one or more languages."""

    name: str
    culture: str
    questionnaires: Mapping[str, Path]  #: language -> file; at least one
    references: Path
    others: Mapping[str, Path]  #: by name: answers of respondents, types of questions


def find_parts(folder: Path) -> tuple[Part, ...]:
    """The parts of which there are questions and reference scores; raises SurveyError where there is none."""
    if not folder.is_dir():
        raise SurveyError(f"{folder}: expected a folder, got {'a file' if folder.exists() else 'nothing'}")
    known = (TYPES, LEADING, *RESPONDENTS.values())
    found = [path for path in sorted(folder.rglob("*")) if path.name.endswith(ENDS) or path.name in known]
    for file in found:
        if not file.resolve().is_relative_to(folder.resolve()):
            raise fault(str(file.relative_to(folder)), f"a file within {folder}", f"a link to {file.resolve()}")
    layout: dict[str, list[Mapping[str, str]]] = {}
    for row in files.read_dicts(files.read_header(files.DATA / "def_layout.csv")):
        layout.setdefault(row.get("part"), []).append(row.cells)
    questionnaires = {
        name: {row["language"]: path for row in rows if (path := _one(folder, found, [row["questionnaire"] + ENDS[0]]))}
        for name, rows in layout.items()
    }
    present = [name for name in layout if questionnaires[name]]
    parts: list[Part] = []
    for name in present:
        wanted = [f"{prefix}{ENDS[1]}" for row in layout[name] for prefix in row["references"].split()]
        references = _one(folder, found, wanted)
        if references is None:
            continue
        others = set(layout) - {name}
        own = [
            path
            for path in found
            if name in (steps := path.relative_to(folder).parts) or (len(present) == 1 and others.isdisjoint(steps))
        ]
        parts.append(
            Part(
                name=name,
                culture=layout[name][0]["culture"],
                questionnaires=questionnaires[name],
                references=references,
                others={called: path for called in known if (path := _one(folder, own, [called]))},
            )
        )
    if not parts:
        wanted = [row["questionnaire"] + ENDS[0] for rows in layout.values() for row in rows]
        got = listed(path.name for path in found) or "none"
        raise SurveyError(f"{folder}: expected {listed(wanted)}, each with its *{ENDS[1]}, got {got}")
    return tuple(parts)


def _one(folder: Path, paths: Sequence[Path], names: Sequence[str]) -> Path | None:
    """The file of one of these names; raises SurveyError where there are several."""
    found = [path for name in names for path in paths if path.name == name]
    if len(found) > 1:
        got = listed(str(path.relative_to(folder)) for path in found)
        raise SurveyError(f"{folder}: expected one file, got {got}; name the folder that has one")
    return found[0] if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A question as a line of a questionnaire has it."""

    file: str
    line: int
    most: int  #: the number in brackets: the largest code
    text: str
    options: dict[int, str]  #: code -> label; empty for a scale, whose text tells it

    def __str__(self) -> str:
        return f"[{self.most}] {listed(map(str, self.options)) or 'a scale'}"

    @property
    def said_multiple(self) -> bool:
        """Whether the text asks for several options."""
        return bool(self.options) and (self.said_most is not None or bool(_ANY.search(self.text)))

    @property
    def said_most(self) -> int | None:
        """How many options the text allows to choose, where it says so."""
        found = _UP_TO.search(self.text)
        word = found[1].casefold() if found else ""
        count = int(word) if word.isdecimal() else _COUNTS.get(word, 0)
        return count if count > 1 else None


def read_questionnaire(path: Path, *, language: str, country: Mapping[str, str]) -> list[Line]:
    """The questions of a questionnaire in order; ``country`` is its name by language. Raises Fault."""
    words = {"COUNTRY": country.get(language) or country["en"]}
    words |= dict.fromkeys(_PREVIOUS, _PREVIOUS_WORDS.get(language, _PREVIOUS_WORDS["en"]))
    found: list[Line] = []
    for number, text in enumerate(files.read_lines(path), start=1):
        for placeholder in _PLACEHOLDER.finditer(text):
            if placeholder[1] not in words:
                expected, column = "no placeholder but [COUNTRY] and [PREVIOUS CHIOCE]", placeholder.start() + 1
                raise fault(path.name, expected, placeholder[0], line=number, column=column)
        if text.strip():
            found.append(_read(path.name, number, _PLACEHOLDER.sub(lambda one: words[one[1]], text)))
    if not found:
        raise fault(path.name, "a question", "an empty file", line=1)
    return found


def _read(file: str, line: int, text: str) -> Line:
    written = _LINE.fullmatch(text)
    if not written or not written[2].strip():
        raise fault(file, "[number of options] question - 1: option, 2: option", shown(text.strip()), line=line)
    most, body = int(written[1]), " ".join(written[2].split())
    for dash in _DASH.finditer(body):
        options, asked = _options(body[dash.end() :], most), body[: dash.start()].strip()
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
            if int(found[1]) <= most:
                places.setdefault(int(found[1]), found)
        begins = list(places.values())
        if begins and begins[0].start() == 0:
            ends = [*(found.start() for found in begins[1:]), len(text)]
            labels = [text[found.end() : end].strip(_AROUND) for found, end in zip(begins, ends, strict=True)]
            return dict(zip(places, labels, strict=True)) if all(labels) else {}
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The reference scores of a part."""

    file: str
    rows: Mapping[int, Mapping[int, float]]  #: question number -> code -> amount; failures left out
    lines: Mapping[int, int]  #: question number -> line
    failed: float  #: failures of all questions
    whole: float | None  #: what each row sums to: 1 or 100 for shares; None for counts


def read_scores(path: Path, *, lists: Sequence[int] = ()) -> Scores:
    """The scores of a CSV file by number of the question, of which 0 is none; rows of ``lists`` sum to nothing."""
    header = files.read_header(path)
    codes = {position: int(name) for position, name in enumerate(header.names) if position and name.isdecimal()}
    header.require(("0", "1"))
    rows: dict[int, dict[int, float]] = {}
    lines: dict[int, int] = {}
    for line, cells in files.read_rows(header):
        number = _number(header, line, 0, cells[0])
        if number is None or number != int(number) or int(number) in lines:
            raise header.fault(line, header.names[0], "the number of a question, each once", cells[0])
        amounts = {code: _number(header, line, position, cells[position]) or 0.0 for position, code in codes.items()}
        for code, amount in amounts.items():
            if amount < 0:
                raise header.fault(line, str(code), "an amount, 0 or more", f"{amount:g}")
        lines[int(number)], rows[int(number)] = line, amounts
    failed = math.fsum(amounts.pop(FAILED, 0.0) for amounts in rows.values())
    sums = [math.fsum(amounts.values()) for number, amounts in rows.items() if number and number not in lists]
    sums = [amount for amount in sums if amount]
    near = {one: sum(abs(amount / one - 1) <= _ROUNDING for amount in sums) for one in (1.0, 100.0)}
    whole = next((one for one, fitting in near.items() if sums and fitting >= _MOST * len(sums)), None)
    return Scores(file=path.name, rows=rows, lines=lines, failed=failed, whole=whole)


def _number(header: files.Header, line: int, position: int, cell: str) -> float | None:
    text = cell.strip()
    if text.casefold() in ("", "nan", "na"):
        return None
    try:
        number = math.inf if "_" in text else float(text)  # Python's own way to group digits is no file's
    except ValueError:
        number = math.inf
    if not math.isfinite(number):
        raise header.fault(line, header.names[position], "a number", text)
    return number


class Respondents:
    """What the respondents of a group answered."""

    def __init__(self) -> None:
        self.single: defaultdict[int, Counter[int]] = defaultdict(Counter)  #: question number -> code -> respondents
        self.chosen: defaultdict[int, Counter[int]] = defaultdict(Counter)  #: list -> option -> who chose it
        self.asked: Counter[int] = Counter()  #: list -> respondents with an answer to any of its options


def read_respondents(path: Path) -> Respondents:
    """The answers of a file of respondents: a column ``12`` is a question, ``7-3`` option 3 of list 7.

    Of a list, 1 is "chosen". Negative values and empty cells are missing, columns of other names passed over.
    """
    header = files.read_header(path)
    columns = [(position, match) for position, name in enumerate(header.names) if (match := _VARIABLE.fullmatch(name))]
    found = Respondents()
    for line, cells in files.read_rows(header):
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
    rows = files.read_sheet(path)
    line, names = next(rows, (1, []))
    places = {name.casefold(): position for position, name in enumerate(names)}
    if "value type" not in places:
        expected, got = "a column 'value type'", listed(filter(None, names)) or "an empty sheet"
        raise fault(path.name, expected, got, line=line, field="header")
    found: dict[int, str] = {}
    for order, (number, cells) in enumerate(rows, start=1):
        row = {name: "".join(cells[position : position + 1]) for name, position in places.items()}
        written, kind = row.get("id", str(order)), row["value type"]
        if not written.isdecimal():
            raise fault(path.name, "the number of a question", repr(written), line=number, field="id")
        if kind:
            found[int(written)] = by_name.get(kind.casefold(), "".join(filter(str.isalnum, kind)).upper() or kind)
    return found
