"""The official files of the World Values Survey, wave 7: what is counted in one, and which survey comes of it.

A file of any size is read with the memory of one block of rows and of the interviews' ids; ``wvs_codes`` reads a cell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from defsurvey.storage.surveys.folder import find_survey
from defsurvey.storage.surveys.importers import wvs_codes as codes
from defsurvey.storage.surveys.importers.cultures import Population, Populations, read_populations
from defsurvey.storage.surveys.importers.files import DATA, Header, read_header, read_rows
from defsurvey.storage.surveys.importers.imported import LOW_N, Imported, Left, Match
from defsurvey.storage.surveys.problem import Fault, InvalidSurvey, Problems, SurveyError, fault, listed, one_of
from defsurvey.storage.surveys.questions import Declared, read_questions
from defsurvey.storage.surveys.survey import Group, Question, QuestionType, ReferenceDistribution, Region, Survey
from defsurvey.storage.surveys.tables import to_number

WEIGHT, REGION, INTERVIEW = "W_WEIGHT", "N_REGION_ISO", "D_INTERVIEW"
COUNTRY = ("B_COUNTRY_ALPHA", "B_COUNTRY")
SEX, AGE_GROUP, AGE = "Q260", "X003R2", "Q262"
_QUESTIONS = "wvs7_questions.yaml"
#: What stands in place of a weight in the files of countries that made none: each respondent counts as 1.
_NO_WEIGHTS = "no weighting"
#: No respondent stands for more people.
_HEAVIEST = 1e12
#: Rows that are counted at a time.
_BLOCK = 4_000
#: Slots of a count: the codes that are counted, then what is missing and what is no such code.
_SLOTS, _MISSING_SLOT, _OTHER_SLOT = codes.LARGEST + 3, codes.LARGEST + 1, codes.LARGEST + 2
#: What is summed of the respondents in a slot: their weights, these squared, and 1 for each whose weight is not 0.
_MEASURES, _WEIGHTS, _SQUARES, _RESPONDENTS = 3, 0, 1, 2
_SEXES, _AGES = 3, 4  #: unknown, male, female; unknown, up to 29, 30 to 49, 50 and more
_COUNT = (_MEASURES, _SEXES, _AGES, _SLOTS)
#: Which sexes and ages of a count make up a group.
_MEMBERS: Mapping[Group, tuple[slice, slice]] = {
    Group.ALL: (slice(None), slice(None)),
    Group.MALE: (slice(1, 2), slice(None)),
    Group.FEMALE: (slice(2, 3), slice(None)),
    Group.AGE_LE29: (slice(None), slice(1, 2)),
    Group.AGE_30_49: (slice(None), slice(2, 3)),
    Group.AGE_50PLUS: (slice(None), slice(3, _AGES)),
}
#: What respondents are divided by, the groups that come of it, and the columns that tell them.
_DIVISIONS = (
    ("sex", (Group.MALE, Group.FEMALE), (SEX,)),
    ("age", (Group.AGE_LE29, Group.AGE_30_49, Group.AGE_50PLUS), (AGE_GROUP, AGE)),
)

Block = Mapping[str, tuple[str, ...]]  #: rows of a file by columns


def wvs_questions() -> tuple[Question, ...]:
    """Every question that can be imported, in the order of the questionnaire.

    Those of the bundled survey ``wvs7`` come with its value dimensions, the others without any.
    """
    path, bundled, problems = DATA / _QUESTIONS, find_survey("wvs7"), Problems()
    declared = Declared(languages=bundled.languages, dimensions=bundled.dimensions)
    further = read_questions(_QUESTIONS, path.read_text(encoding="utf-8"), declared, problems)
    if problems.found:
        raise InvalidSurvey(DATA, tuple(problems.found))
    return tuple(sorted((*bundled.questions, *further), key=lambda question: int(question.id[1:])))


def import_wvs(path: Path, *, id: str, countries: Sequence[str] = (), cultures: Path | None = None) -> Imported:
    """What people of some countries answered, from an official file of wave 7.

    ``countries`` are codes or names, all that the file has if empty; ``cultures`` is the user's own table of cultures.
    Questions that not every one of the countries was asked are left out.

    Raises:
        SurveyError: the file is not as it should be (Fault), a country is not known (UnknownName), has no respondents
            or no weight, or no question was asked in every country.
    """
    populations = read_populations(cultures)
    chosen = populations.chosen(countries)
    header = _header(path)
    questions = wvs_questions()
    counter = _Counter(header=header, populations=populations, open=not chosen)
    counter.columns = [name for question in questions for name in codes.columns_of(question) if name in header.names]
    for population in chosen:
        counter.start(population)
    counter.count()
    for country in counter.countries.values():
        if not country.people:
            raise SurveyError(f"{path.name}: expected respondents of {country.name}, got none")
        if not country.weights:
            expected = f"expected a weight above 0 for some respondent of {country.name}"
            raise SurveyError(f"{path.name}, {WEIGHT}: {expected}, got 0 for all")
    return _imported(path, id, questions, counter)


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


@dataclass(slots=True, kw_only=True)
class _Country:
    """What was counted of one country."""

    population: Population
    answers: dict[str, NDArray[np.float64]]  #: column -> (measure, sex, age, slot)
    people: int = 0
    unweighted: int = 0  #: of these, who are left out since their weight is 0
    even: int = 0  #: of these, with no weighting
    weights: float = 0.0  #: their sum, and below that of their squares
    squares: float = 0.0
    regions: dict[str, float] = field(default_factory=dict)  #: cell -> summed weights
    interviews: dict[str, int] = field(default_factory=dict)  #: id -> line

    @property
    def name(self) -> str:
        return self.population.names["en"]


@dataclass(slots=True, kw_only=True)
class _Counter:
    """Counts a file: each column's codes by country, sex and age."""

    header: Header
    populations: Populations
    open: bool  #: whether all countries are counted, which then must be known
    columns: Sequence[str] = ()
    countries: dict[str, _Country] = field(default_factory=dict)  #: in order of appearance, or as chosen
    #: (text of cells, what it is read as) -> column -> respondents, for texts that are no known label
    matches: dict[tuple[str, codes.Reading], dict[str, int]] = field(default_factory=dict)

    def start(self, population: Population) -> None:
        """Make a country one that is counted."""
        answers = {column: np.zeros(_COUNT) for column in self.columns}
        self.countries[population.code] = _Country(population=population, answers=answers)

    def count(self) -> None:
        """Go through the file; raises Fault where something in it is not as it should be, with line and column."""
        rows = read_rows(self.header)
        line = 0
        while block := list(islice(rows, _BLOCK)):
            line = block[-1][0]
            columns = zip(*(cells for _, cells in block), strict=True)
            self._count([line for line, _ in block], dict(zip(self.header.names, columns, strict=True)))
        if not line:
            raise fault(self.header.path.name, "respondents", "none", line=2)

    def _count(self, lines: Sequence[int], block: Block) -> None:
        country = next(name for name in COUNTRY if name in block)
        which = _each(block[country], self._culture).astype(int)
        meant = which != codes.MISSING
        weights = _each(block[WEIGHT], self._weight)
        coded = {
            name: self._coded(name, block[name], meant)
            for name in dict.fromkeys((SEX, AGE_GROUP, AGE, *self.columns))
            if name in block
        }
        faulty = (which == codes.UNREADABLE) | (meant & np.isnan(weights)) | self._repeated(lines, block, which)
        for read in coded.values():
            faulty |= meant & (read == codes.UNREADABLE)
        if faulty.any():
            place = int(np.argmax(faulty))
            raise self._fault(lines[place], country, {name: cells[place] for name, cells in block.items()})
        group = _sexes(coded, len(lines)) * _AGES + _ages(coded, len(lines))
        even = _each(block[WEIGHT], _is_unweighted).astype(bool)
        for index, counted in enumerate(self.countries.values()):
            rows = np.flatnonzero(which == index)
            weight = weights[rows]
            counted.people += len(rows)
            counted.unweighted += int((weight == 0).sum())
            counted.even += int(even[rows].sum())
            counted.weights += float(weight.sum())
            counted.squares += float((weight**2).sum())
            measures = ((_WEIGHTS, weight), (_SQUARES, weight**2), (_RESPONDENTS, weight > 0))
            for column in self.columns if len(rows) else ():
                code = coded[column][rows]
                slot = np.where(code > codes.LARGEST, _OTHER_SLOT, np.where(code < 0, _MISSING_SLOT, code))
                for measure, amounts in measures:
                    summed = np.bincount(group[rows] * _SLOTS + slot, weights=amounts, minlength=math.prod(_COUNT[1:]))
                    counted.answers[column][measure] += summed.reshape(_COUNT[1:])
            for place in rows.tolist() if REGION in block else ():
                cell = block[REGION][place]
                counted.regions[cell] = counted.regions.get(cell, 0.0) + float(weights[place])

    def _coded(self, column: str, cells: Sequence[str], meant: NDArray[np.bool_]) -> NDArray[np.int64]:
        readings = {cell: codes.read_cell(column, cell) for cell in dict.fromkeys(cells)}
        for cell, reading in readings.items():
            people = int(meant[[each == cell for each in cells]].sum()) if reading.label else 0
            if people:
                found = self.matches.setdefault((cell.strip(), reading), {})
                found[column] = found.get(column, 0) + people
        return np.array([readings[cell].code for cell in cells])

    def _repeated(self, lines: Sequence[int], block: Block, which: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether the interview of each row stood before it; ids may be missing, or codes for that."""
        found = np.zeros(len(lines), bool)
        countries = list(self.countries.values())
        for place, cell in enumerate(block.get(INTERVIEW, ())):
            if which[place] >= 0 and cell.strip() and not cell.strip().startswith("-"):
                line = lines[place]
                found[place] = countries[which[place]].interviews.setdefault(cell, line) != line
        return found

    def _culture(self, cell: str) -> int:
        """Index of the country, MISSING for one that is not counted, UNREADABLE for one that is not known."""
        row = self.populations.find(cell)
        if row is None:
            return codes.UNREADABLE if self.open else codes.MISSING
        if row.code not in self.countries and self.open:
            self.start(row)
        return list(self.countries).index(row.code) if row.code in self.countries else codes.MISSING

    def _weight(self, cell: str) -> float:
        if _is_unweighted(cell):
            return 1.0
        text = cell.strip()
        weight = to_number(text if self.header.delimiter == "," else text.replace(",", "."), _HEAVIEST)
        return math.nan if weight is None else weight

    def _fault(self, line: int, country: str, row: Mapping[str, str]) -> Fault:
        """The error about the first cell of a row that cannot be read, or else its interview, which stands twice."""
        name = row[country].strip()
        if self._culture(name) == codes.UNREADABLE:
            expected = "a country that is known; others are added with --cultures FILE"
            return self.header.fault(line, country, expected, name, self.populations.near(name))
        if math.isnan(self._weight(row[WEIGHT])):
            return self.header.fault(line, WEIGHT, "a weight, 0 or more", row[WEIGHT])
        for column in filter(row.__contains__, (*self.columns, SEX, AGE_GROUP, AGE)):
            reading = codes.read_cell(column, row[column])
            if reading.code == codes.UNREADABLE:
                labels = codes.labels_of(column)
                expected = f"a code or one of the labels {one_of(labels)}" if labels else "a number"
                return self.header.fault(line, column, expected, row[column], reading.doubt)
        first = list(self.countries.values())[self._culture(name)].interviews[row[INTERVIEW]]
        expected = "every interview once; take the repeated rows out of the file"
        return self.header.fault(line, INTERVIEW, expected, row[INTERVIEW], f" again, first on line {first}")


def _each(cells: Sequence[str], read: Callable[[str], float]) -> NDArray[np.float64]:
    known = {cell: read(cell) for cell in dict.fromkeys(cells)}
    return np.array([known[cell] for cell in cells], float)


def _is_unweighted(cell: str) -> bool:
    return " ".join(cell.casefold().split()) == _NO_WEIGHTS


def _sexes(coded: Mapping[str, NDArray[np.int64]], rows: int) -> NDArray[np.int64]:
    sex = coded.get(SEX, np.zeros(rows, int))
    return np.where((sex == 1) | (sex == 2), sex, 0)


def _ages(coded: Mapping[str, NDArray[np.int64]], rows: int) -> NDArray[np.int64]:
    """The age group; from the age in years where the group is missing."""
    group, years = (coded.get(name, np.full(rows, codes.MISSING)) for name in (AGE_GROUP, AGE))
    from_years = np.where(years < 0, 0, np.digitize(years, (30, 50)) + 1)
    return np.where((group >= 1) & (group <= 3), group, from_years)


def _imported(path: Path, id: str, questions: Sequence[Question], counter: _Counter) -> Imported:
    bundled = find_survey("wvs7")
    countries = list(counter.countries.values())
    references: list[ReferenceDistribution] = []
    asked: list[Question] = []
    left: list[Left] = []
    without: list[str] = []
    for question in questions:
        tallies = [(country, _tally(question, country)) for country in countries]
        found = [
            (country, tally, list(_distributions(path, question, country, tally)) if tally else [])
            for country, tally in tallies
        ]
        absent = [country.population.code for country, _, distributions in found if not distributions]
        if absent:
            without.append(f"{question.id} ({', '.join(absent)})" if len(absent) < len(countries) else question.id)
            continue
        asked.append(question)
        for country, tally, distributions in found:
            references += distributions
            if tally is not None and distributions[0].group is Group.ALL:
                left.append(
                    Left(
                        question=question.id,
                        culture=country.population.code,
                        valid=distributions[0].n,
                        missing=tally.missing,
                        not_offered=tally.not_offered,
                    )
                )
    if not asked:
        raise SurveyError(f"{path.name}: expected a question that every country was asked, got none")
    cultures = tuple(country.population.culture(bundled.languages, _regions(country)) for country in countries)
    survey = Survey(
        id=id,
        title=f"World Values Survey, wave 7 (2017-2022): {', '.join(country.name for country in countries)}",
        version="1",
        citation=bundled.citation.partition(" Weighted figures")[0],
        terms=bundled.terms,
        languages=bundled.languages,
        dimensions=bundled.dimensions,
        questions=tuple(asked),
        cultures=cultures,
        references=tuple(references),
    )
    notes = tuple(_notes(survey, counter, without))
    return Imported(survey=survey, left_out=notes, counts=tuple(left), matches=_matches(counter))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tally:
    """Answers to one question in one culture, by sex and age; the last axis has the question's options."""

    chosen: NDArray[np.float64]  #: (sex, age, option): summed weights
    valid: NDArray[np.float64]  #: (measure, sex, age, option): of those on whom the option's share rests
    asked: NDArray[np.bool_]  #: for each option whether it can be told; all True but for lists
    missing: int
    not_offered: int


def _distributions(path: Path, question: Question, country: _Country, tally: _Tally) -> Iterator[ReferenceDistribution]:
    """Those of the groups in which somebody answered.

    The effective number of respondents is Kish's, (sum w)^2 / sum w^2; of a list the smallest of its options'.
    """
    for group, members in _MEMBERS.items():
        chosen = tally.chosen[members].sum(axis=(0, 1))
        whole, squares, n = tally.valid[:, *members].sum(axis=(1, 2))
        known = tally.asked & (n > 0) & (whole > 0)
        if not known.any() or (question.type is not QuestionType.MULTIPLE and not known.all()):
            continue
        fewest = int(n[known].min())
        yield ReferenceDistribution(
            question=question.id,
            culture=country.population.code,
            group=group,
            shares={code: float(chosen[at] / whole[at]) for at, code in enumerate(question.codes) if known[at]},
            n=fewest,
            low_n=fewest < LOW_N,
            source=_source(path, country),
            n_eff=min(float((whole[known] ** 2 / squares[known]).min()), float(fewest)),
        )


def _tally(question: Question, country: _Country) -> _Tally | None:
    """None where the file does not have the question."""
    if question.type is QuestionType.MULTIPLE:
        return _list_tally(question, country)
    for column, recoded in codes.STORED.get(question.id, ((question.id, {}),)):
        found = country.answers.get(column, np.zeros(_COUNT))
        if found[_RESPONDENTS, ..., :_MISSING_SLOT].any():
            meanings = recoded or {code: code for code in question.codes}
            options = [[raw for raw, code in meanings.items() if code == option] for option in question.codes]
            chosen = np.stack([found[..., raw].sum(axis=-1) for raw in options], axis=-1)
            missing = int(found[_RESPONDENTS, ..., _MISSING_SLOT].sum())
            return _Tally(
                chosen=chosen[_WEIGHTS],
                valid=np.broadcast_to(chosen.sum(axis=-1, keepdims=True), chosen.shape),
                asked=np.ones(len(question.codes), bool),
                missing=missing,
                not_offered=int(found[_RESPONDENTS].sum() - chosen[_RESPONDENTS].sum()) - missing,
            )
    return None


def _list_tally(question: Question, country: _Country) -> _Tally | None:
    """A list: each option is a column, with 1 where it was mentioned and 2 where it was not."""
    columns = codes.columns_of(question)
    each = [country.answers.get(column, np.zeros(_COUNT)) for column in columns]
    found = np.stack(each, axis=-2)  # (measure, sex, age, option, slot)
    valid = found[..., [codes.CHOSEN, codes.CHOSEN + 1]].sum(axis=-1)
    if not valid[_RESPONDENTS].any():
        return None
    missing = found[_RESPONDENTS, ..., _MISSING_SLOT].sum(axis=(0, 1))
    other = found[_RESPONDENTS].sum(axis=(0, 1, 3)) - valid[_RESPONDENTS].sum(axis=(0, 1)) - missing
    return _Tally(
        chosen=found[_WEIGHTS, ..., codes.CHOSEN],
        valid=valid,
        asked=np.array([column in country.answers for column in columns]),
        missing=int(missing.max()),
        not_offered=int(other.max()),
    )


def _source(path: Path, country: _Country) -> str:
    """Where figures are from; the design effect is Kish's, for those who want an effective number of respondents."""
    respondents = country.people - country.unweighted
    weighted = f"weighted by {WEIGHT} (design effect {respondents * country.squares / country.weights**2:.2f})"
    if country.even == country.people:
        weighted = "without weights, since the file has none"
    return f"World Values Survey wave 7, {country.name}, file {path.name}, {respondents} respondents {weighted}"


def _regions(country: _Country) -> tuple[Region, ...]:
    weights: dict[str, float] = {}
    names: dict[str, Mapping[str, str]] = {}
    for cell, weight in country.regions.items():
        place = codes.read_region(cell, country=country.population.code) if weight else None
        if place is not None:
            code, named = place
            weights[code] = weights.get(code, 0.0) + weight
            names[code] = named
    whole = sum(weights.values())
    return tuple(Region(code=code, name=names[code], share=weights[code] / whole) for code in sorted(weights))


def _matches(counter: _Counter) -> tuple[Match, ...]:
    """Labels that were matched loosely; one that stands for the same in several columns is one."""
    return tuple(
        Match(
            columns=tuple(found),
            value=value,
            code=None if reading.code == codes.MISSING else reading.code,
            label="" if reading.code == codes.MISSING else reading.label,
            respondents=sum(found.values()),
        )
        for (value, reading), found in counter.matches.items()
    )


def _notes(survey: Survey, counter: _Counter, without: Sequence[str]) -> list[str]:
    names, countries = counter.header.names, counter.countries
    people = ", ".join(f"{code} {country.people:,}" for code, country in countries.items())
    notes = [f"{len(survey.questions)} questions; respondents: {people}"]
    if without:
        notes.append(f"{len(without)} questions left out, not asked everywhere: {listed(without)}")
    if unweighted := sum(country.unweighted for country in countries.values()):
        notes.append(f"{unweighted:,} respondents left out whose weight is 0")
    if even := [f"{code} {country.even:,}" for code, country in countries.items() if country.even]:
        notes.append(f"{WEIGHT} is 'No weighting', each respondent counts as 1: {listed(even)}")
    if INTERVIEW not in names:
        notes.append(f"rows that stand twice are not noticed: there is no column {INTERVIEW}")
    for division, groups, columns in _DIVISIONS:
        divided = {reference.culture for reference in survey.references if reference.group in groups}
        whole = [culture.code for culture in survey.cultures if culture.code not in divided]
        if whole:
            present = [column for column in columns if column in names]
            why = f"nothing in {listed(present)}" if present else f"there is no column {' or '.join(columns)}"
            notes.append(f"no distributions by {division} for {listed(whole)}: {why}")
    if nowhere := [culture.code for culture in survey.cultures if not culture.regions]:
        notes.append(f"no regions for {listed(nowhere)}: participants are told the country alone")
    return notes
