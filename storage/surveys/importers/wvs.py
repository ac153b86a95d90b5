"""The official files of the World Values Survey, wave 7: which survey comes of them.

``wvs_counts`` goes through a file, ``wvs_codes`` reads a cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from defsurvey.storage.surveys.folder import find_survey
from defsurvey.storage.surveys.importers.cultures import Population, read_populations
from defsurvey.storage.surveys.importers.files import DATA, Header, read_header
from defsurvey.storage.surveys.importers.imported import LOW_N, Imported, Left, Match, language_notes
from defsurvey.storage.surveys.importers.wvs_codes import (
    AGE,
    AGE_GROUP,
    CHOSEN,
    MISSING,
    SEX,
    STORED,
    Reading,
    columns_of,
    read_region,
)
from defsurvey.storage.surveys.importers.wvs_counts import (
    AGES,
    COUNTRY,
    INTERVIEW,
    MEASURES,
    MISSING_SLOT,
    RESPONDENTS,
    SQUARES,
    TOTALS,
    WEIGHT,
    WEIGHTS,
    Counter,
    Counts,
)  # fmt: skip
from defsurvey.storage.surveys.problem import InvalidSurvey, Problems, SurveyError, listed
from defsurvey.storage.surveys.questions import Declared, read_questions
from defsurvey.storage.surveys.survey import (  # fmt: skip
    Group,
    Question,
    QuestionType,
    ReferenceDistribution,
    Region,
    Survey,
)

_QUESTIONS = "wvs7_questions.yaml"
#: Which sexes and ages of a count make up a group.
_MEMBERS: Mapping[Group, tuple[slice, slice]] = {
    Group.ALL: (slice(None), slice(None)),
    Group.MALE: (slice(1, 2), slice(None)),
    Group.FEMALE: (slice(2, 3), slice(None)),
    Group.AGE_LE29: (slice(None), slice(1, 2)),
    Group.AGE_30_49: (slice(None), slice(2, 3)),
    Group.AGE_50PLUS: (slice(None), slice(3, AGES)),
}
#: What respondents are divided by, the groups that come of it, and the columns that tell them.
_DIVISIONS = (
    ("sex", (Group.MALE, Group.FEMALE), (SEX,)),
    ("age", (Group.AGE_LE29, Group.AGE_30_49, Group.AGE_50PLUS), (AGE_GROUP, AGE)),
)


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

    Questions that not every one of the countries was asked are left out.

    Args:
        path: a country file (``;``, quoted, with a byte order mark) or a cross-national one (``,``), with numeric
            codes or text labels. It is read in blocks: its size does not matter.
        id: of the survey.
        countries: alpha-3 or other codes or names; empty: all that the file has.
        cultures: the user's own table of cultures, see ``read_populations``.

    Raises:
        UnknownName: a country is not known.
        Fault: the file is not as it should be; line and column are told.
        SurveyError: a country has no respondents or no weight, or no question was asked in every country.
    """
    populations = read_populations(cultures)
    chosen = populations.chosen(countries)
    header = _header(path)
    questions = wvs_questions()
    columns = [name for question in questions for name in columns_of(question) if name in header.names]
    counter = Counter(header, columns, populations=populations, chosen=[row.code for row in chosen])
    counts = counter.count()
    rows = [populations.named(code) for code in counts.cultures]
    _check(path, counts, rows)
    return _to_survey(path, id, questions, counts, rows, header=header)


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


def _check(path: Path, counts: Counts, rows: Sequence[Population]) -> None:
    for index, row in enumerate(rows):
        name = row.names["en"]
        if not counts.totals["people"][index]:
            raise SurveyError(f"{path.name}: expected respondents of {name}, got none")
        if not counts.totals["weights"][index]:
            raise SurveyError(
                f"{path.name}, {WEIGHT}: expected a weight above 0 for some respondent of {name}, got 0 for all"
            )


