"""Survey folders: where they are, and from the files that a person writes to a checked ``Survey``.

The format is docs/surveys.md. One model for each file, or each part or row of one, says what may stand in it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, ValidationInfo, create_model, model_validator

from defsurvey.storage.files import OutsideFolder, path_under
from defsurvey.storage.surveys import problem, questions, tables
from defsurvey.storage.surveys.as_json import fingerprint
from defsurvey.storage.surveys.survey import Culture, Group, Question, ReferenceDistribution, Region, Survey
from defsurvey.storage.surveys.yaml_models import Text, YamlFile, YamlModel, mistakes, must
from defsurvey.storage.text import characters

#: The files of a survey folder, in the order in which they are read.
FILES = ("survey.yaml", "questions.yaml", "references.csv", "regions.csv")
#: Questions that experts left out, with their reasons: kept in the folder, no part of the survey read from it.
EXCLUDED_FILE = "excluded.csv"
OPTIONAL_FILES = ("regions.csv", EXCLUDED_FILE, questions.PARAPHRASES_FILE)
_ALL_FILES = (*FILES, EXCLUDED_FILE, questions.PARAPHRASES_FILE)
_BUNDLED = Path(__file__).parent
T = TypeVar("T")


def read_survey(folder: Path) -> Survey:
    """The survey that a folder holds, checked, with its fingerprint; raises InvalidSurvey with all that is wrong."""
    survey, problems = _load(folder)
    if survey is None or problems:
        raise problem.InvalidSurvey(folder, tuple(problems))
    return survey


def check_survey(folder: Path) -> list[problem.Problem]:
    """All that is wrong with a survey folder, in the order of files and lines; empty if it can be read."""
    return _load(folder)[1]


def is_dimension(code: str) -> bool:
    """Whether it can be the code of a value dimension, as names in a table may give it: it is shown and exported."""
    return _is_code(code, "_.-/:&+' ") and "  " not in code and not code.endswith(" ")


def is_culture(code: str) -> bool:
    """Whether it can be the code of a culture: it names tables within a report's page as well, so without spaces."""
    return _is_code(code, "_.-:")


def _is_code(code: str, signs: str) -> bool:
    """Whether it begins with a letter, a digit or ``_``, and goes on with such, marks, joiners and these signs."""
    begins = code[:1] == "_" or (code != "" and unicodedata.category(code[0])[0] in "LN")
    return begins and all(
        not hidden and (sign in signs or (kind := unicodedata.category(sign)) == "Cf" or kind[0] in "LMN")
        for sign, hidden in characters(code)
    )


_CODE_RULE = "a code of letters and digits of any script, with"
DIMENSION_RULE = f"{_CODE_RULE} '_', '.', '-', '/', ':', '&', '+', \"'\" or single spaces between"
CULTURE_RULE = f"{_CODE_RULE} '_', '.', '-' or ':' between"


def _languages(codes: Sequence[str]) -> Sequence[str]:
    if again := [place for place, code in enumerate(codes) if code in codes[:place]]:
        raise mistakes(*(((place,), "every language once", f"{codes[place]!r} again") for place in again))
    return codes


_is_language = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*").fullmatch
Language = Annotated[Text, must(_is_language, "a language code such as en, zh or pt-BR")]


class _CultureModel(YamlModel):
    name: questions.Translated
    language: Annotated[Text, questions.declared_as("languages")]
    in_sentence: Text = ""
    spoken: Language = ""

    @model_validator(mode="after")
    def _is_not_worded(self, info: ValidationInfo[questions.Declared]) -> _CultureModel:
        if self.spoken in info.context.languages:
            raise mistakes((("spoken",), "a language in which the survey has no wording", None))
        return self


class _SurveyModel(YamlModel):
    id: questions.Name
    title: Text
    version: Text
    citation: Text
    terms: Text
    languages: Annotated[list[Language], Field(min_length=1), AfterValidator(_languages)]
    dimensions: dict[Annotated[str, must(is_dimension, DIMENSION_RULE)], questions.Translated] = Field(
        default_factory=dict
    )
    cultures: Annotated[dict[Annotated[str, must(is_culture, CULTURE_RULE)], _CultureModel], Field(min_length=1)]
    sources: dict[str, Text] = Field(default_factory=dict)


_KnownQuestion = Annotated[str, questions.declared_as("ids", "a question of the survey")]
_KnownCulture = Annotated[str, questions.declared_as("cultures", "a culture of the survey")]


