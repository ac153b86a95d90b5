"""The official files of the World Values Survey, wave 7: who is counted in one, and which survey comes of it.

``wvs_codes`` reads a cell. Of a file each text in a column is kept once, and a number for each respondent.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from operator import itemgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from defsurvey.storage.surveys.folder import find_survey
from defsurvey.storage.surveys.importers import wvs_codes as codes
from defsurvey.storage.surveys.importers.cultures import Population, Populations, read_populations
from defsurvey.storage.surveys.importers.files import DATA, Header, read_header, read_rows
from defsurvey.storage.surveys.importers.imported import LOW_N, Imported, Left, Match
from defsurvey.storage.surveys.problem import InvalidSurvey, Problems, SurveyError, fault, listed, one_of
from defsurvey.storage.surveys.questions import Declared, read_questions
from defsurvey.storage.surveys.survey import Group, Question, QuestionType, ReferenceDistribution, Region, Survey
from defsurvey.storage.surveys.tables import to_number

WEIGHT, REGION, INTERVIEW = "W_WEIGHT", "N_REGION_ISO", "D_INTERVIEW"
COUNTRY = ("B_COUNTRY_ALPHA", "B_COUNTRY")
SEX, AGE_GROUP, AGE = "Q260", "X003R2", "Q262"
_QUESTIONS = "wvs7_questions.yaml"
#: What stands in place of a weight in the files of countries that made none: each respondent counts as 1.
_NO_WEIGHTS = "no weighting"
_HEAVIEST = 1e12  #: no respondent stands for more people
_BLOCK = 4_000  #: rows that are read at a time
#: What respondents are divided by, the groups that come of it, and the columns that tell them.
_DIVISIONS = (
    ("sex", (Group.MALE, Group.FEMALE), (SEX,)),
    ("age", (Group.AGE_LE29, Group.AGE_30_49, Group.AGE_50PLUS), (AGE_GROUP, AGE)),
)


def wvs_questions() -> tuple[Question, ...]:
    """Every question that can be imported, in order; those of the bundled ``wvs7`` come with its value dimensions."""
    path, bundled, problems = DATA / _QUESTIONS, find_survey("wvs7"), Problems()
    declared = Declared(languages=bundled.languages, dimensions=bundled.dimensions)
    further = read_questions(_QUESTIONS, path.read_text(encoding="utf-8"), declared, problems)
    if problems:
        raise InvalidSurvey(DATA, tuple(problems))
    return tuple(sorted((*bundled.questions, *further), key=lambda question: int(question.id[1:])))


def import_wvs(path: Path, *, id: str, countries: Sequence[str] = (), cultures: Path | None = None) -> Imported:
    """What people of some countries answered, from an official file of wave 7; raises SurveyError.

    ``countries`` are codes or names, all that the file has if empty; ``cultures`` is the user's own table of cultures.
    Questions that not every one of the countries was asked are left out.
    """
    populations = read_populations(cultures)
    questions, bundled = wvs_questions(), find_survey("wvs7")
    file = _File(header=_header(path), populations=populations, chosen=populations.chosen(countries))
    file.read([column for question in questions for column in codes.columns_of(question)])
    found = [file.country(population) for population in file.countries.values()]
    asked: list[Question] = []
    references: list[ReferenceDistribution] = []
    counts: list[Left] = []
    without: list[str] = []
    for question in questions:
        told = [_told(path, question, country) for country in found]
        absent = [found[place].population.code for place, (distributions, _) in enumerate(told) if not distributions]
        if absent:
            without.append(f"{question.id} ({', '.join(absent)})" if len(absent) < len(found) else question.id)
            continue
        asked.append(question)
        for distributions, left in told:
            references += distributions
            counts += left
    if not asked:
        raise SurveyError(f"{path.name}: expected a question that every country was asked, got none")
    survey = Survey(
        id=id,
        title=f"World Values Survey, wave 7 (2017-2022): {', '.join(one.population.names['en'] for one in found)}",
        version="1",
        citation=bundled.citation.partition(" Weighted figures")[0],
        terms=bundled.terms,
        languages=bundled.languages,
        dimensions=bundled.dimensions,
        questions=tuple(asked),
        cultures=tuple(country.population.culture(bundled.languages, country.regions) for country in found),
        references=tuple(references),
    )
    notes = tuple(_notes(survey, file.header.names, found, without))
    return Imported(survey=survey, left_out=notes, counts=tuple(counts), matches=file.matches())


def _header(path: Path) -> Header:
    """The header with its names cut to those of the variables: "Q1 Important in life: Family" is Q1."""
    written = read_header(path)
    header = replace(written, names=tuple(name.partition(" ")[0] for name in written.names)).once()
    if not any(name in header.names for name in COUNTRY):
        header.require(COUNTRY[1:])
    header.require((WEIGHT,))
    if not any(name.startswith("Q") and name[1:].isdigit() for name in header.names):
        header.require(("Q1",))
    return header


class _Column:
    """A column: each text in it once, with a number, and the number that every respondent has."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.has = array("i")

    def extend(self, cells: Sequence[str]) -> None:
        for cell in dict.fromkeys(cells):
            self.numbers.setdefault(cell, len(self.numbers))
        self.has.extend(map(self.numbers.__getitem__, cells))

    def read(self, meaning: Callable[[str], float]) -> NDArray[np.float64]:
        """What the text of every respondent means."""
        meanings = np.array([meaning(text) for text in self.numbers], float)
        return meanings.take(np.asarray(self.has, int))


