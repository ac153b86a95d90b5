"""The questions of a survey folder and their paraphrases: ``questions.yaml`` and ``paraphrases.yaml``."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, RootModel, TypeAdapter, ValidationInfo, model_validator

from defsurvey.storage.files import write_whole
from defsurvey.storage.surveys import yaml_models
from defsurvey.storage.surveys.problem import Fault, Problems, nearest, one_of
from defsurvey.storage.surveys.survey import Option, Paraphrase, Question, QuestionType, Value

MOST_OPTIONS = 63  #: choices are kept as bits of a signed 64-bit number (``storage.runs.results``)
#: Paraphrases of the questions, beside the questions: a survey has those that were not rejected.
PARAPHRASES_FILE = "paraphrases.yaml"
MOST_PARAPHRASES = 99


@dataclass(slots=True, kw_only=True)
class Declared:
    """What a survey declares in one place and names in another: the context of the models of its files."""

    languages: Sequence[str] = ()
    dimensions: Collection[str] = ()
    cultures: Collection[str] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    prompts: Mapping[str, str] = field(default_factory=dict)  #: with which paraphrases were asked for
    scales: dict[str, tuple[Option, ...] | None] = field(default_factory=dict)  #: None: it is at fault, which is told
    ids: dict[str, int] = field(default_factory=dict)  #: of all questions, well formed or not, and their lines


def declared_as(name: str, what: str = "") -> AfterValidator:
    """Takes the words that the survey declares under a field of ``Declared``."""
    return AfterValidator(lambda word, info: yaml_models.choose(word, getattr(info.context, name), what))


def _in_every_language(texts: dict[str, str], info: ValidationInfo[Declared]) -> dict[str, str]:
    languages = info.context.languages
    if unknown := [language for language in texts if language not in languages]:
        expected = f"one of the keys {one_of(languages)}"
        raise yaml_models.mistakes(*(((name,), expected, f"{name!r}{nearest(name, languages)}") for name in unknown))
    if missing := [language for language in languages if language not in texts]:
        raise yaml_models.mistake(f"a text in every language ({', '.join(languages)})", f"none in {missing[0]!r}")
    return {language: texts[language] for language in languages}


_is_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*").fullmatch
Name = Annotated[yaml_models.Text, yaml_models.must(_is_name, "a name of letters, digits, '_', '.' and '-'")]
Translated = Annotated[dict[str, yaml_models.Text], AfterValidator(_in_every_language)]
Code = Annotated[yaml_models.Whole, Field(ge=0, le=999_999_999)]


class _ValueModel(yaml_models.YamlModel):
    dimension: Annotated[yaml_models.Text, declared_as("dimensions")]
    direction: Annotated[yaml_models.Whole, yaml_models.must((1, -1).__contains__, "1 or -1")]
    basis: Literal["A", "A2", "A3", "B"] = "B"  #: strongest first; see ``storage.surveys.survey.Value``
    core: yaml_models.Flag = False


class _OptionModel(yaml_models.YamlModel):
    code: Code
    label: Translated
    residual: yaml_models.Flag = False
    value: Annotated[Value | None, yaml_models.made_by(_ValueModel, Value)] = None


_Options = list[Annotated[Option, yaml_models.made_by(_OptionModel, Option)]]
_OPTIONS: TypeAdapter[list[Option]] = TypeAdapter(_Options)


class _ScaleModel(yaml_models.YamlModel):
    """A scale written compactly: its ends with their labels, and residual options that stand apart from it."""

    first: Code = Field(alias="from")
    last: Code = Field(alias="to")
    low: Translated
    high: Translated
    residual: _Options = Field(default_factory=list)

    @model_validator(mode="after")
    def _has_points(self) -> _ScaleModel:
        if not self.first < self.last < self.first + MOST_OPTIONS:
            expected = f"a scale of at most {MOST_OPTIONS} points from 0 or more upwards"
            raise yaml_models.mistake(expected, f"{self.first} to {self.last}")
        return self

    def options(self) -> tuple[Option, ...]:
        labels = {code: dict.fromkeys(self.low, str(code)) for code in range(self.first, self.last + 1)}
        labels |= {self.first: self.low, self.last: self.high}
        points = [Option(code=code, label=label) for code, label in labels.items()]
        _check_distinct(self.residual, points, ("residual",))
        return (*points, *(replace(option, residual=True) for option in self.residual))


def _options(written: object, info: ValidationInfo[Declared]) -> tuple[Option, ...] | None:
    """A list of options, a compact scale, or a shared one by its name; None where that one is at fault."""
    if isinstance(written, str):
        return info.context.scales[yaml_models.choose(written, info.context.scales)]
    if not isinstance(written, list):
        return _ScaleModel.model_validate(written, context=info.context).options()
    options = _OPTIONS.validate_python(written, context=info.context)
    _check_distinct(options)
    if sum(not option.residual for option in options) < 2:
        raise yaml_models.mistake("at least two options that are not residual", f"{len(options)} option(s) in all")
    return tuple(options)


def _check_distinct(options: Sequence[Option], earlier: Sequence[Option] = (), at: yaml_models.Place = ()) -> None:
    """Raises where an option has the code or a label of one before it, or where there are too many."""
    found: list[tuple[yaml_models.Place, str, str | None]] = []
    for place, option in enumerate(options):
        for other in (*earlier, *options[:place]):
            if option.code == other.code:
                found.append(((*at, place, "code"), "a code of its own", f"{option.code} again"))
            for language, label in option.label.items():
                if other.label[language].casefold() == label.casefold():
                    got = f"{label!r}, the label of option {other.code} as well"
                    found.append(((*at, place, "label"), f"a label of its own in {language!r}", got))
    if found:
        raise yaml_models.mistakes(*found)
    if len(earlier) + len(options) > MOST_OPTIONS:
        raise yaml_models.mistake(f"at most {MOST_OPTIONS} options", str(len(earlier) + len(options)))


class _AnswersModel(RootModel[Annotated[tuple[Option, ...] | None, BeforeValidator(_options)]]):
    """An answer scale that questions share."""


class _QuestionModel(yaml_models.YamlModel):
    id: Name
    type: QuestionType
    topic: yaml_models.Text
    text: Translated
    options: Annotated[tuple[Option, ...] | None, BeforeValidator(_options)]
    max_choices: yaml_models.Whole = 1
    value: Annotated[Value | None, yaml_models.made_by(_ValueModel, Value)] = None

    @model_validator(mode="after")
    def _fits_together(self) -> _QuestionModel:
        if self.options is not None and (found := list(self._mistakes(self.options))):
            raise yaml_models.mistakes(*found)
        return self

    def _mistakes(self, options: Sequence[Option]) -> Iterator[tuple[yaml_models.Place, str, str | None]]:
        multiple = self.type is QuestionType.MULTIPLE
        chosen = "max_choices" in self.model_fields_set
        if multiple and self.value:
            yield ("value",), "the value of a multiple question at its options", "it at the question"
        for place, option in enumerate(options):
            if option.value and not multiple:
                yield ("options", place, "value"), "a value at options only in a multiple question", "it here"
        if multiple and not 2 <= self.max_choices <= len(options):
            expected = f"a whole number from 2 to {len(options)}, the number of options"
            missing = (f"a key 'max_choices', {expected}", "none")
            yield ("max_choices",), *((expected, None) if chosen else missing)
        if not multiple and chosen:
            yield ("max_choices",), "max_choices only for a multiple question", None
        points = [option.code for option in options if not option.residual]
        if self.type is QuestionType.SCALE and points not in (sorted(points), sorted(points, reverse=True)):
            # Distances between the points of a scale, and how a prompt shows it, follow their order.
            expected = "the points of a scale in the order of their codes, up or down"
            yield ("options",), expected, ", ".join(map(str, points))


class _QuestionsModel(yaml_models.YamlModel):
    answers: dict[str, Any] = Field(default_factory=dict)
    questions: Annotated[list[Any], Field(min_length=1)]


def read_questions(file: str, text: str, declared: Declared, problems: Problems) -> tuple[Question, ...]:
    """The well-formed questions of a file; the ids of all go into ``declared``, what is wrong to ``problems``."""
    written = yaml_models.YamlFile(file, text)
    top = written.read(_QuestionsModel)
    for name in top.answers:
        declared.scales[name] = None
        with problems.gathered():
            declared.scales[name] = written.read(_AnswersModel, at=("answers", name), context=declared).root
    questions: list[Question] = []
    for place, body in enumerate(top.questions):
        at = ("questions", place)
        with problems.gathered():
            name = str(body.get("id") or "") if isinstance(body, dict) else ""
            if name in declared.ids:
                raise written.fault((*at, "id"), "an id of its own", f"{name!r}, first on line {declared.ids[name]}")
            if name:
                declared.ids[name] = written.line((*at, "id"))
            model = written.read(_QuestionModel, at=at, called=name, context=declared)
            if model.options is not None:
                questions.append(Question(**dict(model)))
    return tuple(questions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A wording as it was written, and whether it is used."""

    paraphrase: Paraphrase
    attempt: int = 0  #: which attempt at this number it was, counted from 0
    rejected: str = ""  #: why it is not used; empty: it is


