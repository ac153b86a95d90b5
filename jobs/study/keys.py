"""What each key of a study file may say.

One function for each key: from what is written to a value, or one error that names the place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from defsurvey.jobs.study.file import StudyError, number_above_zero, whole_number
from defsurvey.jobs.study.requirements import unpriced_of
from defsurvey.storage.runs.judgement import Judge, Rubric
from defsurvey.storage.runs.run import MOST_PARTICIPANTS, NAME, NAME_RULE, Condition, Method, Protocol
from defsurvey.storage.surveys.catalogue import find_survey
from defsurvey.storage.surveys.problem import Fault, nearest, one_of
from defsurvey.storage.surveys.survey import Survey, SurveyError
from defsurvey.storage.surveys.yaml_text import Entry
from defsurvey.workers.models import ModelCard, where_to_add
from defsurvey.workers.simulation.participant import PRESETS
from defsurvey.workers.simulation.prompts import languages as prompt_languages

REQUIRED_KEYS = ("name", "survey", "questions", "cultures", "models", "conditions")
OPTIONAL_KEYS = (
    "language", "participants", "preset", "seed", "draws", "question_order", "memory_order", "decoding", "reply",
    "judge", "budget",
)  # fmt: skip

#: The language of each culture's own people, as a study file asks for it.
NATIVE = "native"

#: What is used where a study file does not say; a fixed seed, so that such a study too can be repeated.
DEFAULT_SEED = 0
DEFAULT_PARTICIPANTS = 20

#: Share of the answers that a judge sees.
DEFAULT_SAMPLE = 0.01

DECODING = ("temperature", "top_p", "top_k", "do_sample", "max_new_tokens")
TOGGLES = ("prompt", "config", "memory", "option_order")
#: All that a condition of one's own can say; fingerprints hold ``paraphrase`` only where it is on.
AXES = (*TOGGLES, "paraphrase")

#: Conditions that a study file names without describing them.
BUILT_IN_CONDITIONS: Mapping[str, Condition] = {
    condition.name: condition
    for condition in (
        Condition(name="def"),
        Condition(name="none", prompt=False, config=False, memory=False, option_order=False),
        Condition(name="def-without-prompt", prompt=False),
        Condition(name="def-without-config", config=False),
        Condition(name="def-without-memory", memory=False),
        *(
            Condition(name=method.value, method=method, prompt=False, config=False, memory=False, option_order=False)
            for method in (Method.CAO2023, Method.CCSV_SINGLE, Method.CCSV_LIST, Method.FIRST_TOKEN)
        ),
    )
}


_Choice = TypeVar("_Choice", bound=StrEnum)


def each(written: Entry, known: Iterable[str]) -> dict[str, Entry]:
    """The known names of a list, in its order, and where each is written.

    Raises:
        Fault: it is no list, it is empty, a name is not known, or one is listed twice.
    """
    names = list(known)
    items = written.items() if written.is_list else []
    if not items:
        got = "an empty list" if written.is_list else None
        raise written.fault(f"a list with at least one of {one_of(names)}", got)
    found: dict[str, Entry] = {}
    for item in items:
        word = item.choice(names)
        if word in found:
            raise item.fault("every name once", f"{word!r} again, first on line {found[word].line}")
        found[word] = item
    return found


def check_name(name: str) -> str:
    """The name of a run, given back where it can be one; raises StudyError."""
    if not NAME.fullmatch(name):
        raise StudyError(f"name: expected {NAME_RULE}, got {name!r}")
    return name


def check_participants(number: int) -> int:
    """A number of participants per cell, given back where it can be one; raises StudyError."""
    if isinstance(number, bool) or number < 1:
        raise StudyError(f"participants: expected a whole number of at least 1, got {number}")
    if number > MOST_PARTICIPANTS:
        raise StudyError(f"participants: expected a whole number of at most {MOST_PARTICIPANTS}, got {number}")
    return number


def name(written: Entry) -> str:
    """``name``: what the run is called, in commands and paths."""
    if not written.is_text or not NAME.fullmatch(written.text()):
        raise written.fault(NAME_RULE)
    return written.text()


def survey(written: Entry, *, beside: Path) -> Survey:
    """``survey``: a bundled survey, or a folder relative to ``beside``."""
    called = written.text()
    try:
        return find_survey(called, beside=beside)
    except SurveyError as problem:
        raise StudyError(f"{written.file}, line {written.line}, {written.field}: {problem}") from problem


def cultures(written: Entry, survey: Survey) -> tuple[str, ...]:
    """``cultures``: codes of the survey's cultures."""
    return tuple(each(written, [culture.code for culture in survey.cultures]))


def models(written: Entry, cards: Mapping[str, ModelCard]) -> tuple[str, ...]:
    """``models``: names of model cards."""
    with _saying_where_cards_are(cards):
        return tuple(each(written, cards))


@contextmanager
def _saying_where_cards_are(cards: Mapping[str, ModelCard]) -> Iterator[None]:
    try:
        yield
    except Fault as unknown:
        raise StudyError(f"{unknown}{where_to_add(cards)}") from None


def languages(written: Entry | None, survey: Survey, cultures: Iterable[str]) -> tuple[str, ...]:
    """``language``: native or a code, or a list of these.

    Every culture must be named in each by the survey, and there must be a prompt in it.
    """
    known = (NATIVE, *survey.languages)
    asked = [NATIVE]
    if written is not None:
        asked = list(each(written, known)) if written.is_list else [written.choice(known)]
    for code in cultures:
        for used in languages_of(survey, code, asked):
            expected = f"a language with a prompt ({one_of(prompt_languages())})"
            if used in prompt_languages():
                if used in survey.languages and used in survey.culture(code).name:
                    continue
                expected = f"a language in which survey {survey.id} names culture {code}"
            if written is None:
                raise StudyError(f"language: expected {expected}, got {used!r}, the native one of {code}")
            raise written.fault(expected, repr(used))
    return tuple(asked)