@dataclass(slots=True, kw_only=True)
class _Country:
    """The respondents of a country with a weight above 0."""

    population: Population
    weights: NDArray[np.float64]
    answers: Mapping[str, NDArray[np.int32]]  #: column -> their codes
    members: Mapping[Group, NDArray[np.float64]]  #: 1 for each who belongs to it, else 0
    regions: tuple[Region, ...]
    people: int  #: with those whose weight is 0
    even: int  #: of these, with no weighting


class _File:
    """What stands in a file about the respondents who are counted."""

    def __init__(self, *, header: Header, populations: Populations, chosen: Sequence[Population]) -> None:
        self.header, self.populations, self.open = header, populations, not chosen
        #: In order of appearance, or as chosen.
        self.countries = {population.code: population for population in chosen}
        self.columns: dict[str, _Column] = {}
        self.readings: dict[str, dict[str, codes.Reading]] = {}  #: column -> text -> what it was read as
        self.codes: dict[str, NDArray[np.int32]] = {}  #: column -> code of each respondent
        self._lines = array("q")
        self._country: list[str] = []  #: of each respondent

    def read(self, answers: Sequence[str]) -> None:
        """Go through the file; raises Fault where something in it is not as it should be, with line and column."""
        names = self.header.names
        coded = [name for name in dict.fromkeys((SEX, AGE_GROUP, AGE, *answers)) if name in names]
        self.columns = {name: _Column() for name in (WEIGHT, *coded, REGION) if name in names}
        pick = itemgetter(*map(names.index, self.columns))
        rows = self._rows()
        while block := list(islice(rows, _BLOCK)):
            for column, cells in zip(self.columns.values(), zip(*map(pick, block), strict=True), strict=True):
                column.extend(cells)
        self.weights = self.columns[WEIGHT].read(self._weight)
        for name in coded:
            readings = {text: codes.read_cell(name, text) for text in self.columns[name].numbers}
            read = {text: reading.code for text, reading in readings.items()}
            self.readings[name] = readings
            self.codes[name] = self.columns[name].read(read.__getitem__).astype(np.int32)
        faulty = {WEIGHT: np.isnan(self.weights)} | {n: found == codes.UNREADABLE for n, found in self.codes.items()}
        if first := {name: int(np.argmax(found)) for name, found in faulty.items() if found.any()}:
            name = min(first, key=lambda name: first[name])
            text = list(self.columns[name].numbers)[self.columns[name].has[first[name]]]
            labels = codes.labels_of(name)
            expected = f"a code or one of the labels {one_of(labels)}" if labels else "a number"
            if name == WEIGHT:
                raise self.header.fault(self._lines[first[name]], name, "a weight, 0 or more", text)
            raise self.header.fault(self._lines[first[name]], name, expected, text, self.readings[name][text].doubt)

    def _rows(self) -> Iterator[list[str]]:
        names = self.header.names
        column = next(name for name in COUNTRY if name in names)
        interview = names.index(INTERVIEW) if INTERVIEW in names else None
        first: dict[tuple[str, str], int] = {}
        line = 0
        for line, cells in read_rows(self.header):
            name = cells[names.index(column)].strip()
            population = self.populations.find(name)
            if population is None and self.open:
                expected = "a country that is known; others are added with --cultures FILE"
                raise self.header.fault(line, column, expected, name, self.populations.near(name))
            if population is None or not (self.open or population.code in self.countries):
                continue
            self.countries.setdefault(population.code, population)
            number = "" if interview is None else cells[interview]
            if number.strip() and not number.strip().startswith("-"):  # ids may be missing, or codes for that
                before = first.setdefault((population.code, number), line)
                if before != line:
                    expected = "every interview once; take the repeated rows out of the file"
                    raise self.header.fault(line, INTERVIEW, expected, number, f" again, first on line {before}")
            self._lines.append(line)
            self._country.append(population.code)
            yield cells
        if not line:
            raise fault(self.header.path.name, "respondents", "none", line=2)

    def _weight(self, cell: str) -> float:
        text = cell.strip() if self.header.delimiter == "," else cell.strip().replace(",", ".")
        weight = 1.0 if _is_unweighted(cell) else to_number(text, _HEAVIEST)
        return math.nan if weight is None else weight

    def country(self, population: Population) -> _Country:
        """The respondents of a country; raises SurveyError where there are none, or none with a weight."""
        own = np.array([code == population.code for code in self._country], bool)
        name, file = population.names["en"], self.header.path.name
        if not own.any():
            raise SurveyError(f"{file}: expected respondents of {name}, got none")
        rows = np.flatnonzero(own & (self.weights > 0))
        if not len(rows):
            expected = f"expected a weight above 0 for some respondent of {name}"
            raise SurveyError(f"{file}, {WEIGHT}: {expected}, got 0 for all")
        answers = {column: found[rows] for column, found in self.codes.items()}
        unknown = np.full(len(rows), codes.MISSING)
        sex, group, age = (answers.get(column, unknown) for column in (SEX, AGE_GROUP, AGE))
        from_years = np.where(age < 0, 0, np.digitize(age, (30, 50)) + 1)
        group = np.where((group >= 1) & (group <= 3), group, from_years)  # years stand in where it is missing
        members = {Group.ALL: np.ones(len(rows)), Group.MALE: sex == 1, Group.FEMALE: sex == 2}
        members |= {each: group == number for number, each in enumerate(_DIVISIONS[1][1], start=1)}
        return _Country(
            population=population,
            weights=self.weights[rows],
            answers=answers,
            members={group: each.astype(float) for group, each in members.items()},
            regions=self._regions(rows, population.code),
            people=int(own.sum()),
            even=int(self.columns[WEIGHT].read(_is_unweighted)[own].sum()),
        )

    def _regions(self, rows: NDArray[np.intp], country: str) -> tuple[Region, ...]:
        if (column := self.columns.get(REGION)) is None:
            return ()
        summed = np.bincount(np.asarray(column.has, int)[rows], self.weights[rows], len(column.numbers))
        weights: dict[str, float] = defaultdict(float)
        names: dict[str, Mapping[str, str]] = {}
        for cell, weight in zip(column.numbers, summed.tolist(), strict=True):
            if weight and (place := codes.read_region(cell, country=country)):
                code, names[place[0]] = place
                weights[code] += weight
        whole = math.fsum(weights.values())
        return tuple(Region(code=code, name=names[code], share=weights[code] / whole) for code in sorted(weights))

    def matches(self) -> tuple[Match, ...]:
        """Labels that were matched loosely; one that stands for the same in several columns is one."""
        found: dict[tuple[str, codes.Reading], Counter[str]] = {}
        for column, readings in self.readings.items():
            people = np.bincount(self.columns[column].has, minlength=len(readings))
            for number, (text, reading) in enumerate(readings.items()):
                if reading.label:
                    found.setdefault((text.strip(), reading), Counter())[column] += int(people[number])
        return tuple(
            Match(
                columns=tuple(people),
                value=value,
                code=None if reading.code == codes.MISSING else reading.code,
                label="" if reading.code == codes.MISSING else reading.label,
                respondents=people.total(),
            )
            for (value, reading), people in found.items()
        )


