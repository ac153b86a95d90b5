"""A survey folder: from the files that a person writes to a checked ``Survey``.

The format is docs/surveys.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from defsurvey.storage.surveys.as_json import fingerprint
from defsurvey.storage.surveys.codes import CULTURE_RULE, DIMENSION_RULE, is_culture, is_dimension
from defsurvey.storage.surveys.paraphrases import PARAPHRASES_FILE, ParaphraseReader, used
from defsurvey.storage.surveys.problem import Fault, InvalidSurvey, Problem, Problems, nearest
from defsurvey.storage.surveys.questions import QuestionReader, read_name
from defsurvey.storage.surveys.survey import (
    Culture,
    Paraphrase,
    Question,
    ReferenceDistribution,
    Region,
    Survey,
    Wording,
)
from defsurvey.storage.surveys.tables import ReferenceReader, RegionReader, read_exclusions
from defsurvey.storage.surveys.yaml_text import Entry, parse_yaml

#: The files of a survey folder, in the order in which they are read.
FILES = ("survey.yaml", "questions.yaml", "references.csv", "regions.csv")
#: Questions that experts left out, with their reasons: kept in the folder, no part of the survey read from it.
EXCLUDED_FILE = "excluded.csv"
OPTIONAL_FILES = ("regions.csv", EXCLUDED_FILE, PARAPHRASES_FILE)
_ALL_FILES = (*FILES, EXCLUDED_FILE, PARAPHRASES_FILE)
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")


def read_survey(folder: Path) -> Survey:
    """The survey that a folder holds, checked, with its fingerprint.

    Shares of its distributions and regions are in [0, 1] and sum to 1 (those of multiple questions do not sum).

    Raises:
        InvalidSurvey: something is not as the format asks for; it tells the first problem (file, line, field,
            expected, got) and carries all that were found.
    """
    survey, problems = _load(folder)
    if survey is None or problems:
        raise InvalidSurvey(folder, tuple(problems))
    return survey


def check_survey(folder: Path) -> list[Problem]:
    """All that is wrong with a survey folder, in the order of files and lines; empty if it can be read."""
    return _load(folder)[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """What ``survey.yaml`` declares."""

    id: str
    title: str
    version: str
    citation: str
    terms: str
    languages: tuple[str, ...]
    dimensions: Mapping[str, Wording]
    cultures: tuple[Culture, ...]
    sources: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Body:
    """What the other files hold."""

    questions: tuple[Question, ...]
    references: tuple[ReferenceDistribution, ...]
    regions: Mapping[str, tuple[Region, ...]]
    excluded: Mapping[str, str]
    paraphrases: tuple[Paraphrase, ...]


def _load(folder: Path) -> tuple[Survey | None, list[Problem]]:
    problems = Problems()
    texts: dict[str, str] = {}
    for file in _ALL_FILES:
        with problems.gathered():
            if (text := _read(folder, file)) is not None:
                texts[file] = text
    before = len(problems.found)
    head: _Head | None = None
    if "survey.yaml" in texts:
        with problems.gathered():
            head = _read_head(parse_yaml("survey.yaml", texts["survey.yaml"]), problems)
    if head is None or len(problems.found) > before:
        return None, _ordered(problems)  # what the other files must hold is not known
    body = _read_body(head, texts, problems)
    survey = Survey(
        id=head.id,
        title=head.title,
        version=head.version,
        citation=head.citation,
        terms=head.terms,
        languages=head.languages,
        dimensions=head.dimensions,
        questions=tuple(question for question in body.questions if question.id not in body.excluded),
        cultures=tuple(replace(culture, regions=body.regions.get(culture.code, ())) for culture in head.cultures),
        references=tuple(reference for reference in body.references if reference.question not in body.excluded),
        excluded=body.excluded,
        paraphrases=body.paraphrases,
    )
    return replace(survey, fingerprint=fingerprint(survey)), _ordered(problems)


def _ordered(problems: Problems) -> list[Problem]:
    return sorted(problems.found, key=lambda problem: (_ALL_FILES.index(problem.file), problem.line or 0))


def _read_body(head: _Head, texts: Mapping[str, str], problems: Problems) -> _Body:
    questions: tuple[Question, ...] = ()
    references: tuple[ReferenceDistribution, ...] = ()
    regions: Mapping[str, tuple[Region, ...]] = {}
    excluded: Mapping[str, str] = {}
    paraphrases: tuple[Paraphrase, ...] = ()
    cultures = [culture.code for culture in head.cultures]
    ids: tuple[str, ...] | None = None
    if "questions.yaml" in texts:
        with problems.gathered():
            reader = QuestionReader(languages=head.languages, dimensions=head.dimensions, problems=problems)
            questions, ids = reader.read(parse_yaml("questions.yaml", texts["questions.yaml"]))
    if "references.csv" in texts and ids is not None:
        with problems.gathered():
            references = ReferenceReader(
                questions={question.id: question for question in questions},
                ids=ids,
                cultures=cultures,
                sources=head.sources,
                problems=problems,
            ).read("references.csv", texts["references.csv"])
    if "regions.csv" in texts:
        with problems.gathered():
            places = RegionReader(languages=head.languages, cultures=cultures, problems=problems)
            regions = places.read("regions.csv", texts["regions.csv"])
    if EXCLUDED_FILE in texts and ids is not None:
        with problems.gathered():
            excluded = read_exclusions(EXCLUDED_FILE, texts[EXCLUDED_FILE], ids, problems)
    if PARAPHRASES_FILE in texts and ids is not None:
        with problems.gathered():
            tried = ParaphraseReader(ids=ids, languages=head.languages, problems=problems)
            paraphrases = used(tried.read(parse_yaml(PARAPHRASES_FILE, texts[PARAPHRASES_FILE])), without=excluded)
    return _Body(
        questions=questions, references=references, regions=regions, excluded=excluded, paraphrases=paraphrases
    )


def _read(folder: Path, file: str) -> str | None:
    """The text of a file; None if it is not there and need not be."""
    path = folder / file
    if not path.is_file():
        if file in OPTIONAL_FILES and not path.is_symlink():
            return None
        if not folder.is_dir():
            got = "no such folder" if file == FILES[0] else "no such file"
        else:
            got = f"no such file{nearest(file, (entry.name for entry in folder.iterdir()))}"
        raise Fault(Problem(file=file, expected=f"a file in {folder}", got=got))
    if not path.resolve().is_relative_to(folder.resolve()):
        raise Fault(Problem(file=file, expected="a file within the folder", got=f"a link to {path.resolve()}"))
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        got = f"byte 0x{content[error.start]:02x}"
        raise Fault(Problem(file=file, line=line, expected="text in UTF-8", got=got)) from None


def _read_head(root: Entry, problems: Problems) -> _Head:
    keys = root.fields(
        ("id", "title", "version", "citation", "terms", "languages", "cultures"), ("dimensions", "sources")
    )
    languages = _languages(keys["languages"])
    dimensions: dict[str, Wording] = {}
    for code, entry in (keys["dimensions"].entries() if "dimensions" in keys else {}).items():
        with problems.gathered():
            if not is_dimension(code):
                raise entry.fault(DIMENSION_RULE, repr(code))
            dimensions[code] = entry.wording(languages)
    cultures: list[Culture] = []
    declared = keys["cultures"].entries()
    if not declared:
        raise keys["cultures"].fault("at least one culture", "none")
    for code, entry in declared.items():
        with problems.gathered():
            if not is_culture(code):
                raise entry.fault(CULTURE_RULE, repr(code))
            fields = entry.fields(("name", "language"), ("in_sentence", "spoken"))
            name, language = fields["name"].wording(languages), fields["language"].choice(languages)
            spoken = _language(fields["spoken"]) if "spoken" in fields else ""
            if spoken in languages:
                raise fields["spoken"].fault("a language in which the survey has no wording")
            called = fields["in_sentence"].text() if "in_sentence" in fields else ""
            cultures.append(Culture(code=code, name=name, language=language, spoken=spoken, in_sentence=called))
    sources: dict[str, str] = {}
    for key, entry in (keys["sources"].entries() if "sources" in keys else {}).items():
        with problems.gathered():
            sources[key] = entry.text()
    return _Head(
        id=read_name(keys["id"]),
        title=keys["title"].text(),
        version=keys["version"].text(),
        citation=keys["citation"].text(),
        terms=keys["terms"].text(),
        languages=languages,
        dimensions=dimensions,
        cultures=tuple(cultures),
        sources=sources,
    )


def _language(entry: Entry) -> str:
    language = entry.text()
    if not _LANGUAGE.fullmatch(language):
        raise entry.fault("a language code such as en, zh or pt-BR")
    return language


def _languages(entry: Entry) -> tuple[str, ...]:
    languages: list[str] = []
    for item in entry.items():
        language = _language(item)
        if language in languages:
            raise item.fault("every language once", f"{language!r} again")
        languages.append(language)
    if not languages:
        raise entry.fault("at least one language", "an empty list")
    return tuple(languages)