def _text(written: object, info: ValidationInfo) -> str:
    """A wording that was rejected may be anything."""
    return str(written or "") if info.data.get("rejected") else yaml_models.check_text(written)


class _ParaphraseModel(yaml_models.YamlModel):
    number: Annotated[yaml_models.Whole, Field(ge=1, le=MOST_PARAPHRASES)]
    language: Annotated[yaml_models.Text, declared_as("languages")]
    rejected: yaml_models.Text = ""
    text: Annotated[str, BeforeValidator(_text)]
    model: yaml_models.Text
    prompt: Annotated[yaml_models.Text, declared_as("prompts")] = ""
    attempt: Annotated[yaml_models.Whole, Field(ge=0)] = 0


#: The keys of an entry in the order in which they are written; only the text is written where it is empty.
_WRITTEN = ("number", "language", "text", "model", "prompt", "attempt", "rejected")


class _ParaphrasesModel(yaml_models.YamlModel):
    prompts: dict[str, yaml_models.Text] = Field(default_factory=dict)
    paraphrases: dict[str, list[Any]]


def read_paraphrases(text: str, declared: Declared, problems: Problems) -> tuple[Tried, ...]:
    """The well-formed entries in the order of the file; problems go to ``problems``, or raise Fault."""
    written = yaml_models.YamlFile(PARAPHRASES_FILE, text)
    top = written.read(_ParaphrasesModel)
    declared.prompts = top.prompts
    found: list[Tried] = []
    lines: dict[tuple[str, int, str], int] = {}
    places = [(question, place) for question, entries in top.paraphrases.items() for place in range(len(entries))]
    for question, place in places:
        at = ("paraphrases", question, place)
        with problems.gathered():
            if question not in declared.ids:
                raise written.fault(at[:2], "a question of the survey", repr(question))
            one = written.read(_ParaphraseModel, at=at, called=f"{question}.paraphrase", context=declared)
            line = written.line(at)
            if not one.rejected and (first := lines.setdefault((question, one.number, one.language), line)) != line:
                expected = "one paraphrase of a number and language that is not rejected"
                got = f"number {one.number} in {one.language} again, first on line {first}"
                raise written.fault((*at, "number"), expected, got)
            said = one.model_dump(include={"number", "language", "text", "model"})
            paraphrase = Paraphrase(question=question, prompt=top.prompts.get(one.prompt, ""), **said)
            found.append(Tried(paraphrase=paraphrase, attempt=one.attempt, rejected=one.rejected))
    return tuple(found)