def _is_unweighted(cell: str) -> bool:
    return " ".join(cell.casefold().split()) == _NO_WEIGHTS


def _told(path: Path, question: Question, country: _Country) -> tuple[list[ReferenceDistribution], list[Left]]:
    """What a country answered to a question, and what was dropped; nothing where the file does not have it.

    Everybody's answers are a row with a cell for each option: whether it was chosen, and whether that is known. The
    effective number of respondents is Kish's, (sum w)^2 / sum w^2; of a list the smallest of its options'.
    """
    multiple = question.type is QuestionType.MULTIPLE
    options, found, chosen, valid = (_list if multiple else _choice)(question, country)
    references: list[ReferenceDistribution] = []
    for group, members in country.members.items() if valid.any() else ():
        weights = country.weights * members
        whole, squares, n = weights @ valid, weights**2 @ valid, members @ valid
        known = (n > 0) & (whole > 0)
        if not known.any():
            continue
        shares = (weights @ chosen)[known] / whole[known]
        fewest = int(n[known].min())
        references.append(
            ReferenceDistribution(
                question=question.id,
                culture=country.population.code,
                group=group,
                shares=dict(zip(np.array(options)[known].tolist(), shares.tolist(), strict=True)),
                n=fewest,
                low_n=fewest < LOW_N,
                source=_source(path, country),
                n_eff=min(float((whole[known] ** 2 / squares[known]).min()), float(fewest)),
            )
        )
    if not references:
        return [], []
    missing = (found == codes.MISSING).sum(axis=0)
    other = len(found) - valid.sum(axis=0) - missing
    left = Left(question.id, country.population.code, references[0].n, int(missing.max()), int(other.max()))
    return references, [left]


