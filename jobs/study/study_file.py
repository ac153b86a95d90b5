"""The study file: what a user may write, and the study that it comes to with a survey and models at hand."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from defsurvey.jobs.study import study as designs
from defsurvey.jobs.study.study import BUILT_IN_CONDITIONS, NATIVE, Study, StudyError, languages_of
from defsurvey.storage.runs import run
from defsurvey.storage.runs.judgement import Judge, Rubric
from defsurvey.storage.runs.run import MOST_PARTICIPANTS, NAME, NAME_RULE, Condition, Preset, Protocol
from defsurvey.storage.surveys.folder import find_survey
from defsurvey.storage.surveys.problem import Fault, SurveyError, nearest, one_of
from defsurvey.storage.surveys.survey import Question, Survey
from defsurvey.storage.surveys.yaml_models import NUMBER, WHOLE, Flag, Place, Text, YamlFile, YamlModel, mistake, must
from defsurvey.workers.models import ModelCard, where_to_add
from defsurvey.workers.simulation.draws import PRESETS, substream
from defsurvey.workers.simulation.prompts import languages as prompt_languages

_LARGEST = 2**63 - 1  #: the largest number that a database column and a JSON reader hold without loss of meaning
#: Keys that a protocol has as they are written.
_OF_PROTOCOL = ("seed", "preset", "draws", "question_order", "memory_order", "reply")


def _chosen(word: str) -> str:
    if word not in ("core", "all"):
        rule = "core, all, a list of question ids, or {sample: N}"
        raise mistake(rule, repr(word) + nearest(word, ("core", "all")))
    return word


def _not_null(value: object) -> object:
    if value is None:
        raise mistake("a value, or no such key")
    return value


_Written = TypeVar("_Written")
MayBeLeftOut = Annotated[_Written | None, BeforeValidator(_not_null)]  #: not written, or written with a value
#: Which of several forms a value has.
_FORM = Discriminator(
    lambda value: "mapping" if isinstance(value, dict) else "list" if isinstance(value, list) else "word"
)
_Listed = Annotated[tuple[Text, ...], Tag("list")]
_NoList = Annotated[tuple[Text, ...], Tag("word")]
_Chosen = Annotated[Text, AfterValidator(_chosen), Tag("word")]
_ONE_OR_MORE = BeforeValidator(
    lambda value: [value] if isinstance(value, str) else value, json_schema_input_type=str | list[str]
)
_OR_ALL = BeforeValidator(lambda value: 1.0 if value == "all" else value, json_schema_input_type=float | Literal["all"])
Name = Annotated[Text, must(NAME.fullmatch, NAME_RULE)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), NUMBER]
Share = Annotated[float, Field(gt=0, le=1), NUMBER]


class Sample(YamlModel):
    """So many questions, drawn by the seed."""

    sample: Annotated[int, Field(ge=1), WHOLE]


class Decoding(YamlModel):
    """How completions are decoded where sampling is drawn, and how long they may be."""

    temperature: Positive = 1.0
    top_p: Share = 1.0
    top_k: MayBeLeftOut[Annotated[int, Field(ge=0, le=_LARGEST), WHOLE]] = None
    do_sample: MayBeLeftOut[Flag] = None
    max_new_tokens: Annotated[int, Field(ge=1, le=_LARGEST), WHOLE] = 512


class JudgeOfStudy(YamlModel):
    """Which model judges answers, which share of them, and by which rubric."""

    model: Text
    sample: Annotated[Share, _OR_ALL] = designs.DEFAULT_SAMPLE
    rubric: Rubric = Rubric.OWN


class Axes(YamlModel):
    """What is on in a condition of the user's own."""

    prompt: Flag = True
    config: Flag = True
    memory: Flag = True
    option_order: MayBeLeftOut[Flag] = None
    paraphrase: Flag = False


class StudyFile(YamlModel):
    """What a study file may say: its keys, their ranges, and their defaults."""

    name: Name
    survey: Text
    questions: Annotated[Annotated[Sample, Tag("mapping")] | _Listed | _Chosen, _FORM]
    cultures: tuple[Text, ...]
    models: tuple[Text, ...]
    conditions: Annotated[Annotated[dict[str, Axes | None], Tag("mapping")] | _Listed | _NoList, _FORM]
    language: Annotated[tuple[Text, ...], _ONE_OR_MORE] = (NATIVE,)
    participants: Annotated[int, Field(ge=1, le=MOST_PARTICIPANTS), WHOLE] = 20
    preset: Preset = Preset.PAPER
    seed: Annotated[int, Field(ge=0, le=_LARGEST), WHOLE] = 0
    draws: run.DrawsPer = run.DrawsPer.PARTICIPANT
    question_order: run.QuestionOrder = run.QuestionOrder.FIXED
    memory_order: run.MemoryOrder = run.MemoryOrder.DRAWN
    decoding: Decoding = Decoding()
    reply: run.Reply = run.Reply.FULL
    judge: MayBeLeftOut[JudgeOfStudy] = None
    budget: MayBeLeftOut[Positive] = None