class _ReferenceRow(tables.Row):
    question: _KnownQuestion
    culture: _KnownCulture
    group: Group
    n: tables.Respondents
    low_n: Annotated[bool, tables.yes_or_no("no")]
    source: str
    percent: tables.Words
    n_eff: str = ""

    def distribution(self, question: Question, sources: Mapping[str, str]) -> ReferenceDistribution:
        parts = self._percentages(question)
        if self.source and self.source not in sources:
            got = f"{self.source!r}{problem.nearest(self.source, sources)}"
            raise self.fault("source", f"a source of survey.yaml: one of {problem.one_of(sources)}", got)
        effective = tables.to_number(self.n_eff, self.n) if self.n_eff else None
        if self.n_eff and not effective:
            raise self.fault("n_eff", f"a number above 0 and at most n ({self.n}), or nothing", repr(self.n_eff))
        return ReferenceDistribution(
            question=question.id,
            culture=self.culture,
            group=self.group,
            shares=tables.to_shares(parts, whole=question.max_choices == 1),
            n=self.n,
            low_n=self.low_n,
            source=sources.get(self.source, ""),
            n_eff=effective,
        )

    def _percentages(self, question: Question) -> dict[int, float]:
        """Option code -> percent, in the survey's order. Of a multiple question some options may be unknown."""
        known, whose = question.codes, f"for question {question.id}"
        found: dict[int, float] = {}
        for pair in self.percent.split("|"):
            word, colon, written = (part.strip() for part in pair.partition(":"))
            code = tables.to_count(word)
            if not colon or code is None:
                raise self.fault("percent", f"code:percent|code:percent|... {whose}", repr(pair))
            if code not in known:
                expected = f"an option of question {question.id}: one of {problem.one_of(map(str, known))}"
                raise self.fault("percent", expected, f"option {code}")
            if code in found:
                raise self.fault("percent", f"every option of question {question.id} once", f"option {code} again")
            if (part := tables.to_percent(written)) is None:
                raise self.fault("percent", f"a percentage from 0 to 100 {whose}", problem.shown(written))
            found[code] = part
        if question.max_choices == 1:
            if missing := [str(code) for code in known if code not in found]:
                got = f"none for {', '.join(missing)}"
                raise self.fault("percent", f"every option of question {question.id}", got)
            self.check_sum("percent", found.values(), whose)
        return {code: found[code] for code in known if code in found}


class _RegionRow(tables.Row):
    """A row of ``regions.csv``; columns for the name in each language are added."""

    culture: _KnownCulture
    code: tables.Words
    share: tables.Percent
    uniform: Annotated[bool, tables.yes_or_no("yes")] = True


class _ExclusionRow(tables.Row):
    question: _KnownQuestion
    reason: tables.Words


def _read_regions(text: str, declared: questions.Declared, problems: problem.Problems) -> dict[str, tuple[Region, ...]]:
    names: dict[str, Any] = {f"name_{language}": (tables.Words, ...) for language in declared.languages}
    model = create_model("_RegionRow", __base__=_RegionRow, **names)
    rows: dict[str, list[_RegionRow]] = {}
    before = len(problems)
    for row in tables.read_table("regions.csv", text, model, problems, context=declared, unique=("culture", "code")):
        rows.setdefault(row.culture, []).append(row)
    if len(problems) > before:
        return {}  # what rows at fault leave out would be missing in the sums, too
    found: dict[str, tuple[Region, ...]] = {}
    for culture, places in rows.items():
        with problems.gathered():
            places[-1].check_sum("share", [row.share for row in places], f"over the regions of {culture}")
            if not any(row.uniform for row in places):
                raise places[-1].fault("uniform", f"a region of {culture} that may be drawn", "no for all")
            shares = tables.to_shares({place: row.share for place, row in enumerate(places)})
            called = [{language: getattr(row, f"name_{language}") for language in declared.languages} for row in places]
            found[culture] = tuple(
                Region(code=row.code, name=called[place], share=shares[place], uniform=row.uniform)
                for place, row in enumerate(places)
            )
    return found


def _load(folder: Path) -> tuple[Survey | None, list[problem.Problem]]:
    problems = problem.Problems()
    texts: dict[str, str] = {}
    for file in _ALL_FILES:
        with problems.gathered():
            if (text := _read(folder, file)) is not None:
                texts[file] = text
    survey: Survey | None = None
    if "survey.yaml" in texts:
        with problems.gathered():  # without it, what the other files must hold is not known
            survey = _read_texts(texts, problems)
    return survey, sorted(problems, key=lambda one: (_ALL_FILES.index(one.file), one.line or 0))


