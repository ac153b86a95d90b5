"""GlobalOpinionQA: what people of many countries answered to questions of Pew and the World Values Survey."""

from __future__ import annotations

import ast
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from defsurvey.storage.surveys.importers.cultures import Population, Populations, read_populations
from defsurvey.storage.surveys.importers.files import Row, read_dicts, read_header
from defsurvey.storage.surveys.importers.imported import Imported
from defsurvey.storage.surveys.importers.wvs_codes import is_missing
from defsurvey.storage.surveys.problem import SurveyError, listed
from defsurvey.storage.surveys.questions import MOST_OPTIONS
from defsurvey.storage.surveys.survey import Group, Option, Question, QuestionType, ReferenceDistribution, Survey

COLUMNS = ("question", "selections", "options", "source")
CITATION = (
    "Durmus, E. et al. (2023). Towards Measuring the Representation of Subjective Global Opinions in Language Models. "
    "arXiv:2306.16388. Figures: Pew Research Center, Global Attitudes Survey; World Values Survey."
)
TERMS = "GlobalOpinionQA is licensed CC BY-NC-SA 4.0; the surveys it is made from have terms of their own."
_TOPICS = {"GAS": "Global Attitudes Survey", "WVS": "World Values Survey"}
_DEFAULTDICT = re.compile(r"\s*defaultdict\(\s*<class '\w+'>\s*,(.*)\)\s*", re.DOTALL)
_SHARES = TypeAdapter(dict[str, list[Annotated[float, Field(ge=0, le=1, strict=True)]]])
_OPTIONS = TypeAdapter(list[str | float])
T = TypeVar("T")
#: What is no answer beside the words for missing ones that the World Values Survey has.
_NO_ANSWER = re.compile(
    r"dk\b|don.?t know|do not know|refused|no answer|missing|not asked|not applicable|inap\b|no opinion\b",
    re.IGNORECASE,
)
#: How a file names a sample that is not the country's best, from better to worse.
_LESSER = ("old national", "non-national")
_ROUNDING = 0.05  #: how far shares of a distribution may be from 1 in sum


def import_globalopinions(
    path: Path, *, id: str, countries: Sequence[str] = (), respondents: int = 1000, cultures: Path | None = None
) -> Imported:
    """The survey that a GlobalOpinionQA file holds; raises SurveyError.

    ``countries`` are codes or names, every one that is known if empty; questions that not all of them were asked are
    left out. So many ``respondents`` are assumed behind each distribution; ``cultures`` is the user's own table.
    """
    populations = read_populations(cultures)
    chosen = populations.chosen(countries)
    header = read_header(path)
    header.require(COLUMNS)
    reader = _Reader(populations, chosen, respondents)
    for row in read_dicts(header):
        reader.read(row)
    if not reader.questions:
        whom = f"that {listed(one.names['en'] for one in chosen)} were all asked" if chosen else "with shares"
        raise SurveyError(f"{path.name}: expected a question {whom}, got none")
    found = chosen or tuple(reader.found.values())
    survey = Survey(
        id=id,
        title=f"GlobalOpinionQA: {listed(population.names['en'] for population in found)}",
        version="1",
        citation=CITATION,
        terms=TERMS,
        languages=("en",),
        dimensions={},
        questions=tuple(reader.questions),
        cultures=tuple(population.culture(("en",)) for population in found),
        references=tuple(reader.references),
    )
    return Imported(survey=survey, left_out=tuple(reader.notes()))