#: Codes of options; of each respondent the codes that were found, whether each option was chosen, and is known.
_Answers = tuple[Sequence[int], NDArray[np.int32], NDArray[np.bool_], NDArray[np.bool_]]
_NOTHING: _Answers = ((), np.zeros((0, 0), np.int32), np.zeros((0, 0), bool), np.zeros((0, 0), bool))


def _choice(question: Question, country: _Country) -> _Answers:
    """A question with one answer, from the first of its columns in which there is one."""
    for column, recoded in codes.STORED.get(question.id, ((question.id, {}),)):
        found = country.answers.get(column)
        if found is not None and ((found >= 0) & (found <= codes.LARGEST)).any():
            meanings = recoded or {code: code for code in question.codes}
            raw = [[stored for stored, code in meanings.items() if code == option] for option in question.codes]
            chosen = np.stack([np.isin(found, each) for each in raw], axis=1)
            known = np.broadcast_to(chosen.any(axis=1, keepdims=True), chosen.shape)
            return question.codes, found[:, None], chosen, known
    return _NOTHING


def _list(question: Question, country: _Country) -> _Answers:
    """A list: each option is a column, with 1 where it was mentioned and 2 where it was not."""
    columns = dict(zip(question.codes, codes.columns_of(question), strict=True))
    present = {option: country.answers[column] for option, column in columns.items() if column in country.answers}
    if not present:
        return _NOTHING
    found = np.stack([*present.values()], axis=1)
    chosen = found == codes.CHOSEN
    return list(present), found, chosen, chosen | (found == codes.CHOSEN + 1)


def _source(path: Path, country: _Country) -> str:
    """Where figures are from; the design effect is Kish's, for those who want an effective number of respondents."""
    weights = country.weights
    effect = len(weights) * (weights**2).sum() / weights.sum() ** 2
    weighted = f"weighted by {WEIGHT} (design effect {effect:.2f})"
    if country.even == country.people:
        weighted = "without weights, since the file has none"
    name = country.population.names["en"]
    return f"World Values Survey wave 7, {name}, file {path.name}, {len(weights)} respondents {weighted}"


def _notes(
    survey: Survey, columns: Sequence[str], countries: Sequence[_Country], without: Sequence[str]
) -> Iterator[str]:
    people = ", ".join(f"{country.population.code} {country.people:,}" for country in countries)
    yield f"{len(survey.questions)} questions; respondents: {people}"
    if without:
        yield f"{len(without)} questions left out, not asked everywhere: {listed(without)}"
    if unweighted := sum(country.people - len(country.weights) for country in countries):
        yield f"{unweighted:,} respondents left out whose weight is 0"
    if even := [f"{country.population.code} {country.even:,}" for country in countries if country.even]:
        yield f"{WEIGHT} is 'No weighting', each respondent counts as 1: {listed(even)}"
    if INTERVIEW not in columns:
        yield f"rows that stand twice are not noticed: there is no column {INTERVIEW}"
    for division, groups, telling in _DIVISIONS:
        divided = {reference.culture for reference in survey.references if reference.group in groups}
        if whole := [culture.code for culture in survey.cultures if culture.code not in divided]:
            present = [column for column in telling if column in columns]
            why = f"nothing in {listed(present)}" if present else f"there is no column {' or '.join(telling)}"
            yield f"no distributions by {division} for {listed(whole)}: {why}"
    if nowhere := [culture.code for culture in survey.cultures if not culture.regions]:
        yield f"no regions for {listed(nowhere)}: participants are told the country alone"