def languages_of(survey: Survey, culture: str, asked: Iterable[str]) -> tuple[str, ...]:
    """The language codes that ``asked`` (native or codes) comes to in a culture, each once."""
    native = survey.culture(culture).language
    return tuple(dict.fromkeys(native if language == NATIVE else language for language in asked))


def participants(written: Entry | None) -> int:
    """``participants``: how many simulated citizens each cell has."""
    return DEFAULT_PARTICIPANTS if written is None else whole_number(written, 1, MOST_PARTICIPANTS)


def conditions(written: Entry) -> tuple[Condition, ...]:
    """``conditions``: built-in names, or a mapping of names of the user's own to the axes that are on."""
    if written.is_list or written.is_text:
        return tuple(BUILT_IN_CONDITIONS[one] for one in each(written, BUILT_IN_CONDITIONS))
    described = written.entries()
    if not described:
        raise written.fault("at least one condition", "an empty mapping")
    return tuple(_condition(one, toggles) for one, toggles in described.items())


def _condition(name: str, written: Entry) -> Condition:
    if name in BUILT_IN_CONDITIONS:
        if written.node.value != "":
            raise written.fault("nothing behind a built-in condition, or a name of your own")
        return BUILT_IN_CONDITIONS[name]
    if not NAME.fullmatch(name):
        raise written.fault(NAME_RULE, repr(name))
    if written.is_text or written.is_list:
        near = nearest(name, BUILT_IN_CONDITIONS)
        raise written.fault(f"the axes of condition {name!r}{near} that are on or off ({one_of(AXES)})")
    on = {toggle: value.flag() for toggle, value in written.fields((), AXES).items()}
    return Condition(
        name=name,
        prompt=on.get("prompt", True),
        config=on.get("config", True),
        memory=on.get("memory", True),
        option_order=on.get("option_order"),
        paraphrase=on.get("paraphrase", False),
    )


def check_paraphrases(
    written: Entry, conditions: Iterable[Condition], survey: Survey, questions: Iterable[str], used: Iterable[str]
) -> None:
    """Where a condition draws paraphrases there must be some, of the questions asked, in each language used."""
    drawing = [condition.name for condition in conditions if condition.paraphrase]
    asked = set(questions)
    for language in dict.fromkeys(used) if drawing else ():
        if not any(p.language == language and p.question in asked for p in survey.paraphrases):
            expected = f"a survey with paraphrases in {language} for condition {drawing[0]} (defsurvey survey rephrase)"
            raise written.fault(expected, f"none of the questions asked in survey {survey.id}")


def protocol(entries: Mapping[str, Entry]) -> Protocol:
    """``preset``, ``seed``, ``draws``, the two orders and ``decoding``, each with its default."""
    seed = entries.get("seed")
    default = Protocol(seed=DEFAULT_SEED)
    decoding = entries["decoding"].fields((), DECODING) if "decoding" in entries else {}
    temperature, top_p, top_k, do_sample, length = (decoding.get(key) for key in DECODING)
    preset = _choice(entries.get("preset"), default.preset)
    return Protocol(
        seed=DEFAULT_SEED if seed is None else whole_number(seed, 0),
        preset=preset,
        draws=_choice(entries.get("draws"), default.draws),
        question_order=_choice(entries.get("question_order"), default.question_order),
        memory_order=_choice(entries.get("memory_order"), default.memory_order),
        temperature=default.temperature if temperature is None else number_above_zero(temperature),
        top_p=default.top_p if top_p is None else number_above_zero(top_p, 1),
        top_k=PRESETS[preset].top_k if top_k is None else whole_number(top_k, 0),
        do_sample=None if do_sample is None else do_sample.flag(),
        max_new_tokens=default.max_new_tokens if length is None else whole_number(length, 1),
        reply=_choice(entries.get("reply"), default.reply),
    )


def _choice(written: Entry | None, default: _Choice) -> _Choice:
    return default if written is None else type(default)(written.choice([member.value for member in type(default)]))


def judge(written: Entry | None, cards: Mapping[str, ModelCard]) -> Judge | None:
    """``judge``: which model judges the answers, which share of them (``all`` is all of them), and by which rubric."""
    if written is None:
        return None
    said = written.fields(("model",), ("sample", "rubric"))
    with _saying_where_cards_are(cards):
        model = said["model"].choice(cards)
    if cards[model].engine == "scripted":
        raise said["model"].fault("a model that reads prompts", f"{model!r}, a scripted respondent")
    share, rubric = said.get("sample"), _choice(said.get("rubric"), Rubric.OWN)
    if share is None:
        return Judge(model=model, sample=DEFAULT_SAMPLE, rubric=rubric)
    sample = 1.0 if share.is_text and share.text() == "all" else number_above_zero(share, 1)
    return Judge(model=model, sample=sample, rubric=rubric)


def budget(written: Entry | None, models: Iterable[str], cards: Mapping[str, ModelCard]) -> float | None:
    """``budget``: US dollars; every model that a provider bills must have prices on its card."""
    if written is None:
        return None
    amount = number_above_zero(written)
    if unpriced := unpriced_of(models, cards):
        raise written.fault(f"models with prices on their cards: {unpriced} has none", str(amount))
    return amount