class NamedElsewhere(StudyFile):
    """The study file of a run that has its name already."""

    name: Name = "unnamed"


def read_study(path: Path, *, cards: Mapping[str, ModelCard], name: str | None = None) -> Study:
    """Read and validate a study file; see ``parse_study``."""
    if path.is_dir():
        raise StudyError(f"{path}: expected a study file, got a folder")
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        raise StudyError(f"{path}: expected a study file, got no such file") from None
    except OSError as problem:
        raise StudyError(f"{path}: expected a study file that can be read, got: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        line, byte = content.count(b"\n", 0, problem.start) + 1, content[problem.start]
        raise StudyError(f"{path}, line {line}: expected text in UTF-8, got the byte {byte:#04x}") from None
    return parse_study(text, path=path, cards=cards, name=name)


def parse_study(
    text: str, *, path: Path, cards: Mapping[str, ModelCard], survey: Survey | None = None, name: str | None = None
) -> Study:
    """Validate the text of a study file; a run has its own survey, and a name, which the text needs no more."""
    try:
        yaml = YamlFile(str(path), text)
        written = yaml.read(StudyFile if name is None else NamedElsewhere)
        try:
            survey = survey or find_survey(written.survey, beside=path.parent)
        except SurveyError as problem:
            raise StudyError(f"{path}, line {yaml.line(('survey',))}, survey: {problem}") from None
        study = _Resolver(yaml=yaml, written=written, survey=survey, cards=cards).study(text)
    except Fault as fault:
        raise StudyError(str(fault)) from None
    designs.check_conditions(study.conditions, study.models, cards, study.protocol)
    return study if name is None else replace(study, name=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resolver:
    """Makes a study of what its file says, by the survey and the models that there are."""

    yaml: YamlFile
    written: StudyFile
    survey: Survey
    cards: Mapping[str, ModelCard]

    def study(self, text: str) -> Study:
        written, survey = self.written, self.survey
        cultures = self._each_of("cultures", written.cultures, [culture.code for culture in survey.cultures])
        languages = self._languages(cultures)
        used = dict.fromkeys(code for culture in cultures for code in languages_of(survey, culture, languages))
        questions, left_out = self._questions(cultures, used)
        conditions = self._conditions()
        self._check_paraphrases(conditions, questions, used)
        models = self._each_of("models", written.models, self.cards, where_to_add(self.cards))
        top_k = PRESETS[written.preset].top_k if written.decoding.top_k is None else written.decoding.top_k
        as_written = {name: getattr(written, name) for name in _OF_PROTOCOL}
        study = Study(
            name=written.name,
            survey=survey,
            questions=questions,
            left_out=left_out,
            cultures=cultures,
            languages=languages,
            models=models,
            judge=self._judge(),
            budget=written.budget,
            conditions=conditions,
            participants=written.participants,
            protocol=Protocol(**as_written, **{**written.decoding.model_dump(), "top_k": top_k}),
            text=text,
        )
        if written.budget is not None and (unpriced := designs.unpriced_of(study.asked, self.cards)):
            raise self.yaml.fault(("budget",), f"models with prices on their cards: {unpriced} has none")
        return study

    def _each_of(self, key: str, written: Sequence[str], known: Collection[str], hint: str = "") -> tuple[str, ...]:
        """The words of a list, each of which is known and stands once."""
        if not written:
            raise self.yaml.fault((key,), f"a list with at least one of {one_of(known)}", "an empty list")
        for place, word in enumerate(written):
            self._check_known((key, place), word, known, hint)
            if word in written[:place]:
                raise self.yaml.fault((key, place), "every name once", f"{word!r} again")
        return tuple(written)

    def _check_known(self, place: Place, word: str, known: Collection[str], hint: str) -> None:
        if word not in known:
            raise self.yaml.fault(place, f"one of {one_of(known)}", f"{word!r}{nearest(word, known)}{hint}")

    def _languages(self, cultures: Iterable[str]) -> tuple[str, ...]:
        """As asked for. Every culture must be named in each by the survey, and there must be a prompt in it."""
        survey = self.survey
        asked = self._each_of("language", self.written.language, (NATIVE, *survey.languages))
        for code in cultures:
            for used in languages_of(survey, code, asked):
                if used not in prompt_languages():
                    expected = f"a language with a prompt ({one_of(prompt_languages())})"
                elif used not in survey.languages or used not in survey.culture(code).name:
                    expected = f"a language in which survey {survey.id} names culture {code}"
                else:
                    continue
                got = repr(used) if used in asked else f"{used!r}, the native one of {code}"
                raise self.yaml.fault(("language",), expected, got)
        return asked

    def _questions(self, cultures: Sequence[str], languages: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Ids of the questions asked, in survey order, and of those left out: without a reference in every culture."""
        survey, written, fault = self.survey, self.written.questions, self.yaml.fault
        meant = [question.id for question in survey.questions]
        key: Place = ("questions",)
        places: dict[str, Place] = {}
        if isinstance(written, tuple):
            places = {name: (*key, place) for place, name in enumerate(written)}
            for name in written:
                if name in survey.excluded:
                    got = f"{name!r}, excluded because: {survey.excluded[name]}"
                    raise fault(places[name], "a question that is not excluded", got)
            named = self._each_of("questions", written, meant)
            meant = [name for name in meant if name in named]
        elif written == "core":
            meant = [question.id for question in survey.questions if question.core]
            if not meant:
                raise fault(key, f"core questions in survey {survey.id}", "none; ask for all")
        asked = meant
        for culture in cultures:
            known = {name for name in meant if survey.reference(name, culture) is not None}
            if not known:
                expected = f"questions with reference distributions for culture {culture}"
                raise fault(key, expected, f"none among the {len(meant)} chosen")
            for name in places:
                if name not in known:
                    raise fault(places[name], f"a question with a reference distribution for culture {culture}")
            asked = [name for name in asked if name in known]
        if not asked:
            raise fault(key, f"questions with a reference distribution for each of {one_of(cultures)}", "none")
        for name in asked:
            self._check_wording(places.get(name, key), survey.question(name), languages)
        left_out = tuple(name for name in meant if name not in asked)
        if isinstance(written, Sample):
            if written.sample > len(asked):
                raise fault(key, f"a sample of at most {len(asked)}, as many as can be asked", str(written.sample))
            generator = substream(self.written.seed, "question sample")
            drawn = generator.choice(len(asked), size=written.sample, replace=False)
            asked = [asked[place] for place in sorted(drawn)]
        return tuple(asked), left_out

    def _check_wording(self, place: Place, question: Question, languages: Iterable[str]) -> None:
        for language in languages:
            if not question.text.get(language):
                raise self.yaml.fault(place, f"questions with a wording in {language}", f"none of {question.id}")
            for option in question.options:
                if not option.label.get(language):
                    got = f"none of option {option.code} of {question.id}"
                    raise self.yaml.fault(place, f"options with a label in {language}", got)

    def _conditions(self) -> tuple[Condition, ...]:
        written = self.written.conditions
        if isinstance(written, tuple):
            names = self._each_of("conditions", written, BUILT_IN_CONDITIONS)
            return tuple(BUILT_IN_CONDITIONS[name] for name in names)
        if not written:
            raise self.yaml.fault(("conditions",), "at least one condition", "an empty mapping")
        return tuple(self._condition(name, axes) for name, axes in written.items())

    def _condition(self, name: str, axes: Axes | None) -> Condition:
        place, built_in = ("conditions", name), BUILT_IN_CONDITIONS.get(name)
        if built_in is not None:
            if axes is not None:
                raise self.yaml.fault(place, "nothing behind a built-in condition, or a name of your own")
            return built_in
        if not NAME.fullmatch(name):
            raise self.yaml.fault(place, NAME_RULE, repr(name))
        if axes is None:
            named = f"condition {name!r}{nearest(name, BUILT_IN_CONDITIONS)}"
            raise self.yaml.fault(place, f"the axes of {named} that are on or off ({one_of(Axes.model_fields)})")
        return Condition(name=name, **axes.model_dump())

    def _check_paraphrases(
        self, conditions: Iterable[Condition], questions: Collection[str], languages: Iterable[str]
    ) -> None:
        """Where a condition draws paraphrases there must be some, of the questions asked, in each language."""
        there = {one.language for one in self.survey.paraphrases if one.question in questions}
        for condition, language in product(conditions, languages):
            if condition.paraphrase and language not in there:
                expected = f"a survey with paraphrases in {language} for condition {condition.name}"
                got = f"none of the questions asked in survey {self.survey.id}"
                raise self.yaml.fault(("conditions",), f"{expected} (defsurvey survey rephrase)", got)

    def _judge(self) -> Judge | None:
        if (judge := self.written.judge) is None:
            return None
        if self.written.reply is run.Reply.CHOICE:
            raise self.yaml.fault(("judge",), "no judge beside reply: choice, where no reply has a word to judge")
        place = ("judge", "model")
        self._check_known(place, judge.model, self.cards, where_to_add(self.cards))
        if not self.cards[judge.model].capabilities.reads_prompts:
            raise self.yaml.fault(place, "a model that reads prompts", f"{judge.model!r}, a scripted respondent")
        return Judge(**dict(judge))