def used(tried: Iterable[Tried], *, without: Collection[str] = ()) -> tuple[Paraphrase, ...]:
    """Those that were not rejected, sorted, but for those of some questions."""
    kept = [one.paraphrase for one in tried if not one.rejected and one.paraphrase.question not in without]
    return tuple(sorted(kept, key=lambda p: (p.question, p.number, p.language)))


def paraphrases_text(tried: Sequence[Tried]) -> str:
    """The file that holds these wordings."""
    texts = dict.fromkeys(one.paraphrase.prompt for one in tried)
    prompts = {text: f"prompt-{number}" for number, text in enumerate(texts, 1) if text}
    questions: dict[str, list[dict[str, object]]] = {}
    for one in tried:
        entry = asdict(one.paraphrase) | {"attempt": one.attempt, "rejected": one.rejected}
        entry["prompt"] = prompts.get(one.paraphrase.prompt, "")
        kept = {name: entry[name] for name in _WRITTEN if entry[name] or name == "text"}
        questions.setdefault(one.paraphrase.question, []).append(kept)
    named = {"prompts": {name: text for text, name in prompts.items()}} if prompts else {}
    return yaml_models.dump_yaml({**named, "paraphrases": questions})


def read_tried(folder: Path, *, ids: Collection[str], languages: Sequence[str]) -> tuple[Tried, ...]:
    """All that was tried in a survey folder, nothing where there is no such file; raises Fault where it is at fault."""
    path, problems = folder / PARAPHRASES_FILE, Problems()
    if not path.is_file():
        return ()
    declared = Declared(ids=dict.fromkeys(ids, 0), languages=languages)
    tried = read_paraphrases(path.read_text(encoding="utf-8"), declared, problems)
    if problems:
        raise Fault(*problems)
    return tried


def write_tried(folder: Path, tried: Sequence[Tried]) -> None:
    """Replace the file of a survey folder, at once."""
    write_whole(folder / PARAPHRASES_FILE, lambda file: file.write(paraphrases_text(tried).encode()))