def _read_texts(texts: Mapping[str, str], problems: problem.Problems) -> Survey:
    written = YamlFile("survey.yaml", texts["survey.yaml"])
    languages = written.body.get("languages") if isinstance(written.body, dict) else None
    declared = questions.Declared(languages=languages if isinstance(languages, list) else ())
    head = written.read(_SurveyModel, context=declared)
    declared.dimensions, declared.cultures, declared.sources = head.dimensions, head.cultures, head.sources

    def read(file: str, reader: Callable[[str], T]) -> T | None:
        """What is in a file; None where it is not there or at fault, or where what it speaks of is not known."""
        if file in texts and (declared.ids or file in ("questions.yaml", "regions.csv")):
            with problems.gathered():
                return reader(texts[file])
        return None

    def read_exclusions(text: str) -> dict[str, str]:
        rows = tables.read_table(EXCLUDED_FILE, text, _ExclusionRow, problems, context=declared, unique=("question",))
        return {row.question: row.reason for row in rows}

    def read_references(text: str) -> Iterator[ReferenceDistribution]:
        unique = ("question", "culture", "group")
        for row in tables.read_table("references.csv", text, _ReferenceRow, problems, context=declared, unique=unique):
            with problems.gathered():
                if row.question in known:
                    yield row.distribution(known[row.question], declared.sources)

    file = "questions.yaml"
    asked = read(file, lambda text: questions.read_questions(file, text, declared, problems)) or ()
    known = {question.id: question for question in asked}
    regions = read("regions.csv", lambda text: _read_regions(text, declared, problems)) or {}
    references = read("references.csv", lambda text: tuple(read_references(text))) or ()
    excluded = read(EXCLUDED_FILE, read_exclusions) or {}
    tried = read(questions.PARAPHRASES_FILE, lambda text: questions.read_paraphrases(text, declared, problems)) or ()
    cultures = [Culture(code=code, regions=regions.get(code, ()), **dict(one)) for code, one in head.cultures.items()]
    survey = Survey(
        **head.model_dump(include={"id", "title", "version", "citation", "terms", "dimensions"}),
        languages=tuple(head.languages),
        questions=tuple(question for question in asked if question.id not in excluded),
        cultures=tuple(cultures),
        references=tuple(reference for reference in references if reference.question not in excluded),
        excluded=excluded,
        paraphrases=questions.used(tried, without=excluded),
    )
    return replace(survey, fingerprint=fingerprint(survey))


def _read(folder: Path, file: str) -> str | None:
    """The text of a file; None if it is not there and need not be."""
    path = folder / file
    if not path.is_file():
        if file in OPTIONAL_FILES and not path.is_symlink():
            return None
        got = "no such folder" if file == FILES[0] and not folder.is_dir() else "no such file"
        got += problem.nearest(file, (entry.name for entry in folder.iterdir())) if folder.is_dir() else ""
        raise problem.fault(file, f"a file in {folder}", got)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise problem.fault(file, "a file within the folder", f"a link to {path.resolve()}")
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise problem.fault(file, "text in UTF-8", f"byte 0x{content[error.start]:02x}", line=line) from None


def bundled_surveys() -> tuple[str, ...]:
    """Ids of the bundled surveys, sorted."""
    return tuple(sorted(folder.name for folder in _BUNDLED.iterdir() if (folder / FILES[0]).is_file()))


def find_survey(name: str, *, beside: Path | None = None) -> Survey:
    """The survey of that name; see ``find_folder``, and SurveyError is raised where it is not well formed as well."""
    return read_survey(find_folder(name, beside=beside))


def find_folder(name: str, *, beside: Path | None = None) -> Path:
    """The folder of the survey of that name: a bundled one's id, or a folder (``./wvs7`` is one).

    A folder must lie in ``beside``, so that a study taken from elsewhere reads nothing but what came with it; None: the
    user typed it, and it may lie anywhere. Raises problem.SurveyError.
    """
    bundled = bundled_surveys()
    if name in bundled:
        return _BUNDLED / name
    folder, called = Path(name) if beside is None else beside / name, problem.shown(name) if name else "''"
    try:
        if "\0" not in name and beside is not None and Path(name) != Path():
            path_under(beside, name)
        found = bool(name.strip()) and folder.is_dir()
    except OutsideFolder:
        raise problem.SurveyError(
            f"survey {called}: expected a folder within {beside}, got {folder.resolve()}"
        ) from None
    except (OSError, ValueError):  # too long, not to be looked into, or with a NUL in it
        found = False
    if not found:
        expected = f"expected a bundled survey ({', '.join(bundled)}) or a folder"
        raise problem.UnknownName(f"survey {called}: {expected}, got neither{problem.nearest(name, bundled)}")
    return folder
