"""The dataset of Liu et al. (2025), as its authors keep it on their disks, made a survey.

``def_files`` finds its files and reads each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from defsurvey.storage.surveys.folder import find_survey
from defsurvey.storage.surveys.importers.cultures import Population, read_populations
from defsurvey.storage.surveys.importers.def_files import (
    LEADING,
    Line,
    Part,
    Respondents,
    Scores,
    find_parts,
    read_questionnaire,
    read_respondents,
    read_scores,
    read_types,
)
from defsurvey.storage.surveys.importers.imported import (
    LOW_N,
    Imported,
    dimensions_of,
    language_notes,
    number_notes,
)
from defsurvey.storage.surveys.problem import SurveyError, UnknownName, listed, nearest
from defsurvey.storage.surveys.survey import (
    Group,
    Option,
    Question,
    QuestionType,
    ReferenceDistribution,
    Region,
    Survey,
    Value,
)

CITATION = (
    "Liu, H., et al. (2025). Towards realistic evaluation of cultural value alignment in large language models: "
    "Diversity enhancement for survey response simulation. Information Processing & Management. "
    "doi:10.1016/j.ipm.2025.104099. The surveys it is made from are to be cited as well."
)
TERMS = "The surveys that the dataset is made from have terms of their own; it may not be passed on without them."


def import_def(
    folder: Path,
    *,
    id: str,
    part: str | None = None,
    multiple: Sequence[int] = (),
    respondents: int = 1000,
    cultures: Path | None = None,
) -> Imported:
    """The survey that a copy of the dataset holds.

    Args:
        folder: the dataset's folder, or any above it.
        id: of the survey.
        part: the name of the one part to import, e.g. ``US_survey``; None: all, which must then be worded in the
            same languages, for a survey is.
        multiple: numbers of questions that allow several answers, where neither their wording nor the
            respondents' file says so.
        respondents: the number of people assumed where the scores are shares.
        cultures: the user's own table of cultures, see ``read_populations``.

    Raises:
        UnknownName: there is no such part.
        Fault: a file is not as it should be; line and column are told.
        SurveyError: files are missing or stand twice, or the parts are worded in different languages.
    """
    parts = _chosen(folder, find_parts(folder), part)
    populations = read_populations(cultures)
    readers = [
        _PartReader(part=one, population=populations.named(one.culture), said=multiple, assumed=respondents)
        for one in parts
    ]
    for reader in readers:
        reader.read()
    languages = tuple(sorted(parts[0].questionnaires))
    questions = tuple(question for reader in readers for question in reader.questions)
    bundled = find_survey("wvs7")
    survey = Survey(
        id=id,
        title=f"Dataset of Liu et al. (2025): {listed(one.name for one in parts)}",
        version="1",
        citation=CITATION,
        terms=TERMS,
        languages=languages,
        dimensions=dimensions_of(questions, languages),
        questions=questions,
        cultures=tuple(
            reader.population.culture(languages, _regions(bundled, reader.population.code, languages))
            for reader in readers
        ),
        references=tuple(reference for reader in readers for reference in reader.references),
    )
    notes = [note for reader in readers for note in reader.notes]
    return Imported(survey=survey, notes=(*notes, *number_notes(survey.questions), *language_notes(survey.cultures)))


def _regions(bundled: Survey, code: str, languages: Sequence[str]) -> tuple[Region, ...]:
    """The regions of the bundled survey, since the dataset has none; only where they have names in all languages."""
    found = next((culture.regions for culture in bundled.cultures if culture.code == code), ())
    if not set(languages) <= set(bundled.languages):
        return ()
    return tuple(replace(region, name={language: region.name[language] for language in languages}) for region in found)


def _chosen(folder: Path, parts: Sequence[Part], name: str | None) -> Sequence[Part]:
    if name is not None:
        names = [part.name for part in parts]
        if name not in names:
            raise UnknownName(
                f"{folder}: expected one of the parts {listed(names)}, got {name!r}{nearest(name, names)}"
            )
        return [part for part in parts if part.name == name]
    if len({tuple(sorted(part.questionnaires)) for part in parts}) > 1:
        got = "; ".join(f"{part.name} in {listed(sorted(part.questionnaires))}" for part in parts)
        raise SurveyError(f"{folder}: expected parts worded in the same languages, got {got}; choose one with --part")
    return parts


@dataclass(slots=True, kw_only=True)
class _PartReader:
    """Reads a part."""

    part: Part
    population: Population
    said: Sequence[int]
    assumed: int
    questions: list[Question] = field(default_factory=list)
    references: list[ReferenceDistribution] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    strange: float = 0.0  #: sum of scores on codes that are no option

    def read(self) -> None:
        wordings = self._wordings()
        first = next(iter(wordings.values()))
        groups = {group: read_respondents(path) for group, path in self.part.respondents.items()}
        chosen = {number for group in groups.values() for number in group.chosen} | set(self.said)
        lists = {
            number
            for number, line in enumerate(first, start=1)
            if line.options and (number in chosen or any(w[number - 1].said_multiple for w in wordings.values()))
        }
        scores = read_scores(self.part.references, lists=sorted(lists))
        dimensions = read_types(self.part.types) if self.part.types else {}
        without: list[str] = []
        for number in range(1, len(first) + 1):
            lines = {language: lines[number - 1] for language, lines in wordings.items()}
            question = self._question(number, lines, scores, number in lists, dimensions.get(number))
            found = self._references(number, question, scores, groups, lists)
            if not any(reference.group is Group.ALL for reference in found):
                without.append(question.id)
            self.questions.append(question)
            self.references += found
        self._tell(len(first), lists, without, scores)

    def _tell(self, number: int, lists: set[int], without: Sequence[str], scores: Scores) -> None:
        failed = math.fsum(scores.failed.values())
        notes = [f"{number} questions, {len(lists)} of them lists ({listed(map(str, sorted(lists))) or 'none'})"]
        if without:
            notes.append(f"{len(without)} questions have no reference scores and cannot be asked: {listed(without)}")
        if failed:
            notes.append(f"failures in column 12 left out: {failed:g}")
        if self.strange:
            notes.append(f"scores on codes that are no option left out: {self.strange:g}")
        if scores.whole is not None:
            notes.append(f"scores are shares; {self.assumed} respondents assumed behind each")
        if self.part.leading is not None:
            notes.append(f"{LEADING} passed over: who chose an option most follows from the respondents' files")
        self.notes += [f"{self.part.name}: {note}" for note in notes]

    def _wordings(self) -> dict[str, list[Line]]:
        names = self.population.names
        found = {
            language: read_questionnaire(path, language=language, country=names)
            for language, path in sorted(self.part.questionnaires.items())
        }
        first = next(iter(found.values()))
        for lines in found.values():
            if len(lines) != len(first):
                raise lines[-1].fault(f"{len(first)} questions, as in {first[0].file}", f"{len(lines)}")
            for line, other in zip(lines, first, strict=True):
                if (line.most, set(line.options)) != (other.most, set(other.options)):
                    expected = f"the options of line {other.line} of {other.file}: {_shape(other)}"
                    raise line.fault(expected, _shape(line))
        return found

    def _question(
        self, number: int, lines: Mapping[str, Line], scores: Scores, multiple: bool, dimension: str | None
    ) -> Question:
        line = next(iter(lines.values()))
        value = Value(dimension=dimension, direction=1, basis="B") if dimension else None
        if line.options:
            kind = QuestionType.MULTIPLE if multiple else QuestionType.SINGLE
            labels = {code: {language: one.options[code] for language, one in lines.items()} for code in line.options}
        else:
            kind = QuestionType.SCALE
            begin = 0 if scores.rows.get(number, {}).get(0) else 1
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

    def _references(
        self, number: int, question: Question, scores: Scores, groups: Mapping[Group, Respondents], lists: set[int]
    ) -> list[ReferenceDistribution]:
        name = self.part.references.name
        amounts: Mapping[int, float] = scores.rows.get(number, {})
        if number in lists:
            n, whole = self._whole(number, scores, groups.get(Group.ALL), lists)
            if max(amounts.values(), default=0.0) > whole:
                raise scores.fault(number, f"at most {whole:g} for each option of a list", "more")
        else:
            whole = math.fsum(amounts.get(code, 0.0) for code in question.codes)
            self.strange += math.fsum(amount for code, amount in amounts.items() if code not in question.codes)
            n = self.assumed if scores.whole is not None else round(whole)
        found = [self._distribution(question, Group.ALL, amounts, n, whole, source=name)]
        for group in [group for group in groups if group is not Group.ALL]:
            answers, file = groups[group], self.part.respondents[group].name
            chosen = answers.chosen[number] if number in lists else answers.single[number]
            n = answers.asked[number] if number in lists else sum(chosen[code] for code in question.codes)
            found.append(self._distribution(question, group, chosen, n, n, source=file))
        return [reference for reference in found if reference is not None]

    def _whole(self, number: int, scores: Scores, everyone: Respondents | None, lists: set[int]) -> tuple[int, float]:
        """Respondents to a list, and what all of them are in its row of the scores."""
        asked = everyone.asked[number] if everyone is not None else 0
        if scores.whole is not None:
            return asked or self.assumed, scores.whole
        largest = max((sum(row.values()) for other, row in scores.rows.items() if other not in lists), default=0.0)
        return asked or round(largest), asked or largest

    def _distribution(
        self, question: Question, group: Group, amounts: Mapping[int, float], n: int, whole: float, *, source: str
    ) -> ReferenceDistribution | None:
        if n < 1 or not whole or not any(amounts.get(code) for code in question.codes):
            return None
        return ReferenceDistribution(
            question=question.id,
            culture=self.population.code,
            group=group,
            shares={code: amounts.get(code, 0.0) / whole for code in question.codes},
            n=n,
            low_n=n < LOW_N,
            source=f"Dataset of Liu et al. (2025), {source}",
        )


def _shape(line: Line) -> str:
    return f"[{line.most}] {listed(map(str, line.options)) or 'a scale'}"