class _Reader:
    def __init__(self, populations: Populations, chosen: Sequence[Population], respondents: int) -> None:
        self.populations, self.chosen, self.respondents = populations, chosen, respondents
        self.number = 0
        self.questions: list[Question] = []
        self.references: list[ReferenceDistribution] = []
        self.found: dict[str, Population] = {}
        self.unknown: dict[str, None] = {}
        self.left_out: defaultdict[str, list[str]] = defaultdict(list)  #: why -> questions or distributions

    def read(self, row: Row) -> None:
        """Take a row in; raises Fault."""
        self.number += 1
        name, text = f"G{self.number}", " ".join(row.text("question").split())
        selections = row.get("selections")
        wrapped = _DEFAULTDICT.fullmatch(selections)
        expected = "a country: [share, ...] for each country"
        shares = _literal(row, "selections", wrapped[1] if wrapped else selections, _SHARES, expected)
        parts = _literal(row, "options", row.get("options"), _OPTIONS, "a list of options")
        labels = [" ".join((f"{part:.15g}" if isinstance(part, float) else part).split()) for part in parts]
        answers = [place for place, label in enumerate(labels) if not (_NO_ANSWER.match(label) or is_missing(label))]
        offered = [labels[place] for place in answers]
        if not 2 <= len(offered) <= MOST_OPTIONS or len({label.casefold() for label in offered}) < len(offered):
            self.left_out[f"questions without 2 to {MOST_OPTIONS} different options"].append(name)
            return
        question = _question(name, text, row.get("source"), offered)
        references = self._references(question, shares, labels, answers)
        asked = {reference.culture for reference in references}
        if not references or any(population.code not in asked for population in self.chosen):
            why = "not asked in every country" if self.chosen else "without a distribution"
            self.left_out[f"questions {why}"].append(name)
            return
        self.questions.append(question)
        self.references += references

    def _references(
        self, question: Question, shares: Mapping[str, Sequence[float]], labels: Sequence[str], answers: Sequence[int]
    ) -> list[ReferenceDistribution]:
        found: dict[str, ReferenceDistribution] = {}
        for country, parts in sorted(shares.items(), key=lambda item: _rank(item[0])):
            population = self.populations.find(country)
            whole = math.fsum(parts[place] for place in answers) if len(parts) == len(labels) else 0
            sample = f"{question.id} {country}"
            if population is None:
                self.unknown[country] = None
            elif self.chosen and population not in self.chosen:
                continue
            elif population.code in found:
                self.left_out["second samples of a country"].append(sample)
            elif len(parts) != len(labels) or abs(math.fsum(parts) - 1) > _ROUNDING:
                self.left_out["distributions that do not fit the options or do not sum to 1"].append(sample)
            elif whole:
                assumed = f"number of respondents not given, {self.respondents} assumed"
                found[population.code] = ReferenceDistribution(
                    question=question.id,
                    culture=population.code,
                    group=Group.ALL,
                    shares=dict(zip(question.codes, (parts[place] / whole for place in answers), strict=True)),
                    n=self.respondents,
                    low_n="non-national" in country.casefold(),
                    source=f"GlobalOpinionQA, {country}; {assumed}",
                )
        rows = {row.code: row for row in map(self.populations.find, shares) if row is not None and row.code in found}
        self.found |= rows
        return [found[code] for code in rows]

    def notes(self) -> Iterator[str]:
        """What there is to tell of the file."""
        yield f"{len(self.questions)} questions; {self.respondents} respondents assumed behind each distribution"
        yield from (f"{len(names)} {why} left out: {listed(names)}" for why, names in self.left_out.items())
        if self.unknown and not self.chosen:
            yield f"countries that are not known (add them with --cultures FILE): {listed(self.unknown)}"


def _literal(row: Row, column: str, text: str, form: TypeAdapter[T], expected: str) -> T:
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise row.fault(column, "a list or dict of plain values", text) from None
    try:
        return form.validate_python(value)
    except ValidationError:
        raise row.fault(column, expected) from None


def _rank(country: str) -> int:
    """How far a sample stands behind the others of its country: a national one comes first."""
    return max((place for place, words in enumerate(_LESSER, start=1) if words in country.casefold()), default=0)


def _question(name: str, text: str, source: str, labels: Sequence[str]) -> Question:
    """Numbers make a scale, words a choice without order: the file does not say what is in order."""
    codes = _codes(labels)
    scale = all(map(str.isdecimal, labels)) and codes == list(range(int(labels[0]), int(labels[0]) + len(codes)))
    return Question(
        id=name,
        type=QuestionType.SCALE if scale else QuestionType.SINGLE,
        topic=_TOPICS.get(source.strip(), source.strip() or "Global opinions"),
        text={"en": text},
        options=tuple(Option(code=code, label={"en": label}) for code, label in zip(codes, labels, strict=True)),
    )


def _codes(labels: Sequence[str]) -> list[int]:
    """The number that each label is; where some are words, numbers in a row on which the others fall, or 1, 2, 3."""
    numbers = {place: int(label) for place, label in enumerate(labels) if label.isdecimal() and len(label) < 10}
    if len(numbers) == len(labels) == len(set(numbers.values())):
        return list(numbers.values())
    starts = {number - place for place, number in numbers.items()}
    start = starts.pop() if len(starts) == 1 and min(starts) >= 0 else 1
    return list(range(start, start + len(labels)))
