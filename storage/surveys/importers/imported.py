"""What an importer hands over: a survey not yet written, and what there is to tell of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from defsurvey.storage.surveys.folder import find_survey
from defsurvey.storage.surveys.problem import listed
from defsurvey.storage.surveys.survey import Culture, Question, Survey
from defsurvey.storage.surveys.tables import table
from defsurvey.storage.surveys.write import write_survey

#: File laid beside an imported survey: how many answers each distribution rests on and how many it leaves out.
COUNTS_FILE = "import.csv"
LOW_N = 100  #: fewer respondents than this are good for a demonstration only


class Left(NamedTuple):
    """Answers to one question in one culture: how many were valid, and what was dropped."""

    question: str
    culture: str
    valid: int
    missing: int  #: don't know, no answer, not asked and the like
    not_offered: int  #: codes that are no option of the question


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A label of a file that is none of the known ones, and the answer that it was taken for."""

    columns: tuple[str, ...]  #: in which it stands
    value: str  #: as the file has it
    code: int | None  #: of the option; None: a missing answer
    label: str  #: the known label; empty for a missing answer
    respondents: int  #: cells with it, in all columns

    def __str__(self) -> str:
        meant = "a missing answer" if self.code is None else f"{self.code} {self.label!r}"
        return f"label {self.value!r} read as {meant}: {self.respondents:,} answers to {listed(self.columns)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A survey as it was read from a source."""

    survey: Survey
    left_out: tuple[str, ...]  #: what was left out or assumed, one sentence each
    counts: tuple[Left, ...] = ()  #: empty where the source has no respondents
    matches: tuple[Match, ...] = ()  #: labels that were matched loosely

    @property
    def notes(self) -> tuple[str, ...]:
        """What to tell the user: what was left out, which labels were matched, what may surprise in the survey."""
        of_survey = (*number_notes(self.survey.questions), *_language_notes(self.survey.cultures))
        return (*self.left_out, *map(str, self.matches), *of_survey)

    def write(self, folder: Path) -> Survey:
        """Write the survey as a folder by ``write_survey``, with ``import.csv`` beside it where there are counts."""
        counts = table(Left._fields, self.counts)
        return write_survey(self.survey, folder, beside={COUNTS_FILE: counts} if self.counts else None)


def dimensions_of(questions: Sequence[Question], languages: Sequence[str]) -> dict[str, dict[str, str]]:
    """The value dimensions of questions by code, with the names that the bundled survey has for them."""
    known = find_survey("wvs7").dimensions
    codes = dict.fromkeys(code for question in questions for code in question.dimensions)
    return {code: {lang: known.get(code, {}).get(lang, code) for lang in languages} for code in codes}


def _language_notes(cultures: Sequence[Culture]) -> list[str]:
    without = [f"{culture.name.get('en', culture.code)} ({culture.spoken})" for culture in cultures if culture.spoken]
    stand_ins = sorted({culture.language for culture in cultures if culture.spoken})
    asked = f"they are asked in {', '.join(stand_ins)}"
    return [f"no wording in the language of {listed(without)}: {asked}"] if without else []


def number_notes(questions: Sequence[Question]) -> list[str]:
    """One note for the questions in which a label, alone, would be read as another option: its number is that code."""
    hidden = {
        question.id: None
        for question in questions
        for option in question.options
        for label in option.label.values()
        if label.isdecimal() and int(label) != option.code and int(label) in question.codes
    }
    note = "is the number of another option: a reply of that number alone is read as that option"
    return [f"a label in {listed(hidden)} {note}"] if hidden else []