def _to_survey(
    path: Path, id: str, questions: Sequence[Question], counts: Counts, rows: Sequence[Population], *, header: Header
) -> Imported:
    bundled = find_survey("wvs7")
    references: list[ReferenceDistribution] = []
    asked: list[Question] = []
    left: list[Left] = []
    without: list[str] = []
    for question in questions:
        found, tallies = _distributions(path, question, counts, rows)
        absent = [row.code for row in rows if not any(r.culture == row.code for r in found)]
        if absent:
            without.append(f"{question.id} ({', '.join(absent)})" if len(absent) < len(rows) else question.id)
            continue
        asked.append(question)
        references += found
        left += tallies
    if not asked:
        raise SurveyError(f"{path.name}: expected a question that every country was asked, got none")
    cultures = tuple(
        row.culture(bundled.languages, regions=_regions(counts, index, row.code)) for index, row in enumerate(rows)
    )
    names = ", ".join(row.names["en"] for row in rows)
    survey = Survey(
        id=id,
        title=f"World Values Survey, wave 7 (2017-2022): {names}",
        version="1",
        citation=bundled.citation.partition(" Weighted figures")[0],
        terms=bundled.terms,
        languages=bundled.languages,
        dimensions=bundled.dimensions,
        questions=tuple(asked),
        cultures=cultures,
        references=tuple(references),
    )
    matches = _matches(counts)
    notes = (*_notes(survey, counts, without, header), *map(str, matches), *language_notes(cultures))
    return Imported(survey=survey, notes=notes, counts=tuple(left), matches=matches)


def _distributions(
    path: Path, question: Question, counts: Counts, rows: Sequence[Population]
) -> tuple[list[ReferenceDistribution], list[Left]]:
    references: list[ReferenceDistribution] = []
    left: list[Left] = []
    for index, row in enumerate(rows):
        answers = _tally(question, counts, index)
        if answers is None:
            continue
        source = _source(path, counts, index, row)
        found = [answers.distribution(question, row.code, group, source) for group in Group]
        references += [distribution for distribution in found if distribution is not None]
        if found[0] is not None:
            left.append(
                Left(
                    question=question.id,
                    culture=row.code,
                    valid=found[0].n,
                    missing=answers.missing,
                    not_offered=answers.not_offered,
                )
            )
    return references, left


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tally:
    """Answers to one question in one culture, by sex and age; the last axis has the question's options."""

    chosen: NDArray[np.float64]  #: (sex, age, option): summed weights
    valid: NDArray[np.float64]  #: (measure, sex, age, option): of those on whom the option's share rests
    asked: NDArray[np.bool_]  #: for each option whether it can be told; all True but for lists
    missing: int
    not_offered: int

    def distribution(self, question: Question, culture: str, group: Group, source: str) -> ReferenceDistribution | None:
        """The group's distribution; None where nobody in it answered.

        Its effective number of respondents is Kish's, (sum w)^2 / sum w^2; of a list the smallest of its options'.
        """
        members = _MEMBERS[group]
        chosen = self.chosen[members].sum(axis=(0, 1))
        whole, squares, n = (
            self.valid[measure][members].sum(axis=(0, 1)) for measure in (WEIGHTS, SQUARES, RESPONDENTS)
        )
        known = self.asked & (n > 0) & (whole > 0)
        if not known.any() or (question.type is not QuestionType.MULTIPLE and not known.all()):
            return None
        fewest = int(n[known].min())
        return ReferenceDistribution(
            question=question.id,
            culture=culture,
            group=group,
            shares={code: float(chosen[at] / whole[at]) for at, code in enumerate(question.codes) if known[at]},
            n=fewest,
            low_n=fewest < LOW_N,
            source=source,
            n_eff=min(float((whole[known] ** 2 / squares[known]).min()), float(fewest)),
        )


def _tally(question: Question, counts: Counts, index: int) -> _Tally | None:
    """None where the file does not have the question."""
    if question.type is QuestionType.MULTIPLE:
        return _list_tally(question, counts, index)
    for column, recoded in STORED.get(question.id, ((question.id, {}),)):
        found = counts.answers[column][index] if column in counts.answers else np.zeros((MEASURES, 1, 1, 1))
        if found[RESPONDENTS, ..., :MISSING_SLOT].any():
            codes = recoded or {code: code for code in question.codes}
            options = [[raw for raw, code in codes.items() if code == option] for option in question.codes]
            chosen = np.stack([found[..., raw].sum(axis=-1) for raw in options], axis=-1)
            missing = int(found[RESPONDENTS, ..., MISSING_SLOT].sum())
            return _Tally(
                chosen=chosen[WEIGHTS],
                valid=np.broadcast_to(chosen.sum(axis=-1, keepdims=True), chosen.shape),
                asked=np.ones(len(question.codes), bool),
                missing=missing,
                not_offered=int(found[RESPONDENTS].sum() - chosen[RESPONDENTS].sum()) - missing,
            )
    return None


def _list_tally(question: Question, counts: Counts, index: int) -> _Tally | None:
    """A list: each option is a column, with 1 where it was mentioned and 2 where it was not."""
    columns = columns_of(question)
    nobody = np.zeros(next(iter(counts.answers.values())).shape[1:])
    each = [counts.answers[column][index] if column in counts.answers else nobody for column in columns]
    found = np.stack(each, axis=-2)  # (measure, sex, age, option, slot)
    valid = found[..., [CHOSEN, CHOSEN + 1]].sum(axis=-1)
    if not valid[RESPONDENTS].any():
        return None
    missing = found[RESPONDENTS, ..., MISSING_SLOT].sum(axis=(0, 1))
    other = found[RESPONDENTS].sum(axis=(0, 1, 3)) - valid[RESPONDENTS].sum(axis=(0, 1)) - missing
    return _Tally(
        chosen=found[WEIGHTS, ..., CHOSEN],
        valid=valid,
        asked=np.array([column in counts.answers for column in columns]),
        missing=int(missing.max()),
        not_offered=int(other.max()),
    )


def _source(path: Path, counts: Counts, index: int, row: Population) -> str:
    """Where figures are from; the design effect is Kish's, for those who want an effective number of respondents."""
    people, unweighted, even, weights, squares = (counts.totals[name][index] for name in TOTALS)
    respondents = int(people - unweighted)
    weighted = f"weighted by {WEIGHT} (design effect {respondents * squares / weights**2:.2f})"
    if even == people:
        weighted = "without weights, since the file has none"
    return f"World Values Survey wave 7, {row.names['en']}, file {path.name}, {respondents} respondents {weighted}"


def _regions(counts: Counts, index: int, country: str) -> tuple[Region, ...]:
    weights: dict[str, float] = {}
    names: dict[str, Mapping[str, str]] = {}
    for (culture, cell), weight in counts.regions.items():
        place = read_region(cell, country=country) if culture == index else None
        if place is not None:
            code, named = place
            weights[code] = weights.get(code, 0.0) + weight
            names[code] = named
    whole = sum(weights.values())
    return tuple(Region(code=code, name=names[code], share=weights[code] / whole) for code in sorted(weights))


def _matches(counts: Counts) -> tuple[Match, ...]:
    """Labels that were matched loosely; one that stands for the same in several columns is one."""
    columns: dict[tuple[str, Reading], dict[str, int]] = {}
    for (column, value, reading), people in counts.matches.items():
        columns.setdefault((value, reading), {})[column] = people
    return tuple(
        Match(
            columns=tuple(found),
            value=value,
            code=None if reading.code == MISSING else reading.code,
            label="" if reading.code == MISSING else reading.label,
            respondents=sum(found.values()),
        )
        for (value, reading), found in columns.items()
    )


def _notes(survey: Survey, counts: Counts, without: Sequence[str], header: Header) -> list[str]:
    totals = {name: dict(zip(counts.cultures, counts.totals[name].astype(int), strict=True)) for name in TOTALS}
    people = ", ".join(f"{code} {number:,}" for code, number in totals["people"].items())
    notes = [f"{len(survey.questions)} questions; respondents: {people}"]
    if without:
        notes.append(f"{len(without)} questions left out, not asked everywhere: {listed(without)}")
    if unweighted := sum(totals["unweighted"].values()):
        notes.append(f"{unweighted:,} respondents left out whose weight is 0")
    even = [f"{code} {number:,}" for code, number in totals["even"].items() if number]
    if even:
        notes.append(f"{WEIGHT} is 'No weighting', each respondent counts as 1: {listed(even)}")
    if INTERVIEW not in header.names:
        notes.append(f"rows that stand twice are not noticed: there is no column {INTERVIEW}")
    for name, groups, columns in _DIVISIONS:
        divided = {reference.culture for reference in survey.references if reference.group in groups}
        whole = [culture.code for culture in survey.cultures if culture.code not in divided]
        if whole:
            present = [column for column in columns if column in header.names]
            why = f"nothing in {listed(present)}" if present else f"there is no column {' or '.join(columns)}"
            notes.append(f"no distributions by {name} for {listed(whole)}: {why}")
    nowhere = [culture.code for culture in survey.cultures if not culture.regions]
    if nowhere:
        notes.append(f"no regions for {listed(nowhere)}: participants are told the country alone")
    return notes
